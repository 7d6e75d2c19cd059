"""Orders of axes, against nibabel's."""

from __future__ import annotations

import itertools

import nibabel.orientations as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.images.orientation import Reordering, axis_codes
from Testing.phantoms import affine

ORIENTATIONS = [
    "".join(letters) for order in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*order)
]
orientations = st.sampled_from(ORIENTATIONS)
matrices = st.builds(
    affine,
    orientation=orientations,
    spacing=st.tuples(*[st.floats(0.2, 8.0)] * 3),
    rotation_degrees=st.tuples(*[st.floats(-180.0, 180.0)] * 3),
    centre=st.tuples(*[st.floats(-100.0, 100.0)] * 3),
)
SHAPE = (2, 3, 4)
ARRAY = np.arange(24).reshape(SHAPE)


@given(matrix=matrices)
def test_nearest_directions_are_nibabels(matrix):
    assert axis_codes(matrix) == "".join(reference.aff2axcodes(matrix))


@given(matrix=matrices, wanted=orientations)
def test_reordering_is_nibabels(matrix, wanted):
    transform = reference.ornt_transform(reference.io_orientation(matrix), reference.axcodes2ornt(wanted))
    reordering = Reordering.to(wanted, matrix)
    np.testing.assert_array_equal(reordering.apply(ARRAY), reference.apply_orientation(ARRAY, transform))
    np.testing.assert_array_equal(reordering.indices(SHAPE), reference.inv_ornt_aff(transform, SHAPE))


@pytest.mark.parametrize("leading", [(), (2,), (2, 5)])
def test_view_of_the_last_three_axes(leading):
    array = np.zeros((*leading, *SHAPE))
    turned = Reordering.to("RAS", affine("SPL")).apply(array)
    assert turned.shape == (*leading, 4, 3, 2)
    turned[...] = 1
    assert array.all()
