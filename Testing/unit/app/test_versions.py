"""Versions of a model: choosing, going back, export, deleting, and comparing two of them."""

from __future__ import annotations

import itertools
import zipfile
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.compare import ComparePresenter
from MAESegmentLib.app.presenters.versions import VersionsPresenter
from MAESegmentLib.errors import BundleError, Cancelled
from MAESegmentLib.evaluation.comparison import Row
from Testing.fake_logic import version_of

NEW, OLD = "hippocampus-mr@2.1.0", "hippocampus-mr@2.0.0"


@pytest.fixture
def versions(logic, host, new_version):  # noqa: ARG001
    """Version 2.1.0 is in use, made from 2.0.0."""
    versions = VersionsPresenter(logic, host, lambda: None)
    versions.update()
    return versions


def titles(versions) -> list[str]:
    versions.update()
    return [row.title for row in versions.state.rows]


def test_versions_of_the_family_are_listed_newest_first(versions):
    assert titles(versions) == ["2.1.0 (in use)", "2.0.0"]
    assert versions.state.rows[1].accuracy.startswith("Mean Dice 0.")
    assert versions.state.previous == OLD


def measured(bundle, dice: float, *images: str, before: float | None = None) -> None:
    """As a fine-tuning notes it; without `images`, as a model that ships does."""
    result = {
        "held_out": "some cases",
        "cases": len(images) or 40,
        "mean_dice_before": before,
        "mean_dice_after": dice,
        "dice_after": {"anterior": dice, "posterior": dice},
        "per_case": [{"image": image} for image in images],
    }
    own = {**bundle.metadata["maesegment"], "metrics": {"validation": result}}
    bundle.metadata = {**bundle.metadata, "maesegment": own}


def test_means_stand_side_by_side_only_over_the_same_cases(logic, host, new_version, versions):
    def accuracies() -> list[str]:
        versions.update()
        return [row.accuracy for row in versions.state.rows]

    other = "Not measured on the same cases as the version in use."
    measured(new_version, 0.83, "a", "b", "c")
    assert accuracies() == ["Mean Dice 0.83 (n = 3 held-out cases)", other]
    measured(new_version, 0.83, "a", "b", "c", before=0.71)
    assert accuracies()[1] == "Mean Dice 0.71 on the cases of the version in use"
    host.use_model(OLD)
    assert accuracies()[0] == "Mean Dice 0.83 (n = 3 held-out cases); the version in use 0.71 on the same cases"
    assert accuracies()[1].endswith("(n = 40 held-out cases)")
    one = version_of(new_version, "2.2.0")
    one.content_hash, one.parent = "one", {**new_version.parent, "hash": "gone"}
    logic.bundles = [*logic.bundles, one]
    host.use_model(NEW)
    for images, expected in ((("a",), other), (("c", "a", "b"), "Mean Dice 0.90 (n = 3 held-out cases)")):
        measured(one, 0.9, *images)
        assert accuracies()[0] == expected


def test_without_a_model_there_are_none(host, versions):
    host.bundle = None
    versions.update()
    assert (versions.state.rows, versions.state.previous) == ((), "")


def test_another_version_can_be_used(logic, host, versions):
    assert [bool(row.why_not_use) for row in versions.state.rows] == [True, False]
    versions.use(OLD)
    assert logic.called("useVersion")[0][0].version == "2.0.0"
    assert host.bundle.version == "2.0.0"
    assert titles(versions) == ["2.1.0", "2.0.0 (in use)"]
    assert versions.state.notice == "hippocampus-mr 2.0.0 is used from now on."


def test_the_same_notice_is_shown_again(logic, host, new_version):  # noqa: ARG001
    notices = [""]
    presenter = VersionsPresenter(logic, host, lambda: notices.append(presenter.state.notice))
    presenter.update()
    for name in (OLD, OLD):
        presenter.use(name)
    assert [now for before, now in itertools.pairwise(notices) if now != before] == [
        "hippocampus-mr 2.0.0 is used from now on.",
        "",
        "hippocampus-mr 2.0.0 is used from now on.",
    ]


def test_the_default_is_told_from_what_is_chosen(host, versions):
    host.use_model(OLD)
    assert titles(versions) == ["2.1.0 (default)", "2.0.0 (in use)"]
    assert versions.state.row(OLD).why_not_use == "", "it becomes the default, too"
    versions.use(OLD)
    assert titles(versions) == ["2.1.0", "2.0.0 (in use)"]


def test_the_way_back_is_one_step(host, versions):
    versions.go_back()
    assert host.bundle.version == "2.0.0"
    assert versions.state.previous == ""
    versions.go_back()
    assert host.bundle.version == "2.0.0"


def test_a_choice_that_cannot_be_noted_is_shown(logic, host, versions):
    logic.refusals["useVersion"] = BundleError("The folder is read-only.", "Choose another.")
    versions.go_back()
    assert host.errors == ["The folder is read-only."]
    assert (host.bundle.version, versions.state.notice) == ("2.1.0", "")


@pytest.mark.parametrize("name", ["/etc/passwd", "hippocampus-mr", "hippocampus-mr@9.9.9"])
def test_what_is_not_in_the_list_is_refused(logic, host, versions, name, tmp_path):
    versions.use(name)
    versions.export(name, tmp_path / "x.zip")
    versions.ask_to_delete(name)
    assert len(host.errors) == 2
    assert logic.calls == []
    assert versions.state.deleting == ""


