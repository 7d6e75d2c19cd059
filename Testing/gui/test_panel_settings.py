"""The first-run bar, Advanced, the log and the diagnostics."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import slicer

from MAESegmentLib.errors import WorkerError
from MAESegmentLib.storage.user_folders import default_cases_folder
from Testing.fake_logic import GIB
from Testing.gui.panel_fixtures import choose

GPU = {"name": "cuda:0", "title": "NVIDIA GeForce RTX 3060", "free_bytes": 9.8 * GIB, "total_bytes": 12 * GIB}
CPU = {"name": "cpu", "title": "AMD Ryzen 7", "free_bytes": 21 * GIB, "total_bytes": 32 * GIB}


@pytest.fixture
def report(plugin):
    """`report(...)`: of Slicer's own Python without torch and nibabel, or what is given instead."""
    code = plugin("dependencies")
    problems = (
        code.Problem("torch", "missing", "torch is missing: it runs the network", "torch>=2.4", 2400.0, True),
        code.Problem("nibabel", "missing", "nibabel is missing", "nibabel>=5.2", 3.4),
    )
    return lambda **changes: code.DependencyReport(
        **{"python": "/opt/Slicer/bin/PythonSlicer", "version": "3.12.1", "problems": problems, **changes}
    )


class FakeInstaller:
    """Installs when the test says so."""

    def __init__(self):
        self.report = self.progress = self.done = None

    def install(self, report, progress, done):
        self.report, self.progress, self.done = report, progress, done


@pytest.fixture
def lacking(fake_logic, host, report, add_volume, settle, monkeypatch):
    """The panel where packages are missing, with a scan and the extension PyTorch; returns the installer."""
    extension = ModuleType("PyTorchUtils")
    extension.__spec__ = ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    fake_logic.dependencies.report = report()
    installer = host.widget.panel.dependencies.installer = FakeInstaller()
    add_volume()
    host.widget.enter()
    settle()
    return installer


def test_all_is_well_and_checked_once(panel, fake_logic, ui):
    assert not ui.dependencyFrame.visible
    panel.exit()
    panel.enter()
    assert fake_logic.dependencies.checks == 1


def test_while_the_check_is_under_way_nothing_is_forbidden(fake_logic, host, ui, add_volume, settle):
    fake_logic.dependencies.report = None
    add_volume()
    host.widget.enter()
    settle()
    assert (ui.dependencyFrame.visible, ui.segmentButton.enabled) == (False, True)


def test_bar_says_what_is_missing_and_how_large_it_is(lacking, ui):
    assert ui.dependencyFrame.visible
    assert all(part in ui.dependencyLabel.text for part in ("torch, nibabel", "2.3 GB"))
    assert "it runs the network" in ui.dependencyLabel.toolTip
    assert ui.installButton.text == "Install"
    assert not ui.segmentButton.enabled
    assert "torch, nibabel" in " ".join(ui.segmentButton.toolTip.split())
    assert lacking.report is None, "nothing is installed before the button is pressed"


def test_who_only_segments_has_the_choice_of_the_smaller_package(lacking, fake_logic, host, ui, report, plugin):
    assert not ui.segmentOnlyButton.visible
    small = plugin("dependencies").Problem("openvino", "missing", "openvino is missing", "openvino>=2026", 60.0)
    fake_logic.dependencies.report = report(instead=small)
    host.widget.panel.dependencies.check()
    assert (ui.segmentOnlyButton.visible, ui.segmentOnlyButton.text) == (True, "Segment only (OpenVINO, 180 MB)")
    assert ui.installButton.text == "Segment and fine-tune (PyTorch, 754 MB)"
    assert all(part in ui.dependencyLabel.text for part in ("torch or openvino, nibabel", "60 MB", "2.3 GB"))
    ui.declineButton.click()
    ui.segmentOnlyButton.click()
    assert lacking.report.missing == ("openvino", "nibabel")
    assert (ui.segmentOnlyButton.enabled, ui.installButton.enabled) == (False, False)
    lacking.done(report(instead=small), WorkerError("No connection to pypi.org.", "Check the proxy."))
    ui.installButton.click()
    assert lacking.report.missing == ("torch", "nibabel")
    lacking.done(report(problems=()), None)
    assert (ui.dependencyFrame.visible, ui.segmentButton.enabled) == (False, True)


