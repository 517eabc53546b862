"""The in-loop experiment in the layout of JVET."""

from __future__ import annotations

from collections.abc import Sequence

from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import way_cells
from vvc_nnr.experiments.tables.jvet import JvetLine, jvet_table
from vvc_nnr.experiments.tables.means import PLANES, InLoopResults, InLoopVariant
from vvc_nnr.experiments.tables.savings import Savings
from vvc_nnr.experiments.tables.table import Table


def variant_label(results: InLoopResults, variant: InLoopVariant) -> str:
    """The network of a variant, its weights and whether the encoder decides, in a few words."""
    name, coding, decisions = map(str, way_cells(results, variant))
    return f"{name}, {coding}, decisions {decisions}" if variant.network else name


def in_loop_jvet_tables(
    results: InLoopResults, savings: Savings, interpolation: Interpolation, notes: tuple[str, ...]
) -> dict[InLoopVariant, Table]:
    """A table for each variant against the codec with all its in-loop filters, the network's bits not counted."""
    tables = {}
    for variant in results.tests:
        lines = [
            JvetLine(name, ctc_class, tuple(savings.get((name, variant, plane, None)) for plane in PLANES))
            for name, ctc_class in results.sequences.items()
        ]

        def times(names: Sequence[str], variant: InLoopVariant = variant) -> tuple[float | None, float | None]:
            return results.time_percent(names, variant, "encode"), results.time_percent(names, variant, "decode")

        title = f"BD-rate ({interpolation}) of {variant_label(results, variant)} against all filters"
        tables[variant] = jvet_table(title, lines, times, notes)
    return tables
