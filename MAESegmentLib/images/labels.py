"""What a label value stands for: name, colour, terminology code."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..values import Stored

T = TypeVar("T")
#: How 3D Slicer writes a terminology, in files and in the scene alike, begins with it.
_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"


@dataclass(frozen=True)
class Code:
    """One coded concept, e.g. `Code("SCT", "85756007", "Tissue")`."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Terminology:
    """DICOM segment description: property category, type and optional modifier (e.g. laterality)."""

    category: Code
    type: Code
    modifier: Code | None = None


ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
#: Used where a model's author gave no code.
UNCODED = Terminology(TISSUE, TISSUE)


def terminology_entry(terminology: Terminology) -> str:
    """The text of a segment's tag `TerminologyEntry`."""
    modifier = _code(terminology.modifier) if terminology.modifier else "^^"
    segment = f"{_code(terminology.category)}~{_code(terminology.type)}~{modifier}"
    return f"{_CONTEXT}~{segment}~Anatomic codes - DICOM master list~^^~^^"


def parse_terminology_entry(entry: str) -> Terminology:
    """`UNCODED` if there is no category and type in it."""
    parts = entry.split("~")
    codes = [Code(*part.split("^")) if part.count("^") == 2 and part != "^^" else None for part in parts[1:4]]
    if len(codes) < 2 or codes[0] is None or codes[1] is None:
        return UNCODED
    return Terminology(codes[0], codes[1], codes[2] if len(codes) > 2 else None)


def _code(code: Code) -> str:
    return "^".join(part.translate(str.maketrans("^~|", "   ")) for part in (code.scheme, code.value, code.meaning))


@dataclass(frozen=True)
class Label(Stored):
    """One segment of a label map. `value` is the voxel value (> 0), `colour` is sRGB 0..255."""

    value: int
    name: str
    colour: tuple[int, int, int] = (128, 174, 128)
    terminology: Terminology = UNCODED

    def __post_init__(self) -> None:
        if not 0 < self.value < 65536:
            raise ConfigurationError(f"Label {self.name!r} has value {self.value}; values run from 1 to 65535.")
        if not self.name.strip():
            raise ConfigurationError(f"Label {self.value} has no name.")
        if len(self.colour) != 3 or not all(0 <= c <= 255 for c in self.colour):
            raise ConfigurationError(f"Label {self.name!r}: colour {self.colour} is not three values from 0 to 255.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Label:
        """`ValueError` or `ConfigurationError` for what is not a label; one without codes is `UNCODED`."""
        if isinstance(data, Mapping) and not data.get("terminology"):
            data = {key: value for key, value in data.items() if key != "terminology"}
        return super().from_dict(data)


class ByName(Mapping[str, T]):
    """Values by the names of labels, which are one name if they are alike as `loose_name` has it.

    As in a dict, the last value of a name counts; names are kept in order, as they were written first.
    """

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        self._values: dict[str, T] = {}
        self._written: dict[str, str] = {}
        for name, value in items:
            self._values[loose_name(name)] = value
            self._written.setdefault(loose_name(name), name)

    def __getitem__(self, name: str) -> T:
        return self._values[loose_name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and loose_name(name) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._written.values())

    def __len__(self) -> int:
        return len(self._values)


def by_name(labels: Iterable[Label]) -> ByName[Label]:
    return ByName((label.name, label) for label in labels)


def other_names(names: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    """Those of `names`, each once, that are none of the `taken`."""
    known = ByName((name, None) for name in taken)
    return tuple(ByName((name, None) for name in names if name not in known))


def loose_name(name: str) -> str:
    """The same for names that differ in nothing but case, spaces and how Unicode composes a letter."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def plain_name(name: str) -> str:
    """As `loose_name`, and without spaces, "-" and "_"."""
    return re.sub(r"[\s_-]+", "", loose_name(name))


#: A segment of this name is what is none of the others.
BACKGROUND = "background"


def is_background(name: str) -> bool:
    return name.strip().casefold() == BACKGROUND


def same_names(name: str, known: Iterable[str]) -> list[str]:
    """Which of the `known` names `name` may stand for: the same one, else those alike by the strictest rule that finds
    any. Several cannot be told apart."""
    known = list(dict.fromkeys(known))
    for rule in (str, loose_name, plain_name):
        found = [other for other in known if rule(other) == rule(name)]
        if found:
            return found
    return []


def distinct_colour(number: int) -> tuple[int, int, int]:
    """RGB of a label without a colour of its own. Hues are a golden angle apart: neighbours differ, none repeats."""
    red, green, blue = colorsys.hsv_to_rgb((0.1 + number * 0.618034) % 1.0, 0.6, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
