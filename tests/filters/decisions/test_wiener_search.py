"""What the encoder fits: filters that undo what was done to a picture, by activity, and never at a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters.decisions import wiener as wiener_search
from vvc_nnr.filters.decisions.block_decisions import Correction, Decisions, apply_decisions, switched_off
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.filters.decisions.search import bit_weight, decide, with_wiener_filters
from vvc_nnr.filters.decisions.wiener import (
    LUMA_TERMS,
    MAX_COEFFICIENT,
    N_CLASSES,
    SHIFTS,
    WienerFilter,
    activity_classes,
    n_classes_of,
    terms_of,
    wiener_filtered,
)
from vvc_nnr.sequences.frame import Frame

MakePhotographs = Callable[..., list[Frame]]
MakeFrame = Callable[..., Frame]
LARGEST = MAX_COEFFICIENT


def no_correction(frame: Frame) -> Correction:
    return tuple(np.zeros(plane.shape, np.float32) for plane in frame.planes)


def changed(frame: Frame, change: Callable[[np.ndarray], np.ndarray]) -> Frame:
    peak = (1 << frame.bit_depth) - 1
    planes = (np.clip(np.rint(change(p.astype(np.float32))), 0, peak).astype(p.dtype) for p in frame.planes)
    return Frame(tuple(planes), frame.bit_depth, frame.chroma_format)


def squared_errors(a: Frame, b: Frame) -> list[float]:
    return [float(((x.astype(float) - y) ** 2).sum()) for x, y in zip(a.planes, b.planes, strict=True)]


def fitted(original: Frame, decoded: Frame, qp: int, correction: Correction | None = None) -> Decisions:
    correction = no_correction(decoded) if correction is None else correction
    return with_wiener_filters(switched_off(decoded), original, decoded, correction, qp)


@pytest.mark.parametrize("component", [0, 1])
def test_terms_are_those_of_the_kernel(random_frame: MakeFrame, component: int) -> None:
    """What the encoder sums for a term is what the kernel adds for it."""
    f, d = (random_frame(37, 70, 10, "400", seed).planes[0] // 4 + 20_000 for seed in (1, 2))
    terms, n_classes = terms_of(component), n_classes_of(component)
    classes = [0] * n_classes
    for t in range(len(terms)):
        row = np.zeros((1, len(terms)), np.int16)
        row[0, t] = 32
        added = (
            wiener_filtered(f, d, 16, WienerFilter(5, 6 if component == 0 else 0, tuple(classes), row)).astype(int) - f
        )
        for rows, values in wiener_search._term_values(f, f, d, terms, 64):
            n_blocks, n_columns = rows.stop - rows.start, -(-37 // 4)
            term = values[t].reshape(n_blocks, n_columns, 4, 4).swapaxes(1, 2).reshape(4 * n_blocks, 4 * n_columns)
            part = added[4 * rows.start : 4 * rows.stop]
            np.testing.assert_array_equal(term[: len(part), :37], part)


def test_better_than_rounded_least_squares_and_than_any_one_shift(
    photographs: MakePhotographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cost with a model of the bits; the noise makes many coefficients of least squares worth less than their bits."""
    original = photographs(1, 200, 160)[0].to_bit_depth(10)
    rng = np.random.default_rng(3)
    decoded = changed(original, lambda p: cv2.GaussianBlur(p, (0, 0), 0.5) + rng.normal(0, 6, p.shape))

    def cost() -> float:
        decisions = fitted(original, decoded, 32)
        error = sum(squared_errors(original, apply_decisions(decoded, no_correction(decoded), decisions)))
        return error + bit_weight(32, 10) * 8 * len(encode_decisions(decisions))

    best = cost()
    for shift in SHIFTS:
        with monkeypatch.context() as patched:
            patched.setattr(wiener_search, "SHIFTS", (shift,))
            assert best <= cost() * 1.0005
    with monkeypatch.context() as patched:
        patched.setattr(wiener_search, "_N_SWEEPS", 0)
        assert best < 0.995 * cost()
    with monkeypatch.context() as patched:
        patched.setattr(wiener_search, "_coefficient_bits", lambda k: np.zeros_like(k))
        assert best < 0.999 * cost()


def test_filters_that_are_there_are_replaced(photographs: MakePhotographs) -> None:
    original = photographs(1, 160, 128)[0].to_bit_depth(10)
    decoded = changed(original, lambda p: cv2.GaussianBlur(p, (0, 0), 0.7))
    once = fitted(original, decoded, 27)
    twice = with_wiener_filters(once, original, decoded, no_correction(decoded), 27)
    assert encode_decisions(once) == encode_decisions(twice) != b""


def test_a_blur_is_undone(photographs: MakePhotographs) -> None:
    original = photographs(1, 320, 256)[0].to_bit_depth(10)
    decoded = changed(original, lambda p: cv2.GaussianBlur(p, (0, 0), 0.7))
    decisions = fitted(original, decoded, 27)
    output = apply_decisions(decoded, no_correction(decoded), decisions)
    for before, after in zip(squared_errors(original, decoded), squared_errors(original, output), strict=True):
        assert after < 0.35 * before
    assert all(w is not None and w.coefficients.any() for w in decisions.wieners)


