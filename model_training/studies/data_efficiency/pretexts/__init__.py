"""What an encoder can learn from images without labels: one task of the training loop for each way."""

from .making import PRETEXTS, make_pretext

__all__ = ["PRETEXTS", "make_pretext"]
