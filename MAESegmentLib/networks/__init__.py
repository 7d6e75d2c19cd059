"""nnFormer and its masked autoencoder: pure torch, no files. Their configurations are read without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from .config import MaeConfig, NnFormerConfig
    from .mae import MaeOutput, MaskedAutoencoder, Reconstruction
    from .nnformer import NnFormer
    from .official import import_official
    from .transfer import KeyReport, transfer_encoder, transfer_matching

_HOME = {
    "KeyReport": "transfer",
    "MaeConfig": "config",
    "MaeOutput": "mae",
    "MaskedAutoencoder": "mae",
    "NnFormer": "nnformer",
    "NnFormerConfig": "config",
    "Reconstruction": "mae",
    "import_official": "official",
    "transfer_encoder": "transfer",
    "transfer_matching": "transfer",
}

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

__getattr__ = importing(__name__, _HOME)
