"""From stored cases to the request for a fine-tuning: the same on files, in Slicer and in the browser."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bundle import Bundle, ModelStore
from ..cases.records import CHECK, CaseRecord
from ..cases.store import CaseStore
from ..errors import ConfigurationError, DatasetError, WorkerError
from ..images.scans import check_exist
from ..runs import RunRequest, RunState, list_runs
from ..storage.user_folders import default_runs_folder
from ..training.settings import FineTuneSettings, refuse_time_and_steps
from ..translation import tr as _
from .calls import several


def chosen_cases(store: CaseStore, cases: str | CaseRecord | Iterable[str | CaseRecord] | None) -> list[CaseRecord]:
    """By id or record; None: all of them. `DatasetError` for one that is not there."""
    if cases is None:
        return store.list()
    chosen = several(cases, (str, CaseRecord), _("Give ids or records of stored cases."))
    return [store.get(case if isinstance(case, str) else case.id) for case in chosen]


def training_request(
    base: Bundle,
    store: CaseStore,
    records: Sequence[CaseRecord],
    models: ModelStore,
    *,
    device: str = "auto",
    name: str = "",
    validation: str = "auto",
    settings: Mapping[str, Any],
) -> RunRequest:
    """What the trainer is to do: learn from the cases of the role "train", validate on the others.

    Without others, some are held out, or each of a few in turn; `validation` "none" leaves out any measuring.

    Raises `DatasetError` if there is nothing to learn from, `ConfigurationError` for a setting that does not exist.
    """
    training = tuple(record.id for record in records if record.role != CHECK)
    if not training:
        raise DatasetError(
            _("There is no case to learn from."),
            _("Correct a segmentation and add it as a case; nothing is learnt from validation cases."),
        )
    if validation not in ("auto", "none"):
        raise ConfigurationError(_('validation is {value!r}; it must be "auto" or "none".').format(value=validation))
    return RunRequest(
        base=base.reference,
        base_path=str(base.path),
        store=str(store.folder.absolute()),
        training=training,
        check=tuple(record.id for record in records if record.role == CHECK),
        models=str(models.user_folder.absolute()),
        name=name,
        validation="none" if validation == "none" else "auto",
        settings=checked_settings({**settings, **({} if device == "auto" else {"device": device})}),
    )


def existing_places(places: Any) -> list[Path]:
    """Of a file or folder with scans, or several, from wherever it is read; `VolumeReadError` for what is not there."""
    given = several(places, (str, os.PathLike), _("Give a folder or a file with scans, or several of them."))
    found = [Path(place).expanduser().absolute() for place in given]
    check_exist(found)
    return found


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuses what cannot work before anything is started."""
    unknown = sorted(set(settings) - set(FineTuneSettings.__dataclass_fields__))
    if unknown:
        raise ConfigurationError(_("There is no setting called {names}.").format(names=", ".join(unknown)))
    refuse_time_and_steps(settings)
    FineTuneSettings(**settings)
    return dict(settings)


def refuse_second_run() -> None:
    """`WorkerError` while another fine-tuning runs: both would take twice as long."""
    for run in list_runs(default_runs_folder()):
        status = run.status()
        if status.state in (RunState.WAITING, RunState.RUNNING):
            raise WorkerError(
                _("A fine-tuning is running already: {text}").format(text=status.text),
                _("Wait until it is finished, or cancel it."),
            )
