"""BD-rates of the in-loop experiment as tables in the manner of the JVET spreadsheet, and what their networks cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from vvc_nnr.experiments.records.in_loop_rows import InLoopMethod, NetworkRow
from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation
from vvc_nnr.experiments.tables.doubts import doubt_text
from vvc_nnr.experiments.tables.gains import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.means import PLANES, SIDES, InLoopResults, InLoopVariant, PlaneOrAll
from vvc_nnr.experiments.tables.savings import Savings, StreamLength, curve_saving, mean_saving, stream_lengths
from vvc_nnr.experiments.tables.table import Cell, Column, Doubt, Table

PLANE_HEADS: Mapping[PlaneOrAll, str] = {"y": "Y", "cb": "Cb", "cr": "Cr", "yuv": "YUV"}
WAY_COLUMNS = (Column("Network", text=True), Column("Weights", text=True), Column("Decisions", text=True))
RATE_COLUMNS = tuple(Column(PLANE_HEADS[plane], "%", digits=2, signed=True) for plane in PLANES)
_DECISION_TITLES: Mapping[InLoopMethod, str] = {"full": "off", "decisions": "on", "wiener": "on + Wiener"}
_TIMED_WAYS: Mapping[InLoopMethod, str] = {"full": "full", "decisions": "decisions", "wiener": "Wiener"}
TIME_COLUMNS = (Column("EncT", "%", digits=0), Column("DecT", "%", digits=0))
Notes: TypeAlias = tuple[str, ...]

_MEAN_NOTE = "Averaging: the BD-rate of each sequence first, then the mean over sequences (as in the JVET spreadsheet)."
_CURVE_NOTE = (
    "Averaging: rates and PSNR first, the mean over sequences at each QP, then the BD-rate of the two mean curves. "
    "Sequences of high rate weigh more here than in the mean of BD-rates."
)


def way_cells(results: InLoopResults, variant: InLoopVariant) -> tuple[Cell, ...]:
    """The cells under `WAY_COLUMNS`."""
    if not variant.network:
        return (f"codec, {LOOP_FILTER_TITLES[variant.loop_filters]}", "", "")
    coding = results.networks[variant.network, variant.weights].coding
    return (variant.network, coding, _DECISION_TITLES[variant.method])


def complexity_table(results: InLoopResults, notes: Notes) -> Table:
    """What each network costs: operations, parameters, bytes, and times without and with decisions.

    Args:
        results: The run.
        notes: What is said about times.
    """
    columns = (
        Column("Network", text=True),
        Column("Weights", text=True),
        Column("In-loop filters before it", text=True),
        Column("Complexity", "kMAC/luma sample", digits=2),
        Column("Parameters"),
        Column("Size of file", "byte"),
        Column("Of float32", "%", digits=1),
        *(Column(f"{time}, {way}", "%", digits=0) for time in ("EncT", "DecT") for way in _TIMED_WAYS.values()),
    )
    rows = [_complexity_cells(results, row) for row in results.networks.values()]
    counted = (
        "Complexity: multiplications with addition of all convolutions and matrix products, counted in a forward pass "
        "of the module that ran, per luma sample of a 4:2:0 picture; chroma is in it. Size: the whole file, with names "
        "and metadata; of float32: against 4 bytes per parameter. Full: at full strength everywhere; Wiener: "
        "decisions and Wiener filters."
    )
    return Table("Complexity of the networks", columns, tuple(rows), (counted, *notes))


def bd_rate_table(results: InLoopResults, savings: Savings, notes: Notes) -> Table:
    """Mean of the sequences' BD-rates per class and overall, with times."""

    def cells(names: tuple[str, ...], variant: InLoopVariant) -> tuple[Cell, ...]:
        rates = [mean_saving(savings, names, variant, plane) for plane in PLANES]
        times = [results.time_percent(names, variant, side) for side in SIDES]
        return (*rates, *times)

    columns = (*WAY_COLUMNS, Column("Class", text=True), *RATE_COLUMNS, *TIME_COLUMNS)
    title = "BD-rate against all in-loop filters, mean of the sequences' BD-rates"
    doubts = doubt_notes(savings[key] for key in savings if key[3] is None)
    places = [(names, variant, None) for variant in results.tests for names in results.groups.values()]
    marks = _rate_doubts(savings, places, len(WAY_COLUMNS) + 1)
    return Table(title, columns, _by_group(results, cells), (_MEAN_NOTE, *notes, *doubts), marks)


def sequence_table(results: InLoopResults, savings: Savings, notes: Notes) -> Table:
    """BD-rate of each sequence."""
    columns = (*WAY_COLUMNS, Column("Class", text=True), Column("Sequence", text=True), *RATE_COLUMNS)
    rows = [
        (*way_cells(results, variant), ctc_class, name, *(mean_saving(savings, (name,), variant, p) for p in PLANES))
        for variant in results.tests
        for name, ctc_class in results.sequences.items()
    ]
    doubts = doubt_notes(savings[key] for key in savings if key[3] is None)
    places = [((name,), variant, None) for variant in results.tests for name in results.sequences]
    marks = _rate_doubts(savings, places, len(WAY_COLUMNS) + 2)
    return Table("BD-rate against all in-loop filters, per sequence", columns, tuple(rows), (*notes, *doubts), marks)


