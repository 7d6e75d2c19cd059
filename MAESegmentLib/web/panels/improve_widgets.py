"""The widgets of the section Improve, one part below the other."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.add_case import role_options
from ...app.presenters.learning.training_choices import measured_intro, measured_titles, source_options, time_options
from ...app.presenters.next_case import FOLDER, SCENE, intro
from ...translation import tr as _
from .panel import COMPACT, bar, caption, card, line, quoted, shown, table


def build(panel: Any) -> None:
    """Put them where the caller's `with` is."""
    for title, parts in (
        (_("1. Corrected cases"), (_build_adding, _build_cases)),
        (_("2. Fine-tune"), (_build_finetune, _build_run)),
        (_("3. Versions"), (_build_versions, _build_comparison)),
        (_("4. Suggest next case"), (_build_ranking,)),
    ):
        html.Div(title, classes="text-subtitle-2 mt-1 mb-2")
        for part in parts:
            part(panel)
        v3.VDivider(classes="my-3")


def _build_adding(panel: Any) -> None:
    add, adding = panel.name("add"), panel.adding
    panel.question(f"{add}.asks", adding.act, "edited-case")
    panel.select(
        "role",
        [(option.key, option.text) for option in role_options()],
        id="case-role",
        classes="mb-2",
        raw_attrs=[f'aria-label="{_("What the case is for")}"'],
    )
    cannot = (f"!{add}.can_add",)
    with html.Div(classes="d-flex align-center ga-2"):
        panel.main_button(
            shown(f"{add}.button_text"),
            adding.add,
            id="add-case",
            disabled=cannot,
            title=(f"{add}.tip",),
            classes="flex-grow-1",
        )
        panel.button(
            _("Labels..."),
            lambda: adding.add(check_names=True),
            id="case-names",
            disabled=cannot,
            title=_("Before storing, check which label each segment is; also to change an earlier choice."),
            size="default",
        )
    v3.VCheckbox(
        v_if=(f"{add}.has_region",),
        v_model=(panel.name("only_box"),),
        label=_("Only the box was annotated"),
        id="only-box",
        **COMPACT,
    )
    caption(f"{add}.blocked")
    question = f"{add}.question"
    with card(question, id="case-questions"):
        line(f"{question}.text")
        with html.Div(v_for=f"(one, number) in {question}.rows", key="number", classes="my-2"):
            v3.VSelect(
                model_value=("one.answer",),
                update_modelValue=(adding.answer, "[number, $event]"),
                items=("one.options",),
                item_title="text",
                item_value="key",
                label=("one.title",),
                title=("one.tip",),
                **COMPACT,
            )
        for text in ("issues", "missing"):
            line(f"{question}.{text}")
        with html.Div(classes="d-flex ga-2 mt-2"):
            panel.main_button(
                shown(f"{question}.confirm_text"),
                adding.confirm,
                id="confirm-case",
                disabled=(f"!!{question}.missing",),
                size="small",
            )
            rest = f"{question}.rest_text"
            panel.button(shown(rest), adding.leave_out_rest, id="rest-case", v_if=(rest,), variant="tonal")
            panel.button(_("Cancel"), adding.cancel, id="cancel-case", variant="text")
    line(f"{add}.added", "text-body-2 info-text mt-2", id="case-said")


def _build_cases(panel: Any) -> None:
    stored, cases = panel.name("cases"), panel.cases
    line(f"{stored}.text", "text-body-2 info-text mt-3", id="cases-text")
    with html.Div(v_for=f"row in {stored}.rows", key="row.id", classes="d-flex align-center my-1 case-row"):
        picture = f"{panel.name('pictures')}[row.id]"
        html.Img(src=(picture,), v_if=(picture,), alt="", classes="case-picture")
        with html.Div(title=("row.tip",), classes="text-caption flex-grow-1 mx-2"):
            html.Div(shown("row.text"), classes="info-text")
            html.Div(shown("row.use_text"), classes="font-weight-medium")
        for icon, title, act, arguments in (
            ("mdi-folder-open-outline", quoted(_("Open")), cases.open, "row.id"),
            ("mdi-swap-horizontal", "row.swap_text", cases.set_role, "row.id, row.other_role"),
            ("mdi-delete-outline", quoted(_("Remove")), cases.ask_to_remove, "row.id"),
        ):
            label = f"{title} + ': ' + row.id"
            panel.icon_button(icon, title, act, arguments, label, disabled=(f"!!{stored}.blocked",))
    panel.question(f"{stored}.asks", cases.act, "case-removing")


