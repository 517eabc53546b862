"""Bjontegaard deltas between two rate-quality curves, with every warning about them as data.

Source: G. Bjontegaard, VCEG-M33; JVET-H0030 (pchip, as in the JVET spreadsheet); computed by the PyPI package
`bjontegaard`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeAlias
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

Point: TypeAlias = tuple[float, float]
"""(rate in any unit, quality in dB)"""
Interpolation: TypeAlias = Literal["pchip", "akima"]
_Curve: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_CROSS_STEPS = 256
_CROSS_TOLERANCE = 1e-6
"""Of log10(rate), or of dB: what still counts as touching."""
_MIN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class BdRate:
    """Mean difference in rate at equal quality, in percent of the anchor's (negative: the test saves bits).

    Attributes:
        value_percent: The difference; None if the curves have none, and the warnings say why.
        warnings: The warning about the value.
    """

    value_percent: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BdPsnr:
    """Mean difference in quality at equal rate, in dB (positive: the test is better).

    Attributes:
        value_db: The difference; None if the curves have none, and the warnings say why.
        warnings: The warning about the value.
    """

    value_db: float | None
    warnings: tuple[str, ...] = ()


def bd_rate_percent(
    anchor_points: Sequence[Point], test_points: Sequence[Point], method: Interpolation = "pchip"
) -> BdRate:
    """BD-rate of the test against the anchor in percent.

    Args:
        anchor_points: (rate, dB) pairs in any order, at least two.
        test_points: The same for the test; the numbers of points may differ.
        method: Interpolation of log10(rate) over quality.
    """
    return _bd_rate(tuple(anchor_points), tuple(test_points), method)


@lru_cache(maxsize=1 << 14)  # several tables of a report want the same
def _bd_rate(anchor_points: tuple[Point, ...], test_points: tuple[Point, ...], method: Interpolation) -> BdRate:
    anchor, test = (sorted(points, key=lambda p: (p[1], p[0])) for points in (anchor_points, test_points))
    warnings = _warnings(anchor, test)
    axes = [[point[1] for point in points] for points in (anchor, test)]
    refusal = _refusal(anchor, test, axes)
    if refusal:
        return BdRate(None, (*warnings, refusal))
    from bjontegaard import bd_rate  # here: it imports pyplot

    value, more = _run(bd_rate, anchor, test, axes, method)
    return BdRate(value, (*warnings, *more))


def bd_psnr_db(anchor_points: Sequence[Point], test_points: Sequence[Point], method: Interpolation = "pchip") -> BdPsnr:
    """BD-PSNR of the test against the anchor in dB; arguments as for `bd_rate_percent`."""
    anchor, test = sorted(anchor_points), sorted(test_points)
    warnings = _warnings(anchor, test)
    axes = [[_log_rate(point) for point in points] for points in (anchor, test)]
    refusal = _refusal(anchor, test, axes)
    if refusal:
        return BdPsnr(None, (*warnings, refusal))
    from bjontegaard import bd_psnr  # here: it imports pyplot

    value, more = _run(bd_psnr, anchor, test, axes, method)
    return BdPsnr(value, (*warnings, *more))


def gain_curve(
    anchor_points: Sequence[Point], test_points: Sequence[Point], n_steps: int = 64
) -> tuple[list[float], list[float]]:
    """Rates, and the test's gain over the anchor in dB there: what BD-PSNR (pchip) is the mean of.

    Returns:
        Two lists of `n_steps` over the rates that both curves have, empty if there are none.
    """
    anchor, test = sorted(anchor_points), sorted(test_points)
    axes = [[_log_rate(point) for point in points] for points in (anchor, test)]
    if _refusal(anchor, test, axes):
        return [], []
    from bjontegaard import bd_psnr  # here: it imports pyplot

    _, f_anchor, f_test = bd_psnr(*_columns(anchor, test), "pchip", False, True, 0)
    steps = _common_axis(axes, n_steps)
    gains = f_test(steps) - f_anchor(steps)
    return [float(rate) for rate in 10**steps], [float(gain) for gain in gains]


def _warnings(anchor: Sequence[Point], test: Sequence[Point]) -> tuple[str, ...]:
    """What is wrong with either curve by itself."""
    found = []
    for name, points in (("anchor", anchor), ("test", test)):
        if len(points) < 4:
            found.append(f"{name}: {len(points)} points, fewer than 4")
        ordered = sorted(points)
        if any(a[1] >= b[1] for a, b in pairwise(ordered)):
            found.append(f"{name}: not monotone, quality does not rise with every rate")
    return tuple(found)


def _refusal(anchor: Sequence[Point], test: Sequence[Point], axes: Sequence[Sequence[float]]) -> str:
    """Why no value can be computed over these axes (sorted), empty if it can."""
    points = [*anchor, *test]
    if not all(math.isfinite(rate) and rate > 0 and math.isfinite(quality) for rate, quality in points):
        return "no value: a rate is not positive, or a quality is not finite"
    if min(len(anchor), len(test)) < 2:
        return "no value: a curve needs two points"
    if any(a >= b for axis in axes for a, b in pairwise(axis)):
        return "no value: a curve has two points at one rate or one quality"
    if max(axis[0] for axis in axes) >= min(axis[-1] for axis in axes):
        return "no value: the curves do not overlap"
    return ""


def _run(
    function: Callable[..., tuple[float, _Curve, _Curve]],
    anchor: Sequence[Point],
    test: Sequence[Point],
    axes: Sequence[Sequence[float]],
    method: Interpolation,
) -> tuple[float, tuple[str, ...]]:
    """The package's value, and the warnings that need both curves."""
    with catch_warnings(record=True) as caught:
        simplefilter("always")
        value, f_anchor, f_test = function(*_columns(anchor, test), method, False, True, 0)
        steps = _common_axis(axes, _CROSS_STEPS)
        difference = f_test(steps) - f_anchor(steps)
    found = [str(warning.message) for warning in caught]
    lows, highs = [axis[0] for axis in axes], [axis[-1] for axis in axes]
    overlap = (min(highs) - max(lows)) / (max(highs) - min(lows))
    if overlap < _MIN_OVERLAP:
        found.append(f"the curves overlap by {math.floor(100 * overlap)} %, less than half")
    if difference.min() < -_CROSS_TOLERANCE and difference.max() > _CROSS_TOLERANCE:
        found.append("the curves cross")
    return float(value), tuple(found)


def _columns(anchor: Sequence[Point], test: Sequence[Point]) -> list[NDArray[np.float64]]:
    """Rates and qualities of the anchor, then of the test."""
    return [np.array(column, dtype=np.float64) for points in (anchor, test) for column in zip(*points, strict=True)]


def _common_axis(axes: Sequence[Sequence[float]], n_steps: int) -> NDArray[np.float64]:
    return np.linspace(max(axis[0] for axis in axes), min(axis[-1] for axis in axes), n_steps)


def _log_rate(point: Point) -> float:
    """log10 of the rate; NaN, which `_refusal` reports before it is used, if there is none."""
    return math.log10(point[0]) if math.isfinite(point[0]) and point[0] > 0 else math.nan
