"""The version of MAESegment."""

__version__ = "0.1.0"
