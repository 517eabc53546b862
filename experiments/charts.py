"""Charts as data, with nothing said about how they are drawn; among them rate and quality, and the gains they hide."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress, product
from typing import Literal, TypeAlias

from vvc_nnr.experiments.records.rows import AUTOENCODER_METHODS, ImageMethod, NetworkRow, Way
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, ORIGINAL, is_adapted, weights_title
from vvc_nnr.experiments.tables.bd_rate import Point, bd_psnr_db, gain_curve
from vvc_nnr.experiments.tables.bd_rate_tables import variant_label
from vvc_nnr.experiments.tables.gains import layer_gains, layer_title
from vvc_nnr.experiments.tables.means import ANCHOR, ImageMean, ToolResults, Variant
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES, PAPER_END_TO_END, RECONSTRUCTED
from vvc_nnr.experiments.tables.table import mark_of

Marker: TypeAlias = Literal[
    "circle", "square", "triangle", "diamond", "star", "cross", "plus", "tripod", "tripod-up", "tripod-left",
    "tripod-right", "none",
]  # fmt: skip
Line: TypeAlias = Literal["solid", "dashed", "dotted", "dashdot", "none"]
N_COLOURS = 6
"""Colours of series; number 0 is the neutral one of anchors."""
NETWORK_MARKERS: tuple[Marker, ...] = ("triangle", "square", "diamond", "star", "circle")
OPEN_MARKERS: tuple[Marker, ...] = ("cross", "plus", "tripod", "tripod-up", "tripod-left", "tripod-right")
"""Of decoded weights: they look out from under what lies on them."""
_DECODED_LOOKS: tuple[tuple[Marker, Line], ...] = tuple(
    (marker, "dashdot" if is_again else ("dashed", "dotted")[place % 2])
    for is_again, (place, marker) in product((False, True), enumerate(OPEN_MARKERS))
)
_LINES: tuple[Line, ...] = ("solid", "dashed", "dotted", "dashdot")
_DECODED_COLOURS = (2, 3, 1)
"""Of autoencoders with decoded weights, where there are more than open markers; nothing else has both."""
_MAX_NAMED = 4
_COVERED = 0.005
"""Of the height of a chart: curves that are nearer than this everywhere lie on each other."""
_GAIN_MARKER_STEPS, _GAIN_MARKER_STRIDE = 16, 5
"""Along a curve of gains there is a marker at each so many steps, moved on by so many from curve to curve."""
GAIN_NOTE = (
    "The gain is read between the points of both curves as BD-PSNR does it (pchip). Marks on it tell curves apart, "
    "also where one covers another; they are not the points that were measured."
)


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
        warnings: The warning about each point, without a full stop, empty for none; empty or one per point.
        marked: First point with a marker, and the step to the next one.
    """

    label: str
    points: tuple[Point, ...]
    colour: int = 0
    marker: Marker = "circle"
    line: Line = "solid"
    names: tuple[str, ...] = ()
    labelled: bool = False
    warnings: tuple[str, ...] = ()
    marked: tuple[int, int] = (0, 1)


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
        notes: What is not drawn, and why, in sentences.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()

    def drawn(self, series: Series) -> list[tuple[Point, str, str]]:
        """The points of a series that have a place on both axes, each with its name and warning (empty if none)."""
        nothing = ("",) * len(series.points)
        each = zip(series.points, series.names or nothing, series.warnings or nothing, strict=True)
        return [found for found in each if self.x.has(found[0][0]) and self.y.has(found[0][1])]

    @property
    def warnings(self) -> list[str]:
        """The warnings about its points, in their order."""
        return [warning for series in self.series for _, _, warning in self.drawn(series) if warning]


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar per group.

    Attributes:
        label: Its name in the legend.
        values: One per group, None where there is no result.
        warnings: The warning about each value, without a full stop, empty for none; empty or one per group.
    """

    label: str
    values: tuple[float | None, ...]
    warnings: tuple[str, ...] = ()

    def warning(self, group: int) -> str:
        """The warning about its value in a group."""
        return self.warnings[group] if self.warnings else ""


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
        notes: What is not drawn, and why, in sentences.
    """

    title: str
    unit: str
    groups: tuple[str, ...]
    bars: tuple[Bars, ...]
    digits: int = 2
    signed: bool = True
    quantity: str = ""
    notes: tuple[str, ...] = ()

    def text(self, value: float) -> str:
        """A value as it stands in the tables, without its unit."""
        return number_text(value, self.digits, signed=self.signed)

    @property
    def warnings(self) -> list[str]:
        """The warnings about its values, in their order."""
        return [found for group in range(len(self.groups)) for bars in self.bars if (found := bars.warning(group))]


