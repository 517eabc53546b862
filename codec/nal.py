"""VVC NAL units of a byte stream: where the pictures are, and the MD5 of each (ITU-T H.266, annex B and clause 7).

Only what checking a decode needs: nothing here decodes samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vvc_nnr.errors import BitstreamError

PICTURE_HEADER = 19
SUFFIX_SEI = 24
LAST_SLICE_TYPE = 11
DECODED_PICTURE_HASH = 132
MD5_BYTES = 16


@dataclass(frozen=True, slots=True)
class NalUnit:
    """One NAL unit.

    Attributes:
        nal_unit_type: Table 5 of H.266: 0 to 11 are slices, 19 a picture header, 24 a suffix SEI.
        offset_bytes: Where its two-byte header starts in the stream.
        payload: The bytes after the header, emulation prevention still in.
    """

    nal_unit_type: int
    offset_bytes: int
    payload: bytes


def nal_units(stream: bytes) -> Iterator[NalUnit]:
    """Yields the NAL units of an annex B byte stream in order.

    Raises:
        BitstreamError: If the data does not begin with a start code, or a NAL unit has no whole header.
    """
    start = stream.find(b"\x00\x00\x01")
    if start < 0 or stream[:start].strip(b"\x00"):
        raise BitstreamError("not a VVC byte stream: no start code at its beginning", offset_bytes=0)
    while start >= 0:
        begin = start + 3
        start = stream.find(b"\x00\x00\x01", begin)
        unit = stream[begin : start if start >= 0 else len(stream)].rstrip(b"\x00")
        if len(unit) < 2:
            raise BitstreamError("a NAL unit without a header", field="nal_unit_header", offset_bytes=begin)
        if unit[0] & 0x80:
            raise BitstreamError("forbidden_zero_bit is 1", field="nal_unit_header", offset_bytes=begin)
        yield NalUnit(unit[1] >> 3, begin, unit[2:])


def remove_emulation_prevention(payload: bytes) -> bytes:
    """The raw byte sequence payload: each 00 00 03 becomes 00 00 (clause 7.3.1)."""
    parts = []
    begin = 0
    while (found := payload.find(b"\x00\x00\x03", begin)) >= 0:
        parts.append(payload[begin : found + 2])
        begin = found + 3
    return b"".join([*parts, payload[begin:]])


@dataclass(frozen=True, slots=True)
class PictureUnit:
    """One coded picture as the stream announces it.

    Attributes:
        offset_bytes: Where its first slice or picture header starts.
        md5: One digest per plane from the decoded picture hash SEI, empty if the stream has none.
    """

    offset_bytes: int
    md5: tuple[bytes, ...]


def picture_units(stream: bytes) -> list[PictureUnit]:
    """The coded pictures of a single-layer stream in decoding order, with their MD5 digests.

    A picture starts with a picture header NAL unit or with a slice that carries its picture header
    (sh_picture_header_in_slice_header_flag, the slice's first bit).

    Raises:
        BitstreamError: If the data is no VVC byte stream, or a picture hash is cut short or has no picture.
    """
    pictures: list[PictureUnit] = []
    for unit in nal_units(stream):
        is_slice = unit.nal_unit_type <= LAST_SLICE_TYPE
        if unit.nal_unit_type == PICTURE_HEADER or (is_slice and unit.payload[:1] >= b"\x80"):
            pictures.append(PictureUnit(unit.offset_bytes, ()))
        elif unit.nal_unit_type == SUFFIX_SEI and pictures:
            md5 = _picture_md5(remove_emulation_prevention(unit.payload), unit.offset_bytes)
            if md5 and pictures[-1].md5:
                raise BitstreamError("two hashes for one picture", field="pic_md5", offset_bytes=unit.offset_bytes)
            if md5:
                pictures[-1] = PictureUnit(pictures[-1].offset_bytes, md5)
    return pictures


def _picture_md5(rbsp: bytes, offset_bytes: int) -> tuple[bytes, ...]:
    """The MD5 digests of a suffix SEI, empty when it holds no MD5 picture hash (H.274, clause 8.12.2)."""
    position = 0
    while position < len(rbsp) - 1:
        payload_type, position = _run_of_ff(rbsp, position)
        size_bytes, position = _run_of_ff(rbsp, position)
        body = rbsp[position : position + size_bytes]
        if len(body) < size_bytes:
            raise BitstreamError("SEI payload is cut short", field="payload_size_byte", offset_bytes=offset_bytes)
        if payload_type == DECODED_PICTURE_HASH and size_bytes >= 2 and body[0] == 0:
            digests = body[2:]
            n_planes = 1 if body[1] & 0x80 else 3
            if len(digests) < n_planes * MD5_BYTES:
                raise BitstreamError("MD5 is cut short", field="pic_md5", offset_bytes=offset_bytes)
            return tuple(digests[i * MD5_BYTES : (i + 1) * MD5_BYTES] for i in range(n_planes))
        position += size_bytes
    return ()


def _run_of_ff(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number coded as a run of 0xFF and a last byte; returns it and the next position."""
    value = 0
    while position < len(data):
        value += data[position]
        position += 1
        if data[position - 1] != 0xFF:
            break
    return value, position
