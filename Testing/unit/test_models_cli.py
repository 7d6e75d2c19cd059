"""`maesegment models`, as a user types it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import ModelStore, export_bundle, open_bundle
from MAESegmentLib.bundle.weights_official import read_checkpoint
from MAESegmentLib.cli.evaluate import difference_table, pair
from MAESegmentLib.cli.main import main
from MAESegmentLib.cli.official_models import parse_intensity
from MAESegmentLib.errors import ConfigurationError, WeightsError
from MAESegmentLib.evaluation.cases import CaseResult, Evaluation
from MAESegmentLib.evaluation.metrics import Score, Status
from MAESegmentLib.networks import import_official
from Testing.bundles import autoencoder_spec, save_tiny, tiny_spec
from Testing.official_nnformer import REDUCED, state_dict
from Testing.phantoms import PhantomFactory

HELD_OUT = {
    "held_out": "4 named cases",
    "cases": 4,
    "indicative_only": True,
    "dice_before": {"anterior": 0.70, "posterior": 0.65},
    "dice_after": {"anterior": 0.8125, "posterior": 0.754},
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """Two versions of a segmentation model and an autoencoder among the user's models; works in `tmp_path`."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    store = ModelStore()
    first = save_tiny(store.folder_for("tiny-mr", "1.0.0"))
    child = tiny_spec(version="1.1.0", parent=first.reference, metrics={"validation": HELD_OUT})
    save_tiny(store.folder_for("tiny-mr", "1.1.0"), child, seed=1)
    save_tiny(store.folder_for("tiny-mae", "1.0.0"), autoencoder_spec())
    return store


@pytest.fixture
def exported(installed: ModelStore, tmp_path: Path) -> Path:
    return export_bundle(installed.find("tiny-mr@1.0.0"), tmp_path / "tiny.zip")


@pytest.mark.usefixtures("installed")
def test_list_shows_every_model_and_its_structures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert "anterior" in out
    assert [line.split()[:2] for line in out.splitlines() if line.strip().startswith("tiny")] == [
        ["tiny-mae", "1.0.0"],
        ["tiny-mr", "1.0.0"],
        ["tiny-mr", "1.1.0"],
    ]


def test_list_as_json_is_for_programs(installed: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    models = {(m["name"], m["version"]): m for m in json.loads(capsys.readouterr().out)}
    child = models["tiny-mr", "1.1.0"]
    assert child["parent"]["version"] == "1.0.0"
    assert child["hash"] == installed.find("tiny-mr").content_hash
    assert [label["name"] for label in child["labels"]] == ["anterior", "posterior"]
    assert child["shipped"] is False


def test_list_names_a_damaged_model_and_shows_the_others(
    installed: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (installed.folder_for("tiny-mae", "1.0.0") / "configs/metadata.json").write_text("{}")
    assert main(["models", "list"]) == 0
    captured = capsys.readouterr()
    assert "tiny-mr" in captured.out
    assert "not usable" in captured.err
    assert "tiny-mae" in captured.err


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny-mr"], ["tiny-mr 1.1.0", "0.812", "0.700", "n = 4", "more than an indication", "SCT 5366008", "Tests"]),
        (["tiny-mr"], ["tiny-mr@1.0.0"]),  # its parent
        (["tiny-mr@1.0.0"], ["No held-out cases", "tiny-mr@1.1.0"]),  # its child
        (["tiny-mr", "--json"], ['"kind": "segmentation"']),
        (["tiny-mr", "--card"], ["For tests."]),
    ],
)
def test_show_gives_what_a_user_decides_by(
    capsys: pytest.CaptureFixture[str], words: list[str], said: list[str]
) -> None:
    assert main(["models", "show", *words]) == 0
    out = capsys.readouterr().out
    assert [text for text in said if text not in out] == []


