"""The model zoo in a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from vvc_nnr.experiments.records.rows import ZooRow
from vvc_nnr.experiments.report.charts import BarChart, Bars
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.stored import StoredZoo

_LEAD = "Networks of many kinds, and what they do, before and after coding."


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
        _LEAD,
        tuple(_findings(stored.rows)),
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
    return BarChart("Size after coding, of all tensors in their formats", "%", networks, bars, signed=False)


def _findings(rows: Sequence[ZooRow]) -> Iterator[Finding]:
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
