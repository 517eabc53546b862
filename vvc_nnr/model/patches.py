"""What the rows of a layer's weight are multiplied with: the patches of its input, at all places of its output or some.

Patches are copied from inputs with their channels last, whole runs of channels at a time, so their columns are ordered
by place in the kernel first; `weight_order` is how the weight has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

MatrixModule: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d


def n_groups(module: MatrixModule) -> int:
    """Groups of rows with inputs of their own."""
    return 1 if isinstance(module, nn.Linear) else module.groups


def weight_order(module: MatrixModule) -> Tensor:
    """Column of a patch for each column of the weight as an n_rows x n_columns matrix, int64."""
    if isinstance(module, nn.Linear):
        return torch.arange(module.in_features)
    _, n_channels, *kernel = module.weight.shape
    n_taps = kernel[0] * (kernel[1] if len(kernel) > 1 else 1)
    return torch.arange(n_taps * n_channels).reshape(n_taps, n_channels).T.reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Where the patches of an input lie.

    Attributes:
        runs: Channels of the input and its borders by position, (n_positions, n_channels).
        first: Position of the first tap of each patch, int64, (n_places,).
        taps: What the others lie after it, int64, (n_taps,).
        n_groups: Groups of channels.
    """

    runs: Tensor
    first: Tensor
    taps: Tensor
    n_groups: int

    @property
    def n_places(self) -> int:
        """Places of the output."""
        return len(self.first)

    def patches(self, chosen: Tensor | None = None) -> Tensor:
        """Copies of all patches, or of those at chosen places, (n_groups, n_places, n_columns)."""
        first = self.first if chosen is None else self.first[chosen]
        taken = self.runs.index_select(0, (first[:, None] + self.taps).reshape(-1))
        by_group = taken.reshape(len(first), len(self.taps), self.n_groups, -1)
        return by_group.permute(2, 0, 1, 3).reshape(self.n_groups, len(first), -1)


def windows(module: MatrixModule, x: Tensor) -> Windows:
    """The windows of a layer on its input; places by sample, row and column."""
    if isinstance(module, nn.Linear):
        positions = x.reshape(-1, x.shape[-1])
        return Windows(positions, torch.arange(len(positions)), torch.zeros(1, dtype=torch.int64), 1)
    padded = _padded(module, x)
    n_samples, height, width, n_channels = padded.shape
    kernel, dilation, stride = (_two(axes) for axes in (module.kernel_size, module.dilation, module.stride))
    rows, columns = (
        torch.arange(0, size - d * (k - 1), s)
        for size, k, d, s in zip((height, width), kernel, dilation, stride, strict=True)
    )
    samples = torch.arange(n_samples)[:, None, None] * height
    first = (samples + rows[:, None]) * width + columns
    taps = torch.arange(kernel[0])[:, None] * dilation[0] * width + torch.arange(kernel[1]) * dilation[1]
    return Windows(padded.reshape(-1, n_channels), first.reshape(-1), taps.reshape(-1), module.groups)


def _padded(module: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """The input as (N, H, W, C) with its borders; a signal is one row."""
    x = functional.pad(x, _padding(module), "constant" if module.padding_mode == "zeros" else module.padding_mode)
    x = x.unsqueeze(-2) if isinstance(module, nn.Conv1d) else x
    return x.permute(0, 2, 3, 1).contiguous()


def _two(axes: Sequence[int]) -> tuple[int, int]:
    return (1, axes[0]) if len(axes) == 1 else (axes[0], axes[1])


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Left and right of each axis, the last axis first."""
    found: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            whole = module.dilation[axis] * (module.kernel_size[axis] - 1) if module.padding == "same" else 0
            found += [whole // 2, whole - whole // 2]
        else:
            found += [module.padding[axis]] * 2
    return found


def rows_of(module: MatrixModule, output: Tensor) -> Tensor:
    """An output, or its gradient, by place and row of the weight, (n_places, n_rows)."""
    if isinstance(module, nn.Linear):
        return output.reshape(-1, output.shape[-1])
    return output.movedim(1, -1).reshape(-1, output.shape[1])
