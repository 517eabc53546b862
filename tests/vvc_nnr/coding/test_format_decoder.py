"""docs/FORMAT.md is complete: a decoder written from it alone reads what the reference software and we write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_decoder import Decoded, decode_stream
from format_manifest import Item, read_items, values_as_they_are
from format_payload import Past
from format_units import data_units

from vvc_nnr import BaseState, CompressOptions, apply_update, compress, compress_update, decompress
from vvc_nnr.bitstream.data_unit import DataUnit, EntryPoint, ParameterTypes, PayloadType
from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.number_formats import BITS_DTYPES, FloatBits
from vvc_nnr.bitstream.parameter_sets import (
    ClassAccuracies,
    DecompositionPerformance,
    LayerParameterSet,
    ModelParameterSet,
    PerformanceMaps,
    PruningPerformance,
    SparsificationPerformance,
    UnificationPerformance,
)
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, read_units, write_units
from vvc_nnr.coding.unit_coding import decode_unit, make_params
from vvc_nnr.kernels.entropy_coding import TensorInput, encode_payload

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "nnc_vectors.json").read_text())["cases"]


def pasts_of(case: dict[str, Any]) -> dict[str, Past]:
    return {
        name: Past(np.array(base["levels"]), np.array([int(c) for c in base["history"]]))
        for name, base in case.get("bases", {}).items()
    }


def values_by_name(units: list[dict[str, Decoded]]) -> dict[str, Any]:
    return {part.name: part.values for unit in units for part in unit.values()}


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_streams_of_the_reference_software(case: dict[str, Any]) -> None:
    found = values_by_name(decode_stream(bytes.fromhex(case["bitstream_hex"]), pasts_of(case)))
    assert len(found) >= len(case["tensors"]) > 0
    for tensor in case["tensors"]:
        assert_is(found[tensor["name"]], tensor)


def assert_is(values: Any, tensor: dict[str, Any]) -> None:
    wanted = np.frombuffer(bytes.fromhex(tensor["values_hex"]), tensor["dtype"]).reshape(tensor["shape"])
    np.testing.assert_array_equal(values, wanted.astype(values.dtype))


NETWORK = {
    "conv": np.random.default_rng(3).laplace(0, 0.05, (20, 3, 3)).astype(np.float32),
    "bias": np.random.default_rng(4).normal(size=7).astype(np.float32),
    "n": np.arange(-5, 7, dtype=np.int32).reshape(3, 4),
    "large": np.array([[9.0, -300.0], [0, 1e-4]], np.float32),
}
NETWORK["conv"][[3, 4, 11]] = 0


@pytest.mark.parametrize(
    "options",
    [
        {"qp": -32},
        {"scan_order": 1, "qp": -32},
        {"scan_order": 1, "use_dq": False, "row_skipping": False, "param_opt": False, "qp": -32},
        {"scan_order": 2, "codebook": "force", "qp": -16},
        {"codebook": "force", "qp": 8},
        {"bitdepth": 4},
        {"qp_density": 4, "qp": -101, "nonweight_qp": None},
        {"lambda_rd": 3.0, "scan_order": 1, "qp": -32},
    ],
    ids=str,
)
def test_streams_of_this_package(options: dict[str, Any]) -> None:
    data = compress(NETWORK, **options)
    found, wanted = values_by_name(decode_stream(data)), decompress(data)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("options", [{"scan_order": 1}, {"qp": -20, "use_dq": False}, {"bitdepth": 6}], ids=str)
def test_scales_of_rows_by_the_document(options: dict[str, Any]) -> None:
    random = np.random.default_rng(8)
    sizes = np.exp(random.normal(size=(30, 1))).astype(np.float16)
    network = {
        "a": random.normal(size=(30, 12)).astype(np.float16) * sizes,
        "b": random.normal(size=(5, 30)).astype(np.float32) / sizes.T,
    }
    data = compress(network, local_scaling=True, **options)
    assert read_items(data)[0] == [Item("float16")]
    block, other = decode_stream(data)
    assert (block["scaling"].name, block["weight"].name) == ("a_scaling", "a")
    found = decompress(data)
    scaled = block["weight"].values * block["scaling"].values[:, None]
    np.testing.assert_array_equal(found["a"], scaled.astype(np.float16))
    np.testing.assert_array_equal(found["b"], other["weight"].values)


def test_manifests_of_this_package() -> None:
    network = {
        "plain": np.ones(2, np.float32),
        "half": np.array([0.5, 3], np.float16),
        "scalar": np.array(0.5, np.float16),
        "wide": np.array([1 << 40]),
        "empty": np.zeros((0, 3), np.uint8),
    }
    items, content = read_items(compress(network, metadata={"by": "me"}))
    assert items == [
        Item(""),
        Item("float16"),
        Item("float16", shape=()),
        Item("int64", is_wide=True),
        Item("uint8", shape=(0, 3)),
    ]
    assert content["metadata"] == {"by": "me"}
    items, _ = read_items(compress({"a": np.random.default_rng(0).normal(size=2000).astype(np.float32)}, lossless=True))
    assert [(item.number_format, item.raw is not None and item.raw[0]) for item in items] == [("float32", "s")]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64", "bfloat16", *FLOAT8])
def test_values_as_they_are_by_the_document(dtype: str) -> None:
    bits = np.random.default_rng(0).integers(0, 256, 42).astype(np.uint8)
    if dtype in BITS_DTYPES:
        network: dict[str, Any] = {"w": FloatBits(bits[:40].view(BITS_DTYPES[dtype]), dtype)}
    else:
        network = {"w": (bits & 1 if dtype == "bool" else bits)[:40].view(dtype)}
    if dtype == "bool":
        network = {"w": np.random.default_rng(0).random(3) < 0.5}
    data = compress(network, lossless=True)
    (item, *others), (unit,) = read_items(data)[0], [unit for unit, _ in data_units(data)]
    assert not others
    if dtype != "bool":  # three of which are shorter coded
        assert item.form == "="
        np.testing.assert_array_equal(values_as_they_are(item, unit), decompress(data)["w"])
    assert item.number_format == dtype


def test_updates_of_this_package() -> None:
    random = np.random.default_rng(8)
    state = BaseState.of({"a": random.normal(size=(19, 10)).astype(np.float32)})
    for scan_order in (0, 1, 1):
        old = state.tensors["a"]
        wanted = old.values + np.where(random.random((19, 10)) < 0.3, 0.1, 0).astype(np.float32)
        options = CompressOptions(scan_order=scan_order, use_dq=scan_order > 0)
        data, _ = compress_update(state, {"a": wanted}, options=options)
        state = apply_update(state, data)
        ((found,),) = (unit.values() for unit in decode_stream(data, {"a": Past(old.levels, old.history)}))
        np.testing.assert_array_equal(old.values + found.values, state.arrays["a"])
        np.testing.assert_array_equal(found.levels, state.tensors["a"].levels)


def rewritten(data: bytes, profile: int, mps: ModelParameterSet, lps: LayerParameterSet | None = None) -> bytes:
    units = [placed.unit for placed in read_units(data) if isinstance(placed.unit, DataUnit)]
    return b"".join(write_units([StartUnit(profile), mps, TopologyUnit(), *([lps] if lps else []), *units]))


def test_parameter_sets_move_the_step() -> None:
    data = rewritten(compress({"a": NETWORK["conv"]}), 1, ModelParameterSet(mps_quantization_parameter=-9))
    moved = rewritten(data, 1, ModelParameterSet(), LayerParameterSet(lps_quantization_parameter=5))
    for stream in (data, moved):
        np.testing.assert_array_equal(values_by_name(decode_stream(stream))["a"], decompress(stream)["a"])


def test_performance_maps_are_passed_over() -> None:
    classes = ClassAccuracies(5, (0.5, 0.25))
    maps = PerformanceMaps(
        (SparsificationPerformance(0.1, 0.2, 0.3, classes), SparsificationPerformance(0.1, 0.2, 0.3)),
        (PruningPerformance(0.5, 0.75, classes),),
        (UnificationPerformance((3, 4), (2, 2, 2), (1,), 0.5, 0.6, classes),),
        (DecompositionPerformance(0.1, 0.2, 0.3, (0.4, 0.5, 0.6)),),
    )
    for profile in (0, 1):
        model = ModelParameterSet(maps=maps, base_model_id="base" if profile else None)
        layer = LayerParameterSet(maps=replace(maps, decomposition=None))
        data = compress({"a": np.arange(3, dtype=np.int32)})
        unit = next(placed.unit for placed in read_units(data) if isinstance(placed.unit, DataUnit))
        unit = replace(unit, node_id=unit.node_id if profile else None)
        units = [StartUnit(profile), model, TopologyUnit(), layer, unit]
        assert values_by_name(decode_stream(b"".join(write_units(units))))["a"].tolist() == [0, 1, 2]


PARTS = ParameterTypes.LS | ParameterTypes.BN | ParameterTypes.BI


@pytest.mark.parametrize("dq_flag", [False, True])
@pytest.mark.parametrize("types", [PARTS, PARTS | ParameterTypes.DC])
def test_blocks_with_all_parts(types: ParameterTypes, dq_flag: bool) -> None:
    random = np.random.default_rng(6)
    has_product = ParameterTypes.DC in types
    unit = DataUnit(
        PayloadType.BLOCK, tuple(f"part{place}" for place in range(8 if has_product else 7)), (18, 10), b"",
        dq_flag=dq_flag, compressed_parameter_types=types, scan_order=1,
        decomposition_rank=9 if has_product else 0, g_number_of_rows=18 if has_product else 0,
    )  # fmt: skip
    inputs = [
        TensorInput(make_params(unit, part), np.round(random.laplace(0, 2, part.n_elements)).astype(np.int64), qp=-20)
        for part in unit.parts()
    ]
    coded = encode_payload(inputs)
    entries = tuple(EntryPoint(e.value, e.dq_state, e.offset_bits) for of in coded.entry_points for e in of)
    unit = replace(unit, payload=coded.data, entry_points=entries)
    stream = b"".join(write_units([StartUnit(), ModelParameterSet(), TopologyUnit(), unit]))
    ((found,), placed) = decode_stream(stream), list(read_units(stream))[-1]
    wanted = decode_unit(unit, placed.parameter_sets, output="values", max_elements=10_000)
    assert len(found) == len(wanted) == len(unit.topology_elem_id_list)
    for part, one, other in zip(unit.parts(), found.values(), wanted, strict=True):
        assert one.name == part.name
        np.testing.assert_array_equal(one.values.reshape(-1), other.numbers.reshape(-1))


def test_raw_floats() -> None:
    values = NETWORK["large"]
    unit = DataUnit(PayloadType.RAW_FLOAT, ("raw",), values.shape, values.tobytes())
    stream = b"".join(write_units([StartUnit(), ModelParameterSet(), TopologyUnit(), unit]))
    np.testing.assert_array_equal(values_by_name(decode_stream(stream))["raw"], values)
