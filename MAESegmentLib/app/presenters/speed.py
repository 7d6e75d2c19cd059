"""Fast, best or averaged: the choice beside Segment, with how long each takes for what is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ... import mrml
from ...bundle import Bundle
from ...bundle.usage.sides import mirrorable_axes
from ...errors import MAESegmentError
from ...inference.settings import SPEEDS, InferenceSettings, SegmentationSummary
from ...inference.window_count import window_count
from ...translation import tr as _
from ..texts.messages import duration_text
from .elements import Option
from .settings import mirroring_choice

CUSTOM = "custom"
_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


class SpeedHost(Protocol):
    """The panel around: what is chosen in it."""

    @property
    def bundle(self) -> Bundle | None: ...

    @property
    def nodes(self) -> Sequence[Any]: ...

    @property
    def region(self) -> Any: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    def set_windows(self, overlap: float, mirroring: str) -> None:
        """Choose these, as under Advanced: 0 and "model" leave it to the model."""


@dataclass(frozen=True)
class SpeedState:
    options: tuple[Option, ...]
    chosen: str
    tip: str


@dataclass
class _Measured:
    """Of one model on one device: seconds of a window, and of all that is done once."""

    window_s: float
    once_s: float


class SpeedPresenter:
    """A speed is nothing but an overlap and a mirroring; those under Advanced that are neither speed are "custom"."""

    def __init__(self, host: SpeedHost) -> None:
        self._host = host
        self._measured: dict[tuple[str, str], _Measured] = {}
        self._running: tuple[tuple[str, str], int] = (("", ""), 0)

    def state(self) -> SpeedState:
        windows = {speed: self._windows(chosen) for speed, chosen in SPEEDS.items()}
        options = [Option(speed, self._text(speed, windows)) for speed in SPEEDS]
        chosen = self._chosen()
        if chosen == CUSTOM:
            options.append(Option(CUSTOM, _("As under Advanced")))
        tip = _(
            "Best: as the model was measured. Fast: fewer windows that overlap and no mirrored copies, so that borders "
            "may be less exact. Averaged: the mean over mirrored copies, where the model knows them, and shifted ones. "
            "Times follow from this model's last run here."
        )
        return SpeedState(tuple(options), chosen, tip)

    def choose(self, speed: str) -> None:
        """A page may send anything."""
        if speed in SPEEDS and speed != self._chosen():
            chosen = SPEEDS[speed]
            self._host.set_windows(chosen.get("overlap", 0.0), mirroring_choice(chosen.get("mirroring")))

    def begin(self) -> None:
        """What is chosen is segmented now."""
        options = self._host.options
        chosen = {name: options[name] for name in ("overlap", "mirroring") if options.get(name) is not None}
        self._running = (self._key, self._windows(chosen))

    def end(self, summary: SegmentationSummary | None) -> None:
        """It is done: the times are known."""
        key, windows = self._running
        if summary is None or not windows or summary.located_by:  # boxes, not the whole scan, were segmented
            return
        once, before = max(0.0, summary.seconds - summary.network_seconds), self._measured.get(key)
        # The first run of a worker also starts it.
        self._measured[key] = _Measured(summary.network_seconds / windows, min(once, before.once_s) if before else once)

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> tuple[str, str]:
        """The model, and the device as it is chosen."""
        bundle = self._host.bundle
        return (bundle.content_hash if bundle is not None else "", str(self._host.options.get("device")))

    def _chosen(self) -> str:
        options = self._host.options
        now = {name: options[name] for name in ("overlap", "mirroring") if options.get(name) is not None}
        return next((speed for speed, chosen in SPEEDS.items() if dict(chosen) == now), CUSTOM)

    def _text(self, speed: str, windows: Mapping[str, int]) -> str:
        name = {"best": _("Best"), "fast": _("Fast"), "averaged": _("Averaged")}[speed]
        count, measured = windows[speed], self._measured.get(self._key)
        if not count:
            return name
        if measured is not None:
            time = duration_text(measured.once_s + measured.window_s * count)
            return _("{speed} (about {time})").format(speed=name, time=time)
        times = windows["best"] / count
        if times < 1 / 1.5:
            return _("{speed} (about {n} times slower)").format(speed=name, n=round(1 / times))
        return name if times < 1.5 else _("{speed} (about {n} times faster)").format(speed=name, n=round(times))

    def _windows(self, chosen: Mapping[str, Any]) -> int:
        """With these settings on top of the model's; mirrored and shifted copies count as windows of their own."""
        bundle, node = self._host.bundle, next(iter(self._host.nodes), None)
        plan = bundle.metadata["maesegment"].get("preprocessing") if bundle is not None else None
        if bundle is None or node is None or plan is None:
            return 0
        try:
            extent = mrml.extent_of(node, self._host.region)
        except MAESegmentError:
            return 0
        stored = bundle.metadata["maesegment"].get("inference") or {}
        settings = InferenceSettings.of_model(stored, **chosen)
        axes = settings.mirror_axes(mirrorable_axes(stored, len(bundle.metadata["maesegment"].get("labels", ()))))
        lengths = [extent[_AXES[letter]] for letter in plan["orientation"]]
        size = [max(1, round(mm / spacing)) for mm, spacing in zip(lengths, plan["spacing"], strict=True)]
        return window_count(size, plan["patch_size"], settings.overlap) * 2 ** len(axes) * settings.copies
