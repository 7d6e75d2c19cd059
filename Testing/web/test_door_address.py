"""The address that works after a restart: whose it is, when it is replaced, and that it lets nobody else in."""

from __future__ import annotations

import json
import os
import socket
import stat

import pytest

from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.web.door.access import Access
from MAESegmentLib.web.door.stored_address import StoredAddress
from Testing.web.browser import running_app
from Testing.web.visitor import Visitor


@pytest.fixture
def environment(app_environment, tmp_path):
    return {**app_environment, "XDG_DATA_HOME": str(tmp_path)}


def is_inside(visitor) -> bool:
    """Without starting a session: only who is inside is told that this is no way to open a socket."""
    status, _text = visitor.ask("/ws")
    assert status in (400, 401)
    return status == 400


def moved(visitor, app) -> Visitor:
    """With the same cookie at another server."""
    other = Visitor(app)
    other.cookie = f"maesegment-{other.port}={visitor.cookie.partition('=')[2]}"
    return other


def test_address_and_cookie_work_after_a_restart_and_attackers_are_still_kept_out(environment, tmp_path):
    with running_app([], environment) as app:
        address, insider = app.address, Visitor(app).enter()
        assert is_inside(insider)
        with running_app([], environment) as second:  # meanwhile: an address for itself
            assert second.address.partition("token=")[2] != address.partition("token=")[2]
            assert Visitor(second).ask(f"/?{insider.place.query}")[0] == 403
            assert "valid until this server ends" in second.log.read_text()
    file = tmp_path / "maesegment/app-address.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with running_app([], environment) as app:
        assert app.address == address
        assert is_inside(insider)
        stranger, port = Visitor(app), insider.port
        assert not is_inside(stranger)
        assert stranger.ask("/ws", Upgrade="websocket", Connection="Upgrade")[0] == 401
        assert stranger.ask(f"/?{insider.place.query[:-1]}")[0] == 403
        for headers in (
            {"Host": f"evil.example:{port}"},
            {"Origin": "http://evil.example"},
            {"Origin": f"http://localhost:{port}"},  # another origin than the one that was asked
            {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
            {"Origin": "null", "Upgrade": "websocket", "Connection": "Upgrade"},
        ):
            for path in ("/", "/ws", "/heartbeat", f"/?{insider.place.query}"):
                assert insider.ask(path, **headers)[0] == 403
    with running_app(["--new-address"], environment) as app:
        assert app.address != address
        assert Visitor(app).ask(f"/?{insider.place.query}")[0] == 403
        assert not is_inside(moved(insider, app))


def test_who_took_the_stored_port_does_not_learn_a_key_that_opens_anything(environment, tmp_path):
    with running_app([], environment) as app:
        insider = Visitor(app).enter()
    with socket.create_server(("127.0.0.1", insider.port)), running_app([], environment) as app:
        assert f"Port {insider.port} is used by another program" in app.log.read_text()
        renewed = app.address
        assert Visitor(app).ask(f"/?{insider.place.query}")[0] == 403
        assert not is_inside(moved(insider, app))
    with running_app([], environment) as app:
        assert app.address == renewed
    assert json.loads((tmp_path / "maesegment/app-address.json").read_text())["port"] == Visitor(app).port


def test_a_port_that_is_taken_is_said_with_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["app", "--server", "--port", str(port)]) == 2
    assert f"Port {port} is used by another program." in (said := capsys.readouterr().err)
    assert "Use another --port, or leave it out." in said
    assert main(["app", "--server", "--port", "70000"]) == 2
    assert "--port is between" in capsys.readouterr().err
    assert main(["app", "--server", "--host", "no-such.invalid", "--allow-network"]) == 2
    assert "cannot listen on no-such.invalid" in capsys.readouterr().err


def test_a_missing_package_names_what_installs_the_browser(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "aiohttp" else object())
    assert main(["app"]) == 2
    assert "maesegment[web]" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["", "{}", "[]", '{"token": 1, "seal": 2, "port": 3}', "\udcff", "shared", "a link"])
def test_a_stored_address_that_is_damaged_or_not_private_is_replaced(tmp_path, spoil):
    stored, file = StoredAddress(tmp_path), tmp_path / "app-address.json"
    first = stored.access("127.0.0.1")
    stored.keep(first, 4242)
    stored.close()
    again = StoredAddress(tmp_path)
    assert again.access("127.0.0.1") == first
    assert again.port == 4242
    with pytest.raises(ConfigurationError, match="running"):
        StoredAddress(tmp_path).access("127.0.0.1", renew=True)
    again.close()
    if spoil == "shared":
        file.chmod(0o644)
    elif spoil == "a link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_bytes(os.fsencode(spoil))
    third = StoredAddress(tmp_path)
    access = third.access("127.0.0.1")
    assert access.token != first.token
    assert access.seal != first.seal
    third.keep(access, 4243)
    assert stat.S_IMODE(file.lstat().st_mode) == 0o600
    third.close()


def test_a_folder_that_cannot_be_written_keeps_nobody_from_starting(tmp_path):
    (tmp_path / "file").touch()
    stored = StoredAddress(tmp_path / "file" / "below")
    assert isinstance(stored.access("127.0.0.1"), Access)
    stored.keep(Access("127.0.0.1"), 1)
    stored.close()
