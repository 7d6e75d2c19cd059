"""Each input that a reader of volumes or segmentations once got wrong, by its kind: the right value, or a refusal."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from MAESegmentLib.errors import GeometryError, VolumeReadError
from MAESegmentLib.images import read_segments, read_volume
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing


def test_layers_of_a_segmentation_without_values_are_value_1(shared_cases: Path) -> None:
    label_map, labels = read_segments(shared_cases / "07_segnrrd_layer_without_labelvalue" / "nolv.seg.nrrd")
    sizes = {label.name: int(np.count_nonzero(label_map.array == label.value)) for label in labels}
    assert sizes == {"A": 60, "B": 40, "C": 20}


def test_size_derived_from_a_header_is_bounded_before_memory_is_taken(shared_cases: Path) -> None:
    volume = read_volume(shared_cases / "19_voxel_size_2000_mm" / "metre_but_mm.nii.gz")
    recipe = IntensityRecipe("ct", lower=-1000, upper=1000, mean=0, std=1)
    preprocessing = Preprocessing("RAS", (1, 1, 1), (64, 64, 64), recipe)
    tracemalloc.start()
    try:
        with pytest.raises(GeometryError, match="A voxel of 2000 x 2000 x 3000 mm"):
            preprocessing.prepare(volume)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["21_metaimage_headersize_minus_1/hs.mhd", "29_nrrd_data_file_pattern/pat.nhdr"])
def test_special_values_of_a_header_mean_what_they_mean_to_itk(shared_cases: Path, name: str) -> None:
    volume, image = read_volume(shared_cases / name), sitk.ReadImage(str(shared_cases / name))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    for index in [(0, 0, 0), (11, 9, 7)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.ijk_to_ras @ [*index, 1])[:3], lps * [-1, -1, 1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("badlayer", "the Layer of segment 'B' is '5'; 0 to 1 is possible"),
        ("lvx", "the LabelValue of segment 'A' is 'one'"),
    ],
)
def test_malformed_field_of_a_segment_is_refused_by_name(shared_cases: Path, name: str, said: str) -> None:
    with pytest.raises(VolumeReadError, match=re.escape(said)):
        read_segments(shared_cases / "31_segnrrd_malformed_fields" / f"{name}.seg.nrrd")


@pytest.mark.parametrize("name", ["col", "col2"])
def test_malformed_colour_of_a_segment_decides_nothing(shared_cases: Path, name: str) -> None:
    label_map, labels = read_segments(shared_cases / "31_segnrrd_malformed_fields" / f"{name}.seg.nrrd")
    assert [(label.name, label.value) for label in labels] == [("A", 1)]
    assert np.count_nonzero(label_map.array) == 60
