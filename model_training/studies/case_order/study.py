"""Does correcting the scans first that the model is least certain of need fewer of them than a random order?

`python -m model_training.studies.case_order.study --data DATA/hippocampus_mr --out runs/case_order` trains a base on
three cases, ranks a clinic's scans with it, fine-tunes it on these three and the first two or four of every order, and
measures all models on the same other cases. The control is fine-tuned as long, on the three alone. What is in
`runs.csv` already is not done again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_image, read_labels
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.ranking import Uncertainty, rank
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.inference.uncertainty import uncertainty_of
from MAESegmentLib.training.description import Description
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.recipe import read_settings_file
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.masked import reconstruction_error

from .clinic import CANDIDATES_SEED, TESTS_SEED, Clinic, draw, is_altered, part, with_altered

HERE = Path(__file__).parent
#: One row a run and test case; Dice is the mean over the structures.
RUN_COLUMNS = ("clinic", "order", "seed", "count", "cases", "altered_cases", "test", "test_altered", "dice")
CASE_COLUMNS = ("clinic", "case", "altered", "entropy", "disagreement", "reconstruction_error", "base_dice")


class Study:
    """One run of the study in folder `out`, which goes on where it was."""

    def __init__(self, data: Path, out: Path, config: Mapping[str, Any], results: Path) -> None:
        self.dataset = load_dataset(data)
        self.shipped = ModelStore(out / "none").find("hippocampus-mr")
        self.out, self.config = out, config
        self.runs, self.cases = results / "runs.csv", results / "cases.csv"

    def run(self) -> None:
        for entry in self.config["clinics"]:
            clinic = Clinic(entry["name"], entry["mixed"], tuple(entry["base"]), tuple(entry["candidates"]))
            self._run_clinic(clinic)

    def _run_clinic(self, clinic: Clinic) -> None:
        base = self._base(clinic)
        candidates, tests = self._scans(clinic)
        measured = self._rank(clinic, base, candidates)
        done = {(row["order"], row["seed"], row["count"]) for row in _rows(self.runs) if row["clinic"] == clinic.name}
        if ("base", "0", "0") not in done:
            self._record(clinic, "base", 0, (), base, tests)
        planned = [("control", 0, 0, [])]
        for count in self.config["counts"]:
            planned += [
                (*one, count, indices) for *one, indices in orders(measured, self.config["random_seeds"], clinic)
            ]
        for order, seed, count, indices in planned:
            if (order, str(seed), str(count)) not in done:
                chosen = [candidates[index] for index in indices[:count]]
                self._record(clinic, order, seed, chosen, self._tuned(clinic, base, chosen), tests)

    def _base(self, clinic: Clinic) -> Bundle:
        cases = part(self.dataset, clinic.base)
        return self._finetune(clinic.base_name, self.shipped, cases, self.config["base_settings"])

    def _tuned(self, clinic: Clinic, base: Bundle, cases: Sequence[Case]) -> Bundle:
        """Trained on the base's cases and these; the same cases in another order are the same run."""
        cases = [*part(self.dataset, clinic.base), *sorted(cases, key=lambda case: case.id)]
        content = "\n".join([clinic.base_name, str(clinic.mixed), *(case.id for case in cases)])
        name = hashlib.sha256(content.encode()).hexdigest()[:12]
        return self._finetune(name, base, cases, self.config["settings"])

    def _finetune(self, name: str, base: Bundle, cases: Sequence[Case], settings: Mapping[str, Any]) -> Bundle:
        dataset = CaseDataset(self.dataset.labels, tuple(cases), name=self.dataset.name)
        chosen = FineTuneSettings.from_dict(dict(settings))
        return finetune(
            dataset, base, self.out / name, chosen, validation="none", description=Description(name="case-order")
        )

    def _scans(self, clinic: Clinic) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        candidates, tests = part(self.dataset, clinic.candidates), part(self.dataset, self.config["tests"])
        if not clinic.mixed:
            return candidates, tests
        share, folder = self.config["altered_share"], self.out / "altered"
        return (
            with_altered(candidates, share, CANDIDATES_SEED, folder),
            with_altered(tests, share, TESTS_SEED, folder),
        )

    def _rank(self, clinic: Clinic, base: Bundle, candidates: Sequence[Case]) -> list[Uncertainty]:
        """How uncertain the base is about every candidate; noted once, read from then on."""
        known = {row["case"]: row for row in _rows(self.cases) if row["clinic"] == clinic.name}
        predictor = _predictor(base)
        result = []
        for case in candidates:
            if case.id not in known:
                volume = read_image(case)
                found = uncertainty_of(predictor, volume)
                error = _reconstruction_error(base, volume)
                dice = _dice(predictor, case, self.dataset.labels)
                figures = (found.entropy, found.disagreement, error, dice)
                _append(self.cases, CASE_COLUMNS, (clinic.name, case.id, int(is_altered(case)), *map(_text, figures)))
                known[case.id] = dict(zip(CASE_COLUMNS[3:], map(_text, figures), strict=True))
            row = known[case.id]
            result.append(
                Uncertainty(
                    float(row["entropy"]),
                    float(row["disagreement"]),
                    float(row["reconstruction_error"]),
                    slice_axis=2,
                    slice_index=0,
                    position_ras=(0.0, 0.0, 0.0),
                )
            )
        return result

    def _record(
        self, clinic: Clinic, order: str, seed: int, chosen: Sequence[Case], model: Bundle, tests: Sequence[Case]
    ) -> None:
        predictor = _predictor(model)
        names = " ".join(case.id for case in chosen)
        altered = sum(map(is_altered, chosen))
        fixed = (clinic.name, order, seed, len(chosen), names, altered)
        rows = [
            (*fixed, test.id, int(is_altered(test)), _text(_dice(predictor, test, self.dataset.labels)))
            for test in tests
        ]
        _append(self.runs, RUN_COLUMNS, *rows)
        print(*fixed, f"{np.mean([float(row[-1]) for row in rows]):.4f}", flush=True)


