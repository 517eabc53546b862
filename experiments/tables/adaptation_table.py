"""What adapting a filter to the streams of a sequence gave, as a table and as BD-rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vvc_nnr.experiments.tables.bd_rate import BdRate, Point, bd_rate_percent
from vvc_nnr.experiments.tables.table import Cell, Column, Table
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures
from vvc_nnr.filters.adaptation.net_effect import measured_db
from vvc_nnr.filters.adaptation.options import Measure
from vvc_nnr.filters.adaptation.results import Adaptation, AdaptedStream, MadeUpdate, Sent

_LEAST_STREAMS = 3
_MOST_NAMED = 5
MEASURES: Mapping[Measure, str] = {"luma": "luma", "yuv": "YUV (6:1:1)"}
_SENT: Mapping[Sent, str] = {"nothing": "nothing", "base": "filter", "update": "filter and update"}


def adaptation_table(found: Adaptation) -> Table:
    """A row for each stream: gains in dB, added bytes, net effect in percent of the rate, and what was sent."""
    kinds = ("gain", "adapted gain")
    components = ("Luma", "Cb", "Cr")[: len(found.streams[0].decoded.psnr_db)]
    columns = (
        Column("Stream", text=True),
        Column("Size", "byte"),
        Column("Luma before", "dB", digits=3),
        *(Column(f"{name} {kind}", "dB", digits=3) for kind in kinds for name in components),
        Column("Filter", "byte"),
        Column("Filter and update", "byte"),
        Column("Net of the filter", "%", digits=2),
        Column("Net with the update", "%", digits=2),
        Column("Sent", text=True),
        *([Column("Best update", text=True)] if len(set(map(_kind, found.updates))) > 1 else []),
    )
    notes = [
        *(_made(made, [Path(each.name).name for each in found.streams], found.measure) for made in found.updates),
        *_fixed(found.updates[0]),
        *(note for stream in found.streams for note in _worse(stream, found.measure)),
        f"Filters are computed by {found.description}.",
        f"Gain: mean PSNR of all pictures less that of the decoded ones; 10 bit: peak 1020. Net: the rate at equal "
        f"{MEASURES[found.measure]} with what is added, by the slope of the streams' rates over dB"
        + (", which for one stream is taken as 0.2 per dB." if len(found.streams) == 1 else "."),
    ]
    if found.shown_size is not None:
        size = "x".join(map(str, found.shown_size))
        notes.append(f"Learnt on and measured: {size}, without what odd sides were padded with (filter --size {size}).")
    counted = found.streams[0].counted_pictures
    if any(each.n_pictures != counted for each in found.streams):
        notes.append(f"Net and BD-rates are of {counted} pictures of the same rate and gain.")
    for measure in dict.fromkeys(("luma", found.measure)):
        for what, saving in _savings(found.streams, measure).items():
            warned = f" Warning: {'; '.join(saving.warnings)}." if saving.warnings else ""
            notes.append(f"{what}: {MEASURES[measure]} BD-rate {saving.value_percent:+.2f} %.{warned}")
    return Table(
        "Adapted filter", columns, tuple(row[: len(columns)] for row in map(_row, found.streams)), tuple(notes)
    )


def adaptation_bd_rates(streams: Sequence[AdaptedStream], measure: Measure = "luma") -> dict[str, float]:
    """BD-rates in percent of the filter, with its update and as sent, by what they are of.

    What is added counts in streams of the pictures that the update is for, as it does in what is sent.

    Args:
        streams: Of the same pictures; fewer than three make no curve, and there are none then.
        measure: By which PSNR.
    """
    return {what: float(saving.value_percent or 0) for what, saving in _savings(streams, measure).items()}


def _savings(streams: Sequence[AdaptedStream], measure: Measure) -> dict[str, BdRate]:
    """The BD-rates that have a value."""
    if len(streams) < _LEAST_STREAMS:
        return {}

    def points(of: Callable[[AdaptedStream], MeasuredPictures], added: Callable[[AdaptedStream], int]) -> list[Point]:
        return [(each.counted_bytes + added(each), measured_db(of(each).psnr_db, measure)) for each in streams]

    anchor = points(lambda each: each.decoded, lambda _: 0)
    curves = {
        "the filter as it is, not counted": points(lambda each: each.base, lambda _: 0),
        "the filter as it is, counted": points(lambda each: each.base, lambda each: each.added_bytes["base"]),
        "with the update, not counted": points(lambda each: each.adapted, lambda _: 0),
        "with the update, counted": points(lambda each: each.adapted, lambda each: each.added_bytes["update"]),
        "as sent": points(lambda each: each.output, lambda each: each.added_bytes[each.sent]),
    }
    found = {what: bd_rate_percent(anchor, test) for what, test in curves.items()}
    return {what: saving for what, saving in found.items() if saving.value_percent is not None}


def _row(stream: AdaptedStream) -> tuple[Cell, ...]:
    gains_db = (*stream.base.gain_db(stream.decoded), *stream.adapted.gain_db(stream.decoded))
    added = (stream.added_bytes["base"], stream.added_bytes["update"])
    net = (stream.net_percent["base"], stream.net_percent["update"])
    size = (Path(stream.name).name, stream.n_bytes, stream.decoded.psnr_db[0])
    return (*size, *gains_db, *added, *net, _SENT[stream.sent], _kind(stream.made))


def _kind(made: MadeUpdate) -> str:
    return "own" if len(made.streams) == 1 else "shared"


def _made(made: MadeUpdate, names: Sequence[str], measure: Measure) -> str:
    update = made.tuned
    of = "all streams" if len(made.streams) == len(names) > 1 else names[made.streams[0]]
    said = (
        f"Update for {of}: {len(update.data)} bytes; {update.n_values} values were free, {update.n_steps} steps of "
        "tuning."
    )
    if made.dropped_db is None:
        return said
    return (
        f"{said} WARNING: what they learnt made the pictures worse than the filter as it is ({MEASURES[measure]} "
        f"{made.dropped_db:+.4f} dB). It is dropped, the update changes nothing; take more steps (--steps, --budget)."
    )


def _fixed(made: MadeUpdate) -> list[str]:
    """What was not free although everything was to be; the same of each update of a filter."""
    names = made.tuned.fixed
    if not names:
        return []
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [
        f"Not free, since no gradients go to them, and left as they are: {', '.join(names[:_MOST_NAMED])}{more} "
        "(bounds, fillings, statistics of norms)."
    ]


def _worse(stream: AdaptedStream, measure: Measure) -> list[str]:
    """A warning where an update that others gain by harms this stream."""
    gain_db = measured_db(stream.adapted.gain_db(stream.base), measure)
    if gain_db >= 0:
        return []
    return [
        f"WARNING: {Path(stream.name).name} is worse with the update than with the filter as it is "
        f"({MEASURES[measure]} {gain_db:+.4f} dB); take more steps (--steps, --budget), or an update of its own "
        "(--updates each)."
    ]
