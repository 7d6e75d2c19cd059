"""What a run's process writes for those who poll it: its status and its result."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from ..bundle import Bundle
from ..errors import MAESegmentError
from ..training.run_context import Progress
from .records import CaseChange, RunResult
from .run_folder import STATUS, FineTuneRun, write_json

#: A panel shows no more.
_EVERY_S = 1.0
_STAGES = {
    "prepare": "Preparing the cases",
    "before": "Measuring the base model",
    "train": "Training",
    "validate": "Checking",
    "save": "Saving",
}


class StatusWriter:
    """A `Report` of training that ends in `status.json`, at most once a second, and in the log."""

    def __init__(self, run: FineTuneRun, steps: int = 0) -> None:
        self._run = run
        self._begun = time.monotonic()
        self._written = -math.inf
        self._content: dict[str, Any] = {"stage": "prepare", "fraction": 0.0, "text": "Starting ..."}
        self.steps = steps
        self.device = ("", "")
        self.notes: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            print(progress.message, file=sys.stderr, flush=True)
            return
        stage = self._stage(progress)
        is_new = stage != self._content["stage"]
        # Of the whole; preparing, which counts its cases, is little of it.
        share = 0.0 if progress.stage == "prepare" else progress.fraction
        self._content = {
            "stage": stage,
            "text": self._text(progress),
            "fraction": round(min(max(share, 0.0), 1.0), 4),
            "eta_s": None if progress.eta_s is None else round(progress.eta_s, 1),
            "step": progress.step,
            "fold": list(progress.fold) if progress.fold else None,
        }
        if is_new or time.monotonic() - self._written >= _EVERY_S:
            self.write()

    def write(self, error: MAESegmentError | None = None) -> None:
        """`OutputError` if the disk is full."""
        self._written = time.monotonic()
        content = {
            **self._content,
            "steps": self.steps,
            "device": self.device[0],
            "device_title": self.device[1],
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        if error is not None:
            content["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
        write_json(self._run.path / STATUS, content)

    def _stage(self, progress: Progress) -> str:
        if progress.fold and progress.stage in ("train", "validate", "before"):
            return "fold"
        return "check" if progress.stage == "validate" else progress.stage

    def _text(self, progress: Progress) -> str:
        text = _STAGES.get(progress.stage, progress.stage)
        if progress.stage in ("train", "validate") and self.steps:
            text += f", step {progress.step} of {self.steps}"
        if progress.fold:
            which, count = progress.fold
            text = f"Leave-one-out {which} of {count}: {text[0].lower()}{text[1:]}"
        return text


def result_of(run: FineTuneRun, bundle: Bundle, notes: tuple[str, ...], seconds: float) -> RunResult:
    """What the user sees, from the model's own record and the run's report."""
    own = bundle.metadata["maesegment"]
    measured = own["metrics"].get("validation")
    training = own["training"]
    report = json.loads((run.work / "report.json").read_text(encoding="utf-8"))
    common: dict[str, Any] = {
        "model": bundle.reference,
        "path": str(bundle.path),
        "parent": dict(bundle.parent or {}),
        "cases": len(training["cases"]),
        "seconds": round(seconds, 1),
        "notes": (*report.get("label_notes", ()), *notes),
    }
    if not measured:
        return RunResult(how="nothing was held out", indicative_only=True, **common)
    return RunResult(
        how=_how(measured),
        indicative_only=bool(measured["indicative_only"]),
        before=_known(measured["dice_before"]),
        after=_known(measured["dice_after"]),
        mean_before=measured["mean_dice_before"],
        mean_after=measured["mean_dice_after"],
        per_case=_per_case(report),
        **common,
    )


def _how(measured: Mapping[str, Any]) -> str:
    count = int(measured["cases"])
    cases = "1 case" if count == 1 else f"{count} cases"
    if str(measured["held_out"]).startswith("leave-one-out"):
        return f"{cases}, each left out of training in turn"
    return cases.replace("case", "held-out case")


def _per_case(report: Mapping[str, Any]) -> tuple[CaseChange, ...]:
    per_case = report.get("per_case") or {}
    before, after = per_case.get("before") or {}, per_case.get("after") or {}
    return tuple(
        CaseChange(case, _mean(before.get(case)), _mean(row), before.get(case) or {}, row)
        for case, row in sorted(after.items())
    )


def _mean(row: Mapping[str, float | None] | None) -> float | None:
    values = [value for value in (row or {}).values() if value is not None]
    return sum(values) / len(values) if values else None


def _known(row: Mapping[str, float | None] | None) -> dict[str, float] | None:
    return None if row is None else {name: value for name, value in row.items() if value is not None}
