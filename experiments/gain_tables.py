"""Two tables beyond the paper's: what a network gains at each QP, and what it saves in bits (BD-rate)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import CnnUse, ToolResults, Variant, tool_results
from vvc_nnr.experiments.bd_rate import Interpolation, bd_psnr_db, bd_rate_percent
from vvc_nnr.experiments.doubts import doubt_text
from vvc_nnr.experiments.markup import Cell, Column, Doubt, Table
from vvc_nnr.experiments.notes import tool_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ToolRow
from vvc_nnr.experiments.sequence_means import PlaneName, difference, mean_or_none

LOOP_FILTER_TITLES: dict[LoopFilters, str] = {
    "all": "all filters",
    "deblock-sao": "deblock+SAO",
    "none": "no filter",
}
_PLANES: tuple[PlaneName, ...] = ("y", "cb", "cr")
_PLANE_HEADS = ("Y", "Cb", "Cr", "Rec. Y", "Rec. Cb", "Rec. Cr")
_N_LABELS = 3
"""Columns of the BD-rate table before its numbers."""
_MAX_WARNINGS = 6


def gain_table(rows: Iterable[ToolRow], conventions: Conventions) -> Table:
    """PSNR gains over the anchors at each QP in Y, Cb and Cr, before and after compression.

    Args:
        rows: Rows of the tool-by-tool experiment.
        conventions: What the rows were made under.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(rows)
    columns = (
        Column("Network", text=True),
        Column("Against", text=True),
        Column("QP"),
        Column("Rate", "kbit/picture", digits=1),
        Column("Rate diff.", "%", digits=2, signed=True),
        *(Column(head, "dB", signed=True) for head in _PLANE_HEADS),
    )
    cells = [_gain_cells(results, use, anchor, qp) for use, anchor in comparisons(results) for qp in results.qps]
    notes = (
        f"Gain in PSNR at the same QP over {len(results.sequences)} sequences. The streams differ in rate by "
        "'Rate diff.'; BD-rate weighs both. Rec.: with the network as decoded from its compressed file.",
        *tool_notes(conventions, results),
    )
    return Table("PSNR gain per QP", columns, tuple(cells), notes)


