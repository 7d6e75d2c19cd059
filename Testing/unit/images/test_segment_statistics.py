"""Statistics of structures: against VTK, which Slicer's Segment Statistics uses, and by hand where Slicer has none."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from MAESegmentLib.images.segment_statistics import SegmentStatistics, measure, statistics_csv

GREY = np.random.default_rng(5).normal(40, 30, (9, 8, 7)).astype(np.int16)
OBLIQUE = np.array([[0.0, -1.5, 0.6, 3], [2.0, 0, 0, -7], [0, 0.4, 2.5, 11], [0, 0, 0, 1]])


def labels() -> np.ndarray:
    array = np.zeros(GREY.shape, np.uint8)
    array[2:5, 3:6, 2:4] = 1
    array[6:9, 1, 0] = 2  # from the inside to the last voxel, in the first slice
    array[0, 7, 6] = 4
    return array


def test_grey_values_and_volume_are_those_of_vtk() -> None:
    vtk = pytest.importorskip("vtk")
    from vtk.util.numpy_support import numpy_to_vtk

    found = measure(labels(), [1, 2, 3, 4], [GREY], OBLIQUE)
    for value in (1, 2, 4):
        grey = GREY[labels() == value]
        image = vtk.vtkImageData()
        image.SetDimensions(grey.size, 1, 1)
        image.GetPointData().SetScalars(numpy_to_vtk(grey, deep=1))
        accumulate = vtk.vtkImageAccumulate()
        accumulate.SetInputData(image)
        accumulate.Update()
        assert found[value].voxels == accumulate.GetVoxelCount()
        assert found[value].means == pytest.approx([accumulate.GetMean()[0]])
        assert found[value].deviations == pytest.approx([accumulate.GetStandardDeviation()[0]])
        assert found[value].volume_mm3 == pytest.approx(grey.size * abs(np.linalg.det(OBLIQUE[:3, :3])))
    assert found[3] == SegmentStatistics()


@pytest.mark.parametrize("order", ["C", "F"])
def test_extents_and_border_on_an_oblique_scan(order: str) -> None:
    array = labels().copy(order=order)
    found = measure(array, [1, 2, 4], [GREY, -GREY], OBLIQUE)
    for value, one in found.items():
        corners = np.argwhere(array == value)[:, :, None] + np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(1, 3, 8)
        world = OBLIQUE[:3, :3] @ corners.transpose(1, 0, 2).reshape(3, -1)
        assert one.extent_mm == pytest.approx(np.ptp(world, axis=1))
        assert one.means[0] == pytest.approx(-one.means[1])
    assert [one.border_voxels for one in found.values()] == [0, 3, 1]
    cropped = measure(array[1:, 1:, :4], [1, 2], [GREY, -GREY], OBLIQUE, (1, 1, 0))
    assert cropped == {value: found[value] for value in (1, 2)}  # a part lies where it lies in the scan


def test_table_of_several_channels_and_of_an_empty_structure() -> None:
    found = measure(labels(), [1, 3], [GREY, -GREY], np.diag([0.5, 0.5, 2, 1]))
    text = statistics_csv([("=kidney", found[1]), ("bladder", found[3])], ["T1", "T2"], output="head")
    kidney, bladder = csv.DictReader(io.StringIO(text))
    assert (kidney["Segment"], kidney["output"]) == ("'=kidney", "head")
    assert (kidney["Voxel count"], kidney["Volume mm3"], kidney["Volume cm3"]) == ("18", "9", "0.009")
    assert [kidney[f"Extent {axis} mm"] for axis in "RAS"] == ["1.5", "1.5", "4"]
    assert float(kidney["Mean (T2)"]) == pytest.approx(-float(kidney["Mean (T1)"]))
    assert {name for name, cell in bladder.items() if cell == ""} == {
        *("Mean (T1)", "Standard deviation (T1)", "Mean (T2)", "Standard deviation (T2)"),
        *("Extent R mm", "Extent A mm", "Extent S mm"),
    }
    header = statistics_csv([("a", measure(labels(), [1], [GREY], np.eye(4))[1])]).splitlines()[0]
    assert header.startswith("Segment,Voxel count,Volume mm3,Volume cm3,Mean,Standard deviation,Extent R mm")
