"""What a model says of a part of a scan: the probability of each structure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..arrays import inference_mode
from ..errors import DeviceMemoryError
from ..images.labels import ByName
from ..images.limits import memory_problem
from ..images.volume import Grid, Volume
from ..inference.fallback import Step, run_first_that_fits
from ..inference.predictor import Predictor
from ..inference.restore import RowRestorer
from ..preprocessing.plan import Preprocessing

Block = tuple[slice, slice, slice]


def shares_in(
    predictor: Predictor,
    volume: Volume,
    box: Block,
    names: Mapping[int, str],
    *,
    report: Callable[[float], None] = lambda _fraction: None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> dict[int, np.ndarray]:
    """Probabilities in `box` (I, J, K) by the values of `names`, 0 for everything else; without what it does not know.

    The network sees what lies around the box, too, as far as its window reaches.
    """
    predictor.check(volume)
    classes = [0, *(label.value for label in predictor.spec.labels)]
    prepared = predictor.preprocessing.prepare(volume, _widened(box, volume.grid, predictor.preprocessing))
    shape = tuple(part.stop - part.start for part in prepared.region)
    if problem := memory_problem(4 * (len(classes) + 1) * int(np.prod(shape))):
        raise DeviceMemoryError(f"The box is too large for this computer: {problem}.", "Give a smaller box.")
    labels = np.zeros(shape, np.uint16)
    found = np.zeros((len(classes), *shape), np.float32)
    found[0] = 1.0

    def run(step: Step) -> None:
        restorer = RowRestorer(prepared.grid, classes, labels, probabilities=found)
        with inference_mode():
            network = predictor.network_on(step.device)
            overlap = min(predictor.settings.overlap, 0.25)
            for row, scores in predictor.rows(
                network, prepared, step, overlap, lambda _stage, fraction: report(fraction), should_cancel
            ):
                restorer.push(row, scores)

    run_first_that_fits(predictor.steps(), run, lambda _text: None)
    values = ByName((name, value) for value, name in names.items())
    inside, place = _common(box, prepared.region)
    size = tuple(part.stop - part.start for part in box)
    shares = {0: np.ones(size, np.float32)}
    for number, label in enumerate(predictor.spec.labels, start=1):
        value = values.get(label.name)
        if value is not None:
            shares[value] = np.zeros(size, np.float32)
            shares[value][place] = found[number][inside]
            shares[0] -= shares[value]
    return shares


def _widened(box: Block, grid: Grid, preprocessing: Preprocessing) -> Block:
    """At least as wide as the network's window, about the same middle."""
    widest = max(np.multiply(preprocessing.patch_size, preprocessing.spacing))
    parts = []
    for part, size, mm in zip(box, grid.shape, grid.spacing, strict=True):
        more = max(0, int(np.ceil((widest / mm - (part.stop - part.start)) / 2)))
        parts.append(slice(max(0, part.start - more), min(size, part.stop + more)))
    i, j, k = parts
    return i, j, k


def _common(box: Block, region: Block) -> tuple[Block, Block]:
    """What both have, within the region and within the box."""
    spans = [
        (max(one.start, other.start), max(one.start, other.start, min(one.stop, other.stop)))
        for one, other in zip(box, region, strict=True)
    ]
    inside, place = (
        tuple(slice(low - part.start, high - part.start) for (low, high), part in zip(spans, parts, strict=True))
        for parts in (region, box)
    )
    return inside, place  # type: ignore[return-value]
