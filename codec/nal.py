"""VVC NAL units of a byte stream: where the pictures are, and the hash of each (ITU-T H.266, annex B and clause 7).

Only what checking a decode needs: nothing here decodes samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.sequences.containers import (
    PROGRAM_STREAM,
    TRANSPORT_STREAM,
    StreamKind,
    container_name,
    taking_out,
)

HashType: TypeAlias = Literal["md5", "crc", "checksum"]

START_CODE_BYTES = 3
RADL, RASL = 2, 3
IDR_TYPES = (7, 8)
INTRA_TYPES = range(7, 10)
GDR = 10
LAST_SLICE_TYPE = 11
RESERVED_SLICE_TYPES = frozenset({4, 5, 6, 11})
"""Slices of a later version of H.266; a decoder passes over them (clause 7.4.2.2)."""
SPS, PPS = 15, 16
PARAMETER_SET_ID_BITS = {14: 4, 15: 4, 16: 6, 17: 8}
"""Bits at the beginning of a video, sequence, picture or prefix adaptation parameter set that tell it from others."""

PICTURE_HEADER = 19
ACCESS_UNIT_DELIMITER = 20
END_OF_SEQUENCE, END_OF_BITSTREAM = 21, 22
SUFFIX_SEI = 24
BEFORE_SLICES = frozenset({12, 13, 14, 15, 16, 17, 20, 23, 26, 28, 29})
"""Units that come before the slices of a picture: information on decoding, parameter sets, delimiter, prefix SEI."""

DECODED_PICTURE_HASH = 132
HASHES: tuple[tuple[HashType, int], ...] = (("md5", 16), ("crc", 2), ("checksum", 4))
"""Name and size in bytes of one plane's hash by hash_type."""
_FROM_TRANSPORT = taking_out("vvc", TRANSPORT_STREAM)


@dataclass(frozen=True, slots=True)
class NalUnit:
    """One NAL unit.

    Attributes:
        nal_unit_type: Table 5 of H.266: 0 to 11 are slices, 19 a picture header, 24 a suffix SEI.
        offset_bytes: Where its two-byte header starts in the stream.
        payload: The bytes after the header, emulation prevention still in.
        temporal_id: Its temporal sublayer, 0 to 6.
    """

    nal_unit_type: int
    offset_bytes: int
    payload: bytes
    temporal_id: int = 0


def nal_units(stream: bytes) -> Iterator[NalUnit]:
    """Yields the NAL units of an annex B byte stream in order.

    Raises:
        BitstreamError: If the data does not begin with a start code, or a NAL unit's header breaks the format.
        UnsupportedError: If there is more than one layer, or a header is of another kind (H.264, HEVC).
    """
    start = first_start_code(stream, "VVC byte stream", "vvc")
    while start >= 0:
        begin = start + START_CODE_BYTES
        start = stream.find(b"\x00\x00\x01", begin)
        unit = stream[begin : start if start >= 0 else len(stream)].rstrip(b"\x00")
        _check_header(unit, begin)
        yield NalUnit(unit[1] >> 3, begin, unit[2:], (unit[1] & 7) - 1)


def first_start_code(data: bytes, wanted: str, kind: StreamKind) -> int:
    """Where the first start code of a byte stream is, which only zeros may precede.

    Args:
        data: What was given.
        wanted: What must be given, such as "VVC byte stream".
        kind: FFmpeg's name of that.

    Raises:
        BitstreamError: If there is none, with the way to the stream if the data are a container.
    """
    start = data.find(b"\x00\x00\x01")
    is_byte_stream = start >= 0 and not data[:start].strip(b"\x00")
    container = None if is_byte_stream and data[:4] != PROGRAM_STREAM else container_name(data)
    if container is not None:
        command = taking_out(kind, container)
        raise BitstreamError(f"not a {wanted}, but {container}: take the stream out of it ({command}), and give that")
    if not is_byte_stream:
        raise BitstreamError(f"not a {wanted}: no start code at its beginning", offset_bytes=0)
    return start


def _check_header(unit: bytes, offset_bytes: int) -> None:
    """Checks forbidden_zero_bit, nuh_reserved_zero_bit, nuh_layer_id and nuh_temporal_id_plus1."""
    if len(unit) < 2 or unit[0] & 0x80 or unit[1] & 7 == 0:
        raise BitstreamError("not a NAL unit header", field="nal_unit_header", offset_bytes=offset_bytes)
    if unit[0] & 0x40:
        detail = "as in a stream of H.264 or HEVC; a VVC stream must be given"
        raise UnsupportedError(f"nuh_reserved_zero_bit of the NAL unit at byte {offset_bytes} is 1, {detail}")
    if unit[0]:
        raise UnsupportedError(f"a NAL unit of layer {unit[0] & 63} at byte {offset_bytes}: only one layer is decoded")


def remove_emulation_prevention(payload: bytes) -> bytes:
    """The raw byte sequence payload: each 00 00 03 becomes 00 00 (clause 7.3.1)."""
    return payload.replace(b"\x00\x00\x03", b"\x00\x00")


