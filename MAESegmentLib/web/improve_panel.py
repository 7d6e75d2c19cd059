"""Improve: cases, fine-tuning, versions, the next case, one below the other."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from .panel import Panel


class ImprovePanel(Panel):
    prefix = "improve"

    def build(self) -> None:
        parts: tuple[tuple[str, Any], ...] = (
            ("1. Corrected cases", self.app.cases),
            ("2. Fine-tune", self.app.learning),
            ("3. Versions", self.app.versions),
            ("4. Suggest next case", self.app.next_case),
        )
        for title, part in parts:
            html.Div(title, classes="text-subtitle-2 mt-1 mb-2")
            part.build()
            v3.VDivider(classes="my-3")
