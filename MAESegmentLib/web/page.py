"""How the page is laid out: light for bright rooms, dark only where images are. On a phone the panel lies over them."""

from __future__ import annotations

from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..translation import tr as _
from .panels.panel import COMPACT, quoted, shown
from .view_decoration import STYLE

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
.info-text { white-space: pre-line; overflow-wrap: anywhere; }
.card-text, .card-item { margin-bottom: 8px; line-height: 1.45; overflow-wrap: anywhere; }
.card-item { display: list-item; margin-left: 20px; }
.card-heading { font-size: 16px; font-weight: 600; margin: 14px 0 6px; }
.card-strong { font-weight: 600; }
.card-mono, .card-code { font-family: monospace; font-size: 13px; }
.card-code { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f6f8; padding: 8px; margin-bottom: 8px; }
.card-table { overflow-x: auto; margin-bottom: 8px; }
.card-table table { border-collapse: collapse; font-size: 13px; }
.card-table td { white-space: nowrap; padding: 3px 10px 3px 0; border-bottom: 1px solid #0002; }
.card-table tr:first-child { font-weight: 600; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; border: 1px solid #0006;
  margin-right: 8px; vertical-align: -1px; }
.result-table td, .result-table th { padding: 0 6px !important; }
.figures-table td:not(:first-child), .figures-table th:not(:first-child) { text-align: right; }
.tool-grid { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; }
.tool-grid .v-btn { min-width: 0; }
.segment-row { display: flex; align-items: center; gap: 4px; min-height: 40px; padding: 0 4px; border-radius: 4px; }
.segment-active { background: #0b5cad1f; }
.segment-row .v-field__input { padding: 0 12px; min-height: 0; font-size: 14px; }
.segment-name { font-weight: 400; }
.case-picture { width: 56px; height: 56px; object-fit: cover; border-radius: 3px; }
.section { padding: 12px 16px 24px; }
.v-btn { letter-spacing: 0; text-transform: none; }
.v-tab.v-tab.v-btn { min-width: 0 !important; padding: 0 2px; font-size: 13px; }
:focus-visible { outline: 2px solid #1565c0; outline-offset: 1px; }
#panel .v-select__selection-text { white-space: normal; overflow-wrap: anywhere; line-height: 1.25; }
.v-label.v-label, .v-list-subheader { opacity: 0.8; }
#views { height: calc(100dvh - 48px); display: flex; }
.app-title { font-size: 18px; font-weight: 600; margin: 0 20px 0 4px; }
.app-purpose { font-size: 12px; line-height: 1.2; flex: 0 1 auto; }
.layout-select { flex: 0 1 170px; min-width: 96px; margin-right: 12px; }
@media (max-width: 600px) {
  .app-title { font-size: 14px; margin-right: 8px; }
  .app-purpose { font-size: 10px; }
  .layout-select { min-width: 130px; margin-right: 6px; }
  .layout-select .v-field { --v-field-padding-start: 8px; --v-field-padding-end: 2px; font-size: 13px; }
}
"""
_COLOURS = {
    "primary": "#0b5cad", "surface": "#ffffff", "background": "#f4f6f8",
    "info": "#0b5cad", "success": "#1b5e20", "warning": "#7a4100", "error": "#a3001b",
}  # fmt: skip
_THEME = {"theme": {"defaultTheme": "light", "themes": {"light": {"colors": _COLOURS}}}}

#: What is seen instead of the page when its connection is lost.
LOST = """<div id="lost" role="alert"
style="font: 16px/1.5 sans-serif; max-width: 36em; margin: 4em auto; display: grid; gap: 12px">
<p>The connection to the server was lost. This page connects again by itself as soon as the server responds.</p>
<p>If your session is still running, so is its work; if it has ended, a new one starts and says why.</p>
<p id="lost-why"></p><p><a href=".">Reload this page</a></p></div>"""


def build(app: Any) -> None:
    """Everything once; sections are filled by their panels."""
    with VAppLayout(app.server, vuetify_config=_THEME) as layout:
        client.Style(_STYLE + STYLE)
        client.ClientTriggers(created="time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone")
        with v3.VAppBar(density="compact", elevation=1):
            fold = quoted(_("Show or hide the panel"))
            v3.VBtn(
                icon="mdi-menu",
                click="panel_open = !panel_open",
                id="fold-panel",
                title=(fold,),
                raw_attrs=[f':aria-label="{fold}"', ':aria-expanded="panel_open"'],
            )
            html.Span("MAESegment", classes="app-title")
            html.Span(_("For research only: not for diagnosis or treatment"), classes="app-purpose")
            v3.VSpacer()
            v3.VSelect(
                v_model=("layout",),
                items=("layouts",),
                id="layout-select",
                variant="outlined",
                classes="layout-select",
                raw_attrs=[f'aria-label="{_("Arrangement of the views")}"'],
                **COMPACT,
            )
        with v3.VNavigationDrawer(
            v_model=("panel_open",),
            permanent=("!$vuetify.display.smAndDown",),
            width=(f"Math.min({_WIDTH}, $vuetify.display.width - 40)",),
            id="panel",
            disable_resize_watcher=True,
        ):
            with v3.VTabs(
                v_model=("tab",), grow=True, density="compact", stacked=True, color="primary", show_arrows=(False,)
            ):
                for key, title, icon in SECTIONS:
                    with v3.VTab(value=key, id=f"tab-{key}"):
                        v3.VIcon(icon, size="small")
                        html.Span(title)
            v3.VDivider()
            text = _(
                "This session is open in several windows: they all show and change the same scans. Close all but one."
            )
            v3.VAlert(
                text=text,
                v_if=("windows > 1",),
                id="windows",
                type="warning",
                density="compact",
                classes="ma-3",
                variant="tonal",
                raw_attrs=['role="alert"'],
            )
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
            with html.Div(classes="mx-3"):
                app.data.build_questions()
            for key, _title, _icon in SECTIONS:
                with html.Div(v_show=(f"tab === '{key}'",), classes="section", id=f"section-{key}"):
                    getattr(app, key).build()
        with v3.VMain(), html.Div(id="views"):
            app.views.build(layout)
