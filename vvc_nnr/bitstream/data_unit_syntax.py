"""The header of a compressed data unit in bits, both ways."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.bitstream.data_unit import (
    MAX_SCAN_ORDER,
    Codebook,
    DataUnit,
    EntryPoint,
    NodeId,
    ParameterTypes,
    ParentNode,
    ParentType,
    PayloadType,
    count_entry_points,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet, ParameterSets
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


_HASH_BITS = {ParentType.SHA256: 256, ParentType.SHA512: 512}


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


# A tensor of more dimensions than numpy's arrays may have.
MAX_N_DIMENSIONS = 64


def read_data_unit(reader: BitReader, sets: ParameterSets) -> DataUnit:
    """Read a data unit whose end is the reader's end.

    Raises:
        BitstreamError: If the header breaks the format.
        UnsupportedError: If it is legal, and this package does not implement it.
    """
    mps, is_edition_2 = sets.model(), sets.general_profile_idc == 1
    kind, is_multiple, has_format = _read_first_byte(reader)
    names, numbers = _read_names(reader, mps.mps_topology_indexed_reference_flag, is_multiple)
    node = read_node_id(reader) if is_edition_2 and reader.flag("node_id_present_flag") else None
    parent = _read_parent(reader, mps, node) if is_edition_2 else None
    has_codebook = _may_have_codebook(kind) and reader.flag("codebook_present_flag")
    codebook = read_codebook(reader) if has_codebook else None
    dq_flag = kind is not PayloadType.RAW_FLOAT and reader.flag("dq_flag")
    if dq_flag and has_codebook:
        raise UnsupportedError("dependent quantisation of codebook indices")
    number_format = reader.u(7, "nnr_decompressed_data_format") if has_format else None
    types, rank, g_rows, shape, unary_length_minus1 = _read_input_parameters(reader)
    codebook_h = read_codebook(reader) if _has_codebook_of_h(kind, has_codebook, types) else None
    scan_order = _read_scan_order(reader, is_edition_2) if len(shape) > 1 else 0
    start = reader.position_bits >> 3
    n_rows = (g_rows, rank) if rank or g_rows else shape[:1]
    entries = read_entry_points(reader, count_entry_points(scan_order, n_rows), dq_flag) if scan_order else ()
    reader.align("byte_alignment")
    unit = DataUnit(
        kind, names, shape, reader.rest(), numbers, node, parent, codebook, codebook_h, dq_flag, number_format,
        unary_length_minus1, types, rank, g_rows, scan_order, entries,
    )  # fmt: skip
    fault = unit.faults()
    if fault:
        raise BitstreamError(fault, field="header of a data unit", offset_bytes=start)
    return unit


def _may_have_codebook(kind: PayloadType) -> bool:
    return kind is PayloadType.FLOAT or kind is PayloadType.BLOCK


def _has_codebook_of_h(kind: PayloadType, has_codebook: bool, types: ParameterTypes) -> bool:
    return kind is PayloadType.BLOCK and has_codebook and bool(types & ParameterTypes.DC)


def _read_first_byte(reader: BitReader) -> tuple[PayloadType, bool, bool]:
    code = reader.u(5, "nnr_compressed_data_unit_payload_type")
    if code > max(PayloadType):
        raise UnsupportedError(f"payload type {code} of a data unit is reserved")
    is_multiple = reader.flag("nnr_multiple_topology_elements_present_flag")
    has_format = reader.flag("nnr_decompressed_data_format_present_flag")
    if not reader.flag("input_parameters_present_flag"):
        raise UnsupportedError("a data unit has no input parameters, so that its dimensions are unknown")
    return PayloadType(code), is_multiple, has_format


def _read_names(reader: BitReader, is_indexed: bool, is_multiple: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names or numbers; one of the two is empty."""
    n_names = reader.ue(7, "topology_elem_count_minus2") + 2 if is_multiple else 1
    if 8 * n_names > reader.remaining_bits:
        raise reader.error(f"{n_names} names in {reader.remaining_bits} bits", "topology_elem_count_minus2")
    if is_indexed:
        return (), tuple(reader.ue(7, "topology_elem_id_index") for _ in range(n_names))
    if is_multiple:
        reader.align("byte_alignment")
    return tuple(reader.st("topology_elem_id") for _ in range(n_names)), ()


def _read_parent(reader: BitReader, mps: ModelParameterSet, node: NodeId | None) -> ParentNode | None:
    if not mps.mps_parent_signalling_enabled_flag or not reader.flag("parent_node_id_present_flag"):
        return None
    return read_parent(reader, node is not None)


