"""How the section Improve looks, at Slicer's default width and narrower.

Set MAESEGMENT_SCREENSHOTS to a folder to look at the pictures.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import GeometryError
from MAESegmentLib.evaluation.comparison import Row
from MAESegmentLib.runs import Curves, RunState, RunStatus
from Testing.fake_logic import GIB, FakeRun, Proposal, Ranked, case_record, run_curves, run_result
from Testing.gui.looking import nothing_is_cut_off
from Testing.gui.standin import to_qt


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture(params=[470, 400])
def look(request, host, screenshot):
    """Take a picture; what is cut off or wider than the panel fails."""

    def look(name):
        root = to_qt(host.parent)
        root.resize(request.param, 900)
        screenshot(host.parent, f"{name}-{request.param}")
        assert root.width() == request.param
        assert nothing_is_cut_off(host.parent) == []

    return look


@pytest.fixture
def ready(panel, ui, add_volume, add_result, settle):
    """A corrected result is chosen and Improve is open, the sections above it closed."""
    volume = add_volume("MNI152 head")
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    panel.parameters.outputSegmentation, _summary = add_result(volume, panel.bundle)
    for button in (ui.inputsCollapsibleButton, ui.modelCollapsibleButton, ui.outputsCollapsibleButton):
        button.collapsed = True
    ui.improveCollapsibleButton.collapsed = False
    settle()
    return volume


@pytest.fixture
def four_cases(fake_logic, panel, ready, tmp_path):  # noqa: ARG001
    """Stored cases, one with a long list of labels, with pictures."""
    from PIL import Image

    store = fake_logic.store
    store.folder = tmp_path
    organs = (
        "Spinal cord",
        "Parotid gland left",
        "Parotid gland right",
        "Mandible",
        "Brain stem",
        "Optic chiasm",
        "Larynx",
    )
    store.records[:] = [
        case_record(1),
        case_record(2, labels=organs, volumes_ml=dict.fromkeys(organs, 12.0)),
        case_record(3, labels=("anterior",), unknown=("posterior",), partial=True),
        case_record(4, role="check"),
    ]
    y, x = np.mgrid[:96, :96]
    for number, record in enumerate(store.records):
        (tmp_path / record.id).mkdir()
        head = 150.0 * (((x - 48) / 40) ** 2 + ((y - 48) / 44) ** 2 < 1) + 12 * np.sin(x / (3 + number))
        picture = np.repeat(np.clip(head, 0, 255).astype(np.uint8)[..., None], 3, 2)
        picture[abs(np.hypot(x - 50, y - 50) - 9) < 1] = (250, 200, 60)
        Image.fromarray(picture).save(tmp_path / record.id / "thumbnail.png")
    panel.enter()
    return store.records


def test_nothing_stored_yet(ready, look):  # noqa: ARG001
    look("20-improve-empty")


def test_cases(four_cases, ui, look):  # noqa: ARG001
    ui.casesTable.selectRow(1)
    ui.removeCaseButton.click()
    look("21-improve-cases")


def test_questions_before_a_case_is_stored(fake_logic, panel, ui, four_cases, settle, process_events_until, look):  # noqa: ARG001
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
    look("22-improve-questions")


def test_edited_case(fake_logic, panel, ready, four_cases, look):
    fake_logic.changed = [(panel.parameters.outputSegmentation, four_cases[1])]
    panel.enter()
    assert ready is not None
    look("23-improve-edited-case")


RUNNING = RunStatus(
    RunState.RUNNING,
    "train",
    "Training, step 180 of 280",
    0.64,
    400.0,
    180,
    280,
    None,
    "cpu",
    "Intel Xeon Platinum 8481C",
    700.0,
)


@pytest.fixture
def run(fake_logic, ui, four_cases):  # noqa: ARG001
    ui.casesCollapsibleButton.collapsed = True
    ui.fineTuneButton.click()
    return fake_logic.runs[-1]


def test_fine_tuning_under_way(run, ui, look):
    run.tell(RUNNING, run_curves(180))
    ui.discardRunButton.click()
    look("24-improve-curves")


def test_fine_tuning_finished(run, ui, look):
    run.tell(RUNNING, run_curves(280))
    run.finish(run_result(notes=("Two cases share a patient: they were kept on the same side.",)))
    ui.outcomeButton.click()
    look("25-improve-banner")


def test_fine_tuning_of_many_labels(run, look):
    names = [f"Structure with a long name {number}" for number in range(1, 13)]
    before = {**{name: 0.4 + 0.03 * n for n, name in enumerate(names[:8])}, "mean": 0.5}
    dice = tuple(
        (step, {**{name: 0.4 + 0.03 * n + step / 900 for n, name in enumerate(names)}, "mean": 0.55 + step / 900})
        for step in (50, 100, 150)
    )
    run.tell(RUNNING, Curves(run_curves(180).loss, dice, before))
    look("26-improve-many-labels")


def test_fine_tuning_interrupted_and_estimate(fake_logic, panel, ui, four_cases, look):  # noqa: ARG001
    ui.estimateButton.click()
    fake_logic.last("estimateFineTune").succeed(
        SimpleNamespace(
            seconds=1500.0,
            memory_bytes=3.4 * GIB,
            free_bytes=11.6 * GIB,
            device_title="Intel Xeon Platinum 8481C, 2 cores",
            warnings=("Only 2.1 GB are free on the disk of the models.",),
        )
    )
    look("27-improve-estimate")
    waiting = FakeRun()
    waiting.status = RunStatus(RunState.INTERRUPTED, fraction=0.43)
    fake_logic.runs.append(waiting)
    panel.enter()
    look("28-improve-interrupted")


def test_versions_compared(fake_logic, panel, ui, ready, new_version, settle, look):  # noqa: ARG001
    ui.learnCollapsibleButton.collapsed = ui.casesCollapsibleButton.collapsed = True
    panel.improve.use_model("hippocampus-mr@1.3.0")
    ui.versionsCollapsibleButton.collapsed = False
    ui.versionsTable.selectRow(0)
    ui.deleteVersionButton.click()
    ui.compareButton.click()
    settle()
    name = "MNI152 head: hippocampus-mr 1.2.1 and 1.3.0 differ"
    rows = (Row("anterior", 1.23, 1.41, 0.88), Row("posterior", 1.10, 1.32, 0.91), Row("cyst", None, 0.31, None))
    fake_logic.last("compare").succeed(
        SimpleNamespace(disagreement=SimpleNamespace(GetName=lambda: name), disagreement_ml=0.2, rows=rows)
    )
    look("29-improve-versions")


def test_next_case_is_suggested(fake_logic, panel, ui, ready, add_volume, settle, look):  # noqa: ARG001
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
    look("30-improve-next")
