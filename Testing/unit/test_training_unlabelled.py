"""Fine-tuning with scans that nobody labelled: what each method learns from them, and which scans are left out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from MAESegmentLib.bundle import Bundle, open_bundle
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import BundleError, Cancelled, ConfigurationError, DatasetError
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.data.prepared import IGNORED
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.checkpoint import CHECKPOINT
from MAESegmentLib.training.loop.distributed import seed_of
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings
from MAESegmentLib.training.tasks import mean_teacher, self_training
from MAESegmentLib.training.tasks.mean_teacher import MeanTeacher, agreement, merged
from MAESegmentLib.training.tasks.reconstruction import Reconstruction
from MAESegmentLib.training.tasks.self_training import SelfTraining
from MAESegmentLib.training.tasks.terms import Ramp, Volumes
from Testing.bundles import save_taught, save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import prepared_case, save, write_dataset
from Testing.phantoms import LABELS, PhantomFactory
from Testing.stopping import once_at

PATCH = (16, 16, 16)
CPU = torch.device("cpu")
METHODS = ("self_training", "mean_teacher", "masked")
SETTINGS = FineTuneSettings(
    steps=10, checkpoint_every=3, validate_every=10, log_every=1, device="cpu", precision="fp32", threads=1
)


def write_scan(path: Path, seed: int, *, noise: float = 20.0) -> Path:
    phantom = PhantomFactory()(shape=(27, 22, 18), noise=noise, seed=seed)  # another size than the cases
    save(path, phantom.volume.array[0], phantom.volume.ijk_to_ras)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> CaseDataset:
    return load_dataset(write_dataset(tmp_path / "data", 3))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for seed in (11, 12):
        write_scan(tmp_path / "scans" / f"scan_{seed}.nii.gz", seed)
    return tmp_path / "scans"


def value_of(loss: torch.Tensor) -> float:
    return float(loss.detach())


class Says(nn.Module):
    """A network that is sure of the class that its image names, or as sure as `by`."""

    def __init__(self, by: float = 50.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        classes = image[:, 0].round().clamp(0, 2).long()
        return self.by * nn.functional.one_hot(classes, 3).movedim(-1, 1).float()


# What each method adds to the loss ------------------------------------------------------------------------------------


def test_agreement_is_the_squared_difference_where_the_teacher_is_sure() -> None:
    aim = torch.tensor([[0.9, 0.6], [0.1, 0.4]]).reshape(1, 2, 1, 1, 2)  # sure of the first voxel alone
    chances = torch.tensor([[0.5, 0.0], [0.5, 1.0]]).reshape(1, 2, 1, 1, 2)
    assert float(agreement(chances, aim)) == pytest.approx(0.4**2 + 0.4**2)
    assert float(agreement(chances, torch.full_like(aim, 0.5))) == 0.0


def test_what_is_ignored_becomes_one_with_the_background() -> None:
    chances = torch.tensor([0.2, 0.3, 0.5]).reshape(1, 3, 1, 1, 1)
    assert merged(chances, [2]).flatten().tolist() == pytest.approx([0.7, 0.3])
    assert merged(chances, []) is chances


def test_by_time_the_weight_and_the_looks_follow_what_is_planned() -> None:
    """More steps fit into the time than the first ones told."""
    ramp = Ramp(replace(SETTINGS, unlabelled_ramp=0.4))
    ramp.planned = lambda step: 100 if step < 50 else 200
    assert [round(ramp.weight(step), 3) for step in (19, 29, 49, 59, 199)] == [0.0, 0.5, 1.0, 0.5, 1.0]
    assert [ramp.look(step) for step in (0, 9, 10, 49, 60, 199)] == [0, 0, 1, 4, 3, 9]


def test_volumes_that_no_case_comes_near_are_implausible() -> None:
    volumes = Volumes.of([prepared_case()], channels=3)  # 6 x 7 x 5 = 210 and 4 x 6 x 5 = 120 mm3
    assert volumes.implausible(np.array([0.0, 210.0, 120.0])) == ()
    assert volumes.implausible(np.array([0.0, 0.0, 241.0])) == (1, 2)
    assert volumes.implausible(np.array([0.0, 106.0, 59.0])) == (2,)
    absent = replace(prepared_case(), classes=np.zeros((20, 24, 18), np.uint8))
    assert Volumes.of([prepared_case(), absent], channels=3).implausible(np.zeros(3)) == ()
    unannotated = replace(prepared_case(), unknown=(2,))
    assert Volumes.of([unannotated], channels=3).implausible(np.array([0.0, 210.0, 120.0])) == (2,)


def scan_that_shows(**boxes: tuple[slice, slice, slice]):
    """A scan whose grey values are its classes."""
    image = np.zeros((1, 16, 16, 16), np.float32)
    for name, box in boxes.items():
        image[(0, *box)] = int(name[-1])
    return replace(prepared_case("scan", PATCH), image=image, classes=None, places=())


def plain(method: str) -> FineTuneSettings:
    return replace(
        SETTINGS, unlabelled_method=method, unlabelled_ramp=0.0, augmentation=Augmentation.none(), ema_decay=0.5
    )


def test_self_training_learns_what_the_teacher_is_sure_of() -> None:
    """One structure is as large as in the case, the other is missing: nothing is said of it."""
    scan = scan_that_shows(class1=(slice(0, 6), slice(0, 7), slice(0, 5)))
    term = SelfTraining([scan], [prepared_case()], Says(), 3, PATCH, plain("self_training"))
    term.begin(Says(), CPU)
    batch = next(term.batches(0, CPU))
    assert batch.classes is not None
    assert int((batch.classes == 1).sum()) == 2 * 210
    assert not (batch.classes == IGNORED).any()
    assert value_of(term.loss(Says(), batch, 0)) == pytest.approx(0.0, abs=1e-3)
    # A model that calls the background class 2 is not wrong, since it may be there; one that misses class 1 is.
    swapped = replace(batch, image=torch.where(batch.image == 0, 2.0, batch.image))
    assert value_of(term.loss(Says(), swapped, 0)) == pytest.approx(0.0, abs=1e-3)
    blind = replace(batch, image=torch.zeros_like(batch.image))
    assert value_of(term.loss(Says(), blind, 0)) > 1.0


def test_self_training_leaves_out_what_the_teacher_is_unsure_of_and_what_is_implausible() -> None:
    whole = scan_that_shows(class1=(slice(0, 16), slice(0, 16), slice(0, 16)))
    for teacher in (Says(), Says(by=1.0)):
        term = SelfTraining([whole], [prepared_case()], teacher, 3, PATCH, plain("self_training"))
        term.begin(teacher, CPU)
        batch = next(term.batches(0, CPU))
        assert batch.classes is not None
        assert bool((batch.classes == IGNORED).all())
        assert value_of(term.loss(Says(), batch, 0)) == pytest.approx(0.0, abs=1e-5)


def test_mean_teacher_compares_two_views_of_one_patch() -> None:
    scan = scan_that_shows(
        class1=(slice(0, 6), slice(0, 7), slice(0, 5)), class2=(slice(8, 12), slice(0, 6), slice(5, 10))
    )
    settings = replace(plain("mean_teacher"), augmentation=replace(Augmentation.none(), noise=1.0, flip_axes=(0, 1, 2)))
    term = MeanTeacher([scan], [prepared_case()], 3, PATCH, settings)
    term.begin(Says(), CPU)
    batch = next(term.batches(0, CPU))
    changed, as_it_is = batch.image.chunk(2, dim=1)
    assert set(as_it_is.round(decimals=3).abs().unique().tolist()) == {0.0, 1.0, 2.0}  # moved, not changed
    assert 0.0 < float((changed - as_it_is).abs().max()) < 1.0
    same = Batch(torch.cat([as_it_is, as_it_is], dim=1), None, batch.case_ids)
    assert value_of(term.loss(Says(), same, 0)) == pytest.approx(0.0, abs=1e-6)
    # The model sees nothing: off by 1 in two classes wherever one of the 330 voxels is.
    blind = Batch(torch.cat([torch.zeros_like(as_it_is), as_it_is], dim=1), None, batch.case_ids)
    assert value_of(term.loss(Says(), blind, 0)) == pytest.approx(2 * 330 / 16**3)


def test_mean_teacher_says_nothing_of_a_structure_that_it_does_not_find() -> None:
    scan = scan_that_shows(class1=(slice(0, 6), slice(0, 7), slice(0, 5)))
    term = MeanTeacher([scan], [prepared_case()], 3, PATCH, plain("mean_teacher"))
    term.begin(Says(), CPU)
    patch = torch.from_numpy(scan.image)[None]
    other = torch.where(patch == 0, 2.0, patch)
    assert value_of(term.loss(Says(), Batch(torch.cat([other, patch], dim=1), None, ("scan",)), 0)) == pytest.approx(
        0.0
    )


def test_mean_teacher_needs_a_moving_average() -> None:
    with pytest.raises(ConfigurationError, match="ema_decay is 0"):
        MeanTeacher([prepared_case()], [prepared_case()], 3, PATCH, replace(SETTINGS, ema_decay=0.0))


def test_reconstruction_is_the_autoencoders_loss_through_the_encoder_that_is_trained(base: Bundle) -> None:
    model, autoencoder = base.load_network(), base.load_autoencoder()
    assert autoencoder is not None
    term = Reconstruction([prepared_case()], model, autoencoder, PATCH, plain("masked"))
    batch = next(term.batches(0, CPU))
    loss = term.loss(model, batch, 4)
    loss.backward()
    assert all(p.grad is not None for p in model.encoder.stages.parameters())
    # By hand: the mean square over what the mask of this step hides.
    expected = base.load_autoencoder()
    assert expected is not None
    expected.encoder = model.encoder
    mask = expected.draw_mask(batch.image.shape, torch.Generator().manual_seed(seed_of(SETTINGS, 4, 1_000_003)))
    output = expected(batch.image, mask)
    hidden = output.mask.bool().expand_as(batch.image)
    if not expected.config.normalise_target:
        by_hand = (output.prediction - batch.image)[hidden].square().mean()
        torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(loss, output.loss)
    names = {id(p) for p in model.parameters()}
    assert not names & {id(p) for group in term.parameter_groups() for p in group["params"]}


def test_reconstruction_needs_an_autoencoder_of_the_same_encoder(base: Bundle) -> None:
    for autoencoder in (None, base.load_autoencoder()):
        other = NnFormer(replace(tiny_network_config(), embed_dim=16))
        with pytest.raises(BundleError, match="no masked autoencoder") as raised:
            Reconstruction([prepared_case()], other, autoencoder, PATCH, SETTINGS)
        assert "self_training" in raised.value.hint


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that was never trained, which is sure of nothing and finds nothing plausible, all counts."""
    for method in (self_training, mean_teacher):
        monkeypatch.setattr(method, "CONFIDENT", 0.0)
    monkeypatch.setattr(Volumes, "implausible", lambda *_: ())


