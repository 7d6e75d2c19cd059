"""Asking the worker how long a fine-tuning would take here."""

from __future__ import annotations

from ...runs.records import FineTuneEstimate, RunRequest
from ..job import Job
from ..protocol import Estimate
from .client import WorkerClient


def submit_estimate(client: WorkerClient, request: RunRequest) -> Job[FineTuneEstimate]:
    """The job ends with a `FineTuneEstimate`; some seconds, during which the worker does nothing else."""
    return client.submit(
        Estimate(client.new_id(), request.to_dict()), finish=lambda data: FineTuneEstimate.from_dict(data["estimate"])
    )
