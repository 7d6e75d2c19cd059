"""The Slicer module MAESegment: what Slicer looks for by name; the rest is in MAESegmentPlugin and MAESegmentLib."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

_OWN = ("MAESegmentPlugin", "MAESegmentLib", "MAESegmentSelfTest")


def _drop_helpers() -> None:
    """On Reload, forget the helper code, so that it is executed again; the worker of the old code ends first."""
    if "MAESegmentPlugin" not in sys.modules:
        return
    old = sys.modules.get("MAESegmentPlugin.session")
    if old is not None:
        old.close_shared_session()
    for name in [name for name in sys.modules if name.split(".")[0] in _OWN]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _find_helpers() -> None:
    """Make both packages importable: in a source tree the library lies beside this folder, which Slicer never scans."""
    here = Path(__file__).resolve().parent
    for name, folder in (("MAESegmentPlugin", here), ("MAESegmentLib", here.parent)):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            sys.path.append(str(folder))
            module = importlib.import_module(name)
        logging.info("MAESegment: %s is %s", name, module.__file__)


_drop_helpers()
_find_helpers()

from MAESegmentPlugin.sample_data import register as register_sample_data  # noqa: E402
from MAESegmentPlugin.session import Session, close_shared_session, shared_session  # noqa: E402

from MAESegmentLib.app.logic import Logic  # noqa: E402
from MAESegmentLib.bundle.library import ModelLibrary  # noqa: E402

if TYPE_CHECKING:
    from MAESegmentPlugin.dependencies import Dependencies, DependencyReport


class MAESegment(ScriptedLoadableModule):
    """What the module is; nothing is imported, started or installed for it here."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "MAESegment"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Volumes", "Terminologies"]
        parent.contributors = ["The MAESegment authors"]
        parent.helpText = _(
            "Segments a scan with an nnFormer that was pretrained as a masked autoencoder, and that learns from a few "
            "corrected cases. Choose a volume and a model, press Segment."
        )
        parent.acknowledgementText = _("The method is described in arXiv 2604.22854.")
        if not slicer.app.connect("startupCompleted()", register_sample_data):
            logging.warning("MAESegment: its entries are missing from Sample Data")


class MAESegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects the panel to Slicer's life cycle."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.panel: Any = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from MAESegmentPlugin.panel import Panel

        self.logic = MAESegmentLogic()
        ui = slicer.util.loadUI(self.resourcePath("UI/MAESegment.ui"))
        self.layout.addWidget(ui)
        ui.setMRMLScene(slicer.mrmlScene)
        self.panel = Panel(self, ui, self.logic)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.panel.set_parameter_node(self.logic.getParameterNode())
        if self.parent.visible:
            # Reload puts a new panel before the user, and does not call `enter`.
            self.enter()

    def enter(self) -> None:
        self.panel.set_parameter_node(self.logic.getParameterNode())
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded or reloaded, or Slicer ends: no process and no observer is left behind."""
        if self.panel is not None:
            self.panel.cleanup()
        self.removeObservers()
        close_shared_session()

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        self.panel.set_parameter_node(None)
        self.panel.scene_start_close()

    def onSceneEndClose(self, _caller: Any, _event: Any) -> None:
        self.panel.scene_end_close()
        self.panel.set_parameter_node(self.logic.getParameterNode())

    def onSceneEndImport(self, _caller: Any, _event: Any) -> None:
        self.panel.set_parameter_node(self.logic.getParameterNode())


class MAESegmentLogic(ScriptedLoadableModuleLogic, Logic):
    """Segmentation from a script or the console: `slicer.util.getModuleLogic("MAESegment").process(volumeNode)`.

    Never opens a dialog; what goes wrong is an exception of `MAESegmentLib.errors`.
    """

    _session: Session | None

    def __init__(
        self,
        parent: Any = None,
        *,
        session: Session | None = None,
        library: ModelLibrary | None = None,
        caseFolder: Path | None = None,
    ) -> None:
        """Another session, models and folder for cases than this Slicer's are for tests."""
        ScriptedLoadableModuleLogic.__init__(self, parent)
        Logic.__init__(self, session, library, caseFolder)
        self._dependencies: Dependencies | None = None

    @property
    def session(self) -> Session:
        """The worker and its settings; shared by all logics of this Slicer unless one was given."""
        return self._session or shared_session()

    @property
    def dependencies(self) -> Dependencies:
        """Says what the Python for the network lacks: `check(callback)` or, waiting, `check_now()`."""
        if self._dependencies is None:
            from MAESegmentPlugin.dependencies import Dependencies

            self._dependencies = Dependencies(self.session)
        return self._dependencies

    def diagnostics(self, report: DependencyReport | None = None, error: BaseException | None = None) -> str:
        """Versions, devices, models and the end of the log, to be sent to whoever helps; nothing about a patient."""
        from MAESegmentPlugin.diagnostics import diagnostics_text

        models, problems = self.models(), self.problems()
        return diagnostics_text(self.session, models=models, problems=problems, report=report, error=error)

    def getParameterNode(self) -> Any:
        """What the panel shows and the scene keeps."""
        from MAESegmentPlugin.parameters import MAESegmentParameterNode

        wrap: Any = MAESegmentParameterNode  # `parameterNodeWrapper` gives it the node as its argument
        return wrap(ScriptedLoadableModuleLogic.getParameterNode(self))


class MAESegmentTest(ScriptedLoadableModuleTest):
    """The self test: a real child process segments synthetic volumes, and voxels are compared in world space."""

    def runTest(self, **_kwargs: Any) -> None:
        from MAESegmentPlugin.self_test import load_self_test

        report = load_self_test().run(MAESegmentLogic)
        if report.failures:
            raise AssertionError(report.text)
