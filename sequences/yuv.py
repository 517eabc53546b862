"""Raw planar YUV files: no header, planes Y[, Cb, Cr] of one picture after the other.

Samples are one byte at 8 bit and two bytes, little endian, at 9 to 16 bit.

The name has to tell what the file does not, such as `BasketballPass_416x240_50fps_8bit_420.yuv`. Understood are, in
words that stand between other characters than letters and digits,

* sizes: `416x240`, `1920x1080p50`, `416*240`; `720p`, `1080p`, `2160p`, `qcif`, `cif`, `4cif`; `down_960x540`;
* rates: `50fps`, `fps50`, `60Hz`, `60p`, `2997fps`, `29.97`, `24000-1001fps`, `720p5994`, and a usual one right behind
  the size (`416x240_50`);
* bit depths: `8bit`, `10b`, `10-bit`, `bitdepth10`, `12bpc`, `10le`, and a bare one between rate and chroma format
  (`_60_10_420`, `_60_10_709_420`);
* chroma formats: `420`, `yuv444`, `i420`, `P420`, `422p`, `gray`, with a depth: `yuv420p10le`, `8b444`, `i010`;
* ranges: `fullRange`, `videoRange`, `limited_range`, `yuvj420p`, and `full` or `pc`, `limited` or `tv` right behind a
  depth or chroma format;
* layouts that are not read: semi-planar (`nv12`, `p010`), Cr first (`yv12`), packed (`uyvy422`, `v210`, `rgb24`,
  `packed`), `tiled`, big endian (`10be`), high bits first (`msb`), with alpha (`yuva420p`), other chroma (`yuv411p`),
  interlaced (`1080i`, `60i`), `float`, an `alpha` plane, rows with a `stride8` or `pitch512`.

Words such as `hdr10`, `mono`, `full` or `p60`, and numbers that may be a depth or a rate where none is said
(`416x240_37`, `416x240_8bit_50`), are unsure. Other words are free text. Where a name says two things of one field
both are kept, since neither is sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self, TypeAlias, cast

import numpy as np

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.files import AtomicFile, open_input
from vvc_nnr.sequences.frame import DEFAULT_FPS, ChromaFormat, ColourRange, Frame, Plane, VideoFormat


def count_yuv_pictures(path: Path, format: VideoFormat) -> int:
    """Number of pictures in the file.

    Raises:
        InputError: If the file is missing or empty, or its size is no whole number of pictures.
    """
    with open_input(path) as file:
        size_bytes = file.seek(0, 2)
    if size_bytes == 0:
        raise InputError(f"{path}: the file is empty")
    n_pictures, extra_bytes = divmod(size_bytes, format.picture_bytes)
    if extra_bytes:
        raise InputError(
            f"{path}: {size_bytes} bytes are no whole number of {format.width}x{format.height} "
            f"{format.bit_depth} bit {format.chroma_format} pictures of {format.picture_bytes} bytes "
            f"({extra_bytes} left over); check the size, bit depth and chroma format"
        )
    return n_pictures


def read_yuv(path: Path, format: VideoFormat, start: int = 0, count: int | None = None) -> Iterator[Frame]:
    """The pictures of the file in order, one in memory at a time.

    Args:
        path: The file.
        format: Its format.
        start: Index of the first picture wanted.
        count: Number of pictures wanted at most; None for all.

    Raises:
        InputError: As `count_yuv_pictures`; or, when a picture is read, if samples exceed the bit depth.
    """
    stop = count_yuv_pictures(path, format)
    if count is not None:
        stop = min(stop, start + count)
    with open_input(path) as file:
        file.seek(start * format.picture_bytes)
        for index in range(start, stop):
            raw = bytearray(format.picture_bytes)
            if file.readinto(raw) != len(raw):
                raise InputError(f"{path}: the file became shorter while it was read, at picture {index}")
            frame = frame_from_bytes(raw, format)
            check_sample_range(frame, f"{path}: picture {index}")
            yield frame


def frame_from_bytes(raw: bytearray, format: VideoFormat) -> Frame:
    """The picture whose raw planes fill `raw` exactly; its planes are writable views where possible."""
    samples = np.frombuffer(raw, format.dtype.newbyteorder("<")).astype(format.dtype, copy=False)
    shapes = format.plane_shapes
    ends = np.cumsum([height * width for height, width in shapes])
    parts = np.split(samples, ends[:-1])
    planes = tuple(cast(Plane, part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True))
    return Frame(planes, format.bit_depth, format.chroma_format)


def check_sample_range(frame: Frame, where: str) -> None:
    """Raise InputError, starting with `where`, if a sample needs more than the frame's bit depth."""
    if frame.bit_depth in (8, 16):
        return
    largest = max(int(plane.max()) for plane in frame.planes)
    if largest >> frame.bit_depth:
        raise InputError(
            f"{where} holds a sample of {largest}, above {(1 << frame.bit_depth) - 1}: wrong bit depth "
            f"({frame.bit_depth} bit assumed)"
        )


