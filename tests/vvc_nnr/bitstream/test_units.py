from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.bitstream.bits import BitWriter
from vvc_nnr.bitstream.data_unit import (
    Codebook,
    DataUnit,
    EntryPoint,
    NodeId,
    ParameterTypes,
    ParentNode,
    ParentType,
    PartKind,
    PayloadType,
)
from vvc_nnr.bitstream.parameter_sets import (
    ClassAccuracies,
    DecompositionPerformance,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    PerformanceMaps,
    PruningPerformance,
    SparsificationPerformance,
    UnificationPerformance,
)
from vvc_nnr.bitstream.units import OpaqueUnit, StartUnit, TopologyUnit, Unit, read_units, write_units
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "nnc_vectors.json").read_text())["cases"]
START, MPS, TOPOLOGY = bytes.fromhex("00040201"), bytes.fromhex("0008068100400080"), bytes.fromhex("00060e000000")


def stream(*units: Unit) -> bytes:
    return b"".join(write_units(units))


def size_field(n_bytes: int) -> bytes:
    return n_bytes.to_bytes(2, "big")


def units_of(data: bytes) -> list[Unit]:
    return [placed.unit for placed in read_units(data)]


def tensor(**fields: object) -> DataUnit:
    """A data unit of a vector of three values, with some fields changed."""
    unit = DataUnit(PayloadType.FLOAT, ("w",), (3,), b"payload")
    return dataclasses.replace(unit, **fields)  # type: ignore[arg-type]


BLOCK = tensor(
    nnr_compressed_data_unit_payload_type=PayloadType.BLOCK,
    topology_elem_id_list=("w", "scale", "beta", "gamma", "mean", "var", "bias"),
    tensor_dimension_list=(20, 3, 3),
    compressed_parameter_types=ParameterTypes.LS | ParameterTypes.BN | ParameterTypes.BI,
    dq_flag=True,
    scan_order=1,
    entry_points=(EntryPoint(1, 7, 300), EntryPoint(255, 0, 250)),
)
PRODUCT = tensor(
    nnr_compressed_data_unit_payload_type=PayloadType.BLOCK,
    topology_elem_id_list=("w_G", "w_H", "w_scaling"),
    tensor_dimension_list=(20, 30),
    compressed_parameter_types=ParameterTypes.DC | ParameterTypes.LS,
    decomposition_rank=2,
    g_number_of_rows=20,
    codebook=Codebook(0, 1, (-3, 0, 5)),
    codebook_h=Codebook(3, 0, (1, 2)),
)
DATA_UNITS = [
    tensor(),
    tensor(nnr_compressed_data_unit_payload_type=PayloadType.INT, tensor_dimension_list=(2, 3, 4)),
    tensor(nnr_compressed_data_unit_payload_type=PayloadType.RAW_FLOAT, payload=b"012345678901"),
    tensor(topology_elem_id_list=("model.größe",), dq_flag=True, cabac_unary_length_minus1=None),
    tensor(codebook=Codebook(15, 2, (-(2**31), -4, 0, 2**31 - 1)), nnr_decompressed_data_format=8),
    tensor(codebook=Codebook(0, 0, (7,)), tensor_dimension_list=(1, 1)),
    tensor(tensor_dimension_list=(17, 2), scan_order=1, entry_points=(EntryPoint(3, 0, 9), EntryPoint(4, 0, 9999))),
    tensor(tensor_dimension_list=(9, 1), scan_order=1, entry_points=(EntryPoint(0, 0, 0),)),
    tensor(node_id=NodeId(3, 1000, 77)),
    tensor(node_id=None, cabac_unary_length_minus1=255, tensor_dimension_list=(2**31, 2**31, 2**31)),
    BLOCK,
    PRODUCT,
]
PARENTS = [
    (ParentNode(), NodeId(0, 0, 1)),
    (ParentNode(ParentType.ID, True, 4), NodeId()),
    (ParentNode(ParentType.ID, True, 4, 5, 6), None),
    (ParentNode(ParentType.SHA256, False, parent_node_payload_hash=bytes(range(32))), NodeId()),
    (ParentNode(ParentType.SHA512, True, parent_node_payload_hash=bytes(range(64))), None),
    (None, NodeId()),
]


def test_the_bytes_of_a_plain_stream():
    assert stream(StartUnit(), ModelParameterSet(), TopologyUnit()) == START + MPS + TOPOLOGY
    assert (
        stream(StartUnit(), ModelParameterSet(mps_parent_signalling_enabled_flag=True))[4:].hex() == "0008068108400080"
    )
    assert stream(StartUnit(0), ModelParameterSet())[:4].hex() == "00040200"


@pytest.mark.parametrize("unit", DATA_UNITS)
def test_data_units_come_back(unit):
    assert units_of(stream(StartUnit(), ModelParameterSet(), unit))[2] == unit


