"""YUV4MPEG2 (`.y4m`) files: a text header, then `FRAME` lines each followed by raw planes.

Planes are as in `yuv`. Read: 8 to 16 bit, 400, 420 (jpeg, mpeg2 and paldv siting), 422 and 444, progressive.
Written: `C420mpeg2` (chroma level with the left luma column, VVC's default), `C420p10` and so on.
A missing rate is read as 30 pictures per second. Colour range and siting tags do not change samples.

Source: mjpegtools, yuv4mpeg(5); the tags above 8 bit are FFmpeg's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import cast

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import open_input, remaining_bytes
from vvc_nnr.sequences.frame import ChromaFormat, Frame, VideoFormat
from vvc_nnr.sequences.yuv import YuvWriter, check_sample_range, frame_from_bytes

_MAGIC = b"YUV4MPEG2"
_MAX_LINE_BYTES = 4096
_MAX_SIDE = 999_999
_CHROMA_TAG = re.compile(r"(420|422|444)(?:p(9|1[0-6]))?|mono(9|1[0-6])?")
_EIGHT_BIT_420 = ("420jpeg", "420mpeg2", "420paldv")


def read_y4m_header(path: Path) -> VideoFormat:
    """The format that the file's header gives.

    Raises:
        InputError: If the file is missing.
        BitstreamError: If it has no valid header.
        UnsupportedError: If it is interlaced or its chroma format is not 400, 420, 422 or 444.
    """
    with open_input(path) as file:
        return _read_header(file, path)


def read_y4m(path: Path, start: int = 0, count: int | None = None) -> Iterator[Frame]:
    """The pictures of the file in order, one in memory at a time.

    Args:
        path: The file.
        start: Index of the first picture wanted; earlier ones are skipped unread.
        count: Number of pictures wanted at most; None for all.

    Raises:
        BitstreamError: If the file ends within a picture or samples exceed the bit depth of the header.
        InputError: As `read_y4m_header`.
        UnsupportedError: As `read_y4m_header`.
    """
    with open_input(path) as file:
        format = _read_header(file, path)
        index = 0
        while (count is None or index < start + count) and _next_picture(file, path, format):
            if index < start:
                file.seek(format.picture_bytes, 1)
            else:
                yield _read_picture(file, format, f"{path}: picture {index}")
            index += 1


def count_y4m_pictures(path: Path) -> int:
    """Number of pictures in the file, found from its `FRAME` lines.

    Raises:
        BitstreamError: If the file ends within a picture.
        InputError: As `read_y4m_header`.
        UnsupportedError: As `read_y4m_header`.
    """
    n_pictures = 0
    with open_input(path) as file:
        format = _read_header(file, path)
        while _next_picture(file, path, format):
            file.seek(format.picture_bytes, 1)
            n_pictures += 1
    return n_pictures


def _read_header(file: BufferedReader, path: Path) -> VideoFormat:
    words = _read_line(file, path, "header").split(b" ")
    if words[0] != _MAGIC:
        raise BitstreamError(f"{path}: starts with {words[0][:16]!r}, a .y4m file with {_MAGIC.decode()!r}")
    fields = {word[:1].decode("latin1"): word[1:].decode("latin1") for word in words[1:] if word}
    if fields.get("I", "p") not in ("p", "?"):
        raise UnsupportedError(f"{path}: interlaced (I{fields['I']}); only progressive pictures are read")
    chroma_format, bit_depth = _parse_chroma(fields.get("C", "420jpeg"), path)
    width, height = _parse_side(fields, "W", path), _parse_side(fields, "H", path)
    return VideoFormat(width, height, bit_depth, chroma_format, _parse_rate(fields.get("F", "0:0"), path))


def _read_line(file: BufferedReader, path: Path, field: str) -> bytes:
    offset_bytes = file.tell()
    line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise BitstreamError(f"{path}: no end of line within {len(line)} bytes", field=field, offset_bytes=offset_bytes)
    return line[:-1]


def _parse_side(fields: dict[str, str], letter: str, path: Path) -> int:
    text = fields.get(letter, "")
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise BitstreamError(f"{path}: {letter}{text[:40]} is no positive picture size", field="header")
    digits = text.lstrip("0")
    if len(digits) > len(str(_MAX_SIDE)):
        shown = f"{letter}{text[:40]}"
        raise BitstreamError(f"{path}: {shown} is too large, sides of at most {_MAX_SIDE} are read", field="header")
    return int(digits)


def _parse_rate(text: str, path: Path) -> Fraction:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", text)
    if not match:
        raise BitstreamError(f"{path}: F{text} is no picture rate such as F50:1", field="header")
    pictures, seconds = int(match[1]), int(match[2])
    return Fraction(pictures, seconds) if pictures and seconds else Fraction(30)


def _parse_chroma(tag: str, path: Path) -> tuple[ChromaFormat, int]:
    if tag in _EIGHT_BIT_420:
        return "420", 8
    match = _CHROMA_TAG.fullmatch(tag)
    if not match:
        raise UnsupportedError(f"{path}: chroma format C{tag}; 420, 422, 444 and mono at 8 to 16 bit are read")
    return cast(ChromaFormat, match[1] or "400"), int(match[2] or match[3] or 8)


def _next_picture(file: BufferedReader, path: Path, format: VideoFormat) -> bool:
    """Read a FRAME line and check that its picture is all there; False at the end of the file."""
    offset_bytes = file.tell()
    if remaining_bytes(file) == 0:
        return False
    line = _read_line(file, path, "FRAME line")
    if line != b"FRAME" and not line.startswith(b"FRAME "):
        raise BitstreamError(f"{path}: got {line[:16]!r}, want 'FRAME'", field="FRAME line", offset_bytes=offset_bytes)
    left_bytes = remaining_bytes(file)
    if left_bytes < format.picture_bytes:
        raise BitstreamError(
            f"{path}: truncated, {left_bytes} of {format.picture_bytes} bytes of a picture are there",
            offset_bytes=file.tell(),
        )
    return True


def _read_picture(file: BufferedReader, format: VideoFormat, where: str) -> Frame:
    raw = bytearray(format.picture_bytes)
    if file.readinto(raw) != len(raw):
        raise BitstreamError(f"{where}: the file became shorter while it was read")
    frame = frame_from_bytes(raw, format)
    try:
        check_sample_range(frame, where)
    except InputError as error:
        raise BitstreamError(str(error)) from None
    return frame


class Y4mWriter(YuvWriter):
    """Writes pictures to a `.y4m` file as `YuvWriter` does to a raw one."""

    _picture_header = b"FRAME\n"

    def _file_header(self) -> bytes:
        return _header_line(self.format)


def _header_line(format: VideoFormat) -> bytes:
    fps = format.fps
    return (
        f"YUV4MPEG2 W{format.width} H{format.height} F{fps.numerator}:{fps.denominator} "
        f"Ip C{_chroma_tag(format)}\n".encode()
    )


def _chroma_tag(format: VideoFormat) -> str:
    name = "mono" if format.chroma_format == "400" else format.chroma_format
    if format.bit_depth == 8:
        return "420mpeg2" if name == "420" else name
    return f"mono{format.bit_depth}" if name == "mono" else f"{name}p{format.bit_depth}"
