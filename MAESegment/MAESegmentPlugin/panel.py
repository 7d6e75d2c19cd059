"""The panel: holds its sections together, and is the place around the presenter that segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.outputs import results_of
from MAESegmentLib.app.presenters.elements import Message
from MAESegmentLib.app.presenters.remedies import OfferContext, Remedy
from MAESegmentLib.app.presenters.segment import SegmentPresenter
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.worker.client.client import WorkerState

from .advanced_section import AdvancedSection
from .ask_bar import AskBar
from .batch_section import BatchSection
from .dependency_bar import DependencyBar
from .improve_section import ImproveSection
from .input_section import InputSection
from .model_section import ModelSection
from .parameters import options_of
from .result_section import ResultSection
from .speed_choice import SpeedChoice
from .update_section import UpdateSection
from .widgets import connect, show_control


class Panel:
    """`widget` is the module's, for observers that go with it; `logic` is a `MAESegmentLogic`."""

    def __init__(self, widget: Any, ui_widget: Any, logic: Any) -> None:
        self._widget = widget
        self._logic = logic
        self._parameters: Any = None
        self._gui_tag: Any = None
        self._is_open = True
        self._is_entered = False
        self._update_is_due = False
        self._volume: Any = None
        #: The box of each scan that was chosen, "" for none, and the last such scan; all by their IDs.
        self._regions: dict[str, str] = {}
        self._last_volume: str | None = None
        ui = self.ui = slicer.util.childWidgetVariables(ui_widget)
        self.segment = SegmentPresenter(logic, self, self.update, self._show_progress)
        self.messages = AskBar(ui, "message", self._on_remedy, buttons="action")
        self.dependencies = DependencyBar(ui, logic, self.update)
        self.inputs = InputSection(ui)
        self.model = ModelSection(ui, logic, self._choose_model, lambda: self.volume, self.show_error, self.segment.say)
        connect(ui.segmentButton, "clicked()", self.segment.press)
        self.speed = SpeedChoice(ui.speedComboBox, self.segment.speed)
        self.result = ResultSection(ui, logic, self)
        self.batch = BatchSection(ui, logic, self.segment, lambda: self.volume, self._open_row)
        self.advanced = AdvancedSection(
            ui,
            logic,
            self.set_parameter,
            self._on_python,
            lambda: logic.diagnostics(self.dependencies.report),
            lambda: self.dependencies.report is not None and not self.dependencies.reason,
        )
        self.improve = ImproveSection(ui, logic, self)
        self.fix = UpdateSection(ui, logic, self)
        connect(ui.addRoiButton, "clicked()", self.add_roi)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            widget.addObserver(scene, event, self._on_scene_changed)
        self.model.refresh()

    # Called by the module's widget ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The user opens the module."""
        self._is_entered = True
        self.model.refresh()
        self.result.refresh()
        if self._parameters is not None:
            self._choose_defaults()
            if None not in (self.volume, self.output) and mrml.is_waiting(self.output):
                self._show_volume()
        if self.dependencies.report is None and not self.dependencies.is_checking:
            self.dependencies.check()
        self.fix.presenter.end_scribbling()
        self.improve.enter()
        self.update()
        self.fix.presenter.look()

    def exit(self) -> None:
        """The user opens another module; what is running continues."""
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
            self._note_region()
            self._choose_defaults()
            self.update()

    def scene_start_close(self) -> None:
        """What is running ends, and what is shown of it goes, too."""
        self._regions, self._last_volume = {}, None
        self.segment.scene_start_close()
        self.result.clear()
        self.batch.clear()
        self.improve.scene_start_close()
        self.fix.presenter.clear()

    def scene_end_close(self) -> None:
        """An empty scene."""

    def cleanup(self) -> None:
        self._is_open = False
        self.segment.close()
        self.set_parameter_node(None)
        self.improve.cleanup()
        self.fix.presenter.close()
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
        return self.segment.job

    # What the presenter sees of the panel -----------------------------------------------------------------------------

    @property
    def bundle(self) -> Bundle | None:
        """The chosen model; None if there is none."""
        return self.model.bundle(self._parameters.modelName) if self._parameters is not None else None

    @property
    def volume(self) -> Any:
        return self._parameters.inputVolume if self._parameters is not None else None

    @property
    def nodes(self) -> list[Any]:
        return self.inputs.nodes(self._parameters, self.bundle) if self._parameters is not None else []

    @property
    def output(self) -> Any:
        return self._parameters.outputSegmentation

    @property
    def region(self) -> Any:
        return self._parameters.roi

    @property
    def options(self) -> dict[str, Any]:
        return options_of(self._parameters)

    @property
    def blocked(self) -> str:
        return _("The scene is being closed.") if self._parameters is None else self.dependencies.reason

    @property
    def missing(self) -> str:
        return self.inputs.missing(self._parameters, self.bundle)

    @property
    def problem(self) -> MAESegmentError | None:
        return self.inputs.problem(self._parameters, self.bundle) if self._parameters is not None else None

    @property
    def offer_context(self) -> OfferContext:
        parameters, report = self._parameters, self.dependencies.report
        if parameters is None:
            return OfferContext()
        return OfferContext(
            has_roi=parameters.roi is not None,
            python_lacks_packages=report is not None and report.can_install,
            device=parameters.device,
        )

    @property
    def remedies(self) -> Mapping[Remedy, Callable[[], Any]]:
        return {
            Remedy.USE_CPU: lambda: self.set_parameter("device", "cpu"),
            Remedy.USE_AUTO_DEVICE: lambda: self.set_parameter("device", "auto"),
            Remedy.ADD_ROI: self.add_roi,
            Remedy.HARDEN: self._harden,
            Remedy.INSTALL: self.dependencies.install,
            Remedy.SHOW_LOG: self.advanced.show_log,
            Remedy.COPY_DIAGNOSTICS: self.advanced.copy_diagnostics,
            Remedy.CHOOSE_FOLDER: self.advanced.open_folder_setting,
        }

    def set_windows(self, overlap: float, mirroring: str) -> None:
        self.set_parameter("overlap", overlap)
        self.set_parameter("mirroring", mirroring)

    def is_starting(self) -> bool:
        return self._logic.session.client.state in (WorkerState.STOPPED, WorkerState.STARTING)

    def show(self, message: Message) -> None:
        self.messages.show(message)

    def show_result(self, job: Any) -> None:
        segmentation = job.result()
        if self._parameters is None:
            return
        if mrml.volume_of(segmentation) is self.volume:
            self.result.show_new(segmentation, job.summary)
            self.set_parameter("outputSegmentation", segmentation)
            if self._is_entered:
                self.show_in_views(self.volume, segmentation)
            elif not mrml.is_in_views(self.volume):
                # The user works on another scan in another module.
                mrml.hide(segmentation)
        else:
            self.result.add(segmentation, job.summary)
            mrml.hide(segmentation)

    def show_in_views(self, volume: Any, segmentation: Any = None) -> None:
        """A scan, at what was found in it, without the segmentations of others."""
        if mrml.show_in_views(volume, mrml.middle_of(segmentation) if segmentation is not None else None):
            self.segment.say(
                _(
                    "Segmentations of other scans are hidden. They appear again when their volume is chosen here, or "
                    "by the eye beside them in the Data module."
                )
            )

    def update(self) -> None:
        """Bring every section up to date; cheap, and called after each change of the parameters."""
        if not self._is_open or self._parameters is None:
            return
        free = self.segment.job is None
        bundle = self.bundle
        self.inputs.update(self._parameters, bundle, enabled=free, models=self.model.bundles)
        self.model.update(self._parameters.modelName, enabled=free)
        self.ui.outputSelector.enabled = free
        state = self.segment.state()
        show_control(self.ui.segmentButton, state.button)
        self.speed.update(enabled=free)
        self.ui.progressWidget.visible = state.is_running
        self._show_progress()
        self.batch.update()
        self.advanced.update(self._parameters, enabled=free)
        self.result.show(self.output)
        self.improve.update()
        self.fix.presenter.update(self.dependencies.reason)
        self.segment.check_inputs()

    def _show_progress(self) -> None:
        """Where it is not known how long a step takes, the bar moves without a figure."""
        state = self.segment.state()
        self.ui.progressBar.maximum = 1000 if state.fraction is not None else 0
        self.ui.progressBar.value = round(1000 * (state.fraction or 0.0))
        self.ui.stageLabel.text = state.text

    def set_parameter(self, name: str, value: Any) -> None:
        if self._parameters is not None and getattr(self._parameters, name) != value:
            setattr(self._parameters, name, value)

    def _choose_model(self, name: str) -> None:
        self.set_parameter("modelName", name)
        self.update()

    def _choose_defaults(self) -> None:
        if not self._parameters.modelName:
            self.set_parameter("modelName", self.model.default())
        # The selector does not choose a volume that is loaded while it shows none.
        if self._is_entered and self.segment.job is None and not slicer.mrmlScene.IsBatchProcessing():
            self.inputs.choose_default(self._parameters)

    def _on_parameters_changed(self, _caller: Any = None, _event: Any = None) -> None:
        if self._parameters.inputVolume is not self._volume:
            self._volume = self._parameters.inputVolume
            self._choose_region_of_volume()
            self.set_parameter("modelName", self.model.for_scan(self._parameters.modelName))
            self._choose_output_of_volume()
        self._note_region()
        self._update_soon()

    def _note_region(self) -> None:
        if self._volume is not None:
            roi = self._parameters.roi
            self._last_volume = self._volume.GetID()
            self._regions[self._last_volume] = roi.GetID() if roi is not None else ""

    def _choose_region_of_volume(self) -> None:
        """A box of one scan would lie anywhere on the next: that is segmented in its own, or as a whole."""
        if self._volume is None or self._last_volume is None or slicer.mrmlScene.IsBatchProcessing():
            return
        roi = self._parameters.roi
        # A script may have chosen both at once.
        if self._regions[self._last_volume] == (roi.GetID() if roi is not None else ""):
            own = self._regions.get(self._volume.GetID())
            self.set_parameter("roi", slicer.mrmlScene.GetNodeByID(own) if own else None)

    def _choose_output_of_volume(self) -> None:
        """The result of one scan is not where the next one's goes: its own last one is chosen and shown."""
        volume, output = self._volume, self._parameters.outputSegmentation
        if slicer.mrmlScene.IsBatchProcessing():
            return  # a scene that is being loaded says itself what is chosen and shown
        if volume is None:
            return
        if output is None or not mrml.may_be_of(output, volume):
            self.set_parameter("outputSegmentation", (results_of(volume) or [None])[-1])
        if output is not None or self.output is not None or any(map(mrml.is_waiting, mrml.segmentations_of(volume))):
            self._show_volume()

    def _show_volume(self) -> None:
        """With the chosen segmentation if that is of it."""
        output = self.output
        is_of_it = output is not None and mrml.volume_of(output) is self.volume
        self.show_in_views(self.volume, output if is_of_it else None)

    def _on_scene_changed(self, _caller: Any = None, _event: Any = None) -> None:
        self._update_soon()

    def _update_soon(self) -> None:
        """Once for many changes: loading a scene makes hundreds."""
        if not self._update_is_due and self._is_open:
            self._update_is_due = True
            self._logic.session.loop.call_later(0.0, self._update_now)

    def _update_now(self) -> None:
        self._update_is_due = False
        if self._is_open and self._parameters is not None:
            self._choose_defaults()
            self.update()

    def _on_python(self) -> None:
        self.improve.packages.forget()
        self.dependencies.check()

    # Acting -----------------------------------------------------------------------------------------------------------

    def show_error(self, error: MAESegmentError) -> None:
        """With what the user can do about it."""
        self.segment.show_error(error)

    def add_roi(self) -> None:
        """A box in the volume, to be dragged."""
        if self.volume is not None:
            self.inputs.add_roi(self._parameters, self.bundle)
            self.segment.say(_("Drag the box to the structure, then press Segment."))
            self.update()

    def _on_remedy(self, key: str) -> None:
        """Nothing happens while a scene is being closed."""
        if self._parameters is not None:
            self.segment.apply(Remedy(key))

    def _harden(self) -> None:
        copy = mrml.hardened_copy(self._parameters.inputVolume)
        self._regions[copy.GetID()] = self._regions.get(self._parameters.inputVolume.GetID(), "")
        self.set_parameter("inputVolume", copy)
        self.update()

    def _open_row(self, batch: Any, number: int) -> None:
        """Choose what came of a row, and show its scan in the views; of a sequence, go to the frame."""
        segmentation = batch.rows[number].segmentation
        if self._parameters is None:
            return
        if segmentation is None:
            mrml.show_frame(self._parameters.inputVolume, number)
        elif segmentation.GetScene() is not None:
            self.result.add(segmentation, batch.rows[number].summary)
            self.choose(mrml.volume_of(segmentation), segmentation)

    def choose(self, volume: Any, segmentation: Any) -> None:
        """A scan and a segmentation of it, in the views, too."""
        if volume is not None:
            self.set_parameter("inputVolume", volume)
        self.set_parameter("outputSegmentation", segmentation)
        if volume is not None:
            self.show_in_views(volume, segmentation)
