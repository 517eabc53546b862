"""This package's own kernel: a filter in 8-bit integers, all layers row by row.

Weights and features become levels, and their sums are exact. Each output channel of a convolution has its own step, and
so has each feature, whose step goes into the weights that meet it. The samples enter with 14 bits, and are added to the
correction in float32, untouched. Hence levels only make the correction coarser, which is a few code values. The same
bits come out on every processor.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from pathlib import Path
from typing import TypeAlias

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.bitstream.stream import with_metadata
from vvc_nnr.errors import InputError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY
from vvc_nnr.filters.networks.foreign import own_copy
from vvc_nnr.filters.networks.in_loop import (
    INPUT_SCALES,
    OUTPUT_SCALE,
    QP_CENTRE,
    QP_SCALE,
    InLoopFilter,
    InLoopNetwork,
    LadderFilter,
)
from vvc_nnr.filters.networks.planes import N_PLANES, PackedGrid, sample_scale
from vvc_nnr.filters.zoo import network_of_nnc
from vvc_nnr.sequences.images import read_image, rgb_to_frame

MAX_UINT8 = 255
MAX_WEIGHT = 127
SAMPLE_LEVELS = 16368.0  # of the range 0..1; the kernel's kLevelsPerUnit
MAX_SAMPLE_LEVEL = np.float32(8200.0)  # the kernel's kMaxLevel
QP_LEVELS = 400.0  # of a QP
MAX_INPUT = QP_CENTRE * QP_LEVELS  # what a level of the first layer's input cannot exceed
MAX_SUM = 2.0**31 - 2.0**20
TILE = 8  # output channels that the kernel sums at a time

_DECIMALS = Context(prec=40)
_BYTES_OF_A_CHANNEL = 4

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureLevels:
    """How the input of a convolution becomes levels 0 to 255: level = value / step + zero.

    Attributes:
        step: (n_in,), above 0.
        zero: (n_in,), the level of the value 0, a whole number.
        mean: (n_in,), of the values.
    """

    step: _Floats
    zero: _Floats
    mean: _Floats

    @classmethod
    def of_range(cls, lowest: _Floats, highest: _Floats, mean: _Floats) -> FeatureLevels:
        """Levels that span a range for each channel; the range is made to hold 0.

        A channel that is always 0 gets the finest step of the others: a coarse one would make its weights, which meet
        nothing, set the step of all weights.
        """
        lowest, highest = np.minimum(lowest, 0), np.maximum(highest, 0)
        step = (highest - lowest) / MAX_UINT8
        step[step == 0] = np.min(step, where=step > 0, initial=1.0)
        return cls(step, np.rint(-lowest / step), mean)

    def rounded(self) -> FeatureLevels:
        """The same in few bits: a step of 16 bits, rounded up so that the range stays inside; zero and mean of 8."""
        bits = self.step.astype(np.float32).view(np.uint32).astype(np.uint64) + 0xFFFF >> 16
        step = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        zero = np.rint(self.zero * self.step / step)
        level = np.clip(np.rint(self.mean / step + zero), 0, MAX_UINT8)
        return FeatureLevels(step, zero, (level - zero) * step)


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """A convolution on levels: value = sum of weight * level * scale + bias, per output channel.

    Attributes:
        weights: (n_out, n_in, 3, 3), whole numbers; 8 bits, in the first layer 16.
        scale: (n_out,).
        bias: (n_out,), at QP 32.
        bias_per_strength: (n_out,), what a strength of 1, that is 10 QPs, adds.
        gain: (n_out,), natural logarithm of what a strength of 1 multiplies scale and bias by.
        zero: (n_in,), the level of the value 0.
    """

    weights: NDArray[np.int32]
    scale: _Floats
    bias: _Floats
    bias_per_strength: _Floats
    gain: _Floats
    zero: _Floats

    def at(self, strength: float) -> tuple[_Floats, _Floats]:
        """Scale and bias at a QP, the zeros of the input included."""
        gain = np.array([_exp(each) for each in (self.gain * strength).tolist()])
        offset = self.scale * (self.weights.sum(axis=(2, 3)) @ self.zero)
        return self.scale * gain, (self.bias + self.bias_per_strength * strength - offset) * gain


@dataclass(frozen=True, slots=True)
class IntegerNetwork:
    """A filter in integers.

    Attributes:
        layers: The convolutions in order: head, two of each block, body, tail.
        levels: How the input of each after the first becomes levels.
        has_qp_plane: Whether the head sees the QP as a plane of its input.
    """

    layers: tuple[IntegerLayer, ...]
    levels: tuple[FeatureLevels, ...]
    has_qp_plane: bool


def _exp(value: float) -> float:
    """The exponential, correctly rounded: that of C libraries differs in its last bit from one to another."""
    return float(_DECIMALS.exp(Decimal(value)))


def convolutions(network: InLoopNetwork) -> list[nn.Conv2d]:
    """The convolutions of a filter in order."""
    blocks = [conv for block in network.blocks for conv in (block.conv0, block.conv1)]
    return [network.head, *blocks, network.body, network.tail]  # type: ignore[list-item]


def measure_levels(network: InLoopNetwork, pictures: Iterable[tuple[Tensor, float]]) -> list[FeatureLevels]:
    """Levels that span what the features are on some pictures, for each convolution after the first.

    Args:
        network: The filter, on the processor.
        pictures: Planes (1, 6, H, W) in 0..1, each with a QP.
    """
    ranges: dict[nn.Module, list[tuple[_Floats, _Floats, _Floats]]] = {}

    def measure(module: nn.Module, inputs: tuple[Tensor]) -> None:
        features = inputs[0][0].flatten(1).double()
        found = (features.amin(1).numpy(), features.amax(1).numpy(), features.mean(1).numpy())
        ranges.setdefault(module, []).append(found)

    layers = convolutions(network)[1:]
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        with torch.no_grad():
            for planes, qp in pictures:
                network(planes, torch.tensor([float(qp)]))
    finally:
        for hook in hooks:
            hook.remove()
    found = [np.array(ranges[layer]) for layer in layers]  # (pictures, 3, channels)
    return [FeatureLevels.of_range(f[:, 0].min(axis=0), f[:, 1].max(axis=0), f[:, 2].mean(axis=0)) for f in found]


def levels_text(levels: Iterable[FeatureLevels]) -> str:
    """Rounded levels as a text of a network file: of each channel the step's 16 bits, zero and mean, in base 85."""
    data = b""
    for each in levels:
        rows = (
            each.step.astype(np.float32).view(np.uint32) >> 16,
            each.zero,
            np.rint(each.mean / each.step + each.zero),
        )
        data += (
            rows[0].astype(">u2").tobytes() + rows[1].astype(np.uint8).tobytes() + rows[2].astype(np.uint8).tobytes()
        )
    return base64.b85encode(data).decode()


