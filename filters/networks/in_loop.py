"""The ladder of in-loop filters: one shape in three widths, each one network for all QPs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import N_PLANES
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, QpRule

QP_CENTRE = 32.0
QP_SCALE = 10.0
INPUT_SCALES = (4.0, 4.0, 4.0, 4.0, 8.0, 8.0)
"""Brings luma, and chroma with its narrower range, near the strength of the features: else the first layer's weights,
chroma's above all, grow so large that 8 bits between their minimum and maximum cost 0.12 dB at QP 22."""
OUTPUT_SCALE = 0.02
BUNDLED_LAYOUT = Layout("yuv420-packed", range="unit10", qp="scalar")
"""What all shapes of the ladder declare, each with its own reach."""


class _ResidualBlock(nn.Module):
    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(torch.relu(self.conv0(x)))
        return x + y


class _Filter(nn.Module):
    """What both shapes have."""

    feature_levels: str | None = None
    """How int8 makes levels of the features, as the network's file says it; None: it does not."""
    qp_rule: QpRule = DEFAULT_RULE
    """Which QP it is told of a picture, as the network's file says it."""

    def __init__(self, n_channels: int, n_blocks: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_blocks = n_blocks

    @property
    def config(self) -> dict[str, int]:
        """The arguments that make a network of this shape."""
        return {"n_channels": self.n_channels, "n_blocks": self.n_blocks}

    @property
    def receptive_radius(self) -> int:
        """How many half-size samples away an input can reach an output: one for each convolution."""
        return 2 * self.n_blocks + 3

    @property
    def layout(self) -> Layout:
        """How pictures go into it."""
        return replace(BUNDLED_LAYOUT, reach=self.receptive_radius, qp_rule=self.qp_rule)


class InLoopFilter(_Filter):
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
        super().__init__(n_channels, n_blocks)
        self.head = nn.Conv2d(N_PLANES + 1, n_channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_ResidualBlock(n_channels) for _ in range(n_blocks)))
        self.body = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.tail = _zero_tail(n_channels)

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


Rung: TypeAlias = Literal["vlop", "lop", "hop"]
RUNGS: dict[Rung, dict[str, int]] = {
    "vlop": {"n_channels": 16, "n_blocks": 3},
    "lop": {"n_channels": 32, "n_blocks": 3},
    "hop": {"n_channels": 64, "n_blocks": 5},
}
"""The shapes of the three operation points, very low to high: 4.5, 17.0 and 103.1 kMAC per luma sample."""
ERROR_GROWTH = math.log(2) * QP_SCALE / 9
"""How the codec's error grows with `QP_SCALE` steps of QP, as a natural logarithm: it doubles in about 9 QPs."""


class _ConditionedBlock(nn.Module):
    """A residual block whose hidden features shift with the QP."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.shift = _qp_shift(n_channels)

    def forward(self, x: Tensor, strength: Tensor) -> Tensor:
        y: Tensor = self.conv1(torch.relu(self.conv0(x) + _as_planes(self.shift(strength))))
        return x + y


class LadderFilter(_Filter):
    """Adds a learned correction to decoded pictures; the QP costs nothing per sample.

    ```
     planes (6) ─ conv + shift ─ ReLU ─┬─ blocks ─ conv ─ + ─ ReLU ─ conv x 0.02 x gain ─ + ─ planes
                                       └───────────────────┘                              │
     planes ──────────────────────────────────────────────────────────────────────────────┘
    ```
    The QP enters as `strength` = (QP - 32) / 10: one shift per channel, strength times a learned slope, before the
    ReLU of the first layer and of every block, and one gain per plane, exp(strength times a learned slope).

    Args:
        n_channels: Width of the hidden layers.
        n_blocks: Residual blocks of two convolutions each.
    """

    def __init__(self, n_channels: int = 32, n_blocks: int = 3) -> None:
        super().__init__(n_channels, n_blocks)
        self.head = nn.Conv2d(N_PLANES, n_channels, 3, padding=1)
        self.shift = _qp_shift(n_channels)
        self.blocks = nn.ModuleList(_ConditionedBlock(n_channels) for _ in range(n_blocks))
        self.body = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.tail = _zero_tail(n_channels)
        self.gain = nn.Linear(1, N_PLANES, bias=False)
        nn.init.constant_(self.gain.weight, ERROR_GROWTH)

    def forward(self, planes: Tensor, qp: Tensor) -> Tensor:
        """Filters a batch.

        Args:
            planes: (N, 6, H, W) from `pack`, scaled to 0..1 by 2**bit_depth - 1.
            qp: (N,), the QP that each picture was coded with.

        Returns:
            (N, 6, H, W), not clipped.
        """
        strength = ((qp - QP_CENTRE) / QP_SCALE).to(planes.dtype).view(-1, 1)
        inputs = (planes - 0.5) * planes.new_tensor(INPUT_SCALES).view(1, N_PLANES, 1, 1)
        features = torch.relu(self.head(inputs) + _as_planes(self.shift(strength)))
        deep = features
        for block in self.blocks:
            deep = block(deep, strength)
        correction: Tensor = self.tail(torch.relu(self.body(deep) + features))
        return planes + OUTPUT_SCALE * _as_planes(torch.exp(self.gain(strength))) * correction


InLoopNetwork: TypeAlias = InLoopFilter | LadderFilter
"""A network that filters pictures: `network(planes, qp)`."""


def deepened(network: InLoopNetwork, n_blocks: int) -> LadderFilter:
    """A network of the same width with more blocks that computes the same, to go on training from.

    The new blocks stand at the end and add zero. The QP plane of an `InLoopFilter` becomes the first layer's shift,
    which is the same but for the picture's border.

    Raises:
        ValueError: If the network has more blocks than that.
    """
    if n_blocks < network.n_blocks:
        raise ValueError(f"the network has {network.n_blocks} blocks, cannot be made one of {n_blocks}")
    deeper = LadderFilter(network.n_channels, n_blocks)
    for block in deeper.blocks[network.n_blocks :]:
        assert isinstance(block, _ConditionedBlock)
        assert block.conv1.bias is not None
        nn.init.zeros_(block.conv1.weight)
        nn.init.zeros_(block.conv1.bias)
    state = dict(network.state_dict())
    if isinstance(network, InLoopFilter):
        head = state.pop("head.weight")
        state["head.weight"] = head[:, :N_PLANES]
        state["shift.weight"] = head[:, N_PLANES].sum(dim=(1, 2)).view(-1, 1)
        state["gain.weight"] = torch.zeros(N_PLANES, 1)
    deeper.load_state_dict(state, strict=False)
    deeper.qp_rule = network.qp_rule
    return deeper


def _zero_tail(n_channels: int) -> nn.Conv2d:
    """The last layer, whose correction is zero at first."""
    tail = nn.Conv2d(n_channels, N_PLANES, 3, padding=1)
    nn.init.zeros_(tail.weight)
    assert tail.bias is not None
    nn.init.zeros_(tail.bias)
    return tail


def _qp_shift(n_channels: int) -> nn.Linear:
    shift = nn.Linear(1, n_channels, bias=False)
    nn.init.zeros_(shift.weight)
    return shift


def _as_planes(values: Tensor) -> Tensor:
    return values[:, :, None, None]
