"""Inputs made for an ONNX model from what it declares: their types and shapes, and what its operators allow.

Floats are noise that is smooth along the last two axes, as sounds, pictures and features are; integers that choose rows
of a table stay within it; those that are compared with constants take these. Sizes that a model leaves open, and other
integers, are tried until it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array, FloatBits
from vvc_nnr.errors import InputError, shown, shown_names
from vvc_nnr.model.onnx_constants import constant_array, constants
from vvc_nnr.roles.by_onnx_node import MAIN_GRAPH
from vvc_nnr.sensitivity.noise import SEED
from vvc_nnr.sensitivity.onnx_run import Batch, DeclaredInput, OnnxModelRunner

SYNTHETIC = "synthetic"
N_BATCHES = 4
MAX_TRIES = 96
MAX_VALUES = 1 << 22
# Sizes of an axis that is left open, in the order in which they are tried: of pictures, of sounds, of other inputs.
_PICTURE_SIZES = (160, 64, 224, 320, 32, 96, 48, 128, 512, 640)
_SOUND_SIZES = (1024, 512, 4096, 16000, 576, 256, 64, 16, 8, 1)
_OTHER_SIZES = (64, 32, 128, 16, 100, 200, 8, 4, 256, 1)
# An open first axis is the batch's.
_BATCH, _BATCH_SIZES = ("batch",), (2, 1)
# Operators that hand an index on.
_PASSED_ON = (
    *("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand", "Tile"),
    *("Split", "Clip"),
)
# Index arithmetic, such as that of negative ones.
_ARITHMETIC = ("Concat", "Add", "Sub", "Mul", "Where", "Mod", "Min", "Max")
_TABLES_PASSED_ON = ("Cast", "Identity", "DequantizeLinear", "Expand", "Unsqueeze", "Reshape")
_COMPARED = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_MAX_COMPARED, _MAX_ONE_HOT = 4, 4096
# Scale and mean of floats, in turn.
_SCALES = ((1.0, 0.0), (3.0, 0.0), (0.25, 0.5), (0.3, 0.0))


@dataclass(frozen=True, slots=True)
class _Indices:
    """What an input is used for.

    Attributes:
        limit: Rows of the smallest table that it chooses from; None: from none.
        compared: Single constants that it is compared with.
    """

    limit: int | None
    compared: tuple[float, ...]


def synthetic_batches(runner: OnnxModelRunner) -> list[Batch]:
    """Batches on which a model runs, the same ones every time.

    Raises:
        InputError: If none was found; the message names the inputs.
    """
    uses = _uses(runner.model)
    last = "it has no input that could be made"
    for sizes, choice in islice(_variants(runner.inputs, uses), MAX_TRIES):
        made: list[Batch] = [_batch(runner.inputs, uses, sizes, choice, number) for number in range(N_BATCHES)]
        try:
            outputs = [runner.run(batch) for batch in made]
        except InputError as error:
            last = str(error)
            continue
        if all(map(_is_finite, outputs)):
            return made
        last = "its outputs are NaN or infinite"
    names = shown_names((f"{each.name!r} ({each.dtype} {_in_words(each)})" for each in runner.inputs), 8, 300)
    raise InputError(
        f"sensitivity: no synthetic inputs were found that the model runs on; its inputs are {names}: give real ones. "
        f"The last try: {shown(last, 200)}"
    )


def _in_words(declared: DeclaredInput) -> str:
    if declared.shape is None:
        return "of any shape"
    return " x ".join(str(side) if side is not None else "any" for side in declared.shape) or "one number"


def _is_finite(outputs: Sequence[Any]) -> bool:
    floats = [each for each in outputs if isinstance(each, np.ndarray) and each.dtype.kind == "f"]
    return all(bool(np.isfinite(each).all()) for each in floats)


def _variants(inputs: Sequence[DeclaredInput], uses: Mapping[str, _Indices]) -> Iterator[tuple[dict[object, int], int]]:
    """Sizes of open axes, and which of its values each integer takes that chooses from no table."""
    batch = {(each.shape or (None,))[0] for each in inputs if len(each.shape or ()) > 1} - {None}

    def is_batch(key: object) -> bool:
        return key == _BATCH or key in batch

    axes = {key: each for each in inputs for key in _open_axes(each)}
    n_choices = 3 if any(_is_free(each, uses) for each in inputs) else 1
    batch_sizes = _BATCH_SIZES if any(map(is_batch, axes)) else (0,)
    ladders = {key: _ladder(each) for key, each in axes.items() if not is_batch(key)}
    plain = [{key: sizes[place] for key, sizes in ladders.items()} for place in range(len(_OTHER_SIZES))]
    if not ladders:
        plain = plain[:1]
    elif len(ladders) > 1:
        plain += [{**plain[0], key: size} for key, sizes in ladders.items() for size in sizes[1:]]
    for sizes in plain:
        for batch_size in batch_sizes:
            whole = {**sizes, **{key: batch_size for key in axes if is_batch(key)}}
            if all(_n_values(each, whole) <= MAX_VALUES for each in inputs):
                yield from ((whole, choice) for choice in range(n_choices))


def _open_axes(declared: DeclaredInput) -> list[object]:
    """What names each open axis: a text that inputs share, or the input's own axis; the first one is the batch's."""
    shape = declared.shape or ()
    found: list[object] = []
    for place, side in enumerate(shape):
        if not isinstance(side, int) or side <= 0:
            found.append(_key(declared, place))
    return found


def _key(declared: DeclaredInput, place: int) -> object:
    side = (declared.shape or ())[place]
    if isinstance(side, str) and side:
        return side
    return _BATCH if place == 0 and len(declared.shape or ()) > 1 else (declared.name, place)


def _ladder(declared: DeclaredInput) -> tuple[int, ...]:
    if declared.dtype.startswith("float"):
        n_axes = len(declared.shape or ())
        return _PICTURE_SIZES if n_axes == 4 else _SOUND_SIZES if n_axes <= 2 else _OTHER_SIZES
    return _OTHER_SIZES


def _is_free(declared: DeclaredInput, uses: Mapping[str, _Indices]) -> bool:
    use = uses.get(declared.name, _Indices(None, ()))
    return not declared.dtype.startswith("float") and use.limit is None


def _shape(declared: DeclaredInput, sizes: Mapping[object, int]) -> tuple[int, ...]:
    shape = declared.shape or ()
    return tuple(
        side if isinstance(side, int) and side > 0 else sizes[_key(declared, place)] for place, side in enumerate(shape)
    )


def _n_values(declared: DeclaredInput, sizes: Mapping[object, int]) -> int:
    return math.prod(_shape(declared, sizes))


def _batch(
    inputs: Sequence[DeclaredInput],
    uses: Mapping[str, _Indices],
    sizes: Mapping[object, int],
    choice: int,
    number: int,
) -> dict[str, Array]:
    rng = np.random.default_rng([SEED, number])
    longest = max((max(_shape(each, sizes)[1:], default=1) for each in inputs if each.shape), default=1)
    return {
        each.name: _values(
            each, uses.get(each.name, _Indices(None, ())), _shape(each, sizes), choice, number, rng, longest
        )
        for each in inputs
    }


def _values(
    declared: DeclaredInput,
    use: _Indices,
    shape: tuple[int, ...],
    choice: int,
    number: int,
    rng: np.random.Generator,
    longest: int,
) -> Array:
    """One input of a batch.

    Args:
        declared: The input.
        use: What it is used for.
        shape: Its shape.
        choice: Which of its values an integer takes that chooses from no table.
        number: Of the batch.
        rng: Draws.
        longest: Size of the largest axis of all inputs, which a length may be.
    """
    if use.limit is not None:
        low = 1 if use.limit > 2 else 0
        return rng.integers(low, max(use.limit, low + 1), shape).astype(declared.dtype)
    if declared.dtype.startswith("float"):
        scale, mean = _SCALES[number % len(_SCALES)]
        return (scale * smooth_noise(rng, shape) + mean).astype(declared.dtype)
    if declared.dtype == "bool":
        return np.full(shape, choice == 1)
    if use.compared:
        return np.full(shape, use.compared[choice % len(use.compared)]).astype(declared.dtype)
    # A mask of ones, a length, a mask of zeros.
    return np.full(shape, ((longest, 1, 0) if len(shape) < 2 else (1, 0, longest))[choice]).astype(declared.dtype)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise of variance 1 whose power falls with frequency along the last two axes of more than one value."""
    found = rng.standard_normal(shape)
    for axis in range(max(0, len(shape) - 2), len(shape)):
        n = shape[axis]
        if n < 2:
            continue
        weight = np.sqrt(1 / np.maximum(np.fft.rfftfreq(n) * n, 1))
        weight = weight.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        found = np.fft.irfft(np.fft.rfft(found, axis=axis) * weight, n=n, axis=axis)
    deviation = float(np.std(found)) if found.size > 1 else 1.0
    return np.asarray(found / (deviation or 1.0), np.float32)


