"""A finished stream with a filter of its own: tuned to its pictures, coded, measured, and put into it where it pays."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from vvc_nnr.codec.nnpf import NNPFA, NNPFC
from vvc_nnr.codec.sei import sei_messages
from vvc_nnr.codec.vvc_stream import VvcStream, check_one_format, read_vvc_stream
from vvc_nnr.errors import InputError
from vvc_nnr.files import naming
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures, measure_pictures, taking_to_learn
from vvc_nnr.filters.adaptation.net_effect import loss_per_bit, measured_db, rate_slopes
from vvc_nnr.filters.adaptation.options import AdaptOptions, Measure, RunAs, UpdatesOf
from vvc_nnr.filters.adaptation.results import Adaptation, MadeUpdate, Sent, with_best
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture
from vvc_nnr.filters.adaptation.tuning import coded_levels, tune
from vvc_nnr.filters.adaptation.written_stream import with_filter
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.metrics import check_comparable, may_be_padded
from vvc_nnr.sequences.source import Source

UNLIKE_DB = 20.0
"""Pictures of a lower PSNR are hardly those of the original."""
_log = logging.getLogger(__name__)


def adapt_streams(
    paths: Sequence[Path],
    original: Source,
    base: AdaptedBase,
    options: AdaptOptions,
    folder: Path,
    run_as: RunAs | None = None,
) -> Adaptation:
    """Tunes a filter to a sequence, for each stream or for all, and puts it into the streams where that pays.

    Args:
        paths: VVC streams of the same pictures, most often at several QPs.
        original: The pictures before coding.
        base: The filter.
        options: What is free, how long.
        folder: For checkpoints, from which a run that was cut off goes on.
        run_as: How the filter is run; None: as the defaults say.

    Raises:
        InputError: If streams and original do not fit together, a stream carries a filter already, or an update that is
            sent again and again is to be for so many pictures.
        BitstreamError, UnsupportedError: If a stream cannot be read.
        VvcNnrError: If the loss becomes NaN.
    """
    run_as = run_as or RunAs()
    if options.n_pictures is not None and run_as.at != "once":
        raise InputError(
            f"n_pictures: {options.n_pictures}, with messages at each {run_as.at}: more pictures bring more of them; "
            "take it away, or send them once"
        )
    network, layout = base.network(), base.layout
    runner = run_as.runner(network, layout)
    if original.format.chroma_format == "400":
        options = replace(options, measure="luma", chroma_weight=0.0)
    if layout.planes == "y":
        options = replace(options, chroma_weight=0.0)
    streams = [_read(path, original) for path in paths]
    groups = groups_of(len(streams), options.updates)
    _check_folder(folder, groups)
    learnt: list[list[LearningPicture]] = [[] for _ in streams]
    decoded, filtered = [], []
    for path, stream, into in zip(paths, streams, learnt, strict=True):
        take = taking_to_learn(stream, layout, len(streams), into)
        with naming(path):
            decoded.append(measure_pictures(stream, original, None, layout, take))
            filtered.append(measure_pictures(stream, original, runner, layout))
        if decoded[-1].psnr_db[0] < UNLIKE_DB:
            text = "%s: luma has %.1f dB against the original; are these its pictures?"
            _log.warning(text, path, decoded[-1].psnr_db[0])
    sizes = [len(stream.data) for stream in streams]
    slopes = rate_slopes(sizes, [measured_db(each.psnr_db, options.measure) for each in decoded])
    counted = [options.n_pictures or len(stream.output_order) for stream in streams]
    worth = [size * (n / len(s.output_order)) for size, n, s in zip(sizes, counted, streams, strict=True)]
    updates, measured = [], []
    for group in groups:
        pictures = [picture for place in group for picture in learnt[place]]
        lambda_rd = loss_per_bit(
            [worth[place] for place in group],
            [slopes[place] for place in group],
            options.learnt_chroma_weight,
            options.measure,
        )
        tuned = tune(network, base.arrays(), pictures, options, lambda_rd, folder / _folder_of(group), layout)
        updates.append(MadeUpdate(tuned, lambda_rd, group))
    learnt.clear()
    for number, update in enumerate(updates):
        run = run_as.runner(base.network(update.tuned.data), layout)
        adapted_to = {}
        for place in update.streams:
            with naming(paths[place]):
                adapted_to[place] = measure_pictures(streams[place], original, run, layout)
        as_it_is = {place: filtered[place] for place in update.streams}
        dropped_db = _loss_db(as_it_is, adapted_to, options.measure)
        if dropped_db is not None:
            nothing = replace(update.tuned, data=coded_levels(base.arrays(), {}, {}))
            updates[number] = replace(update, tuned=nothing, dropped_db=dropped_db)
        measured.append(adapted_to if dropped_db is None else as_it_is)
    found = []
    for place, (path, stream) in enumerate(zip(paths, streams, strict=True)):
        made = []
        for update, results in ((u, r) for u, r in zip(updates, measured, strict=True) if place in u.streams):
            data, adapted = update.tuned.data, results[place]
            with naming(path):
                written: dict[Sent, bytes] = {
                    "nothing": stream.data,
                    "base": with_filter(stream, base, network, None, filtered[place], run_as),
                    "update": with_filter(stream, base, network, data, adapted, run_as),
                }
            pictures_of = decoded[place], filtered[place], adapted
            best = with_best(stream, pictures_of, written, slopes[place], counted[place], options.measure, update)
            made.append(replace(best, name=str(path)))
        found.append(min(made, key=lambda each: each.net_percent["update"]))
    sizes_of = {(s.first.format.width, s.first.format.height) for s in streams}
    shown = original.format.width, original.format.height
    padded = shown if sizes_of != {shown} else None
    return Adaptation(tuple(updates), tuple(found), runner.description, len(base.data), options.measure, padded)


def _loss_db(
    before: Mapping[int, MeasuredPictures], after: Mapping[int, MeasuredPictures], measure: Measure
) -> float | None:
    """What an update gains in the mean of its streams, if that is below 0; None: it makes them no worse."""
    gain_db = fmean(measured_db(pictures.gain_db(before[place]), measure) for place, pictures in after.items())
    return gain_db if gain_db < 0 else None


def groups_of(n_streams: int, updates: UpdatesOf) -> tuple[tuple[int, ...], ...]:
    """The places of the streams that each update is tuned to.

    >>> groups_of(3, "each"), groups_of(3, "shared"), groups_of(1, "auto")
    (((0,), (1,), (2,)), ((0, 1, 2),), ((0,),))
    """
    shared, each = (tuple(range(n_streams)),), tuple((place,) for place in range(n_streams))
    return tuple(dict.fromkeys({"each": each, "shared": shared, "auto": (*each, *shared)}[updates]))


def _folder_of(group: Sequence[int]) -> str:
    """Where the checkpoints of an update are, in the folder of all."""
    return f"of_{'_'.join(str(place) for place in group)}"


def _check_folder(folder: Path, groups: Sequence[Sequence[int]]) -> None:
    """Raises InputError if a folder holds checkpoints of updates that are not wanted."""
    others = sorted({path.name for path in folder.glob("of_*")} - {_folder_of(group) for group in groups})
    if others:
        raise InputError(
            f"{folder}: holds checkpoints of other updates than are asked for ({', '.join(others)}: of these streams, "
            "counted from 0); ask for the same updates (--updates), use another folder, or delete this one"
        )


def _read(path: Path, original: Source) -> VvcStream:
    """A stream that a filter can be put into.

    Raises:
        InputError: If its pictures are not those of the original, or it carries a filter already.
    """
    with naming(path):
        stream = read_vvc_stream(path)
        check_one_format(stream)
        check_comparable(original.format, _shown_format(stream, original))
        if any(placed.message.payload_type in (NNPFC, NNPFA) for placed in sei_messages(stream.data)):
            raise InputError("carries a filter already: take it out first (vvc-nnr sei remove)")
    return stream


def _shown_format(stream: VvcStream, original: Source) -> VideoFormat:
    """What a viewer gets of the pictures: without what odd sides of the original were padded with."""
    coded, wanted = stream.first.format, original.format
    return replace(coded, width=wanted.width, height=wanted.height) if may_be_padded(wanted, coded) else coded
