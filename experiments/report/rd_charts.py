"""Rate and quality of several ways to code, and the gains that curves side by side hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vvc_nnr.experiments.infinite_points import finite_points
from vvc_nnr.experiments.report.charts import Axis, Marker, PointChart, Series, finite_series
from vvc_nnr.experiments.tables.bd_rate import Point, gain_curve

NETWORK_MARKERS: tuple[Marker, ...] = ("triangle", "square", "diamond", "star", "circle")
GAIN_NOTE = "The gain is read between the points of both curves as BD-PSNR does it (pchip)."
_RATE = Axis("rate [kbit per picture]", logarithmic=True)


def rd_pair(title: str, anchor: Sequence[Point], curves: Sequence[Series], qps: Sequence[int]) -> list[PointChart]:
    """Luma quality over rate, and gain over the anchor at the same rate, without points of infinite PSNR.

    Args:
        title: What is coded.
        anchor: (kbit per picture, dB) of the codec with all its filters, empty if it was not run.
        curves: All curves, that of the anchor among them.
        qps: The QPs, rising.
    """
    drawn, note = finite_series(_named(series, qps) for series in curves)
    charts = [PointChart(f"{title}: PSNR over rate", _RATE, Axis("PSNR of luma [dB]"), drawn, note)]
    if anchor:
        finite = sorted(finite_points(anchor))
        gains = (_gain(series, finite) for series in drawn if list(series.points) != finite)
        axis = Axis("gain over all filters [dB]", with_zero=True)
        charts.append(
            PointChart(
                f"{title}: gain at the same rate", _RATE, axis, tuple(each for each in gains if each.points), note
            )
        )
    return charts


def _named(series: Series, qps: Sequence[int]) -> Series:
    """The curve by rising rate, each point with its QP where none is missing."""
    names = tuple(f"QP {qp}" for qp in sorted(qps, reverse=True))
    points = tuple(sorted(series.points))
    return replace(series, points=points, names=names if len(points) == len(names) else ())


def _gain(series: Series, anchor: Sequence[Point]) -> Series:
    steps = tuple(zip(*gain_curve(anchor, series.points), strict=True))
    return replace(series, points=steps, marker="none", names=())
