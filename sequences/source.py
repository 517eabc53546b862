"""Any file as a sequence of pictures that can be read again and again, and writers by suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import check_regular_file, is_stream, naming, text_of_name
from vvc_nnr.sequences.catalogue import CtcSequence, ctc_class_of, find_ctc_sequence
from vvc_nnr.sequences.frame import DEFAULT_FPS, ChromaFormat, Frame, VideoFormat
from vvc_nnr.sequences.images import IMAGE_SUFFIXES, read_image, read_image_size, rgb_to_frame
from vvc_nnr.sequences.listing import has_suffix, list_files
from vvc_nnr.sequences.video import probe_video, read_video
from vvc_nnr.sequences.y4m import Y4mWriter, count_y4m_pictures, read_y4m, read_y4m_header
from vvc_nnr.sequences.yuv import (
    NamedFormat,
    PartialFormat,
    YuvWriter,
    count_yuv_pictures,
    looks_like_16_bit,
    parse_yuv_name,
    read_yuv,
)

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mj2", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf"),
    *(".flv", ".ogv", ".ogg", ".mxf", ".nut", ".dv", ".mjpeg", ".mjpg", ".ivf", ".obu"),
    *(".mpg", ".mpeg", ".vob", ".m1v", ".m2v", ".mpv", ".ts", ".mts", ".m2ts", ".m2t"),
    *(".263", ".h263", ".264", ".h264", ".avc", ".265", ".h265", ".hevc"),
)
_RATE_TOLERANCE = Fraction(1, 10_000)
"""By so much the rate of a name may be rounded: 23.976 for 24000/1001."""
_VVC_SUFFIXES = (".266", ".h266", ".vvc", ".bit", ".bin")
"""Those of `codec.sei`, for a message."""
SUFFIXES = (".yuv", ".y4m", *VIDEO_SUFFIXES, *IMAGE_SUFFIXES)

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Source:
    """A sequence in a file.

    Attributes:
        name: The catalogue's name for a sequence of the common test conditions, else the file's stem.
        path: The file.
        format: What `frames` yields.
        n_pictures: How many there are; for a video the container's word, None if it has none.
        ctc_class: Class of the common test conditions, by size where the sequence is not one of theirs.
        stream: The track of a video file, None for its only video.
        allow_damaged: Whether damaged pictures of a video are taken as FFmpeg conceals them.
        n_outside_edit_list: How many more pictures are coded in an MP4 or MOV file, which its edit list does not show.
    """

    name: str
    path: Path
    format: VideoFormat
    n_pictures: int | None
    ctc_class: str
    stream: int | None = None
    allow_damaged: bool = False
    n_outside_edit_list: int = 0

    def frames(self, start: int = 0, count: int | None = None) -> Iterator[Frame]:
        """The pictures from index `start`, at most `count`, one in memory at a time; each call reads anew.

        Raises:
            InputError: If `start` or `count` is negative or the file cannot be read as this format.
            BitstreamError: If the file is damaged.
            UnsupportedError: If the file is legal but not readable here.
        """
        if start < 0 or (count is not None and count < 0):
            raise InputError(f"{self.path}: pictures from {start}, {count} of them: both must be 0 or more")
        suffix = self.path.suffix.lower()
        if suffix == ".yuv":
            return read_yuv(self.path, self.format, start, count)
        if suffix == ".y4m":
            return read_y4m(self.path, start, count)
        if suffix in IMAGE_SUFFIXES:
            return self._image_frames(start, count)
        return read_video(self.path, start, count, stream=self.stream, allow_damaged=self.allow_damaged)

    def damage(self, count: int | None = None) -> str | None:
        """What is damaged among the first `count` pictures of a video that was opened with `allow_damaged`.

        Returns:
            What FFmpeg says of the first damage; None if there is none. The pictures are decoded for it.
        """
        if not self.allow_damaged:
            return None
        try:
            for _ in read_video(self.path, count=count, stream=self.stream):
                pass
        except BitstreamError as error:
            return str(error).removeprefix(f"{self.path}: ").partition("; allow_damaged")[0]
        return None

    def _image_frames(self, start: int, count: int | None) -> Iterator[Frame]:
        if start == 0 and count != 0:
            yield rgb_to_frame(read_image(self.path), self.format.chroma_format, self.format.bit_depth)


def open_source(
    path: Path | str,
    *,
    width: int | None = None,
    height: int | None = None,
    bit_depth: int | None = None,
    chroma_format: ChromaFormat | None = None,
    fps: Fraction | None = None,
    stream: int | None = None,
    allow_damaged: bool = False,
) -> Source:
    """The sequence in a `.yuv`, `.y4m`, video or image file.

    The format of a `.yuv` comes from the options, else its name, else the catalogue, else 8 bit 4:2:0 30 fps.
    An image becomes the bit depth and chroma format asked for (8 bit 4:2:0). Other files know their format:
    there only `fps` changes anything, and another option must agree.

    Args:
        path: The file.
        width: Luma samples per row.
        height: Luma rows.
        bit_depth: 8 to 16.
        chroma_format: "400", "420", "422" or "444".
        fps: Pictures per second.
        stream: Of a video file with several videos the one to read: its index in the file, from 0 (ffprobe's #0:N).
        allow_damaged: Whether a damaged video is taken as FFmpeg conceals the damage.

    Raises:
        InputError: If the file is missing or of an unknown kind, its format is not known or does not fit.
        BitstreamError: If the file is damaged.
        UnsupportedError: If the file is legal but not readable here.
    """
    options = PartialFormat(width, height, bit_depth, chroma_format, fps)
    return _open(Path(path), options, stream, allow_damaged)


def open_sources(
    folder_or_file: Path | str,
    *,
    width: int | None = None,
    height: int | None = None,
    bit_depth: int | None = None,
    chroma_format: ChromaFormat | None = None,
    fps: Fraction | None = None,
    stream: int | None = None,
    allow_damaged: bool = False,
) -> list[Source]:
    """All sequences of a folder and its subfolders in order of their paths, or the one in a file.

    Linked folders are entered; the log says what was left out (`listing`).

    Each image is a sequence of its own. Options are for the files that do not know better: they are as in
    `open_source` for `.yuv` files and images. Sequences of the same name get their paths as names.

    Raises:
        InputError: If there is no such folder, it holds no sequence, or as `open_source`.
        BitstreamError: As `open_source`.
        UnsupportedError: As `open_source`.
    """
    root = Path(folder_or_file)
    options = PartialFormat(width, height, bit_depth, chroma_format, fps)
    if not os.path.lexists(root):
        raise InputError(f"{root}: no such file or folder; must be a folder of pictures or videos, or one file")
    if not os.path.isdir(root):
        return [_open(root, options, stream, allow_damaged)]
    if stream is not None:
        raise InputError(f"{root}: stream {stream} (--stream) is for one video file, this is a folder")
    listing = list_files(root, has_suffix(SUFFIXES))
    if not listing.paths:
        raise InputError(f"{root}: holds no sequence ({', '.join(SUFFIXES)}){listing.words_if_empty()}")
    listing.left_out.tell(root)
    rate_only = PartialFormat(fps=fps)
    needs_format = (".yuv", *IMAGE_SUFFIXES)
    sources = [
        _open(path, options if path.suffix.lower() in needs_format else rate_only, None, allow_damaged)
        for path in listing.paths
    ]
    below_root = [text_of_name(source.path.relative_to(root).as_posix()) for source in sources]
    n_of_name = Counter([*(source.name for source in sources), *below_root])
    return [
        source if n_of_name[source.name] == 1 else replace(source, name=path)
        for source, path in zip(sources, below_root, strict=True)
    ]


def open_writer(path: Path | str, format: VideoFormat) -> YuvWriter:
    """A writer of `.yuv` or `.y4m`, to be used in a `with` block; pipes and devices of other names get `.y4m`.

    Args:
        path: The file.
        format: What the pictures are, and what a `.y4m` states of them: for a copy of the pictures of a file
            `source.format.holding(frame)`, for new ones `frame.format(fps)`.

    Raises:
        InputError: If the name has another suffix, or is that of a raw file and states another format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".y4m":
        return Y4mWriter(path, format)
    if suffix == ".yuv":
        _check_name_says(path, format)
        return YuvWriter(path, format)
    if is_stream(path):
        return Y4mWriter(path, format)
    raise InputError(f"{path}: pictures are written as .y4m or .yuv; choose one of these suffixes")


def _open(path: Path, options: PartialFormat, stream: int | None, allow_damaged: bool) -> Source:
    check_regular_file(path)
    suffix = path.suffix.lower()
    if suffix in _VVC_SUFFIXES:
        raise InputError(f"{path}: is a VVC stream by its name, must be pictures: decode it first (vvc-nnr decode)")
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix {suffix!r}; pictures are read from {', '.join(SUFFIXES)}")
    if stream is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"{path}: stream {stream} (--stream) is for video files ({', '.join(VIDEO_SUFFIXES)})")
    n_outside = 0
    with naming(path):
        if suffix == ".yuv":
            format = _yuv_format(path, options)
            n_pictures: int | None = _checked_yuv_count(path, format)
        elif suffix == ".y4m":
            format, n_pictures = _agreeing(path, read_y4m_header(path), options), count_y4m_pictures(path)
        elif suffix in IMAGE_SUFFIXES:
            format, n_pictures = _image_format(path, options), 1
        else:
            probe = probe_video(path, stream=stream, allow_damaged=allow_damaged)
            format, n_pictures = _agreeing(path, probe.format, options), probe.n_pictures
            n_outside = probe.n_outside_edit_list
    sequence = find_ctc_sequence(path.name, format.width, format.height)
    ctc_class = ctc_class_of(path.name, format.width, format.height)
    name = sequence.name if sequence else text_of_name(path.stem)
    is_damaged_taken = allow_damaged and suffix in VIDEO_SUFFIXES
    return Source(name, path, format, n_pictures, ctc_class, stream, is_damaged_taken, n_outside)


