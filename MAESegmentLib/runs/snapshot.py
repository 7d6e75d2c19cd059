"""The cases of a run as they were when it began."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..cases.store import CaseStore
from ..errors import DatasetError, OutputError
from ..storage.atomic_folder import publish, writing

DATASET = "dataset.json"
#: A case that is updated while it is copied is copied again.
_ATTEMPTS = 5


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
            (hidden / DATASET).write_text(json.dumps(description), encoding="utf-8")
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
