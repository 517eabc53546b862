"""What networks gain at each QP, what got worse, and what coding their weights changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vvc_nnr.experiments.records.rows import DECIDED_WAYS
from vvc_nnr.experiments.records.weights import ORIGINAL
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import (
    PLANE_HEADS,
    WAY_COLUMNS,
    Comparison,
    Notes,
    Savings,
    curve_saving,
    mean_saving,
    way_cells,
)
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    PLANES,
    PlaneOrAll,
    ToolResults,
    Variant,
    difference,
    mean_or_none,
    psnr_column,
)
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.table import Cell, Column, Table, without_empty_columns

_GAIN_COLUMNS = tuple(Column(PLANE_HEADS[plane], "dB", signed=True) for plane in PLANES)
_MAX_NAMED = 6


def gain_table(results: ToolResults, notes: Notes) -> Table:
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
        for anchor in results.anchors(variant)
        for qp in results.qps
    ]
    note = (
        f"Gain in PSNR at the same QP, mean over {len(results.sequences)} sequences. Rate: pictures and decisions, "
        "without the network."
    )
    return without_empty_columns(Table("PSNR gain per QP", columns, tuple(rows), (note, *notes)))


def worse_table(results: ToolResults, savings: Savings, notes: Notes) -> Table:
    """How many pictures and sequences a network makes worse at any QP, and how many sequences cost bits."""
    columns = (
        *WAY_COLUMNS,
        Column("Worse", text=True),
        Column("Of"),
        *(Column(PLANE_HEADS[plane]) for plane in PLANES),
    )
    tests = [variant for variant in results.tests if variant.network and ANCHOR in results.variants]
    rows: list[tuple[Cell, ...]] = []
    worse: dict[str, list[str]] = {}
    for variant in tests:
        for count in _worse_counts(results, savings, variant):
            rows.append((*way_cells(results, variant), count.kind, count.n_all, *(len(count.names[p]) for p in PLANES)))
            if _can_switch_off(variant):
                worse.setdefault(count.kind, []).extend(_names_of(results, variant, count))
    note = (
        "Worse than the codec with all in-loop filters: PSNR is lower at one QP or more; of a sequence: the mean PSNR "
        "of its pictures. BD-rate above 0: more bits at equal PSNR. What decisions switch off stays as it was before "
        "the network; for a network that replaces the filters that is not the picture it is compared with."
    )
    alarms = [f"ALARM: {kind}, worse with decisions: {_some(names)}." for kind, names in worse.items() if names]
    if not alarms and any(map(_can_switch_off, tests)):
        alarms = ["With decisions no picture and no sequence got worse."]
    return Table("What got worse", columns, tuple(rows), (note, *alarms, *notes))


def weights_table(results: ToolResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """The difference between networks with decoded weights and the same networks as trained."""
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
        "BD-rate of the network with decoded weights against the network as trained, mean over "
        "sequences; positive: coding costs bits. Diff. of Y BD-rates: of both luma BD-rates against all in-loop "
        "filters. PSNR diff.: mean over QPs and sequences."
    )
    return Table("Decoded weights against weights as trained", columns, tuple(rows), (note, *notes))


def coded_variants(results: ToolResults) -> list[Variant]:
    """The variants with decoded weights whose network was run as trained as well."""
    is_coded = [variant.network != "" and variant.weights != ORIGINAL for variant in results.tests]
    return [v for v, coded in zip(results.tests, is_coded, strict=True) if coded and _original(v) in results.tests]


def _gain_cells(results: ToolResults, variant: Variant, anchor: Variant, qp: int) -> tuple[Cell, ...]:
    names = tuple(results.sequences)

    def mean(each: Variant, column: str) -> float | None:
        return results.mean(names, [qp], each, column)

    kbit, anchor_kbit = mean(variant, "kbit"), mean(anchor, "kbit")
    change = 100 * (kbit / anchor_kbit - 1) if kbit is not None and anchor_kbit else None
    gains = [difference(mean(variant, psnr_column(p)), mean(anchor, psnr_column(p))) for p in PLANES]
    share = mean(variant, "n_decision_bits") if variant.way in DECIDED_WAYS else None
    return (LOOP_FILTER_TITLES[anchor.loop_filters], qp, kbit, change, share, *gains)


@dataclass(frozen=True, slots=True)
class _Count:
    """What got worse: names by plane, of so many."""

    kind: str
    n_all: int
    names: Mapping[PlaneOrAll, Sequence[str]]


def _worse_counts(results: ToolResults, savings: Savings, variant: Variant) -> list[_Count]:
    n_pictures = len(results.rows[["sequence", "picture"]].drop_duplicates())
    n_sequences = len(results.sequences)
    counts = [
        _Count("pictures", n_pictures, {plane: _worse_pictures(results, variant, plane) for plane in PLANES}),
        _Count("sequences", n_sequences, {plane: _worse_sequences(results, variant, plane) for plane in PLANES}),
    ]
    if savings:
        costly = {plane: _costly(results, savings, variant, plane) for plane in PLANES}
        counts.append(_Count("sequences, BD-rate above 0", n_sequences, costly))
    return counts


def _worse_pictures(results: ToolResults, variant: Variant, plane: PlaneOrAll) -> list[str]:
    """The pictures that are worse than the anchor's at any QP."""
    rows = results.rows.set_index(["loop_filters", "way", "network", "weights"])
    place, column = ["sequence", "picture", "qp"], psnr_column(plane)
    scores_db, anchor_db = (rows[rows.index.isin([each])].set_index(place)[column] for each in (variant, ANCHOR))
    worse = scores_db[scores_db < anchor_db.reindex(scores_db.index)].index
    return [f"{name} picture {picture}" for name, picture in sorted({(name, picture) for name, picture, _ in worse})]


