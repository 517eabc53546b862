"""The end-to-end experiment: an autoencoder on small RGB pictures, against JPEG by its three rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.jpeg import (
    JpegRate,
    JpegSubsampling,
    decode_jpeg,
    encode_at_bpp,
    encode_set,
    jpeg_rate_bytes,
)
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.rows import ImageMethod, ImageRow, SizeRow
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.filters.autoencoder import Autoencoder
from vvc_nnr.filters.picture_coding import decode_pictures, encode_pictures
from vvc_nnr.filters.zoo import load_autoencoder, n_parameters, reconstruct
from vvc_nnr.model.uniform_metadata import Biases
from vvc_nnr.sequences.metrics import psnr_db, ssim_rgb

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
CURVE_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
JPEG_RATES: dict[JpegRate, ImageMethod] = {
    "file": "jpeg-file",
    "optimised": "jpeg-optimised",
    "payload": "jpeg-payload",
}
Pictures = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders, by zoo name or file.
        bits: Bits per weight of the reconstructed networks.
        biases: Whether biases are quantised.
        subsampling: JPEG's chroma format.
    """

    networks: Sequence[str] = NETWORKS
    bits: int = 8
    biases: Biases = "quantised"
    subsampling: JpegSubsampling = "444"


class EndToEndExperiment:
    """Autoencoders before and after compression, and JPEG, over one set of pictures.

    Args:
        options: What to run.

    Raises:
        InputError: If a network cannot be loaded.
    """

    def __init__(self, options: EndToEndOptions) -> None:
        self._options = options
        self.sizes: list[SizeRow] = []
        self.networks_sha256: dict[str, str] = {}
        self._networks: list[tuple[ImageMethod, str, Autoencoder]] = []
        for name in options.networks:
            self._add(name)

    def run(self, pictures: Pictures, names: Sequence[str], writer: RowWriter[ImageRow]) -> None:
        """Measures what the writer does not hold yet: each autoencoder, then JPEG near its rates and along a curve.

        Args:
            pictures: uint8 RGB (N, H, W, 3).
            names: One per picture.
            writer: Where the rows go.
        """
        rows = {row.key: row for row in writer.existing}
        targets_bpp = []
        for method, name, network in tqdm(self._networks, desc="autoencoders", unit="network"):
            made = self._missing(method, name, names, rows)
            if made:
                new = list(_autoencoder_rows(method, name, network, pictures, names))
                writer.append(row for row in new if row.key not in rows)
                rows |= {row.key: row for row in new}
            targets_bpp.append(_mean_bpp(rows.values(), method, name))
        for quality, rates in tqdm(self._jpeg_settings(pictures, targets_bpp).items(), desc="JPEG", unit="quality"):
            for rate in rates:
                setting = f"quality {quality}, {':'.join(self._options.subsampling)}"
                if self._missing(JPEG_RATES[rate], setting, names, rows):
                    new = list(self._jpeg_rows(quality, rate, setting, pictures, names))
                    writer.append(row for row in new if row.key not in rows)

    def _add(self, name: str) -> None:
        o = self._options
        original = load_autoencoder(name)
        coded = reconstruct(original, o.bits, o.biases)
        self.networks_sha256[name] = coded.original_sha256
        assert isinstance(coded.network, Autoencoder)
        self._networks += [("cnn-ae", name, original), ("reconstructed-cnn-ae", name, coded.network)]
        self.sizes.append(
            SizeRow(
                name,
                coded.original_bytes,
                coded.compressed_bytes,
                f"uniform{o.bits}",
                o.bits,
                n_parameters(original),
            )
        )

    @staticmethod
    def _missing(
        method: ImageMethod, setting: str, names: Sequence[str], rows: Iterable[tuple[str | int, ...]]
    ) -> bool:
        return any((name, method, setting) not in rows for name in names)

    def _jpeg_settings(self, pictures: Pictures, targets_bpp: Sequence[float]) -> dict[int, set[JpegRate]]:
        """Qualities to run and their rates: a curve, and for each autoencoder the two qualities around its rate."""
        settings: dict[int, set[JpegRate]] = {quality: set(JPEG_RATES) for quality in CURVE_QUALITIES}
        for target_bpp in targets_bpp:
            for rate in JPEG_RATES:
                for quality in self._qualities_around(pictures, target_bpp, rate):
                    settings.setdefault(quality, set()).add(rate)
        return dict(sorted(settings.items()))

    def _qualities_around(self, pictures: Pictures, target_bpp: float, rate: JpegRate) -> Iterator[int]:
        try:
            below = encode_at_bpp(list(pictures), target_bpp, rate, self._options.subsampling).quality
        except InputError:
            yield 1  # the rate is out of JPEG's reach: quality 1 is the nearest there is
            return
        yield below
        if below < 100:
            yield below + 1

    def _jpeg_rows(
        self, quality: int, rate: JpegRate, setting: str, pictures: Pictures, names: Sequence[str]
    ) -> Iterator[ImageRow]:
        subsampling = self._options.subsampling
        coded = encode_set(list(pictures), quality, rate, subsampling)
        for name, picture, stream in zip(names, pictures, coded.streams, strict=True):
            n_bytes = jpeg_rate_bytes(picture, quality, rate, subsampling)
            yield _image_row(name, JPEG_RATES[rate], setting, n_bytes, picture, decode_jpeg(stream))


def _autoencoder_rows(
    method: ImageMethod, name: str, network: Autoencoder, pictures: Pictures, names: Sequence[str]
) -> Iterator[ImageRow]:
    _, height, width, _ = pictures.shape
    streams = encode_pictures(network, pictures)
    decoded = decode_pictures(network, streams, width, height)
    for image, picture, stream, output in zip(names, pictures, streams, decoded, strict=True):
        yield _image_row(image, method, name, len(stream), picture, output)


def _image_row(
    image: str, method: ImageMethod, setting: str, n_bytes: int, picture: Pictures, decoded: Pictures
) -> ImageRow:
    height, width, _ = picture.shape
    return ImageRow(
        image=image,
        method=method,
        setting=setting,
        n_bytes=n_bytes,
        bpp=8 * n_bytes / (width * height),
        psnr_db=psnr_db(_flat(picture), _flat(decoded), bit_depth=8),
        ssim=ssim_rgb(picture, decoded),
    )


def _flat(picture: Pictures) -> Pictures:
    """The three channels beside each other, since PSNR is taken over all samples."""
    return picture.reshape(picture.shape[0], -1)


def _mean_bpp(rows: Iterable[ImageRow], method: ImageMethod, setting: str) -> float:
    return float(np.mean([row.bpp for row in rows if row.method == method and row.setting == setting]))