def _read_input_parameters(reader: BitReader) -> tuple[ParameterTypes, int, int, tuple[int, ...], int | None]:
    """Parameter types, rank, rows of G, dimensions, and unary length less one."""
    has_shape = reader.flag("tensor_dimensions_flag")
    has_unary_length = reader.flag("cabac_unary_length_flag")
    types = ParameterTypes(reader.u(4, "compressed_parameter_types"))
    rank = g_rows = 0
    if types and types & ParameterTypes.DC:
        rank, g_rows = reader.ue(3, "decomposition_rank"), reader.ue(3, "g_number_of_rows")
    if not has_shape:
        raise UnsupportedError("a data unit has no dimensions")
    shape = _read_shape(reader)
    return types, rank, g_rows, shape, reader.u(8, "cabac_unary_length_minus1") if has_unary_length else None


def _read_shape(reader: BitReader) -> tuple[int, ...]:
    n_dimensions = reader.ue(1, "count_tensor_dimensions")
    if not 1 <= n_dimensions <= MAX_N_DIMENSIONS:
        message = f"{n_dimensions} dimensions of a tensor, 1 to {MAX_N_DIMENSIONS} are possible"
        raise reader.error(message, "count_tensor_dimensions")
    shape = tuple(reader.ue(7, "tensor_dimensions") for _ in range(n_dimensions))
    if not all(shape):
        raise reader.error(f"dimensions {shape} of a tensor, none may be zero", "tensor_dimensions")
    return shape


def _read_scan_order(reader: BitReader, is_edition_2: bool) -> int:
    if is_edition_2 and reader.ue(1, "first_tensor_dimension_shift"):
        raise UnsupportedError("first_tensor_dimension_shift is not 0")
    scan_order = reader.u(4, "scan_order")
    if scan_order > MAX_SCAN_ORDER:
        raise UnsupportedError(f"scan order {scan_order} is reserved, 0 to {MAX_SCAN_ORDER} are known")
    return scan_order


def write_data_unit_header(writer: BitWriter, unit: DataUnit, sets: ParameterSets) -> None:
    """Write all of a data unit that comes before its payload.

    Raises:
        InputError: If a field does not fit its bits, its neighbours or the parameter sets.
    """
    fields = _plain_fields_of(unit, sets) if _is_plain(unit) else None
    fault = None if fields else unit.faults() or _faults_against(unit, sets)
    if fault:
        raise InputError(f"data unit {unit.topology_elem_id_list}: {fault}")
    _write_first_byte(writer, unit)
    _write_names(writer, unit)
    if fields:
        writer.raw(fields)
    else:
        _write_fields(writer, unit, sets)


def _is_plain(unit: DataUnit) -> bool:
    """Whether what stands behind the name of a unit is the same of many others, as of most tensors of a network."""
    return (
        unit.node_id is None
        and unit.parent is None
        and unit.codebook is None
        and unit.codebook_h is None
        and len(unit.topology_elem_id_list) == 1
        and not unit.topology_elem_id_index_list
        and not unit.compressed_parameter_types
        and unit.nnr_decompressed_data_format is None
        and unit.scan_order == 0
        and not unit.entry_points
        and unit.has_codeword
    )


def _plain_fields_of(unit: DataUnit, sets: ParameterSets) -> bytes | None:
    """What stands behind the name of a plain unit; None if its fields contradict themselves or the parameter sets."""
    mps = sets.model()
    return _plain_fields(
        unit.nnr_compressed_data_unit_payload_type,
        unit.dq_flag,
        unit.tensor_dimension_list,
        unit.cabac_unary_length_minus1,
        sets.general_profile_idc,
        mps.mps_parent_signalling_enabled_flag,
        mps.mps_topology_indexed_reference_flag,
    )


@lru_cache(1024)
def _plain_fields(
    kind: PayloadType,
    dq_flag: bool,
    dimensions: tuple[int, ...],
    unary_length_minus1: int | None,
    profile: int,
    may_have_parent: bool,
    is_indexed: bool,
) -> bytes | None:
    writer = BitWriter()
    unit = DataUnit(
        kind, ("",), dimensions, b"", node_id=None, dq_flag=dq_flag, cabac_unary_length_minus1=unary_length_minus1
    )
    mps = ModelParameterSet(
        mps_parent_signalling_enabled_flag=may_have_parent, mps_topology_indexed_reference_flag=is_indexed
    )
    sets = ParameterSets(profile, mps)
    if unit.faults() or _faults_against(unit, sets):
        return None
    _write_fields(writer, unit, sets)
    return writer.getvalue()


