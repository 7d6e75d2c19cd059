"""What commands print: names of files, labels and models as they are, never taken for markup or control sequences."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import OutputError
from ..text import visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

#: Text that was laid out here, with line breaks, may hold a name that is not.
_LAYOUT = "\n\t"


class StdoutError(OutputError):
    """What is printed cannot be written where the user sent it; files are not concerned."""

    code = "stdout_not_written"


class Stdout:
    """The text stream `stream`, of which an error is told apart from that of a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _as_stdout_error():
            return self._stream.write(text)

    def flush(self) -> None:
        with _as_stdout_error():
            self._stream.flush()


@contextmanager
def _as_stdout_error() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutError(
            f"What is printed cannot be written where it was sent: {error.strerror or error}.",
            "Send it elsewhere. Other files that were written are whole.",
        ) from error


def say(text: str, *, error: bool = False) -> None:
    """A line on stdout, or on stderr; what the terminal's encoding lacks is escaped."""
    print(visible(text, _LAYOUT), file=sys.stderr if error else sys.stdout, flush=True)


def print_json(value: Any) -> None:
    """For programs; names in every script stay readable."""
    print(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))


def make_console(*, stderr: bool = False) -> Console:
    """A rich console to which every string is plain text, also in the cells of tables."""
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text, _LAYOUT), **how)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            """Also what was put together as `Text`."""
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, _LAYOUT), style, control)

    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def tolerate_any_encoding() -> None:
    """A character that the terminal or the file behind a pipe cannot show is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
