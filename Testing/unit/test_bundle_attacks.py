"""Models from strangers: nothing in them runs, takes memory or time, leaves its folder, or deceives a reader."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.bundle import Bundle, ModelStore, export_bundle, import_bundle, open_bundle
from MAESegmentLib.bundle.monai_config import inference_file
from MAESegmentLib.bundle.plain_text import name_problem, neutral, text_problem
from MAESegmentLib.bundle.spec import check_label_names
from MAESegmentLib.bundle.weights import read_state
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import BundleError, ConfigurationError, MAESegmentError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.networks import MaeConfig, NnFormerConfig
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.text import visible
from Testing.bundles import LABELS, autoencoder_spec, save_tiny, tiny_spec
from Testing.hostile_bundles import (
    Entries,
    entries_of,
    forged,
    pickled_differently,
    repacked,
    saved,
    write_folder,
    write_zip,
)

INFERENCE = "configs/inference.json"
WEIGHTS = "models/model.pt"
ESC = "\x1b[2J"
MIRRORED = "\u202egnp.exe"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("bundle") / "tiny-mr")


@pytest.fixture(scope="module")
def entries(bundle: Bundle) -> Entries:
    return entries_of(bundle)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """An empty store, which commands use, too; beside it are the models that ship with MAESegment."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return ModelStore()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that exists if anything of a model ran."""
    return tmp_path / "canary"


def assert_refused(path: Path, store: ModelStore, match: str | None = None) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        import_bundle(path, store)
    assert caught.value.hint
    assert len(str(caught.value)) < 1500
    assert not text_problem(str(caught.value))
    left = [file for file in store.user_folder.rglob("*") if file.is_file()] if store.user_folder.exists() else []
    assert left == []


def poisoned_configs(canary: Path) -> dict[str, bytes]:
    """Each makes `monai.bundle run` touch the canary, or something like it."""
    touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    configs: dict[str, Any] = {
        "expression": {"run": [f"${touch}"]},
        "target": {"x": {"_target_": "os.system", "command": f"touch {canary}"}, "run": ["$@x"]},
        "beside ours": {**json.loads(inference_file_of(tiny_spec())), "initialize": [f"${touch}"]},
        "no config": [],
    }
    return {name: json.dumps(config).encode() for name, config in configs.items()} | {"no JSON": b"\x00"}


def inference_file_of(spec: Any) -> bytes:
    own = {"kind": spec.kind, "channels": spec.channels, "inference": spec.inference}
    config = inference_file({"maesegment": own})
    assert config is not None
    return config


# What MONAI would evaluate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", poisoned_configs(Path()))
@pytest.mark.parametrize("as_folder", [False, True], ids=["zip", "folder"])
def test_the_config_that_came_with_a_model_is_replaced(
    entries: Entries, store: ModelStore, tmp_path: Path, canary: Path, kind: str, as_folder: bool
) -> None:
    bad = forged(entries, {INFERENCE: poisoned_configs(canary)[kind]})
    source = write_folder(tmp_path / "bad", bad) if as_folder else write_zip(tmp_path / "bad.zip", bad)
    notes: list[str] = []
    imported = import_bundle(source, store, report=notes.append)
    assert (imported.path / INFERENCE).read_bytes() == inference_file_of(tiny_spec())
    assert len(notes) == 1
    assert "replaced" in notes[0]
    assert import_bundle(source, store, report=notes.append).content_hash == imported.content_hash
    open_bundle(imported.path).load_network()
    assert main(["models", "verify"]) == 0
    assert not canary.exists()


def test_an_autoencoder_keeps_no_config_that_it_does_not_need(store: ModelStore, tmp_path: Path, canary: Path) -> None:
    mae = entries_of(save_tiny(tmp_path / "mae", autoencoder_spec()))
    bad = forged(mae, {INFERENCE: poisoned_configs(canary)["expression"]})
    imported = import_bundle(write_zip(tmp_path / "bad.zip", bad), store)
    assert not (imported.path / INFERENCE).exists()
    assert open_bundle(imported.path).load_autoencoder() is not None


