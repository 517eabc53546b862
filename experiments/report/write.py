"""A folder of results to a report in one of its formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.report.embedding import EmbeddedPictures, PictureLimits, embed_pictures
from vvc_nnr.experiments.report.page import render_page
from vvc_nnr.experiments.report.picture_index import read_index
from vvc_nnr.experiments.report.section import Section
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.report.workbook import to_workbook
from vvc_nnr.experiments.tables.table import Table, to_csv, to_latex, to_markdown_page
from vvc_nnr.files import AtomicFile

ReportFormat: TypeAlias = Literal["html", "markdown", "csv", "latex", "xlsx"]
FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
_SUFFIXES: Mapping[str, ReportFormat] = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".xlsx": "xlsx",
}


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


def format_of(path: Path) -> ReportFormat:
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
    chosen = format or format_of(out)
    sections = read_sections(results)
    tables = _tables(sections)
    pictures = EmbeddedPictures()
    if chosen == "html":
        pictures = embed_pictures(read_index(results), limits or PictureLimits())
        heading = title or f"Results: {results.resolve().name}"
        content = render_page(heading, sections, pictures, gather_provenance())
    else:
        content = _as_tables(chosen, sections, tables)
    with AtomicFile(out) as file:
        file.write(content)
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
            text = "\n".join(map(to_latex, listed))
    return text.encode("utf-8", "replace")
