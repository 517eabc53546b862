"""What the in-loop experiment's networks gain at each QP, what got worse, and what coding their weights changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vvc_nnr.experiments.records.in_loop_rows import DECIDED_METHODS, InLoopRow
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import PLANE_HEADS, WAY_COLUMNS, Notes, way_cells
from vvc_nnr.experiments.tables.gains import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.means import ANCHOR, PLANES, InLoopResults, InLoopVariant, PlaneOrAll, row_psnr_db
from vvc_nnr.experiments.tables.savings import Savings, curve_saving, mean_saving
from vvc_nnr.experiments.tables.sequence_means import difference, mean_or_none
from vvc_nnr.experiments.tables.table import Cell, Column, Table

_GAIN_COLUMNS = tuple(Column(PLANE_HEADS[plane], "dB", signed=True) for plane in PLANES)
_MAX_NAMED = 6


def gain_table(results: InLoopResults, notes: Notes) -> Table:
    """PSNR gains at each QP over the codec with all in-loop filters, and with deblocking and SAO where that was run."""
    columns = (
        *WAY_COLUMNS,
        Column("Against", text=True),
        Column("QP"),
        Column("Rate", "kbit/picture", digits=1),
        Column("Rate diff.", "%", digits=2, signed=True),
        Column("Cost of decisions", "bit/picture", digits=0),
        *_GAIN_COLUMNS,
    )
    rows = [
        (*way_cells(results, variant), *_gain_cells(results, variant, anchor, qp))
        for variant in results.tests
        for anchor in _anchors(results, variant)
        for qp in results.qps
    ]
    note = (
        f"Gain in PSNR at the same QP, mean over {len(results.sequences)} sequences. Rate: pictures and decisions, "
        "without the network."
    )
    return Table("PSNR gain per QP", columns, tuple(rows), (note, *notes))


def worse_table(results: InLoopResults, savings: Savings, notes: Notes) -> Table:
    """How many pictures and sequences a network makes worse at any QP, and how many sequences cost bits."""
    columns = (
        *WAY_COLUMNS,
        Column("Worse", text=True),
        Column("Of"),
        *(Column(PLANE_HEADS[plane]) for plane in PLANES),
    )
    tests = [variant for variant in results.tests if variant.network]
    rows: list[tuple[Cell, ...]] = []
    alarms: list[str] = []
    for variant in tests:
        for count in _worse_counts(results, savings, variant):
            rows.append((*way_cells(results, variant), count.kind, count.n_all, *(len(count.names[p]) for p in PLANES)))
            if variant.method in DECIDED_METHODS:
                alarms += _alarms(results, variant, count)
    note = (
        "Worse than the codec with all in-loop filters: PSNR is lower at one QP or more; of a sequence: the mean PSNR "
        "of its pictures. BD-rate above 0: more bits at equal PSNR. What decisions switch off stays as it was before "
        "the network; for a network that replaces the filters that is not the picture it is compared with."
    )
    verdict = alarms or ["With decisions no picture and no sequence got worse."]
    return Table("What got worse", columns, tuple(rows), (note, *(verdict if rows else ()), *notes))


def weights_table(results: InLoopResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """The difference between networks as their files have them and the float networks that those were coded from."""
    columns = (
        *WAY_COLUMNS,
        Column("Class", text=True),
        *(Column(PLANE_HEADS[plane], "%", digits=3, signed=True) for plane in PLANES),
        Column("Diff. of Y BD-rates", "%", digits=3, signed=True),
        Column("PSNR diff. Y", "dB", digits=4, signed=True),
    )
    rows = [
        (*way_cells(results, coded), f"{group} ({len(names)})", *_weights_cells(results, savings, coded, names, method))
        for coded in coded_variants(results)
        for group, names in results.groups.items()
    ]
    note = (
        "BD-rate of the network as its file has it against the float network that it was coded from, mean over "
        "sequences; positive: coding costs bits. Diff. of Y BD-rates: of both luma BD-rates against all in-loop "
        "filters. PSNR diff.: mean over QPs and sequences."
    )
    return Table("Coded weights against float weights", columns, tuple(rows), (note, *notes))


def coded_variants(results: InLoopResults) -> list[InLoopVariant]:
    """The variants whose network was run both as its file has it and as it was before coding."""
    return [variant for variant in results.tests if variant.weights == "file" and _original(variant) in results.tests]


def _anchors(results: InLoopResults, variant: InLoopVariant) -> list[InLoopVariant]:
    """The anchor, and the codec with deblocking and SAO for networks that replace the filters."""
    weaker = InLoopVariant("deblock-sao")
    is_compared = variant.network and variant.loop_filters == "none" and weaker in results.variants
    return [ANCHOR, weaker] if is_compared else [ANCHOR]


def _gain_cells(results: InLoopResults, variant: InLoopVariant, anchor: InLoopVariant, qp: int) -> tuple[Cell, ...]:
    names = tuple(results.sequences)
    kbit, anchor_kbit = (results.mean_kbit(names, qp, each) for each in (variant, anchor))
    decisions = [results.means[name, qp, variant].decision_bits for name in names]
    gains = [difference(*(results.mean_db(names, qp, each, p) for each in (variant, anchor))) for p in PLANES]
    share = mean_or_none(decisions) if variant.method in DECIDED_METHODS else None
    return (LOOP_FILTER_TITLES[anchor.loop_filters], qp, kbit, 100 * (kbit / anchor_kbit - 1), share, *gains)


@dataclass(frozen=True, slots=True)
class _Count:
    """What got worse: names by plane, of so many."""

    kind: str
    n_all: int
    names: Mapping[PlaneOrAll, Sequence[str]]


def _worse_counts(results: InLoopResults, savings: Savings, variant: InLoopVariant) -> list[_Count]:
    pictures = [
        (name, row.picture) for name in results.sequences for row in results.rows[name, results.qps[0], variant]
    ]
    counts = [
        _Count("pictures", len(pictures), {plane: _worse_pictures(results, variant, plane) for plane in PLANES}),
        _Count("sequences", len(results.sequences), {p: _worse_sequences(results, variant, p) for p in PLANES}),
    ]
    if savings:
        costly = {plane: _costly(results, savings, variant, plane) for plane in PLANES}
        counts.append(_Count("sequences, BD-rate above 0", len(results.sequences), costly))
    return counts


def _worse_pictures(results: InLoopResults, variant: InLoopVariant, plane: PlaneOrAll) -> list[str]:
    """The pictures that are worse than the anchor's at any QP."""
    found = {
        (name, row.picture)
        for name in results.sequences
        for qp in results.qps
        for row, anchor in _pairs(results, variant, name, qp)
        if (difference(row_psnr_db(row, plane), row_psnr_db(anchor, plane)) or 0) < 0
    }
    return [f"{name} picture {picture}" for name, picture in sorted(found)]


