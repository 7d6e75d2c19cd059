"""Text that comes with a model is shown, never obeyed: by a terminal, a browser, Qt or MONAI's config parser."""

from __future__ import annotations

import re
import unicodedata

from ..text import visible

#: Embeddings, overrides and isolates, which show text in another order than it is in; tags and line separators.
_DECEPTIVE = re.compile("[\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\U000e0000-\U000e007f]")
#: What `monai.bundle` does not read as text, in metadata too: it imports what follows `$`, replaces `%` by a file's
#: content, and refuses to run if a relative reference has too many `#`.
_EVALUATED = re.compile(r"\A[$%]|[@%](?:#|::)")
#: Unicode's categories of what is not seen by itself: controls, formats, surrogates, spaces, lines, marks on others.
_UNSEEN = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me")
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
#: May start what Markdown takes as HTML.
_HTML = re.compile(r"<(?=[A-Za-z/!?])")


def text_problem(text: str) -> str:
    """Why `text` is not plain text, as the end of a sentence; "" if it is."""
    if _DECEPTIVE.search(text):
        return "holds invisible characters that reorder or hide text"
    if not text.isprintable() and any(_is_control(character) for character in text):
        return "holds control characters"
    if _EVALUATED.search(text):
        return "is an expression that MONAI would evaluate"
    return ""


def name_problem(text: str) -> str:
    """Why `text` cannot be a name, which is one line of at most 200 characters; "" if it can."""
    if "\n" in text or "\t" in text:
        return "is more than one line"
    if len(text) > 200:
        return f"is {len(text)} characters long; a name has at most 200"
    if text and not any(_shows(character) for character in text):
        return "shows nothing: each of its characters is invisible"
    return text_problem(text)


def channel_problem(text: str) -> str:
    """Why `text` cannot name an input channel, which `configs/inference.json` repeats; "" if it can."""
    return "is a reference that MONAI would follow" if text.startswith("@") else name_problem(text)


def neutral(text: str) -> str:
    """`text`, of unknown origin, as text without a `text_problem`."""
    apart = re.sub(r"([@%])(?=#|::)", r"\1 ", visible(text, "\n\t"))
    return f" {apart}" if _EVALUATED.match(apart) else apart


def without_html(markdown: str) -> str:
    """Markdown in which no HTML is left and no picture is loaded: pictures become links."""
    return re.sub(r"!+\[", "[", _HTML.sub("&lt;", markdown))


def _shows(character: str) -> bool:
    """Not what joins, spaces, marks or controls others, nor the letters and the symbol that are blank."""
    return unicodedata.category(character) not in _UNSEEN and character not in _BLANK


def _is_control(character: str) -> bool:
    """Cc and lone surrogates (Cs); not format characters (Cf), which join letters and emoji, nor line ends and tabs."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")
