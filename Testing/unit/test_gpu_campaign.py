"""What the GPU campaign keeps, packs and hands to the pages; `end_to_end/test_gpu_campaign.py` rehearses all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.cases.dataset import load_dataset
from model_training.gpu_campaign import outcome
from model_training.gpu_campaign.blocks import PROBLEM, Blocks
from model_training.gpu_campaign.pack import pack
from Testing.datasets import write_dataset


def test_a_block_that_failed_is_tried_again_and_one_that_is_done_is_not(tmp_path: Path) -> None:
    file = tmp_path / "part.json"
    calls: list[str] = []

    def work(name: str, found: dict[str, Any]) -> Any:
        return lambda: calls.append(name) or found

    def fail() -> dict[str, Any]:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    blocks = Blocks(file)
    blocks.begin()
    blocks.do("good", work("good", {"x": 1}))
    blocks.do("bad", fail)
    blocks.do("odd", work("odd", {PROBLEM: "1 failed"}))
    blocks.end("", 2.0)
    assert Blocks(file).status == "failed"
    assert "monai is not installed" in Blocks(file).failed["bad"]

    blocks = Blocks(file)
    blocks.begin()
    for name in ("good", "bad", "odd"):
        blocks.do(name, work(name, {"x": 2}))
    blocks.end("", 3.0)
    assert calls == ["good", "odd", "bad", "odd"]
    assert Blocks(file).is_done
    assert Blocks(file).state()["seconds"] == 5.0


def test_packing_takes_cases_of_the_pool_alone_and_no_more_than_fit(tmp_path: Path) -> None:
    splits = {"pool": ["case_2", "case_0"], "validation": ["case_1"]}
    for name in ("hippocampus_mr", "headneck_ct"):
        write_dataset(tmp_path / "data" / name, 3, splits=splits)
    (tmp_path / "clone" / "nnformer" / "network_architecture").mkdir(parents=True)
    needed = {"headneck_ct": ["case_0"], "hippocampus_mr": []}
    told = pack(tmp_path / "data", tmp_path / "clone", tmp_path / "files", 30.0, needed)
    packed = load_dataset(tmp_path / "files" / "data" / "headneck_ct")
    assert [case.id for case in packed.select("pool")] == ["case_2", "case_0"]
    assert {case.id for case in packed.cases} == {"case_0", "case_2"}
    assert "2 of 2 cases of headneck_ct" in told
    one = sum(path.stat().st_size for path in load_dataset(tmp_path / "data" / "headneck_ct").cases[0].files) / 2**20
    assert "1 of 2 cases of headneck_ct" in pack(tmp_path / "data", None, tmp_path / "less", 3.0 * one, needed)


def test_measured_rows_reach_the_result_files_and_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = {"device": "cuda", "threads": 16, "case": "tumor64", "mode": "forward", "precision": "bf16"}
    row = {**fixed, "contender": "ours", "skipped": "", "crop": "64x64x64", "batch": 2, "load": "0.1", "machine": "H"}
    row |= {"median_s": "0.010", "q1_s": "0.009", "q3_s": "0.011", "rounds": "9"}
    block = {"status": "done", "seconds": 3.0, "note": "", "failed": {}, "title": "t"}
    results = {
        "device": "cuda",
        "rehearsal": False,
        "parts": {
            "machine": block | {"blocks": {"cuda": {"device": "NVIDIA H200"}}},
            "network": block | {"blocks": {"tumor64": {"rows": {"network": [row | {"median_s": "9"}]}}}},
            "compiled": block | {"blocks": {"tumor64": {"rows": {"network": [row]}}}},
        },
    }
    recorded: dict[str, Any] = {}
    monkeypatch.setattr(outcome, "record", lambda name, rows, _block: recorded.update({name: rows}))
    monkeypatch.setattr(outcome, "PAGE", tmp_path / "README.md")
    outcome.adopt(results)
    assert [one["median_s"] for one in recorded["network"]] == ["0.010"]  # the later of two that measured the same
    page = (tmp_path / "README.md").read_text()
    assert "Measured on one NVIDIA H200." in page
    assert "0.010 (0.009 - 0.011)" in page
