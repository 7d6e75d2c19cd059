"""Which scan to correct next, of the scene or of a folder, with the real worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer

pytestmark = pytest.mark.usefixtures("runs_folder")


def test_scans_of_the_scene_are_sorted_by_how_uncertain_the_model_is(logic, model, scene):
    volumes = {name: scene.plain(name) for name in ("Clear", "Faint", "Noisy")}
    for name, (factor, noise) in {"Faint": (0.6, 0), "Noisy": (1.0, 400)}.items():
        voxels = slicer.util.arrayFromVolume(volumes[name])
        voxels[:] = (voxels * factor + noise * np.random.default_rng(0).random(voxels.shape)).astype(voxels.dtype)
        slicer.util.arrayFromVolumeModified(volumes[name])
    before = slicer.mrmlScene.GetNumberOfNodes()
    rows = logic.nextCases([*volumes.values()], model)
    scores = [row.score for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    for row in rows:
        assert row.source is volumes[row.name]
        bounds = [0.0] * 6
        row.source.GetRASBounds(bounds)
        assert all(low <= x <= high for x, low, high in zip(row.position, bounds[::2], bounds[1::2], strict=True))
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_one_that_cannot_be_measured_does_not_stop_the_rest(logic, model, scene):
    seen = []
    job = logic.nextCases(
        [scene.warped("Warped"), scene.plain("Good")], model, callback=lambda job: seen.append(job.done)
    )
    rows = job.result(300)
    assert [row.name for row in rows] == ["Good", "Warped"]
    assert "not linear" in rows[1].error.message
    assert rows[1].score is None
    assert seen[-1] == 2


def test_cancelling_keeps_what_was_measured(logic, model, scene, process_events_until):
    job = logic.nextCases([scene.plain("One"), scene.many_windows("Two"), scene.plain("Three")], model, wait=False)
    process_events_until(lambda: job.done == 1, 300.0)
    job.cancel()
    with pytest.raises(Exception, match="Cancelled"):
        job.result(120)
    assert [row.name for row in job.rows if row.score is not None] == ["One"]


def save(volume, path: Path) -> None:
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(volume)


def test_a_folder_is_measured_without_being_loaded(logic, model, scene, tmp_path):
    folder = tmp_path / "neue Aufnahmen"
    folder.mkdir()
    save(scene.plain("One"), folder / "one.nrrd")
    save(scene.left_handed("Two"), folder / "two.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    before = slicer.mrmlScene.GetNumberOfNodes()
    rows = logic.nextCases(str(folder), model)
    assert {row.name for row in rows[:2]} == {"one", "two"}
    assert all(row.score is not None for row in rows[:2])
    assert rows[2].name == "broken"
    assert rows[2].error is not None
    assert rows[0].source.parent == folder
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_folder_without_scans_is_refused(logic, model, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(Exception, match="No case was found"):
        logic.nextCases(tmp_path / "nothing", model)
