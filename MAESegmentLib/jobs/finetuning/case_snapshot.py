"""The cases of a run as they were when it began, and the dataset that they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...bundle import Bundle
from ...cases.dataset import CaseDataset, load_dataset
from ...cases.store import CaseStore
from ...errors import DatasetError, OutputError
from ...labels import Label

DATASET = "dataset.json"
#: A case that is updated while it is copied is copied again.
_ATTEMPTS = 5


def snapshot(store: CaseStore, training: Sequence[str], check: Sequence[str], target: Path) -> None:
    """Link or copy the cases of these ids to `target`, with a `dataset.json` whose splits are "train" and "check".

    Complete or not at all. `DatasetError` names a case that is not there.
    """
    if target.is_dir():
        return
    hidden = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        for case_id in (*training, *check):
            _take(store.case_path(case_id), hidden / case_id)
        description = store.description()
        wanted = {*training, *check}
        description["cases"] = [case for case in description["cases"] if case["id"] in wanted]
        description["splits"] = {"train": list(training), "check": list(check)}
        (hidden / DATASET).write_text(json.dumps(description), encoding="utf-8")
        hidden.rename(target)
    except OSError as error:
        raise OutputError(
            f"The cases cannot be copied for fine-tuning: {error.strerror or error}.",
            f"Free some space on the disk of {target.parent}, then go on.",
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def training_dataset(folder: Path, labels: Sequence[Label], base: Bundle) -> tuple[CaseDataset, tuple[Label, ...]]:
    """The snapshot's dataset with the labels of `base` added, and the labels that are new to it.

    A label of the base that no case has was not annotated in any: it is kept, and nothing is learnt of it.
    """
    dataset = load_dataset(folder)
    known = {label.name.casefold(): label for label in base.labels}
    own = {name.casefold(): value for name, value in dataset.labels.items()}
    free = iter(sorted(set(range(1, 255)) - set(dataset.labels.values())))
    named = {label.name: own[key] if key in own else next(free) for key, label in known.items()}
    added = {name: value for name, value in dataset.labels.items() if name.casefold() not in known}
    missing = tuple(label.name for key, label in known.items() if key not in own)
    cases = tuple(replace(case, unknown=(*case.unknown, *missing)) for case in dataset.cases)
    taken = {label.value for label in base.labels}
    values = iter(sorted(set(range(1, 255)) - taken))
    by_name = {label.name: label for label in labels}
    new = tuple(replace(by_name.get(name, Label(1, name)), value=next(values)) for name in added)
    return replace(dataset, labels={**named, **added}, cases=cases), new


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
