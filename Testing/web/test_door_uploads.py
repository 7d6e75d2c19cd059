"""Attacks with what is uploaded: lies about sizes, many at once, broken-off ones, and what a killed server leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import shutil
import socket
import stat
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from MAESegmentLib.errors import OutputError
from MAESegmentLib.web.door.server_folder import ServerFolder, clear_abandoned
from MAESegmentLib.web.door.uploads import Budget, Uploads
from Testing import children
from Testing.skips import REPOSITORY
from Testing.web.browser import running_app
from Testing.web.visitor import Page, Visitor, files_below, session_processes, until

MB = 1 << 20
LIMIT = int(0.05 * (1 << 30))


@pytest.fixture(scope="module")
def work(app, insider) -> Path:
    """The folder of the insider's session."""
    assert insider.upload("findmyfolder", 0, "here.nii", b"x")[0] == 200
    (found,) = (path for path in app.folders()[-1].iterdir() if list(path.rglob("here.nii")))
    return found


def on_disk(folder: Path) -> int:
    size = 0
    for path in files_below(folder):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def pieces(size: int):
    for _piece in range(size // MB):
        yield bytes(MB)


def forget(page, upload: str) -> None:
    page.trigger("upload_failed", upload, "given up")


def test_pieces_without_a_length_are_counted_while_they_arrive(insider, work):
    # No length is given for an iterator: it is sent in chunks.
    try:
        status, text = insider.upload("nolength", 0, "x.nii", pieces(LIMIT + 8 * MB))
        assert status == 413
        assert "may be uploaded" in text
    except ConnectionError:
        pass  # the server closed before all was sent
    until(lambda: not (work / "uploads/nolength").exists(), "nothing stays")
    assert on_disk(work / "uploads") < MB


def test_too_large_an_upload_is_refused_before_it_comes(insider):
    status, text = insider.ask("/upload/abcdefgh/0?name=a.nii", "PUT", b"x", Content_Length=str(1 << 30))
    assert status == 413
    assert "51 MB" in text


def test_compressed_uploads_are_not_unpacked(insider):
    data = gzip.compress(bytes(80 * MB), 9)
    assert insider.ask("/upload/compressed/0?name=x.nii", "PUT", data, Content_Encoding="gzip")[0] == 415


def test_many_at_once_have_one_budget(insider, page, work):
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, on_disk(work / "uploads"))

    watcher = threading.Thread(target=watch)
    watcher.start()

    def send(number: int) -> int:
        try:
            return insider.upload(f"parallel{number}", 0, "x.nii", bytes(20 * MB))[0]
        except ConnectionError:
            return 413

    try:
        with ThreadPoolExecutor(5) as pool:
            found = list(pool.map(send, range(5)))
    finally:
        over.set()
        watcher.join()
    assert found.count(200) <= 2
    assert set(found) <= {200, 413}
    assert most <= LIMIT
    for number in range(5):
        forget(page, f"parallel{number}")
    # What failed and what was forgotten is there again.
    assert insider.upload("allofit1", 0, "x.nii", bytes(48 * MB))[0] == 200
    forget(page, "allofit1")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_upload_that_breaks_off_leaves_nothing(insider, work, how):
    head = (
        f"PUT /upload/broken{how}/0?name=x.nii HTTP/1.1\r\nHost: 127.0.0.1:{insider.port}\r\n"
        f"Cookie: {insider.cookie}\r\nContent-Length: {50 * MB}\r\n\r\n"
    )
    assert insider.upload(f"broken{how}", 1, "before.nii", b"x" * 100)[0] == 200
    with socket.create_connection(("127.0.0.1", insider.port), timeout=30) as line:
        line.sendall(head.encode() + bytes(5 * MB))
        until(lambda: files_below(work / "uploads", "x.nii"), "it arrives")
        if how == "reset":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: not (work / f"uploads/broken{how}").exists(), "it is removed")
    assert insider.upload(f"broken{how}", 2, "after.nii", b"x")[0] == 410
    assert not (work / f"uploads/broken{how}").exists()


@pytest.mark.parametrize(
    "place",
    [
        *(f"abcdefgh/{number}" for number in ("-1", "x", "1e9", "99999999999", "%2e%2e", "..%2f..%2f0")),
        *(f"{upload}/0" for upload in ("..", "%2e%2e", "..%2f..%2fjobs", "short", "UPPERCASE", "a" * 41, "abcdefg%00")),
    ],
)
def test_an_upload_is_called_by_letters_and_digits_and_a_file_by_a_number(insider, work, place):
    before = sorted(work.rglob("*"))
    assert insider.ask(f"/upload/{place}?name=x", "PUT", b"x")[0] in (400, 404, 405)
    assert sorted(work.rglob("*")) == before


