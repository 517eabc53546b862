"""Network files: golden bytes, round trips, sizes, and what other people's bytes may do."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vvc_nnr import files
from vvc_nnr.bitstream.number_formats import FloatBits, number_format_of, shape_of
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.model.container import container_bytes, float32_size, parse_container, stored_array
from vvc_nnr.model.safetensors import (
    UNIFORM_KEY,
    StoredRange,
    UniformMetadata,
    describe_network,
    float_bytes,
    metadata_from_json,
    metadata_to_json,
    parse_exact,
    parse_network,
    read_network,
    uniform_bytes,
    write_exact,
    write_float,
    write_uniform,
)
from vvc_nnr.quantize.uniform import quantize_uniform

KEY = "vvc_nnr.uniform"
SMALL = {
    "conv.weight": np.array([[-0.5, 0.25], [0.0, 1.0]], np.float32),
    "conv.bias": np.array([0.1, -0.2], np.float32),
    "steps": np.array([7, -1], np.int64),
    "frozen": np.array(True),
}
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TENSORS = st.one_of(
    hnp.arrays(np.float32, SHAPES, elements=FLOATS),
    hnp.arrays(np.int64, SHAPES),
    hnp.arrays(np.uint8, SHAPES),
    hnp.arrays(np.bool_, SHAPES),
)


def container(entries, metadata=None, data=b"\0" * 64):
    """A safetensors file from raw header entries, to lie with."""
    header = dict(entries)
    if metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def quantised(uniform, *, dtype="U8", shape=(2,), n_bytes=2):
    """A file of one tensor `w` whose quantisation metadata is the given string."""
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [0, n_bytes]}
    return container({"w": entry}, {KEY: uniform}, b"\0" * n_bytes)


def uniform_json(**changes):
    content = {"version": 1, "bits": 8, "biases": "quantised", "tensors": {"w": [-1, 1]}}
    return json.dumps(content | changes)


def inloop_like_network(seed=0):
    """A 3x3 network of seven layers and about 200 k parameters, as the use-case paper's."""
    rng = np.random.default_rng(seed)
    widths = [6, 70, 70, 70, 70, 70, 70, 4]
    tensors = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        tensors[f"layers.{layer}.weight"] = rng.normal(0, 0.05, (n_out, n_in, 3, 3)).astype(np.float32)
        tensors[f"layers.{layer}.bias"] = rng.normal(0, 0.01, n_out).astype(np.float32)
    return tensors


def test_golden_bytes_of_an_eight_bit_file():
    data = uniform_bytes(SMALL, {"architecture": "test"})
    header = (
        b'{"__metadata__":{"architecture":"test","vvc_nnr.uniform":"{\\"version\\":1,\\"bits\\":8,'
        b'\\"biases\\":\\"quantised\\",\\"tensors\\":{\\"conv.bias\\":[-0.2,0.1],'
        b'\\"conv.weight\\":[-0.5,1.0]}}"},"conv.weight":{"dtype":"U8","shape":[2,2],"data_offsets":[16,20]},'
        b'"conv.bias":{"dtype":"U8","shape":[2],"data_offsets":[20,22]},'
        b'"steps":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},'
        b'"frozen":{"dtype":"BOOL","shape":[],"data_offsets":[22,23]}}'
    )
    header += b" " * (-len(header) % 8)
    body = (7).to_bytes(8, "little") + b"\xff" * 8 + bytes([0, 128, 85, 255, 255, 0, 1])
    assert data == len(header).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(
    ("bits", "biases", "sha256"),
    [
        (5, "quantised", "cefe92071f6ec40a"),
        (5, "float", "e94086eca0349464"),
        (16, "quantised", "bba66740c630b7b9"),
    ],
)
def test_golden_hashes_of_other_depths(bits, biases, sha256):
    assert hashlib.sha256(uniform_bytes(SMALL, {}, bits, biases)).hexdigest()[:16] == sha256


