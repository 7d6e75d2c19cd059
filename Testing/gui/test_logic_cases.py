"""Corrected segmentations become stored cases, on real nodes and with a real worker; and cases become nodes again."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import slicer

from MAESegmentLib.images import hashing
from MAESegmentLib.mrml.volumes import set_modality
from Testing import slicer_core
from Testing.gui.logic_fixtures import edit, segment_names

pytestmark = pytest.mark.usefixtures("case_root")


@pytest.fixture
def volume(scene):
    return scene.plain("Scan")


def kinds(proposal) -> dict[str, str]:
    return {choice.segment: choice.kind for choice in proposal.choices}


def findings(proposal) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in proposal.findings}


# What it would be ----------------------------------------------------------------------------------------------------


def test_names_of_the_model_need_no_answer(logic, volume, corrected):
    proposal = logic.proposeCase(volume, corrected)
    assert kinds(proposal) == {"front": "same", "back": "same"}
    assert proposal.modelLabels == ("front", "back", "absent")
    assert findings(proposal) == {"missing": "warning"}
    assert (proposal.duplicate, proposal.stored, proposal.isChanged) == (None, None, False)
    assert not logic.caseStore().folder.exists(), "looking changes nothing"


def test_scan_of_another_modality_than_the_models_is_asked_about(logic, volume, corrected):
    set_modality(volume, "MR")
    found = {finding.kind: finding.message for finding in logic.proposeCase(volume, corrected).findings}
    assert found["mismatch"] == "This scan is MR; self-test was trained on CT."


def test_other_names_are_asked_about(logic, volume, draw, truth):
    node = draw(volume, Frontt=truth["front"], lesion=truth["back"])
    assert kinds(logic.proposeCase(volume, node)) == {"Frontt": "similar", "lesion": "new"}
    with pytest.raises(Exception, match=r'"Frontt" \(perhaps front\), "lesion"') as caught:
        logic.addCase(volume, node)
    assert 'mapping={"Frontt": "front", "lesion": "LABEL"}' in caught.value.hint
    assert 'newLabels=["Frontt", "lesion"]' in caught.value.hint
    assert caught.value.details["problem"] == "unclear_segments"


def test_segments_without_a_voxel_count_as_not_annotated(logic, volume, draw, truth):
    proposal = logic.proposeCase(volume, draw(volume, front=truth["front"], absent=None))
    (empty,) = [finding for finding in proposal.findings if finding.kind == "empty"]
    assert empty.details == {"segment": "absent", "label": "absent"}
    assert findings(logic.proposeCase(volume, draw(volume, front=None)))["nothing"] == "error"


@pytest.mark.parametrize(
    ("kinds", "finding", "words"),
    [
        (["single_slice"], "scan", "odd"),
        (["warped"], "scan", "odd"),
        (["plain", "plain"], "channels", r"1 volumes \(CT\) a case; 2 were given"),
    ],
)
def test_scans_that_cannot_be_used_are_an_error_in_the_proposal(logic, scene, corrected, kinds, finding, words):
    nodes = [getattr(scene, kind)("odd") for kind in kinds]
    scans = nodes if len(nodes) > 1 else nodes[0]
    assert findings(logic.proposeCase(scans, corrected))[finding] == "error"
    with pytest.raises(Exception, match=words):
        logic.addCase(scans, corrected)


def test_a_segmentation_of_another_scan_is_asked_about(logic, scene, corrected):
    other = scene.plain("Other")
    (finding,) = [one for one in logic.proposeCase(other, corrected).findings if one.kind == "other_scan"]
    assert (finding.severity, finding.message) == ("warning", "Drawn was made on Scan, not on Other.")


def test_a_result_of_a_scan_that_was_removed_is_asked_about(logic, scene, volume, corrected):
    corrected.SetAttribute("MAESegment.ModelHash", "hash of a model")
    slicer.mrmlScene.RemoveNode(volume)
    found = logic.proposeCase(scene.plain("Other"), corrected).findings
    (finding,) = [one for one in found if one.kind == "other_scan"]
    assert finding.message == "Drawn was made on a scan that was removed, not on Other."


def test_what_another_tool_made_is_asked_about_once_and_stored_where_it_is(logic, scene):
    """Another grid, overlaps, names of its own, no colours, no scan, no display."""
    from MAESegmentLib import mrml
    from MAESegmentLib.mrml.layers import oriented_image, outcome
    from Testing.slicer.body_model import body_on

    for number, volume in enumerate((scene.oblique("One"), scene.left_handed("Two"))):
        matrix, shape = mrml.image_of([volume]).ijk_to_world, volume.GetImageData().GetDimensions()
        fine = matrix @ np.diag([0.5, 0.5, 0.5, 1.0])  # and off by part of a voxel
        fine[:3, 3] -= matrix[:3, :3] @ np.full(3, 0.2)
        labels = body_on(tuple(2 * n for n in shape[::-1]), fine)[1]
        masks = {"part_front": labels == 1, "back_": labels == 2, "kidney_left": labels > 0, "heart": labels == 1}
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "total")
        for name, mask in masks.items():
            segment = slicer.vtkSegment()
            segment.SetName(name)
            segment.AddRepresentation("Binary labelmap", outcome(oriented_image(mask.astype("u1"), (0, 0, 0), fine)))
            node.GetSegmentation().AddSegment(segment, name)
        proposal = logic.proposeCase(volume, node)
        assert {finding.severity for finding in proposal.findings} <= {"warning"}
        how = {}
        if number == 0:
            assert kinds(proposal) == dict(zip(masks, ("new", "same", "new", "new"), strict=True))
            how = {"mapping": {"part_front": "front", "kidney_left": None, "heart": None}}
        job = logic.addCase(volume, node, wait=False, **how)
        record = job.result()
        assert (record.labels, job.notes) == (("front", "back"), ["Not annotated in this case: absent."])
        found = logic.caseStore().read_label_map(record.id)
        values = {label.name: label.value for label in logic.caseStore().labels()}
        truth = body_on(shape[::-1], matrix)[1].T
        for name, value in (("front", 1), ("back", 2)):
            mask, wanted = found.array == values[name], truth == value
            assert 2 * np.sum(mask & wanted) / (mask.sum() + wanted.sum()) > 0.93


# Storing it ----------------------------------------------------------------------------------------------------------


def test_what_was_drawn_is_stored_where_it_is(logic, scene, draw):
    from MAESegmentLib import mrml
    from Testing.slicer.body_model import body_on

    volume = scene.oblique("Patient Müller")
    shape = volume.GetImageData().GetDimensions()[::-1]
    labels = body_on(shape, mrml.image_of([volume]).ijk_to_world)[1]
    node = draw(volume, back=labels == 2, front=labels == 1)
    record = logic.addCase(volume, node)
    store = logic.caseStore()
    found = store.read_label_map(record.id)
    values = {label.name: label.value for label in store.labels()}
    np.testing.assert_allclose(found.ijk_to_ras, mrml.image_of([volume]).ijk_to_world, atol=1e-4)
    for name, value in (("front", 1), ("back", 2)):
        np.testing.assert_array_equal(found.array == values[name], (labels == value).T)
    np.testing.assert_array_equal(store.read_image(record.id).array[0], slicer.util.arrayFromVolume(volume).T)
    assert (record.labels, record.unknown) == (("back", "front"), ("absent",))
    everything = "".join(path.read_text(errors="replace") for path in store.folder.rglob("*.json"))
    assert "Müller" not in everything
    assert "Drawn" not in everything


def test_colours_and_codes_are_the_models_and_those_of_new_labels_the_segments(logic, model, volume, draw, truth):
    node = draw(volume, front=truth["front"], lesion=truth["back"])
    node.GetSegmentation().GetNthSegment(0).SetColor(0.0, 0.0, 0.0)
    node.GetSegmentation().GetNthSegment(1).SetColor(1.0, 0.0, 0.2)
    logic.addCase(volume, node, newLabels="lesion")
    front, lesion = logic.caseStore().labels()
    assert (front.colour, front.terminology) == (model.labels[0].colour, model.labels[0].terminology)
    assert (lesion.name, lesion.colour) == ("lesion", (255, 0, 51))
    assert kinds(logic.proposeCase(volume, node))["lesion"] in ("same", "remembered")


def test_answers_are_remembered_for_the_next_case(logic, scene, volume, draw, truth):
    node = draw(volume, Vorne=truth["front"], notes=truth["back"])
    logic.addCase(volume, node, mapping={"Vorne": "front", "notes": None})
    other = scene.left_handed("Other")
    again = draw(other, Vorne=slicer.util.arrayFromVolume(other) > 600, notes=slicer.util.arrayFromVolume(other) > 1000)
    assert kinds(logic.proposeCase(other, again)) == {"Vorne": "remembered", "notes": "left out"}
    record = logic.addCase(other, again)
    assert record.labels == ("front",)
    assert [case.id for case in logic.cases()] == ["case-0001", "case-0002"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mapping": {"front": "liver"}}, 'no label "liver"'),
        ({"mapping": {"nose": "front"}}, 'no segment called "nose"'),
        ({"absent": ["liver"]}, 'no label "liver"'),
        ({"absent": ["front"]}, "front is given as absent, but has voxels"),
    ],
)
def test_answers_that_make_no_sense_are_refused(logic, volume, corrected, arguments, words):
    with pytest.raises(Exception, match=words) as caught:
        logic.addCase(volume, corrected, **arguments)
    assert caught.value.hint
    assert logic.cases() == []


def test_what_the_model_made_is_known_as_its_own(logic, model, volume):
    node = logic.process(volume, model)
    proposal = logic.proposeCase(volume, node)
    assert findings(proposal)["unchanged"] == "warning"
    assert set(kinds(proposal).values()) == {"same"}
    edit(node)
    assert "unchanged" not in findings(logic.proposeCase(volume, node))
    assert logic.addCase(volume, node).model == model.reference


def test_waiting_is_optional_and_cancelling_stores_nothing(logic, volume, corrected):
    job = logic.addCase(volume, corrected, wait=False)
    job.cancel()
    with pytest.raises(Exception, match="Cancelled"):
        job.result(60)
    assert logic.cases() == []
    assert logic.session.client.state.name == "STOPPED"
    seen = []
    job = logic.addCase(volume, corrected, callback=lambda job: seen.append((job.state.name, job.stage)))
    assert not job.is_finished
    assert job.result(300).id == "case-0001"
    assert seen[0] == ("PREPARING", "draw")
    assert seen[-1][0] == "DONE"


def test_a_segmentation_of_another_scan_is_refused(logic, scene, corrected):
    far = scene.plain("Far away")
    far.SetOrigin(900.0, 0.0, 0.0)
    with pytest.raises(Exception, match="No segment of Drawn lies within Far away"):
        logic.addCase(far, corrected)


def test_overlaps_are_noted(logic, volume, draw, truth):
    node = draw(volume, front=truth["front"], back=truth["back"] | truth["front"])
    job = logic.addCase(volume, node, wait=False)
    job.result(300)
    if node.GetSegmentation().GetNumberOfLayers() > 1:
        assert any("front and back overlap" in note for note in job.notes), job.notes


# Updating it ---------------------------------------------------------------------------------------------------------


def test_a_case_edited_later_is_noticed_and_updated(logic, volume, corrected):
    first = logic.addCase(volume, corrected)
    assert logic.changedCases() == []
    proposal = logic.proposeCase(volume, corrected)
    assert (proposal.stored, proposal.isChanged, proposal.duplicate) == (first, False, None)
    edit(corrected)
    assert [(node.GetID(), record.id) for node, record in logic.changedCases()] == [(corrected.GetID(), first.id)]
    assert logic.proposeCase(volume, corrected).isChanged
    with pytest.raises(Exception, match="stored already, as case-0001") as caught:
        logic.addCase(volume, corrected)
    assert caught.value.details == {"case": "case-0001"}
    second = logic.addCase(volume, corrected, update=True)
    assert (second.id, second.revision) == (first.id, 2)
    assert second.label_hash != first.label_hash
    assert logic.changedCases() == []


def test_an_update_keeps_what_is_not_said_again(logic, volume, draw, truth):
    node = draw(volume, front=truth["front"], absent=None)
    logic.addCase(volume, node, role="check", group="7", absent=["absent"], region=(-30, 30, -30, 30, -5, 5))
    edit(node)
    record = logic.addCase(volume, node, update=True)
    assert (record.role, record.group, record.labels) == ("check", "7", ("front", "absent"))
    assert record.partial
    assert not logic.addCase(volume, node, update=record.id, region=()).partial


@pytest.fixture
def twin(logic, scene, volume, corrected, draw, truth):
    """The scan was stored, and is loaded once more: (record, volume, segmentation)."""
    record, again = logic.addCase(volume, corrected), scene.plain("Loaded once more")
    return record, again, draw(again, front=truth["front"])


def add_one(volume) -> None:
    slicer.util.arrayFromVolume(volume)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(volume)


@pytest.mark.parametrize("version", [hashing.FIRST, None], ids=["stored by the first version", "stored now"])
def test_the_same_scan_in_another_node_is_recognised(logic, volume, twin, version):
    record, scan, node = twin
    if version is not None:
        file = logic.caseStore().case_path(record.id) / "case.json"
        digest = hashing.voxel_hash(slicer.util.arrayFromVolume(volume).T[None], version)
        file.write_text(file.read_text().replace(record.image_hash, digest))
    proposal = logic.proposeCase(scan, node)
    assert proposal.duplicate.id == record.id
    assert findings(proposal)["duplicate"] == "warning"
    with pytest.raises(Exception, match="stored already"):
        logic.addCase(scan, node)
    add_one(scan)
    assert logic.proposeCase(scan, node).duplicate is None


def test_slicer_stays_alive_while_a_scan_is_compared_with_the_stored_ones(logic, twin, monkeypatch):
    record, scan, node = twin
    happened, threads = threading.Event(), []

    def slow_hash(channels, version, hashing=hashing.voxel_hash):
        threads.append(threading.current_thread())
        assert happened.wait(30), "no event happened while the voxels were hashed"
        return hashing(channels, version)

    monkeypatch.setattr(hashing, "voxel_hash", slow_hash)
    logic.session.loop.call_later(0.0, happened.set)
    assert logic.proposeCase(scan, node).duplicate == record
    assert threads
    assert threading.main_thread() not in threads


def test_a_scan_edited_while_it_is_compared_is_compared_again(logic, twin, monkeypatch):
    _record, scan, node = twin
    calls = []

    def hash_and_edit(channels, version, hashing=hashing.voxel_hash):
        calls.append(hashing(channels, version))
        if len(calls) == 1:
            slicer.util.arrayFromVolume(scan)[0, 0, 0] += 1
            scan.GetImageData().Modified()
        return calls[-1]

    monkeypatch.setattr(hashing, "voxel_hash", hash_and_edit)
    assert logic.proposeCase(scan, node).duplicate is None
    assert len(set(calls)) == 2


def test_what_was_identified_in_a_thread_is_not_looked_at_again(logic, twin, monkeypatch):
    record, scan, node = twin
    thread = threading.Thread(target=logic.identifyScan(scan, node))
    thread.start()
    thread.join()
    monkeypatch.setattr(hashing, "voxel_hash", None)
    assert logic.scanNames()[record.image_hash] == scan.GetName()
    assert logic.proposeCase(scan, node).duplicate == record
    add_one(scan)
    assert record.image_hash not in logic.scanNames()


@pytest.mark.parametrize("by_id", [True, False])
def test_an_update_with_another_scan_or_of_what_is_not_stored_is_refused(logic, scene, volume, corrected, by_id):
    with pytest.raises(Exception, match="not stored yet"):
        logic.addCase(volume, corrected, update=True)
    record = logic.addCase(volume, corrected)
    edit(corrected)
    other = scene.plain("Other")
    add_one(other)
    with pytest.raises(Exception, match="not the one that is stored as case-0001"):
        logic.addCase(other, corrected, update=record.id if by_id else True)
    assert logic.cases() == [record]


def test_an_update_with_a_scan_of_a_type_that_is_stored_as_another(logic, volume, corrected):
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume).astype(float) + 1e-12)
    record = logic.addCase(volume, corrected)
    edit(corrected)
    assert logic.addCase(volume, corrected, update=record.id).revision == 2


def test_edited_cases_of_one_model_are_found_alone_to_update_them(logic, model, volume, corrected):
    logic.addCase(volume, corrected)
    edit(corrected)
    assert len(logic.changedCases(model)) == 1
    corrected.SetAttribute("MAESegment.Case", "other-family/case-0001")
    assert logic.changedCases(model) == []


def test_the_link_survives_saving_the_scene(logic, volume, corrected, tmp_path):
    record = logic.addCase(volume, corrected)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer_core.fresh_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    proposal = logic.proposeCase(slicer.util.getNode("Scan"), node)
    assert (proposal.stored, proposal.isChanged) == (record, False)
    edit(node)
    assert [found.id for _node, found in logic.changedCases()] == [record.id]


def test_a_result_put_into_a_stored_segmentation_is_not_taken_for_the_case(logic, model, volume, corrected):
    logic.addCase(volume, corrected)
    logic.process(volume, model, outputSegmentation=corrected, overwrite=True)
    assert logic.changedCases() == []
    assert logic.proposeCase(volume, corrected).duplicate is not None


# Cases as nodes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "left_handed", "oblique"])
def test_a_case_is_opened_as_it_was_stored(logic, scene, draw, kind):
    from MAESegmentLib import mrml

    volume = getattr(scene, kind)("Scan")
    grey = slicer.util.arrayFromVolume(volume)
    node = draw(volume, front=(grey > 600) & (grey < 900), back=grey > 1000, absent=None)
    record = logic.addCase(volume, node, absent=["absent"])
    image, segmentation = logic.openCase(record)
    assert (image.GetName(), segmentation.GetName()) == ("case-0001", "case-0001 segmentation")
    assert segment_names(segmentation) == ["front", "back", "absent"]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(image), grey)
    np.testing.assert_allclose(mrml.image_of([image]).ijk_to_world, mrml.image_of([volume]).ijk_to_world, atol=1e-4)
    store = logic.caseStore()
    found = mrml.label_map_of(segmentation, image, list(store.labels()))
    np.testing.assert_array_equal(found.array, store.read_label_map(record.id).array)
    assert image.GetStorageNode() is None, "saving the scene must not write into the store"


def test_an_opened_case_is_updated_as_the_same_case(logic, model, volume):
    node = logic.process(volume, model)
    edit(node)
    first = logic.addCase(volume, node, region=(-30, 30, -30, 30, -12, 12))
    image, segmentation = logic.openCase(first.id)
    assert logic.proposeCase(image, segmentation).stored == first
    edit(segmentation)
    assert [record.id for _node, record in logic.changedCases()] == [first.id]
    second = logic.addCase(image, segmentation, update=True)
    assert (second.id, second.revision, second.image_hash) == (first.id, 2, first.image_hash)
    assert second.model == first.model
    assert second.partial
    with pytest.raises(Exception, match="was edited; it is not overwritten"):
        logic.process(image, model, outputSegmentation=segmentation)


def test_cases_change_role_and_folder_and_go(logic, volume, corrected, tmp_path):
    logic.setCaseFolder(str(tmp_path / "elsewhere"))
    assert logic.caseFolder() == tmp_path / "elsewhere"
    record = logic.addCase(volume, corrected)
    assert (tmp_path / "elsewhere" / "self-test" / "case-0001" / "case.json").is_file()
    assert logic.setCaseRole(record, "check").role == "check"
    logic.removeCase(record.id)
    assert logic.cases() == []
    assert logic.changedCases() == []
    assert logic.addCase(volume, corrected).id == "case-0002", "a number is not given twice"
    with pytest.raises(Exception, match="no case 'case-0001'"):
        logic.openCase("case-0001")
