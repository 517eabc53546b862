"""The report as one page that opens anywhere: style, scripts, charts and pictures are inside, and it fetches nothing.

A content security policy in the page tells the browser so: no request goes out, no script runs but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vvc_nnr.experiments.charts import Chart, PointChart, has_data
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.report.embedding import EmbeddedEntry, EmbeddedPictures
from vvc_nnr.experiments.report.figure_svg import bar_key_svg, chart_svg, key_svg
from vvc_nnr.experiments.report.sections import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.bd_rate_tables import MEAN
from vvc_nnr.experiments.tables.means import OVERALL
from vvc_nnr.experiments.tables.table import Cell, Column, Table, cell_texts, one_line, some_of

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
    number = "1 experiment" if len(sections) == 1 else f"{len(sections)} experiments"
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
    note = one_line(chart.note) if isinstance(chart, PointChart) else ""
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
            for number, bars in enumerate(chart.bars, start=1):
                keys.setdefault(bars.label, _Key(Markup(bar_key_svg(number)), one_line(bars.label)))
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
