"""Slicer's own process has numpy, but none of the packages that read files or run networks: it must not need them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import MAESegmentLib
from MAESegmentLib.bundle import ModelStore, export_bundle
from Testing.bundles import save_tiny

ROOT = Path(__file__).parents[3]

#: Refuses every import of what is neither ours nor numpy nor Python's own.
BLOCK = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("MAESegmentLib", "numpy"):
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in [name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names]:
    if name != "__main__":
        del sys.modules[name]
sys.meta_path.insert(0, Blocker())
"""


def run(code: str, environ: Mapping[str, str] | None = None) -> str:
    """What `code` prints in a process that has only numpy."""
    answer = subprocess.run(
        [sys.executable, "-c", BLOCK + code],
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_the_blocker_blocks():
    code = """
for package in ("torch", "nibabel", "psutil", "scipy.ndimage", "monai"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        print(package)
"""
    assert run(code).split() == ["torch", "nibabel", "psutil", "scipy.ndimage", "monai"]


#: Together they import all that the module of Slicer, its worker's client and the console import.
LIGHT = (
    "bundle.archive bundle.changing bundle.names cases.mapping cases.snapshot cases.store cases.submission "
    "console.console evaluation.comparison images.scans images.volumetry inference.ranking inference.settings "
    "processes.environment processes.process_tree runs training.settings worker.client.requests"
)


def test_what_slicer_imports_needs_only_numpy():
    code = f"import importlib\nfor name in {LIGHT.split()}: importlib.import_module('MAESegmentLib.' + name)"
    run(f"{code}\nprint('there')")


def test_the_public_face_needs_nothing_until_a_name_is_used():
    code = (
        "sys.modules['numpy'] = None\nimport MAESegmentLib\n"
        "print(MAESegmentLib.__version__, MAESegmentLib.errors.Cancelled().code, 'torch' in sys.modules)"
    )
    assert run(code) == f"{MAESegmentLib.__version__} cancelled False"


def test_the_public_face_has_what_it_names():
    assert all(getattr(MAESegmentLib, name) is not None for name in MAESegmentLib.__all__)
    assert set(MAESegmentLib.__all__) <= set(dir(MAESegmentLib))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        MAESegmentLib.nothing  # noqa: B018


def test_scripts_do_not_load_slicer_where_it_is_only_installed():
    """slicer-core would load VTK, which takes seconds and may be another user's."""
    code = "import sys, MAESegmentLib; MAESegmentLib.Console, MAESegmentLib.Predictor; print('slicer' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_numpy_itself_is_not_needed_by_what_any_python_may_run():
    code = (
        "sys.modules['numpy'] = None\nimport MAESegmentLib.processes.environment; "
        "import MAESegmentLib.worker.work.serving; print('there')"
    )
    assert run(code) == "there"


def test_shipped_models_are_listed_and_their_cards_read(tmp_path):
    code = """
import json
from MAESegmentLib.bundle import ModelStore
store = ModelStore()
print(json.dumps([
    [b.name, b.version, b.kind, len(b.labels), len(b.card), b.size_bytes, store.find(b.name).content_hash]
    for b in store.list()
]))
"""
    listed = json.loads(run(code, {"MAESEGMENT_MODELS": str(tmp_path)}))
    shipped = ModelStore(tmp_path).list()
    assert [entry[0] for entry in listed] == [bundle.name for bundle in shipped]
    assert {"hippocampus-mr", "headneck-ct"} <= {entry[0] for entry in listed}
    for entry, bundle in zip(listed, shipped, strict=True):
        known = [bundle.name, bundle.version, bundle.kind, len(bundle.labels), len(bundle.card), bundle.size_bytes]
        assert entry == [*known, bundle.content_hash]


def test_damaged_model_is_reported_and_not_fatal(tmp_path):
    (tmp_path / "broken" / "1.0.0").mkdir(parents=True)
    code = "from MAESegmentLib.bundle import ModelStore; print(len(ModelStore().scan()[1]))"
    assert run(code, {"MAESEGMENT_MODELS": str(tmp_path)}) == "1"


def test_model_is_imported_from_an_archive(tmp_path):
    archive = export_bundle(save_tiny(tmp_path / "tiny-mr"), tmp_path / "tiny.zip")
    code = f"""
from MAESegmentLib.bundle import ModelStore, import_bundle
bundle = import_bundle({str(archive)!r}, ModelStore(), load=False)
print(bundle.name, ModelStore().find("tiny").version)
"""
    assert run(code, {"MAESEGMENT_MODELS": str(tmp_path / "models")}) == "tiny-mr 1.0.0"


def test_volumes_labels_and_settings_work(tmp_path):
    code = f"""
import numpy as np
from pathlib import Path
from MAESegmentLib.images.volume import Grid, LabelMap
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.worker.job_folder import JobFolder
Grid((2, 3, 4), np.eye(4)).check()
InferenceSettings()
folder = JobFolder.create(Path({str(tmp_path)!r}))
list(folder.write_volume([np.ones((4, 3, 2))], np.eye(4)))
block, origin = folder.read_labels(folder.write_labels(LabelMap(np.ones((2, 3, 4), np.uint8), np.eye(4))))
print(folder.read_volume().grid.shape, block.shape, origin)
"""
    assert run(code) == "(2, 3, 4) (4, 3, 2) (0, 0, 0)"