NOWHERE = ["../../evil", "/tmp/evil", "..\\evil", "evil\0", "\u202eevil", ".evil", "e" * 300, "evil\n", "", "海" * 200]


def test_a_name_leads_nowhere(insider, page, work):
    for number, name in enumerate(NOWHERE):
        before, upload = {*work.rglob("*")}, f"anynames{number}"
        assert insider.upload(upload, 0, name, b"evil")[0] == 200
        (made,) = (path for path in {*work.rglob("*")} - before if path.is_file() and path.suffix != ".log")
        assert made.parent == work / "uploads" / upload
        forget(page, upload)


def test_everything_is_for_this_account_alone(app, insider, page, work):
    assert insider.upload("privately", 0, "x.nii", b"x")[0] == 200
    for path in [app.folders()[-1], *app.folders()[-1].rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert path.parent.stat().st_mode & 0o077 == 0 or path == app.folders()[-1]
        if path.is_dir() or path.is_relative_to(work / "uploads"):
            assert mode == (0o700 if path.is_dir() else 0o600), path
    forget(page, "privately")


@pytest.mark.parametrize("upload", ["../../abcdefgh", "neversent0", "", None, ["abcdefgh"], 1])
def test_an_upload_that_never_came_is_not_opened(page, upload):
    page.trigger("uploaded", upload, "x.nii")
    state = page.state()
    assert state["data_scans"] == []
    assert state["notice_kind"] == "error"
    page.trigger("upload_failed", upload, "x" * 100_000)
    assert len(page.state()["notice"]) < 1000


# How much it costs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path / "session/uploads", Budget(tmp_path, 10 * MB))


def put(uploads, files):
    """The status for each (name, data) that is sent to a server with these uploads."""

    async def send():
        application = web.Application()
        application.add_routes(uploads.routes())
        async with TestClient(TestServer(application)) as client:
            found = []
            for number, (name, data) in enumerate(files):
                found.append((await client.put(f"/upload/abcdefgh/{number}?name={name}", data=data)).status)
            return found

    return asyncio.run(send())


def test_a_file_costs_the_same_however_many_came_before(uploads):
    looked, costs = [], []
    sys.addaudithook(lambda event, _arguments: looked.append(event) if event in ("os.scandir", "os.listdir") else None)

    def files():
        for number in range(300):
            looked.clear()
            yield f"IM{number}", b"x"
            costs.append(len(looked))

    assert {*put(uploads, files())} == {200}
    assert max(costs[150:]) <= max(costs[:150])


def test_empty_files_cost_something(tmp_path):
    found = put(Uploads(tmp_path / "uploads", Budget(tmp_path, MB)), [(f"IM{number}", b"") for number in range(300)])
    assert found[0] == 200
    assert found[-1] in (410, 413)


def test_a_full_disk_is_said_and_given_back(uploads, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("MAESegmentLib.web.door.uploads._new_file", full)
    assert put(uploads, [("x.nii", b"x")]) == [507]
    assert uploads._budget.used == 0


def test_what_a_zip_unpacks_to_is_of_the_same_budget(uploads, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(12):
            archive.writestr(f"{number}.nii", os.urandom(10_000) + bytes(990_000))
    assert put(uploads, [("x.zip", (tmp_path / "x.zip").read_bytes())]) == [200]
    with pytest.raises(OutputError, match="may be uploaded"):
        uploads.scan("abcdefgh")
    assert on_disk(tmp_path / "session") < 11 * MB
    uploads.forget("abcdefgh")
    assert uploads._budget.used == 0


def test_two_zips_with_files_of_the_same_names_are_both_kept(uploads, tmp_path):
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for folder in ("one", "two"):
                archive.writestr(f"{folder}/IM1", f"{name} {folder}")
    assert put(uploads, [(name, (tmp_path / name).read_bytes()) for name in ("a.zip", "b.zip")]) == [200, 200]
    found = {path.read_text() for path in uploads.scan("abcdefgh").rglob("IM1")}
    assert found == {"a.zip one", "a.zip two", "b.zip one", "b.zip two"}


def test_some_of_the_disk_is_left_for_all(tmp_path, monkeypatch):
    budget = Budget(tmp_path, 80 * MB, reserve=100 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=130 * MB))
    with pytest.raises(OutputError, match="nearly full"):
        budget.take(40 * MB)
    budget.take(25 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=50 * MB))
    budget.take(-25 * MB)  # also where others have filled it
    assert budget.used == 0


def test_budgets_taken_by_many_threads_add_up(tmp_path):
    budget = Budget(tmp_path, 10 * MB)

    def take(_number: int) -> int:
        try:
            budget.take(10_000)
        except OutputError:
            return 0
        return 10_000

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(take, range(2000)))
    assert budget.used == taken <= 10 * MB