@pytest.mark.parametrize("unit", [unit for unit in DATA_UNITS if unit.node_id in (None, NodeId())])
def test_data_units_come_back_in_the_first_edition(unit):
    unit = dataclasses.replace(unit, node_id=None)
    assert units_of(stream(StartUnit(0), ModelParameterSet(), unit))[2] == unit


@pytest.mark.parametrize(("parent", "node"), PARENTS)
def test_parents_come_back(parent, node):
    unit = tensor(parent=parent, node_id=node)
    mps = ModelParameterSet(mps_parent_signalling_enabled_flag=True, nnr_pre_flag=True)
    assert units_of(stream(StartUnit(), mps, unit))[1:] == [mps, unit]


@pytest.mark.parametrize("n_names", [1, 3])
def test_tensors_may_have_numbers_for_names(n_names):
    mps = ModelParameterSet(mps_topology_indexed_reference_flag=True)
    unit = dataclasses.replace(
        PRODUCT if n_names == 3 else tensor(),
        topology_elem_id_list=(),
        topology_elem_id_index_list=tuple(range(100, 100 + n_names)),
    )
    assert units_of(stream(StartUnit(), mps, unit))[2] == unit


def test_the_parts_of_a_block_are_in_coding_order():
    parts = BLOCK.parts()
    assert [part.kind for part in parts] == list(PartKind)[:7]
    assert [part.name for part in parts] == ["scale", "bias", "beta", "gamma", "mean", "var", "w"]
    assert [part.dimensions for part in parts] == [(20,)] * 6 + [(20, 3, 3)]
    assert [part.scan_order for part in parts] == [0] * 6 + [1]
    assert (parts[-1].n_rows, parts[-1].n_columns, BLOCK.n_elements) == (20, 9, 300)


def test_a_product_has_two_matrices_and_codebooks():
    scaling, g, h = PRODUCT.parts()
    assert (scaling.name, g.name, h.name) == ("w_scaling", "w_G", "w_H")
    assert (g.dimensions, h.dimensions) == ((20, 2), (2, 30))
    assert (scaling.codebook, g.codebook, h.codebook) == (None, PRODUCT.codebook, PRODUCT.codebook_h)


def test_a_single_column_has_entry_points_that_do_not_count():
    unit = tensor(tensor_dimension_list=(9, 1), scan_order=1, entry_points=(EntryPoint(0, 0, 0),))
    assert (unit.n_entry_points, unit.parts()[0].scan_order) == (1, 0)


MAPS = PerformanceMaps(
    (SparsificationPerformance(0.5, 0.25, 75.0, ClassAccuracies(2**200 + 5, (0.5, 1.0))),),
    (PruningPerformance(0.5, 70.0), PruningPerformance(0.75, 60.0)),
    (UnificationPerformance((4, 300), (8, 8), (2,), 0.125, 50.0, ClassAccuracies(1, (2.0,))),),
    (DecompositionPerformance(0.125, 60.0, 0.5, (1.0, 2.0)), DecompositionPerformance(0.25, 50.0, 0.25)),
)


def test_parameter_sets_come_back_with_everything():
    mps = ModelParameterSet(
        topology_carriage_flag=False,
        mps_quantization_method_flags=3,
        metric_type_performance_map_valid_flag=True,
        mps_parent_signalling_enabled_flag=True,
        base_model_id="base",
        performance_metric_type="top-1",
        mps_qp_density=7,
        mps_quantization_parameter=-4096,
        maps=MAPS,
        validation_set_performance=75.5,
    )
    lps = LayerParameterSet(False, 2, 3, 4095, dataclasses.replace(MAPS, decomposition=None))
    assert units_of(stream(StartUnit(), mps, lps))[1:] == [mps, lps]
    assert units_of(stream(StartUnit(), ModelParameterSet(mps_quantization_method_flags=0)))[1].mps_qp_density == 2


def test_a_layer_parameter_set_replaces_density_and_qp_for_what_follows():
    layer, empty = LayerParameterSet(lps_qp_density=3, lps_quantization_parameter=-9), LayerParameterSet(True, 0)
    data = stream(StartUnit(), ModelParameterSet(), tensor(), layer, tensor(), empty, tensor())
    sets = [placed.parameter_sets for placed in read_units(data) if isinstance(placed.unit, DataUnit)]
    assert [(s.qp_density, s.quantization_parameter) for s in sets] == [(2, 0), (3, -9), (2, 0)]


def test_topology_carries_any_bytes():
    unit = TopologyUnit(3, 1, bytes(range(256)) * 200)
    assert units_of(stream(StartUnit(), unit, ModelParameterSet()))[1] == unit


