"""Slice and 3D views in a grid, with the letters that say which side is which."""

from __future__ import annotations

from typing import Any

import vtk
from trame.widgets import html
from trame_slicer.app.ui import create_vertical_slice_view_gutter_ui, create_vertical_view_gutter_ui
from trame_slicer.core import LayoutManager
from trame_slicer.rca_view import register_rca_factories

#: (left, right, top, bottom) as Slicer shows each plane: the patient's right is on the screen's left.
_LETTERS = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}
#: The planes across R, A and S.
_PLANES = ("Sagittal", "Coronal", "Axial")
_PLACES = (
    "left: 40px; top: 50%",
    "right: 8px; top: 50%",
    "left: 50%; top: 4px",
    "left: 50%; bottom: 34px",
)
FIRST_LAYOUT = "Quad View"


class Views:
    """`layouts` are the names of the ways to arrange them."""

    def __init__(self, server: Any, slicer_app: Any) -> None:
        self._app = slicer_app
        register_rca_factories(
            slicer_app.view_manager,
            server,
            slice_view_ui_f=_slice_decoration,
            three_d_view_ui_f=create_vertical_view_gutter_ui,
            target_fps=20.0,
            interactive_quality=60,
        )
        self._manager = LayoutManager(slicer_app.scene, slicer_app.view_manager, server)
        self._manager.register_layout_dict(LayoutManager.default_grid_configuration())
        self.layouts = self._manager.get_layout_ids()
        self._manager.set_layout(FIRST_LAYOUT)

    def build(self, layout: Any) -> None:
        self._manager.initialize_layout_grid(layout)

    def set_layout(self, name: str) -> None:
        self._manager.set_layout(name)

    def reset_3d(self) -> None:
        for view in self._app.view_manager.get_threed_views():
            view.reset_view()

    def centre(self) -> tuple[float, float, float]:
        """The point (RAS, mm) in which the slice views cross."""
        point = [0.0, 0.0, 0.0]
        for view in self._app.view_manager.get_slice_views():
            axis = _PLANES.index(view.get_orientation())
            point[axis] = view.get_view_node().GetSliceToRAS().GetElement(axis, 3)
        return (point[0], point[1], point[2])

    def go_to(self, point: tuple[float, float, float]) -> None:
        """Slices through a point (RAS, mm)."""
        for view in self._app.view_manager.get_slice_views():
            view.get_view_node().JumpSliceByOffsetting(*point)

    def centre_on(self, roi: Any) -> None:
        self.go_to(tuple(roi.GetCenterWorld()))

    def centre_on_segmentation(self, node: Any) -> None:
        """To the middle of what was found, if anything was."""
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        if vtk.vtkMath.AreBoundsInitialized(bounds):
            self.go_to(tuple((bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)))  # type: ignore[arg-type]


def _slice_decoration(server: Any, view_id: str, view: Any) -> None:
    create_vertical_slice_view_gutter_ui(server, view_id, view)
    plane = view.get_orientation()
    for letter, place in zip(_LETTERS.get(plane, ""), _PLACES, strict=False):
        html.Div(letter, classes="side-letter", id=f"{plane}-{letter}", style=f"position: absolute; {place};")
