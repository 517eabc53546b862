"""BD-rates of the tool-by-tool experiment as tables, and what its networks cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.records.rows import DECIDED_WAYS, NetworkRow, Way
from vvc_nnr.experiments.records.weights import ORIGINAL, is_adapted
from vvc_nnr.experiments.tables.bd_rate import BdPsnr, BdRate, Interpolation, bd_psnr_db, bd_rate_percent
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    OVERALL,
    PLANES,
    SIDES,
    PlaneOrAll,
    ToolResults,
    Variant,
    class_order,
    mean_or_none,
    overall_title,
)
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table, warning_text

StreamLength: TypeAlias = int | None
"""Pictures of the stream that carries the network once; None: the network's bits are not counted."""
STREAM_LENGTHS: tuple[StreamLength, ...] = (None, 600, 60, 1)
PLANE_HEADS: Mapping[PlaneOrAll, str] = {"y": "Y", "cb": "Cb", "cr": "Cr", "yuv": "YUV"}
WAY_COLUMNS = (Column("Network", text=True), Column("Weights", text=True), Column("Decisions", text=True))
RATE_COLUMNS = tuple(Column(PLANE_HEADS[plane], "%", digits=2, signed=True) for plane in PLANES)
TIME_COLUMNS = (Column("EncT", "%", digits=0), Column("DecT", "%", digits=0))
JVET_COLUMNS = (
    Column("Class", text=True),
    Column("Sequence", text=True),
    *RATE_COLUMNS,
    *TIME_COLUMNS,
)
MEAN = "mean"
"""What stands for a sequence in the rows of classes and overall."""
DECISION_TITLES: Mapping[Way, str] = {"full": "off", "decisions": "on", "wiener": "on + Wiener"}
_TIMED_WAYS: Mapping[Way, str] = {"full": "full", "decisions": "decisions", "wiener": "Wiener"}
Notes: TypeAlias = tuple[str, ...]
_CTC_OVERALL_NOTE = (
    "{title}: the mean of the other classes' sequences, as in JVET's common test conditions. Overall (N) in other "
    "tables is of all N sequences."
)
_MEAN_NOTE = "Averaging: the BD-rate of each sequence first, then the mean over sequences (as in the JVET spreadsheet)."
_CURVE_NOTE = (
    "Averaging: rates and PSNR first, the mean over sequences at each QP, then the BD-rate of the two mean curves. "
    "Sequences of high rate weigh more here than in the mean of BD-rates."
)


class Comparison(NamedTuple):
    """What is compared with what.

    Attributes:
        variant: How the pictures are made.
        plane: What is scored.
        length: Pictures of the stream, over which the network's bits are spread.
        anchor: What it is compared with.
    """

    variant: Variant
    plane: PlaneOrAll = "y"
    length: StreamLength = None
    anchor: Variant = ANCHOR


Savings: TypeAlias = Mapping[tuple[str, Comparison], BdRate]
"""The BD-rate of each sequence and comparison; nothing where a sequence has no such plane."""


def sequence_savings(results: ToolResults, method: Interpolation) -> Savings:
    """The BD-rates of all sequences against each of their anchors; with the network's bits against all filters."""
    found: dict[tuple[str, Comparison], BdRate] = {}
    for comparison in _comparisons(results):
        for name in results.sequences:
            saving = curve_saving(results, (name,), comparison, method)
            if saving is not None:
                found[name, comparison] = saving
    return found


def mean_saving(savings: Savings, sequences: Iterable[str], comparison: Comparison) -> float | None:
    """The mean of the sequences' BD-rates in percent, None if none has a value."""
    found = (savings.get((name, comparison)) for name in sequences)
    return mean_or_none(saving.value_percent for saving in found if saving)


def curve_saving(
    results: ToolResults, sequences: Sequence[str], comparison: Comparison, method: Interpolation
) -> BdRate | None:
    """The BD-rate of the mean curve over sequences (of one: its own); None if they have no such plane.

    Args:
        results: The means.
        sequences: Whose rates and PSNR are averaged at each QP.
        comparison: What is compared.
        method: Interpolation.
    """
    variant, plane, length, anchor = comparison
    extra_kbit = results.network_bits(variant) / length / 1000 if length else 0.0
    anchor_points = results.curve(sequences, anchor, plane)
    points = results.curve(sequences, variant, plane, extra_kbit)
    return bd_rate_percent(anchor_points, points, method) if points and anchor_points else None


def bd_psnrs(
    results: ToolResults, sequences: Iterable[str], comparison: Comparison, method: Interpolation
) -> dict[str, BdPsnr]:
    """The BD-PSNR of each sequence that has the plane."""
    curves = (
        (name, results.curve((name,), comparison.anchor, comparison.plane), results.curve((name,), *comparison[:2]))
        for name in sequences
    )
    return {name: bd_psnr_db(anchor, test, method) for name, anchor, test in curves if anchor and test}


