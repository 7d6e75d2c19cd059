"""The last stroke, when the user goes on to something else at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.samples import head_path
from MAESegmentLib.web.panels import correct, data
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


def test_what_is_discarded_is_not_written_again_by_a_hand_that_comes_to_rest(monkeypatch, tmp_path):
    monkeypatch.setattr(correct, "EditorLogic", lambda *_arguments: MagicMock(was_edited=True))
    rests = []

    class Slow(Unsaved):
        async def forget(self, node):
            await super().forget(node)
            while rests:
                rests.pop()()
            await asyncio.sleep(0.2)  # another is being written

    workspace = Workspace(MagicMock())
    scan = Scan(volume(GRIDS["oblique"]), read_volume(head_path()))
    scan.node.CreateDefaultDisplayNodes()
    workspace.scans.append(scan)
    drawing, _other = (segmented(scan.node, labels_for((9, 11, 13))) for _number in range(2))

    async def walk():
        session = SimpleNamespace(loop=SimpleNamespace(call_later=lambda _s, act: rests.append(act)))
        app = MagicMock(state=State(), workspace=workspace, session=session, unsaved=Slow(tmp_path))
        panel, closing = correct.CorrectPanel(app, MagicMock()), data.DataPanel(app, MagicMock())
        workspace.show(scan)
        workspace.choose(drawing)
        await app.unsaved.keep(drawing, scan.node)
        panel._on_edit()
        # Its last stroke is pending when the question is answered.
        monkeypatch.setattr(panel, "_keep_last_stroke", lambda: None)
        await closing._remove(scan)
        await asyncio.gather(*panel._tasks, *closing._tasks)

    asyncio.run(walk())
    assert not workspace.scans
    assert [*tmp_path.iterdir()] == []
