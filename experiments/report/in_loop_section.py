"""The in-loop experiment in a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from vvc_nnr.experiments.in_loop_jvet import in_loop_jvet_tables, variant_label
from vvc_nnr.experiments.in_loop_means import ANCHOR, InLoopResults, InLoopVariant, in_loop_results
from vvc_nnr.experiments.in_loop_rows import FINAL_METHOD, InLoopMethod
from vvc_nnr.experiments.in_loop_savings import STREAM_LENGTHS, Savings, mean_saving, sequence_savings
from vvc_nnr.experiments.in_loop_stored import StoredInLoop
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.notes import TIME_NOTE, bd_rate_note, in_loop_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.report.charts import N_COLOURS, Axis, BarChart, Bars, Line, Marker, PointChart, Series
from vvc_nnr.experiments.report.jvet_charts import bar_chart, overall_finding
from vvc_nnr.experiments.report.rd_charts import GAIN_NOTE, NETWORK_MARKERS, rd_pair
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.results import MIN_QPS_FOR_BD_RATE
from vvc_nnr.experiments.settings import LastRun

_LEAD = (
    "Networks in or after the in-loop filters of VVC intra pictures, as their files have them, with the decisions that "
    "the encoder takes block by block and the Wiener filters that it fits. All of these are counted in the rate."
)
_LINES: Mapping[InLoopMethod, Line] = {"full": "dotted", "decisions": "dashed", "wiener": "solid"}
_UNFINISHED = "No sequence has all of its pictures yet: run the experiment again, it goes on where it was cut off."
_FIRST = (
    "in_loop_bd_rate",
    "in_loop_complexity",
    "in_loop_coded_weights",
    "in_loop_worse",
)
_CODEC_LINES: Mapping[str, tuple[Marker, Line]] = {
    "all": ("circle", "solid"),
    "deblock-sao": ("square", "dashed"),
    "none": ("diamond", "dotted"),
}
_NETWORK_BITS_NOTE = (
    "In N pictures: the network's whole file once in a stream of N pictures. The table has a single picture as well."
)
_COMPLEXITY_NOTE = "Lower is better: BD-rate of luma over all sequences, the network's bits not counted."


def in_loop_section(stored: StoredInLoop, last_run: LastRun) -> Section:
    """The section of an in-loop run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = in_loop_results(stored.rows, stored.networks)
    tables = stored.tables() if results.sequences else {}
    has_curves = bool(results.sequences) and len(results.qps) >= MIN_QPS_FOR_BD_RATE
    savings = sequence_savings(results, stored.interpolation) if has_curves else {}
    jvet = _jvet_tables(stored, results, savings)
    first = [name for name in _FIRST if name in tables]
    numbered = {f"jvet_in_loop_{number}": table for number, table in enumerate(jvet.values(), start=1)}
    return Section(
        "in-loop",
        "In-loop filters with the encoder's decisions",
        _LEAD if results.sequences else _UNFINISHED,
        tuple(_findings(results, jvet)),
        tuple(_chart_groups(results, savings, jvet)),
        {name: tables[name] for name in first},
        numbered | {name: table for name, table in tables.items() if name not in first},
        stored.header,
        last_run.settings,
        numbered,
    )


def _jvet_tables(stored: StoredInLoop, results: InLoopResults, savings: Savings) -> dict[InLoopVariant, Table]:
    """The tables in the layout of JVET, what a codec would run first."""
    if not savings:
        return {}
    common = in_loop_notes(Conventions.from_header(stored.header), results)
    notes = (bd_rate_note(results, stored.interpolation), TIME_NOTE, *common)
    tables = in_loop_jvet_tables(results, savings, stored.interpolation, notes)
    return {variant: tables[variant] for variant in sorted(tables, key=lambda variant: not _is_final(variant))}


def _is_final(variant: InLoopVariant) -> bool:
    """Whether a variant is what a codec would run: all decisions on, the network as its file has it."""
    return variant.method == FINAL_METHOD and variant.weights == "file"


def _findings(results: InLoopResults, jvet: Mapping[InLoopVariant, Table]) -> Iterator[Finding]:
    for variant, table in jvet.items():
        if _is_final(variant):
            row = results.networks[variant.network, variant.weights]
            cost = f"{row.kmac_per_luma_sample:.1f} kMAC/luma sample, {row.n_bytes / 1024:.1f} KB"
            finding = overall_finding(table, f"luma BD-rate against all filters, {variant.network} ({cost})")
            if finding:
                yield finding


