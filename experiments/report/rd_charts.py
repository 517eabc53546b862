"""Rate and quality of several ways to code, and the gains that such curves hide: charts for files and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vvc_nnr.experiments.infinite_points import finite_points
from vvc_nnr.experiments.records.rows import ImageMethod, Way
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, ORIGINAL, weights_title
from vvc_nnr.experiments.report.charts import N_COLOURS, Axis, Line, Marker, PointChart, Series, finite_series
from vvc_nnr.experiments.tables.bd_rate import Point, gain_curve
from vvc_nnr.experiments.tables.bd_rate_tables import variant_label
from vvc_nnr.experiments.tables.means import ANCHOR, ImageMean, PlaneName, ToolResults, Variant
from vvc_nnr.experiments.tables.paper_scores import PAPER_END_TO_END
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES, PLANE_TITLES, RECONSTRUCTED

NETWORK_MARKERS: tuple[Marker, ...] = ("triangle", "square", "diamond", "star", "circle")
GAIN_NOTE = "The gain is read between the points of both curves as BD-PSNR does it (pchip)."
_RATE = Axis("rate [kbit per picture]", logarithmic=True, digits=1)
_CODEC_LOOKS: dict[str, tuple[Marker, Line]] = {
    "all": ("circle", "solid"),
    "deblock-sao": ("square", "dashed"),
    "none": ("diamond", "dotted"),
}
_WAY_LINES: dict[Way, Line] = {"full": "dotted", "decisions": "dashed", "wiener": "solid"}
_IMAGE_LOOKS: dict[ImageMethod, tuple[int, Marker, Line]] = {
    "jpeg-file": (0, "square", "dotted"),
    "jpeg-optimised": (0, "diamond", "dashed"),
    "jpeg-payload": (0, "circle", "solid"),
    "cnn-ae": (1, "triangle", "solid"),
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
        replace(look, points=tuple(sorted(results.curve(sequences, variant, plane))))
        for variant, look in _tool_looks(results)
    ]
    return rd_pair(title, sorted(results.curve(sequences, ANCHOR, plane)), curves, results.qps, plane)


def image_chart(means: Sequence[ImageMean]) -> PointChart:
    """PSNR over rate of JPEG by its three rates and of the autoencoders, with the paper's points."""
    series, note = finite_series([*(_image_series(method, means) for method in _IMAGE_LOOKS), _decoded_series(means)])
    x = Axis("rate [bit per pixel]", with_zero=True)
    quoted = _paper_series() if series else ()
    return PointChart("PSNR over rate", x, Axis("mean PSNR, RGB [dB]"), (*series, *quoted), note)


def _image_series(method: ImageMethod, means: Sequence[ImageMean]) -> Series:
    mine = [mean for mean in means if mean.method == method and mean.weights in (NO_WEIGHTS, ORIGINAL)]
    found = sorted(mine, key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    return Series(METHOD_TITLES[method], points, *_IMAGE_LOOKS[method], tuple(mean.setting for mean in found))


def _decoded_series(means: Sequence[ImageMean]) -> Series:
    """The autoencoders with decoded weights."""
    found = sorted((mean for mean in means if mean.weights not in (NO_WEIGHTS, ORIGINAL)), key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    names = tuple(f"{mean.setting}, {weights_title(mean.weights)}" for mean in found)
    return Series(RECONSTRUCTED, points, 2, "cross", "none", names)


def _paper_series() -> Iterator[Series]:
    markers: tuple[Marker, ...] = ("triangle", "star")
    for theirs, marker in zip(PAPER_END_TO_END[:2], markers, strict=True):
        yield Series(f"{theirs.label}, in the paper", ((float(theirs.bpp), float(theirs.psnr_db)),), 3, marker, "none")


def _tool_looks(results: ToolResults) -> Iterator[tuple[Variant, Series]]:
    """What is drawn and how: anchors neutral, one colour per network, crosses where its weights are decoded.

    Where networks ran in several ways, only the last of their weights is drawn: their curves would hide each other.
    """
    ways = {variant.way for variant in results.tests if variant.network}
    last = dict(results.networks.keys())
    for variant in results.variants:
        label = variant_label(results, variant)
        if not variant.network:
            yield variant, Series(label, (), 0, *_CODEC_LOOKS[variant.loop_filters])
        elif len(ways) == 1 or variant.weights == last[variant.network]:
            number = results.network_names.index(variant.network)
            is_trained = variant.weights == ORIGINAL
            marker: Marker = NETWORK_MARKERS[number % len(NETWORK_MARKERS)] if is_trained else "cross"
            line = _WAY_LINES[variant.way] if len(ways) > 1 else "solid" if is_trained else "dashed"
            yield variant, Series(label, (), number % N_COLOURS + 1, marker, line)


def _named(series: Series, qps: Sequence[int]) -> Series:
    """The curve by rising rate, each point with its QP where none is missing."""
    names = tuple(f"QP {qp}" for qp in sorted(qps, reverse=True))
    points = tuple(sorted(series.points))
    return replace(series, points=points, names=names if len(points) == len(names) else ())


def _gain(series: Series, anchor: Sequence[Point]) -> Series:
    steps = tuple(zip(*gain_curve(anchor, series.points), strict=True))
    return replace(series, points=steps, marker="none", names=())