def _yuv_format(path: Path, options: PartialFormat) -> VideoFormat:
    named = parse_yuv_name(path.name)
    if named.unreadable:
        raise UnsupportedError(
            f"{path}: its name says {named.unreadable[0]!r}; only progressive planar Y, Cb, Cr (or Y alone) is read, "
            "little endian: convert it (ffmpeg -f rawvideo -pix_fmt ...), or rename it if the name is wrong"
        )
    width, height = _size_of(path, options, named)
    known = find_ctc_sequence(path.name, width, height)
    if known:
        width, height = known.width, known.height
    if width is None or height is None:
        raise InputError(
            f"{path}: picture size not known; give width and height (--size), or name the file like "
            "x_416x240_50fps_8bit_420.yuv"
        )
    _refuse_unsure(path, named, options, known)
    depth = _one_of(path, options.bit_depth, named.bit_depths, "bit depths", "bit_depth (--bit-depth)")
    chroma_format = _one_of(
        path, options.chroma_format, named.chroma_formats, "chroma formats", "chroma_format (--chroma-format)"
    )
    fps = _one_of(path, options.fps, named.rates, "picture rates", "fps (--fps)")
    with naming(path):
        return VideoFormat(
            width,
            height,
            depth if depth is not None else known.bit_depth if known else 8,
            chroma_format or "420",
            fps if fps is not None else known.fps if known else DEFAULT_FPS,
            named.colour_ranges[0] if named.colour_ranges else None,
        )


