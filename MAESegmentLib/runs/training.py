"""The work itself: cases in, a version among the models out. Imports torch."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..bundle import Bundle, ModelStore, open_bundle
from ..bundle.changing import VersionTaken
from ..cases.dataset import CaseDataset
from ..cases.store import CaseStore
from ..device import device_title, resolve_device
from ..errors import BundleError, ConfigurationError, DatasetError, DeviceMemoryError, OutputError
from ..images.labels import Label
from ..storage.atomic_folder import publish, writing
from ..training.data.labelling import store_dataset
from ..training.defaults import default_settings
from ..training.finetune import MODEL_FOLDER, finetune
from ..training.recipe import Description
from ..training.run_context import Progress, RunContext, never
from ..training.settings import FineTuneSettings
from .records import CaseChange, RunResult
from .run_folder import CASES, FineTuneRun, StatusWriter, read_json, write_json

#: Of the first start: a resumed run keeps them, also after an update of MAESegment.
SETTINGS = "settings.json"
_MOST_VERSIONS = 20
#: A case that is updated while it is copied is copied again.
_ATTEMPTS = 5


class FineTuneWork:
    """One run from its cases to its published version; every part of it may be done already."""

    def __init__(
        self,
        run: FineTuneRun,
        status: StatusWriter,
        *,
        should_cancel: Callable[[], bool],
        should_stop: Callable[[], bool],
        should_end: Callable[[], bool] = never,
        begun: float | None = None,
    ) -> None:
        """`begun`: when the process began, from where a run by time counts."""
        self._run, self._status = run, status
        self._context = RunContext(status, should_cancel, should_stop, should_end, begun=begun)
        self._request = run.request
        self._notes: list[str] = []
        self._begun = time.monotonic()

    def result(self) -> RunResult:
        """Do what is left to be done."""
        store = CaseStore(self._request.store)
        self._status(Progress("prepare"))
        snapshot(store, self._request.training, self._request.check, self._run.path / CASES)
        dataset, new = store_dataset(self._run.path / CASES, store.labels(), self._base)
        for settings in self._attempts(new):
            device = resolve_device(settings.device)
            self._status.device = (str(device), device_title(device))
            self._status.by_time = settings.minutes is not None
            self._status.steps = 0 if self._status.by_time else settings.steps  # then training says how many
            try:
                bundle = self._published(dataset, new, settings)
            except DeviceMemoryError as error:
                self._notes.append(f"{error.message} It was tried again with less.")
                shutil.rmtree(self._run.work, ignore_errors=True)
                last = error
            else:
                return result_of(self._run, bundle, tuple(self._notes), self._seconds(bundle))
        raise last

    @cached_property
    def _base(self) -> Bundle:
        bundle = open_bundle(self._request.base_path)
        if bundle.content_hash != self._request.base["hash"]:
            raise BundleError(
                f"{self._request.base_path} is not the model this fine-tuning was started from.",
                "Discard it and start again.",
            )
        return bundle

    def _attempts(self, new: tuple[Label, ...]) -> Iterator[FineTuneSettings]:
        """As chosen; then, each time the memory was too small, with half the patches and at last on the processor."""
        file = self._run.path / SETTINGS
        if file.is_file():
            settings = FineTuneSettings.from_dict(read_json(file))
        else:
            settings = default_settings(self._base, new_labels=bool(new), chosen=self._request.settings)
        while True:
            write_json(file, json.loads(json.dumps(settings.to_dict())))
            yield settings
            if settings.batch_size > 1:
                settings = replace(settings, batch_size=settings.batch_size // 2)
            elif resolve_device(settings.device).type != "cpu":
                settings = replace(settings, device="cpu")
            else:
                return

    def _published(self, dataset: CaseDataset, new: tuple[Label, ...], settings: FineTuneSettings) -> Bundle:
        """The new version among the models. Another program may take its number first: then it gets the next."""
        models = ModelStore(self._request.models or None)
        for _attempt in range(_MOST_VERSIONS):
            bundle = finetune(
                dataset,
                self._base,
                self._run.work,
                settings,
                split="train",
                validation=self._validation,
                description=Description(name=self._request.name or self._own_name(), labels=new),
                version_of=lambda name, same_labels: models.next_version(name, major=not same_labels),
                unlabelled=[self._run.path / place for place in self._request.unlabelled],
                context=self._context,
            )
            self._status(Progress("save", 1.0))
            try:
                return models.add(bundle.path)
            except VersionTaken:
                shutil.rmtree(self._run.work / MODEL_FOLDER)
        raise ConfigurationError("No free version number was found.", "Give the new model another name.")

    @property
    def _validation(self) -> str:
        return "check" if self._request.check and self._request.validation == "auto" else self._request.validation

    def _own_name(self) -> str:
        """A model's version, whatever its labels; the first model of a pretrained encoder has the store's name."""
        return self._base.name if self._base.kind == "segmentation" else ""

    def _seconds(self, bundle: Bundle) -> float:
        """Of training, also before an interruption, where that is more than this process has lived."""
        return max(time.monotonic() - self._begun, float(bundle.spec.training.get("seconds", 0.0)))


def snapshot(store: CaseStore, training: Sequence[str], check: Sequence[str], target: Path) -> None:
    """Link or copy the cases of these ids to `target`, with a `dataset.json` whose splits are "train" and "check".

    Complete or not at all. `DatasetError` names a case that is not there.
    """
    if target.is_dir():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left_over in target.parent.glob(f".{target.name}.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        with writing(target) as hidden:
            for case_id in (*training, *check):
                _take(store.case_path(case_id), hidden / case_id)
            description = store.description()
            wanted = {*training, *check}
            description["cases"] = [case for case in description["cases"] if case["id"] in wanted]
            description["splits"] = {"train": list(training), "check": list(check)}
            (hidden / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
            publish(hidden, target)
    except OSError as error:
        raise OutputError(
            f"The cases cannot be copied for fine-tuning: {error.strerror or error}.",
            f"Free some space on the disk of {target.parent}, then resume.",
        ) from error


def _take(source: Path, target: Path) -> None:
    for _attempt in range(_ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        try:
            before = (source / "case.json").read_bytes()
            for file in sorted(source.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    _link(file, target / file.name)
            if (source / "case.json").read_bytes() == before == (target / "case.json").read_bytes():
                return
        except FileNotFoundError:
            continue
    raise DatasetError(f"{source.name} was removed or changed while it was copied.", "Start fine-tuning again.")


def _link(source: Path, target: Path) -> None:
    """A second name for a file that never changes; a copy where that cannot be."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


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
        "notes": (*report.get("label_notes", ()), *run.request.notes, *report.get("unlabelled_notes", ()), *notes),
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
    how, _, shorter = str(measured["held_out"]).partition("; ")
    if how.startswith("leave-one-out"):
        return f"{cases}, each left out of training in turn{f' ({shorter})' if shorter else ''}"
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