def parse_levels(text: str, network: InLoopNetwork) -> list[FeatureLevels]:
    """The levels of a network file, for each convolution after the first.

    Args:
        text: What `levels_text` gave.
        network: The filter that they are for.

    Raises:
        InputError: If the text is none of this filter's.
    """
    widths = [conv.in_channels for conv in convolutions(network)[1:]]
    try:
        data = base64.b85decode(text)
    except ValueError:
        data = b""
    if len(data) != _BYTES_OF_A_CHANNEL * sum(widths):
        wanted = _BYTES_OF_A_CHANNEL * sum(widths)
        raise InputError(f"feature levels of {len(data)} bytes in a network file: its architecture has {wanted}")
    found, begin = [], 0
    for n in widths:
        bits = np.frombuffer(data, ">u2", n, begin).astype(np.uint32) << 16
        step = bits.view(np.float32).astype(np.float64)
        zero, level = (np.frombuffer(data, np.uint8, n, begin + k * n).astype(np.float64) for k in (2, 3))
        if not (np.isfinite(step).all() and (step > 0).all()):
            raise InputError("feature levels in a network file: a step is not above 0 and finite")
        found.append(FeatureLevels(step, zero, (level - zero) * step))
        begin += _BYTES_OF_A_CHANNEL * n
    return found


