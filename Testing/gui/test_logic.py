"""`process` and its relatives on real nodes, with a real worker; cancelling is in the self test (Testing/slicer)."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.app.outputs import results_of, scan_title
from MAESegmentLib.app.processing import roi_box
from MAESegmentLib.app.result_notes import summary_of
from MAESegmentLib.app.texts.messages import result_text
from MAESegmentLib.bundle.suitability import BoxPlacing
from MAESegmentLib.errors import MAESegmentError, MismatchError, NodeError
from MAESegmentLib.mrml.volumes import set_modality
from Testing import slicer_core
from Testing.bundles import save_tiny
from Testing.gui.logic_fixtures import edit, segment_names


@pytest.fixture
def volume(scene):
    return scene.plain("Scan")


def test_a_job_reports_every_stage_and_the_summary_says_what_the_result_line_needs(logic, model, volume, scene):
    voxels = slicer.util.arrayFromVolume(volume).copy()
    events = (slicer.vtkMRMLScene.StartCloseEvent, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent)
    observed = [slicer.mrmlScene.HasObserver(event) for event in events]
    seen = []
    job = logic.process(volume, str(model.path), callback=lambda job: seen.append((job.state.name, job.stage)))
    assert not job.is_finished
    segmentation = job.result(120)
    assert seen[0][0] in ("PREPARING", "QUEUED")
    assert ("RUNNING", "segment") in seen
    assert seen[-1][0] == "DONE"
    assert segment_names(segmentation) == ["front", "back", "absent"]
    assert min(scene.compare_with_truth(volume, segmentation).values()) > 0.75
    summary = job.summary
    assert summary.model == "self-test@1.0.0"
    assert [label.name for label in summary.found] == ["front", "back"]
    assert summary.total_ml == pytest.approx(sum(summary.volumes_ml.values()))
    assert 1.0 < summary.volumes_ml[1] < 4.0
    assert result_text(summary_of(segmentation)) == result_text(summary), "a saved scene says it, too"
    assert 0 < summary.network_seconds <= summary.seconds
    assert summary.device == "cpu"
    assert summary.device_title
    assert summary.warnings == ()
    assert np.array_equal(voxels, slicer.util.arrayFromVolume(volume))
    assert [slicer.mrmlScene.HasObserver(event) for event in events] == observed


def test_what_the_model_cannot_fit_is_refused_before_anything_runs_unless_allowed(logic, volume, tmp_path):
    model = save_tiny(tmp_path / "tiny")
    set_modality(volume, "CT")
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(MismatchError, match="This scan is CT; tiny-mr was trained on MR"):
        logic.process(volume, model)
    assert logic.session.client.state.name == "STOPPED"
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    job = logic.processBatch([volume], model, wait=False)
    assert [(row.state.name, row.error.code) for row in job.result()] == [("FAILED", "mismatch")]
    (row,) = logic.processBatch([volume], model, allowMismatch=True)
    assert row.summary.warnings[0] == (
        "The scan does not look like what the model was trained on: This scan is CT; tiny-mr was trained on MR. "
        "Segmented all the same."
    )
    assert row.message.startswith(row.summary.warnings[0])


def test_a_batch_is_told_with_each_result_that_the_model_wants_a_box(logic, model, volume, monkeypatch):
    lacking = BoxPlacing(lacking="It is made for a box.")
    monkeypatch.setattr("MAESegmentLib.app.processing.box_placing", lambda *_about: lacking)
    (row,) = logic.processBatch([volume], model)
    assert row.summary.warnings == ("It is made for a box. Add a box around the structure.",)
    with pytest.raises(MismatchError, match="made for a box"):
        logic.process(volume, model, askForBox=True)
    with pytest.raises(MismatchError, match="made for a box"):
        logic.process(volume, model, askForBox=True, allowMismatch=True)


def test_models_are_found_or_it_is_said_how_to_get_one(logic, model, make_logic, volume, tmp_path):
    assert logic.defaultModel().content_hash == model.content_hash
    assert [bundle.name for bundle in logic.models()] == ["self-test"]
    with pytest.raises(Exception, match="no model called 'liver'") as caught:
        logic.process(volume, "liver")
    assert "self-test" in caught.value.hint
    empty = make_logic(tmp_path)
    assert empty.defaultModel() is None
    with pytest.raises(Exception, match="no model yet"):
        empty.process(volume)
    metadata = tmp_path / "broken" / "1.0.0" / "configs" / "metadata.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("{}", encoding="utf-8")
    ((folder, error),) = make_logic(tmp_path).problems()
    assert folder.parts[-2:] == ("broken", "1.0.0")
    assert error.message
    assert logic.session.client.state.name == "STOPPED"


@pytest.mark.parametrize("kind", ["single_slice", "sheared", "warped", "plain", "removed", "nothing"])
def test_what_cannot_work_is_refused_at_the_door(logic, model, scene, kind):
    """Two plain volumes are one too many."""
    node = None if kind == "nothing" else getattr(scene, "plain" if kind == "removed" else kind)("Bad")
    if kind == "removed":
        slicer.mrmlScene.RemoveNode(node)
    with pytest.raises(Exception, match=r"\w") as caught:
        logic.process([node, node] if kind == "plain" else node, model)
    assert caught.value.code in ("geometry", "node")
    assert caught.value.message
    assert caught.value.hint
    assert logic.session.client.state.name == "STOPPED"


@pytest.mark.parametrize("options", [{"overlap": 1.5}, {"precision": "int4"}, {"mirroring": (7,)}, {"roi": (1.0, 2.0)}])
def test_impossible_settings_are_refused_at_the_door(logic, model, volume, options):
    with pytest.raises(Exception, match=r"\w") as caught:
        logic.process(volume, model, **options)
    assert caught.value.code == "configuration"


def test_untouched_output_is_filled_again_and_an_edited_one_only_if_told(logic, volume):
    segmentation = logic.process(volume, "self-test")
    assert logic.process(volume, outputSegmentation=segmentation) is segmentation
    assert segment_names(segmentation) == ["front", "back", "absent"]
    edit(segmentation)
    with pytest.raises(Exception, match="was edited") as caught:
        logic.process(volume, outputSegmentation=segmentation)
    assert caught.value.code == "node"
    assert logic.process(volume, outputSegmentation=segmentation, overwrite=True) is segmentation


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_edited_or_removed_meanwhile_gives_a_new_one(logic, model, volume, overwrite):
    segmentation = logic.process(volume, model)
    job = logic.process(volume, model, wait=False, outputSegmentation=segmentation, overwrite=overwrite)
    edit(segmentation)
    result = job.result(120)
    assert result is not segmentation
    assert "edited meanwhile" in " ".join(job.summary.warnings)
    job = logic.process(volume, model, wait=False, outputSegmentation=result)
    slicer.mrmlScene.RemoveNode(result)
    assert job.result(120).GetScene() is not None
    assert "was removed meanwhile" in " ".join(job.summary.warnings)


def test_voxels_that_were_changed_meanwhile_are_a_warning(logic, model, volume):
    assert logic.process(volume, model, wait=False).result(120) is not None
    job = logic.process(volume, model, wait=False)
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume) // 2)
    job.result(120)
    assert "voxels were changed while it was being segmented" in " ".join(job.summary.warnings)


def test_of_a_box_that_is_moved_meanwhile_the_result_is_where_it_was(logic, model, volume, box):
    left = box("left box", -20.0, 0.0)
    job = logic.process(volume, model, wait=False, roi=left)
    left.SetCenter(10.0, 0.0, 0.0)
    segmentation = job.result(120)
    assert logic.outputFor(segmentation, volume, model, left) is None
    left.SetCenter(-10.0, 0.0, 0.0)
    assert logic.outputFor(segmentation, volume, model, left) is segmentation


def test_image_that_was_replaced_meanwhile_is_not_a_result(logic, model, volume):
    job = logic.process(volume, model, wait=False)
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 6, 7), np.int16))
    with pytest.raises(Exception, match="replaced by another image"):
        job.result(120)


def test_closing_the_scene_cancels_its_jobs_with_the_reason(logic, model, scene, process_events_until):
    job = logic.process(scene.many_windows("Large"), model, wait=False, overlap=0.75)
    process_events_until(lambda: job.stage == "segment", 120.0)
    slicer.mrmlScene.Clear(0)
    process_events_until(lambda: job.is_finished, 10.0)
    assert job.state.name == "CANCELLED"
    assert "closed" in job.error.message


def test_region_of_interest_bounds_the_result(logic, model, volume, scene):
    segmentation = logic.process(volume, model, roi=(-20.0, 20.0, 1.0, 20.0, -20.0, 20.0))
    ids = [segmentation.GetSegmentation().GetNthSegmentID(number) for number in (0, 1)]
    assert [len(scene.segment_points(segmentation, one)) > 0 for one in ids] == [True, False]


def test_a_box_is_numbers_text_a_node_or_its_name(volume):
    box = (-20.0, 20.0, 1.0, 20.0, -20.0, 20.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "left hippocampus")
    node.SetXYZ(0.0, 10.5, 0.0)
    node.SetRadiusXYZ(20.0, 9.5, 20.0)
    for given in (box, "-20,20,1,20,-20,20", node, "left hippocampus"):
        assert roi_box(given, volume.GetScene()) == pytest.approx(box)
    for wrong, said in (("right", "'right' is not six numbers"), (volume.GetName(), "is not a region of interest")):
        with pytest.raises(MAESegmentError, match=said):
            roi_box(wrong, volume.GetScene())


def test_a_name_is_not_taken_for_the_volume_itself(logic, model):
    with pytest.raises(NodeError, match="'head' is not a volume of the scene"):
        logic.process("head", model)


def test_diagnostics_hold_what_helps_and_no_node_names(logic, model, scene):
    logic.process(scene.plain("John Doe"), model)
    text = logic.diagnostics()
    assert all(part in text for part in ("self-test@1.0.0", "Worker: idle", "Device: cpu"))
    assert "John Doe" not in text


@pytest.fixture
def box(slicer_gui):  # noqa: ARG001
    """`box(name, r0, r1)`: a region that spans the scan along A and S."""

    def make(name, low, high):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        node.SetSize(high - low, 60.0, 60.0)
        node.SetCenter((low + high) / 2, 0.0, 0.0)
        return node

    return make


def test_what_was_made_of_another_scan_region_or_model_stays_and_the_same_is_made_again(
    make_logic, versions, scene, box
):
    logic, scan, other = make_logic(versions), scene.plain("Head"), scene.plain("Knee")
    old, new = (logic.library.find(f"self-test@{version}") for version in ("1.0.0", "1.1.0"))
    left, right = box("left box", -30.0, 0.0), box("Head right box", 0.0, 30.0)

    def segment(output, volume, model, roi=None):
        return logic.process(volume, model, roi=roi, outputSegmentation=logic.outputFor(output, volume, model, roi))

    of_left = segment(None, scan, old, left)
    content = mrml.content_of(of_left)
    of_right = segment(of_left, scan, old, right)
    whole = segment(of_right, scan, old)
    by_new = segment(whole, scan, new)
    of_other = segment(by_new, other, new)
    results = [of_left, of_right, whole, by_new, of_other]
    names = ["Head - self-test (left box)", "Head - self-test (right box)", "Head - self-test", "Knee - self-test"]
    assert [node.GetName() for node in results] == [*names[:3], "Head - self-test_1", names[3]]
    assert mrml.content_of(of_left) == content
    for node, *request in zip(results[:3], [scan] * 3, [old] * 3, [left, right, None], strict=True):
        for chosen in (node, by_new):
            assert segment(chosen, *request) is node
    edit(of_left)
    with pytest.raises(Exception, match="was edited"):
        segment(of_right, scan, old, left)
    # A script says where: then the name is true of what is in it now.
    logic.process(scan, old, roi=right, outputSegmentation=whole)
    assert whole.GetName() == "Head - self-test (right box)_1"
    for mine, model in (("Head - self-test final", old), ("Mine", new)):
        by_new.SetName(mine)
        logic.process(scan, model, roi=left, outputSegmentation=by_new)
        assert by_new.GetName() == mine
    # A scene comes from anywhere: a region that is none is of no request.
    for text in ("[1", "7", '"left"', '[1, 2, 3, 4, 5, "x"]', "[NaN, 1, 2, 3, 4, 5]"):
        whole.SetAttribute("MAESegment.Region", text)
        assert logic.outputFor(whole, scan, old, right) is not whole


def test_a_scene_of_the_version_before_keeps_its_results(logic, model, scene, tmp_path):
    """That noted the model alone, and called a result "Head self-test"."""
    result = logic.process(scene.plain("Head"), model)
    result.SetName("Head self-test")
    for name in [*result.GetAttributeNames()]:
        if name not in ("MAESegment.Model", "MAESegment.ModelHash"):
            result.RemoveAttribute(name)
    result.RemoveNodeReferenceIDs("MAESegment.Input")
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer_core.fresh_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    head = slicer.util.getNode("Head")
    (old,) = results_of(head)
    content = mrml.content_of(old)
    assert (scan_title(old), summary_of(old), mrml.is_edited(old)) == ("Head", None, False)
    assert logic.outputFor(old, head, model) is None
    new = logic.process(head, model)
    assert (old.GetName(), new.GetName()) == ("Head self-test", "Head - self-test")
    assert mrml.content_of(old) == content
    assert logic.outputFor(old, head, model) is new


def test_scans_of_one_name_have_results_that_are_told_apart(logic, model, scene):
    scans = [scene.plain("Head"), scene.plain("Head")]
    assert {scan.GetName() for scan in scans} == {"Head"}
    rows = logic.processBatch(scans, model)
    assert [row.name for row in rows] == ["Head", "Head (2)"]
    results = [row.segmentation for row in rows]
    assert [node.GetName() for node in results] == ["Head - self-test", "Head (2) - self-test"]
    assert [scan_title(node) for node in results] == ["Head", "Head (2)"]
    slicer.mrmlScene.RemoveNode(scans[0])
    assert scan_title(results[1]) == "Head"


@pytest.fixture
def sequence(scene):
    """Two frames, shown by a browser: (sequence node, proxy volume node)."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    node.SetIndexName("time")
    node.SetIndexUnit("s")
    for value in ("0", "1"):
        volume = scene.plain("Frame")
        node.SetDataNodeAtValue(volume, value)
        slicer.mrmlScene.RemoveNode(volume)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(node)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return node, browser.GetProxyNode(node)


