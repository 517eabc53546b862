"""The loss as a parabola of what is added to the last layer: solved at once, and its levels found for loss and bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvc_nnr.filters.training.fine_tuning import N_SIZES, code_lengths

_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class TailParabola:
    """The loss by what is added to the last layer, x of each channel: loss + x' matrix x - 2 wanted' x.

    Attributes:
        matrix: (channels, unknowns, unknowns), float64; the bias, if there is one, is the last unknown.
        wanted: (channels, unknowns).
        loss: Of adding nothing.
        shape: Of the layer's weights.
        names: Of its tensors: weights, and biases if there are any.
    """

    matrix: Tensor
    wanted: Tensor
    loss: float
    shape: torch.Size
    names: tuple[str, ...]

    def solved(self) -> dict[str, Tensor]:
        """What is best added."""
        return self._as_tensors(torch.linalg.solve(self.matrix, self.wanted).float())

    def levels(
        self, steps: Mapping[str, float], start: Mapping[str, NDArray[np.int32]], lambda_rd: float
    ) -> tuple[dict[str, NDArray[np.int32]], float]:
        """Whole steps, one after the other the best for loss and bits until none is better, and the loss.

        Args:
            steps: Of weights and biases.
            start: The levels to begin with.
            lambda_rd: Loss that a bit must save.
        """
        matrix, wanted = self.matrix.numpy(), self.wanted.numpy()
        n_channels, n_unknown = wanted.shape
        kinds = np.array([0] * math.prod(self.shape[1:]) + [1] * (len(self.names) - 1))
        step = np.array([steps[name] for name in self.names])[kinds]
        levels = np.concatenate([start[name].reshape(n_channels, -1) for name in self.names], axis=1).astype(np.int64)
        pull = wanted - np.einsum("pij,pj->pi", matrix, levels * step)
        channels = np.arange(n_channels)
        for _ in range(_MOST_ROUNDS):
            bits = [self._bits(levels[:, kinds == kind]) for kind in range(len(self.names))]
            before = levels.copy()
            for place in range(n_unknown):
                curvature, table, own = matrix[:, place, place], bits[kinds[place]], levels[:, place]
                best = own + pull[:, place] / (curvature * step[place])
                tried = np.stack([np.zeros_like(own), *(np.rint(best).astype(np.int64) + by for by in (-1, 0, 1))])
                tried = np.clip(tried, -N_SIZES, N_SIZES)
                costs = curvature * (step[place] * (tried - best)) ** 2 + lambda_rd * table[np.abs(tried)]
                chosen = tried[costs.argmin(axis=0), channels]
                pull -= matrix[:, :, place] * (step[place] * (chosen - own))[:, None]
                levels[:, place] = chosen
            if np.array_equal(levels, before):
                break
        added = levels * step
        loss = self.loss + float((added * (np.einsum("pij,pj->pi", matrix, added) - 2 * wanted)).sum())
        found = self._as_tensors(torch.from_numpy(levels))
        return {name: value.numpy().astype(np.int32) for name, value in found.items()}, loss

    def _as_tensors(self, values: Tensor) -> dict[str, Tensor]:
        n_weights = math.prod(self.shape[1:])
        parts = (values[:, :n_weights].reshape(self.shape), values[:, n_weights:].flatten())
        return dict(zip(self.names, parts, strict=False))

    @staticmethod
    def _bits(levels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Code length of each absolute level with its sign, as often as it is there now."""
        return code_lengths(torch.from_numpy(np.abs(levels).astype(np.float32)).reshape(-1)).double().numpy()


def add_sample(matrix: Tensor, rows: Tensor, curvatures: Tensor) -> None:
    """Adds what one crop is to the parabola's matrix: of each channel its rows' products, weighed sample by sample.

    Args:
        matrix: (channels, unknowns, unknowns), changed.
        rows: (unknowns, samples).
        curvatures: (channels, samples); most often the same for all channels but for a factor.
    """
    peaks = curvatures.amax(dim=1)
    shared: Tensor | None = None
    for channel, peak in enumerate(peaks.tolist()):
        if peak <= 0:
            continue
        pattern = curvatures[channel] / peak
        if shared is None or not torch.allclose(pattern, shared, atol=1e-4):
            shared = pattern
            counted = pattern > 0
            weighed = rows[:, counted]
            gram = ((weighed * pattern[counted]) @ weighed.T).double()
        matrix[channel] += peak * gram
