"""What the field's own readers make of a subject: SimpleITK (GDCM), nibabel, 3D Slicer, highdicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MAESegmentLib.images.formats.decoding import LPS_TO_RAS

from .subjects import DICOM_SEG, META, MGH, NIFTI, NRRD, Subject


@dataclass(frozen=True, eq=False)
class Image:
    """`array` is (I, J, K); `reader` made it."""

    reader: str
    array: np.ndarray
    ijk_to_ras: np.ndarray


class CannotRead(Exception):
    """No reference reads this subject."""


def reference_image(subject: Subject) -> Image:
    """By the first reader that can."""
    failures = []
    for reader, read in _READERS[subject.kind].items():
        try:
            array, ijk_to_ras = read(subject.path)
        except Exception as error:  # of any reader's own kind
            failures.append(f"{reader}: {str(error).strip().splitlines()[-1] if str(error).strip() else error!r}")
            continue
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        return Image(reader, array, ijk_to_ras)
    raise CannotRead("; ".join(failures))


def simple_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As 3D Slicer reads everything but segmentations."""
    import SimpleITK as sitk  # noqa: N813

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("several values per voxel")
    n = min(image.GetDimension(), 3)
    ijk_to_lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)
    ijk_to_lps[:n, :n] = direction[:n, :n] * np.array(image.GetSpacing())[:n]
    ijk_to_lps[:n, 3] = np.array(image.GetOrigin())[:n]
    return array.T, LPS_TO_RAS @ ijk_to_lps


def _nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=float)


def _bzip2_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nrrd

    array, header = nrrd.read(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(header["space directions"], float).T
    matrix[:3, 3] = header["space origin"]
    return array, LPS_TO_RAS @ matrix


def _highdicom(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import highdicom

    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    kji_to_lps = np.asarray(volume.affine)
    return np.asarray(volume.array).transpose(2, 1, 0), LPS_TO_RAS @ kji_to_lps[:, [2, 1, 0, 3]]


_READERS: Mapping[str, Mapping[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]]] = {
    NIFTI: {"SimpleITK": simple_itk, "nibabel": _nibabel},
    MGH: {"nibabel": _nibabel},
    NRRD: {"SimpleITK": simple_itk, "pynrrd": _bzip2_nrrd},
    META: {"SimpleITK": simple_itk},
    DICOM_SEG: {"highdicom": _highdicom},
}


@dataclass(frozen=True, eq=False)
class Segment:
    """The centres of its voxels in RAS mm, (N, 3), sorted."""

    name: str
    points: np.ndarray


def reference_segments(path: Path) -> list[Segment]:
    """As 3D Slicer's own storage node reads a `.seg.nrrd`."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    from Testing import slicer_core

    slicer_core.start()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "compared")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise CannotRead("3D Slicer does not read it")
    found = []
    segmentation = node.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
        node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(number), image)
        image.GetImageToWorldMatrix(matrix)
        extent = np.array(image.GetExtent()).reshape(3, 2)
        shape = extent[:, 1] - extent[:, 0] + 1
        indices = np.zeros((0, 3))
        if min(shape) > 0:
            mask = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape, order="F") > 0
            indices = np.argwhere(mask) + extent[:, 0]
        ijk_to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
        found.append(Segment(segmentation.GetNthSegment(number).GetName(), centres(indices, ijk_to_ras)))
    return found


def centres(indices: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Of voxels (N, 3), in RAS mm, sorted."""
    points = np.round(indices @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3], 3) + 0.0
    return points[np.lexsort(points.T)]


def reference_slices(folder: Path, used: tuple[Path, ...]) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """GDCM's (I, J, K) and place of every file of the series that the files `used` belong to, one after the other."""
    import pydicom

    keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    wanted = pydicom.dcmread(used[0], specific_tags=list(keys), stop_before_pixels=True, force=True)
    for path in sorted({*folder.rglob("*"), *used}):
        try:
            header = pydicom.dcmread(path, specific_tags=list(keys), stop_before_pixels=True, force=path in used)
        except Exception:  # not DICOM
            continue
        if path in used or all(header.get(key) == wanted.get(key) for key in keys):
            yield path, *simple_itk(path)
