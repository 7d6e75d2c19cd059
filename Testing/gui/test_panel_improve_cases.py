"""The table of stored cases, and what learning needs to be installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.errors import DatasetError
from Testing.gui.fake_learning import case_record
from Testing.gui.standin import proxy_of, to_qt


@pytest.fixture
def ui(panel):
    return panel.ui


def role_of(ui, row):
    """The box in the table of cases."""
    from PySide6 import QtWidgets

    return proxy_of(to_qt(ui.casesTable.cellWidget(row, 2)).findChild(QtWidgets.QComboBox))


@pytest.fixture
def three(store, panel, volume, tmp_path):  # noqa: ARG001
    """Three stored cases with pictures; the last one lacks a label and is for validation."""
    from PIL import Image

    store.folder = tmp_path
    store.records[:] = [
        case_record(1),
        case_record(2, volumes_ml={"anterior": 1.0, "posterior": 0.0}),
        case_record(3, role="check", labels=("anterior",), unknown=("posterior",), partial=True),
    ]
    for record in store.records:
        (tmp_path / record.id).mkdir()
        Image.new("RGB", (96, 96), "#446688").save(tmp_path / record.id / "thumbnail.png")
    panel.enter()
    return store.records


def test_no_case_says_how_to_begin(ui, volume):  # noqa: ARG001
    assert ui.casesLabel.text.startswith("No corrected cases yet.")
    assert not ui.casesTable.visible
    assert not ui.openCaseButton.visible


def test_table_shows_picture_labels_and_role(ui, three):  # noqa: ARG001
    table = ui.casesTable
    assert ui.casesLabel.text == "3 cases, 1 for validation"
    assert all(not table.item(row, 0).icon().isNull() for row in range(3))
    assert table.item(0, 1).text() == "case-0001\nanterior 1.3 ml, posterior 1.3 ml"
    assert "posterior not there" in table.item(1, 1).text()
    assert table.item(2, 1).text().endswith("Not annotated: posterior\nOnly a part was annotated")
    assert [role_of(ui, row).currentText for row in range(3)] == ["Learn", "Learn", "Check"]


def test_folder_is_read_only_when_it_may_have_changed(panel, ui, three, store, settle):  # noqa: ARG001
    before = store.reads
    for _ in range(5):
        panel.update()
    assert store.reads == before
    panel.enter()
    assert store.reads == before + 1
    ui.improveCollapsibleButton.collapsed = True
    panel.enter()
    assert store.reads == before + 1


def test_folder_of_cases_can_be_chosen(fake_logic, ui, three, store):  # noqa: ARG001
    store.records.pop()
    ui.caseFolderPathLineEdit.currentPath = "/data/my cases"
    assert fake_logic.called("setCaseFolder") == [["/data/my cases"]]
    assert ui.casesTable.rowCount == 2


def test_role_is_changed_in_the_table(fake_logic, ui, three, store):  # noqa: ARG001
    combo = role_of(ui, 0)
    combo.setCurrentIndex(1)
    assert fake_logic.called("setCaseRole")[0][:2] == ["case-0001", "check"]
    assert store.records[0].role == "check"
    assert role_of(ui, 0) == combo
    assert ui.casesLabel.text == "3 cases, 2 for validation"


def test_role_that_cannot_be_changed_is_as_it_was(fake_logic, ui, three, store):  # noqa: ARG001
    fake_logic.refusals["setCaseRole"] = DatasetError("The folder is read-only.")
    role_of(ui, 0).setCurrentIndex(1)
    assert ui.improveNoteLabel.text == "The folder is read-only."
    assert role_of(ui, 0).currentText == "Learn"


def test_removing_asks_beside_the_table(fake_logic, ui, three, store):  # noqa: ARG001
    assert not ui.removeCaseButton.enabled
    assert ui.removeCaseButton.toolTip == "Choose a case in the table."
    ui.casesTable.selectRow(1)
    ui.removeCaseButton.click()
    assert "Remove case-0002?" in ui.caseAskLabel.text
    ui.caseAsk2Button.click()
    assert len(store.records) == 3
    ui.removeCaseButton.click()
    ui.caseAsk1Button.click()
    assert [record.id for record in store.records] == ["case-0001", "case-0003"]
    assert ui.casesTable.rowCount == 2


def test_opening_a_case_chooses_its_nodes(fake_logic, panel, ui, three, add_volume, add_result):  # noqa: ARG001
    scan = add_volume("case-0001")
    fake_logic.opened = (scan, add_result(scan, panel.bundle)[0])
    ui.casesTable.selectRow(0)
    ui.openCaseButton.click()
    assert fake_logic.called("openCase")[0][0] == "case-0001"
    assert (panel.parameters.inputVolume, panel.parameters.outputSegmentation) == fake_logic.opened
    ui.casesTable.cellDoubleClicked(2, 1)
    assert fake_logic.called("openCase")[1][0] == "case-0003"


def test_damaged_case_is_told_and_the_others_are_there(panel, ui, three, store):  # noqa: ARG001
    store.problems = [(Path("case-0009"), DatasetError("case-0009 has no image.", "Remove it."))]
    panel.enter()
    assert "case-0009 has no image. Remove it." in ui.casesLabel.text
    assert ui.casesTable.rowCount == 3


def test_a_hundred_cases(panel, ui, store, volume):  # noqa: ARG001
    store.records[:] = [case_record(number) for number in range(1, 101)]
    panel.enter()
    assert ui.casesTable.rowCount == 100
    assert ui.casesLabel.text == "100 cases"


# Packages -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lacking(plugin):
    """A report that nibabel is missing for training."""
    dependencies = plugin("dependencies")
    problem = dependencies.PackageProblem(
        "nibabel", "missing", "nibabel is missing", "nibabel>=5", 3.0, purpose="train"
    )
    return dependencies.DependencyReport("/opt/PythonSlicer", version="3.12.1", problems=(problem,), purpose="train")


def test_packages_for_learning_are_offered_in_this_section_only(fake_logic, dependencies, panel, ui, lacking, volume):
    assert dependencies.purposes.count("train") == 1
    assert not ui.trainPackagesFrame.visible
    dependencies.training = lacking
    panel.improve.packages.check()
    assert ui.trainPackagesFrame.visible
    assert "nibabel" in ui.trainPackagesLabel.text
    assert not ui.dependencyFrame.visible
    assert not ui.addCaseButton.enabled
    assert "nibabel" in ui.addCaseButton.toolTip
    assert ui.segmentButton.enabled
    assert fake_logic is not None
    assert volume is not None


def test_nothing_is_looked_for_while_the_section_is_closed(dependencies, panel):
    panel.enter()
    assert "train" not in dependencies.purposes


def test_installing_for_learning(dependencies, panel, ui, lacking, plugin, volume):  # noqa: ARG001
    dependencies.training = lacking
    packages = panel.improve.packages
    packages.check()
    asked = []

    class Installer:
        def install(self, report, progress, done):
            asked.append((report, progress, done))

    packages.installer = Installer()
    ui.trainPackages1Button.click()
    report, progress, done = asked[0]
    assert report is lacking
    progress("Downloading nibabel")
    assert "Downloading nibabel" in ui.trainPackagesLabel.text
    assert not ui.trainPackages1Button.visible
    done(plugin("dependencies").DependencyReport("/opt/PythonSlicer", version="3.12.1", purpose="train"), None)
    assert not ui.trainPackagesFrame.visible
