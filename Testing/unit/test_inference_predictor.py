"""A bundle in, predictions out: devices, settings, preview, volumes, output names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.device import at_precision, autocast, resolve_device
from MAESegmentLib.errors import ConfigurationError, DeviceError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.volumetry import volumes_ml
from MAESegmentLib.inference import InferenceSettings, Predictor, Roi
from MAESegmentLib.inference.preview import write_preview
from MAESegmentLib.inference.settings import default_output
from MAESegmentLib.preprocessing.grid import NetworkGrid
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import PhantomFactory

CPU = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


def coarse(folder: Path, **changes: object) -> Bundle:
    """The same network at 6 mm, so that a head is a few windows."""
    spec = tiny_spec()
    return save_tiny(folder, replace(spec, preprocessing=replace(spec.preprocessing, spacing=(6.0,) * 3), **changes))


# Predictor


def test_prediction_lies_on_the_input_grid_with_the_models_labels(bundle: Bundle, phantom: PhantomFactory) -> None:
    volume = phantom.oblique(noise=30.0).volume
    prediction = Predictor(bundle, CPU).predict(volume)
    assert prediction.label_map.grid.matches(volume.grid, tolerance_mm=0.0)
    assert set(np.unique(prediction.label_map.array)) <= {0, 1, 2}
    assert prediction.device == "cpu"
    assert prediction.seconds > 0


def test_one_head_in_eight_axis_orders_is_segmented_alike(real_data: Path, tmp_path: Path) -> None:
    predictor = Predictor(coarse(tmp_path / "m"), CPU)
    canonical = []
    for file in sorted((real_data / "geometry" / "orientations").glob("*.nii.gz")):
        volume = read_volume(file)
        labels = predictor.predict(volume).label_map.array
        canonical.append(NetworkGrid.fit(volume.grid, "RAS", (1, 1, 1)).to_canonical(labels))
    assert len(canonical) == 8
    assert len(np.unique(canonical[0])) > 1
    for other in canonical[1:]:
        np.testing.assert_array_equal(other, canonical[0])


def test_a_mirrored_scan_gets_the_mirrored_result_with_left_and_right_exchanged(tmp_path: Path) -> None:
    inference = {"mirroring": True, "mirror_axes": [], "sides": {"axis": 0, "pairs": [[1, 2]]}}
    predictor = Predictor(save_tiny(tmp_path / "m", tiny_spec(inference=inference)), replace(CPU, mirroring=True))
    scan = np.random.default_rng(0).normal(100, 20, (1, 16, 16, 16)).astype(np.float32)
    matrix = np.diag([1.0, 1.0, 1.5, 1.0])  # one window of the network
    plain, mirrored = (
        predictor.predict(Volume(array, matrix), want_probabilities=True) for array in (scan, scan[:, ::-1].copy())
    )
    assert plain.probabilities is not None
    assert mirrored.probabilities is not None
    expected = plain.probabilities.array[[0, 2, 1], ::-1]
    np.testing.assert_allclose(mirrored.probabilities.array, expected, atol=1e-5)
    assert np.abs(plain.probabilities.array[1] - plain.probabilities.array[2]).max() > 1e-3


def test_shifted_copies_take_twice_the_runs_of_the_network_and_change_its_scores(
    bundle: Bundle, phantom: PhantomFactory
) -> None:
    volume = phantom(noise=30.0).volume
    runs: dict[str, int] = {}
    found = {}
    for name, inference in (("off", {"mirroring": False}), ("shifted", {"mirroring": "shifted", "mirror_axes": []})):
        settings = InferenceSettings.of_model(inference, device="cpu", precision="fp32", check_familiarity=False)
        network = bundle.load_network()
        seen: list[int] = []
        network.register_forward_hook(lambda _module, inputs, _scores, seen=seen: seen.append(len(inputs[0])))
        own = replace(bundle.spec, inference=inference)
        predictor = Predictor(SimpleNamespace(spec=own), settings, network=network)  # type: ignore[arg-type]
        found[name] = predictor.predict(volume, want_probabilities=True).probabilities
        runs[name] = sum(seen)
    assert runs["shifted"] == 2 * runs["off"]
    assert 1e-4 < np.abs(found["off"].array - found["shifted"].array).max() < 0.5


def test_the_wrong_number_of_channels_is_refused(bundle: Bundle, phantom: PhantomFactory) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 1 channel.*has 2"):
        Predictor(bundle, CPU).predict(phantom(channels=2).volume)


def test_settings_stored_with_the_model_hold_unless_the_caller_chooses(tmp_path: Path) -> None:
    stored = {"overlap": 0.25, "mirroring": True, "mirror_axes": [1, 2], "unknown to this version": 1}
    saved = coarse(tmp_path / "m", inference=stored)
    assert Predictor(saved).settings.overlap == 0.25
    assert InferenceSettings.of_model(stored, overlap=0.0, mirroring=None).overlap == 0.0
    assert InferenceSettings.of_model(stored, overlap=None).mirror_axes((1, 2)) == (1, 2)


@pytest.mark.parametrize(
    "wrong", [{"overlap": 1.0}, {"batch_size": 0}, {"precision": "int4"}, {"mirroring": (3,)}, {"mirroring": "on"}]
)
def test_settings_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        InferenceSettings(**wrong)


# Devices


def test_auto_finds_a_device_that_works() -> None:
    device = resolve_device("auto")
    assert float(torch.ones(2, device=device).sum()) == 2


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "mps", ""])
def test_unknown_devices_are_refused_with_the_choices(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert "cuda:N" in caught.value.hint


def test_a_gpu_that_is_not_there_is_refused_with_a_way_out() -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda:99")
    assert caught.value.hint


def test_full_precision_is_really_full() -> None:
    layer, image = torch.nn.Conv3d(1, 1, 1), torch.ones(1, 1, 2, 2, 2)
    with autocast(torch.device("cpu"), "fp32"):
        assert layer(image).dtype == torch.float32
    with autocast(torch.device("cpu"), "bf16"):
        assert layer(image).dtype == torch.bfloat16


def test_many_windows_in_mixed_precision_cast_the_weights_once() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.Flatten(1), torch.nn.Linear(4, 2)
    )
    image = torch.randn(2, 1, 3, 3, 3)
    casts = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default:
                casts.append(args[0].shape)
            return function(*args, **(kwargs or {}))

    run = at_precision(network, torch.device("cpu"), "bf16")
    with torch.inference_mode():
        with autocast(torch.device("cpu"), "bf16"):
            expected = network(image)
        with Watching():
            found = run(image)
        assert torch.equal(found, expected)
    assert not {parameter.shape for parameter in network.parameters()} & set(casts)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert at_precision(network, torch.device("cpu"), "fp32") is network


@pytest.mark.gpu
def test_the_gpu_is_found_and_has_run_a_kernel() -> None:
    assert resolve_device("cuda") == torch.device("cuda", 0)


# Region of interest


def test_a_roi_is_read_from_text() -> None:
    assert Roi.of("-40,-5,-45,0,-35,10.5") == Roi((-40.0, -45.0, -35.0), (-5.0, 0.0, 10.5))


def test_a_roi_is_read_from_a_file_of_slicer(tmp_path: Path) -> None:
    path = tmp_path / "left.mrk.json"
    box = {"type": "ROI", "coordinateSystem": "LPS", "center": [-20, 30, 5], "size": [10, 20, 30]}
    path.write_text(json.dumps({"markups": [box]}))
    assert Roi.of(str(path)).bounds == (15.0, 25.0, -40.0, -20.0, -10.0, 20.0)
    for content in (
        {"markups": [box, box]},
        {"markups": [{"type": "Fiducial"}]},
        [],
        {"markups": [{**box, "size": 1}]},
        {"markups": [{**box, "coordinateSystem": "IJK"}]},
        {"markups": [{**box, "coordinateUnits": ["mm", "mm", "cm"]}]},
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError, match="does not hold one ROI"):
            Roi.of(path)
    with pytest.raises(ConfigurationError, match="there is no such file"):
        Roi.of("nowhere.mrk.json")


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d,e,f", "5,1,0,1,0,1", "0,nan,0,1,0,1", ""])
def test_a_roi_that_makes_no_box_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Roi.of(text)


# Volumes, preview, names


def test_volumes_are_in_millilitres_and_absent_structures_zero(phantom: PhantomFactory) -> None:
    scan = phantom("LPS", spacing=(1.0, 2.0, 0.5))
    label_map = LabelMap(np.where(scan.label_map.array == 2, 0, scan.label_map.array), scan.label_map.ijk_to_ras)
    found = volumes_ml(label_map, scan.labels)
    assert found == {1: pytest.approx((scan.label_map.array == 1).sum() / 1000), 2: 0.0}


def coloured(path: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """(x, y) of the pixels of `path` that are near `colour`."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - colour).sum(axis=2) < 90)
    return np.stack([columns / pixels.shape[1], rows / pixels.shape[0]], axis=1)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIL"])
