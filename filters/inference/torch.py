"""PyTorch, operation by operation; on the processor or a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.networks.foreign import own_copy


class TorchBackend:
    """The network as it is.

    Args:
        network: The filter; moved to the device. It runs in evaluation mode, and is left in the mode that it is in.
        precision: With "bfloat16" the convolutions are computed in it, the sum with the picture is not.
        n_threads: Threads of each operation, None for torch's own setting.
        device: "cpu", "cuda" or "auto".

    Raises:
        InputError: If the device is not there.
    """

    n_parallel = 1

    def __init__(
        self,
        network: nn.Module,
        precision: Precision = "float32",
        n_threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._device = choose_device(device)
        self._precision = precision
        self._n_threads = n_threads
        self._network = _in_float32(network).to(self._device)
        self.description = f"torch {torch.__version__} on {self._device}"

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The network's output (C', H', W') for planes (C, H, W), a copy: the network may change it in place."""
        inputs = torch.tensor(planes, device=self._device)[None].contiguous(memory_format=torch.channels_last)
        strength = () if qp is None else (torch.tensor([float(qp)], device=self._device),)
        reduced = torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
        with torch_threads(self._n_threads), evaluating(self._network), torch.no_grad(), reduced:
            output = self._network(inputs, *strength)
        if not isinstance(output, Tensor):
            raise InputError(f"it returned a {type(output).__name__}, must return a tensor")
        if not output.is_floating_point():
            dtype = str(output.dtype).removeprefix("torch.")
            raise InputError(f"it returned a tensor of {dtype}, must return floats on the scale that the layout says")
        return np.ascontiguousarray(output[0].float().cpu().numpy())


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode for a while; each of its modules is left in the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _in_float32(network: nn.Module) -> nn.Module:
    """The network itself, or a copy in float32 if it has weights of another float format."""
    formats = {value.dtype for value in network.state_dict().values() if value.is_floating_point()}
    return network if formats <= {torch.float32} else own_copy(network, dtype=torch.float32)


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """A number of torch threads for a while; None leaves torch's own setting alone."""
    previous = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU when there is one, else the CPU.

    Raises:
        InputError: If it is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not available; must be cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} is not available: torch finds no GPU here; take cpu")
    return torch.device(name)


def training_precision(device: torch.device) -> torch.autocast:
    """A block in which convolutions run in bfloat16 where the device computes in it, and in float32 elsewhere.

    A GPU does, and a processor with AVX-512 BF16 or AMX. Emulated, it takes ten times as long as float32.
    """
    is_native = device.type != "cpu" or any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=is_native)
