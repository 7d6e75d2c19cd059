"""`python -m MAESegmentLib.cli` is `maesegment`."""

import os
import sys

from ..processes.ending import end_process
from .main import main

code = main()
if "torch.distributed.distributed_c10d" in sys.modules and os.environ.get("WORLD_SIZE", "1") != "1":
    end_process(code)
sys.exit(code)
