"""DICOM series made in code: a file per slice, or of several frames, with whatever fault a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from MAESegmentLib.images import LabelMap, Volume, check_label_map_destination, read_volume, write_label_map
from MAESegmentLib.images.labels import Label


@dataclass
class SeriesRecipe:
    """`stored` is (K, J, I) as written; directions are LPS unit vectors; lengths in mm."""

    stored: np.ndarray
    position: tuple[float, float, float] = (-20.0, 30.0, -100.0)
    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    pixel_spacing: tuple[float, float] = (0.8, 0.7)
    slice_step: tuple[float, float, float] = (0.0, 0.0, 2.5)
    slope: float = 1.0
    intercept: float = -1024.0
    description: str = "Head 2.5"
    series_uid: str = field(default_factory=generate_uid)
    study_uid: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        matrix = np.eye(4)
        between_rows, between_columns = self.pixel_spacing
        columns = [
            np.asarray(self.row) * between_columns,
            np.asarray(self.column) * between_rows,
            self.slice_step,
            self.position,
        ]
        matrix[:3] = np.column_stack(columns)
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix

    def write(self, folder: Path, change: Callable[[int, Dataset], bool | None] | None = None) -> Path:
        """Write the slices; `change(k, dataset)` may edit one, and leaves it out by returning False."""
        folder.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(0).permutation(len(self.stored))
        for number, k in enumerate(order):
            dataset = self._slice(int(k))
            if change is None or change(int(k), dataset) is not False:
                dataset.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
        return folder

    def _slice(self, k: int) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = self.series_uid, self.study_uid
        dataset.FrameOfReferenceUID = self.frame_of_reference
        dataset.Modality, dataset.SeriesDescription = "CT", self.description
        dataset.PatientID, dataset.PatientName = "phantom", "Phantom^Head"
        dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = ""
        dataset.StudyID, dataset.StudyDate, dataset.StudyTime = "1", "20200101", "120000"
        dataset.SeriesNumber, dataset.InstanceNumber = 3, k + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient = [float(x) for x in np.add(self.position, np.multiply(self.slice_step, k))]
        dataset.ImageOrientationPatient = [*self.row, *self.column]
        dataset.PixelSpacing, dataset.SliceThickness = list(self.pixel_spacing), 2.5
        dataset.RescaleSlope, dataset.RescaleIntercept = self.slope, self.intercept
        self._put_pixels(dataset, self.stored[k])
        return dataset

    def _put_pixels(self, dataset: Dataset, pixels: np.ndarray) -> None:
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = pixels.astype("<u2").tobytes()


def head(slices: int = 8, **changes: Any) -> SeriesRecipe:
    """A small oblique-free CT whose voxels are all different from their neighbours; `changes` are of the recipe."""
    return SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (slices, 6, 5)), **changes)


def edit(where: Callable[[int], bool] = lambda _k: True, **values: Any) -> Callable[[int, Dataset], None]:
    """For `SeriesRecipe.write`: gives the slices `where` these `values`; None takes the attribute out.

    A function is called with the slice's number; bytes are put in as they are, whatever they may not mean.
    """

    def change(k: int, dataset: Dataset) -> None:
        for name, value in values.items() if where(k) else ():
            put(dataset, name, value(k) if callable(value) else value)

    return change


def put(dataset: Dataset, name: str, value: Any) -> None:
    if name == "TransferSyntaxUID":
        dataset.file_meta.TransferSyntaxUID = value
    elif value is None:
        dataset.pop(name, None)
    elif isinstance(value, bytes) and name != "PixelData":
        tag = pydicom.tag.Tag(name)
        raw = pydicom.dataelem.RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        dataset._dict[tag] = raw
    elif name in dataset:
        dataset[name].value = value
    else:
        setattr(dataset, name, value)


#: Of the functional groups, those that every frame has alike.
SHARED = ("orientation", "measures", "rescale")


def write_enhanced(
    recipe: SeriesRecipe,
    folder: Path,
    *,
    shared: Sequence[str] = SHARED,
    frames_a_file: int = 0,
    change: Callable[[Dataset], None] = lambda _dataset: None,
) -> Path:
    """The recipe's slices, in their order, as enhanced files of `frames_a_file` frames each (0: all in one).

    `shared` groups stand once, the others in each frame; `change(dataset)` may edit each file.
    """
    plain = [pydicom.dcmread(file) for file in recipe.write(folder / ".plain").iterdir()]
    plain.sort(key=lambda image: int(image.InstanceNumber))
    size = frames_a_file or len(plain)
    for start in range(0, len(plain), size):
        dataset = _enhanced(plain[start : start + size], shared)
        change(dataset)
        dataset.save_as(folder / f"frames{start:03d}.dcm", enforce_file_format=True)
    return folder


def _enhanced(images: Sequence[Dataset], shared: Sequence[str]) -> Dataset:
    dataset = Dataset()
    dataset.update(images[0])
    dataset.file_meta = images[0].file_meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "InstanceNumber"):
        del dataset[name]
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(images)
    dataset.PixelData = b"".join(image.PixelData for image in images)
    once = Dataset()
    for name in shared:
        once.update(_group(name, images[0]))
    dataset.SharedFunctionalGroupsSequence = [once]
    frames = []
    for image in images:
        frame = _group("position", image)
        for name in SHARED:
            if name not in shared:
                frame.update(_group(name, image))
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def _group(name: str, image: Dataset) -> Dataset:
    sequence, attributes = {
        "position": ("PlanePositionSequence", ("ImagePositionPatient",)),
        "orientation": ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
        "measures": ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
        "rescale": ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    }[name]
    item = Dataset()
    for attribute in attributes:
        if attribute in image:
            setattr(item, attribute, image[attribute].value)
    group = Dataset()
    setattr(group, sequence, [item])
    return group


# --- what is drawn on them, as a DICOM SEG ----------------------------------------------------------------------------


def labelled(*names: str) -> list[Label]:
    return [Label(value, name) for value, name in enumerate(names, start=1)]


def drawn(volume: Volume) -> LabelMap:
    """A block of the first label."""
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[1:3, 2:5, 2:6] = 1
    return LabelMap(array, volume.ijk_to_ras)


def scan_and_seg(
    folder: Path,
    change: Callable[[int, Dataset], bool | None] | None = None,
    names: tuple[str, ...] = ("a",),
    recipe: SeriesRecipe | None = None,
) -> tuple[Volume, Path]:
    """A series that `change` has edited, and what is drawn on it as a DICOM SEG, tried beforehand."""
    volume = read_volume((recipe or head()).write(folder / "series", change))
    check_label_map_destination(folder / "seg.dcm", source=volume, labels=labelled(*names))
    return volume, write_label_map(folder / "seg.dcm", drawn(volume), labelled(*names), source=volume)


def resaved(seg: Path, change: Callable[[Dataset], object]) -> Path:
    """`seg` as `change` has edited it."""
    dataset = pydicom.dcmread(seg)
    change(dataset)
    dataset.save_as(seg)
    return seg


def structures(volume: Volume) -> LabelMap:
    """On a scan of at least 30 x 30 x 14 voxels: a ball (1), a thin tube (2), a ring (5), islands (6), one of them in
    the ring, and something at the scan's border (7)."""
    array = np.zeros(volume.grid.shape, np.uint8)
    i, j, k = np.indices(array.shape)
    mm = np.stack([i, j, k], axis=-1) * volume.grid.spacing
    array[np.linalg.norm(mm - mm[9, 9, 6], axis=-1) < 5.2] = 1
    array[(abs(i - 3 - k // 2) <= 1) & (abs(j - 22) <= 1)] = 2
    from_middle = np.hypot(i - 24, j - 15)
    array[(from_middle < 8) & (from_middle > 3.5) & (k > 3) & (k < 10)] = 5
    array[(from_middle < 2) & (k > 2) & (k < 8)] = 6
    array[14:17, 26:29, 9:12] = 6
    array[-4:, -5:, -3:] = 7
    return LabelMap(array, volume.ijk_to_ras)
