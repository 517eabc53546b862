"""Charts in the page: matplotlib's figures with the page's colours and fonts, each point with what it says."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from vvc_nnr.experiments.charts import Axis, BarChart, Bars, Line, Marker, PointChart, Series
from vvc_nnr.experiments.plots import COLOURS, Mark
from vvc_nnr.experiments.report import page as module
from vvc_nnr.experiments.report.page import bar_key_svg, chart_svg, figure_svg, key_svg

NASTY = "</title><script>alert(1)</script>"
SERIES = Series("all", ((1.0, 30.0), (10.0, 40.0)), names=("QP 37", "QP 22"))
RATE = Axis("rate [kbit]", logarithmic=True, digits=1)
PSNR = Axis("PSNR [dB]")


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def places(root: ElementTree.Element) -> list[tuple[float, float]]:
    found = [re.fullmatch(r"translate\((\S+) (\S+)\)", each.get("transform", "")) for each in root.iter("path")]
    return [(float(match[1]), float(match[2])) for match in found if match]


def size(root: ElementTree.Element) -> tuple[float, float]:
    _, _, width, height = map(float, root.get("viewBox", "").split())
    return width, height


def texts(root: ElementTree.Element, tag: str) -> list[str]:
    return [each.text or "" for each in root.iter(tag)]


def test_points_are_inside_and_the_right_way_up() -> None:
    root = parsed(chart_svg(PointChart("t", RATE, PSNR, (SERIES,))))
    (x0, y0), (x1, y1) = places(root)
    width, height = size(root)
    assert 0 < x0 < x1 < width
    assert 0 < y1 < y0 < height
    assert texts(root, "title") == [
        "QP 37, all: rate 1.0 kbit, PSNR 30.000 dB",
        "QP 22, all: rate 10.0 kbit, PSNR 40.000 dB",
    ]
    assert [each.get("data-series") for each in root.iter("g")] == ["all"]


def test_what_cannot_be_drawn_is_left_out() -> None:
    series = Series("s", ((0.0, 30.0), (1.0, math.inf), (2.0, 35.0)), names=("a", "b", "c"))
    root = parsed(chart_svg(PointChart("t", RATE, PSNR, (series,))))
    assert len(places(root)) == 1
    assert texts(root, "title") == ["c, s: rate 2.0 kbit, PSNR 35.000 dB"]
    assert "nan" not in chart_svg(PointChart("t", Axis("x"), Axis("y"), ()))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (11.8, 56.1, ["15", "20", "30", "40", "50"]),
        (1.0, 100.0, ["1", "3", "10", "30", "100"]),
        (20.0, 900.0, ["20", "50", "100", "200", "500", "1000"]),
        (50.0, 52.0, ["50", "50.5", "51", "51.5", "52"]),
        (2e-3, 7e5, ["0.01", "1", "100", "10000", "1e+06"]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[str]) -> None:
    series = Series("s", ((low, -0.31), (high, 0.2)))
    root = parsed(chart_svg(PointChart("t", RATE, Axis("gain [dB]", with_zero=True), (series,))))
    assert texts(root, "text") == [*ticks, RATE.label, "-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2", "gain [dB]"]


@given(
    points=st.lists(st.tuples(st.floats(1e-3, 1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=5),
    logarithmic=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_point_is_inside_and_ticks_are_few(points: list[tuple[float, float]], logarithmic: bool) -> None:
    chart = PointChart("t", Axis("x", logarithmic=logarithmic), Axis("y"), (Series("s", tuple(points)),))
    root = parsed(chart_svg(chart))
    width, height = size(root)
    assert len(places(root)) == len(points)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(root))
    assert len(texts(root, "text")) <= 2 * 9 + 2


def test_values_that_the_axes_must_have_are_there() -> None:
    series = Series("s", ((10.0, 5.0), (20.0, 6.0)))
    wide = PointChart(
        "t", Axis("x [kMAC]", logarithmic=True, includes=(1, 100)), Axis("y [%]", with_zero=True), (series,)
    )
    numbers = texts(parsed(chart_svg(wide)), "text")
    assert {"1", "100", "0"} <= set(numbers)


def test_names_stay_texts() -> None:
    series = Series(NASTY, ((1.0, 2.0),), names=(NASTY,), labelled=True)
    text = chart_svg(PointChart(NASTY, Axis(NASTY), Axis(NASTY), (series,)))
    text += chart_svg(BarChart(NASTY, NASTY, (NASTY,), (Bars(NASTY, (1.0,)),)))
    assert "<script" not in text
    assert NASTY in parsed(chart_svg(PointChart(NASTY, Axis(""), Axis(""), ()))).get("aria-label", "")


def test_names_from_outside_are_drawn_as_they_are() -> None:
    """No formula, no warning about letters that matplotlib's font has not, nothing that XML cannot hold."""
    names = ("$_{$", "海 🎬", "a\x00b\udcff")
    bars = parsed(chart_svg(BarChart("t", "%", names, (Bars("b", (1.0, 2.0, 3.0)),))))
    assert {"$_{$", "海 🎬", "a?b?"} <= set(texts(bars, "text"))
    series = Series("s", ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0)), names=names, labelled=True)
    assert {"$_{$", "海 🎬", "a?b?"} <= set(texts(parsed(chart_svg(PointChart("t", RATE, PSNR, (series,)))), "text"))


