"""The report as one page that opens anywhere: style, scripts, charts and pictures are inside, and it fetches nothing.

A content security policy in the page tells the browser so: no request goes out, no script runs but the page's own.

Figures of matplotlib stand in it as SVG with the page's fonts, colours and theme. matplotlib writes colours and fonts
as style attributes, which the page's content security policy forbids, and shapes that are used more than once with ids,
which must be unique in a page. Here they become attributes that name the page's variables, and shapes in their places.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vvc_nnr.experiments.charts import N_COLOURS, BarChart, Chart, Line, Marker, PointChart, chart_notes, has_data
from vvc_nnr.experiments.plots import COLOURS, Mark, draw_bar_key, draw_chart, draw_key, figure_bytes
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.report.embedding import EmbeddedEntry, EmbeddedPictures
from vvc_nnr.experiments.report.sections import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.bd_rate_tables import MEAN
from vvc_nnr.experiments.tables.means import OVERALL
from vvc_nnr.experiments.tables.table import Cell, Column, Table, cell_texts, one_line, some_of

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


_HERE = Path(__file__).parent
_MAX_GROUPS = 6
_NO_DATA = "No chart: there is no finite value to draw."
_SIZE = "@@PAGE-SIZE@@"
_MAX_UNBROKEN = 32
"""Characters of a text that stays on one line."""


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell.

    Attributes:
        text: What is read.
        heads: Whether it names its row.
        kind: "number" (stands on the right), "long" (a text that may break) or empty.
        value: What it sorts by, None for texts.
        mark: Letter of its warning, empty if there is none.
        warning: The warning.
        has_slot: Whether there is space for a mark, as in all cells of a column with marks, so that numbers align.
    """

    text: str
    heads: bool
    kind: str
    value: float | None
    mark: str
    warning: str
    has_slot: bool


@dataclass(frozen=True, slots=True)
class RowView:
    """One row; its kind is "total", "quoted", "group" (the first of one) or empty."""

    kind: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True, slots=True)