def _pairs(results: InLoopResults, variant: InLoopVariant, name: str, qp: int) -> Iterator[tuple[InLoopRow, InLoopRow]]:
    """Each picture's row with that of the anchor."""
    anchors = {row.picture: row for row in results.rows[name, qp, ANCHOR]}
    return ((row, anchors[row.picture]) for row in results.rows[name, qp, variant])


def _worse_sequences(results: InLoopResults, variant: InLoopVariant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose mean is worse than the anchor's at any QP."""

    def gain_db(name: str, qp: int) -> float:
        return difference(*(results.mean_db((name,), qp, each, plane) for each in (variant, ANCHOR))) or 0.0

    return [name for name in results.sequences if any(gain_db(name, qp) < 0 for qp in results.qps)]


def _costly(results: InLoopResults, savings: Savings, variant: InLoopVariant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose BD-rate is above zero."""
    rates = {name: mean_saving(savings, (name,), variant, plane) for name in results.sequences}
    return [name for name, rate in rates.items() if rate is not None and rate > 0]


def _alarms(results: InLoopResults, variant: InLoopVariant, count: _Count) -> list[str]:
    """Who got worse although the encoder could have switched the network off."""
    network, coding, decisions = way_cells(results, variant)
    return [
        f"ALARM: worse with decisions {decisions}, {network} ({coding}), {PLANE_HEADS[plane]}, {count.kind}: "
        f"{_some(names)}."
        for plane, names in count.names.items()
        if names
    ]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _original(variant: InLoopVariant) -> InLoopVariant:
    """The same way with the float network."""
    return replace(variant, weights="original")


def _weights_cells(
    results: InLoopResults, savings: Savings, coded: InLoopVariant, names: Sequence[str], method: Interpolation
) -> tuple[Cell, ...]:
    original = _original(coded)
    direct = [_mean_direct(results, coded, names, plane, method) for plane in PLANES]
    of_rates = difference(*(mean_saving(savings, names, each, "y") for each in (coded, original)))
    gains_db = [
        difference(*(results.mean_db((name,), qp, each, "y") for each in (coded, original)))
        for name in names
        for qp in results.qps
    ]
    return (*direct, of_rates, mean_or_none(gains_db))


def _mean_direct(
    results: InLoopResults, coded: InLoopVariant, names: Sequence[str], plane: PlaneOrAll, method: Interpolation
) -> float | None:
    """The mean over sequences of the BD-rate against the float network."""
    found = [curve_saving(results, (name,), coded, plane, None, method, _original(coded)) for name in names]
    return mean_or_none(saving.value_percent for saving in found if saving)
