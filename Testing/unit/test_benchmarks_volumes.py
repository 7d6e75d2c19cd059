"""Benchmarks of whole scans: the plain MONAI pipeline computes what the library does; tables are those of the CSV."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.images.reading import read_label_map
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.inference.segmenter import Segmenter
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from model_training.benchmarks.plain_monai import PlainPipeline
from model_training.benchmarks.report import PLOTS, RESULTS, TABLES, blocks
from model_training.benchmarks.stages import NETWORK, Stages
from model_training.tables import read_rows, replace_blocks
from Testing.phantoms import PhantomFactory

PREPROCESSING = Preprocessing(
    "RAS", (1.6, 1.4, 2.0), (8, 8, 8), IntensityRecipe("ct", lower=0.0, upper=1000.0, mean=300.0, std=200.0)
)


@pytest.mark.parametrize("make", ["las", "anisotropic"])
def test_both_pipelines_label_alike_on_the_same_input(make: str, phantom: PhantomFactory, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 4, 3, padding=1)
    volume = getattr(phantom, make)(noise=80.0).volume
    scan = write_volume(tmp_path / "scan.nii.gz", volume)
    settings = InferenceSettings(device="cpu", precision="fp32")
    ours = Segmenter(network, PREPROCESSING, range(4), settings).predict(volume).label_map
    pipeline = PlainPipeline(
        network, PREPROCESSING, resampling="same input", grid=PREPROCESSING.grid_for(volume).shape, overlap=0.5
    )
    pipeline.run(scan, tmp_path / "monai.nii.gz")
    theirs = read_label_map(tmp_path / "monai.nii.gz")
    assert theirs.grid.matches(ours.grid)
    assert len(np.unique(ours.array)) > 1
    assert np.mean(theirs.array != ours.array) < 1e-3
    assert set(pipeline.stages) == {"load", "prepare", NETWORK, "blend and restore", "write"}


def test_the_networks_time_is_no_part_of_the_stage_it_lies_in() -> None:
    class Slow(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            _work(0.2)
            return image

    stages = Stages()
    network = stages.timed(Slow())
    stages.start()
    network(torch.zeros(1))
    stages.lap("around")
    assert stages[NETWORK] >= 0.2
    assert stages["around"] < 0.1


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_tables_of_a_page_are_those_of_the_result_files(page: Path) -> None:
    before = page.read_text(encoding="utf-8")
    assert replace_blocks(before, blocks(page)) == before


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_drawn_from_the_result_files(name: str) -> None:
    assert PLOTS[name](read_rows(RESULTS / f"{name}.csv")).startswith(b"\x89PNG")


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
