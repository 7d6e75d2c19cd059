"""The module in Slicer's life: loaded, reloaded, its scene closed, unloaded, and the application ended."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest

from Testing.gui import standin
from Testing.processes import is_alive

_ROOT = Path(__file__).resolve().parents[2]


def _segment(module: Any, model: Any, volume: Any, process_events_until: Any) -> Any:
    """Press Segment; returns the panel's job."""
    panel = module.widget.panel
    panel.parameters.inputVolume = volume
    panel.parameters.modelName = f"{model.name}@{model.version}"
    panel.parameters.overlap = 0.75
    process_events_until(lambda: panel.ui.segmentButton.enabled)
    panel.ui.segmentButton.click()
    return panel.job


def test_loading_describes_the_module(module):
    assert module.module.parent.title == "MAESegment"
    assert module.module.parent.dependencies
    assert module.logic is module.widget.logic


def test_loading_starts_no_process_and_needs_no_torch():
    """In a process of its own: here torch has long been imported."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from Testing.gui import standin\n"
        "blocked = {'torch', 'nibabel', 'monai', 'psutil', 'scipy', 'SimpleITK', 'nrrd', 'pydicom'}\n"
        "class Block:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(name, name=name)\n"
        "standin.install()\n"
        "for name in [name for name in sys.modules if name.split('.')[0] in blocked]: del sys.modules[name]\n"
        "sys.meta_path.insert(0, Block())\n"
        "loaded = standin.load_module(Path('MAESegment'), 'MAESegment')\n"
        "print([bundle.name for bundle in loaded.logic.models()])\n"
        "print(loaded.logic.session.client.state.name)\n"
        "sys.stdout.flush()\n"
        "import os; os._exit(0)\n"
    )
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(_ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    models, state = result.stdout.strip().splitlines()[-2:]
    assert "hippocampus-mr" in models
    assert state == "STOPPED"


@pytest.mark.parametrize("how", ["unloaded", "Slicer ends"])
def test_the_worker_ends_with_the_module(slicer_gui, module, worker_pid, process_events_until, how):
    module.logic.session.client.start()
    process_events_until(lambda: module.logic.session.client.state.name == "IDLE", 300.0)
    pid = worker_pid()
    if how == "unloaded":
        standin.unload_module("MAESegment")
    else:
        slicer_gui.emit("aboutToQuit()")
    process_events_until(lambda: not is_alive(pid), 15.0)


def test_closing_the_scene_during_a_job_cancels_it_and_the_panel_goes_on(module, model, scene, process_events_until):
    import slicer

    panel = module.widget.panel
    job = _segment(module, model, scene.many_windows("Large"), process_events_until)
    process_events_until(lambda: job.stage == "segment", 300.0)
    slicer.mrmlScene.Clear(0)
    process_events_until(lambda: job.is_finished, 15.0)
    assert job.state.name == "CANCELLED"
    assert panel.job is None
    _segment(module, model, scene.plain("Next"), process_events_until)
    process_events_until(lambda: panel.job is None, 300.0)
    assert panel.parameters.outputSegmentation is not None


def test_cleanup_after_the_new_code_was_executed_does_no_harm(module, model, scene, process_events_until):
    """Slicer's order on Reload: the new code is executed first, then the old panel is told."""
    job = _segment(module, model, scene.many_windows("Large"), process_events_until)
    process_events_until(lambda: job.stage == "segment", 300.0)
    path = Path(module.path)
    spec = importlib.util.spec_from_file_location("MAESegment", path)
    new = importlib.util.module_from_spec(spec)
    sys.modules["MAESegment"] = new
    spec.loader.exec_module(new)
    process_events_until(lambda: job.is_finished, 15.0)
    module.widget.cleanup()
    widget = new.MAESegmentWidget(module.parent)
    widget.setup()
    assert widget.logic.session is not module.logic.session
    widget.cleanup()


