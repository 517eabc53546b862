"""MS-SSIM of pictures with gradients, for training: that of `sequences.metrics` on as many scales as a picture has.

Of 32x32 pixels there are two: a window of 11x11 does not fit into the third. Their weights then sum to 1 again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vvc_nnr.errors import ShapeError
from vvc_nnr.sequences.metrics import MS_SSIM_WEIGHTS, SSIM_WINDOW

_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_LEAST_FACTOR = 1e-4
"""Of a scale, below which its power has no gradient that is of use."""


def ms_ssim(reference: Tensor, decoded: Tensor) -> Tensor:
    """The mean over the channels, at most 1, of each picture.

    Args:
        reference: float32 (N, C, H, W) in 0..1, both sides at least 11.
        decoded: The same shape, about 0..1.

    Raises:
        ShapeError: If the shapes differ, or a side is smaller than 11.
    """
    if reference.shape != decoded.shape or min(reference.shape[2:]) < SSIM_WINDOW:
        shapes = f"{tuple(reference.shape)} and {tuple(decoded.shape)}"
        raise ShapeError(f"pictures of {shapes}: must be of one shape, with sides of at least {SSIM_WINDOW}")
    weights = torch.tensor(MS_SSIM_WEIGHTS[: _n_scales(min(reference.shape[2:]))], device=reference.device)
    score = torch.ones(reference.shape[:2], device=reference.device)
    for scale, weight in enumerate(weights / weights.sum()):
        if scale:
            reference, decoded = _halved(reference), _halved(decoded)
        whole, structure = _scale_means(reference, decoded)
        score = score * (whole if scale == len(weights) - 1 else structure).clamp_min(_LEAST_FACTOR) ** weight
    return score.mean(dim=1)


def _n_scales(side: int) -> int:
    n_scales = 0
    while n_scales < len(MS_SSIM_WEIGHTS) and side >= SSIM_WINDOW:
        n_scales, side = n_scales + 1, -(-side // 2)
    return n_scales


def _scale_means(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term (N, C) over all windows that fit."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    variances = _blurred(a * a) + _blurred(b * b) - mean_a**2 - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    structure = (2 * covariance + _C2) / (variances + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * structure).mean(dim=(2, 3)), structure.mean(dim=(2, 3))


def _blurred(planes: Tensor) -> Tensor:
    distance = torch.arange(SSIM_WINDOW, device=planes.device) - SSIM_WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * _SIGMA**2))
    n_channels = planes.shape[1]
    window = (window / window.sum()).expand(n_channels, 1, 1, -1)
    rows = functional.conv2d(planes, window, groups=n_channels)
    return functional.conv2d(rows, window.transpose(2, 3), groups=n_channels)


def _halved(planes: Tensor) -> Tensor:
    """Means of 2x2 samples; an odd last row or column is repeated."""
    below, right = (side % 2 for side in planes.shape[2:])
    return functional.avg_pool2d(functional.pad(planes, (0, right, 0, below), mode="replicate"), 2)
