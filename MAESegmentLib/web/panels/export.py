"""Export: the chosen segmentation as a file that the browser saves."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3
from vtk import vtkCommand

from ...errors import NodeError
from ...translation import tr as _
from ..exporting import FORMATS, content_stamp, export, formats_of
from .panel import COMPACT, Page, Panel, busy, line, shown

#: Of a vtkSegmentation.
_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified", "SourceRepresentationModified")


class ExportPanel(Panel):
    prefix = "export"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        #: (object, tag) of the observers of what is offered to be exported.
        self._observers: list[tuple[Any, int]] = []
        #: Of what the file that is offered holds.
        self._stamp: tuple[Any, ...] = ()
        self.put(what="", busy="", url="", file="", note="", formats=[], with_empty=False)
        self.on_change("with_empty", lambda _value: self._withdraw())
        self.workspace.add_listener(self.update)

    def build(self) -> None:
        what, url = self.name("what"), self.name("url")
        html.Div(_("Segment a scan first, then save the result here."), v_if=(f"!{what}",))
        # The former file goes with the click: its button could still be pressed until the server replies.
        trigger = self.app.server.trigger_name(self.guarded(self._export))
        with html.Div(v_if=(what,)):
            several = "segment_results.length > 1"
            html.Div(shown(what), v_if=(f"!({several})",), classes="font-weight-medium mb-2", id="export-what")
            v3.VSelect(
                v_if=(several,),
                v_model=("segment_result",),
                items=("segment_results",),
                label=_("Segmentation"),
                id="export-select",
                classes="mb-3",
                **COMPACT,
            )
            for number, one in enumerate(FORMATS):
                can = (f"{self.name('formats')}.includes('{one.ending}')",)
                v3.VBtn(
                    one.title,
                    v_if=can,
                    id=f"export-{one.ending.strip('.').replace('.', '-')}",
                    click=f"{url} = ''; trigger('{trigger}', [{number}])",
                    disabled=(f"!!{self.name('busy')}",),
                    title=one.hint,
                    block=True,
                    variant="tonal",
                    classes="mb-2 justify-start",
                    prepend_icon="mdi-export",
                )
                html.Div(one.hint, v_if=can, classes="text-caption mb-3 mt-n1")
            v3.VCheckbox(
                v_model=(self.name("with_empty"),),
                label=_("Also structures in which nothing is drawn"),
                id="with-empty",
                disabled=(f"!!{self.name('busy')}",),
                classes="mb-2",
                **COMPACT,
            )
        busy(self.name("busy"))
        self.save_button(_("Save the file"), id="save-file", block=True, prepend_icon="mdi-download")
        line(f"{url} && {self.name('file')}", id="saved-name", classes="text-body-2 info-text mt-1")
        line(self.name("note"), classes="text-body-2 info-text mt-2")

    async def _export(self, number: int) -> None:
        if self.get("busy"):
            return
        scan, node = self.workspace.scan, self.workspace.segmentation
        if scan is None or node is None:
            raise NodeError(_("There is nothing to export."), _("Segment a scan first."))
        chosen = FORMATS[int(number)]
        self._withdraw()
        self.put(busy=_("Writing {what}").format(what=chosen.title))
        stamp = content_stamp(node)
        try:
            folder, with_empty = self.app.downloads.folder("segmentation"), bool(self.get("with_empty"))
            path, notes = await export(scan, node, chosen.ending, folder, with_empty=with_empty)
            if node is not self.workspace.segmentation or content_stamp(node) != stamp:
                raise NodeError(_("The segmentation was changed while it was written."), _("Export it again."))
            self._stamp = stamp
            url = self.app.downloads.offer(path, lambda: self._on_saved(node, stamp))
            self.put(url=url, file=path.name, note="\n".join(notes))
        finally:
            self.put(busy="")

    def update(self) -> None:
        """Offer what is chosen now; a file that was made of something else is withdrawn."""
        node = self.workspace.segmentation
        for observed, tag in self._observers:
            observed.RemoveObserver(tag)
        self._observers = []
        if node is not None:
            # Which event a change causes depends on the tool.
            content = node.GetSegmentation()
            events = [(content, getattr(content, name)) for name in _EVENTS]
            for observed, event in [(node, vtkCommand.ModifiedEvent), (content, vtkCommand.ModifiedEvent), *events]:
                self._observers.append((observed, observed.AddObserver(event, self._on_event)))
        self._withdraw()
        scan = self.workspace.scan
        formats = [one.ending for one in formats_of(scan)] if scan is not None else []
        self.put(what=node.GetName() if node is not None else "", formats=formats)

    def _on_event(self, *_event: Any) -> None:
        if self.get("url") and content_stamp(self.workspace.segmentation) != self._stamp:
            self._withdraw()

    def _on_saved(self, node: Any, stamp: tuple[Any, ...]) -> None:
        """The browser fetches the file."""
        self.app.unsaved.saved(node, stamp)
        if content_stamp(node) == stamp:
            self.run(self.app.unsaved.forget(node))

    def _withdraw(self) -> None:
        # What is being written looks for itself whether it is still true.
        if not self.get("busy"):
            self.app.downloads.withdraw("segmentation")
        self.put(url="", file="", note="")
