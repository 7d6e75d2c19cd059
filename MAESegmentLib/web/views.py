"""Slice and 3D views in a grid, arranged as Slicer arranges them."""

from __future__ import annotations

from typing import Any

from trame_slicer.core import LayoutManager
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition

from .. import mrml
from ..translation import tr as _
from .view_decoration import PLANES, decorate_3d, decorate_slices

#: The planes across R, A and S.
_PLANES = ("Sagittal", "Coronal", "Axial")
FIRST_LAYOUT = "four"


def _layouts() -> dict[str, tuple[str, Layout]]:
    """What each is called, and what it is, by names for the program."""
    axial, coronal = ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.coronal_view()
    sagittal, threed = ViewLayoutDefinition.sagittal_view(), ViewLayoutDefinition.threed_view()
    beside, below = LayoutDirection.Horizontal, LayoutDirection.Vertical
    return {
        # Slicer's Four-Up: axial and 3D above coronal and sagittal.
        FIRST_LAYOUT: (
            _("Four views"),
            Layout(beside, [Layout(below, [axial, coronal]), Layout(below, [threed, sagittal])]),
        ),
        "axial and more": (_("Axial large"), Layout(beside, [axial, Layout(below, [threed, coronal, sagittal])])),
        "3d and more": (_("3D large"), Layout(beside, [threed, Layout(below, [axial, coronal, sagittal])])),
        "axial": (_("{plane} only").format(plane=PLANES["Axial"]), Layout(below, [axial])),
        "coronal": (_("{plane} only").format(plane=PLANES["Coronal"]), Layout(below, [coronal])),
        "sagittal": (_("{plane} only").format(plane=PLANES["Sagittal"]), Layout(below, [sagittal])),
        "3d": (_("3D only"), Layout(below, [threed])),
    }


class Views:
    """`layouts` are the ways to arrange them, for a list that drops down."""

    def __init__(self, server: Any, slicer_app: Any) -> None:
        self._app = slicer_app
        register_rca_factories(
            slicer_app.view_manager,
            server,
            slice_view_ui_f=decorate_slices,
            three_d_view_ui_f=decorate_3d,
            target_fps=20.0,
            interactive_quality=60,
        )
        self._manager = LayoutManager(slicer_app.scene, slicer_app.view_manager, server)
        layouts = _layouts()
        self._manager.register_layout_dict({name: layout for name, (_title, layout) in layouts.items()})
        self.layouts = [{"title": title, "value": name} for name, (title, _layout) in layouts.items()]
        self._manager.set_layout(FIRST_LAYOUT)

    def build(self, layout: Any) -> None:
        self._manager.initialize_layout_grid(layout)

    def set_layout(self, name: str) -> None:
        if self._manager.has_layout(name):
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
        if (middle := mrml.middle_of(node)) is not None:
            self.go_to(middle)
