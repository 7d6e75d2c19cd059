"""What a user drew, when a scan is closed, a session is killed or the server starts again."""

from __future__ import annotations

import pytest

from Testing.web.browser import screenshot, show
from Testing.web.test_clinic_loop import exported, open_scan, stroke
from Testing.web.visitor import files_below, until


@pytest.fixture
def scan(real_data):
    return real_data / "hippocampus_mr/images/hippocampus_003.nii.gz"


def draw(user, scan, folder):
    """A stroke on an empty segmentation of the scan; returns once it is on the disk."""
    open_scan(user, scan)
    show(user, "correct")
    user.press("new-segmentation")
    user.press("tool-paint")
    user.until(lambda: user.find("tool-paint").get_attribute("aria-pressed") == "true", "the brush")
    stroke(user, 8, 4)
    user.until(lambda: user.find("undo").is_enabled(), "the stroke")
    until(lambda: [file for file in files_below(folder) if not file.name.startswith(".")], "the file")


def test_a_scan_with_a_drawing_is_closed_only_when_that_is_said_and_can_be_restored(user, scan, unsaved_folder):
    draw(user, scan, unsaved_folder)
    show(user, "data")
    user.press("close-scan")
    user.until(lambda: user.see("closing"), "the question")
    assert "Edited and not exported: hippocampus_003 segmentation." in user.text("closing-text")
    screenshot(user, "app-close")
    user.press("close-cancel")
    user.until(lambda: not user.see("closing"), "the question is gone")
    show(user, "data")
    user.press("close-scan")
    user.press("close-keep")
    user.until(lambda: not user.see("scan-select"), "it is closed")

    other = scan.with_name("hippocampus_004.nii.gz")
    open_scan(user, other)
    assert not user.see("restoring")
    open_scan(user, scan)
    user.until(lambda: user.see("restoring"), "the offer")
    assert "hippocampus_003" in user.text("restoring-text")
    screenshot(user, "app-restore")
    user.press("restore-kept")
    user.until(lambda: "Restored" in user.text("notice"), "it is restored")
    restored = exported(user).array
    assert (restored == 1).sum() > 20
    until(lambda: not files_below(unsaved_folder), "who has a file needs no other")
    show(user, "data")
    user.press("close-scan")
    user.until(lambda: "hippocampus_003" not in user.text("section-data"), "it is closed without a question")
    assert user.problems() == []


def test_a_drawing_outlives_its_session(user, scan, unsaved_folder):
    draw(user, scan, unsaved_folder)
    user.session.kill()
    user.until(lambda: "its scene is lost" in user.text("notice"), "a new session, and why")
    user.until(lambda: "were kept: hippocampus_003" in user.text("notice"), "what can be restored")
    screenshot(user, "app-kept")
    (file,) = files_below(unsaved_folder)
    file.write_bytes(file.read_bytes()[:200])
    open_scan(user, scan)
    user.press("restore-kept")
    user.until(lambda: "cannot be read" in user.text("notice"), "that it is damaged")
    user.press("discard-kept")
    user.until(lambda: not user.see("restoring"), "the question is gone")
    assert files_below(unsaved_folder) == []
