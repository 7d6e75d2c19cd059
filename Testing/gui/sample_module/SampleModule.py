"""A scripted module as small as one can be that still has a panel, parameters and a life cycle."""

import enum

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

GREETING = "Hello"


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2


class SampleModule(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Sample")
        parent.categories = ["Testing"]


@parameterNodeWrapper
class SampleParameters:
    volume: vtkMRMLScalarVolumeNode
    others: list[vtkMRMLScalarVolumeNode]
    side: Side = Side.RIGHT
    name: str = "nobody"
    count: int = 3
    weight: float = 0.5
    loud: bool = False


class SampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.events = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SampleModuleLogic()
        widget = slicer.util.loadUI(self.resourcePath("UI/SampleModule.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        assert self.ui.greetButton.connect("clicked(bool)", self.onGreet)
        self.timer = qt.QTimer()
        self.timer.setInterval(5)
        self.parameters = self.logic.getParameterNode()
        self.connection = self.parameters.connectGui(self.ui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)

    def enter(self):
        self.events.append("enter")

    def cleanup(self):
        self.events.append("cleanup")
        self.parameters.disconnectGui(self.connection)
        self.timer.stop()
        self.removeObservers()

    def onSceneEndClose(self, _caller, _event):
        self.events.append("scene closed")

    def onGreet(self):
        self.ui.greetingLabel.text = self.logic.greeting(self.parameters)


class SampleModuleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return SampleParameters(ScriptedLoadableModuleLogic.getParameterNode(self))

    def greeting(self, parameters):
        if parameters.name == "nobody":
            raise ValueError("There is nobody to greet.")
        text = _("{greeting}, {name}").format(greeting=GREETING, name=parameters.name)
        return text.upper() if parameters.loud else text


class SampleModuleTest(ScriptedLoadableModuleTest):
    def runTest(self):
        assert SampleModuleLogic().getParameterNode().name == "nobody"
