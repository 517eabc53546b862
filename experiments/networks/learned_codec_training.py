"""How the small learned image codecs of the zoo learn: CompressAI's models on crops of photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Picture = NDArray[np.uint8]
CROP = 128
# Of 64, as CompressAI has it; up to a scale of 64, which the latents of small models do not reach.
MIN_SCALE, MAX_SCALE, N_SCALES = 0.11, 64.0, 64


class LearnedCodecTask:
    """Trains for `weight * 255**2 * MSE + bpp`, and the entropy bottleneck's quantiles beside it.

    Args:
        network: A model of CompressAI.
        pictures: RGB pictures, uint8 (H, W, 3), both sides at least 128.
        validation: More of them, not trained on.
        distortion_weight: Weight of the mean squared error; CompressAI's quality 3 has 0.0067, 4 has 0.013.
        seed: Fixes the random choices together with the step number.
    """

    def __init__(
        self,
        network: Any,
        pictures: Sequence[Picture],
        validation: Sequence[Picture],
        distortion_weight: float,
        seed: int,
    ) -> None:
        self.network: nn.Module = network
        self._codec = network
        self._pictures = pictures
        self._validation = random_crops(validation, np.random.default_rng(seed), 24)
        self._weight = distortion_weight
        self._seed = seed

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Rate-distortion loss of one batch; in float32, which the likelihoods need."""
        torch.manual_seed(hash((self._seed, step)) & 0x7FFFFFFF)
        crops = random_crops(self._pictures, np.random.default_rng([self._seed, step]), batch_size)
        with torch.autocast(device.type, enabled=False):
            bpp, mse = self._rate_and_error(crops.to(device))
            quantiles: Tensor = self._codec.aux_loss()
            return self._weight * 255**2 * mse + bpp + quantiles / crops.shape[0]

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Estimated bits per pixel and PSNR on the validation crops."""
        bpp, mse = self._rate_and_error(self._validation.to(device))
        return {"bpp": float(bpp), "psnr_db": -10 * math.log10(float(mse))}

    def _rate_and_error(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        output = self._codec(crops)
        n_pixels = crops.shape[0] * crops.shape[2] * crops.shape[3]
        bits = torch.stack([-torch.log2(likelihood).sum() for likelihood in output["likelihoods"].values()]).sum()
        return bits / n_pixels, torch.mean((output["x_hat"] - crops) ** 2)


def make_tables(network: Any) -> None:
    """Gives a trained model the integer tables that its entropy coder works by."""
    if hasattr(network, "gaussian_conditional"):
        network.update(np.exp(np.linspace(math.log(MIN_SCALE), math.log(MAX_SCALE), N_SCALES)).tolist(), force=True)
    else:
        network.update(force=True)


def random_crops(pictures: Sequence[Picture], rng: np.random.Generator, n: int) -> Tensor:
    """Crops float32 (n, 3, 128, 128), 0 to 1, mirrored at random."""
    crops = []
    for which in rng.integers(len(pictures), size=n):
        picture = pictures[which]
        top, left = (int(rng.integers(side - CROP + 1)) for side in picture.shape[:2])
        crop = picture[top : top + CROP, left : left + CROP]
        crops.append(crop[:, ::-1] if rng.integers(2) else crop)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().contiguous() / 255
