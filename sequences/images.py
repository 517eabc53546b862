"""Image files, and RGB to and from YUV: BT.709 matrix, limited range (luma 16..235, chroma 16..240 at 8 bit).

Chroma sits where VVC puts it by default: level with the left luma column of a pair, midway between two rows.
* Down (444 to 420): (1, 2, 1)/4 across, centred on even columns; (1, 1)/2 down. 422: only across.
* Up (for display and RGB metrics): bilinear: across (1) and (1, 1)/2, down (1, 3)/4 and (3, 1)/4.
Edges repeat; odd sizes round chroma up. All steps are in float32 with one rounding at the end.

Source: Rec. ITU-R BT.709-6, section 3; ITU-T H.266, clause 6.2 (nominal 4:2:0 locations).
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import warnings
from collections.abc import Iterator
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
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.files import open_input
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, ChromaFormat, Frame, Plane
from vvc_nnr.sequences.listing import has_suffix, list_files

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")

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
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "PPM", "GIF")
_OTHER_COLOURS = {
    "CMYK": "colours for print (CMYK), which are no RGB without a profile",
    "LAB": "CIE L*a*b* colours, which are no RGB",
}
_SIGNATURES = {
    **{b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"BM": "BMP"},
    **{b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "BigTIFF", b"MM\0+": "BigTIFF"},
}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "HSV", "La", "RGBa")
# Pixels have at least one bit; deflate makes at most 1032 bytes of one.
_MOST_PIXELS_PER_BYTE = {"raw": 8, "zip": 8 * 1032}
_SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""As in PNG's cHRM: white, red, green, blue."""
_PRIMARIES_TOLERANCE, _GAMMA_TOLERANCE = 0.01, 0.01
_PROFILE_TOLERANCE = 3
"""Of 255: by so much the many profiles of sRGB differ among themselves."""
_ON_ITS_SIDE = (5, 6, 7, 8)
_TIFF_IMAGE_DEPTH = 32997
"""Tag of a volume: how many pictures lie behind one another in one page."""
_REDUCED_OR_MASK = 0b101
"""Bits of TIFF's NewSubfileType: another page at lower resolution, and a transparency mask."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image as RGB, uint8 (H, W, 3): upright after its orientation tag (Exif or XMP), grey repeated.

    The values are those of the file: a colour profile is not applied, and the log says so once for each that is not
    sRGB. An alpha channel must be opaque. JPEG has no checksum: damage that libjpeg conceals is not noticed.

    Raises:
        InputError: If the file is missing.
        BitstreamError: If it is no image, damaged or implausibly large.
        UnsupportedError: If it has more than 8 bits per sample, transparent samples, no RGB or grey colours (CMYK),
            several pictures (animations, pages), or is of another format (such as AVIF or JPEG 2000).
    """
    with open_input(path) as file:
        return decode_image(file, str(path))


def decode_image(file: BinaryIO, where: str) -> NDArray[np.uint8]:
    """As `read_image`, from an open file; `where` names it in messages."""
    with _opened(file, where) as image:
        _check_pnm(image, file)
        image.load()
        _check_samples(image)
        _say_unapplied_colours(image, where)
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise UnsupportedError(f"{where}: has transparent samples, which would be lost; lay it over a background")
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of `read_image`'s result, from the file's header; raises as `read_image`."""
    with open_input(path) as file, _opened(file, str(path)) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size may be upright already
            width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
        on_its_side = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
        return (height, width) if on_its_side else (width, height)


def _check_length(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuses an image of more pixels than its bytes can stand for, before memory is asked for them."""
    at = file.tell()
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(at)
    width, height = image.size
    most = [n_bytes * _MOST_PIXELS_PER_BYTE[tile[0]] for tile in image.tile if tile[0] in _MOST_PIXELS_PER_BYTE]
    if width * height > max(most, default=width * height):
        raise BitstreamError(f"{n_bytes} bytes are too few for {width}x{height} pixels")


