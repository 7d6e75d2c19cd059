"""One server for all tests here, as a user starts it; a browser and a session of its own for each test."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from Testing.skips import NO_BROWSER, REPOSITORY, has_browser
from Testing.web.browser import App, Person, running_app
from Testing.web.visitor import Page, Visitor


@pytest.fixture(scope="session")
def app_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Nobody's own models, cases or runs are touched."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "tmp").mkdir()
    own = {
        "MAESEGMENT_MODELS": folder / "models",
        "MAESEGMENT_CASES": folder / "cases",
        "MAESEGMENT_RUNS": folder / "runs",
        "MAESEGMENT_PYTHON": sys.executable,
        "PYTHONPATH": REPOSITORY,
        "TMPDIR": folder / "tmp",
        "OMP_NUM_THREADS": 2,
    }
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


@pytest.fixture(scope="session")
def app(app_environment: dict[str, str]) -> Iterator[App]:
    """`maesegment app --server`, with 50 MB for uploads."""
    with running_app(["--upload-limit", "0.05", "--users", "20"], app_environment) as app:
        yield app


@pytest.fixture
def visitor(app: App) -> Visitor:
    """A program that has not entered."""
    return Visitor(app)


@pytest.fixture(scope="session")
def insider(app: App) -> Visitor:
    """A program that has entered: one session for all attacks."""
    insider = Visitor(app).enter()
    assert insider.ask("/index.html")[0] == 200
    return insider


@pytest.fixture
def page(insider: Visitor) -> Iterator[Page]:
    """The socket of the insider's page."""
    page = Page(insider)
    yield page
    page.close()


@pytest.fixture
def new_person(tmp_path: Path) -> Iterator[Callable[..., Person]]:
    """`new_person()` sits down at a browser of their own; with the `profile` of another it is that user again."""
    if not has_browser():
        pytest.skip(NO_BROWSER)
    people: list[Person] = []
    numbers = itertools.count()

    def make(profile: Path | None = None) -> Person:
        people.append(Person(profile or tmp_path / f"profile {next(numbers)}"))
        return people[-1]

    yield make
    for person in people:
        person.quit()


@pytest.fixture
def person(app: App, new_person: Callable[..., Person]) -> Person:
    """At the page, in a session of their own."""
    return new_person().open(app.address)
