"""What containers of videos say that PyAV does not give: what they are, where they end, how pictures are to be cut.

Matroska crops by PixelCrop elements (RFC 9559, section 5.1.4.1.28), ISO base media and QuickTime files by a clean
aperture, `clap` (ISO/IEC 14496-12, section 12.1.4). FFmpeg's command line obeys both, its decoders do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import Literal, TypeAlias

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import open_input

StreamKind: TypeAlias = Literal["vvc", "hevc", "h264"]
"""FFmpeg's name of a kind of byte stream."""
PROGRAM_STREAM = b"\x00\x00\x01\xba"
"""How an MPEG program stream begins, which is a start code as well."""
_SUFFIXES: dict[StreamKind, str] = {"vvc": "266", "hevc": "265", "h264": "264"}
AVI = "an AVI file"
TRANSPORT_STREAM = "an MPEG transport stream"
"""What `container_name` calls one."""
_TS_LAYOUTS = ((0, 188), (4, 192), (0, 204))
"""Where packets begin, and how long they are: plain, with times (.m2ts), with error correction."""
_HEAD_BYTES = 1024
_SYNC, _TS_PACKET_BYTES = b"\x47", 188
_BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix emsg prft meta uuid free skip wide pnot udta".split())
_BOX_HEAD_BYTES = 8
_FRAGMENT_BOXES = frozenset(
    b"mfhd traf tfhd tfdt trun sdtp sbgp sgpd subs saiz saio senc sdep pssh meta uuid free skip udta".split()
)
_RIFF_UNKNOWN = 0x7FFFF000
"""From here on sizes stand for a recording whose end was never written."""
_OGG_PAGE, _OGG_HEAD_BYTES, _OGG_IS_LAST = b"OggS", 27, 4
_OBU_DELIMITER = b"\x12\x00"
_JPEG, _JPEG_END, _JPEG_PADDING = b"\xff\xd8\xff", b"\xff\xd9", b"\0\xff\r\n"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def container_name(head: bytes) -> str | None:
    """What kind of container a file is by its first kilobyte, such as "a Matroska file"; None if it is none known."""
    if head[4:8] in _BOXES:
        return "an MP4 or QuickTime file"
    if head[:4] == _EBML:
        return "a Matroska file"
    if head[:4] == PROGRAM_STREAM:
        return "an MPEG program stream"
    if head[:3] == b"FLV":
        return "a Flash video"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    for first, n_bytes in _TS_LAYOUTS:
        packets = head[first:_HEAD_BYTES:n_bytes]
        if len(packets) > 1 and set(packets) == set(_SYNC):
            return TRANSPORT_STREAM
    return None


def container_name_of(path: Path) -> str | None:
    """`container_name` of a file; None as well if it cannot be read."""
    try:
        with open_input(path) as file:
            return container_name(file.read(_HEAD_BYTES))
    except InputError:
        return None


def taking_out(kind: StreamKind, container: str | None = None) -> str:
    """The command that takes a byte stream out of a container.

    Args:
        kind: What the stream is.
        container: As `container_name` says. FFmpeg writes access units of VVC into MPEG transport streams with a second
            delimiter and parameter sets before each, which no byte stream may have: delimiters are left out then. VVC
            in AVI it only knows if it is told.
    """
    has_delimiters = kind == "vvc" and container == TRANSPORT_STREAM
    without = "-bsf:v filter_units=remove_types=20 " if has_delimiters else ""
    decoder = "-c:v vvc " if kind == "vvc" and container == AVI else ""
    return f"ffmpeg {decoder}-i FILE -c copy {without}-f {kind} out.{_SUFFIXES[kind]}"


