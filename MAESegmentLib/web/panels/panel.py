"""What the sections of the page share: what they work on, their state in the browser, and the usual widgets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trame.app import get_server
from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_slicer import module as trame_slicer_module
from trame_slicer.core import SlicerApp

from ...app.logic import Logic
from ...app.presenters.elements import Message
from ...app.presenters.presenter import plain
from ...app.texts.messages import error_text
from ...jobs.runner import logged
from ...storage.user_folders import user_data_folder
from ...translation import tr as _
from .. import slicer_scene
from ..door.downloads import Downloads
from ..door.folders import Folders
from ..door.session_process import SessionConfig
from ..door.uploads import Budget, Uploads
from ..surfaces import Surfaces
from ..unsaved import Unsaved
from ..views import Views
from ..worker_session import WorkerSession
from ..workspace import Workspace

COMPACT = {"density": "compact", "hide_details": True}
_ICON: dict[str, Any] = {"variant": "text", "density": "compact", "size": "small"}
_TEXT = "text-body-2 info-text"


class Page:
    """What every section may use. Made on the running event loop, once in a process: there is one scene."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.server = get_server("maesegment", client_type="vue3")
        self.state = self.server.state
        self.server.enable_module(trame_slicer_module)
        self.slicer_app = SlicerApp()
        slicer_scene.install(self.slicer_app)
        work = Path(config.work)
        choices = user_data_folder() / "choices" / f"{config.owner}.json"
        self.session = WorkerSession(work / "jobs", choices)
        self.logic = Logic(self.session)
        self.folders = Folders(config.volumes, config.folders)
        self.uploads = Uploads(work / "uploads", Budget(work, config.upload_bytes, config.reserve_bytes))
        self.downloads = Downloads(work / "export")
        self.surfaces = Surfaces(work / "surfaces")
        self.unsaved = Unsaved(user_data_folder() / "unsaved" / config.owner)
        self.views = Views(self.server, self.slicer_app)
        self.workspace = Workspace(self.slicer_app.display_manager)

    def say(self, text: str, *, kind: str = "info") -> None:
        """A line at the top of the page; "" removes it. `kind` is info, success, warning or error."""
        self.show(Message(text, kind=kind))

    def show(self, message: Message) -> None:
        """The same, with what the user can do about it."""
        with self.state as state:
            state.notice, state.notice_kind = message.text, message.kind
            state.notice_offers = plain(message.options)

    def go_to(self, tab: str) -> None:
        """Show a section."""
        with self.state as state:
            state.tab = tab


class Panel:
    """A section: `build` makes its widgets once, methods do what they ask for. State names begin with `prefix`."""

    prefix = ""

    def __init__(self, app: Page) -> None:
        self.app = app
        self.workspace = app.workspace
        self.logic = app.logic
        self.session = app.session
        self._tasks: set[asyncio.Task[Any]] = set()

    # State ------------------------------------------------------------------------------------------------------------

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

    # Acts -------------------------------------------------------------------------------------------------------------

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
        """For `click`: as `act`, but errors are shown in the panel; what was said of the act before is gone."""

        def call(*arguments: Any) -> None:
            self.app.say("")
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

    # Widgets; expressions are those of the page's own language, over the state ----------------------------------------

    def button(self, text: str, act: Callable[..., Any], arguments: str = "", **how: Any) -> Any:
        """`arguments` is an expression for each argument of `act`, with commas."""
        click: Any = (self.guarded(act), f"[{arguments}]") if arguments else self.guarded(act)
        return v3.VBtn(text or None, click=click, **{"size": "small", "variant": "tonal", **how})

    def main_button(self, text: str, act: Callable[..., Any], **how: Any) -> Any:
        return self.button(text, act, **{"size": "default", "variant": "flat", "color": "primary", **how})

    def control(self, state: str, act: Callable[..., Any], **how: Any) -> Any:
        """A button that shows the `Control` in `state`."""
        return self.button(
            shown(f"{state}.text"), act, disabled=(f"!{state}.is_enabled",), title=(f"{state}.tip",), **how
        )

    def icon_button(
        self, icon: Any, title: str, act: Callable[..., Any], arguments: str, label: str, **how: Any
    ) -> None:
        """`title` and `label`, which is read aloud, are expressions."""
        self.button("", act, arguments, icon=icon, title=(title,), raw_attrs=[f':aria-label="{label}"'], **_ICON | how)

    def question(self, question: str, act: Callable[[str], Any], element: str) -> None:
        """A `Question` in the state, while there is one; `act(key)` does what the option of a button says."""
        with card(question, color="primary", id=element):
            line(f"{question}.text", id=f"{element}-text")
            with html.Div(classes="d-flex flex-wrap ga-2 mt-2"):
                self.button(
                    shown("option.text"),
                    act,
                    "option.key",
                    v_for=f"option in {question}.options",
                    key="option.key",
                    id=("option.key",),
                    title=("option.tip",),
                    variant="outlined",
                )

    def select(self, key: str, items: Any, **how: Any) -> None:
        """`items` is a list of the state by its key, or (value, title) of each."""
        if not isinstance(items, str):
            self.put(**{f"{key}_items": options(items)})
            items = f"{key}_items"
        v3.VSelect(v_model=(self.name(key),), items=(self.name(items),), **COMPACT, **how)

    def save_button(self, text: str, **how: Any) -> None:
        """For the file at `url`, called `file`, while there is one."""
        download = f':download="{self.name("file")}"'
        v3.VBtn(text, v_if=(self.name("url"),), href=(self.name("url"),), raw_attrs=[download], color="primary", **how)


