"""The tool-by-tool experiment in the layout of JVET."""

from __future__ import annotations

from collections.abc import Iterable

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.averages import CnnUse, ToolResults, Variant, tool_results
from vvc_nnr.experiments.bd_rate import Interpolation, Point, bd_rate_percent
from vvc_nnr.experiments.gain_tables import LOOP_FILTER_TITLES, comparisons
from vvc_nnr.experiments.jvet_table import JvetLine, jvet_table
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.notes import YUV_NOTE, tool_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ToolRow
from vvc_nnr.sequences.metrics import PlaneScores, yuv_psnr_db

_NO_TIMES = "EncT, DecT: this experiment does not time the codec."


def tool_jvet_tables(
    rows: Iterable[ToolRow], conventions: Conventions, interpolation: Interpolation = "pchip"
) -> dict[str, Table]:
    """A table by file name for each network, as decoded from its compressed file, against each of its anchors.

    Args:
        rows: Rows of the tool-by-tool experiment.
        conventions: What the rows were made under.
        interpolation: How BD-rate draws its curves.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(rows)
    notes = (_NO_TIMES, YUV_NOTE, *tool_notes(conventions, results))
    tables = {}
    for number, (use, anchor) in enumerate(comparisons(results), start=1):
        lines = [_line(results, use, anchor, name, interpolation) for name in results.sequences]
        title = f"BD-rate ({interpolation}) of {results.label(use)} against {LOOP_FILTER_TITLES[anchor]}"
        tables[f"jvet_{number}"] = jvet_table(title, lines, lambda _: (None, None), notes)
    return tables


def _line(results: ToolResults, use: CnnUse, anchor: LoopFilters, name: str, interpolation: Interpolation) -> JvetLine:
    pairs = zip(_curves(results, name, Variant(anchor)), _curves(results, name, use.reconstructed), strict=True)
    rates = tuple(bd_rate_percent(a, b, interpolation) if a and b else None for a, b in pairs)
    return JvetLine(name, results.sequences[name], rates)


def _curves(results: ToolResults, name: str, variant: Variant) -> list[list[Point]]:
    """(kbit per picture, dB) at each QP, of Y, Cb, Cr and YUV."""
    planes = [results.rate_points(name, variant, plane=plane) for plane in ("y", "cb", "cr")]
    means = [results.means[name, qp, variant] for qp in results.qps]
    weighted = [
        (mean.bits_per_picture / 1000, yuv_psnr_db(PlaneScores(mean.psnr_db[0], *mean.psnr_db[1:])))
        for mean in means
        if mean.psnr_db[0] is not None
    ]
    return [*planes, weighted]