def test_noise_in_smooth_parts_gets_a_set_of_its_own() -> None:
    """The noise is where the picture is flat: the least active classes are smoothed, the others left alone."""
    rng = np.random.default_rng(1)
    textured = rng.integers(100, 900, (128, 128)).astype(np.uint16)
    plane = np.hstack([np.full((128, 128), 500, np.uint16), textured])
    noise = np.rint(rng.normal(0, 3, plane.shape))
    noise[:, 128:] = 0
    original = Frame((plane,), 10, "400")
    decoded = Frame(((plane + noise).astype(np.uint16),), 10, "400")
    (wiener,) = fitted(original, decoded, 22).wieners
    assert wiener is not None
    classes = activity_classes(decoded.planes[0], 10)
    flat, busy = (wiener.set_of_class[int(np.median(part))] for part in (classes[:, :30], classes[:, 34:]))
    assert wiener.coefficients[flat].any()
    assert not wiener.coefficients[busy].any()


def test_the_decoded_picture_takes_a_correction_back(photographs: MakePhotographs) -> None:
    """A correction that is noise beside what helps: what the network added is the difference to the decoded picture."""
    original = photographs(1, 256, 256)[0].to_bit_depth(10)
    rng = np.random.default_rng(0)
    harm = tuple(rng.normal(0, 6, p.shape).astype(np.float32) for p in original.planes)
    full = replace(switched_off(original), strengths=(16, 16, 16))
    harmed = apply_decisions(original, harm, full)
    decisions = with_wiener_filters(full, original, original, harm, 32)
    output = apply_decisions(original, harm, decisions)
    for before, after in zip(squared_errors(original, harmed), squared_errors(original, output), strict=True):
        assert after < 0.05 * before


def test_what_is_right_stays_as_it_is(photographs: MakePhotographs) -> None:
    original = photographs(1, 128, 128)[0].to_bit_depth(10)
    assert fitted(original, original, 32).is_off
    assert encode_decisions(fitted(original, original, 32)) == b""


def test_few_samples_are_not_worth_a_filter(photographs: MakePhotographs) -> None:
    original = photographs(1, 16, 16)[0].to_bit_depth(10)
    decoded = changed(original, lambda p: cv2.GaussianBlur(p, (0, 0), 0.7))
    assert fitted(original, decoded, 63).is_off
    assert not fitted(original, decoded, 10).is_off


@given(st.integers(0, 200), st.sampled_from([8, 10, 12]), st.sampled_from(["400", "420", "444"]), st.integers(0, 63))
def test_never_at_a_loss(random_frame: MakeFrame, seed: int, bit_depth: int, chroma_format: str, qp: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(1, 150)), int(rng.integers(1, 100))
    original = random_frame(width, height, bit_depth, chroma_format, seed)
    width_of_blur, width_of_noise = rng.uniform(0.1, 1), 10.0 ** rng.uniform(-1, 2)
    smooth = changed(original, lambda p: cv2.GaussianBlur(p, (0, 0), 3))
    decoded = changed(
        smooth, lambda p: cv2.GaussianBlur(p, (0, 0), width_of_blur) + rng.normal(0, width_of_noise, p.shape)
    )
    correction = tuple(rng.normal(0, 3, p.shape).astype(np.float32) for p in decoded.planes)
    before = decide(smooth, decoded, correction, qp)
    after = with_wiener_filters(before, smooth, decoded, correction, qp)

    def cost(decisions: Decisions) -> float:
        error = sum(squared_errors(smooth, apply_decisions(decoded, correction, decisions)))
        return error + bit_weight(qp, bit_depth) * 8 * len(encode_decisions(decisions))

    assert cost(after) <= cost(before)
    assert (after.strengths, after.block_size) == (before.strengths, before.block_size)
    again = decode_decisions(encode_decisions(after), decoded.format(30))
    outputs = [apply_decisions(decoded, correction, decisions) for decisions in (after, again)]
    for one, other in zip(outputs[0].planes, outputs[1].planes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_longest_code_comes_back() -> None:
    """Every coefficient far from what its contexts expect."""
    signs = np.where(np.arange(len(LUMA_TERMS)) % 2, LARGEST, -LARGEST)
    rows = np.stack([signs, -signs] * (N_CLASSES // 2)).astype(np.int16)
    luma = WienerFilter(5, 15, tuple(range(N_CLASSES)), rows)
    chroma = WienerFilter(5, 0, (0,), np.full((1, 7), -LARGEST, np.int16))
    frame = Frame((np.zeros((2, 2), np.uint16), np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.uint16)), 10, "420")
    decisions = replace(switched_off(frame), wieners=(luma, chroma, chroma))
    again = decode_decisions(encode_decisions(decisions), frame.format(30))
    for one, other in zip(again.wieners, decisions.wieners, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.coefficients, other.coefficients)


def test_pictures_that_do_not_fit(random_frame: MakeFrame) -> None:
    frame, other = random_frame(64, 64), random_frame(64, 62)
    with pytest.raises(ShapeError, match="pictures differ in size: 64x62 and 64x64"):
        with_wiener_filters(switched_off(frame), other, frame, no_correction(frame), 32)
    with pytest.raises(InputError, match="QP 64"):
        with_wiener_filters(switched_off(frame), frame, frame, no_correction(frame), 64)
    wiener = WienerFilter(6, 0, (0,), np.zeros((1, 7), np.int16))
    for wieners in ((wiener, None, None), (None, None), (None, None, wiener, None)):
        with pytest.raises(ShapeError, match="Wiener filters of"):
            replace(switched_off(frame), wieners=wieners)
