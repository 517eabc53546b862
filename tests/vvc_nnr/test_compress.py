"""Networks through the whole codec and back: number formats, shapes, names, options, damage."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.bitstream.number_formats import FloatBits, in_format
from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.decoder import _split_tensors
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

INTEGERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["w_G", "w_H", "w", "w.high", "w.bias", "é权重", ""]
)


def arrays(dtypes: list[str]) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
    elements = {"allow_nan": False, "allow_infinity": False}
    return st.sampled_from(dtypes).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=elements if dtype.startswith("float") else None)
    )


def laplacian(shape: tuple[int, ...], seed: int = 0, scale: float = 0.05) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.float32)


NETWORK = {
    "a.weight": laplacian((24, 9)),
    "a.bias": laplacian((24,), 1),
    "steps": np.arange(5),
    "wide": np.array([[1 << 40, -3]]),
    "half": laplacian((4, 5), 2).astype(np.float16),
    "scalar": np.float32(0.5),
    "empty": np.zeros((0, 3), np.float64),
}


@given(network=st.dictionaries(NAMES, arrays(INTEGERS), max_size=4))
@settings(max_examples=80, deadline=None)
def test_integers_come_back_exactly(network: dict[str, np.ndarray[Any, Any]]) -> None:
    found = decompress(compress(network, n_threads=1))
    assert list(found) == list(network)
    for name, array in network.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)


@given(network=st.dictionaries(NAMES, arrays(FLOATS), max_size=4), qp=st.integers(-60, 0), use_dq=st.booleans())
@settings(max_examples=80, deadline=None)
def test_floats_come_back_in_their_number_format_and_near(
    network: dict[str, np.ndarray[Any, Any]], qp: int, use_dq: bool
) -> None:
    if any(float(np.abs(array).max(initial=0)) > 3e38 for array in network.values()):
        return
    data = compress(network, qp=qp, nonweight_qp=qp, use_dq=use_dq, lambda_rd=0, n_threads=1)
    found = decompress(data)
    steps = {tensor.name: tensor.step for tensor in inspect(data).tensors}
    for name, array in network.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        if not array.size:
            continue
        largest = float(np.abs(array).max())
        rounding = largest * (2.0**-9 if array.dtype == np.float16 else 2.0**-22) + 2.0**-24
        bound = (2 if use_dq else 0.5) * (steps[name] or 0.0) + rounding
        assert np.abs(found[name].astype(np.float64) - array.astype(np.float64)).max() <= bound


def test_the_rate_may_cost_more_than_half_a_step_but_less_than_one() -> None:
    array = np.array([[0, 0, 0], [0, 0, 0.15625]], np.float32)
    data = compress({"w": array}, qp=-8, use_dq=False, n_threads=1)
    assert 0.125 < np.abs(decompress(data)["w"] - array).max() < 0.25


@given(array=hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))
@settings(max_examples=50, deadline=None)
def test_float64_can_be_exact_whatever_the_bits(array: np.ndarray[Any, Any]) -> None:
    found = decompress(compress({"w": array}, float64="exact", n_threads=1))["w"]
    assert np.asarray(found).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {"scan_order": 3},
        {"scan_order": "auto", "n_threads": 2},
        {"row_skipping": False, "param_opt": False},
        {"lambda_rd": 2.5},
        {"codebook": "auto", "qp": -12},
        {"codebook": "force", "qp": -12},
        {"codebook": "force", "qp": -12, "use_dq": False, "scan_order": 1},
        {"bitdepth": 4},
        {"bitdepth": 8, "use_dq": False},
        {"qp_density": 0, "qp": -8, "nonweight_qp": None},
        {"qp_density": 7, "qp": -1000, "nonweight_qp": None},
        {"qp_per_tensor": {"a.bias": -10}},
    ],
    ids=str,
)
def test_every_option_works(options: dict[str, Any]) -> None:
    data = compress(NETWORK, **options)
    found = decompress(data, n_threads=2)
    step = max(t.step or 0.0 for t in inspect(data).tensors)
    for name, array in NETWORK.items():
        if np.size(array) and "bitdepth" not in options:
            error = np.abs(np.asarray(found[name], np.float64) - np.asarray(array, np.float64)).max()
            assert error <= (8 if "lambda_rd" in options else 2) * step + 1e-3


@pytest.mark.parametrize("density", [0, 1, 3, 4, 7])
def test_qps_that_neither_option_nor_role_gives_are_the_same_steps_at_any_density(density: int) -> None:
    rng = np.random.default_rng(0)
    network = {"a.weight": rng.normal(size=(9, 9)).astype(np.float32), "a.bias": rng.normal(size=9).astype(np.float32)}
    weight, bias = (tensor.step for tensor in inspect(compress(network, qp_density=density, roles="off")).tensors)
    assert weight == 2**-8
    assert bias == (5 * 2**-21 if density >= 2 else 2**-19)
    coarse = inspect(compress(network, qp_density=density, qp=0, nonweight_qp=-1))
    assert [tensor.qp for tensor in coarse.tensors] == [0, -1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"qp": 128}, "-128 to 127"),
        ({"qp": -129}, "-128 to 127"),
        ({"qp": -32.0}, "whole number"),
        ({"qp": True}, "whole number"),
        ({"nonweight_qp": 500}, "nonweight_qp"),
        ({"qp_density": 8}, "qp_density"),
        ({"qp_density": 0, "nonweight_qp": -75}, "-75"),
        ({"qp_per_tensor": {"nobody": -3}}, "nobody"),
        ({"qp_per_tensor": {"a.bias": 999}}, r"qp_per_tensor\['a.bias'\]"),
        ({"scan_order": 5}, "scan_order"),
        ({"scan_order": "fast"}, "scan_order"),
        ({"codebook": "yes"}, "codebook"),
        ({"lambda_rd": -1}, "lambda_rd"),
        ({"lambda_rd": float("nan")}, "lambda_rd"),
        ({"bitdepth": 1}, "bitdepth"),
        ({"n_threads": 0}, "n_threads"),
        ({"use_dq": "no"}, "use_dq"),
        ({"float64": "float16"}, "float64"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compress(NETWORK, **options)


@pytest.mark.parametrize(
    "idle",
    [
        *({"qp": -20}, {"nonweight_qp": None}, {"qp_per_tensor": {"a.bias": -9}}, {"qp_by_size": True}),
        *({"bitdepth": 8}, {"codebook": "auto"}, {"use_dq": False}, {"lambda_rd": 0.5}, {"role_of": {"a*": "gdn"}}),
    ],
    ids=str,
)
def test_options_without_effect_are_refused(idle: dict[str, Any]) -> None:
    (name,) = idle
    with pytest.raises(InputError, match=f"^{name} with lossless: has no effect; take one of them away$"):
        compress(NETWORK, lossless=True, **idle)
    if name in ("qp", "nonweight_qp", "qp_by_size"):
        with pytest.raises(InputError, match=f"^{name} with bitdepth: has no effect"):
            compress(NETWORK, bitdepth=8, **idle)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([1j]), "complex128"),
        (np.array(["a"]), "'bad'"),
        (np.array([None]), "object"),
        ([1, 2], "list"),
    ],
    ids=str,
)
def test_values_that_cannot_be_coded_are_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compress({"good": np.zeros(3, np.float32), "bad": value})


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, np.nan, 0.3], np.float32),
        np.triu(np.full((8, 8), -np.inf, np.float32), 1),
        np.array([[np.inf, 0.1]], np.float16),
        np.array([1e300, 0.1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["w.weight", "attn_bias", "norm.running_var"])
def test_tensors_with_values_of_no_step_are_exact_and_others_as_ever(values: Any, name: str) -> None:
    other = np.random.default_rng(0).normal(0, 0.05, (16, 16)).astype(np.float32)
    for roles in ("auto", "off"):
        found = decompress(compress({name: values, "other.weight": other}, roles=roles))  # type: ignore[arg-type]
        assert found[name].tobytes() == values.tobytes()
        assert 0 < np.abs(found["other.weight"] - other).max() < 2.0**-6


@pytest.mark.parametrize("name", ["layer.bias", "attn_bias", "rel.weight"])
@pytest.mark.parametrize("huge", [-1e9, 3e12, -3.4e38])
def test_one_huge_value_does_not_erase_those_beside_it(name: str, huge: float) -> None:
    values = np.random.default_rng(0).normal(0, 1, (8, 8)).astype(np.float32)
    values[0, 3] = huge
    np.testing.assert_array_equal(decompress(compress({name: values}))[name], values)


def test_patterns_of_roles_are_texts() -> None:
    with pytest.raises(InputError, match="role_of: 3 is no text"):
        compress({"a": np.ones(3, np.float32)}, role_of={3: "bias"})  # type: ignore[dict-item]


def test_an_original_of_other_names_is_refused() -> None:
    coded = compress({"a": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)})
    with pytest.raises(InputError, match="it has 'c', wanted are such as 'a', 'b'"):
        inspect(coded, {"c": np.ones(2, np.float32)})
    assert [tensor.mse for tensor in inspect(coded, {"a": np.ones((2, 3), np.float32)}).tensors] == [0.0, None]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 7])
def test_names_that_cannot_be_coded_are_refused(name: Any) -> None:
    with pytest.raises(InputError):
        compress({name: np.zeros(3, np.float32)})


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InputError, match="map of names"):
        compress([np.zeros(3)])


def test_huge_and_tiny_values() -> None:
    network = {
        "variance": np.array([1e6, 0.25], np.float32),
        "huge": np.array([[1e30, -3e38], [1, 0]], np.float32),
        "huge64": np.array([1e30, 2.0]),
        "tiny": np.full((3, 3), 1e-40, np.float32),
    }
    found = decompress(compress(network))
    assert np.allclose(found["variance"], network["variance"], atol=1e-3)
    for name in ("huge", "huge64"):
        assert np.array_equal(found[name], network[name])
    assert np.array_equal(found["tiny"], network["tiny"])
    assert not decompress(compress(network, qp=-32))["tiny"].any()


def test_bfloat16_keeps_to_its_grid() -> None:
    values = laplacian((6, 7))
    coarse = in_format(values, "bfloat16")
    data = compress({"w": coarse, "huge": FloatBits(np.array([0x7F00], np.uint16), "bfloat16")}, qp=-60)
    found = decompress(data)
    assert found["w"].dtype == np.float32
    assert not (found["w"].view(np.uint32) & 0xFFFF).any()
    assert np.abs(found["w"] - values).max() < 0.01
    assert found["huge"].view(np.uint32)[0] == 0x7F000000
    assert inspect(data).tensors[0].number_format == "bfloat16"


def test_arrays_need_not_be_contiguous_or_native() -> None:
    values = laplacian((8, 12))
    network = {"t": values.T, "s": values[::2, ::3], "big": values.astype(">f4"), "i": np.arange(9, dtype=">i8")[::2]}
    plain = {name: np.ascontiguousarray(a.astype(a.dtype.newbyteorder("="))) for name, a in network.items()}
    assert compress(network) == compress(plain)


def test_the_stream_does_not_depend_on_the_number_of_threads() -> None:
    network = {str(place): laplacian((place % 7 + 1, 300), place) for place in range(40)}
    assert compress(network, n_threads=1) == compress(network, n_threads=4)


def test_large_tensors_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vvc_nnr.coding.decoder.SPLIT_ELEMENTS", 1 << 10)
    rows = {"huge": 300, "large": 120, "a": 40, "b": 40, "c": 40, "small": 2}
    network = {name: laplacian((n, 64), place) for place, (name, n) in enumerate(rows.items())}
    data = compress(network, scan_order=1)
    tensors = read_stream(data).tensors
    split = {n: [tensors[place].name for place in _split_tensors(tensors, n)] for n in (1, 2, 3)}
    assert split == {1: [], 2: ["huge"], 3: ["huge", "large"]}
    alone = decompress(data, n_threads=1)
    for n_threads in (2, 3):
        decoded = decompress(data, n_threads=n_threads)
        assert [*decoded] == [*rows]
        assert all(np.array_equal(decoded[name], alone[name]) for name in rows)


def test_metadata_travels_along() -> None:
    metadata = {"architecture": "résumé", "zero": "a\0b"}
    assert inspect(compress(NETWORK, metadata=metadata)).metadata == metadata
    with pytest.raises(InputError, match="metadata"):
        compress(NETWORK, metadata={"n": 3})  # type: ignore[dict-item]


def test_no_tensors_at_all() -> None:
    assert decompress(compress({})) == {}


def test_progress_ends_with_all_values() -> None:
    calls: list[tuple[int, int]] = []
    data = compress(NETWORK, progress=lambda done, total: calls.append((done, total)))
    n_values = sum(int(np.size(array)) for array in NETWORK.values())
    assert calls[-1] == (n_values, n_values)
    decompress(data, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]


def test_the_limit_holds_before_anything_is_decoded() -> None:
    data = compress({"w": np.zeros((1000, 1000), np.float32)})
    with pytest.raises(BitstreamError, match="max_elements"):
        decompress(data, max_elements=999_999)
    assert decompress(data, max_elements=1_000_000)["w"].shape == (1000, 1000)


def without_manifest(data: bytes) -> bytes:
    """The stream with the topology unit that other encoders write."""
    topology = read_stream(data).units[2]
    start, end = topology.offset_bytes, topology.offset_bytes + topology.size_bytes
    return data[:start] + bytes.fromhex("00060e000000") + data[end:]


def test_a_stream_without_manifest_decodes_and_says_so() -> None:
    data = compress({"w": laplacian((5, 6))})
    bare = without_manifest(data)
    assert inspect(data).is_verifiable
    assert not inspect(bare).is_verifiable
    assert np.array_equal(decompress(bare)["w"], decompress(data)["w"])


def test_inspection_counts_every_byte() -> None:
    data = compress(NETWORK, qp=-32)
    report = inspect(data, NETWORK, bins=True)
    assert sum(unit.size_bytes for unit in report.units) == report.size_bytes == len(data)
    weight = report.tensors[0]
    assert (weight.name, weight.qp, weight.step, weight.dq, weight.shape) == ("a.weight", -32, 2.0**-8, True, (24, 9))
    assert sum(weight.bin_bits.values()) == pytest.approx(8 * (weight.size_bytes - weight.header_bytes))
    assert weight.mse is not None
    assert 0 < weight.mse < weight.step**2
    assert [tensor.number_format for tensor in report.tensors[2:]] == [
        "int64",
        "int64",
        "float16",
        "float32",
        "float64",
    ]


def test_unsupported_units_are_named_or_skipped() -> None:
    data = compress({"w": laplacian((5, 6))})
    topology = read_stream(data).units[2]
    bare = (
        data[: topology.offset_bytes]
        + bytes.fromhex("00060e000000")
        + data[topology.offset_bytes + topology.size_bytes :]
    )
    extended = bare + bytes.fromhex("00041a00")
    with pytest.raises(UnsupportedError, match="type 6"):
        decompress(extended)
    assert list(decompress(extended, skip_unsupported=True)) == ["w"]
    assert inspect(extended).skipped


def test_importing_is_quick_and_takes_no_torch() -> None:
    code = "import sys, vvc_nnr, vvc_nnr.compress; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("density", range(8))
def test_steps_and_qps_are_inverse(density: int) -> None:
    low, high = qp_limits(density)
    for qp in range(low, high + 1):
        step = step_size(qp, density)
        assert np.float32(step) == step
        assert qp_of_step(step, density) == qp
        assert qp_of_step(step * 1.000001, density) == min(qp + 1, high)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_error_of_every_width_is_told(dtype: str) -> None:
    network = {"w": np.random.default_rng(0).normal(size=(64, 64)).astype(dtype)}
    (tensor,) = inspect(compress(network), original=network).tensors
    assert tensor.snr_db is not None
    assert 14 < tensor.snr_db < 80
