"""The page of one user: its sections, and what connects them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from aiohttp import web

from . import page
from .door.session_process import SessionConfig
from .panels.correct import CorrectPanel
from .panels.data import DataPanel
from .panels.export import ExportPanel
from .panels.improve import ImprovePanel
from .panels.panel import Page
from .panels.segment import SegmentPanel
from .views import FIRST_LAYOUT

_STATIC = Path(__file__).with_name("static")


class Application(Page):
    def __init__(self, config: SessionConfig) -> None:
        super().__init__(config)
        self.server.enable_module({"serve": {"maesegment": str(_STATIC)}, "scripts": ["maesegment/panel.js"]})
        icon = base64.b64encode((_STATIC / "icon.png").read_bytes()).decode()
        self.state.update(
            {
                "trame__title": "MAESegment",
                "trame__template_error": page.LOST,
                # Not trame-slicer's, which is fetched from the internet.
                "trame__favicon": f"data:image/png;base64,{icon}",
                "tab": "data",
                "panel_open": True,
                "notice": config.notice,
                "notice_kind": "warning" if config.notice else "info",
                "notice_offers": [],
                "windows": 1,
                "time_zone": "",
                "layout": FIRST_LAYOUT,
                "layouts": self.views.layouts,
            }
        )
        self.state.change("layout")(lambda layout, **_state: self.views.set_layout(layout))
        self.segment = SegmentPanel(self)
        self.data = DataPanel(self, self.segment)
        self.correct = CorrectPanel(self, self.segment)
        self.improve = ImprovePanel(self, self.segment, self.data)
        self.export = ExportPanel(self)
        page.build(self)
        self.segment.refresh_models()
        self.improve.refresh()
        self.server.controller.on_server_ready.add(self._on_ready)

    def routes(self) -> list[web.RouteDef]:
        """What the session's server serves beside the page itself."""
        return [*self.uploads.routes(), *self.downloads.routes()]

    async def close(self) -> None:
        """Keep what was drawn and end the worker."""
        await self.correct.finish()
        await self.session.close()

    def show_windows(self, count: int) -> None:
        """How many windows of the browser show this page."""
        with self.state as state:
            state.windows = count

    def _on_ready(self, **_state: Any) -> None:
        self.data.run(self._open_what_was_given())

    async def _open_what_was_given(self) -> None:
        """The first of the scans named on the command line; and what an earlier session left to be decided."""
        self.session.watch.look_for_new(self.improve.finetune.look_for_runs)
        self.improve.finetune.look_for_runs()
        if self.config.volumes or self.config.folders:
            await self.data.look_for_files()
        if self.folders.named:
            await self.data.open_listed(self.folders.named[0])
        await self.data.say_what_was_kept()
