"""The tool-by-tool experiment in a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from vvc_nnr.experiments.records.rows import Way
from vvc_nnr.experiments.records.weights import ORIGINAL
from vvc_nnr.experiments.report.charts import Axis, BarChart, Bars, Marker, PointChart, Series
from vvc_nnr.experiments.report.jvet_charts import bar_chart, overall_finding
from vvc_nnr.experiments.report.rd_charts import GAIN_NOTE, tool_rd_pair
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.means import ANCHOR, OVERALL, ToolResults, Variant
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.savings import STREAM_LENGTHS, Comparison, Savings, mean_saving, stream_lengths
from vvc_nnr.experiments.tables.stored import StoredTools
from vvc_nnr.experiments.tables.table import Table

_LEAD = (
    "Networks in the place of, or after, the in-loop filters of VVC intra pictures, with their weights as "
    "trained and as decoded from compressed files. Decisions that the encoder takes are counted in the rate."
)
_UNFINISHED = "No sequence has all of its pictures yet: run the experiment again, it goes on where it was cut off."
_FIRST = ("bd_rate", "table1_size", "table2_psnr", "table3_ssim", "complexity", "coded_weights")
_WAY_TITLES: Mapping[Way, str] = {
    "wiener": "decisions and Wiener filters",
    "decisions": "decisions",
    "full": "full strength",
}
_NETWORK_BITS_NOTE = (
    "In N pictures: the network's whole file once in a stream of N pictures. The table has a single picture as well."
)
_COMPLEXITY_NOTE = "Lower is better: BD-rate of luma over all sequences, the network's bits not counted."


def tool_section(stored: StoredTools) -> Section:
    """The section of a tool-by-tool run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = stored.results()
    savings = stored.savings(results) if results.sequences else {}
    tables = stored.tables() if results.sequences else {}
    jvet = stored.jvet_tables(results, savings)
    finals = _finals(results)
    ordered = {pair: jvet[pair] for pair in sorted(jvet, key=lambda pair: pair[0] not in finals)}
    first = [name for name in _FIRST if name in tables]
    numbered = {f"jvet_{number}": table for number, table in enumerate(ordered.values(), start=1)}
    return Section(
        "tool-by-tool",
        "In-loop filtering, tool by tool",
        _LEAD if results.sequences else _UNFINISHED,
        tuple(_findings(results, ordered, finals)),
        tuple(_chart_groups(results, savings, ordered, finals)),
        {name: tables[name] for name in first},
        numbered | {name: table for name, table in tables.items() if name not in first},
        stored.header,
        stored.last_run.settings,
        numbered,
    )


def _finals(results: ToolResults) -> list[Variant]:
    """What a codec would run: each network with decoded weights (else as trained), in the strongest way of the run."""
    finals = []
    for network in results.network_names:
        mine = [variant for variant in results.tests if variant.network == network]
        strongest = [variant for variant in mine if mine and variant.way == mine[-1].way]
        finals += [variant for variant in strongest if variant.weights != ORIGINAL] or strongest
    return finals


def _findings(
    results: ToolResults, jvet: Mapping[tuple[Variant, Variant], Table], finals: list[Variant]
) -> Iterator[Finding]:
    for (variant, anchor), table in jvet.items():
        if variant in finals:
            row = results.networks[variant.network, variant.weights]
            cost = f"{row.title}, {row.kmac_per_luma_sample or 0:.1f} kMAC/luma sample, {row.n_bytes / 1024:.1f} KB"
            against = LOOP_FILTER_TITLES[anchor.loop_filters]
            finding = overall_finding(table, f"luma BD-rate against {against}, {variant.network} ({cost})")
            if finding:
                yield finding


def _chart_groups(
    results: ToolResults,
    savings: Savings,
    jvet: Mapping[tuple[Variant, Variant], Table],
    finals: list[Variant],
) -> Iterator[ChartGroup]:
    if jvet:
        yield ChartGroup("Complexity against gain", (_complexity_chart(results, savings),), note=_COMPLEXITY_NOTE)
        bars = {pair: bar_chart(table, table.title) for pair, table in jvet.items()}
        final = tuple(chart for pair, chart in bars.items() if pair[0] in finals)
        others = tuple(chart for pair, chart in bars.items() if pair[0] not in finals)
        yield ChartGroup("BD-rate per class", final, others, "Negative: fewer bits at equal PSNR.")
        sent = [variant for variant in finals if len(stream_lengths(variant)) > 1]
        if sent and ANCHOR in results.variants:
            chart = _network_bits_chart(results, savings, sent)
            yield ChartGroup("The network in the stream", (chart,), note=_NETWORK_BITS_NOTE)
    singles = {name: (name,) for name in results.sequences}
    groups = {**results.groups, **singles} if len(results.sequences) > 1 else singles
    # Overall comes last among the groups of the results, and first here.
    ordered = sorted(groups.items(), key=lambda item: item[1] != tuple(results.sequences))
    titles = {title if title in (*results.sequences, OVERALL) else f"Class {title}": names for title, names in ordered}
    pairs = list(chain.from_iterable(tool_rd_pair(results, title, names) for title, names in titles.items()))
    if pairs:
        yield ChartGroup("Rate and quality, luma", tuple(pairs[:2]), tuple(pairs[2:]), GAIN_NOTE)


def _complexity_chart(results: ToolResults, savings: Savings) -> PointChart:
    """BD-rate over operations, a series for each way to run the networks with decoded weights (else as trained)."""
    series = []
    looks: tuple[tuple[Way, Marker], ...] = (("wiener", "circle"), ("decisions", "square"), ("full", "diamond"))
    strongest = {variant.way for variant in _finals(results)}
    for colour, (way, marker) in enumerate(looks, start=1):
        variants = _shown_weights([v for v in results.tests if v.network and v.way == way])
        values = {v: mean_saving(savings, results.sequences, Comparison(v)) for v in variants}
        costs = {v: results.networks[v.network, v.weights].kmac_per_luma_sample for v in variants}
        points = sorted((costs[v] or 0.0, value, v.network) for v, value in values.items() if value is not None)
        places = tuple((cost, value) for cost, value, _ in points)
        names = tuple(name for _, _, name in points)
        series.append(Series(_WAY_TITLES[way], places, colour, marker, "none", names, labelled=way in strongest))
    x = Axis("complexity [kMAC per luma sample]", logarithmic=True, includes=(1, 100), digits=2)
    y = Axis("BD-rate of luma [%]", with_zero=True, digits=2, signed=True)
    return PointChart("Luma BD-rate against operations", x, y, tuple(each for each in series if each.points))


def _shown_weights(variants: list[Variant]) -> list[Variant]:
    """The last weights of each network: decoded ones where there are any."""
    return list({variant.network: variant for variant in variants}.values())


def _network_bits_chart(results: ToolResults, savings: Savings, variants: list[Variant]) -> BarChart:
    """BD-rate of what a codec would run, its network's bits spread over streams of several lengths."""
    bars = tuple(
        Bars(
            f"in {length} pictures" if length else "free",
            tuple(mean_saving(savings, results.sequences, Comparison(variant, length=length)) for variant in variants),
        )
        for length in STREAM_LENGTHS
        if length != 1
    )
    labels = tuple(f"{v.network}, {results.networks[v.network, v.weights].title}" for v in variants)
    return BarChart("Luma BD-rate by length of stream", "%", labels, bars)
