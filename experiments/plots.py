"""Charts drawn by matplotlib, for files and for the page: figures without pyplot, its backend and its global state."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox, IdentityTransform, blended_transform_factory

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.charts import (
    GAIN_NOTE,
    N_COLOURS,
    OPEN_MARKERS,
    Axis,
    BarChart,
    Chart,
    Line,
    Marker,
    PointChart,
    Series,
    chart_notes,
    final_variants,
    has_data,
    image_chart,
    layer_chart,
    tool_rd_pair,
    warning_marks,
)
from vvc_nnr.experiments.records.rows import NetworkRow
from vvc_nnr.experiments.tables.bd_rate import Point
from vvc_nnr.experiments.tables.means import OVERALL, ToolResults, image_means
from vvc_nnr.experiments.tables.notes import configuration_suffix, counted
from vvc_nnr.experiments.tables.table import one_line
from vvc_nnr.files import write_file

if TYPE_CHECKING:
    import pandas as pd

COLOURS: Mapping[str, str] = {
    "ink": "#1a1c20",
    "soft": "#565b65",
    "grid": "#e7e7e1",
    "raised": "#ffffff",
    "c0": "#4a4f58",
    "c1": "#0068a8",
    "c2": "#c24e00",
    "c3": "#008560",
    "c4": "#ae4a86",
    "c5": "#946300",
    "c6": "#5a55c8",
}
"""Every colour of a figure, by its name in the page's style; `c0` is that of anchors, `c1` to `c6` are of series."""
_PIXELS_PER_INCH = 72
"""Of figures for the page: one point is one unit of their SVG."""
_WIDTH, _HEIGHT = 440, 248
"""Of a figure for the page, and of the axes in it, in points."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 42
_BAR_HEIGHT, _GROUP_GAP, _BAR_VALUES, _LETTER = 13, 12, 46, 6.3
_LINE_LETTERS, _LINE_HEIGHT = 24, 13
"""Of names beside bars."""
_SHORTEST_AXIS = 10
"""An axis of bars reaches so many of the last digits that are printed: what prints as zero looks like it."""
_NAME_HEIGHT, _NAME_GAP, _POINT_REACH = 12, 8, 4
_NAME_MOVES = sorted(
    range(-8 * _NAME_HEIGHT, 8 * _NAME_HEIGHT + 1, _NAME_HEIGHT // 2), key=lambda move: (abs(move), -move)
)
"""Where a name is tried, up or down from its point."""
_Box: TypeAlias = tuple[float, float, float, float]
_MIN_TICKS, _MAX_TICKS = 3, 6
_LOG_STEPS = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
_NOTE_LETTERS_PER_INCH = 13
"""In lines of notes and in legends, so that they stay in the figure."""
_KEY_LETTERS = 10
"""As wide are the key of a legend and the gaps beside it."""
_LEGEND_ROWS, _LEGEND_ROW_INCHES = 3, 0.21
"""A legend of more rows, those of notes among them, makes its figure higher, so that the charts stay as large."""
_MARKERS: Mapping[Marker, tuple[str, float]] = {
    "circle": ("o", 7.2),
    "square": ("s", 6.6),
    "triangle": ("^", 7.6),
    "diamond": ("D", 6.4),
    "star": ("*", 12),
    "cross": ("x", 9.6),
    "plus": ("+", 9.0),
    "tripod": ("1", 10.0),
    "tripod-up": ("2", 10.0),
    "tripod-left": ("3", 10.0),
    "tripod-right": ("4", 10.0),
    "none": ("", 0),
}
"""matplotlib's letter and size in points; shapes and lines differ as well as colours."""
_LINES: Mapping[Line, str] = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-.", "none": "none"}
_STYLE: Mapping[Any, Any] = {
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "axes.labelcolor": COLOURS["soft"],
    "axes.labelpad": 6,
    "axes.unicode_minus": False,
    "xtick.labelcolor": COLOURS["soft"],
    "ytick.labelcolor": COLOURS["soft"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.04,
    "axes.ymargin": 0.04,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "xtick.bottom": False,
    "ytick.left": False,
    "lines.linewidth": 1.75,
    "legend.frameon": False,
    "legend.fontsize": "small",
    # SVG: texts as texts, and the same bytes each time
    "svg.fonttype": "none",
    "svg.hashsalt": "vvc-nnr",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """What an artist of a drawing stands for.

    Attributes:
        series: Label of its series; empty if it is of none.
        texts: What each of its points says, in their order.
    """

    series: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart as a figure, without title and legend.

    Attributes:
        figure: The figure, 72 dots per inch.
        marks: By the artists' `gid`.
    """

    figure: Figure
    marks: Mapping[str, Mark]


@contextmanager
def drawing_style() -> Iterator[None]:
    """Figures are made and written in this style, whatever the user's own settings of matplotlib are."""
    with rc_context():
        rcdefaults()
        rcParams.update(_STYLE)
        yield


def draw_chart(chart: Chart) -> Drawing:
    """A chart for the page, which sets title and legend itself."""
    with drawing_style():
        if isinstance(chart, BarChart):
            figure, axes = _bar_axes(chart)
            marks = _draw_bars(axes, chart)
        else:
            figure, axes = _page_axes(_HEIGHT, _LEFT, _RIGHT)
            marks = _draw_points(axes, chart)
        return Drawing(figure, marks)


def draw_key(colour: int, marker: Marker, line: Line) -> Figure:
    """The key of a series in a legend, 32 x 14 points."""
    with drawing_style():
        figure = Figure(figsize=(32 / _PIXELS_PER_INCH, 14 / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        look = _look(Series("", (), colour, marker, line))
        figure.add_artist(Line2D([1, 16, 31], [7, 7, 7], markevery=[1], transform=IdentityTransform(), **look))
        return figure


def draw_bar_key(colour: int) -> Figure:
    """The key of a kind of bar in a legend, 14 x 14 points."""
    with drawing_style():
        figure = Figure(figsize=(14 / _PIXELS_PER_INCH, 14 / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        figure.add_artist(Rectangle((0, 0), 1, 1, facecolor=_colour(colour), transform=figure.transFigure))
        return figure


def tool_figures(results: ToolResults) -> dict[str, Figure]:
    """Plots of a tool-by-tool run in one configuration by file name: rate and distortion, gains per temporal layer."""
    found = {"rd_" + title.lower().replace(" ", "_"): figure for title, figure in rd_figures(results).items()}
    if results.configuration.is_inter and (variants := final_variants(results)):
        # Short sequences lack layers.
        of = "up to " if len(results.sequences) > 1 else ""
        title = f"{_titled('Gain over all filters', results)}, mean of {of}{counted(results.sequences)}"
        found["gain_per_layer"] = charts_figure(title, [layer_chart(results, variants)])
    return {name + configuration_suffix(results.configuration): figure for name, figure in found.items()}


def rd_figures(results: ToolResults) -> dict[str, Figure]:
    """A figure per class, and "Overall" of several: PSNR of luma over rate, and the gains that it hides."""
    groups = {f"Class {name}": names for name, names in results.classes.items()}
    if len(groups) > 1:
        groups[OVERALL] = tuple(results.sequences)
    found = {}
    for title, names in groups.items():
        charts = tool_rd_pair(results, title, names)
        heading = _heading(_titled(title, results), names)
        found[title] = charts_figure(heading, charts, GAIN_NOTE if len(charts) > 1 else "")
    return found


def end_to_end_figure(rows: pd.DataFrame, networks: Sequence[NetworkRow]) -> Figure:
    """PSNR over rate of the files and of the autoencoders, with the paper's points.

    Args:
        rows: Rows of the end-to-end experiment.
        networks: The autoencoders of the run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    means = image_means(rows)
    n_images = len(frozenset[str]().union(*(mean.images for mean in means)))
    return charts_figure(f"End to end, {n_images} image{'' if n_images == 1 else 's'}", [image_chart(means, networks)])


def training_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and validation figures of a training over its steps, as `vvc_nnr.filters.training.loop` keeps them."""
    steps, *names = history[-1]
    loss, *figures = (
        Series(name, tuple((row[steps], row[name]) for row in history if name in row), 1 + i % N_COLOURS)
        for i, name in enumerate(names)
    )
    x = Axis(steps)
    charts = [PointChart("loss", x, Axis("loss"), (loss,))]
    if figures:
        charts.append(PointChart("validation", x, Axis("figures of the averaged weights"), tuple(figures)))
    return charts_figure("Training", charts)


def charts_figure(title: str, charts: Sequence[PointChart], note: str = "") -> Figure:
    """Charts side by side with one legend below; what is not drawn is said there.

    Args:
        title: What all of them show.
        charts: At least one; one without a finite value leaves its place empty.
        note: What has to be known to read them.
    """
    with drawing_style():
        figure = Figure(figsize=(5.5 + 4.5 * (len(charts) - 1), 4.8), layout="constrained")
        keys: dict[str, Line2D] = {}
        for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
            axes.set_visible(has_data(chart))
            if has_data(chart):
                _draw_points(axes, chart)
                # the first chart's key, with markers, stands for the curve of gains as well
                keys |= {str(line.get_label()): line for line in _curves(axes) if line.get_label() not in keys}
        figure.suptitle(one_line(title), fontsize="medium", x=0.01, ha="left")
        n_letters = round(_NOTE_LETTERS_PER_INCH * figure.get_figwidth())
        columns = _legend_columns(list(keys), n_letters, 3 if len(charts) > 1 else 2)
        lines = fill(_notes(charts, note), n_letters)
        n_lines = math.ceil(len(keys) / columns) + len(lines.splitlines())
        figure.set_figheight(figure.get_figheight() + _LEGEND_ROW_INCHES * max(0, n_lines - _LEGEND_ROWS))
        legend = figure.legend(
            list(keys.values()), [""] * len(keys), loc="outside lower center", ncols=columns, handlelength=3
        )
        for text, label in zip(legend.get_texts(), keys, strict=True):
            text.set_text(
                fill(label, n_letters - _KEY_LETTERS)
            )  # only now: matplotlib before 3.10 leaves out a label that begins with an underscore
        if lines:
            legend.set_title(lines, prop=FontProperties(size="small"))
            legend.set_alignment("left")
        return figure


def _legend_columns(labels: Sequence[str], n_letters: int, most: int) -> int:
    """As many columns as fit into so many letters, each as wide as its longest label and key; at least one."""
    for columns in range(min(most, len(labels)), 1, -1):
        size, n_longer = divmod(len(labels), columns)  # matplotlib's own split: the first columns have one more
        ends = list(itertools.accumulate(size + (place < n_longer) for place in range(columns)))
        parts = [labels[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if sum(max(map(len, part)) + _KEY_LETTERS for part in parts) <= n_letters:
            return columns
    return 1


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png or .svg, the same bytes for the same figure.

    Raises:
        InputError: If the suffix is another, or the file cannot be written; nothing is left of it then.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise InputError(f"{path}: plots are written as .png or .svg")
    data = figure_bytes(figure, "svg" if suffix == ".svg" else "png")
    write_file(path, data)


def figure_bytes(figure: Figure, format: Literal["png", "svg"]) -> bytes:
    """The figure as a file, the same bytes for the same figure."""
    # SVG carries its date otherwise; a PNG has none
    metadata = {"Date": None} if format == "svg" else {}
    data = io.BytesIO()
    with drawing_style():
        figure.savefig(data, format=format, dpi=150, metadata=metadata)
    return data.getvalue()


def _curves(axes: Axes) -> list[Line2D]:
    """What is drawn of series; a line at zero is of none."""
    return [line for line in axes.lines if line.get_gid()]


def _heading(title: str, sequences: Sequence[str]) -> str:
    return f"{title}, mean of {counted(sequences)}"


def _titled(title: str, results: ToolResults) -> str:
    return f"{title}, {results.configuration.title}" if results.configuration.is_inter else title


def _notes(charts: Sequence[PointChart], note: str) -> str:
    """What is not drawn, and warnings, each sentence once."""
    own = [each for chart in charts for each in chart_notes(chart)]
    empty = [f"{chart.title}: there is no finite value to draw." for chart in charts if not has_data(chart)]
    return one_line(" ".join(filter(None, dict.fromkeys([note, *own, *empty]))))


def _page_axes(height: float, left: float, right: float) -> tuple[Figure, Axes]:
    """Axes of a height in a figure of the page's width, with fixed margins: charts side by side line up."""
    total = _TOP + height + _BOTTOM
    figure = Figure(figsize=(_WIDTH / _PIXELS_PER_INCH, total / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
    axes = figure.add_axes((left / _WIDTH, _BOTTOM / total, (_WIDTH - left - right) / _WIDTH, height / total))
    axes.xaxis.set_label_coords((left + _WIDTH - right) / 2, 19, IdentityTransform())
    axes.yaxis.set_label_coords(14, _BOTTOM + height / 2, IdentityTransform())
    for patch in (figure.patch, axes.patch):  # the page's own ground shows through
        patch.set_visible(False)
    return figure, axes


def _draw_points(axes: Axes, chart: PointChart) -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for number, series in enumerate(chart.series):
        drawn = chart.drawn(series)
        gid, label = f"series-{number}", one_line(series.label)
        places = [point for point, _, _ in drawn]
        axes.plot(*_columns(places), label=label, gid=gid, clip_on=False, markevery=series.marked, **_look(series))
        first, step = series.marked
        marked = drawn[first::step] if series.marker != "none" else []
        marks[gid] = Mark(label, tuple(_point_text(chart, series, *each) for each in marked))
    _set_up(axes, axes.xaxis, chart.x)
    _set_up(axes, axes.yaxis, chart.y)
    named = list(_named_points(chart))
    for (number, series), texts in zip(enumerate(chart.series), named, strict=True):
        if any(text for _, text in texts):
            marks[f"names-{number}"] = Mark(one_line(series.label), ())
    _name_points(axes, named, (chart.x.with_zero, chart.y.with_zero))
    return marks


def _named_points(chart: PointChart) -> Iterator[list[tuple[Point, str]]]:
    """The points of each series with what stands beside them: a name, the letter of a warning, both or nothing."""
    letters = {text: f"({letter})" for text, letter in warning_marks(chart).items()}
    for series in chart.series:
        drawn = chart.drawn(series)
        yield [(at, f"{one_line(name) * series.labelled} {letters.get(why, '')}".strip()) for at, name, why in drawn]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _look(series: Series) -> dict[str, Any]:
    """How matplotlib draws a series."""
    colour = _colour(series.colour)
    marker, size = _MARKERS[series.marker]
    is_open = series.marker in OPEN_MARKERS
    return {
        "color": colour,
        "linestyle": _LINES[series.line],
        "marker": marker,
        "markersize": size,
        "markeredgecolor": colour if is_open else COLOURS["raised"],
        "markeredgewidth": 2 if is_open else 1,
        # marks of decoded weights lie under those as trained, which they would cover, and look out from under them
        "zorder": 1.9 if is_open and series.line == "none" else 2,
    }


def _colour(number: int) -> str:
    return COLOURS[f"c{number}"]


def _point_text(chart: PointChart, series: Series, point: Point, name: str, warning: str) -> str:
    """What a point says: its name, its series, its values as the tables print them, and the warning about it."""
    heads = ", ".join(filter(None, (name, series.label)))
    return one_line(f"{heads}: {chart.x.text(point[0])}, {chart.y.text(point[1])}{_warned(warning)}")


def _warned(warning: str) -> str:
    return f" (warning: {warning})" if warning else ""


def _set_up(axes: Axes, drawn: DrawnAxis, axis: Axis) -> None:
    """Label, range and round ticks of an axis whose curves are drawn."""
    is_x = drawn is axes.xaxis
    extra = [value for value in (*axis.includes, *((0.0,) if axis.with_zero else ())) if axis.has(value)]
    if extra:
        pairs = [(value, value) for value in extra]
        axes.update_datalim(pairs, updatex=is_x, updatey=not is_x)
    drawn.set_label_text(one_line(axis.label))
    if axis.logarithmic:
        (axes.set_xscale if is_x else axes.set_yscale)("log")
    axes.autoscale_view()
    low, high = drawn.get_view_interval()
    drawn.set_major_locator(FixedLocator(_log_ticks(low, high)) if axis.logarithmic else _linear_locator())
    drawn.set_minor_locator(NullLocator())
    if axis.names:
        values, names = zip(*axis.names, strict=True)
        drawn.set_ticks(values, names)
    elif axis.logarithmic:
        drawn.set_major_formatter(StrMethodFormatter("{x:g}"))
    if axis.with_zero:
        (axes.axvline if is_x else axes.axhline)(0, color=COLOURS["soft"], linewidth=1, zorder=1)


def _linear_locator() -> MaxNLocator:
    return MaxNLocator(_MAX_TICKS, steps=[1, 2, 2.5, 5, 10])


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values on a logarithmic axis, neither few nor many; matplotlib's own choice often has one or two."""
    locators: list[Locator] = [LogLocator(subs=steps, numticks=_MAX_TICKS) for steps in _LOG_STEPS]
    if high < 10 * low:
        locators.append(_linear_locator())
    ticks: list[float] = []
    for locator in locators:
        ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        if _MIN_TICKS <= len(ticks) <= _MAX_TICKS:
            break
    return ticks


def _name_points(axes: Axes, named: Sequence[Sequence[tuple[Point, str]]], zeros: tuple[bool, bool]) -> None:
    """Texts beside their points, on neither points nor each other where there is space, with a line where they are far.

    Args:
        axes: Where they stand.
        named: The points of each series, each with its text, or an empty one.
        zeros: Whether there is a line at x = 0, and at y = 0.
    """
    box = axes.get_window_extent()
    every = [(number, *each) for number, texts in enumerate(named) for each in texts]
    at = [tuple(map(float, axes.transData.transform(point))) for _, point, _ in every]
    taken = [(x - _POINT_REACH, y - _POINT_REACH, x + _POINT_REACH, y + _POINT_REACH) for x, y in at]
    taken += _zero_lines(axes, box, zeros)
    for place in sorted(range(len(every)), key=lambda place: at[place][1]):
        (number, point, text), (x, y) = every[place], at[place]
        if not text:
            continue
        others = [each for other, each in enumerate(taken) if other != place]
        left_first = x < (box.x0 + box.x1) / 2
        tries = [
            _beside(x, y + move, text, is_right) for move in _NAME_MOVES for is_right in (left_first, not left_first)
        ]
        inside = [each for each in tries if box.x0 <= each[0] and each[2] <= box.x1 and box.y0 <= each[1] <= box.y1]
        free = next((each for each in inside if not any(_overlap(each, other) for other in others)), tries[0])
        taken.append(free)
        is_right, move = free[0] > x, (free[1] + free[3]) / 2 - y
        arrow = {"arrowstyle": "-", "color": COLOURS["soft"], "linewidth": 0.7, "shrinkA": 0, "shrinkB": _POINT_REACH}
        note = axes.annotate(
            text, point, (_NAME_GAP if is_right else -_NAME_GAP, move), textcoords="offset points",
            annotation_clip=False, arrowprops=arrow if abs(move) >= _NAME_HEIGHT else None,
        )  # fmt: skip
        note.set(ha="left" if is_right else "right", va="center_baseline", gid=f"names-{number}")
        if note.arrow_patch is not None:
            note.arrow_patch.set_gid(f"names-{number}")


def _zero_lines(axes: Axes, box: Bbox, zeros: tuple[bool, bool]) -> Iterator[_Box]:
    """Where the lines at zero are, which would strike a text through."""
    x, y = map(float, axes.transData.transform((0 if zeros[0] else axes.get_xlim()[0], 0)))
    if zeros[0]:
        yield x - 1, box.y0, x + 1, box.y1
    if zeros[1]:
        yield box.x0, y - 1, box.x1, y + 1


def _beside(x: float, y: float, text: str, is_right: bool) -> _Box:
    """Where a text stands that is beside a place, in points."""
    start = x + _NAME_GAP if is_right else x - _NAME_GAP - _LETTER * len(text)
    return start, y - _NAME_HEIGHT / 2, start + _LETTER * len(text), y + _NAME_HEIGHT / 2


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _bar_axes(chart: BarChart) -> tuple[Figure, Axes]:
    """Space for the groups' names on the left, and for values beyond the ends of bars on either side."""
    values = [value if _is_drawn(value) else 0.0 for bars in chart.bars for value in bars.values]
    longest = max((len(line) for name in chart.groups for line in _lines_of(name)), default=0)
    letters = max((len(letter) + 3 for letter in warning_marks(chart).values()), default=0)
    beyond = _BAR_VALUES + _LETTER * letters
    left = _LETTER * longest + 8 + beyond * (min(values, default=0) < 0)
    right = _RIGHT + beyond * (
        max(values, default=0) > 0 or any(value is None for b in chart.bars for value in b.values)
    )
    return _page_axes(_group_height(chart) * len(chart.groups), left, right)


def _group_height(chart: BarChart) -> int:
    """As high as the bars of a group, or the name of one where that has more lines."""
    n_lines = max((len(_lines_of(name)) for name in chart.groups), default=0)
    return max(_BAR_HEIGHT * len(chart.bars), _LINE_HEIGHT * n_lines) + _GROUP_GAP


def _lines_of(name: str) -> list[str]:
    """A name in lines, whole: two that are the same but for some letters must not look alike."""
    return wrap(one_line(name), _LINE_LETTERS)


def _is_drawn(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _draw_bars(axes: Axes, chart: BarChart) -> dict[str, Mark]:
    """Groups from the top; a bar's value stands at its end, a group's name beside its bars on the left."""
    height, letters = _group_height(chart), warning_marks(chart)
    axes.set_ylim(height * len(chart.groups), 0)
    axes.yaxis.set_major_locator(NullLocator())
    marks = {}
    for number, bars in enumerate(chart.bars):
        for place, (group, value) in enumerate(zip(chart.groups, bars.values, strict=True)):
            middle = (place + 0.5) * height + (number - (len(chart.bars) - 1) / 2) * _BAR_HEIGHT
            warning = bars.warning(place)
            letter = f" ({letters[warning]})" if warning else ""
            if not _is_drawn(value):
                _value_text(axes, f"-{letter}", 0, middle)
                continue
            gid, text = f"bar-{number}-{place}", chart.text(value)
            axes.add_patch(_bar(value, middle, _colour(number % N_COLOURS + 1), gid))
            _value_text(axes, text + letter, value, middle, gid)
            said = one_line(f"{group}, {bars.label}: {text} {chart.unit}{_warned(warning)}")
            marks[gid] = Mark(one_line(bars.label), (said,))
    drawn = [value for bars in chart.bars for value in bars.values if _is_drawn(value)]
    least = _SHORTEST_AXIS * 10.0**-chart.digits
    ends = tuple(math.copysign(least, value) for value in drawn if value)
    _set_up(axes, axes.xaxis, Axis(f"{chart.quantity} [{chart.unit}]".strip(), with_zero=True, includes=ends))
    _name_groups(axes, chart)
    return marks


def _bar(value: float, middle: float, colour: str, gid: str) -> Rectangle:
    bar = Rectangle((0, middle - _BAR_HEIGHT / 2 + 1), value, _BAR_HEIGHT - 2)
    # the edge keeps a bar of nothing visible
    bar.set(facecolor=colour, edgecolor=colour, linewidth=0.5, zorder=2, clip_on=False, gid=gid)
    return bar


def _name_groups(axes: Axes, chart: BarChart) -> None:
    """Names beside their groups, a text for each line."""
    beside = blended_transform_factory(IdentityTransform(), axes.transData)
    height = _group_height(chart)
    for place, name in enumerate(chart.groups):
        lines = _lines_of(name)
        first = (place + 0.5) * height - (len(lines) - 1) / 2 * _LINE_HEIGHT
        for number, line in enumerate(lines):
            axes.text(0, first + number * _LINE_HEIGHT, line, transform=beside, va="center_baseline")


def _value_text(axes: Axes, value: str, end: float, middle: float, gid: str = "") -> None:
    offset, side = ((-4, 0), "right") if end < 0 else ((4, 0), "left")
    text = axes.annotate(value, (end, middle), offset, textcoords="offset points", annotation_clip=False)
    text.set(ha=side, va="center_baseline", gid=gid)
