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
from torch.utils.hooks import RemovableHandle

from vvc_nnr.errors import InputError
from vvc_nnr.model.patches import MatrixModule, rows_of

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
        n_calls: How often one pass of the network runs it.
        n_places: Places of all its outputs in one pass over one sample.
    """

    name: str
    n_calls: int
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
    n_calls: Counter[str] = Counter()
    n_places: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            assert isinstance(module, MatrixModule)
            n_calls[name] += 1
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
    return [MatrixLayer(name, n_calls[name], n_places[name]) for name in n_calls]


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
        raise InputError(f"calibration: the network returns a {type(output).__name__}, one tensor is wanted")
    if not bool(torch.isfinite(output).all()):
        raise InputError(f"calibration: the network returns NaN or infinite values on a picture of {shapes}")
    return output