@pytest.mark.parametrize(("n_bytes", "is_long"), [(32767 - 12, False), (32767 - 11, True)])
def test_the_size_is_short_as_long_as_it_fits(n_bytes, is_long):
    data = stream(StartUnit(), ModelParameterSet(), tensor(payload=b"x" * n_bytes))
    placed = list(read_units(data))[2]
    assert (placed.size_bytes, data[12] >> 7) == (n_bytes + 12 + 2 * is_long, is_long)


def test_payloads_are_not_copied():
    data = bytearray(stream(StartUnit(), ModelParameterSet(), tensor()))
    unit = units_of(data)[2]
    data[-1] ^= 1
    assert bytes(unit.payload) == b"payloae"


@pytest.mark.parametrize("unit", [OpaqueUnit(6, b"abc"), OpaqueUnit(63, b""), OpaqueUnit(4, b"a", "", False, 200)])
def test_unknown_units_are_skipped_and_kept(unit):
    data = stream(StartUnit(), ModelParameterSet(), unit, tensor())
    found = units_of(data)
    assert dataclasses.replace(found[2], reason="") == unit
    assert found[3] == tensor()
    assert stream(*found) == data


def float_unit(*, first: int = 0b00001001, dq: int = 0, shaped: int = 1, shift: int = 0, scan: int = 0) -> bytes:
    """A stream whose data unit, a 2 x 2 tensor without a node, is written field by field."""
    writer = BitWriter()
    writer.u(0x16, 8, "type and flags")
    writer.u(first, 8, "payload type and flags")
    writer.st("w", "name")
    writer.u(0, 1, "node_id_present_flag")
    writer.u(dq, 1, "codebook_present_flag")
    if dq:
        writer.u(0, 4, "codebook_egk")
        for value, order in ((1, 2), (0, 2), (0, 7)):
            writer.ue(value, order, "codebook of one value")
    writer.u(dq, 1, "dq_flag")
    writer.u(shaped << 5, 6, "tensor_dimensions_flag, no unary length, no types")
    for value, order in ((2, 1), (2, 7), (2, 7), (shift, 1)):
        writer.ue(value, order, "dimensions and their shift")
    writer.u(scan, 4, "scan_order")
    writer.align()
    body = writer.getvalue() + b"payload"
    return START + MPS + size_field(len(body) + 2) + body


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"first": 0b00100001}, "payload type 4"),
        ({"first": 0b00001000}, "no input parameters"),
        ({"shaped": 0}, "no dimensions"),
        ({"scan": 5}, "scan order 5 is reserved"),
        ({"shift": 1}, "first_tensor_dimension_shift"),
        ({"dq": 1}, "dependent quantisation of codebook"),
    ],
)
def test_legal_but_unknown_data_units_are_opaque(fields, reason):
    assert units_of(float_unit())[2].tensor_dimension_list == (2, 2)
    data = float_unit(**fields)
    unit = units_of(data)[2]
    assert isinstance(unit, OpaqueUnit)
    assert reason in unit.reason
    assert stream(*units_of(data)) == data


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "empty", 0),
        (MPS, "start unit", 0),
        (START, "no model parameter set", 4),
        (START + START, "start unit", 4),
        (START + MPS + MPS, "second model parameter set", 12),
        (START + stream(StartUnit(), ModelParameterSet(), tensor())[12:], "before the model parameter set", 4),
        (START + MPS + b"\x00", "2 bytes must follow", 12),
        (START + MPS + size_field(2), "a unit of 2 bytes", 12),
        (START + MPS + b"\x80\x00\x00\x04\x16", "a unit of 4 bytes", 12),
        (START + MPS + size_field(9) + b"\x16", "a unit of 9 bytes", 12),
        (START + MPS[:-1], "a unit of 8 bytes", 4),
        (START + size_field(9) + MPS[2:] + b"a", "left at the end of a unit", 12),
    ],
)
def test_broken_streams_give_an_offset(data, message, offset):
    with pytest.raises(BitstreamError, match=message) as caught:
        units_of(data)
    assert caught.value.offset_bytes == offset


