"""MAESegment: data-efficient 3D segmentation with an MAE-pretrained nnFormer."""

__version__ = "0.1.0"
