"""DnCNN: a published denoiser on Set12, and a published deblocker on classic5 after JPEG.

Source: Zhang et al., Beyond a Gaussian Denoiser, IEEE Transactions on Image Processing 26(7), 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.experiments.networks.pictures import Picture, data_path, grey_pictures
from vvc_nnr.experiments.networks.row import Metrics, Subject, module_subject
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.sequences.metrics import psnr_db

SIGMA = 25
JPEG_QUALITY = 10
SEED = 0


class DnCnn(nn.Module):
    """Grey (N, 1, H, W), 0 to 1, less what convolutions with ReLU between them find in it.

    Args:
        n_layers: Convolutions of 64 channels.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        widths = (1, *[64] * (n_layers - 1), 1)
        for layer in range(n_layers):
            self.add_module(f"conv{layer}", nn.Conv2d(widths[layer], widths[layer + 1], 3, padding=1))
        self.n_layers = n_layers

    def forward(self, pictures: Tensor) -> Tensor:
        """The restored pictures."""
        found = pictures
        for layer in range(self.n_layers):
            found = self.get_submodule(f"conv{layer}")(found if layer == 0 else torch.relu(found))
        return pictures - found


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


@dataclass(frozen=True, slots=True)
class DeblockingRow:
    """DnCNN-3 after JPEG of quality 10."""

    name: str = "DnCNN-3"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        pictures = grey_pictures("classic5")
        decoded = [_through_jpeg(picture).astype(np.float64) for picture in pictures]
        return _subject("dncnn3", f"classic5, JPEG quality {JPEG_QUALITY}", pictures, decoded)


def _subject(stem: str, data: str, pictures: list[Picture], damaged: list[np.ndarray]) -> Subject:
    stored = read_network(data_path(f"dncnn/{stem}.safetensors"))
    network = DnCnn(sum(name.endswith("weight") for name in stored.tensors))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in stored.tensors.items()})

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
