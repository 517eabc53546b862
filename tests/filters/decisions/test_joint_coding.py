"""Decisions of pictures that are coded together: they come back, like ones cost next to nothing, damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.decisions.adaptive_bins import BinCounter, BinEncoder, Context
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Decisions,
    apply_decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.coding import encode_decisions
from vvc_nnr.filters.decisions.joint_coding import History, JointDecoder, JointEncoder
from vvc_nnr.filters.decisions.sequence import JointDecider
from vvc_nnr.filters.decisions.sequence_file import DecisionReader, MadeWith, joint_sequence, parse_sequence
from vvc_nnr.filters.decisions.wiener import WienerFilter
from vvc_nnr.filters.networks.told_qp import parse_rule
from vvc_nnr.sequences.frame import ChromaFormat, Frame, VideoFormat

MakeWiener = Callable[[int, int], WienerFilter]
MADE_WITH = MadeWith(bytes(range(32)), None, "int8")
FORMAT = VideoFormat(300, 200, 10)


def plain(format: VideoFormat, *strengths: int) -> Decisions:
    maps = tuple(np.full(block_grid(format.width, format.height, 64), UNIT_CHOICE, np.uint8) for _ in strengths)
    return Decisions(64, strengths, maps)


def random_pictures(
    format: VideoFormat, n_pictures: int, n_candidates: int, seed: int, wiener: MakeWiener
) -> list[Decisions]:
    """Pictures that are new, or take components, filters and all else of the ones before."""
    rng = np.random.default_rng(seed)
    found: list[Decisions] = []
    for _ in range(n_pictures):
        size, n = int(rng.choice(BLOCK_SIZES)), len(format.plane_shapes)
        grid = block_grid(format.width, format.height, size)
        strengths = [int(rng.integers(0, MAX_STRENGTH + 1)) for _ in range(n)]
        maps = [rng.integers(0, len(SCALES), grid).astype(np.uint8) for _ in range(n)]
        wieners = [wiener(c, int(rng.integers(3))) if rng.random() < 0.3 else None for c in range(n)]
        if found and rng.random() < 0.7:
            other = found[int(rng.integers(len(found)))]
            size = other.block_size
            kept = [c for c in range(n) if rng.random() < 0.8]
            maps = [np.full(other.choices[0].shape, UNIT_CHOICE, np.uint8) for _ in range(n)]
            for c in kept:
                strengths[c], maps[c], wieners[c] = other.strengths[c], other.choices[c], other.wieners[c]
        candidate = int(rng.integers(n_candidates)) if any(strengths) else 0
        found.append(Decisions(size, tuple(strengths), tuple(maps), tuple(wieners), candidate))
    return found


def samples_of(decisions: Decisions, format: VideoFormat) -> tuple[bytes, int]:
    """What a picture becomes by them, and the QP that the network is told."""
    rng = np.random.default_rng(1)
    planes = tuple(rng.integers(0, 1024, shape).astype(np.uint16) for shape in format.plane_shapes)
    correction = tuple(rng.normal(0, 9, shape).astype(np.float32) for shape in format.plane_shapes)
    frame = Frame(planes, format.bit_depth, format.chroma_format)
    return apply_decisions(frame, correction, decisions).tobytes(), decisions.qp_candidate


@given(
    st.sampled_from([("400", 130, 67), ("420", 130, 67), ("420", 64, 64), ("444", 300, 10)]),
    st.integers(0, 12),
    st.integers(1, 8),
    st.integers(0, 10**6),
)
def test_pictures_come_back(
    random_wiener: MakeWiener, kind: tuple[ChromaFormat, int, int], n_pictures: int, n_candidates: int, seed: int
) -> None:
    format = VideoFormat(kind[1], kind[2], 10, kind[0])
    pictures = random_pictures(format, n_pictures, n_candidates, seed, random_wiener)
    encoder = JointEncoder(format, n_candidates)
    coded = [encoder.code(picture) for picture in pictures]
    decoder = JointDecoder(encoder.finish(), format, n_candidates)
    found = [decoder.picture() for _ in pictures]
    decoder.check_end()
    expected = [samples_of(picture, format) for picture in pictures]
    assert [samples_of(picture, format) for picture in found] == expected
    assert [samples_of(picture, format) for picture in coded] == expected


def test_a_thousand_like_pictures_take_a_few_bytes() -> None:
    for strengths in ((16, 16, 16), (0, 0, 0), (20, 7, 0)):
        encoder = JointEncoder(FORMAT)
        for _ in range(1000):
            encoder.code(plain(FORMAT, *strengths))
        assert len(encoder.finish()) <= 8
        assert 1000 * len(encode_decisions(plain(FORMAT, *strengths))) > 1000 or not any(strengths)


def test_what_was_there_some_pictures_ago_costs_less_than_anew() -> None:
    history = History(FORMAT)
    first, second = plain(FORMAT, 20, 7, 3), plain(FORMAT, 11, 5, 2)
    anew = history.n_bits(first)
    for each in (first, second):
        history.code(BinEncoder(), each)
    assert history.n_bits(first) < 0.6 * anew
    assert history.n_bits(second) < 1.5
    assert history.before.strengths == second.strengths


def test_counted_bits_are_those_of_the_code() -> None:
    rng = np.random.default_rng(3)
    bins = rng.random(4000) < 0.1
    counter, encoder, context = BinCounter(), BinEncoder(), Context(1 << 13, 64)
    for each in bins:
        counter.code(context, int(each))
        encoder.code(context, int(each))
    assert abs(counter.n_bits - 8 * len(encoder.finish())) < 40


def joint_file(random_wiener: MakeWiener, n_pictures: int = 3, rules: tuple[str, ...] = ("slice", "27")) -> bytes:
    pictures = random_pictures(FORMAT, n_pictures, 1 + len(rules), 4, random_wiener)
    encoder = JointEncoder(FORMAT, 1 + len(rules))
    for each in pictures:
        encoder.code(each)
    return joint_sequence(encoder.finish(), n_pictures, FORMAT, MADE_WITH, [parse_rule(text) for text in rules])


def test_a_file_says_what_the_network_may_be_told(random_wiener: MakeWiener) -> None:
    found = parse_sequence(joint_file(random_wiener, 3, ("slice", "first-5", "27")))
    assert [rule.text for rule in found.candidates] == ["slice", "first-5", "27"]
    assert (found.n_pictures, found.width, found.height, found.chroma_format) == (3, 300, 200, "420")
    assert found.made_with == replace(MADE_WITH, network_sha256=MADE_WITH.network_sha256[:8])
    with pytest.raises(InputError, match="QP candidate base: no decoder knows that QP"):
        joint_file(random_wiener, 1, ("base",))
    with pytest.raises(InputError, match="must be at most 7, each once"):
        joint_file(random_wiener, 1, ("slice", "slice"))


def test_readers_of_before_refuse_it_by_its_version(random_wiener: MakeWiener) -> None:
    assert joint_file(random_wiener)[0] == 4
    with pytest.raises(UnsupportedError, match="decisions of version 5: this program reads versions 2 to 4"):
        parse_sequence(b"\x05" + joint_file(random_wiener)[1:])


def test_bytes_that_no_encoder_writes_are_refused_at_the_last_picture(random_wiener: MakeWiener) -> None:
    sequence = parse_sequence(joint_file(random_wiener))
    rng = np.random.default_rng(8)
    for _ in range(40):
        data = bytearray(sequence.payloads[0])
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        reader = DecisionReader(replace(sequence, payloads=(bytes(data) + b"\x00",)))
        for _ in range(2):
            reader.picture(FORMAT)
        with pytest.raises(BitstreamError, match="not those of any decisions"):
            reader.picture(FORMAT)


def test_the_search_takes_what_is_known_and_never_loses() -> None:
    rng = np.random.default_rng(2)
    format = VideoFormat(128, 64, 10)
    decider, counted = JointDecider(format, wiener=False, n_candidates=2), 0
    for _ in range(6):
        original = Frame(tuple(rng.integers(300, 700, s).astype(np.uint16) for s in format.plane_shapes), 10, "420")
        noise = [rng.integers(-30, 31, s) for s in format.plane_shapes]
        decoded = Frame(
            tuple((o + n).astype(np.uint16) for o, n in zip(original.planes, noise, strict=True)), 10, "420"
        )
        good = tuple((-0.6 * n).astype(np.float32) for n in noise)
        bad = tuple((0.6 * n).astype(np.float32) for n in noise)
        decisions, n_bits = decider.decide(original, decoded, (bad, good), 27)
        counted += n_bits
        assert decisions.qp_candidate == 1
        assert all(decisions.strengths)
    assert counted == 8 * len(decider.finish()) < 6 * 8 * len(encode_decisions(plain(format, 26, 26, 26)))
