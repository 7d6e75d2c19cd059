"""Slicer's views in a browser: a front door (`front`), and for each person a process with a scene of its own.

Thin: what is done with volumes, models and cases is in `scene`, `jobs`, `mrml`, `cases` and `bundle`.
"""
