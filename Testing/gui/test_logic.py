"""`process` and its relatives on real nodes, with a real worker."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.gui.logic_scene import edit, segment_names


@pytest.fixture
def volume(scene):
    return scene.plain("Scan")


def test_waiting_returns_the_segmentation(logic, model, volume, scene):
    segmentation = logic.process(volume, model)
    assert segment_names(segmentation) == ["front", "back", "absent"]
    assert min(scene.compare_with_truth(volume, segmentation).values()) > 0.75


def test_callback_returns_a_job_at_once_and_sees_every_stage(logic, model, volume):
    seen = []
    job = logic.process(volume, model, callback=lambda job: seen.append((job.state.name, job.stage)))
    assert not job.is_finished
    segmentation = job.result(120)
    assert seen[0][0] in ("PREPARING", "QUEUED")
    assert ("RUNNING", "segment") in seen
    assert seen[-1][0] == "DONE"
    assert segmentation.GetScene() is not None


def test_summary_says_what_the_result_line_needs(logic, model, volume):
    job = logic.process(volume, model, wait=False)
    job.result(120)
    summary = job.summary
    assert summary.model == "self-test@1.0.0"
    assert [label.name for label in summary.found] == ["front", "back"]
    assert summary.total_ml == pytest.approx(sum(summary.volumes_ml.values()))
    assert 1.0 < summary.volumes_ml[1] < 4.0
    assert 0 < summary.network_seconds <= summary.seconds
    assert summary.device == "cpu"
    assert summary.device_title
    assert summary.warnings == ()


def test_model_by_name_and_by_folder(logic, model, volume):
    assert logic.process(volume, "self-test").GetScene() is not None
    assert logic.process(volume, str(model.path)).GetScene() is not None


def test_unknown_model_is_said_before_anything_starts(logic, volume):
    with pytest.raises(Exception, match="no model called 'liver'") as caught:
        logic.process(volume, "liver")
    assert "self-test" in caught.value.hint
    assert logic.session.client.state.name == "STOPPED"


def test_no_model_at_all_says_how_to_get_one(empty_logic, volume):
    assert empty_logic.defaultModel() is None
    with pytest.raises(Exception, match="no model yet"):
        empty_logic.process(volume)


def test_default_model_is_the_highest_version(logic, model):
    assert logic.defaultModel().content_hash == model.content_hash
    assert [bundle.name for bundle in logic.models()] == ["self-test"]


def test_damaged_models_are_listed_with_the_reason(make_logic, tmp_path):
    metadata = tmp_path / "broken" / "1.0.0" / "configs" / "metadata.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("{}", encoding="utf-8")
    ((folder, error),) = make_logic(tmp_path).problems()
    assert folder.parts[-2:] == ("broken", "1.0.0")
    assert error.message


@pytest.mark.parametrize("kind", ["single_slice", "sheared", "warped"])
def test_unusable_volume_is_refused_at_the_door(logic, model, scene, kind):
    node = getattr(scene, kind)("Bad")
    with pytest.raises(Exception, match=r"\w") as caught:
        logic.process(node, model)
    assert caught.value.code in ("geometry", "node")
    assert caught.value.hint
    assert logic.session.client.state.name == "STOPPED"


def test_nothing_chosen_is_refused(logic, model):
    for nothing in (None, [], [None]):
        with pytest.raises(Exception, match=r"\w") as caught:
            logic.process(nothing, model)
        assert caught.value.code == "node"


def test_wrong_number_of_channels_names_them(logic, model, volume):
    with pytest.raises(Exception, match="needs 1") as caught:
        logic.process([volume, volume], model)
    assert caught.value.code == "node"


@pytest.mark.parametrize("options", [{"overlap": 1.5}, {"precision": "int4"}, {"mirroring": (7,)}, {"roi": (1.0, 2.0)}])
def test_impossible_settings_are_refused_at_the_door(logic, model, volume, options):
    with pytest.raises(Exception, match=r"\w") as caught:
        logic.process(volume, model, **options)
    assert caught.value.code == "configuration"


def test_untouched_output_is_filled_again(logic, model, volume):
    segmentation = logic.process(volume, model)
    assert logic.process(volume, model, outputSegmentation=segmentation) is segmentation
    assert segment_names(segmentation) == ["front", "back", "absent"]


def test_edited_output_is_refused_unless_told(logic, model, volume):
    segmentation = logic.process(volume, model)
    edit(segmentation)
    with pytest.raises(Exception, match="was edited") as caught:
        logic.process(volume, model, outputSegmentation=segmentation)
    assert caught.value.code == "node"
    assert logic.process(volume, model, outputSegmentation=segmentation, overwrite=True) is segmentation


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_edited_meanwhile_is_left_alone(logic, model, volume, overwrite):
    segmentation = logic.process(volume, model)
    job = logic.process(volume, model, wait=False, outputSegmentation=segmentation, overwrite=overwrite)
    edit(segmentation)
    result = job.result(120)
    assert result is not segmentation
    assert "edited meanwhile" in " ".join(job.summary.warnings)


def test_output_removed_meanwhile_gives_a_new_one(logic, model, volume):
    import slicer

    segmentation = logic.process(volume, model)
    job = logic.process(volume, model, wait=False, outputSegmentation=segmentation)
    slicer.mrmlScene.RemoveNode(segmentation)
    assert job.result(120).GetScene() is not None
    assert "was removed meanwhile" in " ".join(job.summary.warnings)


def test_cancel_ends_soon_and_leaves_the_scene_as_it_was(logic, model, scene, process_events_until):
    import slicer

    volume = scene.many_windows("Large")
    before = slicer.mrmlScene.GetNumberOfNodes()
    job = logic.process(volume, model, wait=False, overlap=0.75)
    process_events_until(lambda: job.stage == "segment", 120.0)
    job.cancel()
    process_events_until(lambda: job.is_finished, 10.0)
    assert job.state.name == "CANCELLED"
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    with pytest.raises(Exception, match="Cancelled"):
        job.result()


@pytest.mark.parametrize("how", ["remove", "close"])
def test_volume_that_goes_away_cancels_its_job_with_the_reason(logic, model, scene, how, process_events_until):
    import slicer

    volume = scene.many_windows("Large")
    job = logic.process(volume, model, wait=False, overlap=0.75)
    process_events_until(lambda: job.stage == "segment", 120.0)
    if how == "remove":
        slicer.mrmlScene.RemoveNode(volume)
    else:
        slicer.mrmlScene.Clear(0)
    process_events_until(lambda: job.is_finished, 10.0)
    assert job.state.name == "CANCELLED"
    assert ("removed" if how == "remove" else "closed") in job.error.message
    with pytest.raises(type(job.error), match=r"scan|Large"):
        job.result()


def test_volume_that_is_gone_is_refused(logic, model, volume):
    import slicer

    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(Exception, match="not in the scene") as caught:
        logic.process(volume, model)
    assert caught.value.code == "node"


def test_image_that_was_replaced_meanwhile_is_no_result(logic, model, volume):
    import slicer

    job = logic.process(volume, model, wait=False)
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 6, 7), np.int16))
    with pytest.raises(Exception, match="replaced by another image"):
        job.result(120)


def test_voxels_of_the_scan_are_as_they_were(logic, model, volume):
    import slicer

    before = slicer.util.arrayFromVolume(volume).copy()
    logic.process(volume, model)
    assert np.array_equal(before, slicer.util.arrayFromVolume(volume))


def test_result_follows_the_scan_below_its_transform(logic, model, scene):
    volume = scene.oblique("Turned")
    segmentation = logic.process(volume, model)
    assert segmentation.GetParentTransformNode() is volume.GetParentTransformNode()
    assert min(scene.compare_with_truth(volume, segmentation).values()) > 0.75


def test_region_of_interest_bounds_the_result(logic, model, volume, scene):
    segmentation = logic.process(volume, model, roi=(-20.0, 20.0, 1.0, 20.0, -20.0, 20.0))
    front, back = (
        scene.segment_points(segmentation, segmentation.GetSegmentation().GetNthSegmentID(n)) for n in (0, 1)
    )
    assert len(front)
    assert not len(back)


def test_worker_that_crashes_fails_its_job_and_the_next_one_works(
    logic, model, scene, kill_worker, process_events_until
):
    volume = scene.many_windows("Large")
    job = logic.process(volume, model, wait=False, overlap=0.75)
    process_events_until(lambda: job.stage == "segment", 120.0)
    kill_worker()
    process_events_until(lambda: job.is_finished, 20.0)
    assert job.state.name == "FAILED"
    assert job.error.code == "worker"
    assert logic.process(scene.plain("Next"), model).GetScene() is not None


def test_no_observer_is_left_on_the_scene(logic, model, volume):
    import slicer

    events = (slicer.vtkMRMLScene.StartCloseEvent, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent)
    before = [slicer.mrmlScene.HasObserver(event) for event in events]
    logic.process(volume, model)
    assert [slicer.mrmlScene.HasObserver(event) for event in events] == before


def test_batch_segments_each_and_lists_the_one_that_failed(logic, model, scene):
    rows = logic.processBatch([scene.plain("One"), scene.sheared("Two"), scene.left_handed("Three")], model)
    assert [(row.name, row.state.name) for row in rows] == [
        ("One", "DONE"),
        ("Two", "FAILED"),
        ("Three", "DONE"),
    ]
    assert "sheared" in rows[1].message
    assert rows[2].summary.total_ml > 1.0


def test_imported_model_is_there(logic, model, tmp_path):
    from MAESegmentLib.bundle import export_bundle

    archive = export_bundle(model, tmp_path / "model.zip")
    assert logic.importModel(str(archive)).content_hash == model.content_hash


def test_diagnostics_hold_what_helps_and_no_node_names(logic, model, scene):
    logic.process(scene.plain("John Doe"), model)
    text = logic.diagnostics()
    assert "self-test@1.0.0" in text
    assert "Worker: idle" in text
    assert "Device: cpu" in text
    assert "John Doe" not in text


@pytest.fixture
def sequence(scene):
    """Two frames, shown by a browser: (sequence node, proxy volume node)."""
    import slicer

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
    import slicer

    node, proxy = sequence
    volumes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    output = logic.processSequence(proxy, model)
    assert output.GetNumberOfDataNodes() == 2
    assert output.GetNthIndexValue(1) == node.GetNthIndexValue(1)
    assert segment_names(output.GetNthDataNode(0)) == ["front", "back", "absent"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes


def test_sequence_that_is_removed_meanwhile_fails_the_frames_that_are_left(logic, model, sequence):
    import slicer

    node, _proxy = sequence
    batch = logic.processSequence(node, model, wait=False)
    slicer.mrmlScene.RemoveNode(node)
    batch.result(120)
    assert batch.output is None
    assert all("removed" in row.message for row in batch.rows)


def test_volume_of_no_sequence_is_refused(logic, model, volume):
    with pytest.raises(Exception, match="belongs to no sequence") as caught:
        logic.processSequence(volume, model)
    assert caught.value.code == "node"
