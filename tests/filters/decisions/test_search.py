from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters.decisions.block_decisions import (
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Correction,
    Decisions,
    apply_decisions,
    block_grid,
    switched_off,
)
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.filters.decisions.search import bit_weight, decide
from vvc_nnr.sequences.frame import Frame, VideoFormat


def smooth_frame(width: int, height: int, bit_depth: int = 10, chroma_format: str = "420") -> Frame:
    """Slopes that stay clear of black and white."""
    format = VideoFormat(width, height, bit_depth, chroma_format)  # type: ignore[arg-type]
    middle = 1 << (bit_depth - 1)
    planes = [middle - 60 + np.add.outer(np.arange(h), np.arange(w)) % 90 for h, w in format.plane_shapes]
    return Frame(tuple(p.astype(format.dtype) for p in planes), bit_depth, format.chroma_format)


def noisy(frame: Frame, deviation: float, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    peak = (1 << frame.bit_depth) - 1
    planes = [np.clip(np.rint(p + rng.normal(0, deviation, p.shape)), 0, peak) for p in frame.planes]
    return Frame(tuple(p.astype(frame.planes[0].dtype) for p in planes), frame.bit_depth, frame.chroma_format)


def towards(original: Frame, decoded: Frame, share: float) -> Correction:
    """The correction that at full strength takes away a share of the error."""
    pairs = zip(original.planes, decoded.planes, strict=True)
    return tuple((np.float32(share) * (a.astype(np.float32) - b)).astype(np.float32) for a, b in pairs)


def cost(original: Frame, decoded: Frame, correction: Correction, decisions: Decisions, qp: int) -> float:
    """The cost that the search is to minimise, of the true output and the true bytes."""
    output = apply_decisions(decoded, correction, decisions)
    pairs = zip(original.planes, output.planes, strict=True)
    error = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in pairs)
    return error + bit_weight(qp, decoded.bit_depth) * 8 * len(encode_decisions(decisions))


@pytest.mark.parametrize(
    ("qp", "bit_depth", "expected"), [(12, 8, 0.57), (15, 8, 1.14), (12, 10, 9.12), (37, 8, 183.8)]
)
def test_lambda(qp: int, bit_depth: int, expected: float) -> None:
    assert bit_weight(qp, bit_depth) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 2.0])
def test_the_strength_is_that_of_least_error(share: float) -> None:
    original = smooth_frame(200, 140)
    decoded = noisy(original, 12)
    decisions = decide(original, decoded, towards(original, decoded, share), 27)
    assert decisions.strengths == (round(16 / share),) * 3
    assert all((choices == UNIT_CHOICE).all() for choices in decisions.choices)


def test_blocks_that_differ_get_scales_of_their_own() -> None:
    """Left: the correction is too weak by half; right: it points away from the original."""
    original = smooth_frame(512, 256)
    decoded = noisy(original, 12)
    correction = towards(original, decoded, 1.0)
    for plane in correction:
        plane[:, : plane.shape[1] // 2] *= np.float32(2 / 3)
        plane[:, plane.shape[1] // 2 :] *= np.float32(-1)
    decisions = decide(original, decoded, correction, 22)
    for component in range(3):
        scales = decisions.scales(component)
        middle = scales.shape[1] // 2
        np.testing.assert_allclose(scales[:, :middle], 1.5, atol=0.1)
        np.testing.assert_array_equal(scales[:, middle:], 0)


def test_a_component_is_off_where_the_network_harms_it() -> None:
    original = smooth_frame(200, 140)
    decoded = noisy(original, 12)
    luma, cb, cr = towards(original, decoded, 1.0)
    assert decide(original, decoded, (luma, -cb, cr), 27).strengths == (16, 0, 16)
    assert decide(original, decoded, (-luma, -cb, -cr), 27).is_off


def test_nothing_to_correct_costs_no_byte() -> None:
    frame = smooth_frame(200, 140)
    for correction in (towards(frame, frame, 1.0), towards(frame, noisy(frame, 3), 1.0)):
        assert encode_decisions(decide(frame, frame, correction, 32)) == b""


def test_few_samples_are_not_worth_their_bits() -> None:
    original = smooth_frame(8, 8)
    decoded = noisy(original, 2)
    correction = towards(original, decoded, 1.0)
    assert decide(original, decoded, correction, 63).is_off
    assert not decide(original, decoded, correction, 0).is_off


@given(st.integers(0, 200), st.sampled_from([8, 10, 12]), st.sampled_from(["400", "420", "444"]), st.integers(0, 63))
def test_never_worse_than_off(seed: int, bit_depth: int, chroma_format: str, qp: int) -> None:
    """Corrections of all kinds, over samples of the whole range, so that clipping matters."""
    rng = np.random.default_rng(seed)
    format = VideoFormat(int(rng.integers(1, 300)), int(rng.integers(1, 200)), bit_depth, chroma_format)  # type: ignore[arg-type]
    planes = [rng.integers(0, 1 << bit_depth, s).astype(format.dtype) for s in format.plane_shapes]
    original = Frame(tuple(planes), bit_depth, format.chroma_format)
    decoded = noisy(original, 10.0 ** rng.integers(-1, 3), seed)
    good = towards(original, decoded, rng.uniform(0, 2))
    noise = [rng.normal(0, 10.0 ** rng.integers(-1, 3), p.shape).astype(np.float32) for p in good]
    correction = tuple(a + b for a, b in zip(good, noise, strict=True))
    decisions = decide(original, decoded, correction, qp)
    off = switched_off(decoded)
    assert cost(original, decoded, correction, decisions, qp) <= cost(original, decoded, correction, off, qp)
    assert decode_decisions(encode_decisions(decisions), format).strengths == decisions.strengths


def test_as_good_as_trying_everything() -> None:
    """One block of luma: each strength and scale by its true cost."""
    original = smooth_frame(60, 50, chroma_format="400")
    decoded = noisy(original, 6)
    correction = (
        towards(original, decoded, 0.7)[0] + np.random.default_rng(1).normal(0, 4, (50, 60)).astype(np.float32),
    )
    grid = block_grid(60, 50, 64)
    ways = itertools.product(range(MAX_STRENGTH + 1), range(len(SCALES)))
    tried = [Decisions(64, (strength,), (np.full(grid, choice, np.uint8),)) for strength, choice in ways]
    least = min(cost(original, decoded, correction, decisions, 27) for decisions in tried)
    found = cost(original, decoded, correction, decide(original, decoded, correction, 27), 27)
    assert found <= 1.001 * least


def test_pictures_that_do_not_fit() -> None:
    frame, other = smooth_frame(64, 64), smooth_frame(64, 62)
    correction = towards(frame, frame, 1.0)
    with pytest.raises(ShapeError, match="pictures differ in size: 64x62 and 64x64"):
        decide(other, frame, correction, 32)
    with pytest.raises(ShapeError, match="want float32 planes"):
        decide(other, other, correction, 32)
    with pytest.raises(InputError, match="QP 64: must be 0 to 63"):
        decide(frame, frame, correction, 64)
