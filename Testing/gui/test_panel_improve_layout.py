"""How the section Improve looks, at Slicer's default width and narrower.

Set MAESEGMENT_SCREENSHOTS to a folder to look at the pictures.
"""

from __future__ import annotations

import numpy as np
import pytest

from MAESegmentLib.cases.entry import Finding
from MAESegmentLib.cases.mapping import Choice
from Testing.gui.fake_learning import Proposal, case_record
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
    panel.parameters.modelName = "hippocampus-mr@1.2.0"
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


def test_questions_before_a_case_is_stored(fake_logic, panel, ui, four_cases, settle, look):  # noqa: ARG001
    fake_logic.proposal = Proposal(
        choices=(
            Choice("Anterior part of the left hippocampus", "anterior", "similar"),
            Choice("posterior", "posterior", "same"),
            Choice("cyst", None, "new"),
        ),
        findings=(
            Finding("empty", "warning", "posterior has no voxel.", "", {"label": "posterior"}),
            Finding(
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
    look("22-improve-questions")


def test_edited_case(fake_logic, panel, ready, four_cases, look):
    fake_logic.changed = [(panel.parameters.outputSegmentation, four_cases[1])]
    panel.enter()
    assert ready is not None
    look("23-improve-edited-case")
