"""The self test's way through learning: cases are stored, a version is made of them, used, compared, and taken back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from MAESegmentLib import mrml
from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.runs import RunState
from MAESegmentLib.runs.launching import reap

from . import volumes as scene_of
from .body_model import LABELS, body_on

_PATIENCE_S = 600.0
#: Enough to see that every part works, not to learn anything.
_QUICK = {"steps": 4, "validate_every": 2, "checkpoint_every": 2}

#: `expect(condition, sentence)` raises the self test's error.
Expect = Callable[[Any, str], None]


class LearningTest:
    """Everything it makes lies in `folder`, or in the scene in `nodes`; the user's own models and cases are not
    touched."""

    def __init__(self, logic: Any, model: Bundle, folder: Path, nodes: list[Any], expect: Expect) -> None:
        library = ModelLibrary(ModelStore(model.path.parents[1], shipped_folder=folder / "nothing ships"))
        self._logic = type(logic)(session=logic.session, library=library, caseFolder=folder / "cases")
        self._model = model
        self._runs = folder / "runs"
        self._nodes = nodes
        self._expect = expect

    def run(self) -> str:
        """Return the finished run's own sentence."""
        with environment("MAESEGMENT_RUNS", str(self._runs)):
            first = self._store("Self test case", role="train")
            self._store("Self test check", role="check", make=scene_of.left_handed)
            self._edit_and_update(*first)
            banner = self._fine_tune()
            self._compare(first[0])
            self._take_back()
        return banner

    def _store(self, name: str, *, role: str, make: Callable[[str], Any] = scene_of.plain) -> tuple[Any, Any]:
        volume = make(name)
        shape = volume.GetImageData().GetDimensions()[::-1]
        labels = body_on(shape, mrml.image_of([volume]).ijk_to_world)[1]
        node = mrml.add_segmentation(volume, LABELS, labels, (0, 0, 0), name=f"{name} drawn")
        mrml.forget_content(node)
        self._nodes.append(node)
        record = self._logic.addCase(volume, node, self._model, role=role, absent=["absent"])
        self._expect(record.labels == ("front", "back", "absent"), f"the case has the labels {record.labels}")
        self._expect(record.volumes_ml["front"] > 1.0, f"the case's volumes are {record.volumes_ml}")
        image, segmentation = self._logic.openCase(record, self._model)
        self._nodes += [image, segmentation]
        again = mrml.label_map_of(segmentation, image, LABELS).array.transpose(2, 1, 0)
        self._expect((again == labels).all(), "a case that is opened is not what was stored")
        return volume, node

    def _edit_and_update(self, volume: Any, node: Any) -> None:
        self._expect(self._logic.changedCases() == [], "a case counts as edited that was not")
        node.GetSegmentation().GetNthSegment(1).SetName("back ")
        changed = [record.id for _node, record in self._logic.changedCases()]
        self._expect(changed == ["case-0001"], f"the edited cases are {changed}")
        record = self._logic.addCase(volume, node, self._model, update=True)
        self._expect(record.revision == 2, f"the updated case has revision {record.revision}")

    def _fine_tune(self) -> str:
        job = self._logic.fineTune(baseModel=self._model, device="cpu", wait=False, **_QUICK)
        try:
            result = job.result(_PATIENCE_S)
        finally:
            if job.status.state is not RunState.DONE:
                job.discard()
            self._wait_for_its_end()
        self._expect(job.curves.loss, "there is no curve of the loss")
        self._expect(result.parent["hash"] == self._model.content_hash, f"the parent is {result.parent}")
        self._expect(self._meant() == self._model.content_hash, "the new version is used though nobody accepted it")
        job.accept()
        self._expect(self._meant() == result.model["hash"], "the accepted version is not used")
        self._expect(self._logic.fineTuneRuns() == [], "the run is still waiting to be accepted")
        return result.banner

    def _wait_for_its_end(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while reap():
            self._expect(time.monotonic() < end, "the process of the fine-tuning does not end")
            self._logic.session.loop.pump(0.1)

    def _compare(self, volume: Any) -> None:
        result = self._logic.compare(volume, self._model, self._logic.selectedModel(self._model.name))
        self._nodes += [result.first, result.second, result.disagreement]
        names = [row.label for row in result.rows]
        self._expect(names[:2] == ["front", "back"], f"the comparison has the rows {names}")

    def _take_back(self) -> None:
        new = self._logic.selectedModel(self._model.name)
        self._logic.useVersion(self._model)
        self._expect(self._meant() == self._model.content_hash, "the version before is not used again")
        self._logic.removeVersion(new)
        self._expect(len(self._logic.models()) == 1, "the version that was removed is still there")

    def _meant(self) -> str:
        return str(self._logic.selectedModel(self._model.name).content_hash)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """With another value of a variable."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
