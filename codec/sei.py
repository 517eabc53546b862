"""SEI messages of a finished byte stream: found, put in and taken out, without decoding a sample.

VVC, HEVC and AVC write these messages alike (ITU-T H.266, clause 7.3.2.16; H.265, 7.3.2.4; H.264, 7.3.2.3), so one
reader serves them all. What is put in has a NAL unit of its own, so taking it out gives the old stream, byte for byte.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vvc_nnr.codec.nal import first_start_code, remove_emulation_prevention
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.containers import container_name_of, taking_out

VideoStandard: TypeAlias = Literal["vvc", "hevc", "avc"]
Placement: TypeAlias = Literal["once", "sequence", "irap", "picture"]
"""Before the first picture; each that begins a coded video sequence; each random access point; every picture."""

SUFFIXES: dict[str, VideoStandard] = {
    **dict.fromkeys((".266", ".vvc", ".h266", ".bit", ".bin"), "vvc"),
    **dict.fromkeys((".265", ".hevc", ".h265"), "hevc"),
    **dict.fromkeys((".264", ".avc", ".h264"), "avc"),
}
USER_DATA_UNREGISTERED = 5
UUID_BYTES = 16
_START_CODE = b"\x00\x00\x01"
_LONG_START_CODE = b"\x00\x00\x00\x01"
_TRAILING_BITS = 0x80
_SHARES_WITH = {
    **dict.fromkeys((0, 130, 203), "timing"),
    1: "picture timing",
    3: "filler",
    129: "parameter sets",
    133: "nesting",
}
"""Messages that share a NAL unit with their like alone (annexes D of H.266 and H.265): buffering period, decoding unit
information and levels of subpictures; picture timing, which VVC keeps apart from those too where all layer sets have
the same; filler; active parameter sets of HEVC; nested messages, whatever they hold."""
_MUST_ESCAPE = re.compile(rb"\x00\x00(?=[\x00-\x03])")


@dataclass(frozen=True, slots=True)
class SeiMessage:
    """One SEI message.

    Attributes:
        payload_type: Which message it is: 5 user data with a UUID, 132 a picture hash, 210 and 211 neural filters.
        payload: Its bytes, without emulation prevention.
    """

    payload_type: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PlacedMessage:
    """An SEI message where a stream has it.

    Attributes:
        message: What it says.
        is_suffix: Whether its NAL unit follows the slices of its picture.
        offset_bytes: Where its NAL unit starts in the stream.
        picture: Number of its picture in decoding order, from 0.
        size_bytes: What it takes in the stream with its type and size; its NAL unit is not counted.
    """

    message: SeiMessage
    is_suffix: bool
    offset_bytes: int
    picture: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _NalSyntax:
    """How one standard writes what matters here.

    Attributes:
        header_bytes: Size of a NAL unit's header.
        first_slices: Types of units that begin a picture where their first bit is 1.
        slices: Types of all units that hold a picture.
        picture_header: Type of a unit that begins a picture without being part of a slice, None if there is none.
        idr: Types of pictures that begin a sequence wherever they are.
        irap: Types of all random access points.
        prefix_sei: Type of an SEI unit in front of slices.
        suffix_sei: Type of one behind them, None if there is none.
        ends: Types that end a sequence.
    """

    header_bytes: int
    first_slices: frozenset[int]
    slices: frozenset[int]
    picture_header: int | None
    idr: frozenset[int]
    irap: frozenset[int]
    prefix_sei: int
    suffix_sei: int | None
    ends: frozenset[int]


_SYNTAX: dict[VideoStandard, _NalSyntax] = {
    "vvc": _NalSyntax(
        header_bytes=2,
        first_slices=frozenset({0, 1, 2, 3, 7, 8, 9, 10}),
        slices=frozenset(range(12)),
        picture_header=19,
        idr=frozenset({7, 8}),
        irap=frozenset({7, 8, 9}),
        prefix_sei=23,
        suffix_sei=24,
        ends=frozenset({21, 22}),
    ),
    "hevc": _NalSyntax(
        header_bytes=2,
        first_slices=frozenset({*range(10), *range(16, 22)}),
        slices=frozenset(range(32)),
        picture_header=None,
        idr=frozenset(range(16, 21)),
        irap=frozenset(range(16, 24)),
        prefix_sei=39,
        suffix_sei=40,
        ends=frozenset({36, 37}),
    ),
    "avc": _NalSyntax(
        header_bytes=1,
        first_slices=frozenset({1, 2, 5}),
        slices=frozenset(range(1, 6)),
        picture_header=None,
        idr=frozenset({5}),
        irap=frozenset({5}),
        prefix_sei=6,
        suffix_sei=None,
        ends=frozenset({10, 11}),
    ),
}
_NAL_UNITS_OF_ONE_LAYER = 21
"""Types of H.264 from 14 to 21 belong to extensions with more layers or views."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """One NAL unit.

    Attributes:
        kind: Its type.
        temporal_layer: Its TemporalId.
        begin: Where its header begins.
        end: Where its last byte but zeros ends.
        starts_picture: Whether it begins a picture.
    """

    kind: int
    temporal_layer: int
    begin: int
    end: int
    starts_picture: bool


def standard_of(path: Path) -> VideoStandard:
    """The video standard that a file's suffix stands for.

    Raises:
        InputError: If it stands for none.
    """
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"{path}: suffix {path.suffix!r} of a video stream: must be one of {', '.join(SUFFIXES)}; out of a "
            f"container a stream is taken by {taking_out('vvc', container_name_of(path))} (hevc .265, h264 .264)"
        )
    return found


def check_same_standard(output: Path, standard: VideoStandard) -> None:
    """Raises InputError if a file for a stream of a standard has the suffix of another one."""
    told = SUFFIXES.get(output.suffix.lower(), standard)
    if told != standard:
        raise InputError(f"{output}: the stream is {standard.upper()}, the suffix is that of {told.upper()}; change it")


def sei_messages(stream: bytes, standard: VideoStandard = "vvc") -> list[PlacedMessage]:
    """The SEI messages of a byte stream in order, each as its bytes.

    Raises:
        BitstreamError: If the data is no byte stream, or an SEI unit's sizes do not fit into it.
        UnsupportedError: If there is more than one layer, or the stream is of another standard.
    """
    syntax = _SYNTAX[standard]
    found: list[PlacedMessage] = []
    picture = -1
    for unit in _units(stream, standard):
        if unit.starts_picture:
            picture += 1
        elif unit.kind == syntax.prefix_sei or unit.kind == syntax.suffix_sei:
            is_suffix = unit.kind == syntax.suffix_sei
            number = picture if is_suffix else picture + 1
            for message, size_bytes in _messages_of(stream, unit, syntax):
                found.append(PlacedMessage(message, is_suffix, unit.begin, number, size_bytes))
    if picture < 0 and not found:
        raise BitstreamError(f"holds neither a picture nor an SEI message (taken for {standard.upper()})")
    return found


def insert_sei(
    stream: bytes,
    messages: Sequence[SeiMessage],
    *,
    at: Placement = "sequence",
    suffix: bool = False,
    standard: VideoStandard = "vvc",
    at_first: Sequence[SeiMessage] = (),
    behind_others: bool = False,
) -> bytes:
    """The stream with messages put into a NAL unit of their own, as often as `at` says.

    Args:
        stream: The byte stream.
        messages: What to put in, in this order.
        at: At which pictures; "once" is the first alone.
        suffix: Behind the slices of the picture, instead of right before them.
        standard: The standard of the stream.
        at_first: What to put in behind the messages at the first picture alone.
        behind_others: With `suffix`, behind the messages that are behind the slices already, as an update must be.

    Raises:
        InputError: If a message cannot be written, or the standard has no suffix SEI.
        BitstreamError: If the data is no byte stream, or holds no picture.
        UnsupportedError: If there is more than one layer, or the stream is of another standard.
    """
    if at not in get_args(Placement):
        raise InputError(f"place of SEI messages {at!r}: must be one of {', '.join(get_args(Placement))}")
    places = _places(stream, at, suffix, standard, behind_others)
    inserted = {
        layer: inserted_units(messages, suffix=suffix, standard=standard, temporal_layer=layer)
        for layer in {layer for _, layer in places}
    }
    both = (*messages, *at_first)
    first = inserted_units(both, suffix=suffix, standard=standard, temporal_layer=places[0][1])
    parts: list[bytes] = []
    begin = 0
    for number, (place, layer) in enumerate(places):
        parts += [stream[begin:place], inserted[layer] if number else first]
        begin = place
    return b"".join([*parts, stream[begin:]])


def inserted_units(
    messages: Iterable[SeiMessage], *, suffix: bool = False, standard: VideoStandard = "vvc", temporal_layer: int = 0
) -> bytes:
    """What `insert_sei` puts into a stream at one picture; arguments and errors as those of `sei_nal_unit`.

    Messages share a NAL unit, which takes 7 bytes, as far as the standards let them.
    """
    units = (
        sei_nal_unit(group, suffix=suffix, standard=standard, temporal_layer=temporal_layer)
        for _, group in itertools.groupby(messages, key=lambda message: _SHARES_WITH.get(message.payload_type))
    )
    return b"".join(_LONG_START_CODE + unit for unit in units)


def remove_sei(
    stream: bytes,
    is_removed: Callable[[SeiMessage], bool],
    standard: VideoStandard = "vvc",
    *,
    at: Placement = "picture",
) -> bytes:
    """The stream without some of its SEI messages; a NAL unit goes when nothing is left in it.

    Args:
        stream: The byte stream.
        is_removed: Which messages go.
        standard: The standard of the stream.
        at: At which pictures, as `insert_sei` chooses them.

    Raises:
        BitstreamError: If the data is no byte stream, or an SEI unit's sizes do not fit into it.
        UnsupportedError: If there is more than one layer, or the stream is of another standard.
    """
    syntax = _SYNTAX[standard]
    pictures = None if at == "picture" else _pictures(stream, standard)
    chosen = None if pictures is None else {n for n, each in enumerate(pictures) if _is_chosen(each, n, at, syntax)}
    parts: list[bytes] = []
    copied = end_before = 0  # what is copied, and where the unit before this one ended
    picture = -1
    for unit in _units(stream, standard):
        picture += unit.starts_picture
        if unit.kind == syntax.prefix_sei or unit.kind == syntax.suffix_sei:
            messages = [message for message, _ in _messages_of(stream, unit, syntax)]
            is_here = chosen is None or picture + (unit.kind == syntax.prefix_sei) in chosen
            kept = [message for message in messages if not (is_here and is_removed(message))]
            if len(kept) < len(messages):
                header = stream[unit.begin : unit.begin + syntax.header_bytes]
                parts.append(stream[copied : unit.begin if kept else end_before])
                parts.append(_nal_unit(header, kept) if kept else b"")
                copied = unit.end
        end_before = unit.end
    return b"".join([*parts, stream[copied:]])


def sei_nal_unit(
    messages: Iterable[SeiMessage], *, suffix: bool = False, standard: VideoStandard = "vvc", temporal_layer: int = 0
) -> bytes:
    """A NAL unit that holds messages, without start code.

    Args:
        messages: The messages, in this order, of types that may share one.
        suffix: Whether it follows the slices of its picture.
        standard: The standard of the stream.
        temporal_layer: The TemporalId of its picture, which must be its own; H.264 has none.

    Raises:
        InputError: If a payload type is negative, or the standard has no suffix SEI.
    """
    messages = [*messages]
    syntax = _SYNTAX[standard]
    kind = syntax.suffix_sei if suffix else syntax.prefix_sei
    if kind is None:
        raise InputError("SEI behind the slices of a picture: H.264 has none, put it before them")
    for message in messages:
        if message.payload_type < 0:
            raise InputError(f"payload type {message.payload_type} of an SEI message: must not be negative")
    layer = temporal_layer + 1
    numbers = {"vvc": (0, kind << 3 | layer), "hevc": (kind << 1, layer), "avc": (kind,)}
    return _nal_unit(bytes(numbers[standard]), messages)


def user_data(uuid: bytes, data: bytes) -> SeiMessage:
    """Unregistered user data: 16 bytes that tell whose they are, and bytes of any kind (H.274, clause 8.5).

    Raises:
        InputError: If the UUID has not 16 bytes.
    """
    if len(uuid) != UUID_BYTES:
        raise InputError(f"a UUID of {len(uuid)} bytes: must be {UUID_BYTES}")
    return SeiMessage(USER_DATA_UNREGISTERED, uuid + data)


def add_emulation_prevention(payload: bytes) -> bytes:
    """The bytes of a NAL unit: a 3 is put behind 00 00 where 00, 01, 02 or 03 would follow (clause 7.4.2)."""
    return _MUST_ESCAPE.sub(b"\x00\x00\x03", payload)


def _nal_unit(header: bytes, messages: Iterable[SeiMessage]) -> bytes:
    body = b"".join(_ff_coded(m.payload_type) + _ff_coded(len(m.payload)) + m.payload for m in messages)
    return header + add_emulation_prevention(body + bytes([_TRAILING_BITS]))


def _ff_coded(value: int) -> bytes:
    return b"\xff" * (value // 255) + bytes([value % 255])


def _units(stream: bytes, standard: VideoStandard) -> Iterator[_Unit]:
    """The NAL units in one pass, nothing of them copied but the last bytes of each."""
    syntax = _SYNTAX[standard]
    start = first_start_code(stream, "video byte stream", "h264" if standard == "avc" else standard)
    while start >= 0:
        begin = start + len(_START_CODE)
        start = stream.find(_START_CODE, begin)
        end = _end_without_zeros(stream, begin, start if start >= 0 else len(stream))
        behind = begin + syntax.header_bytes
        if end < behind and end - begin < syntax.header_bytes:
            raise BitstreamError("a NAL unit ends in its header", field="nal_unit_header", offset_bytes=begin)
        kind = _kind(stream[begin:behind], begin, standard)
        temporal_layer = 0 if standard == "avc" else (stream[begin + 1] & 7) - 1
        first_bit = behind < end and stream[behind] >= 0x80
        starts = kind == syntax.picture_header or (first_bit and kind in syntax.first_slices)
        yield _Unit(kind, temporal_layer, begin, end, starts)


def _end_without_zeros(stream: bytes, begin: int, end: int) -> int:
    """Where the last byte that is not zero ends; zeros behind it belong to the next start code or to nothing."""
    if end > begin and stream[end - 1]:
        return end
    return begin + len(stream[begin:end].rstrip(b"\x00"))


def _kind(header: bytes, offset_bytes: int, standard: VideoStandard) -> int:
    """The type of a NAL unit of the lowest layer."""
    if header[0] & 0x80 or (standard != "avc" and header[1] & 7 == 0):
        raise BitstreamError("not a NAL unit header", field="nal_unit_header", offset_bytes=offset_bytes)
    if standard == "avc":
        kind, layer = header[0] & 31, 0
        if 14 <= kind <= _NAL_UNITS_OF_ONE_LAYER and kind != 19:
            layer = 1
    elif standard == "hevc":
        kind, layer = header[0] >> 1, (header[0] & 1) << 5 | header[1] >> 3
    else:
        kind, layer = header[1] >> 3, header[0] & 63
        if header[0] & 0x40:
            raise UnsupportedError(
                f"nuh_reserved_zero_bit of the NAL unit at byte {offset_bytes} is 1, as in a stream of H.264 or HEVC: "
                "give it the suffix of its standard, or a VVC stream"
            )
    if layer:
        raise UnsupportedError(
            f"a NAL unit of layer {layer} at byte {offset_bytes}: only one layer is read (taken for {standard.upper()})"
        )
    return kind


def _messages_of(stream: bytes, unit: _Unit, syntax: _NalSyntax) -> Iterator[tuple[SeiMessage, int]]:
    """Yields the messages of an SEI unit, and the bytes of each with its type and size."""
    rbsp = remove_emulation_prevention(stream[unit.begin + syntax.header_bytes : unit.end])
    if not rbsp or rbsp[-1] != _TRAILING_BITS:
        raise BitstreamError("an SEI unit must end with 0x80", field="rbsp_trailing_bits", offset_bytes=unit.begin)
    position, last = 0, len(rbsp) - 1
    while position < last:
        begin = position
        payload_type, position = _read_ff_coded(rbsp, position, "payload_type_byte", unit.begin)
        size, position = _read_ff_coded(rbsp, position, "payload_size_byte", unit.begin)
        if position + size > last:
            message = f"an SEI message of {size} bytes, and {max(0, last - position)} are left of its unit"
            raise BitstreamError(message, field="payload_size_byte", offset_bytes=unit.begin)
        yield SeiMessage(payload_type, rbsp[position : position + size]), position + size - begin
        position += size


def _read_ff_coded(data: bytes, position: int, field: str, offset_bytes: int) -> tuple[int, int]:
    """A number coded as a run of 0xFF and a last byte, and the next position; the last byte of `data` is no part."""
    begin = position
    while position < len(data) - 1 and data[position] == 0xFF:
        position += 1
    if position >= len(data) - 1:
        raise BitstreamError("an SEI unit ends in the header of a message", field=field, offset_bytes=offset_bytes)
    return 255 * (position - begin) + data[position], position + 1


@dataclass(slots=True)
class _Picture:
    """A picture among the NAL units.

    Attributes:
        end_before: Where the unit before its first one ends.
        end: Where its last slice ends.
        end_of_suffixes: Where its last slice, or the last message behind it, ends.
        kind: Type of its first slice; of its header, as long as no slice is seen.
        temporal_layer: Its TemporalId.
        is_first: Whether it is the first of the stream, or behind the end of a sequence.
    """

    end_before: int
    end: int
    end_of_suffixes: int
    kind: int
    temporal_layer: int
    is_first: bool


def _places(
    stream: bytes, at: Placement, suffix: bool, standard: VideoStandard, behind_others: bool
) -> list[tuple[int, int]]:
    """Where messages go, ascending: ends of the units in front of them; and the temporal layer of each picture."""
    pictures = enumerate(_pictures(stream, standard))
    chosen = [each for number, each in pictures if _is_chosen(each, number, at, _SYNTAX[standard])]
    if not suffix:
        return [(each.end_before, each.temporal_layer) for each in chosen]
    return [(each.end_of_suffixes if behind_others else each.end, each.temporal_layer) for each in chosen]


def _pictures(stream: bytes, standard: VideoStandard) -> list[_Picture]:
    syntax = _SYNTAX[standard]
    pictures: list[_Picture] = []
    end_before, is_first = 0, True
    for unit in _units(stream, standard):
        if unit.starts_picture:
            pictures.append(_Picture(end_before, unit.end, unit.end, unit.kind, unit.temporal_layer, is_first))
            is_first = False
        elif unit.kind == syntax.suffix_sei and pictures:
            pictures[-1].end_of_suffixes = unit.end
        elif unit.kind in syntax.slices and pictures:
            pictures[-1].end = pictures[-1].end_of_suffixes = unit.end
            if pictures[-1].kind == syntax.picture_header:
                pictures[-1].kind = unit.kind
        elif unit.kind in syntax.ends:
            is_first = True
        end_before = unit.end
    if not pictures:
        raise BitstreamError("the stream holds no picture")
    return pictures


def _is_chosen(picture: _Picture, number: int, at: Placement, syntax: _NalSyntax) -> bool:
    if at == "once":
        return number == 0
    if at == "picture" or picture.is_first:
        return True
    return picture.kind in (syntax.idr if at == "sequence" else syntax.irap)
