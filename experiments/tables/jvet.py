"""BD-rates as proposals to JVET print them: a row per sequence, class and overall, a column per component and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import variant_label
from vvc_nnr.experiments.tables.means import ANCHOR, OVERALL, PLANES, ToolResults, Variant, mean_or_none
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.savings import Comparison, Savings
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table, warning_text

JVET_COLUMNS = (
    Column("Class", text=True),
    Column("Sequence", text=True),
    *(Column(head, "%", digits=2, signed=True) for head in ("Y", "Cb", "Cr", "YUV")),
    Column("EncT", "%", digits=0),
    Column("DecT", "%", digits=0),
)
MEAN = "mean"
"""What stands for a sequence in the rows of classes and overall."""
_N_LABELS, _N_RATES = 2, 4

Times: TypeAlias = Callable[[Sequence[str]], tuple[float | None, float | None]]
"""Encoding and decoding time over sequences in percent of the anchor's, None where it is not known."""


@dataclass(frozen=True, slots=True)
class JvetLine:
    """One sequence and its BD-rates of Y, Cb, Cr and YUV; None where it has no such plane."""

    sequence: str
    ctc_class: str
    rates: tuple[BdRate | None, ...]


def jvet_tables(
    results: ToolResults, savings: Savings, interpolation: Interpolation, notes: tuple[str, ...]
) -> dict[tuple[Variant, Variant], Table]:
    """A table for each variant against each of its anchors, the network's bits not counted."""
    tables = {}
    for variant, anchor in ((test, each) for test in results.tests for each in results.anchors(test)):
        lines = [
            JvetLine(name, ctc_class, tuple(savings.get((name, Comparison(variant, p, None, anchor))) for p in PLANES))
            for name, ctc_class in results.sequences.items()
        ]
        is_timed = anchor == ANCHOR

        def times(
            names: Sequence[str], variant: Variant = variant, is_timed: bool = is_timed
        ) -> tuple[float | None, float | None]:
            if not is_timed:
                return None, None
            return results.time_percent(names, variant, "encode"), results.time_percent(names, variant, "decode")

        against = LOOP_FILTER_TITLES[anchor.loop_filters]
        title = f"BD-rate ({interpolation}) of {variant_label(results, variant)} against {against}"
        tables[variant, anchor] = jvet_table(title, lines, times, notes)
    return tables


def jvet_table(title: str, lines: Sequence[JvetLine], times: Times, notes: tuple[str, ...]) -> Table:
    """The rows of each class, its mean, and the mean over all sequences.

    Args:
        title: What is compared with what.
        lines: The sequences, those of a class together.
        times: The times of any of them.
        notes: What has to be known to read the numbers.
    """
    rows: list[tuple[Cell, ...]] = []
    warnings: list[CellWarning] = []

    def add_mean(label: str, members: Sequence[JvetLine]) -> None:
        warnings.extend(_warnings(len(rows), members, is_mean=True))
        rows.append((label, MEAN, *_means(members), *times([line.sequence for line in members])))

    for ctc_class in dict.fromkeys(line.ctc_class for line in lines):
        members = [line for line in lines if line.ctc_class == ctc_class]
        for line in members:
            warnings.extend(_warnings(len(rows), [line], is_mean=False))
            values = (rate.value_percent if rate else None for rate in line.rates)
            rows.append((ctc_class, line.sequence, *values, *times([line.sequence])))
        add_mean(f"Class {ctc_class}", members)
    if lines:
        add_mean(OVERALL, lines)
    return Table(title, JVET_COLUMNS, tuple(rows), notes, tuple(warnings))


def _warnings(row: int, lines: Sequence[JvetLine], *, is_mean: bool) -> list[CellWarning]:
    found = []
    for place in range(_N_RATES):
        warnings = [(line.sequence, rate.warnings) for line in lines if (rate := line.rates[place])]
        text = warning_text(warnings, is_mean=is_mean)
        if text:
            found.append(CellWarning(row, place + _N_LABELS, text))
    return found


def _means(lines: Sequence[JvetLine]) -> tuple[Cell, ...]:
    columns = zip(*(line.rates for line in lines), strict=True)
    return tuple(mean_or_none(rate.value_percent for rate in column if rate) for column in columns)
