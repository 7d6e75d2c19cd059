"""Draws the README's pictures of learning: `python -m Testing.gui.make_learning_screenshots Resources/Screenshots`.

A real fine-tuning, started by the panel's buttons: hippocampus scans with noise on them, as from a much faster scan
that the model never saw, with the labels of the data set as a user's corrections. It takes ten minutes, the standard
time (a number as a second argument takes so many steps instead), and needs the folder `hippocampus_mr` of
MAESEGMENT_DATA.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import slicer
from PIL import Image

from MAESegmentLib import mrml
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.images import read_label_map, read_volume
from MAESegmentLib.mrml.matrices import to_vtk
from Testing.gui import standin
from Testing.gui.looking import Screenshot
from Testing.gui.make_screenshots import MODULE_FOLDER, wait
from Testing.skips import real_data_folder

_TRAINING, _CHECK = 6, 4
_PATIENCE_S = 3600.0
#: Standard deviation, of the range of the grey values: the Dice of the shipped model falls from 0.9 to 0.7.
_NOISE = 0.3
#: How far a run is when its curves are worth a picture and not complete.
_AT = 0.7


def main(folder: Path, data: Path, steps: int = 0) -> None:
    application = standin.install()
    for name in ("MAESEGMENT_MODELS", "MAESEGMENT_CASES", "MAESEGMENT_RUNS"):
        os.environ[name] = tempfile.mkdtemp()
    os.environ["MAESEGMENT_PYTHON"] = sys.executable
    application.temporaryPath = tempfile.mkdtemp()
    loaded = standin.load_module(MODULE_FOLDER, "MAESegment")
    loaded.show()
    panel, logic, ui = loaded.widget.panel, loaded.logic, loaded.widget.panel.ui
    model = next(bundle for bundle in logic.models() if bundle.name == "hippocampus-mr")
    panel.parameters.modelName = f"{model.name}@{model.version}"
    panel.parameters.inputVolume, panel.parameters.outputSegmentation = add_cases(logic, model, data)
    ui.stepsLineEdit.text = str(steps or "")
    for button in (ui.inputsCollapsibleButton, ui.modelCollapsibleButton, ui.outputsCollapsibleButton):
        button.collapsed = True
    ui.improveCollapsibleButton.collapsed = False
    wait(lambda: ui.fineTuneButton.enabled)
    grab = Screenshot(application, folder)
    ui.fineTuneButton.click()
    # Its pictures are those of the data set, which are not ours to publish.
    ui.casesCollapsibleButton.collapsed = True
    learning = panel.improve.learning.presenter
    wait(lambda: is_far(learning.job.status) or learning.job.is_finished, _PATIENCE_S)
    trim(grab(loaded.parent, "improve-curves"))
    wait(lambda: learning.job.is_finished and not learning.job.run.is_alive, _PATIENCE_S)
    if learning.job.status.result is None:
        raise RuntimeError(learning.job.run.log_tail())
    ui.outcomeButton.checked = True
    trim(grab(loaded.parent, "improve-banner"))
    client = logic.session.client
    standin.unload_module("MAESegment")
    wait(lambda: client.is_ended)


def trim(path: Path) -> None:
    """Cut off the empty rest below the panel."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    filled = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    Image.fromarray(pixels[: int(filled[-1]) + 10].astype(np.uint8)).save(path, optimize=True)


def is_far(status: Any) -> bool:
    """Whether the curves have something to say."""
    return bool(status.stage == "train" and status.fraction > _AT)


def add_cases(logic: Any, model: Any, data: Path) -> tuple[Any, Any]:
    """Ten corrected cases, the last of them for validation; the nodes of the last one stay."""
    dataset = load_dataset(data / "hippocampus_mr")
    names = dataset.splits["pool"][: _TRAINING + _CHECK]
    cases = {case.id: case for case in dataset.cases}
    for number, name in enumerate(names):
        case = cases[name]
        volume = load_scan(read_volume(case.image[0]), name)
        labels = read_label_map(case.label).array.astype(np.uint8).transpose(2, 1, 0)
        node = mrml.add_segmentation(volume, model.labels, np.ascontiguousarray(labels), (0, 0, 0), name=f"{name} mine")
        logic.addCase(volume, node, model, role="train" if number < _TRAINING else "check")
        if number < len(names) - 1:
            slicer.mrmlScene.RemoveNode(node)
            slicer.mrmlScene.RemoveNode(volume)
    return volume, node


def load_scan(image: Any, name: str) -> Any:
    """A scan as a fast sequence would have made it."""
    array = image.array[0].astype(np.float32)
    low, high = np.percentile(array, (1, 99))
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0.0, _NOISE, array.shape)
    noisy = 800 * (np.clip((array - low) / (high - low), 0, 1) + noise)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(noisy.transpose(2, 1, 0)).astype(np.int16))
    node.SetIJKToRASMatrix(to_vtk(image.ijk_to_ras))
    return node


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "Resources/Screenshots"),
        real_data_folder(),
        int(sys.argv[2]) if len(sys.argv) > 2 else 0,
    )