@pytest.mark.usefixtures("believed")
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_with_the_same_weights(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path, method: str
) -> None:
    settings = replace(SETTINGS, unlabelled_method=method, ema_decay=0.9)
    how = {"validation": "none", "unlabelled": [scans]}
    whole = finetune(dataset, base, tmp_path / "whole", settings, **how)
    for stop_at in (5, 8):  # neither at a checkpoint nor where the teacher looks anew
        with pytest.raises(Cancelled):
            finetune(dataset, base, tmp_path / "parts", settings, context=RunContext(*once_at(stop_at)), **how)
    parts = finetune(dataset, base, tmp_path / "parts", settings, **how)
    without = finetune(dataset, base, tmp_path / "without", settings, validation="none")
    other = without.load_network().state_dict()
    differs = False
    for name, value in whole.load_network().state_dict().items():
        assert torch.equal(value, parts.load_network().state_dict()[name]), name
        differs |= not torch.equal(value, other[name])
    assert differs
    said = whole.spec.training["unlabelled"]
    assert (said["method"], len(said["images"]), said["left_out"]) == (method, 2, 0)
    assert "2 scans without labels" in whole.card
    assert "scan_11" not in json.dumps(dict(whole.metadata)) + whole.card
    assert "unlabelled" not in without.spec.training


