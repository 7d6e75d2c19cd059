"""Reading and writing scans and label maps: only complete volumes with a known place in space get in or out."""

from .reading import list_series, read_label_map, read_volume, read_volumes
from .volume import Grid, LabelMap, Volume
from .writing import check_label_map_destination, write_label_map, write_volume
