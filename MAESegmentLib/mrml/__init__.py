"""Between the nodes of a Slicer scene and images: the only place, with `web`, that imports slicer and vtk.

Runs on Slicer's own thread and without any package that Slicer does not have.
"""

from .annotations import Drawing, Segment, drawing_steps, drawn_segments, looks_of
from .content import content_of, content_stamp, content_steps, forget_content, has_content, is_edited
from .frames import Frame, add_segmentation_sequence, frames_of, remove_node, show_frame
from .scene import SceneWatch, unique_name
from .segmentations import add_segmentation, label_map_of, prepare_segments, put_segments, segment_id_of
from .surfaces import Body, bodies_of, closed_surface, put_surfaces, show_in_3d, surface_steps, world_surface, write_stl
from .volumes import NodeImage, facts_of, hardened_copy, image_of, problem_of, roi_of

__all__ = [
    "Body",
    "Drawing",
    "Frame",
    "NodeImage",
    "SceneWatch",
    "Segment",
    "add_segmentation",
    "add_segmentation_sequence",
    "bodies_of",
    "closed_surface",
    "content_of",
    "content_stamp",
    "content_steps",
    "drawing_steps",
    "drawn_segments",
    "facts_of",
    "forget_content",
    "frames_of",
    "hardened_copy",
    "has_content",
    "image_of",
    "is_edited",
    "label_map_of",
    "looks_of",
    "prepare_segments",
    "problem_of",
    "put_segments",
    "put_surfaces",
    "remove_node",
    "roi_of",
    "segment_id_of",
    "show_frame",
    "show_in_3d",
    "surface_steps",
    "unique_name",
    "world_surface",
    "write_stl",
]
