"""What a report says of each experiment in a folder of results: findings, charts and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from statistics import fmean

from vvc_nnr.experiments.charts import (
    GAIN_NOTE,
    Axis,
    BarChart,
    Bars,
    Chart,
    Marker,
    PointChart,
    Series,
    final_variants,
    image_chart,
    layer_chart,
    not_drawn_notes,
    some_labels,
    tool_rd_pair,
)
from vvc_nnr.experiments.records.rows import Way, ZooRow
from vvc_nnr.experiments.records.weights import is_adapted
from vvc_nnr.experiments.tables.bd_rate import Point
from vvc_nnr.experiments.tables.bd_rate_tables import (
    MEAN,
    STREAM_LENGTHS,
    Comparison,
    Savings,
    mean_saving,
    saving_warning,
    stream_lengths,
    variant_label,
)
from vvc_nnr.experiments.tables.means import ANCHOR, OVERALL, ToolResults, Variant, image_means, overall_title
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES, configuration_suffix
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES
from vvc_nnr.experiments.tables.stored import StoredImages, StoredTools, StoredZoo, load
from vvc_nnr.experiments.tables.table import Cell, Table, cell_texts, with_remarks

TOOL_BY_TOOL = "tool-by-tool"


@dataclass(frozen=True, slots=True)
class Finding:
    """One number that a reader should take home.

    Attributes:
        value: The number as a text.
        unit: Its unit.
        label: What it is.
        warning: The warning about it, empty if nothing.
    """

    value: str
    unit: str
    label: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ChartGroup:
    """Charts that belong together and may share a legend.

    Attributes:
        title: What they show.
        charts: Those that are seen at once.
        more: Those behind a line that opens.
        note: What has to be known to read them.
    """

    title: str
    charts: tuple[Chart, ...]
    more: tuple[Chart, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment.

    Attributes:
        name: Its name on the command line, such as "tool-by-tool", and its configuration if that is not all intra.
        title: Its name for people.
        lead: What was asked and how, in a sentence or two.
        findings: The numbers to take home.
        charts: Its charts.
        tables: Its tables by file name, the most important first.
        more_tables: Tables behind a line that opens.
        header: Where the rows come from, and their conventions.
        settings: What the last run did.
        jvet_tables: Those of its tables that have the layout of JVET, by file name.
        remarks: What has to be known before any number is read, such as that the run is not finished.
    """

    name: str
    title: str
    lead: str
    findings: tuple[Finding, ...]
    charts: tuple[ChartGroup, ...]
    tables: Mapping[str, Table]
    more_tables: Mapping[str, Table] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    jvet_tables: Mapping[str, Table] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def with_remarks(self, remarks: tuple[str, ...]) -> Section:
        """The section with remarks at its head and at the heads of its tables."""
        return replace(
            self,
            tables=with_remarks(self.tables, remarks),
            more_tables=with_remarks(self.more_tables, remarks),
            jvet_tables=with_remarks(self.jvet_tables, remarks),
            remarks=(*remarks, *self.remarks),
        )

    @property
    def experiment(self) -> str:
        """Its name on the command line: sections of several configurations are of one experiment."""
        return TOOL_BY_TOOL if self.name.startswith(TOOL_BY_TOOL) else self.name

    @property
    def all_tables(self) -> dict[str, Table]:
        """All tables by file name, in their order."""
        return {**self.tables, **self.more_tables}


def read_sections(folder: Path) -> list[Section]:
    """A section for each experiment of the folder.

    Raises:
        InputError: If there is no such folder, it holds no results, or they cannot be read.
    """
    found = load(folder)
    sections = []
    if found.tools is not None:
        several = [tool_section(each) for each in found.tools.by_configuration()]
        if (table := found.tools.configurations_table()) is not None:
            several[0] = replace(several[0], tables={"bd_rate_configurations": table, **several[0].tables})
        sections += [section.with_remarks(found.tools.remarks) for section in several]
    if found.images is not None:
        sections.append(image_section(found.images).with_remarks(found.images.remarks))
    if found.zoo is not None:
        sections.append(zoo_section(found.zoo).with_remarks(found.zoo.remarks))
    return sections


