"""Enhanced (multi-frame) DICOM files made in code from the slices of a `SeriesRecipe`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from Testing.dicom_series import SeriesRecipe

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
