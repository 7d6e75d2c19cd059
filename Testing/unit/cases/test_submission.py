"""What is found before a case is stored, and that it says what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.cases.submission import CaseIssue, CaseSubmission, check_submission
from MAESegmentLib.errors import ConfigurationError, DatasetError, GeometryError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from Testing.phantoms import LABELS, Phantom, PhantomFactory

RECORD = CaseRecord(
    id="case-0001",
    role="train",
    group="patient-7",
    labels=("front", "back"),
    unknown=("middle",),
    partial=False,
    volumes_ml={"front": 0.15, "back": 0.18},
    channels=1,
    shape=(24, 24, 20),
    spacing=(1.0, 1.0, 1.0),
    image_hash="a",
    label_hash="b",
    model={"name": "tiny", "version": "1.0.0", "hash": "c"},
    added="2025-01-31",
    revision=2,
    region=(-1.0, 1.0, -1.0, 1.0, -1.0, 1.0),
)
SUBMISSION = CaseSubmission(LABELS)


@pytest.fixture(scope="module")
def scan() -> Phantom:
    return PhantomFactory()()


def found(
    scan: Phantom, submission: CaseSubmission = SUBMISSION, array: np.ndarray | None = None, stored=()
) -> dict[str, CaseIssue]:
    """Findings by kind; each must say what to do."""
    label_map = scan.label_map if array is None else LabelMap(array, scan.volume.ijk_to_ras)
    findings = check_submission(submission, scan.volume, label_map, stored)
    assert all(finding.message and finding.hint and finding.severity in ("error", "warning") for finding in findings)
    return {finding.kind: finding for finding in findings}


def severities(findings: dict[str, CaseIssue]) -> dict[str, str]:
    return {kind: finding.severity for kind, finding in findings.items()}


def test_nothing_is_found_in_a_good_case(scan: Phantom) -> None:
    assert found(scan, stored=[RECORD, replace(RECORD, id="case-0002", labels=("front", "BACK"))]) == {}


def test_label_map_on_another_grid_and_sheared_scan() -> None:
    scan = PhantomFactory()()
    shifted = LabelMap(scan.label_map.array, scan.label_map.ijk_to_ras + np.eye(4)[3] * 2)
    for label_map in (shifted, LabelMap(scan.label_map.array[:-1], scan.volume.ijk_to_ras)):
        with pytest.raises(GeometryError, match="grid"):
            check_submission(SUBMISSION, scan.volume, label_map)
    scan.volume.ijk_to_ras[0, 1] = 0.3
    with pytest.raises(GeometryError, match="sheared"):
        check_submission(SUBMISSION, scan.volume, scan.label_map)


@pytest.mark.parametrize(
    ("submission", "keep", "stored", "kinds"),
    [
        (SUBMISSION, 3, [replace(RECORD, channels=2)], {"channels": "error"}),
        (SUBMISSION, 1, [], {"empty": "warning"}),
        (replace(SUBMISSION, absent=("Back",)), 1, [], {}),
        (CaseSubmission(LABELS[:1]), 3, [], {"values": "error"}),
        (CaseSubmission((LABELS[0], Label(2, "Ignore"))), 3, [], {"name": "error"}),
        *(
            (CaseSubmission((LABELS[0], Label(2, name))), 3, [], {"name": "error"})  # no model can have it
            for name in ("\x1b[31mred", "x" * 300, "$import os")
        ),
        (CaseSubmission((Label(1, "left  lung"), Label(2, "Left lung"))), 3, [], {"name": "error"}),
        (CaseSubmission((Label(1, "lung"), Label(2, "lung"))), 3, [], {"merged": "warning"}),
        (replace(SUBMISSION, group="patient-7", role="check"), 3, [RECORD], {"group": "warning"}),
        (replace(SUBMISSION, group="patient-7", role="train"), 3, [RECORD], {}),
    ],
)
def test_what_is_found(scan: Phantom, submission: CaseSubmission, keep: int, stored, kinds: dict[str, str]) -> None:
    """`keep`: the highest label value that is drawn."""
    array = np.where(scan.label_map.array <= keep, scan.label_map.array, 0)
    assert severities(found(scan, submission, array, stored)) == kinds


def test_nothing_annotated_at_all(scan: Phantom) -> None:
    assert severities(found(scan, array=scan.label_map.array * 0))["nothing"] == "error"
    assert severities(found(scan, replace(SUBMISSION, region=(9.0, 11.0, 9.0, 11.0, 7.0, 9.0))))["nothing"] == "error"


def test_labels_of_the_model_without_a_segment_are_named(scan: Phantom) -> None:
    submission = replace(SUBMISSION, unknown=("lost",))
    findings = found(scan, submission, stored=[replace(RECORD, labels=("front", "top"))])
    assert severities(findings) == {"unknown": "warning"}
    assert findings["unknown"].details == {"labels": ["top", "lost"]}


def test_structure_that_goes_beyond_the_region(scan: Phantom) -> None:
    # The front is around (2, 4, 1), from A 1 to A 7 mm.
    findings = found(scan, replace(SUBMISSION, region=(-11.0, 11.0, -11.0, 4.0, -9.0, 9.0)))
    assert severities(findings) == {"border": "warning"}
    assert findings["border"].details == {"label": "front"}
    assert "outside" in findings["border"].message


def test_structure_that_ends_at_the_border_of_the_region(scan: Phantom) -> None:
    array = np.zeros_like(scan.label_map.array)
    array[10:14, 10:14, 8:12] = 1
    first, last = ((scan.volume.ijk_to_ras @ [*corner, 1])[:3] for corner in ((6, 6, 4), (13, 18, 16)))
    region = tuple(float(bound) for pair in zip(first, last, strict=True) for bound in pair)
    findings = found(scan, CaseSubmission(LABELS[:1], region=region), array)
    assert severities(findings) == {"border": "warning"}
    assert "touches" in findings["border"].message
    wider = (*region[:1], region[1] + 1.0, *region[2:])
    assert found(scan, CaseSubmission(LABELS[:1], region=wider), array) == {}


def test_region_that_is_none(scan: Phantom) -> None:
    with pytest.raises(ConfigurationError):
        found(scan, replace(SUBMISSION, region=(1.0, 1.0, 0.0, 2.0, 0.0, 2.0)))


@pytest.mark.parametrize("usual", [0.001, 3.0])
def test_structure_of_another_size_than_in_the_other_cases(scan: Phantom, usual: float) -> None:
    stored = [replace(RECORD, volumes_ml={"front": usual, "back": 0.18})]
    findings = found(scan, stored=stored)
    assert severities(findings) == {"volume": "warning"}
    assert findings["volume"].details == {"label": "front"}
    assert found(scan, replace(SUBMISSION, replace="case-0001"), stored=stored) == {}
    assert found(scan, stored=[replace(stored[0], partial=True)]) == {}


def test_entry_and_record_survive_the_wire() -> None:
    submission = CaseSubmission(
        LABELS,
        ("middle",),
        "check",
        "p1",
        {"name": "n", "version": "1.0.0", "hash": "h"},
        (0, 1, 2, 3, 4, 5),
        "x",
        ("a",),
    )
    assert CaseSubmission.from_dict(json.loads(json.dumps(submission.to_dict()))) == submission
    assert CaseSubmission.from_dict(json.loads(json.dumps(SUBMISSION.to_dict()))) == SUBMISSION
    assert CaseRecord.from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD


@pytest.mark.parametrize("change", [{"role": "test"}, {"labels": 3}, {"region": [1, 2]}, {"labels": [{"name": "a"}]}])
def test_entry_that_cannot_be_is_refused(change: dict) -> None:
    with pytest.raises(ConfigurationError):
        CaseSubmission.from_dict({**SUBMISSION.to_dict(), **change})


@pytest.mark.parametrize(
    "change", [{"role": "test"}, {"shape": [1, 2]}, {"volumes_ml": []}, {"id": None, "spacing": "?"}]
)
def test_record_that_is_damaged_is_refused(change: dict) -> None:
    with pytest.raises(DatasetError, match="damaged"):
        CaseRecord.from_dict({**RECORD.to_dict(), **change})
