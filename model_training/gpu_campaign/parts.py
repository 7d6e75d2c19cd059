"""The parts of the campaign, in the order in which they are worth most. Each runs in a process of its own."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from MAESegmentLib.device import autocast, device_title, resolve_device
from MAESegmentLib.inference.settings import Precision

from .blocks import PROBLEM, Blocks
from .memory import peak_of_segmenting, peak_of_training
from .plan import Plan
from .tuning import four_cases, long_run

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = {"hippocampus-mr": "hippocampus_mr", "headneck-ct": "headneck_ct"}
#: What the parts import beside torch and numpy; without one, the parts that need it fail and say so.
PACKAGES = (
    *("monai", "nibabel", "pydicom", "scipy", "matplotlib", "psutil", "platformdirs", "einops", "rich", "triton"),
    *("pytest", "pytest_timeout", "hypothesis"),
)
_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")
_SCANS = ("as stored", "clinic")


#: (plan, what it found so far, seconds that are left to the part)
Work = Callable[[Plan, Blocks, Callable[[], float]], None]


@dataclass(frozen=True)
class Part:
    """It is not started with less than `least_s` to go, and ended after `limit_s`."""

    name: str
    title: str
    limit_s: float
    work: Work
    least_s: float = 10.0
    #: Modules that take long to import.
    imports: tuple[str, ...] = ()


def machine(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    def describe() -> dict[str, Any]:
        device = resolve_device(plan.device)
        found: dict[str, Any] = {"device": device_title(device), "torch": torch.__version__, "cores": os.cpu_count()}
        found |= {"python": platform.python_version(), "machine": platform.machine(), "cuda": torch.version.cuda}
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            found |= {"memory_gib": round(properties.total_memory / 2**30, 1)}
            found |= {"capability": f"{properties.major}.{properties.minor}"}
        return found | {"absent": [name for name in PACKAGES if find_spec(name) is None]}

    blocks.do(plan.device, describe)
    if plan.rehearse:
        from .drawing import draw  # of Testing

        blocks.do("drawn scans", partial(draw, plan.data, MODELS))


def tests(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    def run() -> dict[str, Any]:
        import pytest

        class Watching:
            """Plugin of pytest."""

            def __init__(self) -> None:
                self.counts = {"passed": 0, "failed": 0, "skipped": 0}
                self.reasons: dict[str, str] = {}

            def pytest_collectreport(self, report: Any) -> None:
                if report.failed:
                    self.counts["failed"] += 1
                    self.reasons[report.nodeid] = str(report.longrepr).strip().splitlines()[-1][:300]

            def pytest_runtest_logreport(self, report: Any) -> None:
                if report.when == "call" or report.outcome != "passed":
                    self.counts[report.outcome] += 1
                if report.outcome == "failed":
                    crash = getattr(report.longrepr, "reprcrash", None)
                    self.reasons[report.nodeid] = str(crash.message if crash else report.longrepr).splitlines()[0][:300]

        # Only the files that have such tests: others import what a bare machine lacks.
        files = [str(p) for p in sorted((REPOSITORY / "Testing").rglob("test_*.py")) if "mark.gpu" in p.read_text()]
        files = files[:1] if plan.rehearse else files  # the others are collected with the suite
        options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--continue-on-collection-errors"]
        watching = Watching()
        code = pytest.main([*options, *files], plugins=[watching])
        found: dict[str, Any] = {**watching.counts, "reasons": watching.reasons}
        expected = watching.counts["passed"] if plan.device.startswith("cuda") else watching.counts["skipped"]
        if code != 0 or expected != sum(watching.counts.values()) or not expected:
            found[PROBLEM] = f"pytest ended with {int(code)}: " + ", ".join(
                f"{n} {k}" for k, n in watching.counts.items()
            )
        return found

    blocks.do("pytest -m gpu", run)


def network(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    _network(plan, blocks, compiled=False)


def compiled(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    if plan.rehearse:
        blocks.do("compiled", lambda: {"left_out": "a rehearsal compiles nothing: that takes minutes of the processor"})
    else:
        _network(plan, blocks, compiled=True)


def _network(plan: Plan, blocks: Blocks, *, compiled: bool) -> None:
    from ..benchmarks.network import MODES, check_equal, measure
    from ..benchmarks.network_cases import CASES, Case, contenders
    from ..benchmarks.official_code import use_clone

    device = torch.device(plan.device)
    small = Case(
        "rehearsed",
        "small",
        (8, 8, 8),
        1,
        {"out_channels": 2, "embed_dim": 8, "heads": (1, 1, 1)},
        None,
        "a rehearsal has none",
    )
    cases = {name: CASES[name] for name in ("tumor64", "hippocampus", *(() if compiled else ("acdc",)))}
    with_official = (plan.files / "nnFormer").is_dir()
    if with_official:
        use_clone(plan.files / "nnFormer")
    for name, case in ({"rehearsed": small} if plan.rehearse else cases).items():
        torch.manual_seed(0)
        models = contenders(case, with_official=with_official, with_monai=not compiled)
        running = {key: model.to(device) for key, model in models.items() if isinstance(model, torch.nn.Module)}
        image = case.image().to(device)

        def equal(running: Any = running, image: torch.Tensor = image) -> dict[str, Any]:
            check_equal(running, image, "fp32")
            return {"equal": sorted(running)}

        def block(
            mode: str,
            precision: str,
            name: str = name,
            case: Case = case,
            models: Any = models,
            image: torch.Tensor = image,
        ) -> dict[str, Any]:
            fixed = {"device": device.type, "threads": torch.get_num_threads(), "case": name, "mode": mode}
            with autocast(device, precision):
                rows = measure(fixed | {"precision": precision}, case, models, image, plan.seconds, compiled=compiled)
            return {"rows": {"network": rows}}

        if not compiled:
            blocks.do(f"{name}: computes the same", equal)
        for precision in _PRECISIONS[:1] if compiled else _PRECISIONS[plan.rehearse :]:
            for mode in MODES:
                blocks.do(f"{name}, {mode}, {precision}", partial(block, mode, precision))


def volumes(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    from ..benchmarks.volumes import measure
    from ..benchmarks.volumes_cases import make_scan

    def block(name: str, precision: Precision) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scan = make_scan(name, plan.data, Path(folder))
            how = plan.device.partition(":")[0], precision, 2 * plan.seconds
            return {"rows": {"volumes": measure(name, plan.base("headneck-ct"), scan, Path(folder), *how)}}

    for name in _SCANS[: 1 if plan.rehearse else 2]:
        for precision in _PRECISIONS if not plan.rehearse else ("fp32",):
            blocks.do(f"{name}, {precision}", partial(block, name, precision))


def memory(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
    for model, folder in MODELS.items():
        scan = next(iter(sorted((plan.data / folder / "images").glob("*.nii.gz"))), plan.data / folder / "images")
        blocks.do(f"{model}: segment a scan", partial(peak_of_segmenting, plan.base(model), scan, plan.device))
        for batch in (1,) if plan.rehearse else (2, 16):
            work = partial(peak_of_training, plan.base(model), batch, plan.device)
            blocks.do(f"{model}: a step of {batch} patches", work)


def _four(model: str) -> Work:
    def work(plan: Plan, blocks: Blocks, _left: Callable[[], float]) -> None:
        blocks.do(model, partial(four_cases, model, plan.data / MODELS[model], plan))

    return work


def _long(model: str) -> Work:
    def work(plan: Plan, blocks: Blocks, left: Callable[[], float]) -> None:
        blocks.do(model, partial(long_run, model, plan.data / MODELS[model], plan, left))

    return work


MACHINE = Part("machine", "the machine", 60, machine, least_s=0)
#: The parts of a group run side by side.
GROUPS: tuple[tuple[Part, ...], ...] = (
    (Part("tests", "`pytest -m gpu`", 100, tests),),
    (Part("network", "networks, eager", 100, network, imports=("monai.networks.nets",)),),
    (Part("volumes", "whole scans", 60, volumes, imports=("model_training.benchmarks.volumes",)),),
    (Part("memory", "peak memory", 30, memory),),
    tuple(Part(f"four-{model}", f"{model} from 4 cases", 150, _four(model), least_s=140) for model in MODELS),
    (Part("compiled", "networks, compiled", 80, compiled, least_s=30),),
    tuple(Part(f"long-{model}", f"{model}, long", sys.maxsize, _long(model), least_s=60) for model in MODELS),
)
BY_NAME = {part.name: part for group in ((MACHINE,), *GROUPS) for part in group}
