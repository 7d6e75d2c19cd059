"""A model card comes from others: it is shown as text, whatever stands in it."""

from __future__ import annotations

from MAESegmentLib.web.panels.card import card_blocks

CARD = """# A model

Some **bold** text with `code`
on two lines; see [the paper](https://example.org/p) and ![Curves](curves.png).

* first
* second <img src=x onerror=alert(1)>

<script>alert(1)</script>

```
maesegment segment
```

| structure | Dice |
|---|---|
| **all** | 0.9 |
"""


def texts(block):
    return [["".join(run["text"] for run in cell) for cell in row] for row in block["rows"]]


def test_markdown_becomes_blocks():
    blocks = card_blocks(CARD)
    assert [one["kind"] for one in blocks] == ["heading", "text", "item", "item", "text", "code", "table"]
    assert texts(blocks[0]) == [["A model"]]
    assert texts(blocks[1]) == [
        [
            "Some bold text with code on two lines; see the paper (https://example.org/p) and "
            "Picture in the model's folder: Curves."
        ]
    ]
    assert {run["text"]: run["style"] for run in blocks[1]["rows"][0][0]}["bold"] == "card-strong"
    assert texts(blocks[5]) == [["maesegment segment\n"]]
    assert texts(blocks[6]) == [["structure", "Dice"], ["all", "0.9"]]


def test_html_and_scripts_stay_text():
    blocks = card_blocks(CARD)
    assert texts(blocks[3]) == [["second <img src=x onerror=alert(1)>"]]
    assert texts(blocks[4]) == [["<script>alert(1)</script>"]]
    assert texts(card_blocks("[x](javascript:alert(1))")[0]) == [["[x](javascript:alert(1))"]]


def test_anything_at_all_is_laid_out():
    for text in (
        "",
        "|",
        "***",
        "- - -",
        "> > quoted",
        "1. a\n   - b",
        "[",
        "![",
        "# ",
        "| a |\n|---|\n| b | c |",
        "\0",
    ):
        card_blocks(text)