def test_export_writes_a_zip_file(logic, host, versions, tmp_path):
    done = []
    versions.export(OLD, tmp_path / "old.zip", done.append)
    assert versions.state.is_exporting
    logic.session.loop.run()
    assert done == [tmp_path / "old.zip"]
    assert zipfile.is_zipfile(done[0])
    assert "was written to" in versions.state.notice
    versions.export(OLD, tmp_path / "no" / "folder" / "old.zip", done.append)
    logic.session.loop.run()
    assert (len(done), len(host.errors), versions.state.is_exporting) == (1, 1, False)


def test_only_what_nothing_depends_on_can_be_deleted(host, versions):
    assert versions.state.row(OLD).why_kept == "It comes with MAESegment."
    versions.ask_to_delete(OLD)
    assert versions.state.deleting == ""
    versions.ask_to_delete(NEW)
    assert "hippocampus-mr 2.1.0" in versions.state.asks.text
    versions.keep()
    versions.delete()
    assert len(titles(versions)) == 2
    versions.ask_to_delete(NEW)
    versions.delete()
    assert titles(versions) == ["2.0.0 (in use)"]
    assert host.bundle.version == "2.0.0", "its parent is used instead"


# Comparing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def comparing(logic, host, versions):
    comparing = ComparePresenter(logic, host, lambda: None)
    comparing.double_click_s = 0.0
    comparing.update(versions.versions, versions.state.previous)
    return comparing


def comparison():
    rows = (Row("anterior", 1.23, 1.41, 0.88), Row("posterior", 1.1, None, None))
    node = SimpleNamespace(GetName=lambda: "Scan: 2.0.0 or 2.1.0")
    return SimpleNamespace(disagreement=node, disagreement_ml=0.123, rows=rows)


def test_a_single_version_cannot_be_compared(logic, host):
    comparing = ComparePresenter(logic, host, lambda: None)
    comparing.update([host.bundle], "")
    assert "no other version" in comparing.state.blocked
    comparing.press()
    assert logic.jobs_of == {}


def test_two_versions_on_the_chosen_volume(logic, host, comparing):
    assert comparing.state.chosen == OLD
    comparing.press()
    scan, *models, roi = logic.called("compare")[0]
    assert (scan, [model.version for model in models], roi) == (host.volume, ["2.0.0", "2.1.0"], None)
    logic.last("compare").go_on("segment", 0.5)
    assert (comparing.state.is_running, comparing.state.fraction) == (True, 0.5)
    comparing.start(OLD, NEW)
    assert len(logic.jobs_of["compare"]) == 1, "one at a time"
    found = comparison()
    logic.last("compare").succeed(found)
    state = comparing.state
    assert state.text == "Where they differ (0.12 ml) is shown as Scan: 2.0.0 or 2.1.0."
    assert state.titles == ("Label", "2.0.0 (ml)", "2.1.0 (ml)", "Agreement")
    assert [(row.first, row.second, row.agreement) for row in state.rows] == [
        ("1.23", "1.41", "0.88"),
        ("1.10", "\u2013", "\u2013"),
    ]
    assert not state.is_running
    assert host.shown == [found.disagreement]


def test_double_click_compares_and_does_not_cancel(logic, comparing):
    comparing.double_click_s = 60.0
    comparing.press()
    comparing.press()
    assert not logic.last("compare").cancel_requested


@pytest.mark.parametrize("error", [Cancelled(), BundleError("Version 2.0.0 is damaged.")])
def test_a_comparison_that_ends_early(logic, host, comparing, error):
    comparing.press()
    comparing.press()
    assert logic.last("compare").cancel_requested
    logic.last("compare").fail(error)
    assert (comparing.state.is_running, comparing.state.rows) == (False, ())
    assert host.errors == [] if isinstance(error, Cancelled) else ["Version 2.0.0 is damaged."]


def test_without_a_volume_it_says_what_is_missing(logic, host, comparing):
    host.volume = None
    comparing.start(OLD, NEW)
    assert host.errors == ["Choose a scan to compare on."]
    assert logic.jobs_of == {}


def test_what_is_not_in_the_list_is_not_compared(logic, host, comparing):
    comparing.start("/etc", NEW)
    assert len(host.errors) == 1
    assert logic.jobs_of == {}


def test_closing_the_scene_forgets_the_comparison(logic, comparing):
    comparing.press()
    logic.last("compare").succeed(comparison())
    comparing.press()
    comparing.clear()
    assert logic.last("compare").cancel_requested
    assert (comparing.state.text, comparing.state.rows) == ("", ())


def test_table_goes_with_its_volume(logic, host, versions, comparing):
    comparing.press()
    logic.last("compare").succeed(comparison())
    comparing.update(versions.versions, OLD)
    assert len(comparing.state.rows) == 2
    host.volume = "another scan"
    comparing.update(versions.versions, OLD)
    assert (comparing.state.text, comparing.state.rows) == ("", ())


@pytest.mark.parametrize("when", ["after", "while it is compared"])
def test_table_goes_with_a_version_that_is_deleted(logic, versions, comparing, when):
    comparing.press()
    if when == "after":
        logic.last("compare").succeed(comparison())
    versions.ask_to_delete(NEW)
    versions.delete()
    comparing.update(versions.versions, "")
    assert (comparing.state.text, comparing.state.rows) == ("", ())
    if when == "while it is compared":
        logic.last("compare").succeed(comparison())
        assert comparing.state.rows == ()


def test_comparison_that_ends_on_another_volume_is_named_without_a_table(logic, host, versions, comparing):
    comparing.press()
    host.volume = "another scan"
    comparing.update(versions.versions, OLD)
    logic.last("compare").succeed(comparison())
    assert comparing.state.text.endswith("is shown as Scan: 2.0.0 or 2.1.0.")
    assert comparing.state.rows == ()
    host.volume = "a third"
    comparing.update(versions.versions, OLD)
    assert comparing.state.text == ""
