"""Fast or best: a choice of overlap and mirroring, with the seconds that the last run of the model makes likely."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from MAESegmentLib import mrml
from MAESegmentLib.app.presenters.settings import process_options
from MAESegmentLib.app.presenters.speed import SpeedPresenter
from MAESegmentLib.cli import options
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.inference.settings import SPEEDS, InferenceSettings


@dataclass
class Host:
    """A model with windows of 50 mm whose voxels are 1 mm, mirrored along two axes."""

    bundle: Any = field(
        default_factory=lambda: SimpleNamespace(
            content_hash="h",
            metadata={
                "maesegment": {
                    "preprocessing": {"orientation": "SAR", "spacing": [1, 1, 1], "patch_size": [50, 50, 50]},
                    "inference": {"mirroring": True, "mirror_axes": [0, 1]},
                }
            },
        )
    )
    nodes: tuple[Any, ...] = ("scan",)
    region: Any = None
    overlap: float = 0.0
    mirroring: str = "model"
    device: str = "auto"

    @property
    def options(self) -> dict[str, Any]:
        return process_options(
            device=self.device,
            precision="auto",
            overlap=self.overlap,
            mirroring=self.mirroring,
            allow_cpu=True,
            check_familiarity=True,
            clean=True,
        )

    def set_windows(self, overlap: float, mirroring: str) -> None:
        self.overlap, self.mirroring = overlap, mirroring


@pytest.fixture
def host(monkeypatch):
    """The scan is 200 mm along R and 50 mm along A and S: seven windows that overlap by half, or six by a quarter."""
    monkeypatch.setattr(mrml, "extent_of", lambda _node, region: (50.0 if region else 200.0, 50.0, 50.0))
    return Host()


@pytest.fixture
def speed(host):
    return SpeedPresenter(host)


def texts(speed):
    return [option.text for option in speed.state().options]


def run(speed, seconds, network_seconds):
    speed.begin()
    speed.end(SimpleNamespace(seconds=seconds, network_seconds=network_seconds, located_by=""))


def test_best_is_chosen_at_first_and_the_other_choice_is_kept_in_the_settings_of_advanced(host, speed):
    assert speed.state().chosen == "best"
    speed.choose("fast")
    assert (host.overlap, host.mirroring, speed.state().chosen) == (0.25, "off", "fast")
    assert {name: host.options[name] for name in ("overlap", "mirroring")} == SPEEDS["fast"]
    speed.choose("best")
    assert (host.overlap, host.mirroring) == (0.0, "model")
    speed.choose("averaged")
    assert (host.overlap, host.mirroring, speed.state().chosen) == (0.0, "shifted", "averaged")
    assert host.options["mirroring"] == SPEEDS["averaged"]["mirroring"]
    speed.choose("no such speed")
    host.overlap = 0.75
    state = speed.state()
    assert (state.chosen, state.options[-1].text) == ("custom", "As under Advanced")


def test_before_anything_was_measured_no_seconds_are_claimed(host, speed):
    expected = ["Best", "Fast (about 5 times faster)", "Averaged (about 2 times slower)"]
    assert texts(speed) == expected, "28 windows, 6 or 56"
    host.nodes = (None,)
    assert texts(speed) == ["Best", "Fast", "Averaged"]


def test_seconds_follow_from_the_last_run_of_this_model_on_this_device(host, speed):
    run(speed, seconds=40.0, network_seconds=28.0)
    run(speed, seconds=31.0, network_seconds=28.0)
    expected = ["Best (about 31 s)", "Fast (about 9 s)", "Averaged (about 59 s)"]
    assert texts(speed) == expected, "three seconds are needed beside the network"
    host.region = "box"
    assert texts(speed) == ["Best (about 7 s)", "Fast (about 4 s)", "Averaged (about 11 s)"]
    host.device = "cpu"
    assert texts(speed)[1:] == ["Fast (about 4 times faster)", "Averaged (about 2 times slower)"]


def test_scripts_have_the_same_names_and_what_is_given_wins():
    assert InferenceSettings.chosen(speed="best", overlap=None) == {}
    assert InferenceSettings.chosen(speed="fast", overlap=None, mirroring=None) == SPEEDS["fast"]
    assert InferenceSettings.chosen(speed="fast", overlap=0.5) == {"overlap": 0.5, "mirroring": False}
    parser, model = options.Parser(), SimpleNamespace(spec=SimpleNamespace(inference={"mirroring": True}))
    options.add_inference(parser)
    for given, expected in (
        ([], (0.5, True)),
        (["--speed", "fast"], (0.25, False)),
        (["--speed", "averaged"], (0.5, "shifted")),
        (["--speed", "averaged", "--mirror"], (0.5, "shifted")),
    ):
        settings = options.inference_settings(parser.parse_args(given), model)
        assert (settings.overlap, settings.mirroring) == expected
    assert options.inference_settings(parser.parse_args(["--speed", "fast", "--mirror"]), model).mirroring is True
    with pytest.raises(ConfigurationError, match="'slow' is none of best, fast, averaged"):
        InferenceSettings.chosen(speed="slow")
