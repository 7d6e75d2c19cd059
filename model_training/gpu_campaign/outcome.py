"""What a campaign hands back: results, report, log and models; and how its figures get into the pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.atomic_file import write_file

from ..benchmarks import network, volumes_cases
from ..benchmarks.report import network_table, volumes_table
from ..benchmarks.runner import record
from ..tables import Row, table, update_page
from .plan import Plan

PAGE = Path(__file__).parent / "README.md"
#: Of each part's log, from its end.
_LOG_BYTES = 500_000
_TABLES = {"network": network_table, "volumes": volumes_table}
_BLOCKS = {"network": network.BLOCK, "volumes": volumes_cases.BLOCK}


def write_outcome(out: Path, parts: Mapping[str, Any], plan: Plan) -> None:
    """Bring `out` up to date: at most five files."""
    out.mkdir(parents=True, exist_ok=True)
    results = {"device": plan.device, "rehearsal": plan.rehearse, "parts": dict(parts)}
    write_file(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_file(out / "report.md", report(results))
    write_file(out / "log.txt", "".join(_log(plan.work / f"{name}.log") for name in parts))
    for archive in plan.work.glob("*.zip"):
        shutil.copyfile(archive, out / archive.name)


def report(results: Mapping[str, Any]) -> str:
    """What ran on what, what failed and why, and every figure."""
    parts = results["parts"]
    told = ["# GPU campaign" + (" (a rehearsal: its figures say nothing)" if results["rehearsal"] else ""), ""]
    about = {name: value for block in parts["machine"]["blocks"].values() for name, value in block.items()}
    told += [f"* {name}: {_shown(about[name])}" for name in about if name not in ("took_s", "data_sets")]
    told += ["", "## What ran", "", table(["part", "status", "seconds", "what is wrong"], _lines(parts))]
    told += ["", figures(results)]
    return "\n".join(told) + "\n"


def figures(results: Mapping[str, Any]) -> str:
    """The tables."""
    told: list[str] = []
    for name, make in _TABLES.items():
        if rows := _rows(results, name):
            told += [f"### {name}", "", make(rows), ""]
    for name, part in results["parts"].items():
        blocks = {key: block for key, block in part["blocks"].items() if "rows" not in block}
        if blocks and name != "machine":
            lines = [[key, _told(block)] for key, block in blocks.items()]
            told += [f"### {part['title']}", "", table(["what", "found"], lines), ""]
    return "\n".join(told).rstrip()


def adopt(results: Mapping[str, Any]) -> None:
    """Put measured rows into the benchmarks' result files, and the figures into README.md beside this file."""
    device = results["parts"]["machine"]["blocks"].get(results["device"], {}).get("device")
    if results["rehearsal"] or not str(results["device"]).startswith("cuda") or device is None:
        raise SystemExit("Only a campaign that ran on a GPU has figures for the pages.")
    for name, block in _BLOCKS.items():
        if rows := _rows(results, name):
            record(name, rows, block)
    update_page(PAGE, {"figures": f"Measured on one {device}.\n\n{figures(results)}"})


def _rows(results: Mapping[str, Any], name: str) -> list[Row]:
    """Of all blocks; where two measured the same, the later one."""
    found: dict[tuple[str, ...], Row] = {}
    for part in results["parts"].values():
        for block in part["blocks"].values():
            for row in block.get("rows", {}).get(name, ()):
                text = {key: str(value) for key, value in row.items()}
                found[(*(text[key] for key in _BLOCKS[name]), text["contender"])] = text
    return list(found.values())


def _lines(parts: Mapping[str, Any]) -> list[list[str]]:
    lines = []
    for part in parts.values():
        wrong = [part["note"], *(f"{block}: {reason}" if block else reason for block, reason in part["failed"].items())]
        lines.append([part["title"], part["status"], f"{part['seconds']:.0f}", _cell("; ".join(filter(None, wrong)))])
    return lines


def _told(block: Mapping[str, Any]) -> str:
    return _cell("; ".join(f"{name} {_shown(value)}" for name, value in block.items() if name != "took_s"))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _log(path: Path) -> str:
    if not path.is_file():
        return ""
    end = path.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
    return f"===== {path.stem}\n{end}\n"
