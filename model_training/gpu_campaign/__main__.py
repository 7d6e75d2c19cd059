"""One command on a machine with a GPU: `model_training/gpu_campaign/run.sh`.

`run` does the parts that are missing, `pack` brings together what such a machine needs, `adopt` puts what came back
into the result files and pages.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from .outcome import adopt
from .pack import pack
from .plan import Plan
from .running import Campaign


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the parts that are missing, until the time is over")
    run.add_argument("--minutes", type=float, default=12.0, help="for all of it, this start (default: %(default)s)")
    run.add_argument("--device", default="cuda", help="cuda, or cpu to rehearse (default: %(default)s)")
    run.add_argument("--rehearse", action="store_true", help="the same on drawn scans with tiny networks and no time")
    run.add_argument("--only", default="", metavar="PART,...", help="these parts alone")
    run.add_argument(
        "--files", type=Path, default=Path("runs/gpu_files"), help="what `pack` wrote (default: %(default)s)"
    )
    run.add_argument("--work", type=Path, default=Path("runs/gpu_campaign"), help="results and checkpoints so far")
    out = os.environ.get("OUT")
    run.add_argument("--out", type=Path, default=Path(out) if out else None, help="default: $OUT, else WORK/out")
    packing = commands.add_parser("pack", help="bring together the data, and the official code, that a run needs")
    packing.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    packing.add_argument("--official", type=Path, metavar="CLONE", help="folder of a clone of the official repository")
    packing.add_argument("--mib", type=float, default=30.0, help="of scans at most (default: %(default)s)")
    packing.add_argument("--files", type=Path, default=Path("runs/gpu_files"))
    adopting = commands.add_parser("adopt", help="put figures that came back into result files and pages")
    adopting.add_argument("results", type=Path, help="results.json")
    chosen = parser.parse_args(arguments)
    if chosen.command == "pack":
        print(pack(chosen.data, chosen.official, chosen.files, chosen.mib))
        return 0
    if chosen.command == "adopt":
        adopt(json.loads(chosen.results.read_text(encoding="utf-8")))
        return 0
    work = chosen.work.resolve()
    plan = Plan(chosen.device, chosen.files.resolve(), work, rehearse=chosen.rehearse)
    campaign = Campaign(plan, (chosen.out or work / "out").resolve(), chosen.minutes * 60, chosen.only)
    return campaign.run()


if __name__ == "__main__":
    raise SystemExit(main())
