"""Configures and builds the extension against a stand-in for Slicer's CMake package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .skips import REPOSITORY

SCRIPTED_MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")


@dataclass(frozen=True)
class Extension:
    """`build` and `installed` are roots; `SCRIPTED_MODULES` below each is what Slicer scans and has on its path."""

    cmake: str
    build: Path
    installed: Path

    def make(self) -> None:
        run(self.cmake, "--build", self.build)

    @property
    def places(self) -> tuple[Path, Path]:
        return self.build / SCRIPTED_MODULES, self.installed / SCRIPTED_MODULES


def run(*command: str | Path) -> str:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def configure(cmake: str, source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    # Nothing is compiled, so any program will do for a compiler, and a machine without one can run this.
    compiler = sys.executable
    options = {
        "Slicer_DIR": REPOSITORY / "Testing/fake_slicer",
        "FAKE_SLICER_PYTHON": sys.executable,
        **{f"CMAKE_{language}_COMPILER": compiler for language in ("C", "CXX")},
        **{f"CMAKE_{language}_COMPILER_FORCED": "ON" for language in ("C", "CXX")},
    }
    command = [cmake, "-Wno-dev", "-S", source, "-B", build, *(f"-D{key}={value}" for key, value in options.items())]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
