"""The plan of the house: the rooms, floor by floor, what each holds, and what it may import.

`python -m Testing.house` writes the picture and the table of rooms into docs/architecture.md, and prints what is large
or ambiguously named. `Testing/unit/test_house.py` holds the code to the plan.
"""

from __future__ import annotations

import ast
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
    #: One sentence for a newcomer.
    holds: str
    #: The file to open first, below the repository.
    first: str
    #: Packages, neither Python's own nor ours, that its files may import.
    needs: frozenset[str] = frozenset()


def _room(name: str, first: str, holds: str, needs: str = "") -> Room:
    folder = "" if name in (LIBRARY, MODULE, STUDIES) else f"{LIBRARY}/"
    if first:
        return Room(name, holds, f"{folder}{name}/{first}", frozenset(needs.split()))
    return Room(name, holds, f"{folder}{name}.py", frozenset(needs.split()))


#: Lowest first. A room imports from its own floor or from below, never from above.
FLOORS: tuple[tuple[Room, ...], ...] = (
    (
        _room("errors", "", "Everything that can go wrong, as exceptions with a message and a hint."),
        _room("text", "", "Names as they may be shown: in a terminal, a CSV cell, a plot."),
        _room("values", "", "Dataclasses to JSON and back, checked."),
        _room("lazy", "", "Packages whose names are imported when first used."),
        _room("version", "", "The version of the library."),
        _room("torchrun", "", "The place of this process among those of a `torchrun`."),
        _room("translation", "", "Translates a text inside Slicer, and leaves it alone elsewhere.", "slicer"),
    ),
    (
        _room(
            "storage",
            "atomic_file.py",
            "Files and folders that appear whole or not at all, locks, and the user's folders.",
            "platformdirs",
        ),
        _room(
            "processes",
            "environment.py",
            "Starting another Python: which one, its environment, its children, how it ended.",
            "psutil",
        ),
    ),
    (
        _room(
            "images",
            "volume.py",
            "Scans, label maps and boxes in millimetres, and every file format they are read from and written to.",
            "numpy psutil nibabel nrrd pydicom highdicom SimpleITK",
        ),
    ),
    (
        _room("samples", "", "The sample head that ships inside nilearn, and its boxes.", "numpy"),
        _room("device", "", "Which device computes, and in which precision.", "torch"),
        _room("networks", "nnformer.py", "nnFormer and its masked autoencoder: tensors only.", "numpy torch"),
    ),
    (
        _room(
            "preprocessing",
            "plan.py",
            "From a scan to the network's grid and grey values, the same for training and inference.",
            "numpy torch",
        ),
    ),
    (
        _room(
            "bundle",
            "folder.py",
            "A model on disk: its format, versions, hashes, import and export.",
            "numpy torch platformdirs",
        ),
    ),
    (
        _room(
            "inference",
            "predictor.py",
            "From a scan to a label map: windows, restoring, fallbacks, familiarity, whole archives.",
            "numpy torch monai matplotlib",
        ),
        _room("cases", "store.py", "Corrected cases and data sets: what is learnt from.", "numpy"),
    ),
    (
        _room("evaluation", "metrics.py", "The measures, the only Dice, and their tables.", "numpy torch monai rich"),
        _room(
            "training",
            "finetune.py",
            "Pretraining and fine-tuning: data, loop and tasks.",
            "numpy torch monai matplotlib tomli",
        ),
    ),
    (_room("runs", "run_folder.py", "A fine-tuning in the background, as a folder."),),
    (
        _room(
            "worker",
            "protocol.py",
            "The process that computes for a panel, and the client of it.",
            "numpy psutil torch",
        ),
    ),
    (
        _room("console", "console.py", "The same calls on files, for notebooks and scripts."),
        _room("mrml", "volumes.py", "Between Slicer's scene and ours.", "numpy slicer vtk"),
    ),
    (
        _room("app", "processing.py", "What a user does in either panel, and its texts; no toolkit.", "numpy"),
        _room(LIBRARY, "__init__.py", "The public face."),
    ),
    (
        _room(
            "web",
            "application.py",
            "The panel in the browser and its server.",
            "numpy slicer vtk aiohttp trame trame_slicer",
        ),
        _room(MODULE, "MAESegment.py", "The panel in 3D Slicer.", "numpy qt ctk slicer vtk SampleData"),
    ),
    (_room("cli", "main.py", "The command `maesegment`.", "numpy torch psutil rich"),),
    (
        _room(
            STUDIES,
            "README.md",
            "Recipes of the models that ship, studies, benchmarks.",
            "numpy torch monai scipy matplotlib nibabel psutil SimpleITK rich tomli einops nnunetv2 selenium Testing",
        ),
    ),
)

ROOMS: dict[str, Room] = {room.name: room for floor in FLOORS for room in floor}
FLOOR_OF: dict[str, int] = {room.name: number for number, floor in enumerate(FLOORS) for room in floor}


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
    """First words of file names in library and module that stand in more than one folder, with the files."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in MODULES.values():
        if path.parts[0] != STUDIES and not path.stem.startswith("__"):
            found[path.stem.split("_")[0]].append(path)
    return {
        noun: [path.as_posix() for path in paths]
        for noun, paths in sorted(found.items())
        if len({path.parent for path in paths}) > 1
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
    """Each room, highest first: its floor, what it holds, and the file to open first."""
    present = arrows()
    rows = [
        [str(number), f"`{room.name}`", room.holds, f"[{Path(room.first).name}](../{room.first})"]
        for number in reversed(range(len(FLOORS)))
        for room in FLOORS[number]
        if room.name in present
    ]
    return table(["floor", "room", "what it holds", "open first"], rows)


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
