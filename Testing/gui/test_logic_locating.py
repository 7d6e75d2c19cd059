"""A whole head as a volume node: another model places the boxes, or a panel asks for one where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib.app.result_notes import summary_of
from MAESegmentLib.app.texts.messages import result_text
from MAESegmentLib.errors import LACKS_BOX, MismatchError
from MAESegmentLib.mrml.matrices import to_vtk
from MAESegmentLib.mrml.volumes import box_hint
from Testing.gui.logic_fixtures import segment_names
from Testing.heads import head, save_models

SIDED = [f"{side} {part} hippocampus" for side in ("left", "right") for part in ("anterior", "posterior")]


@pytest.fixture
def volume(slicer_gui):  # noqa: ARG001
    scan, _truth = head()
    node = slicer.util.addVolumeFromArray(scan.array[0].T, name="Head")
    node.SetIJKToRASMatrix(to_vtk(scan.ijk_to_ras))
    return node


@pytest.mark.usefixtures("case_root")
def test_both_sides_are_segments_of_one_result_and_become_the_models_own_labels_as_a_case(make_logic, volume, tmp_path):
    logic = make_logic(save_models(tmp_path).user_folder)
    model = logic.library.find("hippo-test")
    assert "brain-test places it" in box_hint(model, logic.models())
    job = logic.process(volume, model, device="cpu", wait=False, askForBox=True)
    node = job.result(120)
    assert segment_names(node) == SIDED
    truth = head()[1].array.T
    for value, name in enumerate(SIDED, start=1):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, f"Segment_{value + 2}", volume)
        np.testing.assert_array_equal(found > 0, truth == value, err_msg=name)
    assert job.summary.warnings == ()
    assert [label.name for label in summary_of(node).labels] == SIDED, "a saved scene says it, too"
    assert result_text(summary_of(node)).endswith(". Boxes placed by brain-test 1.0.0")
    proposal = logic.proposeCase(volume, node, model)
    assert [choice.label for choice in proposal.choices] == ["anterior", "posterior"] * 2
    assert {finding.kind for finding in proposal.findings} == {"merged", "whole", "unchanged"}
    record = logic.addCase(volume, node, model)
    assert record.labels == ("anterior", "posterior")
    # In the same process, a model whose boxes are not found: a panel asks for one, a script is warned.
    logic = make_logic(save_models(tmp_path / "strict", smallest_ml=50.0).user_folder)
    with pytest.raises(MismatchError, match=r"brain-test 1\.0\.0 found only 0\.78 ml of left hippocampus") as caught:
        logic.process(volume, "hippo-test", device="cpu", askForBox=True)
    assert caught.value.details["problem"] == LACKS_BOX
    assert caught.value.hint == "Add a box around the structure."
    node = logic.process(volume, "hippo-test", device="cpu")
    assert segment_names(node) == ["anterior", "posterior"]
    assert any("found only 0.78 ml" in text for text in summary_of(node).warnings)
