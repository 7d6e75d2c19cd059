"""Fix this scan: the rest follows from the slices that the user drew, or grows from scribbles; both can be undone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ...errors import Cancelled, MAESegmentError
from ...translation import tr as _
from ..texts.drawing import grown_text, understood_text, updated_text
from ..texts.messages import error_text, progress_text
from .elements import Control, Option, Question
from .presenter import JobPresenter

#: What runs.
UPDATE, GROW = "update", "grow"


class UpdateHost(Protocol):
    """The panel around: what is chosen in it, and what it does for this part. Nodes are Slicer's."""

    @property
    def volume(self) -> Any: ...

    @property
    def segmentation(self) -> Any: ...

    @property
    def roi(self) -> Any: ...

    @property
    def device(self) -> str: ...

    def failed(self, error: Exception) -> None:
        """Show what went wrong."""

    @property
    def is_looked_at(self) -> bool:
        """Whether the user sees this part: what was drawn is read only then."""

    def changing(self, segmentation: Any) -> AbstractContextManager[Any]:
        """Around a change of it, so that the editor's own undo knows of it."""

    def changed(self, segmentation: Any) -> None:
        """Its voxels are others now."""

    def scribble(self) -> None:
        """Let the user draw in the segmentation."""


@dataclass(frozen=True)
class UpdateState:
    """`text` says what would be done, or why nothing can be, or where it stands; `said` what was done last.

    `kind` is what runs, or ran last; `is_old_news`: nothing was drawn since.
    """

    blocked: str = ""
    is_running: bool = False
    kind: str = UPDATE
    is_cancelling: bool = False
    fraction: float = 0.0
    text: str = ""
    said: str = ""
    is_understood: bool = False
    is_old_news: bool = False
    can_grow: bool = False
    can_undo: bool = False
    asks_plane: Question | None = None
    asks_undo: Question | None = None

    @property
    def asks(self) -> Question | None:
        return self.asks_undo or self.asks_plane

    @property
    def line(self) -> str:
        """`text` where it helps: that nothing was drawn since is no news once something was done."""
        return "" if self.is_old_news and self.said and not self.is_running else self.text or self.blocked

    @property
    def update(self) -> Control:
        """The button of the slices."""
        tip = _(
            "The slices between and beside those that you drew follow, in this segmentation; it takes some seconds. "
            "What you drew stays as it is, and so does the model."
        )
        missing = _("Correct one to three slices of the result, or draw a structure on every fourth slice, first.")
        missing = "" if self.is_understood else self.text or missing
        return self._button(UPDATE, _("Update this scan"), tip, missing)

    @property
    def grow(self) -> Control:
        """The button of the scribbles."""
        tip = _(
            "What you painted or erased counts as strokes, inside a structure or outside. They are drawn anew "
            "about them, up to edges in the scan; the strokes stay as they are."
        )
        missing = _("Scribble first: paint a stroke inside the structure, and erase one that is outside.")
        return self._button(GROW, _("Grow from scribbles"), tip, "" if self.can_grow else missing)

    @property
    def scribble(self) -> Control:
        tip = _(
            "Draw roughly: a stroke or two inside a structure, with its segment, and one outside, with the segment "
            "called background, which this adds."
        )
        return Control.unless(self.blocked or self._busy, _("Scribble"), tip)

    @property
    def undo(self) -> Control:
        """The button is there only while there is something to undo."""
        tip = _("Back to exactly what was there before.")
        return Control.unless(self._busy, _("Undo update"), tip)

    @property
    def _busy(self) -> str:
        return _("Wait until it is done, or cancel it.") if self.is_running else ""

    def _button(self, kind: str, text: str, tip: str, missing: str) -> Control:
        if self.is_running and self.kind == kind:
            title = _("Cancelling...") if self.is_cancelling else _("Cancel")
            return Control(title, _("Stop; nothing is changed."), not self.is_cancelling)
        return Control.unless(self.blocked or self._busy or missing, text, tip)


