from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.filters.decisions.sequence_file import DecisionReader, encode_sequence, parse_sequence
from vvc_nnr.filters.decisions.wiener import WienerFilter
from vvc_nnr.sequences.frame import VideoFormat

MakeWiener = Callable[..., WienerFilter]

FORMATS = st.builds(
    VideoFormat,
    st.integers(1, 900),
    st.integers(1, 600),
    st.sampled_from([8, 10]),
    st.sampled_from(["400", "420", "422", "444"]),
)


def random_decisions(format: VideoFormat, seed: int, random_wiener: MakeWiener) -> Decisions:
    """Anything from all alike to all different; components that are off have plain maps, as they come back."""
    rng = np.random.default_rng(seed)
    block_size = int(rng.choice(BLOCK_SIZES))
    grid = block_grid(format.width, format.height, block_size)
    strengths, maps = [], []
    for _ in format.plane_shapes:
        strengths.append(int(rng.integers(0, MAX_STRENGTH + 1)) if rng.random() < 0.8 else 0)
        differs = (rng.random(grid) < rng.choice([0, 0.1, 0.5, 1])) & (strengths[-1] > 0)
        maps.append(np.where(differs, rng.integers(0, len(SCALES), grid), UNIT_CHOICE).astype(np.uint8))
    has_wiener = rng.random(len(maps)) < rng.choice([0, 0.5, 1])
    wieners = (random_wiener(c, seed + c) if has else None for c, has in enumerate(has_wiener))
    return Decisions(block_size, tuple(strengths), tuple(maps), tuple(wieners))


def assert_same(a: Decisions, b: Decisions) -> None:
    assert (a.block_size, a.strengths) == (b.block_size, b.strengths)
    for x, y in zip(a.choices, b.choices, strict=True):
        np.testing.assert_array_equal(x, y)
    for one, other in zip(a.wieners, b.wieners, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.shift, one.clip_log2, one.set_of_class) == (other.shift, other.clip_log2, other.set_of_class)
            np.testing.assert_array_equal(one.coefficients, other.coefficients)


@given(FORMATS, st.integers(0, 1000))
def test_what_is_written_is_read(random_wiener: MakeWiener, format: VideoFormat, seed: int) -> None:
    decisions = random_decisions(format, seed, random_wiener)
    assert_same(decode_decisions(encode_decisions(decisions), format), decisions)


def test_nothing_filtered_takes_no_bytes() -> None:
    maps = (np.full((2, 3), UNIT_CHOICE, np.uint8),) * 3
    assert encode_decisions(Decisions(64, (0, 0, 0), maps)) == b""
    assert decode_decisions(b"", VideoFormat(130, 67)).is_off


def test_the_map_of_a_component_that_is_off_is_not_written() -> None:
    maps = tuple(np.full((2, 3), c, np.uint8) for c in (1, 2, UNIT_CHOICE))
    decoded = decode_decisions(encode_decisions(Decisions(64, (0, 7, 0), maps)), VideoFormat(130, 67))
    assert decoded.strengths == (0, 7, 0)
    assert [int(choices.max()) for choices in decoded.choices] == [UNIT_CHOICE, 2, UNIT_CHOICE]


def test_equal_neighbours_are_cheap() -> None:
    format = VideoFormat(1920, 1080, 10, "400")
    grid = block_grid(1920, 1080, 64)
    rng = np.random.default_rng(0)
    halves = np.full(grid, UNIT_CHOICE, np.uint8)
    halves[:, grid[1] // 2 :] = 1
    shuffled = rng.permuted(halves.ravel()).reshape(grid)
    sizes = [len(encode_decisions(Decisions(64, (16,), (m,)))) for m in (halves, shuffled)]
    assert 3 * sizes[0] < sizes[1]
    assert_same(
        decode_decisions(encode_decisions(Decisions(64, (16,), (halves,))), format), Decisions(64, (16,), (halves,))
    )


@given(FORMATS, st.integers(0, 100), st.data())
def test_damaged_bytes_are_an_error_or_other_decisions(
    random_wiener: MakeWiener, format: VideoFormat, seed: int, data: st.DataObject
) -> None:
    coded = encode_decisions(random_decisions(format, seed, random_wiener))
    place = data.draw(st.integers(0, 8 * len(coded)))
    changed = bytearray(coded + b"\x00")
    changed[place // 8] ^= 0x80 >> place % 8
    for damaged in (bytes(changed), coded[: place // 8], coded + b"\x00", coded + b"\x01" + bytes(5)):
        survives(damaged, format)


@given(FORMATS, st.binary(max_size=300))
def test_random_bytes_are_an_error_or_decisions(format: VideoFormat, data: bytes) -> None:
    survives(data, format)


def survives(data: bytes, format: VideoFormat) -> None:
    """Decisions come back only from the very bytes that the encoder writes for them."""
    try:
        decisions = decode_decisions(data, format)
    except BitstreamError:
        return
    assert encode_decisions(decisions) == data


@pytest.mark.parametrize("tail", [b"\x00", b"\x01", bytes(10_000), b"x" * 1_000_000])
def test_trailing_bytes_are_refused(random_wiener: MakeWiener, tail: bytes) -> None:
    format = VideoFormat(200, 150)
    with pytest.raises(BitstreamError, match="are not those of any decisions for 200x150"):
        decode_decisions(encode_decisions(random_decisions(format, 1, random_wiener)) + tail, format)


@given(FORMATS, st.lists(st.integers(0, 1000), max_size=5))
def test_a_sequence_comes_back(random_wiener: MakeWiener, format: VideoFormat, seeds: list[int]) -> None:
    pictures = [random_decisions(format, seed, random_wiener) for seed in seeds]
    sequence = parse_sequence(encode_sequence(pictures, format))
    assert (sequence.width, sequence.height) == (format.width, format.height)
    assert sequence.payloads == tuple(encode_decisions(p) for p in pictures)
    reader = DecisionReader(sequence)
    for picture in pictures:
        assert_same(reader.picture(format), picture)


@given(FORMATS, st.lists(st.integers(0, 100), max_size=3), st.data())
def test_a_damaged_sequence_is_an_error(
    random_wiener: MakeWiener, format: VideoFormat, seeds: list[int], data: st.DataObject
) -> None:
    coded = encode_sequence([random_decisions(format, seed, random_wiener) for seed in seeds], format)
    place = data.draw(st.integers(0, 8 * len(coded) - 1))
    flipped = bytearray(coded)
    flipped[place // 8] ^= 0x80 >> place % 8
    for damaged in (bytes(flipped), coded[: place // 8], coded + b"\x00", coded + coded):
        with pytest.raises((BitstreamError, UnsupportedError)):
            parse_sequence(damaged)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_sequence(data: bytes) -> None:
    with pytest.raises((BitstreamError, UnsupportedError)):
        parse_sequence(data)


def test_a_sequence_for_other_pictures(random_wiener: MakeWiener) -> None:
    format = VideoFormat(200, 150)
    sequence = parse_sequence(encode_sequence([random_decisions(format, 1, random_wiener)], format))
    for other in (VideoFormat(199, 150), VideoFormat(200, 151), VideoFormat(200, 150, 8, "444")):
        with pytest.raises(InputError, match="decisions for pictures of 200x150, 4:2:0; these are"):
            DecisionReader(sequence).picture(other)


def test_a_picture_too_large() -> None:
    format = VideoFormat(65537, 1)
    with pytest.raises(InputError, match="width: 65536 does not fit"):
        encode_sequence([], format)
