"""`maesegment cases`: the corrected cases that a model is fine-tuned on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..cases.records import TRAIN, VALIDATION, role_name
from . import add_case, next_case, options
from .terminal import confirm_deletion, make_console, print_json, say

if TYPE_CHECKING:
    from ..cases.records import CaseRecord
    from ..cases.store import CaseStore

#: Exit code when a case is damaged, or cannot be learnt from as it is.
DAMAGED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = options.add_actions(parser)
    add = options.add_action(actions, "add", "store a scan and its corrected segmentation", add_case.run)
    add_case.add_arguments(add)
    options.add_json(_with_place(actions, "list", "list the stored cases", _list))
    check = _with_place(actions, "check", "read every case again and verify that it is what was stored", _check)
    check.add_argument("cases", nargs="*", metavar="ID", help="e.g. case-0003 (default: all)")
    remove = _with_place(actions, "remove", "delete cases", _remove)
    remove.add_argument("cases", nargs="+", metavar="ID", help="e.g. case-0003")
    options.add_yes(remove)
    summary = "use a case for training, or only for validation"
    role = _with_place(actions, "role", summary, _role)
    role.add_argument("case", metavar="ID", help="e.g. case-0003")
    role.add_argument(
        "role",
        type=role_name,
        choices=(TRAIN, VALIDATION),
        help="validation: never trained on, only used to measure how good a model is",
    )
    next_case.add_arguments(
        options.add_action(
            actions, "next", "rank scans by how uncertain the model is: which to correct first", next_case.run
        )
    )


run = options.run_action


def _with_place(actions: Any, name: str, summary: str, function: options.Run) -> argparse.ArgumentParser:
    parser = options.add_action(actions, name, summary, function)
    options.add_model(parser, "cases of this model, all its versions")
    options.add_store(parser)
    return parser


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
            if records:
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
    from ..cases.records import IGNORE
    from ..cases.submission import CaseSubmission, check_submission, warnings_among
    from ..errors import DatasetError

    label_map = store.read_label_map(record.id)
    labels = tuple(label for label in store.labels() if label.name in record.labels)
    annotated = label_map.with_values({value: value for value in range(1, IGNORE)})
    submission = CaseSubmission(labels, role=record.role, group=record.group, replace=record.id, absent=record.labels)
    issues = check_submission(submission, store.read_image(record.id), annotated, records)
    twin = next((one.id for one in records if one.image_hash == record.image_hash and one.id != record.id), "")
    if twin:
        raise DatasetError(f"This scan is stored already, as {twin}.")
    return [warning.message for warning in warnings_among(issues) if warning.kind != "unknown"]


def _remove(arguments: argparse.Namespace) -> int:
    from .case_stores import existing_store

    store = existing_store(arguments.store, arguments.model)
    for case_id in arguments.cases:
        store.case_path(case_id)  # all of them are there, or none is removed
    if not arguments.yes:
        confirm_deletion(f"{', '.join(arguments.cases)} in {store.folder}")
    for case_id in arguments.cases:
        store.remove(case_id)
        say(f"Removed {case_id}.")
    return 0


def _role(arguments: argparse.Namespace) -> int:
    from .case_stores import existing_store

    record = existing_store(arguments.store, arguments.model).set_role(arguments.case, arguments.role)
    meaning = "it is trained on" if record.role == TRAIN else "it is never trained on and measures how good a model is"
    say(f"{record.id}: {role_name(record.role)} ({meaning}).")
    return 0
