"""Between the nodes of a Slicer scene and images: the only place, with `web`, that imports slicer and vtk.

Runs on Slicer's own thread and without any package that Slicer does not have.
"""

from .annotations import Drawing, Segment, drawing_steps, drawn_segments, looks_of
from .content import content_of, content_stamp, content_steps, forget_content, has_content, is_edited
from .frames import Frame, add_segmentation_sequence, frame_name, frames_of, remove_node, show_frame
from .scene import SceneWatch, distinct_name, unique_name
from .segmentations import (
    add_segment,
    add_segmentation,
    is_difference,
    label_map_of,
    mark_difference,
    may_be_of,
    note_volume,
    prepare_segments,
    put_segments,
    segment_id_of,
    segmentations_of,
    volume_of,
)
from .showing import hide, is_in_views, is_waiting, middle_of, show_in_views
from .surfaces import (
    Body,
    bodies_of,
    closed_surface,
    is_shown_in_3d,
    put_surfaces,
    show_in_3d,
    surface_steps,
    world_surface,
    write_stl,
)
from .volumes import NodeImage, extent_of, facts_of, hardened_copy, image_of, problem_of, roi_of, voxels_of

__all__ = [
    "Body",
    "Drawing",
    "Frame",
    "NodeImage",
    "SceneWatch",
    "Segment",
    "add_segment",
    "add_segmentation",
    "add_segmentation_sequence",
    "bodies_of",
    "closed_surface",
    "content_of",
    "content_stamp",
    "content_steps",
    "distinct_name",
    "drawing_steps",
    "drawn_segments",
    "extent_of",
    "facts_of",
    "forget_content",
    "frame_name",
    "frames_of",
    "hardened_copy",
    "has_content",
    "hide",
    "image_of",
    "is_difference",
    "is_edited",
    "is_in_views",
    "is_shown_in_3d",
    "is_waiting",
    "label_map_of",
    "looks_of",
    "mark_difference",
    "may_be_of",
    "middle_of",
    "note_volume",
    "prepare_segments",
    "problem_of",
    "put_segments",
    "put_surfaces",
    "remove_node",
    "roi_of",
    "segment_id_of",
    "segmentations_of",
    "show_frame",
    "show_in_3d",
    "show_in_views",
    "surface_steps",
    "unique_name",
    "volume_of",
    "voxels_of",
    "world_surface",
    "write_stl",
]
