"""Rate and quality of several ways to code, and the gains that such curves hide: charts for files and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import LOOP_FILTERS, ToolResults, Variant
from vvc_nnr.experiments.bd_rate import Point, gain_curve
from vvc_nnr.experiments.gain_tables import LOOP_FILTER_TITLES
from vvc_nnr.experiments.image_averages import ImageMean
from vvc_nnr.experiments.infinite_points import finite_points
from vvc_nnr.experiments.report.charts import N_COLOURS, Axis, Line, Marker, PointChart, Series, finite_series
from vvc_nnr.experiments.rows import ImageMethod
from vvc_nnr.experiments.sequence_means import PlaneName
from vvc_nnr.experiments.tables import METHOD_TITLES, PLANE_TITLES

NETWORK_MARKERS: tuple[Marker, ...] = ("triangle", "square", "diamond", "star", "circle")
GAIN_NOTE = "The gain is read between the points of both curves as BD-PSNR does it (pchip)."
_RATE = Axis("rate [kbit per picture]", logarithmic=True, digits=1)
_ANCHOR_LOOKS: tuple[tuple[Marker, Line], ...] = (("circle", "solid"), ("square", "dashed"), ("diamond", "dotted"))
_IMAGE_LOOKS: dict[ImageMethod, tuple[int, Marker, Line]] = {
    "jpeg-file": (0, "square", "dotted"),
    "jpeg-optimised": (0, "diamond", "dashed"),
    "jpeg-payload": (0, "circle", "solid"),
    "cnn-ae": (1, "triangle", "solid"),
    "reconstructed-cnn-ae": (2, "cross", "none"),
}


def rd_pair(
    title: str, anchor: Sequence[Point], curves: Sequence[Series], qps: Sequence[int], plane: PlaneName = "y"
) -> list[PointChart]:
    """Quality over rate, and gain over the anchor at the same rate, without points of infinite PSNR.

    Args:
        title: What is coded.
        anchor: (kbit per picture, dB) of the codec with all its filters, empty if it was not run.
        curves: All curves, that of the anchor among them.
        qps: The QPs, rising.
        plane: The plane whose PSNR it is.
    """
    drawn, note = finite_series(_named(series, qps) for series in curves)
    quality = Axis(f"PSNR of {PLANE_TITLES[plane]} [dB]")
    charts = [PointChart(f"{title}: PSNR over rate", _RATE, quality, drawn, note)]
    if anchor:
        finite = sorted(finite_points(anchor))
        gains = (_gain(series, finite) for series in drawn if list(series.points) != finite)
        axis = Axis("gain over all filters [dB]", with_zero=True, signed=True)
        charts.append(
            PointChart(
                f"{title}: gain at the same rate", _RATE, axis, tuple(each for each in gains if each.points), note
            )
        )
    return charts


def tool_rd_pair(
    results: ToolResults, title: str, sequences: Sequence[str], plane: PlaneName = "y"
) -> list[PointChart]:
    """Both charts of a tool-by-tool run; arguments as for `rd_pair`, means over the sequences."""
    curves = [
        replace(look, points=tuple(curve_points(results, sequences, variant, plane)))
        for variant, look in _tool_looks(results)
    ]
    return rd_pair(title, curve_points(results, sequences, Variant("all"), plane), curves, results.qps, plane)


def curve_points(results: ToolResults, sequences: Sequence[str], variant: Variant, plane: PlaneName) -> list[Point]:
    """(kbit per picture, dB) at each QP, means over sequences, infinite where a picture is exact."""
    found = []
    for qp in results.qps:
        rate = results.mean_kbit(sequences, qp, variant)
        score = results.mean_score(sequences, [qp], variant, "psnr_db", plane)
        if rate and score is not None:
            found.append((rate, score))
    return sorted(found)


def image_chart(means: Sequence[ImageMean]) -> PointChart:
    """PSNR over rate of JPEG by its three rates and of the autoencoders, with the paper's points."""
    series, note = finite_series(_image_series(method, means) for method in _IMAGE_LOOKS)
    x = Axis("rate [bit per pixel]", with_zero=True)
    quoted = _paper_series() if series else ()
    return PointChart("PSNR over rate", x, Axis("mean PSNR, RGB [dB]"), (*series, *quoted), note)


def _image_series(method: ImageMethod, means: Sequence[ImageMean]) -> Series:
    found = sorted((mean for mean in means if mean.method == method), key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    return Series(METHOD_TITLES[method], points, *_IMAGE_LOOKS[method], tuple(mean.setting for mean in found))


def _paper_series() -> Iterator[Series]:
    markers: tuple[Marker, ...] = ("triangle", "star")
    for theirs, marker in zip(paper.END_TO_END[:2], markers, strict=True):
        yield Series(f"{theirs.label}, in the paper", ((float(theirs.bpp), float(theirs.psnr_db)),), 3, marker, "none")


def _tool_looks(results: ToolResults) -> Iterator[tuple[Variant, Series]]:
    """What is drawn and how: anchors neutral, one colour per network, dashes where it is reconstructed."""
    for name, (marker, line) in zip(LOOP_FILTERS, _ANCHOR_LOOKS, strict=True):
        yield Variant(name), Series(f"codec, {LOOP_FILTER_TITLES[name]}", (), 0, marker, line)
    for number, use in enumerate(results.uses):
        colour, marker = number % N_COLOURS + 1, NETWORK_MARKERS[number % len(NETWORK_MARKERS)]
        yield use.original, Series(results.label(use), (), colour, marker)
        yield use.reconstructed, Series(f"{results.label(use)}, reconstructed", (), colour, "cross", "dashed")


def _named(series: Series, qps: Sequence[int]) -> Series:
    """The curve by rising rate, each point with its QP where none is missing."""
    names = tuple(f"QP {qp}" for qp in sorted(qps, reverse=True))
    points = tuple(sorted(series.points))
    return replace(series, points=points, names=names if len(points) == len(names) else ())


def _gain(series: Series, anchor: Sequence[Point]) -> Series:
    steps = tuple(zip(*gain_curve(anchor, series.points), strict=True))
    return replace(series, points=steps, marker="none", names=())
