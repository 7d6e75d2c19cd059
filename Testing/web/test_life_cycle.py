"""What a user drew, when a scan is closed, a session is killed or the server starts again."""

from __future__ import annotations

import time

import pytest

from Testing.web.browser import running_app, screenshot, show
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


def test_a_drawing_outlives_the_server_and_the_page_connects_again(app_environment, new_user, scan, tmp_path):
    environment = {**app_environment, "XDG_DATA_HOME": str(tmp_path / "data")}
    folder = tmp_path / "data/maesegment/unsaved"
    with running_app([], environment) as app:
        user, address = new_user().open(app.address), app.address
        draw(user, scan, folder)
        (first,) = (file.stat().st_mtime_ns for file in files_below(folder))
        stroke(user, 0, 8)
        time.sleep(0.5)  # the stroke is on its way
        app.longest_stall_s(user)  # the session has it; and at once, before the hand has rested, the server ends
    user.until(lambda: user.see("lost"), "the page says so")
    screenshot(user, "app-lost")
    (file,) = files_below(folder)
    assert file.stat().st_mtime_ns > first, "the last stroke is kept, too"
    with running_app([], environment) as app:
        assert app.address == address
        user.until(
            lambda: "were kept: hippocampus_003" in user.text("notice"), "the page connects and says what is kept"
        )
        open_scan(user, scan)
        user.press("restore-kept")
        user.until(lambda: "Restored" in user.text("notice"), "it is restored")
        show(user, "correct")
        assert "hippocampus_003 segmentation" in user.text("correct-what")
        user.driver.quit()


def test_a_page_says_at_once_that_it_is_starting_and_windows_know_of_each_other(app, new_user):
    user = new_user()
    user.driver.get(app.address)
    assert "Slicer's views are being loaded" in user.text("starting")
    screenshot(user, "app-starting")
    user.until(lambda: user.see("tab-data"), "the page")
    first = user.driver.current_window_handle
    assert not user.see("windows")
    user.driver.switch_to.new_window("tab")
    user.open(f"{app.origin}/")
    user.until(lambda: user.see("windows"), "the second window says so")
    screenshot(user, "app-two-windows")
    user.driver.close()
    user.driver.switch_to.window(first)
    user.until(lambda: not user.see("windows"), "the first is alone again")
    user.driver.get(f"{app.origin}/nowhere")
    assert "There is no such page here." in user.panel()
    assert "404" not in user.panel()
    screenshot(user, "app-nowhere")


def test_a_refused_upload_is_said_in_words(user, tmp_path):
    large, scan = tmp_path / "large.nii", tmp_path / "small.nii"
    for file, size in ((large, 60 << 20), (scan, 1000)):
        with file.open("wb") as stream:
            stream.truncate(size)
    user.upload(large)
    user.until(lambda: "Too large: 51 MB may be uploaded in all." in user.text("notice"), "that it is too large")
    user.dismiss()
    cookies = user.driver.get_cookies()
    user.driver.delete_all_cookies()
    user.upload(scan)
    message = user.until(lambda: user.text("notice"), "that the key is gone")
    assert "Open the address that was printed" in message
    assert "<" not in message
    for cookie in cookies:
        user.driver.add_cookie(cookie)


def test_a_drawing_outlives_its_session(user, scan, unsaved_folder):
    draw(user, scan, unsaved_folder)
    user.session.kill()
    user.until(lambda: "its scans are closed" in user.text("notice"), "a new session, and why")
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
