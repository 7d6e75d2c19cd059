"""A saved model is complete, opens as what was saved, and shows every change of every byte."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.bundle import Bundle, open_bundle, save_bundle
from MAESegmentLib.bundle.metadata import content_hash, serialise
from MAESegmentLib.errors import BundleError, ConfigurationError, OutputError, WeightsError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.networks import NnFormer
from Testing.bundles import LABELS, autoencoder_spec, save_tiny, tiny_network_config, tiny_spec

FILES = [
    "LICENSE",
    "configs/inference.json",
    "configs/metadata.json",
    "docs/README.md",
    "docs/curves.png",
    "models/autoencoder.pt",
    "models/model.pt",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("saved") / "tiny-mr", documents={"curves.png": b"\x89PNG picture"})


@pytest.fixture
def copy(saved: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.path, tmp_path / "copy"))


def rewrite(folder: Path, change: Any) -> None:
    """Apply `change` to the metadata and sign the result, as a careless or malicious author would."""
    file = folder / "configs/metadata.json"
    metadata = json.loads(file.read_bytes())
    change(metadata)
    if isinstance(metadata.get("maesegment"), dict):
        metadata["maesegment"]["content_hash"] = content_hash(metadata)
    file.write_bytes(serialise(metadata))


def test_a_bundle_holds_the_files_of_a_monai_bundle(saved: Bundle) -> None:
    assert sorted(f.relative_to(saved.path).as_posix() for f in saved.path.rglob("*") if f.is_file()) == FILES


def test_the_specification_comes_back_as_it_was_saved(copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"")  # what file browsers leave behind
    assert open_bundle(copy).spec == tiny_spec()


def test_labels_and_identity_are_read_without_torch(saved: Bundle) -> None:
    code = (
        "import sys; from MAESegmentLib.bundle import open_bundle\n"
        f"b = open_bundle({str(saved.path)!r}); print(b.name, b.version, *(x.name for x in b.labels), b.card[0])\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tiny-mr", "1.0.0", "anterior", "posterior", "#"]


def test_weights_are_half_precision_on_disk_and_float32_in_memory(saved: Bundle) -> None:
    stored = torch.load(saved.path / "models/model.pt", weights_only=True)
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    network = saved.load_network()
    autoencoder = saved.load_autoencoder()
    assert autoencoder is not None
    assert autoencoder.config == tiny_spec().autoencoder
    assert not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_the_network_comes_back_with_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = NnFormer(tiny_network_config()).eval()
    spec = tiny_spec(autoencoder=None)
    bundle = save_bundle(tmp_path / "m", spec, network.state_dict(), card="", licence_text="", dtype=torch.float32)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(bundle.load_network()(image), network(image), rtol=0, atol=0)
    assert bundle.load_autoencoder() is None


def test_an_autoencoder_loads_but_does_not_segment(tmp_path: Path) -> None:
    bundle = save_tiny(tmp_path / "mae", autoencoder_spec())
    assert bundle.load_autoencoder() is not None
    assert not (bundle.path / "configs/inference.json").exists()
    with pytest.raises(BundleError, match="does not segment"):
        bundle.load_network()


def test_monai_parses_the_metadata_and_names_every_channel(saved: Bundle) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(saved.path / "configs/inference.json")
    parser.read_meta(saved.path / "configs/metadata.json")
    names = parser["_meta_#network_data_format#outputs#pred#channel_def"]
    assert names == {"0": "background", "1": "anterior", "2": "posterior"}
    assert parser["_meta_#network_data_format#inputs#image#channel_def"] == {"0": "T1"}


def test_equal_content_has_an_equal_hash_and_other_weights_another(tmp_path: Path) -> None:
    first, same, other = (save_tiny(tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert first.content_hash == same.content_hash != other.content_hash


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_in_any_file_and_any_missing_file_is_found(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)


def test_every_byte_of_the_metadata_counts(copy: Path) -> None:
    file = copy / "configs/metadata.json"
    data = file.read_bytes()
    for position in range(0, len(data), 37):
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(BundleError):
            open_bundle(copy)


@pytest.mark.parametrize("name", ["docs/README.md", "models"])
def test_a_link_is_refused_even_to_the_right_content(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link"):
        open_bundle(copy)


def test_weights_changed_after_opening_are_not_loaded(copy: Path) -> None:
    bundle = open_bundle(copy)
    data = bytearray((copy / "models/model.pt").read_bytes())
    data[-40] ^= 1
    (copy / "models/model.pt").write_bytes(data)
    with pytest.raises(BundleError, match="not the file that was saved"):
        bundle.load_network()


def test_a_model_of_a_newer_format_asks_for_an_update(copy: Path) -> None:
    rewrite(copy, lambda m: m["maesegment"].update(format_version=99))
    with pytest.raises(BundleError, match="newer MAESegment") as caught:
        open_bundle(copy)
    assert caught.value.hint == "Update MAESegment."


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("name", lambda m: m.pop("name")),
        ("name", lambda m: m.update(name="../../evil")),
        ("version", lambda m: m.update(version="latest")),
        ("description", lambda m: m.update(description=3)),
        ("maesegment", lambda m: m.pop("maesegment")),
        ("maesegment.kind", lambda m: m["maesegment"].update(kind="diffusion")),
        ("maesegment.format_version", lambda m: m["maesegment"].update(format_version="1")),
        ("maesegment.labels[0]", lambda m: m["maesegment"]["labels"][0].pop("value")),
        ("maesegment.labels[1]", lambda m: m["maesegment"]["labels"][1].update(colour=[1, 2])),
        ("maesegment.parent", lambda m: m["maesegment"].update(parent={"name": "x"})),
        ("maesegment.channels", lambda m: m["maesegment"].update(channels=[])),
        ("outputs.pred", lambda m: m["network_data_format"]["outputs"].clear()),
        ("channel_def", lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=4)),
        ("../evil", lambda m: m["maesegment"]["files"].update({"../evil": "0" * 64})),
        ("models/model.pt", lambda m: m["maesegment"]["files"].pop("models/model.pt")),
    ],
)
def test_broken_metadata_is_refused_by_the_name_of_its_key(copy: Path, key: str, change: Any) -> None:
    rewrite(copy, change)
    with pytest.raises(BundleError) as caught:
        open_bundle(copy)
    assert key.split(".")[-1] in caught.value.message


@pytest.mark.parametrize("text", [b"", b"not json", b"[1, 2]", b"\xff\xfe", b"[" * 100_000])
def test_metadata_that_is_no_json_object_is_one_clear_error(copy: Path, text: bytes) -> None:
    (copy / "configs/metadata.json").write_bytes(text)
    with pytest.raises(BundleError, match="metadata"):
        open_bundle(copy)


def test_network_arguments_that_this_version_does_not_know_are_reported(copy: Path) -> None:
    rewrite(copy, lambda m: m["maesegment"]["network"].update(warp_drive=True))
    with pytest.raises(BundleError, match="warp_drive"):
        _ = open_bundle(copy).spec


def test_a_saved_version_is_never_replaced(saved: Bundle) -> None:
    before = saved.content_hash
    with pytest.raises(BundleError, match="exists already"):
        save_tiny(saved.path, seed=9)
    assert open_bundle(saved.path).content_hash == before


@pytest.mark.parametrize(("outputs", "said"), [(5, r"not saved.*do not fit"), (3, "NaN")])
def test_weights_of_another_network_or_with_nan_are_not_saved(tmp_path: Path, outputs: int, said: str) -> None:
    state = NnFormer(tiny_network_config(out_channels=outputs)).state_dict()
    if outputs == 3:
        next(iter(state.values())).view(-1)[0] = float("nan")
    with pytest.raises(WeightsError, match=said):
        save_bundle(tmp_path / "m", tiny_spec(), state, card="", licence_text="")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_beyond_half_precision_keeps_its_value(tmp_path: Path) -> None:
    state = NnFormer(tiny_network_config()).state_dict()
    key = next(key for key, tensor in state.items() if tensor.is_floating_point())
    state[key].view(-1)[0] = 1e6
    bundle = save_bundle(tmp_path / "m", tiny_spec(autoencoder=None), state, card="", licence_text="")
    assert bundle.load_network().state_dict()[key].view(-1)[0] == 1e6


def test_a_metric_without_a_value_becomes_null(tmp_path: Path) -> None:
    bundle = save_tiny(tmp_path / "m", tiny_spec(metrics={"hd95_mm": float("nan")}))
    assert bundle.metadata["maesegment"]["metrics"] == {"hd95_mm": None}


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match="could not be saved"):
            save_tiny(tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_tiny(tmp_path / "file" / "m")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_saved_model_is_readable_by_others_as_any_folder(saved: Bundle) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert saved.path.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("name", ["", "Hippocampus", "a/b", "..", "a..b", "-x", "x.", "con", "com1.mr", "a" * 65, "é"])
def test_a_name_that_could_not_be_a_folder_everywhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="model name"):
        tiny_spec(name=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1.0"}, "not a version"),
        ({"kind": "other"}, "neither"),
        ({"channels": ("T1", "T2")}, "channels"),
        ({"labels": LABELS[:1]}, "outputs"),
        ({"labels": (LABELS[0], Label(1, "other"))}, "share the value 1"),
        ({"labels": (LABELS[0], Label(2, "anterior"))}, "share the name anterior"),
        ({"labels": ()}, "has labels"),
        ({"network": None}, "network"),
        ({"parent": {"name": "x"}}, "parent"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny_spec(**changes)


def test_opening_what_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a model folder"):
        open_bundle(tmp_path / "missing")
    with pytest.raises(BundleError, match="not a MAESegment model"):
        open_bundle(tmp_path)
