"""The CNN in-loop filter: a residual network of 3x3 convolutions for luma and chroma at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vvc_nnr.filters.packing import N_PLANES

QP_CENTRE = 32.0
QP_SCALE = 10.0
INPUT_SCALES = (4.0, 4.0, 4.0, 4.0, 8.0, 8.0)
"""Brings luma, and chroma with its narrower range, near the strength of the features: else the first layer's weights,
chroma's above all, grow so large that 8 bits between their minimum and maximum cost 0.12 dB at QP 22."""
OUTPUT_SCALE = 0.02


class _ResidualBlock(nn.Module):
    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(torch.relu(self.conv0(x)))
        return x + y


class InLoopFilter(nn.Module):
    """Adds a learned correction to decoded pictures.

    ```
     planes (6) ─┬─ cat ─ conv ─ ReLU ─┬─ residual blocks ─ conv ─ + ─ ReLU ─ conv x 0.02 ─ + ─ planes
     QP plane ───┘                     └───────────────────────────┘                        │
     planes ────────────────────────────────────────────────────────────────────────────────┘
    ```
    With 64 channels and 2 blocks it has 192,198 parameters, the size of the filter in Moon and Kim's paper
    (781 KB in float32), and needs 48.0 kMAC per luma sample.

    Args:
        n_channels: Width of the hidden layers.
        n_blocks: Residual blocks of two convolutions each.
    """

    def __init__(self, n_channels: int = 64, n_blocks: int = 2) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_blocks = n_blocks
        self.head = nn.Conv2d(N_PLANES + 1, n_channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_ResidualBlock(n_channels) for _ in range(n_blocks)))
        self.body = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.tail = nn.Conv2d(n_channels, N_PLANES, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    @property
    def config(self) -> dict[str, int]:
        """The arguments that make a network of this shape."""
        return {"n_channels": self.n_channels, "n_blocks": self.n_blocks}

    @property
    def receptive_radius(self) -> int:
        """How many half-size samples away an input can reach an output: one for each convolution."""
        return 2 * self.n_blocks + 3

    def forward(self, planes: Tensor, qp: Tensor) -> Tensor:
        """Filters a batch.

        Args:
            planes: (N, 6, H, W) from `pack`, scaled to 0..1 by 2**bit_depth - 1.
            qp: (N,), the QP that each picture was coded with.

        Returns:
            (N, 6, H, W), not clipped.
        """
        n, _, height, width = planes.shape
        strength = ((qp - QP_CENTRE) / QP_SCALE).to(planes.dtype).view(n, 1, 1, 1).expand(n, 1, height, width)
        inputs = (planes - 0.5) * planes.new_tensor(INPUT_SCALES).view(1, N_PLANES, 1, 1)
        features = torch.relu(self.head(torch.cat([inputs, strength], dim=1)))
        deep = self.body(self.blocks(features)) + features
        correction: Tensor = self.tail(torch.relu(deep))
        return planes + OUTPUT_SCALE * correction
