"""Brings together what a run needs beside the repository, small enough to travel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import load_dataset

#: Measured by `volumes`, so it must be there.
_NEEDED: Mapping[str, Sequence[str]] = {"headneck_ct/dataset7.json": ["pt_1"], "hippocampus_mr": []}
#: The official code that the benchmarks import.
_CODE = Path("nnformer") / "network_architecture"


def pack(data: Path, clone: Path | None, files: Path, mib: float, needed: Mapping[str, Sequence[str]] = _NEEDED) -> str:
    """Copy labelled cases of the pool, as many of each data set as half of `mib` allows, and the official networks.

    Returns what was copied, in a sentence. No case of `validation` travels.
    """
    told = []
    for source, first in needed.items():
        dataset = load_dataset(data / source)
        name = Path(source).parts[0]
        target = files / "data" / name
        shutil.rmtree(target, ignore_errors=True)
        size, kept = 0.0, {}
        own = dataset.select(",".join([*first, "pool"]))
        for case in own:
            size += sum(path.stat().st_size for path in case.files) / 2**20
            if size > mib / 2:
                break
            kept[case.id] = _copied(case, data / name, target)
        order = [case.id for case in dataset.select("pool") if case.id in kept]  # few-label subsets are its prefixes
        values = dict(dataset.labels)
        content = {"labels": values, "cases": list(kept.values()), "splits": {"pool": order}}
        (target / "dataset.json").write_text(json.dumps(content))
        told.append(f"{len(kept)} of {len(own)} cases of {name}")
    if clone is not None:
        shutil.rmtree(files / "nnFormer", ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(clone / _CODE, files / "nnFormer" / _CODE, ignore=ignored)
        (files / "nnFormer" / "nnformer" / "__init__.py").touch()
        told.append("the official networks")
    size = sum(path.stat().st_size for path in files.rglob("*") if path.is_file()) / 2**20
    return f"{', '.join(told)}: {size:.1f} MiB in {files}, wheels included."


def _copied(case: Case, source: Path, target: Path) -> dict[str, Any]:
    """The case as a `dataset.json` in `target` names it."""
    for path in case.files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    places = {path: path.relative_to(source).as_posix() for path in case.files}
    entry = {"id": case.id, "images": [places[path] for path in case.image], "unknown": list(case.unknown)}
    return entry if case.label is None else {**entry, "label": places[case.label]}
