"""Versions in Slicer's panel: clicks reach the presenters, and their state the widgets."""

from __future__ import annotations

import zipfile
from types import SimpleNamespace

import pytest

from MAESegmentLib.errors import BundleError, Cancelled
from MAESegmentLib.evaluation.comparison import Row
from Testing.fake_logic import case_record, run_result
from Testing.gui import standin
from Testing.gui.panel_fixtures import texts_of


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def both(panel, ui, volume, new_version, settle):  # noqa: ARG001
    """Version 1.3.0 is in use, made from 1.2.1; the list of versions is open."""
    panel.model.refresh()
    panel.parameters.modelName = "hippocampus-mr@1.3.0"
    ui.versionsCollapsibleButton.collapsed = False
    settle()
    return new_version


def test_another_version_can_be_used(panel, ui, both, settle):  # noqa: ARG001
    assert texts_of(ui.versionsTable, 0) == ["1.3.0 (in use)", "1.2.1"]
    assert texts_of(ui.versionsTable, 1)[1].startswith("Mean Dice 0.")
    assert not ui.useVersionButton.enabled
    ui.versionsTable.selectRow(0)
    assert (ui.useVersionButton.enabled, ui.useVersionButton.toolTip) == (False, "It is in use.")
    ui.versionsTable.selectRow(1)
    ui.useVersionButton.click()
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert texts_of(ui.versionsTable, 0) == ["1.3.0", "1.2.1 (in use)"]
    panel.parameters.modelName = "hippocampus-mr@1.3.0"
    settle()
    assert texts_of(ui.versionsTable, 0) == ["1.3.0 (in use)", "1.2.1 (default)"]


def test_the_way_back_is_one_button(fake_logic, panel, ui, both):  # noqa: ARG001
    fake_logic.refusals["useVersion"] = BundleError("The folder is read-only.", "Choose another.")
    ui.previousVersionButton.click()
    assert ui.improveNoteLabel.text == "The folder is read-only. Choose another."
    ui.previousVersionButton.click()
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert not ui.previousVersionButton.enabled
    assert "no version before" in ui.previousVersionButton.toolTip


def test_export(ui, both, tmp_path, process_events_until):  # noqa: ARG001
    ui.versionsTable.selectRow(1)
    standin.dialogs.answers.append("")
    ui.exportVersionButton.click()
    assert ui.exportVersionButton.enabled, "the dialog was cancelled"
    standin.dialogs.answers.append(str(tmp_path / "old.zip"))
    ui.exportVersionButton.click()
    process_events_until(lambda: ui.versionAskFrame.visible, 30)
    assert "was written to" in ui.versionAskLabel.text
    assert zipfile.is_zipfile(tmp_path / "old.zip")
    ui.versionAsk1Button.click()
    assert not ui.versionAskFrame.visible


def test_deleting_asks_beside_the_table(panel, ui, both):  # noqa: ARG001
    ui.versionsTable.selectRow(1)
    assert (ui.deleteVersionButton.enabled, ui.deleteVersionButton.toolTip) == (False, "It comes with MAESegment.")
    ui.versionsTable.selectRow(0)
    ui.deleteVersionButton.click()
    ui.versionAsk2Button.click()
    assert len(texts_of(ui.versionsTable, 0)) == 2
    ui.deleteVersionButton.click()
    ui.versionAsk1Button.click()
    assert texts_of(ui.versionsTable, 0) == ["1.2.1 (in use)"]
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"


# Comparing ------------------------------------------------------------------------------------------------------------


def test_single_version_cannot_be_compared(ui, volume):  # noqa: ARG001
    ui.versionsCollapsibleButton.collapsed = False
    assert (ui.compareButton.enabled, ui.compareComboBox.enabled) == (False, False)
    assert ui.compareButton.toolTip == "There is no other version to compare with."


def test_two_versions_on_the_chosen_volume(fake_logic, ui, both, volume):  # noqa: ARG001
    assert ui.compareComboBox.currentText == "hippocampus-mr 1.2.1"
    ui.compareButton.click()
    assert ui.compareButton.text == "Cancel"
    job = fake_logic.last("compare")
    job.go_on("segment", 0.5)
    assert (ui.compareProgressBar.visible, ui.compareProgressBar.value) == (True, 500)
    node = SimpleNamespace(GetName=lambda: "Scan: 1.2.1 or 1.3.0")
    job.succeed(SimpleNamespace(disagreement=node, disagreement_ml=0.1, rows=(Row("anterior", 1.23, 1.41, 0.88),)))
    assert "Scan: 1.2.1 or 1.3.0" in ui.comparisonLabel.text
    header = ui.comparisonTable.horizontalHeaderItem
    assert [header(column).text() for column in range(4)] == ["Label", "1.2.1 (ml)", "1.3.0 (ml)", "Agreement"]
    assert [texts_of(ui.comparisonTable, column) for column in range(4)] == [["anterior"], ["1.23"], ["1.41"], ["0.88"]]
    assert not ui.compareProgressBar.visible
    ui.compareButton.click()
    assert not ui.comparisonTable.visible
    ui.compareButton.click()
    assert fake_logic.last("compare").cancel_requested
    fake_logic.last("compare").fail(Cancelled())
    assert ui.compareButton.text == "Compare on this volume"
    assert not ui.improveNoteFrame.visible


@pytest.mark.parametrize("goes", ["version", "volume"])
def test_table_goes_with_its_version_and_its_volume(fake_logic, panel, ui, both, add_volume, settle, goes):  # noqa: ARG001
    ui.compareButton.click()
    node = SimpleNamespace(GetName=lambda: "Difference")
    rows = (Row("anterior", 1.23, 1.41, 0.88),)
    fake_logic.last("compare").succeed(SimpleNamespace(disagreement=node, disagreement_ml=0.1, rows=rows))
    settle()
    assert ui.comparisonTable.visible
    if goes == "version":
        ui.versionsTable.selectRow(0)
        ui.deleteVersionButton.click()
        ui.versionAsk1Button.click()
    else:
        panel.parameters.inputVolume = add_volume("Another head")
    settle()
    assert not ui.comparisonTable.visible
    assert not ui.comparisonLabel.visible


@pytest.mark.parametrize("has_volume", [True, False])
def test_banner_leads_to_the_comparison_and_stays(fake_logic, panel, ui, volume, store, both, has_volume):
    store.records.append(case_record(1))
    panel.enter()
    ui.fineTuneButton.click()
    fake_logic.runs[-1].finish(run_result())
    if not has_volume:
        panel.parameters.inputVolume = None
    ui.bannerAsk3Button.click()
    if has_volume:
        scan, *models = fake_logic.called("compare")[0][:3]
        assert (scan, [model.version for model in models]) == (volume, ["1.2.1", "1.3.0"])
    else:
        assert ui.improveNoteLabel.text == "Select a volume to compare on."
    assert not ui.versionsCollapsibleButton.collapsed
    assert ui.bannerAskFrame.visible
    assert both is not None
