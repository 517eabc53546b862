"""Image files, and RGB to and from YUV: BT.709 matrix, limited range (luma 16..235, chroma 16..240 at 8 bit).

Chroma sits where VVC puts it by default: level with the left luma column of a pair, midway between two rows.
* Down (444 to 420): (1, 2, 1)/4 across, centred on even columns; (1, 1)/2 down. 422: only across.
* Up (for display and RGB metrics): bilinear: across (1) and (1, 1)/2, down (1, 3)/4 and (3, 1)/4.
Edges repeat; odd sizes round chroma up. All steps are in float32 with one rounding at the end (RGB of
more than 8 bit in float64).

Source: Rec. ITU-R BT.709-6, section 3; ITU-T H.266, clause 6.2 (nominal 4:2:0 locations).
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageFile,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.files import open_input
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, ChromaFormat, ColourRange, Frame, Plane
from vvc_nnr.sequences.image_checks import (
    SUFFIXES_OF,
    check_content,
    check_kind,
    check_png,
    check_samples,
    check_size,
    check_webp_size,
    unidentified,
)
from vvc_nnr.sequences.listing import has_suffix, list_files

IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)

_log = logging.getLogger(__name__)

_Floats: TypeAlias = NDArray[np.floating[Any]]
_KR, _KB = 0.2126, 0.0722
RGB_TO_YUV = np.array(
    [
        [_KR, 1 - _KR - _KB, _KB],
        [-_KR / (2 - 2 * _KB), (_KR + _KB - 1) / (2 - 2 * _KB), 0.5],
        [0.5, (_KR + _KB - 1) / (2 - 2 * _KR), -_KB / (2 - 2 * _KR)],
    ]
)
_SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""As in PNG's cHRM: white, red, green, blue."""
_PRIMARIES_TOLERANCE, _GAMMA_TOLERANCE = 0.01, 0.01
_PROFILE_TOLERANCE = 3
"""Of 255: by so much the many profiles of sRGB differ among themselves."""
_LIBTIFF_NAME = "tempfile.tif: "
"""What Pillow calls every file before libtiff."""
_MOST_SAID_BYTES = 4096
_ON_ITS_SIDE = (5, 6, 7, 8)


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image as RGB, uint8 (H, W, 3): upright after its orientation tag (Exif or XMP), grey repeated.

    The values are those of the file: a colour profile is not applied, and the log says so once for each that is not
    sRGB. An alpha channel must be opaque. That the file holds all samples which it states is checked (`image_checks`);
    JPEG has no checksum: other damage that libjpeg conceals is not noticed.

    Raises:
        InputError: If the file is missing.
        BitstreamError: If it is no image, damaged or implausibly large.
        UnsupportedError: If it has more than 8 bits per sample, transparent samples, no RGB or grey colours (CMYK),
            several pictures (animations, pages), or is of another format (such as AVIF or JPEG 2000).
    """
    with open_input(path) as file:
        return decode_image(file, str(path))


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """A PNG file of an image, uint8 RGB (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "PNG")
    return file.getvalue()


def decode_image(file: BinaryIO, where: str) -> NDArray[np.uint8]:
    """As `read_image`, from an open file; `where` names it in messages."""
    with _opened(file, where) as image:
        check_content(image, file)
        _load(image)
        check_samples(image)
        _say_unapplied_colours(image, where)
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise UnsupportedError("has transparent samples, which would be lost; lay it over a background")
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _load(image: ImageFile.ImageFile) -> None:
    """Decodes the image; what libtiff writes to standard error becomes part of the error that Pillow raises."""
    if image.format != "TIFF":
        image.load()
        return
    with _native_stderr() as said:
        try:
            image.load()
        except OSError as error:
            first_line = said().removeprefix(_LIBTIFF_NAME).partition("\n")[0]
            raise BitstreamError(first_line or str(error)) from error


@contextmanager
def _native_stderr() -> Iterator[Callable[[], str]]:
    """Catches what native code writes to standard error; yields what tells it, and passes it on unless one raises."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed: what is written there is lost anyway
        yield lambda: ""
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield lambda: os.pread(caught.fileno(), _MOST_SAID_BYTES, 0).decode(errors="replace")
        finally:
            os.dup2(before, 2)
            os.close(before)
        os.write(2, os.pread(caught.fileno(), _MOST_SAID_BYTES, 0))


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of `read_image`'s result, from the file's header; raises as `read_image`."""
    with open_input(path) as file, _opened(file, str(path)) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size may be upright already
            width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
        on_its_side = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
        return (height, width) if on_its_side else (width, height)