def _uses(model: Any) -> dict[str, _Indices]:
    """What each input of the main graph is used for there."""
    own = {each.name: each.tensor for each in constants(model) if each.path == MAIN_GRAPH}
    producers = {output: node for node in model.graph.node for output in node.output}
    names = [value.name for value in model.graph.input if value.name not in own]
    return {name: _use(name, model.graph.node, own, producers) for name in names}


def _use(name: str, nodes: Sequence[Any], own: Mapping[str, Any], producers: Mapping[str, Any]) -> _Indices:
    """What an input is used for.

    Args:
        name: The input.
        nodes: Of the main graph, in their order.
        own: Its constants by name.
        producers: Its nodes by what they make.
    """
    reached, limits, compared = {name}, [], []
    for node in nodes:
        places = [place for place, source in enumerate(node.input) if source in reached]
        if not places:
            continue
        if node.op_type in _ARITHMETIC or (node.op_type in _PASSED_ON and 0 in places):
            reached.update(node.output)
        elif node.op_type in ("Gather", "GatherElements") and 1 in places:
            axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
            dims = _dims(_source(node.input[0], own, producers))
            limits += [int(dims[axis])] if -len(dims) <= axis < len(dims) else []
        elif node.op_type == "OneHot" and 0 in places:
            limits += [int(depth) for depth in _numbers(own.get(node.input[1]), 1)]
        elif node.op_type in _COMPARED:
            others = [_source(source, own, producers) for source in node.input]
            compared += [number for tensor in others for number in _numbers(tensor, 1)]
            # One-hot vectors are made by comparing with 0, 1, 2, ...
            ranges = [_numbers(tensor, _MAX_ONE_HOT) for tensor in others]
            limits += [len(each) for each in ranges if len(each) > 1 and each == list(range(len(each)))]
    return _Indices(min(limits, default=None), tuple(dict.fromkeys(compared))[:_MAX_COMPARED])


def _numbers(tensor: Any, most: int) -> list[float]:
    """The values of a constant of no more than so many; empty if it is none."""
    if tensor is None or math.prod(tensor.dims) > most:
        return []
    array = constant_array(tensor.name, tensor)
    return [] if isinstance(array, FloatBits) else [float(value) for value in array.reshape(-1)]


def _source(name: str, own: Mapping[str, Any], producers: Mapping[str, Any]) -> Any:
    """A constant, also behind operators that only hand it on; None if it is none."""
    for _ in range(len(_TABLES_PASSED_ON)):
        node = producers.get(name)
        if name in own or node is None or node.op_type not in _TABLES_PASSED_ON:
            break
        name = node.input[0]
    return own.get(name)


def _dims(tensor: Any) -> tuple[int, ...]:
    return () if tensor is None else tuple(tensor.dims)
