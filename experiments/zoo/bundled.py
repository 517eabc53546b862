"""The networks that ship with this package: an in-loop filter after VVC, and an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import LoopFilters, VvcOptions
from vvc_nnr.experiments.pictures import default_small_pictures
from vvc_nnr.experiments.zoo.row import (
    Metrics,
    Picture,
    Subject,
    calibration_photographs,
    colour_pictures,
    data_path,
    grey_pictures,
    module_subject,
)
from vvc_nnr.filters.inference.runner import filter_frame
from vvc_nnr.filters.networks.autoencoder import Autoencoder, decode_pictures, encode_pictures
from vvc_nnr.filters.networks.dncnn import DnCnn, dncnn_of
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.training.calibration_pictures import (
    FILTER_CROP_SIDE,
    IN_LOOP_QPS,
    CropOptions,
    gaussian_noise,
    inloop_calibration,
    jpeg_artefacts,
    patches,
    restoration_calibration,
)
from vvc_nnr.filters.training.codec_calibration import autoencoder_calibration
from vvc_nnr.filters.zoo import load_autoencoder, load_inloop_filter
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.metrics import frame_psnr_db, psnr_db

QP = 37
N_PICTURES = 4
N_SMALL_PICTURES = 200


@dataclass(frozen=True, slots=True)
class InLoopRow:
    """A bundled in-loop filter over pictures that VVC coded.

    Args:
        name: The network's name.
        loop_filters: In-loop filters that the codec runs.
    """

    name: str
    loop_filters: LoopFilters

    def load(self, folder: Path | None) -> Subject:
        """The filter and the luma PSNR that it leads to."""
        pictures, words = colour_pictures(16)
        originals = [rgb_to_frame(picture, bit_depth=10) for picture in pictures[:N_PICTURES]]
        encoder = VvcEncoder(VvcOptions(qp=QP, loop_filters=self.loop_filters))
        decoded = [next(iter(decode_vvc(encoder.encode([original]).stream))) for original in originals]
        data = f"{len(originals)} pictures ({words}), VVC QP {QP}, luma"
        return module_subject(
            load_inloop_filter(self.name), "bundled", data, lambda module: _filtered(module, originals, decoded)
        )

    def calibration(self, folder: Path | None) -> Calibration:
        """Pictures that VVC coded, of other photographs than those of the score."""
        paths = calibration_photographs(folder)
        return inloop_calibration(paths, IN_LOOP_QPS, self.loop_filters, CropOptions(side=FILTER_CROP_SIDE))


def _filtered(module: InLoopNetwork, originals: list[Frame], decoded: list[Frame]) -> Metrics:
    scores = [frame_psnr_db(o, filter_frame(module, d, QP)).y for o, d in zip(originals, decoded, strict=True)]
    return Metrics(psnr_db=float(np.mean(scores)))


@dataclass(frozen=True, slots=True)
class AutoencoderRow:
    """A bundled autoencoder on small pictures, with the bytes that its entropy coder writes.

    Args:
        name: The network's name.
    """

    name: str

    def load(self, folder: Path | None) -> Subject:
        """The autoencoder with its bits per pixel and PSNR."""
        small = default_small_pictures().first(N_SMALL_PICTURES)
        pictures = np.stack(small.images)

        def evaluate(module: Autoencoder) -> Metrics:
            runs = encode_pictures(module, pictures)
            height, width = pictures.shape[1:3]
            decoded = decode_pictures(module, runs, width, height)
            scores = [psnr_db(p, d, bit_depth=8) for p, d in zip(pictures, decoded, strict=True)]
            bpp = 8 * sum(len(run.data) for run in runs) / (len(pictures) * height * width)
            return Metrics(bpp=bpp, psnr_db=float(np.mean(scores)))

        return module_subject(load_autoencoder(self.name), "bundled", small.origin, evaluate)

    def calibration(self, folder: Path | None) -> Calibration:
        """Patches of other photographs than those of the score."""
        network = load_autoencoder(self.name)
        return autoencoder_calibration(network, *patches(calibration_photographs(folder), None))


SIGMA = 25
JPEG_QUALITY = 10
SEED = 0


@dataclass(frozen=True, slots=True)
class DenoisingRow:
    """DnCNN-S for Gaussian noise of sigma 25."""

    name: str = "DnCNN sigma 25"

    def load(self, folder: Path | None) -> Subject:
        """The denoiser and its PSNR on Set12."""
        pictures = grey_pictures("set12")
        rng = np.random.default_rng(SEED)
        noisy = [picture + rng.normal(0, SIGMA, picture.shape) for picture in pictures]
        return _subject("dncnn_sigma25", f"Set12, sigma {SIGMA}", pictures, noisy)

    def calibration(self, folder: Path | None) -> Calibration:
        """Crops with the same noise, of other photographs than those of the score."""
        return restoration_calibration(calibration_photographs(folder), 1, gaussian_noise(SIGMA), CropOptions())


@dataclass(frozen=True, slots=True)
class DeblockingRow:
    """DnCNN-3 after JPEG of quality 10."""

    name: str = "DnCNN-3"

    def load(self, folder: Path | None) -> Subject:
        """The network and its PSNR on classic5."""
        pictures = grey_pictures("classic5")
        decoded = [_through_jpeg(picture).astype(np.float64) for picture in pictures]
        return _subject("dncnn3", f"classic5, JPEG quality {JPEG_QUALITY}", pictures, decoded)

    def calibration(self, folder: Path | None) -> Calibration:
        """Crops after JPEG of the same quality, of other photographs than those of the score."""
        return restoration_calibration(calibration_photographs(folder), 1, jpeg_artefacts(JPEG_QUALITY), CropOptions())


def _subject(stem: str, data: str, pictures: list[Picture], damaged: list[np.ndarray]) -> Subject:
    path = data_path(f"dncnn/{stem}.safetensors")
    network = dncnn_of(read_network(path).tensors, str(path))

    def evaluate(module: DnCnn) -> Metrics:
        scores = [psnr_db(p, _restored(module, d), bit_depth=8) for p, d in zip(pictures, damaged, strict=True)]
        return Metrics(psnr_db=float(np.mean(scores)))

    return module_subject(network, "published", data, evaluate)


def _restored(network: DnCnn, damaged: np.ndarray) -> Picture:
    output = network(torch.from_numpy(damaged.astype(np.float32) / 255)[None, None])[0, 0]
    restored: Picture = np.rint(np.clip(output.numpy() * 255.0, 0, 255)).astype(np.uint8)
    return restored


def _through_jpeg(picture: Picture) -> Picture:
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
