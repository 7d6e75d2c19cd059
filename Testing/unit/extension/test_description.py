"""What the Extensions Manager and the Extensions Index say about MAESegment."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def description(extension) -> dict[str, str]:
    lines = (extension.installed / "share/Slicer-5.12/MAESegment.s4ext").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def in_repository(url: str, homepage: str) -> Path:
    """The file of this tree that a raw.githubusercontent.com URL of its main branch shows."""
    start = homepage.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    assert url.startswith(start)
    return REPOSITORY / url.removeprefix(start)


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n"), f"{path} is not a PNG"
    return struct.unpack(">II", data[16:24])


def test_description_is_one_sentence(description):
    text = description["description"]
    assert text.endswith(".")
    assert ". " not in text


def test_icon_is_128_pixels_square_and_also_the_modules_own(description):
    icon = in_repository(description["iconurl"], description["homepage"])
    assert png_size(icon) == (128, 128)
    assert (REPOSITORY / "MAESegment/Resources/Icons/MAESegment.png").read_bytes() == icon.read_bytes()


def test_screenshots_are_pictures_of_this_repository(description):
    for url in description["screenshoturls"].split():
        assert min(png_size(in_repository(url, description["homepage"]))) > 200


def test_index_entry_agrees_with_the_extension(description):
    entry = json.loads((REPOSITORY / "MAESegment.json").read_text())
    assert set(entry) == {
        "$schema", "build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_url", "tier"
    }  # fmt: skip
    assert entry["scm_url"] == description["homepage"]
    assert entry["build_dependencies"] == description["depends"].split()


def test_licence_lies_where_the_index_looks_for_it():
    assert (REPOSITORY / "LICENSE").read_text().strip().startswith("Apache License")
