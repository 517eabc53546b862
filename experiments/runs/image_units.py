"""Units of the end-to-end experiment: RGB pictures of any size through autoencoders, and through files of formats.

A unit is some pictures through one autoencoder or one format; of the second round, which starts once the rates are
known, all pictures in one format, counted one way, around one rate.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.image_formats import (
    TITLES,
    FormatEffort,
    ImageCoding,
    ImageFormat,
    encode_at_bpp,
    encode_set,
)
from vvc_nnr.experiments.records.rows import ImageMethod, ImageRow, point_name
from vvc_nnr.experiments.records.unit_rows import UnitRows
from vvc_nnr.experiments.records.weights import NO_WEIGHTS
from vvc_nnr.experiments.runs.image_options import EndToEndOptions, OperatingPoint
from vvc_nnr.experiments.runs.network_units import UnitSetup
from vvc_nnr.experiments.runs.networks import GivenNetwork, NetworkState
from vvc_nnr.files import write_file
from vvc_nnr.filters.inference.torch import torch_threads
from vvc_nnr.filters.picture_codecs import BundledCodec, CodedPicture
from vvc_nnr.filters.picture_file import code_by_file
from vvc_nnr.filters.zoo import n_parameters
from vvc_nnr.sequences.metrics import ms_ssim_rgb, psnr_db, ssim_rgb

MAX_GROUP_PIXELS = 1 << 18
"""Pixels that go through a network at once at most, so that memory does not grow with the set."""
MAX_SEARCHED_PIXELS = 1 << 14
"""Likewise where an encoder searches."""
UNIT_S = 10.0
"""At least so long a unit takes, where there are as many pictures."""
_ENCODE_S: Mapping[FormatEffort, Mapping[ImageFormat, float]] = {
    "usual": {"jpeg": 0.02, "webp": 0.12, "avif": 1.4, "jpeg2000": 0.4, "jpegxl": 1.5},
    "best": {"jpeg": 0.02, "webp": 0.2, "avif": 50.0, "jpeg2000": 0.4, "jpegxl": 10.0},
}
_SCORE_S = 0.9
_PARAMETER_S = 2.4e-6
"""For a million pixels on one core, measured: a file, its decoding with the scores, and a network by its parameters."""
_CONTEXT_S = (20.0, 350.0, 840.0, 2500.0)
"""Likewise for a context prior, by the effort of its search."""
_PICTURE_PIXELS = 800
"""What each picture costs besides is as much as of so many more pixels."""
_N_SEARCHED = 9
"""Files of a picture until the two qualities around a rate are known."""

Picture: TypeAlias = NDArray[np.uint8]
Named: TypeAlias = tuple[str, Picture]
Key: TypeAlias = tuple[str, ImageMethod, str, str, str, int | None, int]
"""What a row is about: picture, method, setting, weights, digest of the network's file, operating point, effort."""


class Scores(NamedTuple):
    """How near a decoded picture is to its original, over three channels."""

    psnr_db: float
    ssim: float
    ms_ssim: float | None


class _Coder(NamedTuple):
    """A network with one kind of weights at one operating point."""

    state: NetworkState
    point: OperatingPoint

    @property
    def name(self) -> str:
        """The network's, with the point."""
        return point_name(self.state.row.network, self.point.number, self.point.effort)

    def code(self, pictures: Picture) -> list[CodedPicture]:
        """Pictures of one size, encoded and decoded; by a network of this package in a file."""
        codec = self.point.codec
        if isinstance(codec, BundledCodec):
            return code_by_file(self.state.row.network, codec, pictures)
        return codec.code(pictures)

    def key(self, image: str) -> Key:
        """What the row of an image is about."""
        method: ImageMethod = "cnn-ae-estimate" if self.point.codec.is_estimate else "cnn-ae"
        row = self.state.row
        return (image, method, row.network, row.weights, row.network_sha256, self.point.number, self.point.effort)


