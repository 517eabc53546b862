"""Dependent quantisation whose search knows what every bin will cost: each path has its own contexts.

The fast search (`quantize_indices`) shares one model of the rate among its eight paths. Here each of them carries all
adaptive contexts as the coder will have them at its end, so the rate in

    (weight / step - level)**2 + lambda_rd * 0.7 * 4 * ln 2 / 6 * bits

is that of the bins themselves. Contexts begin with estimators that an encoder chooses by the bins, which are not there
yet; they are chosen by the bins of earlier searches, of a part of the tensor if it is large.

Source: the search is Viterbi's with per-survivor processing, R. Raheli, A. Polydoros and C.-K. Tzou, IEEE Transactions
on Communications 43(2/3/4), 1995; the rate of dependent quantisation as of H. Schwarz et al., Data Compression
Conference, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError
from vvc_nnr.kernel_status import require_status
from vvc_nnr.quantize.indices import DEPENDENT_BIT_WEIGHT, QuantizedTensor, checked_weights, levels_of, rows_to_skip
from vvc_nnr.tensor_coding import TensorInput, encode_payload
from vvc_nnr.tensor_params import TensorChoices, TensorParams

# Values of the part of a large tensor that estimators are chosen by.
PILOT_VALUES = 1 << 16
# The first search begins with a set of slow estimators for all contexts, which leaves it less to chance than the sets
# that suit the fast search.
START_SET = 4
# Searches of a part, and of a tensor that is small.
N_PILOT_SEARCHES, N_TRIALS = 2, 3


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
    """The indices of a tensor by dependent quantisation, in two to three times the time of the fast search.

    Tensors of up to PILOT_VALUES are searched several times (which takes about ten times as long), and the result costs
    never more than that of the fast search, bits being those of the coded bytes.

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
        raise InputError("the thorough search: dependent quantisation of a tensor without a base is wanted")
    if not (math.isfinite(lambda_rd) and lambda_rd > 0):
        raise InputError(f"lambda_rd {lambda_rd}: the thorough search needs a number above 0")
    rows = rows_to_skip(weights, params, step)
    search = _Search(params, step, lambda_rd, rows, portable)
    if weights.size <= PILOT_VALUES:
        trials = _trials(search, weights, estimator_sets)
        return QuantizedTensor(min(trials, key=lambda trial: trial.cost).indices, rows)
    sets = _pilot_sets(search, weights) if estimator_sets is None else estimator_sets
    return QuantizedTensor(search.by_paths(weights, sets).indices, rows)


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
    """What all searches of a tensor, or of a part of it, have in common."""

    params: TensorParams
    step: float
    lambda_rd: float
    rows: NDArray[np.uint8] | None
    portable: bool

    @property
    def start_sets(self) -> NDArray[np.uint8]:
        """Estimators of a first search."""
        return np.full(self.params.layout().n_contexts, START_SET, np.uint8)

    def by_paths(self, weights: NDArray[np.float32], sets: NDArray[np.uint8]) -> PathCost:
        """The thorough search with the given estimators."""
        return search_by_paths(
            weights, self.params, self.step, self.lambda_rd, self.rows, sets, portable=self.portable
        )  # fmt: skip

    def part(self, n_rows: int, n_columns: int) -> _Search:
        """The same for the upper left part of the tensor."""
        params = replace(self.params, n_rows=n_rows, n_columns=n_columns)
        return replace(self, params=params, rows=None if self.rows is None else self.rows[:n_rows])


def _pilot_sets(search: _Search, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The estimators that suit the upper left part of a tensor best."""
    n_columns = min(search.params.n_columns, PILOT_VALUES)
    pilot = np.ascontiguousarray(weights[: -(-PILOT_VALUES // n_columns), :n_columns])
    part = search.part(*pilot.shape)
    sets = part.start_sets
    for _ in range(N_PILOT_SEARCHES):
        indices = part.by_paths(pilot, sets).indices
        record = _kernels.record_bins(part.params.layout(), indices, part.rows, 1, part.portable)
        require_status(record.status)
        sets = record.cost_bits.argmin(axis=1).astype(np.uint8)
    return sets


def _trials(search: _Search, weights: NDArray[np.float32], fixed_sets: NDArray[np.uint8] | None) -> Iterator[_Trial]:
    """The fast search, then searches by paths, each but the first with the estimators that suited the one before."""
    params, step = search.params, search.step
    weight = search.lambda_rd * DEPENDENT_BIT_WEIGHT

    def priced(indices: NDArray[np.int32]) -> _Trial:
        choices = TensorChoices(skipped_rows=search.rows, estimator_sets=fixed_sets)
        coded = encode_payload([TensorInput(params, indices, choices)], portable=search.portable)
        misses = weights / np.float64(step) - levels_of(indices, params, search.rows)
        sets = coded.choices[0].estimator_sets
        assert sets is not None
        return _Trial(indices, float(np.square(misses).sum()) + weight * 8 * len(coded.data), sets)

    status, indices = _kernels.quantise(params.layout(), weights, 1 / step, weight, search.rows, search.portable)
    require_status(status)
    yield priced(indices)
    sets = search.start_sets if fixed_sets is None else fixed_sets
    for _ in range(N_TRIALS if fixed_sets is None else 1):
        trial = priced(search.by_paths(weights, sets).indices)
        sets = trial.sets
        yield trial
