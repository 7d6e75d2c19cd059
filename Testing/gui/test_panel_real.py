"""A user's way through the module, from a scan to a new version: the real panel, logic, worker and trainer."""

from __future__ import annotations

import csv
from functools import partial

import pytest
import slicer

from MAESegmentLib.runs import list_runs
from MAESegmentLib.storage.user_folders import default_runs_folder
from Testing.gui import standin
from Testing.gui.logic_fixtures import edit, segment_names

#: Some seconds of real training; what a user gets is `training.defaults`.
QUICK = {"steps": 6, "validate_every": 2, "checkpoint_every": 1, "threads": 1}


@pytest.fixture
def panel(module):
    return module.widget.panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def ready(panel, ui, model, process_events_until):
    """Choose a volume and the model of the self test; wait until Segment can be pressed."""

    def ready(volume):
        panel.parameters.inputVolume = volume
        panel.parameters.modelName = f"{model.name}@{model.version}"
        process_events_until(lambda: ui.segmentButton.enabled and panel.dependencies.report is not None, 120)
        return volume

    return ready


@pytest.fixture
def segment(panel, ui, process_events_until):
    """Press Segment and wait; returns the segmentation."""

    def segment():
        ui.segmentButton.click()
        process_events_until(lambda: panel.job is None, 300)
        return panel.parameters.outputSegmentation

    return segment


def test_choose_segment_look_and_correct(panel, ui, ready, segment, scene, process_events_until, tmp_path):
    volume = ready(scene.oblique("Scan"))
    stages = set()
    ui.segmentButton.click()
    panel.job.add_listener(lambda job: stages.add(job.stage))
    process_events_until(lambda: panel.job is None, 300)
    first = panel.parameters.outputSegmentation
    assert segment_names(first) == ["front", "back", "absent"]
    assert min(scene.compare_with_truth(volume, first).values()) > 0.75
    assert {"load", "prepare", "segment", "restore", "write"} <= stages
    assert ui.resultFrame.visible
    assert "2 of 3 segments found" in ui.resultLabel.text
    assert ui.segmentsTable.item(2, 1).text() == "not found"
    standin.dialogs.answers.append(str(tmp_path / "t.csv"))
    ui.statisticsButton.click()
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["Segment"] for row in rows] == ["front", "back", "absent"]
    assert [row["Voxel count"] == "0" for row in rows] == [False, False, True]
    assert float(rows[0]["Volume cm3"]) == pytest.approx(float(ui.segmentsTable.item(0, 1).text()), abs=0.05)
    assert "Grey values" in ui.segmentsTable.item(0, 0).toolTip()
    ui.correctButton.click()
    assert slicer.util.getModuleWidget("SegmentEditor").editor.node is first
    assert segment() is first, "nobody edited it"
    edit(first)
    ui.segmentButton.click()
    assert panel.job is None
    assert "was edited" in panel.messages.text
    ui.action1Button.click()
    process_events_until(lambda: panel.job is None, 300)
    assert panel.parameters.outputSegmentation is not first
    assert first.GetScene() is not None
    bad = scene.single_slice("Slice")
    for each in (volume, bad):
        ui.batchSelector.setCheckState(each, 2)
    ui.batchButton.click()
    process_events_until(lambda: panel.job is None, 300)
    results = {ui.batchTable.item(row, 0).text(): ui.batchTable.item(row, 1).text() for row in (0, 1)}
    assert "2 of 3 segments found" in results["Scan"]
    assert results["Slice"].startswith("failed: ")


def test_left_box_right_box_both_results_survive_over_the_scan_that_is_named(panel, ui, ready, segment, scene):
    ready(scene.plain("Head"))
    results = []
    for name, middle in (("left box", -15.0), ("right box", 15.0)):
        box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        box.SetSize(30.0, 60.0, 60.0)
        box.SetCenter(middle, 0.0, 0.0)
        panel.parameters.roi = box
        results.append(segment())
        assert ui.resultLabel.text.startswith(f"Head ({name}) \u2013 self-test")
    assert [node.GetName() for node in results] == ["Head - self-test (left box)", "Head - self-test (right box)"]
    sides = []
    for node in results:
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        sides.append((bounds[1] <= 1.0, bounds[0] >= -1.0))
    assert sides == [(True, False), (False, True)]
    assert segment() is results[1], "the same again"


