"""What the in-loop experiment's networks gain at each QP, what got worse, and what coding their weights changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.gain_tables import LOOP_FILTER_TITLES
from vvc_nnr.experiments.in_loop_means import ANCHOR, PLANES, InLoopResults, InLoopVariant, PlaneOrAll
from vvc_nnr.experiments.in_loop_rows import InLoopRow
from vvc_nnr.experiments.in_loop_savings import Savings, curve_saving, mean_saving
from vvc_nnr.experiments.in_loop_tables import PLANE_HEADS, WAY_COLUMNS, Notes, way_cells
from vvc_nnr.experiments.markup import Cell, Column, Table
from vvc_nnr.experiments.sequence_means import PlaneName, difference, mean_or_none

_GAIN_COLUMNS = tuple(Column(PLANE_HEADS[plane], "dB", signed=True) for plane in PLANES)
_SINGLE_PLANES: tuple[PlaneName, ...] = ("y", "cb", "cr")
_MAX_NAMED = 6


def gain_table(results: InLoopResults, notes: Notes) -> Table:
    """PSNR gains at each QP over the codec with all in-loop filters, and with deblocking and SAO where that was run."""
    columns = (
        *WAY_COLUMNS,
        Column("Against", text=True),
        Column("QP"),
        Column("Rate", "kbit/picture", digits=1),
        Column("Rate diff.", "%", digits=2, signed=True),
        Column("Decisions", "bit/picture", digits=0),
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
    heads = [PLANE_HEADS[plane] for plane in _SINGLE_PLANES]
    columns = (
        *WAY_COLUMNS,
        Column("Pictures"),
        *(Column(f"{head} worse") for head in heads),
        Column("Sequences"),
        *(Column(f"{head} of sequence worse") for head in heads),
        *(Column(f"{PLANE_HEADS[plane]} BD-rate above 0") for plane in PLANES),
    )
    tests = [variant for variant in results.tests if variant.network]
    rows = [(*way_cells(results, variant), *_worse_cells(results, savings, variant)) for variant in tests]
    note = (
        "Worse: PSNR of that plane is below the codec's with all in-loop filters at one QP or more; of a sequence: the "
        "mean PSNR of its pictures. BD-rate above 0: sequences that take more bits at equal PSNR."
    )
    alarms = [text for variant in tests for text in _alarms(results, savings, variant)]
    return Table("What got worse", columns, tuple(rows), (note, *alarms, *notes))


def weights_table(results: InLoopResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """The difference between networks as their files have them and the float networks that those were coded from."""
    columns = (
        *WAY_COLUMNS,
        Column("Class", text=True),
        *(Column(PLANE_HEADS[plane], "%", digits=3, signed=True) for plane in PLANES),
        Column("Y, of BD-rates", "%", digits=3, signed=True),
        Column("PSNR Y", "dB", digits=4, signed=True),
    )
    rows = [
        (*way_cells(results, coded), f"{group} ({len(names)})", *_weights_cells(results, savings, coded, names, method))
        for coded in coded_variants(results)
        for group, names in results.groups.items()
    ]
    note = (
        "BD-rate of the network as its file has it against the float network that it was coded from, mean over "
        "sequences; positive: coding costs bits. Y, of BD-rates: difference of their luma BD-rates against all in-loop "
        "filters. PSNR: mean difference over QPs and sequences."
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
    share = mean_or_none(decisions) if variant.method == "decisions" else None
    return (LOOP_FILTER_TITLES[anchor.loop_filters], qp, kbit, 100 * (kbit / anchor_kbit - 1), share, *gains)


def _worse_cells(results: InLoopResults, savings: Savings, variant: InLoopVariant) -> tuple[Cell, ...]:
    pictures = {(name, row.picture) for name in results.sequences for row in results.rows[name, results.qps[0], ANCHOR]}
    costly = [sum(_costs(savings, name, variant, plane) for name in results.sequences) for plane in PLANES]
    return (
        len(pictures),
        *(len(_worse_pictures(results, variant, plane)) for plane in _SINGLE_PLANES),
        len(results.sequences),
        *(len(_worse_sequences(results, variant, plane)) for plane in _SINGLE_PLANES),
        *costly,
    )


def _worse_pictures(results: InLoopResults, variant: InLoopVariant, plane: PlaneName) -> set[tuple[str, int]]:
    """Sequence and number of the pictures whose plane is worse than the anchor's at any QP."""
    found = set()
    for name in results.sequences:
        for qp in results.qps:
            anchor_db = {row.picture: _psnr_db(row, plane) for row in results.rows[name, qp, ANCHOR]}
            for row in results.rows[name, qp, variant]:
                gain_db = difference(_psnr_db(row, plane), anchor_db[row.picture])
                if gain_db is not None and gain_db < 0:
                    found.add((name, row.picture))
    return found


def _worse_sequences(results: InLoopResults, variant: InLoopVariant, plane: PlaneName) -> list[str]:
    """The sequences whose mean is worse than the anchor's at any QP."""

    def gain_db(name: str, qp: int) -> float:
        scores_db = [results.means[name, qp, each].score_db(plane) for each in (variant, ANCHOR)]
        return difference(*scores_db) or 0.0

    return [name for name in results.sequences if any(gain_db(name, qp) < 0 for qp in results.qps)]


def _costs(savings: Savings, name: str, variant: InLoopVariant, plane: PlaneOrAll) -> bool:
    """Whether a sequence's BD-rate is above zero."""
    saving = savings.get((name, variant, plane, None))
    return saving is not None and saving.value_percent is not None and saving.value_percent > 0


def _alarms(results: InLoopResults, savings: Savings, variant: InLoopVariant) -> list[str]:
    """Who got worse although the encoder could have switched the network off."""
    if variant.method != "decisions":
        return []
    names = [f"{name} picture {n}" for name, n in sorted(_worse_pictures(results, variant, "y"))]
    costly = [name for name in results.sequences if _costs(savings, name, variant, "y")]
    kinds = {"lower luma PSNR": names, "a luma BD-rate above 0": costly}
    label = f"{variant.network} ({way_cells(results, variant)[1]})"
    return [f"ALARM: {label} with decisions has {kind}: {_some(found)}." for kind, found in kinds.items() if found]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _psnr_db(row: InLoopRow, plane: PlaneName) -> float | None:
    by_plane: Mapping[PlaneName, float | None] = {"y": row.psnr_y_db, "cb": row.psnr_cb_db, "cr": row.psnr_cr_db}
    return by_plane[plane]


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