def test_our_float_file_is_what_the_library_reads():
    data = float_bytes(SMALL, {"b": "2", "a": "1", "z": "\u2026"})
    loaded = safetensors.numpy.load(data)
    assert loaded.keys() == SMALL.keys()
    for name, tensor in SMALL.items():
        np.testing.assert_array_equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_the_library_reads_our_metadata(tmp_path):
    path = tmp_path / "a.safetensors"
    write_uniform(path, SMALL, {"architecture": "x", "quote": '"\\\n'})
    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata()
        assert metadata["quote"] == '"\\\n'
        assert json.loads(metadata[KEY])["tensors"]["conv.weight"] == [-0.5, 1.0]
        assert file.get_tensor("conv.weight").dtype == np.uint8


def test_we_read_what_the_library_writes():
    stored = parse_network(safetensors.numpy.save(SMALL, {"a": "1"}))
    assert stored.metadata == {"a": "1"}
    assert (stored.bits, stored.biases) == (None, None)
    for name, tensor in SMALL.items():
        np.testing.assert_array_equal(stored.tensors[name], tensor)


def test_bytes_by_which_networks_are_told_do_not_depend_on_the_order_of_anything():
    reverse = dict(reversed(list(SMALL.items())))
    assert float_bytes(SMALL, {"a": "1", "b": "2"}) == float_bytes(reverse, {"b": "2", "a": "1"})
    assert uniform_bytes(SMALL, {"a": "1", "b": "2"}) == uniform_bytes(SMALL, {"b": "2", "a": "1"})


def test_tensors_come_in_their_order(tmp_path):
    """Not in that of their names; the library has those of one number format in it, and lays others apart."""
    names = ["z", "conv.10", "conv.2", "b", "a"]
    tensors = {name: np.full(place + 1, place, np.float32) for place, name in enumerate(names)}
    mixed = {"half": np.ones(3, np.float16), **tensors, "counts": np.arange(2), "flag": np.array(True)}
    for number, (write, own) in enumerate([(write_exact, tensors), (write_exact, mixed), (write_float, mixed)]):
        path = tmp_path / f"{number}.safetensors"
        write(path, own, {"k": "v"})
        assert list(parse_network(path.read_bytes()).tensors) == list(own)
        for load in (safetensors.numpy.load_file, safetensors.torch.load_file):
            loaded = load(path)
            assert [name for name in loaded if name in tensors] == names
            assert all(np.array_equal(loaded[name], own[name]) for name in own)
        with safetensors.safe_open(path, framework="np") as file:
            sizes = [file.get_tensor(name).itemsize for name in file.offset_keys()]
        assert sizes == sorted(sizes, reverse=True)  # each is aligned
    path.write_bytes(uniform_bytes(mixed, {}, 8))
    assert list(read_network(path).tensors) == list(mixed)


