"""The panel: holds its sections together, turns clicks into calls of the logic, and shows what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.texts.messages import Situation, error_text, expected, offers_for
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.worker.client.client import JobState, WorkerState

from .advanced_section import AdvancedSection, explain
from .batch_section import BatchSection, batch_text
from .dependency_bar import DependencyBar
from .improve_section import ImproveSection
from .input_section import InputSection
from .message_bar import MessageBar
from .model_section import ModelSection
from .parameters import options_of
from .qt_connection import connect
from .remedies import Remedies
from .result_section import ResultSection, volume_of
from .run_section import RunSection


class Panel:
    """`widget` is the module's, for observers that go with it; `logic` is a `MAESegmentLogic`."""

    def __init__(self, widget: Any, ui_widget: Any, logic: Any) -> None:
        self._widget = widget
        self._logic = logic
        self._parameters: Any = None
        self._gui_tag: Any = None
        self._job: Any = None
        self._last_start: Callable[[], None] | None = None
        self._problem_shown = ""
        self._is_open = True
        self._is_entered = False
        self._update_is_due = False
        self._scene_was_closed = False
        self._volume: Any = None
        ui = self.ui = slicer.util.childWidgetVariables(ui_widget)
        self.messages = MessageBar(ui, Remedies(self).apply)
        self.dependencies = DependencyBar(ui, logic, self.update)
        self.inputs = InputSection(ui)
        self.model = ModelSection(ui, logic, self._choose_model, self.show_error, self.messages.show)
        self.run = RunSection(ui, self._on_segment)
        self.result = ResultSection(ui, logic.session)
        self.batch = BatchSection(ui, self._start_batch, self._start_frames, self._open_row, self.update)
        self.advanced = AdvancedSection(
            ui,
            logic,
            self.set_parameter,
            self._on_python,
            lambda: logic.diagnostics(self.dependencies.report),
            lambda: self.dependencies.report is not None and not self.dependencies.reason,
        )
        self.improve = ImproveSection(ui, logic, self)
        connect(ui.addRoiButton, "clicked()", self.add_roi)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            widget.addObserver(scene, event, self._on_scene_changed)
        self.model.refresh()

    # Called by the module's widget ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The person opens the module."""
        self._is_entered = True
        self.model.refresh()
        if self._parameters is not None:
            self._choose_defaults()
        if self.dependencies.report is None and not self.dependencies.is_checking:
            self.dependencies.check()
        self.improve.enter()
        self.update()

    def exit(self) -> None:
        """The person opens another module; what is running goes on."""
        self._is_entered = False

    def set_parameter_node(self, parameters: Any) -> None:
        """Show and change `parameters` from now on; None while a scene closes."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self._widget.removeObserver(
                self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_changed
            )
        self._parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)
            self._widget.addObserver(
                parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_changed
            )
            self._volume = parameters.inputVolume
            self._choose_defaults()
            self.update()

    def scene_start_close(self) -> None:
        """What is running ends, and what is shown of it goes, too."""
        self._scene_was_closed = self._job is not None
        if self._job is not None:
            self._job.cancel()
        self.result.clear()
        self.batch.clear()
        self.improve.scene_start_close()
        self.messages.clear()
        self._problem_shown = ""
        self._last_start = None

    def scene_end_close(self) -> None:
        """An empty scene."""

    def cleanup(self) -> None:
        self._is_open = False
        if self._job is not None:
            self._job.cancel()
        self.set_parameter_node(None)
        self.improve.cleanup()
        self.advanced.cleanup()
        self.dependencies.cleanup()

    # State ------------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Any:
        """The parameter node."""
        return self._parameters

    @property
    def job(self) -> Any:
        """What is running: a `SegmentationJob`, a `BatchJob`, or None."""
        return self._job

    @property
    def bundle(self) -> Any:
        """The chosen model; None if there is none."""
        return self.model.bundle(self._parameters.modelName) if self._parameters is not None else None

    @property
    def reason(self) -> str:
        """Why Segment cannot be pressed; "" if it can."""
        return self._general_reason or self.inputs.missing(self._parameters, self.bundle) or self._problem_text()

    @property
    def _general_reason(self) -> str:
        if self._parameters is None:
            return _("The scene is being closed.")
        if self.dependencies.reason:
            return self.dependencies.reason
        if self._job is not None:
            return _("A segmentation is running.")
        if self.bundle is None:
            return _("Choose a model.")
        return ""

    def update(self) -> None:
        """Bring every section up to date; cheap, and called after each change of the parameters."""
        if not self._is_open or self._parameters is None:
            return
        free = self._job is None
        bundle = self.bundle
        self.inputs.update(self._parameters, bundle, enabled=free)
        self.model.update(self._parameters.modelName, enabled=free)
        self.ui.outputSelector.enabled = free
        self.run.update(
            is_running=not free, cancel_requested=not free and self._job.cancel_requested, reason=self.reason
        )
        self.batch.update(self._parameters.inputVolume, reason=self._general_reason)
        self.advanced.update(self._parameters, enabled=free)
        self.result.update()
        self.improve.update()
        if free:
            self._show_problem()

    def _problem_text(self) -> str:
        problem = self.inputs.problem(self._parameters, self.bundle)
        return error_text(problem) if problem is not None else ""

    def _show_problem(self) -> None:
        """A volume that cannot be used is explained as soon as it is chosen, not when the button is pressed."""
        problem = self.inputs.problem(self._parameters, self.bundle)
        text = error_text(problem) if problem is not None else ""
        if text == self._problem_shown:
            return
        if problem is not None:
            self.messages.show(text, offers_for(problem, problem.details, self._situation()))
        elif self.messages.text == self._problem_shown:
            self.messages.clear()
        self._problem_shown = text

    def set_parameter(self, name: str, value: Any) -> None:
        if self._parameters is not None and getattr(self._parameters, name) != value:
            setattr(self._parameters, name, value)

    def _choose_model(self, name: str) -> None:
        self.set_parameter("modelName", name)
        self.update()

    def _choose_defaults(self) -> None:
        if not self._parameters.modelName:
            self.set_parameter("modelName", self.model.default())
        # The selector does not take a volume by itself that is loaded while it shows none.
        if self._is_entered and self._job is None and not slicer.mrmlScene.IsBatchProcessing():
            self.inputs.choose_default(self._parameters)

    def _on_parameters_changed(self, _caller: Any = None, _event: Any = None) -> None:
        self._leave_output_of_other_volume()
        self._update_soon()

    def _leave_output_of_other_volume(self) -> None:
        """The result of one scan is not where the next one's goes."""
        volume, output = self._parameters.inputVolume, self._parameters.outputSegmentation
        if volume is self._volume:
            return
        self._volume = volume
        if volume is not None and output is not None and volume_of(output) not in (None, volume):
            self.set_parameter("outputSegmentation", None)

    def _on_scene_changed(self, _caller: Any = None, _event: Any = None) -> None:
        self._update_soon()

    def _update_soon(self) -> None:
        """Once for many changes: loading a scene makes hundreds."""
        if not self._update_is_due and self._is_open:
            self._update_is_due = True
            self._logic.session.call_later(0.0, self._update_now)

    def _update_now(self) -> None:
        self._update_is_due = False
        if self._is_open and self._parameters is not None:
            self._choose_defaults()
            self.update()

    def _on_python(self) -> None:
        self.improve.packages.forget()
        self.dependencies.check()

    # Running ----------------------------------------------------------------------------------------------------------

    def _on_segment(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.update()
            return
        self.start()

    def start(self, *, overwrite: bool = False) -> None:
        """Segment what is chosen."""
        parameters, nodes = self._parameters, self.inputs.nodes(self._parameters, self.bundle)
        output = parameters.outputSegmentation

        def begin(callback: Callable[[Any], None]) -> Any:
            return self._logic.process(
                nodes if len(nodes) > 1 else nodes[0],
                self.bundle,
                wait=False,
                callback=callback,
                outputSegmentation=output,
                overwrite=overwrite,
                **options_of(parameters, roi=True),
            )

        self._launch(begin, self._on_job, lambda: self.start(overwrite=overwrite))

    def _start_batch(self, volumes: list[Any]) -> None:
        self._launch(
            lambda callback: self._logic.processBatch(
                volumes, self.bundle, wait=False, callback=callback, **options_of(self._parameters)
            ),
            self._on_batch,
            lambda: self._start_batch(volumes),
        )

    def _start_frames(self) -> None:
        volume = self._parameters.inputVolume
        self._launch(
            lambda callback: self._logic.processSequence(
                volume, self.bundle, wait=False, callback=callback, **options_of(self._parameters, roi=True)
            ),
            self._on_batch,
            self._start_frames,
        )

    def start_again(self) -> None:
        """What was started last, with the settings as they are now."""
        if self._last_start is not None and not self._general_reason:
            self._last_start()

    def add_roi(self) -> None:
        """A box in the volume, to be dragged."""
        if self._parameters.inputVolume is not None:
            self.inputs.add_roi(self._parameters, self.bundle)
            self.messages.show(_("Drag the box to the structure, then press Segment."))
            self.update()

    def _launch(self, begin: Callable[[Any], Any], listener: Callable[[Any], None], again: Callable[[], None]) -> None:
        self.messages.clear()
        self._problem_shown = ""
        self._last_start = again
        self._scene_was_closed = False
        try:
            job = begin(listener)
        except Exception as error:
            self.show_error(expected(error))
        else:
            if not job.is_finished:
                self._job = job
                listener(job)
        self.update()

    def _on_job(self, job: Any) -> None:
        if not self._is_open:
            return
        if not job.is_finished:
            self.run.show_progress(job, is_starting=self._is_starting())
            return
        self._job = None
        try:
            if job.state is not JobState.DONE:
                self._show_end(job)
            elif self._parameters is not None:
                segmentation = job.result()
                self.set_parameter("outputSegmentation", segmentation)
                self.result.show(job.summary, segmentation, volume_of(segmentation))
        finally:
            self.update()

    def _on_batch(self, batch: Any) -> None:
        if not self._is_open:
            return
        if not batch.is_finished:
            if batch.current is not None:
                prefix = _("{number} of {n}: ").format(number=batch.index + 1, n=len(batch.rows))
                self.run.show_progress(batch.current, is_starting=self._is_starting(), prefix=prefix)
            self.batch.show(batch)
            return
        self._job = None
        if not self._scene_was_closed:
            self.batch.show(batch)
        self.messages.show(self._closing_note() or batch_text(batch))
        self.update()

    def _is_starting(self) -> bool:
        return self._logic.session.client.state in (WorkerState.STOPPED, WorkerState.STARTING)

    def _show_end(self, job: Any) -> None:
        if job.state is JobState.CANCELLED:
            self.messages.show(
                self._closing_note() or (job.error.message if job.error is not None else _("Cancelled."))
            )
        else:
            self.show_error(job.error, job.details)

    def _closing_note(self) -> str:
        closed, self._scene_was_closed = self._scene_was_closed, False
        return _("The scene was closed, so the segmentation was cancelled.") if closed else ""

    def show_error(self, error: MAESegmentError, details: Any = None) -> None:
        """In a sentence, with what a person can do about it."""
        self._logic.session.log.add("error", explain(error))
        self.messages.show(error_text(error), offers_for(error, details or error.details, self._situation()))

    def _situation(self) -> Situation:
        parameters = self._parameters
        if parameters is None:
            return Situation()
        report = self.dependencies.report
        return Situation(
            has_roi=parameters.roi is not None,
            python_lacks_packages=report is not None and report.can_install,
            device=parameters.device,
        )

    def _open_row(self, batch: Any, number: int) -> None:
        """Choose what came of a row, and show its scan in the views; of a sequence, go to the frame."""
        segmentation = batch.rows[number].segmentation
        if self._parameters is None:
            return
        if segmentation is None:
            mrml.show_frame(self._parameters.inputVolume, number)
        elif segmentation.GetScene() is not None:
            volume = volume_of(segmentation)
            if volume is not None:
                self._parameters.inputVolume = volume
                slicer.util.setSliceViewerLayers(background=volume)
            self._parameters.outputSegmentation = segmentation
