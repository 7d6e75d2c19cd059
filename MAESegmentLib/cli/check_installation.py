"""Checks of what is installed and where things are kept: packages, memory, disks, models."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MAESegmentError
from ..processes.environment import Requirement, check
from ..version import __version__
from .findings import Finding, Level, gib

if TYPE_CHECKING:
    from ..bundle import ModelStore

#: Whole-head and abdominal scans need about this much.
_COMFORTABLE_MEMORY, _LEAST_MEMORY = 8 * 2**30, 2 * 2**30
_LEAST_DISK = 2**30
#: What others are imported as.
_MODULES = {"pynrrd": "nrrd", "simpleitk": "SimpleITK"}
#: Named when all is well.
_SHOWN = ("numpy", "torch", "monai", "nibabel", "simpleitk", "pydicom", "highdicom")


def check_software() -> Iterator[Finding]:
    """Python, MAESegment and its packages: present, new enough, and loadable."""
    python = platform.python_version()
    where = Path(__file__).resolve().parents[1]
    yield Finding("MAESegment", Level.OK, f"{__version__} in {where}", figures={"version": __version__})
    system = f"Python {python} on {platform.platform(terse=True)} ({sys.executable})"
    yield Finding("Python", Level.OK, system, figures={"version": python})
    required = [requirement.partition(">=")[0] for requirement in _requirements()]
    problems = [finding for requirement in _requirements() for finding in check_requirement(requirement)]
    yield from problems
    if not problems:
        versions = {name: metadata.version(name) for name in required}
        shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
        yield Finding("packages", Level.OK, shown, figures=versions)


def _requirements() -> list[str]:
    """Requirements without those of extras, e.g. "torch>=2.6"; empty when run from a folder that is not installed."""
    try:
        return [line for line in metadata.requires("maesegment") or [] if ";" not in line]
    except metadata.PackageNotFoundError:
        return []


def check_requirement(requirement: str) -> Iterator[Finding]:
    """`requirement` is a name with a floor, e.g. "torch>=2.6"."""
    name, _, floor = requirement.partition(">=")
    problem = check(Requirement(name, _MODULES.get(name, name), floor, "MAESegment needs it", 0.0))
    if problem is not None:
        yield Finding("packages", Level.PROBLEM, problem.message, f"Run: {problem.advice}")


def check_memory() -> Iterator[Finding]:
    """Host memory that is free now."""
    import psutil

    memory = psutil.virtual_memory()
    yield memory_finding(memory.available, memory.total)


def memory_finding(available: int, total: int) -> Finding:
    """Bytes."""
    fact = f"{gib(available)} of {gib(total)} are free"
    figures = {"available": available, "total": total}
    if available < _LEAST_MEMORY:
        return Finding("memory", Level.PROBLEM, fact, "Close other programs; at least 2 GiB are needed.", figures)
    if available < _COMFORTABLE_MEMORY:
        advice = "Enough for most scans. Close other programs before segmenting large ones (8 GiB are comfortable)."
        return Finding("memory", Level.NOTE, fact, advice, figures)
    return Finding("memory", Level.OK, fact, figures=figures)


def check_storage() -> Iterator[Finding]:
    """The folders written to: the user's models and temporary files."""
    from ..storage.user_folders import default_models_folder

    yield folder_finding("model folder", default_models_folder(), "set MAESEGMENT_MODELS to a folder of your own")
    yield folder_finding("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder on another disk")


def folder_finding(topic: str, folder: Path, remedy: str) -> Finding:
    """Whether `folder`, which may not exist yet, can be written to and has room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(topic, Level.PROBLEM, f"{folder} cannot be written to", f"Correct its permissions, or {remedy}.")
    free = shutil.disk_usage(existing).free
    fact = f"{folder}, {gib(free)} free"
    if free < _LEAST_DISK:
        return Finding(topic, Level.PROBLEM, fact, f"Free at least 1 GiB, or {remedy}.", {"free": free})
    return Finding(topic, Level.OK, fact, figures={"free": free})


def check_models(store: ModelStore | None = None) -> Iterator[Finding]:
    """Every model in the store, its files compared with their hashes."""
    from ..bundle import ModelStore, check_inference_config, verify_bundle

    store = store or ModelStore()
    bundles, unreadable = store.scan()
    problems = [damaged_model(str(folder), error) for folder, error in unreadable]
    sound = []
    for bundle in bundles:
        try:
            verify_bundle(bundle.path)
        except MAESegmentError as error:
            problems.append(damaged_model(f"{bundle.name} {bundle.version}", error))
            continue
        sound.append(bundle)
        try:
            check_inference_config(bundle)
        except MAESegmentError as error:
            problems.append(Finding("models", Level.WARNING, error.message, error.hint))
    yield from problems
    if any(bundle.kind == "segmentation" for bundle in sound):
        shown = ", ".join(f"{bundle.name} {bundle.version}" for bundle in sound)
        yield Finding("models", Level.OK, f"{shown}; every file is intact", figures={"count": len(sound)})
    else:
        advice = "Import one with `maesegment models import FILE.zip`, or reinstall MAESegment, which ships models."
        yield Finding("models", Level.PROBLEM, f"none that segments, in {store.shipped_folder}", advice)


def damaged_model(name: str, error: MAESegmentError) -> Finding:
    """A damaged model does not stop the others from working."""
    advice = error.hint or "Remove it and import it again."
    return Finding("models", Level.WARNING, f"{name} is not usable: {error.message}", advice)
