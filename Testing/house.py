"""The plan of the house: the rooms, floor by floor, what each holds, and what it may import.

`python -m Testing.house` writes the picture and the table of rooms into docs/architecture.md, and prints what is large
or ambiguously named. `Testing/unit/test_house.py` holds the code to the plan.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_training.tables import replace_blocks, table

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
LIBRARY = "MAESegmentLib"
MODULE = "MAESegment"
STUDIES = "model_training"
#: Each folder of packages, and what Python calls the modules in it.
TREES = {LIBRARY: f"{LIBRARY}.", MODULE: "", STUDIES: f"{STUDIES}."}

#: A room with more than this is two rooms.
MOST_LINES = 3000
MOST_FILES = 20


@dataclass(frozen=True)
class Room:
    """A folder or a file of the library, or one of the two packages beside it."""

    name: str
    #: The file to open first, below the repository.
    first: str
    #: Packages, neither Python's own nor ours, that its files may import.
    needs: frozenset[str] = frozenset()


def _room(name: str, first: str = "", needs: str = "") -> Room:
    """`first` is inside the room; a room without one is a file."""
    place = name if name in (MODULE, STUDIES) else LIBRARY if name == LIBRARY else f"{LIBRARY}/{name}"
    return Room(name, f"{place}/{first}" if first else f"{place}.py", frozenset(needs.split()))


#: Lowest first. A room imports from its own floor or from below, never from above.
FLOORS: tuple[tuple[Room, ...], ...] = (
    (
        _room("errors"),
        _room("text"),
        _room("values"),
        _room("lazy"),
        _room("version"),
        _room("torchrun"),
        _room("translation", needs="slicer"),
    ),
    (
        _room("storage", "atomic_file.py", "platformdirs"),
        _room("processes", "environment.py", "psutil"),
        _room("jobs", "runner.py"),
    ),
    (_room("images", "volume.py", "numpy psutil nibabel nrrd pydicom highdicom SimpleITK"),),
    (
        _room("samples", needs="numpy"),
        _room("device", needs="torch"),
        _room("arrays", needs="numpy torch"),
        _room("networks", "nnformer.py", "numpy torch"),
    ),
    (_room("preprocessing", "plan.py", "numpy torch"),),
    (_room("bundle", "folder.py", "numpy torch platformdirs"),),
    (_room("inference", "predictor.py", "numpy torch openvino monai matplotlib"), _room("cases", "store.py", "numpy")),
    (
        _room("evaluation", "metrics.py", "numpy torch monai rich"),
        _room("training", "finetune.py", "numpy scipy torch matplotlib tomli"),
        _room("propagation", "update.py", "numpy scipy torch"),
    ),
    (_room("runs", "run_folder.py", "numpy psutil torch"),),
    (_room("worker", "protocol.py", "numpy psutil torch"),),
    (_room("console", "console.py", "numpy"), _room("mrml", "volumes.py", "numpy slicer vtk")),
    (_room("app", "processing.py", "numpy"), _room(LIBRARY, "__init__.py")),
    (
        _room("web", "application.py", "numpy slicer vtk aiohttp trame trame_slicer markdown_it"),
        _room(MODULE, "MAESegment.py", "numpy qt ctk slicer vtk SampleData"),
    ),
    (_room("cli", "main.py", "numpy torch psutil rich"),),
    (
        _room(
            STUDIES,
            "README.md",
            "numpy torch monai scipy matplotlib nibabel psutil SimpleITK rich tomli einops nnunetv2 selenium pytest "
            "Testing",
        ),
    ),
)

ROOMS: dict[str, Room] = {room.name: room for floor in FLOORS for room in floor}
FLOOR_OF: dict[str, int] = {room.name: number for number, floor in enumerate(FLOORS) for room in floor}


#: Where a user comes in, and what is above.
DOORS = {"app", "web", MODULE, "cli", LIBRARY, STUDIES}


@dataclass(frozen=True)
class Import:
    """One file imports another, or a package."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{MODULES.get(self.source, self.source)}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """Every module of the three trees by its name, with its path below the repository."""
    found: dict[str, Path] = {}
    for tree, prefix in TREES.items():
        for path in sorted((REPOSITORY / tree).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / tree).with_suffix("").parts
            name = prefix + ".".join(parts)
            found[name.removesuffix(".__init__")] = path.relative_to(REPOSITORY)
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """The room that a module belongs to."""
    parts = module.split(".")
    if parts[0] == LIBRARY:
        return parts[1] if len(parts) > 1 else LIBRARY
    return STUDIES if parts[0] == STUDIES else MODULE


def imports(name: str, path: Path, known: Mapping[str, Path] = MODULES) -> Iterator[Import]:
    """What a file imports: anywhere in it, also inside functions and for type checking."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                target = f"{base}.{alias.name}"
                yield Import(name, target if target in known else base, node.lineno)


