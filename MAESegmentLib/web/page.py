"""How the page is laid out: made for 1280 x 800 and larger, light for bright rooms, dark only where images are."""

from __future__ import annotations

from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..translation import tr as _
from .panels.panel import COMPACT, shown

SECTIONS = (
    ("data", _("Data"), "mdi-folder-open"),
    ("segment", _("Segment"), "mdi-shape-outline"),
    ("correct", _("Correct"), "mdi-brush"),
    ("improve", _("Improve"), "mdi-school-outline"),
    ("export", _("Export"), "mdi-export"),
)
_WIDTH = 380

_STYLE = """
html { overflow-y: hidden; }
.side-letter { color: #ffd54f; font: 600 15px sans-serif; text-shadow: 0 0 3px #000; pointer-events: none; }
.info-text { white-space: pre-line; overflow-wrap: anywhere; }
.card-text { white-space: pre-wrap; font-size: 13px; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; border: 1px solid #0006;
  margin-right: 8px; vertical-align: -1px; }
.result-table td, .result-table th { padding: 0 6px !important; }
.figures-table td:not(:first-child), .figures-table th:not(:first-child) { text-align: right; }
.tool-grid { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; }
.tool-grid .v-btn { min-width: 0; }
#section-correct .v-field--disabled, #section-correct .v-list-item .v-icon { opacity: 1; }
.case-picture { width: 56px; height: 56px; object-fit: cover; border-radius: 3px; }
.section { padding: 12px 16px 24px; }
.v-btn { letter-spacing: 0; text-transform: none; }
.v-tab.v-tab.v-btn { min-width: 0 !important; padding: 0 2px; font-size: 13px; }
:focus-visible { outline: 2px solid #1565c0; outline-offset: 1px; }
"""
_THEME = {
    "theme": {
        "defaultTheme": "light",
        "themes": {"light": {"colors": {"primary": "#0b5cad", "surface": "#ffffff", "background": "#f4f6f8"}}},
    }
}

#: What is seen instead of the page when its connection is lost.
LOST = """<div id="lost" role="alert" style="font: 16px/1.5 sans-serif; max-width: 36em; margin: 4em auto">
<p>The connection to your session was lost. If the session is still running, so is its work; if it has ended, a new one
starts and says why.</p><p><a href=".">Reload this page</a></p></div>"""


def build(app: Any) -> None:
    """Everything once; sections are filled by their panels."""
    with VAppLayout(app.server, vuetify_config=_THEME) as layout:
        client.Style(_STYLE)
        with v3.VAppBar(density="compact", elevation=1):
            html.Span("MAESegment", classes="text-h6 ml-4 mr-6")
            html.Span(_("For research only: not for diagnosis or treatment"), classes="text-caption")
            v3.VSpacer()
            v3.VSelect(
                v_model=("layout",),
                items=("layouts",),
                id="layout-select",
                variant="outlined",
                style="max-width: 190px",
                classes="mr-3",
                raw_attrs=[f'aria-label="{_("Arrangement of the views")}"'],
                **COMPACT,
            )
        with v3.VNavigationDrawer(permanent=True, width=_WIDTH, disable_resize_watcher=True):
            with v3.VTabs(
                v_model=("tab",), grow=True, density="compact", stacked=True, color="primary", show_arrows=(False,)
            ):
                for key, title, icon in SECTIONS:
                    with v3.VTab(value=key, id=f"tab-{key}"):
                        v3.VIcon(icon, size="small")
                        html.Span(title)
            v3.VDivider()
            with v3.VAlert(
                text=("notice",),
                v_if=("notice",),
                type=("notice_kind",),
                id="notice",
                density="compact",
                closable=True,
                click_close="notice = ''",
                classes="ma-3 info-text",
                variant="tonal",
                raw_attrs=['role="alert"'],
            ):
                app.segment.button(
                    shown("offer.text"),
                    app.segment.apply,
                    "offer.key",
                    v_for="offer in notice_offers",
                    key="offer.key",
                    id=("`remedy-${offer.key}`",),
                    variant="outlined",
                    classes="mt-2 mr-2",
                )
            for key, _title, _icon in SECTIONS:
                with html.Div(v_show=(f"tab === '{key}'",), classes="section", id=f"section-{key}"):
                    getattr(app, key).build()
        with v3.VMain(), html.Div(style="height: calc(100vh - 48px); display: flex"):
            app.views.build(layout)
