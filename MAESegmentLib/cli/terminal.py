"""What commands print: names of files, labels and models as they are, never taken for markup or control sequences."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from ..errors import Cancelled, ConfigurationError, OutputError
from ..text import visible, visible_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text

    from ..images.labels import Label
    from ..training.run_context import Progress, Report

#: Text that was laid out here, with line breaks, may hold a name that is not.
_LAYOUT = "\n\t"
_STAGES = {"prepare": "Preparing", "train": "Training", "validate": "Validating", "save": "Saving"}
#: Without a terminal, a line of progress at most this often.
_QUIET_SECONDS = 30.0
#: Signals so soon after each other are one wish.
_SAME_REQUEST_SECONDS = 1.0


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


def make_table(*headings: str, right: Collection[str] = (), whole: Collection[str] = (), title: str = "") -> Table:
    """Cells fold rather than lose their end. Headings in `right` stand above figures, which are never broken, nor are
    those in `whole`. A title may be wider than what is below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class TitledTable(Table):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Any]:
            if title:
                yield Text(title, style="table.title")
            yield from super().__rich_console__(console, options)

    table = TitledTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: Any = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in (*right, *whole), overflow="fold")
    return table


def print_markdown(text: str) -> None:
    """A model card; cells of its tables fold rather than lose their end, and words of names stay whole."""
    from rich.markdown import Markdown, TableElement
    from rich.table import Table

    class FoldingTable(TableElement):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
            for table in super().__rich_console__(console, options):
                if isinstance(table, Table):
                    for column in table.columns:
                        column.overflow = "fold"
                    words = [word for cell in table.columns[0].cells for word in str(cell).split()]
                    table.columns[0].min_width = min(max(map(len, words), default=0), options.max_width // 3)
                yield table

    class Card(Markdown):
        elements: ClassVar[dict[str, Any]] = {**Markdown.elements, "table_open": FoldingTable}

    make_console().print(Card(text))


def swatch(label: Label) -> Text:
    """A label's name behind a square of its colour."""
    from rich.text import Text

    red, green, blue = label.colour
    return Text.assemble(("■ ", f"rgb({red},{green},{blue})"), label.name)


def check_csv(path: Path) -> None:
    """Before the work: `OutputError` unless `path` can be written as a table; an older table is replaced."""
    from ..storage.atomic_file import check_writable

    if path.suffix.casefold() not in (".csv", ".tsv") and path.exists():
        raise OutputError(f"{path.name} exists and is not a table.", "Give the name of a .csv file.")
    check_writable(path)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Names go through `csv_cell` first; figures do not. The file appears complete or not at all."""
    import csv

    from ..storage.atomic_file import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def confirm_deletion(what: str) -> None:
    """`Cancelled` unless the user types yes; `ConfigurationError` where there is no user to ask."""
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was removed: there is nobody to ask.", "Add --yes to remove it unasked.")
    if input(f"Delete {what} for ever? [y/N] ").strip().casefold() not in ("y", "yes"):
        raise Cancelled("Nothing was removed.")


class ProgressBar:
    """On stderr of a terminal, with the time left; gone at the end unless `stays`. Nothing is drawn elsewhere."""

    def __init__(
        self, description: str, total: float = 1.0, *, done: float = 0.0, shown: bool = True, stays: bool = False
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        console = make_console(stderr=True)
        self.is_drawn = shown and console.is_terminal
        columns = (
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(),
            MofNCompleteColumn() if total > 1 else TaskProgressColumn(),
            TextColumn("{task.fields[detail]}", markup=False) if stays else TimeLeft(),
        )
        self._bar = Progress(*columns, console=console, transient=not stays, disable=not self.is_drawn)
        self._task = self._bar.add_task(description, total=total, detail="")
        self._bar.update(self._task, completed=done)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: float, description: str | None = None, detail: str = "") -> None:
        """`detail` stands behind a bar that stays, in place of the time left."""
        task = self._bar.tasks[0]
        if description is not None and description != task.description and task.total == 1:
            self._bar.reset(self._task, description=description)  # another stage takes its own time
        self._bar.update(self._task, completed=done, description=description, detail=detail)

    def print(self, text: str) -> None:
        """A line that stays."""
        if self.is_drawn:
            self._bar.print(text)
        else:
            say(text, error=True)


def figure(value: float | None) -> str:
    """A Dice, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class TrainingDisplay:
    """A progress bar with time left and loss in a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self._bar = ProgressBar("Starting", stays=True)
        self._last_line = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            self._print(progress.message)
            return
        stage = _STAGES.get(progress.stage, progress.stage)
        detail = progress.message or _describe(progress)
        self._bar.update(progress.fraction, stage, detail)
        if progress.stage == "validate" and progress.metrics:
            self._print(f"step {progress.step}: {_numbers(progress.metrics)}")
        elif not self._bar.is_drawn and time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._print(f"{stage} {100 * progress.fraction:.0f} % {detail}")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._bar.print(text)

    def __enter__(self) -> Report:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()


def training_display(is_shown: bool) -> AbstractContextManager[Report]:
    """Shows a run's progress; of several processes that train together, one does."""
    return TrainingDisplay() if is_shown else nullcontext(lambda _: None)


@contextmanager
def interruptible() -> Iterator[Any]:
    """Yield `should_cancel`: true after the first Ctrl-C (or SIGTERM), which then lets the run save its checkpoint.

    A second Ctrl-C stops at once, unless it comes with the first: a launcher passes on what its processes got already.
    """
    import signal

    requested = False
    since = 0.0

    def request(number: int, _: object) -> None:
        nonlocal requested, since
        if requested:
            if number == signal.SIGINT and time.monotonic() - since > _SAME_REQUEST_SECONDS:
                raise KeyboardInterrupt
            return
        requested, since = True, time.monotonic()
        say("Stopping after this step; the checkpoint is saved ...", error=True)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(progress: Progress) -> str:
    which, count = progress.fold or (0, 0)
    parts = [f"leave-one-out {which} of {count}"] if which else []
    parts.append(f"step {progress.step}")
    if "loss" in progress.metrics:
        parts.append(f"loss {progress.metrics['loss']:.3f}")
    if progress.eta_s is not None:
        ends = time.strftime("%H:%M", time.localtime(time.time() + progress.eta_s))
        parts.append(f"{duration(progress.eta_s)} left, until {ends}")
    return ", ".join(parts)


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name != "score")


def tolerate_any_encoding() -> None:
    """A character that the terminal or the file behind a pipe cannot show is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
