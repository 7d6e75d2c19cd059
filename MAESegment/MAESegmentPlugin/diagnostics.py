"""What "Copy diagnostics" puts on the clipboard: enough to help, nothing about a patient."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import slicer

import MAESegmentLib
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import MAESegmentError

from .dependencies import DependencyReport
from .session import Session

_LAST_LINES = 200


def diagnostics_text(
    session: Session,
    *,
    models: Sequence[Bundle] = (),
    problems: Sequence[tuple[Path, MAESegmentError]] = (),
    report: DependencyReport | None = None,
    error: BaseException | None = None,
) -> str:
    """One text with versions, interpreter, devices, models, the last error and the end of the log."""
    lines = [
        f"MAESegment {MAESegmentLib.__version__} ({Path(MAESegmentLib.__file__).parent})",
        f"Slicer {slicer.app.applicationVersion}, Python {platform.python_version()}, {platform.platform()}",
        *_worker_lines(session),
        *_dependency_lines(report),
        *(f"Model: {bundle.name}@{bundle.version} {bundle.content_hash[:12]} ({bundle.path})" for bundle in models),
        *(f"Unusable model: {folder}: {problem.message}" for folder, problem in problems),
        f"torch in Slicer's own process: {'yes' if 'torch' in sys.modules else 'no'}",
    ]
    if error is not None:
        lines += [f"Last error: {type(error).__name__}: {error}"]
    lines += ["", "Log:", session.log.text(_LAST_LINES) or "(empty)"]
    return without_home("\n".join(lines)) + "\n"


def _worker_lines(session: Session) -> list[str]:
    try:
        interpreter = session.interpreter()
        python = f"{interpreter.path} ({interpreter.origin})"
    except MAESegmentError as error:
        python = f"none: {error.message}"
    client = session.client
    lines = [f"Python for the network: {python}", f"Worker: {client.state.name.lower()}"]
    if client.last_exit:
        lines.append(f"Last unexpected end: {client.last_exit}")
    lines += [
        f"Device: {device.get('name')} {device.get('title', '')}, {_gigabytes(device.get('free_bytes'))} free of "
        f"{_gigabytes(device.get('total_bytes'))}"
        for device in client.devices_known
    ]
    lines.append(f"Working folder: {session.working_folder}")
    return lines


def _dependency_lines(report: DependencyReport | None) -> list[str]:
    if report is None:
        return ["Packages: not checked yet"]
    lines = [f"Packages of {report.python}: {'complete' if report.ready else 'incomplete'}"]
    if report.failure is not None:
        lines.append(f"  {report.failure.message}")
    lines += [f"  {problem.message}" for problem in report.problems]
    if report.packages:
        lines.append("  " + ", ".join(f"{name} {version}" for name, version in sorted(report.packages.items())))
    return lines


def _gigabytes(size: float | None) -> str:
    return f"{float(size) / 2**30:.1f} GB" if size else "?"


def without_home(text: str) -> str:
    """Paths below the home folder as ~: an account's name is often a user's."""
    home = str(Path.home())
    return re.sub(re.escape(home) + r"(?=[/\\\s)\"']|$)", "~", text) if len(home) > 1 else text
