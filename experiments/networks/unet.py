"""A small U-Net with batch norms, and the task that it learns: to find what was pasted into a photograph.

The task has exact masks for any photograph: letters, ellipses and polygons filled from other photographs are pasted
in, and the network says for each pixel whether it belongs to one (a foreground object on a natural background).
Source: Ronneberger, Fischer, Brox, U-Net, MICCAI 2015; batch norms as in its reimplementations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (8, 16, 24, 40)


class DoubleConvolution(nn.Sequential):
    """Twice 3x3 convolution, batch norm and ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """RGB (N, 3, H, W), 0 to 1, to the logits of a mask (N, 1, H, W); sides multiples of 2 per width but the first.

    Args:
        widths: Channels from the first level to the deepest.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(DoubleConvolution(a, b) for a, b in zip((3, *widths), widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(DoubleConvolution(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """The logits."""
        levels: list[Tensor] = []
        found = pictures
        for place, convolve in enumerate(self.down):
            found = convolve(nn.functional.max_pool2d(found, 2) if place else found)
            levels.append(found)
        for grow, convolve, level in zip(self.grow, self.up, levels[-2::-1], strict=True):
            found = convolve(torch.cat([level, grow(found)], dim=1))
        logits: Tensor = self.head(found)
        return logits


def dice(logits: Tensor, masks: Tensor) -> float:
    """Dice coefficient of logits above 0 against masks of 0 and 1, over all pixels together; 1 if both are empty."""
    found, wanted = logits > 0, masks > 0.5
    n_pixels = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / n_pixels if n_pixels else 1.0