def test_a_sound_model_keeps_its_hash_and_nothing_is_reported(
    bundle: Bundle, store: ModelStore, tmp_path: Path
) -> None:
    notes: list[str] = []
    imported = import_bundle(export_bundle(bundle, tmp_path / "m.zip"), store, report=notes.append)
    assert (imported.content_hash, notes) == (bundle.content_hash, [])


def test_verify_names_a_poisoned_model_that_was_imported_before_this_was_checked(
    entries: Entries, store: ModelStore, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = forged(entries, {INFERENCE: poisoned_configs(canary)["expression"]})
    folder = write_folder(store.folder_for("tiny-mr", "1.0.0"), bad)
    for command in (["models", "verify"], ["models", "verify", "tiny-mr"], ["models", "verify", str(folder)]):
        assert main(command) == 1
        out = capsys.readouterr().out
        assert "UNSAFE   tiny-mr" in out or f"UNSAFE   {folder}" in out
        assert "inference.json" in out
        assert "intact   tiny-mr" not in out
    with pytest.raises(BundleError, match=r"inference\.json"):
        export_bundle(open_bundle(folder), tmp_path / "out.zip")
    store.find("tiny-mr").load_network()
    assert not canary.exists()


def test_doctor_warns_of_a_poisoned_model(entries: Entries, store: ModelStore) -> None:
    from MAESegmentLib.cli.check_installation import check_models

    write_folder(store.folder_for("tiny-mr", "1.0.0"), forged(entries, {INFERENCE: b"{}"}))
    assert any("inference.json" in finding.fact for finding in check_models(store))


@pytest.mark.parametrize(
    "text",
    ["$import antigravity", "$1", "%/etc/hosts.json", "%", "see @####x", "see %##x", "@::::x"],
)
@pytest.mark.parametrize("where", ["description", "training", "metrics", "key"])
def test_metadata_that_monai_would_evaluate_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, text: str, where: str
) -> None:
    def change(metadata: Any) -> None:
        if where == "description":
            metadata["description"] = text
        elif where == "key":
            metadata["maesegment"]["training"][text] = 1
        else:
            metadata["maesegment"][where] = {"notes": [{"deep": text}]}

    assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, change=change)), store, "MONAI would evaluate")


@pytest.mark.parametrize("name", ["$print(1)", "@bundle", "%network", "@bundle#x", "a\nb", "x" * 201, ESC, MIRRORED])
def test_a_channel_or_label_name_cannot_reach_into_the_config(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    def channel(metadata: Any) -> None:
        metadata["maesegment"]["channels"] = [name]

    assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, change=channel)), store, "channels|characters|MONAI")
    with pytest.raises(ConfigurationError, match="channel name"):
        tiny_spec(channels=(name,))
    if not name.startswith("@"):
        with pytest.raises(ConfigurationError, match="label name"):
            tiny_spec(labels=(Label(1, name), LABELS[1]))


def test_notes_that_quote_anything_do_not_keep_a_training_from_being_saved(tmp_path: Path) -> None:
    notes = ["$left was dropped", "50 %## and @##", f"{ESC}{MIRRORED}\r\nend", "plain"]
    kept = save_tiny(tmp_path / "m", tiny_spec(training={"notes": notes})).metadata["maesegment"]["training"]["notes"]
    assert kept == [" $left was dropped", "50 % ## and @ ##", r"\x1b[2J\u202egnp.exe\r" "\nend", "plain"]
    assert [neutral(note) for note in kept] == kept


