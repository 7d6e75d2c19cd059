"""What commands print: names of files, labels and models as they are, never taken for markup or control sequences."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Text that was laid out here, with line breaks, may hold a name that is not.
_LAYOUT = "\n\t"


def say(text: str, *, error: bool = False) -> None:
    """A line on stdout, or on stderr; what the terminal's encoding lacks is escaped."""
    print(visible(text, _LAYOUT), file=sys.stderr if error else sys.stdout, flush=True)


def make_console(*, stderr: bool = False) -> Console:
    """A rich console to which every string is plain text, also in the cells of tables."""
    from rich.console import Console

    class PlainConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text, _LAYOUT), **how)

    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def tolerate_any_encoding() -> None:
    """A character that the terminal or the file behind a pipe cannot show is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
