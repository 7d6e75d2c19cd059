"""Whoever stores a case without the packages for it hears which are missing, not that something broke."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

CODE = """
import sys
sys.modules["nibabel"] = None
import numpy as np
from pathlib import Path
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.errors import WorkerError
from MAESegmentLib.worker.job_folder import JobFolder
from MAESegmentLib.worker.protocol import AddCase
from MAESegmentLib.worker.work.segmenting import SegmentationWork
from MAESegmentLib.images.labels import Label

folder, store = JobFolder.create(Path(sys.argv[1])), Path(sys.argv[1]) / "store"
labels = np.zeros((6, 7, 8), np.uint8)
labels[2:4, 2:5, 2:5] = 1
list(folder.write_label_map(labels))
list(folder.write_volume([np.arange(336, dtype=np.int16).reshape(6, 7, 8)], np.eye(4)))
request = AddCase("1", str(folder.path), str(store), CaseSubmission((Label(1, "front"),)).to_dict())
try:
    SegmentationWork().run(request, lambda message: None, lambda: False)
except WorkerError as error:
    print(error)
print([path.name for path in store.glob("case-*")])
"""


def test_a_case_is_not_stored_without_the_packages_and_they_are_named(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert answer.returncode == 0, answer.stderr
    said, advice, stored = answer.stdout.splitlines()
    assert "cannot fine-tune" in said
    assert "nibabel" in said
    assert 'pip install "nibabel>=' in advice
    assert stored == "[]"