def to_integers(network: InLoopNetwork, levels: Iterable[FeatureLevels]) -> IntegerNetwork:
    """The filter in integers.

    Args:
        network: The filter.
        levels: From `measure_levels`.
    """
    levels = tuple(levels)
    head, *others = convolutions(network)
    layers = [_head(network, head)]
    layers += [_layer(conv, each) for conv, each in zip(others, levels, strict=True)]
    layers[-1] = _scaled(layers[-1], OUTPUT_SCALE)
    if isinstance(network, LadderFilter):
        for block in range(network.n_blocks):
            slope = network.get_parameter(f"blocks.{block}.shift.weight")
            layers[1 + 2 * block].bias_per_strength[:] = _array(slope)[:, 0]
        layers[0].bias_per_strength[:] = _array(network.shift.weight)[:, 0]
        layers[-1].gain[:] = _array(network.gain.weight)[:, 0]
    return IntegerNetwork(tuple(layers), levels, isinstance(network, InLoopFilter))


def _array(tensor: Tensor) -> _Floats:
    return tensor.detach().cpu().double().numpy()


def _bias(conv: nn.Conv2d) -> _Floats:
    assert conv.bias is not None
    return _array(conv.bias)


def _head(network: InLoopNetwork, conv: nn.Conv2d) -> IntegerLayer:
    """The first layer, on samples of 16 bits: the sums stay below 2**31."""
    steps = [scale / SAMPLE_LEVELS for scale in INPUT_SCALES]
    if isinstance(network, InLoopFilter):
        steps.append(1 / (QP_SCALE * QP_LEVELS))
    weights = _array(conv.weight) * np.array(steps)[:, None, None]
    total = _row_sums(np.abs(weights)) * MAX_INPUT / MAX_SUM
    return _rounded(weights, np.maximum(np.abs(weights).max(axis=(1, 2, 3)) / 32767, total), conv, np.zeros(len(steps)))


def _layer(conv: nn.Conv2d, features: FeatureLevels) -> IntegerLayer:
    """A layer on features. The bias takes up what rounding the weights changes at the features' mean."""
    weights = _array(conv.weight) * features.step[:, None, None]
    layer = _rounded(weights, np.abs(weights).max(axis=(1, 2, 3)) / MAX_WEIGHT, conv, features.zero)
    lost = (weights - layer.weights * layer.scale[:, None, None, None]) * (features.mean / features.step)[:, None, None]
    return replace(layer, bias=layer.bias + _row_sums(lost))


def _row_sums(values: _Floats) -> _Floats:
    """Sums over all axes but the first, exact and then rounded: equal in whatever order a processor adds."""
    return np.array([math.fsum(row) for row in values.reshape(len(values), -1).tolist()])


def _rounded(weights: _Floats, scale: _Floats, conv: nn.Conv2d, zero: _Floats) -> IntegerLayer:
    scale = np.where(scale > 0, scale, 1.0)
    levels = np.rint(weights / scale[:, None, None, None]).astype(np.int32)
    n_out = len(scale)
    return IntegerLayer(levels, scale, _bias(conv), np.zeros(n_out), np.zeros(n_out), zero)


def _scaled(layer: IntegerLayer, factor: float) -> IntegerLayer:
    return replace(layer, scale=layer.scale * factor, bias=layer.bias * factor)


