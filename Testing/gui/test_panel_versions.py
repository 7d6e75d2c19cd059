"""The versions of a model in the panel: choosing, going back, export, deleting, and comparing two of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.errors import BundleError, Cancelled
from MAESegmentLib.evaluation.comparison import Row
from Testing.gui import standin
from Testing.gui.fake_learning import run_result
from Testing.gui.improve_fixtures import texts_of


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


def comparison():
    rows = (Row("anterior", 1.23, 1.41, 0.88), Row("posterior", 1.1, None, None))
    return SimpleNamespace(disagreement=SimpleNamespace(GetName=lambda: "Scan: 1.2.1 or 1.3.0"), rows=rows)


def test_versions_of_the_family_are_listed_newest_first(ui, both):  # noqa: ARG001
    assert texts_of(ui.versionsTable, 0) == ["1.3.0 (in use)", "1.2.1"]
    assert texts_of(ui.versionsTable, 1)[1].startswith("Mean Dice 0.")


def test_another_version_can_be_used(fake_logic, panel, ui, both):  # noqa: ARG001
    assert not ui.useVersionButton.enabled
    ui.versionsTable.selectRow(0)
    assert not ui.useVersionButton.enabled
    assert ui.useVersionButton.toolTip == "It is in use."
    ui.versionsTable.selectRow(1)
    ui.useVersionButton.click()
    assert fake_logic.called("useVersion")[0][0].version == "1.2.1"
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert texts_of(ui.versionsTable, 0) == ["1.3.0", "1.2.1 (in use)"]


def test_default_is_told_from_what_is_chosen_above(fake_logic, panel, ui, both, settle):  # noqa: ARG001
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    settle()
    assert texts_of(ui.versionsTable, 0) == ["1.3.0 (default)", "1.2.1 (in use)"]
    ui.versionsTable.selectRow(1)
    ui.useVersionButton.click()
    assert texts_of(ui.versionsTable, 0) == ["1.3.0", "1.2.1 (in use)"]
    assert not ui.useVersionButton.enabled


def test_the_way_back_is_one_button(fake_logic, panel, ui, both):  # noqa: ARG001
    ui.previousVersionButton.click()
    assert fake_logic.called("useVersion")[0][0].version == "1.2.1"
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert not ui.previousVersionButton.enabled
    assert "no version before" in ui.previousVersionButton.toolTip


def test_choice_that_cannot_be_noted_is_said(fake_logic, panel, ui, both):  # noqa: ARG001
    fake_logic.refusals["useVersion"] = BundleError("The folder is read-only.", "Choose another.")
    ui.previousVersionButton.click()
    assert ui.improveNoteLabel.text == "The folder is read-only. Choose another."
    assert panel.parameters.modelName == "hippocampus-mr@1.3.0"


def test_export(fake_logic, ui, both):
    ui.versionsTable.selectRow(0)
    standin.dialogs.answers.append("/somewhere/new.zip")
    ui.exportVersionButton.click()
    assert fake_logic.called("exportModel") == [[both, "/somewhere/new.zip"]]
    assert "was written to" in ui.versionAskLabel.text
    standin.dialogs.answers.append("")
    ui.exportVersionButton.click()
    assert len(fake_logic.called("exportModel")) == 1


def test_only_what_nothing_depends_on_can_be_deleted(panel, ui, both):  # noqa: ARG001
    ui.versionsTable.selectRow(1)
    assert not ui.deleteVersionButton.enabled
    assert ui.deleteVersionButton.toolTip == "It comes with MAESegment."
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
    assert not ui.compareButton.enabled
    assert ui.compareButton.toolTip == "There is no other version to compare with."


def test_two_versions_on_the_chosen_volume(fake_logic, ui, both, volume):  # noqa: ARG001
    assert ui.compareComboBox.currentText == "hippocampus-mr 1.2.1"
    ui.compareButton.click()
    assert fake_logic.called("compare")[0] == [volume, "hippocampus-mr@1.2.1", "hippocampus-mr@1.3.0", None]
    job = fake_logic.last("compare")
    job.go_on("segment", 0.5)
    assert ui.compareProgressBar.visible
    assert ui.compareProgressBar.value == 500
    job.succeed(comparison())
    assert ui.comparisonLabel.text == "Where they differ is shown as Scan: 1.2.1 or 1.3.0."
    header = ui.comparisonTable.horizontalHeaderItem
    assert [header(column).text() for column in range(4)] == ["Label", "1.2.1 (ml)", "1.3.0 (ml)", "Agreement"]
    assert texts_of(ui.comparisonTable, 1) == ["1.23", "1.10"]
    assert texts_of(ui.comparisonTable, 2) == ["1.41", "\u2013"]
    assert texts_of(ui.comparisonTable, 3) == ["0.88", "\u2013"]
    assert not ui.compareProgressBar.visible


def test_comparing_can_be_cancelled(fake_logic, ui, both):  # noqa: ARG001
    ui.compareButton.click()
    assert ui.compareButton.text == "Cancel"
    ui.compareButton.click()
    assert fake_logic.last("compare").cancel_requested
    fake_logic.last("compare").fail(Cancelled())
    assert ui.compareButton.text == "Compare on this volume"
    assert not ui.improveNoteFrame.visible
    assert not ui.comparisonTable.visible


def test_comparing_that_fails_says_why(fake_logic, ui, both):  # noqa: ARG001
    ui.compareButton.click()
    fake_logic.last("compare").fail(BundleError("Version 1.2.1 is damaged."))
    assert ui.improveNoteLabel.text == "Version 1.2.1 is damaged."


def test_banner_leads_to_the_comparison_and_stays(fake_logic, panel, ui, volume, store):
    from Testing.gui.fake_learning import case_record

    store.records.append(case_record(1))
    panel.enter()
    ui.fineTuneButton.click()
    fake_logic.runs[-1].finish(run_result())
    ui.bannerAsk3Button.click()
    assert fake_logic.called("compare")[0][:3] == [volume, "hippocampus-mr@1.2.1", "hippocampus-mr@1.3.0"]
    assert not ui.versionsCollapsibleButton.collapsed
    assert ui.bannerAskFrame.visible


def test_banner_without_a_volume_says_what_is_missing(fake_logic, panel, ui, volume, store):  # noqa: ARG001
    from Testing.gui.fake_learning import case_record

    store.records.append(case_record(1))
    panel.enter()
    ui.fineTuneButton.click()
    panel.parameters.inputVolume = None
    fake_logic.runs[-1].finish(run_result())
    ui.bannerAsk3Button.click()
    assert ui.improveNoteLabel.text == "Select a volume to compare on."