def test_sequence_gives_a_sequence_of_segmentations_and_no_other_nodes(logic, model, sequence):
    node, proxy = sequence
    volumes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    output = logic.processSequence(proxy, model)
    assert output.GetNumberOfDataNodes() == 2
    assert output.GetNthIndexValue(1) == node.GetNthIndexValue(1)
    assert segment_names(output.GetNthDataNode(0)) == ["front", "back", "absent"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes


def test_the_result_of_one_frame_is_not_replaced_by_that_of_the_next(logic, model, sequence):
    _node, proxy = sequence
    browser = slicer.mrmlScene.GetFirstNodeByName("Browser")
    browser.SetSelectedItemNumber(0)
    first = logic.process(proxy, model)
    assert logic.outputFor(first, proxy, model) is first
    assert first.GetName().endswith("(frame 1)")
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    assert logic.outputFor(first, proxy, model) is None
    assert scan_title(first) == f"{proxy.GetName()} (frame 1)"


def test_sequence_that_is_removed_meanwhile_fails_the_frames_that_are_left(logic, model, sequence):
    batch = logic.processSequence(sequence[0], model, wait=False)
    slicer.mrmlScene.RemoveNode(sequence[0])
    batch.result(120)
    assert batch.output is None
    assert all("removed" in row.message for row in batch.rows)


def test_volume_of_no_sequence_is_refused(logic, model, volume):
    with pytest.raises(Exception, match="belongs to no sequence") as caught:
        logic.processSequence(volume, model)
    assert caught.value.code == "node"
