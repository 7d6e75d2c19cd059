"""The extension, built and installed for real, once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from Testing.extension_build import REPOSITORY, Extension, configure, run


@pytest.fixture(scope="session")
def cmake() -> str:
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    assert found, "CMake is missing: `make test` installs it"
    return found


@pytest.fixture(scope="session")
def extension(cmake, tmp_path_factory) -> Extension:
    root = tmp_path_factory.mktemp("extension")
    made = Extension(cmake, root / "build", root / "installed")
    configured = configure(cmake, REPOSITORY, made.build)
    assert configured.returncode == 0, configured.stdout + configured.stderr
    made.make()
    run(cmake, "--install", made.build, "--prefix", made.installed, "--component", "RuntimeLibraries")
    return made
