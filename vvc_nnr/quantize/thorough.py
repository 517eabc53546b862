"""Dependent quantisation whose search knows what every bin will cost: each path has its own contexts.

The fast search (`quantize_indices`) shares one model of the rate among its eight paths. Here each of them carries all
adaptive contexts as the coder will have them at its end, so the rate in

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

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError
from vvc_nnr.kernels.entropy_coding import TensorInput, encode_payload
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams, require_status
from vvc_nnr.quantize.dependent import DEPENDENT_BIT_WEIGHT, QuantizedTensor, checked_weights, levels_of, rows_to_skip

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
    status, fast = _kernels.quantise(params.layout(), weights, 1 / step, weight, rows, portable)
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