# Files that do not belong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "configs/logging.conf", "configs/inference.yaml", "configs/train.json", "configs/metadata.yaml",
        "scripts/__init__.py", "models/__init__.py", "monai.py", "models/model.ts", "docs/page.html", "docs/x.svg",
        "docs/sub/x.md", "docs/" + "x" * 120 + ".md", "docs/ﬁle.md", "LICENSE/x.md", "docs/con .md",
        "docs/con.md", "docs/NUL.tar.json", "docs/Lpt1.png", "docs/readme.md",
    ],
)  # fmt: skip
def test_a_file_that_is_no_part_of_a_model_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {**entries, name: b"x"}), store)
    assert_refused(write_zip(tmp_path / "b.zip", forged(entries, {name: b"x"})), store)
    if not name.startswith("LICENSE/"):  # which is a file
        with pytest.raises(BundleError):
            open_bundle(write_folder(tmp_path / "folder", forged(entries, {name: b"x"})))


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
@pytest.mark.parametrize("name", [WEIGHTS, "configs/metadata.json", "docs/README.md"])
def test_a_pipe_in_a_model_folder_is_refused_and_not_waited_for(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    folder = write_folder(tmp_path / "bad", entries)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert_refused(folder, store)


def test_a_pipe_in_the_place_of_a_zip_is_refused(store: ModelStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.zip")
    assert_refused(tmp_path / "model.zip", store, "no file")


# Zips ----------------------------------------------------------------------------------------------------------------


def test_a_zip_with_a_comment_could_hide_a_second_directory(
    entries: Entries, store: ModelStore, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "bad.zip", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(17)
    assert_refused(path, store, "no intact zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(18)  # a whole second end, of an empty zip
    assert_refused(path, store, "no exported model")


def test_a_directory_of_a_million_entries_is_not_read(store: ModelStore, tmp_path: Path) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + b"x"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 0, 0)
    (tmp_path / "bad.zip").write_bytes(directory + end)
    assert_refused(tmp_path / "bad.zip", store, "far too long")


def test_a_zip_in_a_zip_is_no_model(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", entries)
    assert_refused(write_zip(tmp_path / "bad.zip", {"model.zip": inner.read_bytes()}), store, "not part of a model")
    weights = forged(entries, {WEIGHTS: inner.read_bytes()})
    assert_refused(write_zip(tmp_path / "weights.zip", weights), store, "not a plain file of tensors")


def test_random_bytes_are_one_clear_error(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    for seed in range(20):
        noise = random.Random(seed).randbytes(2000)
        (tmp_path / "bad.zip").write_bytes(noise)
        assert_refused(tmp_path / "bad.zip", store, "no intact zip")
        bad = forged(entries, {WEIGHTS: noise})
        assert_refused(write_zip(tmp_path / "weights.zip", bad), store, "not a plain file of tensors")


# Numbers -------------------------------------------------------------------------------------------------------------

HUGE = 10**18


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network.depths", [10**9, 1]),
        ("network.depths", [1] * 10**5),
        ("network.embed_dim", HUGE),
        ("network.embed_dim", -8),
        ("network.embed_dim", 8.5),
        ("network.embed_dim", True),
        ("network.heads", [HUGE, 2]),
        ("network.decoder_depths", [HUGE]),
        ("network.windows", [[HUGE, 1, 1], [2, 2, 2]]),
        ("network.windows", [[128, 128, 128], [2, 2, 2]]),
        ("network.windows", "222"),
        ("network.embed_strides", [[0, 1, 1], [1, 1, 1]]),
        ("network.embed_strides", [[2, 2, 2]]),
        ("network.down_strides", [[2, 2, HUGE]]),
        ("network.out_channels", HUGE),
        ("network.mlp_ratio", 1e9),
        ("network.mlp_ratio", None),
        ("network.crop_size", [HUGE] * 3),
        ("network.crop_size", {"0": 1}),
        ("network", []),
        ("autoencoder.encoder", None),
        ("autoencoder.encoder.depths", [HUGE, 1]),
        ("autoencoder.unit", [HUGE, 8, 8]),
        ("autoencoder.decoder_dim", HUGE),
        ("autoencoder.decoder_depth", HUGE),
        ("preprocessing.patch_size", [10**6] * 3),
        ("preprocessing.patch_size", [1024, 1024, 1024]),
        ("preprocessing.patch_size", [16, 16]),
        ("preprocessing.patch_size", None),
        ("preprocessing.spacing", [1e-9, 1, 1]),
        ("preprocessing.spacing", [1e9, 1, 1]),
        ("preprocessing.spacing", [True, 1, 1]),
        ("preprocessing", {}),
        ("inference.overlap", 0.9999),
        ("inference.overlap", "0.5"),
        ("inference.mirroring", [7]),
        ("inference.mirror_axes", list(range(10**5))),
        ("channels", ["x"] * 10**5),
        ("labels", [{"value": n % 60000 + 1, "name": f"l{n}"} for n in range(3000)]),
        ("reconstruction_error", {"percentiles": {"99": "high"}}),
        ("metrics", {"validation": {"dice_after": ["x"]}}),
        ("metrics", {"validation": {"mean_dice_after": "[/red]"}}),
        ("training", {"n": 10**400}),
        ("training", {"n": float("nan")}),
        ("training", {"n": float("inf")}),
        ("training", {"text": "x" * 10**6}),
        ("training", {"x" * 10**4: 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(type(value).__name__),
)
def test_a_description_beyond_all_measure_is_refused_by_its_key(
    entries: Entries, store: ModelStore, tmp_path: Path, path: str, value: Any
) -> None:
    def change(metadata: Any) -> None:
        *parents, last = path.split(".")
        reduce(lambda inner, key: inner[key], parents, metadata["maesegment"])[last] = value

    assert_refused(
        write_zip(tmp_path / "bad.zip", forged(entries, change=change)),
        store,
        path.split(".")[0] + "|: (n|text) is|name",
    )


#: Wrong for any entry of a description.
WRONG: list[Any] = ["x", ["a"], {"a": None}, [[["a"]]], [None], float(2**60)]
FIELDS = [
    *(("network", field.name) for field in fields(NnFormerConfig)),
    *(("autoencoder", field.name) for field in fields(MaeConfig)),
    *(("autoencoder.encoder", field.name) for field in fields(NnFormerConfig)),
    *(("preprocessing", field.name) for field in fields(Preprocessing)),
    *(("preprocessing.intensity", field.name) for field in fields(IntensityRecipe)),
    *(("inference", name) for name in ("overlap", "mirroring")),
]


@pytest.mark.parametrize(("part", "name"), FIELDS)
@pytest.mark.parametrize("load", [True, False], ids=["torch", "no-torch"])
def test_every_entry_of_a_wrong_type_is_refused_on_import(
    entries: Entries, store: ModelStore, tmp_path: Path, part: str, name: str, load: bool
) -> None:
    for number, value in enumerate(WRONG):
        if value == "x" and name in ("orientation", "kind", "encoding") and not load:
            continue  # a text, whose meaning is known to the process with torch

        def change(metadata: Any, value: Any = value) -> None:
            reduce(lambda inner, key: inner[key], part.split("."), metadata["maesegment"])[name] = value

        bad = write_folder(tmp_path / str(number), forged(entries, change=change))
        with pytest.raises(BundleError, match=r"metadata\.json"):
            import_bundle(bad, store, load=load)


@pytest.mark.parametrize("depth", [20, 900, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"x": '])
def test_a_description_nested_too_deeply_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, depth: int, opening: str
) -> None:
    def change(metadata: Any) -> None:
        metadata["maesegment"]["training"] = {"notes": "DEEP"}

    bad = forged(entries, change=change)
    deep = opening * depth + "0" + {"[": "]"}.get(opening, "}") * depth
    bad["configs/metadata.json"] = bad["configs/metadata.json"].replace(b'"DEEP"', deep.encode())
    assert_refused(write_zip(tmp_path / "bad.zip", bad), store, "nested|JSON")


def test_a_network_that_needs_far_too_much_memory_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path
) -> None:
    """Each number is possible; together they are not."""

    def many_tokens(metadata: Any) -> None:
        own = metadata["maesegment"]
        own["preprocessing"]["patch_size"] = [256, 256, 256]
        own["network"]["embed_strides"] = [[1, 1, 1], [1, 1, 1]]
        own["network"]["embed_dim"] = 64

    def many_scores(metadata: Any) -> None:
        own = metadata["maesegment"]
        own["preprocessing"]["patch_size"] = [256, 256, 256]
        own["network"]["out_channels"] = 1000

    def one_window(metadata: Any) -> None:
        own = metadata["maesegment"]
        own["preprocessing"]["patch_size"] = [128, 128, 128]
        own["network"]["global_stages"] = [True, True]

    for change, match in ((many_tokens, "memory"), (many_scores, "memory"), (one_window, "global_stages")):
        assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, change=change)), store, match)


def test_a_description_larger_than_its_weights_is_refused_before_memory_is_taken(
    entries: Entries, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within all bounds it would have 40 billion weights; the file has a few thousand."""

    def change(metadata: Any) -> None:
        network = metadata["maesegment"]["network"]
        network["embed_dim"], network["depths"], network["decoder_depths"] = 4096, [64, 64], [64]

    made: list[torch.device] = []
    fill = torch.nn.init.trunc_normal_
    monkeypatch.setattr(
        torch.nn.init, "trunc_normal_", lambda tensor, **kwargs: made.append(tensor.device) or fill(tensor, **kwargs)
    )
    bad = forged(entries, change=change)
    assert_refused(write_zip(tmp_path / "bad.zip", bad), store, "do not fit")
    with pytest.raises(MAESegmentError, match="do not fit"):
        open_bundle(write_folder(tmp_path / "bad", bad)).load_network()
    assert {device.type for device in made} == {"meta"}


def test_published_networks_are_within_the_bounds() -> None:
    from MAESegmentLib.bundle.bounds import check_bounds
    from MAESegmentLib.bundle.metadata import build_metadata
    from MAESegmentLib.networks import NnFormerConfig
    from MAESegmentLib.preprocessing.intensity import IntensityRecipe
    from MAESegmentLib.preprocessing.plan import Preprocessing

    def refuse(key: str, problem: str) -> Exception:
        return AssertionError(f"{key} {problem}")

    for name in ("synapse", "acdc", "brats", "small"):
        config = NnFormerConfig.preset(name)
        spec = tiny_spec(
            network=config,
            autoencoder=None,
            channels=tuple(f"c{n}" for n in range(config.in_channels)),
            labels=tuple(Label(n, f"l{n}") for n in range(1, config.out_channels)),
            preprocessing=Preprocessing("RAS", (1.0, 1.0, 1.0), config.crop_size, IntensityRecipe("zscore")),
        )
        check_bounds(build_metadata(spec, {})["maesegment"], refuse)


def test_a_model_chooses_neither_the_device_nor_what_is_checked() -> None:
    from MAESegmentLib.inference import InferenceSettings

    stored = {
        "device": "cuda:7",
        "check_familiarity": False,
        "batch_size": 10**9,
        "precision": "fp16",
        "allow_cpu": False,
    }
    assert InferenceSettings.of_model(stored) == InferenceSettings()


# Weights -------------------------------------------------------------------------------------------------------------

NUMBERS = torch.arange(100, dtype=torch.float32)
BASE = NUMBERS.clone()


class _Bomb:
    """Asks for 100 GB by a call that `torch.load(weights_only=True)` allows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (10**11,)


def damaged_weights() -> dict[str, bytes]:
    plain = saved({"w": NUMBERS})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will go
        quantised = torch.quantize_per_tensor(NUMBERS, 0.1, 0, torch.qint8)
    nested: Any = ()
    for _ in range(200):
        nested = (nested,)
    return {
        "more elements than numbers": pickled_differently(plain, b"Kd", b"M\xe8\x03"),
        "huge storage offset": pickled_differently(plain, b"QK\x00", b"Q\x8a\x08" + b"\xff" * 7 + b"\x7f"),
        "negative offset": pickled_differently(plain, b"QK\x00", b"QJ\xff\xff\xff\xff"),
        "negative stride": pickled_differently(plain, b"\x85q\x08K\x01\x85", b"\x85q\x08J\xff\xff\xff\xff\x85"),
        "negative size": pickled_differently(plain, b"QK\x00Kd", b"QK\x00J\xff\xff\xff\xff"),
        "size of a string": pickled_differently(plain, b"QK\x00Kd", b"QK\x00X\x01\x00\x00\x00a"),
        "missing numbers": repacked(plain, lambda records: records.pop("archive/data/0")),
        "fewer numbers": repacked(plain, lambda records: records.update({"archive/data/0": bytes(8)})),
        "big-endian": repacked(plain, lambda records: records.update({"archive/byteorder": b"big"})),
        "numbers outside": repacked(plain, lambda records: records.update({"other/data/0": bytes(8)})),
        "no list": repacked(plain, lambda records: records.pop("archive/data.pkl")),
        "empty list": repacked(plain, lambda records: records.update({"archive/data.pkl": b""})),
        "huge list": repacked(plain, lambda records: records.update({"archive/data.pkl": b"N" * 5 * 2**20})),
        "endless memo": pickled_differently(plain, b"q\x08", b"j\xff\xff\xff\x7f"),
        "shared storage": saved({"w": BASE, "v": BASE}),
        "shared views": saved({"w": BASE[:50], "v": BASE[50:]}),
        "transposed": saved({"w": torch.zeros(3, 4).T}),
        "every second": saved({"w": BASE[::2]}),
        "expanded": saved({"w": torch.zeros(1).expand(10**12)}),
        "sparse": saved({"w": torch.zeros(4, 4).to_sparse()}),
        "quantised": saved({"w": quantised}),
        "meta": saved({"w": torch.empty(10**12, device="meta")}),
        "parameter": saved({"w": torch.nn.Parameter(NUMBERS)}),
        "complex": saved({"w": torch.zeros(3, dtype=torch.complex64)}),
        "memory bomb": saved({"w": NUMBERS, "x": _Bomb()}),
        "nested tuples": saved({"w": nested}),
        "legacy format": _legacy({"w": NUMBERS}),
    }


def _legacy(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*damaged_weights()])
def test_weights_with_a_trick_are_one_clear_error(kind: str) -> None:
    with pytest.raises(BundleError, match="not a plain file of tensors") as caught:
        read_state(damaged_weights()[kind], "m/models/model.pt")
    assert caught.value.hint


def test_weights_cut_anywhere_or_with_a_flipped_byte_never_crash() -> None:
    data = saved({f"w{n}": torch.full((10,), float(n)) for n in range(5)})
    for position in range(0, len(data), 7):
        for bad in (data[:position], data[:position] + bytes([data[position] ^ 0x24]) + data[position + 1 :]):
            try:
                state = read_state(bad, "m")
            except BundleError:
                continue
            # A byte that means nothing, e.g. a date.
            assert all(torch.equal(state[f"w{n}"], torch.full((10,), float(n))) for n in range(5))


def test_plain_weights_of_every_kind_are_read_as_torch_reads_them() -> None:
    state = {
        f"{dtype}": torch.arange(-3, 9).reshape(3, 4).to(dtype)
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
    } | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "one": torch.zeros(1, 1, 5)}
    read = read_state(saved(state), "m")
    for key, tensor in torch.load(io.BytesIO(saved(state)), weights_only=True).items():
        expected = tensor.float() if tensor.is_floating_point() else tensor
        assert torch.equal(read[key], expected)
        assert read[key].dtype == expected.dtype


def _changed_state(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Bundle], bytes]:
    def make(bundle: Bundle) -> bytes:
        state = {key: tensor.clone() for key, tensor in bundle.load_network().state_dict().items()}
        change(state)
        return saved(state)

    return make


KEY = "encoder.norms.0.weight"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (_changed_state(lambda s: s.update({KEY: s[KEY].long()})), "int64"),
        (_changed_state(lambda s: s.update({KEY: s[KEY] * float("nan")})), "NaN"),
        (_changed_state(lambda s: s.update({KEY: torch.zeros(0)})), r"is \(0,\)"),
        (_changed_state(lambda s: s.pop(KEY)), "missing"),
        (_changed_state(lambda s: s.update({ESC: torch.zeros(2)})), "not part"),
        (_changed_state(lambda s: s.update({"x" * 10**5: torch.zeros(2)})), "not part"),
        (_changed_state(lambda s: s.update({f"{n}": torch.zeros(2) for n in range(3000)})), "and 2997 more"),
        (_changed_state(lambda s: s.update({KEY: (s[KEY].double() * 1e300)})), "infinity"),
    ],
)
def test_weights_that_do_not_fit_are_one_clear_error(
    bundle: Bundle, entries: Entries, store: ModelStore, tmp_path: Path, make: Callable[[Bundle], bytes], match: str
) -> None:
    bad = forged(entries, {WEIGHTS: make(bundle)})
    assert_refused(write_zip(tmp_path / "bad.zip", bad), store, match)


