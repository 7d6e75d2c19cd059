"""`evaluation.jsonl`: what was measured, case by case, so that an evaluation that was stopped can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..cases.case import Case
from ..errors import ConfigurationError, OutputError, refused
from ..storage.atomic_file import write_file
from .cases import CaseResult

FILE = "evaluation.jsonl"


class EvaluationLog:
    """The first line says how it was made, each line after it is one case; half a line of a killed process is dropped.

    One process at a time may use a folder.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        """`ConfigurationError` if the folder holds an evaluation that was made with anything else."""
        self.path = folder / FILE
        self._results: dict[str, tuple[str, CaseResult]] = {}
        lines = self._read()
        before = lines[0] if lines else None
        if before is not None and before != json.loads(json.dumps(made_with)):
            different = [name for name in {**before, **made_with} if before.get(name) != made_with.get(name)]
            what = "; ".join(f"{name} {before.get(name)}, now {made_with.get(name)}" for name in different)
            raise ConfigurationError(
                f"{folder} holds an evaluation that was made otherwise: {what or 'by another version'}.",
                f"Choose another folder with -o, or remove {FILE} to begin again.",
            )
        for line in lines[1:]:
            self._results[line["case"]] = (line["files"], CaseResult.from_dict(line))
        self._write_all(made_with)

    def done(self, cases: Iterable[Case], files: Mapping[str, str]) -> dict[str, CaseResult]:
        """What was measured of `cases`, by id, and still holds: `files` are the stamps of their files now."""
        found = {case.id: self._results[case.id] for case in cases if case.id in self._results}
        return {name: result for name, (stamp, result) in found.items() if stamp == files.get(name)}

    def add(self, case: Case, files: str, result: CaseResult) -> None:
        self._results[case.id] = (files, result)
        append(self.path, _line(case.id, files, result))

    def _read(self) -> list[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise refused(f"{self.path} cannot be read", error) from error
        try:
            return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        except ValueError as error:
            raise OutputError(
                f"{self.path} is damaged: {error}.", "Choose another folder with -o, or remove the file to begin again."
            ) from error

    def _write_all(self, made_with: Mapping[str, Any]) -> None:
        lines = [json.dumps(made_with).encode() + b"\n"]
        lines += [_line(case, files, result) for case, (files, result) in self._results.items()]
        write_file(self.path, b"".join(lines))


def append(path: Path, line: bytes) -> None:
    """At the end of the file, on the disk when this returns."""
    try:
        with path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise refused(f"{path} cannot be written", error) from error


def stamp_of(case: Case, *others: Path) -> str:
    """Changes when a file of the case does, or one of `others`: places, bytes and times of change."""
    return ";".join(_stamp(path) for path in (*case.files, *others))


def _stamp(path: Path) -> str:
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [file.stat() for file in files]
    except OSError:
        return f"{path}:absent"
    latest = max((one.st_mtime_ns for one in found), default=0)
    return f"{path.resolve()}:{len(found)}:{sum(one.st_size for one in found)}:{latest}"


def _line(case: str, files: str, result: CaseResult) -> bytes:
    return json.dumps({"case": case, "files": files, **result.to_dict()}).encode() + b"\n"