Chart: TypeAlias = PointChart | BarChart
_RATE = Axis("rate [kbit per picture]", logarithmic=True, digits=1)
_CODEC_LOOKS: dict[str, tuple[Marker, Line]] = {
    "all": ("circle", "solid"),
    "deblock-sao": ("square", "dashed"),
    "none": ("diamond", "dotted"),
}
_LAST_ALONE = "since their curves would hide those of the last weights"
_RUN_ALONE = "since a codec would run the last weights, in the strongest way"
_ADAPTED_APART = "since the bits of updates are in no rate of a picture"
_PAPER_PIXELS = 32 * 32
"""Of a picture of CIFAR-10, which the paper's Table 4 is of."""
_PAPER_APART = "Not drawn, since they are of other pictures: the paper's points, of CIFAR-10 (32x32)."
_WAY_MARKERS: dict[Way, Marker] = {"full": "cross", "decisions": "plus"}
"""In the place of a network's own where its colour tells it from others: ways lie close to each other."""
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


def infinite_notes(curves: Iterable[tuple[str, Sequence[Point]]]) -> tuple[str, ...]:
    """How many points of which curve are not drawn.

    Args:
        curves: Labels with all of their points.

    Returns:
        A sentence, or none if all points can be drawn.
    """
    missing = ((label, len(points) - len(finite_points(points)), len(points)) for label, points in curves)
    parts = [f"{'all' if n == n_all else f'{n} of {n_all}'} of {label}" for label, n, n_all in missing if n]
    return (f"Points of infinite PSNR are not drawn: {'; '.join(parts)}.",) if parts else ()


def finite_series(series: Iterable[Series]) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """The series without their points of infinite PSNR, those without any point left out; and notes about both."""
    everything = [each for each in series if each.points]
    notes = infinite_notes((each.label, each.points) for each in everything)
    return tuple(each for each in map(_finite, everything) if each.points), notes


def has_data(chart: Chart) -> bool:
    """Whether there is anything in a chart to draw."""
    if isinstance(chart, PointChart):
        return any(map(is_finite, (point for series in chart.series for point in series.points)))
    return any(value is not None and math.isfinite(value) for bars in chart.bars for value in bars.values)


def warning_marks(chart: Chart) -> dict[str, str]:
    """The letter that stands beside numbers of a chart for each warning about them, as in tables."""
    return {text: mark_of(number) for number, text in enumerate(dict.fromkeys(chart.warnings))}


def chart_notes(chart: Chart) -> tuple[str, ...]:
    """What stands below a chart, in sentences: what is not drawn, and the warnings with their letters."""
    return (*chart.notes, *(f"({mark}) {text}." for text, mark in warning_marks(chart).items()))


def number_text(value: float, digits: int, *, signed: bool = False) -> str:
    """A number as the tables print it; what rounds to nothing is 0, never -0."""
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def _finite(series: Series) -> Series:
    keep = [is_finite(point) for point in series.points]
    points = tuple(compress(series.points, keep))
    names, warnings = (tuple(compress(each, keep)) for each in (series.names, series.warnings))
    return replace(series, points=points, names=names, warnings=warnings)


def rd_pair(title: str, anchor: Sequence[Point], curves: Sequence[Series], qps: Sequence[int]) -> list[PointChart]:
    """PSNR of luma over rate, and gain over the anchor at the same rate, without points of infinite PSNR.

    Args:
        title: What is coded.
        anchor: (kbit per picture, dB) of the codec with all its filters, empty if it was not run.
        curves: All curves, that of the anchor among them.
        qps: The QPs, rising.
    """
    drawn, notes = finite_series(_named(series, qps) for series in curves)
    y = Axis("PSNR of luma [dB]")
    if not anchor:
        return [PointChart(f"{title}: PSNR over rate", _RATE, y, drawn, (*notes, *covered_notes(drawn)))]
    finite = sorted(finite_points(anchor))
    others = [series for series in drawn if list(series.points) != finite]
    gains = (_gain(series, finite, place) for place, series in enumerate(others))
    axis = Axis("luma PSNR gain over all filters [dB]", with_zero=True, signed=True)
    shown = tuple(each for each in gains if each.points)
    return [
        PointChart(f"{title}: PSNR over rate", _RATE, y, drawn, notes),
        PointChart(f"{title}: gain at the same rate", _RATE, axis, shown, (*notes, *_gain_notes(others, finite))),
    ]


