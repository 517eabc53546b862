"""Points of infinite PSNR (pictures that are coded exactly), which no chart can show, and the note that says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from vvc_nnr.experiments.tables.bd_rate import Point


def is_finite(point: Point) -> bool:
    """Whether a point has a place in a chart."""
    return all(map(math.isfinite, point))


def finite_points(points: Iterable[Point]) -> list[Point]:
    """The points that a chart can show, in their order."""
    return [point for point in points if is_finite(point)]


def infinite_note(curves: Iterable[tuple[str, Sequence[Point]]]) -> str:
    """How many points of which curve are not drawn.

    Args:
        curves: Labels with all of their points.

    Returns:
        A sentence; empty if all points can be drawn.
    """
    missing = ((label, len(points) - len(finite_points(points)), len(points)) for label, points in curves)
    parts = [f"{'all' if n == n_all else f'{n} of {n_all}'} of {label}" for label, n, n_all in missing if n]
    return f"Points of infinite PSNR are not drawn: {'; '.join(parts)}." if parts else ""
