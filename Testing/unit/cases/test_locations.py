"""Where cases are kept if nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.locations import case_folder, default_case_root
from Testing.bundles import save_tiny, tiny_spec


def test_among_the_users_documents_unless_another_folder_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAESEGMENT_CASES", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert default_case_root() == Path("/home/somebody/Documents/MAESegment cases")
    monkeypatch.setenv("MAESEGMENT_CASES", "~/cases")
    assert default_case_root() == Path("/home/somebody/cases")


def test_all_versions_of_a_model_share_their_cases(tmp_path: Path) -> None:
    models = ModelStore(tmp_path / "models", shipped_folder=tmp_path / "shipped")
    first = save_tiny(models.folder_for("tiny-mr", "1.0.0"))
    child = save_tiny(
        models.folder_for("clinic-mr", "1.0.0"), tiny_spec(name="clinic-mr", parent=dict(first.reference)), seed=1
    )
    assert case_folder(tmp_path, first, models) == tmp_path / "tiny-mr"
    assert case_folder(tmp_path, child, models) == tmp_path / "tiny-mr"
