"""Charts as data, with nothing said about how they are drawn; among them rate and quality, and the gains they hide."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal, TypeAlias

from vvc_nnr.experiments.records.rows import AUTOENCODER_METHODS, ImageMethod, NetworkRow, Way
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, ORIGINAL, is_adapted, weights_title
from vvc_nnr.experiments.tables.bd_rate import Point, gain_curve
from vvc_nnr.experiments.tables.bd_rate_tables import variant_label
from vvc_nnr.experiments.tables.gains import layer_gains, layer_title
from vvc_nnr.experiments.tables.means import ANCHOR, ImageMean, ToolResults, Variant
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES, PAPER_END_TO_END, RECONSTRUCTED

Marker: TypeAlias = Literal["circle", "square", "triangle", "diamond", "cross", "plus", "tripod", "star", "none"]
Line: TypeAlias = Literal["solid", "dashed", "dotted", "none"]
N_COLOURS = 6
"""Colours of series; number 0 is the neutral one of anchors."""
NETWORK_MARKERS: tuple[Marker, ...] = ("triangle", "square", "diamond", "star", "circle")
_DECODED_LOOKS: tuple[tuple[Marker, Line], ...] = (
    ("cross", "dashed"),
    ("plus", "dotted"),
    ("tripod", "dashed"),
    ("cross", "dotted"),
    ("plus", "dashed"),
    ("tripod", "dotted"),
)
_MAX_NOT_DRAWN = 4
GAIN_NOTE = "The gain is read between the points of both curves as BD-PSNR does it (pchip)."


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
        names: Values with their names: these have ticks, and no others.
    """

    label: str
    logarithmic: bool = False
    with_zero: bool = False
    includes: tuple[float, ...] = ()
    digits: int = 3
    signed: bool = False
    names: tuple[tuple[float, str], ...] = ()

    def text(self, value: float) -> str:
        """A value with what it is and its unit, such as "rate 56.1 kbit per picture"."""
        quantity, _, unit = self.label.partition(" [")
        number = dict(self.names).get(value) or number_text(value, self.digits, signed=self.signed)
        return f"{quantity} {number} {unit.removesuffix(']')}".rstrip()

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
        quantity: What the values are, along the axis before their unit.
    """

    title: str
    unit: str
    groups: tuple[str, ...]
    bars: tuple[Bars, ...]
    digits: int = 2
    signed: bool = True
    quantity: str = ""

    def text(self, value: float) -> str:
        """A value as it stands in the tables, without its unit."""
        return number_text(value, self.digits, signed=self.signed)


Chart: TypeAlias = PointChart | BarChart
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
    "webp-file": (4, "square", "dotted"),
    "webp-payload": (4, "circle", "solid"),
    "avif-file": (5, "square", "dotted"),
    "avif-payload": (5, "circle", "solid"),
    "jpeg2000-file": (6, "diamond", "solid"),
    "jpegxl-file": (6, "star", "dashed"),
}


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


def finite_series(series: Iterable[Series]) -> tuple[tuple[Series, ...], str]:
    """The series without their points of infinite PSNR, those without any point left out; and a note about both."""
    everything = [each for each in series if each.points]
    note = infinite_note((each.label, each.points) for each in everything)
    return tuple(each for each in map(_finite, everything) if each.points), note


def has_data(chart: Chart) -> bool:
    """Whether there is anything in a chart to draw."""
    if isinstance(chart, PointChart):
        return any(map(is_finite, (point for series in chart.series for point in series.points)))
    return any(value is not None and math.isfinite(value) for bars in chart.bars for value in bars.values)


def number_text(value: float, digits: int, *, signed: bool = False) -> str:
    """A number as the tables print it; what rounds to nothing is 0, never -0."""
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def _finite(series: Series) -> Series:
    keep = [is_finite(point) for point in series.points]
    return replace(series, points=tuple(compress(series.points, keep)), names=tuple(compress(series.names, keep)))


def rd_pair(title: str, anchor: Sequence[Point], curves: Sequence[Series], qps: Sequence[int]) -> list[PointChart]:
    """PSNR of luma over rate, and gain over the anchor at the same rate, without points of infinite PSNR.

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
        gains = [_gain(series, finite) for series in drawn if list(series.points) != finite]
        axis = Axis("luma PSNR gain over all filters [dB]", with_zero=True, signed=True)
        shown = tuple(each for each in gains if each.points)
        charts.append(PointChart(f"{title}: gain at the same rate", _RATE, axis, shown, note))
    return charts


