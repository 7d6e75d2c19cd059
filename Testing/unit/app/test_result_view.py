"""What is shown of a segmentation that came out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.result import result_view
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.segment_statistics import SegmentStatistics
from MAESegmentLib.inference.islands import Cleaned


def segment(label, *, is_empty=False):
    return SimpleNamespace(
        id=f"Segment_{label.value}",
        name=label.name,
        colour=label.colour,
        is_empty=is_empty,
        terminology=label.terminology,
    )


LABELS = tuple(Label(number, name) for number, name in enumerate(("anterior", "posterior", "cyst"), 1))
SUMMARY = SimpleNamespace(
    model="hippocampus-mr@2.0.0",
    labels=LABELS,
    found=LABELS[:2],
    volumes_ml={1: 3.07, 2: 3.07, 3: 0.0},
    total_ml=6.14,
    seconds=1.83,
    device="cuda",
    device_title="NVIDIA T4",
    warnings=("Unlike the training scans.", "Nothing was found at the edge."),
    cleaned={},
    located_by="",
    statistics={
        1: SegmentStatistics(3070, 3070.0, (41.26,), (12.34,), (14.0, 21.5, 9.0), 12),
        2: SegmentStatistics(3070, 3070.0, (40.0,), (10.0,), (14.0, 21.5, 9.0), 0),
    },
)
SEGMENTS = [segment(LABELS[0]), segment(LABELS[1]), segment(LABELS[2], is_empty=True)]


def test_result_is_one_line_the_volume_of_each_segment_and_a_line_for_each_warning():
    view = result_view("Scan segmentation", "Scan", SUMMARY, SEGMENTS, is_edited=False)
    assert view.line == "Scan \u2013 hippocampus-mr 2.0.0: 2 of 3 segments found, 6.1 ml, 1.8 s on NVIDIA T4"
    assert [(row.name, row.volume, row.volume_with_unit) for row in view.rows] == [
        ("anterior", "\u2265 3.07", "\u2265 3.07 ml"),
        ("posterior", "3.07", "3.07 ml"),
        ("cyst", "not found", "not found"),
    ]
    assert view.rows[0].tip.splitlines() == [
        "Tissue",
        "Grey values 41.26 \u00b1 12.3",
        "14.0 \u00d7 21.5 \u00d7 9.0 mm (right to left, front to back, bottom to top)",
        "12 voxels in the outermost slices of the scan: it may be cut off there.",
    ]
    assert "cut off" not in view.rows[1].tip
    assert view.warnings.splitlines() == [f"\u26a0 {warning}" for warning in SUMMARY.warnings]


def test_what_was_removed_as_stray_stands_in_the_line():
    summary = SimpleNamespace(**{**vars(SUMMARY), "cleaned": {"cyst": Cleaned(islands=3, removed_ml=0.25)}})
    line = result_view("Scan segmentation", "Scan", summary, SEGMENTS, is_edited=False).line
    assert line.endswith("on NVIDIA T4. Cleaned: cyst -0.25 ml in 3 stray pieces")


def test_volumes_of_an_edited_result_are_not_shown():
    view = result_view("Scan segmentation", "Scan", SUMMARY, SEGMENTS, is_edited=True)
    assert [row.volume_with_unit for row in view.rows] == ["edited", "edited", "empty"]
    assert view.line == "Scan \u2013 hippocampus-mr 2.0.0, edited since"


@pytest.mark.parametrize(
    ("name", "scan", "line"),
    [("Drawn", "", "Drawn"), ("Drawn", "Head", "Head \u2013 Drawn"), ("Head drawn", "Head", "Head drawn")],
)
def test_segmentation_that_is_not_a_result_has_its_name_and_its_scans_once(name, scan, line):
    view = result_view(name, scan, None, SEGMENTS, is_edited=False)
    assert (view.line, view.warnings) == (line, "")
    assert [row.volume_with_unit for row in view.rows] == ["\u2013"] * 3
