"""Segment names find their labels; the left never becomes the right."""

from __future__ import annotations

import pytest

from MAESegmentLib.cases.mapping import LabelMatch, propose_mapping, similarity

HEAD_AND_NECK = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible")


def proposed(segment: str, labels: tuple[str, ...] = HEAD_AND_NECK) -> tuple[str | None, str]:
    [choice] = propose_mapping([segment], labels, {})
    assert choice.segment == segment
    return choice.label, choice.kind


@pytest.mark.parametrize("segment", ["Brainstem", "brain stem", "BRAIN_STEM", "Brain-Stem "])
def test_case_spaces_and_dashes_do_not_matter(segment: str) -> None:
    assert proposed(segment) == ("Brainstem", "same")


@pytest.mark.parametrize(
    ("segment", "label"),
    [
        ("Parotid_L", "LeftParotid"),
        ("parotid right", "RightParotid"),
        ("R Parotid", "RightParotid"),
        ("Brainstm", "Brainstem"),
        ("mandibula", "Mandible"),
        ("left parotis", "LeftParotid"),
    ],
)
def test_similar_name_is_proposed(segment: str, label: str) -> None:
    assert proposed(segment) == (label, "similar")


@pytest.mark.parametrize(
    ("segment", "labels"),
    [
        ("Left Parotid", ("RightParotid",)),
        ("Parotid_R", ("LeftParotid",)),
        ("Parotid", ("LeftParotid", "RightParotid")),
        ("posterior", ("anterior",)),
        ("left anterior horn", ("left posterior horn",)),
        ("vertebra T11", ("vertebra T12",)),
        ("inferior lobe", ("superior lobe",)),
        ("Tumour", HEAD_AND_NECK),
        ("", HEAD_AND_NECK),
        ("123", HEAD_AND_NECK),
    ],
)
def test_other_structure_is_new_and_has_no_label_until_somebody_says_so(segment: str, labels: tuple[str, ...]) -> None:
    assert proposed(segment, labels) == (None, "new")


def test_earlier_answers_come_first() -> None:
    remembered = {"Brainstem": "SpinalCord", "couch": None, "GTV": "Tumour"}
    assert propose_mapping(["brainstem", "Couch", "gtv"], HEAD_AND_NECK, remembered) == [
        LabelMatch("brainstem", "SpinalCord", "remembered"),
        LabelMatch("Couch", None, "left out"),
        LabelMatch("gtv", "Tumour", "remembered"),
    ]


def test_a_background_is_left_out_unless_somebody_says_what_it_is() -> None:
    assert proposed("Background ", HEAD_AND_NECK) == (None, "left out")
    (choice,) = propose_mapping(["background"], HEAD_AND_NECK, {"background": "Tumour"})
    assert choice.label == "Tumour"


def test_label_is_similar_to_one_segment_at_most_and_the_closest_gets_it() -> None:
    choices = propose_mapping(["Mandibles", "Mandibula", "spinal cord", "SpinalCords"], HEAD_AND_NECK, {})
    assert [choice.kind for choice in choices] == ["similar", "new", "same", "new"]


def test_every_segment_gets_one_choice_in_order() -> None:
    segments = ["b", "a", "b", "Mandible"]
    assert [choice.segment for choice in propose_mapping(segments, HEAD_AND_NECK, {})] == segments


def test_similarity_does_not_depend_on_the_order_of_words() -> None:
    assert similarity("Left optic nerve", "OpticNerve_L") == 1.0