def tool_rd_pair(results: ToolResults, title: str, sequences: Sequence[str]) -> list[PointChart]:
    """Both charts of a tool-by-tool run, means over the sequences."""
    looks = list(_tool_looks(results))
    curves = [replace(look, points=tuple(results.curve(sequences, variant, "y"))) for variant, look in looks]
    charts = rd_pair(title, results.curve(sequences, ANCHOR, "y"), curves, results.qps)
    left_out = not_drawn_note(results, [variant for variant, _ in looks])
    return [replace(chart, note=" ".join(filter(None, (chart.note, left_out)))) for chart in charts]


def final_variants(results: ToolResults) -> list[Variant]:
    """What a codec would run: each network with decoded weights (else as trained), in the strongest way of the run.

    Adapted ones are not among them: their bits are in no rate of a picture.
    """
    finals = []
    for network in results.network_names:
        mine = [variant for variant in results.tests if variant.network == network and not is_adapted(variant.weights)]
        strongest = [variant for variant in mine if mine and variant.way == mine[-1].way]
        finals += [variant for variant in strongest if variant.weights != ORIGINAL] or strongest
    return finals


def layer_chart(results: ToolResults, variants: Sequence[Variant]) -> PointChart:
    """Gains of luma in each temporal layer, mean over QPs, a curve for each of the variants."""
    series, layers = [], set()
    for place, variant in enumerate(variants):
        gains = layer_gains(results, variant)["psnr_y_db"].groupby("layer").mean()
        layers.update(gains.index)
        points = tuple((float(layer), float(gain)) for layer, gain in gains.items())
        names = tuple(f"layer {layer_title(layer)}" for layer in gains.index)
        look = (1 + place % N_COLOURS, NETWORK_MARKERS[place % len(NETWORK_MARKERS)])
        series.append(Series(variant_label(results, variant), points, *look, names=names))
    drawn, note = finite_series(series)
    x = Axis("temporal layer", names=tuple((float(layer), layer_title(layer)) for layer in sorted(layers)))
    y = Axis("luma PSNR gain, mean over QPs [dB]", with_zero=True, signed=True)
    note = " ".join(filter(None, (note, not_drawn_note(results, variants))))
    return PointChart("Luma gain over all filters per temporal layer", x, y, drawn, note)


def not_drawn_note(results: ToolResults, drawn: Collection[Variant]) -> str:
    """Which networks with which weights, in which way, are not among what is drawn; empty if all are."""
    left_out = [variant for variant in results.tests if variant.network and variant not in drawn]
    labels = list(dict.fromkeys(variant_label(results, variant) for variant in left_out))
    more = f" and {len(labels) - _MAX_NOT_DRAWN} more" if len(labels) > _MAX_NOT_DRAWN else ""
    return f"Not drawn: {'; '.join(labels[:_MAX_NOT_DRAWN])}{more}." if labels else ""