@dataclass(frozen=True, slots=True)
class PictureUnit:
    """One coded picture as the stream announces it.

    Attributes:
        begin_bytes: Where its access unit starts, with delimiter and parameter sets.
        offset_bytes: Where its first slice or picture header starts.
        nal_unit_type: The type of its first slice.
        is_first: Whether the stream begins with it, or begins anew after an end of sequence.
        has_sps: Whether a sequence parameter set comes with it.
        hash_type: The kind of its decoded picture hash, None if it has none.
        digests: One hash per plane, empty if it has none.
    """

    begin_bytes: int
    offset_bytes: int
    nal_unit_type: int
    is_first: bool = False
    has_sps: bool = False
    hash_type: HashType | None = None
    digests: tuple[bytes, ...] = ()

    @property
    def md5(self) -> tuple[bytes, ...]:
        """One MD5 per plane, empty if it has none."""
        return self.digests if self.hash_type == "md5" else ()


def picture_units(stream: bytes) -> list[PictureUnit]:
    """The coded pictures of a single-layer stream in decoding order, with their hashes.

    A picture starts with a picture header NAL unit or with a slice that carries its picture header
    (sh_picture_header_in_slice_header_flag, the slice's first bit). A delimiter, parameter set or hash whose
    picture is not there tells of a lost one; a stream that lacks whole access units is as good as any other.

    Raises:
        BitstreamError: If the data is no VVC byte stream, lacks a picture, or has a damaged picture hash.
        UnsupportedError: If there is more than one layer.
    """
    pictures: list[PictureUnit] = []
    opened: int | None = None  # where the access unit began whose slices are still to come
    is_delimited = is_first = True  # from a delimiter, or the end of a sequence, to the first slice behind it
    has_sps = False  # from a sequence parameter set to the picture behind it
    is_headed = False  # from a picture header to its first slice
    for unit in nal_units(stream):
        kind, begin = unit.nal_unit_type, unit.offset_bytes - START_CODE_BYTES
        if kind in RESERVED_SLICE_TYPES:
            continue
        is_slice = kind <= LAST_SLICE_TYPE
        if kind == PICTURE_HEADER or (is_slice and unit.payload[:1] >= b"\x80"):
            begin = begin if opened is None else opened
            pictures.append(PictureUnit(begin, unit.offset_bytes, kind, is_first, has_sps))
            is_first, has_sps, is_headed = False, False, kind == PICTURE_HEADER
        elif is_slice and (is_delimited or pictures[-1].digests):
            raise BitstreamError("a slice of no picture", offset_bytes=begin)
        elif is_slice and is_headed:
            pictures[-1], is_headed = replace(pictures[-1], nal_unit_type=kind), False
        elif kind in BEFORE_SLICES:
            if opened is not None and kind == ACCESS_UNIT_DELIMITER:
                said = f"an access unit without a picture (out of {TRANSPORT_STREAM} take it by {_FROM_TRANSPORT})"
                raise BitstreamError(said, offset_bytes=opened)
            opened = begin if opened is None else opened
            is_delimited |= kind == ACCESS_UNIT_DELIMITER
            has_sps |= kind == SPS
        elif kind in (END_OF_SEQUENCE, END_OF_BITSTREAM):
            if opened is not None:
                raise BitstreamError("an access unit without a picture", offset_bytes=opened)
            is_delimited = is_first = True
        elif kind == SUFFIX_SEI:
            _add_hash(pictures, unit, is_late=opened is not None)
        if is_slice or kind == PICTURE_HEADER:
            opened, is_delimited = None, False
    if opened is not None:
        raise BitstreamError("the stream ends before the picture of its last access unit", offset_bytes=opened)
    return pictures


def _add_hash(pictures: list[PictureUnit], unit: NalUnit, *, is_late: bool) -> None:
    """Gives the hash of a suffix SEI to the last picture."""
    found = _picture_hash(remove_emulation_prevention(unit.payload), unit.offset_bytes)
    if found is None:
        return
    if not pictures or is_late or pictures[-1].digests:
        raise BitstreamError("a hash of no picture", field="pic_md5", offset_bytes=unit.offset_bytes)
    hash_type, digests = found
    pictures[-1] = replace(pictures[-1], hash_type=hash_type, digests=digests)


def _picture_hash(rbsp: bytes, offset_bytes: int) -> tuple[HashType, tuple[bytes, ...]] | None:
    """The type and digests of a suffix SEI's picture hash, None without one (H.274, clause 8.12.2)."""
    position = 0
    while position < len(rbsp) - 1:
        payload_type, position = _run_of_ff(rbsp, position)
        size_bytes, position = _run_of_ff(rbsp, position)
        body = rbsp[position : position + size_bytes]
        if len(body) < size_bytes:
            raise BitstreamError("SEI payload is cut short", field="payload_size_byte", offset_bytes=offset_bytes)
        if payload_type == DECODED_PICTURE_HASH:
            return _hash_fields(body, offset_bytes)
        position += size_bytes
    return None


def _hash_fields(body: bytes, offset_bytes: int) -> tuple[HashType, tuple[bytes, ...]]:
    if len(body) < 2 or body[0] >= len(HASHES):
        raise BitstreamError("a picture hash of unknown type", field="hash_type", offset_bytes=offset_bytes)
    hash_type, size = HASHES[body[0]]
    n_planes = 1 if body[1] & 0x80 else 3
    if len(body) != 2 + n_planes * size:
        raise BitstreamError(f"{len(body)} bytes for {n_planes} hashes", field="pic_md5", offset_bytes=offset_bytes)
    return hash_type, tuple(body[2 + i * size : 2 + (i + 1) * size] for i in range(n_planes))


def _run_of_ff(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number coded as a run of 0xFF and a last byte; returns it and the next position."""
    value = 0
    while position < len(data):
        value += data[position]
        position += 1
        if data[position - 1] != 0xFF:
            break
    return value, position
