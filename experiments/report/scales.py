"""From values to places on paper, and the round numbers that an axis names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ROUND_STEPS = (1, 2, 2.5, 5, 10)
_LOG_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(range(10, 100)))
_MARGIN = 0.04
_MAX_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values along a range of places.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Place of the lowest value.
        end: Place of the highest value.
        logarithmic: Whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high, at = (_log(v, self.logarithmic) for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self, n_wanted: int) -> list[float]:
        """About so many round values in the range."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high, n_wanted)
        step = round_step((self.high - self.low) / max(1, n_wanted))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def scale_of(
    values: Iterable[float], start: float, end: float, *, logarithmic: bool = False, with_zero: bool = False
) -> Scale:
    """The scale that has all finite values (positive ones if logarithmic), with a margin on both sides."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not logarithmic)]
    if with_zero:
        finite.append(0.0)
    low, high = (min(finite), max(finite)) if finite else (1.0, 2.0)
    if logarithmic:
        margin = max(high / low, 1.1) ** _MARGIN
        return Scale(low / margin, high * margin, start, end, True)
    span = (high - low) or abs(high) or 1.0
    return Scale(low - _MARGIN * span, high + _MARGIN * span, start, end)


def round_step(step: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in _ROUND_STEPS if factor * power >= step * (1 - 1e-9))


def tick_texts(ticks: list[float], *, logarithmic: bool = False) -> list[str]:
    """The ticks as texts, on a linear axis all with the digits that one of them needs."""
    if logarithmic:
        return [f"{tick:g}" for tick in ticks]
    is_enough = (d for d in range(_MAX_DIGITS) if all(math.isclose(t, round(t, d), abs_tol=1e-9) for t in ticks))
    digits = next(is_enough, _MAX_DIGITS)
    return [f"{round(tick, digits) + 0.0:.{digits}f}" for tick in ticks]


def _log_ticks(low: float, high: float, n_wanted: int) -> list[float]:
    """The densest set of round values per decade that is not denser than wanted."""
    found: list[float] = []
    for steps in _LOG_STEPS:
        ticks = _decade_ticks(low, high, steps)
        if found and len(ticks) > n_wanted:
            break
        found = ticks
    return found


def _decade_ticks(low: float, high: float, steps: Iterable[float]) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def _log(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value