@pytest.mark.usefixtures("believed")
def test_a_killed_run_repeats_its_steps_from_the_last_checkpoint(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path
) -> None:
    """A process that is killed saves nothing: the checkpoint lies some steps back, before the last look."""
    settings = replace(SETTINGS, steps=12, checkpoint_every=5, ema_decay=0.9)
    how = {"validation": "none", "unlabelled": [scans]}
    whole = finetune(dataset, base, tmp_path / "whole", settings, **how)
    kept = tmp_path / "kept.pt"

    def report(progress: Progress) -> None:
        file = tmp_path / "killed" / CHECKPOINT
        if progress.step == 8 and file.exists():
            shutil.copy(file, kept)

    with pytest.raises(Cancelled):
        finetune(dataset, base, tmp_path / "killed", settings, context=RunContext(report, lambda: kept.exists()), **how)
    shutil.copy(kept, tmp_path / "killed" / CHECKPOINT)
    assert torch.load(kept, weights_only=True)["step"] == 5
    killed = finetune(dataset, base, tmp_path / "killed", settings, **how)
    for name, value in whole.load_network().state_dict().items():
        assert torch.equal(value, killed.load_network().state_dict()[name]), name


@pytest.mark.usefixtures("believed")
def test_a_run_by_time_learns_from_the_scans_in_its_later_part(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many steps there will be is not known when it begins; stopped, it goes on from its checkpoint."""
    learnt: list[int] = []
    loss = SelfTraining.loss

    def noted(term: SelfTraining, model: nn.Module, batch: Batch, step: int) -> torch.Tensor:
        learnt.append(step)
        return loss(term, model, batch, step)

    monkeypatch.setattr(SelfTraining, "loss", noted)
    settings = FineTuneSettings(minutes=0.1, ema_decay=0.9, device="cpu", precision="fp32", threads=1)
    how = {"validation": "none", "unlabelled": [scans]}
    context = RunContext(should_cancel=lambda: len(learnt) >= 3)
    with pytest.raises(Cancelled):
        finetune(dataset, base, tmp_path / "run", settings, context=context, **how)
    assert learnt[0] > 0
    before = len(learnt)
    child = finetune(dataset, base, tmp_path / "run", settings, **how)
    assert len(learnt) > before
    assert learnt[-1] == child.spec.training["steps"] - 1


def test_scans_of_which_the_model_knows_nothing_change_nothing(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path
) -> None:
    """A model that was never trained finds no structure of a plausible size: the scans say nothing."""
    with_scans = finetune(dataset, base, tmp_path / "with", SETTINGS, validation="none", unlabelled=[scans])
    without = finetune(dataset, base, tmp_path / "without", SETTINGS, validation="none")
    for name, value in without.load_network().state_dict().items():
        torch.testing.assert_close(value, with_scans.load_network().state_dict()[name])


def test_a_run_with_other_scans_is_refused(base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path) -> None:
    out, how = tmp_path / "out", {"validation": "none"}
    with pytest.raises(Cancelled):
        finetune(dataset, base, out, SETTINGS, unlabelled=[scans], context=RunContext(*once_at(3)), **how)
    with pytest.raises(ConfigurationError, match=r"scan scan_11.nii.gz is no longer among those without labels"):
        finetune(dataset, base, out, SETTINGS, **how)
    more = write_scan(tmp_path / "scan_13.nii.gz", 13)
    with pytest.raises(ConfigurationError, match=r"scan scan_13.nii.gz is among those without labels now"):
        finetune(dataset, base, out, SETTINGS, unlabelled=[scans, more], **how)
    finetune(dataset, base, out, SETTINGS, unlabelled=[scans], **how)
    write_scan(scans / "scan_11.nii.gz", 14)
    with pytest.raises(ConfigurationError, match=r"scan scan_11.nii.gz was changed"):
        finetune(dataset, base, out, SETTINGS, unlabelled=[scans], **how)


def test_a_run_of_the_version_before_resumes(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    """Its data.json and its checkpoint know nothing of scans without labels."""
    out = tmp_path / "out"
    with pytest.raises(Cancelled):
        finetune(dataset, base, out, SETTINGS, validation="none", context=RunContext(*once_at(3)))
    record = json.loads((out / "data.json").read_text())
    del record["unlabelled"]
    (out / "data.json").write_text(json.dumps(record))
    state = torch.load(out / CHECKPOINT, weights_only=True)
    del state["task"]
    torch.save(state, out / CHECKPOINT)
    resumed = finetune(dataset, base, out, SETTINGS, validation="none")
    whole = finetune(dataset, base, tmp_path / "whole", SETTINGS, validation="none")
    for name, value in whole.load_network().state_dict().items():
        assert torch.equal(value, resumed.load_network().state_dict()[name]), name


def test_settings_of_unused_scans_change_no_run() -> None:
    assert SETTINGS.fingerprint() != replace(SETTINGS, unlabelled_weight=0.5).fingerprint()
    stored = {name: value for name, value in SETTINGS.to_dict().items() if not name.startswith("unlabelled")}
    assert FineTuneSettings.from_dict(stored).fingerprint() == SETTINGS.fingerprint()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unlabelled_method": "guessing"}, "one of self_training"),
        ({"unlabelled_weight": 0.0}, "above 0"),
        ({"unlabelled_ramp": 1.5}, "a fraction"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(change: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(SETTINGS, **change)


# Which scans ----------------------------------------------------------------------------------------------------------


def test_scans_that_cannot_be_used_are_named_and_left_out(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path
) -> None:
    (scans / "broken.nii.gz").write_bytes(b"no scan")
    shutil.copy(tmp_path / "data" / "images" / "case_0.nii.gz", scans / "learnt.nii.gz")
    shutil.copy(tmp_path / "data" / "images" / "case_2.nii.gz", scans / "validation.nii.gz")
    shutil.copy(scans / "scan_11.nii.gz", scans / "twin.nii.gz")
    image = nib.load(tmp_path / "data" / "images" / "case_1.nii.gz")
    rescaled = nib.Nifti1Image(np.asarray(image.dataobj, np.float64) * 2.5 + 7.0, image.affine)
    nib.save(nib.as_closest_canonical(rescaled).slicer[::-1], scans / "exported_again.nii.gz")
    shutil.copy(tmp_path / "data" / "labels" / "case_0.nii.gz", scans / "segmentation.nii.gz")
    save(scans / "blank.nii.gz", np.full((20, 20, 20), 7.0, np.float32), np.eye(4))
    save(scans / "channels.nii.gz", np.zeros((20, 20, 20, 2), np.float32), np.eye(4))
    said: list[str] = []
    context = RunContext(lambda progress: said.append(progress.message))
    child = finetune(
        dataset, base, tmp_path / "run", SETTINGS, validation="case_2", unlabelled=[scans], context=context
    )
    text = "\n".join(said)
    for expected in (
        "Warning: Left out: broken.nii.gz: ",
        "learnt.nii.gz: it is the image of case case_0.",
        "validation.nii.gz: it is the image of case case_2.",
        "exported_again.nii.gz: it is the image of case case_1, or nearly so.",
        "segmentation.nii.gz: It has 3 different values only, as a label map has.",
        "twin.nii.gz: it is the image of scan_11.nii.gz.",
        "Left out: blank.nii.gz: ",
        "Left out: channels.nii.gz: ",
        "2 scans without labels to learn from; 8 could not be used.",
    ):
        assert expected in text, text
    assert child.spec.training["unlabelled"]["left_out"] == 8
    assert len(child.spec.training["unlabelled"]["images"]) == 2
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert any("broken.nii.gz" in note for note in report["unlabelled_notes"])


def two_humps(seed: int) -> np.ndarray:
    """Grey values of another kind of scan."""
    rng = np.random.default_rng(seed)
    humps = rng.choice([-3000.0, 5000.0], (24, 24, 24)) + rng.normal(0.0, 50.0, (24, 24, 24))
    return np.asarray(humps, np.float32)


def test_scans_of_another_kind_are_left_out(dataset: CaseDataset, scans: Path, tmp_path: Path) -> None:
    known = [PhantomFactory()(shape=(20 + n % 3, 22, 18), noise=20.0, seed=n).volume for n in range(12)]
    taught = save_taught(tmp_path / "models", known, labels=LABELS)
    values = two_humps(0)
    save(scans / "other.nii.gz", values, np.eye(4))
    said: list[str] = []
    context = RunContext(lambda progress: said.append(progress.message))
    finetune(dataset, taught, tmp_path / "run", SETTINGS, validation="none", unlabelled=[scans], context=context)
    assert any("Left out: other.nii.gz: This scan is nothing like the MR scans" in text for text in said), said


def test_what_counts_is_the_cases_where_the_base_knows_another_kind(scans: Path, tmp_path: Path) -> None:
    """Its own rule would leave out every scan that is like the cases."""
    values = [two_humps(n) for n in range(3)]
    taught = save_taught(tmp_path / "models", [PhantomFactory()(noise=20.0, seed=n).volume for n in range(12)])
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[4:10, 4:10, 4:10] = 1
    for n in (0, 1):
        save(tmp_path / "other" / "images" / f"case_{n}.nii.gz", values[n], np.eye(4))
        save(tmp_path / "other" / "labels" / f"case_{n}.nii.gz", labels, np.eye(4))
    (tmp_path / "other" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lump": 1}}))
    save(scans / "like_the_cases.nii.gz", values[2], np.eye(4))
    said: list[str] = []
    context = RunContext(lambda progress: said.append(progress.message))
    other = load_dataset(tmp_path / "other")
    finetune(other, taught, tmp_path / "run", SETTINGS, validation="none", unlabelled=[scans], context=context)
    left_out = [text for text in said if "Left out" in text]
    assert sorted(text.split(": ")[2] for text in dict.fromkeys(left_out)) == ["scan_11.nii.gz", "scan_12.nii.gz"]


def test_without_one_usable_scan_it_says_so_before_training(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="None of the scans without labels can be used") as raised:
        finetune(dataset, base, tmp_path / "run", SETTINGS, unlabelled=[tmp_path / "data" / "images"])
    assert "case_0.nii.gz: it is the image of case case_0" in raised.value.message
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="There is no scan without labels in"):
        finetune(dataset, base, tmp_path / "run", SETTINGS, unlabelled=[tmp_path / "empty"])


def test_validation_cases_that_a_run_does_not_read_are_not_learnt_from_either(base: Bundle, tmp_path: Path) -> None:
    """What comes of the run will be measured on them: the folder of all images is given."""
    folder = write_dataset(tmp_path / "data", 4, splits={"pool": ["case_0", "case_1"], "validation": ["case_3"]})
    child = finetune(
        load_dataset(folder),
        base,
        tmp_path / "run",
        replace(SETTINGS, steps=1),
        split="pool",
        validation="none",
        unlabelled=[folder / "images"],
    )
    assert len(child.spec.training["unlabelled"]["images"]) == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "Left out: case_3.nii.gz: it is the image of validation case case_3." in report["unlabelled_notes"]


def test_a_step_in_parts_is_refused(base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one process"):
        finetune(dataset, base, tmp_path / "run", replace(SETTINGS, micro_batch=1), unlabelled=[scans])


def test_scans_beyond_the_budget_lie_on_disk_and_leave_no_files(
    base: Bundle, dataset: CaseDataset, scans: Path, tmp_path: Path
) -> None:
    how = {"validation": "none", "unlabelled": [scans]}
    slow = finetune(dataset, base, tmp_path / "disk", replace(SETTINGS, cache_gb=0.0), **how)
    fast = finetune(dataset, base, tmp_path / "memory", SETTINGS, **how)
    assert not (tmp_path / "disk" / "prepared").exists()
    for name, value in fast.load_network().state_dict().items():
        assert torch.equal(value, slow.load_network().state_dict()[name])


def test_a_base_without_autoencoder_refuses_to_reconstruct(dataset: CaseDataset, scans: Path, tmp_path: Path) -> None:
    lone = save_tiny(tmp_path / "lone", tiny_spec(labels=LABELS, autoencoder=None))
    masked = replace(SETTINGS, unlabelled_method="masked")
    with pytest.raises(BundleError, match="no masked autoencoder"):
        finetune(dataset, open_bundle(lone.path), tmp_path / "run", masked, validation="none", unlabelled=[scans])
