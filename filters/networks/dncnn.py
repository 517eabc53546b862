"""DnCNN: plain 3x3 convolutions that predict what is wrong with a grey picture, and the degradations it is made for.

Source: Zhang, Zuo, Chen, Meng and Zhang, "Beyond a Gaussian denoiser", IEEE TIP 2017; batch normalisations folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.layout import Layout


class DnCnn(nn.Module):
    """Subtracts what it takes for noise.

    Args:
        n_layers: Convolutions, `conv0` to the last.
        n_channels: Width of the hidden layers.
        n_planes: Planes of the picture.
    """

    def __init__(self, n_layers: int = 17, n_channels: int = 64, n_planes: int = 1) -> None:
        super().__init__()
        self.n_layers, self.n_channels, self.n_planes = n_layers, n_channels, n_planes
        widths = [n_planes, *[n_channels] * (n_layers - 1), n_planes]
        for place in range(n_layers):
            self.add_module(f"conv{place}", nn.Conv2d(widths[place], widths[place + 1], 3, padding=1))

    @property
    def config(self) -> dict[str, int]:
        """The arguments that make a network of this shape."""
        return {"n_layers": self.n_layers, "n_channels": self.n_channels, "n_planes": self.n_planes}

    @property
    def layout(self) -> Layout:
        """How decoded pictures go into it: luma, or RGB."""
        return Layout("y" if self.n_planes == 1 else "rgb", reach=self.n_layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (N, n_planes, H, W) in 0..1, cleaned but not clipped."""
        *hidden, last = (self.get_submodule(f"conv{place}") for place in range(self.n_layers))
        features = pictures
        for layer in hidden:
            features = torch.relu(layer(features))
        cleaned: Tensor = pictures - last(features)
        return cleaned


def dncnn_of(tensors: Mapping[str, Any], where: str) -> DnCnn:
    """The network that tensors `conv0.weight`, `conv0.bias`, `conv1.weight`, ... make.

    Args:
        tensors: Arrays by name.
        where: How errors name their file.

    Raises:
        InputError: If they make none.
    """
    n_layers = len(tensors) // 2
    first = tensors.get("conv0.weight")
    if n_layers < 2 or first is None or first.ndim != 4:
        raise InputError(f"{where}: no DnCNN; must have tensors conv0.weight, conv0.bias, conv1.weight, ...")
    network = DnCnn(n_layers, int(first.shape[0]), int(first.shape[1]))
    for name, value in network.state_dict().items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != tuple(value.shape):
            got = "none" if found is None else "x".join(map(str, found.shape))
            wanted = "x".join(map(str, value.shape))
            raise InputError(f"{where}: tensor {name}: got {got}, a DnCNN of {n_layers} layers wants {wanted}")
    network.load_state_dict({name: torch.from_numpy(tensors[name].copy()) for name in network.state_dict()})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()
