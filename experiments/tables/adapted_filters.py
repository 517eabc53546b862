"""Networks tuned to each sequence, in tool-by-tool: BD-rates as bundled, adapted, with the bits of the update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vvc_nnr.experiments.records.rows import UpdateRow
from vvc_nnr.experiments.records.weights import ADAPTED
from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation, Point, bd_rate_percent
from vvc_nnr.experiments.tables.bd_rate_tables import DECISION_TITLES, RATE_COLUMNS, Notes, warning_notes
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    OVERALL,
    PLANES,
    PlaneOrAll,
    ToolResults,
    Variant,
    mean_or_none,
)
from vvc_nnr.experiments.tables.table import Cell, Column, Table
from vvc_nnr.filters.adaptation.stream import net_percent, rate_slopes

LENGTHS = (60, 250, 600)
"""Pictures of longer streams that carry the same update once."""
_SENT = ("nothing", "filter", "update")
_COLUMNS = (
    Column("Network", text=True),
    Column("Decisions", text=True),
    Column("Sequence", text=True),
    Column("Sent", text=True),
    Column("Added", "byte"),
    *RATE_COLUMNS,
    Column("At the QPs", text=True),
)


@dataclass(frozen=True, slots=True)
class _Curve:
    """One of the things that an encoder may send for a sequence.

    Attributes:
        sent: What tables call it.
        points: Its points by plane.
        n_bytes: What it adds to each stream; None: that is not counted, or differs.
        at_qps: What is sent at each QP, if the encoder chooses.
    """

    sent: str
    points: Mapping[PlaneOrAll, Sequence[Point]]
    n_bytes: int | None = None
    at_qps: str = ""


def adapted_filters_table(
    results: ToolResults, updates: Sequence[UpdateRow], method: Interpolation, notes: Notes
) -> Table | None:
    """BD-rates of adapted networks for each sequence and their means; None if there are none.

    Args:
        results: The run in one configuration.
        updates: What tuning each network to each sequence costs.
        method: Interpolation.
        notes: What is said besides.
    """
    own = {(row.sequence, row.network): row for row in updates if row.config == results.configuration.name}
    adapted = [variant for variant in results.variants if variant.weights == ADAPTED]
    rows: list[tuple[Cell, ...]] = []
    every: list[BdRate | None] = []
    for variant in adapted if ANCHOR in results.variants else ():
        by_kind: dict[str, list[list[float | None]]] = {}
        for name in results.sequences:
            for curve in _curves(results, variant, name, own[name, variant.network]):
                found = [_saving(results, name, plane, curve.points[plane], method) for plane in PLANES]
                every += found
                values = [saving.value_percent if saving else None for saving in found]
                by_kind.setdefault(curve.sent, []).append(values)
                rows.append((*_head(variant, name), curve.sent, curve.n_bytes, *values, curve.at_qps))
        for sent, several in by_kind.items():
            means = (mean_or_none(column) for column in zip(*several, strict=True))
            rows.append((*_head(variant, OVERALL), sent, None, *means, ""))
    if not rows:
        return None
    said = (
        "Networks tuned to each sequence, one update for all its QPs. Filter: the network that a decoder has, which an "
        "update changes. Counted: with the bytes of the SEI messages, once in the stream that was coded; the network "
        "itself is named by its hash. In N pictures: the same bytes in a stream of N pictures, at the same rate and "
        "gain. As sent: at each QP nothing, the filter, or filter and update, whichever is worth most for luma by the "
        "slope of the sequence's rate over PSNR, all bytes counted.",
        "Overall: mean of the sequences' BD-rates.",
    )
    title = "BD-rate of adapted networks against all in-loop filters"
    return Table(title, _COLUMNS, tuple(rows), (*said, *notes, *warning_notes(every)))


def _head(variant: Variant, sequence: str) -> tuple[Cell, ...]:
    return variant.network, DECISION_TITLES[variant.way], sequence


def _saving(
    results: ToolResults, name: str, plane: PlaneOrAll, points: Sequence[Point], method: Interpolation
) -> BdRate | None:
    """The BD-rate against all filters; None if the sequence has no such plane."""
    anchor = results.curve((name,), ANCHOR, plane)
    return bd_rate_percent(anchor, points, method) if anchor and points else None


def _curves(results: ToolResults, adapted: Variant, name: str, update: UpdateRow) -> Iterator[_Curve]:
    """What may be sent for a sequence."""
    base = adapted._replace(weights=update.base)
    n_filter, n_all = update.n_filter_bytes, update.n_filter_bytes + update.n_update_bytes

    def curve(sent: str, variant: Variant, n_bytes: int | None = None, length: int = update.n_pictures) -> _Curve:
        extra_kbit = 8 * (n_bytes or 0) / length / 1000
        points = {plane: results.curve((name,), variant, plane, extra_kbit) for plane in PLANES}
        return _Curve(sent, points, n_bytes)

    def chosen(sent: str, length: int = update.n_pictures) -> _Curve:
        with_filter, with_update = curve("", base, n_filter, length), curve("", adapted, n_all, length)
        return _as_sent(sent, (curve("", ANCHOR), with_filter, with_update))

    yield curve("filter", base)
    yield curve("filter, counted", base, n_filter)
    yield curve("adapted", adapted)
    yield curve("adapted, counted", adapted, n_all)
    yield from (curve(f"adapted, in {length} pictures", adapted, n_all, length) for length in LENGTHS)
    yield chosen("as sent")
    yield from (chosen(f"as sent, in {length} pictures", length) for length in LENGTHS)


def _as_sent(sent: str, candidates: Sequence[_Curve]) -> _Curve:
    """At each QP the candidate that is worth most, by luma."""
    luma = [each.points["y"] for each in candidates]
    rates, psnrs_db = zip(*luma[0], strict=True)
    slopes = rate_slopes(rates, psnrs_db)
    best = []
    for place, (slope, rate, psnr_db) in enumerate(zip(slopes, rates, psnrs_db, strict=True)):
        own = (points[place] for points in luma)
        nets = [net_percent(_gain(each[1], psnr_db), each[0] - rate, slope, rate) for each in own]
        best.append(nets.index(min(nets)))
    points = {
        plane: [candidates[which].points[plane][place] for place, which in enumerate(best)] if points else []
        for plane, points in candidates[0].points.items()
    }
    return _Curve(sent, points, None, ", ".join(_SENT[which] for which in best))


def _gain(psnr_db: float, before_db: float) -> float:
    return 0.0 if psnr_db == before_db else psnr_db - before_db
