"""How fast our nnFormer is beside the official one and MONAI's networks: `python -m model_training.benchmarks.network`.

Every case (a network at a crop), mode (forward, forward and backward) and precision is one block: its contenders
alternate in one process, after their outputs and gradients were compared. `--official CLONE` adds the official code.
A block that is measured again replaces its rows in results/network.csv; tables and plot are then made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import profile

from MAESegmentLib.device import autocast

from .network_cases import (
    CASES,
    CODE,
    MONAI,
    OURS,
    PLAIN,
    AsSegmented,
    Case,
    InFp32,
    Skipped,
    contenders,
    difference,
    steps,
)
from .official_code import use_clone
from .runner import add_device, begin, machine, record
from .timing import Timing, alternate, load

PROFILES = Path(__file__).parent / "profiles"
BLOCK = ("device", "threads", "case", "mode", "precision")
MODES = ("forward", "train")
#: Largest difference from ours, in standard deviations of what is compared; bf16 keeps eight bits.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.2}
PROFILED_OPERATORS = 20


def main() -> None:
    arguments = begin(__doc__, _options)
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    device = torch.device(arguments.device)
    if arguments.official is not None:
        use_clone(arguments.official)
    for name in arguments.case or ("hippocampus", "tumor64", "acdc"):
        torch.manual_seed(0)
        case = CASES[name]
        models = contenders(case, with_official=arguments.official is not None, with_monai=not arguments.without_monai)
        image = case.image().to(device)
        running = {key: model.to(device) for key, model in models.items() if isinstance(model, nn.Module)}
        print(f"{name}: {case.title}, batch {case.batch}, {torch.get_num_threads()} threads", flush=True)
        check_equal(running, image, "fp32")
        if arguments.profile:
            keep_profiles(name, running, image)
        for precision in arguments.precision:
            for mode in arguments.mode:
                fixed = {"device": device.type, "threads": torch.get_num_threads(), "case": name, "mode": mode}
                fixed |= {"precision": precision}
                with autocast(device, precision):
                    rows = measure(fixed, case, models, image, arguments.seconds, compiled=arguments.compiled)
                    record("network", rows, BLOCK)


def measure(
    fixed: Mapping[str, Any],
    case: Case,
    models: Mapping[str, nn.Module | Skipped],
    image: Tensor,
    seconds: float,
    *,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """The rows of one block. MONAI's networks take turns of their own with ours: they are slow, so they would leave
    the others few rounds. `compiled`: those that compute the same also as `torch.compile` makes them."""
    if compiled:
        models = {**models, **_compiled(models, image, fixed["mode"])}
    running = {name: model for name, model in models.items() if isinstance(model, nn.Module)}
    if fixed["precision"] != "fp32":
        # What the best precision of this machine gains over the official one.
        best = CODE if CODE in running else PLAIN
        running[f"{best}, in fp32"] = InFp32(running[best])
        if fixed["mode"] == "forward":
            running[OURS] = AsSegmented(running[OURS], image.device, fixed["precision"])
    peers = {name: model for name, model in running.items() if name in MONAI}
    groups = [{name: model for name, model in running.items() if name not in peers}]
    if peers:
        groups.append({OURS: running[OURS], **peers})
    rows: dict[str, dict[str, Any]] = {}
    for group in groups:
        run = {name: steps(model, image, fixed["mode"]) for name, model in group.items()}
        timings = alternate(run, seconds=seconds)
        _show(fixed, timings)
        rows |= {name: row for name, row in _rows(fixed, case, timings).items() if name not in rows}
    skipped = {name: model.reason for name, model in models.items() if isinstance(model, Skipped)}
    return [*rows.values(), *(_row(fixed, case, name) | {"skipped": reason} for name, reason in skipped.items())]


def _compiled(models: Mapping[str, nn.Module | Skipped], image: Tensor, mode: str) -> dict[str, nn.Module | Skipped]:
    """Each is run once here, since compiling takes long and may fail."""
    found: dict[str, nn.Module | Skipped] = {}
    for name in (OURS, PLAIN, CODE):
        model = models[name]
        if isinstance(model, nn.Module):
            fast: Any = torch.compile(model)
            try:
                steps(fast, image, mode)()
            except Exception as error:  # of any kind: of the compiler, or of the C++ compiler that it calls
                found[f"{name}, compiled"] = Skipped(f"it did not compile: {_first_line(error)}")
            else:
                found[f"{name}, compiled"] = fast
    return found


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def check_equal(models: Mapping[str, nn.Module], image: Tensor, precision: str) -> None:
    """Raise `AssertionError` unless the networks that should compute the same do.

    TF32, which a GPU convolves in unless told otherwise, rounds one network's products and not the other's.
    """
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, precision != "fp32"
    found = {name: difference(models[OURS], models[name], image) for name in (PLAIN, CODE) if name in models}
    torch.backends.cudnn.allow_tf32 = allowed
    for name, (logits, gradient) in found.items():
        print(f"  {name}: logits differ by {logits:.1e}, input gradients by {gradient:.1e} (standard deviations)")
        assert max(logits, gradient) < TOLERANCE[precision], f"{name} does not compute what ours computes"


def keep_profiles(case: str, models: Mapping[str, nn.Module], image: Tensor) -> None:
    """The operators that take longest, as text, of ours and of what it is compared with, in both modes."""
    PROFILES.mkdir(exist_ok=True)
    for name in (OURS, PLAIN):
        for mode in MODES:
            step = steps(models[name], image, mode)
            step()
            with profile() as profiler:
                step()
            table = profiler.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=PROFILED_OPERATORS, max_name_column_width=48
            )
            text = f"{name}, {case}, {mode}, fp32, {torch.get_num_threads()} threads; {machine()}\n{table}"
            lines = [line.rstrip() for line in text.splitlines()]
            path = PROFILES / f"{case}_{mode}_{name.replace(' ', '_')}.txt"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(fixed: Mapping[str, Any], case: Case, contender: str) -> dict[str, Any]:
    crop = "x".join(map(str, case.crop))
    return {**fixed, "crop": crop, "batch": case.batch, "contender": contender, "load": f"{load():.1f}"} | {
        "machine": machine(str(fixed["device"]))
    }


def _rows(fixed: Mapping[str, Any], case: Case, timings: Mapping[str, Timing]) -> dict[str, dict[str, Any]]:
    rows = {}
    for name, timing in timings.items():
        low, middle, high = timing.quartiles
        row = {"median_s": f"{middle:.4f}", "q1_s": f"{low:.4f}", "q3_s": f"{high:.4f}"}
        row |= {"fastest_s": f"{min(timing.wall):.4f}", "rounds": str(len(timing.wall))}
        low, middle, high = timing.speedup_of(timings[OURS])
        row |= {"ours_faster": f"{middle:.3f}", "ours_faster_q1": f"{low:.3f}", "ours_faster_q3": f"{high:.3f}"}
        row |= {"ours_faster_processor": f"{timing.processor_speedup_of(timings[OURS]):.3f}", "skipped": ""}
        rows[name] = _row(fixed, case, name) | row
    return rows


def _show(fixed: Mapping[str, Any], timings: Mapping[str, Timing]) -> None:
    print(f"  {fixed['mode']}, {fixed['precision']}, load {load():.1f}")
    for name, timing in timings.items():
        low, middle, high = timing.speedup_of(timings[OURS])
        print(
            f"    {name:24} {timing.quartiles[1]:8.4f} s   {middle:5.2f} times ours ({low:.2f}-{high:.2f}; in "
            f"processor time {timing.processor_speedup_of(timings[OURS]):.2f})   {len(timing.wall)} rounds",
            flush=True,
        )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--official", type=Path, metavar="CLONE", help="folder of a clone of the official repository")
    parser.add_argument("--case", choices=list(CASES), action="append", help="default: all but synapse, which is slow")
    parser.add_argument("--mode", choices=MODES, nargs="+", default=MODES)
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=("fp32", "bf16"))
    add_device(parser, seconds=60)
    parser.add_argument("--without-monai", action="store_true", help="leave MONAI's networks out, which take long")
    parser.add_argument("--compiled", action="store_true", help="also as torch.compile makes them")
    parser.add_argument("--profile", action="store_true", help="write the operators that take longest to profiles/")


if __name__ == "__main__":
    main()
