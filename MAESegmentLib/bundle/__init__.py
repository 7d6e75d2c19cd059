"""A model on disk: described (`ModelSpec`), saved atomically, opened verified, exchanged as a zip, found by name.

Nothing here imports torch until weights are read or written, so that a GUI may list models cheaply.
"""

from .archive import export_bundle, import_bundle
from .changing import VersionTaken
from .folder import Bundle, check_inference_config, open_bundle, save_bundle, verify_bundle
from .spec import ModelSpec
from .store import ModelStore

__all__ = [
    "Bundle",
    "ModelSpec",
    "ModelStore",
    "VersionTaken",
    "check_inference_config",
    "export_bundle",
    "import_bundle",
    "open_bundle",
    "save_bundle",
    "verify_bundle",
]
