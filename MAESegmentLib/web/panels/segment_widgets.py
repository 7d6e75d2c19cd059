"""The widgets of the section Segment."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

_COMPACT = {"density": "compact", "hide_details": True}


def build(panel: Any) -> None:
    """Put them where the caller's `with` is."""
    _build_choices(panel)
    _build_button(panel)
    with html.Div(v_if=(f"{panel.name('result')}",), id="result", classes="mt-4"):
        _build_result(panel)


def _build_choices(panel: Any) -> None:
    name = panel.name
    with html.Div(classes="d-flex align-center"):
        v3.VSelect(
            v_model=(name("model"),),
            items=(name("models"),),
            label="Model",
            id="model-select",
            disabled=(name("running"),),
            **_COMPACT,
        )
        v3.VBtn(
            icon="mdi-information-outline",
            click=f"{name('card_open')} = true",
            raw_attrs=['aria-label="About this model"'],
            variant="text",
            size="small",
        )
    html.Div(f"{{{{ {name('summary')} }}}}", classes="text-body-2 info-text mt-1 mb-3", id="model-summary")
    with (
        v3.VDialog(v_model=(name("card_open"),), max_width=760, scrollable=True),
        v3.VCard(title="About this model"),
        v3.VCardText(),
    ):
        html.Pre(f"{{{{ {name('card')} }}}}", classes="card-text")
    with html.Div(classes="d-flex align-center"):
        v3.VSelect(
            v_model=(name("region"),),
            items=(name("regions"),),
            label="Region",
            id="region-select",
            disabled=(name("running"),),
            **_COMPACT,
        )
        v3.VBtn(
            icon="mdi-cube-scan",
            id="add-box",
            click=panel.guarded(panel.add_box),
            disabled=(f"!data_scan || {name('running')}",),
            raw_attrs=['aria-label="Add a box that can be dragged"'],
            title="Add a box that can be dragged",
            variant="text",
            size="small",
        )
    html.Div(f"{{{{ {name('box_hint')} }}}}", v_if=(name("box_hint"),), classes="text-caption mt-1")
    v3.VSelect(
        v_model=(name("device"),),
        items=(name("devices"),),
        label="Device",
        id="device-select",
        disabled=(name("running"),),
        classes="mt-3",
        **_COMPACT,
    )
    _build_advanced(panel)


def _build_advanced(panel: Any) -> None:
    """Settings that few users need."""
    name = panel.name
    with (
        v3.VExpansionPanels(variant="accordion", elevation=0, classes="mt-2"),
        v3.VExpansionPanel(title="Advanced", id="advanced"),
        v3.VExpansionPanelText(),
    ):
        for key in ("precision", "overlap", "mirroring"):
            v3.VSelect(
                v_model=(name(key),),
                items=(name(f"{key}_choices"),),
                label=key.capitalize(),
                id=f"{key}-select",
                disabled=(name("running"),),
                classes="mb-3",
                **_COMPACT,
            )
        for key, label in (
            ("allow_cpu", "Use the CPU if the GPU has too little memory"),
            ("check_familiarity", "Warn if the scan is unlike the training scans"),
        ):
            v3.VCheckbox(v_model=(name(key),), label=label, disabled=(name("running"),), **_COMPACT)
        v3.VBtn("Show log", id="show-log", click=panel.guarded(panel.show_log), size="small", variant="text")
    with (
        v3.VDialog(v_model=(name("log_open"),), max_width=900, scrollable=True),
        v3.VCard(title="Log"),
        v3.VCardText(),
    ):
        html.Pre(f"{{{{ {name('log')} }}}}", classes="card-text", id="log")


def _build_button(panel: Any) -> None:
    name = panel.name
    running = name("running")
    v3.VBtn(
        f"{{{{ {name('button')}.text }}}}",
        id="segment-button",
        click=panel.guarded(panel.presenter.press),
        disabled=(f"!{name('button')}.is_enabled",),
        title=(f"{name('button')}.tip",),
        color=(f"{running} ? 'grey-darken-1' : 'primary'",),
        block=True,
        size="large",
        classes="mt-4",
    )
    v3.VBtn(
        "Segment all {{ data_scans.length }} scans",
        v_if=("data_scans.length > 1",),
        id="segment-all",
        click=panel.guarded(panel.segment_all),
        disabled=(f"!{name('batch')}.is_enabled",),
        title=(f"{name('batch')}.tip",),
        variant="tonal",
        block=True,
        classes="mt-2",
    )
    html.Div(f"{{{{ {name('reason')} }}}}", v_if=(f"!{running} && {name('reason')}",), classes="text-caption mt-1")
    with html.Div(v_if=(running,), classes="mt-2"):
        v3.VProgressLinear(
            model_value=(name("percent"),), indeterminate=(name("moving"),), color="primary", height=8, rounded=True
        )
        html.Div(f"{{{{ {name('stage')} }}}}", classes="text-body-2", id="segment-stage")
    with (
        v3.VTable(v_if=(f"{name('batch_rows')}.length",), density="compact", classes="result-table mt-2", id="batch"),
        html.Tbody(),
        html.Tr(v_for=f"(row, number) in {name('batch_rows')}", key="number"),
    ):
        html.Td("{{ row.name }}")
        html.Td("{{ row.outcome }}")


def _build_result(panel: Any) -> None:
    name = panel.name
    v3.VSelect(
        v_if=(f"{name('results')}.length > 1",),
        v_model=(name("result"),),
        items=(name("results"),),
        label="Result",
        id="result-select",
        classes="mb-2",
        **_COMPACT,
    )
    html.Div(f"{{{{ {name('line')} }}}}", id="result-line", classes="text-body-2 font-weight-medium")
    with (
        v3.VTable(density="compact", classes="result-table"),
        html.Tbody(),
        html.Tr(v_for=f"row in {name('rows')}", key="row.id"),
    ):
        with html.Td(style="width: 36px"):
            v3.VBtn(
                icon=("row.visible ? 'mdi-eye' : 'mdi-eye-off'",),
                click=(panel.guarded(panel.toggle_segment), "[row.id]"),
                raw_attrs=[":aria-label=\"(row.visible ? 'Hide ' : 'Show ') + row.name\""],
                variant="text",
                density="compact",
                size="small",
            )
        with html.Td():
            html.Span(classes="swatch", style=("'background:' + row.colour",))
            html.Span("{{ row.name }}")
        html.Td("{{ row.volume }}", classes="text-right")
    html.Div(
        f"{{{{ {name('warnings')} }}}}", v_if=(name("warnings"),), classes="text-body-2 info-text", id="result-warnings"
    )
    with html.Div(classes="d-flex align-center"):
        v3.VSwitch(v_model=(name("show_3d"),), label="3D", id="show-3d", color="primary", classes="mr-4", **_COMPACT)
        v3.VSwitch(v_model=(name("filled"),), label="Filled", id="filled", color="primary", **_COMPACT)
        html.Span(f"{{{{ {name('surface')} }}}}", classes="text-caption ml-2", id="surface-state")
    v3.VSlider(
        v_model=(name("opacity"),),
        min=0,
        max=1,
        step=0.05,
        label="Opacity",
        disabled=(f"!{name('filled')}",),
        **_COMPACT,
    )
    with html.Div(classes="d-flex ga-2 mt-3"):
        v3.VBtn("Correct", id="go-correct", click="tab = 'correct'", variant="tonal", classes="flex-grow-1")
        v3.VBtn("Export", id="go-export", click="tab = 'export'", variant="tonal", classes="flex-grow-1")