class UpdatePresenter(JobPresenter[UpdateState]):
    """What is shown is what is acted on; a job goes on for the nodes that it was begun with."""

    def __init__(self, logic: Any, host: UpdateHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, cast(Any, host), UpdateState(), changed)
        self._place = host
        self._subject: tuple[Any, ...] = ()
        self._plane = ""
        self._looking: Any = None
        self._scribbled: Any = None
        #: The last job that changed a segmentation, by the ID of that: it can be undone.
        self._undo: dict[str, Any] = {}

    # What happens around ----------------------------------------------------------------------------------------------

    def update(self, reason: str = "") -> None:
        """After each change in the panel; cheap unless another segmentation is chosen."""
        host = self._place
        self._put(blocked=reason or self._missing())
        if self._subject != (host.volume, host.segmentation, host.roi):
            self._subject = (host.volume, host.segmentation, host.roi)
            self._plane = ""
            if self._scribbled is not host.segmentation:
                self.end_scribbling()
            self._undo = {key: job for key, job in self._undo.items() if job.result().GetScene() is not None}
            self._put(text="", said="", is_understood=False, can_grow=False, asks_plane=None, asks_undo=None)
            self.look()
        self._show_undo()

    def look(self) -> None:
        """Find out what was drawn: reads voxels, so only when the user may have drawn."""
        self._look_no_more()
        if self.state.is_running:
            return
        host = self._place
        if self.state.blocked or not host.is_looked_at:
            self._put(text="", is_understood=False, can_grow=False, asks_plane=None)
            return
        try:
            job = self._logic.findDrawn(host.volume, host.segmentation, plane=self._plane, wait=False)
        except Exception as error:
            self._unreadable(error)
            return
        self._looking = job
        job.add_listener(self._on_look)
        self._on_look(job)

    def clear(self) -> None:
        """The scene goes."""
        self.cancel()
        self._look_no_more()
        self._undo.clear()
        self._subject = ()
        self._put(
            text="", said="", is_understood=False, can_grow=False, can_undo=False, asks_plane=None, asks_undo=None
        )

    def close(self) -> None:
        self._look_no_more()
        super().close()

    # What the user does -----------------------------------------------------------------------------------------------

    def press_update(self) -> None:
        """Update the scan, or cancel that."""
        if self._runs(UPDATE):
            self.press_cancel()
        elif self.state.update.is_enabled:
            self._start(UPDATE, self._logic.updateScan, plane=self._plane)

    def press_grow(self) -> None:
        """Grow from the scribbles, or cancel that."""
        if self._runs(GROW):
            self.press_cancel()
        elif self.state.grow.is_enabled:
            self._start(GROW, self._logic.growScribbles)

    def press_scribble(self) -> None:
        if self.state.scribble.is_enabled:
            self._scribbled = node = self._place.segmentation
            self._logic.addBackground(node)
            self._place.scribble()

    def end_scribbling(self) -> None:
        """The user is back, or draws elsewhere: a background in which nothing was drawn goes."""
        if self.state.is_running:
            return
        node, self._scribbled = self._scribbled, None
        if node is not None and node.GetScene() is not None:
            self._logic.removeBackground(node)

    def press_undo(self) -> None:
        """Take back the last change; asks first if the user has drawn since."""
        job = self._last()
        if job is None or self.state.is_running:
            return
        if not job.is_edited_since:
            self.undo_both()
            return
        text = _("{name} was edited since. Undoing the update takes those edits back, too.")
        options = Option("undo_both", _("Undo both")), Option("keep", _("Keep both"))
        self._put(asks_undo=Question(text.format(name=self._place.segmentation.GetName()), options))

    def undo_both(self) -> None:
        """The update, and what was edited since."""
        job, node = self._last(), self._place.segmentation
        self._put(asks_undo=None)
        if job is not None and not self.state.is_running:
            del self._undo[node.GetID()]
            with self._place.changing(node):
                job.undo()
            self._put(said=_("Undone: it is as it was before the update."))
            self._after(node)

    def keep(self) -> None:
        self._put(asks_undo=None)

    def axial(self) -> None:
        self._in_plane("axial")

    def coronal(self) -> None:
        self._in_plane("coronal")

    def sagittal(self) -> None:
        self._in_plane("sagittal")

    # ------------------------------------------------------------------------------------------------------------------

    def _look_no_more(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _in_plane(self, plane: str) -> None:
        self._plane = plane
        self._put(asks_plane=None)
        self.look()

    def _known(self) -> bool:
        """Whether a segmentation is chosen that is in the scene still."""
        node = self._place.segmentation
        return node is not None and node.GetScene() is not None

    def _missing(self) -> str:
        if self._place.volume is None:
            return _("Choose a scan.")
        if not self._known():
            return _("Segment the scan, or draw a structure on some of its slices, first.")
        return ""

    def _start(self, kind: str, call: Callable[..., Any], **how: Any) -> None:
        host = self._place

        def begin() -> Any:
            return call(
                host.volume,
                host.segmentation,
                roi=host.roi,
                device=host.device,
                changing=host.changing,
                wait=False,
                **how,
            )

        self._follow(begin, kind=kind, is_cancelling=False, said="", asks_plane=None, asks_undo=None)

    def _on_look(self, job: Any) -> None:
        if job is not self._looking or self._is_closed:
            return
        if not job.is_finished:
            # What is understood of it already holds until then: a press meanwhile is none too early.
            if not self.state.is_understood:
                self._put(text=_("Reading what was drawn..."), is_old_news=True)
            return
        self._looking = None
        if job.error is not None:
            self._unreadable(job.error)
            return
        found = job.result()
        asks = None
        if found.problem is None:
            text = understood_text(found)
            if self._place.roi is not None:
                text += " " + _("Nothing changes outside the chosen region.")
        else:
            text = error_text(found.problem)
            if found.is_ambiguous:
                planes = (("axial", _("Axial")), ("coronal", _("Coronal")), ("sagittal", _("Sagittal")))
                asks = Question(found.problem.message, tuple(Option(key, title) for key, title in planes))
        is_understood, strokes = found.problem is None, found.has_strokes
        is_old = not is_understood and not strokes
        self._put(text=text, is_understood=is_understood, is_old_news=is_old, can_grow=strokes, asks_plane=asks)

    def _unreadable(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self._put(text=error_text(error) if isinstance(error, MAESegmentError) else str(error))
            self._put(is_understood=False, is_old_news=False, can_grow=False)

    def _runs(self, kind: str) -> bool:
        return self.state.is_running and self.state.kind == kind

    def _on_job(self, job: Any) -> None:
        is_followed = job is self._job
        super()._on_job(job)
        if is_followed and job.is_finished and job.error is not None:
            self.look()

    def _progressed(self, job: Any) -> None:
        if job.is_finished:
            # What is in the nodes now is read anew.
            self._put(text="", is_understood=False, can_grow=False)
            return
        text = progress_text(job.state.name, job.stage, job.eta_s, job.position, is_starting=False)
        self._put(fraction=job.fraction, text=text, is_cancelling=bool(job.cancel_requested))

    def _succeeded(self, job: Any) -> None:
        node, text = job.result(), grown_text if self.state.kind == GROW else updated_text
        self._undo[node.GetID()] = job
        said = text(job.summary, time.monotonic() - self._begun_at)
        if node is not self._place.segmentation:
            said = f"{node.GetName()}: {said}"
        self._put(said="\n".join([said, *job.summary.warnings]))
        self._after(node)

    def _after(self, node: Any) -> None:
        self._place.changed(node)
        self._show_undo()
        self.look()

    def _last(self) -> Any:
        """The last change of what is shown, that can be undone; None if there is none."""
        return self._undo.get(self._place.segmentation.GetID()) if self._known() else None

    def _show_undo(self) -> None:
        self._put(can_undo=self._last() is not None)
