"""Fine-tune a bundle on labelled cases; the result is a new bundle, child of the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..bundle import Bundle, open_bundle
from ..bundle.suitability import unlike_cases
from ..cases.case import Case
from ..cases.dataset import CaseDataset
from ..errors import ConfigurationError
from ..preprocessing.plan import Preprocessing
from .data.holdout import only_held_out, plan_holdout
from .data.labelling import LabelPlan, plan_labels
from .data.prepared import CaseCache
from .data.preparing import MAX_NAMED, prepare_cases
from .data.recognising import Patients
from .data.spacing import fit_to_structures
from .data.unlabelled import prepare_unlabelled, scans_without_labels
from .loop.budget import TimeBudget
from .loop.checkpoint import CHECKPOINT
from .loop.output_folder import MODEL_FOLDER, DataRecord, claimed, finished_model
from .loop.pace import Pace
from .recipe import Description
from .rounds import FineTuning
from .run_context import UNATTENDED, RunContext
from .settings import FineTuneSettings
from .tasks.methods import check_one_part
from .timetable import few_steps

__all__ = ["MODEL_FOLDER", "VersionOf", "finetune"]

#: (name of the new model, whether it has the labels of its base) -> its version.
VersionOf = Callable[[str, bool], str]


def finetune(
    dataset: CaseDataset,
    base: Bundle,
    out: Path,
    settings: FineTuneSettings | None = None,
    *,
    split: str | None = None,
    validation: str = "auto",
    labels: Sequence[str] | None = None,
    description: Description | None = None,
    version_of: VersionOf | None = None,
    unlabelled: Sequence[Path] = (),
    context: RunContext = UNATTENDED,
) -> Bundle:
    """Train on the `split` of `dataset` (None: every case with a label map) and save the model as `out`/model.

    `labels` are those to learn (None: all of the dataset). `validation`: see `plan_holdout`. `version_of` is called for
    the version just before the model is saved. `unlabelled` are scans, or folders of them, that have no labels and are
    learnt from as `settings` say. Called again with the same arguments after a kill, it resumes from its last
    checkpoint; after the end, it returns the finished model. Once `context` asks to stop, training ends and the best
    weights so far are saved, or, by time, those that a short fall of the learning rate leads to. All of a team call
    this alike; its first process writes, all return the model.
    """
    team = context.team
    settings = team.settings(settings or FineTuneSettings())
    description = description or Description()
    holdout = plan_holdout(dataset, split, validation, settings.seed)
    plan = plan_labels(dataset.labels, base.labels, labels, description.labels)
    scans = scans_without_labels(unlabelled)
    if scans:
        check_one_part(settings, team.size)
    data = partial(DataRecord.of, holdout.training, holdout.held_out, plan.names, scans)

    def check_same(finished: Bundle) -> None:
        data().check_same(out, context)
        _check_same_name(out, finished, description)

    finished = finished_model(out, settings, base.reference, context, check_same)
    if finished is not None:
        return finished
    with claimed(out, team):
        pace = Pace(settings.batch_size, context.clock)
        if settings.minutes is not None:
            has_begun = (out / CHECKPOINT).exists()
            pace.budget = TimeBudget(settings.minutes, out, begun=context.begun, resumes=has_begun, clock=pace.clock)
        preprocessing, of_spacing = _preprocessing(base, settings, holdout.training, dataset, plan)
        cache = CaseCache(settings.cache_gb / team.local_size, team.own_folder(out / "prepared"))
        tissues = settings.synthesis is not None
        context = replace(context, pace=pace)
        prepared = prepare_cases(holdout.cases, preprocessing, cache, context, learnt=(dataset, plan), tissues=tissues)
        prepared.label_notes.extend(of_spacing)
        given = prepared, holdout, dataset, base, preprocessing, context
        found = prepare_unlabelled(scans, *given) if scans else None
        team.first(lambda: data().keep(out))  # once the files are known to be what they say
        run = FineTuning(base, plan, preprocessing, settings, prepared, out, context, found)
        planned, holdout = holdout, run.plan_work(holdout)
        if holdout.how != planned.how:
            prepared.label_notes.append(f"Held out: {holdout.how}.")
        same_labels = {label.name for label in base.labels} == set(plan.names)
        told = description
        if unlike := unlike_cases(base, [case.grey for case in prepared.cases if case.grey is not None]):
            # Not the base's: the new model would refuse the very scans it is trained on. Their grey values decide.
            told = replace(told, modality=told.modality or "unknown")
        text = told.completed(base, same_labels=same_labels, name=dataset.name, channels=run.channels)
        prepared.label_notes.extend(only_held_out(prepared, plan, holdout))
        if unlike:
            prepared.label_notes.append(unlike)
        of_cases = [*prepared.twins, *Patients.of(holdout, prepared).across()[:MAX_NAMED]]
        of_cases += [] if found is None else found.warnings()

        def warnings() -> list[str]:
            return [f"Warning: {note}" for note in (*dataset.notes, *prepared.label_notes, *of_cases)]

        notes = (*prepared.notes, cache.describe(), f"Held out: {holdout.how}.", *run.notes, *team.describe(settings))
        said = warnings()
        context.log(*said, *notes)
        # The model comes first, its leave-one-out estimate after it: whoever stops early still has a model.
        trained = run.train(holdout, out, (0, len(holdout.folds)) if holdout.folds else None)
        prepared.label_notes.extend(() if run.times is None else few_steps(trained))
        measured = run.leave_one_out(holdout, trained) if holdout.folds else run.before_and_after(trained, holdout, out)

        def save() -> Bundle:
            version = version_of(text.name, same_labels) if version_of is not None else text.version
            bundle = run.save(trained, holdout, measured, replace(text, version=version))
            run.tidy_folds()
            return bundle

        bundle = team.first(save) or open_bundle(out / MODEL_FOLDER)
        cache.remove_files()
        said += [] if run.times is None else [f"Warning: {note}" for note in run.times.late]
        context.log(*(warning for warning in warnings() if warning not in said))  # what came to light
        return bundle


def _check_same_name(out: Path, finished: Bundle, description: Description) -> None:
    if description.name and description.name != finished.name:
        raise ConfigurationError(
            f"{out} holds a finished model that is called {finished.name}, not {description.name}.",
            "Give another output folder, or leave the name out.",
        )


def _preprocessing(
    base: Bundle, settings: FineTuneSettings, training: Sequence[Case], dataset: CaseDataset, plan: LabelPlan
) -> tuple[Preprocessing, list[str]]:
    """The base's, with other voxels or another choice of what grey values are taken over where the settings say so;
    and what there is to say of the voxels."""
    chosen = base.spec.preprocessing
    if settings.foreground is not None:
        chosen = replace(chosen, intensity=replace(chosen.intensity, foreground=settings.foreground))
    if settings.spacing == "base":
        return chosen, []
    fitted, note = fit_to_structures(chosen, training, dataset, plan)
    return fitted, [note] if note else []
