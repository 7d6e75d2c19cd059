"""The packages that the Python for the network needs, and which are missing.

Needs only the standard library: `python -m MAESegmentLib.processes.environment [PURPOSE]` prints one line of JSON
in any Python.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib import metadata

LEAST_PYTHON = (3, 10)
#: What a package is for. Those of training are not needed to segment.
SEGMENT, TRAIN = "segment", "train"


@dataclass(frozen=True)
class Requirement:
    """`size_mb` is about what is downloaded, its own requirements included."""

    name: str
    module: str
    floor: str
    why: str
    size_mb: float
    is_torch: bool = False
    purpose: str = SEGMENT

    @property
    def text(self) -> str:
        """As pip wants it."""
        return f"{self.name}>={self.floor}"


#: What is imported to segment, and besides that to store corrected cases and to fine-tune on them; the floors are those
#: of pyproject.toml.
REQUIREMENTS = (
    Requirement("torch", "torch", "2.6", "runs the network", 900.0, is_torch=True),
    Requirement("numpy", "numpy", "1.26", "arrays", 17.0),
    Requirement("psutil", "psutil", "5.9", "free memory", 0.3),
    Requirement("scipy", "scipy", "1.11", "updates of a scan", 40.0, purpose=TRAIN),
    Requirement("nibabel", "nibabel", "5.2", "corrected cases as files", 3.3, purpose=TRAIN),
    Requirement("matplotlib", "matplotlib", "3.8", "pictures of cases and curves", 20.0, purpose=TRAIN),
)
#: Segments on the processor where torch is not installed.
INSTEAD_OF_TORCH = Requirement("openvino", "openvino", "2026.4", "runs the network on the processor", 60.0)


def requirements_for(purpose: str) -> tuple[Requirement, ...]:
    """Training needs what segmenting needs, and more."""
    wanted = {SEGMENT: (SEGMENT,), TRAIN: (SEGMENT, TRAIN)}[purpose]
    return tuple(requirement for requirement in REQUIREMENTS if requirement.purpose in wanted)


@dataclass(frozen=True)
class Problem:
    """One requirement that is not met: `kind` is "missing", "old" or "damaged" (half installed)."""

    name: str
    kind: str
    message: str
    requirement: str
    size_mb: float = 0.0
    is_torch: bool = False
    advice: str = ""
    purpose: str = SEGMENT


def examine(purpose: str = SEGMENT) -> list[Problem]:
    """Every requirement that this Python does not meet. Imports them all: nothing else proves that they load.

    Where OpenVINO is, only training needs torch.
    """
    problems = [problem for requirement in requirements_for(purpose) if (problem := check(requirement)) is not None]
    if _lacks_torch(problems) and check(INSTEAD_OF_TORCH) is None:
        problems = [replace(one, purpose=TRAIN) if one.is_torch else one for one in problems]
    return [problem for problem in problems if purpose == TRAIN or problem.purpose == SEGMENT]


def _lacks_torch(problems: Iterable[Problem]) -> bool:
    """Whether there is none: one that is damaged is repaired."""
    return any(one.is_torch and one.kind == "missing" and one.purpose == SEGMENT for one in problems)


def silence_openvino() -> None:
    """Before it is imported, which else reports its use to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def check(requirement: Requirement) -> Problem | None:
    """None if `requirement` is installed, new enough and can be imported."""
    name = requirement.name
    found = _installed(name)
    silence_openvino()
    try:
        module = importlib.import_module(requirement.module)
        loads, reason = getattr(module, "__file__", None) is not None, "only leftovers of it are there"
    except (Exception, SystemExit) as error:  # a broken package may fail with anything
        loads, reason = False, (str(error).splitlines() or [type(error).__name__])[0][:200]
    if loads:
        version = found or str(getattr(module, "__version__", ""))
        if not version or _numbers(version) >= _numbers(requirement.floor):
            return None
        return _problem(requirement, "old", f"{name} {version} is older than {requirement.floor}.")
    if found is None and reason in (f"No module named {requirement.module!r}", "only leftovers of it are there"):
        return _problem(requirement, "missing", f"{name} is not installed ({requirement.why}).")
    return _problem(requirement, "damaged", f"{name} is installed but does not load: {reason}")


def report(purpose: str = SEGMENT) -> dict[str, object]:
    """What `python -m MAESegmentLib.processes.environment` prints.

    `instead` is what is enough to segment where torch is missing.
    """
    problems = examine(purpose) if sys.version_info >= LEAST_PYTHON else []
    instead = check(INSTEAD_OF_TORCH) if purpose == SEGMENT and _lacks_torch(problems) else None
    packages = {}
    for requirement in (*requirements_for(purpose), INSTEAD_OF_TORCH):
        version = _installed(requirement.name)
        if version:
            packages[requirement.name] = version
    return {
        "python": sys.executable,
        "version": platform.python_version(),
        "purpose": purpose,
        "problems": [asdict(problem) for problem in problems],
        "instead": None if instead is None else asdict(instead),
        "packages": packages,
    }


def complaint(purpose: str = SEGMENT) -> tuple[str, str] | None:
    """In one line why this Python cannot run the network (or train it), and what to do; None if it can."""
    if sys.version_info < LEAST_PYTHON:
        return (
            f"{sys.executable} is Python {platform.python_version()}; 3.10 or newer is needed.",
            "Choose another Python under Advanced.",
        )
    problems = examine(purpose)
    if not problems:
        return None
    what = " ".join(problem.message for problem in problems)
    wanted = " ".join(f'"{problem.requirement}"' for problem in problems)
    cannot = "cannot fine-tune" if purpose == TRAIN else "cannot run the network"
    hint = f"Install the missing packages in that Python: {wanted}"
    if purpose == SEGMENT and any(problem.is_torch for problem in problems):
        hint += f' ("{INSTEAD_OF_TORCH.text}" in place of torch to segment alone, on the processor)'
    return f"{sys.executable} {cannot}: {what}", hint


def _problem(requirement: Requirement, kind: str, message: str) -> Problem:
    again = "--force-reinstall " if kind == "damaged" else ""
    return Problem(
        requirement.name,
        kind,
        message,
        requirement.text,
        requirement.size_mb,
        requirement.is_torch,
        f'python -m pip install {again}"{requirement.text}"',
        requirement.purpose,
    )


def _installed(name: str) -> str | None:
    """The version that the metadata name, "" if they are damaged, None if there are none."""
    try:
        # Of damaged metadata this is None, or the error of a missing key.
        return metadata.version(name) or ""
    except metadata.PackageNotFoundError:
        return None
    except KeyError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def _take_stdout() -> int:
    """The real stdout, for the report alone; what packages print while they are imported goes to stderr.

    For good: C code may print into a buffer that is written out only when the process ends.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    with os.fdopen(_take_stdout(), "w", encoding="utf-8") as stream:
        stream.write(json.dumps(report(*sys.argv[1:2])) + "\n")
