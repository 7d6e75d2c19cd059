"""The time for a fine-tuning as a setting: how it is chosen, and that it takes the place of a number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.cli.main import main
from MAESegmentLib.console.training_request import checked_settings
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.runs.durations import DURATIONS
from MAESegmentLib.training.defaults import default_settings
from MAESegmentLib.training.settings import FineTuneSettings
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
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
    "wrong",
    [
        *({"minutes": time} for time in (0.0, -1.0, float("nan"), float("inf"), 1e300, "2", True, [2.0])),
        *({"minutes": 2.0, "steps": 800}, {"until_no_better": True}),
    ],
)
def test_what_is_no_time_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="minutes"):
        FineTuneSettings(**wrong)


def test_a_run_that_began_before_there_were_times_resumes() -> None:
    assert FineTuneSettings(steps=5).fingerprint() == FineTuneSettings(steps=5, minutes=None).fingerprint()
    assert FineTuneSettings(minutes=2.0).fingerprint() != FineTuneSettings(minutes=3.0).fingerprint()


@pytest.mark.parametrize("settings", [{"minutes": 2.0, "steps": FineTuneSettings.steps}, {"minutes": "ten"}])
def test_a_console_refuses_at_once_what_its_run_would(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        checked_settings(settings)


RECIPE, CONFIG = "[settings]\nsteps = 40\n", "minutes = 3\nuntil_no_better = true\n"


@pytest.mark.parametrize(
    ("more", "minutes", "steps"),
    [
        (["--recipe", "recipe.toml"], None, 40),
        (["--recipe", "recipe.toml", "--minutes", "5"], 5.0, 1000),
        (["--recipe", "recipe.toml", "--config", "config.toml"], 3, 1000),
        (["--config", "config.toml", "--steps", "7"], None, 7),
        (["--config", "config.toml", "--minutes", "5"], 5.0, 1000),
        (["--recipe", "recipe.toml", "--set", "minutes=4"], 4, 1000),
        (["--minutes", "5", "--set", "steps=7"], "exclude each other", 0),
        (["--minutes", "5", "--steps", "1000"], "exclude each other", 0),
        (["--minutes", "0"], "a number of minutes above 0", 0),
        (["--minutes", "nan"], "a number of minutes above 0", 0),
    ],
)
def test_the_command_line_comes_before_a_file_of_settings_and_that_before_a_recipe(
    more: list[str], minutes: Any, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    seen: list[FineTuneSettings] = []

    def finetune(_dataset: Any, _base: Any, _out: Any, settings: FineTuneSettings, **_: Any) -> None:
        seen.append(settings)
        raise ConfigurationError("Seen.")

    monkeypatch.setattr("MAESegmentLib.training.finetune.finetune", finetune)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    data, base = write_dataset(tmp_path / "data", 2), save_tiny(tmp_path / "base", tiny_spec(labels=LABELS))
    assert main(["finetune", "--cases", str(data), "-m", str(base.path), "-o", "out", "--device", "cpu", *more]) == 2
    if isinstance(minutes, str):
        assert minutes in capfd.readouterr().err
    else:
        assert [(one.minutes, one.steps) for one in seen] == [(minutes, steps)]
