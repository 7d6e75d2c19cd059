"""Between the nodes of a Slicer scene and images: the only place, with `web`, that imports slicer and vtk.

Runs on Slicer's own thread and without any package that Slicer does not have.
"""

from .frames import Frame, add_segmentation_sequence, frames_of, show_frame
from .segmentations import (
    add_segmentation,
    is_edited,
    label_map_of,
    remember_content,
    segment_id_of,
    show_in_3d,
    surface_steps,
)
from .volumes import NodeImage, hardened_copy, image_of, problem_of, roi_of

__all__ = [
    "Frame",
    "NodeImage",
    "add_segmentation",
    "add_segmentation_sequence",
    "frames_of",
    "hardened_copy",
    "image_of",
    "is_edited",
    "label_map_of",
    "problem_of",
    "remember_content",
    "roi_of",
    "segment_id_of",
    "show_frame",
    "show_in_3d",
    "surface_steps",
]
