"""The house stands as planned: no import upwards, no circle, no room too large, no package where it is not due."""

from __future__ import annotations

from collections import defaultdict

import pytest

from Testing import house
from Testing.house import FLOOR_OF, FLOORS, INNER, MODULES, OUTER, REPOSITORY, ROOMS, Import, imports, room_of

#: Folders above the measure.
AGREED_SIZES = {
    "MAESegmentLib/cli": "a file a command, and what commands share; none of them needs another",
    "MAESegment/MAESegmentPlugin": "a file a section; Slicer's build lists them in one folder",
    "model_training/benchmarks": "a file a benchmark",
    "model_training/studies/data_efficiency": "one study with its networks, pretexts' runs, statistics and report",
}
#: First words of file names that two rooms below the doors have.
AGREED_NOUNS = {
    "archive": "a model as a zip, a folder of scans, and what of such a folder is pretrained on",
    "case": "a case, and the nodes that it is in a scene",
    "monai": "what MONAI reads of a bundle, and what it runs; the second name is in every bundle that ships",
    "records": "of a case, and of a run",
    "run": "a fine-tuning's folder, and what any training is given with its work",
    "settings": "of inference, and of training",
    "store": "of models, and of cases",
    "training": "a bundle's account of its own, and a run's share of it",
}
#: Parts of a room that never import each other: they run in different processes.
APART = [("MAESegmentLib.worker.client", "MAESegmentLib.worker.work")]


def test_every_room_has_a_floor_and_every_first_file_exists() -> None:
    assert {room_of(name) for name in MODULES} <= set(ROOMS), "give the room a floor in Testing/house.py"
    assert len(ROOMS) == sum(map(len, FLOORS))
    present = {room_of(name) for name in MODULES}
    assert [
        room.first for room in ROOMS.values() if room.name in present and not (REPOSITORY / room.first).is_file()
    ] == []


def test_no_import_goes_up() -> None:
    up = [one for one in INNER if FLOOR_OF[room_of(one.target)] > FLOOR_OF[room_of(one.source)]]
    assert list(map(str, up)) == []


def test_rooms_form_no_circle() -> None:
    assert house.circles(house.arrows()) == []


def test_files_form_no_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for one in INNER:
        graph[one.source].add(one.target)
    assert house.circles(graph) == []


def test_the_page_shows_the_house_as_it_is() -> None:
    page = house.PAGE.read_text(encoding="utf-8")
    assert house.drawn(page) == page, "run `python -m Testing.house`"


def test_parts_that_run_in_different_processes_stay_apart() -> None:
    both = [*APART, *((other, one) for one, other in APART)]
    crossing = [
        str(arrow)
        for arrow in INNER
        for one, other in both
        if arrow.source.startswith(f"{one}.") and arrow.target.startswith(f"{other}.")
    ]
    assert crossing == []


def test_no_file_needs_a_package_that_its_room_does_not() -> None:
    beyond = defaultdict(list)
    for one in OUTER:
        package = one.target.split(".")[0]
        if package not in ROOMS[room_of(one.source)].needs:
            beyond[MODULES[one.source].as_posix(), package].append(str(one))
    assert dict(beyond) == {}


def test_no_room_is_two_rooms() -> None:
    large = {
        folder
        for folder, (lines, files) in house.sizes().items()
        if lines > house.MOST_LINES or files > house.MOST_FILES
    }
    assert large == set(AGREED_SIZES)


def test_a_first_noun_below_the_doors_names_one_room() -> None:
    assert set(house.shared_nouns()) == set(AGREED_NOUNS)


CODE = """
from __future__ import annotations
import torch
from typing import TYPE_CHECKING
from . import volume
from ..errors import MAESegmentError
if TYPE_CHECKING:
    from ..web.page import Page
def late():
    from ..app import session as kept
    import numpy.linalg
"""


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("torch", 3),
        ("MAESegmentLib.images.volume", 5),
        ("MAESegmentLib.errors", 6),
        ("MAESegmentLib.web.page", 8),
        ("MAESegmentLib.app.session", 10),
        ("numpy.linalg", 11),
    ],
)
def test_every_kind_of_import_is_seen(tmp_path, target: str, line: int) -> None:
    file = tmp_path / "x.py"
    file.write_text(CODE)
    assert Import("MAESegmentLib.images.x", target, line) in list(imports("MAESegmentLib.images.x", file))


def test_an_arrow_back_makes_a_circle() -> None:
    chain = {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"c"}}
    assert house.circles(chain) == []
    assert house.circles({**chain, "c": {"a"}}) == [{"a", "b", "c"}]
