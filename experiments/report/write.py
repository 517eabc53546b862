"""A folder of results to a report in one of its formats; a spreadsheet has numbers, formats and comments."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.viewer_pictures import read_index
from vvc_nnr.experiments.report.embedding import EmbeddedPictures, PictureLimits, embed_pictures
from vvc_nnr.experiments.report.page import render_page, row_kind
from vvc_nnr.experiments.report.sections import Section, read_sections
from vvc_nnr.experiments.tables.latex import to_latex_page
from vvc_nnr.experiments.tables.table import Cell, Column, Table, one_line, to_csv, to_markdown_page
from vvc_nnr.files import write_file

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

ReportFormat: TypeAlias = Literal["html", "markdown", "csv", "latex", "xlsx"]
_SUFFIXES: Mapping[str, ReportFormat] = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".xlsx": "xlsx",
}
_FIRST_ROW = 3
"""Of the numbers: below the title, a line of remarks (often empty) and the heads."""
_MAX_SHEET_NAME = 31
_MAX_WIDTH = 44


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What a report has.

    Attributes:
        path: Its file.
        format: Its format.
        n_bytes: Its size.
        n_tables: Its tables.
        experiments: Names of its experiments.
        n_pictures: Pictures in its viewer.
        n_pictures_left_out: Pictures that had to stay out.
        remarks: What has to be known before its numbers are read, such as that a run is not finished.
    """

    path: Path
    format: ReportFormat
    n_bytes: int
    n_tables: int
    experiments: tuple[str, ...]
    n_pictures: int = 0
    n_pictures_left_out: int = 0
    remarks: tuple[str, ...] = ()


def report_format(path: Path) -> ReportFormat:
    """The format that a file's name asks for.

    Raises:
        InputError: If there is none.
    """
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = " ".join(_SUFFIXES)
        raise InputError(f"{path}: no format of a report has this suffix; there are {known}, or name one by --format")
    return found


def write_report(
    results: Path,
    out: Path,
    *,
    format: ReportFormat | None = None,
    title: str | None = None,
    limits: PictureLimits | None = None,
) -> WrittenReport:
    """Writes the report of a folder.

    Args:
        results: The folder that experiments wrote.
        out: The file.
        format: Its format, default by its name.
        title: Title of a page, default the folder's name.
        limits: What of the pictures goes into a page.

    Raises:
        InputError: If the results or their pictures cannot be read, the report cannot be written, its name has no
            format, or a package for it is missing.
        BitstreamError: If a picture is damaged.
    """
    chosen = format or report_format(out)
    sections = read_sections(results)
    tables = _tables(sections)
    pictures = EmbeddedPictures()
    if chosen == "html":
        pictures = embed_pictures(read_index(results), limits or PictureLimits())
        heading = title or f"Results: {results.resolve().name}"
        content = render_page(heading, sections, pictures, gather_provenance())
    else:
        content = _as_tables(chosen, sections, tables)
    write_file(out, content)
    names = tuple(section.name for section in sections)
    remarks = tuple(f"{section.name}: {remark}" for section in sections for remark in section.remarks)
    n_pictures, n_left_out = len(pictures.entries), len(pictures.left_out)
    return WrittenReport(out, chosen, len(content), len(tables), names, n_pictures, n_left_out, remarks)


def _tables(sections: Sequence[Section]) -> dict[str, Table]:
    """All tables, those in the layout of JVET first; a table that two experiments share is there once."""
    tables: dict[str, Table] = {}
    for section in sections:
        tables |= section.jvet_tables
    for section in sections:
        tables |= section.all_tables
    return tables


def _as_tables(format: ReportFormat, sections: Sequence[Section], tables: Mapping[str, Table]) -> bytes:
    if format == "xlsx":
        return to_workbook(tables, sections)
    listed = list(tables.values())
    match format:
        case "markdown":
            text = to_markdown_page(listed)
        case "csv":
            text = "\n".join(map(to_csv, listed))
        case _:
            text = to_latex_page(listed)
    return text.encode("utf-8", "replace")


