"""Learning from the console outside Slicer: cases in, a version out, two compared; the real worker and trainer."""

from __future__ import annotations

import os

import numpy as np
import pytest

from MAESegmentLib.console.console import Console
from MAESegmentLib.errors import ConfigurationError, DatasetError, DuplicateCase, VolumeReadError, WorkerError
from MAESegmentLib.images import write_volume
from MAESegmentLib.jobs import JobState
from Testing.finetuning import LABELS, SETTINGS, make_clinic
from Testing.phantoms import PhantomFactory


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """A model that was never trained, and no case yet."""
    clinic = make_clinic(tmp_path, cases=0)
    monkeypatch.setenv("MAESEGMENT_CASES", str(tmp_path / "cases"))
    monkeypatch.setenv("MAESEGMENT_RUNS", str(clinic.runs))
    return clinic


@pytest.fixture
def console(clinic, tmp_path):
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with Console(store=clinic.models, working_folder=tmp_path / "work", environ=environ) as console:
        yield console


def phantom(seed: int):
    return PhantomFactory()(shape=(20, 22, 18), noise=20.0, seed=seed)


def test_from_a_corrected_scan_to_a_version_and_its_comparison(console, clinic, tmp_path):
    with pytest.raises(DatasetError, match="no case to learn from"):
        console.fine_tune()
    scan = phantom(0)
    record = console.add_case(scan.volume, scan.label_map)
    assert (record.labels, record.model) == (("front", "back"), clinic.base.reference)
    stored = console.case_store("tiny-mr").read_label_map(record.id)
    np.testing.assert_array_equal(stored.array, scan.label_map.array)
    with pytest.raises(ConfigurationError, match="not given as str"):
        console.add_case(scan.volume, "corrected.nii.gz")
    with pytest.raises(DuplicateCase):
        console.add_case(scan.volume, scan.label_map, "tiny-mr")
    with pytest.raises(DatasetError, match="not the one that is stored"):
        console.add_case(phantom(1).volume, phantom(1).label_map, "tiny-mr", update=record.id)
    with pytest.raises(ConfigurationError, match="needs 1 channel"):
        console.add_case(PhantomFactory()(channels=2).volume, scan.label_map, "tiny-mr")
    assert console.add_case(scan.volume, scan.label_map, "tiny-mr", update=record.id).revision == 2
    assert [case.id for case in console.cases()] == [record.id]
    with pytest.raises(VolumeReadError, match="nowhere"):
        console.fine_tune(unlabelled="nowhere")
    with pytest.raises(ConfigurationError, match="empty text"):
        console.fine_tune(unlabelled="")
    for call in (lambda it: console.fine_tune(unlabelled=it), lambda it: console.fine_tune(it), console.next_cases):
        for wrong in (scan.volume, [7]):
            with pytest.raises(ConfigurationError, match="was given"):
                call(wrong)
    with pytest.raises(ConfigurationError, match="was given"):
        console.add_case(scan.volume, scan.label_map, "tiny-mr", absent=7)
    more = tmp_path / "more scans"
    more.mkdir()
    other = PhantomFactory()(shape=(27, 22, 18), noise=20.0, seed=5)
    for name, volume in (("same", scan.volume), ("other", other.volume)):
        write_volume(more / f"{name}.nii.gz", volume)
    job = console.fine_tune([record.id], unlabelled=more, wait=False, **{**SETTINGS, "steps": 2})
    with pytest.raises(WorkerError, match="running already"):
        console.fine_tune(**SETTINGS)
    result = job.result(600)
    assert job.state is JobState.DONE
    assert f"Left out: same.nii.gz: it is the image of case {record.id}." in result.notes
    assert "1 scan without labels to learn from; 1 could not be used." in result.notes
    assert result.parent["hash"] == clinic.base.content_hash
    new = f"tiny-mr@{result.model['version']}"
    comparison = console.compare(phantom(1).volume, clinic.base, new, device="cpu")
    assert [row.label for row in comparison.rows] == [label.name for label in LABELS]
    assert comparison.disagreement.array.shape == phantom(1).volume.grid.shape
    scan = write_volume(clinic.runs.parent / "scan.nii.gz", phantom(2).volume)
    broken = clinic.runs.parent / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    ranked = console.next_cases([scan, broken], clinic.base, device="cpu")
    assert [one.path for one in ranked] == [scan, broken]
    assert ranked[0].uncertainty is not None
    assert ranked[1].error is not None
    with pytest.raises(VolumeReadError):
        console.next_cases([scan, scan.with_name("mistyped.nii.gz")], clinic.base, device="cpu")
    assert console.selected_model("tiny-mr").content_hash == clinic.base.content_hash, "nobody chose the new one"
    assert (
        console.use_version(new).content_hash == result.model["hash"] == console.selected_model("tiny-mr").content_hash
    )


def test_a_comparison_that_cannot_begin_is_refused_at_once(console, clinic):
    heard = []
    with pytest.raises(ConfigurationError):
        console.compare(phantom(0).volume, clinic.base, clinic.base, roi="1,2", callback=heard.append)
    assert not heard
