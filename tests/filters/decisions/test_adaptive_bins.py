from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.filters.decisions.adaptive_bins import BinDecoder, BinEncoder, Context

BINS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=400)


def contexts() -> list[Context]:
    return [Context(), Context(), Context(60000, 3), Context(600, 9)]


def encoded(bins: list[tuple[int, int]]) -> bytes:
    coder, known = BinEncoder(), contexts()
    for context, bin in bins:
        assert coder.code(known[context], bin) == bin
    return coder.finish()


def decoded(data: bytes, bins: list[tuple[int, int]]) -> list[tuple[int, int]]:
    coder, known = BinDecoder(data), contexts()
    return [(context, coder.code(known[context])) for context, _ in bins]


@given(BINS)
def test_what_is_written_is_read(bins: list[tuple[int, int]]) -> None:
    data = encoded(bins)
    assert decoded(data, bins) == bins
    assert not data.endswith(b"\x00")


@given(BINS)
def test_no_shorter_bytes_decode_to_the_same(bins: list[tuple[int, int]]) -> None:
    data = encoded(bins)
    if data:
        values = (int.from_bytes(data[:-1], "big") + change for change in (0, 1))
        for value in values:
            if value < 1 << 8 * (len(data) - 1):
                assert decoded(value.to_bytes(len(data) - 1, "big"), bins) != bins


@given(st.binary(max_size=60))
def test_any_bytes_give_bins(data: bytes) -> None:
    bins = decoded(data, [(i % 4, 0) for i in range(600)])
    assert {bin for _, bin in bins} <= {0, 1}


@pytest.mark.parametrize("p_one", [0.5, 0.1, 0.01])
def test_the_bytes_are_near_the_entropy(p_one: float) -> None:
    """What it costs to learn one probability: about half of log2(n) bits; 0.2 % to end on bytes and to round."""
    n = 4000
    bins = (np.random.default_rng(0).random(n) < p_one).astype(int)
    coder, context = BinEncoder(), Context()
    for bin in bins:
        coder.code(context, int(bin))
    p = bins.mean()
    entropy_bits = n * -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert entropy_bits < 8 * len(coder.finish()) < 1.03 * entropy_bits + 30


def test_a_context_is_the_mean_of_what_it_saw_at_first() -> None:
    context = Context()
    for n_ones, bin in enumerate([1, 1, 1, 1, 1, 1], 1):
        context.update(bin)
        assert context.p_one / 65536 == pytest.approx((n_ones + 0.5) / (n_ones + 1), abs=1e-3)


def test_a_probability_never_reaches_its_ends() -> None:
    for bin in (0, 1):
        context = Context()
        for _ in range(5000):
            context.update(bin)
        assert 100 < context.p_one < 65436
