"""Raw planar YUV files: no header, planes Y[, Cb, Cr] of one picture after the other.

Samples are one byte at 8 bit and two bytes, little endian, at 9 to 16 bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, cast

import numpy as np

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.files import AtomicFile, open_input
from vvc_nnr.sequences.frame import Frame, Plane, VideoFormat


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
    got = frame.format()
    if _short(got) != _short(format):
        raise ShapeError(f"{path}: got a picture of {_short(got)}, the file holds {_short(format)}")
    check_sample_range(frame, f"{path}: the picture to write")


def _short(format: VideoFormat) -> str:
    return f"{format.width}x{format.height} {format.bit_depth} bit {format.chroma_format}"
