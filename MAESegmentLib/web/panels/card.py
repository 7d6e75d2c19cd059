"""A model card as blocks of text that the page lays out: whatever stands in it is shown, never run."""

from __future__ import annotations

from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from trame.widgets import html

from ...translation import tr as _
from .panel import shown

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def card_blocks(text: str) -> list[dict[str, Any]]:
    """Of Markdown: `kind` is heading, text, item, code or table; `rows` of cells of runs, each with its `style`."""
    blocks: list[dict[str, Any]] = []
    opened: list[str] = []
    for token in _MARKDOWN.parse(text):
        if token.nesting == 1:
            opened.append(token.type.removesuffix("_open"))
            if token.type == "table_open":
                blocks.append({"kind": "table", "level": 0, "rows": []})
            elif token.type == "tr_open":
                blocks[-1]["rows"].append([])
        elif token.nesting == -1:
            opened.pop()
        elif token.type == "inline" and "table" in opened:
            blocks[-1]["rows"][-1].append(_runs(token))
        elif token.type == "inline":
            kind = "heading" if "heading" in opened else "item" if "list_item" in opened else "text"
            # The title of the dialog is the first heading.
            blocks.append({"kind": kind, "level": 3 if kind == "heading" else 0, "rows": [[_runs(token)]]})
        elif token.content:
            blocks.append({"kind": "code", "level": 0, "rows": [[[{"text": token.content, "style": ""}]]]})
    return blocks


def _runs(token: Token) -> list[dict[str, str]]:
    """Pieces of a line in one style each."""
    runs: list[dict[str, str]] = []
    styles: list[str] = []
    link = ""
    for child in token.children or ():
        if child.type in ("strong_open", "em_open"):
            styles.append("card-strong")
        elif child.type in ("strong_close", "em_close"):
            styles.pop()
        elif child.type == "link_open":
            link = str(child.attrGet("href") or "")
        elif child.type == "link_close":
            # To be read, not followed: the page goes nowhere.
            if runs and link and runs[-1]["text"] != link:
                runs.append({"text": f" ({link})", "style": ""})
        elif child.type in ("softbreak", "hardbreak"):
            runs.append({"text": " " if child.type == "softbreak" else "\n", "style": ""})
        elif child.type == "image":
            runs.append({"text": _("Picture in the model's folder: {name}").format(name=child.content), "style": ""})
        elif child.content:
            runs.append(
                {
                    "text": child.content,
                    "style": "card-mono" if child.type == "code_inline" else styles[-1] if styles else "",
                }
            )
    return runs


def build_card(blocks: str) -> None:
    """What `card_blocks` made, in the state as `blocks`."""
    with html.Div(
        v_for=f"(block, number) in {blocks}",
        key="number",
        classes=("'card-' + block.kind",),
        raw_attrs=[":role=\"block.level ? 'heading' : undefined\"", ':aria-level="block.level || undefined"'],
    ):
        with (
            html.Table(v_if=("block.kind === 'table'",)),
            html.Tr(v_for="(row, at) in block.rows", key="at"),
            html.Td(v_for="(cell, column) in row", key="column"),
        ):
            html.Span(shown("run.text"), v_for="run in cell", classes=("run.style",))
        html.Span(shown("run.text"), v_else=True, v_for="run in block.rows[0][0]", classes=("run.style",))
