"""MAESegment: data-efficient 3D segmentation with an MAE-pretrained nnFormer."""

from .version import __version__

__all__ = ["__version__"]
