"""What was not annotated is unknown: it is neither learnt as background nor counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceLoss

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.data.prepared import IGNORED
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings
from MAESegmentLib.training.tasks.losses import SegmentationLoss
from MAESegmentLib.training.tasks.segmentation import SegmentationTask, dice_table
from Testing.bundles import save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import LABELS, change, prepared_case, write_dataset

SHAPE = (4, 5, 6)
QUICK = FineTuneSettings(steps=2, validate_every=2, device="cpu", threads=1)


def logits(seed: int, batch: int = 2, channels: int = 4) -> torch.Tensor:
    return torch.randn(batch, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def classes(seed: int, highest: int, batch: int = 2) -> torch.Tensor:
    drawn = torch.randint(0, highest + 1, (batch, 1, *SHAPE), generator=torch.Generator().manual_seed(seed + 100))
    return drawn.long()


def marks(*rows: tuple[bool, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_with_everything_annotated_it_is_the_plain_loss() -> None:
    loss = SegmentationLoss()
    plain = loss(logits(1), classes(1, 3))
    nothing_unknown = loss(logits(1), classes(1, 3), torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(plain, nothing_unknown)
    entropy = F.cross_entropy(logits(1), classes(1, 3)[:, 0])
    dice = DiceLoss(include_background=False, batch=True)(
        logits(1).softmax(1), F.one_hot(classes(1, 3)[:, 0], 4).movedim(-1, 1).float()
    )
    assert plain.item() == pytest.approx((entropy + dice).item(), abs=1e-5)


@given(seed=st.integers(0, 1000), moved=st.floats(-4, 4))
def test_only_the_sum_of_background_and_what_is_unknown_matters(seed: int, moved: float) -> None:
    """Probability that goes from the background to an unknown label, or back, costs nothing."""
    before, truth = logits(seed).log_softmax(1), classes(seed, 2)
    share = torch.sigmoid(torch.tensor(moved))
    together = torch.logaddexp(before[:, 0], before[:, 3])
    after = before.clone()
    after[:, 0], after[:, 3] = together + share.log(), together + (1 - share).log()
    unknown = marks((False, False, False, True), (False, False, False, True))
    loss = SegmentationLoss()
    assert loss(after, truth, unknown).item() == pytest.approx(loss(before, truth, unknown).item(), abs=1e-4)


@given(seed=st.integers(0, 1000), moved=st.sampled_from([-4.0, 4.0]), kind=st.sampled_from(["none", "others"]))
def test_probability_that_goes_to_a_label_that_was_looked_for_costs(seed: int, moved: float, kind: str) -> None:
    """The same change as above, but with the label annotated in every sample: nearly all of it goes one way."""
    before, truth = logits(seed).log_softmax(1), classes(seed, 2)
    share = torch.sigmoid(torch.tensor(moved))
    together = torch.logaddexp(before[:, 0], before[:, 3])
    after = before.clone()
    after[:, 0], after[:, 3] = together + share.log(), together + (1 - share).log()
    truth[truth == 1] = 0
    unknown = None if kind == "none" else marks((False, True, False, False), (False, True, False, False))
    loss = SegmentationLoss()
    # Nothing in the truth is label 3: to the background is right, to label 3 is wrong.
    change = loss(after, truth, unknown).item() - loss(before, truth, unknown).item()
    assert change < -0.01 if moved > 0 else change > 0.01


def test_each_sample_of_a_batch_has_its_own_unknown_labels() -> None:
    scores = logits(3).requires_grad_()
    truth = torch.zeros(2, 1, *SHAPE, dtype=torch.long)
    SegmentationLoss()(scores, truth, marks((False, True, True, True), (False, False, False, False))).backward()
    assert scores.grad is not None
    # Where everything is unknown, nothing can be wrong; the other sample says background, which these scores are not.
    assert scores.grad[0].abs().max() < 1e-6
    assert scores.grad[1].abs().max() > 1e-6


def test_values_of_a_dataset_become_channels() -> None:
    plan = plan_labels({"liver": 7, "kidney": 3, "spleen": 9}, wanted=["liver", "kidney"])
    label_map = LabelMap(np.array([[[0, 3, 7, 9, 200]]], np.uint8), np.eye(4))
    assert plan.to_classes(label_map, ignore=200).array.tolist() == [[[0, 2, 1, 0, IGNORED]]]


def test_a_label_nobody_looked_for_is_not_unlearnt() -> None:
    """Trained on cases that lack one label, the network keeps finding it; taught that it is background, it stops."""
    case = prepared_case("full")
    lacking = replace(case, id="lacking", classes=np.where(case.classes == 2, 0, case.classes), places=case.places[:1])
    settings = FineTuneSettings(steps=150, learning_rate=3e-3, device="cpu", augmentation=Augmentation.none())
    learnt = train_on([case], settings)
    assert dice(learnt, case)["two"] > 0.6

    forgetful, faithful = clone(learnt), clone(learnt)
    less = replace(settings, steps=60, learning_rate=1e-3)
    go_on(forgetful, [lacking], less)
    go_on(faithful, [replace(lacking, unknown=(2,))], less)
    assert dice(forgetful, case)["two"] < 0.2
    assert dice(faithful, case)["two"] > 0.5


def test_a_label_that_was_not_annotated_has_no_dice() -> None:
    case = replace(prepared_case("case"), unknown=(2,))
    row = dice(NnFormer(tiny_network_config()), case)
    assert math.isnan(row["two"])
    assert not math.isnan(row["one"])


def test_voxels_nobody_annotated_have_no_part_in_dice() -> None:
    case = prepared_case("case")
    assert case.classes is not None
    outside = np.where(np.arange(case.shape[0])[:, None, None] >= 11, np.uint8(IGNORED), case.classes)
    row = dice(NnFormer(tiny_network_config()), replace(case, classes=outside))
    assert math.isnan(row["two"]) or row["two"] == 0.0  # class two lies in the part that was not annotated


def dataset_with(folder: Path, *, unknown: tuple[str, ...], remove: int | None = None) -> Path:
    """Phantom cases with a border that was not annotated and labels that nobody looked for."""
    write_dataset(folder)
    for n in range(3):
        path = folder / "labels" / f"case_{n}.nii.gz"

        def edit(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            array = array.astype(np.uint8)
            if remove is not None:
                array[array == remove] = 0
            array[:2] = 255
            return array, matrix

        change(path, edit)
    cases = [
        {"id": f"case_{n}", "image": f"images/case_{n}.nii.gz", "label": f"labels/case_{n}.nii.gz"} for n in range(3)
    ]
    for case in cases:
        case["unknown"] = list(unknown)  # type: ignore[assignment]
    (folder / "dataset.json").write_text(json.dumps({"labels": {**LABELS, "ignore": 255}, "cases": cases}))
    return folder


def test_partly_annotated_cases_can_be_fine_tuned_on(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", tiny_spec(labels=(Label(1, "front"), Label(2, "back"))))
    dataset = load_dataset(dataset_with(tmp_path / "data", unknown=("back",), remove=2))
    child = finetune(dataset, base, tmp_path / "run", QUICK, validation="case_2")
    assert [label.name for label in child.labels] == ["front", "back"]
    assert any("neither learnt nor checked: back" in note for note in child.spec.training["notes"])
    assert child.spec.metrics["validation"]["dice_after"]["back"] is None


def test_a_new_label_that_no_case_has_is_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")  # anterior, posterior
    dataset = load_dataset(dataset_with(tmp_path / "data", unknown=("back",), remove=2))
    with pytest.raises(DatasetError, match="No case has a voxel of back"):
        finetune(dataset, base, tmp_path / "run", QUICK, validation="none")


# ----------------------------------------------------------------------------------------------------------------------


def train_on(cases: list, settings: FineTuneSettings) -> NnFormer:
    torch.manual_seed(0)
    network = NnFormer(tiny_network_config())
    go_on(network, cases, settings)
    return network


def go_on(network: NnFormer, cases: list, settings: FineTuneSettings) -> None:
    task = SegmentationTask(network, cases, [], ("one", "two"), (16, 16, 16), settings)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    network.train()
    for step, batch in enumerate(task.batches(0, torch.device("cpu"))):
        optimiser.zero_grad()
        task.loss(network, batch, step).backward()
        optimiser.step()


def clone(network: NnFormer) -> NnFormer:
    copy = NnFormer(tiny_network_config())
    copy.load_state_dict(network.state_dict())
    return copy


def dice(network: NnFormer, case) -> dict[str, float]:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return dice_table(network.eval(), [case], ("one", "two"), (16, 16, 16), torch.device("cpu"))[case.id]
