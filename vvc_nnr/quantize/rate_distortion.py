"""The checked door to rounding by rate and distortion: levels chosen by what they do to the output and what they take.

A level costs  (weighted squared error it causes) + lambda_rd * bits,  with bits from the very states of the
arithmetic coder's contexts, and its error is pushed onto the weights that are not coded yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.kernels.status import require_status
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.quantize.dependent import levels_of
from vvc_nnr.quantize.quadratic_form import Feedback

# Largest weight in steps: float32 still tells a sixteenth of a step.
MAX_STEPS = 1 << 19
# Naming the estimator set of a context: the flag and three bits.
SET_BITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class RoundedTensor:
    """A matrix in levels.

    Attributes:
        indices: k, int32, (n_rows, n_columns).
        values: What a decoder makes of them, float32, (n_rows, n_columns).
        bits: Their code length, without headers.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bits: float


def round_tensor(
    weights: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float,
    columns: Feedback,
    rows: Feedback,
    *,
    n_passes: int = 2,
    portable: bool = False,
) -> RoundedTensor:
    """The levels of a matrix by uniform or, with params.dq_flag, dependent quantisation.

    Args:
        weights: float32, (n_rows, n_columns), finite.
        params: Without a codebook, a parent or a block scan.
        step: Quantisation step above zero.
        lambda_rd: What a bit may cost in terms of the quadratic forms; 0: least error.
        columns: Of the second moments of the inputs; as many groups as divide the rows evenly.
        rows: Of what errors of the outputs cost, one group.
        n_passes: Each pass but the first knows the estimator sets that suit the levels of the one before.
        portable: Use no instruction set extension. The levels are the same.

    Raises:
        InputError: If a weight is not finite or too large for the step, or an argument is out of range.
        ShapeError: If sizes do not fit together.
    """
    _check(weights, params, step, lambda_rd, columns, rows)
    layout = params.layout()
    sets = np.zeros(layout.n_contexts, np.uint8)
    rows_factor = rows.factor[0] if len(rows.factor[0]) > 1 else None
    for _ in range(max(1, n_passes)):
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
    return RoundedTensor(indices, values, _code_length_bits(record, layout))


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
    n_groups = len(columns.factor)
    if weights.shape != params.shape or weights.dtype != np.float32 or not weights.flags.c_contiguous:
        raise ShapeError(f"weights: {weights.dtype} {weights.shape} for a float32 tensor of {n_rows} x {n_columns}")
    if columns.factor.shape != (n_groups, n_columns, n_columns) or n_groups < 1 or n_rows % n_groups:
        raise ShapeError(f"feedback along rows of shape {columns.factor.shape} for {n_rows} x {n_columns} weights")
    if rows.factor.shape != (1, n_rows, n_rows):
        raise ShapeError(f"feedback across rows of shape {rows.factor.shape} for {n_rows} x {n_columns} weights")
    if not 2.0**-126 <= step <= 2.0**126:
        raise InputError(f"step {step}: 2**-126 to 2**126 is possible")
    if not (math.isfinite(lambda_rd) and lambda_rd >= 0):
        raise InputError(f"lambda {lambda_rd}: zero or more is possible")
    largest = float(np.abs(weights).max())
    if not largest <= MAX_STEPS * step:
        raise InputError(f"weight {largest} at step {step}: NaN, or too many steps")
