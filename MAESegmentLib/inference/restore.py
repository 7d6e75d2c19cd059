"""Class scores on the network's grid, row by row, become labels on the input grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..transforms.grid import NetworkGrid


class RowRestorer:
    """Interpolates class probabilities linearly from network rows to voxels of the input grid and takes the largest.

    Everything is written through canonical views of arrays on the input grid, so flips and permutations are exact; only
    two rows of probabilities exist at a time. `values[k]` is the label value of class k.
    """

    def __init__(
        self,
        grid: NetworkGrid,
        values: Sequence[int],
        labels: np.ndarray,
        *,
        probabilities: np.ndarray | None = None,
        entropy: np.ndarray | None = None,
    ) -> None:
        """`labels` and `entropy` (I, J, K) and `probabilities` (class, I, J, K), on `grid.input_grid`, are filled."""
        self._grid = grid
        self._values = np.asarray(values, dtype=labels.dtype)
        self._labels = grid.to_canonical(labels)
        self._probabilities = None if probabilities is None else grid.to_canonical(probabilities)
        self._entropy = None if entropy is None else grid.to_canonical(entropy)
        self._softmax = grid.resamples or probabilities is not None or entropy is not None
        self._previous: torch.Tensor | None = None
        self._next_row = 0

    def push(self, row: int, scores: torch.Tensor) -> None:
        """Take the scores (K, H, W) of network row `row`; rows must come in order."""
        plane = self._in_plane(scores)
        depth, depth_out = self._grid.shape[0], self._grid.canonical_shape[0]
        while self._next_row < depth_out:
            position = min(max((self._next_row + 0.5) * depth / depth_out - 0.5, 0.0), depth - 1.0)
            lower = math.floor(position)
            share = position - lower
            if (lower + 1 if share > 0 else lower) > row:
                break
            if share == 0 and lower == row:
                self._write(self._next_row, plane)
            else:
                assert self._previous is not None
                self._write(self._next_row, torch.lerp(self._previous, plane, share))
            self._next_row += 1
        self._previous = plane

    def _in_plane(self, scores: torch.Tensor) -> torch.Tensor:  # (K, H, W) -> (K, H', W')
        if not self._softmax:
            return scores
        probabilities = scores.float().softmax(dim=0)
        size = self._grid.canonical_shape[1:]
        if probabilities.shape[1:] == size:
            return probabilities
        return F.interpolate(probabilities[None], size=size, mode="bilinear", align_corners=False)[0]

    def _write(self, row: int, classes: torch.Tensor) -> None:  # (K, H', W')
        winners = classes.max(dim=0).indices  # four times as fast as argmax on a CPU
        self._labels[row] = self._values[winners.cpu().numpy()]
        if self._probabilities is not None:
            self._probabilities[:, row] = classes.cpu().numpy()
        if self._entropy is not None:
            entropy = torch.special.entr(classes).sum(dim=0) / math.log(len(classes))
            self._entropy[row] = entropy.cpu().numpy()
