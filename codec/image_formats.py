"""Still pictures as files of other codecs: JPEG, WebP, AVIF, JPEG 2000, JPEG XL, and which of their bytes count.

| format | encoder | quality | bytes that can be counted |
| --- | --- | --- | --- |
| jpeg | libjpeg (Pillow) | 1 to 100 | `file`, `optimised`, `payload`: see below |
| webp | libwebp (Pillow), lossy, 4:2:0 | 1 to 100 | `file`; `payload`: the VP8 chunk, without the RIFF container |
| avif | libavif (Pillow) | 1 to 100 | `file`; `payload`: the coded picture (`mdat`), without the boxes around it |
| jpeg2000 | OpenJPEG (Pillow), 9/7 wavelet | PSNR that it aims at, 15 to 60 dB | `file`: the bare codestream |
| jpegxl | libjxl (imagecodecs, an extra) | distance, 15 to 0.1 | `file`: the bare codestream |

On small pictures the answer depends on what of a JPEG file is counted. Every number names its rate:

    file       the file as written with the standard Huffman tables (623 bytes of header)
    optimised  the file as written with its own optimised Huffman tables (about 300 bytes of header)
    payload    the entropy-coded bytes of the optimised file alone: tables and headers are taken as shared
"""

from __future__ import annotations

import importlib
import io
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError, features

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.sequences.jpeg import payload_bytes

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
    return _decoded_by_pillow(data, "jpeg")


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


ImageFormat: TypeAlias = Literal["jpeg", "webp", "avif", "jpeg2000", "jpegxl"]
ImageRate: TypeAlias = Literal["file", "optimised", "payload"]
FormatEffort: TypeAlias = Literal["usual", "best"]
"""How long encoders of formats try: as they do by themselves, or as long as they can."""
Rgb: TypeAlias = NDArray[np.uint8]

