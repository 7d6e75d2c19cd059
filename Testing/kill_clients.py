"""Programs that add cases, fine-tune and write versions until they are killed; see `kill_test`.

`python -m Testing.kill_clients add|train|version FOLDER SEED`, where FOLDER holds a clinic.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from pathlib import Path

import numpy as np

from MAESegmentLib.bundle import ModelStore, save_bundle
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.runs import create_run, list_runs
from MAESegmentLib.worker.client.requests import submit_case

from .finetuning import LABELS, SETTINGS, Clinic, launch, open_clinic
from .phantoms import PhantomFactory
from .processes import real_worker


def add_for_ever(clinic: Clinic, seed: int) -> None:
    """Cases through a real worker, every third an update of one that is there."""
    workers = real_worker()
    client = workers.__enter__()
    rng = random.Random(seed)
    for number in itertools.count():
        known = clinic.store.list()
        replace = rng.choice(known).id if known and number % 3 == 2 else ""
        phantom = PhantomFactory()(shape=(48, 48, 40), noise=30.0, seed=seed * 100_000 + number)
        volume = clinic.store.read_image(replace) if replace else phantom.volume
        label_map = clinic.store.read_label_map(replace) if replace else phantom.label_map
        record = submit_case(
            client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            np.ascontiguousarray(label_map.array.T),
            store=clinic.store.folder,
            submission=CaseSubmission(LABELS, replace=replace),
            working_folder=clinic.folder / "working",
        ).result(120.0)
        say(f"added {record.id} {record.revision} {record.image_hash}")


def train_for_ever(clinic: Clinic, seed: int) -> None:
    """A run after another, each resumed if it was interrupted; polled as a panel does."""
    for number in itertools.count():
        run = next((run for run in list_runs(clinic.runs) if not run.status().is_finished), None)
        if run is None:
            ids = [record.id for record in clinic.store.list()][:2]
            settings = {**SETTINGS, "steps": 12, "seed": seed + number}
            run = create_run(clinic.runs, clinic.request(ids[:1], ids[1:], settings))
        if not run.is_alive:
            run.resume(lambda which: launch(which))
        say(f"trainer {run.path}")
        while not run.status().is_finished or run.is_alive:
            time.sleep(0.05)
        say("trained")


def write_for_ever(clinic: Clinic, seed: int) -> None:
    """Versions saved, taken in, selected and removed."""
    models = ModelStore(clinic.models.user_folder, shipped_folder=clinic.models.shipped_folder)
    network = clinic.base.load_network().state_dict()
    from dataclasses import replace

    for number in itertools.count():
        version = models.next_version("tiny-mr")
        spec = replace(clinic.base.spec, version=version, parent=clinic.base.reference)
        staging = clinic.folder / "staging" / f"{seed}-{number}"
        child = models.add(save_bundle(staging, spec, network, card="# m", licence_text="x").path)
        models.select(child)
        say(f"written {child.version}")
        leaves = [bundle for bundle in models.list() if not models.removable(bundle)]
        if len(leaves) > 3:
            models.remove(leaves[0])


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    what, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    {"add": add_for_ever, "train": train_for_ever, "version": write_for_ever}[what](open_clinic(folder), seed)
