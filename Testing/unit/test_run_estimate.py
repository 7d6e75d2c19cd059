"""How long a fine-tuning is said to take, where steps take what they are said to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.cases.case import Case
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.runs import FineTuneEstimate, RunRequest, estimate
from Testing.finetuning import Clinic, make_clinic

STEP_S, PREPARE_S = 0.01, 0.2


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """Three cases; reading a scan takes longer than all else."""

    def slow(cases: Sequence[Case], *_: Any) -> None:
        time.sleep(PREPARE_S * len(cases))
        if "broken" in cases[0].id:
            raise DatasetError("It is no scan.")

    monkeypatch.setattr(estimate, "prepare_cases", slow)
    monkeypatch.setattr(estimate, "_measure", lambda *_, **__: estimate._Measured(STEP_S, 0.001, 1e6))
    return make_clinic(tmp_path)


def said(request: RunRequest) -> FineTuneEstimate:
    return estimate.estimate_run(request, lambda _: None, lambda: False)


def test_preparing_cases_and_scans_counts(clinic: Clinic, tmp_path: Path) -> None:
    for n in range(9):
        (tmp_path / "more").mkdir(exist_ok=True)
        (tmp_path / "more" / f"scan {n}{' broken' * (n == 0)}.nii.gz").touch()
    request = clinic.request(settings={"steps": 100, "device": "cpu"})
    alone, scene = said(request).seconds, said(replace(request, unlabelled=("Scan of the scene",) * 5)).seconds
    folder = said(replace(request, unlabelled=(str(tmp_path / "more"),))).seconds
    assert alone == pytest.approx(20.0 + 3 * PREPARE_S + 4 * 100 * STEP_S, abs=1.0)
    assert scene - alone == pytest.approx(5 * PREPARE_S, abs=0.5)
    assert folder - alone == pytest.approx(9 * PREPARE_S, abs=0.5)


def test_by_time_preparing_leaves_less_to_training_or_makes_the_run_end_later(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = clinic.request(settings={"minutes": 2.0, "device": "cpu"})
    before = said(short)
    assert (before.seconds, before.warnings) == (120.0, ())
    monkeypatch.setattr(estimate, "_preparing_s", lambda *_: (10.0, 500.0))
    scans = said(short)
    assert scans.seconds == 120.0
    # Leave-one-out takes 40 % of both; of many scans no more are read than a fifth of the time allows.
    assert before.steps - scans.steps == pytest.approx(0.6 * (10.0 + 0.2 * 120.0) / STEP_S, rel=0.05)
    monkeypatch.setattr(estimate, "_preparing_s", lambda *_: (130.0, 0.0))
    late = said(short)
    assert late.seconds == pytest.approx(20.0 + 130.0 + 30.0 + 4.0, abs=1.0)
    assert late.steps == pytest.approx(30.0 / STEP_S, rel=0.01)
    assert "takes 2.5 min of the 2 min" in late.warnings[0]
    assert "ends after 3.1 min" in late.warnings[0]
