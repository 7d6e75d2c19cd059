"""The work itself: cases in, a version among the models out. Imports torch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

from ..bundle import Bundle, ModelStore, open_bundle
from ..bundle.changing import VersionTaken
from ..cases.dataset import CaseDataset
from ..cases.store import CaseStore
from ..device import device_title, resolve_device
from ..errors import BundleError, ConfigurationError, DeviceMemoryError
from ..images.labels import Label
from ..training.data.labelling import store_dataset
from ..training.defaults import default_settings
from ..training.finetune import MODEL_FOLDER, finetune
from ..training.recipe import Description
from ..training.run_context import Progress, RunContext
from ..training.settings import FineTuneSettings
from .records import RunResult
from .reporting import StatusWriter, result_of
from .run_folder import CASES, FineTuneRun, read_json, write_json
from .snapshot import snapshot

#: Of the first start: a resumed run keeps them, also after an update of MAESegment.
SETTINGS = "settings.json"
_MOST_VERSIONS = 20


class FineTuneWork:
    """One run from its cases to its published version; every part of it may be done already."""

    def __init__(
        self,
        run: FineTuneRun,
        status: StatusWriter,
        *,
        should_cancel: Callable[[], bool],
        should_stop: Callable[[], bool],
    ) -> None:
        self._run, self._status = run, status
        self._context = RunContext(status, should_cancel, should_stop)
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
            self._status.steps, self._status.device = settings.steps, (str(device), device_title(device))
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
                validation="check" if self._request.check else "auto",
                description=Description(name=self._request.name or self._own_name(), labels=new),
                version_of=lambda name, same_labels: models.next_version(name, major=not same_labels),
                context=self._context,
            )
            self._status(Progress("save", 1.0))
            try:
                return models.add(bundle.path)
            except VersionTaken:
                shutil.rmtree(self._run.work / MODEL_FOLDER)
        raise ConfigurationError("No free version number was found.", "Give the new model another name.")

    def _own_name(self) -> str:
        """A model's version, whatever its labels; the first model of a pretrained encoder has the store's name."""
        return self._base.name if self._base.kind == "segmentation" else ""

    def _seconds(self, bundle: Bundle) -> float:
        """Of training, also before an interruption, where that is more than this process has lived."""
        return max(time.monotonic() - self._begun, float(bundle.spec.training.get("seconds", 0.0)))
