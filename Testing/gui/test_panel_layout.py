"""How the panel looks in Slicer's default width, and how it is used without a mouse.

Set MAESEGMENT_SCREENSHOTS to a folder to look at the pictures.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import slicer

from MAESegmentLib.errors import DeviceMemoryError
from MAESegmentLib.jobs import JobState
from Testing.gui.looking import nothing_is_cut_off
from Testing.gui.panel_fixtures import UI_FILE
from Testing.gui.standin import to_qt

WIDTH = 470
_LONG = "PATIENT_0012345_T1w_MPRAGE_sagittal_defaced_with_a_name_from_a_scanner_that_has_no_end"


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def look(host, screenshot):
    """Take a picture; what is cut off or wider than the panel fails."""

    def look(name):
        screenshot(host.parent, name)
        root = to_qt(host.parent)
        assert root.width() == WIDTH
        assert root.minimumSizeHint().width() <= WIDTH
        assert nothing_is_cut_off(host.parent) == []

    return look


@pytest.fixture
def volume(panel, add_volume, settle):
    node = add_volume("MNI152 head")
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    settle()
    return node


@pytest.fixture
def job(fake_logic, ui, volume):  # noqa: ARG001
    ui.segmentButton.click()
    return fake_logic.jobs[-1]


def test_empty_scene(panel, look):  # noqa: ARG001
    look("01-empty-scene")


def test_packages_missing(fake_logic, plugin, host, look):
    problem = plugin("dependencies").Problem
    report = plugin("dependencies").DependencyReport
    fake_logic.dependencies.report = report(
        "/opt/Slicer/bin/PythonSlicer",
        version="3.12.1",
        problems=(
            problem("torch", "missing", "torch is missing", "torch>=2.4", 2400.0, is_torch=True),
            problem("nibabel", "missing", "nibabel is missing", "nibabel>=5.2", 3.4),
        ),
    )
    host.panel.enter()
    look("02-packages-missing")
    host.panel.ui.declineButton.click()
    look("03-packages-declined")


def test_own_python_lacks_packages(fake_logic, plugin, host, look):
    problem = plugin("dependencies").Problem
    fake_logic.dependencies.report = plugin("dependencies").DependencyReport(
        "/home/somebody/miniconda3/envs/segmentation-with-a-long-name/bin/python3.11",
        problems=(problem("torch", "missing", "torch is missing", "torch>=2.4", 2400.0, is_torch=True),),
        is_foreign=True,
    )
    host.panel.enter()
    look("04-own-python-lacks-packages")


def test_ready(volume, look):  # noqa: ARG001
    look("05-ready-model-asks-for-box")


def test_model_card(ui, volume, look):  # noqa: ARG001
    ui.detailsButton.click()
    look("06-model-card")


def test_two_channels(fake_logic, panel, add_volume, settle, two_channel_model, look):
    fake_logic.bundles = [two_channel_model]
    panel.enter()
    panel.parameters.modelName = "tumour-mr@1.0.0"
    add_volume("T1")
    settle()
    look("07-two-channels")


def test_running(job, look):
    job.go_on("segment", 0.4, 95.0)
    look("08-running")


def test_result(panel, job, volume, add_result, look):
    warning = "This scan is unlike the training scans: it shows nothing like what they show. Check the result."
    job.succeed(*add_result(volume, panel.bundle, warnings=(warning,)))
    look("09-result-with-warning")


def test_result_of_many_segments(fake_logic, panel, ui, add_volume, add_result, settle, look):
    volume = add_volume("CT")
    settle()
    ui.segmentButton.click()
    fake_logic.jobs[-1].succeed(*add_result(volume, panel.bundle))
    look("10-result-of-five-segments")


def test_error(job, look):
    job.fail(
        DeviceMemoryError(
            "Not enough memory on cuda:0 (5.1 of 11.8 GiB free). Tried batches of 4, 2 and 1 windows.",
            "Close other programs, restrict the segmentation to a region of interest, or allow the CPU.",
        ),
        {"cpu_seconds": 238.0},
    )
    look("11-gpu-full")


def test_long_names_and_paths_do_not_widen_it(panel, ui, add_volume, add_result, settle, fake_logic, look):
    volume = add_volume(_LONG)
    settle()
    ui.segmentButton.click()
    fake_logic.jobs[-1].fail(DeviceMemoryError(f"/{_LONG}/{_LONG}: no."))
    panel.parameters.device = _LONG
    segmentation, summary = add_result(volume, panel.bundle, warnings=(_LONG,))
    ui.segmentButton.click()
    fake_logic.jobs[-1].succeed(segmentation, summary)
    ui.advancedCollapsibleButton.collapsed = False
    ui.batchCollapsibleButton.collapsed = False
    settle()
    look("12-long-names")


def test_batch(fake_logic, panel, ui, add_volume, add_result, settle, look):
    volumes = [add_volume(name) for name in ("Baseline", "Follow-up 1", "Follow-up 2")]
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    ui.batchCollapsibleButton.collapsed = False
    for volume in volumes:
        ui.batchSelector.setCheckState(volume, 2)
    settle()
    ui.batchButton.click()
    batch = fake_logic.last("batch")
    batch.end_row(JobState.DONE, "", *add_result(volumes[0], panel.bundle))
    batch.end_row(JobState.FAILED, "Follow-up 1 has 1 slice: it is not a volume. Choose a scan with several slices.")
    batch.rows[2].state = JobState.RUNNING
    batch.current.go_on("segment", 0.3, 4.0)
    look("13-batch")


def test_advanced_and_log(fake_logic, panel, ui, volume, settle, look):  # noqa: ARG001
    gib = 2**30
    fake_logic.session.client.become_ready(
        (
            {"name": "cuda:0", "title": "NVIDIA GeForce RTX 3060", "free_bytes": 9.8 * gib, "total_bytes": 12 * gib},
            {"name": "cpu", "title": "AMD Ryzen 7", "free_bytes": 21 * gib, "total_bytes": 32 * gib},
        )
    )
    ui.advancedCollapsibleButton.collapsed = False
    panel.parameters.device = "cuda:0"
    fake_logic.session.log.add("info", "Starting /opt/Slicer/bin/PythonSlicer (the Python of this Slicer)")
    fake_logic.session.log.add("info", "Loaded hippocampus-mr 1.2.1 on cuda:0 in 0.8 s")
    ui.logButton.click()
    settle()
    look("14-advanced-and-log")


# Without a mouse ------------------------------------------------------------------------------------------------------


def _widgets():
    return ElementTree.parse(UI_FILE).getroot().iter("widget")


def _text(widget):
    found = widget.find("./property[@name='text']/string")
    return found.text or "" if found is not None else ""


def test_no_two_texts_share_a_mnemonic():
    found: dict[str, list[str]] = {}
    for widget in _widgets():
        for letter in re.findall("&(.)", _text(widget)):
            found.setdefault(letter.lower(), []).append(widget.get("name", ""))
    assert {letter: names for letter, names in found.items() if len(names) > 1} == {}
    assert not set(found) & set("feahv"), "these open menus of Slicer's window, or are Cancel's"


def test_every_label_of_a_field_leads_to_it():
    for widget in _widgets():
        if widget.get("class") == "QLabel" and _text(widget).endswith(":"):
            buddy = widget.find("./property[@name='buddy']/cstring")
            assert buddy is not None, widget.get("name")


def test_tab_order_names_every_widget_that_takes_the_keyboard():
    interactive = {"QPushButton", "QToolButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox", "ctkPathLineEdit"}
    wanted = {widget.get("name") for widget in _widgets() if widget.get("class") in interactive}
    order = [stop.text for stop in ElementTree.parse(UI_FILE).getroot().iter("tabstop")]
    assert wanted <= set(order)
    assert len(order) == len(set(order))


def test_enter_presses_the_button_that_has_the_focus():
    for widget in _widgets():
        if widget.get("class") == "QPushButton":
            assert widget.find("./property[@name='autoDefault']/bool") is not None, widget.get("name")


def test_return_on_segment_segments(fake_logic, ui, volume):  # noqa: ARG001
    from PySide6 import QtCore, QtTest

    QtTest.QTest.keyClick(to_qt(ui.segmentButton), QtCore.Qt.Key.Key_Return)
    assert len(fake_logic.jobs) == 1


def test_disabled_buttons_say_what_is_missing(panel, ui):  # noqa: ARG001
    for button in (ui.segmentButton, ui.batchButton, ui.framesButton):
        assert not button.enabled
        assert button.toolTip


def test_no_widget_has_a_style_of_its_own():
    assert "styleSheet" not in Path(UI_FILE).read_text()
    assert slicer.app is not None
