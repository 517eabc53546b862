"""Tensors by name in files of numpy (`.npz`, `.npy`), Keras and others (HDF5, `.h5`), and llama.cpp (GGUF)."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, as_damage, shown
from vvc_nnr.npy import parse_npy

# Of all members of an archive, unless they have no more than so many times its bytes.
_MAX_INFLATED_BYTES, _MAX_INFLATION = 1 << 30, 64
_MEMBER_SUFFIX = ".npy"
# Groups that Keras has its optimiser in, and the group of the network beside which it is none of it.
_OPTIMISERS = {"optimizer": "layers", "optimizer_weights": "model_weights"}
_ZIP_START, _KERAS_WEIGHTS = b"PK\x03\x04", "model.weights.h5"


def npz_arrays(data: bytes) -> NamedArrays:
    """The arrays of a `.npz` file by name; objects, which are pickles, are never read.

    Raises:
        BitstreamError: If it is damaged.
        UnsupportedError: If it holds something else than plain arrays, or much more than its size.
    """
    if not data:
        raise BitstreamError("no .npz file: the file is empty")
    with as_damage("no .npz file"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        n_bytes = sum(member.file_size for member in members)
        if n_bytes > max(_MAX_INFLATED_BYTES, _MAX_INFLATION * len(data)):
            raise UnsupportedError(f"its arrays say that they have {n_bytes} bytes, the file has {len(data)}")
        return {_name(member.filename): _parsed(member.filename, archive.read(member)) for member in members}


def npy_array(data: bytes) -> Array:
    """The array of a `.npy` file; raises as `npz_arrays` does."""
    array = parse_npy(data)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _name(member: str) -> str:
    if not member.endswith(_MEMBER_SUFFIX):
        raise UnsupportedError(f"holds {shown(repr(member), 100)}; must be arrays only, as numpy.savez writes them")
    return member.removesuffix(_MEMBER_SUFFIX)


def _parsed(member: str, data: bytes) -> Array:
    try:
        return npy_array(data)
    except (BitstreamError, UnsupportedError) as error:
        raise error.prefixed(member) from error


def hdf5_arrays(data: bytes) -> tuple[NamedArrays, tuple[str, ...]]:
    """The numeric datasets of an HDF5 file, or of the weights in an archive of Keras 3, by their paths, in their order.

    Returns:
        The datasets, and what is left out: groups with the optimiser of Keras beside a network, and texts and records.

    Raises:
        InputError: If the package h5py is not installed.
        BitstreamError: If it is damaged.
        UnsupportedError: If it holds links to other files, or datasets that are no plain numbers.
    """
    h5py = _imported("h5py", "HDF5 files")
    data = _keras_weights(data) if data.startswith(_ZIP_START) else data
    with as_damage("no HDF5 file, or a damaged one"), h5py.File(io.BytesIO(data), "r") as file:
        left_out = tuple(group for group, network in _OPTIMISERS.items() if group in file and network in file)
        found = dict(_datasets(h5py, file, "", len(data), set()))
        kept = {path: array for path, array in found.items() if path.partition("/")[0] not in left_out}
        others = tuple(path for path, array in kept.items() if array is None)
        return {path: array for path, array in kept.items() if array is not None}, (*left_out, *others)


def _keras_weights(data: bytes) -> bytes:
    """The HDF5 file in an archive of Keras 3 (`model.keras`), whose code and layout of layers are not read."""
    with as_damage(f"no archive of Keras with {_KERAS_WEIGHTS}"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.getinfo(_KERAS_WEIGHTS)
        if member.file_size > max(_MAX_INFLATED_BYTES, _MAX_INFLATION * len(data)):
            raise UnsupportedError(f"{_KERAS_WEIGHTS} says that it has {member.file_size} bytes, of {len(data)}")
        return archive.read(member)


def _datasets(h5py: Any, group: Any, prefix: str, n_bytes: int, seen: set[Any]) -> Iterator[tuple[str, Array | None]]:
    """The datasets of a group by their paths; None for texts, references and records, which no network has."""
    if group.id in seen:
        raise UnsupportedError(f"the group {prefix!r} is in itself")
    seen = {*seen, group.id}
    for key in group:
        path = f"{prefix}{key}"
        if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
            raise UnsupportedError(f"{path!r} is in another file, which is not read")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(h5py, item, f"{path}/", n_bytes, seen)
        elif item.dtype.kind in "OSV":
            yield path, None
        elif item.shape is None:
            raise UnsupportedError(f"{path!r} is a dataset without values or shape (null dataspace): delete it")
        elif item.dtype.kind in "biuf":
            if item.external or item.is_virtual:
                raise UnsupportedError(f"{path!r} is in another file, which is not read")
            if item.nbytes > max(_MAX_INFLATED_BYTES, _MAX_INFLATION * n_bytes):
                raise UnsupportedError(f"{path!r} says that it has {item.nbytes} bytes, the file has {n_bytes}")
            yield path, np.asarray(item[()])
        else:
            raise UnsupportedError(f"{path!r} holds {item.dtype}, which is not coded")


def gguf_arrays(path: Path | str) -> NamedArrays:
    """The tensors of a GGUF file by name.

    Raises:
        InputError: If the package gguf is not installed.
        BitstreamError: If it is damaged.
        UnsupportedError: If it holds tensors in blocks of quantised values.
    """
    gguf = _imported("gguf", "GGUF files")
    with as_damage("no GGUF file, or a damaged one"):
        return {tensor.name: _gguf_array(tensor) for tensor in gguf.GGUFReader(str(path)).tensors}


def _gguf_array(tensor: Any) -> Array | FloatBits:
    kind = tensor.tensor_type.name
    shape = tuple(int(side) for side in reversed(tensor.shape))
    if kind == "BF16":
        return FloatBits(np.array(tensor.data).view(np.uint16).reshape(shape), "bfloat16")
    if kind not in ("F16", "F32", "F64", "I8", "I16", "I32", "I64"):
        raise UnsupportedError(f"tensor {tensor.name!r} is {kind}, values in quantised blocks, which are not coded")
    return np.array(tensor.data).reshape(shape)


def _imported(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(f"{what} need the package {package}: pip install {package}") from None
