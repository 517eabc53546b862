"""Networks tuned to each sequence, in tool-by-tool: BD-rates as bundled, adapted, with the bits of the update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vvc_nnr.experiments.records.rows import UpdateRow
from vvc_nnr.experiments.records.weights import ADAPTED, ADAPTED_EACH, is_adapted
from vvc_nnr.experiments.tables.adaptation_table import MEASURES
from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation, Point, bd_rate_percent
from vvc_nnr.experiments.tables.bd_rate_tables import DECISION_TITLES, RATE_COLUMNS, Notes, cell_warning, warning_notes
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    OVERALL,
    PLANES,
    PlaneOrAll,
    ToolResults,
    Variant,
    mean_or_none,
)
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table
from vvc_nnr.filters.adaptation.net_effect import net_percent, rate_slopes
from vvc_nnr.filters.adaptation.options import Measure

_Tuned: TypeAlias = tuple[str, str, str]
"""Sequence, network, and what its weights are called."""
LENGTHS = (60, 250, 600)
"""Pictures of longer streams that carry the same update once."""
_OF: Mapping[str, str] = {ADAPTED: "shared", ADAPTED_EACH: "each"}
_BOTH = "auto"
_SENT: Mapping[str, str] = {ADAPTED: "shared update", ADAPTED_EACH: "own update"}
_COLUMNS = (
    Column("Network", text=True),
    Column("Decisions", text=True),
    Column("Updates", text=True),
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
        at_qps: What is sent at each QP, if the encoder chooses, and how many bytes, if these differ.
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
    own: dict[_Tuned, dict[int, UpdateRow]] = {}
    for row in updates:
        if row.config == results.configuration.name:
            own.setdefault((row.sequence, row.network, row.weights), {})[row.qp] = row
    adapted = [variant for variant in results.variants if is_adapted(variant.weights)]
    rows: list[tuple[Cell, ...]] = []
    every: list[BdRate | None] = []
    marks: list[CellWarning] = []
    for variants in _choices(adapted) if ANCHOR in results.variants else ():
        by_kind: dict[str, dict[str, list[BdRate | None]]] = {}
        for name in results.sequences:
            tuned = [own.get((name, each.network, each.weights), {}) for each in variants]
            if any(set(results.qps) - each.keys() for each in tuned):
                continue
            for curve in _curves(results, variants, name, tuned):
                found = [_saving(results, name, plane, curve.points[plane], method) for plane in PLANES]
                every += found
                by_kind.setdefault(curve.sent, {})[name] = found
                head = (*_head(variants, name), curve.sent, curve.n_bytes)
                for column, saving in enumerate(found, start=len(head)):
                    marks += cell_warning(len(rows), column, {name: saving}, is_mean=False)
                values = (saving.value_percent if saving else None for saving in found)
                rows.append((*head, *values, curve.at_qps))
        for sent, several in by_kind.items():
            head = (*_head(variants, OVERALL), sent, None)
            by_plane = [dict(zip(several, column, strict=True)) for column in zip(*several.values(), strict=True)]
            for column, of_plane in enumerate(by_plane, start=len(head)):
                marks += cell_warning(len(rows), column, of_plane, is_mean=len(several) > 1)
            means = (mean_or_none(each.value_percent for each in column.values() if each) for column in by_plane)
            rows.append((*head, *means, ""))
    if not rows:
        return None
    said = (
        "Networks tuned to each sequence. Updates: shared, one for all QPs; each, one for each; auto, at each QP the "
        "one of both that is worth more. Filter: the network that a decoder has, which an "
        "update changes. Counted: with the bytes of the SEI messages, once in the stream that was coded; the network "
        "itself is named by its hash. In N pictures: the same bytes in a stream of N pictures, at the same rate and "
        f"gain. As sent: at each QP nothing, the filter, or filter and update, whichever is worth most for "
        f"{MEASURES[next(iter(updates)).measure]} by the slope of the sequence's rate over PSNR, all bytes counted.",
        "Overall: mean of the sequences' BD-rates.",
    )
    title = "BD-rate of adapted networks against all in-loop filters"
    return Table(title, _COLUMNS, tuple(rows), (*said, *notes, *warning_notes(every)), tuple(marks))


def _choices(adapted: Sequence[Variant]) -> Iterator[tuple[Variant, ...]]:
    """What a network is adapted by: one kind of updates, or the best of two."""
    several: dict[Variant, list[Variant]] = {}
    for variant in adapted:
        several.setdefault(variant._replace(weights=""), []).append(variant)
    for own in several.values():
        yield from ((each,) for each in own)
        if len(own) > 1:
            yield tuple(own)


def _head(variants: Sequence[Variant], sequence: str) -> tuple[Cell, ...]:
    first = variants[0]
    of = _OF[first.weights] if len(variants) == 1 else _BOTH
    return first.network, DECISION_TITLES[first.way], of, sequence


def _saving(
    results: ToolResults, name: str, plane: PlaneOrAll, points: Sequence[Point], method: Interpolation
) -> BdRate | None:
    """The BD-rate against all filters; None if the sequence has no such plane."""
    anchor = results.curve((name,), ANCHOR, plane)
    return bd_rate_percent(anchor, points, method) if anchor and points else None


def _curves(
    results: ToolResults, variants: Sequence[Variant], name: str, tuned: Sequence[Mapping[int, UpdateRow]]
) -> Iterator[_Curve]:
    """What may be sent for a sequence, with one kind of updates; with two what is sent where they compete."""
    first = next(iter(tuned[0].values()))
    base = variants[0]._replace(weights=first.base)
    filter_bytes = {qp: row.n_filter_bytes for qp, row in tuned[0].items()}

    def curve(
        sent: str, variant: Variant, counted: Mapping[int, int] | None = None, length: int = first.n_pictures
    ) -> _Curve:
        extra_kbit = {qp: 8 * (counted[qp] if counted else 0) / length / 1000 for qp in results.qps}
        points = {plane: results.curve((name,), variant, plane, extra_kbit) for plane in PLANES}
        numbers = [counted[qp] for qp in results.qps] if counted else []
        is_one = len(set(numbers)) == 1
        return _Curve(sent, points, numbers[0] if is_one else None, "" if is_one else ", ".join(map(str, numbers)))

    def chosen(sent: str, length: int = first.n_pictures) -> _Curve:
        with_update = [
            curve(_SENT[each.weights], each, all_bytes, length)
            for each, all_bytes in zip(variants, every_bytes, strict=True)
        ]
        return _as_sent(
            sent, (curve("nothing", ANCHOR), curve("filter", base, filter_bytes, length), *with_update), first.measure
        )

    every_bytes = [{qp: row.n_filter_bytes + row.n_update_bytes for qp, row in rows.items()} for rows in tuned]
    if len(variants) == 1:
        (adapted,), (all_bytes,) = variants, every_bytes
        yield curve("filter", base)
        yield curve("filter, counted", base, filter_bytes)
        yield curve("adapted", adapted)
        yield curve("adapted, counted", adapted, all_bytes)
        yield from (curve(f"adapted, in {length} pictures", adapted, all_bytes, length) for length in LENGTHS)
    yield chosen("as sent")
    yield from (chosen(f"as sent, in {length} pictures", length) for length in LENGTHS)


def _as_sent(sent: str, candidates: Sequence[_Curve], measure: Measure) -> _Curve:
    """At each QP the candidate that is worth most, by luma or by what all planes have together."""
    plane: PlaneOrAll = "y" if measure == "luma" or not candidates[0].points["yuv"] else "yuv"
    deciding = [each.points[plane] for each in candidates]
    rates, psnrs_db = zip(*deciding[0], strict=True)
    slopes = rate_slopes(rates, psnrs_db)
    best = []
    for place, (slope, rate, psnr_db) in enumerate(zip(slopes, rates, psnrs_db, strict=True)):
        own = (points[place] for points in deciding)
        nets = [net_percent(_gain(each[1], psnr_db), each[0] - rate, slope, rate) for each in own]
        best.append(nets.index(min(nets)))
    points = {
        plane: [candidates[which].points[plane][place] for place, which in enumerate(best)] if points else []
        for plane, points in candidates[0].points.items()
    }
    return _Curve(sent, points, None, ", ".join(candidates[which].sent for which in best))


def _gain(psnr_db: float, before_db: float) -> float:
    return 0.0 if psnr_db == before_db else psnr_db - before_db
