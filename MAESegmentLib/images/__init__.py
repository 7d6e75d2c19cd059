"""Reading and writing scans and label maps: only complete volumes with a known place in space get in or out.

Names are imported when first used: Slicer's own process needs grids, but has none of the packages that read files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from .reading import list_series, read_label_map, read_segments, read_volume, read_volumes
    from .volume import Grid, LabelMap, Volume
    from .writing import check_label_map_destination, write_label_map, write_volume

_HOME = {
    "Grid": "volume",
    "LabelMap": "volume",
    "Volume": "volume",
    "check_label_map_destination": "writing",
    "list_series": "reading",
    "read_label_map": "reading",
    "read_segments": "reading",
    "read_volume": "reading",
    "read_volumes": "reading",
    "write_label_map": "writing",
    "write_volume": "writing",
}

__all__ = [
    "Grid",
    "LabelMap",
    "Volume",
    "check_label_map_destination",
    "list_series",
    "read_label_map",
    "read_segments",
    "read_volume",
    "read_volumes",
    "write_label_map",
    "write_volume",
]

__getattr__ = importing(__name__, _HOME)