def bd_rate_table(
    rows: Iterable[ToolRow],
    conventions: Conventions,
    method: Interpolation = "pchip",
    *,
    per_sequence: bool = False,
) -> Table:
    """BD-rate against the anchors per class and overall, before and after compression.

    Args:
        rows: Rows of the tool-by-tool experiment.
        conventions: What the rows were made under.
        method: Interpolation: "pchip" as in the JVET spreadsheet, or "akima".
        per_sequence: Give each sequence a row as well.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(rows)
    deltas = [
        delta
        for use, anchor in comparisons(results)
        for name in results.sequences
        for delta in _deltas(results, use, anchor, name, method)
    ]
    columns = (
        Column("Class", text=True),
        Column("Network", text=True),
        Column("Against", text=True),
        *(Column(head, "%", digits=2, signed=True) for head in _PLANE_HEADS),
        Column("BD-PSNR Y", "dB", signed=True),
    )
    notes = (
        f"BD-rate ({method} over PSNR) of each sequence, from its mean kbit per picture and mean PSNR at "
        f"{len(results.qps)} QPs; then the mean over sequences. Negative: fewer bits at equal PSNR. "
        "Rec.: with the network as decoded from its compressed file; BD-PSNR is before compression.",
        *tool_notes(conventions, results),
        *_warning_notes(deltas),
    )
    places = list(product(_groups(results, per_sequence=per_sequence), comparisons(results)))
    cells = [
        (label, results.label(use), LOOP_FILTER_TITLES[anchor], *_bd_cells(names, use, anchor, deltas))
        for (label, names), (use, anchor) in places
    ]
    doubts = [
        doubt
        for row, ((_, names), (use, anchor)) in enumerate(places)
        for doubt in _cell_doubts(row, names, use, anchor, deltas)
    ]
    return Table("BD-rate", columns, tuple(cells), notes, tuple(doubts))


@dataclass(frozen=True, slots=True)
class _Delta:
    """The Bjontegaard deltas of one sequence and plane."""

    sequence: str
    use: CnnUse
    anchor: LoopFilters
    plane: PlaneName
    reconstructed: bool
    rate_percent: float | None
    psnr_db: float | None
    warnings: tuple[str, ...]


def comparisons(results: ToolResults) -> list[tuple[CnnUse, LoopFilters]]:
    """Each network against the anchors that the rows have."""
    there = {variant for _, _, variant in results.means}
    return [(use, anchor) for use in results.uses for anchor in use.anchors if Variant(anchor) in there]


def _groups(results: ToolResults, *, per_sequence: bool) -> list[tuple[str, tuple[str, ...]]]:
    groups = [(f"{name} ({len(names)})", names) for name, names in results.groups.items()]
    if results.sequences:
        groups.append((f"{paper.OVERALL} ({len(results.sequences)})", tuple(results.sequences)))
    single = [(name, (name,)) for name in results.sequences] if per_sequence else []
    return single + groups


def _gain_cells(results: ToolResults, use: CnnUse, anchor: LoopFilters, qp: int) -> tuple[Cell, ...]:
    names = tuple(results.sequences)

    def gains(variant: Variant) -> Iterator[float | None]:
        for plane in _PLANES:
            scores = (results.mean_score(names, [qp], each, "psnr_db", plane) for each in (variant, Variant(anchor)))
            yield difference(*scores)

    rate = mean_or_none([results.mean_kbit(names, qp, use.original), results.mean_kbit(names, qp, use.reconstructed)])
    anchor_rate = results.mean_kbit(names, qp, Variant(anchor))
    change = 100 * (rate / anchor_rate - 1) if rate is not None and anchor_rate else None
    labels = (results.label(use), LOOP_FILTER_TITLES[anchor], qp)
    return (*labels, rate, change, *gains(use.original), *gains(use.reconstructed))


def _deltas(
    results: ToolResults, use: CnnUse, anchor: LoopFilters, sequence: str, method: Interpolation
) -> Iterator[_Delta]:
    for plane in _PLANES:
        anchor_points = results.rate_points(sequence, Variant(anchor), plane=plane)
        for variant in (use.original, use.reconstructed):
            points = results.rate_points(sequence, variant, plane=plane)
            if not points or not anchor_points:
                continue
            rate = bd_rate_percent(anchor_points, points, method)
            psnr = bd_psnr_db(anchor_points, points, method)
            reconstructed = variant.method == "reconstructed"
            values = (rate.value_percent, psnr.value_db, rate.warnings)
            yield _Delta(sequence, use, anchor, plane, reconstructed, *values)


def _cell_doubts(
    row: int, names: Sequence[str], use: CnnUse, anchor: LoopFilters, deltas: Sequence[_Delta]
) -> Iterator[Doubt]:
    """What to doubt about the numbers of a row, with the sequences that give reason to."""
    mine = [d for d in deltas if d.use == use and d.anchor == anchor and d.sequence in names]
    for column, (reconstructed, plane) in enumerate(product((False, True), _PLANES), start=_N_LABELS):
        here = [d for d in mine if (d.plane, d.reconstructed) == (plane, reconstructed)]
        text = doubt_text(((d.sequence, d.warnings) for d in here), is_mean=len(names) > 1)
        if text:
            yield Doubt(row, column, text)


def _bd_cells(names: Sequence[str], use: CnnUse, anchor: LoopFilters, deltas: Sequence[_Delta]) -> tuple[Cell, ...]:
    mine = [d for d in deltas if d.use == use and d.anchor == anchor and d.sequence in names]
    rates = [
        mean_or_none(d.rate_percent for d in mine if d.plane == plane and d.reconstructed == reconstructed)
        for reconstructed in (False, True)
        for plane in _PLANES
    ]
    psnr = mean_or_none(d.psnr_db for d in mine if d.plane == "y" and not d.reconstructed)
    return (*rates, psnr)


def _warning_notes(deltas: Sequence[_Delta]) -> list[str]:
    """What to doubt, each doubt once with its number of curves."""
    found = Counter(
        f"{delta.plane.capitalize()} against {LOOP_FILTER_TITLES[delta.anchor]}: {text}"
        for delta in deltas
        for text in delta.warnings
    )
    notes = [f"Doubt in {number} curves: {text}." for text, number in found.most_common(_MAX_WARNINGS)]
    more = len(found) - len(notes)
    if more > 0:
        notes.append(f"And {more} other doubts.")
    if any(delta.rate_percent is None for delta in deltas):
        notes.append("A curve without a value is in no mean.")
    return notes
