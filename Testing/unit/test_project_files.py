"""The files about the project say what pyproject.toml says, and a wheel says and holds what its users need."""

from __future__ import annotations

import email
import json
import re
import subprocess
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from MAESegmentLib.version import __version__
from Testing.documentation import REPOSITORY


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_every_python_that_is_promised_is_tested() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", text("pyproject.toml"))
    (matrix,) = re.findall(r"python: \[(.+)\]", text(".github/workflows/tests.yml"))
    assert re.findall(r"3\.\d+", matrix) == promised
    assert f"Python {promised[0]} to {promised[-1]}" in text("README.md")


def test_the_changelog_begins_with_this_version() -> None:
    (newest, *_) = re.findall(r"^## ([\d.]+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest == __version__


def test_the_hooks_are_what_make_lint_runs() -> None:
    lint = text("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    hooks = re.findall(r"entry: \.venv/bin/(\w+)", text(".pre-commit-config.yaml"))
    assert hooks == re.findall(r"\$\(BIN\)/(\w+)", lint)
    (types,) = re.findall(r"\$\(BIN\)/(mypy .+)", lint)
    assert f"entry: .venv/bin/{types}\n" in text(".pre-commit-config.yaml")


def test_make_alone_lists_its_targets_in_80_columns() -> None:
    makefile = text("Makefile")
    shown = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 80
    (targets,) = re.findall(r"^\.PHONY: help (.+)$", makefile, re.MULTILINE)
    assert sorted(re.findall(r"^make (\S+)", shown, re.MULTILINE)) == sorted(targets.split())
    assert "#" not in shown


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], Message]:
    """The names of its files, and its metadata."""
    from hatchling.build import build_wheel

    folder: Path = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        name = build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        files = set(archive.namelist())
        (metadata,) = (file for file in files if file.endswith(".dist-info/METADATA"))
        return files, email.message_from_string(archive.read(metadata).decode("utf-8"))


def test_a_wheel_names_its_makers_and_where_they_are(wheel: tuple[set[str], Message]) -> None:
    _, metadata = wheel
    assert metadata["Author"] == "MAESegment contributors"
    links = dict(text.split(", ", 1) for text in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= links.keys()
    assert links["Homepage"] == json.loads(text("MAESegment.json"))["scm_url"]
    assert f'"{links["Homepage"]}"' in text("CMakeLists.txt")


def test_a_wheel_carries_the_licences_of_code_and_weights(wheel: tuple[set[str], Message]) -> None:
    files, metadata = wheel
    models = sorted((REPOSITORY / "Resources" / "Models").glob("*/configs/metadata.json"))
    licences = {path.parts[-3]: json.loads(path.read_text("utf-8"))["maesegment"]["licence"] for path in models}
    assert len(licences) >= 2
    assert metadata["License-Expression"] == " AND ".join(sorted({"Apache-2.0", *licences.values()}))
    wanted = {"LICENSE", *(f"Resources/Models/{name}/LICENSE" for name in licences)}
    assert set(metadata.get_all("License-File", [])) == wanted
    assert {file.partition(".dist-info/licenses/")[2] for file in files} - {""} == wanted
    for name, licence in licences.items():
        assert f"`{name}` [{licence}](Resources/Models/{name}/LICENSE)" in text("README.md")


def test_a_wheel_holds_code_models_and_pages_and_nothing_else(wheel: tuple[set[str], Message]) -> None:
    files, _ = wheel
    inside = {name for name in files if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in inside} == {"MAESegmentLib"}
    library = (path for path in (REPOSITORY / "MAESegmentLib").rglob("*.py"))
    assert {path.relative_to(REPOSITORY).as_posix() for path in library} <= inside
    assert {"MAESegmentLib/py.typed", "MAESegmentLib/web/static/panel.js"} <= inside
    assert any(name.endswith("hippocampus-mr/models/model.pt") for name in inside)
    assert not [name for name in inside if "/." in name or name.endswith((".pyc", ".txt"))]


def test_the_readme_shows_its_pictures_and_links_on_an_index(wheel: tuple[set[str], Message]) -> None:
    _, metadata = wheel
    here, there = text("README.md"), str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", here)
    assert len(pictures) >= 2
    for picture in pictures:
        assert f"(https://raw.githubusercontent.com/MAESegment/MAESegment/main/{picture})" in there
    assert not [target for target in re.findall(r"\]\(([^)]+)\)", there) if not target.startswith("https://")]


def test_the_readme_explains_every_extra(wheel: tuple[set[str], Message]) -> None:
    _, metadata = wheel
    table = text("README.md").partition("## Install in Python")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(metadata.get_all("Provides-Extra", []))
