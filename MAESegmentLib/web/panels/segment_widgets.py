"""The widgets of the section Segment."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters import settings
from ...translation import tr as _
from .card import build_card
from .panel import COMPACT, bar, caption, dialog, line, quoted, shown, table


def build(panel: Any) -> None:
    """Put them where the caller's `with` is."""
    _build_choices(panel)
    _build_advanced(panel)
    _build_button(panel)
    with html.Div(v_if=(panel.name("result"),), id="result", classes="mt-4"):
        _build_result(panel)


def _build_choices(panel: Any) -> None:
    name = panel.name
    running = (name("running"),)
    with html.Div(classes="d-flex align-center"):
        panel.select("model", "models", label=_("Model"), id="model-select", disabled=running)
        v3.VBtn(
            icon="mdi-information-outline",
            id="about-model",
            click=f"{name('card_open')} = true",
            raw_attrs=[f'aria-label="{_("About this model")}"', f'title="{_("About this model")}"'],
            variant="text",
            size="small",
        )
    html.Div(shown(name("summary")), classes="text-body-2 info-text mt-1 mb-3", id="model-summary")
    with dialog(name("card_open"), _("About this model"), id="card"):
        build_card(name("card"))
    with html.Div(classes="d-flex align-center"):
        panel.select("region", "regions", label=_("Region"), id="region-select", disabled=running)
        title = quoted(_("Add a box that can be dragged"))
        disabled = (f"!data_scan || {name('running')}",)
        panel.icon_button(
            "mdi-cube-scan", title, panel.add_box, "", title, id="add-box", disabled=disabled, density="default"
        )
    caption(name("box_hint"))
    panel.select("device", "devices", label=_("Device"), id="device-select", disabled=running, classes="mt-3")


def _build_advanced(panel: Any) -> None:
    """Settings that few users need."""
    running = (panel.name("running"),)
    with (
        v3.VExpansionPanels(variant="accordion", elevation=0, classes="mt-2"),
        v3.VExpansionPanel(title=_("Advanced"), id="advanced"),
        v3.VExpansionPanelText(),
    ):
        for key, label, choices in (
            ("precision", _("Precision"), settings.precisions()),
            ("overlap", _("Overlap"), settings.overlaps()),
            ("mirroring", _("Mirroring"), settings.mirrorings()),
        ):
            items = [(value, title) for title, value in choices]
            panel.select(key, items, label=label, id=f"{key}-select", disabled=running, classes="mb-3")
        for key, label in (
            ("allow_cpu", _("Use the CPU if the GPU has too little memory")),
            ("check_familiarity", _("Warn if the scan is unlike the training scans")),
            ("clean", _("Remove stray pieces from the result")),
        ):
            v3.VCheckbox(v_model=(panel.name(key),), label=label, disabled=running, **COMPACT)
        panel.button(_("Show log"), panel.show_log, id="show-log", variant="text")
    with dialog(panel.name("log_open"), _("Log")):
        html.Pre(shown(panel.name("log")), classes="card-code", id="log")


def _build_button(panel: Any) -> None:
    name = panel.name
    running = name("running")
    tip = (name("speed_tip"),)
    panel.select("speed", "speeds", label=_("Speed"), id="speed-select", disabled=(running,), title=tip, classes="mt-4")
    panel.control(
        name("button"),
        panel.presenter.press,
        id="segment-button",
        color=(f"{running} ? 'grey-darken-1' : 'primary'",),
        variant="flat",
        block=True,
        size="large",
        classes="mt-2",
    )
    panel.button(
        _("Segment all {n} scans").format(n=shown("data_scans.length")),
        panel.segment_all,
        v_if=("data_scans.length > 1",),
        id="segment-all",
        disabled=(f"!{name('batch')}.is_enabled",),
        title=(f"{name('batch')}.tip",),
        size="default",
        block=True,
        classes="mt-2",
    )
    caption(f"!{running} && {name('reason')}")
    with html.Div(v_if=(running,), classes="mt-2"):
        bar(name("percent"), indeterminate=(name("moving"),))
        html.Div(shown(name("stage")), classes="text-body-2", id="segment-stage")
    table(name("batch_rows"), ("name", "outcome"), id="batch")


def _build_result(panel: Any) -> None:
    name = panel.name
    several = (f"{name('results')}.length > 1",)
    panel.select("result", "results", v_if=several, label=_("Result"), id="result-select", classes="mb-2")
    html.Div(shown(name("line")), id="result-line", classes="text-body-2 font-weight-medium")
    with (
        v3.VTable(density="compact", classes="result-table"),
        html.Tbody(),
        html.Tr(v_for=f"row in {name('rows')}", key="row.segment_id", title=("row.tip",)),
    ):
        with html.Td(style="width: 36px"):
            title = f"(row.visible ? {quoted(_('Hide'))} : {quoted(_('Show'))}) + ' ' + row.name"
            icon = ("row.visible ? 'mdi-eye' : 'mdi-eye-off'",)
            panel.icon_button(icon, title, panel.toggle_segment, "row.segment_id", title)
        with html.Td():
            html.Span(classes="swatch", style=("'background: rgb(' + row.colour + ')'",))
            html.Span(shown("row.name"))
        html.Td(shown("row.volume_with_unit"), classes="text-right")
    line(name("warnings"), id="result-warnings")
    with html.Div(classes="d-flex align-center"):
        for key, label in (("show_3d", _("3D")), ("filled", _("Filled"))):
            kind = {"id": key.replace("_", "-"), "color": "primary", "classes": "mr-4"}
            v3.VSwitch(v_model=(name(key),), label=label, **kind, **COMPACT)
        html.Span(shown(name("surface")), classes="text-caption ml-2", id="surface-state")
    no_fill = (f"!{name('filled')}",)
    scale: dict[str, Any] = {"min": 0, "max": 1, "step": 0.05, "label": _("Opacity"), "name": _("Opacity")}
    v3.VSlider(v_model=(name("opacity"),), disabled=no_fill, **scale, **COMPACT)
    with html.Div(classes="d-flex ga-2 mt-3"):
        for tab, label in (("correct", _("Correct")), ("export", _("Export"))):
            v3.VBtn(label, id=f"go-{tab}", click=f"tab = '{tab}'", variant="tonal", classes="flex-grow-1")