def stream_lengths(variant: Variant) -> tuple[StreamLength, ...]:
    """The lengths that make a difference: a codec alone carries no network, and none is sent as it was trained.

    What an adapted network sends is another table's subject (`adapted_filters`).
    """
    is_coded = variant.network and variant.weights != ORIGINAL and not is_adapted(variant.weights)
    return STREAM_LENGTHS if is_coded else (None,)


def _comparisons(results: ToolResults) -> list[Comparison]:
    free = [(variant, None, anchor) for variant in results.tests for anchor in results.anchors(variant)]
    paid = [(v, length, ANCHOR) for v in results.tests for length in stream_lengths(v) if length is not None]
    pairs = [*free, *(paid if ANCHOR in results.variants else [])]
    return [Comparison(variant, plane, length, anchor) for variant, length, anchor in pairs for plane in PLANES]


def way_cells(results: ToolResults, variant: Variant) -> tuple[Cell, ...]:
    """The cells under `WAY_COLUMNS`."""
    if not variant.network:
        return (f"codec, {LOOP_FILTER_TITLES[variant.loop_filters]}", "", "")
    return (variant.network, results.networks[variant.network, variant.weights].title, DECISION_TITLES[variant.way])


def variant_label(results: ToolResults, variant: Variant) -> str:
    """The network of a variant and its weights; and whether the encoder decides, where it does in some variant."""
    name, weights, decisions = map(str, way_cells(results, variant))
    if not variant.network:
        return name
    is_decided = any(each.way in DECIDED_WAYS for each in results.variants)
    return f"{name}, {weights}, decisions {decisions}" if is_decided else f"{name}, {weights}"


def complexity_table(results: ToolResults, notes: Notes) -> Table:
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
    rows = [_complexity_cells(results, row) for row in results.networks.values() if not is_adapted(row.weights)]
    counted = (
        "Complexity: multiplications with addition of all convolutions and matrix products, counted in a forward pass "
        "of the module that ran, per luma sample of a 4:2:0 picture; chroma is in it. Size: the whole file, with names "
        "and metadata; of float32: against 4 bytes per parameter. Full: at full strength everywhere; Wiener: "
        "decisions and Wiener filters."
    )
    return Table("Complexity of the networks", columns, tuple(rows), (counted, *notes))


