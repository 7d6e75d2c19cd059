"""Segmenting: the one button, how far it is, how it ends, and what can be done about an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...bundle import Bundle
from ...errors import MAESegmentError
from ...jobs.runner import logged
from ...translation import tr as _
from ..texts.messages import error_text, log_text, overall_fraction, progress_text
from .elements import Control, Message
from .remedies import OfferContext, Remedy, offers_for
from .speed import SpeedPresenter

#: Nobody reads faster; drawing more often would only cost.
_REDRAW_EVERY_S = 0.1
#: Answers to a question about just what is chosen, and what `start` takes for each.
_AGREEMENTS = {
    Remedy.REPLACE_OUTPUT: "overwrite",
    Remedy.NEW_OUTPUT: "anew",
    Remedy.ALLOW_MISMATCH: "allow_mismatch",
    Remedy.WITHOUT_BOX: "without_box",
}


@dataclass(frozen=True)
class SegmentState:
    """`fraction` is 0..1, None where it is not known how long a step takes; `text` is the stage."""

    button: Control
    is_running: bool
    is_cancelling: bool = False
    fraction: float | None = 0.0
    text: str = ""


class SegmentHost(Protocol):
    """The panel around: what is chosen in it, and what it does for this part."""

    @property
    def bundle(self) -> Bundle | None: ...

    @property
    def nodes(self) -> Sequence[Any]:
        """The chosen volume of each channel of the model."""

    @property
    def output(self) -> Any:
        """The segmentation node to fill, unless it is of another volume, region or model; None for a new one."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments of `process`, without the region."""

    @property
    def region(self) -> Any:
        """The ROI node; None for the whole volume."""

    @property
    def blocked(self) -> str:
        """Why nothing at all can be started now; "" if something can."""

    @property
    def missing(self) -> str:
        """What is still to be chosen; "" if nothing is."""

    @property
    def problem(self) -> MAESegmentError | None:
        """Why what is chosen cannot be segmented."""

    @property
    def offer_context(self) -> OfferContext: ...

    @property
    def remedies(self) -> Mapping[Remedy, Callable[[], Any]]:
        """What this panel can do about an error, beside starting again; others are not offered."""

    def set_windows(self, overlap: float, mirroring: str) -> None:
        """Choose these, as under Advanced: 0 and "model" leave it to the model."""

    def is_starting(self) -> bool:
        """Whether the worker process is being started."""

    def show(self, message: Message) -> None: ...

    def show_result(self, job: Any) -> None:
        """A segmentation succeeded."""


