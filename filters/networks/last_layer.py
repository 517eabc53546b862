"""The last convolution of a network: which it is, and what the network's output is of what that gives.

Nothing is asked of the module but that it calls torch's convolution with a parameter of its own: the calls are watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold
from torch.overrides import TorchFunctionMode

_LAYERS: Sequence[Callable[..., Tensor]] = (torch.conv2d, torch.conv_transpose2d)
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The convolution that runs last.

    Attributes:
        weight: Name of its weights.
        bias: Name of its biases; None if it has none, or they are no parameter.
        is_plain: Whether it is one convolution of two dimensions over all channels, which can be solved at once.
    """

    weight: str
    bias: str | None
    is_plain: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of its tensors."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


class _Seen(TorchFunctionMode):
    """Notes the calls of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Tensor], Mapping[str, Any]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _LAYERS:
            self.calls.append((func, _bound(args, kwargs)))
        return func(*args, **(kwargs or {}))


class FeaturesBefore(TorchFunctionMode):
    """While it is entered, what goes into a layer is kept, and something is added to what comes out.

    Args:
        weight: The tensor that the layer is called with.
        shifts: What is added, call by call; None: zeros.

    Attributes:
        features: What went in, call by call.
        added: What was added, of the shape of what came out; gradients are taken to it.
        geometry: Stride, padding and dilation of the last call.
    """

    def __init__(self, weight: Tensor, shifts: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self._weight, self._shifts = weight, shifts
        self.features: list[Tensor] = []
        self.added: list[Tensor] = []
        self.geometry: tuple[Any, Any, Any] = (1, 0, 1)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is not torch.conv2d or (given := _bound(args, kwargs))["weight"] is not self._weight:
            return output
        self.features.append(given["input"].detach())
        self.geometry = (given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1))
        if self._shifts is None:
            self.added.append(torch.zeros_like(output, dtype=torch.float32).requires_grad_())
        else:
            self.added.append(self._shifts[len(self.added)])
        return output + self.added[-1]

    def rows(self, has_bias: bool) -> Tensor:
        """What each weight of one output channel, and its bias, is multiplied by: (N, n_unknown, samples)."""
        stride, padding, dilation = self.geometry
        features = torch.cat(self.features).float().contiguous()
        rows = unfold(features, self._weight.shape[2:], dilation, padding, stride)
        return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1) if has_bias else rows


def last_layer(network: nn.Module, *inputs: Tensor) -> LastLayer | None:
    """The convolution of a network that runs last of all whose weights are parameters; None if none is seen.

    Args:
        network: The network; what of it is scripted or exported is not seen.
        inputs: What it is run on.
    """
    names = {id(value): name for name, value in network.named_parameters()}
    with torch.no_grad(), _Seen() as seen:
        network(*inputs)
    calls = [(func, given) for func, given in seen.calls if id(given.get("weight")) in names]
    if not calls:
        return None
    func, given = calls[-1]
    n_calls = sum(other["weight"] is given["weight"] for _, other in calls)
    is_plain = func is torch.conv2d and n_calls == 1 and given.get("groups", 1) == 1
    is_plain = is_plain and not isinstance(given.get("padding", 0), str)
    return LastLayer(names[id(given["weight"])], names.get(id(given.get("bias"))), is_plain)


def _bound(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {**dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {})}
