"""The header of a NRRD: pynrrd parses its fields; key/value pairs and file names are kept in any character set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np

from ..decoded import LPS_TO_RAS, refuse_unoriented

_SPACES_TO_RAS = {
    "right-anterior-superior": np.eye(4),
    "ras": np.eye(4),
    "left-posterior-superior": LPS_TO_RAS,
    "lps": LPS_TO_RAS,
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
}
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")
_REQUIRED = ("dimension", "type", "encoding", "sizes")
_FILE_NAMES = ("data file", "datafile")
#: Every field of the format, which ITK and 3D Slicer insist on: what is misspelt would be left out without a word.
_FIELDS = {
    *("content", "number", "type", "block size", "dimension", "sizes", "spacings", "thicknesses", "axis mins"),
    *("axis maxs", "centers", "centerings", "kinds", "labels", "units", "min", "max", "old min", "old max", "endian"),
    *("encoding", "line skip", "byte skip", "data file", "sample units", "space", "space dimension", "space units"),
    *("space origin", "space directions", "measurement frame"),
}
_SPELLINGS = {*_FIELDS, *(name.replace(" ", "") for name in _FIELDS if not name.startswith("space"))}
#: Slicer's segmentations have a kilobyte for each segment.
_MOST_BYTES = 1 << 24
_VECTORS = ("space directions", "space origin", "measurement frame")
_BLANKS = re.compile(r"(?<=[(,])\s+|\s+(?=[,)])")
_ESCAPED = re.compile(r"\\([\\n])")


@dataclass(frozen=True)
class NrrdHeader:
    """`fields` by name, in small letters; `pairs` are `key:=value`; `listed` the lines after `data file: LIST`."""

    fields: Mapping[str, Any]
    pairs: Mapping[str, str]
    listed: tuple[str, ...]

    @property
    def sizes(self) -> list[int]:
        return list(self.fields["sizes"])

    @property
    def is_spatial(self) -> np.ndarray:
        """(ndim,) bool; an axis whose direction is `none` (layers, frames, colours) is not spatial."""
        return ~np.all(np.isnan(np.asarray(self.fields["space directions"], dtype=float)), axis=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)"""
        sizes = [size for size, spatial in zip(self.sizes, self.is_spatial, strict=True) if spatial]
        if len(sizes) > 3:
            raise ValueError(f"it has {len(sizes)} axes in space")
        i, j, k = (*sizes, *[1] * (3 - len(sizes)))
        return i, j, k

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """(4, 4), mm"""
        to_ras = _SPACES_TO_RAS.get(str(self.fields["space"]).lower())
        if to_ras is None:
            raise ValueError(f'its space "{self.fields["space"]}" is not one of {", ".join(_SPACES_TO_RAS)}')
        units = [str(unit) for unit in self.fields.get("space units", ())]
        if any(unit.strip().lower() not in _MILLIMETRES for unit in units):
            raise ValueError(
                f"its lengths are in {', '.join(units)}, which ITK and 3D Slicer take for mm; save it in mm"
            )
        directions = np.asarray(self.fields["space directions"], dtype=float)[self.is_spatial]
        matrix = np.eye(4)
        if directions.shape == (3, 3):
            matrix[:3, :3] = directions.T
        matrix[:3, 3] = np.asarray(self.fields.get("space origin", np.zeros(3)), dtype=float)
        if not np.all(np.isfinite(matrix)):
            raise ValueError("its space directions or its origin are not finite")
        return to_ras @ matrix


def read_header(path: Path, stream: IO[bytes]) -> NrrdHeader:
    """Leaves `stream` behind the header; raises what pynrrd raises for a broken one, and `ValueError`."""
    magic, texts, pairs, listed = _lines(stream)
    missing = [name for name in _REQUIRED if name not in texts]
    if missing:
        raise ValueError(f"its header lacks {', '.join(missing)}")
    apart = {"sizes", *_FILE_NAMES}
    # The format allows blanks within a vector; pynrrd does not.
    tight = {name: _BLANKS.sub("", text) if name in _VECTORS else text for name, text in texts.items()}
    lines = [f"{name}: {text}" for name, text in tight.items() if name not in apart]
    fields = dict(nrrd.read_header([magic, *lines]))
    fields.update({name: texts[name] for name in _FILE_NAMES if name in texts})
    fields["sizes"] = [int(size) for size in texts["sizes"].split()]
    if "space" not in fields or "space directions" not in fields:
        refuse_unoriented(path)
    counts = {len(fields["sizes"]), len(fields["space directions"]), fields["dimension"]}
    if len(counts) > 1 or not fields["sizes"]:
        raise ValueError("dimension, sizes and space directions do not agree in the number of axes")
    return NrrdHeader(fields, pairs, listed)


def read_pairs(stream: IO[bytes]) -> dict[str, str]:
    """The `key:=value` pairs alone."""
    return _lines(stream)[2]


def _lines(stream: IO[bytes]) -> tuple[str, dict[str, str], dict[str, str], tuple[str, ...]]:
    """The first line, the text of each field, the pairs, and the lines after `data file: LIST`."""
    magic = _line(stream)
    if not magic.startswith("NRRD"):
        raise ValueError("it does not begin with NRRD")
    texts: dict[str, str] = {}
    pairs: dict[str, str] = {}
    while text := _line(stream):
        name, colon, value = text.partition(":")
        if text.startswith("#"):
            continue
        if not colon:
            raise ValueError("its header has a line that is not a field")
        if value.startswith("="):
            pairs[_unescaped(name)] = _unescaped(value[1:])
            continue
        name = name.strip().lower()
        if name not in _SPELLINGS:
            raise ValueError(f"its header has a field {name}, which the format does not know")
        if name in texts:
            raise ValueError(f"its header has two fields {name}")
        texts[name] = value.strip()
        if name in _FILE_NAMES and texts[name].split()[:1] == ["LIST"]:
            rest = stream.read(_MOST_BYTES).decode("utf-8", "surrogateescape").splitlines()
            return magic, texts, pairs, tuple(line for line in rest if line)
    return magic, texts, pairs, ()


def _line(stream: IO[bytes]) -> str:
    if stream.tell() > _MOST_BYTES:
        raise ValueError(f"its header is longer than {_MOST_BYTES:,} bytes")
    return stream.readline(_MOST_BYTES).decode("utf-8", "surrogateescape").rstrip()


def _unescaped(text: str) -> str:
    """Text of a pair; bytes in no character set are replaced, as nothing could write them again."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else "\\", text)
