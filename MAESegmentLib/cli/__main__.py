"""`python -m MAESegmentLib.cli` is `maesegment`."""

import atexit
import contextlib
import os
import sys

from .main import main

code = main()
if "torch.distributed.distributed_c10d" in sys.modules and os.environ.get("WORLD_SIZE", "1") != "1":
    # Threads of gloo outlive the process group (PyTorch 2.13), and a finished process that ends with them running may
    # be aborted ("terminate called without an active exception"): torchrun would then stop the others, too.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)
sys.exit(code)
