"""Figures of matplotlib as SVG that stands in a page: its fonts, its colours, its theme, and no style of their own.

matplotlib writes colours and fonts as style attributes, which the page's content security policy forbids, and shapes
that are used more than once with ids, which must be unique in a page. Here they become attributes that name the
page's variables, and shapes in their places.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from matplotlib.figure import Figure

from vvc_nnr.experiments.charts import BarChart, Chart, Line, Marker
from vvc_nnr.experiments.plots import COLOURS, Mark, draw_bar_key, draw_chart, draw_key, figure_bytes
from vvc_nnr.experiments.tables.table import one_line

_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_KEPT = ("fill", "stroke", "stroke-width", "stroke-dasharray", "text-anchor", "opacity")
"""What of matplotlib's style says how a thing looks; fonts, and the ends and joints of lines, are the page's."""
_XLINK = "{http://www.w3.org/1999/xlink}href"


def chart_svg(chart: Chart) -> str:
    """The chart as an `svg` element, its title as name for those who do not see it.

    Each series is a group with its label as `data-series`, each of its points has what it says as `title`.
    """
    drawing = draw_chart(chart)
    root = figure_svg(drawing.figure, drawing.marks)
    root.set("role", "img")
    root.set("aria-label", _alternative(chart))
    return tostring(root, encoding="unicode")


@cache  # a page has the same few keys in many legends
def key_svg(colour: int, marker: Marker, line: Line) -> str:
    """The key of a series in a legend."""
    return _key(draw_key(colour, marker, line), "swatch")


@cache
def bar_key_svg(colour: int) -> str:
    """The key of a kind of bar in a legend."""
    return _key(draw_bar_key(colour), "swatch square")


def figure_svg(figure: Figure, marks: Mapping[str, Mark]) -> Element:
    """A figure as an `svg` element.

    Args:
        figure: Drawn in `COLOURS`; other colours stay as they are in every theme.
        marks: What the artists with a `gid` stand for.
    """
    with warnings.catch_warnings():
        # the browser has letters that matplotlib's font has not
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        drawn = fromstring(figure_bytes(figure, "svg"))
    shapes = {shape.get("id", ""): shape.get("d", "") for shape in drawn.iter() if _tag(shape) == "path"}
    root = Element("svg", {"viewBox": drawn.get("viewBox", "")})
    for child in drawn:
        root.extend(_converted(child, shapes, marks))
    return root


def _key(figure: Figure, kind: str) -> str:
    figure.patch.set_visible(False)
    root = figure_svg(figure, {})
    root.set("class", kind)
    root.set("aria-hidden", "true")
    return tostring(root, encoding="unicode")


def _alternative(chart: Chart) -> str:
    if isinstance(chart, BarChart):
        names = ", ".join(bars.label for bars in chart.bars)
        return one_line(f"{chart.title}. Bars of {names} for {', '.join(chart.groups)}. The numbers are in the tables.")
    names = ", ".join(series.label for series in chart.series)
    return one_line(f"{chart.title}. {chart.y.label} over {chart.x.label} of {names}. The numbers are in the tables.")


def _converted(element: Element, shapes: Mapping[str, str], marks: Mapping[str, Mark]) -> Iterator[Element]:
    """What stands in the page for an element of matplotlib: nothing, itself, or what is in it."""
    match _tag(element):
        case "g":
            children = [new for child in element for new in _converted(child, shapes, marks)]
            mark = marks.get(element.get("id", ""))
            if mark is None:
                yield from children
            else:
                yield from _marked(children, mark)
        case "path":
            yield Element("path", {"d": _rounded(element.get("d", "")), **_look(element)})
        case "use":
            shape = shapes[element.get(_XLINK, "").removeprefix("#")]
            x, y = (_number(element.get(name, "0")) for name in ("x", "y"))
            yield Element("path", {"d": _rounded(shape), "transform": f"translate({x} {y})", **_look(element)})
        case "text":
            x, y = (_number(element.get(name, "0")) for name in ("x", "y"))
            text = Element("text", {"x": x, "y": y, **_look(element)})
            rotation = element.get("transform", "")
            if not rotation.startswith("rotate(-0 "):
                text.set("transform", rotation)
            text.text = element.text
            yield text


def _marked(elements: list[Element], mark: Mark) -> Iterator[Element]:
    """The points of a series in a group of their own, each with what it says."""
    points = [each for each in elements if each.get("transform")] or elements
    for point, text in zip(points, mark.texts, strict=bool(mark.texts)):
        SubElement(point, "title").text = text
    group = Element("g", {"data-series": mark.series} if mark.series else {})
    group.extend(elements)
    _hoist(group, points)
    yield group


def _hoist(group: Element, points: list[Element]) -> None:
    """What all points of a series share is said once, unless it would reach its line as well."""
    others = [each for each in group if each not in points]
    for name in _KEPT:
        values = {point.get(name) for point in points}
        if len(values) == 1 and None not in values and all(name in other.attrib for other in others):
            group.set(name, points[0].get(name, ""))
            for point in points:
                del point.attrib[name]


def _look(element: Element) -> dict[str, str]:
    """Matplotlib's style as attributes, its colours as the page's variables."""
    pairs = (rule.partition(":") for rule in element.get("style", "").split(";"))
    style = {name.strip(): value.strip() for name, _, value in pairs}
    return {name: _VARIABLES.get(style[name], style[name]) for name in _KEPT if name in style}


def _rounded(path: str) -> str:
    """A path's data with a tenth of a point as its unit."""
    return "".join(word if word.isalpha() else f"{_number(word)} " for word in path.split()).replace(" z", "z").strip()


def _number(text: str) -> str:
    return f"{round(float(text), 1) + 0.0:g}"


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
