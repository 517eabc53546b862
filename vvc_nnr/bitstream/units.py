"""NNR units: how a stream is cut into them, and each as a frozen dataclass that is read and written.

A stream is a row of units, each of which gives its size first. One start unit, one model parameter set, then the
rest. What a data unit means depends on the parameter sets before it; `read_units` keeps them beside each unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.bitstream.data_unit import DataUnit
from vvc_nnr.bitstream.data_unit_syntax import read_data_unit, write_data_unit_header
from vvc_nnr.bitstream.parameter_sets import (
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    read_lps,
    read_mps,
    write_lps,
    write_mps,
)
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

MAX_SHORT_SIZE_BYTES = 2**15 - 1
MAX_LONG_SIZE_BYTES = 2**31 - 1
KNOWN_PROFILES = (0, 1)


class UnitType(IntEnum):
    """The types of unit that the standard names; others may occur and can be skipped."""

    STR = 0
    MPS = 1
    LPS = 2
    TPL = 3
    QNT = 4
    NDU = 5
    AGG = 6


@dataclass(frozen=True, slots=True)
class StartUnit:
    """The start unit: profile 1 has the tools of the second edition, 0 those of the first."""

    general_profile_idc: int = 1


@dataclass(frozen=True, slots=True)
class TopologyUnit:
    """The topology of the network, or what travels in its place.

    Args:
        topology_storage_format: 0 unknown, 1 NNEF, 2 ONNX, 3 PyTorch, 4 TensorFlow, 5 pruning, 6 list of names.
        topology_compression_format: 0 raw, 1 deflate.
        topology_data: The payload: text with its terminating zero in most formats.
    """

    topology_storage_format: int = 0
    topology_compression_format: int = 0
    topology_data: bytes = b"\0"


@dataclass(frozen=True, slots=True)
class OpaqueUnit:
    """A unit that this package can only skip.

    Args:
        nnr_unit_type: Its type.
        body: All bytes after the part of the header that every unit has.
        reason: Why it is not read.
        independently_decodable_flag: From its header.
        partial_data_counter: From its header, if present: the unit is part of a larger one.
    """

    nnr_unit_type: int
    body: bytes | memoryview
    reason: str = ""
    independently_decodable_flag: bool = True
    partial_data_counter: int | None = None


Unit = StartUnit | ModelParameterSet | LayerParameterSet | TopologyUnit | DataUnit | OpaqueUnit


@dataclass(frozen=True, slots=True)
class PlacedUnit:
    """A unit of a stream.

    Args:
        unit: Its fields.
        offset_bytes: Where it starts.
        size_bytes: All of it, with its size field.
        parameter_sets: What it was read with; for a parameter set, what is valid after it.
    """

    unit: Unit
    offset_bytes: int
    size_bytes: int
    parameter_sets: ParameterSets


def read_units(data: bytes | bytearray | memoryview) -> Iterator[PlacedUnit]:
    """The units of a stream in order, each checked for its own syntax; payloads are views of `data`.

    Raises:
        BitstreamError: If a size leads out of the data, a header breaks the format, the stream does not begin with a
            start unit, or it has not exactly one model parameter set before the first data unit.
        UnsupportedError: If the profile is unknown. Everything else that is unknown becomes an OpaqueUnit.
    """
    sets: ParameterSets | None = None
    offset = 0
    while offset < len(data):
        placed = _read_unit(data, offset, sets)
        sets = placed.parameter_sets
        offset += placed.size_bytes
        yield placed
    if sets is None:
        raise BitstreamError("the stream is empty; must begin with a start unit", offset_bytes=0)
    if sets.mps is None:
        raise BitstreamError("the stream has no model parameter set", offset_bytes=len(data))


def _read_unit(data: bytes | bytearray | memoryview, offset: int, sets: ParameterSets | None) -> PlacedUnit:
    size = _read_size(data, offset)
    reader = BitReader(data, offset + (4 if data[offset] & 0x80 else 2), offset + size)
    kind = reader.u(6, "nnr_unit_type")
    fault = _fault_of_place(kind, sets)
    if fault:
        raise BitstreamError(fault, field="nnr_unit_type", offset_bytes=offset)
    unit = _read_body(reader, kind, sets or ParameterSets())
    return PlacedUnit(unit, offset, size, _sets_after(unit, sets))


def _read_size(data: bytes | bytearray | memoryview, offset: int) -> int:
    n_size_bytes, n_left = 4 if data[offset] & 0x80 else 2, len(data) - offset
    if n_left < n_size_bytes:
        message = f"{n_size_bytes} bytes must follow and {n_left} are left"
        raise BitstreamError(message, field="nnr_unit_size", offset_bytes=offset)
    size = int.from_bytes(data[offset : offset + n_size_bytes], "big") & ~(1 << (8 * n_size_bytes - 1))
    n_least = n_size_bytes + 1
    if not n_least <= size <= n_left:
        message = f"a unit of {size} bytes, where {n_least} are the least and {n_left} are left"
        raise BitstreamError(message, field="nnr_unit_size", offset_bytes=offset)
    return size


def _read_body(reader: BitReader, kind: int, sets: ParameterSets) -> Unit:
    """The unit after its type; opaque if it is legal but unknown."""
    is_independent = reader.flag("independently_decodable_flag")
    is_partial = reader.flag("partial_data_counter_present_flag")
    counter = reader.u(8, "partial_data_counter") if is_partial else None
    start = reader.position_bits
    try:
        if is_partial:
            raise UnsupportedError("part of a unit that was split")
        return _read_known(reader, kind, sets)
    except UnsupportedError as error:
        if kind == UnitType.STR:
            raise
        reader.position_bits = start
        return OpaqueUnit(kind, reader.rest(), str(error), is_independent, counter)


def _read_known(reader: BitReader, kind: int, sets: ParameterSets) -> Unit:
    unit: Unit
    if kind == UnitType.NDU:
        return read_data_unit(reader, sets)
    if kind == UnitType.STR:
        unit = _read_start(reader)
    elif kind == UnitType.MPS:
        unit = read_mps(reader, sets.general_profile_idc)
    elif kind == UnitType.LPS:
        is_self_contained = reader.flag("lps_self_contained_flag")
        reader.u(7, "nnr_reserved_zero_7bits")
        unit = read_lps(reader, is_self_contained)
    elif kind == UnitType.TPL:
        formats = reader.u(8, "topology_storage_format"), reader.u(8, "topology_compression_format")
        unit = TopologyUnit(*formats, bytes(reader.rest()))
    else:
        raise UnsupportedError(f"units of type {kind} are not implemented")
    if reader.remaining_bits:
        raise reader.error(f"{reader.remaining_bits // 8} bytes are left at the end of a unit", "nnr_unit_size")
    return unit


def _read_start(reader: BitReader) -> StartUnit:
    profile = reader.u(8, "general_profile_idc")
    if profile not in KNOWN_PROFILES:
        raise UnsupportedError(f"profile {profile}; {KNOWN_PROFILES} are implemented")
    return StartUnit(profile)


def _fault_of_place(kind: int, sets: ParameterSets | None) -> str | None:
    """Why a unit of this type may not follow what came before; None if it may."""
    if (sets is None) != (kind == UnitType.STR):
        return f"unit of type {kind}: the first unit of a stream, and no other, is a start unit (type 0)"
    if kind == UnitType.MPS and sets is not None and sets.mps is not None:
        return "a second model parameter set"
    if kind == UnitType.NDU and sets is not None and sets.mps is None:
        return "a data unit comes before the model parameter set"
    return None


def _sets_after(unit: Unit, sets: ParameterSets | None) -> ParameterSets:
    if isinstance(unit, StartUnit) or sets is None:
        return ParameterSets(unit.general_profile_idc if isinstance(unit, StartUnit) else 1)
    if isinstance(unit, ModelParameterSet):
        return replace(sets, mps=unit)
    if isinstance(unit, LayerParameterSet):
        return replace(sets, lps=unit)
    return sets


def write_units(units: Iterable[Unit]) -> Iterator[bytes | memoryview]:
    """The bytes of a stream in pieces; payloads are passed through uncopied.

    Raises:
        InputError: If a field does not fit, or the order of the units is one that `read_units` refuses.
    """
    sets: ParameterSets | None = None
    for unit in units:
        fault = _fault_of_place(_type_of(unit), sets)
        if fault:
            raise InputError(fault)
        sets = _sets_after(unit, sets)
        yield from write_unit(unit, sets)
    if sets is None or sets.mps is None:
        raise InputError("a stream needs a start unit and a model parameter set")


def write_unit(unit: Unit, sets: ParameterSets) -> tuple[bytes | memoryview, ...]:
    """The bytes of one unit in pieces: size and header, and the payload uncopied where there is one.

    Args:
        unit: What to write.
        sets: The parameter sets that are valid for it.

    Raises:
        InputError: If a field does not fit, or the unit is too large.
    """
    writer = BitWriter()
    payload = _write_body(writer, unit, sets)
    header = writer.getvalue()
    return (_size_field(len(header) + len(payload)) + header, *([payload] if len(payload) else []))


def _size_field(n_bytes: int) -> bytes:
    """The size of a unit with this many other bytes, in the short form if it fits."""
    if n_bytes + 2 <= MAX_SHORT_SIZE_BYTES:
        return (n_bytes + 2).to_bytes(2, "big")
    if n_bytes + 4 > MAX_LONG_SIZE_BYTES:
        raise InputError(f"a unit of {n_bytes + 4} bytes, {MAX_LONG_SIZE_BYTES} are the most")
    return (n_bytes + 4 | 1 << 31).to_bytes(4, "big")


def _write_body(writer: BitWriter, unit: Unit, sets: ParameterSets) -> bytes | memoryview:
    """Write the header, and all of a small unit; the payload of a large one."""
    writer.u(_type_of(unit), 6, "nnr_unit_type")
    counter = unit.partial_data_counter if isinstance(unit, OpaqueUnit) else None
    writer.flag(not isinstance(unit, OpaqueUnit) or unit.independently_decodable_flag, "independently_decodable_flag")
    writer.flag(counter is not None, "partial_data_counter_present_flag")
    if counter is not None:
        writer.u(counter, 8, "partial_data_counter")
    match unit:
        case DataUnit():
            write_data_unit_header(writer, unit, sets)
            return unit.payload
        case OpaqueUnit():
            return unit.body
        case StartUnit():
            writer.u(unit.general_profile_idc, 8, "general_profile_idc")
        case ModelParameterSet():
            write_mps(writer, unit, sets.general_profile_idc)
        case LayerParameterSet():
            writer.u(unit.lps_self_contained_flag << 7, 8, "lps_self_contained_flag")
            write_lps(writer, unit)
        case TopologyUnit():
            writer.u(unit.topology_storage_format, 8, "topology_storage_format")
            writer.u(unit.topology_compression_format, 8, "topology_compression_format")
            writer.raw(unit.topology_data)
    return b""


def _type_of(unit: Unit) -> int:
    match unit:
        case StartUnit():
            return UnitType.STR
        case ModelParameterSet():
            return UnitType.MPS
        case LayerParameterSet():
            return UnitType.LPS
        case TopologyUnit():
            return UnitType.TPL
        case DataUnit():
            return UnitType.NDU
        case OpaqueUnit():
            return unit.nnr_unit_type
