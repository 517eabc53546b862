"""YUV4MPEG2 (`.y4m`) files: a text header, then `FRAME` lines each followed by raw planes.

Planes are as in `yuv`. Read: 8 to 16 bit, 400, 420 (jpeg, mpeg2 and paldv siting), 422 and 444, progressive.
A missing rate is read as 30 pictures per second. `F0:0` and `A0:0` stand for what is not known; a ratio with one zero
(`F30:0`) is illegal, and refused.

| tag | meaning | in `VideoFormat` |
| --- | --- | --- |
| `C`, else `XYSCSS=` | layout; siting: 420jpeg center, 420mpeg2 left, 420paldv top_left | `chroma_location` |
| `A` | pixel aspect; `A0:0` is not known | `pixel_aspect` |
| `XCOLORRANGE=` | `FULL` or `LIMITED` | `colour_range` |
| `XCHROMALOC=` | siting where no `C` has a name for it (above 8 bit); this package's own | `chroma_location` |
| `I` | interlacing; all but `Ip` and `I?` is refused | |

The writer writes the same tags, and none for what is not known: plain `C420` says nothing of siting. Other `X` tags
are comments of the program that wrote them, and are passed over.

Source: mjpegtools, yuv4mpeg(5); the tags above 8 bit and `XCOLORRANGE` are FFmpeg's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import TypeVar, cast, get_args

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import open_input, remaining_bytes
from vvc_nnr.sequences.frame import DEFAULT_FPS, ChromaFormat, ChromaLocation, ColourRange, Frame, VideoFormat
from vvc_nnr.sequences.yuv import YuvWriter, check_sample_range, frame_from_bytes

_MAGIC = b"YUV4MPEG2"
_MAX_LINE_BYTES = 4096
_MAX_SIDE = 999_999
_CHROMA_TAG = re.compile(r"(420|422|444)(?:p(9|1[0-6]))?|mono(9|1[0-6])?")
_LAYOUT_COMMENT = re.compile(r"(400|420|422|444)(?:P(9|1[0-6]))?")
_SITED_420: dict[str, ChromaLocation] = {"420jpeg": "center", "420mpeg2": "left", "420paldv": "top_left"}
_TAG_OF_LOCATION: dict[ChromaLocation | None, str] = {location: tag for tag, location in _SITED_420.items()}
_COLOUR_RANGES: dict[str, ColourRange] = {"FULL": "full", "LIMITED": "limited"}
_LOCATIONS: dict[str, ChromaLocation] = {name.upper(): name for name in get_args(ChromaLocation)}
_PROGRESSIVE_FRAME = re.compile(r"p|\?|[123?][p?][p?]")


_ValueT = TypeVar("_ValueT")


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a `C` tag or an `XYSCSS` comment states of the samples."""

    chroma_format: ChromaFormat
    bit_depth: int
    location: ChromaLocation | None = None


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
        while (count is None or index < start + count) and _next_picture(file, path, format, index):
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
        while _next_picture(file, path, format, n_pictures):
            file.seek(format.picture_bytes, 1)
            n_pictures += 1
    return n_pictures


def _read_header(file: BufferedReader, path: Path) -> VideoFormat:
    if remaining_bytes(file) == 0:
        raise BitstreamError(f"{path}: the file is empty; a .y4m file begins with {_MAGIC.decode()!r}")
    words = _read_line(file, path, "header").split(b" ")
    if words[0] != _MAGIC:
        raise BitstreamError(f"{path}: starts with {words[0][:16]!r}, a .y4m file with {_MAGIC.decode()!r}")
    fields, comments = _tags([word.decode("latin1") for word in words[1:] if word], path)
    if fields.get("I", "p") not in ("p", "?"):
        raise UnsupportedError(f"{path}: interlaced (I{fields['I'][:40]}); only progressive pictures are read")
    layout = _parse_layout(fields, comments, path)
    return VideoFormat(
        _parse_side(fields, "W", path),
        _parse_side(fields, "H", path),
        layout.bit_depth,
        layout.chroma_format,
        _parse_ratio(fields, "F", "picture rate", path) or DEFAULT_FPS,
        _named(comments, "COLORRANGE", _COLOUR_RANGES, path),
        layout.location or _named(comments, "CHROMALOC", _LOCATIONS, path),
        _parse_ratio(fields, "A", "pixel aspect", path),
    )


