"""BD-rates as proposals to JVET print them: a row per sequence, class and overall, a column per component and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vvc_nnr.codec.vvc import LoopFilters
from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import CnnUse, ToolResults, Variant, mean_or_none, tool_results
from vvc_nnr.experiments.bd_rate import BdRate, Interpolation, Point, bd_rate_percent
from vvc_nnr.experiments.gain_tables import LOOP_FILTER_TITLES, comparisons, some_of
from vvc_nnr.experiments.markup import Cell, Column, Doubt, Table
from vvc_nnr.experiments.notes import tool_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ToolRow

JVET_COLUMNS = (
    Column("Class", text=True),
    Column("Sequence", text=True),
    *(Column(head, "%", digits=2, signed=True) for head in ("Y", "Cb", "Cr", "YUV")),
    Column("EncT", "%", digits=0),
    Column("DecT", "%", digits=0),
)
MEAN = "mean"
"""What stands for a sequence in the rows of classes and overall."""
_N_LABELS, _N_TIMES = 2, 2
_WEIGHTS = (6, 1, 1)
"""Of Y, Cb and Cr in the PSNR of YUV."""
_NO_TIMES = "EncT, DecT: this experiment does not time the codec."
_YUV_NOTE = "YUV: BD-rate over the PSNR (6 Y + Cb + Cr) / 8 of each QP."


@dataclass(frozen=True, slots=True)
class _Line:
    """The BD-rates of one sequence, one per column of BD-rates."""

    sequence: str
    ctc_class: str
    rates: tuple[BdRate, ...]


def jvet_tables(
    rows: Iterable[ToolRow], conventions: Conventions, interpolation: Interpolation = "pchip"
) -> dict[str, Table]:
    """A table by file name for each network, as decoded from its compressed file, against each of its anchors.

    Args:
        rows: Rows of the tool-by-tool experiment.
        conventions: What the rows were made under.
        interpolation: How BD-rate draws its curves.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(rows)
    notes = (_NO_TIMES, _YUV_NOTE, *tool_notes(conventions, results))
    tables = {}
    for number, (use, anchor) in enumerate(comparisons(results), start=1):
        lines = [_line(results, use, anchor, name, interpolation) for name in results.sequences]
        title = f"BD-rate ({interpolation}) of {results.label(use)} against {LOOP_FILTER_TITLES[anchor]}"
        tables[f"jvet_{number}"] = _table(title, lines, notes)
    return tables


def yuv_points(results: ToolResults, sequence: str, variant: Variant) -> list[Point]:
    """(kbit per picture, weighted PSNR of Y, Cb and Cr in dB) of a sequence, one per QP; none without chroma."""
    points = []
    for qp in results.qps:
        mean = results.means.get((sequence, qp, variant))
        scores = [score for score in mean.psnr_db if score is not None] if mean else []
        if mean and len(scores) == len(_WEIGHTS):
            weighted = sum(weight * score for weight, score in zip(_WEIGHTS, scores, strict=True)) / sum(_WEIGHTS)
            points.append((mean.bits_per_picture / 1000, weighted))
    return points


def _line(results: ToolResults, use: CnnUse, anchor: LoopFilters, name: str, interpolation: Interpolation) -> _Line:
    def curves(variant: Variant) -> list[list[Point]]:
        planes = [results.rate_points(name, variant, plane=plane) for plane in ("y", "cb", "cr")]
        return [*planes, yuv_points(results, name, variant)]

    pairs = zip(curves(Variant(anchor)), curves(use.reconstructed), strict=True)
    rates = tuple(bd_rate_percent(a, b, interpolation) if a and b else BdRate(None) for a, b in pairs)
    return _Line(name, results.sequences[name], rates)


def _table(title: str, lines: Sequence[_Line], notes: tuple[str, ...]) -> Table:
    """The rows of each class, its mean, and the mean over all sequences."""
    rows: list[tuple[Cell, ...]] = []
    doubts: list[Doubt] = []
    for ctc_class in dict.fromkeys(line.ctc_class for line in lines):
        members = [line for line in lines if line.ctc_class == ctc_class]
        for line in members:
            doubts += _doubts(len(rows), line)
            rows.append((ctc_class, line.sequence, *(rate.value_percent for rate in line.rates), None, None))
        doubts += _mean_doubts(len(rows), members)
        rows.append((f"Class {ctc_class}", MEAN, *_means(members)))
    if lines:
        doubts += _mean_doubts(len(rows), lines)
        rows.append((paper.OVERALL, MEAN, *_means(lines)))
    return Table(title, JVET_COLUMNS, tuple(rows), notes, tuple(doubts))


def _doubts(row: int, line: _Line) -> list[Doubt]:
    numbered = enumerate(line.rates, start=_N_LABELS)
    return [Doubt(row, column, "; ".join(rate.warnings)) for column, rate in numbered if rate.warnings]


def _mean_doubts(row: int, lines: Sequence[_Line]) -> list[Doubt]:
    found = []
    for place in range(len(JVET_COLUMNS) - _N_LABELS - _N_TIMES):
        names = [line.sequence for line in lines if line.rates[place].warnings]
        if names:
            found.append(Doubt(row, place + _N_LABELS, f"see {some_of(names)}"))
    return found


def _means(lines: Sequence[_Line]) -> tuple[Cell, ...]:
    columns = zip(*(line.rates for line in lines), strict=True)
    return (*(mean_or_none(rate.value_percent for rate in column) for column in columns), None, None)
