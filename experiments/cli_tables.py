"""The tables of an experiment as a command's outcome, and where its pictures come from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from vvc_nnr.experiments.cli_common import Outcome, sources_of
from vvc_nnr.experiments.pictures import DATA_VARIABLE, data_folder, default_sources
from vvc_nnr.experiments.tables.table import Table, to_csv, to_latex, to_markdown_page
from vvc_nnr.sequences.listing import has_suffix, list_files
from vvc_nnr.sequences.source import SUFFIXES, Source

FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "markdown": to_markdown_page,
    "csv": lambda tables: "\n".join(map(to_csv, tables)),
    "latex": lambda tables: "\n".join(map(to_latex, tables)),
}


def add_format_option(parser: argparse.ArgumentParser, noun: str = "tables") -> None:
    """Adds the option --format."""
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help=f"format of the printed {noun}")


def chosen_sources(arguments: argparse.Namespace) -> tuple[list[Source], str]:
    """The sequences of --sequences, or the default ones, and where they come from in words."""
    named = arguments.sequences is not None
    sources = sources_of(arguments.sequences, arguments) if named else default_sources()
    origin = str(arguments.sequences) if named else default_origin()
    if named and arguments.sequences.is_dir():
        left_out = list_files(arguments.sequences, has_suffix(SUFFIXES)).left_out
        origin += f" (left out: {left_out})" if left_out else ""
    number = len(sources)
    return sources, f"{number} sequence{'' if number == 1 else 's'} of {origin}"


def default_origin() -> str:
    """Where the pictures come from when the user names none."""
    folder = data_folder()
    return f"the data folder {folder}" if folder else f"scikit-image, since there is no data folder ({DATA_VARIABLE})"


def tables_outcome(tables: Mapping[str, Table], pictures: str, format: str) -> Outcome:
    """The tables in a format for a person, and as data for a script."""
    text = FORMATS[format](list(tables.values())).rstrip()
    if format == "markdown":
        text += f"\n\nPictures: {pictures}."
    return Outcome(text, {"pictures": pictures, "tables": {name: _table_data(table) for name, table in tables.items()}})


def _table_data(table: Table) -> dict[str, object]:
    heads = [column.title for column in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows]
    remarks = {"remarks": list(table.remarks)} if table.remarks else {}
    return {"title": table.title, **remarks, "rows": rows, "notes": list(table.notes)}
