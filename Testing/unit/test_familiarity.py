"""Whether a model can know a scan: statistics of training scans, what is told of scans unlike them, and the bundle."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import ndimage

from MAESegmentLib.bundle import Bundle, ModelStore, export_bundle, import_bundle
from MAESegmentLib.bundle.metadata import content_hash, parse_metadata, serialise
from MAESegmentLib.bundle.scan_statistics import SpaceStatistics, fit_space, held_out_distances
from MAESegmentLib.bundle.training_statistics import FamiliarityStatistics
from MAESegmentLib.cli.main import main
from MAESegmentLib.cli.models import print_facts
from MAESegmentLib.errors import BundleError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.inference.familiarity import Familiarity
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.bundles import save_taught, save_tiny, tiny_spec
from Testing.phantoms import PhantomFactory

CPU = InferenceSettings(device="cpu", precision="fp32")
CT = Preprocessing("RAS", (1.0, 1.0, 1.0), (16, 16, 16), IntensityRecipe("ct", lower=-200, upper=500, mean=0, std=150))
#: Grey values of the phantom's air, body and two structures, as HU.
HU = {20.0: -1000.0, 300.0: 45.0, 700.0: -90.0, 1000.0: 700.0}


def scan(seed: int, *, ct: bool = False) -> Volume:
    """One of a family: the phantom's body, turned and placed a little otherwise each time."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(22, 27, 3))
    volume = PhantomFactory()(shape=size, rotation_degrees=tuple(random.uniform(-6, 6, 3))).volume
    array = volume.array
    if ct:
        array = np.select([array == grey for grey in HU], list(HU.values()))
    noise = random.normal(0, 15 if ct else 25, array.shape)
    gain = 1.0 if ct else 10.0 ** random.uniform(-2, 2)  # an MR scanner's scale means nothing
    return Volume(((array + noise) * gain).astype(np.float32), volume.ijk_to_ras)


def changed(volume: Volume, change: Callable[[np.ndarray], Any]) -> Volume:
    return Volume(np.asarray(change(volume.array), dtype=np.float32), volume.ijk_to_ras)


@pytest.fixture(scope="module")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_taught(tmp_path_factory.mktemp("mr"), [scan(seed) for seed in range(24)])


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    scans = [scan(seed, ct=True) for seed in range(24)]
    return save_taught(tmp_path_factory.mktemp("ct"), scans, preprocessing=CT, modality="CT")


def asked(bundle: Bundle, volume: Volume) -> Familiarity:
    predictor = Predictor(bundle, CPU)
    found = predictor.familiarity(volume, bundle.spec.preprocessing.prepare(volume))
    assert found is not None
    return found


# Scans of the kind and of others


@pytest.mark.parametrize("kind", ["mr", "ct"])
def test_other_scans_of_the_kind_pass_without_a_word(kind: str, mr: Bundle, ct: Bundle) -> None:
    bundle = mr if kind == "mr" else ct
    found = [asked(bundle, scan(seed, ct=kind == "ct")) for seed in range(100, 120)]
    assert sum(one.message is not None for one in found) <= 1


def blocks(array: np.ndarray) -> np.ndarray:
    """Another object: a lattice across the whole field."""
    places = np.indices(array.shape).sum(axis=0)
    return np.where(places % 3 == 0, array.max(), np.where(places % 3 == 1, array.min(), np.median(array)))


def noise(array: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).normal(array.mean(), array.std(), array.shape)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("mr", lambda a: np.full_like(a, 7.0), "blank"),
        ("mr", noise, "like"),
        ("mr", lambda a: a.max() + a.min() - a, "as if dark and bright were exchanged"),
        ("mr", blocks, "like"),
        ("ct", lambda a: np.zeros_like(a), "blank"),
        ("ct", noise, "grey values"),
        ("ct", lambda a: a.max() + a.min() - a, "dark and bright exchanged"),
        ("ct", lambda a: np.round((a - a.min()) / np.ptp(a) * 255), r"not HU: \S+ to 2\d\d, theirs about -10\d\d to"),
        ("ct", lambda a: (a - a.min()) / np.ptp(a), "not HU: 0"),
        ("ct", lambda a: a + 1024, "1024 too high"),
        ("ct", lambda a: np.pad(a, [(0, 0)] + [(0, 3 * n) for n in a.shape[1:]], "wrap"), "mm at most"),
        ("ct", blocks, "like"),
    ],
)
def test_what_the_model_cannot_know_is_called_so_with_the_reason(
    kind: str, change: Callable[[np.ndarray], Any], reason: str, mr: Bundle, ct: Bundle
) -> None:
    for seed in range(200, 204):
        found = asked(mr if kind == "mr" else ct, changed(scan(seed, ct=kind == "ct"), change))
        assert found.excess > 1
        assert found.message is not None
        assert found.message.startswith("This scan is unlike the training scans")
        assert re.search(reason, found.message), found.message


