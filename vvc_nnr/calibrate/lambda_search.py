"""Finding the lambda at which a limit is just kept, when each candidate takes a while and is a little noisy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

# In octaves of lambda.
LARGEST_MOVE, LEAST_MOVE, SMALLEST_BRACKET = 3.0, 0.3, 0.06
MAX_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """What a candidate may be worth, and how that depends on lambda.

    Attributes:
        most: Largest value, above zero.
        enough: Share of it that is near enough.
        slope: Octaves of value per octave of lambda, roughly; below zero if a higher lambda lowers the value.
    """

    most: float
    enough: float
    slope: float


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The end of a search.

    Attributes:
        best: The candidate that keeps the limit and comes nearest to it; if none does, the one nearest to keeping it.
        value: What it is worth.
        is_kept: Whether it keeps the limit.
        n_candidates: How many were made.
    """

    best: T
    value: float
    is_kept: bool
    n_candidates: int

    def distance(self, limit: Limit) -> tuple[bool, float]:
        """Sorts candidates: those that break the limit first, the nearest to it last."""
        return self.is_kept, -abs(_octaves(self.value, limit))


def search_lambda(
    candidate: Callable[[float], tuple[T, float]], start: float, limit: Limit, max_candidates: int = MAX_CANDIDATES
) -> Found[T]:
    """The lambda whose candidate keeps the limit and comes nearest to it.

    Args:
        candidate: Makes a candidate at one lambda, and tells what it is worth: the larger, the nearer to the limit.
        start: First lambda, above zero.
        limit: The limit.
        max_candidates: How many candidates may be made.
    """
    tried: list[tuple[float, float]] = []  # log2 of lambda, octaves of value over the limit
    best: Found[T] | None = None
    at = math.log2(start)
    while len(tried) < max_candidates:
        result, value = candidate(2.0**at)
        tried.append((at, _octaves(value, limit)))
        found = Found(result, value, value <= limit.most, len(tried))
        best = found if best is None else max(best, found, key=lambda f: f.distance(limit))
        if found.is_kept and value >= limit.enough * limit.most:
            break
        to = next_lambda(tried, limit)
        if to is None:
            break
        at = to
    assert best is not None
    return replace(best, n_candidates=len(tried))


def _octaves(value: float, limit: Limit) -> float:
    """How far a value lies above the limit; losses may be as small as zero and below."""
    return math.log2(max(value / limit.most, 2.0**-8))


def next_lambda(tried: Sequence[tuple[float, float]], limit: Limit) -> float | None:
    """Where to try next, log2: what should be in the middle of what is near enough; None if nothing is left to try.

    Args:
        tried: log2 of lambda, and octaves of value over the limit.
        limit: The limit.
    """
    aim = math.log2((1 + limit.enough) / 2)
    towards = 1.0 if limit.slope > 0 else -1.0  # direction in which the limit is broken
    kept = [point for point in tried if point[1] <= 0]
    if not kept:
        at, value = min(tried, key=lambda point: towards * point[0])
        return at - towards * min(max((value - aim) / abs(limit.slope), LEAST_MOVE), LARGEST_MOVE)
    at, value = max(kept, key=lambda point: towards * point[0])
    beyond = [point for point in tried if towards * (point[0] - at) > 0]
    if not beyond:
        return at + towards * min(max((aim - value) / abs(limit.slope), LEAST_MOVE), LARGEST_MOVE)
    other, worse = min(beyond, key=lambda point: towards * point[0])
    if abs(other - at) < SMALLEST_BRACKET:
        return None
    share = (aim - value) / (worse - value)
    return at + min(max(share, 0.2), 0.8) * (other - at)