def options(pairs: Iterable[tuple[Any, str]]) -> list[dict[str, Any]]:
    """Of (value, title), for a list that drops down."""
    return [{"title": title, "value": value} for value, title in pairs]


def shown(expression: str) -> str:
    """The value of an expression, in a text."""
    return f"{{{{ {expression} }}}}"


def quoted(text: str) -> str:
    """A text as an expression; translations may have apostrophes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace('"', "&quot;") + "'"


def line(expression: str, classes: str = _TEXT, **how: Any) -> None:
    """A text, line by line, unless it is empty."""
    html.Div(shown(expression), v_if=(expression,), classes=classes, **how)


def caption(expression: str, **how: Any) -> None:
    line(expression, "text-caption mt-1", **how)


def busy(expression: str, **how: Any) -> None:
    """What is being done, beside a turning circle; nothing while it is empty."""
    with html.Div(v_if=(expression,), classes="d-flex align-center mt-2"):
        v3.VProgressCircular(indeterminate=True, size=18, width=2, classes="mr-2")
        html.Span(shown(expression), **how)


def bar(percent: str, **how: Any) -> None:
    v3.VProgressLinear(model_value=(percent,), **{"color": "primary", "height": 8, "rounded": True, **how})


def card(condition: str, **how: Any) -> Any:
    """A question, while `condition` holds."""
    return v3.VCard(v_if=(condition,), variant="tonal", **{"classes": "pa-3 mt-2", **how})


def table(rows: str, columns: Iterable[str], titles: str = "", **how: Any) -> None:
    """A row for each of `rows`, unless there are none; `titles` is an expression for those of the columns."""
    with v3.VTable(v_if=(f"{rows}.length",), density="compact", **{"classes": "result-table mt-2", **how}):
        if titles:
            with html.Thead(), html.Tr():
                html.Th(shown("title"), v_for=f"title in {titles}", key="title")
        with html.Tbody(), html.Tr(v_for=f"(row, number) in {rows}", key="number"):
            for column in columns:
                html.Td(shown(f"row.{column}"))


@contextmanager
def dialog(key: str, title: str, **how: Any) -> Iterator[None]:
    """Over the page while `key` of the state is true, with a button that closes it; Escape does, too."""
    with (
        v3.VDialog(v_model=(key,), max_width=860, scrollable=True, raw_attrs=[f'aria-label="{title}"']),
        v3.VCard(**how),
    ):
        with html.Div(classes="d-flex align-center pl-6 pr-2 pt-2"):
            html.Div(title, classes="text-h6 flex-grow-1")
            close = [f'aria-label="{_("Close")}"', f'title="{_("Close")}"']
            v3.VBtn(icon="mdi-close", click=f"{key} = false", variant="text", raw_attrs=close)
        with v3.VCardText():
            yield