def test_verify_finds_the_damaged_one(installed: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out.count("intact   tiny-") == 3
    weights = installed.folder_for("tiny-mr", "1.0.0") / "models/model.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert main(["models", "verify"]) == 1
    out = capsys.readouterr().out
    assert out.count("intact   tiny-") == 2
    assert "DAMAGED  tiny-mr 1.0.0" in out
    assert main(["models", "verify", "tiny-mr@1.1.0", str(installed.folder_for("tiny-mae", "1.0.0"))]) == 0
    assert main(["models", "verify", str(weights.parents[1])]) == 1


def test_a_model_goes_out_and_comes_in_again(
    installed: ModelStore, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = installed.find("tiny-mr@1.0.0").content_hash
    shutil.rmtree(installed.folder_for("tiny-mr", "1.0.0"))
    assert main(["models", "import", str(exported)]) == 0
    out = capsys.readouterr().out
    assert "Imported tiny-mr 1.0.0" in out
    assert "tiny-mr still means version 1.1.0" in out
    assert "maesegment models use tiny-mr@1.0.0" in out
    assert installed.find("tiny-mr@1.0.0").content_hash == before
    assert main(["models", "import", str(exported)]) == 0
    assert "tiny-mr 1.0.0 is here already, the same; nothing was changed" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_export_names_the_zip_after_the_model(tmp_path: Path) -> None:
    assert main(["models", "export", "tiny-mr"]) == 0
    assert (tmp_path / "tiny-mr-1.1.0.zip").is_file()


@pytest.fixture
def dataset(tmp_path: Path, phantom: PhantomFactory) -> Path:
    """Two labelled cases with the structures of the tiny model."""
    folder = tmp_path / "data"
    for case, seed in (("a", 1), ("b", 2)):
        body = phantom(noise=20.0, seed=seed)
        for kind, array in (("images", body.volume.array[0]), ("labels", body.label_map.array)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, body.volume.ijk_to_ras), folder / kind / f"{case}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "anterior": 1, "posterior": 2}}))
    return folder


@pytest.mark.usefixtures("installed")
def test_compare_pairs_two_models_case_by_case(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["models", "compare", "tiny-mr@1.0.0", "tiny-mr@1.1.0", "--data", str(dataset), "--device", "cpu"]
    assert main([*command, "-o", str(tmp_path / "dice.csv")]) == 0
    out = capsys.readouterr().out
    assert "A = tiny-mr@1.0.0, B = tiny-mr@1.1.0" in out
    rows = (tmp_path / "dice.csv").read_text().splitlines()
    assert rows[0] == "case,label,dice_a,dice_b"
    assert [row.split(",")[:2] for row in rows[1:]] == [
        ["a", "anterior"], ["b", "anterior"], ["a", "posterior"], ["b", "posterior"],
    ]  # fmt: skip


def test_what_cannot_be_done_is_one_clear_error(
    installed: ModelStore, exported: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.write_bytes(exported.read_bytes()[:-100])
    shutil.copytree(dataset, tmp_path / "unlabelled", ignore=shutil.ignore_patterns("labels"))
    other = _official_checkpoint(tmp_path / "x.model", installed.find("tiny-mr").load_network().state_dict())
    official = ["--preset", "acdc", "-o", "out", "--spacing", "10", "1.5", "1.5", "--intensity", "zscore"]
    compare = ["compare", "tiny-mr@1.0.0", "--data"]
    for words, said in (
        (["show", "liver"], "no model called 'liver'"),
        (["show", "liver"], "tiny-mae, tiny-mr"),
        (["import", str(exported)], "tiny.zip is not an intact zip file"),
        ([*compare, str(dataset), "tiny-mae"], "tiny-mae"),
        ([*compare, str(tmp_path / "unlabelled"), "tiny-mr"], "reference labels"),
        (["import-official", str(other), *official], "nnFormer"),
    ):
        assert main(["models", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert said in error
        assert "Traceback" not in error
    assert not Path("out").exists()


def _evaluation(**dice: float | None) -> Evaluation:
    return Evaluation(
        {case: CaseResult((Score(case, "liver", Status.OK, value),), 0.0) for case, value in dice.items()}
    )


def test_only_cases_with_a_figure_of_both_models_are_paired() -> None:
    paired = pair(_evaluation(a=0.5, b=None, c=0.7), _evaluation(c=0.9, a=0.6, d=1.0))
    assert paired == {"liver": {"a": (0.5, 0.6), "c": (0.7, 0.9)}}


def test_the_comparison_gives_mean_difference_and_n(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    rows = pair(_evaluation(a=0.5, b=0.7), _evaluation(a=0.6, b=0.6))
    Console(width=120).print(difference_table(rows, "x", "y"))
    assert "liver 0.600 0.600 +0.000 ± 0.141 1 of 2 2" in " ".join(capsys.readouterr().out.split())


def _official_checkpoint(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """As the official training writes it: loss curves as numpy numbers beside the weights."""
    curves = ([np.float64(0.5), np.mean(np.zeros(3, np.float32))], [], [np.float64(1)], [])
    torch.save({"epoch": 3, "state_dict": state, "plot_stuff": curves, "best_stuff": (np.float64(0.1), None)}, path)
    return path


def test_the_weights_of_an_official_training_checkpoint_are_read(tmp_path: Path) -> None:
    weights = {"w": torch.arange(3.0)}
    assert torch.equal(read_checkpoint(_official_checkpoint(tmp_path / "model_best.model", weights))["w"], weights["w"])
    torch.save(weights, tmp_path / "weights.pt")
    assert torch.equal(read_checkpoint(tmp_path / "weights.pt")["w"], weights["w"])


class _Trainer:
    """Any class that is not tensors and numbers."""


class _Bomb:
    """Asks for 100 GB by a call that torch allows."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (10**11,)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"state_dict": {}, "trainer": _Trainer()}, "more than tensors"),
        ([1, 2], "no state_dict"),
        ({}, "no state_dict"),
        ({"state_dict": {"w": _Bomb()}}, "x.model"),
        ({"state_dict": {"w": 1}}, "plain tensors"),
        ({"state_dict": {1: torch.zeros(2)}}, "plain tensors"),
        ({"state_dict": {"w": torch.zeros(2, 2).to_sparse()}}, "plain tensors"),
        ({"state_dict": {"w": torch.empty(10**12, device="meta")}}, "plain tensors"),
    ],
)
def test_a_checkpoint_of_other_things_than_tensors_is_not_taken(tmp_path: Path, content: object, match: str) -> None:
    torch.save(content, tmp_path / "x.model")
    with pytest.raises(WeightsError, match=match) as caught:
        read_checkpoint(tmp_path / "x.model")
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_checkpoint_of_any_kind_is_a_clear_error(tmp_path: Path) -> None:
    path = _official_checkpoint(tmp_path / "x.model", {f"w{n}": torch.arange(20.0) for n in range(4)})
    data, drawn = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(drawn.choice((1, 1, 2, 4))):
            damaged[drawn.randrange(40, 900)] = drawn.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            read_checkpoint(path)


def test_a_file_that_is_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError):
        read_checkpoint(tmp_path / "x.model")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing.model")


def test_intensity_recipes_are_read_from_the_command_line() -> None:
    recipe = parse_intensity("ct:-958:325:82.9:136.5")
    assert (recipe.kind, recipe.lower, recipe.upper, recipe.mean, recipe.std) == ("ct", -958, 325, 82.9, 136.5)
    assert parse_intensity("zscore").kind == "zscore"


@pytest.mark.parametrize("text", ["", "ct", "ct:1:2:3", "ct:a:b:c:d", "zscore:1", "minmax"])
def test_a_wrong_intensity_recipe_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_intensity(text)
    assert "--intensity" in caught.value.hint


@pytest.mark.usefixtures("installed")
def test_an_official_checkpoint_becomes_a_model_with_the_same_function(tmp_path: Path) -> None:
    design = REDUCED["synapse"]
    weights = state_dict(design)
    checkpoint = _official_checkpoint(tmp_path / "model_best.model", weights)
    command = ["models", "import-official", str(checkpoint), "--preset", "synapse", "-o", str(tmp_path / "out")]
    command += ["--crop-size", *map(str, design.crop), "--spacing", "3", "0.8", "0.8"]
    assert main([*command, "--intensity", "ct:-958:325:82.9:136.5", "--labels", "spleen,liver"]) == 0

    bundle = open_bundle(tmp_path / "out")
    assert (bundle.name, [label.name for label in bundle.labels]) == ("nnformer-synapse", ["spleen", "liver"])
    assert bundle.spec.preprocessing.spacing == (3.0, 0.8, 0.8)
    image = torch.randn(1, design.channels, *design.crop, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = import_official(weights, "synapse", crop_size=design.crop)(image)
        # The bundle keeps half precision.
        torch.testing.assert_close(bundle.load_network()(image), expected, rtol=0.02, atol=0.02)
