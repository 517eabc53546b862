"""This package's own kernel: a filter in 8-bit integers, all layers row by row."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvc_nnr.bitstream.stream import with_metadata
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY
from vvc_nnr.filters.inference.integer import (
    QP_LEVELS,
    TILE,
    FeatureLevels,
    IntegerLayer,
    IntegerNetwork,
    kernel_weights,
    levels_text,
    measure_levels,
    numbers_of,
    parse_levels,
    to_integers,
)
from vvc_nnr.filters.networks.in_loop import QP_CENTRE, QP_SCALE, InLoopNetwork
from vvc_nnr.filters.networks.packing import N_PLANES, sample_scale
from vvc_nnr.filters.networks.planes import PackedGrid
from vvc_nnr.filters.zoo import network_of_nnc
from vvc_nnr.sequences.images import read_image, rgb_to_frame

CALIBRATION_QPS = (17, 27, 37, 47)
CALIBRATION_SIDE = 256
CALIBRATION_FILES = ("astronaut.png", "chelsea.png", "coffee.png")
_KernelLayer: TypeAlias = tuple[int, int, NDArray[np.int32], NDArray[np.uint8] | None]


class NativeBackend:
    """One thread for each call, `n_threads` calls at a time. Equal input gives equal bits on any processor.

    The levels of the features are those that the network's file has. Without them their ranges are measured on parts of
    three photographs of scikit-image, in floats, which other processors round otherwise.

    Args:
        network: The filter.
        n_threads: How many calls may run at a time.
        portable: Without the processor's wider instructions; the result is the same.
    """

    def __init__(self, network: InLoopNetwork, n_threads: int = 1, *, portable: bool = False) -> None:
        own = deepcopy(network).cpu().float().eval()
        stored = own.feature_levels
        levels = measured_levels(own) if stored is None else parse_levels(stored, own)
        self._network = to_integers(own, levels)
        self._filter = kernel_of(self._network, own.n_blocks)
        self._portable = portable
        self.n_parallel = n_threads
        has_vnni = _kernels.has_vnni() and not portable
        origin = "levels measured here" if stored is None else "levels of the file"
        self.description = f"native ({'AVX-512 VNNI' if has_vnni else 'portable'}, {origin})"

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """See `Backend` in choice.py."""
        assert qp is not None
        numbers = numbers_of(self._network, (qp - QP_CENTRE) / QP_SCALE)
        return self._filter.run(planes, numbers, (qp - QP_CENTRE) * QP_LEVELS, self._portable)


def measured_levels(network: InLoopNetwork) -> list[FeatureLevels]:
    """Levels for the ranges that the features have on parts of three photographs of scikit-image, in few bits."""
    return [each.rounded() for each in measure_levels(network, _calibration_pictures())]


def with_feature_levels(data: bytes, where: str = "the network") -> bytes:
    """A coded filter with the levels of its features, so that int8 gives equal pictures on every machine.

    Args:
        data: The coded network.
        where: How errors name it.

    Raises:
        BitstreamError: If it is damaged.
        UnsupportedError: If it was written by another program.
        InputError: If it is no in-loop filter of this package.
    """
    network = network_of_nnc(data, where)
    return with_metadata(data, {FEATURE_LEVELS_KEY: levels_text(measured_levels(network))})


def _calibration_pictures() -> Iterator[tuple[Tensor, float]]:
    folder = Path(skimage.data.__file__).parent
    for name in CALIBRATION_FILES:
        part = read_image(folder / name)[:CALIBRATION_SIDE, 64 : 64 + CALIBRATION_SIDE]
        frame = rgb_to_frame(np.ascontiguousarray(part), bit_depth=10)
        planes = PackedGrid(frame, sample_scale(10)).read((0, 0, frame.height // 2, frame.width // 2))
        for qp in CALIBRATION_QPS:
            yield torch.from_numpy(planes)[None], qp


def kernel_of(network: IntegerNetwork, n_blocks: int) -> _kernels.IntegerFilter:
    """The network as the kernel holds it; its width is filled up to what the kernel sums at a time."""
    head, *others = network.layers
    n_channels = -(-head.weights.shape[0] // TILE) * TILE
    layers: list[_KernelLayer] = [(3 + network.has_qp_plane, n_channels, kernel_weights(head, 2), None)]
    for layer in others:
        n_out = N_PLANES if layer is others[-1] else n_channels
        weights = kernel_weights(_widened(layer, n_channels), 4)
        layers.append((n_channels // 4, n_out, weights, _zeros(layer, n_channels)))
    return _kernels.IntegerFilter(n_channels, n_blocks, network.has_qp_plane, layers)


def _widened(layer: IntegerLayer, n_in: int) -> IntegerLayer:
    missing = n_in - layer.weights.shape[1]
    return replace(layer, weights=np.pad(layer.weights, ((0, 0), (0, missing), (0, 0), (0, 0))))


def _zeros(layer: IntegerLayer, n_in: int) -> NDArray[np.uint8]:
    return np.pad(layer.zero, (0, n_in - len(layer.zero))).astype(np.uint8)
