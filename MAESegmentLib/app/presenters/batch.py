"""Several volumes, or all frames of a sequence, one after another: the table of what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...translation import tr as _
from ..texts.messages import result_text
from .elements import Control
from .segment import SegmentPresenter


@dataclass(frozen=True)
class BatchState:
    """`rows` are (name, outcome); `current` is the one that is worked on. Empty while there is no batch."""

    rows: tuple[tuple[str, str], ...] = ()
    current: int = 0


class BatchPresenter:
    """Runs beside a `SegmentPresenter`, whose button cancels it; `logic` has `processBatch` and `processSequence`."""

    def __init__(self, logic: Any, segment: SegmentPresenter, changed: Callable[[], None]) -> None:
        self.batch: Any = None
        self._logic = logic
        self._segment = segment
        self._changed = changed
        self._rows: list[tuple[str, str]] = []
        self._first_open = 0
        self._sentence = ""

    def state(self) -> BatchState:
        return BatchState(tuple(self._rows), self.batch.index if self.batch is not None else 0)

    def controls(self, ticked: int, frames: int) -> tuple[Control, Control]:
        """The buttons for so many ticked volumes and for so many frames of the input's sequence."""
        reason = self._segment.general_reason
        return (
            Control.unless(
                reason or ("" if ticked else _("Tick the volumes to segment.")),
                _("Segment tic&ked volumes"),
                _("Segment the whole of each ticked volume with the chosen model. If one fails, the rest continue."),
            ),
            Control.unless(
                reason or ("" if frames else _("The input volume belongs to no sequence.")),
                _("Segment all {n} frames").format(n=frames) if frames else _("Segment all frames"),
                _("Segment every frame of the input's sequence; the result is a sequence, too."),
            ),
        )

    def start_volumes(self, volumes: Sequence[Any]) -> None:
        host = self._segment.host
        self._segment.launch(
            lambda callback: self._shown(
                self._logic.processBatch(volumes, host.bundle, wait=False, callback=callback, **host.options)
            ),
            self._on_batch,
            lambda: self.start_volumes(volumes),
        )

    def start_frames(self, volume: Any) -> None:
        """Of the sequence that `volume` shows."""
        host = self._segment.host
        self._segment.launch(
            lambda callback: self._shown(
                self._logic.processSequence(
                    volume, host.bundle, wait=False, callback=callback, roi=host.region, **host.options
                )
            ),
            self._on_batch,
            lambda: self.start_frames(volume),
        )

    def clear(self) -> None:
        """The volumes are closed: rows and sentence mean nothing any more."""
        self.batch, self._rows = None, []
        sentence, self._sentence = self._sentence, ""
        if sentence and self._segment.message.text == sentence:
            self._segment.say("")
        self._changed()

    def _shown(self, batch: Any) -> Any:
        self.batch, self._first_open = batch, 0
        self._rows = [(row.name, _outcome(row)) for row in batch.rows]
        return batch

    def _on_batch(self, batch: Any) -> None:
        if batch is self.batch:
            # A long sequence has hundreds of rows, and progress comes ten times a second: only what may have changed.
            first, self._first_open = self._first_open, batch.index
            for number in range(first, min(batch.index + 1, len(batch.rows))):
                self._rows[number] = (batch.rows[number].name, _outcome(batch.rows[number]))
            self._changed()
        if batch.is_finished:
            self._sentence = _sentence(batch)
            self._segment.finish(self._sentence)
        elif batch.current is not None:
            prefix = _("{number} of {n}: ").format(number=batch.index + 1, n=len(batch.rows))
            self._segment.show_progress(batch.current, prefix)


def _sentence(batch: Any) -> str:
    done, total = len(batch.succeeded), len(batch.rows)
    if batch.cancel_requested:
        return _("Cancelled; {done} of {n} segmented.").format(done=done, n=total)
    if done == total:
        return _("All {n} segmented.").format(n=total)
    return _("{done} of {n} segmented; the table says why the others were not.").format(done=done, n=total)


def _outcome(row: Any) -> str:
    if row.state.name == "DONE":
        text = result_text(row.summary) if row.summary is not None else _("done")
        warnings = row.summary.warnings if row.summary is not None else ()
        return " ".join(part for part in (text, row.message, *(f"\u26a0 {one}" for one in warnings)) if part)
    words = {
        "QUEUED": _("queued"),
        "PREPARING": _("starting"),
        "RUNNING": _("running"),
        "CANCELLED": _("cancelled"),
        "FAILED": _("failed: {reason}").format(reason=row.message),
    }
    return words.get(row.state.name, row.state.name)
