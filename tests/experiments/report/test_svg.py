from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from vvc_nnr.experiments.report.charts import Axis, BarChart, Bars, PointChart, Series
from vvc_nnr.experiments.report.svg import HEIGHT, WIDTH, chart_svg, swatch_svg

NASTY = "</title><script>alert(1)</script>"
SERIES = Series("all", ((1.0, 30.0), (10.0, 40.0)), names=("QP 37", "QP 22"))


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def places(root: ElementTree.Element) -> list[tuple[float, float]]:
    found = [re.fullmatch(r"translate\((\S+) (\S+)\)", each.get("transform", "")) for each in root.iter("path")]
    return [(float(match[1]), float(match[2])) for match in found if match]


def test_points_are_inside_and_the_right_way_up() -> None:
    root = parsed(chart_svg(PointChart("t", Axis("x", logarithmic=True), Axis("y"), (SERIES,))))
    (x0, y0), (x1, y1) = places(root)
    assert 0 < x0 < x1 < WIDTH
    assert 0 < y1 < y0 < HEIGHT
    titles = [each.text for each in root.iter("title")]
    assert titles == ["QP 37, all: 1, 30", "QP 22, all: 10, 40"]


def test_what_cannot_be_drawn_is_left_out() -> None:
    series = Series("s", ((0.0, 30.0), (1.0, math.inf), (2.0, 35.0)), names=("a", "b", "c"))
    root = parsed(chart_svg(PointChart("t", Axis("x", logarithmic=True), Axis("y"), (series,))))
    assert len(places(root)) == 1
    assert [each.text for each in root.iter("title")] == ["c, s: 2, 35"]
    assert "nan" not in chart_svg(PointChart("t", Axis("x"), Axis("y"), ()))


def test_names_stay_texts() -> None:
    series = Series(NASTY, ((1.0, 2.0),), names=(NASTY,), labelled=True)
    text = chart_svg(PointChart(NASTY, Axis(NASTY), Axis(NASTY), (series,)))
    text += chart_svg(BarChart(NASTY, NASTY, (NASTY,), (Bars(NASTY, (1.0,)),)))
    assert "<script" not in text
    assert NASTY in parsed(chart_svg(PointChart(NASTY, Axis(""), Axis(""), ()))).get("aria-label", "")


def test_bars_grow_from_zero_both_ways() -> None:
    bars = (Bars("Y", (-4.0, 2.0, None)), Bars("Cb", (-8.0, 0.0, math.inf)))
    root = parsed(chart_svg(BarChart("t", "%", ("B", "C", "D"), bars)))
    rects = {each[0].text: each for each in root.iter("rect")}
    minus, plus = rects["B, Y: -4.00 %"], rects["C, Y: +2.00 %"]
    zero = float(minus.get("x", "")) + float(minus.get("width", ""))
    assert zero == float(plus.get("x", ""))
    assert float(rects["B, Cb: -8.00 %"].get("width", "")) == 2 * float(minus.get("width", ""))
    assert len(rects) == 4
    assert [each.text for each in root.iter("text")].count("-") == 2


def test_series_differ_by_more_than_colour() -> None:
    swatches = {swatch_svg(1, marker, line) for marker in ("circle", "square", "cross") for line in ("solid", "dashed")}
    assert len(swatches) == 6
