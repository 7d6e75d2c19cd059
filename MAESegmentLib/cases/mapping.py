"""Which label a segment is meant to be, from its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..images.labels import is_background, plain_name

#: Similarity (difflib, 0 to 1) from which two names are proposed as one; "Brainstem" and "BrainStm" have 0.94.
_SIMILAR = 0.81
_SIDES = {"l": "left", "lt": "left", "r": "right", "rt": "right", "sin": "left", "dex": "right"}
#: Words that tell structures apart, however alike the rest of their names is.
_DISTINCTIONS = frozenset(
    ("left", "right", "anterior", "posterior", "superior", "inferior", "upper", "lower", "middle")
) | {"medial", "lateral", "proximal", "distal", "internal", "external"}


@dataclass(frozen=True)
class LabelMatch:
    """`segment` is taken for `label` (None: not stored).

    `kind`: "same" name, "remembered" from an earlier case, "similar" name, "new" (no label is like it: `label` is
    None until the user says that it is to be a new one), or "left out" (as before, or a background).
    """

    segment: str
    label: str | None
    kind: str


def propose_mapping(
    segments: Sequence[str], model_labels: Sequence[str], remembered: Mapping[str, str | None]
) -> list[LabelMatch]:
    """One choice for each segment, in order; `model_labels` are all labels there are, of the model and of the store.

    A label is proposed as similar to no more than one segment, and to none that has it by name.
    """
    known = {plain_name(name): name for name in reversed(model_labels)}
    before = {plain_name(segment): label for segment, label in remembered.items()}
    choices: dict[int, LabelMatch] = {}
    for number, segment in enumerate(segments):
        plain = plain_name(segment)
        if plain in before:
            label = before[plain]
            choices[number] = LabelMatch(segment, label, "left out" if label is None else "remembered")
        elif plain in known:
            choices[number] = LabelMatch(segment, known[plain], "same")
        elif is_background(segment):
            choices[number] = LabelMatch(segment, None, "left out")  # strokes that say where no structure is
    taken = {choice.label for choice in choices.values()}
    open_labels = [name for name in model_labels if name not in taken]
    for number, label in _similar(segments, [n for n in range(len(segments)) if n not in choices], open_labels):
        choices[number] = LabelMatch(segments[number], label, "similar")
    return [choices.get(number, LabelMatch(segment, None, "new")) for number, segment in enumerate(segments)]


def same_name(first: str, second: str) -> bool:
    """Whether two names differ in no more than case, spaces, "-" and "_"."""
    return plain_name(first) == plain_name(second)


def _similar(segments: Sequence[str], numbers: Sequence[int], labels: Sequence[str]) -> list[tuple[int, str]]:
    """The most similar pairs first, each segment (by number) and each label once."""
    pairs = sorted(
        ((similarity(segments[number], label), -number, label) for number in numbers for label in labels), reverse=True
    )
    found: dict[int, str] = {}
    for score, negative, label in pairs:
        if score >= _SIMILAR and -negative not in found and label not in found.values():
            found[-negative] = label
    return sorted(found.items())


def similarity(first: str, second: str) -> float:
    """From 0 to 1, whatever the order of the words; 0 for names that differ in side, direction or number."""
    a, b = _words(first), _words(second)
    if _distinctions(a) != _distinctions(b):
        return 0.0
    return difflib.SequenceMatcher(None, "".join(sorted(a)), "".join(sorted(b))).ratio()


def _words(name: str) -> list[str]:
    """ "Parotid_L", "LeftParotid" -> ["parotid", "left"], ["left", "parotid"]; numbers are words of their own."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [_SIDES.get(word, word) for word in re.findall(r"[^\W\d_]+|\d+", spaced.casefold())]


def _distinctions(words: Sequence[str]) -> frozenset[str]:
    return frozenset(word for word in words if word in _DISTINCTIONS or word.isdecimal())
