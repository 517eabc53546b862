"""A table as data, and as Markdown that a terminal reads well and as CSV; `latex` has the third form."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from string import ascii_lowercase
from typing import TYPE_CHECKING, Self, TypeAlias

from vvc_nnr.errors import InputError, ShapeError

if TYPE_CHECKING:
    import pandas as pd


class Quoted(float):
    """A number of another publication, which tables print with the digits that it has there.

    Args:
        text: The number as it is printed there.

    Attributes:
        text: The same.
    """

    text: str

    def __new__(cls, text: str) -> Self:
        """The number that a text is."""
        number = super().__new__(cls, text)
        number.text = text
        return number


Cell: TypeAlias = str | int | float | None
"""A text, a number that the column formats (or `Quoted`, that has its own digits), or None: no result."""

_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column and how its numbers are written.

    Attributes:
        head: Name of the column.
        unit: Unit of its numbers, written after the name in brackets; empty for none.
        digits: Digits after the point of its floats.
        signed: Write a plus before positive numbers (differences).
        text: A column of names, on the left of its space; numbers stand on the right.
        group: What it belongs to, such as a coding configuration: where a table is broken, a group stays together.
    """

    head: str
    unit: str = ""
    digits: int = 3
    signed: bool = False
    text: bool = False
    group: str = ""

    @property
    def title(self) -> str:
        """Head with unit."""
        return f"{self.head} [{self.unit}]" if self.unit else self.head


@dataclass(frozen=True, slots=True)
class CellWarning:
    """The warning about one number of a table.

    Attributes:
        row: Its row, from 0.
        column: Its column, from 0.
        text: The warning, without a full stop.
    """

    row: int
    column: int
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of results.

    Attributes:
        title: One line that says what the numbers are.
        columns: The columns.
        rows: One cell per column each.
        notes: What has to be known to read the numbers, a sentence or two each.
        warnings: The warning about single numbers, at most one each.
        remarks: What has to be known before any number is read, such as that the run is not finished; a sentence each,
            written above the numbers.

    Raises:
        ShapeError: If a row has not one cell per column, or a warning is about a cell that is not there.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[CellWarning, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for warning in self.warnings:
            if not (0 <= warning.row < len(self.rows) and 0 <= warning.column < len(self.columns)):
                raise ShapeError(
                    f"{self.title}: a warning about row {warning.row}, column {warning.column}: no such cell"
                )
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ShapeError(f"{self.title}: a row of {len(row)} cells, {len(self.columns)} columns")

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers as a data frame, unrounded, its columns named with their units; None is NaN."""
        import pandas as pd

        cells = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        found = {}
        for column, values in zip(self.columns, cells, strict=True):
            numbers = [] if column.text else [value for value in values if not isinstance(value, str)]
            found[column.title] = pd.Series(list(values), dtype="float64" if len(numbers) == len(values) else "object")
        return pd.DataFrame(found)

    def warning(self, row: int, column: int) -> str:
        """The warning about a cell, without a full stop; empty if there is none."""
        return next((each.text for each in self.warnings if (each.row, each.column) == (row, column)), "")

    def marked_warnings(self) -> dict[tuple[int, int], tuple[str, str]]:
        """Mark (a, b, ...) and text of the warning about each cell that has one; equal warnings have one mark."""
        texts = list(dict.fromkeys(warning.text for warning in self.warnings))
        marks = {text: mark_of(number) for number, text in enumerate(texts)}
        return {(warning.row, warning.column): (marks[warning.text], warning.text) for warning in self.warnings}

    def warning_texts(self) -> list[tuple[str, str]]:
        """Mark and text of each warning once."""
        return list(dict.fromkeys(self.marked_warnings().values()))


class NoTableError(InputError, KeyError):
    """A table that a run does not have; the message says why, and which there are."""


class Tables(dict[str, Table]):
    """Tables by file name; asking for one that is not there says why.

    Args:
        tables: Those that are there.
        notes: Why others are not, in sentences.
    """

    def __init__(self, tables: Mapping[str, Table], notes: tuple[str, ...]) -> None:
        super().__init__(tables)
        self._notes = notes

    def __missing__(self, name: str) -> Table:
        raise NoTableError(" ".join([f"no table {name}.", *self._notes, f"There are: {', '.join(self) or 'none'}."]))


def with_remarks(tables: Mapping[str, Table], remarks: tuple[str, ...]) -> dict[str, Table]:
    """The tables with remarks at their heads."""
    return {name: replace(table, remarks=(*remarks, *table.remarks)) for name, table in tables.items()}


def without_empty_columns(table: Table) -> Table:
    """The table without the columns in which no row has anything; texts of a row's head stay."""
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column.text or any(r[place] is not None for r in table.rows)
    ]
    return with_columns(table, kept)


