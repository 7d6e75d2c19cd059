"""A clinic's way through Improve: the real panel, logic, worker and trainer, from a correction to a version."""

from __future__ import annotations

from functools import partial

import pytest
import slicer

from MAESegmentLib.runs import list_runs
from MAESegmentLib.storage.user_folders import default_runs_folder
from Testing.gui.logic_scene import edit

#: Some seconds of real training; what a user gets is `training.defaults`.
QUICK = {"steps": 6, "validate_every": 2, "checkpoint_every": 1, "threads": 1}


@pytest.fixture
def panel(module):
    return module.widget.panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def quick(panel, monkeypatch):
    """The panel's fine-tuning takes a few steps."""
    logic = panel._logic
    monkeypatch.setattr(logic, "fineTune", partial(logic.fineTune, **QUICK), raising=False)


@pytest.fixture
def corrected(panel, ui, model, process_events_until):
    """`corrected(name)`: a scan is segmented, corrected and added, by buttons; the stored case's id."""

    def corrected(volume):
        panel.parameters.inputVolume = volume
        panel.parameters.outputSegmentation = None
        panel.parameters.modelName = f"{model.name}@{model.version}"
        process_events_until(lambda: ui.segmentButton.enabled and panel.dependencies.report is not None, 120)
        ui.segmentButton.click()
        process_events_until(lambda: panel.job is None, 300)
        edit(panel.parameters.outputSegmentation)
        ui.improveCollapsibleButton.collapsed = False
        before = len(panel._logic.cases(panel.bundle))
        process_events_until(lambda: ui.addCaseButton.enabled, 120)
        ui.addCaseButton.click()
        # One structure was not found: is it not there, or was it not looked for?
        process_events_until(lambda: ui.confirmCaseButton.visible, 30)
        ui.confirmCaseButton.click()
        process_events_until(lambda: len(panel._logic.cases(panel.bundle)) == before + 1, 120)
        process_events_until(lambda: ui.fineTuneButton.enabled, 120)
        return panel._logic.cases(panel.bundle)[-1].id

    return corrected


@pytest.fixture
def three_cases(corrected, scene):
    return [corrected(scene.plain("A")), corrected(scene.left_handed("B")), corrected(scene.oblique("C"))]


@pytest.fixture
def job(panel, process_events_until):
    """The run that the panel shows. What still trains at the end of a test, because it failed, does not go on."""
    yield lambda: panel.improve.learning.presenter.job
    for run in list_runs(default_runs_folder()):
        run.discard()
        process_events_until(lambda run=run: not run.is_alive, 60)


def has_ended(job) -> bool:
    return job() is not None and job().is_finished and not job().run.is_alive


@pytest.mark.usefixtures("quick")
def test_three_corrections_become_a_version_that_is_used_only_when_accepted(
    panel, ui, three_cases, job, process_events_until, screenshot, model
):
    assert three_cases == ["case-0001", "case-0002", "case-0003"]
    process_events_until(lambda: ui.casesTable.rowCount == 3, 30)
    assert "fewer than five" in ui.planLabel.text
    ui.fineTuneButton.click()
    process_events_until(lambda: job() is not None and job().status.step > 0, 300)
    # Slicer stays usable: a scan is segmented meanwhile.
    panel.parameters.outputSegmentation = None
    process_events_until(lambda: ui.segmentButton.enabled, 60)
    ui.segmentButton.click()
    process_events_until(lambda: panel.job is None, 300)
    assert panel.parameters.outputSegmentation is not None
    process_events_until(lambda: has_ended(job), 300)
    process_events_until(lambda: ui.bannerAsk1Button.visible, 30)
    result = job().status.result
    assert result is not None, job().run.log_tail()
    assert "indicative only" in ui.bannerAskLabel.text
    screenshot(panel.ui.improveCollapsibleButton, "learning-banner")
    store = panel._logic.library.store
    assert store.find(model.name).version == model.version
    button(ui, "bannerAsk", "Use it").click()
    assert store.find(model.name).version == result.model["version"]
    assert panel.parameters.modelName == f"{model.name}@{result.model['version']}"
    assert job() is None
    # And back; the models are other tests', too.
    ui.versionsCollapsibleButton.collapsed = False
    process_events_until(lambda: ui.previousVersionButton.enabled, 20)
    ui.previousVersionButton.click()
    process_events_until(lambda: store.find(model.name).version == model.version, 20)
    assert store.find(model.name).version == model.version
    panel._logic.removeVersion(f"{model.name}@{result.model['version']}")
    assert [bundle.version for bundle in store.list() if bundle.name == model.name] == [model.version]


def test_an_edited_case_is_asked_about_and_updated(panel, ui, corrected, scene, process_events_until):
    corrected(scene.plain("A"))
    segmentation = panel.parameters.outputSegmentation
    edit(segmentation)
    panel.enter()
    process_events_until(lambda: ui.improveNote1Button.visible, 60)
    assert "Update" in ui.improveNote1Button.text
    ui.improveNote1Button.click()
    process_events_until(lambda: panel._logic.cases(panel.bundle)[0].revision == 2, 120)
    assert slicer.mrmlScene.IsNodePresent(segmentation)


def button(ui, prefix: str, text: str):
    """The button of a question that says `text`."""
    found = [getattr(ui, f"{prefix}{n}Button") for n in (1, 2, 3) if hasattr(ui, f"{prefix}{n}Button")]
    named = [one for one in found if one.visible and one.text.replace("&", "").startswith(text)]
    assert len(named) == 1, [one.text for one in found if one.visible]
    return named[0]
