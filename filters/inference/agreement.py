"""The backend that computes a network: of those that may, the fastest one whose samples are torch's."""

from __future__ import annotations

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference.choice import (
    FASTEST_FIRST,
    Backend,
    BackendChoice,
    BackendName,
    Precision,
    chosen_backend,
    make_backend,
    missing_for,
)
from vvc_nnr.filters.inference.torch import TorchBackend
from vvc_nnr.filters.networks.factory import class_name
from vvc_nnr.filters.networks.foreign import check_output, misfit, said_by
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import grids_of, network_input, read_extended
from vvc_nnr.sequences.images import rgb_to_frame


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
        InputError: If the backend is not there, the one that was asked for cannot run the network, or the network
            keeps something between pictures.
    """
    _check_forgets(network, layout)
    name = chosen_backend(choice, precision, device)
    order = FASTEST_FIRST[precision]
    others = order[order.index(name) + 1 :] if choice == "auto" else ()
    why_not: list[str] = []
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
    if name == "torch":
        return make_backend(network, name, precision, n_threads, device, layout), ""
    values, qp = _test_input(layout, _TEST_SIDES)
    expected = _output(network, layout, values, qp)
    if not np.isfinite(expected).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
    try:
        backend = make_backend(network, name, precision, n_threads, device, layout)
        found = backend.run(values, qp)
    except Exception as error:  # of the exporter, or of the runtime, which have many kinds
        return None, f"cannot run it ({' '.join(str(error).split())[:160]})"
    limit = TOLERANCES[precision] * layout.peak(10) / 1023
    if found.shape != expected.shape or not np.abs(found - expected).max() <= limit:
        again = TorchBackend(network).run(values, qp)
        if again.shape != expected.shape or not np.abs(again - expected).max() <= limit:
            return None, "cannot be held against torch, whose own two runs differ: the network draws random numbers"
        return None, "gives other samples than torch"
    return backend, ""


def check_fits(network: nn.Module, layout: Layout) -> None:
    """Runs a network once on a test picture, so that a layout that does not fit is known before anything begins.

    Args:
        network: The filter.
        layout: How pictures go into it.

    Raises:
        InputError: If it cannot be run so, its output has another shape, or it keeps something between pictures.
    """
    _output(network, layout, *_test_input(layout, _LARGER_SIDES))
    _check_forgets(network, layout)


def _check_forgets(network: nn.Module, layout: Layout) -> None:
    """Raises InputError for a network whose output follows from what it was given before.

    Tiles, threads and other backends would each see other pictures before. Networks that draw random numbers get the
    same ones each time here. One that fails, or gives another shape, is left to who runs it.
    """
    if isinstance(network, InLoopNetwork):
        return
    values, qp = _test_input(layout, _TEST_SIDES)
    backend, found = TorchBackend(network), []
    for given in (values, np.ascontiguousarray(values[:, ::-1]), values):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                found.append(backend.run(given, qp))
            except Exception:  # of the user's module
                return
    first, _, again = found
    if first.shape != again.shape or not np.allclose(
        first, again, rtol=1e-4, atol=1e-5 * layout.peak(10), equal_nan=True
    ):
        raise InputError(
            f"{class_name(network)}: gives another output for the same picture once it has seen another one: it keeps "
            "something between calls; a filter gets each picture by itself, so forward must begin anew each time"
        )


def _output(network: nn.Module, layout: Layout, values: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
    """What torch gives, checked for its shape."""
    sides = (values.shape[1], values.shape[2])
    try:
        output = TorchBackend(network).run(values, qp)
    except Exception as error:  # of the user's module
        raise misfit(network, layout, sides, said_by(error)) from error
    check_output(network, layout, sides, output.shape)
    return output


TOLERANCES: dict[Precision, float] = {"float32": 0.05, "bfloat16": 8.0, "int8": 32.0}
"""How far from torch's float32 a backend may be on the test picture, in code values of 10 bit."""
_TEST_SIDES, _LARGER_SIDES = (32, 48), (64, 64)


def _test_input(layout: Layout, least: tuple[int, int]) -> tuple[NDArray[np.float32], float | None]:
    """Part of a photograph as the network takes it, of at least some height and width, and its second input."""
    picture = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    frame = rgb_to_frame(picture[:128, 128:320], bit_depth=10)
    grid = grids_of(frame, layout)[0]
    height, width = layout.patch or (layout.align * -(-side // layout.align) + 2 * layout.overlap for side in least)
    values = network_input(layout, read_extended(grid, (0, 0, height, width)), 32)
    return np.ascontiguousarray(values), layout.qp_input(32) if layout.qp == "scalar" else None
