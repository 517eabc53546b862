"""The command report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command, natural, size
from vvc_nnr.experiments.markup import Table, to_csv, to_markdown_page
from vvc_nnr.experiments.provenance import gather_provenance
from vvc_nnr.experiments.report.embedding import PictureLimits, embed_pictures
from vvc_nnr.experiments.report.latex_document import to_latex_document
from vvc_nnr.experiments.report.page import render_page
from vvc_nnr.experiments.report.picture_index import read_index
from vvc_nnr.experiments.report.section import Section
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.report.workbook import to_workbook
from vvc_nnr.files import AtomicFile

SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".csv": "csv", ".tex": "latex", ".xlsx": "xlsx"}
FORMATS = ("html", "markdown", "csv", "latex", "xlsx")


def add_commands(commands: Commands) -> None:
    """Adds the command."""
    report = add_command(
        commands,
        "report",
        "a folder of results as one web page that stands alone, or as tables",
        "vvc-nnr report results/ -o report.html",
        _report,
    )
    report.add_argument("results", type=Path, help="folder that experiments wrote (--out)")
    report.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the report")
    report.add_argument("--format", choices=FORMATS, help="default: by the name of FILE (.html .md .csv .tex .xlsx)")
    report.add_argument("--title", help="title of the page, default: the folder's name")
    pictures = report.add_argument_group("pictures of the web page's viewer")
    defaults = PictureLimits()
    pictures.add_argument("--max-pictures", type=natural, default=defaults.max_pictures, metavar="N", help="at most N")
    pictures.add_argument(
        "--max-mb", type=natural, default=defaults.max_bytes // 1_000_000, metavar="MB", help="their size in the page"
    )
    pictures.add_argument(
        "--crop",
        type=size,
        default=f"{defaults.max_width}x{defaults.max_height}",
        metavar="WxH",
        help="larger pictures are cut around their middle",
    )


def _report(arguments: argparse.Namespace) -> Outcome:
    format = arguments.format or SUFFIXES.get(arguments.out.suffix.lower())
    if format is None:
        raise InputError(f"-o {arguments.out}: no format has this suffix; choose one by --format {'|'.join(FORMATS)}")
    sections = read_sections(arguments.results)
    tables = _tables(sections)
    content, about = _page(arguments, sections) if format == "html" else (_as_tables(format, sections, tables), {})
    with AtomicFile(arguments.out) as file:
        file.write(content)
    data = {"report": str(arguments.out), "format": format, "n_bytes": len(content), "n_tables": len(tables), **about}
    text = (
        f"{arguments.out}: {len(content) / 1e6:.2f} MB, {len(tables)} tables of {', '.join(s.name for s in sections)}"
    )
    if about:
        shown, left_out = about["n_pictures"], about["n_pictures_left_out"]
        text += f", {shown} of {shown + left_out} pictures"
    return Outcome(text, data)


def _tables(sections: Sequence[Section]) -> dict[str, Table]:
    """All tables, those in the layout of JVET first; a table that two experiments share is there once."""
    tables: dict[str, Table] = {}
    for section in sections:
        tables |= section.jvet_tables
    for section in sections:
        tables |= section.all_tables
    return tables


def _as_tables(format: str, sections: Sequence[Section], tables: dict[str, Table]) -> bytes:
    if format == "xlsx":
        return to_workbook(tables, sections)
    listed = list(tables.values())
    match format:
        case "markdown":
            text = to_markdown_page(listed)
        case "csv":
            text = "\n".join(map(to_csv, listed))
        case _:
            text = to_latex_document(listed)
    return text.encode("utf-8", "replace")


def _page(arguments: argparse.Namespace, sections: Sequence[Section]) -> tuple[bytes, dict[str, int]]:
    width, height = arguments.crop
    limits = PictureLimits(arguments.max_pictures, arguments.max_mb * 1_000_000, width, height)
    pictures = embed_pictures(read_index(arguments.results), limits)
    title = arguments.title or f"Results: {arguments.results.resolve().name}"
    content = render_page(title, sections, pictures, gather_provenance())
    return content, {"n_pictures": len(pictures.entries), "n_pictures_left_out": len(pictures.left_out)}