def _tags(words: list[str], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The header's fields by their letter, and its `X` comments by their name."""
    fields: dict[str, str] = {}
    comments: dict[str, str] = {}
    for word in words:
        name, _, value = word[1:].partition("=") if word[0] == "X" else (word[0], "", word[1:])
        if (comments if word[0] == "X" else fields).setdefault(name, value) != value:
            raise BitstreamError(f"{path}: two values for {name[:40]}, the second is {word[:40]!r}", field="header")
    unknown = [letter for letter in fields if letter not in "WHFIAC"]
    if unknown:
        shown = unknown[0] + fields[unknown[0]][:40]
        raise UnsupportedError(f"{path}: unknown tag {shown!r} in the header; W, H, F, I, A, C and X are read")
    return fields, comments


def _named(comments: Mapping[str, str], name: str, values: Mapping[str, _ValueT], path: Path) -> _ValueT | None:
    """The value of a comment that must be one of a few words, None if there is no such comment."""
    if name not in comments:
        return None
    if comments[name].upper() not in values:
        shown = f"X{name}={comments[name][:40]}"
        raise BitstreamError(f"{path}: {shown!r} must be one of {', '.join(values)}", field="header")
    return values[comments[name].upper()]


def _read_line(file: BufferedReader, path: Path, field: str) -> bytes:
    offset_bytes = file.tell()
    line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise BitstreamError(f"{path}: no end of line within {len(line)} bytes", field=field, offset_bytes=offset_bytes)
    if line.endswith(b"\r\n"):
        must = "must be LF alone: bring it over anew as binary, a copy as text has changed its samples too"
        raise BitstreamError(f"{path}: the line ends with CR LF, {must}", field=field, offset_bytes=offset_bytes)
    return line[:-1]


def _parse_side(fields: dict[str, str], letter: str, path: Path) -> int:
    text = fields.get(letter)
    if text is None:
        raise BitstreamError(
            f"{path}: has no {letter}, which gives the picture size; must have it, as in {letter}64", field="header"
        )
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise BitstreamError(f"{path}: {letter}{text[:40]} is no positive picture size", field="header")
    digits = text.lstrip("0")
    if len(digits) > len(str(_MAX_SIDE)):
        shown = f"{letter}{text[:40]}"
        raise BitstreamError(f"{path}: {shown} is too large, sides of at most {_MAX_SIDE} are read", field="header")
    return int(digits)


def _parse_ratio(fields: Mapping[str, str], letter: str, what: str, path: Path) -> Fraction | None:
    """The ratio that a tag states, None where it is not known."""
    text = fields.get(letter, "0:0")
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", text)
    terms = (int(match[1]), int(match[2])) if match else (0, 1)
    if terms != (0, 0) and not all(terms):
        must = f"must be as in {letter}25:1, or {letter}0:0 if it is not known"
        raise BitstreamError(f"{path}: {letter}{text[:40]} is no {what}; {must}", field="header")
    return Fraction(*terms) if all(terms) else None


def _parse_layout(fields: Mapping[str, str], comments: Mapping[str, str], path: Path) -> _Layout:
    """The layout of the samples after the `C` tag, or where there is none the older `XYSCSS` comment."""
    old_tag = comments.get("YSCSS")
    old = _layout_of_comment(old_tag, path) if old_tag is not None else None
    if "C" not in fields:
        return old or _Layout("420", 8)
    layout = _layout_of_tag(fields["C"], path)
    if old and (old.chroma_format, old.bit_depth) != (layout.chroma_format, layout.bit_depth):
        raise BitstreamError(f"{path}: C{fields['C']} and XYSCSS={old_tag} contradict each other", field="header")
    return replace(layout, location=layout.location or (old.location if old else None))


def _layout_of_tag(tag: str, path: Path) -> _Layout:
    if tag in _SITED_420:
        return _Layout("420", 8, _SITED_420[tag])
    match = _CHROMA_TAG.fullmatch(tag)
    if not match:
        what = f"{path}: chroma format {'C' + tag[:40]!r}"
        raise UnsupportedError(f"{what}; 420, 422, 444 and mono at 8 to 16 bit are read, without alpha")
    return _Layout(cast(ChromaFormat, match[1] or "400"), int(match[2] or match[3] or 8))


def _layout_of_comment(tag: str, path: Path) -> _Layout:
    if tag.lower() in _SITED_420:
        return _Layout("420", 8, _SITED_420[tag.lower()])
    match = _LAYOUT_COMMENT.fullmatch(tag)
    if not match:
        raise UnsupportedError(f"{path}: chroma format 'XYSCSS={tag[:40]}'; 400, 420, 422 and 444 are read")
    return _Layout(cast(ChromaFormat, match[1]), int(match[2] or 8))


def _next_picture(file: BufferedReader, path: Path, format: VideoFormat, index: int) -> bool:
    """Read a FRAME line and check that its picture is all there; False at the end of the file."""
    offset_bytes = file.tell()
    if remaining_bytes(file) == 0:
        return False
    line = _read_line(file, path, "FRAME line")
    if line != b"FRAME" and not line.startswith(b"FRAME "):
        raise BitstreamError(
            f"{path}: got {line[:16]!r}, must be 'FRAME'", field="FRAME line", offset_bytes=offset_bytes
        )
    _check_frame_tags(line.decode("latin1").split(" ")[1:], path)
    if index == 0:
        _check_sample_bytes(file, path, format)
    left_bytes = remaining_bytes(file)
    if left_bytes < format.picture_bytes:
        raise BitstreamError(
            f"{path}: truncated, {left_bytes} of {format.picture_bytes} bytes of a picture are there",
            offset_bytes=file.tell(),
        )
    return True


def _check_sample_bytes(file: BufferedReader, path: Path, format: VideoFormat) -> None:
    """Refuses pictures of one byte a sample where the header says two, or the other way, by where the first one ends.

    The file stands at the first picture, and stays there.
    """
    start_bytes, left_bytes = file.tell(), remaining_bytes(file)

    def ends_after(picture_bytes: int) -> bool:
        file.seek(start_bytes + picture_bytes)
        return picture_bytes == left_bytes or file.read(6) in (b"FRAME\n", b"FRAME ")

    is_deep = format.bit_depth > 8
    other_bytes = format.picture_bytes // 2 if is_deep else format.picture_bytes * 2
    is_other = not ends_after(format.picture_bytes) and ends_after(other_bytes)
    file.seek(start_bytes)
    if is_other:
        said, got = ("two bytes", "one") if is_deep else ("one byte", "two")
        tag = f"C{_chroma_tag(format)}"
        raise BitstreamError(
            f"{path}: its header says {tag}, {said} a sample, and its pictures have {got}: the bit depth in the header "
            "is not that of the samples; write the file anew",
            field="header",
        )


def _check_frame_tags(words: list[str], path: Path) -> None:
    """Refuses what a FRAME line states and the reader does not carry out; `X` comments are passed over."""
    for word in filter(None, words):
        if word[0] == "I" and _PROGRESSIVE_FRAME.fullmatch(word[1:]):
            continue
        if word[0] == "I":
            raise UnsupportedError(f"{path}: an interlaced picture ({word[:40]}); only progressive pictures are read")
        if word[0] != "X":
            raise UnsupportedError(f"{path}: unknown tag {word[:40]!r} in a FRAME line; I and X are read")


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
    fps, aspect = format.fps, format.pixel_aspect
    words = [
        f"YUV4MPEG2 W{format.width} H{format.height} F{fps.numerator}:{fps.denominator} Ip",
        f"A{aspect.numerator}:{aspect.denominator}" if aspect else "",
        f"C{_chroma_tag(format)}",
        f"XCOLORRANGE={format.colour_range.upper()}" if format.colour_range else "",
        _location_comment(format),
    ]
    return f"{' '.join(filter(None, words))}\n".encode()


def _chroma_tag(format: VideoFormat) -> str:
    name = "mono" if format.chroma_format == "400" else format.chroma_format
    if format.bit_depth == 8:
        return _TAG_OF_LOCATION.get(format.chroma_location, name) if name == "420" else name
    return f"mono{format.bit_depth}" if name == "mono" else f"{name}p{format.bit_depth}"


def _location_comment(format: VideoFormat) -> str:
    """The siting of 4:2:0 where the `C` tag has no name for it."""
    location = format.chroma_location
    if location is None or format.chroma_format != "420" or _chroma_tag(format) in _SITED_420:
        return ""
    return f"XCHROMALOC={location.upper()}"
