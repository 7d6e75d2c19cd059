"""The side of the worker that asks: needs no torch."""
