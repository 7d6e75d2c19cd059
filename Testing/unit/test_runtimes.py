"""OpenVINO in torch's place: the same scores and labels, chosen only where that is so, and nothing sent anywhere."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import Cancelled, ConfigurationError, DeviceError
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.inference.runtimes import conversion, converted, openvino_runtime
from MAESegmentLib.inference.runtimes.openvino_runtime import OpenVinoRuntime
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.worker.job_folder import JobFolder
from MAESegmentLib.worker.protocol import Segment
from MAESegmentLib.worker.work import converting
from MAESegmentLib.worker.work.segmenting import SegmentationWork
from Testing.bundles import save_tiny, tiny_network_config
from Testing.phantoms import Phantom, PhantomFactory

TORCH = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False, runtime="torch")
AUTO, OPENVINO = replace(TORCH, runtime="auto"), replace(TORCH, runtime="openvino")
CPU = torch.device("cpu")

#: Windows that do not divide the grid are padded, and shifted in every second block; convolutions add details.
PADDED = replace(
    tiny_network_config(in_channels=2),
    depths=(2, 1),
    decoder_depths=(2,),
    windows=((3, 3, 3), (2, 2, 2)),
    detail_channels=4,
)


@pytest.fixture(scope="module")
def scan() -> Phantom:
    return PhantomFactory().oblique(noise=30.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The user's, empty."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    return ModelStore()


@pytest.fixture
def tiny(store: ModelStore) -> Bundle:
    return save_tiny(store.folder_for("tiny-mr", "1.0.0"))


@pytest.fixture(scope="module")
def tiny_converted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The conversion of a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("models")
        patch.setenv("MAESEGMENT_MODELS", str(folder))
        return conversion.prepare(save_tiny(folder / "tiny-mr" / "1.0.0")).file.read_bytes()


@pytest.fixture
def prepared(tiny: Bundle, tiny_converted: bytes) -> Bundle:
    """Converted before."""
    file = converted.file_for(tiny)
    file.parent.mkdir()
    file.write_bytes(tiny_converted)
    return tiny


# The same scores


def test_scores_are_those_of_torch() -> None:
    torch.manual_seed(0)
    network = NnFormer(PADDED).eval()
    for parameter in network.detail.parameters():  # which start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    windows = torch.randn(2, 20, 16, 16, PADDED.in_channels).movedim(-1, 1)  # not as they lie in memory
    runtime = OpenVinoRuntime(conversion.convert(network, windows[:1]), "fp32")
    with torch.inference_mode():
        expected, stages = network(windows).numpy(), network.encoder(windows[:1])
    given = windows.numpy()
    found = runtime.network_on(CPU, "fp32")(given)
    runtime.network_on(CPU, "fp32")(np.flip(given, 0))  # overwrites nothing
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(runtime.network_on(CPU, "bf16")(given) - expected).max() < 0.1 * np.abs(expected).max()
    for tokens, wanted in zip(runtime.encoder_on(CPU, "fp32")(given[:1]), stages, strict=True):
        np.testing.assert_allclose(tokens, wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"mirroring": True, "batch_size": 3},
        {"mirroring": "shifted", "overlap": 0.25},
    ],
    ids=["plain", "mirrored, in batches", "averaged"],
)
def test_labels_are_those_of_torch(prepared: Bundle, scan: Phantom, chosen) -> None:
    roi = Roi((-8.0, -8.0, -8.0), (8.0, 8.0, 8.0))
    with_torch, with_openvino = (
        Predictor(prepared, replace(one, **chosen)).predict(scan.volume, roi=roi, want_probabilities=True)
        for one in (TORCH, AUTO)
    )
    assert (with_torch.runtime, with_openvino.runtime) == ("torch", "openvino")
    assert with_openvino.ran_on("cpu") == "cpu, OpenVINO"
    np.testing.assert_allclose(with_openvino.probabilities.array, with_torch.probabilities.array, atol=1e-4)
    assert (with_openvino.label_map.array != with_torch.label_map.array).mean() < 1e-3


def test_cancel_is_heeded(prepared: Bundle, scan: Phantom) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        Predictor(prepared, AUTO).predict(scan.volume, should_cancel=lambda: next(answers))


def test_memory_that_runs_out_midway_is_answered_as_with_torch(prepared: Bundle, scan: Phantom, monkeypatch) -> None:
    predictor = Predictor(prepared, replace(AUTO, batch_size=4))
    run, failed = OpenVinoRuntime.network_on, []

    def greedy(self, device, precision):
        def scores(patches):
            if len(patches) > 1:
                failed.append(len(patches))
                raise RuntimeError("Exception from src/core/src/runtime/allocator.cpp:79:\nstd::bad_alloc\n")
            return run(self, device, precision)(patches)

        return scores

    monkeypatch.setattr(OpenVinoRuntime, "network_on", greedy)
    prediction = predictor.predict(scan.volume)
    assert len(failed) == 1
    assert "one window at a time" in prediction.warnings[0]
    assert prediction.runtime == "openvino"


# What is chosen


def test_auto_is_torch_until_a_model_is_prepared(tiny: Bundle, scan: Phantom, tiny_converted: bytes) -> None:
    predictor = Predictor(tiny, AUTO)
    assert predictor.predict(scan.volume).runtime == "torch"
    converted.file_for(tiny).parent.mkdir()
    converted.file_for(tiny).write_bytes(tiny_converted)
    assert predictor.predict(scan.volume).runtime == "openvino"  # at the next scan of the same process
    assert Predictor(tiny, replace(AUTO, precision="fp16")).runtime_on(CPU).name == "torch"
    # A network in training is not the one that was converted.
    assert Predictor(tiny, AUTO, network=tiny.load_network()).runtime_on(CPU).name == "torch"


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:], lambda _: b""])
def test_a_damaged_conversion_is_thrown_away_and_torch_serves(prepared: Bundle, damage, caplog) -> None:
    file = converted.file_for(prepared)
    file.write_bytes(damage(file.read_bytes()))
    assert Predictor(prepared, AUTO).runtime_on(CPU).name == "torch"
    assert "cannot be used" in caplog.text
    assert not file.exists()


def test_torch_serves_where_openvino_cannot_run_a_conversion(prepared: Bundle, caplog) -> None:
    converted.store(prepared, converted.Converted(b"<net", b""))
    assert Predictor(prepared, AUTO).runtime_on(CPU).name == "torch"
    assert "OpenVINO cannot run this model here" in caplog.text


def test_openvino_on_demand_converts_where_that_was_not_done(tiny: Bundle) -> None:
    with torch.inference_mode():  # as ranking scans calls it
        assert Predictor(tiny, OPENVINO).runtime_on(CPU).name == "openvino"
    assert converted.read(tiny) is not None
    assert sorted(path.name for path in tiny.path.parent.iterdir()) == ["1.0.0"]
    ModelStore().find("tiny-mr")  # intact


def test_a_conversion_that_computes_something_else_is_not_kept(tiny: Bundle, monkeypatch) -> None:
    monkeypatch.setattr(conversion, "convert", lambda *_: None)
    monkeypatch.setattr(conversion, "_difference", lambda *_: float("nan"))
    with pytest.raises(DeviceError, match="other scores"):
        conversion.prepare(tiny)
    assert not converted.file_for(tiny).exists()


@pytest.mark.parametrize("refused", [{"device": "cuda"}, {"precision": "fp16"}, {"runtime": "tpu"}])
def test_what_openvino_cannot_do_is_refused(refused) -> None:
    with pytest.raises(ConfigurationError):
        replace(OPENVINO, **refused)


def test_without_the_package_torch_serves_or_says_what_to_install(prepared: Bundle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert Predictor(prepared, AUTO).runtime_on(CPU).name == "torch"
    assert converted.file_for(prepared).exists()
    with pytest.raises(ConfigurationError) as caught:
        Predictor(prepared, OPENVINO).runtime_on(CPU)
    assert "Install the package openvino" in caught.value.hint
    monkeypatch.setattr(openvino_runtime, "is_installed", lambda: False)
    assert Predictor(prepared, AUTO).runtime_on(CPU).name == "torch"


def test_nothing_is_reported_to_the_makers_of_openvino() -> None:
    openvino_runtime.load_openvino()
    from openvino.tools.ovc import telemetry_utils

    assert sys.modules["openvino_telemetry"] is None
    assert telemetry_utils.tm.__name__.endswith("telemetry_stub")


SIGNALS = """
import gc, os, signal, sys
from pathlib import Path
from MAESegmentLib.inference.runtimes.converted import Converted
from MAESegmentLib.inference.runtimes.openvino_runtime import OpenVinoRuntime

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("again"))
network = Converted(*(Path(path).read_bytes() for path in sys.argv[1:]))
models = [OpenVinoRuntime(network, "fp32") for _ in range(2)]
while models:
    models.pop(0)
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
print(*heard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_is_heard_after_models_were_forgotten(prepared: Bundle, tmp_path: Path) -> None:
    """As Ctrl-C is, and the end of a process that reads patches."""
    found = converted.read(prepared, converted.file_for(prepared))
    (tmp_path / "xml").write_bytes(found.description)
    (tmp_path / "bin").write_bytes(found.weights)
    files = [str(tmp_path / "xml"), str(tmp_path / "bin")]
    ended = subprocess.run([sys.executable, "-c", SIGNALS, *files], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "again again\n"), ended.stderr


# The worker, and the command


def test_the_worker_says_what_ran_the_network(prepared: Bundle, scan: Phantom, tmp_path: Path) -> None:
    runtimes = ("torch", "openvino")
    titles = [run_in_worker(SegmentationWork(), prepared, scan, tmp_path, runtime=runtime) for runtime in runtimes]
    assert titles[1] == f"{titles[0]}, OpenVINO"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The conversions that were started, as soon as a network has run."""
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(converting, "WORTH_S", 0.0)
    start = converting._start
    monkeypatch.setattr(converting, "_start", lambda bundle: started.append(start(bundle)) or started[-1])
    return started


def run_in_worker(work: SegmentationWork, bundle: Bundle, scan: Phantom, folder: Path, **settings: str) -> str:
    job = JobFolder.create(folder)
    list(job.write_volume([channel.T for channel in scan.volume.array], scan.volume.ijk_to_ras))
    request = Segment("1", str(job.path), str(bundle.path), settings={"device": "cpu", **settings})
    return str(work.run(request, lambda _message: None, lambda: False).data["device_title"])


def test_a_model_of_the_users_is_converted_beside_the_worker(
    tiny: Bundle, scan: Phantom, tmp_path: Path, heard: list[subprocess.Popen[bytes]]
) -> None:
    """Once, while torch serves."""
    work = SegmentationWork()
    assert "OpenVINO" not in run_in_worker(work, tiny, scan, tmp_path, runtime="torch")
    assert heard == [], "the user has chosen torch"
    assert "OpenVINO" not in run_in_worker(work, tiny, scan, tmp_path)
    assert "OpenVINO" not in run_in_worker(work, tiny, scan, tmp_path) or converted.is_there(tiny)
    (process,) = heard
    assert process.wait(120) == 0
    assert run_in_worker(work, tiny, scan, tmp_path).endswith(", OpenVINO")
    run_in_worker(SegmentationWork(), tiny, scan, tmp_path)
    assert len(heard) == 1, "it is converted already"


def test_a_conversion_ends_with_its_worker(
    tiny: Bundle, scan: Phantom, tmp_path: Path, heard: list[subprocess.Popen[bytes]]
) -> None:
    run_in_worker(SegmentationWork(), tiny, scan, tmp_path)
    (process,) = heard
    process.stdin.close()  # as the system does
    process.wait(60)
    assert process.returncode == 1
    assert not converted.is_there(tiny)


def test_models_are_prepared_used_and_forgotten_by_command(tiny: Bundle, tmp_path: Path, scan: Phantom, capsys) -> None:
    from MAESegmentLib.images.writing import write_volume

    image = write_volume(tmp_path / "scan.nii.gz", scan.volume)
    assert main(["models", "prepare", "tiny-mr"]) == 0
    assert "Prepared tiny-mr 1.0.0" in capsys.readouterr().out
    segment = ["segment", str(image), "-m", "tiny-mr", "--device", "cpu", "--allow-mismatch", "-o"]
    assert main([*segment, str(tmp_path / "a.nii.gz")]) == 0
    assert "seconds on cpu, OpenVINO" in capsys.readouterr().out
    assert main([*segment, str(tmp_path / "b.nii.gz"), "--runtime", "torch"]) == 0
    assert "OpenVINO" not in capsys.readouterr().out
    assert main(["models", "remove", "tiny-mr@1.0.0", "--yes"]) == 0
    assert not converted.file_for(tiny).exists()