@pytest.fixture
def corrected(panel, ui, ready, segment, process_events_until):
    """`corrected(volume)`: a scan is segmented, corrected and added, by buttons; the stored case's id."""

    def corrected(volume):
        panel.parameters.outputSegmentation = None
        ready(volume)
        edit(segment())
        ui.improveCollapsibleButton.collapsed = False
        before = ui.casesTable.rowCount
        process_events_until(lambda: ui.addCaseButton.enabled, 120)
        ui.addCaseButton.click()
        # One structure was not found: is it not there, or was it not looked for?
        process_events_until(lambda: ui.confirmCaseButton.visible, 30)
        ui.confirmCaseButton.click()
        process_events_until(lambda: ui.casesTable.rowCount == before + 1, 120)
        process_events_until(lambda: ui.fineTuneButton.enabled, 120)
        return panel._logic.cases(panel.bundle)[-1].id

    return corrected


@pytest.fixture
def job(panel, process_events_until):
    """The run that the panel shows. What still trains at the end of a test, because it failed, does not go on."""
    yield lambda: panel.improve.learning.presenter.job
    for run in list_runs(default_runs_folder()):
        run.discard()
        process_events_until(lambda run=run: not run.is_alive, 60)


def test_corrections_become_a_version_that_is_used_only_when_accepted(
    panel, ui, corrected, scene, job, segment, model, monkeypatch, process_events_until
):
    logic, store = panel._logic, panel._logic.library.store
    few_steps = partial(logic.fineTune, **QUICK)
    # In place of the minutes that the panel offers.
    monkeypatch.setattr(logic, "fineTune", lambda **all_: few_steps(**{**all_, "minutes": None}), raising=False)
    assert [corrected(scene.plain("A")), corrected(scene.left_handed("B"))] == ["case-0001", "case-0002"]
    names = [ui.casesTable.item(row, 1).text().splitlines()[0] for row in (0, 1)]
    assert names == ["case-0001 (A)", "case-0002 (B)"]
    # One of them is edited later, and updated.
    edit(panel.parameters.outputSegmentation)
    panel.enter()
    process_events_until(lambda: ui.improveNote1Button.visible, 60)
    assert "Update" in ui.improveNote1Button.text
    ui.improveNote1Button.click()
    process_events_until(lambda: logic.cases(panel.bundle)[1].revision == 2, 120)
    process_events_until(lambda: ui.fineTuneButton.enabled, 60)
    assert "fewer than five" in ui.planLabel.text
    ui.fineTuneButton.click()
    process_events_until(lambda: job() is not None and job().status.step > 0, 300)
    # Slicer stays usable: a scan is segmented meanwhile.
    panel.parameters.outputSegmentation = None
    process_events_until(lambda: ui.segmentButton.enabled, 60)
    assert segment() is not None
    process_events_until(lambda: job().is_finished and not job().run.is_alive, 300)
    process_events_until(lambda: ui.bannerAsk1Button.visible, 30)
    result = job().status.result
    assert result is not None, job().run.log_tail()
    assert "indicative only" in ui.bannerAskLabel.text
    assert store.find(model.name).version == model.version
    use = next(one for one in (ui.bannerAsk1Button, ui.bannerAsk2Button) if "Use it" in one.text.replace("&", ""))
    use.click()
    assert store.find(model.name).version == result.model["version"]
    assert panel.parameters.modelName == f"{model.name}@{result.model['version']}"
    assert job() is None
    # And back; the models are other tests', too.
    ui.versionsCollapsibleButton.collapsed = False
    process_events_until(lambda: ui.previousVersionButton.enabled, 20)
    ui.previousVersionButton.click()
    process_events_until(lambda: store.find(model.name).version == model.version, 20)
    logic.removeVersion(f"{model.name}@{result.model['version']}")
    assert [bundle.version for bundle in store.list() if bundle.name == model.name] == [model.version]