_TOOL_LEAD = (
    "Networks in the place of, or after, the in-loop filters of VVC intra pictures, with their weights as "
    "trained and as decoded from compressed files. Decisions that the encoder takes are counted in the rate."
)
_DECODED_LEAD = (
    "Networks in the place of, or after, a codec's in-loop filters, on pictures that were decoded elsewhere, with "
    "their weights as trained and as decoded from compressed files. Decisions that the encoder takes are counted in "
    "the rate."
)
_UNFINISHED = "No sequence has all of its pictures yet: run the experiment again, it goes on where it was cut off."
_INTER_LEAD = (
    "Networks after all in-loop filters of VVC, behind the decoder, with their weights as trained and as decoded from "
    "compressed files. Decisions that the encoder takes are counted in the rate. Each picture has its own QP."
)
_FIRST = (
    "bd_rate",
    "adapted_filters",
    "gain_per_layer",
    "table1_size",
    "table2_psnr",
    "table3_ssim",
    "complexity",
    "coded_weights",
)
_WAY_TITLES: Mapping[Way, str] = {
    "wiener": "decisions and Wiener filters",
    "decisions": "decisions",
    "full": "full strength",
}
_NETWORK_BITS_NOTE = (
    "BD-rate of luma, {of}. In N pictures: the network's whole file once in a stream of N pictures. The table has a "
    "single picture as well."
)
_COMPLEXITY_NOTE = "Lower is better: BD-rate of luma, {of}, the network's bits not counted."


