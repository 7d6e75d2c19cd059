"""How 3D Slicer writes a segment's terminology, in files and in the scene alike."""

from __future__ import annotations

from .labels import UNCODED, Code, Terminology

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"


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
