"""What this process takes of the processor: priority, cores, and how threads wait. Standard library alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

#: How long OpenMP's threads spin before they sleep by default: rounds (GNU), ms (Intel, LLVM).
#: `model_training.benchmarks.waiting` compares.
_WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
_USERS_WAITING = ("OMP_WAIT_POLICY", "KMP_LIBRARY", *_WAITING)
_USERS_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Nice value of background work: about a tenth of what a program of normal priority gets.
_BACKGROUND_NICE = 10
#: From the start of a process until it has imported torch; an antivirus may scan that first.
_LONGEST_START_S = 120.0
_AUTOGROUP = Path("/proc/self/autogroup")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores this process may use: the affinity mask and a container's quota count, not what is built in."""
    try:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    except OSError:
        affinity = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
        return max(1, min(affinity, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return affinity


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads wait asleep in a process of this `environment`; what the user set there stays.

    Only before torch is imported: its threads read it once.
    """
    if not any(name in environment for name in _USERS_WAITING):
        environment.update(_WAITING)


def background_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Threads for training beside a program that segments, which keeps a core; None if the user has chosen."""
    if any(environment.get(name) for name in _USERS_THREADS):
        return None
    return max(1, usable_cores() - 1)


def leave_a_core(environment: MutableMapping[str, str]) -> None:
    """Let this process compute with `background_threads`. Only before torch is imported."""
    threads = background_threads(environment)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)


def yield_to_others() -> None:
    """Give this process a lower priority than programs that a user waits for, the worker among them.

    A priority is never raised: an ordinary user may not, and it would be wrong. Under nice 19, which Slicer on Linux
    gives to itself and so to all that it starts, the worker cannot be better and this process not worse; then only the
    scheduling class for batch work makes a difference: whoever wakes up comes first. (The class for idle work would
    stand still for hours beside a busy program.) Whatever the operating system refuses is left as it is.
    """
    if os.name == "nt":
        _lower_on_windows()
        return
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, 0) < _BACKGROUND_NICE:
            os.setpriority(os.PRIO_PROCESS, 0, _BACKGROUND_NICE)
    with contextlib.suppress(OSError, AttributeError):  # Linux alone
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError, ValueError):
        # Linux weighs a session of its own as a whole ("autogroup"): there a nice value counts only within it.
        # The file is empty in the session that the system started with, which has no group of its own.
        group = _AUTOGROUP.read_text().split()
        if group and os.getsid(0) == os.getpid() and int(group[-1]) < _BACKGROUND_NICE:
            _AUTOGROUP.write_text(str(_BACKGROUND_NICE))


def process_began() -> float:
    """When this process began, as `time.perf_counter` tells time: importing torch may take long, too.

    The system notes it by the clock on the wall, which may have been set meanwhile: not longer ago than a start takes.
    """
    import psutil

    now = time.perf_counter()
    try:
        return now - min(max(0.0, time.time() - psutil.Process().create_time()), _LONGEST_START_S)
    except (psutil.Error, OSError):
        return now


def _lower_on_windows() -> None:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process()
        if process.nice() not in (psutil.IDLE_PRIORITY_CLASS, psutil.BELOW_NORMAL_PRIORITY_CLASS):
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