def check_container_end(path: Path) -> None:
    """Holds the sizes in a container's outermost headers against the file's, and those of an MP4's fragments.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError: If the file ends before its container does, or the list of a fragment's pictures is damaged.
    """
    with open_input(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[4:8] in _BOXES:
            if damage := next(_damaged_fragments(file, size_bytes), None):
                raise BitstreamError(f"{path}: damaged, {damage}; allow_damaged (--allow-damaged) reads what is there")
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
        elif head[:3] == _JPEG:
            end_bytes = size_bytes + (not _ends_as_jpeg(file))
        elif head[:2] == _OBU_DELIMITER:
            end_bytes = _end_of_obus(file, size_bytes)
        elif path.suffix.lower() == ".obu":
            end_bytes = _end_of_temporal_units(file, size_bytes)
        else:
            return
    if end_bytes > size_bytes:
        raise BitstreamError(
            f"{path}: truncated, its container ends at byte {end_bytes} and the file at {size_bytes}; "
            "allow_damaged (--allow-damaged) reads what is there"
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


def _damaged_fragments(file: BufferedReader, size_bytes: int) -> Iterator[str]:
    """What is wrong with the lists of pictures, `moof`, that stand before the data, `mdat`, of an MP4 file's fragments.

    FFmpeg passes over what it does not find in them, and with it over pictures.
    """
    places = list(_boxes(file, 0, size_bytes, None))
    kinds = [_bytes_at(file, begin - 4, 4) for begin, _ in places]  # for sizes of eight bytes, of mdat alone, any
    if b"moof" not in kinds:
        return
    if kinds.count(b"moov") > 1:
        yield f"{kinds.count(b'moov')} boxes moov, must be one"
    for (begin, _), before, kind, behind in zip(places, (b"", *kinds), kinds, (*kinds[1:], b""), strict=False):
        is_no_name = not kind.isalnum() and any(kind)
        if kind not in _BOXES and (before == b"moof" or behind == b"mdat" or is_no_name):
            yield f"{kind!r} at byte {begin - 4}, where pictures or their list must be (mdat, moof)"
    for (begin, end), kind in zip(places, kinds, strict=True):
        if kind == b"moof":
            yield from _damaged_boxes(file, begin, end)


def _damaged_boxes(file: BufferedReader, begin: int, end: int) -> Iterator[str]:
    """What is wrong with the boxes in a `moof` or `traf`: their names, sizes, and tables of pictures, `trun`."""
    at = begin
    while at < end:
        length, kind = int.from_bytes(_bytes_at(file, at, 4), "big"), _bytes_at(file, at + 4, 4)
        if not _BOX_HEAD_BYTES <= length <= end - at or kind not in _FRAGMENT_BOXES:
            yield f"the list of a fragment's pictures holds {kind!r} of {length} bytes at byte {at}"
            return
        if kind == b"traf":
            yield from _damaged_boxes(file, at + _BOX_HEAD_BYTES, at + length)
        elif kind == b"trun":
            flags, n_pictures = (int.from_bytes(_bytes_at(file, at + place, 4), "big") for place in (8, 12))
            n_fields = (flags & 0xF00).bit_count()  # duration, size, flags and offset of each
            wanted = 16 + 4 * (flags & 5).bit_count() + 4 * n_fields * n_pictures
            if length != wanted:
                yield f"the table at byte {at} has {length} bytes; its {n_pictures} pictures take {wanted}"
        at += length


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


def _ends_as_jpeg(file: BufferedReader) -> bool:
    """Whether a sequence of JPEG pictures ends with the mark of the end of one, which padding may follow."""
    at, tail = file.seek(0, os.SEEK_END), b""
    while at and not tail:
        at = max(0, at - 4096)
        file.seek(at)
        tail = file.read(4096).rstrip(_JPEG_PADDING)
    return tail.endswith(_JPEG_END[-1:]) and _bytes_at(file, at + len(tail) - 2, 2) == _JPEG_END


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


@dataclass(frozen=True, slots=True)
class Crop:
    """Samples to cut off at each side of a stored picture."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


def container_crops(path: Path) -> list[Crop]:
    """How the container says that pictures are to be cut, for each of its videos in the order of its tracks.

    Returns:
        One window for each track of video, cover pictures not counted; none of other containers than Matroska, ISO
        base media and QuickTime.

    Raises:
        InputError: If the file cannot be read.
        UnsupportedError: If a window does not lie on whole samples inside of the picture.
    """
    with open_input(path) as file:
        head = file.read(12)
        try:
            if head[:4] == _EBML:
                return list(_matroska_crops(file))
            return list(_aperture_crops(file)) if head[4:8] in _BOXES else []
        except _OddCropError as error:
            raise UnsupportedError(f"{path}: {error}") from error


class _OddCropError(Exception):
    pass


_TRACKS, _TRACK, _TRACK_TYPE, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\x83", b"\xe0"
_CROPS = {b"\x54\xcc": "left", b"\x54\xdd": "right", b"\x54\xbb": "top", b"\x54\xaa": "bottom"}
_IS_VIDEO = 1
_MOST_NUMBER_BYTES = 8


def _matroska_crops(file: BufferedReader) -> Iterator[Crop]:
    for segment in _elements(file, 0, file.seek(0, os.SEEK_END), _SEGMENT):
        for tracks in _elements(file, *segment, _TRACKS):
            for track in _elements(file, *tracks, _TRACK):
                kinds = [_number(file, *place) for place in _elements(file, *track, _TRACK_TYPE)]
                if kinds[:1] == [_IS_VIDEO]:
                    sides = {
                        side: _number(file, *place)
                        for video in _elements(file, *track, _VIDEO)
                        for name, side in _CROPS.items()
                        for place in _elements(file, *video, name)
                    }
                    yield Crop(**sides)


def _elements(file: BufferedReader, begin: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of the contents of each element of an identifier between two places in the file."""
    at = begin
    while at < end:
        file.seek(at)
        first = file.read(1)
        if not first or first[0] == 0:
            return
        identifier = first + file.read(8 - first[0].bit_length())
        length = _vint(file)
        content = file.tell()
        at = end if length is None else min(end, content + length)
        if identifier == wanted:
            yield content, at


def _number(file: BufferedReader, begin: int, end: int) -> int:
    file.seek(begin)
    return int.from_bytes(file.read(min(end - begin, _MOST_NUMBER_BYTES)), "big")


_VISUAL_ENTRY_BYTES = 78
"""Of a VisualSampleEntry behind its box header, up to the boxes in it; width and height are at 24 and 26."""


def _aperture_crops(file: BufferedReader) -> Iterator[Crop]:
    for movie in _boxes(file, 0, file.seek(0, os.SEEK_END), b"moov"):
        for track in _boxes(file, *movie, b"trak"):
            for media in _boxes(file, *track, b"mdia"):
                kinds = [_bytes_at(file, begin + 8, 4) for begin, _ in _boxes(file, *media, b"hdlr")]
                if kinds[:1] == [b"vide"]:
                    yield _aperture_crop(file, media)


def _aperture_crop(file: BufferedReader, media: tuple[int, int]) -> Crop:
    for information in _boxes(file, *media, b"minf"):
        for table in _boxes(file, *information, b"stbl"):
            for begin, end in _boxes(file, *table, b"stsd"):
                for entry, entry_end in _boxes(file, begin + 8, end, None):
                    size = _bytes_at(file, entry + 24, 4)
                    for place, _ in _boxes(file, entry + _VISUAL_ENTRY_BYTES, entry_end, b"clap"):
                        width, height = int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")
                        return _crop_of_aperture(_bytes_at(file, place, 32), width, height)
                    break  # the first description is that of the first picture
    return Crop()


def _crop_of_aperture(data: bytes, width: int, height: int) -> Crop:
    """The window of a `clap` box: size and offset of its centre as fractions."""
    numbers = [int.from_bytes(data[i : i + 4], "big", signed=i >= 16 and i % 8 == 0) for i in range(0, 32, 4)]
    if not all(numbers[1::2]):
        return Crop()
    across, down, x, y = (Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    left, top = (width - across) / 2 + x, (height - down) / 2 + y
    sides = (left, width - across - left, top, height - down - top)
    if across < 1 or down < 1 or any(side < 0 or side.denominator != 1 for side in sides):
        raise _OddCropError(
            f"states a clean aperture of {float(across):g}x{float(down):g} in {width}x{height} that lies beside its "
            "samples; write it anew with the pictures as they are to be seen"
        )
    return Crop(*(int(side) for side in sides))


def _boxes(file: BufferedReader, begin: int, end: int, wanted: bytes | None) -> Iterator[tuple[int, int]]:
    """Begin and end of the contents of each box of a kind (None: of all) between two places in the file."""
    at = begin
    while at + 8 <= end:
        head = _bytes_at(file, at, 16)
        length, head_bytes = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, head_bytes = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - at
        if length < head_bytes:
            return
        content, at = at + head_bytes, min(end, at + length)
        if wanted is None or head[4:8] == wanted:
            yield content, at


def _bytes_at(file: BufferedReader, place: int, n_bytes: int) -> bytes:
    file.seek(place)
    return file.read(n_bytes)
