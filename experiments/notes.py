"""What every table has to say for its numbers to be read: the conventions, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import ToolResults
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.in_loop_means import InLoopResults
from vvc_nnr.experiments.provenance import Conventions

PAPER_NOTE = f"Rows 'paper' quote {paper.CITATION}."
YUV_NOTE = (
    "YUV: (6 Y + Cb + Cr) / 8 of the PSNRs in dB (Ohm et al., IEEE Transactions on Circuits and Systems for Video "
    "Technology 22(12), 2012); not VTM's YUV-PSNR, which is of a weighted squared error."
)

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


def _originals_notes(conventions: Conventions) -> tuple[str, ...]:
    return (f"Originals: {conventions.originals}.",) if conventions.originals else ()


def tool_notes(conventions: Conventions, results: ToolResults) -> tuple[str, ...]:
    """The notes of every table of the tool-by-tool experiment."""
    return (
        *(f"{use.network} {_PLACES[use.after]}." for use in results.uses),
        *([f"In-loop filters: {conventions.loop_filters}."] if conventions.loop_filters else []),
        *_originals_notes(conventions),
        peak_note(conventions),
        f"Averages: {conventions.averaging}. The paper does not say how it averages.",
        f"Rate: {conventions.rate}; Table 1 has the network's size.",
        seeds_note(conventions),
        *_left_out_notes(results.left_out),
    )


def in_loop_notes(conventions: Conventions, results: InLoopResults) -> tuple[str, ...]:
    """The notes of every table of the in-loop experiment."""
    places = dict.fromkeys((row.network, row.loop_filters) for row in results.networks.values())
    return (
        *(f"{network} {_PLACES[place]}." for network, place in places),
        f"In-loop filters: {conventions.loop_filters}.",
        *_originals_notes(conventions),
        "Classes: those of the common test conditions; another sequence has that of the nearest size.",
        peak_note(conventions),
        YUV_NOTE,
        "Decisions on: strength per component, scale (or off) per block of 64 or 128, chosen against the original; "
        "with Wiener: and filters behind it, fitted to the picture. The picture that is scored is made from the coded "
        "bytes of all of these. Off: the network's output everywhere.",
        f"Rate: {conventions.rate}.",
        *_left_out_notes(results.left_out),
    )


def bd_rate_note(results: InLoopResults, method: Interpolation) -> str:
    """What a BD-rate is made of."""
    return (
        f"BD-rate: {method} over PSNR, from mean kbit per picture and mean PSNR at {len(results.qps)} QPs "
        f"({listed(results.qps)}). Negative: fewer bits at equal PSNR."
    )


TIME_NOTE = (
    "EncT, DecT: processor time of all threads in percent of the anchor's, ratio of geometric means over sequences and "
    "QPs. Counted in the encoder: the VVC encoder's process, the network, the search and coding of decisions, their "
    "application; in the decoder: the VVC decoder with its check of MD5, the network, decoding and application of the "
    "decisions. Not counted: reading pictures, scoring, loading networks. '-': a cached encoding without its time."
)


def _left_out_notes(names: Sequence[str]) -> list[str]:
    """The note on unfinished sequences, if there are any."""
    if not names:
        return []
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"Left out, some of their results are missing: {len(names)} sequences ({shown})."]


def seeds_note(conventions: Conventions) -> str:
    """The note on seeds."""
    return f"Seeds: {conventions.seeds}." if conventions.seeds else "Seeds: nothing in this run is random."


def listed(qps: Sequence[int]) -> str:
    """QPs as a text: "22, 27, 32 and 37"."""
    texts = [str(qp) for qp in qps]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)
