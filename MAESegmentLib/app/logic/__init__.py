"""What the module and the browser do with a scene: one object, composed of four parts, with Slicer's names."""

from .facade import Logic

__all__ = ["Logic"]
