"""Slicer's views in a browser: a front door (`front`), and for each user a process with a scene of its own.

Thin: what is done with volumes, models and cases is in `app`, `worker`, `mrml`, `cases` and `bundle`.
"""
