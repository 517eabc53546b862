"""Rounding by rate and distortion: levels chosen by what they do to the output and by the bits that they take.

A level costs  (weighted squared error it causes) + lambda_rd * bits,  with bits from the very states of the
arithmetic coder's contexts, and its error is pushed onto the weights that are not coded yet.

The cost of an error E of an n_rows x n_columns matrix is  tr(G E H E^T): H is the second moment of what the columns are
multiplied with, G what an error of each output row costs (two rows' errors may cancel). Both are factored as

    M = F^T diag(w) F        F unit lower triangular

so that, in the order of the places, an error e costs  sum_i w_i (e_i + sum_{j<i} F_ij e_j)^2: every place can be
chosen about what the places before it left behind.

Source: optimal brain surgeon/quantiser (Hassibi and Stork 1992; Frantar and Alistarh 2022) in its triangular form
(GPTQ, Frantar et al. 2023), here for both sides of a Kronecker product.

The thorough search of dependent quantisation knows what every bin will cost. The fast one (`quantize_indices`) shares
one model of the rate among its eight paths; in the thorough one each of them carries all adaptive contexts as the coder
will have them at its end, so the rate in

    (weight / step - level)**2 + lambda_rd * 0.7 * 4 * ln 2 / 6 * bits

is that of the bins themselves. Contexts begin with estimators that an encoder chooses by the bins, which are not there
yet; they are those that suit the result of the search before, the first time that of the fast search.

Source: the search is Viterbi's with per-survivor processing, R. Raheli, A. Polydoros and C.-K. Tzou, IEEE Transactions
on Communications 43(2/3/4), 1995; the rate of dependent quantisation as of H. Schwarz et al., Data Compression
Conference, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.kernels.entropy_coding import TensorInput, encode_payload
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams, require_status
from vvc_nnr.quantize.dependent import DEPENDENT_BIT_WEIGHT, QuantizedTensor, checked_weights, levels_of, rows_to_skip

DAMPING = 1e-3
# Inputs of a smaller share of the mean diagonal are dead.
DEAD_SHARE = 1e-12


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

    @property
    def log_mean_weight(self) -> float:
        """The geometric mean of what errors cost: that of the inputs' and outputs' scales, which may differ widely."""
        return math.exp(float(np.log(self.weight.astype(np.float64)).mean()))


def damped(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The moments with a share of itself added to each place of the diagonal: the scale of an input is no matter.

    Dead inputs get that share of the mean diagonal, or 1 if all are dead.

    Args:
        moments: (n_groups, n, n), symmetric, no negative eigenvalue but for rounding.
    """
    own = np.diagonal(moments, axis1=1, axis2=2)
    mean = own.mean(axis=1, keepdims=True)
    dead = np.where(mean > 0, DAMPING * mean, 1.0)
    added = np.where(own > DEAD_SHARE * mean, DAMPING * own, dead)
    return moments + added[:, :, None] * np.eye(moments.shape[-1])


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
        columns: H of each block of columns of each group of rows, (n_groups * n_blocks, n, n) with n = n_columns /
            n_blocks; what lies between two blocks does not count.
        rows: G, (n_rows, n_rows); what lies between two groups does not count.
    """
    n_groups = group_count(columns, error.shape[1])
    n, n_blocks = len(error) // n_groups, len(columns) // n_groups
    total = 0.0
    for place, (part, own) in enumerate(zip(by_block(error, columns), columns, strict=True)):
        first = place // n_blocks * n
        total += float(np.vdot(rows[first : first + n, first : first + n] @ part, part @ own))
    return total


def group_count(columns: NDArray[np.floating[Any]], n_columns: int) -> int:
    """How many groups of rows moments (n_groups * n_blocks, n, n) have; 0 if they are not of so many columns."""
    n = columns.shape[-1]
    n_blocks = n_columns // n if n and n_columns % n == 0 else 0
    return len(columns) // n_blocks if n_blocks and len(columns) % n_blocks == 0 else 0


def by_block(matrix: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix (n_rows, n_columns) in the blocks that its moments have, (n_groups * n_blocks, n_rows / n_groups, n)."""
    n_groups, n = group_count(columns, matrix.shape[1]), columns.shape[-1]
    parts = matrix.reshape(n_groups, len(matrix) // n_groups, -1, n).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parts).reshape(len(columns), -1, n)


def shifted_target(
    weights: NDArray[np.float64], columns: NDArray[np.float64], crossed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The matrix that on changed inputs comes nearest to the outputs of `weights` on the original ones.

    Args:
        weights: (n_rows, n_columns).
        columns: Damped second moment of the changed inputs, as for `error_cost`.
        crossed: Moment of original (first axis) and changed inputs, damped by as much, of the same shape.
    """
    n_groups, n = group_count(columns, weights.shape[1]), columns.shape[-1]
    parts = by_block(weights, columns)
    # The moments are symmetric: X columns = parts crossed  is  columns X^T = (parts crossed)^T.
    found = np.linalg.solve(columns, (parts @ crossed).transpose(0, 2, 1)).transpose(0, 2, 1)
    by_group = found.reshape(n_groups, -1, found.shape[1], n).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(by_group, np.float64).reshape(weights.shape)


# Largest weight in steps: float32 still tells a sixteenth of a step.
MAX_WEIGHED_STEPS = 1 << 19
N_PASSES = 2
"""The second knows the estimator sets that suit the levels of the first."""
# Naming the estimator set of a context: the flag and three bits.
SET_BITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class RoundedTensor:
    """A matrix in levels.

    Attributes:
        indices: k, int32, (n_rows, n_columns).
        values: What a decoder makes of them, float32, (n_rows, n_columns).
        bits: Their code length, without headers.
        sets: Estimator set of each context that suits them best, uint8.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bits: float
    sets: NDArray[np.uint8]


def round_tensor(
    weights: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float,
    columns: Feedback,
    rows: Feedback,
    *,
    sets: NDArray[np.uint8] | None = None,
    portable: bool = False,
) -> RoundedTensor:
    """The levels of a matrix by uniform or, with params.dq_flag, dependent quantisation.

    Args:
        weights: float32, (n_rows, n_columns), finite.
        params: Without a codebook, a parent or a block scan.
        step: Quantisation step above zero.
        lambda_rd: What a bit may cost in terms of the quadratic forms; 0: least error.
        columns: Of the second moments of the inputs, as for `error_cost`; as many groups as divide the rows evenly.
        rows: Of what errors of the outputs cost, one group.
        sets: Estimator sets that suit levels like these, as those of a step near this one; None: they are searched.
        portable: Use no instruction set extension. The levels are the same.

    Raises:
        InputError: If a weight is not finite or too large for the step, or an argument is out of range.
        ShapeError: If sizes do not fit together.
    """
    _check(weights, params, step, lambda_rd, columns, rows)
    layout = params.layout()
    n_passes = N_PASSES if sets is None else 1
    sets = np.zeros(layout.n_contexts, np.uint8) if sets is None else sets
    rows_factor = rows.factor[0] if len(rows.factor[0]) > 1 else None
    for _ in range(n_passes):
        status, indices, _ = _kernels.round_with_feedback(
            layout, weights, columns.factor, columns.weight, rows_factor, rows.weight[0],
            1 / step, lambda_rd / step**2, sets, portable,
        )  # fmt: skip
        require_status(status)
        empty = _kernels.empty_rows(layout, indices)[1] if layout.has_row_skip_flag else None
        record = _kernels.record_bins(layout, indices, empty, 1, portable)
        require_status(record.status)
        sets = record.sets
    values = levels_of(indices, params).astype(np.float32) * np.float32(step)
    return RoundedTensor(indices, values, _code_length_bits(record, layout), sets)


def _code_length_bits(record: _kernels.BinRecord, layout: _kernels.Layout) -> float:
    sets = record.sets
    values = np.take_along_axis(record.cost_bits, sets[:, None].astype(np.intp), 1).sum()
    return float(values) + float(record.n_bypass) + SET_BITS * np.count_nonzero(sets)


def _check(
    weights: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float,
    columns: Feedback,
    rows: Feedback,
) -> None:
    problem = params.problem()
    if problem or params.codebook_size is not None or params.parent_present or params.is_block_scan:
        raise InputError(problem or "rounding with feedback: no codebook, update or block scan is possible")
    n_rows, n_columns = params.shape
    n_groups = group_count(columns.factor, n_columns)
    if weights.shape != params.shape or weights.dtype != np.float32 or not weights.flags.c_contiguous:
        raise ShapeError(f"weights: {weights.dtype} {weights.shape} for a float32 tensor of {n_rows} x {n_columns}")
    if columns.factor.shape[1:-1] != columns.factor.shape[-1:] or n_groups < 1 or n_rows % n_groups:
        raise ShapeError(f"feedback along rows of shape {columns.factor.shape} for {n_rows} x {n_columns} weights")
    if rows.factor.shape != (1, n_rows, n_rows):
        raise ShapeError(f"feedback across rows of shape {rows.factor.shape} for {n_rows} x {n_columns} weights")
    if not 2.0**-126 <= step <= 2.0**126:
        raise InputError(f"step {step}: 2**-126 to 2**126 is possible")
    if not (math.isfinite(lambda_rd) and lambda_rd >= 0):
        raise InputError(f"lambda {lambda_rd}: zero or more is possible")
    largest = float(np.abs(weights).max())
    if not largest <= MAX_WEIGHED_STEPS * step:
        raise InputError(f"weight {largest} at step {step}: NaN, or too many steps")


# Tensors of up to so many values are searched so often, and the best result is taken.
MAX_TRIAL_VALUES, N_TRIALS = 1 << 16, 3


@dataclass(frozen=True, slots=True, eq=False)
class PathCost:
    """Indices of a search by paths.

    Attributes:
        indices: k, int32, (n_rows, n_columns).
        cost: Squared error in steps plus weighted bits, as the path itself counted them.
    """

    indices: NDArray[np.int32]
    cost: float


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """A search's result, what its coded bytes cost, and the estimators that they have."""

    indices: NDArray[np.int32]
    cost: float
    sets: NDArray[np.uint8]


def quantize_thoroughly(
    values: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float,
    *,
    estimator_sets: NDArray[np.uint8] | None = None,
    portable: bool = False,
) -> QuantizedTensor:
    """The indices of a tensor by dependent quantisation.

    Up to MAX_TRIAL_VALUES there are several searches, and the result never costs more than that of the fast search,
    bits being those of the coded bytes.

    Args:
        values: float32, n_rows * n_columns finite numbers in any shape.
        params: With dq_flag, without a codebook, a base or a history.
        step: Quantisation step above zero.
        lambda_rd: Weight of the bits, above 0.
        estimator_sets: Those that the encoder has to take, uint8, one per context; None: it is free.
        portable: Use no instruction set extension. The indices are the same.

    Raises:
        InputError: If a value is not finite or too large for the step, or an argument is out of range.
        ShapeError: If there are not n_rows * n_columns values.
    """
    weights = checked_weights(values, params, step)
    if not params.dq_flag or params.temporal is not None or params.history is not None:
        raise InputError("the thorough search: must have dependent quantisation and a tensor without a base")
    if not (math.isfinite(lambda_rd) and lambda_rd > 0):
        raise InputError(f"lambda_rd {lambda_rd}: the thorough search needs a number above 0")
    rows = rows_to_skip(weights, params, step)
    weight = lambda_rd * DEPENDENT_BIT_WEIGHT
    status, fast, _ = _kernels.quantise(params.layout(), weights, 1 / step, weight, None, rows, portable)
    require_status(status)
    search = _Search(weights, params, step, lambda_rd, rows, portable)
    if weights.size > MAX_TRIAL_VALUES:
        sets = search.estimators(fast) if estimator_sets is None else estimator_sets
        return QuantizedTensor(search.by_paths(sets), rows)
    trials = search.trials(fast, estimator_sets)
    return QuantizedTensor(min(trials, key=lambda trial: trial.cost).indices, rows)


def search_by_paths(
    weights: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float,
    rows: NDArray[np.uint8] | None,
    sets: NDArray[np.uint8],
    *,
    portable: bool = False,
) -> PathCost:
    """One search; unchecked.

    Args:
        weights: float32, (n_rows, n_columns), contiguous.
        params: As for `quantize_thoroughly`.
        step: Quantisation step.
        lambda_rd: Weight of the bits.
        rows: Those that are to be skipped, uint8; None: no row.
        sets: Estimator set of each context, uint8.
        portable: Use no instruction set extension.
    """
    weight = lambda_rd * DEPENDENT_BIT_WEIGHT
    status, indices, cost = _kernels.quantise_by_paths(params.layout(), weights, 1 / step, weight, rows, sets, portable)
    require_status(status)
    return PathCost(indices, cost)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What all searches of a tensor have in common."""

    weights: NDArray[np.float32]
    params: TensorParams
    step: float
    lambda_rd: float
    rows: NDArray[np.uint8] | None
    portable: bool

    def by_paths(self, sets: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Indices by the thorough search with given estimators."""
        found = search_by_paths(
            self.weights, self.params, self.step, self.lambda_rd, self.rows, sets, portable=self.portable
        )
        return found.indices

    def estimators(self, indices: NDArray[np.int32]) -> NDArray[np.uint8]:
        """The sets that suit the bins of indices best."""
        record = _kernels.record_bins(self.params.layout(), indices, self.rows, 1, self.portable)
        require_status(record.status)
        return record.sets

    def trials(self, fast: NDArray[np.int32], fixed_sets: NDArray[np.uint8] | None) -> Iterator[_Trial]:
        """The fast search's result, then those by paths, each with the estimators that suited the one before."""
        trial = self._weighed(fast, fixed_sets)
        yield trial
        for _ in range(N_TRIALS if fixed_sets is None else 1):
            trial = self._weighed(self.by_paths(trial.sets), fixed_sets)
            yield trial

    def _weighed(self, indices: NDArray[np.int32], fixed_sets: NDArray[np.uint8] | None) -> _Trial:
        choices = TensorChoices(skipped_rows=self.rows, estimator_sets=fixed_sets)
        coded = encode_payload([TensorInput(self.params, indices, choices)], portable=self.portable)
        misses = self.weights / np.float64(self.step) - levels_of(indices, self.params, self.rows)
        cost = float(np.square(misses).sum()) + self.lambda_rd * DEPENDENT_BIT_WEIGHT * 8 * len(coded.data)
        sets = coded.choices[0].estimator_sets
        assert sets is not None
        return _Trial(indices, cost, sets)