def test_long_names_beside_bars_stand_whole_in_several_lines() -> None:
    """Names that differ at their ends alone must not look alike."""
    names = tuple(f"inloop-vlop, decisions off, updates: {of}" for of in ("shared", "each", "auto"))
    root = parsed(chart_svg(BarChart("t", "%", names, (Bars("b", (1.0, 2.0, 3.0)),))))
    found = texts(root, "text")
    assert [text for text in found if text.startswith("off, ")] == [
        "off, updates: shared",
        "off, updates: each",
        "off, updates: auto",
    ]
    heights = [
        float(each.get("y", "0")) for each in root.iter("text") if (each.text or "").startswith(("inloop", "off"))
    ]
    assert all(lower - upper > 10 for upper, lower in itertools.pairwise(heights))


def test_bars_that_print_as_zero_look_like_zero() -> None:
    """Their axis would be 0.004 % long, and they as long as any."""
    root = parsed(chart_svg(BarChart("t", "%", ("B",), (Bars("Y", (0.004,)), Bars("Cb", (0.003,))))))
    assert "+0.00" in texts(root, "text")
    ticks = [float(text) for text in texts(root, "text") if text.replace(".", "").isdigit()]
    assert max(ticks) >= 0.08


def test_the_line_at_zero_strikes_no_name_through() -> None:
    series = Series("s", ((1.0, 0.0), (2.0, 4.0)), names=("at zero", "above"), labelled=True)
    root = parsed(chart_svg(PointChart("t", Axis("x"), Axis("y", with_zero=True), (series,))))
    (name,) = (each for each in root.iter("text") if each.text == "at zero")
    (zero,) = (each for each in root.iter("text") if each.text == "0")
    assert abs(float(name.get("y", "0")) - float(zero.get("y", "0"))) >= 7


def test_bars_grow_from_zero_both_ways() -> None:
    bars = (Bars("Y", (-4.0, 2.0, None)), Bars("Cb", (-8.0, 0.0, math.inf)))
    root = parsed(chart_svg(BarChart("t", "%", ("B", "C", "D"), bars)))
    drawn = {each[0].text: horizontal(each) for each in root.iter("path") if len(each)}
    assert list(drawn) == ["B, Y: -4.00 %", "C, Y: +2.00 %", "B, Cb: -8.00 %", "C, Cb: +0.00 %"]
    (low, zero), (start, _) = drawn["B, Y: -4.00 %"], drawn["C, Y: +2.00 %"]
    assert zero == start == drawn["C, Cb: +0.00 %"][0]
    assert zero - drawn["B, Cb: -8.00 %"][0] == pytest.approx(2 * (zero - low), abs=0.2)
    assert texts(root, "text").count("-") == 2
    assert {"-4.00", "+2.00", "-8.00", "+0.00"} <= set(texts(root, "text"))


