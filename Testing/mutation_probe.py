"""Would a small mistake in central code be noticed by the unit tests of that code?

    python -m Testing.mutation_probe            every mutation
    python -m Testing.mutation_probe loss fold  those whose names hold one of the words

Each mutation changes one expression in a copy of the tracked files and runs the unit tests that belong to it; they
should fail. The same tests must pass without it. Ends with 1 if a mutation was missed or no longer fits the code: a
list that is not kept current proves nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import monai.losses
import monai.metrics  # noqa: F401
import nibabel  # noqa: F401
import pytest
import SimpleITK  # noqa: F401
import torch

from .children import fork, wait
from .skips import REPOSITORY

LIBRARY, TESTS = "MAESegmentLib", "Testing/unit"


@dataclass(frozen=True)
class Mutation:
    """`old` occurs once in `file` (below MAESegmentLib) and becomes `new`; `tests` (below Testing/unit) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def problem(self) -> str:
        """Why it cannot be applied; "" if it can."""
        path = REPOSITORY / LIBRARY / self.file
        if not path.is_file():
            return f"{self.file} is not there"
        count = path.read_text(encoding="utf-8").count(self.old)
        missing = [test for test in self.tests.split() if not (REPOSITORY / TESTS / test.partition("::")[0]).exists()]
        if missing:
            return f"no tests {', '.join(missing)}"
        return "" if count == 1 else f"{self.file} holds the old text {count} times"


