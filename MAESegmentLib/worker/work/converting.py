"""Convert a model for OpenVINO beside the worker, which meanwhile segments with torch: its next scan is faster.

`python -m MAESegmentLib.worker.work.converting FOLDER` converts the bundle in FOLDER at low priority, and ends with its
standard input: with the worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

from ...bundle import Bundle
from ...inference.runtimes import converted
from ...inference.runtimes.openvino_runtime import is_installed
from ...inference.settings import TORCH, InferenceSettings, Prediction
from ...processes.interpreter import Interpreter, module_launch
from ...processes.launch import hidden
from ...processes.processor import yield_to_others

#: Seconds of a model's network on the processor from which on a conversion, which takes about as long, is worth while.
WORTH_S = 10.0


class Conversions:
    """Converts each model once, when it has run long enough."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def note(self, bundle: Bundle, settings: InferenceSettings, prediction: Prediction, seconds: float) -> None:
        """The network of `bundle` ran for `seconds`, with `settings`."""
        ran = (settings.runtime, prediction.runtime, prediction.device)
        if ran != ("auto", TORCH, "cpu") or bundle.content_hash in self._started:
            return
        self._spent[bundle.content_hash] += seconds
        if self._spent[bundle.content_hash] >= WORTH_S and is_installed() and not converted.is_there(bundle):
            self._started[bundle.content_hash] = _start(bundle)


def _start(bundle: Bundle) -> subprocess.Popen[bytes]:
    """In the worker's session, which is killed as a whole."""
    print(
        f"Converting {bundle.name} {bundle.version} for OpenVINO in the background: its next scans take less time.",
        file=sys.stderr,
        flush=True,
    )
    interpreter = Interpreter(Path(sys.executable), "the worker's")
    launch = module_launch(interpreter, os.environ, __name__, [str(bundle.path)])
    return subprocess.Popen(
        [launch.program, *launch.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**launch.environment, "OMP_NUM_THREADS": "1"},
        **hidden(),
    )


def _end_with_the_worker() -> None:
    while os.read(0, 1):  # not by sys.stdin, which could not be closed meanwhile
        pass
    os._exit(1)


def main(folder: str) -> int:
    from ...bundle import open_bundle
    from ...errors import MAESegmentError

    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    yield_to_others()
    from ...inference.runtimes.conversion import prepare

    bundle = open_bundle(folder)
    try:
        prepare(bundle)
    except MAESegmentError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    print(f"{bundle.name} {bundle.version} is converted for OpenVINO.", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