def with_columns(table: Table, kept: Sequence[int]) -> Table:
    """The table with these columns alone, rising; warnings stay with their numbers."""
    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
        warnings=tuple(replace(each, column=kept.index(each.column)) for each in table.warnings if each.column in kept),
    )


def mark_of(number: int) -> str:
    """The mark of a warning by its number: a, b, ..., z, aa, ab, ..."""
    letter = ascii_lowercase[number % len(ascii_lowercase)]
    earlier = number // len(ascii_lowercase)
    return mark_of(earlier - 1) + letter if earlier else letter


def warning_text(warnings: Iterable[tuple[str, Sequence[str]]], *, is_mean: bool) -> str:
    """The warnings about a BD-rate or a mean of some; empty if there are none.

    Args:
        warnings: Each sequence and the warnings about its own value.
        is_mean: Whether the number is a mean over sequences, which are named then.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for sequence, texts in warnings:
        for text in texts:
            names[text].append(sequence)
    return "; ".join(f"{text} ({some_of(there)})" if is_mean else text for text, there in names.items())


def some_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"


def to_markdown(table: Table) -> str:
    """The table in Markdown, its columns aligned with spaces; ends with a line feed."""
    heads = [_markdown(column.title) for column in table.columns]
    body = [[_markdown(cell) for cell in row] for row in _marked_texts(table)]
    widths = [max(3, *map(len, cells)) for cells in zip(heads, *body, strict=True)]
    rules = [
        "-" * width if column.text else "-" * (width - 1) + ":"
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = [_markdown_line(cells, table.columns, widths) for cells in (heads, rules, *body)]
    remarks = [part for remark in table.remarks for part in (f"> **{one_line(remark)}**", "")]
    parts = [f"**{one_line(table.title)}**", "", *remarks, *lines]
    notes = [f"({mark}) {text}." for mark, text in table.warning_texts()] + list(table.notes)
    if notes:
        parts += ["", *(f"- {one_line(note)}" for note in notes)]
    return "\n".join(parts) + "\n"


def to_markdown_page(tables: Sequence[Table]) -> str:
    """Several tables in Markdown; notes that tables share come once, after the last table."""
    own, shared = without_shared_notes(tables)
    parts = list(map(to_markdown, own))
    if shared:
        parts.append("\n".join(["**Notes**", "", *(f"- {one_line(note)}" for note in shared)]) + "\n")
    return "\n".join(parts)


def without_shared_notes(tables: Sequence[Table]) -> tuple[list[Table], list[str]]:
    """The tables without the notes that several of them have, and these notes."""
    number = Counter(note for table in tables for note in dict.fromkeys(table.notes))
    shared = [note for note in number if number[note] > 1]
    own = [replace(table, notes=tuple(note for note in table.notes if note not in shared)) for table in tables]
    return own, shared


def to_csv(table: Table) -> str:
    """The table as CSV with unrounded numbers; title, remarks, notes and warnings are `#` lines above it."""
    out = io.StringIO()
    for line in (table.title, *table.remarks, *table.notes, *map(partial(_csv_warning, table), table.warnings)):
        out.write(f"# {one_line(line)}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.title for column in table.columns)
    writer.writerows(map(_csv, row) for row in table.rows)
    return out.getvalue()


def one_line(text: str) -> str:
    """The text without line breaks and unprintable characters (names of files come from outside)."""
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def cell_texts(table: Table) -> list[list[str]]:
    """The cells as texts, numbers with the digits of their columns."""
    return [[_text(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]


def _marked_texts(table: Table) -> list[list[str]]:
    cells = cell_texts(table)
    for (row, column), (mark, _) in table.marked_warnings().items():
        cells[row][column] += f" ({mark})"
    return cells


def _text(cell: Cell, column: Column) -> str:
    sign = "+" if column.signed else ""
    match cell:
        case None:
            return "-"
        case str():
            return cell
        case Quoted():
            return cell.text
        case int():
            return f"{cell:{sign}d}"
        case float() if math.isinf(cell):
            return f"{cell:{sign}}"
        case float():
            # + 0.0: a difference that rounds to nothing is "0.000", not "-0.000"
            return f"{round(cell, column.digits) + 0.0:{sign}.{column.digits}f}"


def _csv_warning(table: Table, warning: CellWarning) -> str:
    """A warning with the place of its number, counted from the row below the heads."""
    return f"Warning about row {warning.row + 1}, {table.columns[warning.column].title}: {warning.text}."


def _csv(cell: Cell) -> str | int | float:
    return "" if cell is None else one_line(cell) if isinstance(cell, str) else cell


def _markdown(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def _markdown_line(cells: list[str], columns: tuple[Column, ...], widths: list[int]) -> str:
    padded = [
        cell.ljust(width) if column.text else cell.rjust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return f"| {' | '.join(padded)} |"
