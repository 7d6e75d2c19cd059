"""What the sections of the panel have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.logic import Logic
from ...app.presenters.elements import Message
from ...app.presenters.presenter import CaseHost
from ...app.texts.messages import error_text
from ...bundle import Bundle
from ...cases.records import CaseRecord
from ...images.labels import Label
from ...jobs.runner import logged
from ..door.downloads import Downloads
from ..door.folders import Folders, Scan
from ..door.session_process import SessionConfig
from ..door.uploads import Uploads
from ..surfaces import Surfaces
from ..views import Views
from ..worker_session import WorkerSession
from ..workspace import Workspace


class Segmenting(Protocol):
    """What other sections use of the section Segment."""

    @property
    def bundle(self) -> Bundle | None:
        """The chosen model."""

    @property
    def device(self) -> str: ...

    @property
    def region(self) -> Any:
        """The chosen ROI node; None for the whole scan."""

    def refresh_models(self) -> None: ...
    def use_model(self, name: str) -> None: ...
    def offer_sample_boxes(self) -> None: ...
    def show_box(self, visible: bool) -> None: ...
    def after_edit(self) -> None: ...


class Cases(Protocol):
    """What other sections use of the corrected cases."""

    @property
    def records(self) -> Sequence[CaseRecord]: ...

    @property
    def labels(self) -> Sequence[Label]:
        """Those that the cases define beside the model's."""

    def refresh(self) -> None: ...

    def set_storing(self, is_storing: bool) -> None: ...

    def removed(self, case: str) -> None: ...


class Learning(Protocol):
    """What other sections use of the fine-tuning."""

    def update(self) -> None: ...


class Versions(Protocol):
    """What other sections use of the versions."""

    def update(self) -> None: ...
    def compare(self, first: str, second: str) -> None: ...


class Section(Protocol):
    """A part of the page."""

    def build(self) -> None: ...


class Data(Protocol):
    """What other sections use of the section Data."""

    async def open_listed(self, scan: Scan) -> None:
        """Read a scan of the server's disk."""


class Page(Protocol):
    """What a section sees of the page it is on; the sections know each other only through it."""

    #: trame's state and server.
    state: Any
    server: Any
    config: SessionConfig
    session: WorkerSession
    logic: Logic
    workspace: Workspace
    views: Views
    surfaces: Surfaces
    folders: Folders
    uploads: Uploads
    downloads: Downloads

    @property
    def segment(self) -> Segmenting: ...

    @property
    def data(self) -> Data: ...

    @property
    def next_case(self) -> Section: ...

    @property
    def improve(self) -> CaseHost: ...

    @property
    def cases(self) -> Cases: ...

    @property
    def learning(self) -> Learning: ...

    @property
    def versions(self) -> Versions: ...

    def say(self, text: str, *, kind: str = "info") -> None:
        """A line at the top of the page; "" removes it. `kind` is info, success, warning or error."""

    def show(self, message: Message) -> None:
        """The same, with what the user can do about it."""

    def go_to(self, tab: str) -> None:
        """Show a section."""


class Panel:
    """A section: `build` makes its widgets once, methods do what they ask for. State names begin with `prefix`."""

    prefix = ""

    def __init__(self, app: Page) -> None:
        self.app = app
        self.workspace = app.workspace
        self.logic = app.logic
        self.session = app.session
        self._tasks: set[asyncio.Task[Any]] = set()

    def name(self, key: str) -> str:
        """Of a value in the state that the page shares."""
        return f"{self.prefix}_{key}"

    def get(self, key: str) -> Any:
        return self.app.state[self.name(key)]

    def put(self, **values: Any) -> None:
        """Set values and send them to the browser now."""
        with self.app.state as state:
            for key, value in values.items():
                state[self.name(key)] = value

    def on_change(self, key: str, callback: Callable[[Any], Any]) -> None:
        """`callback(value)` when the user or the program changes a value."""
        name = self.name(key)
        self.app.state.change(name)(lambda **state: callback(state[name]))

    def build_question(self, question: str, act: Callable[[str], Any], element: str) -> None:
        """A `Question` in the state, while there is one; `act(key)` does what the option of a button says."""
        with v3.VCard(v_if=(question,), variant="tonal", color="primary", classes="pa-3 mt-2", id=element):
            html.Div(f"{{{{ {question}.text }}}}", classes="text-body-2 info-text", id=f"{element}-text")
            with html.Div(classes="d-flex flex-wrap ga-2 mt-2"):
                v3.VBtn(
                    "{{ option.text }}",
                    v_for=f"option in {question}.options",
                    key="option.key",
                    id=("option.key",),
                    title=("option.tip",),
                    click=(self.guarded(act), "[option.key]"),
                    size="small",
                    variant="outlined",
                )

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something that takes time; errors are shown in the panel."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.failed(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def guarded(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """For `click`: as `act`, but errors are shown in the panel."""

        def call(*arguments: Any) -> None:
            try:
                outcome = act(*arguments)
            except Exception as error:
                self.failed(error)
                return
            if isinstance(outcome, Awaitable):
                self.run(outcome)  # type: ignore[arg-type]

        return call

    def failed(self, error: Exception) -> None:
        """Show what happened and what to do; an unexpected error goes to the log, too."""
        known = logged(error)
        logging.info("MAESegment: %s", known)
        self.app.say(error_text(known), kind="error")
