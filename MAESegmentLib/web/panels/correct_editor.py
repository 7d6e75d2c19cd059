"""trame-slicer's segment editor as it looks and behaves here: fewer tools, and no surface that holds up the brush."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_slicer import segmentation as effects
from trame_slicer.app.logic import SegmentEditorLogic
from trame_slicer.app.logic.segmentation.segment_edit_logic import SegmentEditLogic
from trame_slicer.app.ui import SegmentEditorUI, SegmentState
from trame_slicer.app.ui.segmentation.islands_effect_ui import IslandsEffectUI
from trame_slicer.app.ui.segmentation.logical_operators_effect_ui import LogicalOperatorsEffectUI as CombineEffectUI
from trame_slicer.app.ui.segmentation.paint_effect_ui import PaintEffectUI
from trame_slicer.app.ui.segmentation.scissors_effect_ui import ScissorsEffectUI
from trame_slicer.app.ui.segmentation.segment_edit_area_ui import SegmentEditAreaUI
from trame_slicer.app.ui.segmentation.smoothing_effect_ui import SmoothingEffectUI
from trame_slicer.app.ui.segmentation.threshold_effect_ui import ThresholdEffectUI
from trame_slicer.segmentation.segmentation_undo_command import SegmentationLabelMapUndoCommand

from ...text import in_words
from ...translation import tr as _
from .panel import COMPACT, quoted, shown

#: (title, name, which static/panel.js knows, icon, effect, what its parameters look like). Escape chooses the first, a
#: number each of the others.
TOOLS: tuple[tuple[str, str, str, Any, Any], ...] = (
    (_("Look"), "look", "cursor-default", effects.SegmentationEffectNoTool, None),
    (_("Paint"), "paint", "brush", effects.SegmentationEffectPaint, PaintEffectUI),
    (_("Erase"), "erase", "eraser", effects.SegmentationEffectErase, PaintEffectUI),
    (_("Scissors"), "scissors", "content-cut", effects.SegmentationEffectScissors, ScissorsEffectUI),
    (_("Threshold"), "threshold", "auto-fix", effects.SegmentationEffectThreshold, ThresholdEffectUI),
    (_("Islands"), "islands", "scatter-plot", effects.SegmentationEffectIslands, IslandsEffectUI),
    (_("Smooth"), "smooth", "square-rounded-outline", effects.SegmentationEffectSmoothing, SmoothingEffectUI),
    (_("Combine"), "combine", "vector-intersection", effects.SegmentationEffectLogicalOperators, CombineEffectUI),
)
_UNDO_STEPS = 20


class EditorUI(SegmentEditorUI):
    """Tools, undo, the segments, then the parameters of the chosen tool: all reachable by keyboard."""

    def _build_ui(self) -> None:
        name = self._typed_state.name
        with self:
            self.edit_ui._build_color_dialog()
            with html.Div(classes="tool-grid"):
                for number, (title, tool, icon, effect, _parameters) in enumerate(TOOLS):
                    self._build_tool(f"{title} ({number or 'Escape'})", title, tool, icon, effect)
            with html.Div(classes="d-flex ga-2 mt-2"):
                for title, key, act, state in (
                    (_("Undo"), "undo", self.undo_clicked, name.can_undo),
                    (_("Redo"), "redo", self.redo_clicked, name.can_redo),
                ):
                    how = {"variant": "tonal", "size": "small", "classes": "flex-grow-1"}
                    v3.VBtn(title, id=key, prepend_icon=f"mdi-{key}", click=act, disabled=(f"!{state}",), **how)
            self._create_segment_list()
            add = {"id": "add-segment", "prepend_icon": "mdi-plus", "variant": "text", "size": "small"}
            v3.VBtn(_("Add a segment"), click=self.add_segment_clicked, **add)
            v3.VDivider(classes="my-2")
            for _title, _tool, _icon, effect, parameters in TOOLS:
                if parameters is not None:
                    self._register_effect_ui(effect, parameters)
            SegmentEditAreaUI(segment_edit_area_typed_state=self.sub_state(name.segment_edit_area), variant="flat")

    def _build_tool(self, tip: str, title: str, tool: str, icon: str, effect: Any) -> None:
        active = self.is_active_effect(effect)[0]
        with v3.VBtn(
            id=f"tool-{tool}",
            click=lambda: self.effect_button_clicked(effect),
            variant=(f"({active}) ? 'flat' : 'tonal'",),
            color=(f"({active}) ? 'primary' : undefined",),
            stacked=True,
            size="small",
            title=tip,
            raw_attrs=[f':aria-pressed="{active}"'],
        ):
            v3.VIcon(f"mdi-{icon}")
            html.Span(title)

    def _create_segment_list(self) -> None:
        """As trame-slicer's, of buttons that have names."""
        state, edited = self._typed_state.name.segment_list, self.edit_ui._typed_state.name.segment_state
        active = f"item.segment_id === {state.active_segment_id}"
        row = {"v_for": f"item in {state.segments}", "key": "item.segment_id"}
        with html.Div(**row, classes=(f"['segment-row', {active} && 'segment-active']",)):
            colour = f"{self._calls(self.select_segment_clicked)}; {self._calls(self.edit_segment_color_clicked)}"
            self._build_act("mdi-circle", _("Change the colour"), colour, color=("item.color",))
            v3.VTextField(
                v_if=(active,),
                v_model=(edited.name,),
                change=self.edit_ui.name_changed,
                raw_attrs=[f'aria-label="{_("Name of the segment")}"'],
                variant="plain",
                **COMPACT,
            )
            choose = {"click": self._calls(self.select_segment_clicked), "variant": "text", "size": "small"}
            v3.VBtn(shown("item.name"), v_else=True, classes="flex-grow-1 justify-start segment-name", **choose)
            eye = ("item.is_visible ? 'mdi-eye-outline' : 'mdi-eye-off-outline'",)
            self._build_act(eye, _("Show or hide"), self._calls(self.toggle_segment_visibility_clicked))
            self._build_act("mdi-delete-outline", _("Delete"), self._calls(self.delete_segment_clicked))

    def _build_act(self, icon: Any, title: str, click: str, **how: Any) -> None:
        label = f':aria-label="{quoted(title + ": ")} + item.name"'
        kind = {"variant": "text", "size": "small", "density": "compact"}
        v3.VBtn(icon=icon, click=click, title=title, raw_attrs=[label], **kind, **how)

    def _calls(self, signal: Any) -> str:
        return f"trigger('{self.server.trigger_name(signal)}', [item.segment_id])"