# Texts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ESC, "\x9b2J", "a\x00b", MIRRORED, "\u2066x", "\ud800", "\u2028", "\U000e0041", "\r"])
@pytest.mark.parametrize("where", ["description", "licence", "label", "code", "training"])
def test_text_that_controls_whoever_shows_it_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, text: str, where: str
) -> None:
    def change(metadata: Any) -> None:
        own = metadata["maesegment"]
        if where == "label":
            own["labels"][0]["name"] = f"x{text}"
        elif where == "code":
            own["labels"][0]["terminology"]["type"]["meaning"] = f"x{text}"
        elif where == "training":
            own["training"] = {"notes": [f"x{text}"]}
        else:
            (metadata if where == "description" else own)[where] = f"x{text}"

    assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, change=change)), store, "characters")


@pytest.mark.parametrize("name", ["\u200b", " \u200d ", "\u2060\u00ad", "\u2800", "\u3164", "\ufe0f", "\u0301"])
def test_a_name_that_shows_nothing_is_refused(entries: Entries, store: ModelStore, tmp_path: Path, name: str) -> None:
    def change(metadata: Any) -> None:
        metadata["maesegment"]["labels"][0]["name"] = name

    assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, change=change)), store, "shows nothing")
    with pytest.raises(ConfigurationError, match="shows nothing"):
        check_label_names([name])


