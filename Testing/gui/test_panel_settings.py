"""The first-run bar, Advanced, the log and the diagnostics."""

from __future__ import annotations

import pytest
import slicer

GIB = 2**30
GPU = {"name": "cuda:0", "title": "NVIDIA GeForce RTX 3060", "free_bytes": 9.8 * GIB, "total_bytes": 12 * GIB}
CPU = {"name": "cpu", "title": "AMD Ryzen 7", "free_bytes": 21 * GIB, "total_bytes": 32 * GIB}


@pytest.fixture
def ui(host):
    return host.panel.ui


@pytest.fixture
def missing(plugin):
    """A report of Slicer's own Python without torch and nibabel."""
    problem = plugin("dependencies").Problem

    def report(**changes):
        values = {
            "python": "/opt/Slicer/bin/PythonSlicer",
            "version": "3.12.1",
            "problems": (
                problem("torch", "missing", "torch is missing: it runs the network", "torch>=2.4", 2400.0, True),
                problem("nibabel", "missing", "nibabel is missing", "nibabel>=5.2", 3.4),
            ),
        }
        return plugin("dependencies").DependencyReport(**{**values, **changes})

    return report


class FakeInstaller:
    """Installs when the test says so."""

    def __init__(self):
        self.report = self.progress = self.done = None

    def install(self, report, progress, done):
        self.report, self.progress, self.done = report, progress, done


@pytest.fixture
def lacking(fake_logic, host, missing, add_volume, settle):
    """The panel where packages are missing, with a scan; the answer is the installer."""
    fake_logic.dependencies.report = missing()
    installer = FakeInstaller()
    host.panel.dependencies.installer = installer
    add_volume()
    host.panel.enter()
    settle()
    return installer


def test_bar_is_hidden_where_all_is_well(panel, ui):  # noqa: ARG001
    assert not ui.dependencyFrame.visible


def test_opening_the_panel_again_does_not_check_again(panel, fake_logic):
    panel.exit()
    panel.enter()
    assert fake_logic.dependencies.checks == 1


def test_while_the_check_is_under_way_nothing_is_forbidden(fake_logic, host, ui, add_volume, settle):
    fake_logic.dependencies.report = None
    add_volume()
    host.panel.enter()
    settle()
    assert not ui.dependencyFrame.visible
    assert ui.segmentButton.enabled


def test_bar_says_what_is_missing_and_how_large_it_is(lacking, ui):  # noqa: ARG001
    assert ui.dependencyFrame.visible
    text = ui.dependencyLabel.text
    assert "torch, nibabel" in text
    assert "2.3 GB" in text
    assert "it runs the network" in ui.dependencyLabel.toolTip
    assert ui.installButton.text == "Install"
    assert not ui.segmentButton.enabled
    assert "torch, nibabel" in " ".join(ui.segmentButton.toolTip.split())


def test_nothing_is_installed_before_the_button_is_pressed(lacking):
    assert lacking.report is None


def test_installing_shows_how_far_it_is_and_ends_ready(lacking, host, ui, plugin):
    ui.installButton.click()
    assert lacking.report.missing == ("torch", "nibabel")
    assert not ui.installButton.enabled
    assert ui.segmentButton.toolTip == "Packages are being installed."
    lacking.progress("Downloading torch (2.3 GB)")
    assert "Downloading torch" in ui.dependencyLabel.text
    lacking.done(plugin("dependencies").DependencyReport("/opt/Slicer/bin/PythonSlicer", version="3.12.1"), None)
    assert not ui.dependencyFrame.visible
    assert ui.segmentButton.enabled
    assert host.panel.dependencies.report.ready


def test_failed_installation_says_why_and_can_be_tried_again(lacking, ui, missing):
    from MAESegmentLib.errors import WorkerError

    ui.installButton.click()
    lacking.done(missing(), WorkerError("No connection to pypi.org.", "Check the proxy."))
    assert "No connection to pypi.org. Check the proxy." in ui.dependencyLabel.text
    assert ui.installButton.enabled
    assert ui.installButton.text == "Install"


def test_declining_leaves_a_panel_that_explains_itself(lacking, ui):
    ui.declineButton.click()
    assert ui.dependencyLabel.text == "Packages are missing; nothing can be segmented yet."
    assert not ui.declineButton.visible
    assert "torch" in ui.segmentButton.toolTip
    assert ui.modelComboBox.enabled
    ui.installButton.click()
    assert lacking.report is not None


def test_own_python_is_left_alone_and_its_command_can_be_copied(fake_logic, host, ui, missing):
    fake_logic.dependencies.report = missing(python="/home/me/env/bin/python", is_foreign=True)
    host.panel.enter()
    assert ui.installButton.text == "Check again"
    ui.commandButton.click()
    assert slicer.app.clipboard().text() == '"/home/me/env/bin/python" -m pip install "torch>=2.4" "nibabel>=5.2"'
    ui.installButton.click()
    assert fake_logic.dependencies.checks == 2