def bd_rate_table(results: ToolResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """Mean of the sequences' BD-rates per class and overall, against each anchor, with times against all filters."""
    columns = (
        *WAY_COLUMNS,
        Column("Against", text=True),
        Column("Class", text=True),
        *RATE_COLUMNS,
        Column("BD-PSNR Y", "dB", signed=True),
        *TIME_COLUMNS,
    )
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for variant, anchor in _pairs(results):
        comparison = Comparison(variant, anchor=anchor)
        for group, names in results.groups.items():
            head = (*way_cells(results, variant), LOOP_FILTER_TITLES[anchor.loop_filters], _group_label(group, names))
            psnrs = bd_psnrs(results, names, comparison, method)
            times = [results.time_percent(names, variant, side) if anchor == ANCHOR else None for side in SIDES]
            psnr_db = mean_or_none(each.value_db for each in psnrs.values())
            marks += rate_warnings(savings, names, comparison, len(rows), len(head))
            marks += cell_warning(len(rows), len(head) + len(PLANES), psnrs, is_mean=len(names) > 1)
            rows.append((*head, *_plane_savings(savings, names, comparison), psnr_db, *times))
    warnings = warning_notes(savings[key] for key in savings if key[1].length is None)
    title = "BD-rate, mean of the sequences' BD-rates"
    return Table(title, columns, tuple(rows), (_MEAN_NOTE, *notes, *warnings), tuple(marks))


def sequence_table(results: ToolResults, savings: Savings, notes: Notes) -> Table:
    """BD-rate of each sequence."""
    columns = (
        *WAY_COLUMNS,
        Column("Against", text=True),
        Column("Class", text=True),
        Column("Sequence", text=True),
        *RATE_COLUMNS,
    )
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for variant, anchor in _pairs(results):
        comparison = Comparison(variant, anchor=anchor)
        for name, ctc_class in results.sequences.items():
            head = (*way_cells(results, variant), LOOP_FILTER_TITLES[anchor.loop_filters], ctc_class, name)
            marks += rate_warnings(savings, (name,), comparison, len(rows), len(head))
            rows.append((*head, *_plane_savings(savings, (name,), comparison)))
    warnings = warning_notes(savings[key] for key in savings if key[1].length is None)
    return Table("BD-rate per sequence", columns, tuple(rows), (*notes, *warnings), tuple(marks))


def curve_table(results: ToolResults, method: Interpolation, notes: Notes) -> Table:
    """BD-rate of mean curves per class and overall, against all filters."""
    columns = (*WAY_COLUMNS, Column("Class", text=True), *RATE_COLUMNS)
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    found: list[BdRate | None] = []
    for variant in results.tests:
        for group, names in results.groups.items():
            savings = [curve_saving(results, names, Comparison(variant, plane), method) for plane in PLANES]
            head = (*way_cells(results, variant), _group_label(group, names))
            for column, saving in enumerate(savings, start=len(head)):
                marks += cell_warning(len(rows), column, {"": saving}, is_mean=False)
            rows.append((*head, *(saving.value_percent if saving else None for saving in savings)))
            found += savings
    title = "BD-rate against all in-loop filters, of mean curves"
    return Table(title, columns, tuple(rows), (_CURVE_NOTE, *notes, *warning_notes(found)), tuple(marks))


def network_bits_table(results: ToolResults, savings: Savings, notes: Notes) -> Table:
    """Mean of the sequences' BD-rates without the network's bits, and with them in streams of several lengths."""
    columns = (
        *WAY_COLUMNS,
        Column("Class", text=True),
        Column("Network's bits", text=True),
        Column("Its share", "kbit/picture", digits=2),
        *RATE_COLUMNS,
    )
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    coded = [variant for variant in results.tests if len(stream_lengths(variant)) > 1]
    for variant in coded:
        n_bits = results.network_bits(variant)
        for group, names in results.groups.items():
            for length in stream_lengths(variant):
                comparison = Comparison(variant, length=length)
                where = "free" if length is None else f"in {length} picture{'s' if length > 1 else ''}"
                share = n_bits / length / 1000 if length else 0.0
                head = (*way_cells(results, variant), _group_label(group, names), where, share)
                marks += rate_warnings(savings, names, comparison, len(rows), len(head))
                rows.append((*head, *_plane_savings(savings, names, comparison)))
    meaning = (
        "Network's bits: free: known to the decoder; in N pictures: the whole file once in a stream of N pictures, so "
        "each picture carries an N-th of it."
    )
    sent = (saving for (_, each), saving in savings.items() if each.variant in coded and each.anchor == ANCHOR)
    title = "BD-rate against all in-loop filters with the network's bits, mean of the sequences' BD-rates"
    return Table(title, columns, tuple(rows), (meaning, _MEAN_NOTE, *notes, *warning_notes(sent)), tuple(marks))


def warning_notes(savings: Iterable[BdRate | None]) -> list[str]:
    """How many curves each warning is about."""
    found = [saving for saving in savings if saving is not None]
    counts: dict[str, int] = {}
    for saving in found:
        for text in saving.warnings:
            kind = "the curves overlap by less than half" if "overlap by" in text else text
            counts[kind] = counts.get(kind, 0) + 1
    notes = [f"Warning about {number} of {len(found)} pairs of curves: {text}." for text, number in counts.items()]
    if any(saving.value_percent is None for saving in found):
        notes.append("A pair of curves without a value is in no mean.")
    return notes


def _complexity_cells(results: ToolResults, row: NetworkRow) -> tuple[Cell, ...]:
    place: LoopFilters = "none" if row.place == "none" else "all"
    ways = [Variant(place, way, row.network, row.weights) for way in _TIMED_WAYS]
    times = [results.time_percent(results.sequences, way, side) for side in SIDES for way in ways]
    size = (row.kmac_per_luma_sample, row.n_parameters, row.n_bytes, 100 * row.n_bytes / (4 * row.n_parameters))
    return (row.network, row.title, LOOP_FILTER_TITLES[place], *size, *times)


def _pairs(results: ToolResults) -> list[tuple[Variant, Variant]]:
    """Each variant with each of its anchors."""
    return [(variant, anchor) for variant in results.tests for anchor in results.anchors(variant)]


def _plane_savings(savings: Savings, names: Iterable[str], comparison: Comparison) -> list[float | None]:
    """The mean BD-rate of each plane."""
    sequences = tuple(names)
    return [mean_saving(savings, sequences, comparison._replace(plane=plane)) for plane in PLANES]


def rate_warnings(
    savings: Savings, names: Sequence[str], comparison: Comparison, row: int, first: int
) -> Iterator[CellWarning]:
    """The warnings about a row's BD-rates of all planes, which stand from the column `first` on."""
    for column, plane in enumerate(PLANES, start=first):
        text = saving_warning(savings, names, comparison._replace(plane=plane))
        if text:
            yield CellWarning(row, column, text)


def saving_warning(savings: Savings, names: Sequence[str], comparison: Comparison) -> str:
    """The warnings about the mean of the sequences' BD-rates (`mean_saving`); empty if there are none."""
    found = ((name, each.warnings) for name in names if (each := savings.get((name, comparison))) is not None)
    return warning_text(found, is_mean=len(names) > 1)


def cell_warning(
    row: int, column: int, found: Mapping[str, BdRate | BdPsnr | None], *, is_mean: bool
) -> Iterator[CellWarning]:
    """The warning about a number, if there is one.

    Args:
        row: Where it stands.
        column: Where it stands.
        found: What it is made of, by sequence.
        is_mean: Whether the warning names the sequences.
    """
    text = warning_text(((name, each.warnings) for name, each in found.items() if each), is_mean=is_mean)
    if text:
        yield CellWarning(row, column, text)


def _group_label(group: str, names: tuple[str, ...]) -> str:
    return f"{group} ({len(names)})"


def jvet_tables(
    results: ToolResults, savings: Savings, method: Interpolation, notes: Notes
) -> dict[tuple[Variant, Variant], Table]:
    """BD-rates as proposals to JVET print them, the network's bits not counted: a table for each variant and anchor.

    A row per sequence, class and overall, a column per component and time.
    """
    return {
        (variant, anchor): _jvet_table(results, savings, Comparison(variant, anchor=anchor), method, notes)
        for variant, anchor in _pairs(results)
    }


def configurations_table(
    results: Sequence[ToolResults], savings: Sequence[Savings], method: Interpolation, notes: Notes
) -> Table:
    """BD-rates per class and overall, the coding configurations side by side, as JVET's spreadsheets have them.

    Args:
        results: Of each configuration.
        savings: Of each configuration.
        method: Interpolation.
        notes: What is said besides.
    """
    per_result = [
        replace(column, head=f"{each.configuration.name.upper()} {column.head}", group=each.configuration.name)
        for each in results
        for column in (*RATE_COLUMNS, *TIME_COLUMNS)
    ]
    variants = dict.fromkeys(v for each in results for v in each.tests if v.network and ANCHOR in each.variants)
    overall = overall_title(results)
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for variant in variants:
        first = next(each for each in results if variant in each.variants)
        groups = dict.fromkeys(name for each in results for name in each.classes)
        for group in [*sorted(groups, key=class_order), OVERALL]:
            label = overall if group == OVERALL else f"Class {group}"
            cells: list[Cell] = [*way_cells(first, variant), label]
            for each, its in zip(results, savings, strict=True):
                names = each.ctc_overall if group == OVERALL else each.classes.get(group, ())
                times = [each.time_percent(names, variant, side) if names else None for side in SIDES]
                marks += rate_warnings(its, names, Comparison(variant), len(rows), len(cells))
                cells += [*_plane_savings(its, names, Comparison(variant)), *times]
            rows.append(tuple(cells))
    titles = ", ".join(f"{each.configuration.name.upper()}: {each.configuration.title}" for each in results)
    columns = (*WAY_COLUMNS, Column("Class", text=True), *per_result)
    title = f"BD-rate ({method}) against all filters in each coding configuration"
    return Table(
        title, columns, tuple(rows), (f"{titles}.", _MEAN_NOTE, *_overall_notes(overall), *notes), tuple(marks)
    )


def _overall_notes(title: str) -> Notes:
    return (_CTC_OVERALL_NOTE.format(title=title),) if title != OVERALL else ()


def _jvet_table(
    results: ToolResults, savings: Savings, comparison: Comparison, method: Interpolation, notes: Notes
) -> Table:
    variant, anchor = comparison.variant, comparison.anchor
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []

    def add(label: str, title: str, names: tuple[str, ...]) -> None:
        times = [results.time_percent(names, variant, side) if anchor == ANCHOR else None for side in SIDES]
        marks.extend(rate_warnings(savings, names, comparison, len(rows), 2))
        rows.append((label, title, *_plane_savings(savings, names, comparison), *times))

    for ctc_class, members in results.classes.items():
        for name in members:
            add(ctc_class, name, (name,))
        add(f"Class {ctc_class}", MEAN, members)
    overall = overall_title([results])
    if results.sequences:
        add(overall, MEAN, results.ctc_overall)
    notes = (*_overall_notes(overall), *notes)
    title = f"BD-rate ({method}) of {variant_label(results, variant)} against {LOOP_FILTER_TITLES[anchor.loop_filters]}"
    return Table(title, JVET_COLUMNS, tuple(rows), notes, tuple(marks))
