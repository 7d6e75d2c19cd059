"""How the panel looks in Slicer's default width and narrower.

Set MAESEGMENT_SCREENSHOTS to a folder to look at the pictures.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PySide6 import QtCore

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import DeviceMemoryError, GeometryError
from MAESegmentLib.evaluation.comparison import Row
from MAESegmentLib.jobs import JobState
from MAESegmentLib.runs import Curves, RunState, RunStatus
from Testing.fake_logic import GIB, RUNNING, FakeRun, Proposal, Ranked, case_record, run_curves, run_result
from Testing.gui.looking import nothing_is_cut_off, takes_blank_space
from Testing.gui.standin import to_qt

WIDTH = 470
_LONG = "PATIENT_0012345_T1w_MPRAGE_sagittal_defaced_with_a_name_from_a_scanner_that_has_no_end"


@pytest.fixture
def look(host, screenshot, slicer_gui):
    """Take a picture; what is cut off, wider than the panel, or blank in a high one fails."""

    def look(name, width=WIDTH):
        root = to_qt(host.parent)
        root.resize(width, 900)
        screenshot(host.parent, name if width == WIDTH else f"{name}-{width}")
        assert (root.width(), nothing_is_cut_off(host.parent)) == (width, [])
        assert root.minimumSizeHint().width() <= width
        assert takes_blank_space(host.parent, slicer_gui) == []

    return look


@pytest.fixture(params=[WIDTH, 400])
def look_at_both(request, look):
    """At two widths."""
    return lambda name: look(name, request.param)


@pytest.fixture
def job(fake_logic, ui, volume):  # noqa: ARG001
    ui.segmentButton.click()
    return fake_logic.jobs[-1]


@pytest.mark.parametrize(
    ("kind", "name", "spoil"),
    [
        ("label", "inputLabel", lambda widget: widget.setFixedWidth(5)),
        ("combo box", "modelComboBox", lambda widget: widget.setFixedWidth(60)),
        ("button", "segmentButton", lambda widget: widget.setFixedHeight(8)),
    ],
)
def test_what_is_cut_off_is_found(slicer_gui, host, panel, ui, kind, name, spoil):  # noqa: ARG001
    assert nothing_is_cut_off(host.parent) == []
    spoil(getattr(ui, name))
    slicer_gui.processEvents()
    assert any(problem.startswith(f"{kind} {name}") for problem in nothing_is_cut_off(host.parent))


def test_empty_scene(panel, look):  # noqa: ARG001
    look("01-empty-scene")


@pytest.mark.parametrize(
    "python", ["/opt/Slicer/bin/PythonSlicer", "/home/somebody/miniconda3/envs/long-name/bin/python3"]
)
def test_packages_missing(fake_logic, plugin, host, ui, look, python):
    code, is_foreign = plugin("dependencies"), "Slicer" not in python
    problems = (
        code.Problem("torch", "missing", "torch is missing", "torch>=2.4", 2400.0, is_torch=True),
        code.Problem("nibabel", "missing", "nibabel is missing", "nibabel>=5.2", 3.4),
    )
    small = code.Problem("openvino", "missing", "openvino is missing", "openvino>=2026", 60.0)
    fake_logic.dependencies.report = code.DependencyReport(
        python, version="3.12.1", problems=problems, is_foreign=is_foreign, instead=small
    )
    host.widget.enter()
    look("04-own-python-lacks-packages" if is_foreign else "02-packages-missing")
    if not is_foreign:
        ui.declineButton.click()
        look("03-packages-declined")


def test_ready_and_model_card(ui, volume, look):  # noqa: ARG001
    look("05-ready-model-asks-for-box")
    ui.detailsButton.click()
    look("06-model-card")


def test_two_channels(fake_logic, panel, add_volume, settle, two_channel_model, look):
    fake_logic.bundles = [two_channel_model]
    panel.enter()
    panel.parameters.modelName = "tumour-mr@1.0.0"
    add_volume("T1")
    settle()
    look("07-two-channels")


def test_running_and_result(panel, job, volume, add_result, look):
    job.go_on("segment", 0.4, 95.0)
    look("08-running")
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
    panel.parameters.modelName = "hippocampus-mr@2.0.0"
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
    fake_logic.session.client.become_ready(
        (
            {"name": "cuda:0", "title": "NVIDIA GeForce RTX 3060", "free_bytes": 9.8 * GIB, "total_bytes": 12 * GIB},
            {"name": "cpu", "title": "AMD Ryzen 7", "free_bytes": 21 * GIB, "total_bytes": 32 * GIB},
        )
    )
    ui.advancedCollapsibleButton.collapsed = False
    panel.parameters.device = "cuda:0"
    fake_logic.session.log.add("info", "Starting /opt/Slicer/bin/PythonSlicer (the Python of this Slicer)")
    fake_logic.session.log.add("info", "Loaded hippocampus-mr 2.0.0 on cuda:0 in 0.8 s")
    ui.logButton.click()
    settle()
    look("14-advanced-and-log")


# Improve --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(ui, segmentation, improve, settle):  # noqa: ARG001
    """A corrected result is chosen and Improve is open, the sections above it closed."""
    for button in (ui.inputsCollapsibleButton, ui.modelCollapsibleButton, ui.outputsCollapsibleButton):
        button.collapsed = True
    settle()
    return improve


@pytest.fixture
def four_cases(fake_logic, panel, ready, tmp_path):  # noqa: ARG001
    """Stored cases, one with a long list of labels, with pictures."""
    from PIL import Image

    store = fake_logic.store
    store.folder = tmp_path
    organs = [f"{name} gland {side}" for name in ("Parotid", "Submandibular") for side in ("left", "right")]
    organs += ["Spinal cord", "Mandible", "Optic chiasm"]
    store.records[:] = [
        case_record(1),
        case_record(2, labels=tuple(organs), volumes_ml=dict.fromkeys(organs, 12.0)),
        case_record(3, labels=("anterior",), unknown=("posterior",), partial=True),
        case_record(4, role="check"),
    ]
    for record in store.records:
        (tmp_path / record.id).mkdir()
        grey = np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)
        Image.fromarray(grey).convert("RGB").save(tmp_path / record.id / "thumbnail.png")
    panel.enter()
    return store.records


@pytest.fixture
def run(fake_logic, ui, four_cases):  # noqa: ARG001
    ui.casesCollapsibleButton.collapsed = True
    ui.fineTuneButton.click()
    return fake_logic.runs[-1]


def test_nothing_stored_yet(ready, look_at_both):  # noqa: ARG001
    look_at_both("20-improve-empty")


def test_cases(four_cases, ui, look_at_both):  # noqa: ARG001
    ui.casesTable.selectRow(1)
    ui.removeCaseButton.click()
    look_at_both("21-improve-cases")


@pytest.mark.usefixtures("four_cases")
def test_questions_before_a_case_is_stored(fake_logic, panel, ui, settle, process_events_until, look_at_both):
    fake_logic.proposal = Proposal(
        choices=(
            LabelMatch("Anterior part of the left hippocampus", "anterior", "similar"),
            LabelMatch("posterior", "posterior", "same"),
            LabelMatch("cyst", None, "new"),
        ),
        findings=(
            CaseIssue("empty", "warning", "posterior has no voxel.", "", {"label": "posterior"}),
            CaseIssue(
                "partial",
                "warning",
                "Labels end at the same slice (31) in all structures, as if the rest was not done.",
                "Choose a region (ROI) around what was annotated, so that the rest counts as unknown.",
            ),
        ),
    )
    panel.add_roi()
    settle()
    ui.addCaseButton.click()
    process_events_until(lambda: ui.questionFrame.visible, 20)
    look_at_both("22-improve-questions")


def test_edited_case(fake_logic, panel, four_cases, look_at_both):
    fake_logic.changed = [(panel.parameters.outputSegmentation, four_cases[1])]
    panel.enter()
    look_at_both("23-improve-edited-case")


def test_what_is_chosen_before_fine_tuning(panel, four_cases, ui, look_at_both, settle):
    four_cases.pop()
    panel.improve.refresh()
    ui.casesCollapsibleButton.collapsed = True
    ui.measuredButton.click()
    ui.stepsLineEdit.setText("300")
    ui.moreSourceComboBox.setCurrentIndex(2)
    settle()
    look_at_both("29-improve-choices")


def test_fine_tuning_under_way_and_finished(run, ui, look_at_both):
    run.tell(RUNNING, run_curves(180))
    ui.discardRunButton.click()
    look_at_both("24-improve-curves")
    run.finish(run_result(notes=("Two cases share a patient: they were kept on the same side.",)))
    ui.outcomeButton.click()
    look_at_both("25-improve-banner")


def test_fine_tuning_of_many_labels(run, look_at_both):
    names = [f"Structure with a long name {number}" for number in range(1, 13)]
    before = {**{name: 0.4 + 0.03 * n for n, name in enumerate(names[:8])}, "mean": 0.5}
    dice = tuple(
        (step, {**{name: 0.4 + 0.03 * n + step / 900 for n, name in enumerate(names)}, "mean": 0.55 + step / 900})
        for step in (50, 100, 150)
    )
    run.tell(RUNNING, Curves(run_curves(180).loss, dice, before))
    look_at_both("26-improve-many-labels")


@pytest.mark.usefixtures("four_cases")
def test_fine_tuning_interrupted_and_estimate(fake_logic, panel, ui, look_at_both):
    ui.estimateButton.click()
    fake_logic.last("estimateFineTune").succeed(
        SimpleNamespace(
            seconds=1500.0,
            steps=800,
            memory_bytes=3.4 * GIB,
            free_bytes=11.6 * GIB,
            device_title="Intel Xeon Platinum 8481C, 2 cores",
            warnings=("Only 2.1 GB are free on the disk of the models.",),
        )
    )
    look_at_both("27-improve-estimate")
    fake_logic.runs.append(FakeRun(RunStatus(RunState.INTERRUPTED, fraction=0.43)))
    panel.enter()
    look_at_both("28-improve-interrupted")


@pytest.mark.usefixtures("ready", "new_version")
def test_versions_compared(fake_logic, panel, ui, settle, look_at_both):
    ui.learnCollapsibleButton.collapsed = ui.casesCollapsibleButton.collapsed = True
    panel.improve.use_model("hippocampus-mr@2.1.0")
    ui.versionsCollapsibleButton.collapsed = False
    ui.versionsTable.selectRow(0)
    ui.deleteVersionButton.click()
    ui.compareButton.click()
    settle()
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", "MNI152 head: hippocampus-mr 2.0.0 and 2.1.0 differ"
    )
    rows = (Row("anterior", 1.23, 1.41, 0.88), Row("posterior", 1.10, 1.32, 0.91), Row("cyst", None, 0.31, None))
    fake_logic.last("compare").succeed(SimpleNamespace(disagreement=node, disagreement_ml=0.2, rows=rows))
    look_at_both("29-improve-versions")


def test_next_case_is_suggested(fake_logic, ui, ready, add_volume, settle, look_at_both):
    ui.learnCollapsibleButton.collapsed = ui.casesCollapsibleButton.collapsed = True
    ui.nextCollapsibleButton.collapsed = False
    nodes = [add_volume(name) for name in ("Follow-up after six months, sagittal MPRAGE", "Third")]
    settle()
    ui.rankButton.click()
    job = fake_logic.last("nextCases")
    job.rows[:] = [
        Ranked(nodes[0].GetName(), nodes[0], score=0.42, entropy=0.42),
        Ranked("MNI152 head", ready, score=0.11, entropy=0.11),
        Ranked("Third", nodes[1], error=GeometryError("Third has 1 slice: it is not a volume.")),
    ]
    job.succeed(job.rows)
    settle()
    look_at_both("30-improve-next")


def test_the_panel_has_the_margins_of_other_modules(ui, host):
    root, button = to_qt(host.parent), to_qt(ui.inputsCollapsibleButton)
    left = button.mapTo(root, button.rect().topLeft()).x()
    assert (left, root.width() - left - button.width()) == (5, 5)


@pytest.mark.filterwarnings("error")
def test_figures_stand_at_the_right(plugin, slicer_gui):  # noqa: ARG001
    item = plugin("widgets").figure_item("0.87")
    assert to_qt(item).textAlignment() == QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter


def test_the_row_of_a_hint_that_is_not_shown_takes_no_room(panel, ui, volume, settle):  # noqa: ARG001
    panel.add_roi()
    settle()
    frame, selector = to_qt(ui.inputsCollapsibleButton), to_qt(ui.roiSelector)
    below = frame.height() - selector.geometry().bottom() - 1
    assert (ui.roiHintLabel.visible, below) == (False, frame.layout().contentsMargins().bottom())
