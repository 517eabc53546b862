"""All tensors of a stream to arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.number_formats import BITS_SUFFIX, FLOAT64_BITS, Array, from_bits, from_float32, from_int32
from vvc_nnr.bitstream.stream import CodedTensor
from vvc_nnr.bitstream.units import PlacedUnit
from vvc_nnr.coding.exact_forms import bits_of_form
from vvc_nnr.coding.tensor_decoder import decode_arrays
from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.parallel import Progress, run_all

# Tensors of this many values that have entry points are decoded one at a time, by all threads.
SPLIT_ELEMENTS = 1 << 20


def check_size(tensors: Iterable[CodedTensor], max_elements: int) -> None:
    """Raises BitstreamError if tensors have more values than allowed."""
    n_elements = sum(tensor.n_elements for tensor in tensors)
    if n_elements > max_elements:
        raise BitstreamError(f"{n_elements} values; max_elements allows {max_elements}", field="tensor_dimensions")


def decode_network(
    tensors: tuple[CodedTensor, ...], max_elements: int, n_threads: int, progress: Progress | None = None
) -> dict[str, Array]:
    """Tensors by name of a stream that is a network of its own.

    Raises:
        BitstreamError: If a payload breaks the format, or there are more values than allowed.
        UnsupportedError: If the stream is an update.
    """
    if any(unit.parent is not None for tensor in tensors for unit in tensor.data_units):
        raise UnsupportedError("the stream is an update: apply_update adds it to what it updates")
    check_size(tensors, max_elements)
    return decode_tensors(tensors, n_threads, progress)


def decode_tensors(
    tensors: tuple[CodedTensor, ...], n_threads: int, progress: Progress | None = None
) -> dict[str, Array]:
    """Tensors by name: those with entry points one by one by all threads, then the others side by side.

    Raises:
        BitstreamError: If a payload breaks the format, or two tensors have one name.
    """
    sizes = [tensor.n_elements for tensor in tensors]
    alone = [place for place, tensor in enumerate(tensors) if n_threads > 1 and _is_split(tensor)]
    others = sorted(set(range(len(tensors))) - set(alone))
    n_done, n_total = 0, sum(sizes)
    found: dict[int, dict[str, Array]] = {}
    for place in alone:
        found[place] = decode_tensor(tensors[place], n_threads)
        n_done += sizes[place]
        if progress:
            progress(n_done, n_total)
    report = progress and (lambda n, _: progress(n_done + n, n_total))
    decoded = run_all(decode_tensor, [tensors[p] for p in others], [sizes[p] for p in others], n_threads, report)
    found.update(zip(others, decoded, strict=True))
    return _merged(found[place] for place in range(len(tensors)))


def _is_split(tensor: CodedTensor) -> bool:
    return len(tensor.units) == 1 and bool(tensor.data_units[0].entry_points) and tensor.n_elements >= SPLIT_ELEMENTS


def _merged(groups: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """All tensors in one map.

    Raises:
        BitstreamError: If two of them have one name, as those of blocks may.
    """
    merged: dict[str, Array] = {}
    for group in groups:
        for name, array in group.items():
            if name in merged:
                raise BitstreamError(f"two tensors are called {name!r}", field="topology_elem_id")
            merged[name] = array
    return merged


def decode_tensor(tensor: CodedTensor, n_threads: int = 1) -> dict[str, Array]:
    """A tensor by its name in its number format and shape; of a block, all its tensors.

    Raises:
        BitstreamError: If a payload breaks the format.
    """
    decoded = [_decode_unit(placed, n_threads) for placed in tensor.units]
    if tensor.data_units[0].is_block:
        return decoded[0]
    halves = tuple(array for arrays in decoded for array in arrays.values())
    return {tensor.name: restored(tensor, halves)}


def _decode_unit(placed: PlacedUnit, n_threads: int) -> dict[str, Array]:
    assert isinstance(placed.unit, DataUnit)
    return decode_arrays(placed.unit, placed.parameter_sets, placed.unit.n_elements, n_threads)


def restored(tensor: CodedTensor, halves: tuple[Array, ...]) -> Array:
    """Decoded int32 or float32 arrays in the number format and shape of the tensor."""
    is_integer = tensor.data_units[0].nnr_compressed_data_unit_payload_type is PayloadType.INT
    number_format = tensor.number_format or ("int32" if is_integer else "float32")
    if tensor.raw is not None:
        kind, raw = tensor.raw
        own = number_format.removesuffix(BITS_SUFFIX)
        return from_bits(bits_of_form(kind, raw, halves[0], own, math.prod(tensor.shape)), own).reshape(tensor.shape)
    if 0 in tensor.shape:
        return np.empty(tensor.shape, _numpy_type(number_format))
    array = from_int32(halves, number_format) if is_integer else from_float32(halves[0], number_format)
    return array.reshape(tensor.shape)


def _numpy_type(number_format: str) -> str:
    return {FLOAT64_BITS: "float64", "bfloat16": "float32"}.get(number_format, number_format)
