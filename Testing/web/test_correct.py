"""The last stroke, when the user goes on to something else at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from MAESegmentLib.web.panels import correct
from MAESegmentLib.web.unsaved import Unsaved
from MAESegmentLib.web.workspace import Scan, Workspace
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, labels_for, segmented, volume


class State(dict):
    """The page's, without a page."""

    def change(self, *_names):
        return lambda callback: callback

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


@pytest.mark.parametrize("goes_to", ["another scan", "another segmentation", "no scan"])
def test_the_last_stroke_is_kept_with_its_own_scan(monkeypatch, tmp_path, goes_to):
    monkeypatch.setattr(correct, "EditorLogic", lambda *_arguments: MagicMock(was_edited=True))
    workspace = Workspace(MagicMock())
    first, second = (Scan(volume(grid), None) for grid in (GRIDS["oblique"], GRIDS["LAS"]))
    workspace.scans += [first, second]
    other, drawing = (segmented(first.node, labels_for((9, 11, 13))) for _number in range(2))

    async def walk():
        # As the session's own loop: what is later can be cancelled.
        loop = SimpleNamespace(call_later=lambda s, act: asyncio.get_running_loop().call_later(s, act).cancel)
        session = SimpleNamespace(loop=loop)
        app = MagicMock(state=State(), workspace=workspace, session=session, unsaved=Unsaved(tmp_path))
        panel = correct.CorrectPanel(app, MagicMock())
        workspace.show(first)
        workspace.choose(drawing)
        panel._on_edit()
        if goes_to == "another scan":
            workspace.show(second)
        elif goes_to == "another segmentation":
            workspace.choose(other)
        else:
            workspace.remove(first)
        await asyncio.gather(*panel._tasks)
        app.say.assert_not_called()

    asyncio.run(walk())
    there = asyncio.run(Unsaved(tmp_path).found(first.node)) if goes_to != "no scan" else [*tmp_path.iterdir()]
    assert len(there) == (goes_to != "no scan"), "a scan that was closed has been asked about"
    assert asyncio.run(Unsaved(tmp_path).found(second.node)) == []