RATES: Mapping[ImageFormat, tuple[ImageRate, ...]] = {
    "jpeg": ("file", "optimised", "payload"),
    "webp": ("file", "payload"),
    "avif": ("file", "payload"),
    "jpeg2000": ("file",),
    "jpegxl": ("file",),
}
"""Which bytes of a format can be counted."""
TITLES: Mapping[ImageFormat, str] = {
    "jpeg": "JPEG",
    "webp": "WebP",
    "avif": "AVIF",
    "jpeg2000": "JPEG 2000",
    "jpegxl": "JPEG XL",
}
_QUALITIES: Mapping[ImageFormat, range] = {
    "jpeg": range(1, 101),
    "webp": range(1, 101),
    "avif": range(1, 101),
    "jpeg2000": range(150, 601),
    "jpegxl": range(1, 151),
}
_CURVES: Mapping[ImageFormat, tuple[int, ...]] = {
    "jpeg": (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
    "webp": (1, 20, 40, 60, 75, 85, 92, 97),
    "avif": (10, 30, 45, 60, 72, 82, 90, 96),
    "jpeg2000": (240, 270, 300, 330, 360, 390, 420, 450),
    "jpegxl": (1, 51, 91, 121, 136, 142, 146, 149),
}
_PILLOW: Mapping[ImageFormat, tuple[str, str]] = {
    "jpeg": ("JPEG", "jpg"),
    "webp": ("WEBP", "webp"),
    "avif": ("AVIF", "avif"),
    "jpeg2000": ("JPEG2000", "jpg_2000"),
}
"""What Pillow calls a format, and the feature that it needs for it."""
_BEST: Mapping[ImageFormat, str] = {"webp": "method 6", "avif": "speed 0", "jpegxl": "effort 9"}
"""What makes the smallest files of a format for their quality."""
_WITH_SUBSAMPLING: tuple[ImageFormat, ...] = ("jpeg", "avif")
_MAX_RESOLUTIONS, _SMALLEST_BAND = 6, 4
_PAYLOAD_CHUNKS = (b"VP8 ", b"VP8L")


@dataclass(frozen=True, slots=True)
class ImageCoding:
    """A format, and which of its bytes are counted.

    Attributes:
        format: The format.
        rate: What is counted.
        subsampling: Chroma format of JPEG and AVIF; the others have their own.
        effort: How long the encoder tries; "best": AVIF at speed 0, WebP by method 6, JPEG XL at effort 9.

    Raises:
        InputError: If that cannot be counted of this format.
    """

    format: ImageFormat
    rate: ImageRate
    subsampling: JpegSubsampling = "444"
    effort: FormatEffort = "usual"

    def __post_init__(self) -> None:
        if self.format not in RATES:
            raise InputError(f"image format {self.format!r}: must be one of {', '.join(RATES)}")
        if self.rate not in RATES[self.format]:
            known = ", ".join(RATES[self.format])
            raise InputError(f"{TITLES[self.format]} rate {self.rate!r}: must be one of {known}")

    @property
    def name(self) -> str:
        """Format and rate, such as "webp-payload"."""
        return f"{self.format}-{self.rate}"

    @property
    def title(self) -> str:
        """The same for tables, such as "WebP, payload"."""
        return f"{TITLES[self.format]}, {self.rate}"

    @property
    def qualities(self) -> range:
        """All qualities, from the lowest rate to the highest."""
        return _QUALITIES[self.format]

    @property
    def curve(self) -> tuple[int, ...]:
        """Qualities that make a curve, rising."""
        return _CURVES[self.format]

    def setting(self, quality: int) -> str:
        """What tables call a quality, such as "quality 50, 4:4:4, speed 0" or "distance 1.5"."""
        effort = f", {_BEST[self.format]}" if self._is_best else ""
        match self.format:
            case "jpeg2000":
                return f"{quality / 10:g} dB"
            case "jpegxl":
                return f"distance {_distance(quality):g}{effort}"
        chroma = f", {':'.join(self.subsampling)}" if self.format in _WITH_SUBSAMPLING else ""
        return f"quality {quality}{chroma}{effort}"

    @property
    def _is_best(self) -> bool:
        return self.effort == "best" and self.format in _BEST

    def encode(self, rgb: Rgb, quality: int) -> bytes:
        """The file of a picture, the same bytes each time.

        Args:
            rgb: uint8 (H, W, 3).
            quality: One of `qualities`.

        Raises:
            ShapeError: If the picture is not uint8 (H, W, 3).
            InputError: If the quality is out of range, the picture too large for the format, or a package missing.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ShapeError(f"an image must be uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
        if quality not in self.qualities:
            first, last = self.setting(self.qualities[0]), self.setting(self.qualities[-1])
            raise InputError(f"{TITLES[self.format]} {self.setting(quality)}: must be {first} to {last}")
        match self.format:
            case "jpeg":
                return encode_jpeg(rgb, quality, self.subsampling, optimise=self.rate != "file")
            case "jpegxl":
                codecs = _imagecodecs()
                options = {"effort": 9} if self._is_best else {}
                data: bytes = codecs.jpegxl_encode(
                    np.ascontiguousarray(rgb), distance=_distance(quality), usecontainer=False, numthreads=1, **options
                )
                return data
        return _pillow_file(rgb, self.format, self._pillow_options(quality, min(rgb.shape[:2])))

    def decode(self, data: bytes) -> Rgb:
        """The picture in a file of this format, uint8 (H, W, 3).

        Raises:
            BitstreamError: If the file is damaged or of another format.
            UnsupportedError: If it is not RGB or grey, or has more pixels than Pillow takes for safe.
            InputError: If a package for it is missing.
        """
        return _decoded_jpegxl(data) if self.format == "jpegxl" else _decoded_by_pillow(data, self.format)

    def counted_bytes(self, data: bytes) -> int:
        """How many bytes of a file are counted.

        Raises:
            BitstreamError: If the parts of the file do not lead to its end.
        """
        match (self.format, self.rate):
            case ("jpeg", "payload"):
                return payload_bytes(data)
            case ("webp", "payload"):
                return _webp_payload_bytes(data)
            case ("avif", "payload"):
                return _avif_payload_bytes(data)
        return len(data)

    def _pillow_options(self, quality: int, smallest_side: int) -> dict[str, Any]:
        match self.format:
            case "webp":
                return {"quality": quality, "method": 6 if self._is_best else 4}
            case "avif":
                speed = {"speed": 0} if self._is_best else {}
                return {"quality": quality, "subsampling": ":".join(self.subsampling), "max_threads": 1, **speed}
        n_halvings = max(0, int(math.log2(smallest_side / _SMALLEST_BAND)))
        return {
            "quality_mode": "dB",
            "quality_layers": [quality / 10],
            "irreversible": True,
            "no_jp2": True,
            "num_resolutions": min(_MAX_RESOLUTIONS, 1 + n_halvings),
        }


def image_codings(
    formats: Sequence[ImageFormat], subsampling: JpegSubsampling = "444", effort: FormatEffort = "usual"
) -> list[ImageCoding]:
    """Each format with each of its rates.

    Raises:
        InputError: If a format is unknown, named twice, or its encoder is not installed.
    """
    found = [ImageCoding(each, RATES.get(each, ("file",))[0], subsampling) for each in formats]
    twice = [each for each in dict.fromkeys(formats) if list(formats).count(each) > 1]
    if twice:
        raise InputError(f"image formats {', '.join(formats)}: {twice[0]} must be there once")
    for each in found:
        _check_installed(each.format)
    return [ImageCoding(each, rate, subsampling, effort) for each in formats for rate in RATES[each]]


def encoder_version(format: ImageFormat) -> str:
    """Name and version of the encoder of a format, by which its bytes may differ.

    Raises:
        InputError: If it is not installed.
    """
    _check_installed(format)
    match format:
        case "jpeg":
            return jpeg_version()
        case "jpegxl":
            return str(_imagecodecs().jpegxl_version())
        case "jpeg2000":
            return f"OpenJPEG {features.version_codec('jpg_2000')}"
    name = {"webp": "libwebp", "avif": "libavif"}[format]
    return f"{name} {features.version_module(_PILLOW[format][1])}"


def encoder_versions() -> dict[ImageFormat, str]:
    """Names and versions of the encoders of all formats; "not installed" of those that are not."""
    found: dict[ImageFormat, str] = {}
    for format in RATES:
        try:
            found[format] = encoder_version(format)
        except InputError:
            found[format] = "not installed"
    return found


@dataclass(frozen=True, slots=True)
class CodedSet:
    """Images coded at one quality.

    Attributes:
        quality: The quality.
        mean_bpp: Mean over the images of their bits per pixel, of the bytes that are counted.
        streams: One file per image, in order.
    """

    quality: int
    mean_bpp: float
    streams: tuple[bytes, ...]


def encode_set(coding: ImageCoding, images: Sequence[Rgb], quality: int) -> CodedSet:
    """All images at one quality.

    Raises:
        ShapeError: If an image is not uint8 (H, W, 3).
        InputError: If there is no image, or as `ImageCoding.encode`.
    """
    if len(images) == 0:
        raise InputError("no image to encode")
    streams = tuple(coding.encode(image, quality) for image in images)
    n_bits = np.array([8 * coding.counted_bytes(stream) for stream in streams])
    n_pixels = np.array([image.shape[0] * image.shape[1] for image in images])
    return CodedSet(quality, float(np.mean(n_bits / n_pixels)), streams)


def encode_at_bpp(coding: ImageCoding, images: Sequence[Rgb], bpp: float) -> CodedSet:
    """All images at the one quality whose mean rate is closest to `bpp` without exceeding it.

    Found by bisection: the mean rate of a set grows with the quality.

    Raises:
        InputError: If even the lowest quality exceeds `bpp`; otherwise as `encode_set`.
    """
    low, high = coding.qualities[0], coding.qualities[-1] + 1
    best = encode_set(coding, images, low)
    if best.mean_bpp > bpp:
        least = f"{coding.setting(low)} already needs {best.mean_bpp:.2f} bpp"
        raise InputError(f"{coding.title} at {bpp} bpp: {least}")
    while high - low > 1:
        middle = (low + high) // 2
        tried = encode_set(coding, images, middle)
        if tried.mean_bpp <= bpp:
            low, best = middle, tried
        else:
            high = middle
    return best


def _distance(quality: int) -> float:
    """JPEG XL's distance: 15 for the lowest quality, 0.1 for the highest."""
    return (_QUALITIES["jpegxl"].stop - quality) / 10


def _check_installed(format: ImageFormat) -> None:
    if format == "jpegxl":
        _imagecodecs()
    if format in _PILLOW and not features.check(_PILLOW[format][1]):
        raise InputError(f"this Pillow has no {TITLES[format]}: pip install --upgrade pillow, or leave the format out")


def _imagecodecs() -> Any:
    try:
        found = importlib.import_module("imagecodecs")
    except ImportError:
        raise InputError("JPEG XL needs imagecodecs: pip install 'vvc-nnr[image-codecs]'") from None
    if not found.JPEGXL.available:
        raise InputError("this imagecodecs has no JPEG XL: pip install --upgrade imagecodecs")
    return found


def _pillow_file(rgb: Rgb, format: ImageFormat, options: Mapping[str, Any]) -> bytes:
    _check_installed(format)
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(rgb)).save(file, _PILLOW[format][0], **options)
    except (OSError, ValueError) as error:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise InputError(f"an image of {size} cannot be {TITLES[format]}: {error}") from error
    return file.getvalue()