def _check_webp_size(file: BinaryIO) -> None:
    """Refuses a WebP file that states a huge picture: Pillow reserves its pixels before it looks at the size."""
    at = file.tell()
    head = file.read(30)
    file.seek(at)
    match head[12:16] if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else b"":
        case b"VP8 ":
            width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (26, 28))
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8X":
            width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (24, 27))
        case _:
            return
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise BitstreamError(f"its header states {width}x{height} pixels, must be at most {Image.MAX_IMAGE_PIXELS}")


def _check_png(file: BinaryIO) -> None:
    """Checks the CRC of every chunk, which Pillow's decoder does not; the file's position stays."""
    at = file.tell()
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as image:
        image.verify()
        file.seek(at)


def _check_kind(image: ImageFile.ImageFile, where: str) -> None:
    """Refuses what would be read in part or guessed at."""
    if image.format not in _FORMATS:
        raise UnsupportedError(f"{where}: image format {image.format}; {', '.join(_FORMATS)} are read: convert it")
    if image.mode in _OTHER_COLOURS:
        raise UnsupportedError(f"{where}: {_OTHER_COLOURS[image.mode]}: convert it")
    if image.mode not in _EIGHT_BIT_MODES:
        raise UnsupportedError(f"{where}: image of mode {image.mode}; only 8 bits per sample are read")
    if _is_cut_to_8_bits(image):
        raise UnsupportedError(f"{where}: image of 16 bits per sample; only 8 bits per sample are read")
    if _is_signed(image):
        raise UnsupportedError(f"{where}: image of signed samples; only unsigned ones are read")
    n_pictures = _n_pictures(image)
    if n_pictures > 1:
        more = " or more" if image.format == "PPM" else ""
        raise UnsupportedError(
            f"{where}: holds {n_pictures} pictures{more}; write each to a file of its own, or a video"
        )


def _check_samples(image: Image.Image) -> None:
    """Refuses a decoded palette image of colours that its palette lacks, which Pillow makes black."""
    if image.mode == "P" and image.palette is not None:
        n_colours = len(image.getpalette() or ()) // 3
        largest = cast(tuple[int, int], image.getextrema())[1]
        if largest >= n_colours:
            raise BitstreamError(f"has samples of colour {largest}, its palette has {n_colours} colours")


def _check_pnm(image: Image.Image, file: BinaryIO) -> None:
    """Refuses a PNM file of samples above its largest value, which Pillow cuts, or of more than its picture has."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PPM" or not image.tile:
        return
    decoder, _, offset_bytes, parameters = image.tile[0]
    n_samples = image.width * image.height * len(image.getbands())
    at = file.tell()
    file.seek(offset_bytes)
    if decoder == "ppm":
        most = cast(tuple[str, int], parameters)[1]
        largest = max(file.read(n_samples), default=0)
        if largest > most:
            raise BitstreamError(f"has a sample of {largest}, its header says at most {most}")
    elif decoder == "ppm_plain":
        text = re.sub(rb"#[^\r\n]*", b"", file.read())
        n_found = len(b"".join(text.split())) if image.mode == "1" else len(text.split())
        if n_found > n_samples:
            raise BitstreamError(
                f"has {n_found} samples, a picture of its size {n_samples}: a plain PNM file holds one"
            )
    file.seek(at)


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


def _is_cut_to_8_bits(image: ImageFile.ImageFile) -> bool:
    """Whether the file has deeper samples than Pillow's mode, which is RGB for 16 bits per sample as well."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        depths: tuple[int, ...] = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        return max(depths) > 8
    match image.format, image.tile[0][3] if image.tile else None:
        case "PNG", str(raw_mode):
            return ";16" in raw_mode
        case "PPM", (_, int(largest_value)):
            return largest_value > 255
    return False


def _is_signed(image: ImageFile.ImageFile) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    kinds: tuple[int, ...] = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
    return not set(kinds) <= {1, 4}  # unsigned, undefined


