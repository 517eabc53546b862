"""How a float tensor is quantised: its step by option, role or its own values, and whether a grid gives it exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.number_formats import (
    extremes,
)
from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import spread_of
from vvc_nnr.roles.by_name import COARSE_LEVEL
from vvc_nnr.roles.roles import Rule


def qp_of_values(values: NDArray[np.float32], rule: Rule, qp_density: int) -> int | None:
    """The largest QP whose step is as fine as the rule asks; None if no step is, or all values are zero.

    Args:
        values: float32, finite.
        rule: One with a step of "values".
        qp_density: QP steps per octave as a power of two.
    """
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return None
    step = max(rule.of_smallest * float(sizes.min()), rule.of_largest * float(sizes.max()))
    low = qp_limits(qp_density)[0]
    if step < step_size(low, qp_density) or math.isinf(step):
        return None
    qp = qp_of_step(step, qp_density)
    return qp - 1 if step_size(qp, qp_density) > step else qp


def qp_of_slices(values: NDArray[np.float32], share: float, qp_density: int) -> int | None:
    """The largest QP whose step is no more than a share of the peak of any slice along the first two axes.

    Args:
        values: float32, finite.
        share: Of the least peak that is not zero.
        qp_density: QP steps per octave as a power of two.

    Returns:
        The largest QP of all if all values are zero; None if no step is that fine.
    """
    low, high = qp_limits(qp_density)
    sizes = np.abs(values)
    peaks = [sizes.max(axis=tuple(a for a in range(values.ndim) if a != axis)) for axis in range(min(2, values.ndim))]
    found = np.concatenate([np.ravel(each) for each in peaks] or [np.ravel(sizes)])
    found = found[found > 0]
    if not found.size:
        return high
    step = share * float(found.min())
    if step < step_size(low, qp_density):
        return None
    qp = min(qp_of_step(step, qp_density), high)
    return qp - 1 if step_size(qp, qp_density) > step else qp


def with_signs(indices: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Indices of a uniform quantiser where no value but zero has become zero: those are one step away from it."""
    flat = values.reshape(indices.shape)
    lost = (indices == 0) & (flat != 0)
    return np.where(lost, np.sign(flat).astype(np.int32), indices) if lost.any() else indices


# Largest level of an exact tensor, and of one on a coarse grid.
MAX_LEVEL = 1 << 30


def exact_qp(values: NDArray[np.float32], qp_density: int, max_level: int = MAX_LEVEL) -> int | None:
    """The QP of the coarsest power of two of which all values are whole multiples; None if there is none.

    Args:
        values: float32, C order; NaN, infinity and negative zero have no level.
        qp_density: QP steps per octave as a power of two.
        max_level: Largest multiple.
    """
    low, high = (limit >> qp_density for limit in qp_limits(qp_density))
    exponent = _kernels.grid_exponent(values)
    if exponent is None or exponent < low:
        return None
    exponent = min(exponent, high)
    is_small = float(np.abs(values).max(initial=0)) <= max_level * 2.0**exponent
    return exponent << qp_density if is_small else None


def on_finest_grid(values: NDArray[np.float32], qp_density: int) -> tuple[NDArray[np.float32], float]:
    """The nearest values of the finest step, a power of two, whose levels reach all of them; and that step.

    Args:
        values: float32, finite.
        qp_density: QP steps per octave as a power of two.
    """
    low = qp_limits(qp_density)[0] >> qp_density
    exponent = max(low, math.frexp(float(np.abs(values).max(initial=0)))[1] - MAX_LEVEL.bit_length() + 1)
    levels = np.rint(np.ldexp(values.astype(np.float64), -exponent))
    return np.ldexp(levels, exponent).astype(np.float32), 2.0**exponent


# Larger multiples of the step are not coded: the QP is raised, unless that would leave ordinary values less than so
# many dB, as beside the huge one of a mask.
MAX_STEPS, RAISED_DB = 2.0**30 - 64, 60.0
PERCENTILE = 99.95
MIN_VECTOR_BITDEPTH = 8


@dataclass(frozen=True, slots=True)
class Quantiser:
    """How a float tensor is quantised.

    Args:
        qp: Of the step.
        use_dq: Dependent or uniform.
        max_level: The largest level, None if it is not limited.
        keeps_sign: Only zero becomes zero; uniform only.
        by_role: The step follows from the tensor's role, not from an option: no codebook, no weight of the rate.
        weighs_sums: Sums of errors count beside squared errors.
    """

    qp: int
    use_dq: bool
    max_level: int | None = None
    keeps_sign: bool = False
    by_role: bool = False
    weighs_sums: bool = False


