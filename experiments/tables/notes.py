"""What every table has to say for its numbers to be read: the conventions, in sentences, and the configuration."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import replace

from vvc_nnr.codec.configuration import Configuration
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import NetworkRow
from vvc_nnr.experiments.records.weights import ORIGINAL, is_adapted, is_file
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.means import ToolResults
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.sequences.metrics import PEAK_WORDS

YUV_NOTE = (
    "YUV: (6 Y + Cb + Cr) / 8 of the PSNRs in dB (Ohm et al., IEEE Transactions on Circuits and Systems for Video "
    "Technology 22(12), 2012); not VTM's YUV-PSNR, which is of a weighted squared error."
)

LOOP_FILTER_TITLES: dict[LoopFilters, str] = {
    "all": "all filters",
    "deblock-sao": "deblock+SAO",
    "none": "no filter",
}
SEEDS_NOTE = "Seeds: nothing in this run is random."
_ADAPTED_SEEDS_NOTE = "Seeds: networks are adapted with seed 0; nothing else in this run is random."
ADAPTED_NOTE = (
    "Adapted, not counted: the network tuned to each sequence, by one update for all QPs or by one at each QP, as a "
    "decoder makes it from base and update. Neither the updates' bits nor the time of tuning count here; table "
    "adapted_filters counts the bits."
)
DECISIONS_NOTE = (
    "Decisions on: strength per component, scale (or off) per block of 64 or 128, chosen against the original; "
    "with Wiener: and filters behind it, fitted to the picture. The picture that is scored is made from the coded "
    "bytes of all of these. Off: the network's output everywhere."
)
NETWORK_QP_NOTE = (
    "QP that networks are told: as the card of each says, else the picture's own, of inter pictures at most 3 above "
    "that of the random access point before them. Decisions of a sequence's pictures are coded together, the bits of "
    "one are by how much the bytes of all grew. Rates are of whole sequences, intra and inter pictures together."
)
_PLACES: dict[str, str] = {
    "none": "replaces all in-loop filters",
    "all": "filters after all in-loop filters (post-filter)",
}


def peak_note(conventions: Conventions) -> str:
    """The note on the peak of PSNR."""
    return f"PSNR peak: {PEAK_WORDS[conventions.psnr_peak]}."


def _originals_notes(conventions: Conventions) -> tuple[str, ...]:
    return (f"Originals: {conventions.originals}.",) if conventions.originals else ()


def tool_notes(conventions: Conventions, results: ToolResults) -> tuple[str, ...]:
    """The notes of every table of the tool-by-tool experiment."""
    places = dict.fromkeys((row.network, row.place) for row in results.networks.values())
    has_adapted = any(is_adapted(variant.weights) for variant in results.variants)
    has_decisions = any(variant.way in ("decisions", "wiener") for variant in results.variants)
    return (
        *(f"{network} {_PLACES[place]}." for network, place in places if place in _PLACES),
        *weights_notes(tuple(results.networks.values())),
        *_codec_notes(conventions, results),
        *([NETWORK_QP_NOTE] if any(results.rows["slice_type"].isin(["P", "B"])) else []),
        *_absent_notes(results),
        *_originals_notes(conventions),
        peak_note(conventions),
        *([DECISIONS_NOTE] if has_decisions else []),
        f"Averages: {conventions.averaging}. The paper does not say how it averages.",
        f"Rate: {conventions.rate}; Table 1 has the network's size.",
        *((ADAPTED_NOTE, _ADAPTED_SEEDS_NOTE) if has_adapted else (SEEDS_NOTE,)),
        *_left_out_notes(results.left_out),
    )


def _codec_notes(conventions: Conventions, results: ToolResults) -> list[str]:
    """Filters, configuration and encoder; of pictures decoded elsewhere as what they are taken."""
    title = results.configuration.title
    said = title[:1].upper() + title[1:]
    parts = [f"In-loop filters: {conventions.loop_filters}."] if conventions.loop_filters else []
    if conventions.encoder:
        parts.append(f"{said}, {conventions.encoder}.")
    elif results.configuration.is_inter:
        parts.append(f"{said}, as named and not checked.")
    elif conventions.loop_filters:
        parts.append(f"Taken as {title}, not checked where no log names slices: networks are told the encoding's QP.")
    return [" ".join(parts)] if parts else []


def _absent_notes(results: ToolResults) -> list[str]:
    """Which of the codec's filter sets there are no pictures of, so that nothing is compared with them."""
    there = {variant.loop_filters for variant in results.variants if not variant.network}
    absent = [title for name, title in LOOP_FILTER_TITLES.items() if name not in there]
    if not there or not absent:
        return []
    return [f"No pictures with {' and none with '.join(absent)}: comparisons with them are left out."]


def weights_notes(networks: Sequence[NetworkRow]) -> list[str]:
    """What has to be known of networks whose weights as trained are not there, or not float32."""
    trained = {row.network: row for row in networks if row.weights == ORIGINAL}
    alone = [row.network for row in networks if is_file(row.weights) and row.network not in trained]
    coded = [f"{row.network} ({row.coding})" for row in trained.values() if row.coding != "float32"]
    notes = []
    if alone:
        names = ", ".join(dict.fromkeys(alone))
        notes.append(f"Only a coded file is given of {names}: there is no network as trained to compare it with.")
    if coded:
        notes.append(f"As trained is as the given file has it: {', '.join(coded)}.")
    return notes


def bd_rate_note(results: ToolResults, method: Interpolation) -> str:
    """What a BD-rate is made of."""
    return (
        f"BD-rate: {method} over PSNR, from mean kbit per picture and mean PSNR at {len(results.qps)} QPs "
        f"({listed(results.qps)}). Negative: fewer bits at equal PSNR."
    )


TIME_NOTE = (
    "EncT, DecT: processor time of all threads in percent of the anchor's, ratio of geometric means over sequences and "
    "QPs. Counted in the encoder: the VVC encoder's process, the network, the search and coding of decisions, their "
    "application; in the decoder: the VVC decoder with its check of MD5, the network, decoding and application of the "
    "decisions. Not counted: reading pictures, scoring, loading networks. '-': a cached encoding without its time, or "
    "pictures decoded elsewhere."
)


def few_qps_note(results: ToolResults, n_least: int) -> tuple[str, ...]:
    """Why there is no table of BD-rates, if there are too few QPs for it."""
    if len(results.qps) >= n_least:
        return ()
    return (f"No tables of BD-rates: they need {n_least} QPs or more, this run has {len(results.qps)}.",)


def _left_out_notes(names: Sequence[str]) -> list[str]:
    """The note on unfinished sequences, if there are any."""
    if not names:
        return []
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"Left out, some of their results are missing: {counted(names)} ({shown})."]


def counted(sequences: Sized) -> str:
    """How many sequences: "1 sequence", "2 sequences"."""
    return f"{len(sequences)} sequence{'' if len(sequences) == 1 else 's'}"


def listed(qps: Sequence[int]) -> str:
    """QPs as a text: "22, 27, 32 and 37"."""
    texts = [str(qp) for qp in qps]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def configuration_suffix(configuration: Configuration) -> str:
    """What names of files of a configuration end in; nothing for all intra."""
    return f"_{configuration.name}" if configuration.is_inter else ""


def titled(table: Table, configuration: Configuration) -> Table:
    """The table with the configuration in its title, if that is not all intra."""
    return replace(table, title=f"{table.title}, {configuration.title}") if configuration.is_inter else table