def test_an_unknown_profile_is_refused():
    with pytest.raises(UnsupportedError, match="profile 2"):
        units_of(bytes.fromhex("00040202"))


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (tensor(tensor_dimension_list=()), "dimensions"),
        (tensor(tensor_dimension_list=(5, 0)), "dimensions"),
        (tensor(tensor_dimension_list=(1,) * 65), "65 dimensions"),
        (tensor(topology_elem_id_list=("a", "b")), "number of names 2, of tensors 1: must be equal"),
        (tensor(topology_elem_id_list=("a\0",)), "zero character"),
        (tensor(compressed_parameter_types=ParameterTypes.LS), "outside a block"),
        (tensor(nnr_compressed_data_unit_payload_type=PayloadType.BLOCK), "block of one tensor"),
        (tensor(codebook=Codebook(0, 0, (1,)), dq_flag=True), "dependent quantisation of codebook"),
        (tensor(codebook=Codebook(0, 1, (1,))), "zero offset 1"),
        (tensor(codebook=Codebook(0, 0, (1, 1))), "increase"),
        (tensor(codebook=Codebook(0, 0, (0, 2**31))), "32 bits"),
        (tensor(codebook=Codebook(16, 0, (0,))), "codebook_egk"),
        (tensor(codebook_h=Codebook(0, 0, (1,))), "codebook of H"),
        (tensor(scan_order=1), "scan order 1"),
        (tensor(tensor_dimension_list=(9, 2), scan_order=1), "0 entry points; must be 1"),
        (tensor(tensor_dimension_list=(9, 2), scan_order=5), "scan order 5"),
        (tensor(cabac_unary_length_minus1=256), "cabac_unary_length_minus1"),
        (tensor(parent=ParentNode()), "enable parents"),
        (tensor(topology_elem_id_index_list=(1,)), "names and numbers"),
        (tensor(nnr_compressed_data_unit_payload_type=PayloadType.RAW_FLOAT), "7 bytes of raw floats for 3"),
        (dataclasses.replace(PRODUCT, g_number_of_rows=7), "does not fit"),
        (dataclasses.replace(PRODUCT, decomposition_rank=0), "does not fit"),
        (dataclasses.replace(PRODUCT, codebook_h=None), "codebook of H"),
        (ModelParameterSet(), "second model"),
        (StartUnit(), "start unit"),
    ],
)
def test_units_that_contradict_themselves_are_not_written(unit, message):
    with pytest.raises(InputError, match=message):
        stream(StartUnit(), ModelParameterSet(), unit)


@pytest.mark.parametrize(
    ("parent", "node"),
    [(ParentNode(parent_device_id=1), None), (ParentNode(ParentType.SHA256, parent_node_payload_hash=b"a"), NodeId())],
)
def test_incomplete_parents_are_not_written(parent, node):
    with pytest.raises(InputError, match="parent"):
        stream(
            StartUnit(), ModelParameterSet(mps_parent_signalling_enabled_flag=True), tensor(parent=parent, node_id=node)
        )


def test_streams_without_their_sets_are_not_written():
    for units in ([], [StartUnit()], [ModelParameterSet()], [StartUnit(), tensor()]):
        with pytest.raises(InputError):
            stream(*units)


def test_parameters_before_their_set_are_damage():
    with pytest.raises(BitstreamError, match="before the model parameter set"):
        ParameterSets().qp_density  # noqa: B018


@pytest.mark.parametrize(
    "unit",
    [
        dataclasses.replace(BLOCK, topology_elem_id_list=("w",) * 7),
        tensor(codebook=Codebook(0, 500, tuple(range(1000)))),
        tensor(tensor_dimension_list=(1,) * 64),
        tensor(tensor_dimension_list=(8000, 2), scan_order=1, entry_points=(EntryPoint(0, 0, 0),) * 999),
    ],
    ids=["names", "codebook", "dimensions", "entry points"],
)
def test_every_cut_of_a_header_is_damage(unit):
    data = stream(StartUnit(), ModelParameterSet(), unit)[: -len(unit.payload)]
    for n_bytes in range(16, len(data) - 1, 7):
        with pytest.raises(BitstreamError):
            units_of(data[:12] + size_field(n_bytes - 12) + data[14:n_bytes])


def test_counts_are_checked_before_they_are_followed():
    huge = tensor(tensor_dimension_list=(2**40, 2))
    data = stream(StartUnit(), ModelParameterSet(), huge)
    assert units_of(data)[2].n_elements == 2**41
    at = data.index(b"payload")
    for bit in range(24):
        changed = bytearray(data)
        changed[at - 1 - bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(BitstreamError):
            units_of(changed)


@settings(max_examples=400, deadline=None)
@given(
    case=st.sampled_from(GOLDEN),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
)
def test_mutated_streams_end_in_units_or_a_typed_error(case, changes, cut):
    data = bytearray(bytes.fromhex(case["bitstream_hex"]))
    for place, value in changes:
        data[place % min(len(data), 64)] = value
    with contextlib.suppress(BitstreamError, UnsupportedError):
        for unit in units_of(bytes(data[: len(data) - cut])):
            if isinstance(unit, DataUnit):
                unit.parts()


@given(data=st.binary(max_size=80))
def test_any_bytes_after_the_sets_end_in_units_or_a_typed_error(data):
    head = START + MPS + (len(data) + 3).to_bytes(2, "big") + b"\x16"
    with contextlib.suppress(BitstreamError):
        units_of(head + data)