def choose_quantiser(
    name: str,
    values: NDArray[np.float32],
    options: CompressOptions,
    rule: Rule | None = None,
    own_qp: int | None = None,
) -> Quantiser | None:
    """How a float tensor is quantised; None if no step will do for its values.

    Args:
        name: Its name.
        values: Its values.
        options: QPs by name come first.
        rule: What it may lose; None: what its number of dimensions says.
        own_qp: The QP that follows from its spread, before those of the options for all tensors.
    """
    low, high = extremes(values)
    largest = max(-float(low), float(high))
    if largest > MAX_STEPS * step_size(qp_limits(options.qp_density)[1], options.qp_density):
        return None
    is_named = name in options.qp_per_tensor
    if rule is not None and rule.step != "qp" and not is_named:
        by_values = _quantiser_of_values(values, rule, options.qp_density)
        if by_values is not None or rule.step == "values":
            return by_values
    fine = qp_limits(options.qp_density)[1]
    if rule is not None and rule.of_smallest_slice:
        found = qp_of_slices(values, rule.of_smallest_slice, options.qp_density)
        if found is None:
            return None
        fine = found
    if options.bitdepth is not None and not is_named:
        by_bitdepth = _quantiser_of_bitdepth(values, options.bitdepth, options.qp_density)
        return by_bitdepth if by_bitdepth.qp <= fine else Quantiser(fine, use_dq=False)
    is_weight = values.ndim > 1 if rule is None else rule.step == "qp"
    qp = options.qp_of(name, 2 if is_weight else 1) if own_qp is None or is_named else own_qp
    if rule is not None and rule.qp_offset and not is_named:
        low_qp, high_qp = qp_limits(options.qp_density)
        qp = min(max(qp + rule.qp_offset, low_qp), high_qp)
    qp = min(qp, fine)
    if largest > MAX_STEPS * step_size(qp, options.qp_density):
        qp = qp_of_step(largest / MAX_STEPS, options.qp_density)
        spread = spread_of(values)
        if spread is None or spread.snr_at(step_size(qp, options.qp_density)) < RAISED_DB:
            return None
    keeps_sign = rule is not None and rule.keeps_sign
    use_dq = options.use_dq and not keeps_sign
    by_spread = own_qp is not None and not is_named
    return Quantiser(qp, use_dq, keeps_sign=keeps_sign, weighs_sums=use_dq and is_weight and by_spread)


def _quantiser_of_values(values: NDArray[np.float32], rule: Rule, qp_density: int) -> Quantiser | None:
    """The quantiser that a tensor's own values ask for; None if there is none, or options are to say."""
    if not values.any() and rule.step != "values":
        return None
    qp = exact_qp(values, qp_density, COARSE_LEVEL)
    if qp is None and rule.step == "values":
        qp = qp_of_values(values, rule, qp_density)
    if qp is None or float(np.abs(values).max()) > MAX_STEPS * step_size(qp, qp_density):
        return None
    return Quantiser(qp, use_dq=False, keeps_sign=rule.keeps_sign, by_role=True)


def _quantiser_of_bitdepth(values: NDArray[np.float32], bitdepth: int, qp_density: int) -> Quantiser:
    bits = bitdepth if values.ndim > 1 else max(bitdepth, MIN_VECTOR_BITDEPTH)
    has_negatives = bool(extremes(values)[0] < 0)
    max_level = (1 << (bits - 1)) - 1 if has_negatives else (1 << bits) - 1
    sizes = np.abs(values).reshape(-1)
    rank = math.ceil(PERCENTILE / 100 * (sizes.size - 1))
    wide = float(np.partition(sizes, rank)[rank]) or float(sizes.max())
    qp = qp_of_step(wide / max_level, qp_density) if wide > 0 else qp_limits(qp_density)[0]
    return Quantiser(qp, False, max_level)


def size_offsets(sizes: Mapping[str, int], qp_density: int) -> dict[str, int]:
    """What to add to the QP of each weight tensor; its mean over all weights is zero but for rounding.

    Args:
        sizes: Name to number of weights.
        qp_density: QP steps per octave as a power of two.
    """
    present = {name: size for name, size in sizes.items() if size}
    total = sum(present.values())
    mean = sum(size * math.log2(size) for size in present.values()) / total if total else 0.0
    return {name: round((math.log2(size) - mean) / 2 * (1 << qp_density)) for name, size in present.items()}
