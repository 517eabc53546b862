"""What a user gives an ONNX model to be run on: arrays by name, checked against what it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.errors import InputError, shown, shown_names
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.model.archives import npz_arrays
from vvc_nnr.model.torch import is_tensor
from vvc_nnr.sensitivity.onnx_run import Batch, DeclaredInput

MAX_BATCHES = 1 << 12


def batches_of(given: Any, declared: Sequence[DeclaredInput]) -> list[Batch]:
    """The batches that are given.

    Args:
        given: A list of batches, each a map of names to arrays or torch tensors, or one of these where the model has
            one input; or the name of a `.npz` file of arrays by the names of inputs. Arrays with one axis more than is
            declared hold several batches along the first.
        declared: The model's inputs.

    Raises:
        InputError: If there is none, a name or number format or shape is another than declared, or a value is NaN.
        BitstreamError, UnsupportedError: If a file is damaged, or holds no plain arrays.
    """
    if isinstance(given, str | Path):
        with naming(given):
            arrays = npz_arrays(read_bytes(given))
            return _split({name: np.asarray(array) for name, array in arrays.items()}, declared)
    if not isinstance(given, list | tuple) or not given:
        kind = f"an empty {type(given).__name__}" if isinstance(given, list | tuple) else type(given).__name__
        raise InputError(f'sensitivity: got {kind}; must be a list of batches, the name of a .npz file, or "synthetic"')
    return [_checked(_by_name(batch, declared), declared, f"batch {place}: ") for place, batch in enumerate(given)]


def _by_name(batch: Any, declared: Sequence[DeclaredInput]) -> dict[str, Array]:
    if isinstance(batch, Mapping):
        return {name: _array(name, value) for name, value in batch.items()}
    if len(declared) != 1:
        names = shown_names((repr(each.name) for each in declared), 8)
        raise InputError(f"sensitivity: a batch must be a map of names to arrays, since the inputs are {names}")
    return {declared[0].name: _array(declared[0].name, batch)}


def _array(name: Any, value: Any) -> Array:
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray | np.generic | int | float):
        raise InputError(f"sensitivity: input {shown(str(name), 200)!r}: a {type(value).__name__} is no array")
    return np.asarray(value)


def _split(arrays: dict[str, Array], declared: Sequence[DeclaredInput]) -> list[Batch]:
    """The batches in arrays with one axis more than the inputs have; else the one that they are."""
    _check_names(arrays, declared, "")
    has_more = [each.shape is not None and arrays[each.name].ndim == len(each.shape) + 1 for each in declared]
    if not declared or not all(has_more):
        if any(has_more):
            odd = declared[has_more.index(False)].name
            raise InputError(
                f"sensitivity: input {shown(odd, 200)!r} has one batch, others several: give each one axis more, of "
                "batches, or none"
            )
        return [_checked(arrays, declared, "")]
    n_batches = {len(arrays[each.name]) for each in declared}
    if len(n_batches) != 1 or not 0 < max(n_batches) <= MAX_BATCHES:
        raise InputError(
            f"sensitivity: inputs have {sorted(n_batches)} batches; must be as many in each, 1 to {MAX_BATCHES}"
        )
    return [
        _checked({each.name: arrays[each.name][place] for each in declared}, declared, f"batch {place}: ")
        for place in range(max(n_batches))
    ]


def _check_names(arrays: Mapping[str, Array], declared: Sequence[DeclaredInput], where: str) -> None:
    names = {each.name for each in declared}
    missing, unknown = sorted(names - arrays.keys()), sorted(map(str, arrays.keys() - names))
    if missing or unknown:
        lacks = f"lacks {shown_names(map(repr, missing), 5, 150)}" if missing else ""
        has = f"has {shown_names(map(repr, unknown), 5, 150)}" if unknown else ""
        wanted = shown_names(map(repr, sorted(names)), 8, 250)
        raise InputError(
            f"sensitivity: {where}{' and '.join(filter(None, (lacks, has)))}; the model's inputs are {wanted}"
        )


def _checked(arrays: Mapping[str, Array], declared: Sequence[DeclaredInput], where: str) -> Batch:
    _check_names(arrays, declared, where)
    return {each.name: _fitting(arrays[each.name], each, where) for each in declared}


def _fitting(array: Array, declared: DeclaredInput, where: str) -> Array:
    name = f"sensitivity: {where}input {shown(declared.name, 200)!r}"
    shape = declared.shape
    if shape is not None:
        fits = len(shape) == array.ndim and all(
            not isinstance(side, int) or side == own for side, own in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = " x ".join(str(side) if isinstance(side, int) else str(side or "any") for side in shape)
            got = " x ".join(map(str, array.shape))
            raise InputError(f"{name} has the shape {got or 'of one number'}; must be {wanted or 'one number'}")
    wanted_dtype = np.dtype(declared.dtype)
    is_same_kind = array.dtype.kind == wanted_dtype.kind or {array.dtype.kind, wanted_dtype.kind} <= set("iu")
    if not is_same_kind:
        raise InputError(f"{name} is {array.dtype}; must be {declared.dtype}")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, wanted_dtype).reshape(array.shape)
    if array.dtype.kind in "iu" and not np.array_equal(found, array):
        raise InputError(f"{name} has values beyond {declared.dtype}")
    if not array.size or (array.dtype.kind == "f" and not np.isfinite(found).all()):
        raise InputError(f"{name} is empty, or has NaN or infinite values")
    return found
