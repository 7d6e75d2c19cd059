"""Export: the segmentation as a file that the browser saves."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..errors import NodeError
from .exporting import FORMATS, export
from .panel import Panel


class ExportPanel(Panel):
    prefix = "export"

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        app.state.update(
            {
                self.name("what"): "",
                self.name("busy"): "",
                self.name("url"): "",
                self.name("file"): "",
                self.name("note"): "",
            }
        )
        self.workspace.add_listener(self.update)

    def build(self) -> None:
        html.Div("Segment a scan first, then save the result here.", v_if=(f"!{self.name('what')}",))
        with html.Div(v_if=(self.name("what"),)):
            html.Div(f"{{{{ {self.name('what')} }}}}", classes="font-weight-medium mb-2")
            for number, one in enumerate(FORMATS):
                v3.VBtn(
                    one.title,
                    id=f"export-{one.ending.strip('.').replace('.', '-')}",
                    click=(self.guarded(self._export), f"[{number}]"),
                    disabled=(f"!!{self.name('busy')}",),
                    title=one.hint,
                    block=True,
                    variant="tonal",
                    classes="mb-2 justify-start",
                    prepend_icon="mdi-export",
                )
                html.Div(one.hint, classes="text-caption mb-3 mt-n1")
        with html.Div(v_if=(self.name("busy"),), classes="d-flex align-center"):
            v3.VProgressCircular(indeterminate=True, size=18, width=2, classes="mr-2")
            html.Span(f"{{{{ {self.name('busy')} }}}}")
        with html.Div(v_if=(self.name("url"),)):
            v3.VBtn(
                "Save the file",
                id="save-file",
                href=(self.name("url"),),
                raw_attrs=[f':download="{self.name("file")}"'],
                color="primary",
                block=True,
                prepend_icon="mdi-download",
            )
            html.Div(f"{{{{ {self.name('file')} }}}}", classes="text-body-2 info-text mt-1", id="saved-name")
        html.Div(f"{{{{ {self.name('note')} }}}}", v_if=(self.name("note"),), classes="text-body-2 info-text mt-2")

    async def _export(self, number: int) -> None:
        scan, node = self.workspace.scan, self.workspace.segmentation
        if scan is None or node is None:
            raise NodeError("There is nothing to export.", "Segment a scan first.")
        chosen = FORMATS[int(number)]
        self.put(busy=f"Writing {chosen.title}", url="", note="")
        try:
            path, notes = await export(scan, node, chosen.ending, self.app.downloads.folder("segmentation"))
            self.put(url=self.app.downloads.offer(path), file=path.name, note="\n".join(notes))
        finally:
            self.put(busy="")

    def update(self) -> None:
        node = self.workspace.segmentation
        self.put(what=node.GetName() if node is not None else "", url="", note="")