def horizontal(bar: ElementTree.Element) -> tuple[float, float]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", bar.get("d", ""))]
    return min(numbers[::2]), max(numbers[::2])


def test_series_differ_by_more_than_colour() -> None:
    markers: tuple[Marker, ...] = ("circle", "square", "triangle", "diamond", "cross", "star", "none")
    lines: tuple[Line, ...] = ("solid", "dashed", "dotted", "none")
    assert len({key_svg(1, marker, line) for marker in markers for line in lines}) == 28
    assert "var(--c2)" in bar_key_svg(2)


def test_nothing_has_a_style_or_an_id_or_a_colour_of_its_own() -> None:
    """The page forbids the first, the second must be unique in it, and the third would not follow its theme."""
    series = tuple(Series(f"s{n}", ((1.0, 1.0 + n), (2.0, 2.0)), n, "cross" if n % 2 else "circle") for n in range(7))
    drawn = [
        chart_svg(PointChart("t", RATE, Axis("y [%]", with_zero=True), series)),
        chart_svg(BarChart("t", "%", ("a",), tuple(Bars(f"b{n}", (n - 3.0,)) for n in range(7)))),
        key_svg(3, "star", "dotted"),
        bar_key_svg(4),
    ]
    style = (Path(module.__file__).parent / "style.css").read_text()
    for text in drawn:
        root = parsed(text)
        assert {each.tag for each in root.iter()} <= {"svg", "g", "path", "text", "title"}
        names = {name for each in root.iter() for name in each.attrib}
        assert not names & {"style", "id", "clip-path", "href"}
        colours = {each.get(name) for each in root.iter() for name in ("fill", "stroke")} - {None, "none"}
        assert colours
        assert all(re.fullmatch(r"var\(--\w+\)", colour or "") for colour in colours)
        assert all(f"{(colour or '')[4:-1]}: #" in style for colour in colours)


def test_files_have_the_colours_of_the_light_page() -> None:
    style = (Path(module.__file__).parent / "style.css").read_text().partition("@media")[0]
    for name, colour in COLOURS.items():
        assert f"--{name}: {colour};" in style


def test_any_figure_becomes_part_of_a_page() -> None:
    """Other colours stay, and what has no mark is there as well."""
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#ff0000", marker="o", gid="known")
    axes.fill_between([0, 1], [0, 1], alpha=0.5)
    root = figure_svg(figure, {"known": Mark("series", ("first", "second"))})
    assert texts(root, "title") == ["first", "second"]
    assert any("#ff0000" in each.attrib.values() for each in root.iter())


def test_the_same_chart_is_the_same_text() -> None:
    chart = PointChart("t", RATE, PSNR, (SERIES,))
    assert chart_svg(chart) == chart_svg(chart)


def test_names_beside_points_cover_no_points_and_no_names() -> None:
    """Where many points are near each other, names move away, with a line to their point."""
    near = tuple((10.0 + n, -5.0 - 0.01 * n) for n in range(8))
    names = tuple(f"network {n}" for n in range(8))
    series = Series("s", near, line="none", names=names, labelled=True)
    axis = Axis("y", with_zero=True)
    root = parsed(chart_svg(PointChart("t", Axis("x", includes=(1, 100)), axis, (series,))))
    named = [each for each in root.iter("text") if (each.text or "").startswith("network")]
    assert len(named) == 8
    boxes = []
    for each in named:
        x, y, width = float(each.get("x", "")), float(each.get("y", "")), 6.0 * len(each.text or "")
        left = {"middle": x - width / 2, "end": x - width}.get(each.get("text-anchor", ""), x)
        boxes.append((left, left + width, y))
    for place, (left, right, y) in enumerate(boxes):
        assert not any(left < x < right and abs(y - 4 - at) < 4 for x, at in places(root))
        assert all(right < a or b < left or abs(y - at) > 8 for a, b, at in boxes[:place])
    lines = [each for each in root.iter("g") if each.get("data-series") == "s" and not len(each.findall("text"))]
    assert len(lines) > 1
