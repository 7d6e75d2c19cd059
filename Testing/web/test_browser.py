"""What a user sees and does, in a real browser on real scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom

from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.inference import Predictor
from MAESegmentLib.inference.locating import locating
from MAESegmentLib.samples import head_path
from Testing.web.browser import LONGEST_STALL_S, open_sample, screenshot, segment, show
from Testing.web.visitor import processes


def test_the_sample_head_is_segmented_and_saved_voxel_for_voxel(app, user):
    """Both hippocampi of the whole head, as it is proposed."""
    open_sample(user, "")
    assert "The whole scan" in user.panel()
    app.longest_stall_s(user)
    segment(user)
    assert "hippocampus-mr" in user.text("result-line")
    assert "4 segments" in user.text("result-line")
    user.press("go-export")
    assert not user.see("export-dcm"), "the scan is not DICOM"
    assert not user.see("export-rtstruct-dcm")
    user.press("export-zip")
    user.until(lambda: user.text("saved-name").endswith(".zip"), "surfaces")
    show(user, "segment")
    assert not user.find("show-3d").is_selected()
    screenshot(user, "app-surfaces-exported")
    user.find("show-3d").send_keys(" ")
    user.until(lambda: not user.see("surface-state") or not user.text("surface-state"), "the surface")
    user.press("go-export")
    library = ModelLibrary()
    bundle = library.find("hippocampus")
    expected = locating(Predictor(bundle), library.meant("brain-mr")).predict(read_volume(head_path()))
    for ending, button in ((".seg.nrrd", "export-seg-nrrd"), (".nii.gz", "export-nii-gz")):
        user.press(button)
        user.until(lambda ending=ending: user.text("saved-name").endswith(ending), ending)
        user.press("save-file")
        saved = read_label_map(user.saved(ending))
        assert saved.grid.matches(expected.label_map.grid)
        np.testing.assert_array_equal(saved.array, expected.label_map.array)
    screenshot(user, "app-export")
    show(user, "segment")
    screenshot(user, "app-segment")
    user.choose("speed-select", "Fast (about ")
    segment(user)
    user.press("advanced")
    user.until(lambda: "25 % (fast)" in user.panel() and "Off (fast)" in user.panel(), "what fast is")
    assert app.longest_stall_s(user) < LONGEST_STALL_S
    assert user.problems() == []


def test_a_box_is_of_its_scan_and_chosen_again_with_it(user, real_data):
    open_sample(user)
    assert "Right hippocampus" in user.panel()
    show(user, "data")
    user.upload(real_data / "hippocampus_mr/images/hippocampus_003.nii.gz")
    user.until(lambda: "hippocampus_003" in user.panel() and not user.see("data-busy"), "another scan")
    show(user, "segment")
    user.until(lambda: "The whole scan" in user.panel(), "all of the other scan")
    assert "Right hippocampus" not in user.panel()
    segment(user)
    assert user.text("result-line").startswith("hippocampus_003 \u2013 hippocampus-mr")
    show(user, "data")
    user.choose("scan-select", "MNI152 head")
    show(user, "segment")
    user.until(lambda: "Right hippocampus" in user.panel(), "the box of the head")


def test_each_box_has_a_result_and_the_same_again_replaces_its_own(user):
    open_sample(user)
    for box in ("Right hippocampus", "Left hippocampus", "Right hippocampus"):
        user.choose("region-select", box)
        user.press("segment-button")
        name = f"MNI152 head - hippocampus-mr ({box})"
        user.until(lambda name=name: _chosen_result(user) == name, name)
        assert user.text("result-line").startswith(f"MNI152 head ({box}) \u2013 hippocampus-mr")
    results = user.driver.execute_script("return window.trame.state.get('segment_results').map(one => one.title)")
    assert sorted(results) == [f"MNI152 head - hippocampus-mr ({side} hippocampus)" for side in ("Left", "Right")]
    screenshot(user, "app-two-boxes")
    assert user.problems() == []


def test_every_broken_file_gets_a_plain_answer_and_the_session_lives(user, real_data):
    """Each is named in the message; after all of them a good scan opens."""
    for path in sorted((real_data / "geometry/corrupt").iterdir()):
        if path.name.startswith("label_shape"):
            continue  # whole in itself: only beside its scan does it not fit
        user.upload(path)
        message = user.until(lambda: user.text("notice"), f"an answer about {path.name}")
        assert "Traceback" not in message
        assert len(message) > 20
        user.dismiss()
    user.upload(real_data / "geometry/volumes/tiny_7x5x3.nii.gz")
    user.until(lambda: "7 \u00d7 5 \u00d7 3" in user.text("scan-info"), "a good scan")


def test_dicom_comes_as_a_folder_or_a_zip_and_goes_back_as_a_dicom_seg(user, real_data, tmp_path):
    series = real_data / "hippocampus_mr/dicom/Study1"
    user.upload_folder(series)
    user.until(lambda: "Study1" in user.panel() and user.see("scan-info"), "the series")
    info = user.text("scan-info")
    user.upload(Path(shutil.make_archive(str(tmp_path / "zipped study"), "zip", series)))
    user.until(lambda: "zipped study" in user.panel(), "the zip")
    assert user.text("scan-info") == info
    show(user, "segment")
    user.choose("model-select", "hippocampus")
    segment(user)
    user.press("go-export")
    user.press("export-dcm")
    user.until(lambda: user.text("saved-name").endswith(".dcm"), "a DICOM SEG")
    user.press("save-file")
    saved = user.saved(".dcm")
    assert read_label_map(saved).array.any()
    saved.unlink()
    user.press("export-rtstruct-dcm")
    user.until(lambda: user.text("saved-name").endswith(".rtstruct.dcm"), "an RTSTRUCT")
    user.press("save-file")
    assert pydicom.dcmread(user.saved(".rtstruct.dcm")).Modality == "RTSTRUCT"
    user.press("export-zip")
    user.until(lambda: user.text("saved-name").endswith(".zip"), "surfaces")


def test_two_users_do_not_see_each_others_scan(app, user, new_user, real_data):
    open_sample(user)
    other = new_user().open(app.address)
    assert not other.see("scan-select")
    other.upload(real_data / "geometry/volumes/tiny_7x5x3.nii.gz")
    other.until(lambda: other.see("scan-info"), "the other's scan")
    assert "MNI152" not in other.panel()
    show(user, "data")
    assert "tiny" not in user.panel()


def test_a_killed_worker_is_said_and_the_next_try_works(app, user):
    open_sample(user)
    user.press("segment-button")
    user.until(lambda: _workers(app), "a worker")
    user.until(lambda: user.text("segment-stage"), "work")
    for worker in _workers(app):
        worker.kill()
    user.until(lambda: user.see("notice") or user.see("result-line"), "an answer")
    segment(user)
    assert user.text("result-line")


def test_a_page_on_the_disk_leads_in_and_who_closes_the_browser_finds_scene_and_job_again(app, new_user, tmp_path):
    page = tmp_path / "open.html"
    page.write_text(f'<meta http-equiv="refresh" content="0;url={app.address}">')
    first = new_user(tmp_path / "same user").open(page.as_uri())
    assert first.driver.current_url == f"{app.origin}/index.html"
    open_sample(first, "")
    first.press("segment-button")
    first.driver.quit()
    again = new_user(tmp_path / "same user").open(page.as_uri())
    show(again, "segment")
    again.until(lambda: again.see("result-line"), "the result of the job that was running")
    assert "hippocampus-mr" in again.text("result-line")


def test_who_loses_the_session_is_told_and_gets_a_new_one(user):
    user.session.kill()
    user.until(lambda: "its scans are closed" in user.text("notice"), "a new session, and why")


def _chosen_result(user):
    """What is called so, while nothing runs."""
    return user.driver.execute_script(
        "const get = key => window.trame.state.get('segment_' + key);"
        "const one = get('results').find(one => one.value === get('result'));"
        "return one && !get('running') ? one.title : ''"
    )


def _workers(app):
    return [one for one in processes(app) if "MAESegmentLib.worker" in " ".join(one.cmdline())]
