"""How many bits each tensor gets, and what came of it: the file, its loss, the step of each tensor and why.

Each tensor has the step at which error and bits together cost least, at one lambda for all.

At one lambda the last bit buys as much in every tensor, which is what makes the whole file smallest for its error. The
lambda itself is found by trying: the real size of the file and the real error of the pictures decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import NamedArrays, shape_of
from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size
from vvc_nnr.calibrate.codec_loss import RateDistortionLoss
from vvc_nnr.coding.local_scaling import LocalScaling
from vvc_nnr.coding.tensor_job import EncodedTensor
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.rate_distortion import (
    MAX_WEIGHED_STEPS,
    RoundedTensor,
    damped,
    error_cost,
    feedback_of,
    group_count,
    round_tensor,
)

# Squared step over lambda and weight of an error: where the search for the QP begins. Of vectors, which are few
# and not searched, half of it.
STEP_RATIO = 6.5
VECTOR_STEP_RATIO = 3.0
MAX_QP_MOVES = 6
# Matrices of so many values take over the estimators of a step near theirs, which halves the time; to smaller ones
# each step's own are worth more.
MIN_KNOWN_SETS = 1 << 14
Method: TypeAlias = Literal["calibrated", "plain"]
# What single levels pay of lambda. They are chosen one after another, and each saving makes later ones pay for its
# error; where weights make up for each other a lot, less than the whole lambda saves more.
LAMBDA_SHARES = (0.6, 0.3, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class AllocatedTensor:
    """A matrix with its QP.

    Attributes:
        qp: Its QP.
        rounded: Its levels.
        error: What they add to the squared error per value of the output, by the quadratic forms.
        sensitivity: What a weight's squared error of 1 adds if all that can be made up for is.
        scaling: Scales of its rows; None: it has none.
        scaling_bits: What these take.
    """

    qp: int
    rounded: RoundedTensor
    error: float
    sensitivity: float
    scaling: LocalScaling | None = None
    scaling_bits: int = 0

    def cost(self, lambda_rd: float) -> float:
        """Error and bits together."""
        return self.error + lambda_rd * (self.rounded.bits + self.scaling_bits)


def allocate(
    weights: NDArray[np.float64],
    params: TensorParams,
    lambda_rd: float,
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    qp_density: int,
    used: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    start_qp: int | None = None,
) -> AllocatedTensor:
    """The levels of a matrix at the QP that costs least.

    Args:
        weights: (n_rows, n_columns), finite.
        params: As for `round_tensor`.
        lambda_rd: In squared error per value of the output; above zero.
        columns: Damped second moments of the inputs, as for `error_cost`.
        rows: Damped second moment of the outputs' gradients, (n_rows, n_rows).
        qp_density: QP steps per octave as a power of two.
        used: What a layer that rounds its weights makes of them, by powers of two; None: it does not. Steps that are
            powers of two are then tried first.
        start_qp: Where to begin, as where another lambda tells it; None: where the moments do.
    """
    along = feedback_of(columns)
    across = feedback_of(_within_groups(rows, group_count(columns, weights.shape[1]))[None])
    sensitivity = along.mean_weight * across.mean_weight
    values = np.ascontiguousarray(weights, np.float32)
    coarse = qp_limits(qp_density)[1]
    fine = qp_of_step(max(float(np.abs(values).max()), 2.0**-31) / (MAX_WEIGHED_STEPS / 2), qp_density)
    tried: dict[int, AllocatedTensor] = {}

    def candidate(qp: int, share: float) -> AllocatedTensor:
        is_known = tried and values.size >= MIN_KNOWN_SETS
        near = tried[min(tried, key=lambda other: abs(other - qp))].rounded.sets if is_known else None
        rounded = round_tensor(values, params, step_size(qp, qp_density), share * lambda_rd, along, across, sets=near)
        values_used = rounded.values if used is None else used(rounded.values)
        return AllocatedTensor(qp, rounded, error_cost(values_used - weights, columns, rows), sensitivity)

    def cost(qp: int) -> float:
        if qp not in tried:
            tried[qp] = candidate(qp, 1.0)
        return tried[qp].cost(lambda_rd)

    # Where the scales of inputs or outputs differ widely, the two means do, and the cost has a minimum near either.
    usual = (sensitivity, along.log_mean_weight * across.log_mean_weight)
    starts = {qp_of_step(math.sqrt(STEP_RATIO * lambda_rd / weight), qp_density) for weight in usual}
    starts = starts if start_qp is None else {start_qp}
    if used is not None:
        octave = 1 << qp_density
        low, high = -(-fine // octave), coarse // octave
        found = {min(max(round(start / octave), low), high) for start in starts}
        starts = {octave * descend(lambda at: cost(octave * at), start, low, high) for start in found}
    ends = {descend(cost, min(max(start, fine), coarse), fine, coarse) for start in starts}
    best = tried[min(ends, key=cost)]
    for share in LAMBDA_SHARES:
        other = candidate(best.qp, share)
        if other.cost(lambda_rd) >= best.cost(lambda_rd):
            break
        best = other
    return best


def vector_qp(values: NDArray[np.float64], lambda_rd: float, sensitivity: float, qp_density: int) -> int:
    """The QP of a bias, whose errors cost `sensitivity` each."""
    fine = qp_of_step(max(float(np.abs(values).max()), 2.0**-31) / (MAX_WEIGHED_STEPS / 2), qp_density)
    return max(qp_of_step(math.sqrt(VECTOR_STEP_RATIO * lambda_rd / sensitivity), qp_density), fine)


def descend(cost: Callable[[int], float], start: int, low: int, high: int) -> int:
    """Where a function of integers has a minimum, downhill from `start` in at most MAX_QP_MOVES steps."""
    at = start
    for direction in (1, -1):
        for _ in range(MAX_QP_MOVES):
            to = at + direction
            if not low <= to <= high or cost(to) >= cost(at):
                break
            at = to
        if at != start:
            break
    cost(at)
    return at


def _within_groups(rows: NDArray[np.float64], n_groups: int) -> NDArray[np.float64]:
    """The moment without what lies between rows of two groups, whose inputs differ."""
    n = len(rows)
    group = np.arange(n) * n_groups // n
    inside: NDArray[np.float64] = rows * (group[:, None] == group[None, :])
    return inside


def damped_rows(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """A second moment (n_rows, n_rows), damped."""
    found: NDArray[np.float64] = damped(moment[None])[0]
    return found


@dataclass(frozen=True, slots=True)
class TensorAllocation:
    """What a tensor got, and why.

    Attributes:
        name: Of the tensor.
        shape: Its shape.
        qp: Its QP, None if it was coded without one.
        step: The step of its QP.
        size_bytes: Of its data units.
        sensitivity: Squared error per output value that one weight's squared error of 1 causes, after feedback; None
            if it was not measured.
        error_share: Its share of the error that all measured tensors cause.
        zero_share: Share of values that are zero.
        is_scaled: Its rows have scales, which other decoders may give apart.
    """

    name: str
    shape: tuple[int, ...]
    qp: int | None
    step: float | None
    size_bytes: int
    sensitivity: float | None
    error_share: float | None
    zero_share: float | None
    is_scaled: bool = False

    @property
    def n_values(self) -> int:
        """How many values it has; at least 1."""
        return max(1, math.prod(self.shape))

    @property
    def sensitivity_db(self) -> float | None:
        """Its sensitivity on a logarithmic scale."""
        return None if self.sensitivity is None else 10 * math.log10(self.sensitivity)


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedNetwork:
    """A network in a file that was made by pictures.

    Attributes:
        data: The file.
        loss_db: Measured loss of PSNR on the pictures held out; below zero: a gain.
        n_held_out: How many these were.
        n_original_bytes: Of all tensors as they were given.
        tensors: What each got.
        n_candidates: Lambdas tried.
        lambda_rd: In squared error per value of the output.
        reference_mse: Squared error that the original network leaves, or is taken to leave.
        codec: Rate and distortion of a codec; its `loss_db` is then the largest of all operating points.
        method: "plain" where a file without calibration was no larger and lost no more.
        calibrated: The best file that was made by pictures, where `method` is "plain"; None where this is it.
        weak_db: Of a file without calibration the SNR of tensors that keep little (`CodedNetwork.weak_db`), but not
            of those that pictures were to decide about.
    """

    data: bytes
    loss_db: float
    n_held_out: int
    n_original_bytes: int
    tensors: tuple[TensorAllocation, ...]
    n_candidates: int
    lambda_rd: float
    reference_mse: float
    method: Method = "calibrated"
    calibrated: CalibratedNetwork | None = None
    codec: RateDistortionLoss | None = None
    weak_db: Mapping[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """What is to be least in files of one size: the loss, of a codec rate and distortion together."""
        return self.loss_db if self.codec is None else self.codec.cost_bpp

    @property
    def scaled(self) -> tuple[str, ...]:
        """The tensors whose rows have scales."""
        return tuple(tensor.name for tensor in self.tensors if tensor.is_scaled)

    @property
    def uncalibrated(self) -> tuple[TensorAllocation, ...]:
        """The matrices whose levels do not follow from what they do to the output, the largest in bytes first."""
        found = [tensor for tensor in self.tensors if tensor.sensitivity is None and len(tensor.shape) > 1]
        return tuple(sorted(found, key=lambda tensor: -tensor.size_bytes))

    @property
    def uncalibrated_share(self) -> float:
        """Their share of the bytes of all tensors."""
        whole = sum(tensor.size_bytes for tensor in self.tensors)
        return sum(tensor.size_bytes for tensor in self.uncalibrated) / whole if whole else 0.0


def allocations(
    arrays: NamedArrays,
    units: Sequence[EncodedTensor],
    coded: Mapping[str, AllocatedTensor],
    biases: Mapping[str, tuple[NDArray[np.float32], int]],
    options: CompressOptions,
) -> tuple[TensorAllocation, ...]:
    """What each tensor got.

    Args:
        arrays: The network.
        units: Its tensors coded, in that order.
        coded: Those whose levels were weighed, by name.
        biases: Values and QPs of the biases that go with them, by name.
        options: What they were coded with.
    """
    whole = sum(tensor.error for tensor in coded.values()) or 1.0
    found = []
    for (name, array), encoded in zip(arrays.items(), units, strict=True):
        size = sum(len(unit.payload) for unit in encoded.units)
        tensor = coded.get(name)
        if tensor is None:
            qp = biases[name][1] if name in biases else None
            step = None if qp is None else step_size(qp, options.qp_density)
            other = TensorAllocation(name, shape_of(array), qp, step, size, None, None, None, encoded.is_scaled)
            found.append(other)
            continue
        zeros = float(np.mean(tensor.rounded.indices == 0))
        step = step_size(tensor.qp, options.qp_density)
        share = tensor.error / whole
        own = (tensor.qp, step, size, tensor.sensitivity, share, zeros, encoded.is_scaled)
        found.append(TensorAllocation(name, shape_of(array), *own))
    return tuple(found)