def test_python_that_does_not_run_is_explained(fake_logic, host, ui, missing):
    from MAESegmentLib.errors import WorkerError

    failure = WorkerError("/no/python cannot be used: no such file.", "Choose another Python under Advanced.")
    fake_logic.dependencies.report = missing(problems=(), failure=failure)
    host.panel.enter()
    assert ui.dependencyLabel.text.replace("\u200b", "").splitlines() == [failure.message, failure.hint]


def test_crash_for_lack_of_packages_offers_to_install_them(host, lacking, ui):
    from MAESegmentLib.errors import WorkerError

    host.panel.show_error(WorkerError("torch is missing.", "Install it."))
    assert ui.action1Button.text == "Install"
    ui.action1Button.click()
    assert lacking.report is not None


# Advanced -------------------------------------------------------------------------------------------------------------


def test_devices_are_known_with_their_memory_once_the_worker_runs(panel, fake_logic, ui):  # noqa: ARG001
    assert [ui.deviceComboBox.itemText(n) for n in range(ui.deviceComboBox.count)] == ["Automatic", "CPU"]
    fake_logic.session.client.become_ready((GPU, CPU))
    texts = [ui.deviceComboBox.itemText(n) for n in range(ui.deviceComboBox.count)]
    assert texts == ["Automatic", "NVIDIA GeForce RTX 3060 (9.8/12 GB)", "AMD Ryzen 7 (21/32 GB)"]


def test_opening_advanced_asks_for_the_devices_once(panel, fake_logic, ui):  # noqa: ARG001
    ui.advancedCollapsibleButton.collapsed = False
    assert len(fake_logic.session.client.asked) == 1
    assert not ui.refreshButton.enabled
    fake_logic.session.client.answer_devices([GPU, CPU])
    assert ui.refreshButton.enabled
    assert ui.deviceComboBox.count == 3
    ui.advancedCollapsibleButton.collapsed = True
    ui.advancedCollapsibleButton.collapsed = False
    assert fake_logic.session.client.asked == []


def test_opening_advanced_starts_nothing_where_packages_are_missing(lacking, fake_logic, ui):  # noqa: ARG001
    ui.advancedCollapsibleButton.collapsed = False
    assert fake_logic.session.client.asked == []


def test_refresh_asks_for_the_free_memory_again(panel, fake_logic, ui):  # noqa: ARG001
    fake_logic.session.client.become_ready((GPU, CPU))
    ui.refreshButton.click()
    fake_logic.session.client.answer_devices([{**GPU, "free_bytes": 2 * GIB}, CPU])
    assert ui.deviceComboBox.itemText(1) == "NVIDIA GeForce RTX 3060 (2.0/12 GB)"


def test_chosen_device_stays_chosen_when_the_list_is_made_anew(panel, fake_logic, ui, settle):
    panel.parameters.device = "cuda:0"
    settle()
    fake_logic.session.client.become_ready((GPU, CPU))
    assert ui.deviceComboBox.currentData == "cuda:0"
    assert "9.8 of 12 GB" in ui.deviceComboBox.itemData(1, 3)


def test_choices_go_to_the_parameter_node(panel, ui):
    ui.precisionComboBox.setCurrentIndex(ui.precisionComboBox.findData("bf16"))
    ui.mirroringComboBox.setCurrentIndex(ui.mirroringComboBox.findData("on"))
    ui.overlapComboBox.setCurrentIndex(ui.overlapComboBox.findData(0.25))
    ui.allowCpuCheckBox.click()
    parameters = panel.parameters
    assert (parameters.precision, parameters.mirroring, parameters.overlap) == ("bf16", "on", 0.25)
    assert not parameters.allowCpu


def test_settings_of_a_script_are_shown(panel, ui, settle):
    panel.parameters.precision, panel.parameters.overlap, panel.parameters.allowCpu = "fp32", 0.6, False
    settle()
    assert ui.precisionComboBox.currentText == "Single (fp32)"
    assert ui.overlapComboBox.currentText == "0.6"
    assert not ui.allowCpuCheckBox.checked


def test_python_and_folder_are_slicers_settings_not_the_scenes(panel, fake_logic, ui):  # noqa: ARG001
    ui.pythonPathLineEdit.currentPath = "/home/me/env/bin/python"
    ui.folderPathLineEdit.currentPath = "/scratch"
    assert fake_logic.session.chosen_python == "/home/me/env/bin/python"
    assert fake_logic.session.chosen_folder == "/scratch"
    assert fake_logic.dependencies.checks == 2


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