def test_installing_shows_how_far_it_is_and_ends_ready_or_with_the_reason(lacking, host, ui, report):
    ui.installButton.click()
    assert lacking.report.missing == ("torch", "nibabel")
    assert not ui.installButton.enabled
    assert ui.segmentButton.toolTip == "Packages are being installed."
    lacking.progress("Downloading torch (2.3 GB)")
    assert "Downloading torch" in ui.dependencyLabel.text
    lacking.done(report(), WorkerError("No connection to pypi.org.", "Check the proxy."))
    assert "No connection to pypi.org. Check the proxy." in ui.dependencyLabel.text
    assert (ui.installButton.enabled, ui.installButton.text) == (True, "Install")
    ui.installButton.click()
    lacking.done(report(problems=()), None)
    assert (ui.dependencyFrame.visible, ui.segmentButton.enabled) == (False, True)
    assert host.widget.panel.dependencies.report.ready


def test_without_the_extension_that_brings_pytorch_its_manager_is_opened(lacking, slicer_gui, ui, monkeypatch):
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    ui.declineButton.click()
    assert ui.installButton.text == "Open Extensions Manager"
    before = slicer_gui.extensions_manager_opened
    ui.installButton.click()
    assert slicer_gui.extensions_manager_opened == before + 1
    assert "install it in the Extensions Manager, then restart Slicer" in ui.dependencyLabel.text
    assert lacking.report is None


def test_declining_leaves_a_panel_that_explains_itself(lacking, ui):
    ui.declineButton.click()
    assert ui.dependencyLabel.text == "Packages are missing; nothing can be segmented yet."
    assert not ui.declineButton.visible
    assert "torch" in ui.segmentButton.toolTip
    assert ui.modelComboBox.enabled
    ui.installButton.click()
    assert lacking.report is not None


def test_own_python_is_left_alone_and_its_command_can_be_copied(fake_logic, host, ui, report):
    fake_logic.dependencies.report = report(python="/home/me/env/bin/python", is_foreign=True)
    host.widget.enter()
    assert ui.installButton.text == "Check again"
    ui.commandButton.click()
    assert slicer.app.clipboard().text() == '"/home/me/env/bin/python" -m pip install "torch>=2.4" "nibabel>=5.2"'
    ui.installButton.click()
    assert fake_logic.dependencies.checks == 2


def test_python_that_does_not_run_is_explained(fake_logic, host, ui, report):
    failure = WorkerError("/no/python cannot be used: no such file.", "Choose another Python under Advanced.")
    fake_logic.dependencies.report = report(problems=(), failure=failure)
    host.widget.enter()
    assert ui.dependencyLabel.text.replace("\u200b", "").splitlines() == [failure.message, failure.hint]


def test_crash_for_lack_of_packages_offers_to_install_them(host, lacking, ui):
    host.widget.panel.show_error(WorkerError("torch is missing.", "Install it."))
    assert ui.action1Button.text == "Install"
    ui.action1Button.click()
    assert lacking.report is not None


# Advanced -------------------------------------------------------------------------------------------------------------


def devices(ui):
    return [ui.deviceComboBox.itemText(n) for n in range(ui.deviceComboBox.count)]


def test_devices_are_known_with_their_memory_once_the_worker_runs(panel, fake_logic, ui, settle):
    assert devices(ui) == ["Automatic", "CPU"]
    panel.parameters.device = "cuda:0"
    settle()
    fake_logic.session.client.become_ready((GPU, CPU))
    assert devices(ui) == ["Automatic", "NVIDIA GeForce RTX 3060 (9.8/12 GB)", "AMD Ryzen 7 (21/32 GB)"]
    assert ui.deviceComboBox.currentData == "cuda:0", "it stays chosen"
    assert "9.8 of 12 GB" in ui.deviceComboBox.itemData(1, 3)


def test_opening_advanced_asks_for_the_devices_once_and_refresh_again(panel, fake_logic, ui):  # noqa: ARG001
    client = fake_logic.session.client
    ui.advancedCollapsibleButton.collapsed = False
    assert len(client.asked) == 1
    assert not ui.refreshButton.enabled
    client.answer_devices([GPU, CPU])
    assert ui.refreshButton.enabled
    ui.advancedCollapsibleButton.collapsed = True
    ui.advancedCollapsibleButton.collapsed = False
    assert client.asked == []
    ui.refreshButton.click()
    client.answer_devices([{**GPU, "free_bytes": 2 * GIB}, CPU])
    assert devices(ui)[1] == "NVIDIA GeForce RTX 3060 (2.0/12 GB)"