@dataclass(frozen=True, slots=True)
class ImageUnit:
    """Some pictures through one codec.

    Attributes:
        codec: Name of an autoencoder with its operating point, or title of a format.
        weights: Which weights of the autoencoder, "none" for files.
        codings: What files there are, none of an autoencoder.
        start: The first picture.
        count: How many.
        cost_s: About how many seconds that takes on one core.
        near: The autoencoder and operating point around whose rate files are looked for; empty for those of a curve.
        target_bpp: That rate, None while it is not known.
        key: A digest of all that its rows follow from; empty while that is not known.
    """

    codec: str
    weights: str
    codings: tuple[ImageCoding, ...]
    start: int
    count: int
    cost_s: float
    near: str = ""
    target_bpp: float | None = None
    key: str = ""

    @property
    def name(self) -> str:
        """Such as "autoencoder-1.8bpp uniform8, image 0 to 99"."""
        if self.near:
            return f"{self.codings[0].title} near the rate of {self.near}"
        what = f"{self.codec}, curve" if self.codings else f"{self.codec} {self.weights}"
        last = self.start + self.count - 1
        return f"{what}, image {self.start}" + (f" to {last}" if self.count > 1 else "")

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {
            "unit": self.name,
            "codec": self.codec,
            "weights": self.weights,
            "near": self.near,
            "first_image": self.start,
            "n_images": self.count,
            "cost_s": round(self.cost_s, 3),
        }


Rounds: TypeAlias = tuple[list[ImageUnit], list[ImageUnit]]


def image_units(sizes: Sequence[tuple[int, int]], options: EndToEndOptions, networks: Sequence[GivenNetwork]) -> Rounds:
    """All units of an experiment: those that depend on nothing, and those that begin once the rates are known.

    Args:
        sizes: Height and width of each picture.
        options: What to run.
        networks: The autoencoders.
    """
    millions = [(height * width + _PICTURE_PIXELS) / 1e6 for height, width in sizes]
    first, near, names = [], [], []
    for network in networks:
        points = options.points_of(network.codec)
        names += [point_name(network.name, point.number, point.effort) for point in points]
        picture_s = _SCORE_S + n_parameters(network.any_state.network) * _PARAMETER_S
        picture_s += 0 if points[0].number is None else _CONTEXT_S[options.effort]
        groups = [
            (count, picture_s * sum(millions[start : start + count]))
            for start, count in _groups(sizes, points[0].effort)
        ]
        for name, weights in itertools.product(names[-len(points) :], network.weights(options.compressions)):
            first += [ImageUnit(name, weights, (), *part) for part in _parts(groups)]
    for format in options.formats:
        codings = tuple(each for each in options.codings() if each.format == format)
        encode_s = _ENCODE_S[options.formats_effort][format]
        curve_s = len(codings[0].curve) * (_SCORE_S + len(codings) * encode_s)
        title = TITLES[format]
        parts = _parts((1, each * curve_s) for each in millions)
        first += [ImageUnit(title, NO_WEIGHTS, codings, *part) for part in parts]
        search_s = sum(millions) * (_N_SEARCHED * encode_s + 2 * (encode_s + _SCORE_S))
        for name, coding in itertools.product(names, codings):
            near.append(ImageUnit(title, NO_WEIGHTS, (coding,), 0, len(sizes), search_s, name))
    return first, near


def _parts(pieces: Iterable[tuple[int, float]]) -> Iterator[tuple[int, int, float]]:
    """First picture, number of pictures and seconds of each unit, of pieces that stay whole."""
    start = count = 0
    cost_s = 0.0
    for n_pictures, piece_s in pieces:
        count, cost_s = count + n_pictures, cost_s + piece_s
        if cost_s >= UNIT_S:
            yield start, count, cost_s
            start, count, cost_s = start + count, 0, 0.0
    if count:
        yield start, count, cost_s


