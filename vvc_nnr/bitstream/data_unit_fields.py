"""Parts of a data unit's header that have a syntax of their own: node, parent, codebook, entry points."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.errors import InputError, UnsupportedError

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class ParentType(IntEnum):
    """How a data unit names the unit that it updates."""

    ID = 0
    SHA256 = 1
    SHA512 = 2


_HASH_BITS = {ParentType.SHA256: 256, ParentType.SHA512: 512}


@dataclass(frozen=True, slots=True)
class NodeId:
    """What names a node of the update tree: device, tensor, and the number of updates before it."""

    device_id: int = 0
    parameter_id: int = 0
    put_node_depth: int = 0


@dataclass(frozen=True, slots=True)
class ParentNode:
    """The node that a data unit is the difference to.

    Args:
        parent_node_id_type: By identity or by hash.
        temporal_context_modeling_flag: Contexts follow the parent's levels.
        parent_device_id: Device, for an identity.
        parent_parameter_id: Tensor, for an identity where the data unit itself has no NodeId; else None.
        parent_put_node_depth: Depth, likewise.
        parent_node_payload_hash: The 32 or 64 bytes of a hash.
    """

    parent_node_id_type: ParentType = ParentType.ID
    temporal_context_modeling_flag: bool = False
    parent_device_id: int = 0
    parent_parameter_id: int | None = None
    parent_put_node_depth: int | None = None
    parent_node_payload_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Codebook:
    """Strictly increasing integers that multiply the step; index k of the payload means `values[k + zero_offset]`.

    Args:
        egk: Order of the Exp-Golomb codes of the gaps, 0 to 15.
        zero_offset: Index of the value that k = 0 means.
        values: The integers, int32.
    """

    egk: int
    zero_offset: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Where a block row but the first starts in the codeword.

    Args:
        value: The 8-bit window of the arithmetic decoder there.
        dq_state: State of dependent quantisation, 0 without it.
        offset_bits: Position after that of the block row before.
    """

    value: int
    dq_state: int
    offset_bits: int


def read_node_id(reader: BitReader) -> NodeId:
    """Read a node's identity."""
    return NodeId(reader.ue(1, "device_id"), reader.ue(5, "parameter_id"), reader.ue(4, "put_node_depth"))


def write_node_id(writer: BitWriter, node: NodeId) -> None:
    """Write a node's identity."""
    writer.ue(node.device_id, 1, "device_id")
    writer.ue(node.parameter_id, 5, "parameter_id")
    writer.ue(node.put_node_depth, 4, "put_node_depth")