def looks_like_16_bit(path: Path, format: VideoFormat) -> bool:
    """Whether a file to be read as 8 bit is surely 9 to 12 bits in two bytes.

    Then every second byte of its first picture is below 16; chroma around 128 prevents that at 8 bit.
    """
    with open_input(path) as file:
        head = np.frombuffer(file.read(2 * (format.picture_bytes // 2)), np.uint8)
    return head.size >= 64 and int(head[1::2].max()) < 16 and int(head[::2].max()) >= 64


class YuvWriter:
    """Writes pictures to a raw file that appears when the `with` block ends without an exception.

    Args:
        path: The final name.
        format: What every picture must be.

    Raises:
        InputError: If the file cannot be written (see `files.AtomicFile`).
    """

    _picture_header: ClassVar[bytes] = b""

    def __init__(self, path: Path, format: VideoFormat) -> None:
        self.format = format
        self._file = AtomicFile(path)

    def __enter__(self) -> Self:
        self._file.__enter__()
        try:
            self._file.write(self._file_header())
        except BaseException as error:
            self._file.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, frame: Frame) -> None:
        """Append a picture.

        Raises:
            ShapeError: If its format is not the writer's.
            InputError: If samples exceed the bit depth, or the disk is full.
        """
        check_frame_format(frame, self.format, self._file.path)
        self._file.write(self._picture_header + frame.tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def _file_header(self) -> bytes:
        return b""


def check_frame_format(frame: Frame, format: VideoFormat, path: Path) -> None:
    """Raise ShapeError if a picture differs from its file's format, InputError if its samples exceed it."""
    got = frame.format(DEFAULT_FPS)
    if _short(got) != _short(format):
        raise ShapeError(f"{path}: got a picture of {_short(got)}, the file holds {_short(format)}")
    check_sample_range(frame, f"{path}: the picture to write")


def _short(format: VideoFormat) -> str:
    return f"{format.width}x{format.height} {format.bit_depth} bit {format.chroma_format}"


Size: TypeAlias = tuple[int, int]

_NTSC_FPS = {"23.97": 24, "23.976": 24, "23.98": 24, "29.97": 30, "47.95": 48, "59.94": 60, "119.88": 120}
_WHOLE_NTSC = {text.replace(".", ""): text for text in _NTSC_FPS}
_USUAL_FPS = {12, 15, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240}
_BARE_DEPTHS = {"8", "9", "10", "12", "14", "16"}
_MAX_BARE_FPS = 480
"""Above it a bare number behind the size is something else, such as the 709 of BT.709."""
_SIZE_WORDS = {
    **{"sqcif": (128, 96), "qcif": (176, 144), "cif": (352, 288), "4cif": (704, 576), "16cif": (1408, 1152)},
    **{"qvga": (320, 240), "vga": (640, 480), "hd720": (1280, 720), "hd1080": (1920, 1080)},
}
_WIDTH_OF_LINES = {720: 1280, 1080: 1920, 2160: 3840, 4320: 7680}
_N_LINES = {360, 480, 486, 540, 576, 720, 900, 1080, 1200, 1440, 1600, 2160, 4320}
_RANGES: dict[str, ColourRange] = {
    **{"fullrange": "full", "jpegrange": "full", "pcrange": "full"},
    **{"limitedrange": "limited", "videorange": "limited", "mpegrange": "limited", "tvrange": "limited"},
}
_PLANAR_WORDS: dict[str, tuple[ChromaFormat, int | None]] = {
    **{"iyuv": ("420", 8), "y42b": ("422", 8), "y444": ("444", 8)},
    **{"i010": ("420", 10), "i012": ("420", 12), "i210": ("422", 10), "i212": ("422", 12)},
}
_RANGE_OR_TEXT: dict[str, ColourRange] = {"full": "full", "limited": "limited", "pc": "full", "tv": "limited"}
_UNSURE_GREY = {"mono", "luma", "grey", "yonly", "lumaonly", "y8", "y800", "y16"}

_SUFFIX = re.compile(r"\.[a-z]\w*$", re.IGNORECASE)
_DECIMAL_WORD = re.compile(r"(?:\d+[x*]\d+|\d{3,4}(?=p))?p?\d{1,3}\.(?!4[024][024])\d{1,3}(?:fps|hz|p)?")
_NTSC_POINT = re.compile(r"(?<!\d)(23|29|47|59|119)\.(976|97|98|95|94|88)(?!\d)")
_SIZE = re.compile(r"(\d{1,5})[x*](\d{1,5})(?!\d)(.*)")
_LINES = re.compile(r"(\d{3,4})([pi])(\d.*)?")
_RESAMPLED = re.compile(r"(?:down|up)(?:to|sampled?|scaled?)?|scaled|resized|cropped")
_OVER_1001 = re.compile(r"(\d{4,6})over1001(?:fps|hz|p)?")
_FPS = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)(fps|hz|p)")
_FPS_BEHIND_SIZE = re.compile(r"p?(\d{1,3}(?:\.\d{1,3})?)")
_DEPTH = re.compile(r"(\d{1,2})(bits?|b|bpc)?(le|be)?|p(9|1[02456])(le|be)")
_UNSURE_DEPTH = re.compile(r"p1[0246]|\d{1,2}bpp|bd(?:8|9|1[0-6])|hdr10")
_GREY = re.compile(r"gray(8|9|1[02456])?(le)?")
_CHROMA = re.compile(
    r"(?:(\d{1,2})(?:bits?|b|bpc))?(yuvj?|ycbcr|yuva|yvu|[ip])?(4[0-4][0-4])"
    r"(planar|sp|p)?(8|9|1[0-6])?(bits?|bpc|b)?(le|be)?"
)
_COLOURS = re.compile(r"(?:bt|rec|ct)?(?:601|709|2020|2100)|p3|pq|hlg|sdr|hdr|st2084|smpte\d+")
_ALPHA_OR_TEXT = re.compile(r"(?:with|straight|premultiplied)?alpha|premult(?:iplied)?")
_QP = re.compile(r"(?<![a-z])qp[_=-]?([0-9]{1,2}(?:[.,][0-9]+(?![0-9a-z]))?)(?![0-9])")
_LOOKS_LIKE_PIXELS = re.compile(r"(?:yuv|ycbcr|yvu)[aj]?4\d\d.*|4(?:00|20|22|44)p.+")
_OTHER_LAYOUT = re.compile(
    r"nv[1246]\d|yv[12][246]|yuv9|yvu9?|imc[1-4]|p[024]1[0246](?:le|be)?|[yv](?:210|212|216|308|408|410|412|416)(?:le|be)?"
    r"|(?:yuyv|uyvy|yvyu|vyuy|uyyvyy)\w*|yuy2|2vuy|yuvs|y41[1bp]|y211|xv3[06]\w*|ayuv\w*|vuy[ax]|uyva"
    r"|(?:rgb|bgr|gbr)(?:ap?|p|0|x)?(?:f?\d{1,3}(?:le|be)?)?|[ax0](?:rgb|bgr)(?:\d\w*)?|x2(?:rgb|bgr)\w*|xyz12(?:le|be)?"
    r"|gray\w+|ya(?:8|16\w*)|pal8|mono[wb]|bayer\w*|interlaced?|tff|bff|(?:25|29\.?97|30|50|59\.?94|60)i"
    r"|semiplanar|interleaved|packed|tiled|bigendian|msb|yuva|float|f(?:loat|p)(?:16|32)(?:le|be)?|f(?:16|32)(?:le|be)"
    r"|(?:line|row)?stride\d*|(?:line|row)?pitch\d+"
)


@dataclass(frozen=True, slots=True)
class PartialFormat:
    """The fields of a `VideoFormat` that a file name or the options give; None where they are silent."""

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    chroma_format: ChromaFormat | None = None
    fps: Fraction | None = None


@dataclass(frozen=True, slots=True)
class NamedFormat:
    """What a name says, each value once; two values of one field contradict each other.

    Attributes:
        sizes: (width, height) in luma samples.
        bit_depths: As the name says, in range or not.
        chroma_formats: "400", "420", "422" or "444".
        rates: Pictures per second.
        colour_ranges: "limited" or "full".
        unreadable: Words for a layout that is not read.
        unsure_depth: Words that may state a bit depth, where nothing else does.
        unsure_chroma: Words that may state a chroma format, where nothing else does.
        unsure_rate: Words that may state a picture rate, where nothing else does.
        unsure_range: Words that may state a colour range, where nothing else does.
    """

    sizes: tuple[Size, ...]
    bit_depths: tuple[int, ...]
    chroma_formats: tuple[ChromaFormat, ...]
    rates: tuple[Fraction, ...]
    colour_ranges: tuple[ColourRange, ...]
    unreadable: tuple[str, ...]
    unsure_depth: tuple[str, ...]
    unsure_chroma: tuple[str, ...]
    unsure_rate: tuple[str, ...]
    unsure_range: tuple[str, ...]


def format_from_name(name: str) -> PartialFormat:
    """The fields of which a file's name says one thing; see `parse_yuv_name`."""
    named = parse_yuv_name(name)
    width, height = named.sizes[0] if len(named.sizes) == 1 else (None, None)
    return PartialFormat(
        width,
        height,
        named.bit_depths[0] if len(named.bit_depths) == 1 else None,
        named.chroma_formats[0] if len(named.chroma_formats) == 1 else None,
        named.rates[0] if len(named.rates) == 1 else None,
    )


def parse_yuv_name(name: str) -> NamedFormat:
    """Everything that a file's name says of raw pictures; never raises."""
    said = _statements(_words(_SUFFIX.sub("", Path(name).name).lower()))

    def values(*kinds: _Kind) -> list[object]:
        """The values of the first kind that there is one of."""
        present = [[value for each, value in said if each == kind] for kind in kinds]
        return list(dict.fromkeys(next(filter(None, present), [])))

    depths, chroma_formats = values("depth"), values("chroma", "weak 420")
    rates, colour_ranges = values("rate"), values("range")
    return NamedFormat(
        sizes=_sizes(said),
        bit_depths=tuple(cast(list[int], depths)),
        chroma_formats=tuple(cast(list[ChromaFormat], chroma_formats)),
        rates=tuple(cast(list[Fraction], rates)),
        colour_ranges=tuple(cast(list[ColourRange], colour_ranges)),
        unreadable=tuple(cast(list[str], values("unreadable"))),
        unsure_depth=() if depths else tuple(cast(list[str], values("unsure depth"))),
        unsure_chroma=() if values("chroma") else tuple(cast(list[str], values("unsure chroma"))),
        unsure_rate=() if rates else tuple(cast(list[str], values("unsure rate"))),
        unsure_range=() if colour_ranges else tuple(cast(list[str], values("unsure range"))),
    )


def qps_from_name(name: str) -> tuple[float, ...]:
    """The QPs that a file's name says, each once, such as 32 of `BasketballPass_416x240_qp32.yuv`; never raises.

    Whole ones are of type int; of `qp37.5` it is 37.5.
    """
    found = (text.replace(",", ".") for text in _QP.findall(Path(name).stem.lower()))
    return tuple(dict.fromkeys(int(text) if text.isdecimal() else float(text) for text in found))


def parse_fps(text: str) -> Fraction:
    """Pictures per second from `50`, `29.97` (read as 30000/1001) or `30000/1001`.

    Raises:
        InputError: If it is no positive number.
    """
    if text in _NTSC_FPS:
        return Fraction(_NTSC_FPS[text] * 1000, 1001)
    is_number = re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\d{1,9}/\d{1,9}", text)
    if not is_number or re.match(r"[0.]+(/|$)", text) or re.search("/0+$", text):
        raise InputError(f"picture rate {text!r}: must be a positive number such as 50, 29.97 or 30000/1001")
    return Fraction(text)


_Kind: TypeAlias = Literal[
    "size",
    "resampled size",
    "size word",
    "lines",
    "rate",
    "depth",
    "chroma",
    "weak 420",
    "range",
    "unreadable",
    "unsure depth",
    "unsure chroma",
    "unsure rate",
    "unsure range",
]
_Statement: TypeAlias = tuple[_Kind, object]
_OF_SAMPLES: frozenset[_Kind] = frozenset({"depth", "chroma", "weak 420", "range"})


def _words(stem: str) -> list[str]:
    """The words of a name, in small letters.

    `29,97` and `29_97fps` become `29.97`, `24000-1001 fps` becomes `24000over1001fps`, `4:2:2` becomes `422`,
    `full_range` one word, `416x240p50` two; `10-bit` and `bit_depth_10` become `10bit`, `50_fps` and `fps_50` become
    `50fps`.
    """
    stem = re.sub(r"(?<![\d:.])4[:.]([024])[:.]([024])(?![\d:.])", r"4\1\2", stem)
    stem = re.sub(r"(?<=\d),(?=\d)", ".", stem)
    stem = re.sub(r"(?<!\d)(23|29|47|59|119)[_p](97\d?|98|95|94|88)(?=fps|hz|p?(?:_|$))", r"\1.\2", stem)
    stem = re.sub(r"(?<![\d.])(\d{4,6})[_\- ]1001[_\- ]?(?=fps|hz)", r"\1over1001", stem)
    stem = re.sub(r"(?<![\d.])(\d{1,3}000)[_\- ]1001(?=p?(?![a-z\d]))", r"\1over1001", stem)
    stem = re.sub(r"(?<![a-z\d.])(\d{1,5}(?:\.\d{1,3})?)[_\- ](fps|hz)(?![a-z\d])", r"\1\2", stem)
    stem = re.sub(r"(?<![a-z\d])(?:fps|framerate)[_\- ]?(\d{1,5}(?:\.\d{1,3})?)(?![a-z\d])", r"\1fps", stem)
    stem = re.sub(r"(full|jpeg|pc|limited|video|mpeg|tv)[_\- ]range", r"\1range", stem)
    stem = re.sub(r"(?<![a-z\d])(big|semi|y|luma)[_\- ](endian|planar|only)(?![a-z\d])", r"\1\2", stem)
    stem = re.sub(r"(?<![\d.])(8|9|1[0-6])[_\- ](bits?)(?![a-z\d])", r"\1\2", stem)
    stem = re.sub(r"(?<![a-z\d])bit(?:s|[_\- ]?depth)?[_\- ]?(8|9|1[0-6])(?![a-z\d])", r"\1bit", stem)
    stem = re.sub(r"(?<![a-z\d])hdr[_\- ]10(?![a-z\d])", "hdr10", stem)
    words: list[str] = []
    for whole in re.findall(r"[a-z\d*.]+", stem):
        whole = whole if _DECIMAL_WORD.fullmatch(whole) else _NTSC_POINT.sub(r"\1,\2", whole).replace(".", " ")
        for part in whole.replace(",", ".").split():
            size = _SIZE.fullmatch(part)
            words += [f"{size[1]}x{size[2]}", size[3]] if size else [part]
    return [word for word in words if word]


def _statements(words: Sequence[str]) -> list[_Statement]:
    """What the words say, in their order."""
    said: list[_Statement] = []
    last_size = max((place for place, word in enumerate(words) if _SIZE.fullmatch(word)), default=-1)
    previous: set[_Kind] = set()
    for place, word in enumerate(words):
        is_chroma_next = any(_CHROMA.fullmatch(each) for each in _behind_colours(words[place + 1 :]))
        resampled = place > 0 and bool(_RESAMPLED.fullmatch(words[place - 1]))
        found = list(
            _of_word(
                word, previous, is_before_size=place < last_size, is_chroma_next=is_chroma_next, resampled=resampled
            )
        )
        said += found
        # "1920x1080p 50": a bare p says progressive, and the rate still follows.
        previous = previous if word == "p" else {kind for kind, _ in found}
    return said


def _behind_colours(words: Sequence[str]) -> Sequence[str]:
    """The first word that names no primaries, transfer or matrix, such as the 420 of `709_420`; none at the end."""
    return next(([word] for word in words if not _COLOURS.fullmatch(word)), [])


def _of_word(
    word: str, previous: set[_Kind], *, is_before_size: bool, is_chroma_next: bool, resampled: bool
) -> Iterator[_Statement]:
    """What one word says; `previous` is what the word before said."""
    if size := _SIZE.fullmatch(word):
        if int(size[1]) and int(size[2]):
            yield ("resampled size" if resampled else "size"), (int(size[1]), int(size[2]))
    elif word in _SIZE_WORDS:
        yield "size word", _SIZE_WORDS[word]
    elif over_1001 := _OVER_1001.fullmatch(word):
        is_usual = int(over_1001[1]) % 1000 == 0
        yield ("rate", Fraction(int(over_1001[1]), 1001)) if is_usual else ("unsure rate", word)
    elif word in _RANGES:
        yield "range", _RANGES[word]
    elif word in _PLANAR_WORDS:
        chroma_format, depth = _PLANAR_WORDS[word]
        yield "chroma", chroma_format
        yield "depth", depth
    elif grey := _GREY.fullmatch(word):
        yield "chroma", "400"
        if grey[1]:
            yield "depth", int(grey[1])
    elif word in _UNSURE_GREY:
        yield "unsure chroma", word
    elif word in _RANGE_OR_TEXT and (previous & _OF_SAMPLES or not is_before_size):
        yield ("range", _RANGE_OR_TEXT[word]) if previous & _OF_SAMPLES else ("unsure range", word)
    elif (
        _OTHER_LAYOUT.fullmatch(word)
        or (word == "be" and previous & {"depth", "chroma"})
        or (_ALPHA_OR_TEXT.fullmatch(word) and (previous or not is_before_size))
    ):
        yield "unreadable", word
    elif previous & {"rate", "unsure rate"} and word in _BARE_DEPTHS and is_chroma_next:
        yield "depth", int(word)
    elif previous & {"rate", "unsure rate", "chroma"} and word in _BARE_DEPTHS - {"8"}:
        yield "unsure depth", word
    elif previous & {"size", "resampled size", "size word", "lines"} and "rate" not in previous:
        yield from _behind_size(word)
    elif previous & {"rate", "unsure rate"} and (rate := _bare_rate(word)):
        yield "rate", rate
    elif previous & _OF_SAMPLES and _bare_rate(word):
        yield "unsure rate", word
    else:
        yield from _anywhere(word, is_before_size)


def _behind_size(word: str) -> Iterator[_Statement]:
    """A usual bare rate right behind the size is the rate; another number may be a rate, a depth, a QP or a count."""
    number = _FPS_BEHIND_SIZE.fullmatch(word)
    if word == "i" or (re.fullmatch(r"i\d[\d.]*", word) and not _CHROMA.fullmatch(word)):
        yield "unreadable", word
    elif word in _BARE_DEPTHS:
        yield "unsure depth", word
        yield "unsure rate", word
    elif rate := _bare_rate(word.removeprefix("p")):
        yield "rate", rate
    elif number and 0 < float(number[1]) <= _MAX_BARE_FPS and not _CHROMA.fullmatch(word):
        is_sure = word.startswith("p") or "." in word
        yield ("rate", parse_fps(number[1])) if is_sure else ("unsure rate", word)
    else:
        yield from _anywhere(word, is_before_size=False)


def _bare_rate(word: str) -> Fraction | None:
    """The rate that a number without a unit says if it is one, None if it is no usual one."""
    text = _WHOLE_NTSC.get(word, word)
    is_usual = text in _NTSC_FPS or (text.isdecimal() and int(text) in _USUAL_FPS)
    return parse_fps(text) if is_usual else None


def _anywhere(word: str, is_before_size: bool) -> Iterator[_Statement]:
    """Chroma formats, depths, rates and numbers of lines."""
    if chroma := _CHROMA.fullmatch(word):
        yield from _of_chroma(word, chroma, is_before_size)
    elif _LOOKS_LIKE_PIXELS.fullmatch(word):
        yield "unreadable", word
    elif _UNSURE_DEPTH.fullmatch(word):
        yield "unsure depth", word
    elif (depth := _DEPTH.fullmatch(word)) and (depth[2] or depth[3] or depth[4]):
        yield from _of_depth(word, depth)
    elif (lines := _LINES.fullmatch(word)) and int(lines[1]) in _N_LINES:
        yield ("unreadable", word) if lines[2] == "i" else ("lines", int(lines[1]))
        if lines[2] == "p" and lines[3]:
            yield _rate_behind_lines(word, re.sub(r"(?:fps|hz)$", "", lines[3]))
    elif (fps := _FPS.fullmatch(word)) and float(fps[1]):
        text = _WHOLE_NTSC.get(fps[1], fps[1])
        if fps[2] != "p" or text in _NTSC_FPS or float(text) in _USUAL_FPS:
            yield "rate", parse_fps(text)
    elif word.startswith("p") and _bare_rate(word[1:]):
        yield "unsure rate", word


def _rate_behind_lines(word: str, text: str) -> _Statement:
    """The rate of `720p50`, `1080p59.94` or `720p5994`; unsure if it is no number, or none of a rate."""
    text = _WHOLE_NTSC.get(text, text)
    is_rate = _FPS_BEHIND_SIZE.fullmatch(text) and text[0] != "p" and 0 < float(text) <= _MAX_BARE_FPS
    return ("rate", parse_fps(text)) if is_rate else ("unsure rate", word)


def _of_chroma(word: str, match: re.Match[str], is_before_size: bool) -> Iterator[_Statement]:
    depth_before, kind, chroma_format, planar, depth_behind, unit, end = match.groups()
    is_bare = word == chroma_format
    if depth_behind and not (kind or planar or unit):
        return  # a number such as 42012
    if chroma_format not in ("400", "420", "422", "444"):
        if not (is_bare and is_before_size):
            yield "unreadable", word
    elif kind in ("yuva", "yvu") or planar == "sp" or end == "be":
        yield "unreadable", word
    elif is_bare and is_before_size:
        yield ("weak 420" if chroma_format == "420" else "unsure chroma"), chroma_format
    else:
        yield "chroma", chroma_format
        yield from (("depth", int(depth)) for depth in (depth_before, depth_behind) if depth)
        if kind == "yuvj":
            yield "range", "full"


def _of_depth(word: str, match: re.Match[str]) -> Iterator[_Statement]:
    depth, unit, end = int(match[1] or match[4]), match[2], match[3] or match[5]
    if end == "be":
        yield "unreadable", word
    elif 8 <= depth <= 16 or unit not in (None, "b"):
        yield "depth", depth


def _sizes(said: Sequence[_Statement]) -> tuple[Size, ...]:
    """The sizes that are left: what was resampled counts at its new size, and 1080p may say less than 1920x800."""
    values = cast(list[tuple[str, Size]], [s for s in said if s[0] in ("size", "resampled size")])
    given = [size for kind, size in values if kind == "resampled size"][-1:] or [size for _, size in values]
    sizes = dict.fromkeys(given)
    sizes |= dict.fromkeys(cast(Size, value) for kind, value in said if kind == "size word")
    for lines in (cast(int, value) for kind, value in said if kind == "lines"):
        width = _WIDTH_OF_LINES.get(lines)
        if width and not any(size[1] == lines or size[0] == width for size in sizes):
            sizes[width, lines] = None
    return tuple(sizes)
