"""What every table has to say for its numbers to be read: the conventions, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from vvc_nnr.codec.vvc import LoopFilters
from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import ToolResults
from vvc_nnr.experiments.provenance import Conventions

PAPER_NOTE = f"Rows 'paper' quote {paper.CITATION}."

_PLACES: dict[LoopFilters, str] = {
    "none": "replaces all in-loop filters",
    "deblock-sao": "filters after deblocking and SAO",
    "all": "filters after all in-loop filters (post-filter)",
}


def peak_note(conventions: Conventions) -> str:
    """The note on the peak of PSNR."""
    if conventions.psnr_peak == "vtm":
        return "PSNR peak: 255 << (bit depth - 8) as in VTM: 255 at 8 bit, 1020 at 10 bit."
    return "PSNR peak: 2**bit_depth - 1: 255 at 8 bit, 1023 at 10 bit."


def tool_notes(conventions: Conventions, results: ToolResults) -> tuple[str, ...]:
    """The notes of every table of the tool-by-tool experiment."""
    notes = [
        *(f"{use.network} {_PLACES[use.after]}." for use in results.uses),
        *([f"In-loop filters: {conventions.loop_filters}."] if conventions.loop_filters else []),
        peak_note(conventions),
        f"Averages: {conventions.averaging}. The paper does not say how it averages.",
        f"Rate: {conventions.rate}; Table 1 has the network's size.",
        seeds_note(conventions),
    ]
    if results.left_out:
        shown = ", ".join(results.left_out[:5]) + (", ..." if len(results.left_out) > 5 else "")
        notes.append(f"Left out, some of their results are missing: {len(results.left_out)} sequences ({shown}).")
    return tuple(notes)


def seeds_note(conventions: Conventions) -> str:
    """The note on seeds."""
    return f"Seeds: {conventions.seeds}." if conventions.seeds else "Seeds: nothing in this run is random."


def listed(qps: Sequence[int]) -> str:
    """QPs as a text: "22, 27, 32 and 37"."""
    texts = [str(qp) for qp in qps]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)
