"""What the views and the page around them tell: which plane, which side, where, what grey value; also on a phone."""

from __future__ import annotations

import re

import numpy as np
from selenium.webdriver import ActionChains, Keys

from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.samples import head_path
from Testing.web.browser import User, open_sample, screenshot, segment, show
from Testing.web.test_clinic_loop import open_scan

SIGNS = {"Right": 1, "Left": -1, "Anterior": 1, "Posterior": -1, "Superior": 1, "Inferior": -1}


def point_at(user: User, dx: int, dy: int) -> str:
    """What the axial view says about the place that far from its middle."""
    ActionChains(user.driver).move_to_element_with_offset(user.axial_view(), dx, dy).perform()
    return user.until(lambda: ":" in user.text("pointer-Axial") and user.text("pointer-Axial"), "a grey value")


def middle(user: User, view: str) -> tuple[bool, bool]:
    """Whether the name of this view stands right of the middle of the page, and below it."""
    place = user.find(f"name-{view}").rect
    return place["x"] + place["width"] / 2 > 830, place["y"] > 400


def grey_values(path, text: str) -> set[float]:
    """Of the voxels that the place may be in, which was rounded."""
    volume = read_volume(path)
    point = [SIGNS[side] * float(mm) for side, mm in re.findall(r"([A-Z]\w+) ([\d.]+)", text.partition(":")[0])]
    found = set()
    for corner in np.ndindex(2, 2, 2):
        nearby = np.array([*(point + (np.array(corner) - 0.5) * 0.11), 1])
        i, j, k = np.rint(np.linalg.inv(volume.ijk_to_ras) @ nearby)[:3].astype(int)
        found.add(float(f"{float(volume.array[0, i, j, k]):.5g}"))
    return found


def test_views_say_which_plane_which_side_where_and_what_is_under_the_pointer(user):
    open_sample(user)
    places = {"Axial": (False, False), "3D": (True, False), "Coronal": (False, True), "Sagittal": (True, True)}
    user.until(lambda: {name: middle(user, name) for name in places} == places, "the places as in Slicer's Four-Up")
    for letter, word in (
        ("Axial-R", "Right"),
        ("Axial-L", "Left"),
        ("Sagittal-A", "Anterior"),
        ("Coronal-I", "Inferior"),
    ):
        user.until(lambda letter=letter, word=word: user.find(letter).accessible_name == word, f"{letter} is {word}")
    user.until(lambda: user.find("Axial-R").rect["x"] < user.find("Axial-L").rect["x"], "right on the left")
    before = user.until(lambda: user.text("position-Axial"), "where the slice is")
    assert re.fullmatch(r"(Superior|Inferior) \d+\.\d mm", before)
    user.driver.find_element("css selector", '[aria-label="Axial: slice"]').send_keys(Keys.ARROW_RIGHT)
    user.until(lambda: user.text("position-Axial") not in ("", before), "another slice")
    for place in ((40, 20), (-30, -60)):
        text = point_at(user, *place)
        assert user.text("position-Axial").removesuffix(" mm") in text
        assert float(text.partition(": ")[2]) in grey_values(head_path(), text)
    assert user.text("pointer-Coronal") == ""
    screenshot(user, "app-views")
    user.choose("layout-select", "Sagittal only")
    user.until(lambda: not user.see("name-Axial") and user.see("name-Sagittal"), "one view")
    user.choose("layout-select", "Four views")
    show(user, "data")
    assert "posterior to anterior" in user.text("scan-info")
    assert user.problems() == []


def test_a_ct_is_read_in_hounsfield_units(user, real_data):
    path = min((real_data / "headneck_ct/images").glob("*.nii.gz"))
    open_scan(user, path)
    text = point_at(user, 5, 5)
    assert text.endswith(" HU")
    assert float(text.partition(": ")[2].removesuffix(" HU")) in grey_values(path, text)


def test_every_section_can_be_read_and_every_button_has_a_name(user):
    """WCAG AA: 4.5 to 1, or 3 to 1 where text is large; what cannot be used is left out, as there."""
    open_sample(user)
    segment(user)
    for tab in ("data", "segment", "correct", "improve", "export"):
        show(user, tab)
        user.until(lambda: not user.nameless(), f"names in {tab}", 5)
        user.until(lambda: not user.driver.execute_script(CONTRASTS), f"contrast in {tab}", 5)
        for tool in ("paint", "threshold", "islands") if tab == "correct" else ():
            user.press(f"tool-{tool}")
            user.until(lambda tool=tool: user.find(f"tool-{tool}").get_attribute("aria-pressed") == "true", tool)
            user.until(lambda: not user.nameless(), f"names of the settings of {tool}", 5)
        assert not OTHER_WORDS.search(user.panel() + user.driver.execute_script(TITLES)), tab


def test_structures_are_named_in_words_and_files_keep_their_identifiers(user, real_data):
    open_scan(user, min((real_data / "headneck_ct/images").glob("*.nii.gz")))
    user.choose("model-select", "headneck-ct")
    segment(user)
    assert "Spinal cord" in user.text("result")
    screenshot(user, "app-structures")
    show(user, "correct")
    user.until(lambda: "Right parotid" in user.text("section-correct"), "the structures")
    user.driver.find_element("xpath", "//*[contains(@class, 'segment-name')][contains(., 'Spinal cord')]").click()
    for typed, kept in ((("2", Keys.BACKSPACE), "SpinalCord"), (("2",), "Spinal cord2")):
        show(user, "correct")
        name = user.until(lambda: spinal_cord(user), "its name can be changed")
        name.send_keys(*typed)
        shown = "Spinal cord2" if kept.endswith("2") else "Spinal cord"
        user.until(lambda shown=shown: spinal_cord(user).get_property("value") == shown, f"{shown} in the field", 20)
        spinal_cord(user).send_keys(Keys.ENTER)
        show(user, "export")
        # What was typed may reach the session after the first export.
        user.until(lambda kept=kept: f"_Name:={kept}\n" in exported_header(user), f"the name {kept}", 30)
        assert "SpinalCord" not in user.panel()


