"""DICOM series made in code: one file per slice, with whatever fault a test asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


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


def head(slices: int = 8) -> SeriesRecipe:
    """A small oblique-free CT whose voxels are all different from their neighbours."""
    return SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (slices, 6, 5)))
