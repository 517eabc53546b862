"""The pictures that trainings learn from: a user's photographs and sequences, whole and reduced, still or moving.

| for | of a photograph | of a sequence |
| --- | --- | --- |
| intra pictures | itself, whole and at half size | every eighth picture, likewise |
| inter pictures | set in motion (`motion`) | runs of 33 pictures, one out of each 132, likewise |
| autoencoders | itself at several reductions | |

Of each scene a few pictures become pairs, the first, which is an intra picture, and others at random.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.errors import InputError
from vvc_nnr.files import name_of_text, short_name
from vvc_nnr.filters.training.motion import SceneOptions, moving_scene
from vvc_nnr.sequences.frame import Frame, Plane
from vvc_nnr.sequences.images import IMAGE_SUFFIXES, read_image
from vvc_nnr.sequences.source import Source

MIN_SIDE = 128
"""Smaller pictures are left out: a training crop would not fit."""
REDUCTIONS = (2, 3, 4, 6, 8, 12)
PATCH = 32

SCENE_PICTURES = 33
"""Pictures of a scene: a group of random access and the intra picture behind it."""
SCENES_PER_PHOTOGRAPH = 2
_KEPT_PICTURES = 8
_INTRA_PLACES = (0, SCENE_PICTURES - 2)
"""Where intra pictures are: VTM's streams begin with one, in vvenc's the others of its group are output before it."""
_RUN_EVERY = 4
_STILL_EVERY = 8
_SCENE_SHAPE = SceneOptions(width=192, height=128, n_pictures=SCENE_PICTURES)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Pictures that are coded together.

    Attributes:
        frames: In the order of output, all of one format.
        kept: The names of those that become pairs, by their place.
        fps: Pictures per second.
    """

    frames: Sequence[Frame]
    kept: Mapping[int, str]
    fps: Fraction = Fraction(30)

    def pictures(self) -> Iterator[tuple[str, Frame]]:
        """Name and picture of those that become pairs."""
        for place, name in self.kept.items():
            yield name, self.frames[place]


def training_scenes(
    sources: Sequence[Source], config: ConfigName = "ai", per_photograph: int = SCENES_PER_PHOTOGRAPH
) -> Iterator[Scene]:
    """What an in-loop filter learns from: single pictures for all intra, moving ones else.

    Args:
        sources: Photographs and sequences.
        config: The coding configuration.
        per_photograph: Moving scenes made of each photograph.

    Raises:
        InputError: If a sequence has changing pictures or cannot be read.
        BitstreamError: If a file is damaged.
    """
    if not CONFIGURATIONS[config].is_inter:
        yield from stills(filter_pictures(sources))
        return
    for source in sources:
        name = _name(source)
        if source.path.suffix.lower() in IMAGE_SUFFIXES:
            yield from _set_in_motion(name, source, per_photograph)
        else:
            yield from _runs(name, source)


def stills(pictures: Iterable[tuple[str, Frame]]) -> Iterator[Scene]:
    """A scene of each picture."""
    for name, frame in pictures:
        yield Scene((frame,), {0: name})


def kept_pictures(scenes: Iterable[Scene]) -> Iterator[tuple[str, Frame]]:
    """Name and picture of all that become pairs."""
    for scene in scenes:
        yield from scene.pictures()


def filter_pictures(sources: Sequence[Source], every: int = _STILL_EVERY) -> Iterator[tuple[str, Frame]]:
    """Yields each source's pictures whole and at half size, with a name.

    Args:
        sources: Images or sequences.
        every: Of a sequence, every how many-th picture is taken.
    """
    for source in sources:
        for index, frame in enumerate(source.frames()):
            if index % every:
                continue
            name = f"{_name(source)}_{index:04d}"
            for suffix, made in _sizes(frame):
                yield f"{name}_{suffix}", made


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
        names: Names of pictures of `training_scenes`, perhaps with a number in front.
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


def _name(source: Source) -> str:
    return short_name(name_of_text(source.name)).replace("/", "_")


def _source_name(name: str) -> str:
    return re.sub(r"^\d{4,}_(?=.*_\d+_x)", "", name).rpartition("_x")[0].rpartition("_")[0]


def _set_in_motion(name: str, source: Source, n_scenes: int) -> Iterator[Scene]:
    """Scenes over a photograph, their objects cut out of itself; none if it is too small."""
    photograph = read_image(source.path)
    if photograph.shape[0] < _SCENE_SHAPE.height or photograph.shape[1] < _SCENE_SHAPE.width:
        return
    for number in range(n_scenes):
        rng = _rng(name, number)
        frames = tuple(moving_scene([photograph], _SCENE_SHAPE, rng))
        yield Scene(frames, _kept(f"{name}_{number}{{:03d}}_x1", len(frames), rng))


def _runs(name: str, source: Source) -> Iterator[Scene]:
    """Runs of pictures of a sequence, whole and at half size; none if it is too small."""
    for run in itertools.count():
        start = run * _RUN_EVERY * SCENE_PICTURES
        sizes = [dict(_sizes(frame)) for frame in source.frames(start, SCENE_PICTURES)]
        if not sizes:
            return
        kept = _kept(f"{name}_{{:04d}}", len(sizes), _rng(name, run), start)
        for suffix in sizes[0]:
            frames = tuple(each[suffix] for each in sizes)
            yield Scene(frames, {place: f"{said}_{suffix}" for place, said in kept.items()}, source.format.fps)


def _kept(name: str, n_pictures: int, rng: np.random.Generator, start: int = 0) -> dict[int, str]:
    """Names of the pictures that may be intra pictures and of some of the others, by their place."""
    always = [place for place in _INTRA_PLACES if place < n_pictures]
    others = rng.permutation(np.setdiff1d(np.arange(n_pictures), always))[: _KEPT_PICTURES - len(always)]
    return {place: name.format(start + place) for place in sorted([*always, *others.tolist()])}


def _rng(name: str, number: int) -> np.random.Generator:
    """The choices of a scene: the same whatever other sources there are."""
    return np.random.default_rng([zlib.crc32(name.encode()), number])


def _sizes(frame: Frame) -> Iterator[tuple[str, Frame]]:
    """A picture whole ("x1") and at half size ("x2"), cut to multiples of 16, where it is large enough."""
    for suffix, reduced in (("x1", frame), ("x2", _half_size(frame))):
        made = _multiple_of_16(reduced)
        if made is not None:
            yield suffix, made


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