class _Names(SegmentEditLogic):
    """Shows a segment's name in words; what is not changed stays as files have it."""

    def set_active_segment_id(self, segment_id: str) -> None:
        super().set_active_segment_id(segment_id)
        self.data.segment_state.name = in_words(self.data.segment_state.name)

    def _save_segment_values(self) -> None:
        state = self.data.segment_state
        kept = self.segmentation_editor.get_segment_properties(state.segment_id)
        if kept and state.name == in_words(kept.name):
            state.name = kept.name
        super()._save_segment_values()
        state.name = in_words(state.name)


class EditorLogic(SegmentEditorLogic):
    """As trame-slicer's, but how segments look is the section Segment's, and surfaces are made when asked for."""

    def __init__(self, server: Any, slicer_app: Any) -> None:
        super().__init__(server, slicer_app)
        self._undo_stack.set_undo_limit(_UNDO_STEPS)
        self._edit_segment_logic = _Names(server, slicer_app)

    @property
    def was_edited(self) -> bool:
        """Since it was chosen, also if all of it was undone."""
        return bool(self._undo_stack.can_undo() or self._undo_stack.can_redo())

    def edit(self, segmentation: Any, volume: Any) -> None:
        """Let the tools work on a segmentation, over its scan."""
        self.segmentation_editor.deactivate_effect()
        self.segmentation_editor.set_active_segmentation(segmentation, volume)

    def changing(self, segmentation: Any) -> AbstractContextManager[None]:
        """Around a change of it that is not made by a tool, so that Undo knows of it."""
        editor = self.segmentation_editor
        if editor.active_segmentation_node is not segmentation:
            return nullcontext()
        return SegmentationLabelMapUndoCommand.push_state_change(editor.active_segmentation)

    def paint(self) -> None:
        """Take the brush into the hand."""
        self.list_again()
        self.segmentation_editor.set_active_effect_type(effects.SegmentationEffectPaint)

    def list_again(self) -> None:
        """Segments came or went, perhaps the one that is drawn in."""
        editor = self.segmentation_editor
        there = [*editor.get_all_segment_properties()]
        if there and editor.get_active_segment_id() not in there:
            editor.set_active_segment_id(there[0])
        self._on_segment_editor_changed()

    def _on_segment_display_changed(self, _display_state: Any) -> None:
        """A surface that follows every stroke of the brush would stop it."""

    def _on_segment_editor_changed(self, *_changes: Any) -> None:
        self.data.segment_list.active_segment_id = self.segmentation_editor.get_active_segment_id()
        self.data.active_effect_name = self.segmentation_editor.get_active_effect_name()
        self.data.segment_edit_area.overwrite_mode = self.segmentation_editor.get_overwrite_mode()
        self._update_segment_list()

    def _update_segment_list(self) -> None:
        editor = self.segmentation_editor
        self.data.segment_list.segments = [
            SegmentState(in_words(one.name), one.color_hex, key, editor.get_segment_visibility(key))
            for key, one in editor.get_all_segment_properties().items()
        ]
