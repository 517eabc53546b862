"""Tensors without loss: every form gives every bit back, is small where it should be, and notices damage."""

from __future__ import annotations

import lzma
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vvc_nnr import _kernels
from vvc_nnr.bitstream.manifest import RawKind
from vvc_nnr.bitstream.number_formats import FloatBits, in_format
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.exact_forms import (
    KINDS,
    SAMPLE,
    bits_of,
    bits_of_form,
    estimated_bytes,
    exact_form,
    may_repeat,
    with_outliers,
)
from vvc_nnr.compress import compress, decompress
from vvc_nnr.errors import BitstreamError

FORMATS = {"float16": "u2", "bfloat16": "u2", "float32": "u4", "float64": "u8"}
RANDOM = np.random.default_rng(18)


def trained(n: int = 60_000) -> Any:
    return (RANDOM.standard_t(8, n) * 0.02).astype(np.float32)


def as_format(values: Any, number_format: str) -> Any:
    if number_format == "bfloat16":
        return FloatBits((values.view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
    return values.astype(number_format)


@settings(max_examples=60, deadline=None)
@given(
    number_format=st.sampled_from(sorted(FORMATS)),
    kind=st.sampled_from(KINDS),
    values=st.data(),
)
def test_any_bits_come_back(number_format: str, kind: RawKind, values: Any) -> None:
    dtype = np.dtype(FORMATS[number_format])
    bits = values.draw(
        hnp.arrays(dtype, st.integers(1, 40), elements=st.sampled_from([0, 1, 1 << 8 * dtype.itemsize - 1, 0x3C00]))
        | hnp.arrays(dtype, st.integers(1, 40))
    )
    form = exact_form(bits, kind, number_format)
    assert form is not None
    integers = np.zeros(1, np.int32) if form.integers is None else form.integers
    again = bits_of_form(form.kind, form.raw, integers, number_format, len(bits))
    assert again.tobytes() == bits.tobytes()


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("zeros", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("signed", [False, True])
def test_sparse_floats_of_more_than_one_part_come_back(number_format: str, zeros: float, signed: bool) -> None:
    values = trained(2 * SAMPLE + 13)
    values = np.where(RANDOM.random(len(values)) < zeros, np.float32(0), values)
    if signed:
        values *= np.where(RANDOM.random(len(values)) < 0.5, -1, 1).astype(np.float32)
    bits = bits_of(as_format(values, number_format))
    form = exact_form(bits, "split", number_format)
    assert form is not None
    assert form.integers is not None
    assert bits_of_form("split", form.raw, form.integers, number_format, len(bits)).tobytes() == bits.tobytes()
    kept = 1 - zeros if zeros > 0.1 else 1
    n_bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 24}[number_format]
    assert len(form.raw) <= len(bits) * (kept * n_bits + (0 if kept == 1 else zeros)) / 8 * 1.02 + 32


@pytest.mark.parametrize(("number_format", "most"), [("float32", 0.85), ("float16", 0.86), ("bfloat16", 0.68)])
def test_trained_floats_take_their_mantissas_and_little_more(number_format: str, most: float) -> None:
    array = as_format(trained(120_000), number_format)
    plain = bits_of(array)
    data = compress({"w": array}, lossless=True)
    assert len(data) <= most * plain.nbytes
    found = decompress(data)["w"]
    again = found.view(np.uint32) >> 16 if number_format == "bfloat16" else bits_of(found)
    assert np.array_equal(again, plain)


REPEATED: dict[str, Any] = {
    "palette": RANDOM.normal(0, 0.1, 16).astype(np.float32)[RANDOM.integers(0, 16, (300, 500))],
    "positions": np.arange(49)[:, None] * 2 - np.arange(49)[None, :] + 48 + np.zeros((4, 49, 49), int),
    "bytes": np.clip(np.rint(trained() * 1000), -127, 127).astype(np.int8),
    "flags": RANDOM.random(40_000) < 0.03,
    "wide": RANDOM.integers(0, 1 << 62, 5000),
    "tiles": np.tile(trained(1000), 40),
    "narrow": trained().astype(np.float16).astype(np.float32),
}


@pytest.mark.parametrize("name", REPEATED)
def test_nothing_is_larger_than_xz_or_the_values_as_they_are(name: str) -> None:
    values = REPEATED[name]
    data = compress({"t": values}, lossless=True)
    found = decompress(data)["t"]
    assert (found.dtype, found.shape, found.tobytes()) == (values.dtype, values.shape, values.tobytes())
    overhead = 220  # of the stream: units, names, manifest
    assert len(data) <= min(len(lzma.compress(values.tobytes(), preset=9)), values.nbytes) + overhead


def test_short_vectors_do_not_grow() -> None:
    state = {f"layer{place}.bias": RANDOM.normal(size=7).astype(np.float32) for place in range(60)}
    data = compress(state, lossless=True)
    n_headers = sum(len(unit.topology_elem_id_list[0]) + 40 for t in read_stream(data).tensors for unit in t.data_units)
    assert len(data) <= 60 * 7 * 4 + n_headers + 60 * 20
    assert all(np.array_equal(decompress(data)[name], array) for name, array in state.items())


def test_constants_of_lossy_files_have_short_forms_too() -> None:
    frequencies = np.exp(-np.linspace(0, 9, 3000)).astype(np.float32)
    data = compress({"inv_freq": frequencies, "w.weight": trained(4000).reshape(40, 100)})
    assert np.array_equal(decompress(data)["inv_freq"], frequencies)
    (tensor, _) = read_stream(data).tensors
    assert tensor.raw is not None
    assert len(data) < 0.9 * frequencies.nbytes + 4000


def test_levels_that_other_decoders_read_stay_levels_in_lossy_files() -> None:
    mask = np.triu(np.full((40, 40), -1e4, np.float32), 1)
    (tensor,) = read_stream(compress({"attn_mask": mask})).tensors
    assert tensor.raw is None


INTEGERS: dict[str, Any] = {
    "around 119": np.clip(np.rint(RANDOM.laplace(119, 2, (300, 400))), 0, 255).astype(np.uint8),
    "two values": np.where(RANDOM.random((100, 200)) < 0.3, 200, 17).astype(np.uint8),
    "around -90": np.clip(np.rint(RANDOM.normal(-90, 6, (200, 200))), -128, 127).astype(np.int8),
    "few of many": RANDOM.integers(0, 1 << 30, 8).astype(np.int32)[RANDOM.integers(0, 8, (80, 90))],
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_take_no_more_than_deflate_by_default(name: str) -> None:
    values = INTEGERS[name]
    data = compress({"t": values, "w": trained(400).reshape(20, 20)})
    assert np.array_equal(decompress(data)["t"], values)
    assert len(data) < len(zlib.compress(values.tobytes(), 9)) + 1500
    assert len(data) <= 1.02 * len(compress({"t": values, "w": trained(400).reshape(20, 20)}, lossless=True))
    assert len(compress({"t": values, "w": trained(400).reshape(20, 20)}, max_bytes=len(data))) <= len(data)


def test_integers_that_other_decoders_read_as_short_stay_so() -> None:
    values = np.rint(RANDOM.laplace(0, 20, (200, 300))).clip(-127, 127).astype(np.int8)
    (tensor,) = read_stream(compress({"t": values})).tensors
    assert tensor.raw is None


def damaged_forms() -> list[tuple[RawKind, bytes, Any, str, int]]:
    bits = bits_of(trained(100))
    split, palette = exact_form(bits, "split", "float32"), exact_form(bits[:9], "palette", "float32")
    assert split is not None
    assert palette is not None
    exponents, places = split.integers, palette.integers
    assert exponents is not None
    assert places is not None
    packed = exact_form(bits, "lzma", "float32")
    assert packed is not None
    return [
        ("split", b"", exponents, "float32", 100),
        ("split", split.raw[:-1], exponents, "float32", 100),
        ("split", split.raw + b"\0", exponents, "float32", 100),
        ("split", b"\x20" + split.raw[1:], exponents, "float32", 100),
        ("split", split.raw[:1] + b"\x03" + split.raw[2:], exponents, "float32", 100),
        ("split", split.raw[:1] + b"\x02" + split.raw[2:], exponents, "float32", 100),
        ("split", split.raw, exponents + 1000, "float32", 100),
        ("split", split.raw, exponents - 1000, "float32", 100),
        ("split", split.raw, np.full(100, -(1 << 31), np.int32), "float32", 100),
        ("palette", palette.raw[:1], places, "float32", 9),
        ("palette", palette.raw[:-1], places, "float32", 9),
        ("palette", palette.raw, places + 9, "float32", 9),
        ("palette", palette.raw, places - 9, "float32", 9),
        ("bytes", bits.tobytes()[:-1], np.zeros(1, np.int32), "float32", 100),
        ("lzma", packed.raw[:-9], np.zeros(1, np.int32), "float32", 100),
        ("lzma", packed.raw, np.zeros(1, np.int32), "float32", 99),
        ("lzma", packed.raw, np.zeros(1, np.int32), "float32", 101),
        ("lzma", b"\xff" * 40, np.zeros(1, np.int32), "float32", 100),
    ]


@pytest.mark.parametrize("place", range(18))
def test_damage_is_noticed(place: int) -> None:
    kind, raw, integers, number_format, n = damaged_forms()[place]
    with pytest.raises(BitstreamError, match="the raw unit"):
        bits_of_form(kind, raw, integers, number_format, n)


@pytest.mark.parametrize(
    ("places", "end"), [([], b""), ([3], b"\0"), ([3, 3], b""), ([5, 4], b""), ([10], b""), ([(1 << 32) - 1], b"")]
)
def test_outliers_that_are_none_are_noticed(places: list[int], end: bytes) -> None:
    raw = np.array(places, "<u4").tobytes() + bytes(4 * len(places)) + end
    with pytest.raises(BitstreamError, match="the raw unit"):
        with_outliers(np.zeros(10, np.float32), raw, "float32")


@pytest.mark.parametrize("number_format", ["float32", "float16"])
def test_estimates_come_near_what_forms_take(number_format: str) -> None:
    values = np.random.default_rng(8).laplace(0, 0.03, 1 << 14).astype(number_format)
    split = exact_form(bits_of(values), "split", number_format)
    assert split is not None
    coded = len(compress({"weight": values.reshape(64, 256)}, lossless=True))
    assert estimated_bytes(split) == pytest.approx(coded, rel=0.015)


@pytest.mark.parametrize("number_format", ["float32", "float16", "bfloat16"])
def test_few_different_values_take_a_palette(number_format: str) -> None:
    random = np.random.default_rng(9)
    table = random.normal(0, 0.05, 60).astype(np.float16 if number_format == "float16" else np.float32)
    values = table[random.integers(0, 60, (150, 300))]
    given = in_format(values, number_format)
    assert len(compress({"weight": given}, lossless=True)) < 6.5 / 8 * values.size + 1000


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_matrices_of_fourier_transforms_repeat_far_apart(dtype: type[np.floating[Any]]) -> None:
    angles = 2 * np.pi * np.outer(np.arange(129), np.arange(256)) / 256
    values = (np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(256)).astype(dtype)
    data = compress({"basis": values}, lossless=True)
    assert len(data) <= len(lzma.compress(values.tobytes(), preset=9)) + 64
    assert decompress(data)["basis"].tobytes() == values.tobytes()


def test_runs_that_come_again_are_seen_and_taken_by_lzma() -> None:
    random = np.random.default_rng(10)
    values = random.normal(0, 0.05, (100, 301)).astype(np.float32)
    assert not may_repeat(bits_of(values))
    repeated = np.concatenate([values] * 3)
    assert may_repeat(bits_of(repeated))
    assert (
        len(compress({"weight": repeated}, lossless=True))
        < 1.02 * len(compress({"weight": values}, lossless=True)) + 4000
    )


@pytest.mark.parametrize("n_different", [4, 16])
def test_runs_of_few_values_come_again_by_chance(n_different: int) -> None:
    random = np.random.default_rng(11)
    values = random.normal(0, 1, n_different).astype(np.float32)[random.integers(n_different, size=200_000)]
    assert not may_repeat(bits_of(values))
    assert may_repeat(bits_of(values[:100_000]))  # where LZMA takes little time
    assert may_repeat(bits_of(np.concatenate([values, values])))


def test_runs_are_counted_once_however_they_come() -> None:
    assert _kernels.chosen_runs(np.zeros(1000, np.uint16)) == (997, 1)  # all zeros are chosen
    values = np.random.default_rng(4).integers(0, 1 << 62, 30_003).astype(np.uint64)
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        once = values.astype(dtype)
        n_runs, n_different = _kernels.chosen_runs(once)
        assert 0.9 < n_runs / (30_000 / 16) < 1.1
        assert n_different > 0.99 * n_runs
        assert _kernels.chosen_runs(np.concatenate([once, once]))[1] <= n_different + 3  # but where both meet
