"""Fixtures for every test, and the rule that an unexpected skip is a failure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from Testing.phantoms import LABELS, PhantomFactory
from Testing.skips import NO_CASES, NO_DATA, NO_GPU, has_gpu, is_expected, real_data_folder, shared_cases_folder

if TYPE_CHECKING:
    from MAESegmentLib.bundle import Bundle

# Time limits per example flake on loaded machines; pytest's own timeout stays.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with `hippocampus_mr`, `headneck_ct`, `cardiac_mr` and `geometry`; never written to."""
    folder = real_data_folder()
    if not folder.is_dir():
        pytest.skip(f"{NO_DATA}: {folder} (set MAESEGMENT_DATA to where it is)")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Folder of small inputs that went wrong once, a folder each; never written to."""
    folder = shared_cases_folder()
    if not folder.is_dir():
        pytest.skip(f"{NO_CASES}: {folder}")
    return folder


@pytest.fixture(scope="session")
def phantom() -> PhantomFactory:
    """Makes small labelled volumes: `phantom()`, `phantom.las()`, `phantom.oblique()`, `phantom.anisotropic()`."""
    return PhantomFactory()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model that was never trained and knows the phantom's labels, front and back."""
    from Testing.bundles import save_tiny, tiny_spec  # needs torch

    return save_tiny(tmp_path_factory.mktemp("base") / "tiny", tiny_spec(labels=LABELS))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of the computer can read; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="public-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip(NO_GPU)


def _fail_if_unexpected(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    # Importing torch to ask for a GPU takes seconds: only where the answer matters.
    if not is_expected(reason, gpu=NO_GPU in reason and has_gpu(), data=real_data_folder().is_dir()):
        report.outcome = "failed"
        report.longrepr = f"This skip is not one of those that are expected (see Testing/skips.py): {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_unexpected(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_unexpected(report)
    return report
