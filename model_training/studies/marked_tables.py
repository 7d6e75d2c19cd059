"""The parts of a README that a report makes: Markdown between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def replace_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- end -->` replaced by each block."""
    for name, block in blocks.items():
        pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end -->", re.DOTALL)
        text = pattern.sub(lambda _, name=name, block=block: marked(name, block), text)
    return text


def marked(name: str, block: str) -> str:
    """`block` between the marks of `name`."""
    return f"<!-- {name} -->\n{block}\n<!-- end -->"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
