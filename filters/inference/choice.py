"""Which backend computes: the one that was asked for, or the fastest that is installed; what all look like.

A backend's module is imported when it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from vvc_nnr.filters.networks.in_loop import InLoopNetwork
    from vvc_nnr.filters.networks.layout import Layout

BackendName: TypeAlias = Literal["torch", "onnxruntime", "openvino", "native"]
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]


class Backend(Protocol):
    """One network, made ready once and kept; the size of its input and the QP may change from call to call."""

    @property
    def description(self) -> str:
        """What computes, with its version."""

    @property
    def n_parallel(self) -> int:
        """How many threads may call `run` at a time."""

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The network's output.

        Args:
            planes: (C, H, W), contiguous, as the network takes them; a QP plane is among them.
            qp: The network's second input, None if it has none.

        Returns:
            (C', H', W'), not clipped; valid until the same thread calls again.
        """


BackendChoice: TypeAlias = Literal["auto"] | BackendName
FASTEST_FIRST: dict[Precision, tuple[BackendName, ...]] = {
    "float32": ("openvino", "onnxruntime", "torch"),
    "bfloat16": ("openvino", "torch"),
    "int8": ("native",),
}
"""The order that "auto" looks in."""
_PACKAGES: dict[BackendName, tuple[str, ...]] = {
    "torch": (),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "native": (),
}
_PRECISIONS: dict[BackendName, tuple[Precision, ...]] = {
    "torch": ("float32", "bfloat16"),
    "onnxruntime": ("float32",),
    "openvino": ("float32", "bfloat16"),
    "native": ("int8",),
}


def n_usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def missing_for(name: BackendName) -> str:
    """What a backend lacks on this machine, in words; empty if it can run."""
    packages = [package for package in _PACKAGES[name] if find_spec(package) is None]
    if packages:
        return f"the package {' and '.join(packages)} is not installed; pip install 'vvc-nnr[{name}]'"
    return ""


def chosen_backend(choice: BackendChoice, precision: Precision, device: str = "cpu") -> BackendName:
    """The backend that a choice comes to here.

    Raises:
        InputError: If it is not installed, or does not compute in this precision or on this device.
    """
    if choice not in ("auto", *get_args(BackendName)):
        raise InputError(f"backend {choice!r}: must be auto, {', '.join(get_args(BackendName))}")
    if precision not in FASTEST_FIRST:
        raise InputError(f"precision {precision!r}: must be {', '.join(FASTEST_FIRST)}")
    name = _first_installed(precision, device) if choice == "auto" else choice
    if precision not in _PRECISIONS[name]:
        raise InputError(f"backend {name}: computes in {' or '.join(_PRECISIONS[name])}, not in {precision}")
    if device != "cpu" and name != "torch":
        raise InputError(f"backend {name}: computes on the processor only, device {device!r} was asked for")
    if missing := missing_for(name):
        raise InputError(f"backend {name}: {missing}")
    return name


def _first_installed(precision: Precision, device: str) -> BackendName:
    """What "auto" comes to; off the processor that is torch, last in each row."""
    order = FASTEST_FIRST[precision] if device == "cpu" else FASTEST_FIRST[precision][-1:]
    return next(name for name in order if not missing_for(name))


def make_backend(
    network: nn.Module,
    name: BackendName,
    precision: Precision,
    n_threads: int | None,
    device: str,
    layout: Layout | None = None,
) -> Backend:
    """The network, ready to run on a backend that `chosen_backend` gave.

    Args:
        network: The filter.
        name: The backend.
        precision: What it computes in.
        n_threads: Threads in all; None for torch's own setting, else for all cores.
        device: Where torch computes.
        layout: How pictures go into it; None: as it says itself.
    """
    n_calls = n_threads or n_usable_cores()
    make: dict[BackendName, Callable[[], Backend]] = {
        "torch": lambda: _torch(network, precision, n_threads, device),
        "onnxruntime": lambda: _onnxruntime(network, layout, n_calls),
        "openvino": lambda: _openvino(network, layout, precision, n_calls),
        "native": lambda: _native(cast("InLoopNetwork", network), n_calls),
    }
    return make[name]()


def _torch(network: nn.Module, precision: Precision, n_threads: int | None, device: str) -> Backend:
    from vvc_nnr.filters.inference.torch import TorchBackend

    return TorchBackend(network, precision, n_threads, device)


def _native(network: InLoopNetwork, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.native import NativeBackend

    return NativeBackend(network, n_threads)


def _onnxruntime(network: nn.Module, layout: Layout | None, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.onnxruntime import OnnxRuntimeBackend
    from vvc_nnr.filters.networks.foreign import declared_layout

    return OnnxRuntimeBackend(network, layout or declared_layout(network), n_threads)


def _openvino(network: nn.Module, layout: Layout | None, precision: Precision, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.openvino import OpenVinoBackend
    from vvc_nnr.filters.networks.foreign import declared_layout

    return OpenVinoBackend(network, layout or declared_layout(network), precision, n_threads)
