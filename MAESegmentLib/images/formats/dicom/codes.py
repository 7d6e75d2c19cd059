"""The codes of labels as DICOM writes them (Code Sequence Macro, PS3.3 section 8.8), and back."""

from __future__ import annotations

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from ...labels import ANATOMICAL_STRUCTURE, UNCODED, Code, Terminology
from .referring import long_string

CATEGORY = "SegmentedPropertyCategoryCodeSequence"
_MODIFIER = "SegmentedPropertyTypeModifierCodeSequence"


def put_codes(terminology: Terminology, item: Dataset, kind: str) -> None:
    """Category, and type with its modifier, as sequences of `item`, the type's called `kind`."""
    setattr(item, CATEGORY, [concept(terminology.category)])
    setattr(item, kind, [concept(terminology.type)])
    put_modifier(terminology, item[kind].value[0])


def put_modifier(terminology: Terminology, kind: Dataset) -> None:
    if terminology.modifier is not None:
        setattr(kind, _MODIFIER, [concept(terminology.modifier)])


def concept(code: Code) -> CodedConcept:
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=long_string(code.meaning))


def read_codes(item: Dataset, kind: str) -> Terminology:
    """As `put_codes` puts them; `UNCODED` where there is no type, an anatomical structure where only the category is
    missing."""
    found = _first(item, kind)
    if found is None:
        return UNCODED
    type_item = item[kind].value[0]
    return Terminology(_first(item, CATEGORY) or ANATOMICAL_STRUCTURE, found, _first(type_item, _MODIFIER))


def _first(item: Dataset, name: str) -> Code | None:
    """None for a code that lacks its value or scheme."""
    stored = next(iter(item.get(name) or []), Dataset())
    values = (stored.get(one) for one in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    value = str(next(filter(None, values), ""))
    scheme = str(stored.get("CodingSchemeDesignator") or ("URN" if stored.get("URNCodeValue") else ""))
    return Code(scheme, value, str(stored.get("CodeMeaning") or value)) if value and scheme else None
