"""A table as data, and as Markdown that a terminal reads well, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from string import ascii_lowercase
from typing import TypeAlias

from vvc_nnr.errors import ShapeError

Cell: TypeAlias = str | int | float | None
"""A text (also a number quoted with its own digits), a number that the column formats, or None: no result."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
} | {character: "\\" + character for character in "&%$#_{}"}


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column and how its numbers are written.

    Attributes:
        head: Name of the column.
        unit: Unit of its numbers, written after the name in brackets; empty for none.
        digits: Digits after the point of its floats.
        signed: Write a plus before positive numbers (differences).
        text: A column of names, on the left of its space; numbers stand on the right.
    """

    head: str
    unit: str = ""
    digits: int = 3
    signed: bool = False
    text: bool = False

    @property
    def title(self) -> str:
        """Head with unit."""
        return f"{self.head} [{self.unit}]" if self.unit else self.head


@dataclass(frozen=True, slots=True)
class Doubt:
    """What to doubt about one number of a table.

    Attributes:
        row: Its row, from 0.
        column: Its column, from 0.
        text: The doubt, without a full stop.
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
        doubts: What to doubt about single numbers, at most one each.
        remarks: What has to be known before any number is read, such as that the run is not finished; a sentence each,
            written above the numbers.

    Raises:
        ShapeError: If a row has not one cell per column, or a doubt is about a cell that is not there.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for doubt in self.doubts:
            if not (0 <= doubt.row < len(self.rows) and 0 <= doubt.column < len(self.columns)):
                raise ShapeError(f"{self.title}: a doubt about row {doubt.row}, column {doubt.column}: no such cell")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ShapeError(f"{self.title}: a row of {len(row)} cells, {len(self.columns)} columns")

    def marked_doubts(self) -> dict[tuple[int, int], tuple[str, str]]:
        """Mark (a, b, ...) and text of the doubt about each cell that has one; equal doubts have one mark."""
        texts = list(dict.fromkeys(doubt.text for doubt in self.doubts))
        marks = {text: mark_of(number) for number, text in enumerate(texts)}
        return {(doubt.row, doubt.column): (marks[doubt.text], doubt.text) for doubt in self.doubts}

    def doubt_texts(self) -> list[tuple[str, str]]:
        """Mark and text of each doubt once."""
        return list(dict.fromkeys(self.marked_doubts().values()))


def mark_of(number: int) -> str:
    """The mark of a doubt by its number: a, b, ..., z, aa, ab, ..."""
    letter = ascii_lowercase[number % len(ascii_lowercase)]
    earlier = number // len(ascii_lowercase)
    return mark_of(earlier - 1) + letter if earlier else letter


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
    notes = [f"({mark}) {text}." for mark, text in table.doubt_texts()] + list(table.notes)
    if notes:
        parts += ["", *(f"- {one_line(note)}" for note in notes)]
    return "\n".join(parts) + "\n"


def to_markdown_page(tables: Sequence[Table]) -> str:
    """Several tables in Markdown; notes that tables share come once, after the last table."""
    number = Counter(note for table in tables for note in dict.fromkeys(table.notes))
    shared = [note for note in number if number[note] > 1]
    parts = [
        to_markdown(replace(table, notes=tuple(note for note in table.notes if note not in shared))) for table in tables
    ]
    if shared:
        parts.append("\n".join(["**Notes**", "", *(f"- {one_line(note)}" for note in shared)]) + "\n")
    return "\n".join(parts)


def to_csv(table: Table) -> str:
    """The table as CSV with unrounded numbers; title, remarks, notes and doubts are `#` lines above it."""
    out = io.StringIO()
    for line in (table.title, *table.remarks, *table.notes, *map(partial(_csv_doubt, table), table.doubts)):
        out.write(f"# {one_line(line)}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.title for column in table.columns)
    writer.writerows(map(_csv, row) for row in table.rows)
    return out.getvalue()


def to_latex(table: Table) -> str:
    """The table as a LaTeX `table` environment; needs the package booktabs."""
    heads = [latex_text(column.title) for column in table.columns]
    body = latex_cells(table)
    parts = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{' '.join([latex_text(table.title), *latex_remarks(table)])}}}",
        rf"\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in table.columns)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(cells) + r" \\" for cells in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = latex_notes(table)
    if notes:
        parts += [r"\par\medskip\footnotesize", *notes]
    return "\n".join([*parts, r"\end{table}"]) + "\n"


def latex_cells(table: Table) -> list[list[str]]:
    """The cells as LaTeX, doubted ones with the mark of their doubt."""
    cells = [[latex_text(text) for text in row] for row in cell_texts(table)]
    for (row, column), (mark, _) in table.marked_doubts().items():
        cells[row][column] += rf"\textsuperscript{{{mark}}}"
    return cells


def latex_remarks(table: Table) -> list[str]:
    """Remarks as LaTeX, bold."""
    return [rf"\textbf{{{latex_text(remark)}}}" for remark in table.remarks]


def latex_notes(table: Table) -> list[str]:
    """Doubts and notes as LaTeX, a paragraph each."""
    doubts = [rf"\textsuperscript{{{mark}}} {latex_text(text)}.\par" for mark, text in table.doubt_texts()]
    return [*doubts, *(latex_text(note) + r"\par" for note in table.notes)]


def one_line(text: str) -> str:
    """The text without line breaks and unprintable characters (names of files come from outside)."""
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def cell_texts(table: Table) -> list[list[str]]:
    """The cells as texts, numbers with the digits of their columns."""
    return [[_text(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]


def _marked_texts(table: Table) -> list[list[str]]:
    cells = cell_texts(table)
    for (row, column), (mark, _) in table.marked_doubts().items():
        cells[row][column] += f" ({mark})"
    return cells


def _text(cell: Cell, column: Column) -> str:
    sign = "+" if column.signed else ""
    match cell:
        case None:
            return "-"
        case str():
            return cell
        case int():
            return f"{cell:{sign}d}"
        case float() if math.isinf(cell):
            return f"{cell:{sign}}"
        case float():
            # + 0.0: a difference that rounds to nothing is "0.000", not "-0.000"
            return f"{round(cell, column.digits) + 0.0:{sign}.{column.digits}f}"


def _csv_doubt(table: Table, doubt: Doubt) -> str:
    """A doubt with the place of its number, counted from the row below the heads."""
    return f"Doubt about row {doubt.row + 1}, {table.columns[doubt.column].title}: {doubt.text}."


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


def latex_text(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))