class TableView:
    """One table; `warnings` are marks with texts, `n_mark_letters` is the longest mark's, `remarks` come first."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[RowView, ...]
    warnings: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    n_mark_letters: int
    remarks: tuple[str, ...]


def table_view(table: Table, shared_notes: Iterable[str] = ()) -> TableView:
    """The table without the notes that are said elsewhere."""
    warnings = table.marked_warnings()
    marked = {place for _, place in warnings}
    rows = []
    for number, (cells, shown) in enumerate(zip(table.rows, cell_texts(table), strict=True)):
        views = []
        for place, (cell, text, column) in enumerate(zip(cells, shown, table.columns, strict=True)):
            heads = place == 0 and column.text
            mark, warning = warnings.get((number, place), ("", ""))
            kind = "number" if not column.text else "long" if len(text) > _MAX_UNBROKEN else ""
            views.append(CellView(one_line(text), heads, kind, _value(cell), mark, warning, place in marked))
        previous = table.rows[number - 1] if number else None
        rows.append(RowView(row_kind(cells, previous), tuple(views)))
    notes = tuple(note for note in table.notes if note not in set(shared_notes))
    n_letters = max((len(mark) for mark, _ in warnings.values()), default=0)
    return TableView(
        table.title, table.columns, tuple(rows), tuple(table.warning_texts()), notes, n_letters, table.remarks
    )


def row_kind(cells: tuple[Cell, ...], previous: tuple[Cell, ...] | None) -> str:
    """The kind of a row, see `RowView`."""
    if "paper" in cells[:2]:
        return "quoted"
    if MEAN in cells[1:2] or any(isinstance(cell, str) and cell.startswith(OVERALL) for cell in cells):
        return "total"
    return "group" if previous and previous[0] != cells[0] else ""


def _value(cell: Cell) -> float | None:
    if isinstance(cell, str):
        try:
            cell = float(cell)
        except ValueError:
            return None
    return None if cell is None or math.isnan(cell) else float(cell)


@dataclass(frozen=True, slots=True)
class _Key:
    """One line of a legend."""

    swatch: Markup
    label: str


@dataclass(frozen=True, slots=True)
class _ChartView:
    """One chart; without data it has no drawing, and its note says so."""

    title: str
    svg: Markup
    note: str


@dataclass(frozen=True, slots=True)
class _GroupView:
    title: str
    legend: tuple[_Key, ...]
    charts: tuple[_ChartView, ...]
    more: tuple[_ChartView, ...]
    note: str


@dataclass(frozen=True, slots=True)
class _SectionView:
    name: str
    title: str
    lead: str
    findings: tuple[Finding, ...]
    chart_groups: tuple[_GroupView, ...]
    tables: dict[str, TableView]
    more_tables: dict[str, TableView]
    notes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _ViewerView:
    lead: str
    data: Markup


@dataclass(frozen=True, slots=True)
class _ReportView:
    version: str
    facts: tuple[tuple[str, str], ...]


def render_page(title: str, sections: Sequence[Section], pictures: EmbeddedPictures, provenance: Provenance) -> bytes:
    """The page as HTML.

    Args:
        title: Its title.
        sections: What it says of each experiment.
        pictures: What its viewer shows; none makes a page without a viewer.
        provenance: Where the page comes from.
    """
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    style, script = _own("style.css"), _own("page.js") + _own("charts.js")
    if pictures.entries:
        script += _own("picture_tools.js") + _own("viewer.js")
    page = environment.get_template("page.html").render(
        title=one_line(title),
        summary=_summary(sections),
        remarks=[(section.title, remark) for section in sections for remark in section.remarks],
        style=Markup(style),
        style_hash=_csp_hash(style),
        script=Markup(script),
        script_hash=_csp_hash(script),
        sections=[_section_view(section) for section in sections],
        viewer=_viewer_view(pictures) if pictures.entries else None,
        report=_ReportView(provenance.version, tuple(_page_facts(pictures, provenance))),
    )
    n_bytes = len(page.encode("utf-8", "replace"))
    return page.replace(_SIZE, f"{n_bytes / 1e6:.2f} MB").encode("utf-8", "replace")


def _own(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(sections: Sequence[Section]) -> str:
    headers = [section.header for section in sections]
    versions = sorted({_version(header) for header in headers})
    dates = sorted({header["date"][:10] for header in headers if "date" in header})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "an unknown date"
    n_experiments = len({section.experiment for section in sections})
    number = "1 experiment" if n_experiments == 1 else f"{n_experiments} experiments"
    number += f" in {len(sections)} configurations" if n_experiments == 1 < len(sections) else ""
    return f"{number}, {span}, {', '.join(versions)}. Every number is made from rows measured in the runs named below."


def _version(header: Mapping[str, str]) -> str:
    commit = header.get("git_commit", "")
    short = commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
    return f"vvc_nnr {header.get('version', 'of unknown version')}" + (f" at {short}" if commit else "")


def _section_view(section: Section) -> _SectionView:
    number = Counter(note for table in section.all_tables.values() for note in dict.fromkeys(table.notes))
    shared = tuple(note for note in number if number[note] > 1)

    def views(tables: Mapping[str, Table]) -> dict[str, TableView]:
        return {name: table_view(table, shared) for name, table in tables.items()}

    return _SectionView(
        section.name,
        section.title,
        section.lead,
        section.findings,
        tuple(map(_group_view, section.charts)),
        views(section.tables),
        views(section.more_tables),
        shared,
        tuple((key.replace("_", " "), value) for key, value in section.header.items() if value),
        tuple((key.replace("_", " "), _setting(value)) for key, value in section.settings.items()),
    )


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _group_view(group: ChartGroup) -> _GroupView:
    charts, more = (tuple(map(_chart_view, each)) for each in (group.charts, group.more))
    return _GroupView(group.title, _legend((*group.charts, *group.more)), charts, more, group.note)


def _chart_view(chart: Chart) -> _ChartView:
    note = one_line(" ".join(chart_notes(chart)))
    if not has_data(chart):
        return _ChartView(one_line(chart.title), Markup(""), f"{_NO_DATA} {note}".strip())
    return _ChartView(one_line(chart.title), Markup(chart_svg(chart)), note)


def _legend(charts: Sequence[Chart]) -> tuple[_Key, ...]:
    """The keys of all charts that are drawn, each once."""
    keys: dict[str, _Key] = {}
    for chart in filter(has_data, charts):
        if isinstance(chart, PointChart):
            for series in chart.series:
                if series.label not in keys or series.marker != "none":
                    swatch = key_svg(series.colour, series.marker, series.line)
                    keys.setdefault(series.label, _Key(Markup(swatch), one_line(series.label)))
        else:
            for number, bars in enumerate(chart.bars):
                keys.setdefault(bars.label, _Key(Markup(bar_key_svg(number % N_COLOURS + 1)), one_line(bars.label)))
    return tuple(keys.values())


def _viewer_view(pictures: EmbeddedPictures) -> _ViewerView:
    data = {"images": pictures.texts, "entries": [_entry_data(each) for each in pictures.entries]}
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    lead = "Original, decoded and filtered pictures, pixel by pixel, lossless; PSNR is of the luma of whole pictures, "
    lead += "before they became 8-bit RGB. " + _cut_text(pictures)
    return _ViewerView((lead + _left_out_text(pictures)).strip(), Markup(text))


def _entry_data(each: EmbeddedEntry) -> dict[str, object]:
    entry = each.entry
    scores = zip(("decoded", "filtered"), entry.psnr_y_db, strict=True)
    return {
        "sequence": one_line(entry.sequence),
        "qp": entry.qp,
        "network": one_line(entry.network),
        "picture": entry.picture,
        "left": each.left,
        "top": each.top,
        "width": each.width,
        "height": each.height,
        "images": each.places,
        "psnr_y_db": {kind: score if math.isfinite(score) else "inf" for kind, score in scores},
    }


def _cut_text(pictures: EmbeddedPictures) -> str:
    cut = [each for each in pictures.entries if (each.width, each.height) != (each.entry.width, each.entry.height)]
    return "Larger pictures are cut around their middle. " if cut else ""


def _left_out_text(pictures: EmbeddedPictures) -> str:
    if not pictures.left_out:
        return ""
    groups: dict[str, list[str]] = {}
    for entry in pictures.left_out:
        groups.setdefault(f"QP {entry.qp}, {one_line(entry.network)}", []).append(one_line(entry.sequence))
    shown = "; ".join(f"{label}: {some_of(names)}" for label, names in list(groups.items())[:_MAX_GROUPS])
    shown += f"; and {len(groups) - _MAX_GROUPS} such groups more" if len(groups) > _MAX_GROUPS else ""
    n_all = len(pictures.entries) + len(pictures.left_out)
    return f"{len(pictures.entries)} of {n_all} are here, to keep the page small. Left out: {shown}."


def _page_facts(pictures: EmbeddedPictures, provenance: Provenance) -> list[tuple[str, str]]:
    facts = [(key.replace("_", " "), value) for key, value in asdict(provenance).items() if value and key != "device"]
    shown = f"{len(pictures.entries)} of {len(pictures.entries) + len(pictures.left_out)}"
    if pictures.entries or pictures.left_out:
        facts.append(("pictures", f"{shown}, {pictures.n_bytes / 1e6:.2f} MB as text"))
    return [(key, str(value)) for key, value in facts] + [("size of this page", _SIZE)]
