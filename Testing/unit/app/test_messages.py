"""What the panel says."""

from __future__ import annotations

import pytest

from MAESegmentLib import errors
from MAESegmentLib.app.presenters.remedies import OfferContext, offers_for
from MAESegmentLib.app.texts import messages
from MAESegmentLib.inference.locating import LOCATED
from MAESegmentLib.worker.protocol import STAGES


@pytest.fixture
def offers():
    """The texts of the buttons for an error."""

    def offers(error, **situation):
        found = offers_for(error, error.details, OfferContext(**situation))
        return [offer.text for offer in found]

    return offers


def _kinds(kind=errors.MAESegmentError):
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def test_every_stage_of_the_worker_has_words():
    for stage in STAGES:
        assert messages.stage_text(stage) != stage


def test_progress_never_goes_back_from_stage_to_stage():
    plain = [(stage, part) for stage in STAGES if stage != "locate" for part in (0.0, 0.5, 1.0)]
    # Where boxes are placed first, segmenting begins in the middle.
    located = [("load", 1.0), *(("locate", part) for part in (0.0, 0.5, 1.0)), ("segment", LOCATED), ("restore", 0.0)]
    for stages in (plain, located):
        at = [messages.overall_fraction(*stage) for stage in stages]
        assert at == sorted(at)
    assert [messages.overall_fraction(*stage) for stage in (plain[0], plain[-1])] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (8.4, "9 s"), (89, "89 s"), (238, "4 min"), (5400, "1.5 h"), (7300, "2.0 h")]
)
def test_durations_are_rounded_as_in_speech(seconds, text):
    assert messages.duration_text(seconds) == text


@pytest.mark.parametrize(("ml", "text"), [(0.0312, "0.03"), (3.07, "3.1"), (61.4, "61.4"), (1432.2, "1432")])
def test_volumes_have_as_many_figures_as_mean_something(ml, text):
    assert messages.volume_text(ml) == text


def test_every_kind_of_error_has_a_sentence_and_at_most_three_offers(offers):
    for kind in _kinds():
        error = kind("It broke.", "Mend it.")
        assert messages.error_text(error) == "It broke. Mend it."
        assert len(offers(error)) <= 3


@pytest.mark.parametrize(
    ("error", "situation", "texts"),
    [
        (errors.DeviceMemoryError("Full."), {"device": "cpu", "has_roi": True}, ["Retry"]),
        (errors.WorkerError("It ended."), {"python_lacks_packages": True}, ["Install", "Retry", "Show log"]),
    ],
)
def test_only_what_helps_is_offered(offers, error, situation, texts):
    assert offers(error, **situation) == texts


def test_tooltips_have_short_lines_and_keep_their_paragraphs():
    tip = messages.tooltip("word " * 60 + "\nsecond paragraph")
    assert max(map(len, tip.splitlines())) <= 72
    assert tip.splitlines()[-1] == "second paragraph"
    assert messages.tooltip("") == ""


def test_long_words_may_be_broken_and_short_ones_stay_whole():
    assert messages.breakable("a plain sentence, with 2.5 words") == "a plain sentence, with 2.5 words"
    broken = messages.breakable("see /home/somebody/miniconda3/envs/x/bin/python and " + "x" * 80)
    assert broken.replace("\u200b", "") == "see /home/somebody/miniconda3/envs/x/bin/python and " + "x" * 80
    assert max(map(len, broken.replace(" ", "\u200b").split("\u200b"))) <= 25


def test_device_is_named_with_its_memory():
    device = {"name": "cuda:0", "title": "NVIDIA T4", "free_bytes": 5.25 * 2**30, "total_bytes": 15 * 2**30}
    assert messages.device_text(device) == "NVIDIA T4 (5.2/15 GB)"
    assert messages.device_tooltip(device) == "NVIDIA T4 [cuda:0]: 5.2 of 15 GB of memory are free"
    assert messages.device_text({"name": "cpu", "title": "AMD Ryzen"}) == "AMD Ryzen"
