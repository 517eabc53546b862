"""The end-to-end experiment: autoencoders on RGB pictures of any size, against the files of other picture codecs."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.image_formats import (
    ImageCoding,
    ImageFormat,
    JpegSubsampling,
    encode_at_bpp,
    encode_set,
    image_codings,
)
from vvc_nnr.experiments.records.rows import ImageMethod, ImageRow
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, Compression, check_once
from vvc_nnr.experiments.runs.networks import BOTH_MODES, NetworkState, check_photographs
from vvc_nnr.sequences.metrics import ms_ssim_rgb, psnr_db, ssim_rgb

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "webp", "avif", "jpeg2000")
"""What comes with Pillow."""
MAX_GROUP_PIXELS = 1 << 18
"""Pixels that go through a network at once at most, so that memory does not grow with the set."""

Picture: TypeAlias = NDArray[np.uint8]
Named: TypeAlias = tuple[str, Picture]
Key: TypeAlias = tuple[str, ImageMethod, str, str, str]
"""What a row is about: picture, method, setting, weights, digest of the network's file."""


class Scores(NamedTuple):
    """How near a decoded picture is to its original, over three channels."""

    psnr_db: float
    ssim: float
    ms_ssim: float | None


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders: names of the zoo, files, or FILE.py:NAME, what makes a network of your own.
        archs: What makes the modules of files that do not say it: FILE.py:NAME for all, NAME=FILE.py:NAME for one.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        compressions: What each network as trained is stored with and decoded from.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and at least as many that measure its loss: fewer are sooner done.
            Default: 48, of autoencoders of your own 24.
        formats: Whose files stand beside them: jpeg, webp, avif, jpeg2000, jpegxl.
        subsampling: Chroma format of JPEG and AVIF.
        stride: What the sides of a network's pictures must be multiples of; default: as it says, else found by trying.

    Raises:
        InputError: If a compression or format is named twice, a format's encoder is not
            installed, or photographs are missing.
    """

    networks: Sequence[str] = NETWORKS
    archs: Sequence[str] = ()
    originals: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    photographs: Path | None = None
    n_crops: int | None = None
    formats: tuple[ImageFormat, ...] = FORMATS
    subsampling: JpegSubsampling = "444"
    stride: int | None = None

    def __post_init__(self) -> None:
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops)
        image_codings(self.formats, self.subsampling)


class EndToEndExperiment:
    """Autoencoders with each of their weights, and files of other codecs, over one set of pictures.

    Args:
        options: What to run.
        states: The autoencoders with each of their weights.
    """

    def __init__(self, options: EndToEndOptions, states: Sequence[NetworkState]) -> None:
        self._options = options
        self._states = tuple(states)

    def run(self, pictures: Sequence[Picture], names: Sequence[str], writer: RowWriter[ImageRow]) -> None:
        """Measures what the writer does not hold yet: each autoencoder, then files near its rate and along a curve.

        Args:
            pictures: RGB pictures, uint8 (H, W, 3) each.
            names: One per picture.
            writer: Where the rows go.
        """
        named = list(zip(names, pictures, strict=True))
        rows = {row.key: row for row in writer.existing}
        targets_bpp: dict[str, float] = {}
        for state in tqdm(self._states, desc="autoencoders", unit="network", disable=None):
            for new in _autoencoder_rows(state, named, rows):
                writer.append(new)
                rows |= {row.key: row for row in new}
            targets_bpp.setdefault(state.row.network, fmean(rows[_state_key(name, state)].bpp for name in names))
        self._write_files(named, list(targets_bpp.values()), rows, writer)

    def _write_files(
        self,
        named: Sequence[Named],
        targets_bpp: Sequence[float],
        done: Container[Key],
        writer: RowWriter[ImageRow],
    ) -> None:
        """Measures the files of each format, at a curve's qualities and around the autoencoders' rates."""
        pictures = [picture for _, picture in named]
        for format in self._options.formats:
            codings = image_codings((format,), self._options.subsampling)
            settings = _settings(codings, pictures, targets_bpp)
            bar = tqdm(settings.items(), desc=codings[0].title.partition(",")[0], unit="quality", disable=None)
            for quality, asked in bar:
                writer.append(_file_rows(quality, asked, named, done))


def _settings(
    codings: Sequence[ImageCoding], pictures: Sequence[Picture], targets_bpp: Sequence[float]
) -> dict[int, list[ImageCoding]]:
    """Qualities and the rates that they are counted by: a curve, and the two qualities around each target of a rate."""
    settings: dict[int, list[ImageCoding]] = {quality: list(codings) for quality in codings[0].curve}
    for target_bpp, coding in itertools.product(targets_bpp, codings):
        for quality in _qualities_around(coding, pictures, target_bpp):
            if coding not in settings.setdefault(quality, []):
                settings[quality].append(coding)
    return dict(sorted(settings.items()))


def _qualities_around(coding: ImageCoding, pictures: Sequence[Picture], target_bpp: float) -> Iterator[int]:
    lowest, highest = coding.qualities[0], coding.qualities[-1]
    if encode_set(coding, pictures, lowest).mean_bpp > target_bpp:
        yield lowest  # out of the format's reach: the nearest there is
        return
    below = encode_at_bpp(coding, pictures, target_bpp).quality
    yield below
    if below < highest:
        yield below + 1


def _file_rows(
    quality: int, codings: Sequence[ImageCoding], named: Sequence[Named], done: Container[Key]
) -> Iterator[ImageRow]:
    """Yields the rows of one quality of a format that are not done yet."""
    for name, picture in named:
        files: dict[bytes, Scores] = {}  # some rates count the same file, and files of others show the same picture
        for coding in codings:
            key: Key = (name, cast(ImageMethod, coding.name), coding.setting(quality), NO_WEIGHTS, "")
            if key in done:
                continue
            data = coding.encode(picture, quality)
            decoded = coding.decode(data)
            samples = decoded.tobytes()
            files[samples] = files.get(samples) or _scores(picture, decoded)
            yield _image_row(key, coding.counted_bytes(data), picture, files[samples])


def _autoencoder_rows(state: NetworkState, named: Sequence[Named], done: Container[Key]) -> Iterator[list[ImageRow]]:
    """Yields the rows of each group of pictures that are not done yet.

    A group runs whole, also where some of its rows are there: how a network rounds may depend on its batch.
    """
    assert state.codec is not None
    for group in _groups(named):
        if any(_state_key(name, state) not in done for name, _ in group):
            coded = state.codec.code(np.stack([picture for _, picture in group]))
            rows = (
                _image_row(_state_key(name, state), each.n_bytes, picture, _scores(picture, each.picture))
                for (name, picture), each in zip(group, coded, strict=True)
            )
            yield [row for row in rows if row.key not in done]


def _groups(named: Sequence[Named]) -> Iterator[list[Named]]:
    """Neighbours of one size, few enough to go through a network at once."""
    for (height, width, _), same in itertools.groupby(named, key=lambda pair: pair[1].shape):
        yield from (list(group) for group in _batched(same, max(1, MAX_GROUP_PIXELS // (height * width))))


def _batched(items: Iterable[Named], size: int) -> Iterator[tuple[Named, ...]]:
    """Tuples of `size` items, the last one perhaps shorter (itertools has this from Python 3.12 on)."""
    iterator = iter(items)
    while group := tuple(itertools.islice(iterator, size)):
        yield group


def _scores(picture: Picture, decoded: Picture) -> Scores:
    psnr = psnr_db(_flat(picture), _flat(decoded), bit_depth=8)
    return Scores(psnr, ssim_rgb(picture, decoded), ms_ssim_rgb(picture, decoded))


def _state_key(image: str, state: NetworkState) -> Key:
    assert state.codec is not None
    method: ImageMethod = "cnn-ae-estimate" if state.codec.is_estimate else "cnn-ae"
    return (image, method, state.row.network, state.row.weights, state.row.network_sha256)


def _image_row(key: Key, n_bytes: int, picture: Picture, scores: Scores) -> ImageRow:
    height, width, _ = picture.shape
    return ImageRow(*key, n_bytes, 8 * n_bytes / (width * height), *scores)


def _flat(picture: Picture) -> Picture:
    """The three channels beside each other, since PSNR is taken over all samples."""
    return picture.reshape(picture.shape[0], -1)
