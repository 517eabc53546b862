"""The part of the command inspect for networks that are not coded: what each tensor is and what coding may do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits, format_of
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import Outcome
from vvc_nnr.experiments.markup import Cell, Column, Table, to_markdown
from vvc_nnr.model.container import float32_size
from vvc_nnr.model.safetensors import StoredTensor, describe_network, read_uniform_metadata
from vvc_nnr.network_file import ONNX_SUFFIX, TORCH_SUFFIXES, NetworkArrays, plain_bytes, read_arrays
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import RULES, TensorRole, override_roles

# Keys that a line tells.
_SHOWN = 20
_STEP_WORDS = {"qp": "QP", "nonweight_qp": "non-weight QP", "values": "relative", "exact": "exact"}


def inspect_plain(path: Path, role_of: Mapping[str, str]) -> Outcome:
    """The tensors of a file that is not coded, with their roles unless the uniform quantiser made levels of them.

    Raises:
        InputError: If the file cannot be opened, or a role does not exist or fits no name.
        BitstreamError, UnsupportedError: If it cannot be read.
    """
    if path.suffix.lower() in (*TORCH_SUFFIXES, ONNX_SUFFIX):
        return _inspect_arrays(path, role_of)
    network = read_arrays(path)
    tensors, uniform = describe_network(path), read_uniform_metadata(path)
    if uniform is not None and role_of:
        raise InputError(f"{path}: holds levels of the uniform quantiser, which have no roles")
    roles = override_roles(named_roles(network.arrays), role_of) if uniform is None else {}
    float_size = float32_size(network.arrays, network.metadata)
    payload_bytes = sum(t.n_bytes for t in tensors)
    notes = [
        f"File: {network.n_bytes} bytes, {payload_bytes} of them tensors, the rest names, shapes and ranges.",
        f"As a float32 file: {float_size} bytes, ratio {float_size / network.n_bytes:.2f}.",
        *(f"{key}: {value}" for key, value in sorted(network.metadata.items())),
    ]
    bits, biases = (uniform.bits, uniform.biases) if uniform else (None, None)
    data = {"bits": bits, "biases": biases, "metadata": network.metadata, "float32_bytes": float_size}
    return _outcome(path, tensors, roles, notes, data | {"n_bytes": network.n_bytes})


def _inspect_arrays(path: Path, role_of: Mapping[str, str]) -> Outcome:
    network = read_arrays(path)
    roles = override_roles(network.roles or named_roles(network.arrays), role_of)
    tensors = [_described(name, array) for name, array in network.arrays.items()]
    data = {
        "n_bytes": network.n_bytes,
        "float32_bytes": float32_size(network.arrays, network.metadata),
        "left_out": list(network.left_out),
    }
    return _outcome(path, tensors, roles, _notes(network), data)


def _notes(network: NetworkArrays) -> list[str]:
    notes = [f"File: {network.n_bytes} bytes, {plain_bytes(network.arrays)} of them tensors."]
    if network.graph is not None:
        notes.append(f"Graph: {len(network.graph)} bytes; it travels with the tensors.")
    return notes + left_out_notes(network.left_out)


def left_out_notes(left_out: Sequence[str]) -> list[str]:
    """One line on what a file holds beside the network, none if that is nothing."""
    if not left_out:
        return []
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return [f"Not part of the network, and not coded: {', '.join(left_out[:_SHOWN])}{more}."]


def _outcome(
    path: Path,
    tensors: Sequence[StoredTensor],
    roles: Mapping[str, TensorRole],
    notes: Sequence[str],
    data: Mapping[str, Any],
) -> Outcome:
    columns = [Column("Tensor", text=True), Column("Shape", text=True), Column("Type", text=True)]
    columns += [Column(head, text=True) for head in ("Role", "Told by", "Coded by") if roles]
    columns += [Column("Size", "bit/element"), Column("Size", "byte"), Column("Min", digits=6), Column("Max", digits=6)]
    rows = tuple(_cells(tensor, roles.get(tensor.name)) for tensor in tensors)
    table = Table(path.name, tuple(columns), rows, tuple(notes))
    listed = [_json(tensor, roles.get(tensor.name)) for tensor in tensors]
    return Outcome(to_markdown(table).rstrip(), {"file": str(path)} | dict(data) | {"tensors": listed})


def _cells(tensor: StoredTensor, role: TensorRole | None) -> tuple[Cell, ...]:
    shape = " x ".join(str(side) for side in tensor.shape) or "scalar"
    told = (str(role.role), role.reason, _words(role, tensor)) if role else ()
    return (tensor.name, shape, tensor.dtype, *told, tensor.bits, tensor.n_bytes, tensor.minimum, tensor.maximum)


def _words(role: TensorRole, tensor: StoredTensor) -> str:
    """How a tensor of a role is coded, in a few words."""
    if "F" not in tensor.dtype:
        return "exact"
    rule = RULES[role.role]
    return _STEP_WORDS[rule.step] + (", never zero" if rule.keeps_sign else "")


def _json(tensor: StoredTensor, role: TensorRole | None) -> dict[str, Any]:
    told = {"role": str(role.role), "told_by": role.reason} if role else {}
    return asdict(tensor) | {"shape": list(tensor.shape)} | told


def _described(name: str, array: Array | Bfloat16Bits) -> StoredTensor:
    """A tensor of a file of another kind, in the words of safetensors."""
    number_format = format_of(name, array)
    plain: Array = (
        (array.bits.astype(np.uint32) << 16).view(np.float32) if isinstance(array, Bfloat16Bits) else np.asarray(array)
    )
    bits = 16 if isinstance(array, Bfloat16Bits) else 8 * plain.dtype.itemsize
    dtype = "BOOL" if number_format == "bool" else _short(number_format)
    with np.errstate(invalid="ignore"):
        ends = (float(plain.min()), float(plain.max())) if plain.size else (None, None)
    return StoredTensor(name, plain.shape, dtype, bits, plain.size * bits // 8, *ends)


def _short(number_format: str) -> str:
    return number_format.upper().replace("BFLOAT", "BF").replace("FLOAT", "F").replace("UINT", "U").replace("INT", "I")
