"""BD-rates as proposals to JVET print them: a row per sequence, class and overall, a column per component and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vvc_nnr.experiments.tables import paper_scores as paper
from vvc_nnr.experiments.tables.bd_rate import BdRate
from vvc_nnr.experiments.tables.doubts import doubt_text
from vvc_nnr.experiments.tables.sequence_means import mean_or_none
from vvc_nnr.experiments.tables.table import Cell, Column, Doubt, Table

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


def jvet_table(title: str, lines: Sequence[JvetLine], times: Times, notes: tuple[str, ...]) -> Table:
    """The rows of each class, its mean, and the mean over all sequences.

    Args:
        title: What is compared with what.
        lines: The sequences, those of a class together.
        times: The times of any of them.
        notes: What has to be known to read the numbers.
    """
    rows: list[tuple[Cell, ...]] = []
    doubts: list[Doubt] = []

    def add_mean(label: str, members: Sequence[JvetLine]) -> None:
        doubts.extend(_doubts(len(rows), members, is_mean=True))
        rows.append((label, MEAN, *_means(members), *times([line.sequence for line in members])))

    for ctc_class in dict.fromkeys(line.ctc_class for line in lines):
        members = [line for line in lines if line.ctc_class == ctc_class]
        for line in members:
            doubts.extend(_doubts(len(rows), [line], is_mean=False))
            values = (rate.value_percent if rate else None for rate in line.rates)
            rows.append((ctc_class, line.sequence, *values, *times([line.sequence])))
        add_mean(f"Class {ctc_class}", members)
    if lines:
        add_mean(paper.OVERALL, lines)
    return Table(title, JVET_COLUMNS, tuple(rows), notes, tuple(doubts))


def _doubts(row: int, lines: Sequence[JvetLine], *, is_mean: bool) -> list[Doubt]:
    found = []
    for place in range(_N_RATES):
        warnings = [(line.sequence, rate.warnings) for line in lines if (rate := line.rates[place])]
        text = doubt_text(warnings, is_mean=is_mean)
        if text:
            found.append(Doubt(row, place + _N_LABELS, text))
    return found


def _means(lines: Sequence[JvetLine]) -> tuple[Cell, ...]:
    columns = zip(*(line.rates for line in lines), strict=True)
    return tuple(mean_or_none(rate.value_percent for rate in column if rate) for column in columns)
