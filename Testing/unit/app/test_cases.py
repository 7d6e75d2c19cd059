"""The list of stored cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.app.presenters.cases import CasesPresenter
from MAESegmentLib.errors import DatasetError
from Testing.fake_logic import case_record


@pytest.fixture
def cases(logic, host, tmp_path):
    """Three stored cases; the last one lacks a label and is for validation."""
    logic.store.folder = tmp_path
    logic.store.records[:] = [
        case_record(1),
        case_record(2, volumes_ml={"anterior": 1.0, "posterior": 0.0}),
        case_record(3, role="check", labels=("anterior",), unknown=("posterior",), partial=True),
    ]
    cases = CasesPresenter(logic, host, lambda: None)
    cases.update()

    def refresh() -> None:
        cases.outdate()
        cases.update()

    host.refresh = refresh
    return cases


def test_no_case_says_how_to_begin(logic, host):
    cases = CasesPresenter(logic, host, lambda: None)
    cases.update()
    assert (cases.state.rows, cases.records) == ((), ())
    assert cases.state.text.startswith("No corrected cases yet.")


def test_rows_show_labels_use_and_picture(cases, tmp_path):
    rows = cases.state.rows
    assert cases.state.text == "3 cases, 1 for validation"
    assert rows[0].text == "case-0001\nanterior 1.3 ml, posterior 1.3 ml"
    assert rows[0].tip.splitlines()[0] == "48 x 64 x 40 voxels of 1 x 1 x 1 mm"
    assert rows[0].picture == tmp_path / "case-0001" / "thumbnail.png"
    assert "posterior not there" in rows[1].text
    assert rows[2].text.endswith("Not annotated: posterior\nOnly a part was annotated")
    assert [row.role for row in rows] == ["train", "train", "check"]
    assert [row.other_role for row in rows] == ["check", "check", "train"]


def test_a_case_whose_scan_is_open_bears_its_name(logic, cases, tmp_path):
    logic.scan_names = {f"{tmp_path.name}/case-0002": "Head", "other/case-0001": "Knee"}
    cases.update()
    names = [row.text.splitlines()[0] for row in cases.state.rows]
    assert names == ["case-0001", "case-0002 (Head)", "case-0003"]


def test_a_case_whose_scan_is_opened_again_after_a_restart_bears_its_name(logic, host, cases):
    host.volume = "opened again"
    logic.identify = lambda: logic.scan_names.update(image2="Head")
    logic.scan_names = {}
    cases.update()
    logic.session.loop.run()
    names = [row.text.splitlines()[0] for row in cases.state.rows]
    assert names == ["case-0001", "case-0002 (Head)", "case-0003"]
    looks = len(logic.called("identifyScan"))
    cases.update()
    assert len(logic.called("identifyScan")) == looks, "once a scan"


def test_the_folder_is_read_only_when_it_may_have_changed(logic, host, cases):
    before = logic.store.reads
    for _ in range(5):
        cases.update()
    assert logic.store.reads == before
    cases.outdate()
    cases.update()
    assert logic.store.reads == before + 1
    host.bundle = None
    cases.update()
    assert cases.state.rows == ()


def test_the_use_of_a_case_is_changed(logic, cases):
    cases.set_role("case-0001", "train")
    assert logic.called("setCaseRole") == [], "it is so already"
    cases.set_role("case-0001", "check")
    assert logic.called("setCaseRole")[0][:2] == ["case-0001", "check"]
    assert cases.state.text == "3 cases, 2 for validation"


def test_a_refusal_is_shown(logic, host, cases):
    logic.refusals["setCaseRole"] = DatasetError("The folder is read-only.")
    cases.set_role("case-0001", "check")
    assert host.errors == ["The folder is read-only."]
    assert cases.state.rows[0].role == "train"


def test_removing_asks_first(logic, host, cases):
    cases.remove()
    cases.ask_to_remove("case-0002")
    assert "Remove case-0002?" in cases.state.asks.text
    cases.keep()
    cases.remove()
    assert len(logic.store.records) == 3
    cases.ask_to_remove("case-0002")
    cases.remove()
    assert [row.id for row in cases.state.rows] == ["case-0001", "case-0003"]
    assert cases.state.removing == ""
    assert host.removed == ["case-0002"]


def test_a_removal_that_failed_is_not_confirmed(logic, host, cases):
    logic.refusals["removeCase"] = DatasetError("The folder is read-only.")
    cases.ask_to_remove("case-0002")
    cases.remove()
    assert (host.errors, host.removed) == (["The folder is read-only."], [])


def test_opening_a_case_shows_its_nodes(logic, host, cases):
    logic.opened = ("volume", "segmentation")
    cases.open("case-0001")
    cases.open("")
    assert logic.called("openCase") == [["case-0001", host.bundle]]
    assert host.shown == [("volume", "segmentation")]


def test_nothing_is_changed_while_it_is_blocked(logic, cases):
    logic.calls.clear()
    cases.ask_to_remove("case-0001")
    cases.set_storing(True)
    assert cases.state.blocked
    cases.remove()
    cases.open("case-0001")
    cases.set_role("case-0001", "check")
    cases.ask_to_remove("case-0001")
    assert logic.calls == []
    assert cases.state.removing == ""
    cases.set_storing(False)
    assert cases.state.blocked == ""


def test_a_damaged_case_is_told_and_the_others_are_there(logic, cases):
    logic.store.problems = [(Path("case-0009"), DatasetError("case-0009 has no image.", "Remove it."))]
    cases.outdate()
    cases.update()
    assert "case-0009 has no image. Remove it." in cases.state.text
    assert len(cases.state.rows) == 3
