"""What the user has chosen in the panel; it is saved with the scene."""

# No `from __future__ import annotations`: the wrapper reads the types of the fields when the class is made.
from typing import Any

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper

from MAESegmentLib.app.presenters.settings import process_options


@parameterNodeWrapper
class MAESegmentParameterNode:
    """Nodes and settings. `modelName` is name@version; "" and 0 leave a choice to the program or the model."""

    inputVolume: vtkMRMLScalarVolumeNode
    channel2: vtkMRMLScalarVolumeNode
    channel3: vtkMRMLScalarVolumeNode
    channel4: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    outputSegmentation: vtkMRMLSegmentationNode
    modelName: str = ""
    device: str = "auto"
    precision: str = "auto"
    overlap: float = 0.0
    mirroring: str = "model"
    allowCpu: bool = True
    checkFamiliarity: bool = True
    clean: bool = True


def options_of(parameters: MAESegmentParameterNode) -> dict[str, Any]:
    """The settings as `MAESegmentLogic.process` takes them."""
    return process_options(
        device=parameters.device,
        precision=parameters.precision,
        overlap=parameters.overlap,
        mirroring=parameters.mirroring,
        allow_cpu=parameters.allowCpu,
        check_familiarity=parameters.checkFamiliarity,
        clean=parameters.clean,
    )