def test_preview_shows_the_patients_right_on_the_left_of_the_picture(
    phantom: PhantomFactory, tmp_path: Path, orientation: str
) -> None:
    scan = phantom(orientation)
    right_front = np.zeros(scan.label_map.array.shape, np.uint8)
    right_front[Roi((4.0, 4.0, -3.0), (9.0, 9.0, 3.0)).voxels(scan.volume.grid)] = 1
    path = write_preview(
        tmp_path / "p.png", scan.volume, LabelMap(right_front, scan.volume.ijk_to_ras), scan.labels[:1]
    )
    outline = coloured(path, scan.labels[0].colour)
    axial = outline[(outline[:, 0] < 1 / 3) & (outline[:, 1] < 0.48)]
    assert len(axial)
    assert axial[:, 0].mean() < 1 / 6  # right of the patient: left half of the first panel
    assert axial[:, 1].mean() < 0.25  # front of the patient: top


def test_preview_of_nothing_is_still_a_picture(phantom: PhantomFactory, tmp_path: Path) -> None:
    scan = phantom.anisotropic()
    flat = Volume(np.zeros_like(scan.volume.array), scan.volume.ijk_to_ras)
    path = write_preview(
        tmp_path / "p.png", flat, LabelMap(np.zeros(flat.grid.shape, np.uint8), flat.ijk_to_ras), scan.labels
    )
    assert Image.open(path).size[0] > 500


@pytest.mark.parametrize(
    ("scan", "expected"),
    [("/data/head.nii.gz", "head.seg.nrrd"), ("a.b.NRRD", "a.b.seg.nrrd"), ("study/ct.mha", "ct.seg.nrrd")],
)
def test_the_default_output_is_named_after_the_scan(scan: str, expected: str) -> None:
    assert default_output(scan) == Path(expected)


def test_the_default_output_of_a_folder_keeps_its_dots(tmp_path: Path) -> None:
    folder = tmp_path / "1.2.840"
    folder.mkdir()
    assert default_output(folder) == Path("1.2.840.seg.nrrd")
