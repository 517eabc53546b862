"""VVC decoding by FFmpeg's own decoder (PyAV), each picture checked.

A surprise to know first: FFmpeg's decoder may drop a damaged picture without a word, and it does not look at the
MD5 of a picture. So this package cuts the stream into access units itself, numbers them, and holds every
picture that comes out against its own unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import av
import numpy as np

from vvc_nnr.codec.nal import PictureUnit, picture_units
from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.files import read_bytes
from vvc_nnr.sequences.frame import ChromaFormat, Frame, Plane


def decode_vvc(
    stream: bytes | Path, *, width: int | None = None, height: int | None = None, check: bool = True
) -> Iterator[Frame]:
    """Yields the decoded pictures of a VVC byte stream, one at a time, at the stream's own bit depth.

    What breaks the stream as a whole is noticed before the first picture, what breaks one picture at its turn.
    A stream that was cut exactly between two access units cannot be told from a shorter one.

    Args:
        stream: The byte stream, or the path of a file that holds it.
        width: Crops to this luma width, for pictures that were padded before encoding; None: as coded.
        height: Crops to this luma height; None: as coded.
        check: Hold each picture against its MD5 SEI where the stream has one.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError: If the stream is damaged: undecodable, pictures missing, or an MD5 that differs.
        UnsupportedError: If FFmpeg does not implement a tool that the stream uses.
    """
    data = read_bytes(stream) if isinstance(stream, Path) else stream
    units = picture_units(data)
    if not units:
        raise BitstreamError("the stream holds no picture")
    has_md5 = check and any(u.md5 for u in units)
    is_intra = all(u.is_intra for u in units)
    decoded: set[int] = set()
    for coded, index, (crop_width, crop_height) in _decode_uncropped(data, units):
        if index in decoded or (is_intra and index != len(decoded)):
            raise BitstreamError(f"picture {index} came as number {len(decoded)}: damaged or lost pictures")
        if has_md5:
            _check_md5(coded, units[index], index)
        decoded.add(index)
        yield coded.cropped(width or crop_width, height or crop_height)
    if len(decoded) != len(units):
        raise BitstreamError(f"{len(decoded)} of {len(units)} pictures decoded: the stream is damaged")


def _decode_uncropped(data: bytes, units: list[PictureUnit]) -> Iterator[tuple[Frame, int, tuple[int, int]]]:
    """Yields each decoded picture with its padding, the index of its unit, and the (width, height) to crop to."""
    try:
        decoder = av.CodecContext.create("vvc", "r")
        decoder.options = {"apply_cropping": "0"}
        for packet in _packets(data, units):
            for picture in decoder.decode(packet):
                assert picture.pts is not None
                yield _frame(picture), picture.pts, (decoder.width, decoder.height)
    except av.error.PatchWelcomeError as error:
        raise UnsupportedError(f"FFmpeg does not decode this VVC stream: {error}") from error
    except av.error.FFmpegError as error:
        raise BitstreamError(f"the VVC stream does not decode: {error}") from error


def _packets(data: bytes, units: list[PictureUnit]) -> Iterator[av.Packet[Any] | None]:
    """The access units with their index as time stamp, then None to flush the decoder."""
    ends = [*(unit.begin_bytes for unit in units[1:]), len(data)]
    for index, (unit, end) in enumerate(zip(units, ends, strict=True)):
        packet = av.Packet(data[unit.begin_bytes : end])
        packet.pts = index
        yield packet
    yield None


def _frame(picture: av.VideoFrame) -> Frame:
    """A PyAV picture as a Frame; copies the samples without row padding."""
    bit_depth = picture.format.components[0].bits
    planes: list[Plane] = []
    for plane in picture.planes:
        samples = cast(Plane, np.frombuffer(memoryview(plane), np.uint8 if bit_depth == 8 else np.uint16))
        planes.append(samples.reshape(plane.height, -1)[:, : plane.width].copy())
    return Frame(tuple(planes), bit_depth, _chroma_format(picture.format.name))


def _chroma_format(pixel_format: str) -> ChromaFormat:
    if pixel_format.startswith("gray"):
        return "400"
    for chroma_format in get_args(ChromaFormat):
        if pixel_format.startswith(f"yuv{chroma_format}p"):
            return chroma_format  # type: ignore[no-any-return]
    raise UnsupportedError(f"pixel format {pixel_format} of the VVC stream")


def _check_md5(frame: Frame, unit: PictureUnit, index: int) -> None:
    if not unit.md5:
        raise BitstreamError(f"picture {index} has no MD5 SEI, others have", offset_bytes=unit.offset_bytes)
    planes = (np.ascontiguousarray(plane) for plane in frame.planes)
    if tuple(hashlib.md5(p.tobytes(), usedforsecurity=False).digest() for p in planes) != unit.md5:
        raise BitstreamError(f"picture {index} does not match its MD5 SEI", offset_bytes=unit.offset_bytes)