def _groups(sizes: Sequence[tuple[int, int]], effort: int) -> Iterator[tuple[int, int]]:
    """First picture and number of pictures of neighbours of one size, few enough to go through a network at once.

    Those that a search takes long for are few, so that little is lost when a run is ended.
    """
    start, pixels = 0, MAX_SEARCHED_PIXELS if effort else MAX_GROUP_PIXELS
    for (height, width), same in itertools.groupby(sizes):
        n_same, step = len(list(same)), max(1, pixels // (height * width))
        yield from ((start + first, min(step, n_same - first)) for first in range(0, n_same, step))
        start += n_same


class EndToEndExperiment:
    """Autoencoders with each of their weights, ready to run over pictures.

    Args:
        states: The autoencoders with each of their weights.
        options: At which operating points they run.
    """

    def __init__(self, states: Sequence[NetworkState], options: EndToEndOptions) -> None:
        coders = [_Coder(state, point) for state in states for point in options.points_of(state.codec)]
        self._coders = {(coder.name, coder.state.row.weights): coder for coder in coders}

    def sha256_of(self, unit: ImageUnit) -> str | None:
        """The digest of the network's file that a unit is about; None of files of a format."""
        coder = self._coders.get((unit.codec, unit.weights))
        return coder and coder.state.row.network_sha256

    def measure(self, unit: ImageUnit, named: Sequence[Named]) -> list[ImageRow]:
        """The rows of a unit, with one thread: no bit of an autoencoder depends on where its unit runs.

        Args:
            unit: The unit.
            named: Its pictures, RGB uint8 (H, W, 3), with their names.

        Raises:
            InputError: If a network or an encoder fails.
            VvcNnrError: If a network gives NaN or infinity.
        """
        with torch_threads(1):
            if not unit.codings:
                return list(_autoencoder_rows(self._coders[unit.codec, unit.weights], named))
            qualities: Iterable[int] = unit.codings[0].curve
            if unit.target_bpp is not None:
                pictures = [picture for _, picture in named]
                qualities = _qualities_around(unit.codings[0], pictures, unit.target_bpp)
            return [row for quality in qualities for row in _file_rows(quality, unit.codings, named)]

    def is_done(self, unit: ImageUnit, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> bool:
        """Whether all rows of a unit are there.

        Args:
            unit: The unit.
            names: Of all pictures.
            rows: The rows that are there, by their keys.
        """
        own = names[unit.start : unit.start + unit.count]
        if not unit.codings:
            return all(self._coders[unit.codec, unit.weights].key(name) in rows for name in own)
        if unit.target_bpp is None:
            each = itertools.product(own, unit.codings, unit.codings[0].curve)
            return all(_file_key(name, coding, quality) in rows for name, coding, quality in each)
        return _is_around(unit.codings[0], unit.target_bpp, own, rows)

    def targets_bpp(self, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> dict[str, float]:
        """The mean rate of each autoencoder and point with the first of its weights, of those that have all rows."""
        firsts = {coder_name: coder for (coder_name, _), coder in reversed(self._coders.items())}
        keys = {coder_name: [coder.key(name) for name in names] for coder_name, coder in firsts.items()}
        whole = {coder_name: each for coder_name, each in keys.items() if all(key in rows for key in each)}
        return {coder_name: fmean(rows[key].bpp for key in each) for coder_name, each in whole.items()}

    def place_of(self, names: Sequence[str], codings: Sequence[ImageCoding]) -> Callable[[Key], tuple[int, ...]]:
        """What rows are sorted by: networks and pictures; formats, qualities, pictures and what is counted."""
        places = {name: place for place, name in enumerate(names)}
        networks = {coder.key(""): (0, place) for place, coder in enumerate(self._coders.values())}
        formats = list(dict.fromkeys(coding.format for coding in codings))
        files = {
            _file_key("", coding, quality): (1, formats.index(coding.format), quality, place)
            for place, coding in enumerate(codings)
            for quality in coding.qualities
        }

        def place_of(key: Key) -> tuple[int, ...]:
            place, what = places.get(key[0]), ("", *key[1:])
            if place is not None and what in networks:
                return *networks[what], place
            if place is not None and what in files:
                *quality, coding = files[what]
                return *quality, place, coding
            return (-1,)

        return place_of


@dataclass(frozen=True, slots=True)
class ImageSetup:
    """What all units of a run share, for whichever process.

    Attributes:
        base: Options, networks and where rows go.
        pictures: The file of the pictures, `write_pictures`.
    """

    base: UnitSetup[EndToEndOptions, ImageRow]
    pictures: Path


def write_pictures(path: Path, named: Sequence[Named]) -> None:
    """Keeps pictures with their names in one file, of which each can be read alone.

    Raises:
        OutputError: If it cannot be written.
    """
    file = io.BytesIO()
    arrays = {str(place): picture for place, (_, picture) in enumerate(named)}
    np.savez(file, allow_pickle=False, names=np.array([name for name, _ in named]), **arrays)
    write_file(path, file.getvalue())


def read_pictures(path: Path, start: int, count: int) -> list[Named]:
    """Some of the pictures in a file of `write_pictures`."""
    with np.load(path, allow_pickle=False) as file:
        names = file["names"]
        return [(str(names[place]), file[str(place)]) for place in range(start, start + count)]


def run_image_unit(setup: ImageSetup, unit: ImageUnit) -> None:
    """Measures a unit in whichever process, and writes its rows.

    Raises:
        InputError: If networks are not those that the run was planned with, or as `EndToEndExperiment.measure`.
        VvcNnrError: As `EndToEndExperiment.measure`.
    """
    named = read_pictures(setup.pictures, unit.start, unit.count)
    setup.base.rows.write(unit, _experiment(setup.base).measure(unit, named))


def write_unit(
    rows: UnitRows[ImageRow], experiment: EndToEndExperiment, named: Sequence[Named], unit: ImageUnit
) -> None:
    """Measures a unit by an experiment that is ready; arguments and errors as those of `EndToEndExperiment.measure`."""
    rows.write(unit, experiment.measure(unit, named[unit.start : unit.start + unit.count]))


@functools.lru_cache(maxsize=1)
def _experiment(base: UnitSetup[EndToEndOptions, ImageRow]) -> EndToEndExperiment:
    """The experiment of a run in this process."""
    return EndToEndExperiment(base.states(), base.options)


def sizes_of(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """Height and width of each picture."""
    return [(picture.shape[0], picture.shape[1]) for picture in pictures]


def _qualities_around(coding: ImageCoding, pictures: Sequence[Picture], target_bpp: float) -> Iterator[int]:
    lowest, highest = coding.qualities[0], coding.qualities[-1]
    if encode_set(coding, pictures, lowest).mean_bpp > target_bpp:
        yield lowest  # out of the format's reach: the nearest there is
        return
    below = encode_at_bpp(coding, pictures, target_bpp).quality
    yield below
    if below < highest:
        yield below + 1


def _is_around(coding: ImageCoding, target_bpp: float, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> bool:
    """Whether all files of the two qualities around a rate are there."""
    keys = {each: [_file_key(name, coding, each) for name in names] for each in coding.qualities}
    is_below = {
        quality: float(np.mean([rows[key].bpp for key in of_all])) <= target_bpp
        for quality, of_all in keys.items()
        if all(key in rows for key in of_all)
    }
    lowest, highest = coding.qualities[0], coding.qualities[-1]
    return is_below.get(lowest) is False or any(
        below and (quality == highest or is_below.get(quality + 1) is False) for quality, below in is_below.items()
    )


def _file_rows(quality: int, codings: Sequence[ImageCoding], named: Sequence[Named]) -> Iterator[ImageRow]:
    """Yields the rows of one quality of a format."""
    for name, picture in named:
        files: dict[bytes, Scores] = {}  # files of some rates show the same picture
        for coding in codings:
            data = coding.encode(picture, quality)
            decoded = coding.decode(data)
            samples = decoded.tobytes()
            files[samples] = files.get(samples) or _scores(picture, decoded)
            yield _image_row(_file_key(name, coding, quality), coding.counted_bytes(data), picture, files[samples])


def _autoencoder_rows(coder: _Coder, named: Sequence[Named]) -> Iterator[ImageRow]:
    """Yields the rows of each group of pictures; a unit has whole groups: rounding may depend on a network's batch."""
    for start, count in _groups(sizes_of([picture for _, picture in named]), coder.point.effort):
        group = named[start : start + count]
        coded = coder.code(np.stack([picture for _, picture in group]))
        for (name, picture), each in zip(group, coded, strict=True):
            yield _image_row(coder.key(name), each.n_bytes, picture, _scores(picture, each.picture))


def _scores(picture: Picture, decoded: Picture) -> Scores:
    psnr = psnr_db(_flat(picture), _flat(decoded), bit_depth=8)
    return Scores(psnr, ssim_rgb(picture, decoded), ms_ssim_rgb(picture, decoded))


def _file_key(image: str, coding: ImageCoding, quality: int) -> Key:
    return (image, cast(ImageMethod, coding.name), coding.setting(quality), NO_WEIGHTS, "", None, 0)


def _image_row(key: Key, n_bytes: int, picture: Picture, scores: Scores) -> ImageRow:
    height, width, _ = picture.shape
    image, method, setting, weights, sha256, point, effort = key
    bpp = 8 * n_bytes / (width * height)
    row = ImageRow(image, method, setting, weights, sha256, n_bytes, bpp, *scores)
    return replace(row, operating_point=point, effort=effort)


def _flat(picture: Picture) -> Picture:
    """The three channels beside each other, since PSNR is taken over all samples."""
    return picture.reshape(picture.shape[0], -1)
