"""Whoever stores a case without the packages for it hears which are missing, not that something broke."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from MAESegmentLib.worker.job_folder import JobFolder
from Testing.children import run


def test_a_case_is_not_stored_without_the_packages_and_they_are_named(tmp_path):
    folder, store = JobFolder.create(tmp_path), tmp_path / "store"
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2:4, 2:5, 2:5] = 1
    list(folder.write_label_map(labels))
    list(folder.write_volume([np.arange(336, dtype=np.int16).reshape(6, 7, 8)], np.eye(4)))

    def work() -> None:
        """As in a process that has just begun, of a Python without nibabel."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("MAESegmentLib", "nibabel")]:
            del sys.modules[name]
        sys.modules["nibabel"] = None
        from MAESegmentLib.cases.submission import CaseSubmission
        from MAESegmentLib.errors import WorkerError
        from MAESegmentLib.images.labels import Label
        from MAESegmentLib.worker.protocol import AddCase
        from MAESegmentLib.worker.work.segmenting import SegmentationWork

        request = AddCase("1", str(folder.path), str(store), CaseSubmission((Label(1, "front"),)).to_dict())
        with pytest.raises(WorkerError, match=r"cannot fine-tune.*nibabel") as caught:
            SegmentationWork().run(request, lambda _message: None, lambda: False)
        assert 'Install the missing packages in that Python: "nibabel>=' in caught.value.hint
        assert not list(store.glob("case-*"))

    run(work)
