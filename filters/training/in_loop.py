"""How the in-loop filter learns: crops of pairs from the real codec, a loss that weighs all QPs alike."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.codec.sequence import CODED_BIT_DEPTH
from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.packing import N_LUMA_PLANES, sample_scale
from vvc_nnr.filters.training.calibration_pictures import Degrade, as_picture
from vvc_nnr.filters.training.pairs import Packed, PairSet
from vvc_nnr.sequences.images import read_image

DEFAULT_CHROMA_WEIGHT = 0.1
VALIDATION_SIDE = 256
MIN_MSE = 1e-8
"""Floor of the codec's error, a tenth of a 10-bit step squared: grey pictures have chroma without any error."""


class InLoopTask:
    """Trains for the mean squared error relative to the codec's own, per QP and plane.

    Args:
        network: What to train.
        pairs: Training pairs.
        validation: Pairs of other pictures.
        seed: Fixes the random choices together with the step number.
        crop: Side of the training crops in half-size samples (48: 96x96 luma).
        chroma_weight: Weight in the loss of each chroma plane against 1 for luma.
    """

    def __init__(
        self,
        network: InLoopNetwork,
        pairs: PairSet,
        validation: PairSet,
        *,
        seed: int,
        crop: int = 48,
        chroma_weight: float = DEFAULT_CHROMA_WEIGHT,
    ) -> None:
        self.network: InLoopNetwork = network
        self._pairs = pairs
        self._validation = validation
        self._seed = seed
        self._crop = crop
        self._weights = _plane_weights(pairs, chroma_weight)

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Squared error of one batch; 1 is a network that changes nothing."""
        rng = np.random.default_rng([self._seed, step])
        originals, decoded, qp_indices = self._pairs.crops(rng, batch_size, self._crop)
        qp = torch.tensor([self._pairs.qps[i] for i in qp_indices], dtype=torch.float32, device=device)
        output = self.network(_tensor(decoded, device), qp)
        errors = torch.mean((output.float() - _tensor(originals, device)) ** 2, dim=(2, 3))
        return torch.mean(torch.sum(errors * self._weights[qp_indices].to(device), dim=1))

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Mean luma PSNR gain in dB per QP, on the middle of the validation pictures."""
        gains_db: dict[str, float] = {}
        for index, qp in enumerate(self._validation.qps):
            gains = [self._luma_gain_db(picture, index, qp, device) for picture in range(len(self._validation))]
            gains_db[f"gain_qp{qp}_db"] = float(np.mean(gains))
        return gains_db

    def _luma_gain_db(self, picture: int, qp_index: int, qp: int, device: torch.device) -> float:
        original, decoded = (_tensor(_middle(p)[None], device) for p in self._validation.whole(picture, qp_index))
        output = self.network(decoded, torch.tensor([float(qp)], device=device)).clamp(0, 1)
        before, after = (
            torch.mean((p - original)[:, :N_LUMA_PLANES] ** 2, dtype=torch.float64) for p in (decoded, output)
        )
        return float(10 * torch.log10(before / after))


def _plane_weights(pairs: PairSet, chroma_weight: float) -> Tensor:
    """Loss weight of each of the six planes per QP, (n_qps, 6): the codec's own error has loss 1."""
    mse = np.maximum(pairs.mean_squared_errors(), MIN_MSE)
    luma = np.repeat(1 / mse[:, :1] / N_LUMA_PLANES, N_LUMA_PLANES, axis=1)
    weights = np.column_stack([luma, chroma_weight / mse[:, 1:]])
    return torch.tensor(weights / (1 + 2 * chroma_weight), dtype=torch.float32)


def _middle(packed: Packed) -> Packed:
    top, left = (max(0, (side - VALIDATION_SIDE) // 2) for side in packed.shape[1:])
    return packed[:, top : top + VALIDATION_SIDE, left : left + VALIDATION_SIDE]


def _tensor(packed: Packed, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(packed.astype(np.float32)).to(device) / sample_scale(CODED_BIT_DEPTH)
    return tensor.contiguous(memory_format=torch.channels_last)


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
