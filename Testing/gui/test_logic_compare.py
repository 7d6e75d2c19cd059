"""Versions of a model from the console: chosen, removed, exported, and two of them on one scan."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from Testing.gui.logic_fixtures import segment_names

pytestmark = pytest.mark.usefixtures("runs_folder")


@pytest.fixture
def volume(scene):
    return scene.oblique("Scan")


@pytest.fixture
def logic(make_logic, versions):
    return make_logic(versions)


def masks(segmentation, volume) -> dict[str, np.ndarray]:
    content = segmentation.GetSegmentation()
    ids = [content.GetNthSegmentID(number) for number in range(content.GetNumberOfSegments())]
    return {
        content.GetSegment(one).GetName(): slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, volume) != 0
        for one in ids
    }


def node_ids() -> set[str]:
    """But for the one subject hierarchy, which comes with the first segmentation and stays."""
    scene = slicer.mrmlScene
    ids = {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}
    return {node_id for node_id in ids if "SubjectHierarchy" not in node_id}


def test_two_versions_on_one_scan(logic, volume):
    seen = []
    job = logic.compare(volume, "self-test@1.0.0", "self-test@1.1.0", callback=lambda job: seen.append(job.stage))
    assert not job.is_finished
    result = job.result(300)
    assert list(dict.fromkeys(stage for stage in seen if stage)) == ["first", "second", "compare"]
    assert result.first.GetName() == "Scan self-test 1.0.0"
    assert result.second.GetName() == "Scan self-test 1.1.0"
    assert segment_names(result.disagreement) == ["disagreement"]
    first, second = masks(result.first, volume), masks(result.second, volume)
    voxel_ml = abs(np.linalg.det(np.diag(volume.GetSpacing()))) / 1000
    expected = np.zeros(first["front"].shape, bool)
    for row in result.rows:
        a, b = first[row.label], second[row.label]
        expected |= a != b
        assert row.first_ml == pytest.approx(a.sum() * voxel_ml, rel=1e-3)
        assert row.second_ml == pytest.approx(b.sum() * voxel_ml, rel=1e-3)
        if (a | b).any():
            assert row.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert [row.label for row in result.rows] == ["front", "back", "absent"]
    assert result.rows[0].second_ml < result.rows[0].first_ml
    (disagreement,) = masks(result.disagreement, volume).values()
    np.testing.assert_array_equal(disagreement, expected)
    assert expected.any()
    assert result.disagreement.GetParentTransformNode() is volume.GetParentTransformNode()
    assert result.disagreement_ml == pytest.approx(expected.sum() * voxel_ml, rel=1e-3)


def test_a_version_with_itself_has_nothing_to_show(logic, volume):
    result = logic.compare(volume, "self-test", "self-test")
    assert not masks(result.disagreement, volume)["disagreement"].any()
    assert [row.dice for row in result.rows] == [1.0, 1.0, None]


def test_cancelling_leaves_the_scene_as_it_was(logic, volume, process_events_until):
    before = node_ids()
    job = logic.compare(volume, "self-test@1.0.0", "self-test@1.1.0", wait=False)
    process_events_until(lambda: job.stage == "second" or job.is_finished, 300.0)
    job.cancel()
    with pytest.raises(Exception, match="Cancelled"):
        job.result(60)
    assert node_ids() == before


def test_a_scan_that_is_removed_ends_it_with_the_reason(logic, volume, process_events_until):
    job = logic.compare(volume, "self-test@1.0.0", "self-test@1.1.0", wait=False)
    process_events_until(lambda: job.stage == "second" or job.is_finished, 300.0)
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(Exception, match="Scan was removed"):
        job.result(60)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_an_unknown_version_is_said_before_anything_starts(logic, volume):
    with pytest.raises(Exception, match=r"no version 9\.0\.0"):
        logic.compare(volume, "self-test", "self-test@9.0.0")
    assert logic.session.client.state.name == "STOPPED"


def test_versions_are_chosen_exported_removed_and_come_back_as_they_were(logic, tmp_path):
    assert logic.defaultModel().version == "1.1.0"
    logic.useVersion("self-test@1.0.0")
    assert logic.defaultModel().version == logic.selectedModel("self-test").version == "1.0.0"
    assert logic.selectedModel("liver") is None
    logic.useVersion("self-test@1.1.0")
    before = logic.selectedModel("self-test").content_hash
    path = logic.exportModel("self-test@1.1.0", tmp_path / "child.zip")
    with pytest.raises(Exception, match="Other versions were made from it"):
        logic.removeVersion("self-test@1.0.0")
    logic.removeVersion("self-test@1.1.0")
    assert [bundle.version for bundle in logic.models()] == ["1.0.0"]
    assert logic.importModel(str(path)).content_hash == before
