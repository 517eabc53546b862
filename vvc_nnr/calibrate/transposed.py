"""The weight of a transposed convolution as the matrices of its phases, and as the one matrix that is coded.

Coded is an (n_in, n_out x n_taps) matrix, a row for an input channel. Each phase of the output is patches
times its taps, an (n_out, n_taps_of_phase x n_in) matrix. With G the moment of the output's gradients and H that of a
phase's patches, an error costs the sum over phases of share x tr(G E H E^T). To be weighed row by row, H has to be a
product: of a moment A between input channels and one K between taps, each the mean of H over the other. Then rows of
the coded matrix go by A, and its columns by G (x) K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseMoments:
    """What one phase sees; means over its places, float64.

    Attributes:
        taps: Its taps by their numbers in the kernel.
        share: Of all places of the output.
        columns: Covariance of the changed network's patches, (n_groups, n_taps x n_in, same), by tap, then channel.
        crossed: Of the original network's patches (first axis) with the changed one's.
        mean: The changed network's mean patch, (n_groups, n_taps x n_in).
        original_mean: The original network's.
    """

    taps: Sequence[int]
    share: float
    columns: Floats
    crossed: Floats
    mean: Floats
    original_mean: Floats

    def seen(self, *, has_bias: bool) -> PhaseMoments:
        """What counts: moments about zero, less what a bias makes up for.

        It makes up for the mean error of all phases together, of which this one's share is its part.
        """
        left = 1 - self.share if has_bias else 1.0
        outer = self.mean[:, :, None] * self.mean[:, None, :]
        crossed = self.original_mean[:, :, None] * self.mean[:, None, :]
        return replace(self, columns=self.columns + left * outer, crossed=self.crossed + left * crossed)


def phase_matrix(weight: Floats, taps: Sequence[int], n_groups: int) -> Floats:
    """The matrix of a phase, (n_groups, n_out, n_taps x n_in), channels of one group.

    Args:
        weight: (n_groups x n_in, n_out, n_taps of the kernel).
        taps: Those of the phase.
        n_groups: Groups of channels.
    """
    grouped = weight.reshape(n_groups, -1, *weight.shape[1:])[..., list(taps)]
    matrix: Floats = grouped.transpose(0, 2, 3, 1).reshape(n_groups, weight.shape[1], -1)
    return matrix


def put_phase_matrix(weight: Floats, matrix: Floats, taps: Sequence[int], n_groups: int) -> None:
    """Writes the matrix of a phase into a weight; the reverse of `phase_matrix`."""
    grouped = weight.reshape(n_groups, -1, *weight.shape[1:])
    n_in = grouped.shape[1]
    grouped[..., list(taps)] = matrix.reshape(n_groups, weight.shape[1], len(taps), n_in).transpose(0, 3, 1, 2)


def mean_outputs(weight: Floats, phases: Sequence[PhaseMoments], n_groups: int, *, of_original: bool) -> Floats:
    """Mean output of each channel over all phases, (n_groups x n_out,), without the bias."""
    total = np.zeros(n_groups * weight.shape[1])
    for phase in phases:
        mean = phase.original_mean if of_original else phase.mean
        total += phase.share * np.einsum("goc,gc->go", phase_matrix(weight, phase.taps, n_groups), mean).reshape(-1)
    return total


def factors(phases: Sequence[PhaseMoments], gradients: Floats, n_taps: int, n_groups: int) -> tuple[Floats, Floats]:
    """What weighs the coded matrix: columns (n_groups, n_out x n_taps, n_out x n_taps), rows (n_groups x n_in, same).

    Args:
        phases: What the phases see.
        gradients: Moment of the output's gradients, (n_groups x n_out, n_groups x n_out).
        n_taps: Of the kernel.
        n_groups: Groups of channels.
    """
    n_out = len(gradients) // n_groups
    n_in = phases[0].mean.shape[1] // len(phases[0].taps)
    rows = np.zeros((n_groups * n_in, n_groups * n_in))
    columns = np.zeros((n_groups, n_out * n_taps, n_out * n_taps))
    for group in range(n_groups):
        channels, taps = np.zeros((n_in, n_in)), np.zeros((n_taps, n_taps))
        for phase in phases:
            n = len(phase.taps)
            moment = phase.share * phase.columns[group].reshape(n, n_in, n, n_in)
            channels += np.einsum("tctd->cd", moment)
            taps[np.ix_(phase.taps, phase.taps)] += np.einsum("tcuc->tu", moment)
        total = np.trace(channels)
        own = slice(group * n_in, (group + 1) * n_in)
        rows[own, own] = channels
        of_outputs = gradients[group * n_out : (group + 1) * n_out, group * n_out : (group + 1) * n_out]
        columns[group] = np.kron(of_outputs, taps / total if total > 0 else taps)
    return columns, rows
