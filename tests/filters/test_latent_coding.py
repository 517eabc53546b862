from __future__ import annotations

import hashlib
import sys

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.filters.networks.autoencoder import LatentCoder, integer_tables

VALUES = np.arange(-127, 128)
SCALES = np.array([0.05, 0.4, 2.0, 9.0, 60.0])


def tables(scales=SCALES):
    prior = np.exp(-np.abs(VALUES) / np.asarray(scales)[:, None])
    prior /= prior.sum(axis=1, keepdims=True)
    return integer_tables(1000 * prior, prior)


def sampled(rng, n_rows=8, n_columns=8, frequencies=None):
    frequencies = tables() if frequencies is None else frequencies
    rows = [rng.choice(VALUES, n_rows * n_columns, p=f / 65536) for f in frequencies.astype(float)]
    return np.stack(rows).reshape(-1, n_rows, n_columns).astype(np.int32)


def information_bits(latent):
    chosen = np.take_along_axis(tables().astype(float), latent.reshape(len(latent), -1) + 127, axis=1)
    return float(-np.log2(chosen / 65536).sum())


def all_symbols(data, n_channels=5, n_symbols=64):
    """What constriction itself decodes, without the check of this package; None if it cannot."""
    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    models = [constriction.stream.model.Categorical(f / 65536, perfect=False) for f in tables().astype(float)]
    try:
        return [decoder.decode(model, n_symbols).tolist() for model in models[:n_channels]]
    except AssertionError:
        return None


# ---------------------------------------------------------------- tables


@given(
    counts=st.lists(st.integers(0, 10**7), min_size=5, max_size=5),
    prior=st.lists(st.floats(1e-9, 1), min_size=5, max_size=5),
)
def test_tables_are_positive_integers_that_sum_to_65536(counts, prior):
    table = integer_tables(np.array([counts], float), np.array([prior]))
    assert table.dtype == np.uint16
    assert table.min() >= 1
    assert table.sum(dtype=np.int64) == 65536


def test_tables_follow_the_counts_and_where_there_are_none_the_prior():
    prior = np.array([[0.25, 0.5, 0.25]] * 3)
    counts = np.array([[0, 0, 0], [2e6, 1e6, 1e6], [0, 1e9, 0]])
    shares = integer_tables(counts, prior) / 65536
    np.testing.assert_allclose(shares[0], prior[0], atol=1e-4)
    np.testing.assert_allclose(shares[1], [0.5, 0.25, 0.25], atol=1e-4)
    assert shares[2].tolist() == [1 / 65536, 65534 / 65536, 1 / 65536]


def test_the_prior_weighs_as_much_as_twenty_symbols():
    table = integer_tables(np.array([[0.0, 20.0]]), np.array([[1.0, 0.0]]))
    assert table.tolist() == [[32768, 32768]]


@pytest.mark.parametrize(
    ("frequencies", "reason"),
    [
        (np.zeros((4, 255), np.uint16), "positive and sum to"),
        (np.full((4, 255), 257, np.uint16), "positive and sum to"),
        (np.array([[0, 32768, 32768]], np.uint16), "positive and sum to"),
        (np.array([[1, 1, 65534], [1, 1, 65533]], np.uint16), "positive and sum to"),
        (np.array([[32768, 32768]], np.uint16), "an odd number"),
        (np.array([1, 1, 65534], np.uint16), "shape"),
    ],
)
def test_tables_of_another_kind_are_refused(frequencies, reason):
    with pytest.raises(InputError, match=reason):
        LatentCoder(frequencies)


# ---------------------------------------------------------------- bytes


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_latents_come_back(seed, n_rows, n_columns):
    latent = sampled(np.random.default_rng(seed), n_rows, n_columns)
    coder = LatentCoder(tables())
    np.testing.assert_array_equal(coder.decode(coder.encode(latent), n_rows, n_columns), latent)


@pytest.mark.parametrize("value", [-127, -1, 0, 1, 127])
def test_the_same_value_everywhere(value):
    latent = np.full((5, 8, 8), value, np.int32)
    coder = LatentCoder(tables())
    data = coder.encode(latent)
    np.testing.assert_array_equal(coder.decode(data, 8, 8), latent)
    assert len(data) * 8 <= information_bits(latent) + 8


def test_values_beyond_the_tables_are_clipped():
    coder = LatentCoder(tables())
    far = np.array([[[-(2**30), 2**30]]] * 5, np.int32)
    assert coder.decode(coder.encode(far), 1, 2)[0].tolist() == [[-127, 127]]