class SegmentPresenter:
    """One thing runs at a time. `changed` is called after every change, `progressed` when only the progress is new."""

    def __init__(
        self, logic: Any, host: SegmentHost, changed: Callable[[], None], progressed: Callable[[], None]
    ) -> None:
        """`logic` has `process` and a `session`."""
        #: A `SegmentationJob`, a `BatchJob`, or None.
        self.job: Any = None
        self.message = Message()
        self.host = host
        self.speed = SpeedPresenter(host)
        self._logic = logic
        self._changed = changed
        self._progressed = progressed
        self._is_open = True
        self._again: Callable[[], None] | None = None
        self._scene_was_closed = False
        self._problem_shown = ""
        #: A second press within this time is that of a double click, not of Cancel.
        self.double_click_s = 0.5
        self._begun_at = self._drawn_at = 0.0
        self._begun_with: list[Any] = []
        self._fraction: float | None = 0.0
        self._text = ""
        #: What the user has agreed to, and of which choice.
        self._agreed: dict[str, bool] = {}
        self._asked: list[Any] = []
        #: What was chosen when the message was shown.
        self._shown_for: list[Any] = []

    # What is shown ----------------------------------------------------------------------------------------------------

    @property
    def general_reason(self) -> str:
        """Why nothing can be started now; "" if something can."""
        if self.host.blocked:
            return self.host.blocked
        if self.job is not None:
            return _("A segmentation is running.")
        return "" if self.host.bundle is not None else _("Choose a model.")

    @property
    def reason(self) -> str:
        """Why Segment cannot be pressed; "" if it can."""
        problem = self.host.problem
        return self.general_reason or self.host.missing or (error_text(problem) if problem is not None else "")

    def state(self) -> SegmentState:
        if self.job is None:
            reason = self.reason
            return SegmentState(Control.unless(reason, _("&Segment"), "" if reason else self._tip()), is_running=False)
        is_cancelling = bool(self.job.cancel_requested)
        button = Control(
            _("Cancelling...") if is_cancelling else _("C&ancel"),
            _("Segmenting stops after the current window.") if is_cancelling else _("Stop; nothing is changed."),
            not is_cancelling,
        )
        return SegmentState(button, True, is_cancelling, self._fraction, self._text)

    def check_inputs(self) -> None:
        """Explain a volume that cannot be used as soon as it is chosen, not when the button is pressed; what was asked
        about another choice is gone."""
        if self.job is not None:
            return
        if _AGREEMENTS.keys() & {one.key for one in self.message.options} and self._chosen() != self._shown_for:
            self.say("")
        problem = self.host.problem
        text = error_text(problem) if problem is not None else ""
        if text == self._problem_shown:
            return
        if problem is not None:
            self._show(self._message_of(problem))
        elif self.message.text == self._problem_shown:
            self.say("")
        self._problem_shown = text

    # Intents ----------------------------------------------------------------------------------------------------------

    def press(self) -> None:
        """Segment, or cancel what runs."""
        if self.job is None:
            self.start()
        elif time.monotonic() - self._begun_at >= self.double_click_s:
            self.job.cancel()
            self._changed()

    def start(
        self,
        *,
        overwrite: bool = False,
        anew: bool = False,
        allow_mismatch: bool = False,
        without_box: bool = False,
    ) -> None:
        """Segment what is chosen; an output that the user edited is replaced only with `overwrite`, `anew` makes a
        segmentation more in any case. A scan that the model cannot fit is segmented only with `allow_mismatch`, one
        that is much larger than the box that the model wants only with `without_box`."""
        if reason := self.reason:
            self.say(reason, kind="warning")
            return
        host = self.host

        def begin(callback: Callable[[Any], None]) -> Any:
            return self._logic.process(
                self._scan,
                host.bundle,
                wait=False,
                callback=callback,
                outputSegmentation=None if anew else self._output(),
                overwrite=overwrite,
                roi=host.region,
                allowMismatch=allow_mismatch,
                askForBox=not without_box,
                **host.options,
            )

        self._agreed = {
            "overwrite": overwrite,
            "anew": anew,
            "allow_mismatch": allow_mismatch,
            "without_box": without_box,
        }
        self._asked = self._chosen()
        self.speed.begin()
        self.launch(begin, self._on_job, self._start_as_agreed)

    def start_again(self) -> None:
        """What was started last, with the settings as they are now."""
        if self._again is not None and not self.general_reason:
            self._again()

    def apply(self, remedy: Remedy) -> None:
        """Do what a button beside an error says."""
        self.say("")
        if remedy is Remedy.RETRY:
            self.start_again()
        elif remedy in _AGREEMENTS:
            self._start_as_agreed(**{_AGREEMENTS[remedy]: True})
        elif remedy in self.host.remedies:
            try:
                self.host.remedies[remedy]()
            except MAESegmentError as error:
                self.show_error(error)
                return
            if remedy in (Remedy.USE_CPU, Remedy.USE_AUTO_DEVICE):
                self.start_again()
            elif remedy is Remedy.HARDEN and not self.reason:
                self.start()

    def say(self, text: str, *, kind: str = "info") -> None:
        """Show a message without offers; "" removes what is shown."""
        self._show(Message(text, kind=kind))

    def show_error(
        self, error: MAESegmentError, details: Mapping[str, Any] | None = None, *, elsewhere: str = ""
    ) -> None:
        """With what the user can do about it. `elsewhere` is the scan that it is of, if another one is chosen now:
        then nothing is offered that would begin with that one."""
        self._logic.session.log.add("error", log_text(error))
        message = self._message_of(error, details)
        if elsewhere:
            text = _("{scan} could not be segmented: {reason}").format(scan=elsewhere, reason=message.text)
            log = tuple(one for one in message.options if one.key is Remedy.SHOW_LOG)
            message = replace(message, text=text, options=log)
        self._show(message)

    def scene_start_close(self) -> None:
        """What is running is cancelled, and what is shown of it goes, too."""
        self._scene_was_closed = self.job is not None
        if self.job is not None:
            self.job.cancel()
        self.say("")
        self._problem_shown = ""
        self._again = None

    def close(self) -> None:
        """The panel goes away, and nothing is shown any more."""
        self._is_open = False
        if self.job is not None:
            self.job.cancel()

    # For what else runs here ------------------------------------------------------------------------------------------

    def launch(self, begin: Callable[[Any], Any], listener: Callable[[Any], None], again: Callable[[], None]) -> None:
        """`begin(callback)` starts a job, `listener(job)` hears of its changes, `again` starts the same once more."""
        self.say("")
        self._problem_shown = ""
        self._again = again
        self._scene_was_closed = False
        self._fraction, self._text, self._drawn_at = 0.0, "", 0.0
        self._begun_with = [*self.host.nodes]
        try:
            job = begin(lambda job: listener(job) if self._is_open else None)
        except Exception as error:
            self.show_error(logged(error))
        else:
            if not job.is_finished:
                self.job, self._begun_at = job, time.monotonic()
                listener(job)
        self._changed()

    def show_progress(self, job: Any, prefix: str = "") -> bool:
        """Note where `job` stands; False if that was done a moment ago and nothing but a figure has changed."""
        is_starting = self.host.is_starting()
        text = prefix + progress_text(job.state.name, job.stage, job.eta_s, job.position, is_starting=is_starting)
        now = time.monotonic()
        if now - self._drawn_at < _REDRAW_EVERY_S and text.partition(",")[0] == self._text.partition(",")[0]:
            return False
        self._drawn_at, self._text = now, text
        self._fraction = None if is_starting else overall_fraction(job.stage, job.fraction)
        self._progressed()
        return True

    def finish(self, text: str) -> None:
        """What ran is over, with this sentence; another one if that is because the scene was closed."""
        self.job = None
        closed, self._scene_was_closed = self._scene_was_closed, False
        self.say(_("The scene was closed, so the segmentation was cancelled.") if closed else text)
        self._changed()

    # ------------------------------------------------------------------------------------------------------------------

    def _chosen(self) -> list[Any]:
        return [*self.host.nodes, self.host.bundle, self.host.output, self.host.region]

    def _start_as_agreed(self, **more: bool) -> None:
        """Of what the user was asked about; what was chosen since is asked about anew."""
        is_same = self._chosen() == self._asked
        self.start(**({**self._agreed, **more} if is_same else {}))

    @property
    def _scan(self) -> Any:
        """The volume, or those of all channels."""
        nodes = [*self.host.nodes]
        return nodes if len(nodes) > 1 else nodes[0]

    def _output(self) -> Any:
        """Where the result would go now."""
        host = self.host
        return self._logic.outputFor(host.output, self._scan, host.bundle, host.region)

    def _tip(self) -> str:
        """Says so where the result does not go to what is chosen as the output."""
        tip = _("Segment the scan with this model. You can keep working meanwhile.")
        chosen = self.host.output
        try:
            output = self._output()
        except MAESegmentError:  # which is said when it starts
            output = chosen
        if output is chosen:
            return tip
        where = _("a new segmentation") if output is None else output.GetName()
        text = _("{name} is of another volume, region or model and stays as it is: the result goes to {where}.")
        return f"{tip} {text.format(name=chosen.GetName(), where=where)}"

    def _on_job(self, job: Any) -> None:
        is_elsewhere = [*self.host.nodes] != self._begun_with
        if not job.is_finished:
            self.show_progress(job)
        elif job.state.name == "CANCELLED":
            text = job.error.message if job.error is not None else _("Cancelled.")
            self.finish(_("{scan}: {reason}").format(scan=job.name, reason=text) if is_elsewhere else text)
        else:
            self.job = None
            try:
                if job.state.name == "DONE":
                    self.speed.end(job.summary)
                    self.host.show_result(job)
                    if is_elsewhere:
                        text = _("{scan} is segmented; choose it to see the result.").format(scan=job.name)
                        self.say(text, kind="success")
                else:
                    self.show_error(job.error, job.details, elsewhere=job.name if is_elsewhere else "")
            finally:
                self._changed()

    def _message_of(self, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> Message:
        able = {Remedy.RETRY, *_AGREEMENTS, *self.host.remedies}
        offers = offers_for(error, details or error.details, self.host.offer_context)
        return Message(error_text(error), tuple(one for one in offers if one.key in able), "error")

    def _show(self, message: Message) -> None:
        self.message = message
        self._shown_for = self._chosen() if message.options else []
        self.host.show(message)
