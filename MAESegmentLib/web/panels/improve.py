"""Improve: cases, fine-tuning, versions and the next case; the host of their presenters."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ...app.presenters.add_case import AddCasePresenter
from ...app.presenters.cases import CaseRow, CasesPresenter
from ...app.presenters.compare import ComparePresenter
from ...app.presenters.learning.finetune import FineTunePresenter
from ...app.presenters.learning.finetune_state import RunView
from ...app.presenters.learning.training_choices import measured_rows
from ...app.presenters.next_case import FOLDER, SCENE, NextCasePresenter
from ...app.presenters.presenter import plain
from ...app.presenters.versions import VersionsPresenter
from ...app.texts.model_cards import name_of
from ...bundle import Bundle
from ...cases.records import CaseRecord
from ...errors import NodeError
from ...images.labels import Label
from ...mrml.case_nodes import stored_volumes
from ...translation import tr as _
from .curves_svg import curves_svg
from .data import DataPanel
from .improve_widgets import build
from .panel import Page, Panel
from .segment import SegmentPanel

#: What the page shows of a run beside its curves.
_OF_RUN = (
    "title", "is_running", "text", "fraction", "stop", "discard", "discarding", "banner", "dice", "dice_titles",
    "outcome",
)  # fmt: skip


class ImprovePanel(Panel):
    """A `CaseHost` and a `FineTuneHost`, of what is chosen on the page. A scan has one channel here."""

    prefix = "improve"

    def __init__(self, app: Page, segment: SegmentPanel, data: DataPanel) -> None:
        super().__init__(app)
        self._segment = segment
        self._data = data
        self._pictures: dict[tuple[str, int], str] = {}
        self._notice = ""
        self.adding = AddCasePresenter(self.logic, self, self._show_cases)
        self.cases = CasesPresenter(self.logic, self, self._show_cases)
        self.finetune = FineTunePresenter(self.logic, self, self._show_run, self._now)
        self.versions = VersionsPresenter(self.logic, self, self._show_versions)
        self.comparison = ComparePresenter(self.logic, self, self._show_comparison)
        self.ranking = NextCasePresenter(self.logic, self, self._show_ranking)
        self.put(steps="", show_outcome=False, url="", file="", measured=plain(measured_rows()))
        self._show_cases()
        self._show_versions()
        self._show_comparison()
        self._show_ranking()
        self.on_change("role", self.adding.set_role)
        self.on_change("only_box", self.adding.set_only_region)
        self.on_change("steps", lambda steps: self.finetune.set_steps(str(steps or "")))
        self.on_change("time", lambda time: self.finetune.set_time(str(time)))
        self.on_change("validates", lambda validates: self.finetune.set_validates(bool(validates)))
        self.on_change("more", lambda source: self.finetune.set_scans(str(source)))
        self.on_change("source", lambda source: self.ranking.set_source(FOLDER if source == FOLDER else SCENE))
        self.workspace.add_listener(self.update)
        app.state.change("segment_region")(lambda **_state: self.update())
        app.state.change("segment_model")(lambda **_state: self._on_model())
        app.state.change("tab")(self._on_tab)
        app.state.change("time_zone")(lambda **_state: self._show_run())

    def build(self) -> None:
        build(self)

    def _now(self) -> datetime:
        """Where the browser is; as the server's clock has it if that is not known. A page may send anything."""
        with suppress(ValueError, KeyError, OSError, TypeError):
            return datetime.now(ZoneInfo(self.app.state["time_zone"]))
        return datetime.now()

    def update(self) -> None:
        """Show what is missing, and the cases of the chosen model."""
        self.adding.update()
        self.cases.update()
        self._update_comparison()
        self.ranking.update()
        self._show_run()

    def _on_model(self) -> None:
        self.versions.update()
        self.update()

    def _on_tab(self, tab: str, **_state: Any) -> None:
        """The user comes to look: stored cases may have been edited meanwhile."""
        if tab == "improve":
            self.adding.look_for_edits()

    # What the presenters see of the page ------------------------------------------------------------------------------

    @property
    def bundle(self) -> Bundle | None:
        return self._segment.bundle

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
        return self._segment.region

    @property
    def device(self) -> str:
        return self._segment.device

    @property
    def records(self) -> Sequence[CaseRecord]:
        return self.cases.records

    @property
    def labels(self) -> Sequence[Label]:
        return self.cases.labels

    def note(self, text: str) -> None:
        self.app.say(text)

    def refresh(self) -> None:
        self.cases.outdate()
        self._on_model()

    def set_storing(self, is_storing: bool) -> None:
        self.cases.set_storing(is_storing)
        if not is_storing and self.volume is not None and self.segmentation is not None:
            # What is a case now need not be kept beside it.
            self.run(self.app.unsaved.keep(self.segmentation, self.volume))

    def case_removed(self, case: str) -> None:
        self.adding.removed(case)

    def use_model(self, name: str) -> None:
        self._segment.use_model(name)

    def models_changed(self) -> None:
        self._segment.refresh_models()
        self.versions.update()

    def compare(self, first: str, second: str) -> None:
        self.comparison.start(first, second)

    def show_comparison(self, segmentation: Any) -> None:
        self.workspace.show_difference(segmentation)
        self._show_comparison()

    def toggle_difference(self) -> None:
        """Look at the segmentation without the map of differences over it, and back."""
        if (node := self.workspace.difference) is not None:
            node.GetDisplayNode().SetVisibility(not node.GetDisplayNode().GetVisibility())
            self._show_comparison()

    def show_case(self, scan: Any, segmentation: Any) -> None:
        """To be corrected further."""
        if isinstance(scan, list):
            raise NodeError(_("Cases of several channels cannot be opened here."), _("Open it in 3D Slicer."))
        self.workspace.adopt(scan)
        self.workspace.choose(segmentation)
        self.app.go_to("correct")

    def scans(self, source: str, folder: str) -> list[Any]:  # noqa: ARG002
        """The open ones that are not stored as cases, or all in the folders that the server was given."""
        if source == FOLDER:
            return [scan.path for scan in self.app.folders.scans]
        stored = stored_volumes()
        return [scan.node for scan in self.workspace.scans if scan.node not in stored]

    def more_scans(self, source: str, folder: str) -> list[Any]:
        """To be learnt from without labels: the same as may be ranked."""
        return self.scans(source, folder)

    def show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        self.run(self._show_scan(source, position))

    async def _show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        if isinstance(source, Path):
            await self._data.open_listed(next(scan for scan in self.app.folders.scans if scan.path == source))
        else:
            known = self.workspace.scan_of(source.GetID()) if source.GetScene() is not None else None
            if known is None:
                raise NodeError(_("{name} is no longer open.").format(name=source.GetName()), _("Open it again."))
            self.workspace.show(known)
        self.app.views.go_to(position)

    # What buttons do beside calling the presenters --------------------------------------------------------------------

    def compare_with_used(self, version: str) -> None:
        if self.bundle is not None:
            self.compare(version, name_of(self.bundle))

    def export_version(self, version: str) -> None:
        if self.versions.state.row(version) is None or self.versions.state.is_exporting:
            return
        # Its file goes when the next one is begun.
        self.put(url="", file="")
        path = self.app.downloads.folder("model") / f"{version.replace('@', '-')}.zip"
        self.versions.export(version, path, self._offer)

    def _offer(self, path: Path) -> None:
        self.versions.forget()
        self.put(url=self.app.downloads.offer(path), file=path.name)

    # What is shown ----------------------------------------------------------------------------------------------------

    def _show_cases(self) -> None:
        adding, stored = self.adding.state, self.cases.state
        pictures = {row.id: self._picture(row) for row in stored.rows}
        self.put(
            add=plain(adding), cases=plain(stored), pictures=pictures, role=adding.role, only_box=adding.only_region
        )

    def _picture(self, row: CaseRow) -> str:
        key = (str(row.picture), row.revision)
        if key not in self._pictures:
            data = row.picture.read_bytes() if row.picture.is_file() else b""
            self._pictures[key] = f"data:image/png;base64,{base64.b64encode(data).decode()}" if data else ""
        return self._pictures[key]

    def _show_run(self) -> None:
        state = self.finetune.state()
        self.put(
            plan=state.plan,
            choices=plain(state.choices),
            time=state.choices.time,
            # What is put comes back as if it were chosen: where nothing is to be chosen, the choice stays as it is.
            validates=self.finetune.choices.validates,
            more=state.choices.source,
            start=plain(state.start),
            estimate=plain(state.estimate),
            run=_shown_of(state.run) if state.run is not None else None,
        )

    def _show_versions(self) -> None:
        # One may have been deleted.
        self._update_comparison()
        state = self.versions.state
        self.put(versions=plain(state))
        if state.notice != self._notice:
            self._notice = state.notice
            self.app.say(state.notice, kind="success")

    def _update_comparison(self) -> None:
        self.comparison.update(self.versions.versions, self.versions.state.previous)

    def _show_comparison(self) -> None:
        # What is not written of any more is not drawn either.
        if not self.comparison.state.text and self.workspace.difference is not None:
            self.workspace.show_difference(None)
        difference = self.workspace.difference
        self.put(
            comparison=plain(self.comparison.state),
            difference=difference is not None,
            difference_shown=difference is not None and bool(difference.GetDisplayNode().GetVisibility()),
        )

    def _show_ranking(self) -> None:
        self.put(next=plain(self.ranking.state), source=self.ranking.state.source)


def _shown_of(run: RunView) -> dict[str, Any]:
    shown = {key: plain(getattr(run, key)) for key in _OF_RUN}
    return {**shown, "curves": curves_svg(run.curves, run.steps, run.colours)}