def numbers_of(network: IntegerNetwork, strength: float) -> list[NDArray[np.float32]]:
    """Scale, bias, inverse step and zero of each layer's outputs, (4, n_out), as the kernel takes them."""
    n_channels = -(-len(network.layers[0].scale) // TILE) * TILE
    following: list[FeatureLevels | None] = [*network.levels, None]
    numbers = []
    for layer, levels in zip(network.layers, following, strict=True):
        n_out = n_channels if levels else len(layer.scale)
        rows = np.zeros((4, n_out), np.float32)
        n = len(layer.scale)
        rows[0, :n], rows[1, :n] = layer.at(strength)
        if levels:
            rows[2, :n], rows[3, :n] = 1 / levels.step, levels.zero
        numbers.append(rows)
    return numbers


def filter_by_numpy(network: IntegerNetwork, planes: NDArray[np.float32], qp: float) -> NDArray[np.float32]:
    """What the kernel computes, bit for bit, in a few lines to read; a hundred times slower.

    Args:
        network: The filter.
        planes: (6, H, W) of 0..1.
        qp: What the network is told.

    Returns:
        (6, H, W), not clipped.
    """
    numbers = numbers_of(network, (qp - QP_CENTRE) / QP_SCALE)

    def convolved(index: int, levels: NDArray[np.int32]) -> NDArray[np.float32]:
        layer = network.layers[index]
        zero = layer.zero.astype(np.int32)[:, None, None]
        padded = np.pad(levels - zero, ((0, 0), (1, 1), (1, 1))) + zero
        height, width = levels.shape[1:]
        sums = np.zeros((len(layer.scale), height, width), np.int64)
        for dy in range(3):
            for dx in range(3):
                window = padded[:, dy : dy + height, dx : dx + width].astype(np.int64)
                sums += np.einsum("oi,ihw->ohw", layer.weights[:, :, dy, dx].astype(np.int64), window)
        scale, bias = (row[: len(layer.scale), None, None] for row in numbers[index][:2])
        values: NDArray[np.float32] = sums.astype(np.float32) * scale + bias
        return values

    def levels_of(index: int, values: NDArray[np.float32]) -> NDArray[np.int32]:
        inverse_step, zero = (row[: len(values), None, None] for row in numbers[index][2:])
        levels: NDArray[np.int32] = np.rint(np.clip(values * inverse_step + zero, 0, MAX_UINT8)).astype(np.int32)
        return levels

    samples = (planes - np.float32(0.5)) * np.float32(SAMPLE_LEVELS)
    inputs = np.rint(np.clip(samples, -MAX_SAMPLE_LEVEL, MAX_SAMPLE_LEVEL)).astype(np.int32)
    if network.has_qp_plane:
        plane = np.full((1, *planes.shape[1:]), (qp - QP_CENTRE) * QP_LEVELS).astype(np.int32)
        inputs = np.concatenate([inputs, plane])
    features = stream = np.maximum(convolved(0, inputs), np.float32(0))
    last = len(network.layers) - 1
    for index in range(1, last - 1, 2):
        hidden = convolved(index, levels_of(index - 1, stream))
        stream = convolved(index + 1, levels_of(index, hidden)) + stream
    deep = np.maximum(convolved(last - 1, levels_of(last - 2, stream)) + features, np.float32(0))
    return convolved(last, levels_of(last - 1, deep)) + planes


def kernel_weights(layer: IntegerLayer, group: int) -> NDArray[np.int32]:
    """Weights as the kernel reads them: (n_out / 8, n_in / group, 3, 3, 8), `group` inputs in each 32 bits.

    Args:
        layer: The convolution.
        group: 4 inputs of 8 bits, or 2 of 16.
    """
    n_out, n_in = layer.weights.shape[:2]
    padded = np.zeros((-(-n_out // TILE) * TILE, -(-n_in // group) * group, 3, 3), np.int8 if group == 4 else np.int16)
    padded[:n_out, :n_in] = layer.weights
    ordered = padded.reshape(-1, TILE, padded.shape[1] // group, group, 3, 3).transpose(0, 2, 4, 5, 1, 3)
    return np.ascontiguousarray(ordered).view(np.int32).reshape(-1)


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
        own = own_copy(network, "cpu", torch.float32)
        stored = own.feature_levels
        levels = measured_levels(own) if stored is None else parse_levels(stored, own)
        self._network = to_integers(own, levels)
        self._filter = kernel_of(self._network, own.n_blocks)
        self._portable = portable
        self.n_parallel = n_threads
        origin = "levels measured here" if stored is None else "levels of the file"
        self.description = f"native ({'portable' if portable else _kernels.integer_instructions()}, {origin})"

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The filter's output (6, H, W) for its six planes and the QP, which it must have; not clipped."""
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