def tool_rd_pair(results: ToolResults, title: str, sequences: Sequence[str]) -> list[PointChart]:
    """Both charts of a tool-by-tool run, means over the sequences."""
    looks = list(_tool_looks(results))
    curves = [replace(look, points=tuple(results.curve(sequences, variant, "y"))) for variant, look in looks]
    charts = rd_pair(title, results.curve(sequences, ANCHOR, "y"), curves, results.qps)
    left_out = not_drawn_notes(results, [variant for variant, _ in looks], _LAST_ALONE)
    return [replace(chart, notes=(*chart.notes, *left_out)) for chart in charts]


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
    drawn, notes = finite_series(series)
    notes = (*notes, *covered_notes(drawn), *not_drawn_notes(results, variants, _RUN_ALONE))
    x = Axis("temporal layer", names=tuple((float(layer), layer_title(layer)) for layer in sorted(layers)))
    y = Axis("luma PSNR gain, mean over QPs [dB]", with_zero=True, signed=True)
    return PointChart("Luma gain over all filters per temporal layer", x, y, drawn, notes)


def not_drawn_notes(results: ToolResults, drawn: Collection[Variant], reason: str) -> tuple[str, ...]:
    """Which networks with which weights, in which way, are not among what is drawn, and why; none if all are.

    Args:
        results: The run.
        drawn: What is drawn.
        reason: Why others are not; of adapted networks there is a reason of their own.
    """
    reasons: dict[str, list[str]] = {}
    for variant in results.tests:
        if variant.network and variant not in drawn:
            why = _ADAPTED_APART if is_adapted(variant.weights) else reason
            reasons.setdefault(why, []).append(variant_label(results, variant))
    return tuple(f"Not drawn, {why}: {some_labels(labels)}." for why, labels in reasons.items())


def covered_notes(series: Sequence[Series]) -> tuple[str, ...]:
    """Which curves lie on each other, so that one of them may not be seen; none if none do.

    Args:
        series: All that a chart draws; curves of other x are not compared.
    """
    heights = [y for each in series for _, y in each.points]
    if not heights:
        return ()
    nearest = _COVERED * (max(heights) - min(heights))
    groups: list[list[Series]] = []
    for each in series:
        found = next((group for group in groups if _is_near(group[0], each, nearest)), None)
        if found:
            found.append(each)
        else:
            groups.append([each])
    several = [" | ".join(each.label for each in group) for group in groups if len(group) > 1]
    return (f"Curves on each other, within {nearest:.2g} dB: {some_labels(several)}.",) if several else ()


def _is_near(one: Series, other: Series, nearest: float) -> bool:
    """Whether both have points at the same x, and no more apart than that."""
    ones, others = dict(one.points), dict(other.points)
    return ones.keys() == others.keys() and all(abs(ones[x] - others[x]) <= nearest for x in ones)


def _gain_notes(curves: Sequence[Series], anchor: Sequence[Point]) -> Iterator[str]:
    """The warnings about gains over the anchor, and why some have no curve; each with what it is about."""
    found: dict[str, list[str]] = {}
    for series in curves:
        for warning in bd_psnr_db(anchor, series.points).warnings:
            found.setdefault(warning, []).append(series.label)
    for text, labels in found.items():
        yield f"Warning about the gain of {some_labels(labels)}: {text}."


def some_labels(labels: Iterable[str]) -> str:
    """The first labels, each once, and how many more there are."""
    names = list(dict.fromkeys(labels))
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return "; ".join(names[:_MAX_NAMED]) + more