# What is left behind --------------------------------------------------------------------------------------------------


def test_a_session_that_dies_is_said_and_leaves_no_scan(app):
    visitor = Visitor(app).enter()
    known = {one.pid for one in session_processes(app)}
    assert visitor.upload("before00", 0, "secret.nii", b"x" * 1000)[0] == 200
    (process,) = (one for one in session_processes(app) if one.pid not in known)
    page = Page(visitor)
    process.kill()
    page.closed_with()
    page.close()
    until(lambda: not files_below(app.folders()[-1], "secret.nii"), "the scan is removed")
    again = Page(visitor)
    notice = again.state()["notice"]
    again.close()
    assert "the earlier session" in notice.lower()
    assert "memory" in notice


def test_a_session_that_cannot_start_says_why(app_environment, tmp_path):
    (tmp_path / "trame_slicer").mkdir()
    (tmp_path / "trame_slicer/__init__.py").write_text("raise ImportError('libEGL.so.1 is not there')")
    environment = {**app_environment, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    with running_app([], environment) as app:
        status, text = Visitor(app).enter().ask("/index.html")
    assert status == 500
    assert "libEGL.so.1 is not there" in text


def test_what_a_killed_server_leaves_is_cleared_at_the_next_start(app_environment, tmp_path):
    environment = {**app_environment, "TMPDIR": str(tmp_path)}
    with running_app([], environment) as first:
        (folder,) = first.folders()
        (folder / "session-x/uploads").mkdir(parents=True)
        (folder / "session-x/uploads/secret.nii").write_bytes(b"x")
        with running_app([], environment) as second:
            assert len(second.folders()) == 2  # the first one runs
            assert files_below(tmp_path, "secret.nii")
        first.process.kill()
        first.process.wait(30)
    assert files_below(tmp_path, "secret.nii")
    with running_app([], environment) as third:
        assert len(third.folders()) == 1
        assert not files_below(tmp_path, "secret.nii")
    assert third.folders() == []


def test_a_session_tidies_up_when_its_server_is_killed(app_environment, tmp_path):
    with running_app([], {**app_environment, "TMPDIR": str(tmp_path)}) as app:
        visitor = Visitor(app).enter()
        assert visitor.upload("before00", 0, "secret.nii", b"x" * 1000)[0] == 200
        sessions = session_processes(app)
        app.process.kill()
        app.process.wait(30)
    psutil.wait_procs(sessions, 30)
    assert not files_below(tmp_path, "secret.nii")


def test_only_what_is_ours_and_abandoned_is_cleared(tmp_path):
    running = ServerFolder(tmp_path)
    other = tmp_path / "maesegment-app-other"
    other.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "maesegment-app-link").symlink_to(elsewhere)
    (tmp_path / "maesegment-app-file").touch()
    left = tmp_path / "maesegment-app-left"
    (left / "session-x").mkdir(parents=True)
    (left / "lock").touch()
    (left / "session-x/out").symlink_to(elsewhere)
    assert clear_abandoned(tmp_path) == [left]
    assert running.path.is_dir()
    assert other.is_dir()
    assert (elsewhere / "lock").exists()
    running.close()
    assert not running.path.exists()


def test_servers_that_start_together_do_not_clear_each_other(tmp_path):
    def start() -> None:
        folders = [ServerFolder(tmp_path) for _number in range(20)]
        assert all((folder.path / "lock").exists() for folder in folders)
        assert not [folder for folder in folders if folder.path in clear_abandoned(tmp_path)]

    for pid in [children.fork(start) for _number in range(3)]:
        assert children.wait(pid) == 0
    clear_abandoned(tmp_path)
    assert not list(tmp_path.glob("maesegment-app-*"))