def _check_name_says(path: Path, format: VideoFormat) -> None:
    """Refuses to write under a name that says something else, since the file would be read as that.

    Of a rate of 30 it is not known whether it is said or what pictures have that say none, and any name will do.
    """
    named = parse_yuv_name(path.name)
    written: dict[str, tuple[object, Sequence[object]]] = {
        "picture size": ((format.width, format.height), named.sizes),
        "bit depth": (format.bit_depth, named.bit_depths),
        "chroma format": (format.chroma_format, named.chroma_formats),
        "layout": ("planar", named.unreadable),
        "colour range": (format.colour_range, named.colour_ranges if format.colour_range else ()),
        "picture rate": (format.fps, () if format.fps == DEFAULT_FPS else named.rates),
    }
    if any(abs(rate / format.fps - 1) <= _RATE_TOLERANCE for rate in named.rates):
        del written["picture rate"]
    for what, (value, said) in written.items():
        if said and value not in said:
            detail = f"its name says {what} {_shown(said[0])}, the pictures are {_shown(value)}"
            raise InputError(f"{path}: {detail}; choose another name")


def _size_of(path: Path, options: PartialFormat, named: NamedFormat) -> tuple[int | None, int | None]:
    if options.width is not None and options.height is not None:
        return options.width, options.height
    found = _one_of(path, None, named.sizes, "picture sizes", "width and height (--size)")
    width, height = found or (None, None)
    return (
        options.width if options.width is not None else width,
        options.height if options.height is not None else height,
    )


