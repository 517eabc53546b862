"""From weights to the indices that are coded: rounding, or the search that weighs distortion against bits.

With dependent quantisation two scalar quantisers of double step take turns, steered by the parity of the indices; the
search finds the best path through the eight states (Viterbi). In both cases the cost of a value is

    (weight / step - level)**2 + lambda_rd * c * bits        c = ln 2 / 6, dependent: 0.7 * 4 * ln 2 / 6

with bits from a model that follows the contexts of the tensor itself. Without bits, the search of dependent
quantisation can weigh sums of errors beside: see `SumWeights`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.number_formats import extremes
from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.kernels.tensor_params import TensorParams, require_status

BIT_WEIGHT = math.log(2) / 6
DEPENDENT_BIT_WEIGHT = 0.7 * 4 * BIT_WEIGHT
# Largest weight in steps.
MAX_UNIFORM_STEPS = (1 << 31) - 256
MAX_DEPENDENT_STEPS = (1 << 30) - 16
# With a rate term, a row of a block scan that holds nothing beyond this many steps is left out.
SMALL_ROW_STEPS = 0.5
# The kernels square errors in float32, where they vanish below 2**-63 steps: a mean squared error below the first, in
# squared steps, may be too small. Only values below the second, in steps, have such errors.
SURE_SQUARE, VANISHING_STEPS = 2.0**-100, 2.0**-40


# What the squared sum of the errors of a kernel, and of a row, is worth beside squared errors. The first costs 0.4 dB
# of those and takes 6 dB from the sums of 3 x 3 kernels, the second 0.1 dB and takes 18 dB. Outputs of 28 networks had
# 0.7 dB more in the mean with 0.5 and 0.02.
KERNEL_SUM_WEIGHT, ROW_SUM_WEIGHT = 0.4, 0.05
# The first axis of recurrent matrices is that of the directions, of which there are no more.
MAX_DIRECTIONS = 2


@dataclass(frozen=True, slots=True)
class SumWeights:
    """What sums of errors are worth: inputs of layers are smooth and mostly of one sign, so that sums weigh most.

    Attributes:
        n_taps: Values of a kernel, of which rows have whole ones.
        kernel: Weight of the squared sum of the errors of a kernel, in squared steps as errors are.
        row: That of a row, or of the part of it that a block has.
    """

    n_taps: int
    kernel: float
    row: float


def sum_weights_of(shape: tuple[int, ...]) -> SumWeights | None:
    """What sums of errors are worth in a tensor of a shape; None of a vector, which nothing sums over."""
    if len(shape) < 2:
        return None
    if len(shape) == 3 and shape[0] <= MAX_DIRECTIONS:
        return SumWeights(shape[2], ROW_SUM_WEIGHT, 0.0)
    n_taps = math.prod(shape[2:])
    return SumWeights(n_taps, KERNEL_SUM_WEIGHT if n_taps > 1 else 0.0, ROW_SUM_WEIGHT)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """Indices of a tensor.

    Attributes:
        indices: k, int32, (n_rows, n_columns).
        skipped_rows: The rows that must be coded as skipped, uint8; None: no row must.
        row_errors: Sum of squared errors of each row, in squared steps, float64, n_rows; None: not known.
    """

    indices: NDArray[np.int32]
    skipped_rows: NDArray[np.uint8] | None
    row_errors: NDArray[np.float64] | None = None


def quantize_indices(
    values: NDArray[np.float32],
    params: TensorParams,
    step: float,
    lambda_rd: float = 0.0,
    *,
    sum_weights: SumWeights | None = None,
    portable: bool = False,
) -> QuantizedTensor:
    """The indices of a tensor by uniform or, with params.dq_flag, dependent quantisation.

    Args:
        values: float32, n_rows * n_columns finite numbers in any shape.
        params: Without a codebook.
        step: Quantisation step above zero.
        lambda_rd: Weight of the bits; 0: least distortion (uniform: rounding, halves away from zero).
        sum_weights: What sums of errors are worth, without a weight of the bits and with dependent quantisation; None:
            nothing.
        portable: Use no instruction set extension. The indices are the same.

    Raises:
        InputError: If a value is not finite or too large for the step, or an argument is out of range.
        ShapeError: If there are not n_rows * n_columns values.
    """
    weights = checked_weights(values, params, step)
    if not (math.isfinite(lambda_rd) and lambda_rd >= 0):
        raise InputError(f"lambda_rd {lambda_rd}: zero or more is possible")
    if sum_weights is not None and (lambda_rd or not params.dq_flag or params.n_columns % sum_weights.n_taps):
        raise InputError("sums of errors: must be those of whole kernels, with dependent quantisation and lambda_rd 0")
    layout = params.layout()
    rows = rows_to_skip(weights, params, step if lambda_rd else 0.0)
    weight = lambda_rd * (DEPENDENT_BIT_WEIGHT if params.dq_flag else BIT_WEIGHT)
    sums = (sum_weights.n_taps, sum_weights.kernel, sum_weights.row) if sum_weights else None
    status, indices, errors = _kernels.quantise(layout, weights, 1 / step, weight, sums, rows, portable)
    require_status(status)
    return QuantizedTensor(indices, rows, errors)


def levels_of(
    indices: NDArray[np.int32], params: TensorParams, skipped_rows: NDArray[np.uint8] | None = None
) -> NDArray[np.int32]:
    """What multiplies the step, int32, (n_rows, n_columns): the indices themselves without dependent quantisation."""
    if indices.size != params.n_values:
        raise ShapeError(f"indices of shape {indices.shape} for a tensor of {params.n_rows} x {params.n_columns}")
    k = np.ascontiguousarray(indices, dtype=np.int32).reshape(params.shape)
    return _kernels.to_levels(params.layout(), k, skipped_rows) if params.dq_flag else k


def row_errors(
    values: NDArray[np.float32],
    quantized: QuantizedTensor,
    params: TensorParams,
    step: float,
    limit: float = math.inf,
) -> NDArray[np.float64]:
    """The sum of squared errors of each row, float64, n_rows: of the values that a decoder gets.

    Args:
        values: float32, n_rows * n_columns numbers in any shape: those that were quantised, unless its own errors are
            not known.
        quantized: Their indices.
        params: Without a codebook.
        step: Quantisation step.
        limit: Only values below it count.
    """
    weights = np.ascontiguousarray(values).reshape(params.shape)
    errors = quantized.row_errors
    if errors is None or limit < math.inf:
        rows = quantized.skipped_rows
        errors = _kernels.row_errors(params.layout(), weights, quantized.indices, rows, step, limit)
    found = errors * step**2
    unsure = np.flatnonzero(errors < SURE_SQUARE * params.n_columns)
    if unsure.size:
        sizes = np.abs(weights[unsure])
        vanished = np.where(sizes < min(limit, VANISHING_STEPS * step), sizes, np.float32(0))
        found[unsure] = np.einsum("ij,ij->i", vanished, vanished, dtype=np.float64)
    return found


def rows_to_skip(weights: NDArray[np.float32], params: TensorParams, step: float) -> NDArray[np.uint8] | None:
    """The rows that a block scan with dependent quantisation leaves out, uint8; None: no row, or not for it to say.

    Args:
        weights: Of the tensor, as `checked_weights` gives them.
        params: Of the tensor.
        step: Quantisation step; 0: leave out what is zero only.
    """
    if not (params.dq_flag and params.is_block_scan):
        return None
    layout = params.layout()
    if not layout.has_row_skip_flag:
        return None
    n_small, small = _kernels.small_rows(layout, weights, SMALL_ROW_STEPS * step)
    return small if n_small else None


def checked_weights(values: NDArray[np.float32], params: TensorParams, step: float) -> NDArray[np.float32]:
    """The values in the tensor's shape, contiguous.

    Raises:
        InputError, ShapeError: As `quantize_indices` does.
    """
    problem = params.problem()
    if problem or params.codebook_size is not None:
        raise InputError(problem or "weights are not quantised to a codebook here")
    if values.dtype != np.float32:
        raise InputError(f"weights must be float32, got {values.dtype}")
    if values.size != params.n_values:
        raise ShapeError(f"weights of shape {values.shape} for a tensor of {params.n_rows} x {params.n_columns}")
    if not 2.0**-126 <= step <= 2.0**126:
        raise InputError(f"step {step}: 2**-126 to 2**126 is possible")
    least, most = extremes(values)
    largest = max(float(most), -float(least))
    if not math.isfinite(largest):
        raise InputError("a weight is NaN or infinite")
    if largest / step > (MAX_DEPENDENT_STEPS if params.dq_flag else MAX_UNIFORM_STEPS):
        raise InputError(f"weight {largest} at step {step}: too many steps, raise the QP")
    return np.ascontiguousarray(values).reshape(params.shape)


SAMPLE_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class LowRate:
    """The rate term of a search.

    Args:
        max_steps: Mean absolute value in steps from which on no bits are weighed: hardly any are to be won.
        lambda_rd: Weight of the bits below.
    """

    max_steps: float
    lambda_rd: float

    def lambda_of(self, values: NDArray[np.float32], step: float) -> float:
        """The weight of the rate for a tensor.

        Args:
            values: Its values, any shape, at least one.
            step: Quantisation step.
        """
        flat = values.reshape(-1)
        sample = flat[:: max(1, flat.size // SAMPLE_SIZE)]
        mean_steps = float(np.add.reduce(np.abs(sample), dtype=np.float64)) / sample.size / step  # as `mean`, faster
        return 0.0 if mean_steps >= self.max_steps else self.lambda_rd


# Up to about 2 bits per value, where 3 % of the bytes are saved at 1.9 bits, 4.5 % at 1.5 and 7.7 % at 1, at equal
# squared error. With a larger weight these searches drift to too many zeros.
FAST, UNIFORM = LowRate(1.1, 0.75), LowRate(0.68, 1.0)
# Up to about 3 bits, where 1.3 % is saved (Laplacian weights).
THOROUGH = LowRate(2.7, 0.9)
