"""How long the browser's views ever hang: `python -m model_training.benchmarks.browser`.

A user with a headless Chromium goes through the panel's steps; for each, the longest time in which the session could
do nothing else, and the time until the step is done. Wall time counts, since a user waits. Each repetition starts a
server and a browser of its own; its steps are on the sample head, and on the same head at voxels half as long. Rows go
to results/browser.csv. It drives the browser as the tests do and needs what they need (`make test` installs it).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import SimpleITK

from MAESegmentLib.samples import head_path
from Testing.web.browser import App, User, open_sample, running_app, segment, show

from .runner import begin, record, where

_LARGE = "large head"
#: Stall and duration, both in seconds, of every repetition of a step.
Found = dict[str, list[tuple[float, float]]]


def main() -> None:
    arguments = begin(
        __doc__,
        lambda parser: parser.add_argument("--repeats", type=int, default=3, help="servers and browsers started"),
    )
    found: Found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        scan = large_head(Path(folder))
        for number in range(arguments.repeats):
            walk(Path(folder) / str(number), scan, found)
    record("browser", [_row(step, times) for step, times in found.items()], ("step",))


def large_head(folder: Path) -> Path:
    """The sample head at half its voxel length: 394 x 466 x 378 voxels."""
    head = SimpleITK.ReadImage(str(head_path()))
    finer = SimpleITK.Expand(head, [2, 2, 2])
    path = folder / f"{_LARGE}.nii.gz"
    SimpleITK.WriteImage(finer, str(path))
    return path


def walk(folder: Path, scan: Path, found: Found) -> None:
    """Every step once, in a session whose models, cases and runs lie in `folder`."""
    folder.mkdir()
    own = {f"MAESEGMENT_{name}": str(folder / name.lower()) for name in ("MODELS", "CASES", "RUNS")}
    with running_app(["--upload-limit", "1"], {**os.environ, **own}) as app:
        user = User(folder / "profile").open(app.address)
        try:
            for step, action in _steps(user, scan):
                _time(app, user, step, action, found)
        finally:
            user.driver.quit()


def _steps(user: User, scan: Path) -> list[tuple[str, Callable[[], object]]]:
    """In the order in which they are done; those on the large head come after those on the sample."""
    return [
        ("open the sample head", lambda: open_sample(user)),
        ("segment, while the worker starts", lambda: segment(user)),
        ("make the surfaces", lambda: _surfaces(user)),
        ("upload and open the large head", lambda: _open(user, scan)),
        ("begin a segmentation of it", lambda: _begin(user)),
        ("open the threshold tool", lambda: _tool(user, "4", "threshold")),
    ]


def _time(app: App, user: User, step: str, action: Callable[[], object], found: Found) -> None:
    app.longest_stall_s(user)
    begun = time.perf_counter()
    action()
    seconds = time.perf_counter() - begun
    found[step].append((app.longest_stall_s(user), seconds))


def _surfaces(user: User) -> None:
    user.find("show-3d").send_keys(" ")
    user.until(lambda: not user.see("surface-state") or not user.text("surface-state"), "the surfaces")


def _open(user: User, scan: Path) -> None:
    show(user, "data")
    user.upload(scan)
    user.until(lambda: _LARGE in user.panel() and not user.see("data-busy"), "the large head is open")


def _begin(user: User) -> None:
    show(user, "correct")
    user.press("new-segmentation")
    user.until(lambda: user.see("tool-paint"), "the tools")


def _tool(user: User, key: str, name: str) -> None:
    user.keys(key)
    user.until(lambda: user.find(f"tool-{name}").get_attribute("aria-pressed") == "true", name)


def _row(step: str, times: list[tuple[float, float]]) -> dict[str, object]:
    stalls, seconds = zip(*times, strict=True)
    return {
        "step": step,
        "repeats": len(times),
        "stall_median_s": f"{statistics.median(stalls):.2f}",
        "stall_longest_s": f"{max(stalls):.2f}",
        "step_median_s": f"{statistics.median(seconds):.2f}",
        **where(),
    }


if __name__ == "__main__":
    main()