def test_names_in_any_script_are_plain_text() -> None:
    for name in (
        "海馬",
        "α",
        "Niño",
        "دماغ",
        "ढाँचा",
        "👩‍⚕️",
        "می\u200cخواهم",
        "क्\u200dष",
        "left (L) <5 mm> & more",
        "[/red]",
        "50 % of @home",
        "a$b",
    ):
        assert name_problem(name) == ""
        assert visible(name) == name


def test_markup_in_a_model_is_shown_and_not_obeyed(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    markup = "[/red][bold]x[/bold] <b onclick='x'>y</b> =cmd|'/c calc'!A1"
    labels = (Label(1, markup), LABELS[1])
    spec = tiny_spec(labels=labels, description=markup, licence=markup, modality=markup, training={"cases": [markup]})
    save_tiny(store.folder_for("tiny-mr", "1.0.0"), spec)
    for command in (["list"], ["show", "tiny-mr"]):
        assert main(["models", *command]) == 0
        out = "".join(capsys.readouterr().out.split())
        assert "[/red][bold]x[/bold]" in out


def test_a_card_is_shown_as_plain_text(
    entries: Entries, store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = f"# Card {ESC}\x9b {MIRRORED}\n\n\xff".encode("latin-1", errors="ignore") + b"\xff\xfe"
    bad = forged(entries, {"docs/README.md": card, "LICENSE": b"\xff\xfe\x1b[2J"})
    imported = import_bundle(write_zip(tmp_path / "m.zip", bad), store)
    assert not text_problem(imported.card)
    assert main(["models", "show", "tiny-mr", "--card"]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out
