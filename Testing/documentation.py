"""The code blocks of README, CONTRIBUTING and docs/, for the tests that run them.

`python -m Testing.documentation` writes the table of calls into docs/console.md.

A block is run unless the line before it is `<!-- not run here: REASON -->`, with one of `REASONS`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_training.tables import replace_blocks, table
from Testing.calls import CALLS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
#: Why a block cannot be run by a test.
REASONS = (
    "Slicer",  # needs a running 3D Slicer
    "a build of Slicer",
    "several GPUs",
    "installs",  # downloads packages into an environment
    "serves until it is closed",
    "the tests themselves",
    "changes this repository",
)

_BLOCK = re.compile(
    r"(?:^ *<!-- not run here: (?P<excuse>.+?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    #: `sh`, `python`, `json`, `mermaid`, or empty for what is shown and not run.
    language: str
    text: str
    #: Why it is not run, if so.
    excuse: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments; variables are not expanded."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page in one language, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["excuse"],
        )
        for match in _BLOCK.finditer(text)
        if match["language"] == language
    ]


def maesegment_words(command: Sequence[str]) -> list[str] | None:
    """What follows `maesegment` in a command, however it is started; None for another program."""
    if Path(command[0]).name == "maesegment":
        return list(command[1:])
    if "MAESegmentLib.cli" in command:
        return list(command[command.index("MAESegmentLib.cli") + 1 :])
    return None


def with_calls(page: str) -> str:
    """`page` with the table of calls as the code has it."""
    rows = [[f"`{call.name}`", f"`{call.in_slicer}`", call.does, call.returns] for call in CALLS]
    return replace_blocks(page, {"calls": table(["on files", "in Slicer", "what it does", "what it returns"], rows)})


if __name__ == "__main__":
    console_page = REPOSITORY / "docs" / "console.md"
    console_page.write_text(with_calls(console_page.read_text(encoding="utf-8")), encoding="utf-8")
