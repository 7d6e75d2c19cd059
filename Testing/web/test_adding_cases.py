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
        self.logic = logic
        self.workspace = SimpleNamespace(scan=SimpleNamespace(node="scan"), segmentation="segmentation")
        self.app = SimpleNamespace(segment=SimpleNamespace(bundle="model"))

    def put(self, **values: Any) -> None:
        self.values.update(values)

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
