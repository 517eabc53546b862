"""The tool-by-tool experiment in a report."""

from __future__ import annotations

from collections.abc import Iterator

from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import ToolResults, tool_results
from vvc_nnr.experiments.gain_tables import LOOP_FILTER_TITLES, comparisons
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.report.jvet_charts import bar_chart, overall_finding
from vvc_nnr.experiments.report.rd_charts import GAIN_NOTE, tool_rd_pair
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.stored import StoredTools

_LEAD = (
    "A convolutional network in the place of, or after, the in-loop filters of VVC intra pictures, with its weights as "
    "trained and as decoded from a compressed file."
)


def tool_section(stored: StoredTools) -> Section:
    """The section of a tool-by-tool run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(stored.rows)
    tables, jvet = stored.tables(), stored.jvet_tables()
    first = [name for name in ("bd_rate", "gain_per_qp", "table1_size") if name in tables]
    return Section(
        "tool-by-tool",
        "In-loop filtering, tool by tool",
        _LEAD,
        tuple(_findings(results, jvet)),
        tuple(_chart_groups(results, jvet)),
        {name: tables[name] for name in first},
        jvet | {name: table for name, table in tables.items() if name not in first and name != "bd_rate_per_sequence"},
        stored.header,
        stored.last_run.settings,
        jvet,
    )


def _findings(results: ToolResults, jvet: dict[str, Table]) -> Iterator[Finding]:
    for (use, anchor), table in zip(comparisons(results), jvet.values(), strict=bool(jvet)):
        finding = overall_finding(table, f"luma BD-rate, {results.label(use)} against {LOOP_FILTER_TITLES[anchor]}")
        if finding:
            yield finding


def _chart_groups(results: ToolResults, jvet: dict[str, Table]) -> Iterator[ChartGroup]:
    bars = [bar_chart(table, table.title) for table in jvet.values()]
    if bars:
        yield ChartGroup("BD-rate per class", tuple(bars), note="Negative: fewer bits at equal PSNR.")
    groups = {f"Class {name}": names for name, names in results.groups.items()}
    if len(groups) != 1:
        groups = {paper.OVERALL: tuple(results.sequences), **groups}
    groups |= {name: (name,) for name in results.sequences if (name,) not in groups.values()}
    pairs = [chart for title, names in groups.items() if names for chart in tool_rd_pair(results, title, names)]
    if pairs:
        yield ChartGroup("Rate and quality, luma", tuple(pairs[:2]), tuple(pairs[2:]), GAIN_NOTE)
