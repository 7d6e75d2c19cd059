"""Which scans a shipped model warns of: `python -m model_training.benchmarks.familiarity --data DATA`.

Describes the scans of every group (familiarity_cases.py), none of which the statistics were fitted on, and writes per
group how many are flagged, and the area under the ROC curve against the model's `validation`. `--pool` fits
new statistics on `pool`, takes those instead of the model's own, and fits them on a few scans of `pool` as well, as
fine-tuning does; `--cache` keeps the descriptions.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.training_statistics import FamiliarityStatistics, ScanDescription
from MAESegmentLib.cases.checks import read_image
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.familiarity import fit_familiarity
from MAESegmentLib.preprocessing.grey_values import GreyValues, tolerance_of
from MAESegmentLib.training.saving import WINDOWS_OF_FEW

from ..familiarity import describe_volume, encoder_of
from .familiarity_cases import scans_of
from .report import KNOWN, STRANGE
from .runner import add_data, begin, record

#: Training scans of a fine-tuned model, and how often so many are drawn.
FEW, DRAWS, DRAWN_FROM = (1, 2, 4, 8), 10, 24
DATA = {"headneck-ct": "headneck_ct", "hippocampus-mr": "hippocampus_mr"}
REFERENCE = "validation"


def main() -> None:
    arguments = begin(__doc__, _options)
    torch.set_num_threads(1)
    for model in arguments.model or DATA:
        measure(ModelStore("none").find(model), arguments.data, arguments.cache, fit=arguments.pool)


def measure(bundle: Bundle, data: Path, cache: Path | None, *, fit: bool) -> None:
    """The rows of one model."""
    describe = Describer(bundle, cache)
    if fit:
        pool = load_dataset(data / DATA[bundle.name]).select("pool")
        found = [describe("pool", case.id, lambda case=case: read_image(case)) for case in pool]  # type: ignore[misc]
        statistics = fit_familiarity(found)
    else:
        statistics = FamiliarityStatistics.from_dict(bundle.spec.familiarity or {})
    tried: dict[str, list[ScanDescription]] = {}
    kinds: dict[str, str] = {}
    for scan in scans_of(bundle.name, data):
        kinds[scan.group] = scan.kind
        tried.setdefault(scan.group, []).append(describe(scan.group, scan.name, scan.load))
    excess = {group: [statistics.excesses(scan) for scan in scans] for group, scans in tried.items()}
    rows = group_rows(f"{bundle.name} {bundle.version}", kinds, excess)
    record("familiarity", rows, ("model",))
    if fit:
        few = [
            describe("pool", case.id, lambda case=case: read_image(case), WINDOWS_OF_FEW)  # type: ignore[misc]
            for case in pool[:DRAWN_FROM]
        ]
        record("familiarity_few", few_rows(bundle.name, few, kinds, tried), ("model",))
    for row in rows:
        print(*row.values(), sep="  ", flush=True)


class Describer:
    """Descriptions of scans, kept in a folder if there is one."""

    def __init__(self, bundle: Bundle, cache: Path | None) -> None:
        self._bundle, self._cache = bundle, cache
        self._encode = encoder_of(bundle)

    def __call__(self, group: str, name: str, load: Callable[[], Volume], windows: int = 1) -> ScanDescription:
        if self._cache is None:
            return describe_volume(load(), self._bundle, self._encode, windows)
        key = hashlib.sha256(f"{self._bundle.name} {group} {name} {windows}".encode()).hexdigest()[:20]
        file = self._cache / f"{key}.npz"
        if not file.exists():
            started = time.process_time()
            found = describe_volume(load(), self._bundle, self._encode, windows)
            stages: dict[str, Any] = {f"stage{number}": stage for number, stage in enumerate(found.stages)}
            grey = found.grey
            np.savez(file, grey=grey.description, span=grey.span, blank=grey.is_blank, extent=found.extent_mm, **stages)
            print(f"{group}: {name}, {time.process_time() - started:.2f} s", flush=True)
        with np.load(file) as kept:
            low, high = (float(value) for value in kept["span"])
            tolerance = tolerance_of(self._bundle.spec.preprocessing.intensity)
            grey = GreyValues(kept["grey"], (low, high), bool(kept["blank"]), tolerance)
            count = sum(key.startswith("stage") for key in kept.files)
            return ScanDescription(grey, tuple(kept[f"stage{n}"] for n in range(count)), kept["extent"])


def group_rows(
    model: str, kinds: Mapping[str, str], excess: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[dict[str, object]]:
    """Per group: share of flagged scans, AUC against the model's own kind, the median of each term."""
    worst = {group: [max(terms.values()) for terms in found] for group, found in excess.items()}
    rows: list[dict[str, object]] = []
    for group, found in excess.items():
        medians = {name: float(np.median([terms[name] for terms in found])) for name in found[0]}
        rows.append(
            {
                "model": model,
                "group": group,
                "kind": kinds[group],
                "scans": len(found),
                "flagged": f"{np.mean(np.array(worst[group]) > 1):.3f}",
                "auc": f"{auc(worst[REFERENCE], worst[group]):.3f}",
                **{name.replace(" ", "_"): f"{median:.2f}" for name, median in medians.items()},
            }
        )
    return rows


def few_rows(
    model: str,
    pool: Sequence[ScanDescription],
    kinds: Mapping[str, str],
    tried: Mapping[str, Sequence[ScanDescription]],
) -> list[dict[str, object]]:
    """Shares of known and of strange scans that are flagged by statistics of a few random scans of `pool`."""
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for count in FEW:
        drawn = [fit_familiarity([pool[int(n)] for n in random.choice(len(pool), count, False)]) for _ in range(DRAWS)]
        shares = {}
        for kind in (KNOWN, STRANGE):
            scans = [scan for group, found in tried.items() if kinds[group] == kind for scan in found]
            flags = [max(statistics.excesses(scan).values()) > 1 for statistics in drawn for scan in scans]
            shares[kind] = f"{np.mean(flags):.3f}"
        rows.append({"model": model, "training_scans": count, "draws": DRAWS, **shares})
    return rows


def auc(known: Sequence[float], others: Sequence[float]) -> float:
    """The chance that a scan of `others` has more than one of `known`; ties count half."""
    pairs = np.subtract.outer(np.asarray(others), np.asarray(known))
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def _options(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    parser.add_argument("--model", choices=tuple(DATA), action="append", help="default: all")
    parser.add_argument("--cache", type=Path, help="folder of descriptions; it must exist, and be one model version's")
    parser.add_argument("--pool", action="store_true", help="fit new statistics, and take those")


if __name__ == "__main__":
    main()