IMPORTS: tuple[Import, ...] = tuple(one for name, path in MODULES.items() for one in imports(name, path))
#: Those between two of our files.
INNER = tuple(one for one in IMPORTS if one.target in MODULES and one.target != one.source)
#: Those of packages that are neither ours nor Python's own.
OUTER = tuple(
    one for one in IMPORTS if one.target not in MODULES and one.target.split(".")[0] not in sys.stdlib_module_names
)


def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {room_of(name): set() for name in MODULES}
    for one in INNER:
        if room_of(one.source) != room_of(one.target):
            found[room_of(one.source)].add(room_of(one.target))
    return found


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Every group of two or more nodes that reach each other."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in graph}
    return [set(group) for group in groups if len(group) > 1]


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for node in graph.get(waiting.pop(), ()):
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return seen


def sizes() -> dict[str, tuple[int, int]]:
    """Lines and files of each folder, without those of the folders in it."""
    found: dict[str, list[int]] = defaultdict(list)
    for path in MODULES.values():
        found[path.parent.as_posix()].append(len((REPOSITORY / path).read_text(encoding="utf-8").splitlines()))
    return {folder: (sum(lines), len(lines)) for folder, lines in found.items()}


def shared_nouns() -> dict[str, list[str]]:
    """First words of file names that stand in more than one room, with the files.

    The doors and what stands above them (`DOORS`) are left out: a feature has a file of its name in each.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in MODULES.items():
        if room_of(name) not in DOORS and not path.stem.startswith("__"):
            found[path.stem.split("_")[0]].append(path)
    return {
        noun: [path.as_posix() for path in paths]
        for noun, paths in sorted(found.items())
        if len({path.parts[1] for path in paths}) > 1
    }


def picture() -> str:
    """The floors with the arrows that do not follow from others, for Mermaid."""
    graph = arrows()
    lines = ["```mermaid", "flowchart TD"]
    for number in reversed(range(len(FLOORS))):
        rooms = "; ".join(room.name for room in FLOORS[number] if room.name in graph)
        lines.append(f'  subgraph floor{number}["{number}"]; {rooms}; end')
    for room, below in sorted(graph.items()):
        direct = sorted(below - set().union(*(_reached(graph, other) for other in below)))
        if direct:
            lines.append(f"  {room} --> {' & '.join(direct)}")
    return "\n".join([*lines, "```"])


def room_table() -> str:
    """Each room, highest first, and the rooms in it: what its docstring says, and the file to open first."""
    present = arrows()
    rows = []
    for number in reversed(range(len(FLOORS))):
        for room in (room for room in FLOORS[number] if room.name in present):
            rows.append([str(number), f"`{room.name}`", _said(room), f"[{Path(room.first).name}](../{room.first})"])
            folder = Path(LIBRARY) / room.name
            rows += [
                ["", f"`{path.parent.relative_to(LIBRARY).as_posix()}`", _sentence(path), ""]
                for path in sorted(MODULES.values())
                if path.name == "__init__.py" and folder in path.parent.parents
            ]
    return table(["floor", "room", "what it holds", "open first"], rows)


def _said(room: Room) -> str:
    first = Path(room.first)
    if room.name == MODULE:
        return _sentence(first.parent / "MAESegmentPlugin" / "__init__.py")
    return _sentence(first.parent / "__init__.py" if first.parent.name == room.name else first)


def _sentence(path: Path) -> str:
    """The first sentence of a file's docstring."""
    said = ast.get_docstring(ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[.?!])\s", said.replace("`", "").replace("\n", " "), maxsplit=1)[0]


def drawn(page: str) -> str:
    """`page` with the picture and the table as the imports have them now."""
    return replace_blocks(page, {"picture": picture(), "rooms": room_table()})


def main() -> int:
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for folder, (lines, files) in sorted(sizes().items(), key=lambda item: -item[1][0]):
        print(f"{lines:6d} lines {files:3d} files  {folder}")
    for noun, files in shared_nouns().items():
        print(f"{noun}: {', '.join(files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
