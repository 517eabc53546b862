"""A table as a page shows it: texts with their numbers for sorting, and warnings as marks beside what they concern."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vvc_nnr.experiments.tables.jvet import MEAN
from vvc_nnr.experiments.tables.means import OVERALL
from vvc_nnr.experiments.tables.table import Cell, Column, Table, cell_texts, one_line

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
