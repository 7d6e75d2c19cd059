"""Dataclasses come back from JSON as they were, and what is wrong with it is said by the name of its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Literal

import pytest

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.values import Stored, check_known, from_json


class State(Enum):
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Part(Stored):
    name: str
    size: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Whole(Stored):
    parts: tuple[Part, ...]
    count: int
    ratio: float | tuple[float, float] = 0.5
    state: State = State.DONE
    kind: Literal["a", "b"] = "a"
    first: Part | None = None
    is_good: bool = False
    figures: Mapping[str, float | None] = field(default_factory=dict)
    rest: Any = None


WHOLE = Whole((Part("x", (1.0, 2.0)), Part("y")), 3, (0.25, 0.5), first=Part("z"), figures={"a": 1.0, "b": None})
GOOD = {"parts": [{"name": "x"}], "count": 3}


def test_survives_json() -> None:
    content = json.loads(json.dumps({**WHOLE.to_dict(), "state": "failed"}))
    assert asdict(Whole.from_dict(content)) == {**asdict(WHOLE), "state": State.FAILED}


def test_what_is_not_said_is_the_default_and_what_is_not_known_is_ignored() -> None:
    whole = from_json(Whole, {**GOOD, "ratio": 1, "later": 5})
    assert whole == Whole((Part("x"),), 3, 1.0)
    assert isinstance(whole.ratio, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": [{"size": [1, 2]}]}, r"'parts\[0\].name' is missing"),
        ({"parts": [{"name": 5}]}, r"parts\[0\].name is 5, not a text"),
        ({"parts": [{"name": "x", "size": [1]}]}, r"parts\[0\].size is \[1\], not a list of 2"),
        ({"parts": "x"}, "parts is 'x', not a list"),
        ({"count": 2.5}, "count is 2.5, not a whole number"),
        ({"count": True}, "count is True, not a whole number"),
        ({"is_good": 1}, "is_good is 1, not true or false"),
        ({"state": "gone"}, "state is 'gone', not one of 'done', 'failed'"),
        ({"kind": "c"}, "kind is 'c', not one of 'a', 'b'"),
        ({"first": "x"}, "first is 'x', not an object"),
        ({"figures": {"a": "1"}}, "figures.a is '1', not a number"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Whole, {**GOOD, **changes})


@pytest.mark.parametrize("content", [None, [], "x"])
def test_no_object_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not an object"):
        from_json(Part, content)


def test_settings_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigurationError, match="Unknown parts: sise") as raised:
        check_known(Part, {"name": "x", "sise": 1}, "parts")
    assert raised.value.hint == "Known: name, size."