def orders(
    measured: Sequence[Uncertainty], seeds: Sequence[int], clinic: Clinic
) -> Iterator[tuple[str, int, list[int]]]:
    """Name, seed and candidates, the first to correct first, of every order that is compared."""
    assert CANDIDATES_SEED not in seeds, "this order is no random one: it begins with the altered scans"
    figures = {
        "entropy": [item.entropy for item in measured],
        "reconstruction error": [item.unfamiliarity or 0.0 for item in measured],
        "disagreement": [item.disagreement for item in measured],
    }
    yield "combined", 0, rank(measured)
    for seed in seeds:
        yield "random", seed, draw(len(measured), seed)
    for name, values in figures.items():
        yield name, 0, sorted(range(len(values)), key=lambda index: -values[index])
    if clinic.mixed:
        yield "other scanner first", 0, draw(len(measured), CANDIDATES_SEED)


def _predictor(bundle: Bundle) -> Predictor:
    settings = InferenceSettings.of_model(bundle.spec.inference, device="cpu", check_familiarity=False)
    return Predictor(bundle, replace(settings, mirroring=False))


def _reconstruction_error(base: Bundle, volume: Volume) -> float:
    """What the combined order took for unfamiliarity when this was studied."""
    autoencoder = base.load_autoencoder()
    assert autoencoder is not None
    preprocessing = base.spec.preprocessing
    return reconstruction_error(autoencoder, preprocessing.prepare(volume).image, preprocessing.patch_size)


def _dice(predictor: Predictor, case: Case, labels: Mapping[str, int]) -> float:
    """Mean over the structures, on the scan's own grid."""
    volume = read_image(case)
    truth = read_labels(case, volume, labels, list(labels)).array
    found = predictor.predict(volume).label_map.array
    values = [label.value for label in predictor.spec.labels]
    overlaps = [2 * np.sum((truth == v) & (found == v)) / np.sum((truth == v) * 1 + (found == v)) for v in values]
    return float(np.mean(overlaps))


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _append(path: Path, columns: Sequence[str], *rows: Sequence[object]) -> None:
    """A run's rows in one write, so that a kill leaves all of them or none."""
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) + "\n" for row in ([columns] if is_new else []) + list(rows)]
    with path.open("a", encoding="utf-8") as stream:
        stream.write("".join(lines))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder hippocampus_mr")
    parser.add_argument("--out", type=Path, required=True, help="folder for models and altered scans")
    parser.add_argument("--results", type=Path, default=HERE, help="folder for runs.csv and cases.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = read_settings_file(HERE / "study.toml")
    Study(arguments.data, arguments.out, config, arguments.results).run()


if __name__ == "__main__":
    main()
