"""nnFormer and its masked autoencoder: pure torch, no files."""

from .config import MaeConfig, NnFormerConfig
from .mae import MaeOutput, MaskedAutoencoder, Reconstruction
from .nnformer import NnFormer
from .official import import_official
from .transfer import KeyReport, transfer_encoder, transfer_matching

__all__ = [
    "KeyReport",
    "MaeConfig",
    "MaeOutput",
    "MaskedAutoencoder",
    "NnFormer",
    "NnFormerConfig",
    "Reconstruction",
    "import_official",
    "transfer_encoder",
    "transfer_matching",
]
