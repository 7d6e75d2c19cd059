"""Fine-tune a bundle on labelled cases; the result is a new bundle, child of the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..bundle import Bundle, open_bundle
from ..cases.dataset import CaseDataset
from ..errors import ConfigurationError
from ..preprocessing.plan import Preprocessing
from .data.holdout import Holdout, plan_holdout
from .data.labelling import LabelPlan, plan_labels
from .data.prepared import CaseCache
from .data.preparing import Prepared, prepare_labelled
from .description import Description
from .finetune_model import MODEL_FOLDER, save_model
from .finetune_run import FineTuning
from .loop.distributed import SOLO, Team
from .loop.loop import Report, ShouldCancel, ShouldStop, ignore, never
from .loop.output_folder import DataRecord, claimed, finished_model, tell_finished
from .settings import FineTuneSettings

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
    progress: Report = ignore,
    should_cancel: ShouldCancel = never,
    should_stop: ShouldStop = never,
    team: Team = SOLO,
) -> Bundle:
    """Train on the `split` of `dataset` (None: every case with a label map) and save the model as `out`/model.

    `labels` are those to learn (None: all of the dataset). `validation`: see `plan_holdout`. `version_of` is asked for
    the version just before the model is saved. Called again with the same arguments after a kill, it goes on from its
    last checkpoint; after the end, it returns the finished model. Once `should_stop` says so, training ends and the
    best weights so far are saved. All of a `team` call this alike; its first process writes, all get the model.
    """
    settings = team.settings(settings or FineTuneSettings())
    description = description or Description()
    finished = finished_model(out, settings, base.reference)
    holdout = plan_holdout(dataset, split, validation, settings.seed)
    plan = plan_labels(dataset.labels, base.labels, labels, description.labels)
    data = partial(DataRecord.of, holdout.training, holdout.held_out, plan.names)
    if finished is not None:
        data().check_same(out, progress)
        _check_same_name(out, finished, description)
        tell_finished(out, progress)
        return finished
    with claimed(out, team):
        preprocessing = _preprocessing(base, settings)
        cache = CaseCache(settings.cache_gb / team.local_size, team.own_folder(out / "prepared"))
        prepared = prepare_labelled(
            holdout.cases,
            dataset,
            plan,
            preprocessing,
            cache,
            progress,
            should_cancel,
            tissues=settings.synthesis is not None,
        )
        team.first(lambda: data().keep(out))  # once the files are known to be what they say
        same_labels = {label.name for label in base.labels} == set(plan.names)
        channels = len(cache[0].image)
        text = description.completed(base, same_labels=same_labels, name=dataset.name, channels=channels)
        run = FineTuning(base, plan, preprocessing, settings, prepared, out, progress, should_cancel, should_stop, team)
        prepared.label_notes.extend(_only_held_out(prepared, plan, holdout))
        warnings = [f"Warning: {note}" for note in (*dataset.notes, *prepared.label_notes, *prepared.twins)]
        run.say(
            *warnings,
            *prepared.notes,
            cache.describe(),
            f"Held out: {holdout.how}.",
            *run.notes,
            *team.describe(settings),
        )
        # The model comes first, its leave-one-out estimate after it: whoever stops early still has a model.
        share = 1 / (len(holdout.folds) + 1)
        trained = run.train(holdout.training, holdout.held_out, out, (0.0, share))
        measured = run.leave_one_out(holdout, trained) if holdout.folds else run.before_and_after(trained, holdout, out)

        def save() -> Bundle:
            version = version_of(text.name, same_labels) if version_of is not None else text.version
            bundle = save_model(run, trained, measured, holdout, text.with_version(version))
            run.tidy_folds()
            return bundle

        bundle = team.first(save) or open_bundle(out / MODEL_FOLDER)
        cache.remove_files()
        run.say(*warnings)  # again, as hours may lie between
        return bundle


def _only_held_out(prepared: Prepared, plan: LabelPlan, holdout: Holdout) -> list[str]:
    """A note if a label has voxels in held-out cases alone."""
    training = {case.id for case in holdout.training}
    found, learnt = set(), set()
    for case in prepared.cases:
        channels = {channel for channel, _ in case.places}
        found |= channels
        learnt |= channels if case.id in training else set()
    names = ", ".join(plan.names[channel - 1] for channel in sorted(found - learnt))
    return [f"Only held-out cases have a voxel of {names}: it is checked, and not learnt."] if names else []


def _check_same_name(out: Path, finished: Bundle, description: Description) -> None:
    if description.name and description.name != finished.name:
        raise ConfigurationError(
            f"{out} holds a finished model that is called {finished.name}, not {description.name}.",
            "Give another output folder, or leave the name out.",
        )


def _preprocessing(base: Bundle, settings: FineTuneSettings) -> Preprocessing:
    """The base's, with another choice of what grey values are taken over where the settings say so."""
    own = base.spec.preprocessing
    if settings.foreground is None:
        return own
    return replace(own, intensity=replace(own.intensity, foreground=settings.foreground))
