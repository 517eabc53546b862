"""Which backend computes: the one that was asked for, or the fastest that is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.backend import Backend, BackendName, Precision
from vvc_nnr.filters.inference.native import NativeBackend
from vvc_nnr.filters.inference.torch import TorchBackend
from vvc_nnr.filters.networks.in_loop import InLoopNetwork

BackendChoice: TypeAlias = Literal["auto"] | BackendName
FASTEST_FIRST: dict[Precision, tuple[BackendName, ...]] = {
    "float32": ("openvino", "onnxruntime", "torch"),
    "bfloat16": ("openvino", "torch"),
    "int8": ("native",),
}
"""The order that "auto" looks in. Compiling by torch takes half a minute, and so has to be asked for."""
_PACKAGES: dict[BackendName, tuple[str, ...]] = {
    "torch": (),
    "torch-compile": (),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "native": (),
}
_PRECISIONS: dict[BackendName, tuple[Precision, ...]] = {
    "torch": ("float32", "bfloat16"),
    "torch-compile": ("float32", "bfloat16"),
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
    if name == "torch-compile" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return "torch.compile needs a C++ compiler (g++, or what CXX names)"
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
    if device != "cpu" and not name.startswith("torch"):
        raise InputError(f"backend {name}: computes on the processor only, device {device!r} was asked for")
    if missing := missing_for(name):
        raise InputError(f"backend {name}: {missing}")
    return name


def _first_installed(precision: Precision, device: str) -> BackendName:
    """What "auto" comes to; off the processor that is torch, last in each row."""
    order = FASTEST_FIRST[precision] if device == "cpu" else FASTEST_FIRST[precision][-1:]
    return next(name for name in order if not missing_for(name))


def make_backend(
    network: InLoopNetwork, name: BackendName, precision: Precision, n_threads: int | None, device: str
) -> Backend:
    """The network, ready to run on a backend that `chosen_backend` gave.

    Args:
        network: The filter.
        name: The backend.
        precision: What it computes in.
        n_threads: Threads in all; None for torch's own setting, else for all cores.
        device: Where torch computes.
    """
    n_calls = n_threads or n_usable_cores()
    make: dict[BackendName, Callable[[], Backend]] = {
        "torch": lambda: TorchBackend(network, precision, n_threads, device),
        "torch-compile": lambda: TorchBackend(network, precision, n_threads, device, compiled=True),
        "onnxruntime": lambda: _onnxruntime(network, n_calls),
        "openvino": lambda: _openvino(network, precision, n_calls),
        "native": lambda: NativeBackend(network, n_calls),
    }
    return make[name]()


def _onnxruntime(network: InLoopNetwork, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(network, n_threads)


def _openvino(network: InLoopNetwork, precision: Precision, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(network, precision, n_threads)
