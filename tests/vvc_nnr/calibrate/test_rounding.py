"""Rounding by rate and distortion with feedback: the quadratic forms, the kernel behind its door, QPs and lambdas."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vvc_nnr.calibrate.allocation import allocate, damped_rows, descend
from vvc_nnr.calibrate.compress_calibrated import Limit, search_lambda
from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.kernels.entropy_coding import TensorInput, decode_payload, encode_payload
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.quantize.dependent import levels_of, quantize_indices
from vvc_nnr.quantize.rate_distortion import Feedback, damped, error_cost, feedback_of, round_tensor, shifted_target

ROWS, COLUMNS = 12, 40


def moment(n: int, seed: int, n_groups: int = 1) -> NDArray[np.float64]:
    """Second moments of correlated numbers."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n_groups, 3 * n, n)) @ (np.eye(n) + 0.6 * rng.normal(size=(n_groups, n, n)))
    return mixed.transpose(0, 2, 1) @ mixed / (3 * n)


def weights(seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.float32]:
    return np.random.default_rng(seed).laplace(0, 1, (rows, columns)).astype(np.float32)


def params(dq: bool, rows: int = ROWS, columns: int = COLUMNS) -> TensorParams:
    return TensorParams(rows, columns, dq, 11)


def plain(n: int) -> Feedback:
    return feedback_of(np.eye(n)[None])


def test_a_form_is_the_sum_of_squares_of_its_factors() -> None:
    moments = damped(moment(9, 1, n_groups=3))
    found = feedback_of(moments)
    f, w = found.factor.astype(np.float64), found.weight.astype(np.float64)
    np.testing.assert_allclose(f.transpose(0, 2, 1) @ (w[:, :, None] * f), moments, rtol=1e-4, atol=1e-4)
    assert (np.triu(f, 1) == 0).all()
    np.testing.assert_array_equal(np.diagonal(f, axis1=1, axis2=2), 1)
    assert found.mean_weight == pytest.approx(w.mean())


def test_damping_makes_dead_inputs_harmless() -> None:
    np.testing.assert_array_equal(damped(np.zeros((1, 3, 3))), np.eye(3)[None])
    dead = np.zeros((1, 3, 3))
    dead[0, 0, 0] = 3.0
    assert (feedback_of(damped(dead)).weight > 0).all()


def test_the_cost_of_an_error_is_that_of_the_outputs() -> None:
    rng = np.random.default_rng(2)
    error, x, g = rng.normal(size=(4, 6)), rng.normal(size=(50, 6)), rng.normal(size=(30, 4))
    expected = np.sum((g @ error @ x.T) ** 2) / (50 * 30)
    assert error_cost(error, (x.T @ x / 50)[None], g.T @ g / 30) == pytest.approx(expected)


def test_the_target_is_the_least_squares_fit_on_changed_inputs() -> None:
    rng = np.random.default_rng(3)
    w, x = rng.normal(size=(4, 6)), rng.normal(size=(100, 6))
    y = x @ (np.eye(6) + 0.2 * rng.normal(size=(6, 6)))
    expected = np.linalg.lstsq(y, x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(shifted_target(w, (y.T @ y)[None], (x.T @ y)[None]), expected, rtol=1e-9)


@pytest.mark.parametrize("dq", [True, False])
@pytest.mark.parametrize("lambda_rd", [0.0, 0.02])
@pytest.mark.parametrize("n_groups", [1, 3])
def test_every_instruction_set_finds_the_same_levels(dq: bool, lambda_rd: float, n_groups: int) -> None:
    along, across = feedback_of(damped(moment(COLUMNS, 4, n_groups))), feedback_of(damped(moment(ROWS, 5)))
    found = [
        round_tensor(weights(), params(dq), 0.25, lambda_rd, along, across, portable=portable)
        for portable in (True, False)
    ]
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    assert found[0].bits == found[1].bits
    np.testing.assert_array_equal(found[0].values, levels_of(found[0].indices, params(dq)) * 0.25)


def test_without_lambda_and_feedback_uniform_levels_are_rounded() -> None:
    found = round_tensor(weights(), params(False), 0.25, 0.0, plain(COLUMNS), plain(ROWS))
    np.testing.assert_array_equal(found.indices, np.round(weights() / np.float32(0.25)))


def test_without_lambda_and_feedback_the_trellis_is_the_other_one() -> None:
    w = weights(rows=1, columns=600)
    found = round_tensor(w, params(True, 1, 600), 0.25, 0.0, plain(600), plain(1))
    reference = quantize_indices(w, params(True, 1, 600), 0.25)
    reference_values = levels_of(reference.indices, params(True, 1, 600)) * 0.25
    assert np.mean((found.values - w) ** 2) == pytest.approx(np.mean((reference_values - w) ** 2), rel=1e-5)


@pytest.mark.parametrize("dq", [True, False])
def test_feedback_makes_the_outputs_better(dq: bool) -> None:
    h, g = damped(moment(COLUMNS, 6)), damped(moment(ROWS, 7))
    forms = {
        "none": (plain(COLUMNS), plain(ROWS)),
        "along": (feedback_of(h), plain(ROWS)),
        "both": (feedback_of(h), feedback_of(g)),
    }
    costs = {}
    for name, (along, across) in forms.items():
        found = round_tensor(weights(), params(dq), 0.25, 0.0, along, across)
        costs[name] = error_cost(found.values - weights().astype(np.float64), h, g[0])
    assert costs["both"] < 0.8 * costs["along"] < 0.64 * costs["none"]


@pytest.mark.parametrize("dq", [True, False])
def test_bits_are_those_of_the_coder_and_fall_with_lambda(dq: bool) -> None:
    w, p = weights(rows=40, columns=90), params(dq, 40, 90)
    smooth = 0.8 ** np.abs(np.subtract.outer(np.arange(90), np.arange(90)))[None]
    sizes = []
    for lambda_rd in (0.0, 0.02, 0.2):
        found = round_tensor(w, p, 0.5, lambda_rd, feedback_of(smooth), plain(40))
        coded = 8 * len(encode_payload([TensorInput(p, found.indices, qp=-8)]).data)
        assert found.bits == pytest.approx(coded, rel=0.02, abs=100)
        sizes.append(coded)
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_lambda_beyond_all_leaves_nothing() -> None:
    for dq in (True, False):
        found = round_tensor(weights(), params(dq), 0.25, 1e6, plain(COLUMNS), plain(ROWS))
        assert not found.indices.any()


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.03, 0.5, 4.0]))
def test_any_matrix_comes_back_from_its_bytes(seed: int, dq: bool, step: float) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 30))
    w, p = weights(seed, rows, columns), params(dq, rows, columns)
    h, g = damped(moment(columns, seed)), damped(moment(rows, seed + 1))
    found = round_tensor(w, p, step, 0.01 * step**2, feedback_of(h), feedback_of(g))
    data = encode_payload([TensorInput(p, found.indices, qp=-8)]).data
    levels = decode_payload(data, [p], max_elements=w.size)[0].numbers
    np.testing.assert_array_equal(found.values, levels.astype(np.float32) * np.float32(step))


