"""Segment: model, device and box; one button; how far it is; what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ... import mrml
from ...app.case_proposal import MODEL_HASH
from ...app.outputs import scan_title
from ...app.presenters import settings
from ...app.presenters.batch import BatchPresenter
from ...app.presenters.elements import Message
from ...app.presenters.models import ModelList
from ...app.presenters.presenter import plain
from ...app.presenters.remedies import OfferContext, Remedy
from ...app.presenters.result import result_view
from ...app.presenters.segment import SegmentPresenter
from ...app.result_notes import summary_of
from ...app.texts.model_cards import name_of
from ...bundle import Bundle
from ...bundle.suitability import locator_among
from ...errors import MAESegmentError, NodeError
from ...mrml.volumes import add_box, box_hint
from ...samples import BOXES, SAMPLE, SAMPLE_MODEL
from ...translation import tr as _
from ...worker.client.client import WorkerState
from .. import slicer_scene
from .card import card_blocks
from .panel import Page, Panel, options
from .segment_widgets import build

WHOLE = "whole"
_OPTIONS = {"precision": "auto", "overlap": 0.0, "mirroring": "model"}
_OPTIONS |= {"allow_cpu": True, "check_familiarity": True, "clean": True}


class SegmentPanel(Panel):
    """Draws the state of a `SegmentPresenter`, and is the place around it."""

    prefix = "segment"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._was_3d_shown = False
        #: The segmentation whose figures are shown.
        self._shown: Any = None
        self._models = ModelList(self.logic)
        self._scan: Any = None
        #: What is chosen as the region of each scan, by the ID of its node.
        self._regions: dict[str, str] = {}
        #: Of the results of batches, what was shown already.
        self._seen: list[Any] = []
        self.put(**_OPTIONS, models=[], model="", device=app.config.device, region=WHOLE, batch_rows=[], log="")
        self.put(speeds=[], speed="best", speed_tip="")
        self.put(opacity=0.5, filled=True, show_3d=False, surface="", card_open=False, log_open=False)
        self.presenter = SegmentPresenter(self.logic, self, self.update, self._show_run)
        self.batch = BatchPresenter(self.logic, self.presenter, self._show_batch)
        self._on_worker(self.session.client)
        self.on_change("model", self._on_model)
        self.on_change("region", lambda _value: self.update())
        for key in ("opacity", "filled"):
            self.on_change(key, lambda _value: self._style())
        self.on_change("result", self._on_result_choice)
        self.on_change("speed", self.presenter.speed.choose)
        for key in ("overlap", "mirroring", "device"):
            self.on_change(key, lambda _value: self._show_speeds())
        self.on_change("show_3d", lambda _value: self._on_show_3d())
        self.workspace.add_listener(self._on_workspace)
        self.session.client.add_listener(self._on_worker)

    def build(self) -> None:
        build(self)

    # Choices ----------------------------------------------------------------------------------------------------------

    def refresh_models(self) -> None:
        """List the models again; the choice stays where it can."""
        self._models.refresh()
        bundles, chosen = self._models.bundles, self.get("model")
        self.put(
            models=options((name, f"{one.name} {one.version}") for name, one in bundles.items()),
            model=chosen if chosen in bundles else self._models.default(self.nodes[0]),
        )
        self.update()

    def _on_model(self, name: Any) -> None:
        self._models.picked(str(name or ""), self.nodes[0])
        self.update()

    def _on_workspace(self) -> None:
        if self.workspace.scan is not self._scan:
            self._scan = scan = self.workspace.scan
            region = self._regions.get(scan.node.GetID(), WHOLE) if scan is not None else WHOLE
            self.put(model=self._models.for_scan(self.get("model"), self.nodes[0]), region=region)
        self.update()

    @property
    def bundle(self) -> Bundle | None:
        return self._models.get(self.get("model"))

    @property
    def device(self) -> str:
        return str(self.get("device") or "auto")

    @property
    def region(self) -> Any:
        """The ROI node that is chosen; None for the whole scan."""
        return self._boxes.get(self.get("region"))

    @property
    def _boxes(self) -> dict[str, Any]:
        """Those of the scan that is shown, by the IDs of their nodes: one of another scan would lie anywhere on it."""
        boxes = self.workspace.scan.boxes if self.workspace.scan is not None else ()
        return {box.GetID(): box for box in boxes if box.GetScene() is not None}

    def use_model(self, name: str) -> None:
        """Choose a version by name@version."""
        self.refresh_models()
        if self._models.get(name) is not None:
            self.put(model=name)
            self.update()

    def offer_sample_boxes(self) -> None:
        """A box around each hippocampus of the sample head. None is chosen where the model finds them by itself."""
        scan = self.workspace.scan
        if scan is None or not scan.node.GetName().startswith(SAMPLE):
            return
        boxes = [slicer_scene.roi_node(name, bounds) for name, bounds in BOXES]
        scan.boxes.extend(boxes)
        chosen, meant = self.bundle, self.logic.selectedModel(SAMPLE_MODEL)
        if meant is not None and (chosen is None or chosen.name != meant.name):
            self.put(model=self._models.propose(name_of(meant)))
        finds_them = meant is not None and locator_among(meant, self.logic.selectedModel)[0] is not None
        self.put(region=WHOLE if finds_them else boxes[0].GetID())
        self.update()
        self.app.views.centre_on(boxes[0])

    def show_box(self, visible: bool, region: str = "") -> None:
        """Only the chosen box is shown, and none while the user draws."""
        chosen = region or self.get("region")
        for scan in self.workspace.scans:
            for node in scan.boxes:
                if node.GetScene() is not None:
                    node.GetDisplayNode().SetVisibility(visible and node.GetID() == chosen)

    def add_box(self) -> None:
        """A box of the model's window size where the views are, ready to be dragged."""
        scan = self.workspace.scan
        if scan is None:
            raise NodeError(_("There is no scan to put a box on."), _("Open a scan first."))
        box = add_box(scan.node, self.bundle, centre=self.app.views.centre())
        scan.boxes.append(box)
        self.put(region=box.GetID())
        self.update()

    def segment_all(self) -> None:
        """Segment the whole of every open scan, one after another."""
        self.batch.start_volumes([scan.node for scan in self.workspace.scans])

    # What the presenter sees of the page ------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Any]:
        return [self.workspace.scan.node if self.workspace.scan is not None else None]

    @property
    def output(self) -> Any:
        """The chosen result; what a user drew is never filled."""
        node = self.workspace.segmentation
        return node if node is not None and node.GetAttribute(MODEL_HASH) else None

    @property
    def options(self) -> dict[str, Any]:
        return settings.process_options(device=self.device, **{key: self.get(key) for key in _OPTIONS})

    @property
    def blocked(self) -> str:
        return ""

    @property
    def missing(self) -> str:
        return _("Open a scan first.") if self.workspace.scan is None else ""

    @property
    def problem(self) -> MAESegmentError | None:
        scan = self.workspace.scan
        return mrml.problem_of(scan.node) if scan is not None else None

    @property
    def offer_context(self) -> OfferContext:
        return OfferContext(has_roi=self.region is not None, device=self.device)

    @property
    def remedies(self) -> Mapping[Remedy, Callable[[], Any]]:
        return {
            Remedy.USE_CPU: lambda: self.put(device="cpu"),
            Remedy.USE_AUTO_DEVICE: lambda: self.put(device="auto"),
            Remedy.ADD_ROI: self.add_box,
            Remedy.SHOW_LOG: self.show_log,
        }

    def set_windows(self, overlap: float, mirroring: str) -> None:
        self.put(overlap=overlap, mirroring=mirroring)

    def is_starting(self) -> bool:
        return self.session.client.state in (WorkerState.STOPPED, WorkerState.STARTING)

    def show(self, message: Message) -> None:
        self.app.show(message)

    def show_result(self, job: Any) -> None:
        node = job.result()
        self._keep(node)
        if node is self.workspace.segmentation:
            # Whoever works on it takes it up anew: what could be undone is not in it any more.
            self.workspace.choose(None)
        self.workspace.offer(node)
        self._style()
        if node is self.workspace.segmentation:
            self.app.views.centre_on_segmentation(node)

    def _keep(self, node: Any) -> None:
        if (volume := mrml.volume_of(node)) is not None:
            self.run(self.app.unsaved.keep(node, volume))

    def apply(self, remedy: str) -> None:
        """A button beside an error was pressed."""
        self.presenter.apply(Remedy(remedy))

    def show_log(self) -> None:
        """What the worker and the program reported."""
        self.put(log=self.session.log.text(), log_open=True)

    def _on_worker(self, client: Any) -> None:
        found = settings.devices(client.devices_known or ())
        self.put(devices=options((value, title) for title, value, _tip in found))

    # What is shown ----------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Bring the section up to date with scan, model, box and result."""
        scan, bundle, boxes = self.workspace.scan, self.bundle, self._boxes
        region = self.get("region") if self.get("region") in boxes else WHOLE
        if scan is not None:
            self._regions[scan.node.GetID()] = region
        self.show_box(self.app.state.tab != "correct", region)
        names = {WHOLE: _("The whole scan"), **{key: node.GetName() for key, node in boxes.items()}}
        self.put(
            regions=options(names.items()),
            region=region,
            box_hint=box_hint(bundle, self._models.bundles.values()) if region == WHOLE and scan is not None else "",
            summary=self._models.info(self.get("model")),
            card=_card(bundle),
            reason=self.presenter.reason if self.presenter.job is None else "",
        )
        if scan is None and self.presenter.job is None and self.batch.state().rows:
            self.batch.clear()
        self.presenter.check_inputs()
        self._show_speeds()
        self._show_run()
        self._show_result()

    def _show_speeds(self) -> None:
        state = self.presenter.speed.state()
        self.put(speeds=options((one.key, one.text) for one in state.options), speed=state.chosen, speed_tip=state.tip)

    def _show_run(self) -> None:
        state = self.presenter.state()
        button = {**asdict(state.button), "text": state.button.text.replace("&", "")}
        self.put(
            running=state.is_running,
            button=button,
            percent=round(100 * (state.fraction or 0.0)),
            moving=state.fraction is None,
            stage=state.text,
            batch=asdict(self.batch.controls(len(self.workspace.scans), 0)[0]),
        )

    def _show_batch(self) -> None:
        batch = self.batch.batch
        for row in batch.rows if batch is not None else ():
            node = row.segmentation
            if node is not None and row.summary is not None and row.summary not in self._seen:
                self._seen.append(row.summary)
                self._keep(node)
                self.workspace.offer(node)
        rows = self.batch.state().rows
        self.put(batch_rows=[{"name": name, "outcome": outcome} for name, outcome in rows])

    def _show_result(self) -> None:
        nodes, chosen = self.workspace.segmentations(), self.workspace.segmentation
        self.put(
            results=options((node.GetID(), node.GetName()) for node in nodes),
            result=chosen.GetID() if chosen is not None else None,
        )
        if chosen is not self._shown:
            self._shown = chosen
            self.put(show_3d=chosen is not None and mrml.is_shown_in_3d(chosen))
        if chosen is None:
            self.put(line="", rows=[], warnings="")
            return
        summary = summary_of(chosen)
        segments, is_edited = mrml.drawn_segments(chosen), summary is not None and mrml.is_edited(chosen)
        view = result_view(chosen.GetName(), scan_title(chosen), summary, segments, is_edited=is_edited)
        display = chosen.GetDisplayNode()
        rows = [{**plain(row), "visible": bool(display.GetSegmentVisibility(row.segment_id))} for row in view.rows]
        self.put(line=view.line, rows=rows, warnings=view.warnings)

    def toggle_segment(self, segment_id: str) -> None:
        """Show or hide one structure."""
        node = self.workspace.segmentation
        if node is not None:
            display = node.GetDisplayNode()
            display.SetSegmentVisibility(segment_id, not display.GetSegmentVisibility(segment_id))
            self._show_result()

    def _on_result_choice(self, node_id: Any) -> None:
        node = next((one for one in self.workspace.segmentations() if one.GetID() == node_id), None)
        if node is not None and node is not self.workspace.segmentation:
            self.workspace.choose(node)

    def _style(self) -> None:
        node = self.workspace.segmentation
        if node is not None and node.GetDisplayNode() is not None:
            display = node.GetDisplayNode()
            display.SetVisibility2DFill(bool(self.get("filled")))
            display.SetOpacity2DFill(float(self.get("opacity")))
            display.SetOpacity2DOutline(1.0)

    def _on_show_3d(self) -> None:
        node = self.workspace.segmentation
        if node is not None:
            self.run(self._show_3d(node, bool(self.get("show_3d"))))

    def after_edit(self) -> None:
        """What was drawn has changed: volumes and surfaces are not true any more."""
        self._show_result()
        if self.get("show_3d"):
            self._on_show_3d()

    async def _show_3d(self, node: Any, visible: bool) -> None:
        await self.app.surfaces.show(node, visible, lambda text: self.put(surface=text))
        if visible and not self._was_3d_shown:
            self.app.views.reset_3d()
        self._was_3d_shown = visible


def _card(bundle: Bundle | None) -> list[dict[str, Any]]:
    try:
        return card_blocks(bundle.card) if bundle is not None else []
    except MAESegmentError as error:
        return card_blocks(str(error))
