"""The side of the worker that computes."""
