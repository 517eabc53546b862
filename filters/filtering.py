"""Who filters the pictures of a sequence: a network that the user names, or the filters that its stream carries."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from torch import nn

from vvc_nnr.codec.slice_qp import output_qps
from vvc_nnr.codec.stream_filters import FilterSettings, StreamFilter
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.decisions.sequence_file import MadeWith
from vvc_nnr.filters.in_stream import (
    NO_BASES,
    PlannedPicture,
    carried_filters,
    filter_as_planned,
    has_inter_pictures,
    known_bitstream_of,
    network_of,
    one_qp,
    planned_pictures,
    qps_of_pictures,
    sha256_of,
    strength_qps,
)
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.told_qp import PictureQps, QpRule, same_qps
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.sequences.frame import Frame

MakeRunner: TypeAlias = Callable[[nn.Module, Precision], Runner]
"""Makes a network, which declares its layout, ready to run in a precision."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """Who filters the pictures of a sequence, and what is known of it.

    Attributes:
        runner: The one network, or that of the first filter.
        network_sha256: Of its file.
        qps: The QP that the network is told of each picture, in the order of output.
        made_qp: The QP of all pictures, None: those of slices.
        plan: What a stream says is done to each picture; None: the one network on all.
        runner_of: Makes a filter of the plan ready.
        loaded: The network that the user names.
        decisions: The coded decisions that travel with the filter.
        output_md5: What the filtered pictures must have.
        ignored: What travels in the stream and is not used, as the user has it otherwise, in words.
        coded_qps: The QP that each picture was coded with, where that may be another than the network is told.
        known: The QPs of each picture, by which candidates of what the network is told go; read once.
        is_inter: Whether pictures are predicted from others.
    """

    runner: Runner
    network_sha256: bytes
    qps: Iterable[int]
    made_qp: int | None
    plan: tuple[PlannedPicture, ...] | None = None
    runner_of: Callable[[StreamFilter], Runner] | None = None
    loaded: LoadedNetwork | None = None
    decisions: bytes | None = None
    output_md5: bytes | None = None
    ignored: tuple[str, ...] = ()
    coded_qps: tuple[int, ...] | None = None
    known: Iterable[PictureQps] = field(default=(), repr=False)
    is_inter: bool = False

    @property
    def made_with(self) -> MadeWith:
        """What decisions are made with here."""
        return MadeWith(self.network_sha256, self.made_qp, self.runner.precision)

    @property
    def n_filtered(self) -> int | None:
        """How many pictures the stream's own filters run on; None where the user names a network."""
        return None if self.plan is None else sum(each.filter is not None for each in self.plan)

    def told_qps(self, candidates: Sequence[QpRule]) -> Iterator[tuple[int, ...]]:
        """What the network may be told of each picture: by its own rule, then by those of candidates."""
        if not candidates:
            return ((qp,) for qp in self.qps)
        pairs = zip(self.qps, self.known, strict=False)
        return ((qp, *(rule.qp(known, qp) for rule in candidates)) for qp, known in pairs)

    def filtered(self, frames: Iterable[Frame], output_bit_depth: int | None = None) -> Iterator[Frame]:
        """Yields the filtered pictures, without decisions; those on which no filter runs as they are.

        Args:
            frames: Decoded pictures, in the order of output.
            output_bit_depth: That of the runners, to which pictures without a filter are brought; None: their own.
        """
        if self.plan is None or self.runner_of is None:
            return self.runner.filter_frames(zip(frames, self.qps, strict=False))
        found = filter_as_planned(zip(frames, self.plan, strict=False), self.runner_of)
        return found if output_bit_depth is None else (frame.to_bit_depth(output_bit_depth) for frame in found)


def filtering_at_qp(loaded: LoadedNetwork, runner: Runner, qp: int | None) -> Filtering:
    """A network over pictures of any decoder.

    Args:
        loaded: The network.
        runner: The same, ready to run.
        qp: QP that all pictures were coded with; None: not known, and the network is told none.
    """
    told = None if qp is None else runner.layout.qp_rule.qp(same_qps(qp))
    known = itertools.repeat(same_qps(qp or 0))
    sha256 = bytes.fromhex(loaded.sha256)
    return Filtering(runner, sha256, itertools.repeat(told or 0), told, loaded=loaded, known=known)


