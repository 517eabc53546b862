"""How a network that restores pictures goes on learning: crops of photographs, degraded as the network is used to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.calibration_pictures import Degrade, as_picture
from vvc_nnr.sequences.images import read_image


class RestorationTask:
    """Learns to undo a degradation; the loss is the squared error over that of the network as it was.

    Args:
        network: What to train.
        pictures: Photographs, uint8 (H, W, 3).
        degrade: What the network undoes; None: it learns to go on doing what it did.
        n_planes: 1 for grey, 3.
        side: Of the crops.
        seed: Fixes the random choices together with the step number.
        reference_mse: What the network leaves before.
    """

    def __init__(
        self,
        network: nn.Module,
        pictures: Sequence[NDArray[np.uint8]],
        degrade: Degrade | None,
        *,
        n_planes: int = 1,
        side: int = 48,
        seed: int = 0,
        reference_mse: float,
    ) -> None:
        self.network: nn.Module = network
        self._pictures = [picture for picture in pictures if min(picture.shape[:2]) >= side]
        if not self._pictures:
            raise InputError(f"fine-tuning needs pictures of at least {side}x{side}")
        self._degrade = degrade
        self._n_planes, self._side, self._seed = n_planes, side, seed
        self._reference_mse = reference_mse
        self._teacher = None if degrade is not None else _frozen_copy(network)

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Squared error of one batch; 1 is what the network left before."""
        rng = np.random.default_rng([self._seed, step])
        pictures = torch.cat([as_picture(self._crop(rng), self._n_planes) for _ in range(batch_size)])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self._degrade is None:
            assert self._teacher is not None
            with torch.no_grad():
                inputs, targets = pictures.to(device), self._teacher.to(device)(pictures.to(device)).float()
        else:
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
            degraded = [self._degrade(picture[None], generator) for picture in pictures]
            inputs, targets = torch.cat(degraded).to(device), pictures.to(device)
        output: Tensor = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return torch.mean((output.float() - targets) ** 2) / self._reference_mse

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Nothing: the coded file is what is validated."""
        return {}

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        top, left = (int(rng.integers(size - self._side + 1)) for size in picture.shape[:2])
        crop = picture[top : top + self._side, left : left + self._side]
        crop = crop[:, ::-1] if rng.integers(2) else crop
        return crop.transpose(1, 0, 2) if rng.integers(2) else crop


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def read_pictures(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Photographs into memory; raises as `read_image`."""
    return [read_image(path) for path in paths]
