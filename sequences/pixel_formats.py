"""FFmpeg's pixel formats as planar YUV: which are taken as they are, what others become, which are refused.

Planar YUV and grey of 8 to 16 bit, limited or full range (`yuvj`), is taken as it is. Any other is converted to the
nearest planar YUV: the same depth (or the next of 8, 9, 10, 12, 14, 16); no chroma if grey, 4:2:0 if chroma is coarser
both ways, 4:2:2 if coarser across only, else 4:4:4; RGB becomes BT.709 limited-range 4:4:4, each sample rounded once,
half to even (of 8 bit by FFmpeg, at most 0.01 further off). Where that changes samples (and not only their order) the
log says so. An alpha channel must be opaque.
"""

from __future__ import annotations

import logging
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from vvc_nnr.errors import UnsupportedError, shown_name
from vvc_nnr.sequences.frame import ChromaFormat, ColourRange, Frame, Plane, VideoFormat
from vvc_nnr.sequences.images import rgb_planes_to_frame

_PLANAR = re.compile(r"(?:yuvj?(420|422|444)p|gray)(?:(9|10|12|14|16)(le|be))?")
_PLANAR_RGB = re.compile(r"gbra?p([0-9]+)(msb)?(le|be)")
"""Planes G, B, R (and alpha); with "msb" samples lie in the upper bits."""
_OWN_ALPHA = re.compile(r"(?:gbrap|yuva4\d\dp|(rgba|bgra|argb|abgr|ya))(?:\d\d?(le|be)|8)?")
"""Alpha is the fourth plane, or one of the samples side by side."""
_BIT_DEPTHS = (8, 9, 10, 12, 14, 16)
_ENDIAN = "le" if sys.byteorder == "little" else "be"
_FLOAT_OR_RAW = re.compile(r".*f(?:16|32)(?:le|be)?|bayer_.*|xyz.*")
_COLOUR_RANGES: dict[int, ColourRange] = {int(ColorRange.MPEG): "limited", int(ColorRange.JPEG): "full"}

_log = logging.getLogger(__name__)


def planar_frame(picture: Any, where: Path | str) -> Frame:
    """A decoded picture as planes, as it is stored: neither cropped nor turned.

    Args:
        picture: PyAV's `VideoFrame`.
        where: How errors name it.

    Raises:
        UnsupportedError: If its pixel format is none that is read, or a sample is transparent.
    """
    target = _target_format(picture.format, where)
    _check_opaque(picture, where)
    chroma_format, bit_depth = _parse_planar(target)
    if picture.format.is_rgb and bit_depth > 8:  # FFmpeg scales luma and chroma by wrong factors there
        return rgb_planes_to_frame(*_rgb_planes(picture, bit_depth), bit_depth)
    if target != picture.format.name:
        rgb = picture.format.is_rgb or picture.format.has_palette
        picture = picture.reformat(
            format=target,
            dst_colorspace=Colorspace.ITU709 if rgb else None,
            dst_color_range=ColorRange.MPEG if rgb else None,
        )
    format = VideoFormat(picture.width, picture.height, bit_depth, chroma_format)
    planes = zip(picture.planes, format.plane_shapes, strict=True)
    stored = tuple(_copy_plane(plane, shape, format.dtype) for plane, shape in planes)
    return Frame(stored, bit_depth, chroma_format)


def colour_range_of(picture: Any) -> ColourRange | None:
    """The range of the samples that `planar_frame` gives; None if the picture does not say."""
    if picture.format.is_rgb or picture.format.has_palette:
        return "limited"
    return "full" if picture.format.name.startswith("yuvj") else _COLOUR_RANGES.get(int(picture.color_range))


def say_conversion(source: Any, path: Path) -> None:
    """A line of the log where `planar_frame` changes more than the order of the samples of a pixel format."""
    target = _target_format(source, path)
    chroma_format, bit_depth = _parse_planar(target)
    wide, tall = source.chroma_width(16), source.chroma_height(16)
    sizes = {"420": (8, 8), "422": (8, 16), "444": (16, 16), "400": (wide, tall)}
    same_depth = max(component.bits for component in source.components) == bit_depth
    if source.is_rgb or source.has_palette or not same_depth or (wide, tall) != sizes[chroma_format]:
        matrix = " by the matrix of BT.709, limited range" if source.is_rgb or source.has_palette else ""
        _log.warning("%s: its %s pictures are converted to %s%s", shown_name(str(path)), source.name, target, matrix)


def _target_format(source: Any, where: Path | str) -> str:
    """Name of the planar YUV format nearest to the source format."""
    if _PLANAR.fullmatch(source.name) and not source.name.endswith("le" if _ENDIAN == "be" else "be"):
        return str(source.name)
    deepest_bits = max(component.bits for component in source.components)
    if deepest_bits > _BIT_DEPTHS[-1] or _FLOAT_OR_RAW.fullmatch(source.name):
        raise UnsupportedError(f"{where}: pixel format {source.name}; YUV, grey and RGB of at most 16 bit are read")
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


def _rgb_planes(picture: Any, bit_depth: int) -> tuple[Plane, Plane, Plane]:
    """R, G and B of a picture of more than 8 bit, as they are in it; FFmpeg only takes packed ones apart."""
    if not _PLANAR_RGB.fullmatch(picture.format.name):
        picture = picture.reformat(format=f"gbrp{bit_depth}{_ENDIAN}")
    match = _PLANAR_RGB.fullmatch(picture.format.name)
    assert match
    unused_bits = 16 - int(match[1]) if match[2] else 0
    stored = np.dtype(np.uint16).newbyteorder("<" if match[3] == "le" else ">")
    size = picture.height, picture.width
    planes = (_copy_plane(plane, size, stored) for plane in picture.planes)
    green, blue, red = (cast(Plane, plane.astype(np.uint16) >> unused_bits) for plane in islice(planes, 3))
    return red, green, blue


def _check_opaque(picture: Any, where: Path | str) -> None:
    """Refuses a picture with transparent samples, since the rest would not be the picture."""
    alphas = [component for component in picture.format.components if component.is_alpha]
    if not alphas and not picture.format.has_palette:
        return
    n_bits = alphas[0].bits if alphas else 8
    own = _OWN_ALPHA.fullmatch(picture.format.name)
    if own:  # as it is stored: FFmpeg's converter rounds it, and at some widths leaves samples behind
        beside, opaque = own[1] or "a", (1 << n_bits) - 1
        dtype = np.dtype(np.uint16 if n_bits > 8 else np.uint8).newbyteorder(">" if own[2] == "be" else "<")
        size = picture.height, picture.width * len(beside)
        alpha = _copy_plane(picture.planes[0 if own[1] else 3], size, dtype)[:, beside.index("a") :: len(beside)]
    else:
        deep = n_bits > 8
        converted = picture.reformat(format=f"yuva444p16{_ENDIAN}" if deep else "yuva444p").planes[3]
        dtype, opaque = np.dtype(np.uint16 if deep else np.uint8), (1 << n_bits) - 1 << 16 - n_bits if deep else 255
        alpha = _copy_plane(converted, (picture.height, picture.width), dtype)
    if int(alpha.min()) < opaque:
        raise UnsupportedError(f"{where}: has transparent samples, which would be lost; lay it over a background")


def _copy_plane(plane: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Plane:
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return cast(Plane, rows[: shape[0], : shape[1]].copy())
