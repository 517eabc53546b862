"""The quantisers: rounding, the trellis against exhaustive search, the rate term, equal results on every processor."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_contexts import TensorParams as ReferenceParams
from reference_tensor import TensorChoices as ReferenceChoices
from reference_tensor import Walk, block_rows
from reference_values import NEXT_STATE, level_of

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.kernels.entropy_coding import TensorInput, encode_payload
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams
from vvc_nnr.quantize.dependent import SumWeights, levels_of, quantize_indices, row_errors, sum_weights_of

UNIFORM, DEPENDENT = TensorParams(1, 6, False, 11), TensorParams(1, 6, True, 11)


def laplacian(shape, scale, seed=0):
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.float32)


def mse(values, levels, step):
    return float(np.mean((values.astype(np.float64) - step * levels.astype(np.float64)) ** 2))


def n_bytes(params, quantized):
    rows = TensorChoices(skipped_rows=quantized.skipped_rows)
    return len(encode_payload([TensorInput(params, quantized.indices, rows)]).data)


def reference_levels(params, indices, skipped):
    """Levels by the readable walk through the tensor."""
    plain = ReferenceParams(params.n_rows, params.n_columns, params.dq_flag, 11, params.scan_order)
    walk = Walk(plain, ReferenceChoices(True, frozenset(np.flatnonzero(skipped).tolist())))
    levels = np.zeros(params.shape, np.int64)
    for segments in block_rows(plain):
        for row, column, at in walk.positions(segments):
            levels[row, column] = level_of(int(indices[row, column]), at.state)
            walk.step(int(indices[row, column]))
    return levels


def test_rounding_is_to_the_nearest_and_halves_go_away_from_zero():
    values = np.array([0.5, -0.5, 0.49999997, 1.5, -2.5, 8388609.0], np.float32)
    assert quantize_indices(values, UNIFORM, 1.0).indices.tolist() == [[1, -1, 0, 2, -3, 8388609]]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), step=st.sampled_from([1.0, 0.3, 2**-8, 5 * 2.0**-21]), portable=st.booleans())
def test_rounding_equals_numpy_in_single_precision(seed, step, portable):
    params = TensorParams(9, 7, False, 11)
    values = laplacian(params.shape, 0.4, seed)
    scaled = (values * np.float32(1 / step)).astype(np.float64)
    wanted = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    np.testing.assert_array_equal(quantize_indices(values, params, step, portable=portable).indices, wanted)


def exhaustive_distortion(values):
    """Least squared error of any index sequence of five values."""
    best = math.inf
    for indices in itertools.product(range(-3, 4), repeat=len(values)):
        state, total = 0, 0.0
        for value, k in zip(values, indices, strict=True):
            total += (value - level_of(k, state)) ** 2
            state = NEXT_STATE[state][k & 1]
        best = min(best, total)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_trellis_finds_the_least_distortion(seed):
    values = np.clip(laplacian(5, 2.0, seed), -4, 4)
    params = TensorParams(1, 5, True, 11)
    indices = quantize_indices(values, params, 1.0).indices
    found = float(np.sum((values.astype(np.float64) - reference_levels(params, indices, [0])[0]) ** 2))
    assert found == pytest.approx(exhaustive_distortion([float(v) for v in values]), rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(1, 40),
    n_columns=st.integers(1, 40),
    scan_order=st.integers(0, 2),
    scale=st.sampled_from([0.1, 1.0, 20.0, 1e5]),
    lambda_rd=st.sampled_from([0.0, 0.5, 5.0]),
    dq_flag=st.booleans(),
    seed=st.integers(0, 99),
)
def test_indices_are_equal_without_instruction_sets(n_rows, n_columns, scan_order, scale, lambda_rd, dq_flag, seed):
    params = TensorParams(n_rows, n_columns, dq_flag, 11, scan_order)
    values = laplacian(params.shape, scale, seed)
    values[::3] *= 0.001
    fast = quantize_indices(values, params, 1.0, lambda_rd)
    slow = quantize_indices(values, params, 1.0, lambda_rd, portable=True)
    np.testing.assert_array_equal(fast.indices, slow.indices)
    if dq_flag:
        np.testing.assert_array_equal(fast.row_errors, slow.row_errors)
    skipped = np.zeros(n_rows, np.uint8) if fast.skipped_rows is None else fast.skipped_rows
    assert not fast.indices[skipped != 0].any()
    if dq_flag:
        np.testing.assert_array_equal(
            levels_of(fast.indices, params, skipped), reference_levels(params, fast.indices, skipped)
        )


@pytest.mark.parametrize(("n_rows", "n_columns", "scan_order"), [(40, 90, 0), (70, 630, 2), (1, 1800, 0)])
@pytest.mark.parametrize("scale", [0.4, 2.0, 30.0])
def test_sums_of_errors_count_alike_without_instruction_sets(
    n_rows: int, n_columns: int, scan_order: int, scale: float
) -> None:
    params = TensorParams(n_rows, n_columns, True, 11, scan_order)
    values = laplacian(params.shape, scale)
    found, portable = (
        quantize_indices(values, params, 1.0, sum_weights=SumWeights(9, 0.4, 0.05), portable=each)
        for each in (False, True)
    )
    np.testing.assert_array_equal(found.indices, portable.indices)
    np.testing.assert_array_equal(found.row_errors, portable.row_errors)
    levels = levels_of(found.indices, params, found.skipped_rows)
    np.testing.assert_allclose(found.row_errors, np.square(values - levels).sum(1), rtol=1e-4)


@pytest.mark.parametrize("shape", [(32, 64, 3, 3), (32, 256), (2, 96, 64)])
def test_errors_of_kernels_and_rows_do_not_add_up(shape: tuple[int, ...]) -> None:
    values = laplacian(shape, 3.0)
    params = TensorParams(shape[0], math.prod(shape[1:]), True, 11)
    plain, balanced = (
        values.reshape(params.shape)
        - levels_of(quantize_indices(values, params, 1.0, sum_weights=each).indices, params)
        for each in (None, sum_weights_of(shape))
    )

    def power_of_sums(errors: np.ndarray, n: int) -> float:
        return float(np.square(errors.reshape(-1, n).sum(axis=1)).mean() / n)

    assert np.square(balanced).mean() < 1.12 * np.square(plain).mean()
    row = shape[2] if len(shape) == 3 else params.n_columns
    assert power_of_sums(balanced, row) < 0.3 * power_of_sums(plain, row)
    if len(shape) == 4:
        assert power_of_sums(balanced, 9) < 0.4 * power_of_sums(plain, 9)


def test_nothing_sums_over_vectors_and_kernels_are_whole() -> None:
    assert sum_weights_of((7,)) is None
    for params, lambda_rd in ((UNIFORM, 0.0), (DEPENDENT, 0.5), (TensorParams(1, 7, True, 11), 0.0)):
        values = np.zeros(params.n_values, np.float32)
        with pytest.raises(InputError, match="whole kernels"):
            quantize_indices(values, params, 1.0, lambda_rd, sum_weights=SumWeights(3, 0.4, 0.05))


@pytest.mark.parametrize("scan_order", [0, 1, 4])
def test_dependent_quantisation_beats_rounding_at_twice_its_step(scan_order):
    params = TensorParams(100, 120, True, 11, scan_order)
    values = laplacian(params.shape, 6.0)
    values[10:20] = 0
    quantized = quantize_indices(values, params, 1.0)
    found = mse(values, levels_of(quantized.indices, params, quantized.skipped_rows), 1.0)
    rounded = mse(values, quantize_indices(values, TensorParams(100, 120, False, 11), 2.0).indices, 2.0)
    assert found < 0.72 * rounded
    if scan_order:
        assert quantized.skipped_rows is not None
        assert np.flatnonzero(quantized.skipped_rows).tolist() == list(range(10, 20))


@pytest.mark.parametrize("dq_flag", [False, True])
@pytest.mark.parametrize("scan_order", [0, 3])
@pytest.mark.parametrize("scale", [0.6, 1.5, 4.0])
def test_the_rate_term_pays(dq_flag, scan_order, scale):
    """At equal bytes, less distortion than with a larger step and no rate term."""
    params = TensorParams(256, 300, dq_flag, 11, scan_order)
    values = laplacian(params.shape, scale)
    points = []
    for step in (1.0, 2**0.25, 2**0.5, 2**0.75, 2.0, 3.0):
        quantized = quantize_indices(values, params, step)
        levels = levels_of(quantized.indices, params, quantized.skipped_rows)
        points.append((n_bytes(params, quantized), mse(values, levels, step)))
    quantized = quantize_indices(values, params, 1.0, 1.0)
    size = n_bytes(params, quantized)
    found = mse(values, levels_of(quantized.indices, params, quantized.skipped_rows), 1.0)
    points.sort()
    assert points[0][0] < size < points[-1][0]
    at_equal_size = np.interp(size, [p[0] for p in points], np.log([p[1] for p in points]))
    assert math.log(found) < at_equal_size


@pytest.mark.parametrize(
    ("values", "params", "step", "lambda_rd", "error", "message"),
    [
        (np.zeros(5, np.float32), UNIFORM, 1.0, 0.0, ShapeError, "1 x 6"),
        (np.zeros(6), UNIFORM, 1.0, 0.0, InputError, "float64"),
        (np.full(6, np.nan, np.float32), UNIFORM, 1.0, 0.0, InputError, "NaN"),
        (np.full(6, -np.inf, np.float32), UNIFORM, 1.0, 0.0, InputError, "infinite"),
        (np.full(6, 1e9, np.float32), UNIFORM, 0.1, 0.0, InputError, "raise the QP"),
        (np.full(6, -2e9, np.float32), DEPENDENT, 1.0, 0.0, InputError, "raise the QP"),
        (np.zeros(6, np.float32), UNIFORM, 0.0, 0.0, InputError, "step 0"),
        (np.zeros(6, np.float32), UNIFORM, math.nan, 0.0, InputError, "step nan"),
        (np.zeros(6, np.float32), UNIFORM, 1.0, -1.0, InputError, "lambda_rd -1"),
        (np.zeros(6, np.float32), TensorParams(1, 6, False, 11, codebook_size=2), 1.0, 0.0, InputError, "codebook"),
        (np.zeros(6, np.float32), TensorParams(0, 6, False, 11), 1.0, 0.0, InputError, "n_rows 0"),
    ],
)
def test_input_that_cannot_be_quantised(values, params, step, lambda_rd, error, message):
    with pytest.raises(error, match=message):
        quantize_indices(values, params, step, lambda_rd)


def test_largest_weights():
    values = np.array([2**30 - 80, -(2**30) + 80, 0, 1, -1, 0.25], np.float32)
    indices = quantize_indices(values, DEPENDENT, 1.0).indices
    levels = levels_of(indices, DEPENDENT)
    np.testing.assert_allclose(levels[0], values, atol=1)
    assert quantize_indices(np.full(6, 2**31 - 256, np.float32), UNIFORM, 1.0).indices.max() == 2**31 - 256


@pytest.mark.parametrize("dq_flag", [True, False])
@pytest.mark.parametrize("scan_order", [0, 1, 4])
def test_errors_of_rows_are_those_of_their_levels(dq_flag: bool, scan_order: int) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (70, 301)).astype(np.float32)
    values[[3, 40]] *= np.float32(0.01)
    params = TensorParams(n_rows=70, n_columns=301, dq_flag=dq_flag, unary_length=10, scan_order=scan_order)
    found = quantize_indices(values, params, 0.4, 0.5)
    levels = levels_of(found.indices, params, found.skipped_rows)
    expected = np.square(values - levels * 0.4).sum(1)
    np.testing.assert_allclose(row_errors(values, found, params, 0.4), expected, rtol=1e-4)
    assert (found.row_errors is None) is not dq_flag
    small = np.where(np.abs(values) < 0.7, np.square(values - levels * 0.4), 0).sum(1)
    np.testing.assert_allclose(row_errors(values, found, params, 0.4, 0.7), small, rtol=1e-4)