def _build_finetune(panel: Any) -> None:
    line(panel.name("plan"), id="plan")
    _build_choices(panel)
    start = panel.name("start")
    with html.Div(classes="d-flex align-center ga-2 mt-2"):
        panel.control(panel.name("estimate"), panel.finetune.estimate, id="estimate", size="default")
        panel.control(
            start,
            panel.finetune.start,
            id="fine-tune",
            color="primary",
            variant="flat",
            size="default",
            classes="flex-grow-1",
        )
    caption(f"!{start}.is_enabled && {start}.tip")


def _build_choices(panel: Any) -> None:
    choices = panel.name("choices")
    panel.select(
        "time",
        [(option.key, option.text) for option in time_options()],
        label=_("Time"),
        id="time-select",
        classes="mt-3",
        title=(f"{choices}.time_tip",),
        disabled=(f"!!{choices}.notice",),
    )
    caption(f"{choices}.notice", id="time-note")
    sources = source_options(
        folders=bool(panel.app.config.folders), scene=_("The open scans"), folder=_("All on this server")
    )
    more = _("More scans from the same scanner (no labels needed)")
    html.Div(more, classes="text-caption mt-3")
    panel.select(
        "more",
        [(option.key, option.text) for option in sources],
        id="more-select",
        raw_attrs=[f'aria-label="{more}"'],
    )
    caption(f"{choices}.scans_note", id="more-note")
    v3.VCheckbox(
        v_if=(f"{choices}.validates !== null",),
        v_model=(panel.name("validates"),),
        label=(f"{choices}.validation_text",),
        title=(f"{choices}.validation_tip",),
        id="validates",
        **COMPACT,
    )
    measured = panel.name("measured")
    with v3.VExpansionPanels(variant="accordion", elevation=0, classes="mt-2"):
        with (
            v3.VExpansionPanel(title=_("What such a time brought"), id="measured", v_if=(f"{measured}.length",)),
            v3.VExpansionPanelText(),
        ):
            html.Div(measured_intro(), classes="text-caption")
            panel.put(measured_titles=list(measured_titles()))
            table(measured, ("structure", "cases", "time", "dice"), panel.name("measured_titles"))
        with v3.VExpansionPanel(title=_("Advanced"), id="learning-advanced"), v3.VExpansionPanelText():
            v3.VTextField(
                v_model=(panel.name("steps"),),
                label=_("Training steps"),
                id="steps",
                placeholder=_("As many as fit into the time"),
                persistent_placeholder=True,
                **COMPACT,
            )


def _build_run(panel: Any) -> None:
    run, finetune = panel.name("run"), panel.finetune
    with html.Div(v_if=(run,)):
        html.Div(shown(f"{run}.title"), id="run-title", classes="text-body-2 mt-2")
        with html.Div(v_if=(f"{run}.is_running",), classes="mt-2"):
            bar(f"100 * {run}.fraction")
            line(f"{run}.text", id="run-text")
            text = _("You can keep working or close this page: training continues in the background.")
            html.Div(text, classes="text-caption")
            with html.Div(classes="d-flex ga-2 mt-1"):
                panel.control(f"{run}.stop", finetune.stop, id="stop")
                panel.control(f"{run}.discard", finetune.ask_discard, id="discard-run", variant="text")
        for key in ("discarding", "banner"):
            panel.question(f"{run}.{key}", finetune.act, key)
        html.Div(v_html=(f"{run}.curves",), v_if=(f"{run}.curves",), id="curves", classes="mt-2")
        table(
            f"{run}.dice", ("name", "before", "after"), f"{run}.dice_titles", classes="result-table figures-table mt-2"
        )
        with html.Div(v_if=(f"{run}.outcome.length",)):
            switch = panel.name("show_outcome")
            v3.VSwitch(v_model=(switch,), label=_("Results per case"), id="show-outcome", color="primary", **COMPACT)
            with html.Div(v_if=(switch,)):
                table(f"{run}.outcome", ("case", "label", "change"), id="outcome")


