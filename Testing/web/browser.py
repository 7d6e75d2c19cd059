"""A user at a real browser: headless Chromium at 1280 x 800, driven through its own driver."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

#: No view may hang on work that belongs elsewhere: a surface made in the session's loop took 15 s. Not a measure of
#: speed, which `model_training/benchmarks/browser.py` takes.
LONGEST_STALL_S = 8.0

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,943",
)

#: Roles of what has to have a name, or cannot be used without seeing it.
_NAMED = (
    *("button", "checkbox", "combobox", "dialog", "image", "img", "link", "listbox", "menuitem", "radio", "slider"),
    *("spinbutton", "switch", "tab", "textbox"),
)


def _is_mute(name: str) -> bool:
    """An icon is a letter for private use."""
    return all(unicodedata.category(letter) in ("Co", "Zs") for letter in name)


class User:
    """Waits as users do, and looks for things by their `id`."""

    #: Their process in the server, where a test may need to know it.
    session: psutil.Process

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(profile / "downloads")})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
        self.downloads = profile / "downloads"
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, address: str) -> User:
        self.driver.get(address)
        self.until(lambda: self.see("tab-data"), "the page")
        return self

    def find(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def see(self, name: str) -> bool:
        return any(element.is_displayed() for element in self.driver.find_elements("id", name))

    def text(self, name: str) -> str:
        """What stands there now; nothing, where it is not to be seen."""
        from selenium.common.exceptions import StaleElementReferenceException

        while True:
            with suppress(StaleElementReferenceException):  # drawn again in between, so it is there to be read again
                return self.find(name).text if self.see(name) else ""

    def texts(self, name: str, selector: str) -> list[str]:
        """Of what this CSS selector finds there."""
        return [one.text for one in self.find(name).find_elements("css selector", selector)]

    def press(self, name: str) -> None:
        """Click, as soon as it can be."""
        self.until(lambda: self.see(name) and self.find(name).is_enabled(), f"{name} can be pressed")
        self.until(lambda: self.find(name).click() or True, f"{name} is free")

    def until(self, condition: Callable[[], T], what: str, timeout_s: float = 120.0) -> T:
        """What `condition` returns once it is true; fails with what is on the screen."""
        from selenium.common.exceptions import WebDriverException

        end, pause = time.monotonic() + timeout_s, 0.02
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:
                pass
            assert time.monotonic() < end, f"still waiting for {what}; the panel says: {self.panel()}"
            time.sleep(pause)
            pause = min(1.5 * pause, 0.2)  # to look takes the browser some of its time

    def panel(self) -> str:
        from selenium.common.exceptions import WebDriverException

        try:
            return self.driver.find_element("tag name", "body").text
        except WebDriverException as error:
            return str(error)

    def choose(self, select: str, title: str) -> None:
        """Pick an entry of a list that drops down."""
        self.until(lambda: self._open_list(select) or True, f"{select} opens")

        self.until(
            lambda: next((row for row in self._entries() if title in row.text), None), f"{title} in {select}"
        ).click()

    def upload(self, *files: Path) -> None:
        self.find("upload-files").send_keys("\n".join(str(path) for path in files))

    def upload_folder(self, folder: Path) -> None:
        self.find("upload-folder").send_keys(str(folder))

    def axial_view(self) -> Any:
        """The picture of the axial slices."""
        return self.find("Axial-R").find_element("xpath", "..")

    def keys(self, key: str, *, control: bool = False) -> None:
        """Press a key while nothing that is typed into is chosen."""
        from selenium.webdriver import ActionChains, Keys

        self.driver.execute_script("document.activeElement.blur()")
        hand = ActionChains(self.driver)
        if control:
            hand.key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()
        else:
            hand.send_keys(key).perform()

    def nameless(self) -> list[str]:
        """What a screen reader could only call "button" or "picture", as its HTML."""
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        mute = [
            one["backendDOMNodeId"]
            for one in tree
            if not one["ignored"] and one["role"]["value"] in _NAMED and _is_mute(one.get("name", {}).get("value", ""))
        ]
        return [
            self.driver.execute_cdp_cmd("DOM.getOuterHTML", {"backendNodeId": one})["outerHTML"][:300] for one in mute
        ]

    @contextmanager
    def phone(self) -> Iterator[None]:
        """The same page at 390 x 844, touched."""
        size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def saved(self, ending: str) -> Path:
        """The file that was downloaded."""
        return self.until(lambda: next(iter(self.downloads.glob(f"*{ending}")), None), f"a file {ending}")

    def problems(self) -> list[str]:
        """Errors in the browser's log, but for a request by which trame's page asks what server this is."""
        lines = self.driver.get_log("browser")
        return [one["message"] for one in lines if one["level"] == "SEVERE" and "/paraview/" not in one["message"]]

    def tidy(self) -> None:
        """Close what is open, so that the next test finds an empty page."""
        if self.see("lost"):
            self.driver.refresh()
        show(self, "data")
        self.until(self._close_scan, "all scans are closed")
        self.dismiss()
        for file in self.downloads.glob("*"):
            file.unlink()
        self.problems()

    def dismiss(self) -> None:
        """Close the message at the top."""
        if self.see("notice"):
            self.find("notice").find_element("css selector", ".v-alert__close button").click()
        self.until(lambda: not self.see("notice"), "the message has gone")

    def _close_scan(self) -> bool:
        """Whether there was none."""
        if not self.see("close-scan"):
            return True
        self.find("close-discard" if self.see("close-discard") else "close-scan").click()
        return False

    def _entries(self) -> list[Any]:
        return self.driver.find_elements("css selector", ".v-overlay--active .v-list-item")

    def _open_list(self, select: str) -> None:
        field = self.find(select).find_element("xpath", "./ancestor::div[contains(@class, 'v-field')]")
        field.click()


class App:
    """`maesegment app --server` in a process of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "MAESegmentLib.cli", "app", "--server", *arguments]
        self.temporary = Path(environment.get("TMPDIR") or tempfile.gettempdir())
        self.log = self.temporary / f"app-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the app said: {line}"
        self.address = found.group()
        self.origin, _slash, _token = self.address.rpartition("/")

    def folders(self) -> list[Path]:
        """Where servers with this environment keep what is uploaded."""
        return sorted(self.temporary.glob("maesegment-app-*"))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.unlink()

    def longest_stall_s(self, user: User) -> float:
        """Of the event loop of a user's session since this was last asked."""
        cookies = "; ".join(f"{one['name']}={one['value']}" for one in user.driver.get_cookies())
        request = urllib.request.Request(f"{self.origin}/heartbeat", headers={"Cookie": cookies})
        with urllib.request.urlopen(request, timeout=30) as response:
            return float(json.load(response)["longest_stall_s"])


@contextmanager
def running_app(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[App]:
    app = App(arguments, environment)
    try:
        yield app
    finally:
        app.close()


def open_sample(user: User, region: str = "Right hippocampus") -> None:
    """The sample head, with this region chosen; "" leaves it as it is proposed."""
    user.press("open-sample")
    user.until(lambda: user.see("segment-button") and user.find("segment-button").is_enabled(), "the sample")
    if region:
        user.choose("region-select", region)
        user.until(lambda: region in user.panel(), "its box")


def segment(user: User) -> None:
    user.press("segment-button")
    user.until(lambda: user.see("result-line"), "a result")


def show(user: User, tab: str) -> None:
    user.press(f"tab-{tab}")
    user.until(lambda: user.see(f"section-{tab}"), tab)


def screenshot(user: User, name: str) -> None:
    """To MAESEGMENT_SCREENSHOTS if that is set, to be looked at."""
    if folder := os.environ.get("MAESEGMENT_SCREENSHOTS"):
        file = Path(folder) / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        assert user.driver.save_screenshot(str(file)), f"{file} cannot be written"