def _one_of(path: Path, option: _Value | None, named: Sequence[_Value], what: str, asked: str) -> _Value | None:
    """The option, else what the name says; InputError if it says several things."""
    if option is not None or not named:
        return option
    if len(named) > 1:
        raise InputError(f"{path}: its name has {len(named)} {what} ({', '.join(map(_shown, named))}); give {asked}")
    return named[0]


def _shown(value: object) -> str:
    return f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value)


def _refuse_unsure(path: Path, named: NamedFormat, options: PartialFormat, known: CtcSequence | None) -> None:
    """Refuses a name whose words may state something or not, where neither an option nor the catalogue says it."""
    for given, words, what, asked in (
        (options.bit_depth, named.unsure_depth, "a bit depth", "bit_depth (--bit-depth)"),
        (options.chroma_format, named.unsure_chroma, "a chroma format", "chroma_format (--chroma-format)"),
        (options.fps or (known and known.fps), named.unsure_rate, "a picture rate", "fps (--fps)"),
    ):
        if given is None and words:
            raise InputError(f"{path}: {words[0]!r} in its name may state {what}, or not; give {asked}")
    if named.unsure_range:
        word = named.unsure_range[0]
        advice = f"rename it: {word}Range if it does, else without the word"
        raise InputError(f"{path}: {word!r} in its name may state a colour range, or not; {advice}")
    if len(named.colour_ranges) > 1:
        raise InputError(f"{path}: its name has 2 colour ranges ({', '.join(named.colour_ranges)}); rename it")


def _checked_yuv_count(path: Path, format: VideoFormat) -> int:
    n_pictures = count_yuv_pictures(path, format)
    if format.bit_depth == 8 and looks_like_16_bit(path, format):
        raise InputError(f"{path}: wrong bit depth, its samples have two bytes each; give the bit depth (such as 10)")
    return n_pictures


def _image_format(path: Path, options: PartialFormat) -> VideoFormat:
    width, height = read_image_size(path)
    wanted = PartialFormat(options.width, options.height)
    format = _agreeing(path, VideoFormat(width, height), wanted)
    chroma_format = options.chroma_format or "420"
    return replace(
        format,
        bit_depth=8 if options.bit_depth is None else options.bit_depth,
        chroma_format=chroma_format,
        fps=format.fps if options.fps is None else options.fps,
        colour_range="limited",  # as `rgb_to_frame` makes it
        chroma_location="left" if chroma_format == "420" else None,
    )


def _agreeing(path: Path, format: VideoFormat, options: PartialFormat) -> VideoFormat:
    """The file's own format at the rate asked for; InputError if another option contradicts it."""
    for field in ("width", "height", "bit_depth", "chroma_format"):
        wanted = getattr(options, field)
        if wanted is not None and wanted != getattr(format, field):
            name = field.replace("_", " ")
            raise InputError(f"{path}: wrong {name}: {wanted} asked for, the file has {getattr(format, field)}")
    return replace(format, fps=format.fps if options.fps is None else options.fps)
