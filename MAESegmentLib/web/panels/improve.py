"""Improve: cases, fine-tuning, versions and the next case, one below the other; the host of their presenters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.next_case import FOLDER
from ...bundle import Bundle
from ...errors import NodeError
from ...mrml.case_nodes import stored_volumes
from .panel import Panel


class ImprovePanel(Panel):
    """`app.presenters.presenter.CaseHost`, of what is chosen on the page. A scan has one channel here."""

    prefix = "improve"

    @property
    def bundle(self) -> Bundle | None:
        return self.app.segment.bundle

    @property
    def volume(self) -> Any:
        return self.workspace.scan.node if self.workspace.scan is not None else None

    @property
    def scan(self) -> Any:
        return self.volume

    @property
    def segmentation(self) -> Any:
        return self.workspace.segmentation

    @property
    def roi(self) -> Any:
        return self.app.segment.region

    @property
    def device(self) -> str:
        return self.app.segment.device

    def refresh(self) -> None:
        self.app.cases.refresh()

    def set_storing(self, is_storing: bool) -> None:
        self.app.cases.set_storing(is_storing)

    def case_removed(self, case: str) -> None:
        self.app.cases.removed(case)

    def use_model(self, name: str) -> None:
        self.app.segment.use_model(name)

    def models_changed(self) -> None:
        self.app.segment.refresh_models()

    def show_case(self, scan: Any, segmentation: Any) -> None:
        """To be corrected further."""
        if isinstance(scan, list):
            raise NodeError("Cases of several channels cannot be opened here.", "Open it in 3D Slicer.")
        self.workspace.adopt(scan)
        self.workspace.choose(segmentation)
        self.app.go_to("correct")

    def show_comparison(self, segmentation: Any) -> None:
        self.workspace.offer(segmentation)

    def scans(self, source: str, folder: str) -> list[Any]:  # noqa: ARG002
        """The open ones that are not stored as cases, or all in the folders that the server was given."""
        if source == FOLDER:
            return [scan.path for scan in self.app.folders.scans]
        stored = stored_volumes()
        return [scan.node for scan in self.workspace.scans if scan.node not in stored]

    def show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        self.run(self._show_scan(source, position))

    async def _show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        if isinstance(source, Path):
            await self.app.data.open_listed(next(scan for scan in self.app.folders.scans if scan.path == source))
        else:
            known = self.workspace.scan_of(source.GetID()) if source.GetScene() is not None else None
            if known is None:
                raise NodeError(f"{source.GetName()} is no longer open.", "Open it again.")
            self.workspace.show(known)
        self.app.views.go_to(position)

    def build(self) -> None:
        parts: tuple[tuple[str, Any], ...] = (
            ("1. Corrected cases", self.app.cases),
            ("2. Fine-tune", self.app.learning),
            ("3. Versions", self.app.versions),
            ("4. Suggest next case", self.app.next_case),
        )
        for title, part in parts:
            html.Div(title, classes="text-subtitle-2 mt-1 mb-2")
            part.build()
            v3.VDivider(classes="my-3")
