"""What a user sees and does, in a real browser on real scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import psutil

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.inference import Predictor, Roi
from MAESegmentLib.samples import ROI_RIGHT, head_path
from Testing.web.browser import LONGEST_STALL_S, open_sample, screenshot, segment, show
from Testing.web.visitor import session_processes


def test_the_sample_head_is_segmented_and_saved_voxel_for_voxel(app, person):
    open_sample(person)
    app.longest_stall_s(person)
    segment(person)
    assert "hippocampus-mr" in person.text("result-line")
    person.find("show-3d").send_keys(" ")
    person.until(lambda: not person.see("surface-state") or not person.text("surface-state"), "the surface")
    person.press("go-export")
    for ending, button in ((".seg.nrrd", "export-seg-nrrd"), (".nii.gz", "export-nii-gz")):
        person.press(button)
        person.until(lambda ending=ending: person.text("saved-name").endswith(ending), ending)
        person.press("save-file")
        saved = read_label_map(person.saved(ending))
        expected = Predictor(ModelStore().find("hippocampus")).predict(
            read_volume(head_path()), roi=Roi.parse(ROI_RIGHT)
        )
        assert saved.grid.matches(expected.label_map.grid)
        np.testing.assert_array_equal(saved.array, expected.label_map.array)
    screenshot(person, "app-export")
    show(person, "segment")
    screenshot(person, "app-segment")
    assert app.longest_stall_s(person) < LONGEST_STALL_S
    assert person.problems() == []


def test_every_broken_file_gets_a_plain_answer_and_the_session_lives(person, real_data):
    """Each is named in the message; after all of them a good scan opens."""
    for path in sorted((real_data / "geometry/corrupt").iterdir()):
        if path.name.startswith("label_shape"):
            continue  # whole in itself: only beside its scan does it not fit
        person.upload(path)
        message = person.until(lambda: person.text("notice"), f"an answer about {path.name}")
        assert "Traceback" not in message
        assert len(message) > 20
        person.find("notice").find_element("css selector", ".v-alert__close button").click()
        person.until(lambda: not person.see("notice"), "the message has gone")
    person.upload(real_data / "geometry/volumes/tiny_7x5x3.nii.gz")
    person.until(lambda: "7 \u00d7 5 \u00d7 3" in person.text("scan-info"), "a good scan")


def test_dicom_comes_as_a_folder_or_a_zip_and_goes_back_as_a_dicom_seg(person, real_data, tmp_path):
    series = real_data / "hippocampus_mr/dicom/Study1"
    person.upload_folder(series)
    person.until(lambda: "Study1" in person.panel() and person.see("scan-info"), "the series")
    info = person.text("scan-info")
    person.upload(Path(shutil.make_archive(str(tmp_path / "zipped study"), "zip", series)))
    person.until(lambda: "zipped study" in person.panel(), "the zip")
    assert person.text("scan-info") == info
    show(person, "segment")
    person.choose("model-select", "hippocampus")
    segment(person)
    person.press("go-export")
    person.press("export-dcm")
    person.until(lambda: person.text("saved-name").endswith(".dcm"), "a DICOM SEG")
    person.press("save-file")
    assert read_label_map(person.saved(".dcm")).array.any()
    person.press("export-zip")
    person.until(lambda: person.text("saved-name").endswith(".zip"), "surfaces")


def test_two_people_do_not_see_each_others_scan(app, new_person, real_data):
    first, second = new_person().open(app.address), new_person().open(app.address)
    open_sample(first)
    assert not second.see("scan-select")
    second.upload(real_data / "geometry/volumes/tiny_7x5x3.nii.gz")
    second.until(lambda: second.see("scan-info"), "the second's scan")
    assert "MNI152" not in second.panel()
    show(first, "data")
    assert "tiny" not in first.panel()


def test_a_killed_worker_is_said_and_the_next_try_works(app, person):
    open_sample(person)
    person.press("segment-button")
    person.until(lambda: _workers(app), "a worker")
    person.until(lambda: person.text("segment-stage"), "work")
    for worker in _workers(app):
        worker.kill()
    person.until(lambda: person.see("notice") or person.see("result-line"), "an answer")
    segment(person)
    assert person.text("result-line")


def test_who_closes_the_browser_finds_scene_and_job_again(app, new_person, tmp_path):
    first = new_person(tmp_path / "same person").open(app.address)
    open_sample(first)
    first.press("segment-button")
    first.quit()
    again = new_person(tmp_path / "same person").open(app.origin + "/")
    show(again, "segment")
    again.until(lambda: again.see("result-line"), "the result of the job that was running")
    assert "hippocampus-mr" in again.text("result-line")


def _workers(app):
    everyone = psutil.Process(app.process.pid).children(recursive=True)
    return [one for one in everyone if "MAESegmentLib.worker" in " ".join(one.cmdline())]


def test_who_loses_the_session_is_told_and_begins_a_new_one(app, new_person):
    known = {one.pid for one in session_processes(app)}
    person = new_person().open(app.address)
    (session,) = (one for one in session_processes(app) if one.pid not in known)
    session.kill()
    person.until(lambda: person.see("lost"), "the page says that the connection is lost")
    person.find("lost").find_element("tag name", "a").click()
    person.until(lambda: "its scene is lost" in person.text("notice"), "a new session, and why")