def _write_fields(writer: BitWriter, unit: DataUnit, sets: ParameterSets) -> None:
    """What stands behind the names."""
    kind, is_edition_2 = unit.nnr_compressed_data_unit_payload_type, sets.general_profile_idc == 1
    if is_edition_2:
        _write_nodes(writer, unit, sets.model())
    if _may_have_codebook(kind):
        writer.flag(unit.codebook is not None, "codebook_present_flag")
    if unit.codebook is not None:
        write_codebook(writer, unit.codebook)
    if unit.has_codeword:
        writer.flag(unit.dq_flag, "dq_flag")
    if unit.nnr_decompressed_data_format is not None:
        writer.u(unit.nnr_decompressed_data_format, 7, "nnr_decompressed_data_format")
    _write_input_parameters(writer, unit)
    if unit.codebook_h is not None:
        write_codebook(writer, unit.codebook_h)
    if len(unit.tensor_dimension_list) > 1:
        _write_scan(writer, unit, is_edition_2)
    writer.align()


def _faults_against(unit: DataUnit, sets: ParameterSets) -> str | None:
    """What about a unit contradicts the profile or the model's parameter set."""
    is_edition_2 = sets.general_profile_idc == 1
    may_have_parent = is_edition_2 and sets.model().mps_parent_signalling_enabled_flag
    if unit.parent is not None and not may_have_parent:
        return "a parent, where the parameter set does not enable parents"
    if unit.node_id is not None and not is_edition_2:
        return "a node identity in profile 0"
    if bool(unit.topology_elem_id_index_list) != sets.model().mps_topology_indexed_reference_flag:
        return "names and numbers, of which the parameter set wants the other"
    if unit.scan_order and (unit.scan_order > MAX_SCAN_ORDER or len(unit.tensor_dimension_list) < 2):
        return f"scan order {unit.scan_order} of a tensor of dimensions {unit.tensor_dimension_list}"
    if unit.is_block and _n_names(unit) == 1:
        return "a block of one tensor, which is to be coded as a tensor"
    if unit.codebook is not None and unit.dq_flag:
        return "dependent quantisation of codebook indices"
    if len(unit.tensor_dimension_list) > MAX_N_DIMENSIONS:
        return f"{len(unit.tensor_dimension_list)} dimensions, {MAX_N_DIMENSIONS} at most are possible"
    return None


def _write_first_byte(writer: BitWriter, unit: DataUnit) -> None:
    writer.u(unit.nnr_compressed_data_unit_payload_type, 5, "nnr_compressed_data_unit_payload_type")
    writer.flag(_n_names(unit) > 1, "nnr_multiple_topology_elements_present_flag")
    writer.flag(unit.nnr_decompressed_data_format is not None, "nnr_decompressed_data_format_present_flag")
    writer.flag(True, "input_parameters_present_flag")


def _n_names(unit: DataUnit) -> int:
    return len(unit.topology_elem_id_index_list or unit.topology_elem_id_list)


def _write_names(writer: BitWriter, unit: DataUnit) -> None:
    is_multiple = _n_names(unit) > 1
    if is_multiple:
        writer.ue(_n_names(unit) - 2, 7, "topology_elem_count_minus2")
    for number in unit.topology_elem_id_index_list:
        writer.ue(number, 7, "topology_elem_id_index")
    if unit.topology_elem_id_index_list:
        return
    if is_multiple:
        writer.align()
    for name in unit.topology_elem_id_list:
        writer.st(name, "topology_elem_id")


def _write_nodes(writer: BitWriter, unit: DataUnit, mps: ModelParameterSet) -> None:
    writer.flag(unit.node_id is not None, "node_id_present_flag")
    if unit.node_id is not None:
        write_node_id(writer, unit.node_id)
    if mps.mps_parent_signalling_enabled_flag:
        writer.flag(unit.parent is not None, "parent_node_id_present_flag")
    if unit.parent is not None:
        write_parent(writer, unit.parent, unit.node_id is not None)


def _write_input_parameters(writer: BitWriter, unit: DataUnit) -> None:
    writer.flag(True, "tensor_dimensions_flag")
    writer.flag(unit.cabac_unary_length_minus1 is not None, "cabac_unary_length_flag")
    writer.u(unit.compressed_parameter_types, 4, "compressed_parameter_types")
    if unit.compressed_parameter_types & ParameterTypes.DC:
        writer.ue(unit.decomposition_rank, 3, "decomposition_rank")
        writer.ue(unit.g_number_of_rows, 3, "g_number_of_rows")
    writer.ue(len(unit.tensor_dimension_list), 1, "count_tensor_dimensions")
    for dimension in unit.tensor_dimension_list:
        writer.ue(dimension, 7, "tensor_dimensions")
    if unit.cabac_unary_length_minus1 is not None:
        writer.u(unit.cabac_unary_length_minus1, 8, "cabac_unary_length_minus1")


def _write_scan(writer: BitWriter, unit: DataUnit, is_edition_2: bool) -> None:
    if is_edition_2:
        writer.ue(0, 1, "first_tensor_dimension_shift")
    writer.u(unit.scan_order, 4, "scan_order")
    if unit.scan_order:
        write_entry_points(writer, unit.entry_points, unit.dq_flag)