@given(
    tensors=st.dictionaries(NAMES, TENSORS, max_size=4),
    metadata=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), st.text(max_size=8), max_size=2),
    bits=st.integers(1, 16),
    biases=st.sampled_from(["quantised", "float"]),
)
def test_uniform_round_trip(tensors, metadata, bits, biases):
    try:
        json.dumps(metadata, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(InputError, match="no Unicode text"):
            uniform_bytes(tensors, metadata, bits, biases)
        return
    data = uniform_bytes(tensors, metadata, bits, biases)
    stored = parse_network(data)
    assert (stored.metadata, stored.bits, stored.biases) == (metadata, bits, biases)
    assert stored.n_bytes == len(data)
    assert stored.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        keeps = tensor.dtype.kind != "f" or (biases == "float" and tensor.ndim <= 1 and name.endswith("bias"))
        expected = tensor if keeps else quantize_uniform(tensor, bits).dequantize()
        assert stored.tensors[name].dtype == expected.dtype
        np.testing.assert_array_equal(stored.tensors[name], expected)


@pytest.mark.parametrize("name", ["bias", "conv.bias", "a_bias"])
def test_float_biases_are_exact_and_only_those(name):
    values = np.array([0.1, 0.7, -3.3], np.float32)
    tensors = {name: values, "bias.weight": values, "conv2.bias": np.stack([values, -values / 3])}
    stored = parse_network(uniform_bytes(tensors, {}, 4, "float"))
    np.testing.assert_array_equal(stored.tensors[name], values)
    for other in ("bias.weight", "conv2.bias"):
        expected = quantize_uniform(tensors[other], 4).dequantize()
        assert not np.array_equal(expected, tensors[other])
        np.testing.assert_array_equal(stored.tensors[other], expected)


@given(value=FLOATS)
def test_range_survives_its_decimal_form(value):
    stored = parse_network(uniform_bytes({"w": np.array([value], np.float32)}, {}))
    assert stored.tensors["w"].tobytes() == (np.array([value], np.float32) + np.float32(0)).tobytes()


def test_size_ratio_reaches_the_papers_figure():
    tensors = inloop_like_network()
    n_parameters = sum(t.size for t in tensors.values())
    assert 190_000 < n_parameters < 240_000
    n_float, n_quantised = len(float_bytes(tensors, {})), len(uniform_bytes(tensors, {}))
    assert n_float / n_quantised >= 3.83
    assert len(uniform_bytes(tensors, {}, 8, "float")) < n_quantised + 4 * 450


@pytest.mark.parametrize("bits", [1, 3, 5, 7, 12, 15])
def test_packed_sizes(bits):
    weights = np.linspace(-1, 1, 1001, dtype=np.float32)
    data = uniform_bytes({"w": weights}, {}, bits)
    header_bytes = int.from_bytes(data[:8], "little")
    assert len(data) == 8 + header_bytes + -(-1001 * bits // 8)


def test_other_float_types_become_float32():
    halves = np.array([0.5, 65504.0], np.float16)
    doubles = np.array([0.1, 3e38])
    stored = parse_network(float_bytes({"h": halves, "d": doubles}, {}))
    assert {t.dtype for t in stored.tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(stored.tensors["h"], halves)
    np.testing.assert_array_equal(stored.tensors["d"], doubles.astype(np.float32))


def test_half_double_and_bfloat16_files_are_read():
    data = np.array([1.5, -2.0], "<f2").tobytes() + np.array([0.1], "<f8").tobytes() + b"\x80\x3f"
    entries = {
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "d": {"dtype": "F64", "shape": [1], "data_offsets": [4, 12]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [12, 14]},
    }
    stored = parse_network(container(entries, data=data))
    assert stored.tensors["h"].tolist() == [1.5, -2.0]
    assert stored.tensors["d"].tolist() == [float(np.float32(0.1))]
    assert stored.tensors["b"].shape == ()
    assert float(stored.tensors["b"]) == 1.0
    assert {t.dtype for t in stored.tensors.values()} == {np.dtype(np.float32)}


def test_big_endian_and_strided_arrays_are_stored_by_value():
    values = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    stored = parse_network(uniform_bytes({"i": values, "f": values.astype(">f4").T}, {}, 16))
    assert stored.tensors["i"].tolist() == values.tolist()
    np.testing.assert_allclose(stored.tensors["f"], values.T, atol=11 / 65535)


def test_describe(tmp_path):
    path = tmp_path / "a.safetensors"
    write_uniform(path, SMALL | {"empty": np.zeros((0, 2), np.float32)}, {}, 4, "float")
    rows = {t.name: (t.shape, t.dtype, t.bits, t.n_bytes) for t in describe_network(path)}
    assert rows == {
        "conv.bias": ((2,), "F32", 32, 8),
        "conv.weight": ((2, 2), "U8", 4, 2),
        "empty": ((0, 2), "U8", 4, 0),
        "frozen": ((), "BOOL", 8, 1),
        "steps": ((2,), "I64", 64, 16),
    }
    ends = {t.name: (t.minimum, t.maximum) for t in describe_network(path)}
    assert ends["conv.weight"] == (-0.5, 1.0)
    assert ends["steps"] == (-1.0, 7.0)
    assert ends["empty"] == (None, None)


def test_describe_doubles_beyond_float32(tmp_path):
    path = tmp_path / "a.safetensors"
    write_exact(path, {"w": np.array([1.0, 1e300])}, {})
    (tensor,) = describe_network(path)
    assert (tensor.dtype, tensor.maximum) == ("F64", 1e300)
    with pytest.raises(UnsupportedError, match=r"beyond float32: a \.nnc file keeps them"):
        read_network(path)


def test_the_size_as_float32_is_that_of_the_file():
    halves = SMALL | {"half": np.ones((2, 3), np.float16), "double": np.ones(3)}
    for tensors, metadata in ((SMALL, {}), (halves, {"a": "b"}), ({}, {})):
        assert float32_size(tensors, metadata) == len(float_bytes(tensors, metadata))
    brain = FloatBits(np.zeros(3, np.uint16), "bfloat16")
    assert float32_size({"w": brain}, {}) == float32_size({"w": np.zeros(3)}, {})


@pytest.mark.parametrize(
    ("tensors", "metadata", "options", "message"),
    [
        ({"w": np.array([1.0, np.nan], np.float32)}, {}, (), "tensor w: 1 of 2 values are NaN"),
        ({"w": np.array([1e300])}, {}, (), "tensor w: 1 of 1 values"),
        ({"w": np.array([1j])}, {}, (), "tensor w: complex128 cannot be stored"),
        ({"w": np.array(["a"])}, {}, (), "tensor w: <U1 cannot be stored"),
        ({"__metadata__": np.zeros(1, np.float32)}, {}, (), "rename it"),
        ({}, {KEY: "x"}, (), "reserved"),
        ({}, {"a": 1}, (), "strings to strings"),
        ({}, {}, (0,), "0 bits"),
        ({}, {}, (17,), "17 bits"),
        ({}, {}, (8, "none"), "biases 'none'"),
    ],
)
def test_what_cannot_be_written(tensors, metadata, options, message):
    with pytest.raises(InputError, match=message):
        uniform_bytes(tensors, metadata, *options)


def test_float_file_of_too_large_values():
    with pytest.raises(InputError, match="tensor w has a value beyond float32"):
        float_bytes({"w": np.array([1e300, np.inf])}, {})
    assert np.isinf(parse_network(float_bytes({"w": np.array([np.inf])}, {})).tensors["w"]).all()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: no such file"):
        read_network(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        describe_network(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        write_float(tmp_path / "no" / "a.safetensors", SMALL, {})


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"12345678")
    with pytest.raises(BitstreamError, match=r"bad\.safetensors: no safetensors file"):
        read_network(path)
    with pytest.raises(BitstreamError, match=r"bad\.safetensors"):
        describe_network(path)


def full_disk(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HalfWrittenFile(io.BufferedWriter):
    def write(self, data):
        super().write(data[:10])
        full_disk()


@pytest.mark.parametrize("call", ["write", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "a.safetensors"
    write_float(path, SMALL, {})
    before = path.read_bytes()
    if call == "write":
        monkeypatch.setattr(files.os, "fdopen", lambda number, mode: HalfWrittenFile(io.FileIO(number, mode)))
    else:
        monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(InputError, match=r"a\.safetensors: cannot be written: No space"):
        write_uniform(path, SMALL, {})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == before


def test_written_file_has_the_reported_size(tmp_path):
    path = tmp_path / "a.safetensors"
    assert write_uniform(path, SMALL, {}) == path.stat().st_size == read_network(path).n_bytes
    assert write_float(path, SMALL, {}) == path.stat().st_size


def test_unchanged_lie_detector_accepts_the_truth():
    assert parse_network(quantised(uniform_json())).tensors["w"].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("uniform", "layout", "message"),
    [
        ("[]", {}, "no version"),
        ("{", {}, "no JSON"),
        ("[" * 100_000, {}, "no JSON"),
        ('{"version":1,"version":1}', {}, "stands twice"),
        (uniform_json(bits=0), {}, "0 bits"),
        (uniform_json(bits=17), {}, "17 bits"),
        (uniform_json(bits=True), {}, "bits is True"),
        (uniform_json(bits=8.0), {}, "bits is 8.0"),
        (uniform_json(bits=None), {}, "bits is None"),
        (uniform_json(biases="some"), {}, "biases is 'some'"),
        (uniform_json(biases=[]), {}, "biases is"),
        (uniform_json(tensors=[]), {}, "tensors is list"),
        (uniform_json(tensors={"v": [0, 1]}), {}, "a range for v"),
        (uniform_json(tensors={"w": [0]}), {}, "must be"),
        (uniform_json(tensors={"w": [0, 1, [2]]}), {}, "must be"),
        (uniform_json(tensors={"w": 5}), {}, "must be"),
        (uniform_json(tensors={"w": ["0", "1"]}), {}, "no pair of numbers"),
        (uniform_json(tensors={"w": [False, True]}), {}, "no pair of numbers"),
        (uniform_json(tensors={"w": [float("nan"), 1]}), {}, "finite"),
        (uniform_json(tensors={"w": [0, float("inf")]}), {}, "finite"),
        (uniform_json(tensors={"w": [-1e39, 0]}), {}, "finite"),
        (uniform_json(tensors={"w": [0, 10**400]}), {}, "401 digits"),
        (uniform_json(tensors={"w": [1, 0]}), {}, "ordered"),
        (uniform_json(), {"dtype": "I8"}, "must be U8"),
        (uniform_json(bits=16), {}, "must be U16"),
        (uniform_json(), {"dtype": "F32", "shape": (), "n_bytes": 4}, "must be U8"),
        (uniform_json(tensors={}), {"dtype": "F32", "shape": (), "n_bytes": 4}, "float in a quantised file"),
        (uniform_json(bits=3, tensors={"w": [0, 1]}), {}, "shape"),
        (uniform_json(bits=3, tensors={"w": [0, 1, 4]}), {}, "no list"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [1] * 65]}), {}, "no list of at most 64"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [-1]]}), {}, "no integer"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [4.0]]}), {}, "no integer"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [2**48]]}), {}, "no integer"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [6]]}), {}, r"need \(3,\)"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [2**40, 2**40]]}), {}, "need"),
        (uniform_json(bits=3, tensors={"w": [0, 1, [5]]}), {"shape": (1, 2)}, "need"),
    ],
)
def test_metadata_that_does_not_fit(uniform, layout, message):
    with pytest.raises(BitstreamError, match=message):
        parse_network(quantised(uniform, **layout))


