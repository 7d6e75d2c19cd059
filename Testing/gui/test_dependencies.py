"""What the Python for the network lacks is found in that Python, and said so that a user knows what to do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from MAESegmentLib.processes.interpreter import Interpreter
from MAESegmentLib.processes.launch import Launch


@pytest.fixture
def dependencies(plugin):
    return plugin("dependencies")


@pytest.fixture
def child(plugin):
    return plugin("child_process")


def _interpreter(path: str = "/usr/bin/python3", origin: str = "chosen in the settings"):
    return Interpreter(Path(path), origin)


def _answer(*problems: dict) -> str:
    return json.dumps({"python": "x", "version": "3.12.1", "problems": list(problems), "packages": {"numpy": "2.0"}})


def _problem(name: str, kind: str = "missing", **more) -> dict:
    return {"name": name, "kind": kind, "message": f"{name} is {kind}.", "requirement": f"{name}>=1", **more}


def test_complete_python_is_ready(dependencies, child):
    report = dependencies.report_of(_interpreter(), child.ChildResult(0, _answer(), ""))
    assert report.ready
    assert not report.can_install
    assert "3.12.1" in report.sentence


def test_warnings_before_the_answer_do_not_hide_it(dependencies, child):
    output = "some package says hello\n" + _answer(_problem("monai"))
    report = dependencies.report_of(_interpreter(), child.ChildResult(0, output, ""))
    assert report.missing == ("monai",)


def test_sentence_names_packages_and_size(dependencies, child):
    answer = _answer(_problem("torch", size_mb=2100, is_torch=True), _problem("monai", size_mb=3))
    report = dependencies.report_of(_interpreter(), child.ChildResult(0, answer, ""))
    assert "torch, monai" in report.sentence or report.is_foreign
    assert dependencies.size_text(report.download_mb) == "2.1 GB"


def test_a_persons_own_python_is_never_installed_into(dependencies, child):
    report = dependencies.report_of(_interpreter(), child.ChildResult(0, _answer(_problem("monai")), ""))
    assert report.is_foreign
    assert not report.can_install
    assert report.command == '"/usr/bin/python3" -m pip install "monai>=1"'


def test_slicers_own_python_may_be_installed_into(dependencies, child, plugin):
    own = plugin("session").application_folder() / "PythonSlicer"
    report = dependencies.report_of(_interpreter(str(own)), child.ChildResult(0, _answer(_problem("monai")), ""))
    assert not report.is_foreign
    assert report.can_install


def test_damaged_package_is_called_repair(dependencies, child, plugin):
    own = plugin("session").application_folder() / "PythonSlicer"
    answer = _answer(_problem("torch", "damaged", is_torch=True))
    report = dependencies.report_of(_interpreter(str(own)), child.ChildResult(0, answer, ""))
    assert "repair" in report.sentence


def test_what_only_training_needs_does_not_keep_anyone_from_segmenting(dependencies, child, plugin):
    own = plugin("session").application_folder() / "PythonSlicer"
    answer = _answer(_problem("monai", purpose="train", size_mb=20))
    report = dependencies.report_of(_interpreter(str(own)), child.ChildResult(0, answer, ""), "train")
    assert not report.ready
    assert report.ready_to_segment
    assert report.sentence == "To store cases and fine-tune, Slicer needs monai (download: about 20 MB)."
    answer = _answer(_problem("monai", purpose="train"), _problem("torch", is_torch=True))
    assert not dependencies.report_of(_interpreter(), child.ChildResult(0, answer, ""), "train").ready_to_segment


def test_who_has_openvino_is_asked_for_torch_to_fine_tune_only(dependencies, child, plugin):
    own = plugin("session").application_folder() / "PythonSlicer"
    answer = _answer(_problem("torch", purpose="train", is_torch=True, size_mb=900))
    report = dependencies.report_of(_interpreter(str(own)), child.ChildResult(0, answer, ""), "train")
    assert report.ready_to_segment
    assert report.sentence == "To fine-tune, Slicer needs torch (download: about 900 MB)."


def test_the_other_package_is_read_from_the_answer(dependencies, child, plugin):
    own = plugin("session").application_folder() / "PythonSlicer"
    answer = json.loads(_answer(_problem("torch", is_torch=True, size_mb=900), _problem("psutil")))
    answer["instead"] = _problem("openvino", size_mb=60)
    report = dependencies.report_of(_interpreter(str(own)), child.ChildResult(0, json.dumps(answer), ""))
    assert report.sentence.startswith("To run the network, Slicer needs torch or openvino, psutil. OpenVINO (download")
    assert report.to_segment_only.missing == ("openvino", "psutil")
    assert report.missing == ("torch", "psutil")


def test_checks_for_two_purposes_do_not_disturb_each_other(dependencies, session, process_events_until):
    session.set_python(sys.executable)
    reports = {}
    checks = dependencies.Dependencies(session)
    for purpose in ("segment", "train"):
        checks.check(lambda report, purpose=purpose: reports.update({purpose: report}), purpose)
    process_events_until(lambda: len(reports) == 2, 120.0)
    assert {purpose: report.purpose for purpose, report in reports.items()} == {"segment": "segment", "train": "train"}
    assert "nibabel" not in reports["segment"].packages
    assert "nibabel" in reports["train"].packages


@pytest.mark.parametrize("output", ["", "Segmentation fault", "[1, 2]", '{"problems": 3}'])
def test_a_python_that_answers_nonsense_is_said_to_be_unusable(dependencies, child, output):
    result = child.ChildResult(1, output, "Traceback\nImportError: libfoo.so.3 is missing\n")
    report = dependencies.report_of(_interpreter(), result)
    assert not report.ready
    assert not report.can_install
    assert "libfoo.so.3" in report.sentence


def test_check_of_a_python_that_does_not_exist_is_one_sentence(dependencies, session, tmp_path):
    session.set_python(str(tmp_path / "no-python"))
    report = dependencies.Dependencies(session).check_now()
    assert not report.ready
    assert "no-python" in report.sentence


def test_a_newer_check_of_the_chosen_python_replaces_the_one_under_way(dependencies, session, process_events_until):
    session.set_python(sys.executable)
    first, second = [], []
    checks = dependencies.Dependencies(session)
    checks.check(first.append)
    checks.check(second.append)
    process_events_until(lambda: second, 60.0)
    assert first == []
    assert second[0].python == sys.executable
    assert second[0].ready, second[0].sentence


def test_small_downloads_are_rounded_not_zero(dependencies):
    assert dependencies.size_text(0.4) == "10 MB"
    assert dependencies.size_text(238) == "240 MB"


@pytest.fixture
def run(child, plugin):
    """A child that runs a few lines of Python."""

    def run(code, program=sys.executable, **options):
        loop, transport = plugin("qt_event_loop").qt_loop(), plugin("qt_transport").QProcessTransport()
        launch = Launch(program, ("-c", code), dict(os.environ))
        return child.ChildProcess(loop, transport, launch, lambda _result: None, **options)

    return run


def test_child_that_hangs_is_killed_and_said_so(run):
    assert run("import time; time.sleep(60)", timeout_s=0.5).wait().reason == "no answer within 0.5 s"


def test_child_reports_lines_as_they_come(run):
    lines = []
    assert run("print('one'); print('two')", line=lines.append).wait().code == 0
    assert lines == ["one", "two"]


def test_child_that_cannot_be_started_ends_with_the_reason(run):
    result = run("", program="/nowhere/python").wait()
    assert result.code is None
    assert "cannot be started" in result.reason