def tool_section(stored: StoredTools) -> Section:
    """The section of a tool-by-tool run in one coding configuration.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = stored.results()
    savings = stored.savings(results) if results.sequences else {}
    tables = stored.tables() if results.sequences else {}
    jvet = stored.jvet_tables(results, savings)
    finals = final_variants(results)
    ordered = {pair: jvet[pair] for pair in sorted(jvet, key=lambda pair: pair[0] not in finals)}
    configuration = results.configuration
    suffix = configuration_suffix(configuration)
    first = [name for name in (f"{each}{suffix}" for each in _FIRST) if name in tables]
    first += [name for name in ("table1_size",) if suffix and name in tables]
    numbered = {f"jvet_{number}{suffix}": table for number, table in enumerate(ordered.values(), start=1)}
    lead = _INTER_LEAD if suffix else _TOOL_LEAD
    lead = _DECODED_LEAD if stored.last_run.settings.get("manifest") else lead
    return Section(
        TOOL_BY_TOOL + (f"-{configuration.name}" if suffix else ""),
        "In-loop filtering, tool by tool" + (f": {configuration.title}" if suffix else ""),
        lead if results.sequences else _UNFINISHED,
        tuple(_tool_findings(results, ordered, finals)),
        (*_adapted_charts(tables.get(f"adapted_filters{suffix}")), *_chart_groups(results, savings, ordered, finals)),
        {name: tables[name] for name in first},
        numbered | {name: table for name, table in tables.items() if name not in first},
        stored.header,
        stored.last_run.settings,
        numbered,
    )


def _tool_findings(
    results: ToolResults, jvet: Mapping[tuple[Variant, Variant], Table], finals: list[Variant]
) -> Iterator[Finding]:
    for (variant, anchor), table in jvet.items():
        if variant in finals:
            row = results.networks[variant.network, variant.weights]
            cost = f"{row.title}, {row.kmac_per_luma_sample or 0:.1f} kMAC/luma sample, {row.n_bytes / 1024:.1f} KB"
            against = LOOP_FILTER_TITLES[anchor.loop_filters]
            of = overall_title([results]).removeprefix(OVERALL).replace("without", "without classes")
            finding = overall_finding(table, f"luma BD-rate{of} against {against}, {variant.network} ({cost})")
            if finding:
                yield finding


def overall_finding(table: Table, label: str) -> Finding | None:
    """The luma BD-rate of "Overall"; None if there is none."""
    for number, (row, texts) in enumerate(zip(table.rows, cell_texts(table), strict=True)):
        if row[1] == MEAN and str(row[0]).startswith(OVERALL) and row[2] is not None:
            return Finding(texts[2], "%", label, table.warning(number, 2))
    return None


def _chart_groups(
    results: ToolResults,
    savings: Savings,
    jvet: Mapping[tuple[Variant, Variant], Table],
    finals: list[Variant],
) -> Iterator[ChartGroup]:
    n_all = len(results.sequences)
    of = f"mean of all {n_all} sequences" if n_all > 1 else "of one sequence"
    if jvet:
        yield ChartGroup(
            "Complexity against gain", (_complexity_chart(results, savings),), note=_COMPLEXITY_NOTE.format(of=of)
        )
        bars = {pair: bar_chart(table, table.title) for pair, table in jvet.items()}
        final = tuple(chart for pair, chart in bars.items() if pair[0] in finals)
        others = tuple(chart for pair, chart in bars.items() if pair[0] not in finals)
        yield ChartGroup("BD-rate per class", final, others, "Negative: fewer bits at equal PSNR.")
        sent = [variant for variant in finals if len(stream_lengths(variant)) > 1]
        if sent and ANCHOR in results.variants:
            chart = _network_bits_chart(results, savings, sent)
            yield ChartGroup("The network in the stream", (chart,), note=_NETWORK_BITS_NOTE.format(of=of))
    if results.configuration.is_inter and finals and results.sequences:
        yield ChartGroup("Temporal layers", (layer_chart(results, finals),))
    singles = {name: (name,) for name in results.sequences}
    groups = {**results.groups, **singles} if len(results.sequences) > 1 else singles
    # Overall comes last among the groups of the results, and first here.
    ordered = sorted(groups.items(), key=lambda item: item[1] != tuple(results.sequences))
    titles = {title if title in (*results.sequences, OVERALL) else f"Class {title}": names for title, names in ordered}
    pairs = list(chain.from_iterable(tool_rd_pair(results, title, names) for title, names in titles.items()))
    if pairs:
        n_first = len(pairs) // len(titles)
        note = GAIN_NOTE if n_first > 1 else ""
        yield ChartGroup("Rate and quality, luma", tuple(pairs[:n_first]), tuple(pairs[n_first:]), note)


def _complexity_chart(results: ToolResults, savings: Savings) -> PointChart:
    """BD-rate over operations, a series for each way to run the networks with decoded weights (else as trained)."""
    series, shown, absent = [], list[Variant](), dict[str, list[str]]()
    looks: tuple[tuple[Way, Marker], ...] = (("wiener", "circle"), ("decisions", "square"), ("full", "diamond"))
    strongest = {variant.way for variant in final_variants(results)}
    by_way = {way: _shown_weights([v for v in results.tests if v.network and v.way == way]) for way, _ in looks}
    titles = {results.networks[v.network, v.weights].title for variants in by_way.values() for v in variants}
    common = f", {next(iter(titles))}" if len(titles) == 1 else ""  # said once, not beside each point
    for colour, (way, marker) in enumerate(looks, start=1):
        found = list[tuple[Point, str, str]]()
        variants = by_way[way]
        shown += variants
        for variant in variants:
            row = results.networks[variant.network, variant.weights]
            saving = mean_saving(savings, results.sequences, Comparison(variant))
            if saving is None:
                absent.setdefault("they have no BD-rate", []).append(variant_label(results, variant))
            elif not row.kmac_per_luma_sample:
                absent.setdefault("their operations are not known", []).append(variant_label(results, variant))
            else:
                warning = saving_warning(savings, tuple(results.sequences), Comparison(variant))
                name = variant.network if common else f"{variant.network}, {row.title}"
                found.append(((row.kmac_per_luma_sample, saving), name, warning))
        points, names, warnings = zip(*sorted(found), strict=True) if found else ((), (), ())
        label, is_labelled = _WAY_TITLES[way] + common, way in strongest
        series.append(Series(label, points, colour, marker, "none", names, labelled=is_labelled, warnings=warnings))
    costs_kmac = [cost for each in series for cost, _ in each.points]
    around = (min(costs_kmac) / 2, 2 * max(costs_kmac)) if costs_kmac else ()
    x = Axis("complexity [kMAC per luma sample]", logarithmic=True, includes=around, digits=2)
    y = Axis("BD-rate of luma [%]", with_zero=True, digits=2, signed=True)
    notes = (*(f"Not drawn, since {why}: {some_labels(labels)}." for why, labels in absent.items()),)
    notes += not_drawn_notes(results, shown, "since of each network the last weights are compared")
    drawn = tuple(each for each in series if each.points)
    return PointChart("Luma BD-rate against operations", x, y, drawn, notes)


def _shown_weights(variants: list[Variant]) -> list[Variant]:
    """The last weights of each network but adapted ones: decoded ones where there are any."""
    return list({variant.network: variant for variant in variants if not is_adapted(variant.weights)}.values())


def _network_bits_chart(results: ToolResults, savings: Savings, variants: list[Variant]) -> BarChart:
    """BD-rate of what a codec would run, its network's bits spread over streams of several lengths."""
    bars, names = [], tuple(results.sequences)
    for length in (each for each in STREAM_LENGTHS if each != 1):
        comparisons = [Comparison(variant, length=length) for variant in variants]
        values = tuple(mean_saving(savings, names, each) for each in comparisons)
        warnings = tuple(saving_warning(savings, names, each) for each in comparisons)
        bars.append(Bars(f"in {length} pictures" if length else "free", values, warnings))
    labels = tuple(f"{v.network}, {results.networks[v.network, v.weights].title}" for v in variants)
    return BarChart("Luma BD-rate by length of stream", "%", labels, tuple(bars), quantity="BD-rate Y")