def curve_table(results: InLoopResults, method: Interpolation, notes: Notes) -> Table:
    """BD-rate of mean curves per class and overall."""
    found: list[BdRate | None] = []

    def cells(names: tuple[str, ...], variant: InLoopVariant) -> tuple[Cell, ...]:
        savings = [curve_saving(results, names, variant, plane, None, method) for plane in PLANES]
        found.extend(savings)
        return tuple(saving.value_percent if saving else None for saving in savings)

    columns = (*WAY_COLUMNS, Column("Class", text=True), *RATE_COLUMNS)
    rows = _by_group(results, cells)
    title = "BD-rate against all in-loop filters, of mean curves"
    return Table(title, columns, rows, (_CURVE_NOTE, *notes, *doubt_notes(found)))


def network_bits_table(results: InLoopResults, savings: Savings, notes: Notes) -> Table:
    """Mean of the sequences' BD-rates without the network's bits, and with them in streams of several lengths."""

    def rows(names: tuple[str, ...], variant: InLoopVariant, length: StreamLength) -> tuple[Cell, ...]:
        share = results.network_bits(variant) / length / 1000 if length else 0.0
        where = "free" if length is None else f"in {length} picture{'s' if length > 1 else ''}"
        return (where, share, *(mean_saving(savings, names, variant, plane, length) for plane in PLANES))

    columns = (
        *WAY_COLUMNS,
        Column("Class", text=True),
        Column("Network's bits", text=True),
        Column("Its share", "kbit/picture", digits=2),
        *RATE_COLUMNS,
    )
    cells = [
        (*way_cells(results, variant), _group_label(group, names), *rows(names, variant, length))
        for variant in results.tests
        if variant.weights == "file"
        for group, names in results.groups.items()
        for length in stream_lengths(variant)
    ]
    meaning = (
        "Network's bits: free: known to the decoder; in N pictures: the whole file once in a stream of N pictures, so "
        "each picture carries an N-th of it."
    )
    doubts = doubt_notes(saving for (_, variant, _, _), saving in savings.items() if variant.weights == "file")
    title = "BD-rate against all in-loop filters with the network's bits, mean of the sequences' BD-rates"
    return Table(title, columns, tuple(cells), (meaning, _MEAN_NOTE, *notes, *doubts))


def doubt_table(results: InLoopResults, savings: Savings) -> Table:
    """Every doubt about a BD-rate of a sequence, the network's bits being free."""
    planes: dict[tuple[str, InLoopVariant, str], list[str]] = {}
    for (name, variant, plane, length), saving in savings.items():
        for text in saving.warnings if length is None else ():
            planes.setdefault((name, variant, text), []).append(PLANE_HEADS[plane])
    columns = (*WAY_COLUMNS, Column("Sequence", text=True), Column("Planes", text=True), Column("Doubt", text=True))
    rows = [
        (*way_cells(results, variant), name, ", ".join(found), text) for (name, variant, text), found in planes.items()
    ]
    notes = ("Anchor: the curve of the codec with all in-loop filters; test: that of the network.",)
    return Table("Doubts about BD-rates of sequences", columns, tuple(rows), notes)


def doubt_notes(savings: Iterable[BdRate | None]) -> list[str]:
    """How many curves each doubt is about."""
    found = [saving for saving in savings if saving is not None]
    counts: dict[str, int] = {}
    for saving in found:
        for text in saving.warnings:
            kind = "the curves overlap by less than half" if "overlap by" in text else text
            counts[kind] = counts.get(kind, 0) + 1
    notes = [f"Doubt in {number} of {len(found)} pairs of curves: {text}." for text, number in counts.items()]
    if any(saving.value_percent is None for saving in found):
        notes.append("A pair of curves without a value is in no mean.")
    return notes


def _complexity_cells(results: InLoopResults, row: NetworkRow) -> tuple[Cell, ...]:
    ways = [InLoopVariant(row.loop_filters, method, row.network, row.weights) for method in _TIMED_WAYS]
    times = [
        results.time_percent(results.sequences, way, side) if way in results.variants else None
        for side in SIDES
        for way in ways
    ]
    size = (row.kmac_per_luma_sample, row.n_parameters, row.n_bytes, 100 * row.n_bytes / (4 * row.n_parameters))
    return (row.network, row.coding, LOOP_FILTER_TITLES[row.loop_filters], *size, *times)


def _by_group(
    results: InLoopResults, cells: Callable[[tuple[str, ...], InLoopVariant], tuple[Cell, ...]]
) -> tuple[tuple[Cell, ...], ...]:
    """A row for each variant, class and overall."""
    return tuple(
        (*way_cells(results, variant), _group_label(group, names), *cells(names, variant))
        for variant in results.tests
        for group, names in results.groups.items()
    )


def _rate_doubts(
    savings: Savings, places: Iterable[tuple[tuple[str, ...], InLoopVariant, StreamLength]], first: int
) -> tuple[Doubt, ...]:
    """What to doubt about the BD-rates of each row; those of the planes stand from the column `first` on."""
    found = []
    for row, (names, variant, length) in enumerate(places):
        for column, plane in enumerate(PLANES, start=first):
            values = [(name, savings.get((name, variant, plane, length))) for name in names]
            text = doubt_text(((name, value.warnings) for name, value in values if value), is_mean=len(names) > 1)
            if text:
                found.append(Doubt(row, column, text))
    return tuple(found)


def _group_label(group: str, names: tuple[str, ...]) -> str:
    return f"{group} ({len(names)})"
