"""Segment: model, device and box; one button; how far it is; what came out."""

from __future__ import annotations

import time
from typing import Any

from .. import mrml
from ..app.processing import SegmentationJob
from ..app.texts.messages import device_text, overall_fraction, progress_text, result_text, volume_text
from ..app.texts.model_cards import name_of, summary_of
from ..bundle import Bundle
from ..errors import MAESegmentError, NodeError
from ..mrml.regions import add_box, box_hint
from ..samples import BOXES, SAMPLE, SAMPLE_MODEL
from ..worker.client.client import JobState, WorkerState
from . import slicer_scene
from .panel import Page, Panel
from .segment_widgets import build

#: A person reads no faster; sending more often would only cost.
_REDRAW_EVERY_S = 0.1
WHOLE = "whole"


class SegmentPanel(Panel):
    prefix = "segment"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self.job: SegmentationJob | None = None
        self._drawn = 0.0
        self._was_3d_shown = False
        self._boxes: dict[str, Any] = {}
        self._bundles: dict[str, Bundle] = {}
        #: What each segmentation node came with, by its ID.
        self._summaries: dict[str, Any] = {}
        defaults = {
            "models": [], "model": "", "summary": "", "card": "", "card_open": False, "devices": [], "device": "auto",
            "regions": [], "region": WHOLE, "box_hint": "", "running": False, "cancelling": False, "percent": 0,
            "stage": "", "reason": "", "results": [], "result": None, "line": "", "rows": [], "warnings": "",
            "opacity": 0.5, "filled": True, "show_3d": False, "surface": "", "edited": False,
        }  # fmt: skip
        app.state.update({self.name(key): value for key, value in defaults.items()})
        app.state[self.name("device")] = app.config.device
        self.on_change("model", lambda _value: self.update())
        self.on_change("region", lambda _value: self.update())
        self.on_change("result", self._on_result_choice)
        self.on_change("opacity", lambda _value: self._style())
        self.on_change("filled", lambda _value: self._style())
        self.on_change("show_3d", lambda _value: self._on_show_3d())
        self.workspace.add_listener(self.update)
        self.session.client.add_listener(self._on_worker)

    def build(self) -> None:
        build(self)

    # Choices ----------------------------------------------------------------------------------------------------------

    def refresh_models(self) -> None:
        """List the models anew, newest versions first; the choice stays where it can."""
        models = self.logic.models()
        models.reverse()
        models.sort(key=lambda bundle: bundle.name)
        self._bundles = {name_of(bundle): bundle for bundle in models}
        chosen = self.get("model")
        if chosen not in self._bundles:
            default = self.logic.defaultModel()
            chosen = name_of(default) if default is not None else ""
        items = [{"title": f"{one.name} {one.version}", "value": name_of(one)} for one in models]
        self.put(models=items, model=chosen)
        self.update()

    @property
    def bundle(self) -> Bundle | None:
        return self._bundles.get(self.get("model"))

    @property
    def device(self) -> str:
        return str(self.get("device") or "auto")

    @property
    def region(self) -> Any:
        """The ROI node that is chosen; None for the whole scan."""
        node = self._boxes.get(self.get("region"))
        return node if node is not None and node.GetScene() is not None else None

    def use_model(self, name: str) -> None:
        """Choose a version by name@version."""
        self.refresh_models()
        if name in self._bundles:
            self.put(model=name)
            self.update()

    def offer_sample_boxes(self) -> None:
        """A box around each hippocampus of the sample head, the first one chosen."""
        if self.workspace.scan is None or not self.workspace.scan.node.GetName().startswith(SAMPLE):
            return
        nodes = [slicer_scene.roi_node(name, bounds) for name, bounds in BOXES]
        self._boxes.update({node.GetID(): node for node in nodes})
        meant = self.logic.meantModel(SAMPLE_MODEL)
        self.put(model=name_of(meant) if meant is not None else self.get("model"), region=nodes[0].GetID())
        self.update()
        self.app.views.centre_on(nodes[0])

    def show_box(self, visible: bool, region: str = "") -> None:
        """Only the chosen box is seen, and none while a person draws."""
        chosen = region or self.get("region")
        for key, node in self._boxes.items():
            node.GetDisplayNode().SetVisibility(visible and key == chosen)

    def add_box(self) -> None:
        """A box of the model's window size where the views are, ready to be dragged."""
        if self.workspace.scan is None:
            raise NodeError("There is no scan to put a box on.", "Open a scan first.")
        node = add_box(self.workspace.scan.node, self.bundle, centre=self.app.views.centre())
        self._boxes[node.GetID()] = node
        self.put(region=node.GetID())
        self.update()

    # The job ----------------------------------------------------------------------------------------------------------

    def press(self) -> None:
        """Segment, or cancel what runs."""
        if self.job is not None and not self.job.is_finished:
            self.job.cancel()
            self.put(cancelling=True)
            return
        self.segment()

    def segment(self, *, overwrite: bool = False, output: Any = None) -> None:
        """Begin; the result appears when it is there."""
        scan, bundle = self.workspace.scan, self.bundle
        if scan is None:
            raise NodeError("There is no scan to segment.", "Open a scan first.")
        self.app.say("")
        self.job = self.logic.process(
            scan.node,
            bundle,
            self.device,
            wait=False,
            callback=self._on_job,
            roi=self.region,
            outputSegmentation=output,
            overwrite=overwrite,
        )
        self.put(running=True, cancelling=False, percent=0, stage="")
        self._on_job(self.job)

    def _on_job(self, job: SegmentationJob) -> None:
        if job is not self.job:
            return
        if job.is_finished:
            self._over(job)
            return
        now = time.monotonic()
        if now - self._drawn < _REDRAW_EVERY_S:
            return
        self._drawn = now
        starting = self.session.client.state is WorkerState.STARTING
        text = progress_text(job.state.name, job.stage, job.eta_s, job.position, is_starting=starting)
        self.put(percent=round(100 * overall_fraction(job.stage, job.fraction)), stage=text)

    def _over(self, job: SegmentationJob) -> None:
        self.put(running=False, cancelling=False, stage="")
        if job.state is JobState.DONE:
            node = job.result()
            self._summaries[node.GetID()] = job.summary
            self.put(show_3d=False)
            scan = self.workspace.scan
            if scan is not None and node in self.workspace.segmentations():
                self.workspace.choose(node)
            self._style()
            self.app.views.centre_on_segmentation(node)
        elif job.state is JobState.FAILED and job.error is not None:
            self.app.offer(job.error)
        else:
            self.app.say(job.error.message if job.error is not None else "Cancelled.", kind="info")
        self.update()

    def _on_worker(self, client: Any) -> None:
        if client.devices_known:
            items = [{"title": device_text(one), "value": str(one.get("name"))} for one in client.devices_known]
            self.put(devices=[{"title": "Automatic", "value": "auto"}, *items])

    # What is shown ----------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Bring the section up to date with scan, model, box and result."""
        scan, bundle = self.workspace.scan, self.bundle
        self._boxes = {key: node for key, node in self._boxes.items() if node.GetScene() is not None}
        boxes = [{"title": node.GetName(), "value": key} for key, node in self._boxes.items()]
        region = self.get("region") if self.get("region") in self._boxes else WHOLE
        self.show_box(self.app.state.tab != "correct", region)
        problem = mrml.problem_of(scan.node) if scan is not None else None
        reason = "Open a scan first." if scan is None else "Choose a model." if bundle is None else str(problem or "")
        self.put(
            regions=[{"title": "The whole scan", "value": WHOLE}, *boxes],
            region=region,
            box_hint=box_hint(bundle) if region == WHOLE and scan is not None else "",
            summary=summary_of(bundle) if bundle is not None else "",
            card=_card(bundle),
            reason=reason,
        )
        self._show_result()

    def _show_result(self) -> None:
        nodes, chosen = self.workspace.segmentations(), self.workspace.segmentation
        self.put(
            results=[{"title": node.GetName(), "value": node.GetID()} for node in nodes],
            result=chosen.GetID() if chosen is not None else None,
        )
        if chosen is None:
            self.put(line="", rows=[], warnings="")
            return
        summary = self._summaries.get(chosen.GetID())
        edited = mrml.is_edited(chosen) if summary is not None else True
        volumes = summary.volumes_ml if summary is not None else {}
        display, rows = chosen.GetDisplayNode(), []
        for segment in mrml.drawn_segments(chosen):
            number = segment.id.partition("_")[2]
            volume = volumes.get(int(number), 0.0) if number.isdecimal() else 0.0
            figure = "edited" if edited and not segment.is_empty else ""
            if not edited:
                figure = f"{volume_text(volume, fine=True)} ml" if volume > 0 else "not found"
            rows.append(
                {
                    "id": segment.id,
                    "name": segment.name,
                    "colour": "rgb({},{},{})".format(*segment.colour),
                    "volume": figure,
                    "visible": bool(display.GetSegmentVisibility(segment.id)),
                }
            )
        self.put(
            line=result_text(summary) if summary is not None else chosen.GetName(),
            rows=rows,
            warnings="\n".join(f"\u26a0 {warning}" for warning in summary.warnings) if summary is not None else "",
        )

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


def _card(bundle: Bundle | None) -> str:
    if bundle is None:
        return ""
    try:
        return bundle.card
    except MAESegmentError as error:
        return str(error)
