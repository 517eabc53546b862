"""Training pictures from the files a user names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.errors import InputError
from vvc_nnr.files import short_name
from vvc_nnr.sequences.frame import Frame, Plane
from vvc_nnr.sequences.images import read_image
from vvc_nnr.sequences.source import Source

MIN_SIDE = 128
"""Smaller pictures are left out: a training crop would not fit."""
REDUCTIONS = (2, 3, 4, 6, 8, 12)
PATCH = 32


def filter_pictures(sources: Sequence[Source], every: int = 8) -> Iterator[tuple[str, Frame]]:
    """Yields each source's pictures whole and at half size, with a name.

    Args:
        sources: Images or sequences.
        every: Of a sequence, every how many-th picture is taken.
    """
    for source in sources:
        for index, frame in enumerate(source.frames()):
            if index % every:
                continue
            name = f"{short_name(source.name)}_{index:04d}".replace("/", "_")
            whole = _multiple_of_16(frame)
            if whole is not None:
                yield f"{name}_x1", whole
            half = _multiple_of_16(_half_size(frame))
            if half is not None:
                yield f"{name}_x2", half


def reduced_pictures(paths: Sequence[Path], reductions: Sequence[int] = REDUCTIONS) -> list[NDArray[np.uint8]]:
    """Images as RGB, each reduced by several factors, so that 32x32 patches hold whole things.

    Raises:
        InputError: If no image is large enough, or one cannot be read.
    """
    pictures = []
    for path in tqdm(paths, desc="pictures", unit="picture", disable=None):
        picture = read_image(path)
        for reduction in reductions:
            size = (picture.shape[1] // reduction, picture.shape[0] // reduction)
            if min(size) >= PATCH:
                pictures.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    if not pictures:
        wanted = f"at least {PATCH * min(reductions)} samples on its shorter side"
        raise InputError(f"training needs images of {wanted}, none of {len(paths)} has them")
    return pictures


def split(names: Sequence[str], every: int = 30) -> tuple[list[int], list[int]]:
    """Indices of training and validation pictures; all pictures made from one source fall on one side.

    Args:
        names: Names from `filter_pictures`, perhaps with a number in front.
        every: Every how many-th source is kept for validation.

    Raises:
        InputError: If there are not two sources.
    """
    sources = sorted({_source_name(name) for name in names})
    if len(sources) < 2:
        raise InputError(
            f"training needs pictures of at least 2 sources, got {len(sources)}; "
            f"pictures below {MIN_SIDE} samples on a side are left out"
        )
    kept = set(sources[every - 1 :: every]) or {sources[-1]}
    validation = [i for i, name in enumerate(names) if _source_name(name) in kept]
    return sorted(set(range(len(names))) - set(validation)), validation


def _source_name(name: str) -> str:
    return re.sub(r"^\d{4,}_(?=.*_\d+_x)", "", name).rpartition("_x")[0].rpartition("_")[0]


def _half_size(frame: Frame) -> Frame | None:
    if min(frame.width, frame.height) < 2 * MIN_SIDE:
        return None
    frame = frame.cropped(frame.width // 4 * 4, frame.height // 4 * 4)
    return Frame(tuple(_halved(plane) for plane in frame.planes), frame.bit_depth, frame.chroma_format)


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape
    halved = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cast(Plane, halved)


def _multiple_of_16(frame: Frame | None) -> Frame | None:
    if frame is None:
        return None
    width, height = frame.width // 16 * 16, frame.height // 16 * 16
    return frame.cropped(width, height) if min(width, height) >= MIN_SIDE else None
