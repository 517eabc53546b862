"""Findings and bars from a table in the layout of JVET."""

from __future__ import annotations

from vvc_nnr.experiments.report.charts import BarChart, Bars
from vvc_nnr.experiments.report.section import Finding
from vvc_nnr.experiments.tables.jvet import MEAN
from vvc_nnr.experiments.tables.means import OVERALL
from vvc_nnr.experiments.tables.table import Cell, Table, cell_texts


def bar_chart(table: Table, title: str) -> BarChart:
    """The BD-rates of the classes and overall, a bar for each component."""
    rows = [row for row in table.rows if row[1] == MEAN]
    columns = [place for place, column in enumerate(table.columns) if column.unit == "%" and column.signed]
    bars = (Bars(table.columns[place].head, tuple(_value(row[place]) for row in rows)) for place in columns)
    return BarChart(title, "%", tuple(str(row[0]) for row in rows), tuple(bars))


def overall_finding(table: Table, label: str) -> Finding | None:
    """The luma BD-rate over all sequences; None if there is none."""
    for number, (row, texts) in enumerate(zip(table.rows, cell_texts(table), strict=True)):
        if row[:2] == (OVERALL, MEAN) and row[2] is not None:
            warnings = [warning.text for warning in table.warnings if (warning.row, warning.column) == (number, 2)]
            return Finding(texts[2], "%", label, "; ".join(warnings))
    return None


def _value(cell: Cell) -> float | None:
    return None if cell is None or isinstance(cell, str) else float(cell)
