"""How long a fine-tuning takes on this machine, found by doing a few of its steps on made-up patches."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from ..bundle import Bundle, open_bundle
from ..cases.case import Case
from ..cases.layout import image_names
from ..cases.records import CaseRecord
from ..cases.store import CaseStore
from ..device import device_title, resolve_device
from ..errors import DatasetError
from ..images.labels import by_name
from ..inference.window_count import window_count
from ..processes.processor import background_threads
from ..training.data.holdout import FEW_CASES, HELD_OUT
from ..training.data.labelling import LabelPlan, plan_labels
from ..training.data.prepared import CaseCache, PreparedCase, places_of
from ..training.data.preparing import prepare_cases
from ..training.data.unlabelled import PREPARING_SHARE, scans_without_labels
from ..training.defaults import default_settings
from ..training.loop.budget import LEAST_TRAINING, in_minutes
from ..training.loop.loop import train
from ..training.run_context import Progress, RunContext
from ..training.settings import FineTuneSettings
from ..training.tasks.initial import initial_network
from ..training.tasks.methods import scan_term
from ..training.tasks.segmentation import SegmentationTask, dice_table
from ..training.timetable import planned_s, saving_s
from .records import FineTuneEstimate, RunRequest

#: As many steps as this, or as fit into the time; the first, which warms up, is not counted.
_STEPS = 6
_SECONDS = 8.0
#: Starting the process, and saving the model.
_START_S = 20.0
#: Preparing is timed on so many scans without labels.
_SCANS = 2
#: A run by time that ends later than by this share of its time says so.
_LATE = 0.05
#: Fewer steps are of no use; adapting to another scanner takes 150.
_FEWEST_STEPS = 100
#: No more of the free memory should be asked for.
_SAFE_SHARE = 0.9


@dataclass(frozen=True)
class _Measured:
    """Seconds of a step and of a window, and the bytes that training held at most."""

    step: float
    window: float
    memory: float
    #: Seconds of reading and preparing all cases, and all scans without labels.
    cases_s: float = 0.0
    scans_s: float = 0.0


def estimate_run(
    run: RunRequest, report: Callable[[float], None], should_cancel: Callable[[], bool]
) -> FineTuneEstimate:
    """Seconds, during which the device is in use; `report` gets the share done (0..1).

    `DatasetError` if there is no case to train on.
    """
    base = open_bundle(run.base_path)
    store = CaseStore(run.store)
    records = {record.id: record for record in store.list()}
    missing = [name for name in (*run.training, *run.check) if name not in records]
    if missing or not run.training:
        what = f"There is no case {missing[0]}." if missing else "There is no case to learn from."
        raise DatasetError(what, "Add a corrected case first.")
    labels = tuple(by_name((*base.labels, *store.labels())))
    plan = plan_labels({name: n for n, name in enumerate(labels, start=1)}, base.labels)
    settings = default_settings(base, new_labels=None in plan.origins, chosen=run.settings)
    device = resolve_device(settings.device)
    free = _free_bytes(device)
    report(0.0)
    with _threads_of_trainer(settings):
        channels, scans = records[run.training[0]].channels, bool(run.unlabelled)
        measured = _measure(base, plan, settings, channels, report, should_cancel, scans=scans)
        cases_s, scans_s = _preparing_s(base, run, store, [records[name] for name in (*run.training, *run.check)])
    measured = replace(measured, cases_s=cases_s, scans_s=scans_s)
    return _estimate(base, run, settings, list(records.values()), measured, free, device)


@contextmanager
def _threads_of_trainer(settings: FineTuneSettings) -> Iterator[None]:
    """Compute with as many threads as the run's own process will."""
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads or background_threads() or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(
    base: Bundle,
    plan: LabelPlan,
    settings: FineTuneSettings,
    channels: int,
    report: Callable[[float], None],
    should_cancel: Callable[[], bool],
    *,
    scans: bool,
) -> _Measured:
    """`scans`: as a step is once scans without labels count."""
    device = resolve_device(settings.device)
    network, _notes = initial_network(base, plan, channels, settings)
    patch = base.spec.preprocessing.patch_size
    case = _made_up(patch, channels, len(plan.labels))
    short = replace(
        settings,
        minutes=None,
        until_no_better=False,
        steps=_STEPS,
        validate_every=_STEPS + 1,
        checkpoint_every=_STEPS + 1,
        log_every=_STEPS,
        patience=None,
    )
    term = None
    if scans:
        short = replace(short, unlabelled_ramp=0.0)
        term = scan_term(network, base, len(plan.labels) + 1, [replace(case, classes=None)], [case], patch, short)
    stages = len(network.config.depths)
    task = SegmentationTask(network, [case], [], plan.names, patch, short, encoder_stages=stages, scans=term)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = [time.perf_counter()]

    def note(progress: Progress) -> None:
        if progress.stage == "train":
            times.append(time.perf_counter())
            report(round(min(progress.step / _STEPS, 1.0), 3))

    def took_long() -> bool:
        return len(times) > 2 and times[-1] - times[0] > _SECONDS

    with tempfile.TemporaryDirectory(prefix="maesegment-estimate-") as folder:
        train(task, short, Path(folder), RunContext(note, should_cancel, took_long))
    # Taken before the network goes; on the processor what the process holds, the library included.
    memory = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    steps = np.diff(times)
    begun = time.perf_counter()
    with torch.no_grad():
        dice_table(network.to(device).eval(), [case], plan.names, patch, device, settings.validation_overlap)
    window = time.perf_counter() - begun
    return _Measured(float(np.median(steps[1:] if len(steps) > 1 else steps)), window, float(memory))


