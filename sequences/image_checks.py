"""What an image file states against what it holds, where Pillow guesses, pads, cuts or leaves out in silence.

| format | what is refused, and Pillow takes |
| --- | --- |
| PNG | checksums that fail, fewer rows than the header says, critical chunks that are not known |
| JPEG | scans that hold less than the header says (`jpeg`) |
| TIFF | pieces that are missing or too short, samples beside colours and alpha, transparency masks |
| PNM | samples above the largest value, several pictures |
| GIF | a picture that covers a part of its canvas only |
| all | more than 8 bits, signed and float samples, colours that are no RGB, several pictures |

Source: PNG (W3C, third edition), clauses 5.4, 8 and 11; TIFF 6.0; the netpbm manuals.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from PIL import ExifTags, Image, ImageFile, MpoImagePlugin, PngImagePlugin, TiffImagePlugin

from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.sequences.jpeg import check_scans, stated_height, unusual_kind

SUFFIXES_OF = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
}
"""The formats that are read, as Pillow names them, and the suffixes of their files."""

_OTHER_COLOURS = {
    "CMYK": "colours for print (CMYK), which are no RGB without a profile",
    "LAB": "CIE L*a*b* colours, which are no RGB",
}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "HSV", "La", "RGBa")
# Pixels have at least one bit; deflate makes at most 1032 bytes of one.
_MOST_PIXELS_PER_BYTE = {"raw": 8, "zip": 8 * 1032}
_CRITICAL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of PNG's colour types."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps across and down, of the passes of an interlaced PNG."""
_INFLATED_BYTES = 1 << 20

