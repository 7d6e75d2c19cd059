"""The whole loop on real scans: load, segment, correct, add cases, fine-tune, compare, go back, export."""

from __future__ import annotations

import numpy as np
import pytest
from selenium.webdriver import ActionChains

from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.images.reading import read_label_map
from Testing.web.browser import LONGEST_STALL_S, Person, screenshot, segment, show

CASES = ("hippocampus_003", "hippocampus_004")


@pytest.fixture(scope="module")
def scans(real_data):
    return [real_data / f"hippocampus_mr/images/{name}.nii.gz" for name in CASES]


def open_scan(person: Person, path) -> None:
    show(person, "data")
    person.upload(path)
    name = path.name.partition(".")[0]
    person.until(lambda: name in person.panel() and not person.see("data-busy"), f"{name} is open")
    show(person, "segment")
    person.choose("model-select", "hippocampus")
    person.choose("region-select", "The whole scan")


def stroke(person: Person, dx: int, dy: int, *, at: tuple[int, int] = (0, 0)) -> None:
    """Drag the tool over the axial view, from its middle."""
    view = person.axial_view()
    hand = ActionChains(person.driver, duration=40)
    hand.move_to_element_with_offset(view, *at).click_and_hold().pause(0.2)
    for _step in range(4):
        hand.move_by_offset(dx, dy).pause(0.1)
    hand.release().perform()


def exported(person: Person, ending: str = ".seg.nrrd") -> np.ndarray:
    show(person, "export")
    for old in person.downloads.glob(f"*{ending}"):
        old.unlink()
    person.press(f"export-{ending.strip('.').replace('.', '-')}")
    person.until(lambda: person.text("saved-name").endswith(ending), ending)
    person.press("save-file")
    return read_label_map(person.saved(ending))


def add_case(person: Person) -> str:
    show(person, "improve")
    person.press("add-case")
    person.until(lambda: person.see("confirm-case") or person.text("case-said"), "a question or an answer")
    if person.see("confirm-case"):  # it was not corrected: is it meant?
        person.press("confirm-case")
    return person.until(lambda: person.text("case-said"), "the case is stored")


def test_a_clinic_corrects_teaches_compares_and_goes_back(app, person, scans, app_environment):
    open_scan(person, scans[0])
    segment(person)
    before = exported(person)
    show(person, "correct")
    person.press("tool-paint")
    person.until(lambda: person.find("tool-paint").get_attribute("aria-pressed") == "true", "the brush")
    stroke(person, 12, 6)
    person.until(lambda: person.find("undo").is_enabled(), "the stroke")
    show(person, "export")
    person.until(lambda: not person.see("save-file"), "the file without the stroke is offered no more")
    painted = exported(person)
    assert painted.grid.matches(before.grid)
    grown = (painted.array == 1) & (before.array != 1)
    assert grown.sum() > 20
    # The brush did nothing but paint the first structure.
    np.testing.assert_array_equal(painted.array[painted.array != 1], before.array[painted.array != 1])
    show(person, "correct")
    person.press("undo")
    person.until(lambda: not person.find("undo").is_enabled(), "it is undone")
    np.testing.assert_array_equal(exported(person).array, before.array)
    show(person, "correct")
    person.press("redo")
    person.until(lambda: person.find("undo").is_enabled(), "it is done again")
    screenshot(person, "app-correct")

    assert "case-0001" in add_case(person)
    stored = CaseStore(_case_folder(app_environment)).case_path("case-0001") / "label.nii.gz"
    np.testing.assert_array_equal(read_label_map(stored).array > 0, painted.array > 0)
    open_scan(person, scans[1])
    segment(person)
    show(person, "improve")
    person.choose("case-role", "Validation case")
    assert "case-0002" in add_case(person)

    person.find("steps").send_keys("2")
    person.press("fine-tune")
    person.until(lambda: person.text("run-text"), "the run")
    person.until(lambda: "<polyline" in person.find("curves").get_attribute("innerHTML"), "a live curve", 300)
    person.until(lambda: person.see("banner"), "the result", 300)
    assert "1 held-out case" in person.text("banner-text")
    screenshot(person, "app-improve")
    person.press("compare")
    person.until(lambda: person.see("comparison"), "the comparison", 300)
    assert "anterior" in person.text("comparison")
    person.press("accept")
    person.until(lambda: "is used from now on" in person.text("notice"), "the new version is used")
    used = person.text("notice")
    person.press("go-back")
    person.until(lambda: person.text("notice") not in ("", used), "the old version is used")
    assert "1.2.1" in person.text("notice")
    assert app.longest_stall_s(person) < LONGEST_STALL_S
    assert person.problems() == []


def test_tools_are_chosen_and_undone_by_keys(person, scans):
    open_scan(person, scans[0])
    show(person, "correct")
    person.press("new-segmentation")
    person.until(lambda: person.see("tool-paint"), "the tools")
    for key, tool in (("1", "paint"), ("2", "erase"), ("4", "threshold"), ("5", "islands")):
        person.keys(key)
        person.until(lambda tool=tool: person.find(f"tool-{tool}").get_attribute("aria-pressed") == "true", tool)
    person.keys("1")
    person.until(lambda: person.find("tool-paint").get_attribute("aria-pressed") == "true", "paint")
    stroke(person, 6, 3)
    person.until(lambda: person.find("undo").is_enabled(), "the stroke")
    person.keys("z", control=True)
    person.until(lambda: not person.find("undo").is_enabled(), "it is undone")


def test_all_open_scans_are_segmented_one_after_another(person, scans):
    for path in scans:
        open_scan(person, path)
    person.press("segment-all")
    person.until(lambda: "All 2 segmented" in person.text("notice"), "both results", 300)
    assert person.text("batch").count("2 segments") == 2
    screenshot(person, "app-batch")
    assert "2 segments" in person.text("result-line"), "the one of the scan that is shown is chosen"
    assert person.text("result").count(" ml") == 3, "in the line and for each structure"
    show(person, "data")
    for _scan in scans:
        person.press("close-scan")
    person.until(lambda: not person.see("notice"), "the sentence is gone", 30)
    show(person, "segment")
    assert not person.see("batch")
    assert person.problems() == []


def _case_folder(environment: dict[str, str]):
    from pathlib import Path

    (folder,) = Path(environment["MAESEGMENT_CASES"]).iterdir()
    return folder