def _preparing_s(base: Bundle, run: RunRequest, store: CaseStore, records: Sequence[CaseRecord]) -> tuple[float, float]:
    """Of the cases, as long as a middling one takes for its size; of scans without labels, as long as some of them."""
    clock = time.perf_counter
    sizes = [math.prod(record.shape) * record.channels for record in records]
    number = int(np.argsort(sizes)[len(sizes) // 2])
    name = records[number].id
    files = tuple(store.case_path(name) / file for file in image_names(records[number].channels))
    with tempfile.TemporaryDirectory(prefix="maesegment-estimate-") as folder:
        cache = CaseCache(1.0, Path(folder))

        def seconds(case: Case) -> float:
            begun = clock()
            with suppress(DatasetError):  # which the run names
                prepare_cases([case], base.spec.preprocessing, cache)
            return clock() - begun

        begun = clock()
        store.read_label_map(name)
        case_s = (clock() - begun + seconds(Case(name, files))) / sizes[number] * float(np.mean(sizes))
        given = [Path(place) for place in run.unlabelled]
        there = [place for place in given if place.is_absolute()]  # others are of the scene, and no files yet
        begun = clock()
        scans = scans_without_labels(there)
        finding_s = clock() - begun
        sample = [seconds(scan) for scan in scans[:: max(1, len(scans) // _SCANS)][:_SCANS]]
    scan_s = float(np.mean(sample)) if sample else 0.0
    return case_s * len(records), finding_s + scan_s * len(scans) + case_s * (len(given) - len(there))


def _made_up(patch: Sequence[int], channels: int, labels: int) -> PreparedCase:
    """Noise of the size of a patch with every label somewhere: it costs what a real patch does."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((channels, *patch), dtype=np.float32)
    classes = rng.integers(0, labels + 1, tuple(patch)).astype(np.uint8)
    return PreparedCase("made up", image, (1.0, 1.0, 1.0), classes, places_of(classes))


def _estimate(
    base: Bundle,
    run: RunRequest,
    settings: FineTuneSettings,
    records: Sequence[CaseRecord],
    measured: _Measured,
    free: float,
    device: torch.device,
) -> FineTuneEstimate:
    training, held_out, folds, how = _plan(run)
    steps = settings.steps
    by_id = {record.id: record for record in records}
    windows = [_windows(by_id[name], base, settings) for name in (*run.training, *run.check)]
    warnings = []
    checked = float(np.mean(windows)) * measured.window * (held_out if not folds else 1)
    if settings.minutes is None:
        checks = steps // settings.validate_every + 2  # and before and after
        seconds = _START_S + measured.cases_s + measured.scans_s
        seconds += (folds + 1) * steps * measured.step + (folds or 1) * checks * checked
    else:
        chosen = 60 * settings.minutes
        preparing = _START_S + measured.cases_s + min(measured.scans_s, PREPARING_SHARE * chosen)
        before_s = preparing + saving_s(training, measured.window)
        training_s, has_folds = planned_s(max(0.0, chosen - before_s), folds, 2 * checked, measured.step)
        training_s = max(training_s, LEAST_TRAINING * chosen)
        seconds, steps = max(chosen, before_s + training_s), round(training_s / measured.step)
        if seconds > (1 + _LATE) * chosen:
            warnings.append(
                f"Starting and preparing the cases takes {in_minutes(preparing)} of the {settings.minutes:g} min: "
                f"training gets a quarter of the time all the same, and the run ends after {in_minutes(seconds)}. "
                "Choose a longer time."
            )
        if folds:
            shorter = "leave-one-out in shorter rounds: a lower bound (indicative only)"
            how = shorter if has_folds else "nothing: the time is too short for leave-one-out"
        if steps < _FEWEST_STEPS:
            warnings.append(
                f"This computer does only about {steps} steps in {settings.minutes:g} minutes, too few to learn from: "
                f"choose a longer time."
            )
    voxels = sum(math.prod(_shape(by_id[name], base)) for name in (*run.training, *run.check))
    memory = measured.memory + (5.0 * voxels if device.type == "cpu" else 0.0)
    if memory > _SAFE_SHARE * free:
        warnings.append(
            f"It needs about {memory / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: close other programs."
        )
    return FineTuneEstimate(
        seconds=round(seconds, 1),
        seconds_per_step=round(measured.step, 4),
        steps=steps,
        patches=steps * settings.batch_size,
        memory_bytes=memory,
        free_bytes=free,
        device=str(device),
        device_title=device_title(device),
        cases=training,
        how=how,
        warnings=tuple(warnings),
    )


def _plan(run: RunRequest) -> tuple[int, int, int, str]:
    """Cases trained on, cases held out, folds of leave-one-out, and in words what the result is checked on."""
    training, check = len(run.training), len(run.check)
    if run.validation == "none":
        return training, 0, 0, "nothing, as chosen"
    if check:
        return training, check, 0, f"{check} validation case{'s' * (check > 1)}"
    if training >= FEW_CASES:
        held_out = max(1, round(HELD_OUT * training))
        return training - held_out, held_out, 0, f"{held_out} of them, drawn at random and held out"
    if training >= 2:
        return training, 0, training, "leave-one-out (indicative only)"
    return training, 0, 0, "nothing: a single case cannot be left out"


def _shape(record: CaseRecord, base: Bundle) -> tuple[int, ...]:
    """About the case's size on the network's grid."""
    target = base.spec.preprocessing.spacing
    return tuple(max(1, round(n * mm / to)) for n, mm, to in zip(record.shape, record.spacing, target, strict=True))


def _windows(record: CaseRecord, base: Bundle, settings: FineTuneSettings) -> int:
    return window_count(_shape(record, base), base.spec.preprocessing.patch_size, settings.validation_overlap)


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
            return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)
