"""The quantisation step of a float tensor by the rule of its role."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size
from vvc_nnr.model.roles import Rule


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


def with_signs(indices: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Indices of a uniform quantiser where no value but zero has become zero: those are one step away from it."""
    flat = values.reshape(indices.shape)
    lost = (indices == 0) & (flat != 0)
    return np.where(lost, np.sign(flat).astype(np.int32), indices) if lost.any() else indices
