"""Make the pictures of README.md that need data and trained weights, for one data set at one scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_image, read_reference
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.networks import MaskedAutoencoder
from MAESegmentLib.storage.atomic_file import write_file

from .cases import StudyCases
from .measuring import middle_roi, segmenter_of
from .pictures import reconstruction_picture, worst_cases, worst_cases_picture
from .pretraining import Pretrained, pretrain
from .report import reconstruction_name, worst_cases_name
from .scores import Cell, read_results
from .study import Plan, Run
from .training import Workplace, new_network, weights_file

PICTURED = 3
#: Arms beside the reference, and the number of labels they learnt from.
SHOWN = ("scratch", "scratch-equal", "mae")
SHOWN_LABELS = 4


def draw_pictures(plan: Plan, place: Workplace, folder: Path) -> list[Path]:
    """Reconstructions and worst cases of the test cases, written to `folder`; weights come from the work folder."""
    cases = StudyCases.load(plan, place.data, place.work / "cases" / "pictures")
    test = cases.measured("validation")
    arm = place.study.arm("mae")
    pretrained = pretrain(place.study, plan, arm, place.data, place.work, place.results)
    images = {
        reconstruction_name(plan): _reconstructions(plan, cases, test[:PICTURED], pretrained),
        worst_cases_name(plan): _worst(plan, place, cases, test),
    }
    for name, image in images.items():
        write_file(folder / name, image)
    return [folder / name for name in images]


def _reconstructions(plan: Plan, cases: StudyCases, test: tuple[Case, ...], pretrained: Pretrained) -> bytes:
    autoencoder = MaskedAutoencoder(replace(plan.autoencoder, encoder=replace(plan.network, drop_path=0.0)))
    autoencoder.load_state_dict(pretrained.weights)
    return reconstruction_picture(autoencoder.eval(), cases.prepare_images(test), plan.preprocessing.patch_size)


def _worst(plan: Plan, place: Workplace, cases: StudyCases, test: tuple[Case, ...]) -> bytes:
    """Label maps on the scans' grids, turned to canonical order for the picture."""
    cell = Cell(plan.scale, plan.dataset, str(SHOWN_LABELS))
    names = worst_cases(read_results(place.results), cell, SHOWN, PICTURED)
    if not names:
        raise DatasetError(f"No run of {plan.scale}/{plan.dataset} with {SHOWN_LABELS} labels has ended for every arm.")
    shown = [next(case for case in test if case.id == name) for name in names]
    grids = [plan.preprocessing.grid_for(read_image(case)) for case in shown]
    predictions = {}
    for name in SHOWN:
        arm = place.study.arm(name)
        path = weights_file(Run(plan.scale, plan.dataset, name, SHOWN_LABELS, 0), place)
        network = new_network(plan, arm, len(cases.labels.values) + 1, 0, None)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        segmenter = segmenter_of(network, cases.labels, plan.preprocessing, torch.device("cpu"), plan.overlap)
        maps = []
        for case, grid in zip(shown, grids, strict=True):
            volume = read_image(case)
            found = segmenter.predict(volume, roi=middle_roi(volume.grid, plan.middle_mm)).label_map
            maps.append(np.ascontiguousarray(grid.to_canonical(found.array)))
        predictions[arm.title] = maps
    images, references = [], []
    for case, grid in zip(shown, grids, strict=True):
        images.append(np.ascontiguousarray(grid.to_canonical(read_image(case).array)[0]))
        reference = read_reference(case, cases.dataset.labels, cases.dataset.ignore)
        references.append(np.ascontiguousarray(grid.to_canonical(reference.array)))
    return worst_cases_picture(
        images, references, predictions, names, [tuple(grid.canonical_spacing) for grid in grids]
    )