def image_chart(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> PointChart:
    """PSNR over rate of the files and of the autoencoders, those of one architecture a curve, with the paper's points.

    Args:
        means: Means over the images.
        networks: The autoencoders.
    """
    files = [_file_series(method, means) for method in _IMAGE_LOOKS]
    series, note = finite_series([*files, *_network_series(means, networks), *_decoded_series(means)])
    x = Axis("rate [bit per pixel]", with_zero=True)
    quoted = _paper_series() if series else ()
    return PointChart("PSNR over rate", x, Axis("mean PSNR, RGB [dB]"), (*series, *quoted), note)


def _file_series(method: ImageMethod, means: Sequence[ImageMean]) -> Series:
    found = sorted((mean for mean in means if mean.method == method), key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    return Series(METHOD_TITLES[method], points, *_IMAGE_LOOKS[method], tuple(mean.setting for mean in found))


def _network_series(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> Iterator[Series]:
    """The autoencoders as trained, a curve for each architecture, and for each that has several operating points."""
    architectures = {row.network: row.architecture for row in networks}
    trained = [mean for mean in means if mean.method in AUTOENCODER_METHODS and mean.weights == ORIGINAL]
    curves: dict[tuple[str, ImageMethod], list[ImageMean]] = {}
    for mean in sorted(trained, key=lambda mean: mean.bpp):
        together = architectures.get(mean.setting, "") if mean.operating_point is None else mean.curve_name
        curves.setdefault((together, mean.method), []).append(mean)
    for place, ((together, method), found) in enumerate(curves.items()):
        points = tuple((mean.bpp, mean.psnr_db) for mean in found)
        label = METHOD_TITLES[method] + (f" ({together})" if len(curves) > 1 and together else "")
        marker = NETWORK_MARKERS[place % len(NETWORK_MARKERS)]
        yield Series(label, points, 1, marker, "solid", tuple(mean.name for mean in found))


def _decoded_series(means: Sequence[ImageMean]) -> Iterator[Series]:
    """The autoencoders with decoded weights: a mark for each kind of them, a curve for operating points of one."""
    curves: dict[tuple[str, str], list[ImageMean]] = {}
    for mean in sorted(means, key=lambda mean: mean.bpp):
        if mean.weights not in (NO_WEIGHTS, ORIGINAL):
            together = "" if mean.operating_point is None else mean.curve_name
            curves.setdefault((together, mean.weights), []).append(mean)
    for place, ((together, weights), found) in enumerate(curves.items()):
        points = tuple((mean.bpp, mean.psnr_db) for mean in found)
        marker, line = _DECODED_LOOKS[place % len(_DECODED_LOOKS)]
        label = RECONSTRUCTED + (f" ({together})" if together else "")
        label += f", {weights_title(weights)}" if len(curves) > 1 else ""
        names = tuple(f"{mean.name}, {weights_title(weights)}" for mean in found)
        yield Series(label, points, 2, marker, line if together else "none", names)


def _paper_series() -> Iterator[Series]:
    markers: tuple[Marker, ...] = ("triangle", "star")
    for theirs, marker in zip(PAPER_END_TO_END[:2], markers, strict=True):
        yield Series(f"{theirs.label}, in the paper", ((float(theirs.bpp), float(theirs.psnr_db)),), 3, marker, "none")


def _tool_looks(results: ToolResults) -> Iterator[tuple[Variant, Series]]:
    """What is drawn and how: anchors neutral, one colour per network, open marks where its weights are decoded.

    Where networks ran in several ways, only the last of their weights is drawn: their curves would hide each other.
    """
    ways = {variant.way for variant in results.tests if variant.network}
    last = {network: weights for network, weights in results.networks if not is_adapted(weights)}
    for variant in results.variants:
        label = variant_label(results, variant)
        if not variant.network:
            yield variant, Series(label, (), 0, *_CODEC_LOOKS[variant.loop_filters])
        elif len(ways) == 1 or variant.weights == last[variant.network]:
            number = results.network_names.index(variant.network)
            marker, line = _weights_look(results, variant, number) if len(ways) == 1 else _way_look(variant, number)
            yield variant, Series(label, (), number % N_COLOURS + 1, marker, line)


def _weights_look(results: ToolResults, variant: Variant, number: int) -> tuple[Marker, Line]:
    """One look for each of the weights of a network."""
    if variant.weights == ORIGINAL:
        return NETWORK_MARKERS[number % len(NETWORK_MARKERS)], "solid"
    decoded = [weights for name, weights in results.networks if name == variant.network and weights != ORIGINAL]
    return _DECODED_LOOKS[decoded.index(variant.weights) % len(_DECODED_LOOKS)]


def _way_look(variant: Variant, number: int) -> tuple[Marker, Line]:
    """One line for each of the ways of a network, which is drawn with one of its weights."""
    is_trained = variant.weights == ORIGINAL
    return NETWORK_MARKERS[number % len(NETWORK_MARKERS)] if is_trained else "cross", _WAY_LINES[variant.way]


def _named(series: Series, qps: Sequence[int]) -> Series:
    """The curve by rising rate, each point with its QP where none is missing."""
    names = tuple(f"QP {qp}" for qp in sorted(qps, reverse=True))
    points = tuple(sorted(series.points))
    return replace(series, points=points, names=names if len(points) == len(names) else ())


def _gain(series: Series, anchor: Sequence[Point]) -> Series:
    steps = tuple(zip(*gain_curve(anchor, series.points), strict=True))
    return replace(series, points=steps, marker="none", names=())