MUTATIONS = (
    # Where voxels lie
    Mutation(
        "orientation: axes flipped the wrong way",
        "images/orientation.py",
        "flips.append(nearest[axis][1] != (letter",
        "flips.append(nearest[axis][1] == (letter",
        "images/test_orientation.py",
    ),
    Mutation(
        "orientation: the origin of a flipped axis is a voxel off",
        "images/orientation.py",
        "shape[old] - 1.0 if flip else 0.0",
        "shape[old] * 1.0 if flip else 0.0",
        "images/test_orientation.py",
    ),
    Mutation(
        "geometry: a crop moves in world axes",
        "images/volume.py",
        "moved: np.ndarray = ijk_to_ras @ shift",
        "moved: np.ndarray = shift @ ijk_to_ras",
        "images/test_grid.py",
    ),
    Mutation(
        "geometry: a region is not brought to voxels by the inverse",
        "images/roi.py",
        "to_ijk = np.linalg.inv(grid.ijk_to_ras)",
        "to_ijk = grid.ijk_to_ras",
        "images/test_grid.py test_inference_segmenter.py",
    ),
    Mutation(
        "geometry: NIfTI takes the sform where ITK takes the qform",
        "images/formats/nifti.py",
        'codes["sform"] != _SCANNER',
        'codes["sform"] == _SCANNER',
        "images/test_nifti.py",
    ),
    Mutation(
        "geometry: spacing in the reverse order",
        "preprocessing/grid.py",
        "extent / np.asarray(spacing, dtype=float)",
        "extent / np.asarray(spacing, dtype=float)[::-1]",
        "test_preprocessing_geometry.py",
    ),
    Mutation(
        "DICOM: the intercept is left out",
        "images/formats/dicom/rescale.py",
        "(stored * self.slope + self.intercept)",
        "(stored * self.slope)",
        "images/test_dicom_pixels.py images/test_dicom_series.py",
    ),
    Mutation(
        "DICOM: slices sorted from the far end",
        "images/formats/dicom/stack.py",
        'np.argsort(heights, kind="stable")',
        'np.argsort(-heights, kind="stable")',
        "images/test_dicom_series.py",
    ),
    # Segmenting
    Mutation(
        "windows: twice as wide a weight",
        "inference/windows.py",
        "(size / 8) ** 2",
        "(size / 4) ** 2",
        "test_inference_windows.py",
    ),
    Mutation(
        "windows: sums are not divided by the weights",
        "inference/windows.py",
        "yield row, sums.div_(weights)",
        "yield row, sums",
        "test_inference_windows.py",
    ),
    Mutation(
        "windows: a mirrored prediction is not mirrored back",
        "inference/windows.py",
        "scores = network(patches.flip(dims)).float().flip(dims)",
        "scores = network(patches.flip(dims)).float()",
        "test_inference_windows.py",
    ),
    Mutation(
        "restoring: half a voxel aside",
        "inference/restore.py",
        "(self._next_row + 0.5) * depth / depth_out - 0.5",
        "self._next_row * depth / depth_out",
        "test_inference_restore.py",
    ),
    Mutation(
        "restoring: only classes with a majority can win",
        "inference/restore.py",
        "(1 - 1e-4) / len(plane)",
        "0.5",
        "test_inference_restore.py",
    ),
    Mutation(
        "intensity: one percentile bound is not applied",
        "preprocessing/intensity.py",
        "np.clip(plane, lower, upper, out=plane)",
        "np.clip(plane, lower, None, out=plane)",
        "test_preprocessing_intensity.py",
    ),
    # Learning
    Mutation(
        "loss: ignored voxels count in Dice",
        "training/tasks/losses.py",
        "self.dice(scores.exp() * known, truth * known)",
        "self.dice(scores.exp(), truth)",
        "test_training_loop.py::test_ignored_voxels_do_not_change_the_loss",
    ),
    Mutation(
        "loss: cross-entropy averaged over ignored voxels too",
        "training/tasks/losses.py",
        "known.sum().clamp(min=1)",
        "known.numel()",
        "test_training_loop.py::test_ignored_voxels_do_not_change_the_loss",
    ),
    Mutation(
        "loss: a label that was not annotated is taken for background",
        "training/tasks/losses.py",
        "if unknown is not None and bool(unknown.any()):",
        "if False:",
        "test_training_partial.py::test_each_sample_of_a_batch_has_its_own_unknown_labels",
    ),
    Mutation(
        "labels: voxel values are taken for output channels",
        "training/data/labelling.py",
        "table[list(self.values)] = np.arange(1, len(self.values) + 1)",
        "table[list(self.values)] = list(self.values)",
        "test_training_partial.py::test_values_of_a_dataset_become_channels",
    ),
    Mutation(
        "labels: mirrored anatomy keeps its sides",
        "bundle/usage/sides.py",
        "order[one], order[other] = other, one",
        "order[one], order[other] = one, other",
        "test_training_sides.py::test_labels_with_a_side_stay_on_their_side",
    ),
    Mutation(
        "augmentation: labels are not moved with the image",
        "training/data/augment.py",
        "F.grid_sample(classes[None, None].float(), grid,",
        "F.grid_sample(classes[None, None].float(), grid.flip(1),",
        "test_training_data.py::test_image_and_classes_move_together",
    ),
    Mutation(
        "learning rate: layers decay from the wrong end",
        "training/loop/optimiser.py",
        'decay ** (stages - int(rest.split(".")[0]))',
        'decay ** (1 + int(rest.split(".")[0]))',
        "test_training_loop.py::test_deep_layers_learn_slowly_and_norms_biases_and_bias_tables_do_not_decay",
    ),
    Mutation(
        "resume: the optimiser begins anew",
        "training/loop/loop.py",
        '            self.optimiser.load_state_dict(state["optimiser"])\n',
        "",
        "test_training_loop.py::test_stopped_run_ends_with_the_weights_of_one_that_was_not",
    ),
    Mutation(
        "resume: the averaged weights begin anew",
        "training/loop/loop.py",
        'self.average.model.load_state_dict(state["average"])',
        "pass",
        "test_training_loop.py::test_stopped_run_ends_with_the_weights_of_one_that_was_not",
    ),
    Mutation(
        "resume: a run with other settings is resumed",
        "training/loop/checkpoint.py",
        'state.get("fingerprint") != fingerprint',
        'state.get("fingerprint") is None',
        "test_training_loop.py::test_run_folder_of_other_settings_is_refused",
    ),
    Mutation(
        "masked autoencoder: masked voxels are seen",
        "networks/mae.py",
        "visible = padded * (1 - expand_mask(mask, self.config.unit, size))",
        "visible = padded",
        "test_mae.py::test_masked_voxels_have_no_influence_on_the_prediction",
    ),
    Mutation(
        "masked autoencoder: the loss counts visible voxels",
        "networks/mae.py",
        "weight = voxel_mask * real",
        "weight = real",
        "test_mae.py::test_the_loss_is_the_mean_square_over_masked_real_voxels",
    ),
    # Cases, models, files
    Mutation(
        "hold-out: another scan of a held-out patient is learnt from",
        "training/data/holdout.py",
        "training = tuple(case for case in chosen if case.group not in held)",
        "training = tuple(case for case in chosen if case not in held_out)",
        "test_training_holdout.py",
    ),
    Mutation(
        "cases: the same scan is stored twice",
        "cases/store.py",
        "if hashes.among([other.image_hash]):",
        "if hashes.among([other.id]):",
        "cases/test_store.py::test_scan_that_is_there_already_is_refused_and_named",
    ),
    Mutation(
        "bundle: a changed file is opened",
        "bundle/folder.py",
        'if hashlib.sha256(data).hexdigest() != self.metadata["maesegment"]["files"].get(name):',
        'if name not in self.metadata["maesegment"]["files"]:',
        "test_bundle_folder.py::test_weights_changed_after_opening_are_not_loaded",
    ),
    Mutation(
        "files: a failed write leaves its temporary file",
        "storage/atomic_file.py",
        "    finally:\n        temporary.unlink(missing_ok=True)\n\n\ndef write_file",
        "\n\ndef write_file",
        "images/test_writing.py::test_disk_full_by_the_last_byte_leaves_the_old_file_and_nothing_else",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only mutations whose names hold one of these")
    parser.add_argument("--check", action="store_true", help="only tell which mutations no longer fit the code")
    arguments = parser.parse_args()
    chosen = [one for one in MUTATIONS if not arguments.words or any(word in one.name for word in arguments.words)]
    broken = {one.name: problem for one in chosen if (problem := one.problem())}
    for name, problem in broken.items():
        print(f"DOES NOT FIT  {name}: {problem}", flush=True)
    if arguments.check:
        return bool(broken)
    fitting = [one for one in chosen if one.name not in broken]
    with _copy() as copy:
        caught = sum(_is_caught(one, copy) for one in fitting)
    print(f"{caught} of {len(chosen)} mutations were caught by the matching unit tests.")
    return 0 if caught == len(chosen) else 1


@contextmanager
def _copy() -> Iterator[Path]:
    """The tracked files as they are now, in a folder of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "repository"
        for name in filter(None, listed.split("\0")):
            if (REPOSITORY / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, copy / name)
        yield copy


def _is_caught(mutation: Mutation, copy: Path) -> bool:
    if _fails(mutation.tests, copy) is not False:
        print(f"NOT TESTED    {mutation.name}: {mutation.tests} fail without it", flush=True)
        return False
    file = copy / LIBRARY / mutation.file
    before, started = file.read_text(encoding="utf-8"), time.perf_counter()
    file.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        failed = _run(mutation.tests, copy)
    finally:
        file.write_text(before, encoding="utf-8")
    word = {True: "caught", False: "MISSED", None: "NOT RUN"}[failed]
    print(f"{word:12}  {mutation.name} ({time.perf_counter() - started:.0f} s)", flush=True)
    return failed is True


@cache
def _fails(tests: str, copy: Path) -> bool | None:
    """Whether the tests fail on the unchanged copy."""
    return _run(tests, copy)


def _run(tests: str, copy: Path) -> bool | None:
    """Whether a test failed; None if they could not be run at all. In a fork, which has torch and MONAI already."""
    code = wait(fork(lambda: _pytest([f"{TESTS}/{test}" for test in tests.split()], copy)))
    return {0: False, 1: True}.get(code)


def _pytest(tests: list[str], copy: Path) -> None:
    """In the fork: ends with pytest's exit code."""
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silence, stream)
    os.chdir(copy)
    os.environ.update(PYTHONPATH=str(copy), OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("Testing", LIBRARY)]:
        del sys.modules[name]
    os._exit(pytest.main(["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    raise SystemExit(main())