def _chart_groups(
    results: InLoopResults, savings: Savings, jvet: Mapping[InLoopVariant, Table]
) -> Iterator[ChartGroup]:
    if jvet:
        yield ChartGroup("Complexity against gain", (_complexity_chart(results, savings),), note=_COMPLEXITY_NOTE)
        bars = {variant: bar_chart(table, table.title) for variant, table in jvet.items()}
        final = tuple(chart for variant, chart in bars.items() if _is_final(variant))
        others = tuple(chart for variant, chart in bars.items() if not _is_final(variant))
        yield ChartGroup("BD-rate per class", final, others, "Negative: fewer bits at equal PSNR.")
        yield ChartGroup("The network in the stream", (_network_bits_chart(results, savings),), note=_NETWORK_BITS_NOTE)
    singles = {name: (name,) for name in results.sequences}
    groups = {**results.groups, **singles} if len(results.sequences) > 1 else singles
    # Overall comes last among the groups of the results, and first here.
    ordered = sorted(groups.items(), key=lambda item: item[1] != tuple(results.sequences))
    pairs = list(chain.from_iterable(_rd_pair(results, title, names) for title, names in ordered))
    if pairs:
        yield ChartGroup("Rate and quality, luma", tuple(pairs[:2]), tuple(pairs[2:]), GAIN_NOTE)


def _complexity_chart(results: InLoopResults, savings: Savings) -> PointChart:
    """BD-rate over operations, a series for each way to run the networks."""
    series = []
    methods: tuple[tuple[InLoopMethod, str, int, Marker], ...] = (
        ("wiener", "decisions and Wiener filters", 1, "circle"),
        ("decisions", "decisions", 2, "square"),
        ("full", "full strength", 3, "diamond"),
    )
    for method, label, colour, marker in methods:
        variants = [v for v in results.tests if v.method == method and v.weights == "file"]
        values = {v: mean_saving(savings, results.sequences, v, "y") for v in variants}
        costs = {v: results.networks[v.network, v.weights].kmac_per_luma_sample for v in variants}
        points = sorted((costs[v], value, v.network) for v, value in values.items() if value is not None)
        places = tuple((cost, value) for cost, value, _ in points)
        names = tuple(name for _, _, name in points)
        series.append(Series(label, places, colour, marker, "none", names, labelled=method == FINAL_METHOD))
    x = Axis("complexity [kMAC per luma sample]", logarithmic=True, includes=(1, 100), digits=2)
    y = Axis("BD-rate of luma [%]", with_zero=True, digits=2, signed=True)
    return PointChart("Luma BD-rate against operations", x, y, tuple(each for each in series if each.points))


def _network_bits_chart(results: InLoopResults, savings: Savings) -> BarChart:
    """BD-rate of what a codec would run, its network's bits spread over streams of several lengths."""
    variants = [variant for variant in results.tests if _is_final(variant)]
    bars = tuple(
        Bars(
            f"in {length} pictures" if length else "free",
            tuple(mean_saving(savings, results.sequences, variant, "y", length) for variant in variants),
        )
        for length in STREAM_LENGTHS
        if length != 1
    )
    return BarChart("Luma BD-rate by length of stream", "%", tuple(v.network for v in variants), bars)


def _rd_pair(results: InLoopResults, title: str, names: tuple[str, ...]) -> list[PointChart]:
    curves = [_curve(results, variant, names) for variant in results.variants if variant.weights != "original"]
    anchor = results.curve(names, ANCHOR, "y") if ANCHOR in results.variants else []
    label = title if title in (*results.sequences, "Overall") else f"Class {title}"
    return rd_pair(label, anchor, curves, results.qps)


def _curve(results: InLoopResults, variant: InLoopVariant, names: tuple[str, ...]) -> Series:
    points = tuple(results.curve(names, variant, "y"))
    if not variant.network:
        return Series(variant_label(results, variant), points, 0, *_CODEC_LINES[variant.loop_filters])
    number = list(dict.fromkeys(v.network for v in results.tests if v.network)).index(variant.network)
    colour, marker = number % N_COLOURS + 1, NETWORK_MARKERS[number % len(NETWORK_MARKERS)]
    return Series(variant_label(results, variant), points, colour, marker, _LINES[variant.method])
