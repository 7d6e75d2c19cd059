"""Scans without labels for a fine-tuning: nodes of the scene become files of the run; files and folders stay theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import mrml
from ..console.calls import several
from ..console.training_request import existing_places
from ..errors import DatasetError, GeometryError, NodeError
from ..jobs import JobProgress
from ..jobs.runner import Operation, in_thread
from ..runs import FineTuneRun, RunRequest, create_run
from ..storage.file_names import unique_file_names
from ..storage.user_folders import default_runs_folder
from ..translation import tr as _
from ..worker.client.requests import submit_scan_file
from ..worker.job_folder import JobFolder
from .session import SceneSession


def divided(unlabelled: Any) -> tuple[list[Path], list[Any]]:
    """(files and folders, volume nodes), of one of them or several; raises for a place that is not there."""
    kinds = (str, os.PathLike, mrml.Node)
    given = several(unlabelled, kinds, _("Give a folder, a file or a volume node, or several of them."))
    nodes = [one for one in given if isinstance(one, mrml.Node)]
    return existing_places([one for one in given if not isinstance(one, mrml.Node)]), nodes


def run_with_scans(session: SceneSession, nodes: Sequence[Any], request: RunRequest) -> Operation[FineTuneRun]:
    """A new run as `request` says, with the voxels of `nodes` in files of its own, which the worker writes.

    Nodes that cannot be used are named in its notes. `DatasetError` if that is all of them.
    """
    if not nodes:
        yield None
        return create_run(default_runs_folder(), request)
    folder = JobFolder.create(session.working_folder)
    names = unique_file_names((mrml.distinct_name(node) for node in nodes), ".nii.gz")
    files: list[Path] = []
    left_out: list[str] = []
    try:
        for number, (node, name) in enumerate(zip(nodes, names, strict=True), start=1):
            text = _("Writing scan {number} of {count} ...").format(number=number, count=len(nodes))
            yield JobProgress(text, (number - 1) / len(nodes))
            try:
                image = mrml.image_of((node,))
                where = {"file": folder.path / name, "working_folder": session.working_folder}
                files.append((yield submit_scan_file(session.client, image.channels, image.ijk_to_world, **where)))
            except (DatasetError, GeometryError, NodeError) as error:
                left_out.append(_("Left out: {scan}: {why}").format(scan=node.GetName(), why=error.message))
        if not files:
            raise DatasetError("\n".join(left_out), _("Choose other scans without labels, or learn from cases alone."))
        noted = replace(request, notes=(*request.notes, *left_out))
        return (yield from in_thread(lambda: create_run(default_runs_folder(), noted, files)))
    finally:
        folder.remove()
