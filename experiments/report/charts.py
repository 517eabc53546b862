"""Charts as data: what is drawn, with nothing said about how."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal, TypeAlias

from vvc_nnr.experiments.infinite_points import infinite_note, is_finite
from vvc_nnr.experiments.tables.bd_rate import Point

Marker: TypeAlias = Literal["circle", "square", "triangle", "diamond", "cross", "star", "none"]
Line: TypeAlias = Literal["solid", "dashed", "dotted", "none"]

N_COLOURS = 6
"""Colours of series; number 0 is the neutral one of anchors."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve or cloud of points.

    Attributes:
        label: Its name in the legend.
        points: (x, y) in the order in which they are joined.
        colour: 0 for an anchor, 1 to `N_COLOURS` else.
        marker: Shape at each point; shapes and lines differ as well as colours.
        line: How points are joined.
        names: What each point is, such as "QP 22"; empty or one per point.
        labelled: Whether the names stand beside the points.
    """

    label: str
    points: tuple[Point, ...]
    colour: int = 0
    marker: Marker = "circle"
    line: Line = "solid"
    names: tuple[str, ...] = ()
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart of points.

    Attributes:
        label: What is along it, with its unit in brackets at the end.
        logarithmic: Whether equal ratios are equally far apart; values are positive then.
        with_zero: Whether zero is in its range and drawn as a line.
        includes: Other values that are in its range.
        digits: Digits after the point of its values, those of the tables.
        signed: Write a plus before positive values.
    """

    label: str
    logarithmic: bool = False
    with_zero: bool = False
    includes: tuple[float, ...] = ()
    digits: int = 3
    signed: bool = False

    def text(self, value: float) -> str:
        """A value with what it is and its unit, such as "rate 56.1 kbit per picture"."""
        quantity, _, unit = self.label.partition(" [")
        return f"{quantity} {number_text(value, self.digits, signed=self.signed)} {unit.removesuffix(']')}".rstrip()

    def has(self, value: float) -> bool:
        """Whether a value has a place on it."""
        return math.isfinite(value) and (value > 0 or not self.logarithmic)


@dataclass(frozen=True, slots=True)
class PointChart:
    """Curves or points in a plane.

    Attributes:
        title: What it shows.
        x: The horizontal axis.
        y: The vertical axis.
        series: What is drawn, the first one at the bottom.
        note: What is not drawn, and why; empty if all is.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    note: str = ""

    def drawn(self, series: Series) -> list[tuple[Point, str]]:
        """The points of a series that have a place on both axes, each with its name (empty if it has none)."""
        names = series.names or ("",) * len(series.points)
        pairs = zip(series.points, names, strict=True)
        return [(point, name) for point, name in pairs if self.x.has(point[0]) and self.y.has(point[1])]


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar per group.

    Attributes:
        label: Its name in the legend.
        values: One per group, None where there is no result.
    """

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars along horizontal lines from zero.

    Attributes:
        title: What it shows.
        unit: Unit of the values.
        groups: Names of the groups, from the top.
        bars: The bars of each group, from the top.
        digits: Digits after the point of the values.
        signed: Write a plus before positive values.
    """

    title: str
    unit: str
    groups: tuple[str, ...]
    bars: tuple[Bars, ...]
    digits: int = 2
    signed: bool = True

    def text(self, value: float) -> str:
        """A value as it stands in the tables, without its unit."""
        return number_text(value, self.digits, signed=self.signed)


Chart: TypeAlias = PointChart | BarChart


def has_data(chart: Chart) -> bool:
    """Whether there is anything in a chart to draw."""
    if isinstance(chart, PointChart):
        return any(map(is_finite, (point for series in chart.series for point in series.points)))
    return any(value is not None and math.isfinite(value) for bars in chart.bars for value in bars.values)


def number_text(value: float, digits: int, *, signed: bool = False) -> str:
    """A number as the tables print it; what rounds to nothing is 0, never -0."""
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def finite_series(series: Iterable[Series]) -> tuple[tuple[Series, ...], str]:
    """The series without their points of infinite PSNR, those without any point left out; and a note about both."""
    everything = [each for each in series if each.points]
    note = infinite_note((each.label, each.points) for each in everything)
    return tuple(each for each in map(_finite, everything) if each.points), note


def _finite(series: Series) -> Series:
    keep = [is_finite(point) for point in series.points]
    return replace(series, points=tuple(compress(series.points, keep)), names=tuple(compress(series.names, keep)))
