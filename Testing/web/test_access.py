"""The front door: who gets in, whom it sends away, and what nobody gets at."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import sys

import pytest

from MAESegmentLib.cli.main import main
from Testing.skips import REPOSITORY
from Testing.web.browser import running_app
from Testing.web.visitor import Page, Visitor, session_processes


def test_nobody_enters_without_the_key(visitor):
    status, text = visitor.ask("/")
    assert status == 401
    assert "maesegment app" in text
    assert visitor.ask("/index.html")[0] == visitor.ask("/ws")[0] == visitor.ask("/download/x")[0] == 401


def test_a_wrong_key_is_refused(visitor):
    assert visitor.ask("/?token=guess")[0] == 403
    assert visitor.cookie == ""


def test_the_key_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(insider):
    assert "HttpOnly" in insider.attributes
    assert "SameSite=Strict" in insider.attributes
    assert insider.ask("/index.html")[0] == 200


def test_a_name_that_another_page_points_here_is_refused(visitor):
    assert visitor.ask("/", Host="evil.example:80")[0] == 403


def test_requests_that_another_page_causes_are_refused(insider):
    assert insider.ask("/upload/abcdefgh/0?name=a", "PUT", b"x", Origin="http://evil.example")[0] == 403
    assert insider.ask("/ws", Origin="http://evil.example", Upgrade="websocket")[0] == 403


def _listening(app):
    connections = (one for child in session_processes(app) for one in child.net_connections("inet"))
    return {one.laddr.port for one in connections if one.status == "LISTEN"}


def _asked(path):
    """What the sessions' own socket answers one who has no secret."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        line.sendall(b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return line.recv(100).split()[1]


@pytest.mark.skipif(sys.platform == "win32", reason="there a session listens on a port")
@pytest.mark.parametrize("length", [0, 120])
def test_a_session_listens_where_no_other_account_can_knock(app_environment, tmp_path, length):
    temporary = tmp_path / ("x" * length)
    temporary.mkdir(exist_ok=True)
    with running_app([], {**app_environment, "TMPDIR": str(temporary)}) as app:
        insider = Visitor(app).enter()
        assert insider.ask("/index.html")[0] == 200
        page = Page(insider)
        page.state()
        page.close()
        assert _listening(app) == set()
        (path,) = (one for one in app.folders()[-1].rglob("socket") if one.is_socket())
        for place in (path.parent, path.parent.parent):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        short = tmp_path / "s"
        short.symlink_to(path.parent)
        assert _asked(short / "socket") == b"403"


#: As on a file system that has no sockets.
_NO_SOCKETS = """
import socket
bind = socket.socket.bind
def refuse(self, address):
    if self.family == socket.AF_UNIX:
        raise OSError("not here")
    return bind(self, address)
socket.socket.bind = refuse
"""


def test_a_session_that_needs_a_port_answers_only_the_front_door(app_environment, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_NO_SOCKETS)
    environment = {**app_environment, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    with running_app([], environment) as app:
        assert Visitor(app).enter().ask("/index.html")[0] == 200
        ports = _listening(app)
        assert ports
        for port in ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/index.html")
            assert connection.getresponse().status == 403
            with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
                line.sendall(b"GET / HTTP/1.1\r\nHost: [\r\nBad Header\r\n\r\n")
                assert b" 400 " in line.recv(100)
        (log,) = app.folders()[-1].rglob("session.log")
        assert "Traceback" not in log.read_text()


def test_too_large_an_upload_is_refused_before_and_while_it_comes(insider):
    status, text = insider.ask("/upload/abcdefgh/0?name=a.nii", "PUT", b"x", Content_Length=str(1 << 30))
    assert status == 413
    assert "0.2 GB" in text


def test_the_page_asks_nothing_of_other_servers(insider):
    _status, page = insider.ask("/index.html")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/maesegment/../../session.log", "/download/..%2f..%2fetc"])
def test_no_path_leads_to_the_disk(insider, path):
    assert insider.ask(path)[0] in (403, 404)


def test_the_heartbeat_is_told_to_those_inside_only(visitor, insider):
    assert visitor.ask("/heartbeat")[0] == 401
    status, text = insider.ask("/heartbeat")
    assert status == 200
    assert json.loads(text)["longest_stall_s"] >= 0


def test_other_computers_are_let_in_only_when_that_is_said(capsys):
    assert main(["app", "--server", "--host", "0.0.0.0"]) == 2
    assert "--allow-network" in capsys.readouterr().err
