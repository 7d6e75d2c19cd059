"""What lies over the views: names and buttons, which side is which, where a slice is, what the pointer is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state
from trame_slicer.app.ui.slider import Slider

from .. import mrml
from ..errors import MAESegmentError
from ..mrml.matrices import to_array
from ..translation import tr as _
from .slicer_scene import unit_of

#: (towards the positive, towards the negative) of R, A and S.
SIDES = ((_("Right"), _("Left")), (_("Anterior"), _("Posterior")), (_("Superior"), _("Inferior")))
_WORDS = dict(zip("RLAPSI", (word for pair in SIDES for word in pair), strict=True))
PLANES = {"Axial": _("Axial"), "Coronal": _("Coronal"), "Sagittal": _("Sagittal")}
#: (left, right, top, bottom) as Slicer shows each plane: the patient's right is on the screen's left.
_LETTERS = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}
_PLACES = (
    "left: 8px; top: 50%",
    "right: 8px; top: 50%",
    "left: 50%; top: 4px",
    "left: 50%; bottom: 50px",
)
#: As Slicer marks the planes.
_COLOURS = {"Axial": "#f56652", "Coronal": "#6dad4a", "Sagittal": "#efd64d"}

STYLE = """
.over-view { position: absolute; color: #fff; font: 12px sans-serif; background: #000b; padding: 0 4px;
  border-radius: 3px; pointer-events: none; }
.over-view:empty { display: none; }
.view-name { left: 44px; top: 7px; font-weight: 600; }
.view-buttons { position: absolute; left: 2px; top: 2px; display: flex; flex-direction: column; }
.view-buttons .v-btn { background: #0009; }
.side-letter { color: #ffd54f; font: 600 15px sans-serif; }
.slice-position { left: 8px; bottom: 30px; }
.pointer { right: 8px; bottom: 30px; font-size: 11px; visibility: hidden; }
:hover > .pointer { visibility: visible; }
.slice-slider { position: absolute; bottom: 0; left: 0; right: 0; }
@media (max-width: 600px) { .view-name { left: 36px; font-size: 11px; } }
"""


def side_text(axis: int, mm: float) -> str:
    """ "Left 12.3" of a coordinate (R, A or S in mm)."""
    return f"{SIDES[axis][int(mm < 0)]} {abs(mm):.1f}"


def decorate_3d(_server: Any, _view_id: str, view: Any) -> None:
    html.Div("3D", classes="over-view view-name", id="name-3D", title=_("Structures in 3D"))
    with html.Div(classes="view-buttons"):
        _button("mdi-fit-to-screen-outline", _("3D: show all of it"), view.reset_view)


def decorate_slices(server: Any, _view_id: str, view: Any) -> None:
    plane = view.get_orientation()
    name, style = PLANES[plane], f"color: {_COLOURS[plane]}"
    html.Div(
        name,
        classes="over-view view-name",
        id=f"name-{plane}",
        style=style,
        title=_("{plane} slice").format(plane=name),
    )
    with html.Div(classes="view-buttons"):
        for icon, text, act in (
            ("mdi-fit-to-screen-outline", _("{plane}: show all of it"), view.reset_view),
            ("mdi-video-3d", _("{plane}: show or hide this slice in 3D"), view.toggle_visible_in_3d),
        ):
            _button(icon, text.format(plane=name), act)
    for letter, place in zip(_LETTERS[plane], _PLACES, strict=True):
        said = f'role="img" aria-label="{_WORDS[letter]}" title="{_WORDS[letter]}"'
        html.Div(letter, classes="over-view side-letter", id=f"{plane}-{letter}", style=place, raw_attrs=[said])
    position, pointer = f"position_{plane}", f"pointer_{plane}"
    html.Div(f"{{{{ {position} }}}}", classes="over-view slice-position", id=f"position-{plane}")
    html.Div(f"{{{{ {pointer} }}}}", classes="over-view pointer", id=f"pointer-{plane}")
    slider = connect_slice_view_slider_to_state(server, view)
    Slider(slider, classes="slice-slider", theme="dark", density="compact", name=_("{plane}: slice").format(plane=name))
    readout = _Readout(server, view, position, pointer)
    view.modified.connect(readout.update)
    view.interactor().AddObserver("MouseMoveEvent", readout.update, 1.0)
    readout.update()


def _button(icon: str, title: str, act: Callable[[], None]) -> None:
    said = [f'aria-label="{title}"', f'title="{title}"']
    v3.VBtn(icon=icon, click=act, variant="text", size="x-small", color="white", raw_attrs=said)


class _Readout:
    """Where a view's slice is, and the grey value under the pointer, as two texts of the page's state."""

    def __init__(self, server: Any, view: Any, position: str, pointer: str) -> None:
        self._state = server.state
        self._view = view
        self._names = (position, pointer)
        server.state.update({position: "", pointer: ""})

    def update(self, *_event: Any) -> None:
        volume = slicer.mrmlScene.GetNodeByID(self._view.get_background_volume_id() or "")
        texts = ("", "") if volume is None else (self._position(), self._under_pointer(volume))
        with self._state as state:
            state.update(dict(zip(self._names, texts, strict=True)))

    def _position(self) -> str:
        """Of the plane: how far it is from the origin along what it lies across."""
        matrix = to_array(self._view.get_view_node().GetSliceToRAS())
        normal, origin = matrix[:3, 2], matrix[:3, 3]
        axis = int(np.abs(normal).argmax())
        return side_text(axis, float(normal @ origin * np.sign(normal[axis]))) + " mm"

    def _under_pointer(self, volume: Any) -> str:
        x, y = self._view.interactor().GetEventPosition()
        point = np.array(self._view.get_view_node().GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0)))
        place = ", ".join(side_text(axis, point[axis]) for axis in range(3)) + " mm"
        try:
            image = mrml.image_of([volume])
        except MAESegmentError:
            return place
        index = np.rint(np.linalg.inv(image.ijk_to_world) @ point)[:3].astype(int)[::-1]
        voxels = image.channels[0]
        if (index < 0).any() or (index >= voxels.shape).any():
            return place
        return f"{place}: {float(voxels[tuple(index)]):.5g} {unit_of(volume)}".rstrip()
