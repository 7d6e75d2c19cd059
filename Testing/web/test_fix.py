"""Fix this scan, in a real browser: a stroke is understood, the rest follows, and both ways of undoing it work."""

from __future__ import annotations

import numpy as np

from Testing.web.browser import screenshot, segment, show
from Testing.web.test_clinic_loop import exported, open_scan, stroke


def test_the_rest_of_a_scan_follows_from_a_stroke_and_is_undone(user, real_data):
    open_scan(user, real_data / "hippocampus_mr/images/hippocampus_003.nii.gz")
    segment(user)
    made = exported(user).array
    show(user, "correct")
    user.until(lambda: "Nothing was drawn" in user.text("fix-text"), "it says that nothing was drawn")
    assert not user.find("update-scan").is_enabled()
    assert not user.find("grow").is_enabled()
    user.press("scribble")
    user.until(lambda: user.find("tool-paint").get_attribute("aria-pressed") == "true", "the brush")
    user.until(lambda: "background" in user.text("section-correct"), "the segment for what is outside")
    show(user, "export")
    show(user, "correct")
    user.until(lambda: "background" not in user.text("section-correct"), "nothing was drawn in it: it is gone")
    user.press("scribble")
    user.until(lambda: "background" in user.text("section-correct"), "it is there again")
    stroke(user, 12, 6)
    user.until(lambda: "corrected axial slices of anterior" in user.text("fix-text"), "the stroke is understood")
    screenshot(user, "app-fix-understood")
    drawn = exported(user).array
    show(user, "correct")
    user.until(lambda: user.find("update-scan").is_enabled(), "it can be updated")
    user.press("update-scan")
    user.until(lambda: user.text("fix-said").startswith("Updated in"), "the update")
    assert "The model is unchanged" in user.text("fix-said")
    screenshot(user, "app-fix-updated")
    updated = exported(user).array
    slices = np.flatnonzero((drawn != made).any(axis=(0, 1)))
    assert 0 < len(slices) < 12, "a brush is a ball"
    np.testing.assert_array_equal(updated[:, :, slices], drawn[:, :, slices])
    assert (updated != drawn).any(), "the slices beside follow"
    show(user, "correct")
    user.press("undo")
    user.until(lambda: "corrected axial slices" in user.text("fix-text"), "Undo took the update back")
    np.testing.assert_array_equal(exported(user).array, drawn)
    show(user, "correct")
    user.press("redo")
    user.until(lambda: "corrected axial" not in user.text("fix-text"), "it is done again")
    np.testing.assert_array_equal(exported(user).array, updated)
    show(user, "correct")
    user.press("undo-update")
    user.until(lambda: user.text("fix-said").startswith("Undone") or user.see("undo_both"), "it is undone")
    if user.see("undo_both"):  # Undo and Redo since count as edits
        user.press("undo_both")
        user.until(lambda: user.text("fix-said").startswith("Undone"), "it is undone")
    np.testing.assert_array_equal(exported(user).array, drawn)
    assert user.problems() == []