def test_reload_during_a_job_executes_the_code_again_and_leaves_nothing_behind(
    module, model, scene, worker_pid, process_events_until
):
    job = _segment(module, model, scene.many_windows("Large"), process_events_until)
    process_events_until(lambda: job.stage == "segment", 300.0)
    pid, folder = worker_pid(), module.logic.session.working_folder
    before = {name: sys.modules[name] for name in ("MAESegmentPlugin.session", "MAESegmentLib.errors")}
    reloaded = standin.reload_module("MAESegment")
    assert [name for name, code in before.items() if sys.modules[name] is code] == []
    assert reloaded.widget.panel is not module.widget.panel
    process_events_until(lambda: reloaded.widget.panel.dependencies.report is not None, 60.0)
    assert reloaded.widget.panel.parameters.inputVolume.GetName() == "Large", "what is shown is up to date"
    assert reloaded.widget.panel.ui.segmentButton.enabled
    process_events_until(lambda: job.is_finished and not is_alive(pid), 15.0)
    assert not list(folder.glob(f"maesegment-{os.getpid()}-*"))
    _segment(reloaded, model, scene.plain("Scan"), process_events_until)
    process_events_until(lambda: reloaded.widget.panel.job is None, 300.0)
    assert reloaded.widget.panel.parameters.outputSegmentation is not None


class FakeFactory:
    """Slicer's list of modules, as far as a script may add to it."""

    def __init__(self) -> None:
        self.registered: list[Path] = []

    def isInstantiated(self, name: str) -> bool:
        import slicer

        return slicer.app.moduleManager().module(name) is not None

    def registerModule(self, file: Any) -> None:
        self.registered.append(Path(file.absoluteFilePath()))

    def isRegistered(self, name: str) -> bool:
        return any(path.stem == name for path in self.registered)

    def loadModules(self, names: list[str]) -> bool:
        # As Slicer 5.12 does: the script's own names go.
        exec("import sys, os; del sys, os", vars(sys.modules["__main__"]))
        for path in self.registered:
            if path.stem in names:
                standin.load_module(path.parent, path.stem)
        return True


@pytest.fixture
def run_script(slicer_gui, monkeypatch) -> Any:
    """Run Testing/slicer/run_in_slicer.py; returns the exit code that Slicer was asked for."""
    import slicer

    codes: list[int] = []
    factory = FakeFactory()
    monkeypatch.setattr(slicer_gui.moduleManager(), "factoryManager", lambda: factory, raising=False)
    monkeypatch.setattr(slicer.util, "exit", codes.append)

    def run() -> int:
        left = runpy.run_path(str(_ROOT / "Testing" / "slicer" / "run_in_slicer.py"), run_name="__main__")
        assert len(codes) == 1
        assert left.get("sys") is sys, "what Slicer runs after the script needs it"
        return codes[0]

    return run


@pytest.mark.slow
def test_self_test_passes(run_script, monkeypatch, capsys):
    monkeypatch.setenv("MAESEGMENT_PYTHON", sys.executable)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    standin.load_module(_ROOT / "MAESegment", "MAESegment")
    code = run_script()
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "0 failed, 0 not run" in printed


@pytest.mark.parametrize("is_loaded", [False, True], ids=["module not loaded", "module loaded"])
def test_self_test_says_what_is_missing_and_ends_with_2(
    run_script, is_loaded, monkeypatch, capsys, python_without_packages
):
    monkeypatch.setenv("MAESEGMENT_PYTHON", str(python_without_packages))
    if is_loaded:
        standin.load_module(_ROOT / "MAESegment", "MAESegment")
    assert run_script() == 2
    printed = capsys.readouterr().out
    assert "torch is not installed" in printed
    assert "MAESEGMENT_PYTHON" in printed


def test_self_test_with_an_unusable_python_ends_with_1(run_script, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MAESEGMENT_PYTHON", str(tmp_path / "no-python"))
    assert run_script() == 1
    assert "no-python" in capsys.readouterr().out


def test_self_test_that_is_not_there_says_where_it_is(plugin, tmp_path):
    with pytest.raises(unittest.SkipTest, match=r"source code.*run_in_slicer\.py"):
        plugin("self_test").load_self_test(tmp_path)


@pytest.fixture
def python_without_packages(tmp_path: Path) -> Path:
    """A Python that has nothing but its standard library."""
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    return tmp_path / "bare" / "bin" / "python"