def test_the_scale_of_mr_means_nothing(mr: Bundle) -> None:
    volume = scan(300)
    for change in (lambda a: a * 1e4, lambda a: a * 1e-3, lambda a: a + 5000.0):
        assert asked(mr, changed(volume, change)).excess == pytest.approx(asked(mr, volume).excess, rel=0.02)


def test_the_warning_comes_with_the_prediction_unless_it_is_not_wanted(mr: Bundle) -> None:
    strange = changed(scan(200), lambda a: -a)
    (warning,) = Predictor(mr, CPU).predict(strange).warnings
    assert "grey values" in warning
    assert Predictor(mr, replace(CPU, check_familiarity=False)).predict(strange).warnings == ()
    assert Predictor(mr, CPU).predict(scan(301)).warnings == ()


def test_a_model_without_statistics_segments_without_the_check(tmp_path: Path) -> None:
    """As all made before: what they kept of the autoencoder's errors told nothing on CT."""
    old = save_tiny(tmp_path / "m", tiny_spec(reconstruction_error={"percentiles": {"99": 1e-9}}))
    volume = scan(0)
    assert Predictor(old, CPU).familiarity(volume, old.spec.preprocessing.prepare(volume)) is None
    assert Predictor(old, CPU).predict(volume).warnings == ()


def test_the_command_line_and_the_table_of_a_batch_say_why(
    mr: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "known.nii.gz", scan(302))
    write_volume(tmp_path / "in" / "strange.nii.gz", changed(scan(200), lambda a: -a))
    monkeypatch.chdir(tmp_path)
    model = ["-m", str(mr.path), "--device", "cpu", "--allow-mismatch"]
    assert main(["segment", *model, str(tmp_path / "in" / "strange.nii.gz")]) == 0
    printed = capsys.readouterr()
    assert "as if dark and bright were exchanged" in " ".join((printed.out + printed.err).split())
    assert main(["batch", *model, "-o", str(tmp_path / "out"), str(tmp_path / "in")]) == 0
    rows = {row["volume"]: row for row in csv.DictReader((tmp_path / "out" / "volumes.csv").read_text().splitlines())}
    assert rows["known"]["warnings"] == ""
    assert "as if dark and bright were exchanged" in rows["strange"]["warnings"]


# Few scans


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_training_scans_are_enough_for_wide_limits(tmp_path: Path, count: int) -> None:
    bundle = save_taught(tmp_path, [scan(seed) for seed in range(count)])
    known = [asked(bundle, scan(seed)) for seed in range(100, 112)]
    assert sum(one.message is not None for one in known) <= 1
    strange = asked(bundle, changed(scan(200), noise))
    assert strange.message is not None
    assert f"statistics of {count} training scan{'s' * (count > 1)} only" in strange.message


def test_distances_are_those_of_a_gaussian_where_cases_are_many() -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(6, 6))
    points = random.normal(size=(4000, 6)) @ mixing
    inverse = np.linalg.inv(np.cov(points.T))
    others = random.normal(size=(50, 6)) * 3
    offsets = others - points.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offsets, inverse, offsets) / 6)
    np.testing.assert_allclose(fit_space(points, len(points)).distances(others), expected, rtol=0.02)


def test_scans_held_out_in_turn_are_within_the_limit() -> None:
    points = np.random.default_rng(0).normal(size=(60, 40)) * 0.1
    assert np.mean(held_out_distances(points) > fit_space(points, len(points)).limit) <= 0.02


# The bundle


def test_statistics_survive_the_bundle_and_its_zip(mr: Bundle, tmp_path: Path) -> None:
    export_bundle(mr, tmp_path / "m.zip")
    again = import_bundle(tmp_path / "m.zip", ModelStore(tmp_path / "models"))
    volume = changed(scan(200), noise)
    assert asked(again, volume) == asked(mr, volume)
    assert len(json.dumps(again.metadata["maesegment"]["familiarity"])) < 100_000


