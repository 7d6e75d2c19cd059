"""The whole loop on real scans: load, segment, correct, add cases, fine-tune, compare, go back, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.images.reading import read_label_map
from Testing.web.browser import LONGEST_STALL_S, User, screenshot, segment, show

CASES = ("hippocampus_003", "hippocampus_004")


@pytest.fixture(scope="module")
def scans(real_data):
    return [real_data / f"hippocampus_mr/images/{name}.nii.gz" for name in CASES]


def open_scan(user: User, path) -> None:
    show(user, "data")
    user.upload(path)
    name = path.name.partition(".")[0]
    user.until(lambda: name in user.panel() and not user.see("data-busy"), f"{name} is open")
    show(user, "segment")
    user.choose("model-select", "hippocampus")
    user.choose("region-select", "The whole scan")


def stroke(user: User, dx: int, dy: int, *, at: tuple[int, int] = (0, 0)) -> None:
    """Drag the tool over the axial view, from its middle."""
    view = user.axial_view()
    hand = ActionChains(user.driver, duration=40)
    hand.move_to_element_with_offset(view, *at).click_and_hold().pause(0.2)
    for _step in range(4):
        hand.move_by_offset(dx, dy).pause(0.1)
    hand.release().perform()


def exported(user: User, ending: str = ".seg.nrrd") -> np.ndarray:
    show(user, "export")
    for old in user.downloads.glob(f"*{ending}"):
        old.unlink()
    user.press(f"export-{ending.strip('.').replace('.', '-')}")
    user.until(lambda: user.text("saved-name").endswith(ending), ending)
    user.press("save-file")
    return read_label_map(user.saved(ending))


def add_case(user: User) -> str:
    show(user, "improve")
    user.press("add-case")
    user.until(lambda: user.see("confirm-case") or user.text("case-said"), "a question or an answer")
    if user.see("confirm-case"):  # it was not corrected: is it meant?
        user.press("confirm-case")
    return user.until(lambda: user.text("case-said"), "the case is stored")


def test_a_clinic_corrects_teaches_compares_and_goes_back(app, user, scans, app_environment):
    open_scan(user, scans[0])
    segment(user)
    before = exported(user)
    show(user, "correct")
    user.press("tool-paint")
    user.until(lambda: user.find("tool-paint").get_attribute("aria-pressed") == "true", "the brush")
    stroke(user, 12, 6)
    user.until(lambda: user.find("undo").is_enabled(), "the stroke")
    show(user, "export")
    user.until(lambda: not user.see("save-file"), "the file without the stroke is offered no more")
    painted = exported(user)
    assert painted.grid.matches(before.grid)
    grown = (painted.array == 1) & (before.array != 1)
    assert grown.sum() > 20
    # The brush did nothing but paint the first structure.
    np.testing.assert_array_equal(painted.array[painted.array != 1], before.array[painted.array != 1])
    show(user, "correct")
    user.press("undo")
    user.until(lambda: not user.find("undo").is_enabled(), "it is undone")
    np.testing.assert_array_equal(exported(user).array, before.array)
    show(user, "correct")
    user.press("redo")
    user.until(lambda: user.find("undo").is_enabled(), "it is done again")
    screenshot(user, "app-correct")

    assert "case-0001" in add_case(user)
    (cases,) = Path(app_environment["MAESEGMENT_CASES"]).iterdir()
    stored = CaseStore(cases).case_path("case-0001") / "label.nii.gz"
    np.testing.assert_array_equal(read_label_map(stored).array > 0, painted.array > 0)
    open_scan(user, scans[1])
    segment(user)
    show(user, "improve")
    user.choose("case-role", "Validation case")
    assert "case-0002" in add_case(user)

    assert "Standard (10 min)" in user.panel()
    user.choose("time-select", "Quick (2 min)")
    user.press("learning-advanced")
    user.until(lambda: user.see("steps"), "the steps")
    user.find("steps").send_keys("1")
    user.until(lambda: "takes the place of the time" in user.text("time-note"), "what counts")
    user.press("fine-tune")
    user.until(lambda: user.text("run-text"), "the run")
    user.until(lambda: "<polyline" in user.find("curves").get_attribute("innerHTML"), "a live curve", 300)
    user.until(lambda: user.see("banner"), "the result", 300)
    assert "1 held-out case" in user.text("banner-text")
    screenshot(user, "app-improve")
    user.press("compare")
    user.until(lambda: user.see("comparison"), "the comparison", 300)
    assert "anterior" in user.text("comparison")
    user.press("toggle-difference")
    user.until(lambda: user.text("toggle-difference") == "Show the differences", "they are hidden")
    user.press("toggle-difference")
    user.until(lambda: user.text("toggle-difference") == "Hide the differences", "they are shown")
    screenshot(user, "app-compare")
    # The map of differences is looked at; what is corrected and exported is the segmentation still.
    for tab in ("correct", "export"):
        show(user, tab)
        text = user.text(f"section-{tab}")
        assert f"{CASES[1]} - hippocampus-mr" in text
        assert " / hippocampus-mr" not in text
    show(user, "improve")
    user.press("accept")
    user.until(lambda: "is used from now on" in user.text("notice"), "the new version is used")
    used = user.text("notice")
    user.press("go-back")
    user.until(lambda: user.text("notice") not in ("", used), "the old version is used")
    assert ModelStore().find("hippocampus-mr").version in user.text("notice")
    assert app.longest_stall_s(user) < LONGEST_STALL_S
    assert user.problems() == []


def test_tools_are_chosen_and_undone_by_keys(user, scans):
    open_scan(user, scans[0])
    show(user, "correct")
    user.press("new-segmentation")
    user.until(lambda: user.see("tool-paint"), "the tools")
    for key, tool in (("1", "paint"), ("2", "erase"), ("4", "threshold"), ("5", "islands")):
        user.keys(key)
        user.until(lambda tool=tool: user.find(f"tool-{tool}").get_attribute("aria-pressed") == "true", tool)
    user.keys("1")
    user.until(lambda: user.find("tool-paint").get_attribute("aria-pressed") == "true", "paint")
    stroke(user, 6, 3)
    user.until(lambda: user.find("undo").is_enabled(), "the stroke")
    user.keys("z", control=True)
    user.until(lambda: not user.find("undo").is_enabled(), "it is undone")


def test_all_open_scans_are_segmented_one_after_another(user, scans):
    for path in scans:
        open_scan(user, path)
    user.press("segment-all")
    user.until(lambda: "All 2 segmented" in user.text("notice"), "both results", 300)
    assert user.text("batch").count("2 segments") == 2
    screenshot(user, "app-batch")
    assert "2 segments" in user.text("result-line"), "the one of the scan that is shown is chosen"
    assert user.text("result").count(" ml") == 3, "in the line and for each structure"
    show(user, "data")
    for _scan in scans:
        user.press("close-scan")
    user.until(lambda: not user.see("notice"), "the sentence is gone", 30)
    show(user, "segment")
    user.until(lambda: not user.see("batch"), "the table is gone", 30)
    assert user.problems() == []