def _build_versions(panel: Any) -> None:
    state, versions, not_compared = panel.name("versions"), panel.versions, f"{panel.name('comparison')}.blocked"
    with html.Div(v_for=f"row in {state}.rows", key="row.name", classes="d-flex align-center my-1"):
        with html.Div(classes="flex-grow-1", title=("row.card",)):
            html.Div(shown("row.title"), classes="text-body-2 font-weight-medium")
            html.Div(shown("row.accuracy"), classes="text-caption")
        for icon, title, act, visible, reason in (
            ("mdi-check", _("Use"), versions.use, "!row.why_not_use", "''"),
            ("mdi-compare", _("Compare with"), panel.compare_with_used, "!row.is_used", not_compared),
            ("mdi-download", _("Export"), panel.export_version, "true", f"{state}.is_exporting"),
            ("mdi-delete-outline", _("Delete"), versions.ask_to_delete, "true", "row.why_kept"),
        ):
            panel.icon_button(
                icon,
                f"({reason}) || {quoted(title)}",
                act,
                "row.name",
                quoted(f"{title} ") + " + row.title",
                v_if=(visible,),
                disabled=(f"!!({reason})",),
            )
    panel.button(
        _("Go back to {version}").format(version=shown(f"{state}.previous_title")),
        versions.go_back,
        v_if=(f"{state}.previous",),
        id="go-back",
        title=(f"{state}.previous_tip",),
        prepend_icon="mdi-undo",
    )
    panel.question(f"{state}.asks", versions.act, "version-deleting")
    panel.save_button(_("Save the model"), size="small", classes="mt-2")


def _build_comparison(panel: Any) -> None:
    state = panel.name("comparison")
    with html.Div(v_if=(f"{state}.is_running",), classes="mt-2"):
        bar(f"100 * {state}.fraction")
        panel.button(_("Cancel"), panel.comparison.cancel, variant="text")
    with html.Div(v_if=(f"{state}.text",), id="comparison", classes="mt-2"):
        line(f"{state}.text")
        shown_now = panel.name("difference_shown")
        panel.button(
            shown(f"{shown_now} ? {quoted(_('Hide the differences'))} : {quoted(_('Show the differences'))}"),
            panel.toggle_difference,
            v_if=(panel.name("difference"),),
            id="toggle-difference",
            classes="mt-2",
        )
        table(f"{state}.rows", ("label", "first", "second", "agreement"), f"{state}.titles")


def _build_ranking(panel: Any) -> None:
    state, ranking = panel.name("next"), panel.ranking
    html.Div(intro(), classes="text-body-2 mb-2")
    if panel.app.config.folders:
        panel.select(
            "source",
            [(SCENE, _("The open scans")), (FOLDER, _("All on this server"))],
            id="next-source",
            classes="mb-2",
            raw_attrs=[f'aria-label="{_("Which scans are ranked")}"'],
        )
    panel.main_button(
        shown(f"{state}.button_text"),
        ranking.press,
        id="rank-scans",
        disabled=(f"!{state}.is_running && !!{state}.blocked",),
        title=(f"{state}.tip",),
        block=True,
    )
    caption(f"{state}.blocked")
    with html.Div(v_if=(f"{state}.is_running",), classes="mt-2"):
        bar(f"100 * {state}.fraction")
        html.Div(shown(f"{state}.stage"), classes="text-body-2")
    with (
        v3.VTable(v_if=(f"{state}.rows.length",), density="compact", classes="result-table mt-2", id="ranked"),
        html.Tbody(),
        html.Tr(v_for=f"(row, number) in {state}.rows", key="number", title=("row.tip",)),
    ):
        html.Td(shown("row.place"))
        html.Td(shown("row.name"), style="overflow-wrap: anywhere")
        html.Td(shown("row.why"))
        with html.Td():
            panel.icon_button(
                "mdi-crosshairs",
                quoted(_("Show the slice where the model is least certain")),
                ranking.show,
                "number",
                quoted(_("Show") + " ") + " + row.name",
                disabled=("!row.can_show",),
            )
