"""Charts as SVG that stands in a page: its colours are classes of the page's style, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

from vvc_nnr.experiments.report.charts import N_COLOURS, Axis, BarChart, Chart, Line, Marker, PointChart, Series
from vvc_nnr.experiments.report.scales import Scale, scale_of, tick_texts
from vvc_nnr.experiments.tables.bd_rate import Point
from vvc_nnr.experiments.tables.table import one_line

WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 42
_BAR_HEIGHT, _GROUP_GAP, _BAR_VALUES, _LETTER = 13, 12, 46, 6.3
_N_TICKS = 6
_MAX_NAME, _NAME_HEIGHT = 24, 12
_SHAPES: dict[Marker, str] = {
    "circle": "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
    "square": "M-3.3 -3.3h6.6v6.6h-6.6z",
    "triangle": "M0 -4.4L4.2 3.2H-4.2z",
    "diamond": "M0 -4.8L4.2 0L0 4.8L-4.2 0z",
    "cross": "M-3.6 -3.6L3.6 3.6M-3.6 3.6L3.6 -3.6",
    "star": "M0 -5.4L1.3 -1.7L5.1 -1.7L2.1 0.7L3.2 4.4L0 2.1L-3.2 4.4L-2.1 0.7L-5.1 -1.7L-1.3 -1.7z",
    "none": "",
}


def chart_svg(chart: Chart) -> str:
    """The chart as an `svg` element, its title as name for those who do not see it."""
    root = _points(chart) if isinstance(chart, PointChart) else _bars(chart)
    root.set("role", "img")
    root.set("aria-label", _alternative(chart))
    return tostring(root, encoding="unicode")


def swatch_svg(number: int, marker: Marker, line: Line) -> str:
    """The key of a series in a legend."""
    root = Element("svg", {"viewBox": "-16 -7 32 14", "class": f"swatch c{number}", "aria-hidden": "true"})
    if line != "none":
        SubElement(root, "path", {"d": "M-15 0H15", "class": f"line {line}"})
    _marker(root, marker, 0, 0)
    return tostring(root, encoding="unicode")


def bar_swatch_svg(number: int) -> str:
    """The key of a kind of bar in a legend."""
    root = Element("svg", {"viewBox": "0 0 14 14", "class": f"swatch square c{number}", "aria-hidden": "true"})
    SubElement(root, "rect", {"width": "14", "height": "14", "class": "bar"})
    return tostring(root, encoding="unicode")


def _alternative(chart: Chart) -> str:
    if isinstance(chart, BarChart):
        names = ", ".join(bars.label for bars in chart.bars)
        return one_line(f"{chart.title}. Bars of {names} for {', '.join(chart.groups)}. The numbers are in the tables.")
    names = ", ".join(series.label for series in chart.series)
    return one_line(f"{chart.title}. {chart.y.label} over {chart.x.label} of {names}. The numbers are in the tables.")


def _points(chart: PointChart) -> Element:
    root = _root(HEIGHT)
    points = [point for series in chart.series for point in series.points if all(map(math.isfinite, point))]
    x = _scale([p[0] for p in points], chart.x, _LEFT, WIDTH - _RIGHT)
    y = _scale([p[1] for p in points], chart.y, HEIGHT - _BOTTOM, _TOP)
    _x_axis(root, x, chart.x, HEIGHT - _BOTTOM)
    _y_axis(root, y, chart.y)
    for series in chart.series:
        _series(root, series, x, y)
    return root


def _scale(values: list[float], axis: Axis, start: float, end: float) -> Scale:
    return scale_of([*values, *axis.includes], start, end, logarithmic=axis.logarithmic, with_zero=axis.with_zero)


def _x_axis(root: Element, x: Scale, axis: Axis, base: float) -> None:
    ticks = x.ticks(_N_TICKS)
    for tick, text in zip(ticks, tick_texts(ticks, logarithmic=x.logarithmic), strict=True):
        at = _number(x.place(tick))
        SubElement(root, "path", {"d": f"M{at} {_TOP}V{_number(base)}", "class": _grid(tick, axis)})
        _text(root, text, at, _number(base + 16), "middle")
    _text(root, axis.label, _number((x.start + x.end) / 2), _number(base + 35), "middle", "label")


def _y_axis(root: Element, y: Scale, axis: Axis) -> None:
    ticks = y.ticks(_N_TICKS)
    for tick, text in zip(ticks, tick_texts(ticks, logarithmic=y.logarithmic), strict=True):
        at = y.place(tick)
        SubElement(root, "path", {"d": f"M{_LEFT} {_number(at)}H{WIDTH - _RIGHT}", "class": _grid(tick, axis)})
        _text(root, text, _number(_LEFT - 6), _number(at + 4), "end")
    middle = _number((y.start + y.end) / 2)
    label = _text(root, axis.label, "0", "0", "middle", "label")
    label.set("transform", f"translate(11 {middle}) rotate(-90)")


def _grid(tick: float, axis: Axis) -> str:
    return "zero" if axis.with_zero and tick == 0 else "grid"


def _series(root: Element, series: Series, x: Scale, y: Scale) -> None:
    group = SubElement(root, "g", {"class": f"c{series.colour}"})
    places = [(x.place(px), y.place(py)) for px, py in series.points if _is_drawable((px, py), x, y)]
    if series.line != "none" and len(places) > 1:
        path = "L".join(f"{_number(px)} {_number(py)}" for px, py in places)
        SubElement(group, "path", {"d": f"M{path}", "class": f"line {series.line}"})
    if series.marker != "none":
        named = [point for point in zip(series.points, _names(series), strict=True) if _is_drawable(point[0], x, y)]
        for (px, py), (point, name) in zip(places, named, strict=True):
            title = f"{name}{series.label}: {point[0]:.4g}, {point[1]:.5g}"
            SubElement(_marker(group, series.marker, px, py), "title").text = one_line(title)
        if series.labelled:
            names = [name.removesuffix(", ") for _, name in named]
            _beside(group, list(zip(names, places, strict=True)), (x.start + x.end) / 2)


def _beside(group: Element, named: list[tuple[str, Point]], middle: float) -> None:
    """Names on the side of their points with more space: the lowest in its place, others moved up out of its way."""
    placed: list[tuple[float, float, float]] = []
    for name, (px, py) in sorted(named, key=lambda each: -each[1][1]):
        is_left = px < middle
        start = px + 8 if is_left else px - 8 - _LETTER * len(name)
        end = start + _LETTER * len(name)
        at = py + 4
        for other_start, other_end, other in sorted(placed, key=lambda each: -each[2]):
            if start < other_end and other_start < end and abs(at - other) < _NAME_HEIGHT:
                at = other - _NAME_HEIGHT
        placed.append((start, end, at))
        _text(group, name, _number(start if is_left else end), _number(at), "start" if is_left else "end", "value")


def _names(series: Series) -> Iterator[str]:
    for place in range(len(series.points)):
        yield f"{series.names[place]}, " if series.names else ""


def _is_drawable(point: Point, x: Scale, y: Scale) -> bool:
    return all(math.isfinite(v) and (v > 0 or not s.logarithmic) for v, s in zip(point, (x, y), strict=True))


def _marker(parent: Element, marker: Marker, x: float, y: float) -> Element:
    attributes = {"d": _SHAPES[marker], "class": "marker open" if marker == "cross" else "marker"}
    return SubElement(parent, "path", attributes | {"transform": f"translate({_number(x)} {_number(y)})"})


def _bars(chart: BarChart) -> Element:
    """Groups from the top; a bar's value stands at its end, a group's name above its bars on the left."""
    group_height = _BAR_HEIGHT * len(chart.bars) + _GROUP_GAP
    base = _TOP + group_height * len(chart.groups)
    root = _root(base + _BOTTOM - 4)
    values = [value for bars in chart.bars for value in bars.values if value is not None and math.isfinite(value)]
    longest = max((min(len(name), _MAX_NAME) for name in chart.groups), default=0)
    start = _LETTER * longest + 8 + _BAR_VALUES * (min(values, default=0) < 0)
    end = WIDTH - _RIGHT - _BAR_VALUES * (max(values, default=0) > 0)
    x = scale_of(values, start, end, with_zero=True)
    _x_axis(root, x, Axis(f"[{chart.unit}]", with_zero=True), base)
    for place, name in enumerate(chart.groups):
        top = _TOP + place * group_height + _GROUP_GAP / 2
        short = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
        label = _text(root, short, "0", _number(top + (group_height - _GROUP_GAP) / 2 + 4), "start", "name")
        SubElement(label, "title").text = one_line(name)
        for number, bars in enumerate(chart.bars):
            title = f"{name}, {bars.label}"
            _bar(root, chart, title, bars.values[place], number % N_COLOURS + 1, top + number * _BAR_HEIGHT, x)
    return root


def _bar(root: Element, chart: BarChart, title: str, value: float | None, number: int, top: float, x: Scale) -> None:
    if value is None or not math.isfinite(value):
        _text(root, "-", _number(x.place(0) + 5), _number(top + 10), "start", "value")
        return
    text = f"{round(value, chart.digits) + 0.0:{'+' if chart.signed else ''}.{chart.digits}f}"
    left, right = sorted((x.place(0), x.place(value)))
    group = SubElement(root, "g", {"class": f"c{number}"})
    size = {"width": _number(max(right - left, 0.5)), "height": str(_BAR_HEIGHT - 2)}
    rect = SubElement(group, "rect", {"x": _number(left), "y": _number(top + 1), "class": "bar", **size})
    SubElement(rect, "title").text = one_line(f"{title}: {text} {chart.unit}")
    at, anchor = (left - 4, "end") if value < 0 else (right + 4, "start")
    _text(root, text, _number(at), _number(top + 10.5), anchor, "value")


def _root(height: float) -> Element:
    return Element("svg", {"viewBox": f"0 0 {WIDTH} {_number(height)}"})


def _text(parent: Element, text: str, x: str, y: str, anchor: str, kind: str = "tick") -> Element:
    element = SubElement(parent, "text", {"x": x, "y": y, "text-anchor": anchor, "class": kind})
    element.text = one_line(text)
    return element


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"
