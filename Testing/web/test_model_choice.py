"""The model that the page proposes for a scan, and what it asks before a model runs on what it cannot fit."""

from __future__ import annotations

import shutil
from pathlib import Path

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.samples import head_path
from Testing.bundles import save_tiny, tiny_spec
from Testing.web.browser import open_sample, segment, show


def test_model_follows_the_scan_and_a_wrong_one_runs_only_on_the_users_word(app_environment, user, real_data, tmp_path):
    user.upload(sorted((real_data / "headneck_ct" / "unlabelled").glob("*.nii.gz"))[0])
    user.until(lambda: user.see("scan-info"), "the CT")
    show(user, "segment")
    user.until(lambda: "planning CT" in user.text("model-summary"), "the model of CT")
    head = shutil.copy(head_path(), tmp_path / "head.nii.gz")
    show(user, "data")
    user.upload(head)
    user.until(lambda: "197" in user.text("scan-info"), "the head")
    show(user, "segment")
    user.until(lambda: "hippocampus" in user.text("model-summary"), "the model of MR")
    stranger = Path(app_environment["MAESEGMENT_MODELS"]) / "brain-mr" / "9.0.0"
    save_tiny(stranger, tiny_spec(name="brain-mr", version="9.0.0"))
    try:
        user.press("segment-button")
        notice = user.until(lambda: user.text("notice"), "the question about a box")
    finally:
        shutil.rmtree(stranger.parent)
    assert "is made for a box around the structure" in notice
    assert "brain-mr 9.0.0 would place it, but does not know left hippocampus, right hippocampus." in notice
    assert user.see("remedy-add_roi")
    assert user.see("remedy-without_box")
    segment(user)
    assert "4 segments" in user.text("result-line"), "now the one that ships places the boxes"
    user.choose("model-select", "headneck")
    user.press("segment-button")
    notice = user.until(lambda: "nothing like" in user.text("notice") and user.text("notice"), "the refusal")
    assert "the CT scans that headneck-ct was trained on" in notice
    user.press("remedy-allow_mismatch")
    user.until(lambda: "headneck-ct" in user.text("result-line"), "a result, on the user's word")
    assert "Segmented all the same." in user.text("result-warnings")


def test_sample_keeps_the_version_that_is_in_use(app, app_environment, new_user):
    """Not the newest one, which the user left."""
    models = Path(app_environment["MAESEGMENT_MODELS"])
    shipped = ModelStore(models).find("hippocampus-mr")
    newer = models / "hippocampus-mr" / "9.0.0"
    save_tiny(newer, tiny_spec(name="hippocampus-mr", version="9.0.0", parent=shipped.reference))
    try:
        user = new_user().open(app.address)
        show(user, "segment")
        user.choose("model-select", f"hippocampus-mr {shipped.version}")
        show(user, "data")
        open_sample(user)
        assert f"hippocampus-mr {shipped.version}" in user.panel()
        assert "9.0.0" not in user.panel()
        show(user, "improve")
        user.until(lambda: f"{shipped.version} (in use)" in user.panel(), "the versions")
    finally:
        shutil.rmtree(newer.parent)