def _worse_sequences(results: ToolResults, variant: Variant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose mean is worse than the anchor's at any QP; none where no sequence is complete."""
    if not results.sequences:
        return []
    scores_db, anchor_db = (results.grids[each, psnr_column(plane)] for each in (variant, ANCHOR))
    is_worse = (scores_db < anchor_db).any(axis=1)
    return [name for name in results.sequences if is_worse[name]]


def _costly(results: ToolResults, savings: Savings, variant: Variant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose BD-rate is above zero."""
    rates = {name: mean_saving(savings, (name,), Comparison(variant, plane)) for name in results.sequences}
    return [name for name, rate in rates.items() if rate is not None and rate > 0]


def _can_switch_off(variant: Variant) -> bool:
    """Whether the encoder could have kept the picture that the variant is compared with, by switching it off.

    That holds behind all in-loop filters; in their place the picture without any of them is what is kept.
    """
    return variant.way in DECIDED_WAYS and variant.loop_filters == ANCHOR.loop_filters


def _names_of(results: ToolResults, variant: Variant, count: _Count) -> list[str]:
    """What got worse, with the network, its weights, the decisions and the planes."""
    planes: dict[str, list[str]] = {}
    for plane, names in count.names.items():
        for name in names:
            planes.setdefault(name, []).append(PLANE_HEADS[plane])
    network, coding, decisions = way_cells(results, variant)
    return [f"{name} ({network}, {coding}, {decisions}, {' '.join(found)})" for name, found in planes.items()]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _original(variant: Variant) -> Variant:
    """The same way with the network as trained."""
    return variant._replace(weights=ORIGINAL)


def _weights_cells(
    results: ToolResults, savings: Savings, coded: Variant, names: Sequence[str], method: Interpolation
) -> tuple[Cell, ...]:
    original = _original(coded)
    direct = [_mean_direct(results, names, Comparison(coded, plane, anchor=original), method) for plane in PLANES]
    of_rates = difference(*(mean_saving(savings, names, Comparison(each)) for each in (coded, original)))
    levels_db = (results.mean(names, results.qps, each, psnr_column("y")) for each in (coded, original))
    return (*direct, of_rates, difference(*levels_db))


def _mean_direct(
    results: ToolResults, names: Sequence[str], comparison: Comparison, method: Interpolation
) -> float | None:
    """The mean over sequences of the BD-rate against the network as trained."""
    found = [curve_saving(results, (name,), comparison, method) for name in names]
    return mean_or_none(saving.value_percent for saving in found if saving)
