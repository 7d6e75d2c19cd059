"""A child process without rights: nice 19, as all that Slicer starts on Linux, and where the tests run as root another
user. It runs a function of the tests: `run_as_ordinary_user("Testing.module:function", arguments, folder)`.

That user need not be able to enter the folders of this checkout or of the interpreter (CI's may lie below /root): the
child gets them as open folders, which it and what it starts reach through /proc, and a copy of the code.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .children import NOBODY
from .skips import REPOSITORY

_LARGEST_NICE = 19
_TIMEOUT_S = 600.0


@contextmanager
def public_folder() -> Iterator[Path]:
    """An empty folder that belongs to the ordinary user, and that this user can reach."""
    with tempfile.TemporaryDirectory(prefix="ordinary-user-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        own = folder / "own"
        own.mkdir()
        give(own)
        yield own


def give(*paths: Path) -> None:
    """To the ordinary user, with all that is in them."""
    if os.getuid() == 0:
        for path in paths:
            for each in (path, *path.rglob("*")):
                os.chown(each, NOBODY, NOBODY, follow_symlinks=False)


def run_as_ordinary_user(function: str, arguments: Sequence[str], folder: Path) -> str:
    """Call `module:function` with `arguments` in such a child; returns what it printed, and fails if it failed.

    `folder` is one of `public_folder`, where the code is copied to and where its home is.
    """
    code = _copied_code(folder.parent)
    with ExitStack() as stack:
        prefix = _open(Path(sys.base_prefix), stack)
        packages = [_open(Path(path), stack) for path in _package_folders()]
        executable = Path(os.path.realpath(sys.executable)).relative_to(Path(sys.base_prefix).resolve())
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAESEGMENT_", "PYTHON", "XDG_"))
        }
        environment.update(
            HOME=str(folder), TMPDIR=str(folder), PYTHONPATH=str(code), OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1"
        )
        what = {"function": function, "arguments": list(arguments), "prefix": prefix, "packages": packages}
        what["executable"] = str(executable)
        as_root = os.getuid() == 0
        done = subprocess.run(
            [f"/proc/self/fd/{prefix}/{executable}", "-m", "Testing.unprivileged", json.dumps(what)],
            env=environment,
            cwd=folder,
            pass_fds=[prefix, *packages],
            preexec_fn=lambda: os.nice(_LARGEST_NICE),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if as_root else {}),  # type: ignore[arg-type]
        )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _open(folder: Path, stack: ExitStack) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


def _package_folders() -> list[str]:
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    return [path for path in dict.fromkeys(found) if Path(path).is_dir()]


def _copied_code(folder: Path) -> Path:
    code = folder / "code"
    if not code.exists():
        import matplotlib  # not above: the child has no packages yet

        # matplotlib looks for its fonts under their real path, which may be out of reach.
        folders = [REPOSITORY / "MAESegmentLib", REPOSITORY / "Testing", Path(matplotlib.__file__).parent]
        for source in folders:
            shutil.copytree(source, code / source.name, ignore=shutil.ignore_patterns("__pycache__", "screenshots"))
    return code


def _main(what: dict) -> None:
    """In the child: make the interpreter and its packages reachable for what it starts, too, then do it."""
    own = f"/proc/{os.getpid()}/fd"
    folders = [f"{own}/{descriptor}" for descriptor in what["packages"]]
    sys.executable = f"{own}/{what['prefix']}/{what['executable']}"
    sys.path += folders
    os.environ["PYTHONPATH"] = os.pathsep.join([os.environ["PYTHONPATH"], *folders])
    # Otherwise root, or whoever may do what root may, would hide what these tests are for.
    assert os.getuid() != 0
    assert os.getpriority(os.PRIO_PROCESS, 0) == _LARGEST_NICE
    module, name = what["function"].split(":")
    getattr(importlib.import_module(module), name)(*what["arguments"])


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
