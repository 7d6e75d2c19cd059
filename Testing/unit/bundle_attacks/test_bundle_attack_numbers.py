"""A stranger's description is refused by its key, before it can take memory or time."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.bundle import ModelStore, import_bundle, open_bundle
from MAESegmentLib.errors import BundleError, MAESegmentError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.networks import MaeConfig, NnFormerConfig
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.bundles import tiny_spec
from Testing.hostile_bundles import (
    Entries,
    Refused,
    assert_refused,
    forged,
    write_folder,
    write_zip,
)

HUGE = 10**18
BOX: dict[str, Any] = {"structures": ["left hippocampus"], "side": "left"}
LOCATOR: dict[str, Any] = {"model": "brain-mr", "boxes": [BOX]}


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
        ("network.detail_channels", HUGE),
        ("network.detail_channels", -1),
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
        ("inference.mirroring", "sideways"),
        ("inference.mirror_axes", "shifted"),
        ("inference.sides", [1]),
        ("inference.sides", {"axis": 3, "pairs": [[1, 2]]}),
        ("inference.sides", {"axis": True, "pairs": [[1, 2]]}),
        ("inference.sides", {"axis": 0, "pairs": []}),
        ("inference.sides", {"axis": 0, "pairs": [[1, 1]]}),
        ("inference.sides", {"axis": 0, "pairs": [[1, 7]]}),
        ("inference.sides", {"axis": 0, "pairs": [[[1], 2]]}),
        ("inference.sides", {"axis": 0, "pairs": [[1, 2]] * 10**5}),
        ("inference.locator", "brain-mr"),
        ("inference.locator", LOCATOR | {"model": ""}),
        ("inference.locator", LOCATOR | {"model": ["brain-mr"]}),
        ("inference.locator", LOCATOR | {"boxes": []}),
        ("inference.locator", LOCATOR | {"boxes": [BOX, BOX]}),
        ("inference.locator", LOCATOR | {"boxes": [BOX | {"side": "up"}]}),
        ("inference.locator", LOCATOR | {"boxes": [BOX | {"structures": []}]}),
        ("inference.locator", LOCATOR | {"boxes": [BOX | {"structures": ["a\nb"]}]}),
        ("inference.locator", LOCATOR | {"margin_mm": -1}),
        ("inference.locator", LOCATOR | {"margin_mm": True}),
        ("inference.locator", LOCATOR | {"smallest_ml": "0"}),
        ("inference.locator", LOCATOR | {"naming": "hippocampus"}),
        ("inference.locator", LOCATOR | {"naming": "{side} {label}" + "x" * 200}),
        ("inference.cleaning", [1]),
        ("inference.cleaning", {"1": 5}),
        ("inference.cleaning", {"one": {}}),
        ("inference.cleaning", {"1": {"smallest_share": 1.5}}),
        ("inference.cleaning", {"1": {"smallest_mm3": -1}}),
        ("inference.cleaning", {"1": {"smallest_mm3": True}}),
        ("inference.cleaning", {"1": {"close_holes": "yes"}}),
        ("inference.cleaning", {"1": {"run": "rm"}}),
        ("inference.cleaning", {"1": {}, "01": {}}),
        ("inference.cleaning", {str(n): {} for n in range(10**5)}),
        ("inference.volumes", [1]),
        ("inference.volumes", {"1": {"smallest_ml": -1, "largest_ml": 2, "cases": 1}}),
        ("inference.volumes", {"1": {"smallest_ml": 1, "largest_ml": "2", "cases": 1}}),
        ("inference.volumes", {"1": {"smallest_ml": 1, "largest_ml": 2, "cases": 1.5}}),
        ("inference.volumes", {str(n): {"smallest_ml": 1, "largest_ml": 2, "cases": 1} for n in range(10**4)}),
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
def test_a_description_beyond_all_measure_is_refused_by_its_key(refused: Refused, path: str, value: Any) -> None:
    refused(path.split(".")[0] + "|: (n|text) is|name", change={f"maesegment.{path}": value})


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

        bad = write_folder(tmp_path / str(number), forged(entries, change={f"maesegment.{part}.{name}": value}))
        with pytest.raises(BundleError, match=r"metadata\.json"):
            import_bundle(bad, store, load=load)


@pytest.mark.parametrize("depth", [20, 900, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"x": '])
def test_a_description_nested_too_deeply_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, depth: int, opening: str
) -> None:
    bad = forged(entries, change={"maesegment.training": {"notes": "DEEP"}})
    deep = opening * depth + "0" + {"[": "]"}.get(opening, "}") * depth
    bad["configs/metadata.json"] = bad["configs/metadata.json"].replace(b'"DEEP"', deep.encode())
    assert_refused(write_zip(tmp_path / "bad.zip", bad), store, "nested|JSON")


def test_a_network_that_needs_far_too_much_memory_is_refused(refused: Refused) -> None:
    """Each number is possible; together they are not."""

    own = "maesegment."
    large = {own + "preprocessing.patch_size": [256, 256, 256]}
    many_tokens = {own + "network.embed_strides": [[1, 1, 1], [1, 1, 1]], own + "network.embed_dim": 64}
    refused("memory", change={**large, **many_tokens})
    refused("memory", change={**large, own + "network.out_channels": 1000})
    one_window = {own + "preprocessing.patch_size": [128, 128, 128], own + "network.global_stages": [True, True]}
    refused("global_stages", change=one_window)


def test_a_description_larger_than_its_weights_is_refused_before_memory_is_taken(
    entries: Entries, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within all bounds it would have 40 billion weights; the file has a few thousand."""

    sizes = {"embed_dim": 4096, "depths": [64, 64], "decoder_depths": [64]}
    made: list[torch.device] = []
    fill = torch.nn.init.trunc_normal_
    monkeypatch.setattr(
        torch.nn.init, "trunc_normal_", lambda tensor, **kwargs: made.append(tensor.device) or fill(tensor, **kwargs)
    )
    bad = forged(entries, change={f"maesegment.network.{key}": value for key, value in sizes.items()})
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
