"""Whether a video file is as long as its container says: MP4 and MOV, Matroska and WebM, AVI, Ogg, MPEG-TS, AV1 (OBU).

FFmpeg reads what is there of a file that was cut off, and for Matroska, AVI and AV1 says nothing.
"""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path

from vvc_nnr.errors import BitstreamError
from vvc_nnr.files import open_input

_SYNC, _TS_PACKET_BYTES = b"\x47", 188
_BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix meta uuid free skip wide pnot udta".split())
_RIFF_UNKNOWN = 0x7FFFF000
"""From here on sizes stand for a recording whose end was never written."""
_OGG_PAGE, _OGG_HEAD_BYTES, _OGG_IS_LAST = b"OggS", 27, 4
_OBU_DELIMITER = b"\x12\x00"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check_container_end(path: Path) -> None:
    """Holds the sizes in a container's outermost headers against the file's.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError: If the file ends before its container does.
    """
    with open_input(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[4:8] in _BOXES:
            end_bytes = _end_of_boxes(file, size_bytes)
        elif head[:4] == _EBML:
            end_bytes = _end_of_segment(file)
        elif head[:4] == _OGG_PAGE:
            end_bytes = _end_of_pages(file)
        elif head[:4] == b"RIFF":
            length = int.from_bytes(head[4:8], "little")
            end_bytes = 8 + length if length < _RIFF_UNKNOWN else 0
        elif head[:1] == _SYNC and _is_transport_stream(file):
            end_bytes = -(-size_bytes // _TS_PACKET_BYTES) * _TS_PACKET_BYTES
        elif head[:2] == _OBU_DELIMITER:
            end_bytes = _end_of_obus(file, size_bytes)
        elif path.suffix.lower() == ".obu":
            end_bytes = _end_of_temporal_units(file, size_bytes)
        else:
            return
    if end_bytes > size_bytes:
        raise BitstreamError(
            f"{path}: truncated, its container ends at byte {end_bytes} and the file at {size_bytes}; "
            "--allow-damaged reads what is there"
        )


def _is_transport_stream(file: BufferedReader) -> bool:
    """Whether the first packets each begin with the byte of synchronisation."""
    file.seek(0)
    head = file.read(4 * _TS_PACKET_BYTES)
    return len(head) >= 2 * _TS_PACKET_BYTES and set(head[::_TS_PACKET_BYTES]) == set(_SYNC)


def _end_of_boxes(file: BufferedReader, size_bytes: int) -> int:
    """Where the last outermost box of an ISO base media file ends."""
    at = 0
    while at + 8 <= size_bytes:
        file.seek(at)
        head = file.read(16)
        if head[4:8] not in _BOXES:  # what a phone or an editor has put behind the last box
            return size_bytes
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            return size_bytes
        at += length
    return at


def _end_of_pages(file: BufferedReader) -> int:
    """Where the last page of an Ogg file ends; one byte more if a stream lacks the page that is marked as its last."""
    at, opened = 0, set[bytes]()
    while True:
        file.seek(at)
        head = file.read(_OGG_HEAD_BYTES)
        if head[:4] != _OGG_PAGE[: max(len(head), 1)]:  # the end, or what stands behind the last page
            return at + bool(opened)
        if len(head) < _OGG_HEAD_BYTES:
            return at + _OGG_HEAD_BYTES
        serial_number, n_segments = head[14:18], head[26]
        at += _OGG_HEAD_BYTES + n_segments + sum(file.read(n_segments))
        (opened.discard if head[5] & _OGG_IS_LAST else opened.add)(serial_number)


def _end_of_obus(file: BufferedReader, size_bytes: int) -> int:
    """Where the last open bitstream unit of a low-overhead AV1 stream ends (AV1 specification, section 5)."""
    at = 0
    while at < size_bytes:
        file.seek(at)
        head = file.read(2)
        has_extension, has_size = head[0] >> 2 & 1, head[0] >> 1 & 1
        if not has_size:  # up to the end of the file
            return size_bytes
        file.seek(at + 1 + has_extension)
        length = _leb128(file)
        at = file.tell() + length
    return at


def _end_of_temporal_units(file: BufferedReader, size_bytes: int) -> int:
    """Where the last temporal unit of a length-delimited AV1 stream ends (AV1 specification, annex B)."""
    at = 0
    while at < size_bytes:
        file.seek(at)
        length = _leb128(file)
        at = file.tell() + length
    return at


def _leb128(file: BufferedReader) -> int:
    """A number of AV1 in groups of 7 bits, the lowest first."""
    value = 0
    for shift in range(0, 56, 7):
        byte = int.from_bytes(file.read(1), "little")
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value


def _end_of_segment(file: BufferedReader) -> int:
    """Where the segment of a Matroska file ends, 0 if it does not say."""
    file.seek(4)
    file.seek(_vint(file) or 0, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BufferedReader) -> int | None:
    """A variable-length number of EBML; None for the reserved value of an unknown size, and where it ends early."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    n_more_bytes = 8 - first[0].bit_length()
    data = bytes([first[0] & 0x7F >> n_more_bytes]) + file.read(n_more_bytes)
    value = int.from_bytes(data, "big")
    return None if value == (1 << 7 * (n_more_bytes + 1)) - 1 else value
