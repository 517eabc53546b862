"""Video files (`.mp4`, `.mkv`, ...) decoded by FFmpeg through PyAV, one picture at a time.

Rule for pixel formats. Planar YUV and grey of 8 to 16 bit, limited or full range (`yuvj`), is taken as it is.
Any other format is converted to the nearest planar YUV: the same depth (or the next of 8, 9, 10, 12, 14, 16);
no chroma if grey, 4:2:0 if chroma is coarser both ways, 4:2:2 if coarser across only, else 4:4:4. RGB becomes
BT.709 limited-range 4:4:4, and alpha is dropped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.files import open_input
from vvc_nnr.sequences.frame import ChromaFormat, Frame, Plane, VideoFormat

_PLANAR = re.compile(r"(?:yuvj?(420|422|444)p|gray)(?:(9|10|12|14|16)(le|be))?")
_BIT_DEPTHS = (8, 9, 10, 12, 14, 16)
_ENDIAN = "le" if sys.byteorder == "little" else "be"
_DEFAULT_FPS = Fraction(30)


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """What a video file says of itself: `n_pictures` is the container's word, None where it has none."""

    format: VideoFormat
    n_pictures: int | None


def probe_video(path: Path) -> VideoProbe:
    """Format and picture count of the file's first video stream.

    Raises:
        InputError: If the file is missing.
        BitstreamError: If FFmpeg cannot read it or finds no video in it.
    """
    with _opened(path) as (_, stream):
        target = _target_format(stream.codec_context.format, path)
        chroma_format, bit_depth = _parse_planar(target)
        fps = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
        format = VideoFormat(stream.width, stream.height, bit_depth, chroma_format, Fraction(fps))
        return VideoProbe(format, stream.frames or None)


def read_video(path: Path, start: int = 0, count: int | None = None) -> Iterator[Frame]:
    """The pictures of the first video stream in display order.

    Args:
        path: The file.
        start: Index of the first picture wanted; earlier ones are decoded and dropped.
        count: Number of pictures wanted at most; None for all.

    Raises:
        InputError: If the file is missing.
        BitstreamError: If FFmpeg cannot decode it.
        UnsupportedError: If the picture size changes on the way.
    """
    stop = None if count is None else start + count
    with _opened(path) as (container, stream):
        size = (stream.width, stream.height)
        for picture in islice(container.decode(stream), start, stop):
            if (picture.width, picture.height) != size:
                raise UnsupportedError(
                    f"{path}: the picture size changes from {size} to {(picture.width, picture.height)}"
                )
            yield _to_frame(picture, path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; FFmpeg's errors become BitstreamError."""
    open_input(path).close()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BitstreamError(f"{path}: has no video stream")
            stream = container.streams.video[0]
            if stream.codec_context.format is None or not stream.width or not stream.height:
                raise BitstreamError(f"{path}: its video has no known picture format")
            yield container, stream
    except av.FFmpegError as error:
        raise BitstreamError(f"{path}: FFmpeg cannot decode it: {error.strerror}") from error


def _target_format(source: Any, path: Path) -> str:
    """Name of the planar YUV format nearest to the source format."""
    if _PLANAR.fullmatch(source.name) and not source.name.endswith("le" if _ENDIAN == "be" else "be"):
        return str(source.name)
    deepest_bits = max(component.bits for component in source.components)
    if deepest_bits > _BIT_DEPTHS[-1]:
        raise UnsupportedError(f"{path}: {source.name} has {deepest_bits} bits per sample, at most 16 are read")
    bit_depth = min(depth for depth in _BIT_DEPTHS if depth >= deepest_bits)
    suffix = "" if bit_depth == 8 else f"{bit_depth}{_ENDIAN}"
    chroma_format = _nearest_chroma(source)
    return f"gray{suffix}" if chroma_format == "400" else f"yuv{chroma_format}p{suffix}"


def _nearest_chroma(source: Any) -> ChromaFormat:
    if source.is_rgb or source.has_palette:
        return "444"
    if len(source.components) < 3:  # grey, perhaps with alpha
        return "400"
    halved_across = source.chroma_width(16) < 16
    halved_down = source.chroma_height(16) < 16
    if halved_across:
        return "420" if halved_down else "422"
    return "444"


def _parse_planar(name: str) -> tuple[ChromaFormat, int]:
    match = _PLANAR.fullmatch(name)
    assert match, name
    return cast(ChromaFormat, match[1] or "400"), int(match[2] or 8)


def _to_frame(picture: Any, path: Path) -> Frame:
    target = _target_format(picture.format, path)
    if target != picture.format.name:
        rgb = picture.format.is_rgb or picture.format.has_palette
        picture = picture.reformat(
            format=target,
            dst_colorspace=Colorspace.ITU709 if rgb else None,
            dst_color_range=ColorRange.MPEG if rgb else None,
        )
    chroma_format, bit_depth = _parse_planar(target)
    format = VideoFormat(picture.width, picture.height, bit_depth, chroma_format)
    planes = tuple(
        _copy_plane(plane, shape, format.dtype)
        for plane, shape in zip(picture.planes, format.plane_shapes, strict=True)
    )
    return Frame(planes, bit_depth, chroma_format)


def _copy_plane(plane: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Plane:
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return cast(Plane, rows[: shape[0], : shape[1]].copy())
