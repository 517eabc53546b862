"""JPEG by libjpeg (Pillow), and the three ways to count its rate.

On small pictures the answer depends on what is counted. Every number names its rate:

    file       the file as written with the standard Huffman tables (623 bytes of header)
    optimised  the file as written with its own optimised Huffman tables (about 300 bytes of header)
    payload    the entropy-coded bytes of the optimised file alone: tables and headers are taken as shared
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, features

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError

JpegSubsampling: TypeAlias = Literal["444", "422", "420"]

_PILLOW_SUBSAMPLING: dict[JpegSubsampling, str] = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}
MIN_QUALITY = 1
MAX_QUALITY = 100
MAX_SIDE = 65_500
"""libjpeg's limit."""

_MAX_BYTES_PER_PIXEL = 12
"""Each of three samples takes at most 26 bits, a code of 16 and a value of 10; the rest is for stuffing."""

_HEADER_BYTES = 1 << 16
_BUFFER_LOCK = threading.Lock()
_START_OF_IMAGE = 0xD8
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_INSIDE_SCAN = (0x00, *range(0xD0, 0xD8))
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


def jpeg_version() -> str:
    """Name and version of the encoder, by which its bytes may differ."""
    turbo = features.version_feature("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}"


def encode_jpeg(
    rgb: NDArray[np.uint8], quality: int, subsampling: JpegSubsampling = "444", optimise: bool = False
) -> bytes:
    """A baseline JPEG file.

    Args:
        rgb: uint8 (H, W, 3).
        quality: libjpeg's quality, 1 to 100.
        subsampling: Chroma format, "444", "422" or "420".
        optimise: Use Huffman tables made for this image instead of the standard ones.

    Raises:
        ShapeError: If the image is not uint8 (H, W, 3).
        InputError: If quality or subsampling is out of range, or the image too large for JPEG.
    """
    _check_rgb(rgb)
    if not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise InputError(f"JPEG quality {quality}: must be {MIN_QUALITY} to {MAX_QUALITY}")
    if subsampling not in _PILLOW_SUBSAMPLING:
        raise InputError(f"JPEG subsampling {subsampling!r}: must be one of {', '.join(_PILLOW_SUBSAMPLING)}")
    if max(rgb.shape[:2]) > MAX_SIDE:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise InputError(f"an image of {size} cannot be a JPEG: sides of at most {MAX_SIDE} can")
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(rgb))
    chroma = _PILLOW_SUBSAMPLING[subsampling]
    try:
        with _pillow_buffer(_MAX_BYTES_PER_PIXEL * image.width * image.height) if optimise else nullcontext():
            image.save(file, "JPEG", quality=quality, subsampling=chroma, optimize=optimise)
    except OSError as error:
        raise InputError(f"an image of {rgb.shape[1]}x{rgb.shape[0]} cannot be a JPEG: {error}") from error
    return file.getvalue()


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """The image in an untrusted JPEG file, uint8 (H, W, 3); grey images get three equal channels.

    Raises:
        BitstreamError: If the file is damaged or cut short.
        UnsupportedError: For CMYK, and for more pixels than Pillow takes for safe (about 89 million).
    """
    try:
        image = _load(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsupportedError(f"JPEG too large: {error}") from error
    except Exception as error:  # Pillow names no family of errors for damaged files
        raise BitstreamError(f"the JPEG does not decode: {error}") from error
    if image.mode not in ("RGB", "L"):
        raise UnsupportedError(f"JPEG of mode {image.mode}: only RGB and grey")
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def payload_bytes(data: bytes) -> int:
    """How many bytes of a JPEG file are entropy-coded data: its scans with stuffing, without any header.

    Raises:
        BitstreamError: If the file's segments do not lead from SOI to EOI.
    """
    return sum(end - start for start, end in _scans(data))


@contextmanager
def _pillow_buffer(n_bytes: int) -> Iterator[None]:
    """Lets Pillow's writers use a buffer of at least so many bytes, and what a header takes.

    Optimised tables need the whole file in one buffer, and Pillow's guess is too small for noise at high qualities.
    The size is a setting of Pillow's module that changes no byte; two threads must not restore each other's.
    """
    with _BUFFER_LOCK:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, n_bytes + _HEADER_BYTES)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before


def _check_rgb(rgb: NDArray[np.uint8]) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ShapeError(f"an image must be uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")


def _load(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        image.load()
    return image


def _scans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields start and end of each scan's entropy-coded data (ITU-T T.81, annex B)."""
    if data[:2] != bytes((0xFF, _START_OF_IMAGE)):
        raise BitstreamError("not a JPEG: no SOI marker", offset_bytes=0)
    position = 2
    while (marker := _marker(data, position)) != _END_OF_IMAGE:
        position += 2
        if marker in _WITHOUT_LENGTH:
            continue
        length_bytes = int.from_bytes(data[position : position + 2], "big")
        if length_bytes < 2 or position + length_bytes > len(data):
            raise BitstreamError(f"segment of {length_bytes} bytes", field="JPEG", offset_bytes=position)
        position += length_bytes
        if marker == _START_OF_SCAN:
            end = _end_of_scan(data, position)
            yield position, end
            position = end


def _marker(data: bytes, position: int) -> int:
    if position + 2 > len(data) or data[position] != 0xFF:
        raise BitstreamError("no JPEG marker", field="JPEG", offset_bytes=position)
    return data[position + 1]


def _end_of_scan(data: bytes, position: int) -> int:
    """Where the next marker is that is neither byte stuffing nor a restart."""
    while (position := data.find(0xFF, position)) >= 0 and position + 1 < len(data):
        if data[position + 1] not in _INSIDE_SCAN:
            return position
        position += 2
    raise BitstreamError("the scan has no end", field="JPEG", offset_bytes=len(data))
