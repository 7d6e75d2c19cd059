"""The scans of one patient are all trained on, or all held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.training.data.holdout import Holdout, plan_holdout


def dataset(patients: int, scans: int = 2) -> CaseDataset:
    """`scans` of each patient, who come in turn: p0-s0, p1-s0, ... p0-s1, ..."""
    cases = tuple(
        Case(f"p{patient}-s{scan}", (Path(f"i{patient}-{scan}.nii"),), Path(f"l{patient}-{scan}.nii"), f"p{patient}")
        for scan in range(scans)
        for patient in range(patients)
    )
    return CaseDataset({"one": 1}, cases, splits={"some": ("p0-s0", "p3")})


def patients_of(cases: tuple[Case, ...]) -> set[str]:
    return {case.group for case in cases}


def assert_apart(plan: Holdout, patients: int, scans: int = 2) -> None:
    """No patient is on both sides, and of every patient who is held out all scans are kept from training."""
    pairs = [(each.training, each.held_out) for each in plan.folds or (plan,)]
    for training, held_out in pairs:
        assert held_out
        assert not patients_of(training) & patients_of(held_out)
        assert len(training) == scans * len(patients_of(training))
        assert len(patients_of(training)) + len(patients_of(held_out)) == patients


@pytest.mark.parametrize("validation", ["0.2", "0.4", "auto", "loo", "p0-s0", "p1", "some", "p0-s0,p4-s1"])
@pytest.mark.parametrize("seed", range(5))
def test_scans_of_one_patient_are_never_on_both_sides(validation: str, seed: int) -> None:
    assert_apart(plan_holdout(dataset(10), None, validation, seed), 10)


@pytest.mark.parametrize(("validation", "patients"), [("0.2", 2), ("0.4", 4), ("auto", 2)])
def test_a_fraction_counts_patients_and_not_scans(validation: str, patients: int) -> None:
    plan = plan_holdout(dataset(10, scans=3), None, validation, 0)
    assert len(patients_of(plan.held_out)) == patients
    assert len(plan.held_out) == 3 * patients
    assert plan.how == f"{patients} of 10, drawn at random"


def test_one_scan_that_is_named_keeps_the_other_of_its_patient_from_training() -> None:
    plan = plan_holdout(dataset(3), None, "p0-s0", 0)
    assert [case.id for case in plan.held_out] == ["p0-s0"]
    assert patients_of(plan.training) == {"p1", "p2"}


def test_leave_one_out_leaves_out_a_patient() -> None:
    plan = plan_holdout(dataset(3), None, "auto", 0)
    assert plan.how == "leave-one-out"
    assert [patients_of(fold.held_out) for fold in plan.folds] == [{"p0"}, {"p1"}, {"p2"}]
    assert all(len(fold.held_out) == 2 and len(fold.training) == 4 for fold in plan.folds)


def test_two_scans_of_the_only_patient_cannot_check_each_other() -> None:
    plan = plan_holdout(dataset(1), None, "loo", 0)
    assert plan.folds == ()
    assert plan.how.startswith("none")


def test_both_sides_are_chosen_from_the_split_that_is_learnt_from() -> None:
    cases = dataset(6, scans=1)
    cases = replace(cases, splits={"pool": [case.id for case in cases.cases[:5]]})
    for validation in ("0.4", "p1-s0,p3-s0", "pool:2"):
        plan = plan_holdout(cases, "pool", validation, seed=0)
        assert (len(plan.training), len(plan.held_out)) == (3, 2)


def test_holding_out_every_case_is_refused() -> None:
    with pytest.raises(DatasetError, match="none is left"):
        plan_holdout(dataset(2, scans=1), None, "p0-s0,p1-s0", 0)
