"""Fixtures for corrected cases: folders of this test's own, and segmentations as a user draws them.

`truth` and `corrected` are of the `volume` that the test's own file gives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def case_root(settings: Any, tmp_path: Path) -> Path:
    """Where the logic keeps cases; with a space and a letter that is not ASCII, as in a documents folder."""
    root = tmp_path / "Fälle von mir"
    settings.setValue("MAESegment/CaseFolder", str(root))
    return root


@pytest.fixture
def draw(slicer_gui: Any) -> Callable[..., Any]:  # noqa: ARG001
    """`draw(volume, front=array, back=None, ...)`: a segmentation by hand; None is an empty segment."""
    import slicer

    def make(volume: Any, **segments: np.ndarray | None) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for name, array in segments.items():
            segment_id = node.GetSegmentation().AddEmptySegment("", name)
            if array is not None:
                slicer.util.updateSegmentBinaryLabelmapFromArray(array.astype(np.uint8), node, segment_id, volume)
        return node

    return make


@pytest.fixture
def truth(volume: Any) -> dict[str, np.ndarray]:
    """What is where in `volume`: (K, J, I) masks by label."""
    from MAESegmentLib import mrml
    from Testing.slicer.body_model import LABELS, body_on

    shape = volume.GetImageData().GetDimensions()[::-1]
    labels = body_on(shape, mrml.image_of([volume]).ijk_to_world)[1]
    return {label.name: labels == label.value for label in LABELS}


@pytest.fixture
def corrected(draw: Callable[..., Any], volume: Any, truth: dict[str, np.ndarray]) -> Any:
    """A segmentation of both structures; nobody looked for the third."""
    return draw(volume, front=truth["front"], back=truth["back"])


@pytest.fixture
def versions(models_folder: Path, tmp_path: Path) -> Path:
    """A folder of models of this test's own: 1.0.0 of the self test's, and its child 1.1.0, which finds less."""
    import shutil
    from dataclasses import replace

    from MAESegmentLib.bundle import open_bundle, save_bundle
    from Testing.slicer.body_model import LABELS, NAME

    folder = tmp_path / "own models"
    shutil.copytree(models_folder / NAME / "1.0.0", folder / NAME / "1.0.0")
    base = open_bundle(folder / NAME / "1.0.0")
    state = base.load_network().state_dict()
    biases = [key for key in state if key.startswith("heads.") and key.endswith(".bias")]
    assert all(state[key].shape == (1 + len(LABELS),) for key in biases)
    for key in biases:
        state[key][1] -= 4.0
    spec = replace(base.spec, version="1.1.0", parent=base.reference)
    save_bundle(folder / NAME / "1.1.0", spec, state, card="# Child\n", licence_text="None\n")
    assert biases
    return folder


@pytest.fixture
def versions_logic(make_logic: Callable[[Path], Any], versions: Path) -> Any:
    return make_logic(versions)


@pytest.fixture
def runs_folder(slicer_gui: Any) -> Path:  # noqa: ARG001
    """Where fine-tunings of this test are."""
    from MAESegmentLib.storage.user_folders import default_runs_folder

    return default_runs_folder()