_TIFF_IMAGE_DEPTH = 32997
"""Tag of a volume: how many pictures lie behind one another in one page."""
_TIFF_SUBFILE_TYPE = 255
"""The older form of NewSubfileType."""
_JPEG_TABLES = 347
_REDUCED, _MASK = 0b001, 0b100
"""Bits of TIFF's NewSubfileType: another page at lower resolution, and a transparency mask."""
_TIFF_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 6: 3}
"""Samples per pixel of TIFF's grey (white or black is zero), RGB, palette and YCbCr."""
_RAW, _JPEG = 1, 7
_YCBCR = 6
_UNUSUAL_COLOURS = {
    **{4: "a mask", 5: "colours for print", 8: "CIE L*a*b* colours", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours"},
    **{
        32803: "a camera's raw samples",
        34892: "a camera's raw samples",
        32844: "LogL samples",
        32845: "LogLuv samples",
    },
}
_UNUSUAL_COMPRESSIONS = {
    **{33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34933: "PNG", 50001: "WebP", 50002: "JPEG XL"},
    **{52546: "JPEG XL", 34892: "a camera's lossy JPEG", 34661: "JBIG", 34887: "LERC"},
}

_SIGNATURES = {
    **{b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"BM": "BMP"},
    **{b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "BigTIFF", b"MM\0+": "BigTIFF"},
}
_OTHER_FORMATS = {
    **{b"P7\n": "PAM", b"PF\n": "PFM", b"Pf\n": "PFM", b"v/1\x01": "OpenEXR", b"%PDF": "PDF", b"<svg": "SVG"},
    **{b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"\x93NUMPY": "NumPy", b"PAR1": "parquet"},
}


def check_size(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuses an image of more pixels than its bytes can stand for, before memory is asked for them.

    Raises:
        BitstreamError: If it is one.
    """
    at = file.tell()
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(at)
    width, height = image.size
    most = [n_bytes * _MOST_PIXELS_PER_BYTE[tile[0]] for tile in image.tile if tile[0] in _MOST_PIXELS_PER_BYTE]
    if width * height > max(most, default=width * height):
        raise BitstreamError(f"{n_bytes} bytes are too few for {width}x{height} pixels")


def check_webp_size(file: BinaryIO) -> None:
    """Refuses a WebP file that states a huge picture: Pillow reserves its pixels before it looks at the size.

    Raises:
        BitstreamError: If its header is one.
    """
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


def check_kind(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuses what would be read in part or guessed at, and goes to the picture of a TIFF behind its thumbnails.

    Args:
        image: The image, not yet decoded.
        file: Its file.

    Raises:
        UnsupportedError: If it is such a picture.
        BitstreamError: If it is damaged.
    """
    if image.format not in SUFFIXES_OF:
        raise UnsupportedError(f"image format {image.format}; {', '.join(SUFFIXES_OF)} are read: convert it")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        n_pictures = _find_tiff_page(image, file)
    else:
        n_pictures = _n_pictures(image)
    if image.mode in _OTHER_COLOURS:
        raise UnsupportedError(f"{_OTHER_COLOURS[image.mode]}: convert it")
    if image.mode not in _EIGHT_BIT_MODES:
        raise UnsupportedError(f"image of mode {image.mode}; only 8 bits per sample are read")
    if _is_cut_to_8_bits(image):
        raise UnsupportedError("image of 16 bits per sample; only 8 bits per sample are read")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_extra_samples(image)
        _check_colour_map(image)
    if _is_signed(image):
        raise UnsupportedError("image of signed samples; only unsigned ones are read")
    if n_pictures > 1:
        more = " or more" if image.format == "PPM" else ""
        raise UnsupportedError(f"holds {n_pictures} pictures{more}; write each to a file of its own, or a video")
    if image.format == "GIF" and image.tile and image.tile[0][1] != (0, 0, *image.size):
        raise UnsupportedError("its picture covers only a part of its canvas; lay it over a background")


def check_content(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuses an image but a PNG, not yet decoded, that holds less than it states or other samples.

    Raises:
        BitstreamError: If it is one.
    """
    at = file.tell()
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, file)
    elif image.format == "PPM":
        _check_pnm(image, file)
    elif image.format in ("JPEG", "MPO"):
        file.seek(0)
        check_scans(file.read())
    file.seek(at)


def check_samples(image: Image.Image) -> None:
    """Refuses a decoded palette image of colours that its palette lacks, which Pillow makes black.

    Raises:
        BitstreamError: If it is one.
    """
    if image.mode == "P" and image.palette is not None:
        n_colours = len(image.getpalette() or ()) // 3
        largest = cast(tuple[int, int], image.getextrema())[1]
        if largest >= n_colours:
            raise BitstreamError(f"has samples of colour {largest}, its palette has {n_colours} colours")


def _check_pnm(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuses a PNM file of samples above its largest value, which Pillow cuts, or of more than its picture has."""
    if not image.tile:
        return
    decoder, _, offset_bytes, parameters = image.tile[0]
    n_samples = image.width * image.height * len(image.getbands())
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


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One chunk of a PNG file."""

    name: bytes
    data: bytes


def _png_chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Yields the chunks of a PNG file, IEND among them, whose checksums are right."""
    n_bytes = file.seek(0, os.SEEK_END)
    position = file.seek(8)
    while True:
        head = file.read(8)
        length_bytes, name = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or position + 12 + length_bytes > n_bytes:
            raise BitstreamError(f"the file ends in chunk {name.decode('latin-1')!r}, before IEND")
        data, checksum = file.read(length_bytes), file.read(4)
        if zlib.crc32(name + data) != int.from_bytes(checksum, "big"):
            raise BitstreamError(f"the checksum of its chunk {name.decode('latin-1')!r} is wrong: it is damaged")
        yield _Chunk(name, data)
        if name == b"IEND":
            return
        position = file.tell()


def check_png(image: PngImagePlugin.PngImageFile, file: BinaryIO) -> None:
    """Checks checksums, names of chunks and that all rows are there; sets the colour that is transparent.

    Of that colour the lowest bits count, at the depth of the file: Pillow takes all, and compares 8-bit samples.

    Raises:
        BitstreamError: If it is damaged.
        UnsupportedError: If it has critical chunks that are not known.
    """
    at = file.tell()
    width, height = image.size
    depth_bits, colour_type, is_interlaced = 8, 2, 0
    lacking, inflater = 0, zlib.decompressobj()
    for chunk in _png_chunks(file):
        if chunk.name not in _CRITICAL_CHUNKS and not chunk.name[0] & 0x20:
            name = chunk.name.decode("latin-1")
            raise UnsupportedError(f"has a chunk {name!r}, without which it must not be shown, and which is not known")
        if chunk.name == b"IHDR":
            depth_bits, colour_type, is_interlaced = chunk.data[8], chunk.data[9], chunk.data[12]
            lacking = _png_bytes(width, height, depth_bits * _CHANNELS.get(colour_type, 1), bool(is_interlaced))
        elif chunk.name == b"tRNS" and colour_type in (0, 2):
            stored = [int.from_bytes(chunk.data[i : i + 2], "big") for i in range(0, 2 * _CHANNELS[colour_type], 2)]
            most = (1 << depth_bits) - 1
            key = tuple((value & most) * 255 // most for value in stored)
            image.info["transparency"] = key if colour_type == 2 else key[0]
        elif chunk.name == b"IDAT":
            waiting = chunk.data
            while waiting and lacking > 0:
                lacking -= len(inflater.decompress(waiting, _INFLATED_BYTES))
                waiting = inflater.unconsumed_tail
    if lacking > 0:
        raise BitstreamError(
            f"its pixel data are {lacking} bytes too few for {width}x{height}: it is cut short or damaged"
        )
    file.seek(at)


def _png_bytes(width: int, height: int, bits_per_pixel: int, is_interlaced: bool) -> int:
    """Bytes of a PNG's rows with their filters, before they are deflated."""
    n_bytes = 0
    for left, top, across, down in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            n_bytes += rows * (1 + -(-columns * bits_per_pixel // 8))
    return n_bytes


def _tiff_pages(file: BinaryIO) -> list[TiffImagePlugin.ImageFileDirectory_v2]:
    """The tags of each page of a TIFF file, which may be pages that Pillow does not decode."""
    file.seek(0)
    head = file.read(8)
    pages = [TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)]
    offsets_bytes: set[int] = set()
    while (offset_bytes := cast(int, pages[-1].next)) and offset_bytes not in offsets_bytes:
        offsets_bytes.add(offset_bytes)
        file.seek(offset_bytes)
        pages.append(TiffImagePlugin.ImageFileDirectory_v2(head + bytes(8) if 43 in head[2:4] else head))
        pages[-1].load(file)
    return pages[1:]


def _find_tiff_page(image: TiffImagePlugin.TiffImageFile, file: BinaryIO) -> int:
    """Goes to the first page that is no thumbnail; how many pictures there are without thumbnails."""
    at = file.tell()
    pages = _tiff_pages(file)
    file.seek(at)
    kinds = [page.get(ExifTags.Base.NewSubfileType, 0) | (page.get(_TIFF_SUBFILE_TYPE) == 2) for page in pages]
    if any(kind & _MASK and not kind & _REDUCED for kind in kinds):
        raise UnsupportedError("has a transparency mask, which would be lost; lay it over a background")
    whole = [number for number, kind in enumerate(kinds) if not kind & _REDUCED] or list(range(len(pages)))
    if len(whole) > 1:
        return len(whole)
    if whole[0] > 0:
        image.seek(whole[0])
    return int(pages[whole[0]].get(_TIFF_IMAGE_DEPTH, 1))


def _check_colour_map(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuses a colour map whose values may be of 8 bits, against the rule: they would come out as black."""
    if 0 < max(image.tag_v2.get(TiffImagePlugin.COLORMAP, (0,))) < 256:
        raise UnsupportedError("has a colour map of values up to 255; must be up to 65535: convert it")


def _check_extra_samples(image: TiffImagePlugin.TiffImageFile) -> None:
    tags = image.tag_v2
    n_colours = _TIFF_COLOURS.get(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, -1))
    n_extra = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) - n_colours if n_colours else 0
    kinds: tuple[int, ...] = tags.get(TiffImagePlugin.EXTRASAMPLES, (0,))
    if n_extra > 1 or (n_extra == 1 and kinds[0] == 0):
        raise UnsupportedError(
            f"has {n_extra} more sample{'s' * (n_extra > 1)} per pixel than its colours, which would be lost; "
            "save it without other channels"
        )


def _check_tiff(image: TiffImagePlugin.TiffImageFile, file: BinaryIO) -> None:
    """Checks that the pieces of a TIFF, strips or tiles, are there and as long as their rows."""
    tags: Any = image.tag_v2
    width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    is_planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    n_samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    what, across, down = "strip", width, min(tags.get(TiffImagePlugin.ROWSPERSTRIP, height), height)
    offsets, lengths_bytes = tags.get(TiffImagePlugin.STRIPOFFSETS, ()), tags.get(TiffImagePlugin.STRIPBYTECOUNTS, ())
    if TiffImagePlugin.TILEOFFSETS in tags:
        what, across, down = "tile", tags[TiffImagePlugin.TILEWIDTH], tags[TiffImagePlugin.TILELENGTH]
        offsets, lengths_bytes = tags[TiffImagePlugin.TILEOFFSETS], tags.get(TiffImagePlugin.TILEBYTECOUNTS, ())
    n_down = -(-height // down)
    n_pieces = n_down * -(-width // across) * (n_samples if is_planar else 1)
    if len(offsets) < n_pieces:
        raise BitstreamError(f"has {len(offsets)} of the {n_pieces} {what}s that {width}x{height} pixels take")
    compression = tags.get(TiffImagePlugin.COMPRESSION, _RAW)
    row_bits = across * max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) * (1 if is_planar else n_samples)
    is_raw = compression == _RAW and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != _YCBCR
    for number, (offset, n_bytes) in enumerate(zip(offsets, lengths_bytes, strict=False)):
        rows = down if what == "tile" else min(down, height - number % n_down * down)
        least = rows * -(-row_bits // 8) if is_raw else 1
        if number < n_pieces and n_bytes < least:
            raise BitstreamError(f"{what} {number} has {n_bytes} bytes; must be at least {least} for its {rows} rows")
        if number < n_pieces and compression == _JPEG:
            file.seek(offset)
            data = tags.get(_JPEG_TABLES, b"\xff\xd8\xff\xd9")[:-2] + file.read(n_bytes)[2:]
            if stated_height(data) < rows:
                raise BitstreamError(f"{what} {number} has {stated_height(data)} rows; must be {rows}")
            check_scans(data)


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
    """How many pictures a file holds, without what belongs to a phone's JPEG."""
    n_frames = int(getattr(image, "n_frames", 1))
    if image.format == "PPM":
        return 1 + _another_follows(image)
    if isinstance(image, MpoImagePlugin.MpoImageFile):
        kinds = [entry["Attribute"]["MPType"] for entry in (image.mpinfo or {}).get(0xB002, ())]
        return sum("Multi-Frame" in kind for kind in kinds) or 1
    return n_frames


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


def unidentified(file: BinaryIO) -> BitstreamError | UnsupportedError:
    """What is said of a file of which Pillow can make nothing, by how it begins."""
    file.seek(0)
    head = file.read(12)
    if not head:
        return BitstreamError("the file is empty")
    other = next((name for begin, name in _OTHER_FORMATS.items() if head.startswith(begin)), None)
    if other:
        return UnsupportedError(f"format {other}; {', '.join(SUFFIXES_OF)} are read: convert it")
    is_webp = head[:4] == b"RIFF" and head[8:] == b"WEBP"
    name = "WebP" if is_webp else next((name for begin, name in _SIGNATURES.items() if head.startswith(begin)), None)
    if name is None:
        return BitstreamError(f"no image of a known kind ({', '.join(SUFFIXES_OF)}), or damaged")
    file.seek(0)
    with warnings.catch_warnings(action="ignore"):  # of damaged tags: the file is refused anyway
        unusual = unusual_kind(file.read()) if name == "JPEG" else _unusual_tiff(file) if "TIFF" in name else None
    if unusual:
        return UnsupportedError(f"is a {name} of {unusual}, which is not read; convert it")
    words = "damaged, or of unusual samples, colours or compression; convert it"
    return BitstreamError(f"begins as a {name} and cannot be read: {words}")


def _unusual_tiff(file: BinaryIO) -> str | None:
    """What the first page of a TIFF is that Pillow does not decode; None if that is not known."""
    try:
        tags: Any = _tiff_pages(file)[0]
        depths_bits, kinds = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        colours = _UNUSUAL_COLOURS.get(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION))
        compression = tags.get(TiffImagePlugin.COMPRESSION, _RAW)
    except Exception:  # Pillow raises many kinds on damage
        return None
    if 3 in kinds:
        return f"{max(depths_bits)}-bit float samples"
    if not {*depths_bits} <= {1, 2, 4, 8}:
        return f"{max(depths_bits)} bits per sample"
    if colours:
        return colours
    if compression in _UNUSUAL_COMPRESSIONS:
        return f"{_UNUSUAL_COMPRESSIONS[compression]} compression"
    return f"compression {compression}" if compression not in TiffImagePlugin.COMPRESSION_INFO else None
