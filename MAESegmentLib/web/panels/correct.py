"""Correct: Slicer's segment editor on the result, or on an empty segmentation."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ... import mrml
from ...app.presenters.presenter import plain
from ...app.presenters.update import UpdatePresenter
from ...errors import NodeError
from ...translation import tr as _
from .correct_editor import EditorLogic, EditorUI
from .panel import Page, Panel, bar, line, shown
from .segment import SegmentPanel

#: How long a hand rests before surfaces and volumes are brought up to date.
_REST_S = 1.0


class CorrectPanel(Panel):
    """An `UpdateHost`, of what is chosen on the page."""

    prefix = "correct"

    def __init__(self, app: Page, segment: SegmentPanel) -> None:
        super().__init__(app)
        self._segment = segment
        self._editor = app.slicer_app.segmentation_editor
        self._tools = EditorLogic(app.server, app.slicer_app)
        self._edited: Any = None
        self._forget: Any = None
        self.is_looked_at = False
        self.fix = UpdatePresenter(self.logic, self, self._show_fix)
        self.put(what="", can_start=False)
        self._show_fix()
        self._editor.segmentation_modified.connect(self._on_edit)
        app.state.change("tab")(self._on_tab)
        self.workspace.add_listener(self.update)

    def build(self) -> None:
        what = self.name("what")
        with html.Div(v_if=(f"!{what}",)):
            html.Div(_("Segment a scan first, or draw from nothing:"), classes="mb-2")
            self.button(
                _("New empty segmentation"),
                self.start_empty,
                id="new-segmentation",
                disabled=(f"!{self.name('can_start')}",),
                size="default",
                block=True,
            )
        with html.Div(v_show=(what,)):
            html.Div(shown(what), classes="font-weight-medium mb-2", id="correct-what")
            self._tools.set_ui(EditorUI())
            self._build_fix()
            go = "tab = 'improve'"
            v3.VBtn(_("Add as corrected case"), id="go-improve", click=go, color="primary", block=True, classes="mt-2")

    def _build_fix(self) -> None:
        """The rest of the scan follows from what was drawn; the words are those of Slicer's panel."""
        fix, state = self.name("fix"), self.fix
        v3.VDivider(classes="my-3")
        html.Div(_("Fix this scan"), classes="text-subtitle-2 mb-2")
        line(f"{fix}.asks ? '' : {fix}.line", id="fix-text")
        self.question(f"{fix}.asks", state.act, "fix-ask")
        grow = {"size": "default", "classes": "flex-grow-1"}
        with html.Div(classes="d-flex flex-wrap ga-2 mt-2"):
            self.control(f"{fix}.update", state.press_update, id="update-scan", color="primary", **grow)
            self.control(f"{fix}.undo", state.press_undo, v_if=(f"{fix}.can_undo",), id="undo-update", **grow)
        with html.Div(classes="d-flex flex-wrap ga-2 mt-2"):
            self.control(f"{fix}.scribble", state.press_scribble, id="scribble", **grow)
            self.control(f"{fix}.grow", state.press_grow, id="grow", **grow)
        bar(f"100 * {fix}.fraction", v_if=(f"{fix}.is_running",), classes="mt-2")
        line(f"{fix}.said", id="fix-said", classes="text-body-2 info-text mt-2")
        v3.VDivider(classes="my-3")

    # What the presenter sees of the page ------------------------------------------------------------------------------

    @property
    def volume(self) -> Any:
        return self.workspace.scan.node if self.workspace.scan is not None else None

    @property
    def segmentation(self) -> Any:
        return self.workspace.segmentation

    @property
    def roi(self) -> Any:
        return self._segment.region

    @property
    def device(self) -> str:
        return self._segment.device

    def changing(self, segmentation: Any) -> AbstractContextManager[None]:
        return self._tools.changing(segmentation)

    def changed(self, segmentation: Any) -> None:
        if segmentation is self._edited:
            self._rested()
        elif (volume := mrml.volume_of(segmentation)) is not None:
            self.run(self.app.unsaved.keep(segmentation, volume))

    def scribble(self) -> None:
        self._tools.paint()

    # ------------------------------------------------------------------------------------------------------------------

    def start_empty(self) -> None:
        """A segmentation with the model's structures, in none of which anything is drawn."""
        scan, bundle = self.workspace.scan, self._segment.bundle
        if scan is None or bundle is None:
            raise NodeError(_("There is no scan to draw on."), _("Open a scan first."))
        name = _("{volume} segmentation").format(volume=scan.node.GetName())
        nothing = np.zeros((0, 0, 0), np.uint8)
        node = mrml.add_segmentation(scan.node, bundle.labels, nothing, (0, 0, 0), name=name)
        # A user draws it: nothing may take it for a result that can be replaced.
        mrml.forget_content(node)
        self.workspace.choose(node)

    def update(self) -> None:
        """Work on what is chosen now."""
        scan, node = self.workspace.scan, self.workspace.segmentation
        if node is not self._edited:
            self._keep_last_stroke()
        if node is None:
            self._edited = None
            self._editor.deactivate_effect()
        elif node is not self._edited and scan is not None:
            self._edited = node
            self._tools.edit(node, scan.node)
        self.put(what=node.GetName() if node is not None else "", can_start=scan is not None)
        self.fix.update()

    def _show_fix(self) -> None:
        self.put(fix=plain(self.fix.state))

    def _on_tab(self, tab: str, **_state: Any) -> None:
        """A brush that stays in the hand elsewhere would draw by accident."""
        self.is_looked_at = tab == "correct"
        if tab != "correct":
            self._editor.deactivate_effect()
            self.fix.end_scribbling()
            if self._edited is not None:
                self._tools.list_again()
        else:
            self.fix.look()
        # Its handles would be dragged instead.
        self._segment.show_box(tab != "correct")

    def _on_edit(self, *_changes: Any) -> None:
        """Some strokes follow each other: what is slow waits until the hand rests."""
        if self._edited is None or not self._tools.was_edited:
            return
        if self._forget is not None:
            self._forget()
        self._forget = self.session.loop.call_later(_REST_S, self._rested)

    def _rested(self) -> None:
        self._forget = None
        self._segment.after_edit()
        self.keep()
        self.fix.look()

    def keep(self) -> None:
        """Write what is drawn to where a restart finds it; another scan may be shown by now."""
        if self._edited is not None and (volume := mrml.volume_of(self._edited)) is not None:
            self.run(self.app.unsaved.keep(self._edited, volume))

    def _keep_last_stroke(self) -> None:
        """Without waiting until the hand rests."""
        if self._forget is not None:
            self._forget()
            self._forget = None
            self.keep()

    async def finish(self) -> None:
        """Keep the last stroke, too: the session ends."""
        self._keep_last_stroke()
        await asyncio.gather(*self._tasks)
