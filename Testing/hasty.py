"""`maesegment ...`, or the process of a run, that keeps a checkpoint by time after a second in place of ten.

`python -m Testing.hasty finetune ...` or `python -m Testing.hasty RUN_FOLDER`
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from MAESegmentLib.training.loop import schedule

if __name__ == "__main__":
    schedule.SAVE_SECONDS = (1.0, 60.0)
    of_a_run = Path(sys.argv[1]).is_dir()
    runpy.run_module("MAESegmentLib." + ("runs.trainer" if of_a_run else "cli"), run_name="__main__", alter_sys=True)
