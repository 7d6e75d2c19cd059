"""`maesegment cases`: the corrected cases that a model is fine-tuned on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import add_case, next_case
from .terminal import make_console, print_json, say

if TYPE_CHECKING:
    from ..cases.records import CaseRecord
    from ..cases.store import CaseStore

#: Exit code when a case is damaged, or cannot be learnt from as it is.
DAMAGED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = _add(actions, "add", "store a scan and its corrected segmentation", add_case.run)
    add_case.add_arguments(add)
    list_ = _add(actions, "list", "the cases that are stored", _list)
    _add_place(list_)
    list_.add_argument("--json", action="store_true", help="print JSON")
    check = _add(actions, "check", "read every case and compare it with what was stored", _check)
    check.add_argument("cases", nargs="*", metavar="ID", help="(default: all)")
    _add_place(check)
    remove = _add(actions, "remove", "delete cases", _remove)
    remove.add_argument("cases", nargs="+", metavar="ID", help="e.g. case-0003")
    _add_place(remove)
    remove.add_argument("-y", "--yes", action="store_true", help="do not ask")
    role = _add(actions, "role", "say whether a case is trained on, or only tells how good a model is", _role)
    role.add_argument("case", metavar="ID", help="e.g. case-0003")
    role.add_argument("role", choices=("train", "check"), help="check: never trained on")
    _add_place(role)
    next_ = _add(actions, "next", "which of many scans to correct first", next_case.run)
    next_case.add_arguments(next_)


def run(arguments: argparse.Namespace) -> int:
    action: Callable[[argparse.Namespace], int] = arguments.action_run
    return action(arguments)


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(action_run=function)
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", help="the cases for this model and its versions")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the cases in this folder")


def _list(arguments: argparse.Namespace) -> int:

    from .case_stores import case_table, existing_store, known_stores

    is_named = arguments.store or arguments.model
    stores = [existing_store(arguments.store, arguments.model)] if is_named else known_stores()
    scanned = [(store, *store.scan()) for store in stores]
    if arguments.json:
        content = [
            {"folder": str(store.folder), "cases": [record.to_dict() for record in records]}
            for store, records, _ in scanned
        ]
        print_json(content)
    else:
        for store, records, _ in scanned:
            say(str(store.folder))
            make_console().print(case_table(store, records))
        if not any(records for _, records, _ in scanned):
            say("No case is stored. Add one with `maesegment cases add`.")
    for _, _, problems in scanned:
        for path, error in problems:
            say(f"not usable: {path}\n  {error.message}", error=True)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from ..errors import DatasetError, MAESegmentError
    from .case_stores import existing_store

    store = existing_store(arguments.store, arguments.model)
    records, problems = store.scan()
    wanted = arguments.cases or [record.id for record in records]
    damaged = {path.name: error.message for path, error in problems if not arguments.cases or path.name in wanted}
    for case_id in wanted:
        if case_id in damaged:
            continue
        record = store.get(case_id)
        try:
            store.verify(case_id)
            notes = _findings(store, record, records)
        except MAESegmentError as error:
            damaged[case_id] = error.message if isinstance(error, DatasetError) else f"{case_id}: {error.message}"
        else:
            say("\n".join([f"sound    {case_id}", *(f"  note: {note}" for note in notes)]))
    for case_id, message in damaged.items():
        say(f"DAMAGED  {case_id}\n         {message}")
    if not wanted and not damaged:
        say("No case is stored.")
    return DAMAGED if damaged else 0


def _findings(store: CaseStore, record: CaseRecord, records: list[CaseRecord]) -> list[str]:
    """What is worth a second look in a stored case; `DatasetError` if it should not be there as it is."""
    import numpy as np

    from ..cases.records import IGNORE
    from ..cases.submission import ERROR, CaseSubmission, check_submission
    from ..errors import DatasetError
    from ..images.volume import LabelMap

    label_map = store.read_label_map(record.id)
    annotated = LabelMap(np.where(label_map.array == IGNORE, 0, label_map.array), label_map.ijk_to_ras)
    findings = check_submission(
        CaseSubmission(
            labels=tuple(label for label in store.labels() if label.name in record.labels),
            role=record.role,
            group=record.group,
            replace=record.id,
            absent=record.labels,
        ),
        store.read_image(record.id),
        annotated,
        stored=records,
        image_hash=record.image_hash,
    )
    errors = [finding.message for finding in findings if finding.severity == ERROR]
    if errors:
        raise DatasetError("\n         ".join(errors))
    return [finding.message for finding in findings if finding.kind != "unknown"]


def _remove(arguments: argparse.Namespace) -> int:
    from ..errors import Cancelled, ConfigurationError
    from .case_stores import existing_store

    store = existing_store(arguments.store, arguments.model)
    for case_id in arguments.cases:
        store.case_path(case_id)  # all of them are there, or none is removed
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("Nothing was removed: there is nobody to ask.", "Add --yes to remove it unasked.")
        question = f"Delete {', '.join(arguments.cases)} in {store.folder} for ever? [y/N] "
        if input(question).strip().casefold() not in ("y", "yes"):
            raise Cancelled("Nothing was removed.")
    for case_id in arguments.cases:
        store.remove(case_id)
        say(f"Removed {case_id}.")
    return 0


def _role(arguments: argparse.Namespace) -> int:
    from .case_stores import existing_store

    record = existing_store(arguments.store, arguments.model).set_role(arguments.case, arguments.role)
    meaning = "it is never trained on and tells how good a model is" if record.role == "check" else "it is trained on"
    say(f"{record.id}: {record.role} ({meaning}).")
    return 0
