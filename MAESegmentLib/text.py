"""Names and messages of others, made fit for a terminal or a table: nothing is lost, nothing is interpreted."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

#: They turn the order of the text around them or are not seen, so that one name looks like another.
_DECEPTIVE = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
#: What a spreadsheet takes for the beginning of a formula, behind any number of apostrophes.
_FORMULA = re.compile("'*[=+\\-@＝＋－＠]")
_PROTECTED = re.compile("'+[=+\\-@＝＋－＠]")

#: Where a word of an identifier begins.
_BETWEEN_WORDS = re.compile("(?<=[a-z][a-z])_?([A-Z](?=[a-z]))")


def visible(text: str, keep: str = "") -> str:
    r"""`text` with an escape sequence in place of each character that does something instead of showing something.

    Control characters become \x1b, \n, ..., bytes of a file name that is not UTF-8 \xfc; those in `keep` stay.

    >>> print(visible("\x1b[31mred"))
    \x1b[31mred
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or not _acts(character) else _escaped(character) for character in text
    )


def in_words(name: str) -> str:
    """The identifier of a structure as a reader would write it; files keep the identifier.

    >>> [in_words(name) for name in ("SpinalCord", "left_atrium", "GTVp", "anterior", "Left Lung")]
    ['Spinal cord', 'left atrium', 'GTVp', 'anterior', 'Left Lung']
    """
    if " " in name:
        return name
    apart = _BETWEEN_WORDS.sub(lambda found: " " + found.group(1).lower(), name)
    return " ".join(apart.replace("_", " ").split()) or name


def listed(items: Sequence[object], most: int = 10) -> str:
    """The first `most` of them, and how many there are if that is not all.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, ... (3 in all)'
    """
    some = ", ".join(map(str, items[:most]))
    return f"{some}, ... ({len(items)} in all)" if len(items) > most else some


def is_unicode(text: str) -> bool:
    """Whether every character can be written as UTF-8: no byte of a file name that is none."""
    return not any(unicodedata.category(character) == "Cs" for character in text)


def visible_json(text: str) -> str:
    """JSON `text` that means the same, with JSON's own escape sequences for such characters."""
    return "".join(
        character if character == "\n" or not _acts(character) else json.dumps(character)[1:-1] for character in text
    )


def csv_cell(text: str) -> str:
    """`text` as the cell of a table: on one line, and with an apostrophe before what a spreadsheet would compute.

    >>> csv_cell("=1+1")
    "'=1+1"
    """
    text = visible(text)
    return f"'{text}" if _FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """What `csv_cell` was given; escape sequences stay."""
    return cell[1:] if _PROTECTED.match(cell) else cell


def plot_text(text: str) -> str:
    """For matplotlib, to which text between two dollars is a formula, and which hides a label that begins with _."""
    text = visible(text, "\n").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def markdown_cell(text: str) -> str:
    """As a cell of a Markdown table."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|")


def _acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or bool(_DECEPTIVE.match(character))


def _escaped(character: str) -> str:
    code = ord(character)
    # Python's stand-in for a byte that is not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()