def test_opening_advanced_starts_nothing_where_packages_are_missing(lacking, fake_logic, ui):  # noqa: ARG001
    ui.advancedCollapsibleButton.collapsed = False
    assert fake_logic.session.client.asked == []


def test_choices_go_to_the_parameter_node_and_those_of_a_script_are_shown(panel, ui, settle):
    for combo, data in ((ui.precisionComboBox, "bf16"), (ui.mirroringComboBox, "on"), (ui.overlapComboBox, 0.25)):
        combo.setCurrentIndex(combo.findData(data))
    ui.allowCpuCheckBox.click()
    ui.cleanCheckBox.click()
    parameters = panel.parameters
    assert (parameters.precision, parameters.mirroring, parameters.overlap) == ("bf16", "on", 0.25)
    assert not parameters.allowCpu
    assert not parameters.clean
    parameters.precision, parameters.overlap, parameters.allowCpu = "fp32", 0.6, True
    settle()
    assert (ui.precisionComboBox.currentText, ui.overlapComboBox.currentText) == ("Single (fp32)", "0.6")
    assert ui.allowCpuCheckBox.checked


def test_speed_beside_segment_is_overlap_and_mirroring_with_seconds_once_measured(
    panel, ui, volume, fake_logic, add_result, settle
):
    assert [ui.speedComboBox.itemText(n) for n in range(ui.speedComboBox.count)] == [
        "Best",
        "Fast (about 2 times faster)",
        "Averaged (about 2 times slower)",
    ]
    choose(ui.speedComboBox, "Fast (about 2 times faster)")
    assert (panel.parameters.overlap, panel.parameters.mirroring) == (0.25, "off")
    settle()
    assert (ui.overlapComboBox.currentText, ui.mirroringComboBox.currentText) == ("25 % (fast)", "Off (fast)")
    ui.segmentButton.click()
    assert not ui.speedComboBox.enabled
    fake_logic.jobs[-1].succeed(*add_result(volume, panel.bundle))
    settle()
    assert (ui.speedComboBox.enabled, ui.speedComboBox.currentText) == (True, "Fast (about 2 s)")
    choose(ui.mirroringComboBox, "On (slow)")
    settle()
    assert ui.speedComboBox.currentText == "As under Advanced"


def test_python_and_folder_are_slicers_settings_not_the_scenes(panel, fake_logic, ui):  # noqa: ARG001
    ui.pythonPathLineEdit.currentPath = "/home/me/env/bin/python"
    ui.folderPathLineEdit.currentPath = "/scratch"
    assert fake_logic.session.chosen_python == "/home/me/env/bin/python"
    assert fake_logic.session.chosen_folder == "/scratch"
    assert fake_logic.dependencies.checks == 2


def test_empty_settings_show_what_is_used(panel, fake_logic, ui):  # noqa: ARG001
    fields = (ui.pythonPathLineEdit, ui.folderPathLineEdit, ui.caseFolderPathLineEdit)
    assert [field.currentPath for field in fields] == ["", "", ""]
    said = [field.comboBox().lineEdit().placeholderText for field in fields]
    assert said == ["Slicer's own Python", str(fake_logic.session.default_folder), str(default_cases_folder())]


def test_log_is_one_click_away_and_follows(panel, fake_logic, ui, process_events_until):  # noqa: ARG001
    log = fake_logic.session.log
    log.add("info", "first line")
    assert ui.advancedCollapsibleButton.collapsed
    ui.logButton.click()
    assert ui.logText.visible
    assert "first line" in ui.logText.plainText
    for number in range(100):
        log.add("info", f"line {number}")
    process_events_until(lambda: "line 99" in ui.logText.plainText, 10)
    ui.logButton.click()
    assert not ui.logText.visible
    assert ui.logButton.text == "Show log"


def test_diagnostics_go_to_the_clipboard(panel, ui):  # noqa: ARG001
    ui.copyButton.click()
    assert slicer.app.clipboard().text().startswith("diagnostics of a test, DependencyReport(")
    assert ui.copyButton.text == "Copied"
