"""DnCNN: a published denoiser on Set12, and a published deblocker on classic5 after JPEG.

Source: Zhang et al., Beyond a Gaussian Denoiser, IEEE Transactions on Image Processing 26(7), 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vvc_nnr.calibrate.calibration import Calibration
from vvc_nnr.experiments.networks.pictures import Picture, calibration_photographs, data_path, grey_pictures
from vvc_nnr.experiments.networks.row import Metrics, Subject, module_subject
from vvc_nnr.filters.networks.dncnn import DnCnn, dncnn_of
from vvc_nnr.filters.training.calibration_pictures import (
    CropOptions,
    gaussian_noise,
    jpeg_artefacts,
    restoration_calibration,
)
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.sequences.metrics import psnr_db

SIGMA = 25
JPEG_QUALITY = 10
SEED = 0


@dataclass(frozen=True, slots=True)
class DenoisingRow:
    """DnCNN-S for Gaussian noise of sigma 25."""

    name: str = "DnCNN sigma 25"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        pictures = grey_pictures("set12")
        rng = np.random.default_rng(SEED)
        noisy = [picture + rng.normal(0, SIGMA, picture.shape) for picture in pictures]
        return _subject("dncnn_sigma25", f"Set12, sigma {SIGMA}", pictures, noisy)

    def calibration(self, folder: Path | None) -> Calibration:
        """See `CalibratedRow`."""
        return restoration_calibration(calibration_photographs(folder), 1, gaussian_noise(SIGMA), CropOptions())


@dataclass(frozen=True, slots=True)
class DeblockingRow:
    """DnCNN-3 after JPEG of quality 10."""

    name: str = "DnCNN-3"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        pictures = grey_pictures("classic5")
        decoded = [_through_jpeg(picture).astype(np.float64) for picture in pictures]
        return _subject("dncnn3", f"classic5, JPEG quality {JPEG_QUALITY}", pictures, decoded)

    def calibration(self, folder: Path | None) -> Calibration:
        """See `CalibratedRow`."""
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
