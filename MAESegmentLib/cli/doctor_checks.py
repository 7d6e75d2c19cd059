"""What `maesegment doctor` checks: not what is claimed, but what loads, can be written to and is intact."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MAESegmentError
from ..processes.environment import Requirement, check
from ..version import __version__

if TYPE_CHECKING:
    from ..bundle import ModelStore

#: Whole-head and abdominal scans need about this much.
_COMFORTABLE_MEMORY, _LEAST_MEMORY = 8 * 2**30, 2 * 2**30
_LEAST_DISK = 2**30
#: What others are imported as.
_MODULES = {"pynrrd": "nrrd", "simpleitk": "SimpleITK"}
#: Named when all is well.
_SHOWN = ("numpy", "nibabel", "simpleitk", "pydicom", "highdicom")


class Level(str, Enum):
    """`PROBLEM` prevents work; `WARNING` makes it slow or fragile; `NOTE` is worth knowing."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """`fact` is for the user; `advice` is what to do, needed unless all is well; `figures` the same for programs."""

    topic: str
    level: Level
    fact: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


Results = Iterator[CheckResult]


def attempt(topic: str, run: Callable[[], Iterable[CheckResult]]) -> Results:
    """A check that fails is a problem itself, and does not end the examination."""
    try:
        yield from run()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        advice = "Solve the problems above first; if there are none, this is a defect of MAESegment: report it."
        yield CheckResult(topic, Level.PROBLEM, f"could not be examined ({type(error).__name__}: {reason})", advice)


def worst_of(results: Iterable[CheckResult]) -> Level:
    """The most serious level among them."""
    return max((result.level for result in results), key=list(Level).index, default=Level.OK)


def as_json(results: Sequence[CheckResult]) -> str:
    """`{"works": bool, "findings": [{topic, level, fact, advice, figures}]}`"""
    works = worst_of(results) is not Level.PROBLEM
    return json.dumps({"works": works, "findings": [asdict(result) for result in results]}, indent=2, default=str)


def gib(size: float) -> str:
    """Bytes as text, e.g. "7.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"


def check_software() -> Results:
    """Python, MAESegment and its packages: present, new enough, and loadable."""
    python = platform.python_version()
    where = Path(__file__).resolve().parents[1]
    yield CheckResult("MAESegment", Level.OK, f"{__version__} in {where}", figures={"version": __version__})
    system = f"Python {python} on {platform.platform(terse=True)} ({sys.executable})"
    yield CheckResult("Python", Level.OK, system, figures={"version": python})
    requirements = _requirements()
    problems = [problem for requirement in requirements for problem in check_requirement(requirement)]
    yield from problems
    if not problems:
        versions = {name: metadata.version(name) for name in (text.partition(">=")[0] for text in requirements)}
        shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
        yield CheckResult("packages", Level.OK, shown, figures=versions)


def _requirements() -> list[str]:
    """Requirements without those of extras, e.g. "torch>=2.6"; empty when run from a folder that is not installed."""
    try:
        return [line for line in metadata.requires("maesegment") or [] if ";" not in line]
    except metadata.PackageNotFoundError:
        return []


def check_requirement(requirement: str) -> Results:
    """`requirement` is a name with a floor, e.g. "torch>=2.6"."""
    name, _, floor = requirement.partition(">=")
    problem = check(Requirement(name, _MODULES.get(name, name), floor, "MAESegment needs it", 0.0))
    if problem is not None:
        yield CheckResult("packages", Level.PROBLEM, problem.message, f"Run: {problem.advice}")


def check_memory(available: int | None = None) -> Results:
    """Host memory that is free now; `available` (bytes) in its place."""
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available if available is None else available
    level, advice = Level.OK, ""
    if free < _LEAST_MEMORY:
        level, advice = Level.PROBLEM, "Close other programs; at least 2 GiB are needed."
    elif free < _COMFORTABLE_MEMORY:
        level = Level.NOTE
        advice = "Enough for most scans. Close other programs before segmenting large ones (8 GiB are comfortable)."
    fact = f"{gib(free)} of {gib(memory.total)} are free"
    yield CheckResult("memory", level, fact, advice, {"available": free, "total": memory.total})


def check_storage() -> Results:
    """The folders written to: the user's models and temporary files."""
    from ..storage.user_folders import default_models_folder

    yield check_folder("model folder", default_models_folder(), "set MAESEGMENT_MODELS to a folder of your own")
    yield check_folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder on another disk")


def check_folder(topic: str, folder: Path, remedy: str) -> CheckResult:
    """Whether `folder`, which may not exist yet, can be written to and has room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(
            topic, Level.PROBLEM, f"{folder} cannot be written to", f"Correct its permissions, or {remedy}."
        )
    free = shutil.disk_usage(existing).free
    fact = f"{folder}, {gib(free)} free"
    if free < _LEAST_DISK:
        return CheckResult(topic, Level.PROBLEM, fact, f"Free at least 1 GiB, or {remedy}.", {"free": free})
    return CheckResult(topic, Level.OK, fact, figures={"free": free})


def check_models(store: ModelStore | None = None) -> Results:
    """Every model in the store, its files compared with their hashes."""
    from ..bundle import ModelStore, check_inference_config, verify_bundle

    store = store or ModelStore()
    bundles, unreadable = store.scan()
    unusable: dict[str, MAESegmentError] = {str(folder): error for folder, error in unreadable}
    sound = []
    for bundle in bundles:
        try:
            verify_bundle(bundle.path)
        except MAESegmentError as error:
            unusable[f"{bundle.name} {bundle.version}"] = error
            continue
        sound.append(bundle)
        try:
            check_inference_config(bundle)
        except MAESegmentError as error:
            yield CheckResult("models", Level.WARNING, error.message, error.hint)
    for name, reason in unusable.items():  # the others work nevertheless
        advice = reason.hint or "Remove it and import it again."
        yield CheckResult("models", Level.WARNING, f"{name} is not usable: {reason.message}", advice)
    if any(bundle.kind == "segmentation" for bundle in sound):
        shown = ", ".join(f"{bundle.name} {bundle.version}" for bundle in sound)
        yield CheckResult("models", Level.OK, f"{shown}; every file is intact", figures={"count": len(sound)})
    else:
        advice = "Import one with `maesegment models import FILE.zip`, or reinstall MAESegment, which ships models."
        yield CheckResult("models", Level.PROBLEM, f"none that segments, in {store.shipped_folder}", advice)