def bar_chart(table: Table, title: str) -> BarChart:
    """The BD-rates of the classes and overall, a bar for each component."""
    rows = {number: row for number, row in enumerate(table.rows) if row[1] == MEAN}
    columns = [place for place, column in enumerate(table.columns) if column.unit == "%" and column.signed]
    bars = (
        Bars(
            table.columns[place].head,
            tuple(_value(row[place]) for row in rows.values()),
            tuple(table.warning(number, place) for number in rows),
        )
        for place in columns
    )
    return BarChart(title, "%", tuple(str(row[0]) for row in rows.values()), tuple(bars), quantity="BD-rate")


_CHARTED = ("filter", "adapted", "adapted, counted", "adapted, in 250 pictures", "as sent", "as sent, in 250 pictures")
"""As many bars as there are colours."""


def _adapted_charts(table: Table | None) -> Iterator[ChartGroup]:
    """The luma BD-rates of adapted networks over all sequences, a bar for each of some things that may be sent."""
    if table is None:
        return
    heads = [column.head for column in table.columns]
    places = map(heads.index, ("Network", "Decisions", "Updates", "Sequence", "Sent", "Y"))
    network, way, updates, sequence, sent, luma = places
    overall = {
        (row[network], row[way], row[updates], row[sent]): (_value(row[luma]), table.warning(number, luma))
        for number, row in enumerate(table.rows)
        if row[sequence] == OVERALL
    }
    names = list(dict.fromkeys(key[:3] for key in overall))
    kinds = [kind for kind in dict.fromkeys(str(key[3]) for key in overall) if kind in _CHARTED]
    found = {kind: [overall.get((*name, kind), (None, "")) for name in names] for kind in kinds}
    bars = tuple(Bars(kind, *map(tuple, zip(*its, strict=True))) for kind, its in found.items())
    labels = tuple(f"{network}, decisions {decisions}, updates: {of}" for network, decisions, of in names)
    yield ChartGroup(
        "Networks adapted to each sequence",
        (BarChart(table.title, "%", labels, bars, quantity="BD-rate Y"),),
        note=table.notes[0],
    )