def to_workbook(tables: Mapping[str, Table], sections: Sequence[Section]) -> bytes:
    """A workbook with a sheet per table and one that says where the numbers come from.

    Raises:
        InputError: If the package that writes spreadsheets is not installed.
    """
    try:
        from xlsxwriter import Workbook
    except ImportError as error:
        raise InputError("spreadsheets need another package: pip install vvc-nnr[report]") from error
    data = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with Workbook(data, options) as workbook:
        for number, (name, table) in enumerate(tables.items(), start=1):
            _write_table(workbook, workbook.add_worksheet(sheet_name(name, number)), table)
        _write_provenance(workbook, workbook.add_worksheet("provenance"), sections)
    return data.getvalue()


def sheet_name(name: str, number: int) -> str:
    """A name that spreadsheets take, unique by its number where it has to be cut."""
    plain = re.sub(r"[\[\]:*?/\\']", "-", one_line(name))
    tail = f"~{number}"
    return plain if len(plain) <= _MAX_SHEET_NAME else plain[: _MAX_SHEET_NAME - len(tail)] + tail


def number_format(column: Column) -> str:
    """The format of a column's numbers: its digits, and a plus before positive differences."""
    plain = "0." + "0" * column.digits if column.digits else "0"
    return f"+{plain};-{plain};{plain}" if column.signed else plain


def _write_table(workbook: Workbook, sheet: Worksheet, table: Table) -> None:
    title, head = workbook.add_format({"bold": True, "font_size": 13}), {"bold": True, "bottom": 1, "text_wrap": True}
    sheet.write_string(0, 0, one_line(table.title), title)
    sheet.write_string(1, 0, one_line(" ".join(table.remarks)), workbook.add_format({"bold": True}))
    for place, column in enumerate(table.columns):
        aligned = workbook.add_format(head | {"align": "left" if column.text else "right", "valign": "bottom"})
        sheet.write_string(_FIRST_ROW - 1, place, one_line(column.title), aligned)
        sheet.set_column(place, place, _width(table, place))
    # Of each column plain and bold, as whole numbers have no digits after the point, and texts no format at all.
    formats = {
        (place, is_bold, is_whole): workbook.add_format(
            {"bold": is_bold, "num_format": "0" if is_whole else number_format(column)}
        )
        for place, column in enumerate(table.columns)
        for is_bold in (False, True)
        for is_whole in (False, True)
    }
    for row, cells in enumerate(table.rows):
        is_bold = row_kind(cells, None) == "total"
        for place, cell in enumerate(cells):
            cell_format = formats[place, is_bold, isinstance(cell, int)]
            _write_cell(sheet, row + _FIRST_ROW, place, cell, cell_format)
    for warning in table.warnings:
        sheet.write_comment(warning.row + _FIRST_ROW, warning.column, one_line(f"Warning: {warning.text}."))
    for number, note in enumerate(table.notes):
        sheet.write_string(_FIRST_ROW + len(table.rows) + 1 + number, 0, one_line(note))
    sheet.freeze_panes(_FIRST_ROW, sum(column.text for column in table.columns[:2]))
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(_FIRST_ROW - 1)


def _write_cell(sheet: Worksheet, row: int, column: int, cell: Cell, cell_format: Format) -> None:
    match cell:
        case None:
            sheet.write_blank(row, column, None, cell_format)
        case int() | float() if math.isfinite(cell):
            sheet.write_number(row, column, cell, cell_format)
        case _:
            sheet.write_string(row, column, one_line(str(cell)), cell_format)


def _width(table: Table, place: int) -> float:
    """Of a column in characters."""
    column = table.columns[place]
    texts = [str(row[place]) for row in table.rows if isinstance(row[place], str)] if column.text else []
    return min(_MAX_WIDTH, max(9, len(column.title) + 1, *(len(text) + 1 for text in texts), 0))


def _write_provenance(workbook: Workbook, sheet: Worksheet, sections: Sequence[Section]) -> None:
    bold = workbook.add_format({"bold": True})
    sheet.set_column(0, 0, 20)
    sheet.set_column(1, 1, 100)
    row = 0
    for section in sections:
        sheet.write_string(row, 0, section.title, bold)
        sheet.write_string(row, 1, one_line(" ".join(section.remarks)), bold)
        for key, value in section.header.items():
            row += 1
            sheet.write_string(row, 0, one_line(key.replace("_", " ")))
            sheet.write_string(row, 1, one_line(value))
        row += 2
