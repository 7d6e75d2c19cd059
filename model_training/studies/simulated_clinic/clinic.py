"""One clinic: fine-tune on its first corrected cases as a user would, then measure on cases not learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.dataset import CaseDataset
from MAESegmentLib.evaluation.cases import Measure, ModelPredictions, evaluate_cases
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.recipe import read_settings_file
from MAESegmentLib.training.settings import FineTuneSettings

RUNS, METRICS = "runs.csv", "metrics.csv"
RUN_COLUMNS = ("run", "cases", "initial_weights", "seed", "learning_rate", "steps", "threads", "training_s", "device")
#: Of the sliding windows; less than `maesegment evaluate` takes, because the runs are many.
OVERLAP = 0.25
METRIC_COLUMNS = ("run", "case", "label", "dice", "hd95_mm", "surface_dice", "volume_error_ml")


@dataclass(frozen=True)
class ClinicRun:
    """Fine-tuning on the first `cases` of the pool."""

    cases: int
    settings: FineTuneSettings

    @property
    def name(self) -> str:
        return f"{self.cases}-{self.settings.initial_weights}-{self.settings.steps}-{self.settings.seed}"


@dataclass(frozen=True)
class Clinic:
    """`labels` are the organs of interest; `split` is measured on."""

    data: str
    base: str
    labels: tuple[str, ...]
    split: str
    runs: tuple[ClinicRun, ...]


def read_clinic(path: Path) -> Clinic:
    """The clinic of a TOML file; a run's own values win over [settings]."""
    data = read_settings_file(path)
    runs = []
    for entry in data["runs"]:
        own = {key: value for key, value in entry.items() if key != "cases"}
        settings = {"threads": 1, "device": "cpu", "checkpoint_every": 50, **data["settings"], **own}
        runs.append(ClinicRun(int(entry["cases"]), FineTuneSettings.from_dict(settings)))
    return Clinic(data["data"], data["base"], tuple(data["labels"]), data["split"], tuple(runs))


def finetune_run(clinic: Clinic, run: ClinicRun, dataset: CaseDataset, work: Path, models: ModelStore) -> Bundle:
    """The fine-tuned model; an interrupted run resumes from its checkpoint."""
    base = models.find(clinic.base)
    split = f"pool:{run.cases}"
    # Nothing is held out: how good the model is, is measured on `clinic.split` afterwards.
    out = work / run.name
    return finetune(dataset, base, out, run.settings, split=split, validation="none", labels=clinic.labels)


def measure(clinic: Clinic, model: Bundle, dataset: CaseDataset) -> list[dict[str, Any]]:
    """One row per case and organ, on the scan's own grid as `maesegment evaluate` measures."""
    labels = tuple(Label(value, name) for name, value in dataset.labels.items() if name in clinic.labels)
    settings = InferenceSettings.of_model(model.spec.inference, device="cpu", check_familiarity=False, overlap=OVERLAP)
    predictions = ModelPredictions(Predictor(model, settings), model.labels, labels)
    evaluation = evaluate_cases(
        dataset.select(clinic.split), predictions, Measure(labels, known=dataset.labels, ignore=dataset.ignore)
    )
    if evaluation.failures:
        raise SystemExit(f"These cases cannot be measured: {evaluation.failures}")
    return [
        {"case": score.case, "label": score.label, **{name: _text(getattr(score, name)) for name in METRIC_COLUMNS[3:]}}
        for score in evaluation.scores
    ]


def run_row(run: ClinicRun, model: Bundle) -> dict[str, Any]:
    """What a run was and how long its training took."""
    settings, training = run.settings, model.spec.training
    return {
        "run": run.name,
        "cases": run.cases,
        "initial_weights": settings.initial_weights,
        "seed": settings.seed,
        "learning_rate": settings.learning_rate,
        "steps": settings.steps,
        "threads": settings.threads,
        "training_s": training["seconds"],
        "device": training["device"],
    }


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