def _n_pictures(image: ImageFile.ImageFile) -> int:
    """How many pictures a file holds, without a TIFF's thumbnails and masks and what belongs to a phone's JPEG."""
    n_frames = int(getattr(image, "n_frames", 1))
    if image.format == "PPM":
        return 1 + _another_follows(image)
    if isinstance(image, MpoImagePlugin.MpoImageFile):
        kinds = [entry["Attribute"]["MPType"] for entry in (image.mpinfo or {}).get(0xB002, ())]
        return sum("Multi-Frame" in kind for kind in kinds) or 1
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return n_frames
    if n_frames == 1:
        return int(image.tag_v2.get(_TIFF_IMAGE_DEPTH, 1))
    is_whole = []
    for page in range(n_frames):
        image.seek(page)
        is_whole.append(not image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & _REDUCED_OR_MASK)
    image.seek(0)
    return sum(is_whole) if is_whole[0] else n_frames


def _another_follows(image: ImageFile.ImageFile) -> bool:
    """Whether a raw PBM, PGM or PPM file goes on with another picture, which Pillow does not tell."""
    if image.fp is None or not image.tile or image.tile[0][0] == "ppm_plain":  # plain ones hold one picture
        return False
    width, height = image.size
    row_bytes = (width + 7) // 8 if image.mode == "1" else width * len(image.getbands())
    at = image.fp.tell()
    image.fp.seek(image.tile[0][2] + row_bytes * height)
    head = image.fp.read(3)
    image.fp.seek(at)
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:].isspace()


# Warnings of Pillow that a baseline tag of a TIFF (size, samples, colours, orientation) points beyond the end of the
# file: it goes on with a default. Others, such as a note of a camera, change no sample.
_LOST_TAG = r".*Skipping tag (?:2[5-9][0-9]|3[0-3][0-9]|5[23][0-9])\b"


@contextmanager
def _opened(file: BinaryIO, where: str) -> Iterator[Image.Image]:
    """The image, not yet decoded, of 8 bits per sample; what Pillow raises on damage becomes BitstreamError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("error", _LOST_TAG)
            _check_webp_size(file)
            with Image.open(file) as image:
                _check_kind(image, where)
                _check_length(image, file)
                if isinstance(image, PngImagePlugin.PngImageFile):
                    _check_png(file)
                yield image
    except UnsupportedError:
        raise
    except UnidentifiedImageError as error:
        raise BitstreamError(f"{where}: {_unidentified(file)}") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise BitstreamError(f"{where}: cannot be decoded as an image: {error}") from error


def _unidentified(file: BinaryIO) -> str:
    """What is said of a file of which Pillow can make nothing, by how it begins."""
    file.seek(0)
    head = file.read(12)
    if not head:
        return "the file is empty"
    is_webp = head[:4] == b"RIFF" and head[8:] == b"WEBP"
    name = "WebP" if is_webp else next((name for begin, name in _SIGNATURES.items() if head.startswith(begin)), None)
    if name is None:
        return f"no image of a known kind ({', '.join(_FORMATS)}), or damaged"
    return f"begins as a {name} and cannot be read: damaged, or of unusual samples, colours or compression; convert it"


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


def frame_to_rgb(frame: Frame) -> NDArray[np.uint8]:
    """The picture as RGB, uint8 (H, W, 3); grey for 4:0:0."""
    step = np.float32(1 << (frame.bit_depth - 8))
    luma = (frame.planes[0].astype(np.float32) - 16 * step) / (219 * step)
    yuv = np.zeros((3, *luma.shape), np.float32)
    yuv[0] = luma
    if frame.chroma_format != "400":
        across, down = CHROMA_SHIFTS[frame.chroma_format]
        for target, plane in zip(yuv[1:], frame.planes[1:], strict=True):
            chroma = (plane.astype(np.float32) - 128 * step) / (224 * step)
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
