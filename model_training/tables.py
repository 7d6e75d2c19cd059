"""Result files (CSV, every value as text) and the Markdown tables and pages that are made of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.atomic_file import write_file
from MAESegmentLib.storage.lock import FileLock

Row = dict[str, str]
#: What a cell of a table shows of a row: the value of a column, or what a function makes of the row.
Cell = str | Callable[[Mapping[str, str]], str]


def read_rows(path: Path, key: Sequence[str] = ()) -> list[Row]:
    """Rows of a CSV file; a missing file has none. Of rows that agree in the columns `key`, only the first is kept."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not key:
        return rows
    unique: dict[tuple[str, ...], Row] = {}
    for row in rows:
        unique.setdefault(tuple(row[column] for column in key), row)
    return list(unique.values())


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows, all in one write, under a header that is written first; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        text = _csv(columns, rows, header=not path.exists())
        with path.open("a", newline="", encoding="utf-8") as file:
            file.write(text)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, _csv(columns, rows, header=True))


def merge_rows(sources: Sequence[Path], key: Sequence[str]) -> list[Row]:
    """Rows of several machines' files; rows with the same `key` are all taken from the first file that has any."""
    taken: dict[tuple[str, ...], Path] = {}
    return [
        row
        for source in sources
        for row in read_rows(source)
        if taken.setdefault(tuple(row[column] for column in key), source) == source
    ]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def table_of(rows: Iterable[Mapping[str, str]], columns: Mapping[str, Cell]) -> str:
    """A Markdown table with a line per row; `columns` maps each heading to what its cells show."""
    cells = [[row[cell] if isinstance(cell, str) else cell(row) for cell in columns.values()] for row in rows]
    return table(list(columns), cells)


def marked(name: str, block: str) -> str:
    """`block` between the marks of `name`."""
    return f"<!-- {name} -->\n{block}\n<!-- end -->"


def replace_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- end -->` replaced by each block."""
    for name, block in blocks.items():
        pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end -->", re.DOTALL)
        new = marked(name, block)
        text = pattern.sub(lambda _, new=new: new, text)  # type: ignore[misc]
    return text


def update_page(path: Path, blocks: Mapping[str, str]) -> None:
    """Put the blocks between their marks in a page; a missing page is made of the blocks alone."""
    empty = "".join(f"{marked(name, '')}\n\n" for name in blocks)
    text = path.read_text(encoding="utf-8") if path.exists() else empty
    write_file(path, replace_blocks(text, blocks))


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
