"""The header of a compressed data unit in bits, both ways."""

from __future__ import annotations

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.bitstream.data_unit import MAX_SCAN_ORDER, DataUnit, ParameterTypes, PayloadType, count_entry_points
from vvc_nnr.bitstream.data_unit_fields import (
    NodeId,
    ParentNode,
    read_codebook,
    read_entry_points,
    read_node_id,
    read_parent,
    write_codebook,
    write_entry_points,
    write_node_id,
    write_parent,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet, ParameterSets
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

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
    fault = unit.faults() or _faults_against(unit, sets)
    if fault:
        raise InputError(f"data unit {unit.topology_elem_id_list}: {fault}")
    kind, is_edition_2 = unit.nnr_compressed_data_unit_payload_type, sets.general_profile_idc == 1
    _write_first_byte(writer, unit)
    _write_names(writer, unit)
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