def test_what_does_not_fit_is_refused() -> None:
    w, good = weights(), (plain(COLUMNS), plain(ROWS))
    with pytest.raises(ShapeError, match="weights"):
        round_tensor(w[:, 1:], params(True), 0.25, 0.0, *good)
    with pytest.raises(ShapeError, match="across"):
        round_tensor(w, params(True), 0.25, 0.0, plain(COLUMNS), plain(COLUMNS))
    with pytest.raises(ShapeError, match="along"):
        round_tensor(w, params(True), 0.25, 0.0, plain(ROWS), plain(ROWS))
    with pytest.raises(InputError, match="lambda nan"):
        round_tensor(w, params(True), 0.25, math.nan, *good)
    with pytest.raises(InputError, match="step"):
        round_tensor(w, params(True), 0.0, 0.0, *good)
    with pytest.raises(InputError, match="too many steps"):
        round_tensor(w * np.float32(1e9), params(True), 0.25, 0.0, *good)
    with pytest.raises(InputError, match="NaN"):
        round_tensor(np.full_like(w, np.nan), params(True), 0.25, 0.0, *good)
    with pytest.raises(InputError, match="block scan"):
        round_tensor(w, TensorParams(ROWS, COLUMNS, True, 11, scan_order=1), 0.25, 0.0, *good)


def test_the_step_is_the_one_that_costs_least() -> None:
    h, g = damped(moment(COLUMNS, 10)), damped_rows(moment(ROWS, 11)[0])
    w, lambda_rd = weights().astype(np.float64), 0.02
    found = allocate(w, params(True), lambda_rd, h, g, 2)
    cost = found.error + lambda_rd * found.rounded.bits
    assert cost < error_cost(w, h, g)
    for qp in (found.qp - 1, found.qp + 1):
        other = round_tensor(
            weights(),
            params(True),
            2.0 ** (qp // 4) * (1 + qp % 4 / 4),
            lambda_rd,
            feedback_of(h),
            feedback_of(g[None]),
        )
        assert cost <= 1.01 * (error_cost(other.values - w, h, g) + lambda_rd * other.bits)


@given(st.integers(-20, 20), st.integers(-20, 20))
def test_descent_stays_in_its_limits(start: int, minimum: int) -> None:
    found = descend(lambda x: abs(x - minimum), start, -20, 20)
    assert -20 <= found <= 20
    assert abs(found - minimum) == max(0, abs(start - minimum) - 6)


@pytest.mark.parametrize(("slope", "enough"), [(1.1, 0.88), (-0.28, 0.985)])
@pytest.mark.parametrize("start", [1e-12, 1e-9, 1e-6])
def test_the_search_ends_just_within_the_limit(slope: float, enough: float, start: float) -> None:
    lambdas: list[float] = []

    def candidate(lambda_rd: float) -> tuple[float, float]:
        lambdas.append(lambda_rd)
        return lambda_rd, (lambda_rd / 1e-9) ** (0.8 * slope)

    found = search_lambda(candidate, start, Limit(1.0, enough, slope))
    assert found.is_kept
    assert enough <= found.value <= 1
    assert found.n_candidates == len(lambdas) <= 8


def test_a_jumping_value_ends_within_the_limit_if_it_can() -> None:
    def candidate(lambda_rd: float) -> tuple[float, float]:
        return lambda_rd, 0.5 if lambda_rd < 1e-9 else 2.0

    found = search_lambda(candidate, 1e-8, Limit(1.0, 0.9, 1.0), max_candidates=20)
    assert found.is_kept
    assert found.best < 1e-9
    assert found.n_candidates < 20


def test_a_limit_out_of_reach_is_reported_with_the_nearest() -> None:
    values = [5.0, 3.0, 2.5, 2.4, 2.3, 2.2, 2.1, 2.05]
    left = iter(values)
    found = search_lambda(lambda lambda_rd: (lambda_rd, next(left)), 1.0, Limit(1.0, 0.9, 1.0))
    assert not found.is_kept
    assert found.value == min(values)
    assert all(a > b for a, b in pairwise(values))
