"""Kills whatever stores cases, trains or writes versions, at random moments, and checks whether anything broke.

    python -m Testing.kill_test --kills 50

Every kill is SIGKILL of the worker, of its client, or of both. After each, every case and version is verified byte for
byte; at the end every fine-tuning run is resumed until it is done. Exit code 0: nothing was corrupt or lost.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from MAESegmentLib.bundle import verify_bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.runs import RunState, list_runs

from .finetuning import Clinic, launch, make_clinic, wait_for_end
from .skips import REPOSITORY

KINDS = ("add", "train", "version")
#: Versions are written and selected by the client itself.
VICTIMS = {"add": ("worker", "client", "both"), "train": ("worker", "client", "both"), "version": ("client",)}
#: The client must have done something first; then the kill comes within so many seconds.
_FIRST_WORDS_S = 120.0
_LONGEST_S = {"add": 1.5, "train": 9.0, "version": 0.6}


@dataclass
class Tally:
    """What was done, and every breach that was found."""

    kills: Counter[str] = field(default_factory=Counter)
    #: Case id -> revision and voxels that were reported to a client as stored.
    reported: dict[str, tuple[int, str]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    def note(self, said: list[str]) -> None:
        """Only whole lines count: the last may have been cut off."""
        for line in said:
            words = line.split()
            if words[:1] == ["added"] and len(words) == 4 and len(words[3]) == 66:
                self.reported[words[1]] = (int(words[2]), words[3])

    def check(self, clinic: Clinic, after: str) -> None:
        """Verify all that is on disk."""
        records, problems = clinic.store.scan()
        by_id = {record.id: record for record in records}
        for case_id, (revision, digest) in self.reported.items():
            record = by_id.get(case_id)
            if record is None or record.revision < revision:
                self.breaches.append(f"{after}: revision {revision} of {case_id} was stored and is lost")
            elif record.revision == revision and record.image_hash != digest:
                self.breaches.append(f"{after}: {case_id} is not what was stored")
        self.breaches += [f"{after}: case {path.name}: {error}" for path, error in problems]
        for record in records:
            try:
                clinic.store.verify(record.id)
            except MAESegmentError as error:
                self.breaches.append(f"{after}: {error}")
        if records and len(load_dataset(clinic.store.dataset_path).cases) != len(records):
            self.breaches.append(f"{after}: dataset.json does not list the {len(records)} cases")
        bundles, damaged = clinic.models.scan()
        self.breaches += [f"{after}: model {path}: {error}" for path, error in damaged]
        for bundle in bundles:
            try:
                verify_bundle(bundle.path)
            except MAESegmentError as error:
                self.breaches.append(f"{after}: {error}")
        if clinic.models.find("tiny-mr").name != "tiny-mr":
            self.breaches.append(f"{after}: the model's name means another")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="maesegment kill ä ") as folder:
        clinic = make_clinic(Path(folder), cases=2)
        for record in clinic.store.list():
            tally.reported[record.id] = (record.revision, record.image_hash)
        for number in range(options.kills):
            kind, victim = KINDS[number % len(KINDS)], rng.choice(VICTIMS[KINDS[number % len(KINDS)]])
            text, said = kill_once(clinic, kind, victim, options.seed + number, rng)
            tally.note(said)
            tally.kills[f"{kind}, {victim}"] += 1
            tally.check(clinic, f"kill {number + 1} ({text})")
            print(
                f"{number + 1}/{options.kills} {text}: {len(clinic.store.list())} cases, "
                f"{len(clinic.models.list())} versions, {len(tally.breaches)} breaches",
                flush=True,
            )
        finish_runs(clinic, tally)
        tally.check(clinic, "at the end")
    print(f"{sum(tally.kills.values())} kills: {dict(sorted(tally.kills.items()))}")
    for breach in tally.breaches:
        print(f"BREACH {breach}")
    print("nothing was corrupt" if not tally.breaches else f"{len(tally.breaches)} breaches")
    return 1 if tally.breaches else 0


def kill_once(clinic: Clinic, kind: str, victim: str, seed: int, rng: random.Random) -> tuple[str, list[str]]:
    """Start a client, let it work for a random time, kill; what happened, and what the client said had been done."""
    command = [sys.executable, "-m", "Testing.kill_clients", kind, str(clinic.folder), str(seed)]
    client = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said: list[str] = []
    try:
        said.append(_wait_for_words(client))
        delay = rng.uniform(0.0, _LONGEST_S[kind])
        time.sleep(delay)
        workers = _workers(clinic, client.pid, kind)
        for pid in [*(workers if victim != "client" else ()), *([client.pid] if victim != "worker" else ())]:
            _kill(pid)
        if victim == "worker" and kind != "version":
            time.sleep(0.3)  # the client notices
    finally:
        _kill(client.pid)
        client.wait()
        assert client.stdout is not None
        said += client.stdout.read().decode().splitlines()
        assert client.stderr is not None
        client.stdout.close()
        client.stderr.close()
    if kind != "train" or victim != "client":  # a trainer continues without its client, as it should
        for pid in _workers(clinic, client.pid, kind):
            _kill(pid)
    _wait_for_workers(clinic, kind)
    return f"{victim} while {kind}, after {delay:.2f} s", said


def finish_runs(clinic: Clinic, tally: Tally) -> None:
    """Every run is resumed until it is done, or is cleanly gone."""
    for run in list_runs(clinic.runs):
        if run.is_alive:
            wait_for_end(run)
        state = run.status().state
        if state in (RunState.INTERRUPTED, RunState.WAITING, RunState.FAILED):
            run.resume(launch)
            wait_for_end(run)
            state = run.status().state
        if state is not RunState.DONE:
            tally.breaches.append(f"{run.id} did not end: {run.status()}\n{run.log_tail()}")
            continue
        result = run.status().result
        assert result is not None
        # The version may have been removed since by the program that writes and removes versions, but not half of it.
        if Path(result.path).exists():
            verify_bundle(result.path)


def _wait_for_words(client: subprocess.Popen[bytes]) -> str:
    assert client.stdout is not None
    ready, _, _ = select.select([client.stdout], [], [], _FIRST_WORDS_S)
    words = client.stdout.readline().decode() if ready else ""
    if words:
        return words
    assert client.stderr is not None
    raise AssertionError(f"The client ended before it did anything:\n{client.stderr.read().decode()}")


def _workers(clinic: Clinic, client: int, kind: str) -> list[int]:
    """Processes that work for the client; a trainer has no parent and is known by its run's folder."""
    if kind == "train":
        return _trainers(clinic)
    try:
        return [child.pid for child in psutil.Process(client).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _trainers(clinic: Clinic) -> list[int]:
    return [
        int(process.info["pid"])
        for process in psutil.process_iter(["pid", "cmdline"])
        if any(str(clinic.runs) in part for part in process.info["cmdline"] or ())
    ]


def _wait_for_workers(clinic: Clinic, kind: str) -> None:
    """A worker whose client is gone ends on its own within seconds."""
    end = time.monotonic() + 30
    marker = str(clinic.folder / "working")
    while kind == "add" and time.monotonic() < end:
        if not any(_has_open(process, marker) for process in psutil.process_iter(["pid"])):
            return
        time.sleep(0.1)


def _has_open(process: psutil.Process, marker: str) -> bool:
    try:
        return any(marker in file.path for file in process.open_files())
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