def image_chart(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> PointChart:
    """PSNR over rate of the files and of the autoencoders, those of one architecture a curve.

    With the paper's points where the pictures have the size of its own.

    Args:
        means: Means over the images.
        networks: The autoencoders.
    """
    files = [_file_series(method, means) for method in _IMAGE_LOOKS]
    series, notes = finite_series([*files, *_network_series(means, networks), *_decoded_series(means)])
    x = Axis("rate [bit per pixel]", with_zero=True)
    is_as_theirs = all(math.isclose(each, 8 / _PAPER_PIXELS) for m in means if (each := m.bpp_per_byte) is not None)
    quoted = _paper_series() if series and is_as_theirs else ()
    notes += () if is_as_theirs else (_PAPER_APART,)
    return PointChart("PSNR over rate", x, Axis("mean PSNR, RGB [dB]"), (*series, *quoted), notes)


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
        again, marker = divmod(place, len(NETWORK_MARKERS))
        look = NETWORK_MARKERS[marker], _LINES[again % len(_LINES)]
        yield Series(label, points, 1, *look, tuple(mean.name for mean in found))


def _decoded_series(means: Sequence[ImageMean]) -> Iterator[Series]:
    """The autoencoders with decoded weights: a mark for each kind of them, a curve for operating points of one."""
    curves: dict[tuple[str, str], list[ImageMean]] = {}
    for mean in sorted(means, key=lambda mean: mean.bpp):
        if mean.weights not in (NO_WEIGHTS, ORIGINAL):
            together = "" if mean.operating_point is None else mean.curve_name
            curves.setdefault((together, mean.weights), []).append(mean)
    for place, ((together, weights), found) in enumerate(curves.items()):
        points = tuple((mean.bpp, mean.psnr_db) for mean in found)
        again, number = divmod(place, len(OPEN_MARKERS))
        colour, (marker, line) = _DECODED_COLOURS[again % len(_DECODED_COLOURS)], _DECODED_LOOKS[number]
        label = RECONSTRUCTED + (f" ({together})" if together else "")
        label += f", {weights_title(weights)}" if len(curves) > 1 else ""
        names = tuple(f"{mean.name}, {weights_title(weights)}" for mean in found)
        yield Series(label, points, colour, marker, line if together else "none", names)


def _paper_series() -> Iterator[Series]:
    markers: tuple[Marker, ...] = ("triangle", "star")
    for theirs, marker in zip(PAPER_END_TO_END[:2], markers, strict=True):
        yield Series(f"{theirs.label}, in the paper", ((theirs.bpp, theirs.psnr_db),), 3, marker, "none")


def _tool_looks(results: ToolResults) -> Iterator[tuple[Variant, Series]]:
    """What is drawn and how: anchors neutral, a colour and a marker per network, open marks where weights are decoded.

    Where networks ran in several ways, or are more than there are colours, only the last of their weights is drawn:
    their curves would hide each other, and their looks be the same. Open marks are of ways then.
    """
    ways = {variant.way for variant in results.tests if variant.network}
    last = {network: weights for network, weights in results.networks if not is_adapted(weights)}
    n_decoded = max((len(_decoded(results, name)) for name in results.network_names), default=0)
    has_all = len(ways) == 1 and len(results.network_names) <= N_COLOURS and n_decoded <= len(_DECODED_LOOKS)
    for variant in results.variants:
        label = variant_label(results, variant)
        if not variant.network:
            yield variant, Series(label, (), 0, *_CODEC_LOOKS[variant.loop_filters])
            continue
        number = results.network_names.index(variant.network)
        look: tuple[Marker, Line] = NETWORK_MARKERS[number % len(NETWORK_MARKERS)], "solid"
        if has_all and variant.weights != ORIGINAL:
            look = _DECODED_LOOKS[_decoded(results, variant.network).index(variant.weights)]
        elif len(ways) > 1:
            has_colours = len(results.network_names) <= N_COLOURS
            look = _WAY_MARKERS.get(variant.way, look[0]) if has_colours else look[0], _WAY_LINES[variant.way]
        if has_all or variant.weights == last.get(variant.network):
            yield variant, Series(label, (), number % N_COLOURS + 1, *look)


def _decoded(results: ToolResults, network: str) -> list[str]:
    """The weights of a network that are not as trained."""
    return [weights for name, weights in results.networks if name == network and weights != ORIGINAL]


def _named(series: Series, qps: Sequence[int]) -> Series:
    """The curve by rising rate, each point with its QP where none is missing."""
    names = tuple(f"QP {qp}" for qp in sorted(qps, reverse=True))
    points = tuple(sorted(series.points))
    return replace(series, points=points, names=names if len(points) == len(names) else ())


def _gain(series: Series, anchor: Sequence[Point], place: int) -> Series:
    """The gain of a curve, its markers beside those of the curves before it."""
    steps = tuple(zip(*gain_curve(anchor, series.points), strict=True))
    first = _GAIN_MARKER_STRIDE * place % _GAIN_MARKER_STEPS
    return replace(series, points=steps, names=(), marked=(first, _GAIN_MARKER_STEPS))
