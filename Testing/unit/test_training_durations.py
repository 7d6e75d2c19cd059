"""The time for a fine-tuning as a setting: how it is chosen, and that it takes the place of a number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.runs.durations import DURATIONS
from MAESegmentLib.training.defaults import default_settings
from MAESegmentLib.training.settings import FineTuneSettings
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import LABELS


def test_durations_are_settings_that_a_run_takes(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", tiny_spec(labels=LABELS))
    made = [default_settings(base, new_labels=True, chosen=duration.settings()) for duration in DURATIONS]
    assert [(settings.minutes, settings.until_no_better) for settings in made] == [
        *((2.0, False), (10.0, False), (60.0, False), (480.0, True)),
    ]
    assert all(FineTuneSettings.from_dict(settings.to_dict()) == settings for settings in made)


@pytest.mark.parametrize("steps", [800, FineTuneSettings.steps])
def test_a_time_and_a_number_of_steps_exclude_each_other(steps: int, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", tiny_spec(labels=LABELS))
    with pytest.raises(ConfigurationError, match="exclude each other"):
        default_settings(base, new_labels=True, chosen={"steps": steps, "minutes": 2.0})


@pytest.mark.parametrize(
    "wrong", [{"minutes": 0.0}, {"minutes": float("nan")}, {"minutes": 2.0, "steps": 800}, {"until_no_better": True}]
)
def test_what_is_no_time_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="minutes"):
        FineTuneSettings(**wrong)


def test_a_run_that_began_before_there_were_times_resumes() -> None:
    assert FineTuneSettings(steps=5).fingerprint() == FineTuneSettings(steps=5, minutes=None).fingerprint()
    assert FineTuneSettings(minutes=2.0).fingerprint() != FineTuneSettings(minutes=3.0).fingerprint()
