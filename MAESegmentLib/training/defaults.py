"""What fine-tuning does unless the user chooses otherwise; chosen by `model_training/studies/finetune_defaults`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..bundle.usage.sides import mirrorable_axes, sides_of
from ..images.labels import other_names
from ..torchrun import Launch
from .loop.checkpoint import is_run_of
from .loop.distributed import in_parts
from .settings import FineTuneSettings, refuse_time_and_steps

#: A model's own labels on another scanner's images: learnt gently, because otherwise it forgets the old ones.
ADAPT: dict[str, Any] = {
    "steps": 150,
    "learning_rate": 3e-4,
    "layer_decay": 0.8,
    "warmup": 0.05,
    "ema_decay": 0.99,
    "foreground_fraction": 0.5,
}
#: Labels that the model starts without need larger steps, and more of them; and the few cases that show them need much
#: changing, because otherwise they are learnt by heart (`model_training/studies/recipe`).
NEW_LABELS: dict[str, Any] = {
    **ADAPT,
    "steps": 1500,
    "batch_size": 1,
    "learning_rate": 3e-3,
    "detail_channels": 16,
    "augmentation": {"affine": 0.9, "stretch": 1.2, "elastic": 0.8, "label_shares": True},
}
#: What was taken for them before; a run that began so resumes so.
_NEW_LABELS_BEFORE: dict[str, Any] = {**ADAPT, "steps": 800, "learning_rate": 3e-3}
#: A run that began in so many processes at most resumes in another number with as many patches a step.
_PROCESSES = 64
#: Points of the curve that the user watches, and how often at most (steps) the work is saved.
_POINTS = 10
_SAVE_EVERY = 25


def default_settings(
    base: Bundle,
    *,
    new_labels: bool,
    chosen: Mapping[str, Any] | None = None,
    learnt: Collection[str] | None = None,
    of_new_labels: Mapping[str, Any] = NEW_LABELS,
    processes: int | None = None,
) -> FineTuneSettings:
    """Settings for `base`, those that were `chosen` (fields of `FineTuneSettings`) on top; raises what is wrong there.

    `new_labels`: whether some label has no output in `base` to start from. `learnt` are the names of all labels that
    are learnt; None: all of the base among them.
    """
    chosen = dict(chosen or {})
    refuse_time_and_steps(chosen)
    from_scratch = (
        new_labels or base.kind != "segmentation" or chosen.get("initial_weights", "pretrained") != "pretrained"
    )
    defaults = of_new_labels if from_scratch else ADAPT
    values = {**defaults, **chosen}
    if "batch_size" in defaults:  # every process of a team needs a patch of each step
        values["batch_size"] = chosen.get(
            "batch_size", max(defaults["batch_size"], processes or Launch.from_environment().world_size)
        )
    if "detail_channels" not in chosen and base.spec.network and base.spec.network.detail_channels:
        values.pop("detail_channels", None)  # it has such a head, which has learnt
    if chosen.get("minutes") is None:
        steps = int(values["steps"])
        values.setdefault("validate_every", max(1, steps // _POINTS))
        values.setdefault("checkpoint_every", max(1, min(_SAVE_EVERY, steps // _POINTS)))
        values.setdefault("log_every", max(1, steps // 100))
    else:
        del values["steps"]
    if new_labels and base.spec.preprocessing.intensity.kind == "zscore":
        values.setdefault("foreground", True)
    if new_labels and values.get("synthesis") is None:
        values.setdefault("spacing", "structures")
    # A structure with a side must not be mirrored; the base knows along which axes its own labels may be.
    # Images that are drawn differ enough by themselves.
    changed = {} if values.get("synthesis") is not None else defaults.get("augmentation", {})
    augmentation = {**changed, **chosen.get("augmentation", {})}
    known_axes = () if new_labels else base.spec.inference.get("mirror_axes", ())
    names = [label.name for label in base.labels]
    sides = sides_of(base.spec.inference, len(names))
    knows_all = not new_labels and (learnt is None or not other_names(names, learnt))
    if sides is not None and knows_all and "sides" not in values:
        values["sides"] = [[names[channel - 1] for channel in pair] for pair in sides.pairs]
        known_axes = mirrorable_axes(base.spec.inference, len(names))
    augmentation.setdefault("flip_axes", list(known_axes))
    return FineTuneSettings.from_dict({**values, "augmentation": augmentation})


def settings_in(
    out: Path, base: Bundle, *, new_labels: bool, chosen: Mapping[str, Any], learnt: Collection[str] | None = None
) -> FineTuneSettings:
    """`default_settings`, or where a run in `out` began with other defaults for what was `chosen`, those."""
    defaults = partial(default_settings, base, new_labels=new_labels, chosen=chosen, learnt=learnt)

    def others() -> Iterator[FineTuneSettings]:
        for of_new_labels in (NEW_LABELS, _NEW_LABELS_BEFORE):
            for processes in range(1, _PROCESSES + 1):
                settings = defaults(of_new_labels=of_new_labels, processes=processes)
                yield settings if processes == 1 else in_parts(settings, processes)

    settings = defaults()
    is_its = is_run_of(out)
    return settings if is_its is None else next(filter(is_its, chain((settings,), others())), settings)