def test_a_model_of_an_older_version_lacks_the_key_and_says_so(mr: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = json.loads((mr.path / "configs" / "metadata.json").read_text())
    del metadata["maesegment"]["familiarity"]
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    old = Bundle(mr.path, parse_metadata(serialise(metadata)))
    assert old.spec.familiarity is None
    for bundle, said in ((old, "not recognised"), (mr, "statistics of 24 training scans")):
        print_facts(Console(width=200), bundle, ModelStore(mr.path.parent))
        assert said in capsys.readouterr().out


SPACE = fit_space(np.random.default_rng(0).normal(size=(20, 8)), 20).to_dict()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": "AAAA"},
        {"mean": "no base64!"},
        {"mean": [0.0] * 4},
        {"mean": "AADAfwAAwH8AAMB/AADAfw=="},  # NaN
        {"mean": "A" * 1_000_000},
        {"directions": SPACE["mean"]},
        {"variances": [0.0] * 4},
        {"variances": None},
        {"rest": -1.0},
        {"limit": 0.0},
        {"limit": "high"},
    ],
)
def test_statistics_that_we_cannot_have_written_are_refused(wrong: dict[str, Any], mr: Bundle) -> None:
    with pytest.raises((ValueError, TypeError)):
        SpaceStatistics.from_dict({**SPACE, **wrong})
    stored = mr.spec.familiarity
    with pytest.raises(BundleError, match="cannot be read"):
        FamiliarityStatistics.from_dict({**stored, "grey_values": {**stored["grey_values"], **wrong}})


def _without_a_stage(found: dict[str, Any]) -> None:
    found["stages"] = found["stages"][:1]


def _of_other_channels(found: dict[str, Any]) -> None:
    found["grey_values"] = found["stages"][0]


@pytest.mark.parametrize("change", [_without_a_stage, _of_other_channels])
def test_statistics_of_another_network_are_refused(
    change: Callable[[dict[str, Any]], None], mr: Bundle, tmp_path: Path
) -> None:
    stored = dict(mr.spec.familiarity)
    change(stored)
    other = save_tiny(tmp_path / "m", tiny_spec(familiarity=stored))
    with pytest.raises(BundleError, match="not of its network"):
        Predictor(other, CPU).predict(scan(0))


@pytest.mark.parametrize("load", [True, False], ids=["torch", "no-torch"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"grey_values": None},
        {"grey_values": ["a"]},
        {"grey_values": SPACE},
        {"stages": {}},
        {"stages": ""},
        {"stages": [[1]]},
        {"scans": "x"},
        {"scans": 0},
        {"extent_mm": [0, 1, 1]},
        {"extent_mm": {"a": None}},
        {"span": [None]},
    ],
    ids=str,
)
def test_a_model_whose_statistics_cannot_be_compared_is_refused_on_import(
    wrong: dict[str, Any], load: bool, mr: Bundle, tmp_path: Path
) -> None:
    other = save_tiny(tmp_path / "m", tiny_spec(familiarity={**mr.spec.familiarity, **wrong}))
    with pytest.raises(BundleError, match="statistics of its training scans") as refused:
        import_bundle(other.path, ModelStore(tmp_path / "models"), load=load)
    assert "without the check" not in refused.value.hint


# Real scans and the models that ship


def shipped(name: str) -> Bundle:
    return ModelStore("none").find(name)


def real(folder: Path, name: str) -> Volume:
    return read_volume(folder / "images" / f"{name}.nii.gz")


def validation(folder: Path, count: int) -> list[str]:
    names: list[str] = json.loads((folder / "dataset.json").read_text())["splits"]["validation"]
    return names[:count]


@pytest.mark.parametrize("name", ["hippocampus-mr", "headneck-ct"])
def test_the_shipped_models_know_their_kind_and_nothing_else(name: str, real_data: Path) -> None:
    bundle = shipped(name)
    ct = name == "headneck-ct"
    own, other = ("headneck_ct", "hippocampus_mr") if ct else ("hippocampus_mr", "headneck_ct")
    known = [real(real_data / own, case) for case in validation(real_data / own, 3)]
    assert [asked(bundle, volume).message for volume in known] == [None] * 3
    strange = [real(real_data / other, case) for case in validation(real_data / other, 1)]
    strange += [real(real_data / "atrium_mr", case) for case in validation(real_data / "atrium_mr", 1)]
    strange += [changed(known[0], noise), changed(known[0], lambda a: a.max() + a.min() - a)]
    strange += [changed(known[0], lambda a: ndimage.gaussian_filter(a, (0, 4, 4, 4)))]
    if ct:
        low, span = known[0].array.min(), np.ptp(known[0].array)
        strange += [changed(known[0], lambda a: (a - low) / span), changed(known[0], lambda a: a + 1024)]
    for volume in strange:
        assert asked(bundle, volume).message is not None