def _say_unapplied_colours(image: Image.Image, where: str) -> None:
    """A line of the log, the first time for each kind of colours, where they are not those of sRGB."""
    found = _other_colours(image)
    if found and next(_meetings(found)) == 0:
        _log.warning(
            "%s: %s, which is not applied: its values are taken as sRGB, as those of all such files", where, found
        )


@cache
def _meetings(_colours: str) -> Iterator[int]:
    """Counts how often pictures of one kind of colours were met."""
    return itertools.count()


def _other_colours(image: Image.Image) -> str | None:
    """What a picture states of its colours, None if it is sRGB or nothing."""
    info = image.info
    if profile := info.get("icc_profile"):
        return _other_profile(profile, "L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    if "srgb" in info:
        return None
    gamma, primaries = info.get("gamma"), info.get("chromaticity")
    if gamma and abs(gamma - 1 / 2.2) > _GAMMA_TOLERANCE:
        return f"states a gamma of {gamma:g} (sRGB: 0.45455)"
    if primaries and max(abs(a - b) for a, b in zip(primaries, _SRGB_PRIMARIES, strict=True)) > _PRIMARIES_TOLERANCE:
        return "states primaries that are not those of sRGB"
    if image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03":
        return "states Adobe RGB in its Exif tags"
    return None


@cache
def _other_profile(profile: bytes, mode: str) -> str | None:
    """What a message says of an ICC profile, None if it makes of a grid of colours what sRGB does."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    given = Image.fromarray(grid if mode == "RGB" else levels[None])
    try:
        stated = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown_as = ImageCms.profileToProfile(given, stated, ImageCms.createProfile("sRGB"), outputMode="RGB")
        name = ImageCms.getProfileDescription(stated).strip() or "without a name"
    except Exception as error:  # lcms and Pillow raise many kinds
        return f"has a colour profile that cannot be read ({error})"
    assert shown_as is not None
    off = np.abs(np.asarray(shown_as).astype(int) - np.asarray(given.convert("RGB"))).max()
    return f"has the colour profile {name!r}" if off > _PROFILE_TOLERANCE else None


# Warnings of Pillow that a baseline tag of a TIFF (size, samples, colours, orientation) points beyond the end of the
# file: it goes on with a default. Others, such as a note of a camera, change no sample.
_LOST_TAG = r".*Skipping tag (?:2[5-9][0-9]|3[0-3][0-9]|5[23][0-9])\b"


@contextmanager
def _opened(file: BinaryIO, where: str) -> Iterator[ImageFile.ImageFile]:
    """The image, not yet decoded, of 8 bits per sample; what Pillow raises on damage becomes BitstreamError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("error", _LOST_TAG)
            check_webp_size(file)
            with Image.open(file) as image:
                check_kind(image, file)
                check_size(image, file)
                if isinstance(image, PngImagePlugin.PngImageFile):  # its size too may be given behind the samples
                    check_png(image, file)
                yield image
    except UnsupportedError as error:
        raise error.prefixed(where) from error
    except UnidentifiedImageError as error:
        raise unidentified(file).prefixed(where) from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise BitstreamError(f"{where}: cannot be decoded as an image: {error}") from error


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, by name; the log says what else was in it.

    Raises:
        InputError: If there is no such folder or it has no image.
    """
    listing = list_files(folder, has_suffix(IMAGE_SUFFIXES), enter=False)
    if not listing.paths:
        raise InputError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}){listing.words_if_empty()}")
    listing.left_out.tell(folder)
    return list(listing.paths)


def rgb_to_frame(rgb: NDArray[np.uint8], chroma_format: ChromaFormat = "420", bit_depth: int = 8) -> Frame:
    """The picture of an RGB or grey image; a grey one gets neutral chroma (or none with "400").

    Args:
        rgb: uint8 (H, W, 3), or (H, W) for grey.
        chroma_format: "400", "420", "422" or "444".
        bit_depth: 8 to 16.

    Raises:
        ShapeError: If `rgb` has another shape or dtype.
        InputError: If the chroma format or bit depth is none of those.
    """
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[:, :, None], 3, axis=2)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ShapeError(f"got an image {rgb.dtype} {rgb.shape}, want uint8 (H, W, 3) or (H, W)")
    yuv = np.einsum("pc,hwc->phw", (RGB_TO_YUV / 255).astype(np.float32), rgb.astype(np.float32))
    step = np.float32(1 << max(bit_depth - 8, 0))
    planes = [_quantised(yuv[0] * (219 * step) + 16 * step, bit_depth)]
    if chroma_format != "400":
        across, down = CHROMA_SHIFTS.get(chroma_format, (0, 0))
        small = [shrunk(plane, across, down) for plane in yuv[1:]]
        planes += [_quantised(plane * (224 * step) + 128 * step, bit_depth) for plane in small]
    return Frame(tuple(planes), bit_depth, chroma_format)


def rgb_planes_to_frame(red: Plane, green: Plane, blue: Plane, bit_depth: int) -> Frame:
    """The 4:4:4 picture of R, G and B of full range, at their bit depth; rounded once, half to even.

    Args:
        red: Samples (height, width) of 0 to 2**bit_depth - 1; the others likewise.
        green: G.
        blue: B.
        bit_depth: 8 to 16.
    """
    peak, step = (1 << bit_depth) - 1, 1 << (bit_depth - 8)
    planes = []
    for (of_red, of_green, of_blue), steps, zero in zip(
        RGB_TO_YUV / peak, (219, 224, 224), (16, 128, 128), strict=True
    ):
        value = of_red * red + of_green * green + of_blue * blue
        planes.append(_quantised(value * (steps * step) + zero * step, bit_depth))
    return Frame(tuple(planes), bit_depth, "444")


def nominal_steps(bit_depth: int, colour_range: ColourRange | None) -> tuple[np.float32, np.float32, np.float32]:
    """Code values of black, from black to white, and of chroma from -0.5 to 0.5 (ITU-T H.273, clause 8.3).

    Args:
        bit_depth: 8 to 16.
        colour_range: Of the samples; None: limited.
    """
    if colour_range == "full":
        return np.float32(0), np.float32((1 << bit_depth) - 1), np.float32((1 << bit_depth) - 1)
    step = 1 << (bit_depth - 8)
    return np.float32(16 * step), np.float32(219 * step), np.float32(224 * step)


def frame_to_rgb(frame: Frame, colour_range: ColourRange | None = None) -> NDArray[np.uint8]:
    """The picture as RGB, uint8 (H, W, 3); grey for 4:0:0.

    Args:
        frame: The picture.
        colour_range: Of its samples; None: limited.
    """
    black, luma_steps, chroma_steps = nominal_steps(frame.bit_depth, colour_range)
    luma = (frame.planes[0].astype(np.float32) - black) / luma_steps
    yuv = np.zeros((3, *luma.shape), np.float32)
    yuv[0] = luma
    if frame.chroma_format != "400":
        across, down = CHROMA_SHIFTS[frame.chroma_format]
        for target, plane in zip(yuv[1:], frame.planes[1:], strict=True):
            chroma = (plane.astype(np.float32) - np.float32(1 << (frame.bit_depth - 1))) / chroma_steps
            target[:] = grown(chroma, across, down)[: frame.height, : frame.width]
    matrix = (np.linalg.inv(RGB_TO_YUV) * 255).astype(np.float32)
    rgb: _Floats = np.einsum("cp,phw->hwc", matrix, yuv)
    return np.rint(rgb).clip(0, 255).astype(np.uint8)


def _quantised(plane: _Floats, bit_depth: int) -> Plane:
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return cast(Plane, np.rint(plane).clip(0, (1 << bit_depth) - 1).astype(dtype))


def shrunk(plane: _Floats, across: int, down: int) -> _Floats:
    """A plane of luma's size as chroma samples lie: half the width if `across`, half the height if `down`."""
    if across:
        wide = np.pad(plane, ((0, 0), (1, 1)), mode="edge")
        plane = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / 4
    if down:
        tall = np.pad(plane, ((0, plane.shape[0] % 2), (0, 0)), mode="edge")
        plane = (tall[::2] + tall[1::2]) / 2
    return plane


def grown(plane: _Floats, across: int, down: int) -> _Floats:
    """The plane at twice its width and/or height (one more than luma if that is odd)."""
    if across:
        right = np.concatenate([plane[:, 1:], plane[:, -1:]], axis=1)
        plane = np.stack([plane, (plane + right) / 2], axis=2).reshape(plane.shape[0], -1)
    if down:
        above = np.concatenate([plane[:1], plane[:-1]])
        below = np.concatenate([plane[1:], plane[-1:]])
        plane = np.stack([(above + 3 * plane) / 4, (3 * plane + below) / 4], axis=1).reshape(-1, plane.shape[1])
    return plane