def test_the_bytes_of_one_latent():
    frequencies = np.array([[16384, 32768, 16384], [1, 65534, 1], [60000, 5000, 536]], np.uint16)
    latent = np.array([[[0, 1, -1, 0]], [[0, 0, 0, 0]], [[-1, -1, 0, 1]]], np.int32)
    data = LatentCoder(frequencies).encode(latent)
    assert data.hex() == "a553"
    np.testing.assert_array_equal(LatentCoder(frequencies).decode(data, 1, 4), latent)


def test_the_bytes_of_a_longer_latent():
    frequencies = np.array([1 + 4000 // (1 + (c + 1) * np.abs(VALUES)) for c in range(5)], np.int64)
    frequencies[:, 127] += 65536 - frequencies.sum(axis=1)
    latent = (np.arange(5 * 4 * 4) * 7 % 11 - 5).reshape(5, 4, 4).astype(np.int32)
    data = LatentCoder(frequencies.astype(np.uint16)).encode(latent)
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == (65, "ac8973c0805023f5")


def test_an_empty_stream_is_a_latent_too():
    frequencies = np.array([[65534, 1, 1]], np.uint16)
    coder = LatentCoder(frequencies)
    assert coder.encode(np.full((1, 2, 2), -1, np.int32)) == b""
    assert coder.decode(b"", 2, 2).tolist() == [[[-1, -1], [-1, -1]]]


def test_length_is_the_information_content():
    rng = np.random.default_rng(0)
    coder = LatentCoder(tables())
    excess_bits = []
    for _ in range(200):
        latent = sampled(rng)
        excess_bits.append(8 * len(coder.encode(latent)) - information_bits(latent))
    assert max(excess_bits) < 9
    assert np.mean(excess_bits) < 4


def test_no_shorter_bytes_hold_the_latent():
    rng = np.random.default_rng(1)
    coder = LatentCoder(tables())
    for i in range(100):
        latent = sampled(rng) if i % 2 else np.clip(sampled(rng), -1, 1)
        data = coder.encode(latent)
        expected = (latent.reshape(5, -1) + 127).tolist()
        assert all_symbols(data) == expected
        assert data[-1:] != b"\x00"
        shorter = int.from_bytes(data[:-1], "big")
        for candidate in (shorter - 1, shorter, shorter + 1):
            if 0 <= candidate < 1 << 8 * (len(data) - 1):
                assert all_symbols(candidate.to_bytes(len(data) - 1, "big")) != expected


# ---------------------------------------------------------------- damage


@given(st.binary(max_size=40))
def test_any_bytes_are_a_latent_or_a_bitstream_error(data):
    coder = LatentCoder(tables())
    try:
        latent = coder.decode(data, 3, 2)
    except BitstreamError:
        return
    assert coder.encode(latent) == data


def decoded(data, n_rows, n_columns):
    """The latent of the bytes, None if they are refused; any other exception fails the test."""
    try:
        return LatentCoder(tables()).decode(bytes(data), n_rows, n_columns)
    except BitstreamError:
        return None


def test_one_latent_has_one_stream():
    coder = LatentCoder(tables())
    for seed in range(20):
        latent = sampled(np.random.default_rng(seed), 4, 4)
        data = coder.encode(latent)
        flips = [int.from_bytes(data, "big") ^ 1 << bit for bit in range(8 * len(data))]
        damaged = [data[:n] for n in range(len(data))]
        damaged += [flip.to_bytes(len(data), "big") for flip in flips]
        damaged += [data + extra for extra in (b"\x00", b"\x01", b"\x80", b"\xff", bytes(4), b"abcdefgh")]
        for each in damaged:
            other = decoded(each, 4, 4)
            assert other is None or (other != latent).any()


@given(st.binary(max_size=40))
def test_zero_bytes_at_the_end_are_an_error(data):
    with pytest.raises(BitstreamError):
        LatentCoder(tables()).decode(data.rstrip(b"\x00") + b"\x00", 3, 2)


def test_bytes_behind_the_latent_are_an_error():
    coder = LatentCoder(tables())
    data = coder.encode(sampled(np.random.default_rng(2)))
    for extra in (b"\x80", b"abcdefgh", bytes(100) + b"\x01"):
        with pytest.raises(BitstreamError, match="not those of any latent"):
            coder.decode(data + extra, 8, 8)


def test_a_smaller_size_than_was_coded():
    coder = LatentCoder(tables())
    data = coder.encode(sampled(np.random.default_rng(4)))
    for size in ((8, 4), (1, 1), (7, 8)):
        with pytest.raises(BitstreamError, match="not those of any latent"):
            coder.decode(data, *size)


def test_without_constriction_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match="need the package constriction: pip install constriction"):
        LatentCoder(tables())
