"""Which neural-network filters a VVC stream carries, and which of them runs on each of its pictures.

H.274 says it by two messages, NNPFC and NNPFA (nnpf.py). What it has no place for, this package puts beside them as
user data with a UUID of its own: the QP and precision that the filter was chosen with, hashes of the network and of
the filtered pictures, and the encoder's decisions. docs/sei.md has the syntax.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.codec.nal import RADL, nal_units
from vvc_nnr.codec.nnpf import (
    NNPFA,
    NNPFC,
    NnpfActivation,
    NnpfCharacteristics,
    is_reserved_id,
    parse_nnpf,
)
from vvc_nnr.codec.sei import USER_DATA_UNREGISTERED, UUID_BYTES, PlacedMessage, SeiMessage, sei_messages, user_data
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

SETTINGS_UUID = UUID("582f44c3-0dee-41b8-919e-dd56f88d6613").bytes
"""Whose user data `FilterSettings` are."""
DECISIONS_UUID = UUID("54281f46-dd58-4694-95d4-b27cd15e91fe").bytes
"""Whose user data `FilterDecisions` are."""

StoredPrecision: TypeAlias = Literal["float32", "bfloat16", "int8"]
HASH_BYTES, MD5_BYTES = 32, 16
_SETTINGS_VERSION, _DECISIONS_VERSION = 2, 1
_QP_BITS, _PRECISION_BITS = 6, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSettings:
    """What this package says of a filter in a stream beside its NNPFC and NNPFA.

    Attributes:
        filter_id: The filter's nnpfc_id.
        is_kept: Whether the filter stays through the coded layer video sequences that follow, without being repeated.
        covers_leading: Whether it runs on the pictures too that are output before the first of its sequence, which an
            NNPFA of that one does not reach.
        qp: The QP for all pictures, 0 to 63; None: read from the headers of slices, as docs/sei.md says.
        precision: What the network is computed in; None: what the decoder likes.
        network_sha256: Of the network's file.
        output_md5: Of all filtered pictures, as raw video.
    """

    filter_id: int
    is_kept: bool = False
    covers_leading: bool = False
    qp: int | None = None
    precision: StoredPrecision | None = None
    network_sha256: bytes | None = None
    output_md5: bytes | None = None

    def message(self) -> SeiMessage:
        """The settings as a message.

        Raises:
            InputError: If a value does not fit its field.
        """
        w = BitWriter()
        w.u(_SETTINGS_VERSION, 8, "version")
        w.ue(self.filter_id, 0, "filter id")
        w.flag(self.is_kept, "is_kept")
        w.flag(self.covers_leading, "covers_leading")
        w.flag(self.qp is not None, "has_qp")
        if self.qp is not None:
            w.u(self.qp, _QP_BITS, "qp")
        w.u(0 if self.precision is None else 1 + get_args(StoredPrecision).index(self.precision), 2, "precision")
        hashes = ((self.network_sha256, HASH_BYTES, "network"), (self.output_md5, MD5_BYTES, "pictures"))
        for digest, _, name in hashes:
            w.flag(digest is not None, f"has_{name}_hash")
        w.u(0, -w.position_bits % 8, "alignment")
        for digest, size, name in hashes:
            if digest is not None:
                if len(digest) != size:
                    raise InputError(f"hash of the {name}: {len(digest)} bytes, must be {size}")
                w.raw(digest)
        return user_data(SETTINGS_UUID, w.getvalue())


@dataclass(frozen=True, slots=True)
class FilterDecisions:
    """The encoder's decisions for all pictures that a filter runs on.

    Attributes:
        filter_id: The filter's nnpfc_id.
        data: A file of decisions, as docs/decisions.md has it.
    """

    filter_id: int
    data: bytes

    def message(self) -> SeiMessage:
        """The decisions as a message.

        Raises:
            InputError: If the number does not fit its field.
        """
        w = BitWriter()
        w.u(_DECISIONS_VERSION, 8, "version")
        w.ue(self.filter_id, 0, "filter id")
        w.u(0, -w.position_bits % 8, "alignment")
        w.raw(self.data)
        return user_data(DECISIONS_UUID, w.getvalue())


FilterContent: TypeAlias = NnpfCharacteristics | NnpfActivation | FilterSettings | FilterDecisions


def parse_filter_message(message: SeiMessage) -> FilterContent | None:
    """What a message says of a filter, None of messages that say nothing of one.

    Raises:
        BitstreamError: If it is damaged.
        UnsupportedError: If it is this package's, of a later version.
    """
    if message.payload_type != USER_DATA_UNREGISTERED:
        return parse_nnpf(message)
    uuid = message.payload[:UUID_BYTES]
    if uuid not in (SETTINGS_UUID, DECISIONS_UUID):
        return None
    r = BitReader(message.payload, UUID_BYTES)
    if (version := r.u(8, "version")) != _version_of(message):
        raise UnsupportedError(
            f"user data of a filter of version {version}: this program reads version {_version_of(message)}"
        )
    return _read_settings(r) if uuid == SETTINGS_UUID else _read_decisions(r)


def _version_of(message: SeiMessage) -> int:
    """The version of this package's user data that is read here."""
    return _SETTINGS_VERSION if message.payload[:UUID_BYTES] == SETTINGS_UUID else _DECISIONS_VERSION


