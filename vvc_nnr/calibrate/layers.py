"""The layers of a torch module whose weight is a matrix: fully connected and convolutional, with what the matrix sees.

A convolution multiplies its weight, as an n_rows x n_columns matrix, with the patch of its input at each place of its
output. This adaptor finds those layers in the order in which a network runs them, and makes the patches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from vvc_nnr.errors import InputError

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


Run: TypeAlias = Callable[..., Tensor]
"""Called with a module and the inputs of one sample; returns the network's output."""


def run_forward(model: nn.Module, *inputs: Tensor) -> Tensor:
    """The module's own forward pass."""
    output: Tensor = model(*inputs)
    return output


@dataclass(frozen=True, slots=True)
class MatrixLayer:
    """A layer whose weight is a matrix.

    Attributes:
        name: Of the module; "" if the network is a single layer.
        n_places: Places of all its outputs in one pass over one sample.
    """

    name: str
    n_places: int

    @property
    def weight_name(self) -> str:
        """Of its weight in the network's state."""
        return f"{self.name}.weight" if self.name else "weight"

    @property
    def bias_name(self) -> str:
        """Of its bias, whether it has one or not."""
        return f"{self.name}.bias" if self.name else "bias"

    def module(self, model: nn.Module) -> MatrixModule:
        """The layer in a copy of the network."""
        module = model.get_submodule(self.name)
        assert isinstance(module, MatrixModule)
        return module


def find_layers(model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> list[MatrixLayer]:
    """The layers that one pass runs, in the order of their first call; layers that share a weight are left out.

    Raises:
        InputError: If the network cannot be run on the inputs.
    """
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    state = set(model.state_dict())
    n_places: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            assert isinstance(module, MatrixModule)
            n_places[name] += rows_of(module, output).shape[0]

        return hook

    handles: list[RemovableHandle] = []
    for name, module in model.named_modules():
        is_named = (f"{name}.weight" if name else "weight") in state
        if isinstance(module, MatrixModule) and is_named and shared[id(module.weight)] == 1:
            handles.append(module.register_forward_hook(count(name)))
    try:
        with torch.no_grad():
            checked_output(model, run, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [MatrixLayer(*layer) for layer in n_places.items()]


def checked_output(model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> Tensor:
    """The output of one pass.

    Raises:
        InputError: If the network fails on the inputs, or its output is no tensor, is NaN or infinite.
    """
    shapes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
    try:
        output = run(model, *inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"calibration: the network cannot be run on a picture of {shapes}: {text}") from None
    if not isinstance(output, Tensor):
        raise InputError(f"calibration: the network returns a {type(output).__name__}; must be one tensor")
    if not bool(torch.isfinite(output).all()):
        raise InputError(f"calibration: the network returns NaN or infinite values on a picture of {shapes}")
    return output
