"""Every command and Python example of README, CONTRIBUTING and docs/ runs, or has a reason why it cannot here."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Sequence
from os.path import expandvars
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.cli.main import build_parser, main
from MAESegmentLib.images import write_label_map, write_volume
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from Testing.datasets import save, write_dataset
from Testing.dicom_series import SeriesRecipe
from Testing.documentation import PAGES, REASONS, REPOSITORY, Block, blocks, maesegment_words
from Testing.phantoms import Phantom, PhantomFactory

SHELL = [block for page in PAGES for block in blocks(page, "sh")]
PYTHON = [block for page in PAGES for block in blocks(page, "python")]
OTHERS = [
    path.relative_to(REPOSITORY).as_posix()
    for folder in ("model_training", "Resources", "Testing")
    for path in sorted((REPOSITORY / folder).rglob("*.md"))
]
#: A test has no time for the defaults, nobody to ask, and phantoms in place of a CT; the last word counts.
MORE_WORDS = {
    "segment planning_ct": ["--allow-mismatch"],
    "batch archive/": ["--allow-mismatch"],
    "models remove": ["--yes"],
    "finetune": ["--steps", "1", "--batch-size", "1", "--workers", "0"],
    "pretrain": ["--steps", "1", "--batch-size", "1", "--workers", "0", "--patch", "32,32,32"],
}
LABELS = {"background": 0, "anterior": 1, "posterior": 2}


@pytest.fixture
def home(tmp_path: Path, phantom: PhantomFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that holds the files the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODELS", "CASES", "RUNS"):
        monkeypatch.delenv(f"MAESEGMENT_{name}", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    small = phantom(noise=20.0)
    for name in ("planning_ct", "scan", "new_scans/a", "scans/a", "more_scans/b", "archive/2024/c"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(Path(f"{name}.nii.gz"), small.volume)
    write_volume(Path("head.nii.gz"), phantom(shape=(40, 40, 40), spacing=(3.0, 3.0, 3.0), noise=20.0).volume)
    write_label_map(Path("corrected.seg.nrrd"), small.label_map, [Label(1, "anterior"), Label(2, "posterior")])
    _draw(small)
    SeriesRecipe(np.random.default_rng(0).integers(0, 2000, (12, 24, 20))).write(Path("ct_series"))
    write_dataset(Path("my_cases"), 5, labels=LABELS)
    write_dataset(Path("my_test_cases"), 2, labels=LABELS)
    tissues = small.label_map
    save(Path("my_label_maps/a.nii.gz"), tissues.array, tissues.ijk_to_ras)
    for path in (write_dataset(Path("my_dataset"), 5, labels=LABELS) / "images").iterdir():
        image = nib.load(path)
        save(path, np.asarray(image.dataobj).clip(0).astype(np.int16) // 400, image.affine)


def _draw(scan: Phantom) -> None:
    """A result, the same with a slice corrected, and a structure on every second slice."""
    result, corrected, some = (scan.label_map.array.copy() for _ in range(3))
    middle = int(np.median(np.flatnonzero((result == 1).any(axis=(0, 1)))))
    corrected[..., middle][corrected[..., middle] == 1] = 0
    some[some != 1] = 0
    some[..., middle % 2 :: 2] = 0
    for name, array in (("result", result), ("corrected_slice", corrected), ("some_slices", some)):
        write_label_map(Path(f"{name}.seg.nrrd"), LabelMap(array, scan.label_map.ijk_to_ras), scan.labels)


def failure(block: Block, command: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Why a command of a page failed, or None."""
    words = maesegment_words(command)
    if words is None:
        return f"{block}: no test knows how to run {command[0]}"
    more = next((more for start, more in MORE_WORDS.items() if " ".join(words).startswith(start)), [])
    code = main([expandvars(word) for word in words] + more)
    said = capsys.readouterr().err
    return f"{block}: {' '.join(command)} ended with {code}: {said}" if code else None


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_every_command_of_the_pages_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """In one home: the model that docs/training.md makes is the one that docs/cli.md compares."""
    ordered = sorted(SHELL, key=lambda block: block.page.name != "training.md")
    run = [(block, command) for block in ordered if block.excuse is None for command in block.commands()]
    assert len(run) > 20
    failed = [said for block, command in run if (said := failure(block, command, capsys))]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("block", [block for block in SHELL if block.excuse], ids=str)
def test_what_is_not_run_has_a_reason_and_exists(block: Block) -> None:
    assert block.excuse in REASONS
    targets = re.findall(r"^(\w[\w-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for command in block.commands():
        program = Path(command[0]).name
        words = maesegment_words(command)
        if words is not None:
            assert build_parser(words[0]).parse_args(words).command == words[0]
        elif program == "make":
            assert command[1] in targets
        elif program == "python":
            assert command[1] == "-m"
            assert importlib.util.find_spec(command[2])
        elif program == "bash":
            assert (REPOSITORY / command[1]).is_file()
        else:
            assert program in ("cmake", "pip", "pytest")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("block", [block for block in PYTHON if block.excuse is None], ids=str)
def test_every_example_in_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})
    assert {path.name for path in Path().glob("*.seg.nrrd")} >= set(re.findall(r"[\w.]+\.seg\.nrrd", block.text))


def test_examples_in_python_that_are_not_run_have_a_reason() -> None:
    assert {block.excuse for block in PYTHON} <= {None, *REASONS}


@pytest.mark.parametrize("page", OTHERS, ids=str)
def test_commands_of_other_pages_exist(page: str) -> None:
    """Those of recipes and studies take hours: their words are parsed, their modules found."""
    text = (REPOSITORY / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^maesegment .+$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        assert build_parser(words[0]).parse_args(words).command == words[0]
    assert [name for name in re.findall(r"python -m ([\w.]+)", text) if not importlib.util.find_spec(name)] == []


@pytest.mark.parametrize("page", [*PAGES, *(REPOSITORY / page for page in OTHERS)], ids=str)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    files = [page.parent / target.partition("#")[0] if target[0] != "#" else page for target in targets]
    assert [str(file) for file in files if not file.exists()] == []
    missing = [
        target
        for file, target in zip(files, targets, strict=True)
        if "#" in target and target.partition("#")[2] not in anchors(file)
    ]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