def _decoded_by_pillow(data: bytes, format: ImageFormat) -> Rgb:
    _check_installed(format)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=[_PILLOW[format][0]])
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsupportedError(f"{TITLES[format]} too large: {error}") from error
    except UnidentifiedImageError as error:
        raise BitstreamError(f"the {TITLES[format]} does not decode: {len(data)} bytes, which are none") from error
    except Exception as error:  # Pillow names no family of errors for damaged files
        raise BitstreamError(f"the {TITLES[format]} does not decode: {error}") from error
    if image.mode not in ("RGB", "L"):
        raise UnsupportedError(f"{TITLES[format]} of mode {image.mode}: only RGB and grey")
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _decoded_jpegxl(data: bytes) -> Rgb:
    codecs = _imagecodecs()
    try:
        found = np.asarray(codecs.jpegxl_decode(data, numthreads=1))
    except Exception as error:
        raise BitstreamError(f"the JPEG XL does not decode: {error}") from error
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
        raise UnsupportedError(f"JPEG XL of {found.dtype} {found.shape}: only 8-bit RGB")
    return found


def _webp_payload_bytes(data: bytes) -> int:
    """Bytes of the picture's chunk in a RIFF file (RFC 9649)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise BitstreamError("not a WebP: no RIFF header", offset_bytes=0)
    return sum(size for name, size in _riff_chunks(data) if name in _PAYLOAD_CHUNKS)


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    position = 12
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if position + 8 + size > len(data):
            raise BitstreamError(f"chunk of {size} bytes", field="WebP", offset_bytes=position)
        yield data[position : position + 4], size
        position += 8 + size + size % 2


def _avif_payload_bytes(data: bytes) -> int:
    """Bytes of the media data in a file of boxes (ISO/IEC 14496-12)."""
    position, n_bytes = 0, 0
    while position < len(data):
        size, head = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        size = len(data) - position if size == 0 else size
        if size < head or position + size > len(data):
            raise BitstreamError(f"box of {size} bytes", field="AVIF", offset_bytes=position)
        n_bytes += size - head if data[position + 4 : position + 8] == b"mdat" else 0
        position += size
    return n_bytes