def _value(cell: Cell) -> float | None:
    return None if cell is None or isinstance(cell, str) else float(cell)


_IMAGE_LEAD = "Autoencoders against the files of other picture codecs; which of their bytes count is said of each."


def image_section(stored: StoredImages) -> Section:
    """The section of an end-to-end run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    tables = stored.tables()
    means = image_means(stored.frame)
    return Section(
        "end-to-end",
        "End to end: autoencoders against picture codecs",
        _IMAGE_LEAD,
        tuple(_image_findings(tables["table4_end_to_end"])),
        (ChartGroup("Rate and quality", (image_chart(means, stored.networks),)),) if means else (),
        {name: tables[name] for name in ("table4_end_to_end", "rate_at_equal_quality", "table1_size")},
        {"spread_over_images": tables["spread_over_images"]},
        stored.header,
        stored.last_run.settings,
    )


def _image_findings(table: Table) -> Iterator[Finding]:
    """What each autoencoder gains over JPEG's payload where their rates are near."""
    place = len(table.columns) - 1
    exact = {table.rows[warning.row][0] for warning in table.warnings}
    for row, texts in zip(table.rows, cell_texts(table), strict=True):
        gap = row[place]
        if row[1] == METHOD_TITLES["jpeg-payload"]:
            label = f"PSNR of {texts[0]} over JPEG's payload at {texts[4]} bpp"
            if isinstance(gap, float):
                yield Finding(f"{round(-gap, 3) + 0.0:+.3f}", "dB", label)
            elif row[0] in exact:
                yield Finding("n/a", "", label, "it cannot be given where images are exact, which is an infinite PSNR")


_ZOO_LEAD = "Networks of many kinds, and what they do, before and after coding."


def zoo_section(stored: StoredZoo) -> Section:
    """The section of a model-zoo run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    chart = _size_chart(stored.rows)
    groups = (ChartGroup("Coded size of each network", (chart,)),) if chart.bars else ()
    return Section(
        "model-zoo",
        "Model zoo",
        _ZOO_LEAD,
        tuple(_zoo_findings(stored.rows)),
        groups,
        stored.tables(),
        {},
        stored.header,
        stored.last_run.settings,
    )


def _size_chart(rows: Sequence[ZooRow]) -> BarChart:
    shares = {(row.network, row.coding.label): _share_percent(row) for row in rows}
    networks = tuple(dict.fromkeys(row.network for row in rows))
    bars = tuple(Bars(codec, tuple(shares.get((name, codec)) for name in networks)) for codec in _codecs(rows))
    return BarChart(
        "Size after coding, of all tensors in their formats", "%", networks, bars, signed=False, quantity="size"
    )


def _zoo_findings(rows: Sequence[ZooRow]) -> Iterator[Finding]:
    for codec in _codecs(rows):
        coded = [row for row in rows if row.coding.label == codec]
        shares = [share for share in map(_share_percent, coded) if share is not None]
        if shares:
            n_faults = sum(bool(row.fault) for row in coded)
            warning = f"{n_faults} of them with scores that are NaN or infinite" if n_faults else ""
            label = f"mean size of {len(shares)} networks, {codec}"
            yield Finding(f"{fmean(shares):.2f}", "%", label, warning)


def _codecs(rows: Sequence[ZooRow]) -> list[str]:
    return list(dict.fromkeys(row.coding.label for row in rows if row.method != "original"))


def _share_percent(row: ZooRow) -> float | None:
    return None if row.n_bytes is None else 100 * row.n_bytes / row.original_bytes
