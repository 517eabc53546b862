"""The end-to-end experiment: an autoencoder on small RGB pictures, against JPEG by its three rates."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.jpeg import (
    MAX_QUALITY,
    MIN_QUALITY,
    JpegRate,
    JpegSubsampling,
    decode_jpeg,
    encode_at_bpp,
    encode_jpeg,
    encode_set,
    payload_bytes,
)
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import ImageMethod, ImageRow
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, Compression, check_once
from vvc_nnr.experiments.runs.networks import BOTH_MODES, NetworkState, check_photographs
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.picture_coding import decode_pictures, encode_pictures
from vvc_nnr.sequences.metrics import psnr_db, ssim_rgb

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
CURVE_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
JPEG_RATES: dict[JpegRate, ImageMethod] = {
    "file": "jpeg-file",
    "optimised": "jpeg-optimised",
    "payload": "jpeg-payload",
}
MAX_GROUP_PIXELS = 1 << 18
"""Pixels that go through a network at once at most, so that memory does not grow with the set."""

Picture: TypeAlias = NDArray[np.uint8]
Named: TypeAlias = tuple[str, Picture]
Key: TypeAlias = tuple[str, ImageMethod, str, str, str]
"""What a row is about: picture, method, setting, weights, digest of the network's file."""
Scores: TypeAlias = tuple[float, float]
"""PSNR in dB and SSIM."""


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders, by zoo name or file.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        compressions: What each network as trained is stored with and decoded from.
        photographs: Folder of photographs for the compression "calibrated".
        subsampling: JPEG's chroma format.

    Raises:
        InputError: If there is no network, a compression is named twice, or photographs are missing.
    """

    networks: Sequence[str] = NETWORKS
    originals: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    photographs: Path | None = None
    subsampling: JpegSubsampling = "444"

    def __post_init__(self) -> None:
        if not self.networks:
            raise InputError("no autoencoder: give at least one")
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs)


class EndToEndExperiment:
    """Autoencoders with each of their weights, and JPEG, over one set of pictures.

    Args:
        options: What to run.
        states: The autoencoders with each of their weights.
    """

    def __init__(self, options: EndToEndOptions, states: Sequence[NetworkState]) -> None:
        self._options = options
        self._states = tuple(states)

    def run(self, pictures: Sequence[Picture], names: Sequence[str], writer: RowWriter[ImageRow]) -> None:
        """Measures what the writer does not hold yet: each autoencoder, then JPEG near its rates and along a curve.

        Args:
            pictures: RGB pictures, uint8 (H, W, 3) each.
            names: One per picture.
            writer: Where the rows go.
        """
        named = list(zip(names, pictures, strict=True))
        rows = {row.key: row for row in writer.existing}
        for state in tqdm(self._states, desc="autoencoders", unit="network", disable=None):
            for new in _autoencoder_rows(state, named, rows):
                writer.append(new)
                rows |= {row.key: row for row in new}
        first = {state.row.network: state for state in reversed(self._states)}
        targets_bpp = [
            _mean_bpp(names, first[name], rows) for name in dict.fromkeys(s.row.network for s in self._states)
        ]
        settings = self._jpeg_settings(pictures, targets_bpp)
        for quality, rates in tqdm(settings.items(), desc="JPEG", unit="quality", disable=None):
            writer.append(self._jpeg_rows(quality, rates, named, rows))

    def _jpeg_settings(self, pictures: Sequence[Picture], targets_bpp: Sequence[float]) -> dict[int, list[JpegRate]]:
        """Qualities to run and their rates: a curve, and for each autoencoder the two qualities around its rate."""
        settings: dict[int, list[JpegRate]] = {quality: list(JPEG_RATES) for quality in CURVE_QUALITIES}
        for target_bpp, rate in itertools.product(targets_bpp, JPEG_RATES):
            for quality in self._qualities_around(pictures, target_bpp, rate):
                if rate not in settings.setdefault(quality, []):
                    settings[quality].append(rate)
        return dict(sorted(settings.items()))

    def _qualities_around(self, pictures: Sequence[Picture], target_bpp: float, rate: JpegRate) -> Iterator[int]:
        subsampling = self._options.subsampling
        if encode_set(pictures, MIN_QUALITY, rate, subsampling).mean_bpp > target_bpp:
            yield MIN_QUALITY  # out of JPEG's reach: the nearest there is
            return
        below = encode_at_bpp(pictures, target_bpp, rate, subsampling).quality
        yield below
        if below < MAX_QUALITY:
            yield below + 1

    def _jpeg_rows(
        self, quality: int, rates: Sequence[JpegRate], named: Sequence[Named], done: Container[Key]
    ) -> Iterator[ImageRow]:
        """Yields the rows of one quality that are not done yet."""
        setting = f"quality {quality}, {':'.join(self._options.subsampling)}"
        for name, picture in named:
            scores: dict[bytes, Scores] = {}  # the rates differ in their Huffman tables, not in their pictures
            for rate in (rate for rate in rates if _key(name, JPEG_RATES[rate], setting) not in done):
                stream = encode_jpeg(picture, quality, self._options.subsampling, optimise=rate != "file")
                decoded = decode_jpeg(stream)
                key = decoded.tobytes()
                scores[key] = scores.get(key) or _scores(picture, decoded)
                n_bytes = payload_bytes(stream) if rate == "payload" else len(stream)
                yield _image_row(_key(name, JPEG_RATES[rate], setting), n_bytes, picture, scores[key])


def _autoencoder_rows(state: NetworkState, named: Sequence[Named], done: Container[Key]) -> Iterator[list[ImageRow]]:
    """Yields the rows of each group of pictures that are not done yet.

    A group runs whole, also where some of its rows are there: how a network rounds may depend on its batch.
    """
    for group in _groups(named):
        if any(_state_key(name, state) not in done for name, _ in group):
            yield [row for row in _coded_group(state, group) if row.key not in done]


def _groups(named: Sequence[Named]) -> Iterator[list[Named]]:
    """Neighbours of one size, few enough to go through a network at once."""
    for (height, width, _), same in itertools.groupby(named, key=lambda pair: pair[1].shape):
        yield from (list(group) for group in _batched(same, max(1, MAX_GROUP_PIXELS // (height * width))))


def _batched(items: Iterable[Named], size: int) -> Iterator[tuple[Named, ...]]:
    """Tuples of `size` items, the last one perhaps shorter (itertools has this from Python 3.12 on)."""
    iterator = iter(items)
    while group := tuple(itertools.islice(iterator, size)):
        yield group


def _coded_group(state: NetworkState, group: Sequence[Named]) -> Iterator[ImageRow]:
    assert isinstance(state.network, Autoencoder)
    pictures = np.stack([picture for _, picture in group])
    _, height, width, _ = pictures.shape
    streams = encode_pictures(state.network, pictures)
    decoded = decode_pictures(state.network, streams, width, height)
    for (name, picture), stream, output in zip(group, streams, decoded, strict=True):
        yield _image_row(_state_key(name, state), len(stream), picture, _scores(picture, output))


def _scores(picture: Picture, decoded: Picture) -> Scores:
    return psnr_db(_flat(picture), _flat(decoded), bit_depth=8), ssim_rgb(picture, decoded)


def _key(image: str, method: ImageMethod, setting: str, weights: str = NO_WEIGHTS, sha256: str = "") -> Key:
    """What a row is about (`ImageRow.key`)."""
    return (image, method, setting, weights, sha256)


def _state_key(image: str, state: NetworkState) -> Key:
    return _key(image, "cnn-ae", state.row.network, state.row.weights, state.row.network_sha256)


def _image_row(key: Key, n_bytes: int, picture: Picture, scores: Scores) -> ImageRow:
    height, width, _ = picture.shape
    return ImageRow(*key, n_bytes, 8 * n_bytes / (width * height), *scores)


def _flat(picture: Picture) -> Picture:
    """The three channels beside each other, since PSNR is taken over all samples."""
    return picture.reshape(picture.shape[0], -1)


def _mean_bpp(names: Sequence[str], state: NetworkState, rows: Mapping[Key, ImageRow]) -> float:
    return fmean(rows[_state_key(name, state)].bpp for name in names)