def read_parent(reader: BitReader, has_node_id: bool) -> ParentNode:
    """Read what names the parent.

    Raises:
        BitstreamError: If the data ends.
        UnsupportedError: If the type is reserved.
    """
    code = reader.u(2, "parent_node_id_type")
    if code > max(ParentType):
        raise UnsupportedError(f"parent_node_id_type {code} is reserved")
    kind = ParentType(code)
    temporal = reader.flag("temporal_context_modeling_flag")
    if kind in _HASH_BITS:
        n_bits = _HASH_BITS[kind]
        digest = reader.u(n_bits, "parent_node_payload_hash").to_bytes(n_bits // 8, "big")
        return ParentNode(kind, temporal, parent_node_payload_hash=digest)
    device = reader.ue(1, "parent_device_id")
    if has_node_id:
        return ParentNode(kind, temporal, device)
    return ParentNode(
        kind, temporal, device, reader.ue(5, "parent_parameter_id"), reader.ue(4, "parent_put_node_depth")
    )


def write_parent(writer: BitWriter, parent: ParentNode, has_node_id: bool) -> None:
    """Write what names the parent.

    Raises:
        InputError: If a hash has the wrong size, or an identity lacks its tensor.
    """
    writer.u(parent.parent_node_id_type, 2, "parent_node_id_type")
    writer.flag(parent.temporal_context_modeling_flag, "temporal_context_modeling_flag")
    if parent.parent_node_id_type in _HASH_BITS:
        _write_hash(writer, parent)
        return
    writer.ue(parent.parent_device_id, 1, "parent_device_id")
    if has_node_id:
        return
    if parent.parent_parameter_id is None or parent.parent_put_node_depth is None:
        raise InputError("a parent by identity needs parameter and depth, where the data unit has no identity itself")
    writer.ue(parent.parent_parameter_id, 5, "parent_parameter_id")
    writer.ue(parent.parent_put_node_depth, 4, "parent_put_node_depth")


def _write_hash(writer: BitWriter, parent: ParentNode) -> None:
    n_bits = _HASH_BITS[parent.parent_node_id_type]
    digest = parent.parent_node_payload_hash
    if 8 * len(digest) != n_bits:
        raise InputError(f"parent_node_payload_hash: {len(digest)} bytes were given; must be {n_bits // 8}")
    writer.u(int.from_bytes(digest, "big"), n_bits, "parent_node_payload_hash")


def read_codebook(reader: BitReader) -> Codebook:
    """Read a codebook.

    Raises:
        BitstreamError: If the data ends, the zero offset lies outside, or a value is no int32.
    """
    egk = reader.u(4, "codebook_egk")
    size = reader.ue(2, "codebook_size")
    zero_offset = (size >> 1) + reader.ie(2, "codebook_centre_offset")
    if not 0 <= zero_offset < size:
        raise reader.error(f"zero offset {zero_offset} of a codebook of {size} values", "codebook_centre_offset")
    if size - 1 > reader.remaining_bits:
        raise reader.error(f"a codebook of {size} values in {reader.remaining_bits} bits", "codebook_size")
    centre = reader.ie(7, "codebook_zero_value")
    left = _read_gaps(reader, egk, zero_offset)
    right = _read_gaps(reader, egk, size - 1 - zero_offset)
    values = [centre - distance for distance in reversed(left)] + [centre] + [centre + distance for distance in right]
    if values[0] < INT32_MIN or values[-1] > INT32_MAX:
        raise reader.error(f"codebook values from {values[0]} to {values[-1]} exceed 32 bits", "codebook")
    return Codebook(egk, zero_offset, tuple(values))


def _read_gaps(reader: BitReader, egk: int, n_gaps: int) -> list[int]:
    """Distances from the centre of the values on one side."""
    distances, distance = [], 0
    for _ in range(n_gaps):
        distance += reader.ue(egk, "codebook_delta") + 1
        distances.append(distance)
    return distances


def write_codebook(writer: BitWriter, codebook: Codebook) -> None:
    """Write a codebook.

    Raises:
        InputError: If it is empty, does not increase, exceeds int32, or its zero offset lies outside.
    """
    values, zero = codebook.values, codebook.zero_offset
    if not 0 <= zero < len(values):
        raise InputError(f"codebook: zero offset {zero} of {len(values)} values")
    if any(b <= a for a, b in pairwise(values)):
        raise InputError("codebook: values must increase strictly")
    if values[0] < INT32_MIN or values[-1] > INT32_MAX:
        raise InputError(f"codebook: values from {values[0]} to {values[-1]} exceed 32 bits")
    writer.u(codebook.egk, 4, "codebook_egk")
    writer.ue(len(values), 2, "codebook_size")
    writer.ie(zero - (len(values) >> 1), 2, "codebook_centre_offset")
    writer.ie(values[zero], 7, "codebook_zero_value")
    for place in range(zero, 0, -1):
        writer.ue(values[place] - values[place - 1] - 1, codebook.egk, "codebook_delta")
    for place in range(zero, len(values) - 1):
        writer.ue(values[place + 1] - values[place] - 1, codebook.egk, "codebook_delta")


def read_entry_points(reader: BitReader, n_entry_points: int, dq_flag: bool) -> tuple[EntryPoint, ...]:
    """Read the entry points of all block rows but the first.

    Raises:
        BitstreamError: If the data ends, or an offset is not positive.
    """
    if 16 * n_entry_points > reader.remaining_bits:
        raise reader.error(f"{n_entry_points} entry points in {reader.remaining_bits} bits", "entry points")
    entries: list[EntryPoint] = []
    for _ in range(n_entry_points):
        value = reader.u(8, "cabac_entry_value")
        dq_state = reader.u(3, "cabac_entry_dq_state") if dq_flag else 0
        if entries:
            offset = entries[-1].offset_bits + reader.ie(7, "cabac_entry_offset")
        else:
            offset = reader.ue(11, "cabac_entry_offset")
        if offset < 0:
            raise reader.error(f"an entry point lies {-offset} bits before the one before it", "cabac_entry_offset")
        entries.append(EntryPoint(value, dq_state, offset))
    return tuple(entries)


def write_entry_points(writer: BitWriter, entries: tuple[EntryPoint, ...], dq_flag: bool) -> None:
    """Write the entry points of all block rows but the first."""
    for place, entry in enumerate(entries):
        writer.u(entry.value, 8, "cabac_entry_value")
        if dq_flag:
            writer.u(entry.dq_state, 3, "cabac_entry_dq_state")
        if place:
            writer.ie(entry.offset_bits - entries[place - 1].offset_bits, 7, "cabac_entry_offset")
        else:
            writer.ue(entry.offset_bits, 11, "cabac_entry_offset")