def test_filling_bits_must_be_zero():
    data = quantised(uniform_json(bits=3, tensors={"w": [0, 1, [5]]}))
    assert parse_network(data).tensors["w"].tolist() == [0.0] * 5
    with pytest.raises(BitstreamError, match="fill the last byte"):
        parse_network(data[:-1] + b"\x01")


def test_a_newer_version_is_unsupported():
    with pytest.raises(UnsupportedError, match="version 3: only 1 and 2 are read"):
        parse_network(quantised(uniform_json(version=3)))


@pytest.mark.parametrize(
    ("dtype", "shape", "n_bytes", "error"),
    [
        ("F4", [4], 2, UnsupportedError),
        ("C64", [1], 8, UnsupportedError),
        ("U8", [0, 2**63], 0, UnsupportedError),
        ("U8", [0] * 65, 0, UnsupportedError),
        ("U8", [2**40], 2, BitstreamError),
        ("F32", [2], 2, BitstreamError),
    ],
)
def test_shapes_and_types_that_cannot_be(dtype, shape, n_bytes, error):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}
    with pytest.raises(error):
        parse_network(container({"w": entry}, data=b"\0" * n_bytes))


def test_bool_that_is_neither_and_double_beyond_float32():
    with pytest.raises(BitstreamError, match="not 0 or 1"):
        parse_network(container({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, data=b"\2"))
    entry = {"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}
    with pytest.raises(UnsupportedError, match="beyond float32"):
        parse_network(container(entry, data=np.array([1e300]).tobytes()))


@pytest.mark.parametrize("bits", [3, 8, None])
def test_every_truncation_and_bit_flip_ends_in_a_network_or_our_errors(bits):
    data = float_bytes(SMALL, {"a": "b"}) if bits is None else uniform_bytes(SMALL, {"a": "b"}, bits, "float")
    n_read = 0
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            parse_network(data[:size])
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            stored = parse_network(bytes(flipped))
        except (BitstreamError, UnsupportedError):
            continue
        n_read += 1
        assert all(t.dtype.kind in "fiub" for t in stored.tensors.values())
    assert 0 < n_read < 8 * len(data)


@given(data=st.binary(max_size=200))
def test_random_bytes_end_in_our_errors(data):
    for candidate in (data, len(data).to_bytes(8, "little") + data):
        with pytest.raises((BitstreamError, UnsupportedError)):
            parse_network(candidate)


@given(
    uniform=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "bits", "biases", "tensors", "exact", "w"]), inner, max_size=5
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_in_the_metadata_ends_in_our_errors(uniform):
    try:
        stored = parse_network(quantised(json.dumps(uniform)))
    except (BitstreamError, UnsupportedError):
        return
    assert stored.bits is not None


def read_of(data: bytes) -> dict[str, np.ndarray]:
    return parse_network(data).tensors


class TestRanges:
    """Of rows, beside those of tensors."""

    def rows(self) -> np.ndarray:
        scales = 10.0 ** np.random.default_rng(1).uniform(-4, 2, (32, 1))
        return (np.random.default_rng(0).normal(size=(32, 40)) * scales).astype(np.float32)

    @pytest.mark.parametrize("bits", [1, 4, 8, 11, 16])
    def test_rows_of_unlike_scale_keep_their_own_precision(self, bits: int) -> None:
        rows, network = self.rows(), {"w": self.rows(), "k": self.rows().reshape(32, 5, 2, 4), "v": self.rows()[0]}
        restored = parse_network(uniform_bytes(network, {"a": "b"}, bits, ranges="row"))
        assert restored.metadata == {"a": "b"}
        step = (rows.max(1) - rows.min(1)) / ((1 << bits) - 1)
        for name in ("w", "k"):
            error = np.abs(restored.tensors[name] - network[name]).reshape(32, 40).max(1)
            assert (error <= 0.501 * step + 1e-9).all()
        assert restored.tensors["v"].shape == (40,)

    @pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
    @pytest.mark.parametrize("biases", ["quantised", "float"])
    @pytest.mark.parametrize("ranges", ["tensor", "row"])
    def test_number_formats_come_back(
        self, ranges: Literal["tensor", "row"], biases: Literal["quantised", "float"], bits: int
    ) -> None:
        brain = FloatBits((self.rows().view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
        plain: dict[str, Any] = {"brain": brain, "brain.bias": FloatBits(brain.bits[0], "bfloat16"), "table": brain}
        for kind in (np.float16, np.float32, np.float64):
            arrays = {"w": self.rows(), "bias": self.rows()[0], "0-d": np.float32(0.3), "table": self.rows()[1]}
            arrays |= {f"empty{shape}": np.zeros(shape, np.float32) for shape in ((0, 3), (3, 0), (0,))}
            plain |= {f"{kind.__name__}.{name}": np.asarray(array).astype(kind) for name, array in arrays.items()}
        exact = [name for name in plain if name.endswith("table")]
        restored, _, _ = parse_exact(uniform_bytes(plain, {}, bits, biases, ranges, exact))
        found = {name: (number_format_of(name, tensor), shape_of(tensor)) for name, tensor in restored.items()}
        assert found == {name: (number_format_of(name, tensor), shape_of(tensor)) for name, tensor in plain.items()}
        kept = [*exact, *(name for name in plain if name.endswith("bias") and biases == "float")]
        for name in kept:
            values, wanted = restored[name], plain[name]
            both = (getattr(each, "bits", each) for each in (values, wanted))
            assert np.array_equal(*both)

    def test_doubles_stay_doubles(self, tmp_path: Path) -> None:
        path = tmp_path / "double.safetensors"
        tensors = {"plain": self.rows(), "double": self.rows().astype(np.float64), "double.bias": np.linspace(0, 1, 5)}
        path.write_bytes(uniform_bytes(tensors, {}, ranges="row"))
        restored, _, _ = parse_exact(path.read_bytes())
        assert {name: restored[name].dtype for name in tensors} == {name: tensors[name].dtype for name in tensors}
        assert np.array_equal(restored["double"], restored["plain"])
        assert all(tensor.dtype == np.float32 for tensor in read_network(path).tensors.values())

    def test_half_floats_stay_half_floats(self, tmp_path: Path) -> None:
        half, path = self.rows().astype(np.float16), tmp_path / "half.safetensors"
        brain = FloatBits((self.rows().view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
        path.write_bytes(uniform_bytes({"half": half, "brain": brain, "plain": self.rows()}, {}, ranges="row"))
        tensors, _, _ = parse_exact(path.read_bytes())
        assert isinstance(tensors["half"], np.ndarray)
        assert tensors["half"].dtype == np.float16
        assert isinstance(tensors["brain"], FloatBits)
        assert np.asarray(tensors["plain"]).dtype == np.float32
        assert np.array_equal(read_network(path).tensors["half"], tensors["half"].astype(np.float32))

    def test_files_of_the_papers_are_as_they_were(self) -> None:
        assert rb"version\":1" in uniform_bytes({"w": self.rows()}, {})
        assert rb"version\":2" in uniform_bytes({"w": self.rows()}, {}, ranges="row")
        assert uniform_bytes({"v": self.rows()[0]}, {}, ranges="row") == uniform_bytes({"v": self.rows()[0]}, {})

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ('"w":["', '"w":["!', "no base64"),
            ('"w":["AAAA', '"w":["', "bytes, must be 8 for each"),
            ('"formats":{}', '"formats":{"w":"F8"}', "must map tensors to F16 or BF16 or F64"),
            ('"formats":{}', '"formats":{"x":"F16"}', "a format of x"),
            ('"formats":{}', '"formats":[]', "must map"),
            ('"version":2', '"version":1', "must be [minimum, maximum]"),
        ],
    )
    def test_damage_is_told(self, old: str, new: str, words: str) -> None:
        ranges = np.zeros((2, 2), np.float32)
        network = {"w": np.zeros((2, 3), np.float32)}
        stored = StoredRange(0.0, 0.0, None, ranges)
        text = metadata_to_json(UniformMetadata(8, "quantised", {"w": stored}))
        assert parse_network(uniform_bytes(network, {}, ranges="row")).tensors["w"].any() == np.False_
        with pytest.raises(BitstreamError) as raised:
            metadata_from_json(text.replace(old, new))
        assert words in str(raised.value)

    @pytest.mark.parametrize("ranges", ["tensor", "row"])
    def test_what_must_be_exact_comes_back_bit_for_bit(self, ranges: Literal["tensor", "row"]) -> None:
        mask = np.array([[0.0, -np.inf], [1 / 3, 0.0]], np.float32)
        network = {"w": self.rows(), "table": np.geomspace(0.11, 256, 64, dtype=np.float32), "mask": mask}
        network["ternary"] = np.array([[-1, 0, 1], [1, 1, 0]], np.float32)
        network["halves"] = np.array([0, 255, 3], np.float16)
        data = uniform_bytes(network, {}, ranges=ranges, exact=network.keys() - {"w"})
        restored, _, _ = parse_exact(data)
        for name in network.keys() - {"w"}:
            assert np.asarray(restored[name], network[name].dtype).tobytes() == network[name].tobytes()
            assert read_of(data)[name].dtype == np.float32
        assert not np.array_equal(np.asarray(restored["w"]), network["w"])
        metadata = metadata_from_json(parse_container(data)[1][UNIFORM_KEY])
        assert metadata.exact == {"table", "mask", "ternary"}, "levels of whole numbers up to 255 give every bit"
        for old, new in (('"mask"', '"w"'), ('"mask"', "3"), ('["mask","table","ternary"]', "{}")):
            with pytest.raises(BitstreamError, match="exact"):
                metadata_from_json(metadata_to_json(metadata).replace(old, new, 1))

    def test_a_name_of_no_float_tensor_cannot_be_exact(self) -> None:
        text = metadata_to_json(UniformMetadata(8, "quantised", {}, exact=frozenset({"i"})))
        for tensors in ({}, {"i": np.arange(3)}):
            with pytest.raises(BitstreamError, match="names i as exact, the file has no such float tensor"):
                parse_network(container_bytes(tensors, {UNIFORM_KEY: text}))

    def test_ranges_of_other_rows_are_told(self) -> None:
        data = uniform_bytes({"w": self.rows()}, {}, ranges="row")
        raw, metadata = parse_container(data)
        found = metadata_from_json(metadata[UNIFORM_KEY])
        fewer = replace(found.ranges["w"], rows=found.ranges["w"].rows[:31])  # type: ignore[index]
        text = metadata_to_json(replace(found, ranges={"w": fewer}))
        other = container_bytes({"w": stored_array("w", raw["w"])}, {UNIFORM_KEY: text})
        with pytest.raises(BitstreamError, match="ranges of 31 rows"):
            parse_network(other)


@pytest.mark.parametrize("huge", [1e9, np.inf])
def test_outliers_of_a_vector_do_not_set_its_step(huge):
    bias = np.random.default_rng(4).normal(0, 0.1, 300).astype(np.float32)
    bias[7] = huge
    found = parse_network(uniform_bytes({"a.bias": bias}, {}, ranges="row"))
    np.testing.assert_array_equal(found.tensors["a.bias"], bias)