def filter_number(message: SeiMessage) -> int | None:
    """Number of the filter that a message is about, also where it is damaged behind that; None if it tells none."""
    is_user_data = message.payload_type == USER_DATA_UNREGISTERED
    if is_user_data and message.payload[:UUID_BYTES] not in (SETTINGS_UUID, DECISIONS_UUID):
        return None
    r = BitReader(message.payload, UUID_BYTES if is_user_data else 0)
    try:
        if is_user_data:
            is_read = r.u(8, "version") == _version_of(message)
            return r.ue(0, "filter id", 32) if is_read else None
        if message.payload_type == NNPFC:
            r.u(16, "purpose")
        return r.ue(0, "filter id", 32) if message.payload_type in (NNPFC, NNPFA) else None
    except BitstreamError:
        return None


def _read_decisions(r: BitReader) -> FilterDecisions:
    filter_id = r.ue(0, "filter id", 32)
    _read_alignment(r)
    return FilterDecisions(filter_id, bytes(r.rest()))


def _read_alignment(r: BitReader) -> None:
    if r.u(-r.position_bits % 8, "alignment"):
        raise r.error("must be zero", "alignment")


def _read_settings(r: BitReader) -> FilterSettings:
    filter_id, is_kept, covers_leading = r.ue(0, "filter id", 32), r.flag("is_kept"), r.flag("covers_leading")
    qp = r.u(_QP_BITS, "qp") if r.flag("has_qp") else None
    precision = r.u(_PRECISION_BITS, "precision")
    has_network, has_output = r.flag("has_network_hash"), r.flag("has_pictures_hash")
    _read_alignment(r)
    network = r.u(8 * HASH_BYTES, "network hash").to_bytes(HASH_BYTES, "big") if has_network else None
    output = r.u(8 * MD5_BYTES, "pictures hash").to_bytes(MD5_BYTES, "big") if has_output else None
    if r.remaining_bits:
        raise r.error(f"{r.remaining_bits // 8} bytes are left", "filter settings")
    return FilterSettings(
        filter_id=filter_id,
        is_kept=is_kept,
        covers_leading=covers_leading,
        qp=qp,
        precision=get_args(StoredPrecision)[precision - 1] if precision else None,
        network_sha256=network,
        output_md5=output,
    )


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """A filter of a stream, as it is at some pictures.

    Attributes:
        base: The filter.
        update: What is laid over it, None where the base itself runs.
        settings: What this package says of it, None in streams of others.
        decisions: The encoder's decisions, None if it made none.
    """

    base: NnpfCharacteristics
    update: NnpfCharacteristics | None = None
    settings: FilterSettings | None = None
    decisions: FilterDecisions | None = None

    @property
    def id(self) -> int:
        """Its nnpfc_id."""
        return self.base.id


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message of a stream, read as far as this package reads it.

    Attributes:
        placed: The message and its place.
        content: What it says, None of messages of other kinds.
        problem: Why decoders do nothing with it though it is of a kind that they read: it cannot be read, and then
            there is no content; or its filter has a number that H.274 reserves. Empty if nothing is wrong.
    """

    placed: PlacedMessage
    content: FilterContent | None = None
    problem: str = ""

    @property
    def filter_id(self) -> int | None:
        """Number of the filter that it is about, as `filter_number`."""
        return filter_number(self.placed.message)


def listed_message(placed: PlacedMessage) -> ListedMessage:
    """A message with what it says."""
    try:
        content = parse_filter_message(placed.message)
    except (BitstreamError, UnsupportedError) as error:
        return ListedMessage(placed, problem=str(error))
    number = filter_number(placed.message)
    is_ignored = number is not None and is_reserved_id(number)
    return ListedMessage(placed, content, f"H.274 reserves the number {number}: decoders ignore it" * is_ignored)


def listed_messages(placed: Iterable[PlacedMessage]) -> list[ListedMessage]:
    """All messages of a stream with what they say."""
    return [listed_message(each) for each in placed]


def filters_by_picture(stream: VvcStream, filter_id: int | None = None) -> tuple[tuple[StreamFilter, ...], ...]:
    """The filters that run on each picture, in decoding order; most often one.

    An activation holds for its picture, or, if it persists, for those of its sequence that are output from there on,
    until the next one for the same filter. A filter is known from its message on to the end of the sequence. Both go
    on beyond that where this package's settings say so, and what persists from the first picture of a sequence on then
    holds for those too that are output before it.

    Args:
        stream: The stream.
        filter_id: The only filter that matters: what is wrong with others is passed over; None: all.

    Raises:
        BitstreamError: If a message of a filter that runs breaks the syntax, or a filter runs that was not sent.
        UnsupportedError: If settings are of a later version.
    """
    messages = _by_picture(stream, filter_id)
    order = sorted(range(len(stream.pictures)), key=lambda i: (stream.pictures[i].sequence, stream.pictures[i].poc))
    known = _known_filters(stream, messages)
    first_of = {picture.sequence: index for index, picture in reversed(tuple(enumerate(stream.pictures)))}
    found: list[tuple[StreamFilter, ...]] = [()] * len(stream.pictures)
    running: dict[int, NnpfActivation] = {}
    sequence = -1
    for index in order:
        picture = stream.pictures[index]
        if picture.sequence != sequence:
            running = {i: each for i, each in running.items() if i in known[index] and _is_kept(known[index][i])}
            sequence = picture.sequence
            running |= _early_activations(messages[first_of[sequence]], known[first_of[sequence]])
        once: dict[int, NnpfActivation] = {}
        for content in messages[index]:
            if isinstance(content, NnpfActivation):
                running.pop(content.target_id, None)
                if not content.cancel_flag:
                    (running if content.persistence_flag else once)[content.target_id] = content
        active = {**running, **once}
        found[index] = tuple(_chosen(known[index], each, index) for _, each in sorted(active.items()))
    return tuple(found)


def has_leading_pictures(stream: bytes) -> bool:
    """Whether a VVC stream has decodable pictures that are output before the access point that they follow (RADL).

    Raises:
        BitstreamError, UnsupportedError: As `nal_units`.
    """
    return any(unit.nal_unit_type == RADL for unit in nal_units(stream))


@dataclass(frozen=True, slots=True)
class FilteredShare:
    """On how many of the pictures that are output a filter runs."""

    n_filtered: int
    n_pictures: int


def filtered_share(stream: VvcStream, filter_id: int) -> FilteredShare | None:
    """On how many pictures of a VVC stream a filter runs; None where its messages are not read."""
    try:
        running = filters_by_picture(stream, filter_id)
    except (BitstreamError, UnsupportedError):
        return None
    return FilteredShare(sum(bool(running[index]) for index in stream.output_order), len(stream.output_order))


def _early_activations(messages: Sequence[FilterContent], known: dict[int, StreamFilter]) -> dict[int, NnpfActivation]:
    """The activations at the first picture of a sequence that hold for those too that are output before it."""
    found: dict[int, NnpfActivation] = {}
    for each in messages:
        if isinstance(each, NnpfActivation) and each.persistence_flag and not each.cancel_flag:
            filter = known.get(each.target_id)
            if filter is not None and filter.settings is not None and filter.settings.covers_leading:
                found[each.target_id] = each
    return found


def _by_picture(stream: VvcStream, filter_id: int | None) -> list[list[FilterContent]]:
    """What the messages of each picture say of the filter, or of all, in decoding order.

    Damaged ones of filters that never run are left out, and all of filters whose number H.274 reserves, as it asks.
    """
    found: list[list[FilterContent]] = [[] for _ in stream.pictures]
    everything = [placed for placed in sei_messages(stream.data) if placed.picture < len(found)]
    run = {filter_number(placed.message) for placed in everything if placed.message.payload_type == NNPFA}
    for placed in everything:
        number = filter_number(placed.message)
        if number is not None and (filter_id not in (None, number) or is_reserved_id(number)):
            continue
        try:
            content = parse_filter_message(placed.message)
        except BitstreamError:
            if number is None or None in run or number in run:
                raise
            continue
        if content is not None:
            found[placed.picture].append(content)
    return found


def _known_filters(stream: VvcStream, messages: Sequence[Sequence[FilterContent]]) -> list[dict[int, StreamFilter]]:
    """The filters that a decoder knows at each picture, by number."""
    known: dict[int, StreamFilter] = {}
    settings: dict[int, FilterSettings] = {}
    decisions: dict[int, FilterDecisions] = {}
    at_pictures = []
    sequence = -1
    for picture, contents in zip(stream.pictures, messages, strict=True):
        if picture.sequence != sequence:
            known = {number: each for number, each in known.items() if _is_kept(each)}
            settings = {number: each for number, each in settings.items() if each.is_kept}
            sequence = picture.sequence
        known = dict(known)  # that of the picture before stays as it was
        for content in contents:
            if isinstance(content, FilterSettings):
                settings[content.filter_id] = content
            elif isinstance(content, FilterDecisions):
                decisions[content.filter_id] = content
            elif isinstance(content, NnpfCharacteristics):
                known[content.id] = _with_characteristics(known.get(content.id), content)
        known = {
            number: replace(each, settings=settings.get(number), decisions=decisions.get(number))
            for number, each in known.items()
        }
        at_pictures.append(known)
    return at_pictures


def _with_characteristics(before: StreamFilter | None, content: NnpfCharacteristics) -> StreamFilter:
    if content.base_flag:
        return StreamFilter(content, before.update if before is not None and before.base == content else None)
    if before is None:
        raise BitstreamError(f"an update of filter {content.id}, whose base was not sent", field="nnpfc_base_flag")
    return replace(before, update=content)


def _is_kept(known: StreamFilter) -> bool:
    return known.settings is not None and known.settings.is_kept


def _chosen(known: dict[int, StreamFilter], activation: NnpfActivation, index: int) -> StreamFilter:
    found = known.get(activation.target_id)
    if found is None:
        message = f"filter {activation.target_id} runs at picture {index}, and was not sent"
        raise BitstreamError(message, field="nnpfa_target_id")
    if activation.target_base_flag:
        return replace(found, update=None)
    if found.update is None:
        message = f"an update of filter {activation.target_id} runs at picture {index}, and was not sent"
        raise BitstreamError(message, field="nnpfa_target_base_flag")
    return found


def free_filter_id(messages: Iterable[ListedMessage]) -> int:
    """The lowest number that no filter of a stream has, from 1 on, without those that H.274 reserves."""
    used = {message.filter_id for message in messages}
    return next(number for number in itertools.count(1) if number not in used and not is_reserved_id(number))
