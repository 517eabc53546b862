"""The quantisation parameter (QP) and the step that it stands for.

    K = 2**qp_density          step = (K + qp mod K) * 2**(floor(qp / K) - qp_density)

so K more is twice the step, and steps run from 2**-32 to almost 2**32 whatever the density.
"""

from __future__ import annotations

import math
from functools import lru_cache

from vvc_nnr.errors import InputError

MAX_QP_DENSITY = 7


def qp_limits(qp_density: int) -> tuple[int, int]:
    """Least and largest QP that the coded field of 6 + qp_density bits can hold."""
    half = 32 << qp_density
    return -half, half - 1


def check_qp(qp: int, qp_density: int, what: str) -> None:
    """Raises InputError, which names `what`, unless the QP is a number that can be coded."""
    low, high = qp_limits(qp_density)
    if isinstance(qp, bool) or not isinstance(qp, int) or not low <= qp <= high:
        raise InputError(f"{what}: {qp!r}; must be a whole number from {low} to {high} (density {qp_density})")


@lru_cache(4096)
def step_size(qp: int, qp_density: int) -> float:
    """The quantisation step of a QP, exact in float32 while qp lies in the limits."""
    k = 1 << qp_density
    return math.ldexp(k + (qp & (k - 1)), (qp >> qp_density) - qp_density)


def qp_at_density(qp: int, qp_density: int) -> int:
    """The QP of another density whose step is that of `qp` at density 2, or the next finer one that there is.

    >>> qp_at_density(-75, 4), step_size(-300, 4) == step_size(-75, 2)
    (-300, True)
    """
    return qp << qp_density - 2 if qp_density >= 2 else qp >> 2 - qp_density


def qp_of_step(step: float, qp_density: int) -> int:
    """The QP within the limits whose step is the nearest that is not below `step`, else the largest QP.

    Args:
        step: Above zero.
        qp_density: QP steps per octave as a power of two, 0 to 7.
    """
    low, high = qp_limits(qp_density)
    mantissa, exponent = math.frexp(step)
    k = 1 << qp_density
    return min(max((exponent - 1) * k + math.ceil((2 * mantissa - 1) * k), low), high)
