"""The page of one user: sections at the left, Slicer's views beside them, and what connects them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from aiohttp import web
from trame.app import get_server
from trame_slicer import module as trame_slicer_module
from trame_slicer.core import SlicerApp

from ..app.logic import Logic
from ..app.presenters.elements import Message
from ..app.presenters.presenter import plain
from . import page, slicer_scene
from .door.downloads import Downloads
from .door.folders import Folders
from .door.session_process import SessionConfig
from .door.uploads import Budget, Uploads
from .panels.cases import CasesPanel
from .panels.correct import CorrectPanel
from .panels.data import DataPanel
from .panels.export import ExportPanel
from .panels.improve import ImprovePanel
from .panels.learning import LearningPanel
from .panels.next_case import NextCasePanel
from .panels.segment import SegmentPanel
from .panels.versions import VersionsPanel
from .surfaces import Surfaces
from .views import FIRST_LAYOUT, Views
from .worker_session import WorkerSession
from .workspace import Workspace

_STATIC = Path(__file__).with_name("static")


class Application:
    """Made on the running event loop, once in a process: there is one scene."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.server = get_server("maesegment", client_type="vue3")
        self.state = self.server.state
        self.server.enable_module(trame_slicer_module)
        self.server.enable_module({"serve": {"maesegment": str(_STATIC)}, "scripts": ["maesegment/panel.js"]})
        slicer_app = SlicerApp()
        slicer_scene.install(slicer_app)
        work = Path(config.work)
        self.session = WorkerSession(work / "jobs")
        self.logic = Logic(self.session)
        self.folders = Folders(config.volumes, config.folders)
        self.uploads = Uploads(work / "uploads", Budget(work, config.upload_bytes, config.reserve_bytes))
        self.downloads = Downloads(work / "export")
        self.surfaces = Surfaces(work / "surfaces")
        self.views = Views(self.server, slicer_app)
        self.workspace = Workspace(slicer_app.display_manager)
        self._set_up_state()
        self.data = DataPanel(self)
        self.segment = SegmentPanel(self)
        self.correct = CorrectPanel(self, slicer_app)
        self.improve = ImprovePanel(self)
        self.cases = CasesPanel(self)
        self.learning = LearningPanel(self)
        self.versions = VersionsPanel(self)
        self.next_case = NextCasePanel(self)
        self.export = ExportPanel(self)
        page.build(self)
        self.segment.refresh_models()
        self.cases.update()
        self.versions.update()
        self.next_case.update()
        self.server.controller.on_server_ready.add(self._on_ready)

    def routes(self) -> list[web.RouteDef]:
        """What the session's server answers beside the page itself."""
        return [*self.uploads.routes(), *self.downloads.routes()]

    async def close(self) -> None:
        """End the worker."""
        await self.session.close()

    def say(self, text: str, *, kind: str = "info") -> None:
        """A line at the top of the panel; "" removes it. `kind` is info, success, warning or error."""
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

    def _set_up_state(self) -> None:
        icon = Path(__file__).with_name("static") / "icon.png"
        self.state.update(
            {
                "trame__title": "MAESegment",
                "trame__template_error": page.LOST,
                # Not trame-slicer's, which is fetched from the internet.
                "trame__favicon": f"data:image/png;base64,{base64.b64encode(icon.read_bytes()).decode()}",
                "tab": "data",
                "notice": self.config.notice,
                "notice_kind": "warning" if self.config.notice else "info",
                "notice_offers": [],
                "layout": FIRST_LAYOUT,
                "layouts": self.views.layouts,
            }
        )
        self.state.change("layout")(lambda layout, **_state: self.views.set_layout(layout))

    def _on_ready(self, **_state: Any) -> None:
        self.data.run(self._open_what_was_given())

    async def _open_what_was_given(self) -> None:
        """The first of the scans named on the command line; and what an earlier session left to be decided."""
        self.session.watch.look_for_new(self.learning.look_for_runs)
        self.learning.look_for_runs()
        if self.config.volumes or self.config.folders:
            await self.data.look_for_files()
        if self.config.volumes:
            await self.data.open_listed(self.folders.named[0])