def exported_header(user: User) -> str:
    user.press("export-seg-nrrd")
    user.until(lambda: user.text("saved-name"), "a file")
    user.press("save-file")
    file = user.saved(".seg.nrrd")
    header = file.read_bytes().partition(b"\n\n")[0].decode()
    file.unlink()
    return header


def spinal_cord(user: User):
    fields = user.driver.find_elements("css selector", '[aria-label="Name of the segment"]')
    return next((one for one in fields if one.get_property("value").startswith("Spinal cord")), None)


def test_export_writes_the_segmentation_that_is_chosen_there(user):
    open_sample(user)
    segment(user)
    right = user.text("result-line")
    user.choose("region-select", "Left hippocampus")
    user.press("segment-button")
    user.until(lambda: user.text("result-line") not in ("", right), "the other side")
    show(user, "export")
    for side in ("Right", "Left"):
        user.choose("export-select", f"({side} hippocampus)")
        user.press("export-nii-gz")
        user.until(lambda side=side: side in user.text("saved-name"), f"the file of the {side} side")
    screenshot(user, "app-export-choice")


def test_the_model_card_is_laid_out_and_closes(user):
    show(user, "segment")
    user.choose("model-select", "headneck-ct")
    for close in (
        lambda: ActionChains(user.driver).send_keys(Keys.ESCAPE).perform(),
        lambda: user.until(
            lambda: user.find("card").find_element("css selector", '[aria-label="Close"]').click() or True, "closing"
        ),
    ):
        user.press("about-model")
        user.until(lambda: "Intended use" in user.text("card"), "the card")
        card = user.text("card")
        assert not any(line.startswith(("#", "|", "```")) or "**" in line for line in card.splitlines())
        for kind, text in (('[role="heading"]', "Limits"), ("td", "Mandible")):
            user.until(lambda kind=kind, text=text: text in user.texts("card", kind), f"{text} in the card", 10)
        assert user.nameless() == []
        screenshot(user, "app-card")
        close()
        user.until(lambda: not user.see("card"), "it is closed", 10)


def test_on_a_phone_the_panel_folds_and_the_views_fill_the_screen(user):
    open_sample(user)
    with user.phone():
        user.until(lambda: user.find("panel").rect["width"] < 390, "the panel is narrower than the screen")
        assert user.see("segment-button")
        assert user.find("segment-button").rect["width"] > 250
        screenshot(user, "app-phone-panel")
        user.press("fold-panel")
        user.until(lambda: user.find("panel").rect["x"] < -300, "the panel is gone")
        user.until(lambda: user.find("views").rect["width"] == 390, "the views are as wide as the screen")
        for name in ("Axial", "3D", "Coronal", "Sagittal"):
            place = user.find(f"name-{name}").rect
            assert 0 <= place["x"] < 390
            assert 48 <= place["y"] < 844
        letter, name = user.find("Sagittal-S").rect, user.find("name-Sagittal").rect
        assert name["x"] + name["width"] < letter["x"]
        assert user.driver.execute_script("return document.documentElement.scrollWidth") == 390
        screenshot(user, "app-phone-views")
        user.press("fold-panel")
        user.until(lambda: user.find("panel").rect["x"] == 0, "the panel again")
        user.press("tab-data")
        user.press("close-scan")
    user.until(lambda: not user.see("close-scan"), "it is closed")


#: Those of Slicer's panel and of the program.
OTHER_WORDS = re.compile(r"Segment Editor|\b(module|scene|node|bundle|worker|trame|undefined|null|NaN|\[object)\b")
TITLES = """return [...document.querySelectorAll("[title]")].map((e) => e.title).join("\\n");"""

#: (text, ratio) of what is too faint, in the panel and the bar.
CONTRASTS = """
const parse = (colour) => { const n = colour.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (c) => { const [r, g, b] = c.map(linear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const chain = (e) => { const all = []; for (; e; e = e.parentElement) all.unshift(getComputedStyle(e)); return all; };
const behind = (e) => chain(e).reduce((below, one) => over(parse(one.backgroundColor), below), [255, 255, 255]);
const shown = (e) => chain(e).reduce((opacity, one) => opacity * one.opacity, 1);
const found = [];
for (const e of document.querySelectorAll(".v-navigation-drawer *, .v-app-bar *")) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
  if (!text || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (e.closest(":disabled, .v-btn--disabled, .v-input--disabled")) continue;
  const back = behind(e), colour = parse(getComputedStyle(e).color);
  colour[3] *= shown(e);
  const [a, b] = [light(over(colour, back)), light(back)].sort((x, y) => y - x);
  const style = getComputedStyle(e), size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5;
  if ((a + 0.05) / (b + 0.05) < least) found.push([text, (a + 0.05) / (b + 0.05)]);
}
return found;
"""
