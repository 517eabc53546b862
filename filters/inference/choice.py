"""Which backend computes: the one that was asked for, or the fastest that is installed and agrees with torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
import skimage.data
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference.backend import Backend, BackendName, Precision
from vvc_nnr.filters.inference.native import NativeBackend
from vvc_nnr.filters.inference.torch import TorchBackend
from vvc_nnr.filters.networks.foreign import declared_layout, misfit
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import grids_of, network_input, read_extended
from vvc_nnr.sequences.images import rgb_to_frame

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


def ready_backend(
    network: nn.Module,
    layout: Layout,
    choice: BackendChoice,
    precision: Precision,
    n_threads: int | None,
    device: str,
) -> tuple[BackendName, Backend, str]:
    """The backend of a choice, made ready; what is not torch has to agree with torch on a test picture.

    Args:
        network: The filter.
        layout: How pictures go into it.
        choice: The backend; with "auto" the next one is taken where a faster one cannot run the network.
        precision: What it computes in.
        n_threads: Threads in all; None for torch's own setting, else for all cores.
        device: Where torch computes.

    Returns:
        Its name, the backend, and one line that says why no faster one computes; empty if this is the fastest.

    Raises:
        InputError: If the backend is not there, or the one that was asked for cannot run the network.
    """
    name = chosen_backend(choice, precision, device)
    order = FASTEST_FIRST[precision]
    others = order[order.index(name) + 1 :] if choice == "auto" else ()
    why_not = []
    for each in (name, *(other for other in others if not missing_for(other))):
        backend, fault = _tried(network, layout, each, precision, n_threads, device)
        if backend is not None:
            return each, backend, f"computed by {each}, since {'; '.join(why_not)}" if why_not else ""
        why_not.append(f"{each} {fault}")
    raise InputError(f"backend {'; '.join(why_not)}")


def _tried(
    network: nn.Module, layout: Layout, name: BackendName, precision: Precision, n_threads: int | None, device: str
) -> tuple[Backend | None, str]:
    """A backend, or why it cannot run a network."""
    if name == "native" and not isinstance(network, InLoopNetwork):
        return None, "computes filters of the bundled architectures alone; choose precision float32 or bfloat16"
    if name.startswith("torch"):
        return make_backend(network, name, precision, n_threads, device, layout), ""
    values, qp = _test_input(layout)
    try:
        expected = TorchBackend(network).run(values, qp)
    except Exception as error:  # of the user's module
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise misfit(network, layout, (values.shape[1], values.shape[2]), said) from error
    if not np.isfinite(expected).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
    try:
        backend = make_backend(network, name, precision, n_threads, device, layout)
        found = backend.run(values, qp)
    except Exception as error:  # of the exporter, or of the runtime, which have many kinds
        return None, f"cannot run it ({' '.join(str(error).split())[:160]})"
    limit = TOLERANCES[precision] * layout.peak(10) / 1023
    if found.shape != expected.shape or not np.abs(found - expected).max() <= limit:
        return None, "gives other samples than torch"
    return backend, ""


TOLERANCES: dict[Precision, float] = {"float32": 0.05, "bfloat16": 8.0, "int8": 32.0}
"""How far from torch's float32 a backend may be on the test picture, in code values of 10 bit."""
_TEST_SIDES = (32, 48)


def _test_input(layout: Layout) -> tuple[NDArray[np.float32], float | None]:
    """Part of a photograph as the network takes it, and its second input."""
    frame = rgb_to_frame(skimage.data.astronaut()[:128, 128:320], bit_depth=10)
    grid = grids_of(frame, layout)[0]
    height, width = layout.patch or (
        layout.align * -(-side // layout.align) + 2 * layout.overlap for side in _TEST_SIDES
    )
    values = network_input(layout, read_extended(grid, (0, 0, height, width)), 32)
    return np.ascontiguousarray(values), layout.qp_input(32) if layout.qp == "scalar" else None


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
    declared = layout or declared_layout(network)
    make: dict[BackendName, Callable[[], Backend]] = {
        "torch": lambda: TorchBackend(network, precision, n_threads, device),
        "torch-compile": lambda: TorchBackend(network, precision, n_threads, device, compiled=True),
        "onnxruntime": lambda: _onnxruntime(network, declared, n_calls),
        "openvino": lambda: _openvino(network, declared, precision, n_calls),
        "native": lambda: NativeBackend(cast(InLoopNetwork, network), n_calls),
    }
    return make[name]()


def _onnxruntime(network: nn.Module, layout: Layout, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(network, layout, n_threads)


def _openvino(network: nn.Module, layout: Layout, precision: Precision, n_threads: int) -> Backend:
    from vvc_nnr.filters.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(network, layout, precision, n_threads)
