"""Who gets in: the key, forged requests, other pages, seats, connections that are only held, and messages."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import stat
import subprocess
import sys
import time

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.cli.main import main
from MAESegmentLib.web.door.access import Access, Entrance, Refusal
from MAESegmentLib.web.door.messages import MessageMeter
from Testing.web.browser import running_app
from Testing.web.visitor import Visitor, message_part, processes, session_processes, until


def request(visitor, *lines: str, path: str = "/") -> int:
    """The status for a request with exactly these header lines."""
    text = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "Connection: close", "", ""])
    found = re.match(rb"HTTP/1.\d (\d+)", visitor.raw(text.encode("latin-1")))
    assert found, "no answer"
    return int(found[1])


def test_nobody_enters_without_the_key(visitor):
    status, text = visitor.ask("/")
    assert status == 401
    assert "Open the address that was printed" in text
    assert visitor.ask("/index.html")[0] == visitor.ask("/ws")[0] == visitor.ask("/download/x")[0] == 401


def test_a_wrong_key_is_refused(visitor):
    assert visitor.ask("/?token=guess")[0] == 403
    assert visitor.cookie == ""


def test_who_navigates_sees_at_once_that_it_starts_and_a_script_waits(app):
    insider = Visitor(app).enter()
    began = time.monotonic()
    status, page = insider.ask("/", Sec_Fetch_Mode="navigate", Accept="text/html")
    assert status == 200
    assert "is starting" in page
    assert time.monotonic() - began < 3
    assert insider.ask("/heartbeat")[0] == 200
    assert "is starting" not in insider.ask("/index.html", Sec_Fetch_Mode="navigate", Accept="text/html")[1]


@pytest.mark.parametrize("path", ["/nowhere", "/download/withdrawn", "/index.html?token=wrong"])
def test_a_refusal_is_a_page_for_a_user_and_a_sentence_for_a_script(insider, path):
    status, page = insider.ask(path, Accept="text/html,*/*")
    assert status in (403, 404)
    assert page.startswith("<!doctype html>")
    assert str(status) not in page
    assert "<" not in insider.ask(path)[1]


def test_the_key_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(insider):
    assert "HttpOnly" in insider.attributes
    assert "SameSite=Strict" in insider.attributes
    assert insider.ask("/index.html")[0] == 200


def listening(app):
    """(host, port) of every port that the server and its sessions listen on."""
    found = (one for process in processes(app) for one in process.net_connections("inet"))
    return {one.laddr for one in found if one.status == "LISTEN"}


@pytest.mark.skipif(sys.platform == "win32", reason="there a session listens on a port")
def test_a_session_listens_where_no_other_account_can_knock(app, insider):
    assert insider.ask("/index.html")[0] == 200
    assert listening(app) == {("127.0.0.1", insider.port)}
    sockets = [one for one in app.folders()[-1].rglob("socket") if one.is_socket()]
    assert sockets
    for path in sockets:
        for place in (path.parent, path.parent.parent):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(path))
            line.sendall(b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert line.recv(100).split()[1] == b"403"


def test_a_session_that_needs_a_port_answers_only_the_front_door(app_environment, tmp_path):
    temporary = tmp_path / ("x" * 120)  # no socket has so long a path
    temporary.mkdir()
    with running_app([], {**app_environment, "TMPDIR": str(temporary)}) as app:
        insider = Visitor(app).enter()
        assert insider.ask("/index.html")[0] == 200
        (port,) = {port for host, port in listening(app) if host == "127.0.0.1"} - {insider.port}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/index.html")
        assert connection.getresponse().status == 403
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: [\r\nBad Header\r\n\r\n")
            assert b" 400 " in line.recv(100)
        (log,) = app.folders()[-1].glob("*.log")
        assert "Traceback" not in log.read_text()


def test_the_page_asks_nothing_of_other_servers(insider):
    _status, page = insider.ask("/index.html")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_heartbeat_is_told_to_those_inside_only(visitor, insider):
    assert visitor.ask("/heartbeat")[0] == 401
    status, text = insider.ask("/heartbeat")
    assert status == 200
    assert json.loads(text)["longest_stall_s"] >= 0


def test_other_computers_are_let_in_only_when_that_is_said(capsys):
    assert main(["app", "--server", "--host", "0.0.0.0"]) == 2
    assert "--allow-network" in capsys.readouterr().err


# Forged requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: [",),
        ("Host: [::1",),
        ("Host: ]",),
        ("Host: ",),
        (),
        ("Host: localhost", "Host: evil.example"),
        ("Host: localhost:99999",),
        ("Host: localhost:port",),
        ("Host: evil.example@localhost",),
        ("Host: localhost/evil",),
        ("Host: local host",),
        ("Host: lok\xe4lhost",),
        ("Host: localhost", "Origin: http://["),
        ("Host: localhost", "Origin: http://localhost:x"),
        ("Host: localhost", "Origin: javascript:alert(1)"),
        ("Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"),
    ],
)
def test_a_malformed_host_or_origin_is_a_bad_request(app, visitor, lines):
    before = app.log.read_text()
    assert request(visitor, *lines) == 400
    assert "Traceback" not in app.log.read_text()[len(before) :]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "2130706433", "0.0.0.0", "192.0.2.7"]
)
def test_a_name_that_is_made_to_point_here_is_refused(visitor, host):
    assert request(visitor, f"Host: {host}:{visitor.port}") == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
@pytest.mark.parametrize(
    ("asked", "is_own"),
    [
        ("192.0.2.7:8080", True),
        ("[2001:db8::7]:8080", True),
        ("localhost", True),
        (socket.gethostname().upper(), True),
        ("evil.example", False),
        ("192.0.2.7.evil.example", False),
        ("[::1", False),
    ],
)
def test_a_server_for_the_network_answers_to_its_own_names_and_numbers(host, asked, is_own):
    request = make_mocked_request("GET", "/", headers={"Host": asked})
    with contextlib.nullcontext() if is_own else pytest.raises(Refusal):
        Access(host).check(request)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},  # another port of this machine
        {"Origin": "http://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"},
    ],
)
def test_what_another_page_asks_is_refused_with_the_cookie_too(insider, headers):
    for path in ("/", "/ws", "/heartbeat", "/upload/abcdefgh/0?name=a", f"/?{insider.place.query}"):
        assert insider.ask(path, **headers)[0] == 403


def test_a_link_may_be_followed_from_anywhere(insider):
    assert insider.ask("/index.html", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


@pytest.mark.parametrize("target", ["http://evil.example/", "http://127.0.0.1:1/", "*", "evil.example:80"])
def test_nothing_is_passed_on_to_other_servers(insider, target):
    cookie = f"Cookie: {insider.cookie}"
    assert request(insider, f"Host: 127.0.0.1:{insider.port}", cookie, path=target) in (400, 405)


def test_only_uploads_bring_something(insider):
    assert insider.ask("/index.html", "POST", b"x" * 100)[0] == 405
    assert insider.ask("/ws", "PUT", b"x" * 100)[0] == 405
    assert insider.ask("/index.html", "GET", b"x" * 100)[0] == 400


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws", {}, 400),
        ("/%77s", {}, 400),
        ("//ws", {}, 404),
        ("/ws/", {}, 404),
        ("/ws", {"Upgrade": "websocket"}, 400),
        ("/ws", {"Upgrade": "h2c", "Connection": "Upgrade"}, 400),
        ("/ws", {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "99"}, 400),
        ("/index.html", {"Upgrade": "websocket", "Connection": "Upgrade"}, 400),
        ("/" + "a" * 7000, {}, 414),
        ("/" + "a" * 300, {}, 414),
        ("/" + "a/" * 3000, {}, 414),
        ("/maesegment/" + "%41" * 300, {}, 414),
        ("/download/" + "a" * 7000, {}, 414),
        ("/upload/" + "a" * 300 + "/0?name=x", {}, 414),
        ("/%00", {}, 404),
        ("/maesegment/%00", {}, 404),
        ("/%ff%fe", {}, 404),
    ],
)
def test_an_address_that_leads_nowhere_is_a_bad_request_and_no_fault_in_the_log(app, insider, path, headers, status):
    logs = [app.log, *app.folders()[-1].glob("*.log")]
    before = [log.read_text() for log in logs]
    assert insider.ask(path, **{name.replace("-", "_"): value for name, value in headers.items()})[0] == status
    for log, text in zip(logs, before, strict=True):
        assert "Traceback" not in log.read_text()[len(text) :]


# Seats ----------------------------------------------------------------------------------------------------------------


def test_seats_are_not_taken_by_visitors_who_never_come_back_with_the_cookie(app, insider):
    sessions, folders = len(session_processes(app)), len(list(app.folders()[-1].iterdir()))
    for _visit in range(60):  # the server has 20 seats
        Visitor(app).enter()
    for cookie in ("", "guess", "a.b", "." + "0" * 64, insider.cookie.partition("=")[2] + "0", "\u00e4.\u00e4"):
        stranger = Visitor(app)
        stranger.cookie = f"{insider.cookie.partition('=')[0]}={cookie}".encode().decode("latin-1")
        assert stranger.ask("/index.html")[0] == 401
        assert stranger.ask("/ws", Upgrade="websocket", Connection="Upgrade")[0] == 401
    assert len(session_processes(app)) == sessions
    assert len(list(app.folders()[-1].iterdir())) == folders
    assert insider.ask("/index.html")[0] == 200


@given(st.text(max_size=80))
def test_no_cookie_but_ours_is_one(text):
    access = Access("127.0.0.1")
    assert access.key_of(text) == ""
    assert Access("127.0.0.1").key_of(access.new_cookie()) == ""
    assert access.key_of(access.new_cookie()) != ""


def test_connections_that_are_only_held_keep_nobody_out(app, visitor):
    held = []
    try:
        for _one in range(400):
            line = socket.create_connection(("127.0.0.1", visitor.port), timeout=30)
            line.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            held.append(line)
        assert visitor.ask("/")[0] == 401
        assert psutil.Process(app.process.pid).num_fds() < 250
    finally:
        for line in held:
            line.close()


def test_a_request_that_does_not_end_is_not_waited_for():
    async def answer(_request):
        return web.Response(text="ok")

    async def attack():
        runner = web.ServerRunner(Entrance(answer, patience_s=0.3))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        try:
            # A whole request first: the time counts between requests, too.
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n")
            assert b"200 OK" in await reader.readuntil(b"ok")
            for _slowly in range(200):
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.05)
                if reader.at_eof():
                    return True
            return False
        except ConnectionError:
            return True
        finally:
            writer.close()
            await runner.cleanup()

    assert asyncio.run(attack())


# The key --------------------------------------------------------------------------------------------------------------


def test_the_key_stands_on_no_command_line_and_in_no_log(app, visitor, insider):
    key = visitor.place.query.partition("=")[2]
    for path in (f"/?token={key}", f"/index.html?token={key}", f"/%?token={key}", f"/?token={key}%ff&x=["):
        visitor.ask(path)
    request(visitor, "Host: [", path=f"/?token={key}")
    request(visitor, "Host: localhost", "Bad Header", path=f"/?token={key}")
    assert insider.ask(f"/index.html?again&token={key}")[0] == 303
    everyone = processes(app)
    logs = [app.log, *app.folders()[-1].glob("*.log")]
    assert len(everyone) > 1
    assert len(logs) > 1
    for secret in (key, insider.cookie.partition("=")[2].partition(".")[0]):
        assert not [one for one in everyone if secret in " ".join(one.cmdline())]
        assert not [one for one in everyone[1:] if secret in " ".join(one.environ().values())]
        assert not [log for log in logs if secret in log.read_text(errors="replace")]


def test_a_browser_is_opened_without_the_key_on_its_command_line(app_environment, tmp_path):
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$@" > {seen}.part && mv {seen}.part {seen}\n')
    browser.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    environment = {**app_environment, "BROWSER": str(browser), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "MAESegmentLib.cli", "app"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        until(seen.exists, "the browser")
        (page,) = (tmp_path / "tmp").glob("maesegment-app-*/open.html")
        assert seen.read_text().strip() == page.as_uri()
        assert address.group() in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        process.terminate()
    assert list((tmp_path / "tmp").iterdir()) == []


# Messages -------------------------------------------------------------------------------------------------------------


def memory(app) -> int:
    return sum(one.memory_info().vms for one in processes(app))


def test_short_messages_that_promise_much_take_nothing(app, page):
    before = memory(app)
    for key in (1, 2):
        page.send(message_part(b"x", 0, 1 << 30, key))
    assert page.closed_with() == 1009
    assert memory(app) - before < 200 << 20


@pytest.mark.parametrize(
    "parts",
    [
        [message_part(b"x", 0, 4096, key) for key in range(2000)],
        [message_part(b"x" * 10, 0, 100, 1), message_part(b"x" * 10, 50, 100, 1)],
        [message_part(b"x" * 200, 0, 100)],
        [message_part(b"", 0, 0)],
        [b"short"],
        ["text"],
    ],
    ids=["many begun", "a gap", "longer than it said", "empty", "no header", "text"],
)
def test_messages_that_are_not_what_they_say_close_the_page(page, parts):
    for part in parts:
        page.send(part)
    assert page.closed_with() == 1009


def test_a_session_has_so_many_windows_and_no_more(insider):
    windows = [insider.window() for _number in range(20)]
    for line, _status in windows:
        line.close()
    found = [status for _line, status in windows]
    assert found.count(b"101") <= 16
    assert found[-1] == b"503"
    until(lambda: insider.ask("/heartbeat")[0] == 200, "the session goes on")


@pytest.mark.parametrize("length", [2 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_frame_that_says_it_is_huge_is_refused_before_it_comes(app, insider, length):
    before = memory(app)
    line, status = insider.window()
    assert status == b"101"
    with line, contextlib.suppress(ConnectionError):  # that it is closed meanwhile is right, too
        line.sendall(b"\x82\xff" + length.to_bytes(8, "big") + b"\0\0\0\0")
        for _piece in range(200):
            line.sendall(bytes(1 << 20))
        assert (1009).to_bytes(2, "big") in line.recv(4096)
    assert memory(app) - before < 150 << 20


def test_long_messages_arrive(page):
    page.set(note="x" * 900_000)
    assert page.state()["note"] == "x" * 900_000
    page.set(note="")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.binary(max_size=64))))
def test_what_is_under_way_never_passes_the_limit(parts):
    meter, open_ones = MessageMeter(256), {}
    for key, begin, whole, content in parts:
        if meter.objection(message_part(content, begin % (1 << 32), whole % (1 << 32), key)) == "":
            open_ones[key] = whole % (1 << 32)
            if begin + len(content) == whole:
                del open_ones[key]
        assert sum(open_ones.values()) <= 256