def filtering_by(loaded: LoadedNetwork, runner: Runner, stream: VvcStream, qp: int | None = None) -> Filtering:
    """A network over the pictures of a stream, in the place of what filters that carries.

    Args:
        loaded: The network.
        runner: The same, ready to run.
        stream: The stream.
        qp: QP that all pictures were coded with; None: by the headers of slices.

    Raises:
        InputError: If the network is told a QP that headers do not say.
        BitstreamError, UnsupportedError: If headers of slices cannot be read.
    """
    qps = strength_qps(stream, qp, runner.layout.qp_rule)
    return Filtering(
        runner,
        bytes.fromhex(loaded.sha256),
        qps,
        one_qp(qps),
        loaded=loaded,
        ignored=_carried(stream),
        coded_qps=output_qps(stream) if qp is None else None,
        known=_known_qps(stream, qp),
        is_inter=has_inter_pictures(stream),
    )


def filtering_of(
    stream: VvcStream,
    make_runner: MakeRunner,
    *,
    precision: Precision | None = None,
    qp: int | None = None,
    filter_id: int | None = None,
    bases: Mapping[str, bytes] = NO_BASES,
    own_decisions: bool = True,
    output_bit_depth: int | None = None,
) -> Filtering:
    """The filters that a stream carries.

    Args:
        stream: The stream.
        make_runner: Makes their networks ready.
        precision: What the user has networks computed in; None: as the stream says, else float32.
        qp: QP that all pictures were coded with, against what the stream says; None: as it says.
        filter_id: The filter that is to run where several do; None: there must be one.
        bases: Coded networks of the user's own that the stream may name, by `name_by_hash`.
        own_decisions: Whether the decisions that travel with a filter are carried out; else others are.
        output_bit_depth: Bits per sample of the output; None: those of the pictures.

    Raises:
        InputError: If the stream carries no such filter, several run on one picture and none is named, or what the user
            wants contradicts it.
        BitstreamError: If a message, a slice or a network cannot be read.
        UnsupportedError: If a filter is for another purpose than quality, or of a kind that is not run here.
    """
    chroma_format = stream.first.format.chroma_format
    network = cache(lambda found: network_of(found, chroma_format, bases))
    plan = planned_pictures(stream, lambda found: declared_layout(network(found)).qp_rule, qp=qp, filter_id=filter_id)
    first = next(each.filter for each in plan if each.filter is not None)
    settings = first.settings or FilterSettings(filter_id=first.id)
    runs_in = _precision(settings.precision, precision)
    runner_of = cache(lambda found: make_runner(network(found), runs_in))
    decisions = first.decisions.data if first.decisions is not None else None
    if decisions is not None and any(each.filter != first for each in plan):
        raise UnsupportedError("decisions of a stream whose filters change, or do not run on all pictures")
    if decisions is not None and output_bit_depth is not None:
        raise InputError(
            f"carries decisions of filter {first.id}, which are of pictures of the stream's bit depth; omit "
            "output_bit_depth (--output-bit-depth)"
        )
    keeps_md5 = qp is None and own_decisions and output_bit_depth in (None, stream.first.format.bit_depth)
    has_own_qps = qp is None and settings.qp is None
    unused = {
        f"decisions of filter {first.id}": decisions is not None and not own_decisions,
        f"MD5 of the pictures of filter {first.id}": settings.output_md5 is not None and not keeps_md5,
    }
    qps = [each.qp for each in plan]
    return Filtering(
        runner_of(first),
        sha256_of(known_bitstream_of(first.base, bases)),
        qps,
        one_qp(qps),
        plan,
        runner_of,
        decisions=decisions,
        output_md5=settings.output_md5 if keeps_md5 else None,
        ignored=tuple(what for what, is_unused in unused.items() if is_unused),
        coded_qps=output_qps(stream) if has_own_qps and not own_decisions else None,
        known=_known_qps(stream, qp),
        is_inter=has_inter_pictures(stream),
    )


def _precision(stated: Precision | None, given: Precision | None) -> Precision:
    """What networks are computed in: as the stream says, else as the user does."""
    if None not in (stated, given) and stated != given:
        raise InputError(f"the stream says precision {stated} for its filter, {given} (--precision) was given: omit it")
    return stated or given or "float32"


def _known_qps(stream: VvcStream, qp: int | None) -> Iterator[PictureQps]:
    """The QPs of each picture, read once they are asked for."""
    yield from qps_of_pictures(stream, qp)


def _carried(stream: VvcStream) -> tuple[str, ...]:
    """One line on each filter that a stream carries, none where its messages cannot be read."""
    try:
        return tuple(carried_filters(stream.data))
    except (BitstreamError, UnsupportedError):
        return ()
