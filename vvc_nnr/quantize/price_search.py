"""Finding the price per bit at which a limit is just kept, when each attempt takes a while and is a little noisy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

LARGEST_MOVE = 3.0
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """What an attempt may be worth, and how that depends on the price.

    Attributes:
        most: Largest value, above zero.
        enough: Share of it that is near enough.
        slope: Octaves of value per octave of price, roughly; below zero if a higher price lowers the value.
    """

    most: float
    enough: float
    slope: float


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The end of a search.

    Attributes:
        best: The attempt that keeps the limit and comes nearest to it; if none does, the one nearest to keeping it.
        value: What it is worth.
        is_kept: Whether it keeps the limit.
        n_attempts: How many were made.
    """

    best: T
    value: float
    is_kept: bool
    n_attempts: int

    def distance(self, limit: Limit) -> tuple[bool, float]:
        """Sorts attempts: those that break the limit first, the nearest to it last."""
        return self.is_kept, -abs(_octaves(self.value, limit))


def search_price(
    attempt: Callable[[float], tuple[T, float]], start: float, limit: Limit, max_attempts: int = MAX_ATTEMPTS
) -> Found[T]:
    """The price whose attempt keeps the limit and comes nearest to it.

    Args:
        attempt: Makes an attempt at a price, and tells what it is worth: the larger, the nearer to the limit.
        start: First price, above zero.
        limit: The limit.
        max_attempts: How many attempts may be made.
    """
    tried: list[tuple[float, float]] = []  # log2 of price, octaves of value over the limit
    best: Found[T] | None = None
    at = math.log2(start)
    while len(tried) < max_attempts:
        result, value = attempt(2.0**at)
        tried.append((at, _octaves(value, limit)))
        found = Found(result, value, value <= limit.most, len(tried))
        best = found if best is None else max(best, found, key=lambda f: f.distance(limit))
        if found.is_kept and value >= limit.enough * limit.most:
            break
        at = next_price(tried, limit)
    assert best is not None
    return replace(best, n_attempts=len(tried))


def _octaves(value: float, limit: Limit) -> float:
    """How far a value lies above the limit; losses may be as small as zero and below."""
    return math.log2(max(value / limit.most, 2.0**-8))


def next_price(tried: list[tuple[float, float]], limit: Limit) -> float:
    """Where to try next, log2: the middle of what is near enough, by the line through what is known."""
    aim = math.log2((1 + limit.enough) / 2)
    at, value = min(tried, key=lambda point: abs(point[1] - aim))
    slope = limit.slope
    others = [point for point in tried if abs(point[0] - at) > 1e-3]
    if others:
        other = min(others, key=lambda point: abs(point[1] - aim))
        measured = (other[1] - value) / (other[0] - at)
        slope = limit.slope * min(max(measured / limit.slope, 0.3), 3.0)
    move = (aim - value) / slope
    return at + min(max(move, -LARGEST_MOVE), LARGEST_MOVE)
