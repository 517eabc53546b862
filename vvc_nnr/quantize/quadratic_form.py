"""What an error of a matrix costs, and how the part of it that comes first is made up for by the rest.

The cost of an error E of an n_rows x n_columns matrix is  tr(G E H E^T): H is the second moment of what the columns are
multiplied with, G what an error of each output row costs (two rows' errors may cancel). Both are factored as

    M = F^T diag(w) F        F unit lower triangular

so that, in the order of the places, an error e costs  sum_i w_i (e_i + sum_{j<i} F_ij e_j)^2: every place can be
chosen about what the places before it left behind.

Source: optimal brain surgeon/quantiser (Hassibi and Stork 1992; Frantar and Alistarh 2022) in its triangular form
(GPTQ, Frantar et al. 2023), here for both sides of a Kronecker product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAMPING = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """A factored quadratic form, or several of equal size.

    Attributes:
        factor: F, float32, (n_groups, n, n), unit lower triangular.
        weight: w, float32, (n_groups, n), above zero.
    """

    factor: NDArray[np.float32]
    weight: NDArray[np.float32]

    @property
    def mean_weight(self) -> float:
        """What an error costs on average if all that came before is made up for."""
        return float(self.weight.mean(dtype=np.float64))


def damped(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The moments with a share of their mean diagonal added to the diagonal, or 1 if they are all zero.

    Args:
        moments: (n_groups, n, n), symmetric, no negative eigenvalue but for rounding.
    """
    n = moments.shape[-1]
    added = DAMPING * np.trace(moments, axis1=1, axis2=2) / n
    return moments + np.where(added > 0, added, 1.0)[:, None, None] * np.eye(n)


def feedback_of(moments: NDArray[np.float64]) -> Feedback:
    """The factors of positive definite moments (n_groups, n, n)."""
    # A Cholesky factor of the reversed matrix is the wanted one reversed.
    lower = np.linalg.cholesky(moments[:, ::-1, ::-1])
    scale = np.diagonal(lower, axis1=1, axis2=2)
    factor = (lower / scale[:, None, :])[:, ::-1, ::-1].transpose(0, 2, 1)
    return Feedback(np.ascontiguousarray(factor, np.float32), np.ascontiguousarray(scale[:, ::-1] ** 2, np.float32))


def error_cost(error: NDArray[np.float64], columns: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """tr(G E H E^T).

    Args:
        error: E, (n_rows, n_columns).
        columns: H of each group of rows, (n_groups, n_columns, n_columns).
        rows: G, (n_rows, n_rows); what lies between two groups does not count.
    """
    n_groups, n = columns.shape[0], len(error) // columns.shape[0]
    total = 0.0
    for group in range(n_groups):
        part = slice(group * n, (group + 1) * n)
        total += float(np.vdot(rows[part, part] @ error[part], error[part] @ columns[group]))
    return total


def shifted_target(
    weights: NDArray[np.float64], columns: NDArray[np.float64], crossed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The matrix that on changed inputs comes nearest to the outputs of `weights` on the original ones.

    Args:
        weights: (n_rows, n_columns).
        columns: Damped second moment of the changed inputs, (n_groups, n_columns, n_columns).
        crossed: Moment of original (first axis) and changed inputs, damped by as much, of the same shape.
    """
    n_groups = columns.shape[0]
    parts = weights.reshape(n_groups, -1, weights.shape[1])
    # The moments are symmetric: X columns = parts crossed  is  columns X^T = (parts crossed)^T.
    found = np.linalg.solve(columns, (parts @ crossed).transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.ascontiguousarray(found, np.float64).reshape(weights.shape)
