"""One server for all tests here, as a user starts it; a browser and a session of its own for each file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from Testing.skips import NO_BROWSER, REPOSITORY, has_browser
from Testing.web.browser import App, User, running_app
from Testing.web.visitor import Page, Visitor, session_processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of this folder that need no browser are the quickest: they come last, so that no process ends alone."""
    browsing = {item.path for item in items if {"user", "new_user"} & {*getattr(item, "fixturenames", ())}}
    items.sort(key=lambda item: item.path.parent == Path(__file__).parent and item.path not in browsing)


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
        "XDG_DATA_HOME": folder / "data",
        "OMP_NUM_THREADS": 2,
    }
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


@pytest.fixture
def unsaved_folder(app_environment: dict[str, str]) -> Path:
    """Where drawings are kept; without those of tests of other files, which have the same server."""
    folder = Path(app_environment["XDG_DATA_HOME"]) / "maesegment/unsaved"
    for file in folder.rglob("*.npz"):
        file.unlink()
    return folder


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
def new_user(tmp_path: Path) -> Iterator[Callable[..., User]]:
    """`new_user()` sits down at a browser of their own; with the `profile` of another it is that user again."""
    users: list[User] = []

    def make(profile: Path | None = None) -> User:
        users.append(_user(profile or tmp_path / f"profile {len(users)}"))
        return users[-1]

    yield make
    for user in users:
        user.driver.quit()


@pytest.fixture(scope="module")
def _user_of_module(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    known = session_processes(app)
    user = _user(tmp_path_factory.mktemp("profile")).open(app.address)
    (user.session,) = (one for one in session_processes(app) if one not in known)
    yield user
    user.driver.quit()
    for session in session_processes(app):  # it would live on, in case its user comes back
        if session not in known:
            session.terminate()


@pytest.fixture
def user(_user_of_module: User) -> User:
    """At the page, with nothing open; starting a browser and a session takes longer than most tests."""
    _user_of_module.tidy()
    return _user_of_module


def _user(profile: Path) -> User:
    if not has_browser():
        pytest.skip(NO_BROWSER)
    return User(profile)
