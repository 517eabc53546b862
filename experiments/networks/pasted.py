"""Photographs with things pasted in, and the masks of those: pictures for a segmentation task that needs no labels."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.experiments.networks.unet import dice

Picture = NDArray[np.uint8]
SIDE = 128
MAX_THINGS = 4
_LETTERS = string.ascii_letters + string.digits


def pasted(picture: Picture, filling: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """A picture with one to four things pasted in, filled from another picture, and their mask.

    Args:
        picture: RGB, uint8 (H, W, 3).
        filling: RGB of the same shape.
        rng: Chooses kind, place, size and colour.

    Returns:
        The picture, and uint8 (H, W) of 0 and 1.
    """
    mask: Picture = np.zeros(picture.shape[:2], np.uint8)
    for _ in range(int(rng.integers(1, MAX_THINGS + 1))):
        _draw(mask, rng)
    gain = rng.uniform(0.6, 1.4, size=3)
    foreground = np.clip(filling * gain + rng.uniform(-40, 40, size=3), 0, 255)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0.6)[..., None]
    return np.rint(picture * (1 - soft) + foreground * soft).astype(np.uint8), mask


def pasted_crops(pictures: Sequence[Picture], rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Crops float32 (n, 3, 128, 128), 0 to 1, with things pasted in, and their masks float32 (n, 1, 128, 128)."""
    made = [pasted(_crop(pictures, rng), _crop(pictures, rng), rng) for _ in range(n)]
    images = torch.from_numpy(np.stack([image for image, _ in made])).permute(0, 3, 1, 2).float().contiguous() / 255
    return images, torch.from_numpy(np.stack([mask for _, mask in made])).float()[:, None]


class SegmentationTask:
    """Trains a network to find what was pasted, by cross-entropy and soft Dice.

    Args:
        network: Pictures to logits.
        pictures: RGB pictures, uint8 (H, W, 3), both sides at least 128.
        validation: More of them, not trained on.
        seed: Fixes the random choices together with the step number.
    """

    def __init__(
        self, network: nn.Module, pictures: Sequence[Picture], validation: Sequence[Picture], seed: int
    ) -> None:
        self.network = network
        self._pictures = pictures
        self._validation = pasted_crops(validation, np.random.default_rng(seed), 64)
        self._seed = seed

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Loss of one batch; in float32."""
        images, masks = pasted_crops(self._pictures, np.random.default_rng([self._seed, step]), batch_size)
        with torch.autocast(device.type, enabled=False):
            logits = self.network(images.to(device))
            masks = masks.to(device)
            share = torch.sigmoid(logits)
            overlap = 2 * (share * masks).sum() / (share.sum() + masks.sum() + 1)
            entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks)
            return entropy + 1 - overlap

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Dice on the validation crops."""
        images, masks = self._validation
        return {"dice": dice(self.network(images.to(device)), masks.to(device))}


def _crop(pictures: Sequence[Picture], rng: np.random.Generator) -> Picture:
    picture = pictures[int(rng.integers(len(pictures)))]
    top, left = (int(rng.integers(side - SIDE + 1)) for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _draw(mask: Picture, rng: np.random.Generator) -> None:
    """Adds one thing to the mask."""
    height, width = mask.shape
    centre = (int(rng.integers(width)), int(rng.integers(height)))
    radius = int(rng.integers(10, max(11, min(height, width) // 4)))
    match int(rng.integers(3)):
        case 0:
            axes = (radius, int(rng.integers(8, radius + 1)))
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        case 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(3, 8))))
            corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * 1.3 + centre
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        case _:
            text = "".join(rng.choice(list(_LETTERS), size=int(rng.integers(1, 4))))
            start = (centre[0] - radius, centre[1] + radius // 2)
            cv2.putText(mask, text, start, cv2.FONT_HERSHEY_DUPLEX, radius / 14, 1, max(2, radius // 5))
