"""The front door: who gets in, whom it sends away, and what nobody gets at."""

from __future__ import annotations

import http.client
import json

import psutil
import pytest

from MAESegmentLib.cli.main import main


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


def test_the_session_behind_the_door_answers_nobody_else(app, insider):
    assert insider.ask("/index.html")[0] == 200
    session = [one for one in psutil.Process(app.process.pid).children() if "web.session" in " ".join(one.cmdline())]
    ports = {one.laddr.port for child in session for one in child.net_connections() if one.status == "LISTEN"}
    assert ports
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/index.html")
        assert connection.getresponse().status == 403


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
