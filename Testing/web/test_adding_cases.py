"""Adding a case in the browser, without one: what the event loop may do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trame")

from MAESegmentLib.web.cases_panel import CasesPanel


class Panel(CasesPanel):
    """Its state is a dict, and what it would store is noted."""

    def __init__(self, logic: Any) -> None:
        self.values: dict[str, Any] = {}
        self.stored = 0
        self._shown = (None, None)
        self.logic = logic
        self.workspace = SimpleNamespace(scan=SimpleNamespace(node="scan"), segmentation="segmentation")
        self.app = SimpleNamespace(segment=SimpleNamespace(bundle="model", region=None), learning=None)

    def put(self, **values: Any) -> None:
        self.values.update(values)

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def refresh(self) -> None:
        pass

    def _store(self, *_how: Any) -> None:
        self.stored += 1


class Logic:
    """Identifies a scan only once `happened` is set, by whatever else the event loop does."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self.threads: list[threading.Thread] = []

    def identifyScan(self, *_what: Any) -> Any:  # noqa: N802
        def look() -> None:
            self.threads.append(threading.current_thread())
            assert self.happened.wait(30), "the event loop stood still"

        return look

    def proposeCase(self, *_what: Any) -> Any:  # noqa: N802
        return SimpleNamespace(stored=None, duplicate=None, findings=[], choices=[], isChanged=False)


def test_the_event_loop_goes_on_while_a_scan_is_compared_with_the_stored_ones() -> None:
    panel = Panel(Logic())

    async def both() -> None:
        adding = asyncio.ensure_future(panel.add())
        await asyncio.sleep(0)
        assert panel.values["busy"], "the button could be pressed again"
        panel.logic.happened.set()
        await adding

    asyncio.run(both())
    assert panel.logic.threads != [threading.main_thread()]
    assert panel.stored == 1


def test_nothing_is_stored_when_another_scan_was_chosen_meanwhile() -> None:
    panel = Panel(Logic())

    async def both() -> None:
        adding = asyncio.ensure_future(panel.add())
        await asyncio.sleep(0)
        panel.workspace.scan = SimpleNamespace(node="another")
        panel.logic.happened.set()
        await adding

    asyncio.run(both())
    assert panel.stored == 0
    assert not panel.values["busy"]


@pytest.mark.parametrize("other", ["scan", "segmentation"])
def test_what_was_said_of_one_scan_is_not_read_beside_another(other: str) -> None:
    panel = Panel(Logic())
    panel.update()
    panel.put(said="case-0001 added.")
    panel.update()
    assert panel.values["said"] == "case-0001 added.", "the same is shown"
    setattr(panel.workspace, other, SimpleNamespace(node="other"))
    panel.update()
    assert panel.values["said"] == ""
