"""The search whose paths carry contexts: against its readable twin, the coder's own bits, and the fast search."""

from __future__ import annotations

import numpy as np
import pytest
import reference_paths
from bin_costs import bits_by_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_contexts import TensorParams as ReferenceParams

from vvc_nnr.coding.update import compress_update
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import InputError
from vvc_nnr.kernels.entropy_coding import TensorInput, decode_payload, encode_payload
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.dependent import DEPENDENT_BIT_WEIGHT, levels_of, quantize_indices
from vvc_nnr.quantize.rate_distortion import MAX_TRIAL_VALUES, quantize_thoroughly, search_by_paths


def laplacian(shape, scale, seed=0):
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.float32)


def random_sets(params, seed):
    return np.random.default_rng(seed).integers(0, 9, params.layout().n_contexts, dtype=np.uint8)


def squared_error(values, indices, params, rows=None):
    return float(np.square(values.astype(np.float64) - levels_of(indices, params, rows)).sum())


def coded_cost(values, params, quantized, lambda_rd):
    """Squared error in steps plus weighted bits of the coded bytes."""
    choices = TensorChoices(skipped_rows=quantized.skipped_rows)
    n_bytes = len(encode_payload([TensorInput(params, quantized.indices, choices)]).data)
    error = squared_error(values, quantized.indices, params, quantized.skipped_rows)
    return error + lambda_rd * DEPENDENT_BIT_WEIGHT * 8 * n_bytes


@pytest.mark.parametrize(
    ("shape", "scale", "unary_length", "scan_order", "skipped"),
    [
        ((1, 40), 1.0, 11, 0, ()),
        ((1, 30), 8.0, 3, 0, ()),
        ((1, 30), 3.0, 1, 0, ()),
        ((1, 30), 2000.0, 2, 0, ()),
        ((5, 9), 1.0, 11, 0, ()),
        ((11, 9), 0.8, 11, 1, ()),
        ((11, 5), 0.8, 11, 1, (0, 3, 10)),
        ((1, 270), 0.5, 2, 0, ()),
    ],
)
@pytest.mark.parametrize("portable", [False, True])
def test_the_search_is_the_readable_one(shape, scale, unary_length, scan_order, skipped, portable):
    params = TensorParams(*shape, True, unary_length, scan_order)
    reference = ReferenceParams(*shape, True, unary_length, scan_order)
    sets = random_sets(params, shape[1])
    values = laplacian(shape, scale)
    rows = np.isin(np.arange(shape[0]), skipped).astype(np.uint8)
    found = search_by_paths(values, params, 1.0, 0.8, rows, sets, portable=portable)
    wanted, cost = reference_paths.search(
        reference, values, 0.8 * DEPENDENT_BIT_WEIGHT, dict(enumerate(sets.tolist())), frozenset(skipped)
    )
    np.testing.assert_array_equal(found.indices, wanted)
    assert found.cost == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0, 300.0, 1e6])
@pytest.mark.parametrize(("unary_length", "scan_order"), [(11, 0), (1, 0), (11, 2)])
def test_the_cost_of_a_path_is_what_the_coder_makes_of_it(scale, unary_length, scan_order):
    params = TensorParams(60, 70, True, unary_length, scan_order)
    values, sets = laplacian(params.shape, scale), random_sets(params, 1)
    found = search_by_paths(values, params, 1.0, 0.8, None, sets)
    choices = TensorChoices(row_skip_flag=False, estimator_sets=sets)
    bits = sum(bits_by_kind(params, found.indices, choices).values())
    wanted = squared_error(values, found.indices, params) + 0.8 * DEPENDENT_BIT_WEIGHT * bits
    assert found.cost == pytest.approx(wanted, rel=1e-5)
    n_bytes = len(encode_payload([TensorInput(params, found.indices, choices)]).data)
    assert 0.998 * bits - 8 < 8 * n_bytes < 1.002 * bits + 5 * sets.size  # which names the sets


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(1, 40),
    n_columns=st.integers(1, 40),
    unary_length=st.sampled_from([1, 2, 11, 256]),
    scan_order=st.integers(0, 2),
    scale=st.sampled_from([0.1, 1.0, 20.0, 1e5]),
    lambda_rd=st.sampled_from([0.1, 0.8, 5.0]),
    seed=st.integers(0, 99),
)
def test_indices_are_equal_without_instruction_sets(
    n_rows, n_columns, unary_length, scan_order, scale, lambda_rd, seed
):
    params = TensorParams(n_rows, n_columns, True, unary_length, scan_order)
    values = laplacian(params.shape, scale, seed)
    values[::3] *= 0.001
    fast = quantize_thoroughly(values, params, 1.0, lambda_rd)
    slow = quantize_thoroughly(values, params, 1.0, lambda_rd, portable=True)
    np.testing.assert_array_equal(fast.indices, slow.indices)


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(1, 60),
    n_columns=st.integers(1, 60),
    scan_order=st.integers(0, 1),
    scale=st.sampled_from([0.2, 0.6, 1.2, 5.0]),
    lambda_rd=st.sampled_from([0.3, 0.8, 2.0]),
    seed=st.integers(0, 99),
)
def test_it_is_never_worse_than_the_fast_search(n_rows, n_columns, scan_order, scale, lambda_rd, seed):
    params = TensorParams(n_rows, n_columns, True, 11, scan_order)
    values = laplacian(params.shape, scale, seed)
    fast = coded_cost(values, params, quantize_indices(values, params, 1.0, lambda_rd), lambda_rd)
    found = coded_cost(values, params, quantize_thoroughly(values, params, 1.0, lambda_rd), lambda_rd)
    assert found <= fast * (1 + 1e-12)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("scan_order", [0, 3])
def test_it_pays_for_large_tensors_too(scale, scan_order):
    params = TensorParams(400, 500, True, 11, scan_order)
    assert params.n_values > MAX_TRIAL_VALUES
    values = laplacian(params.shape, scale)
    fast = coded_cost(values, params, quantize_indices(values, params, 1.0, 0.8), 0.8)
    assert coded_cost(values, params, quantize_thoroughly(values, params, 1.0, 0.8), 0.8) < 0.9995 * fast


def test_given_estimators_are_those_that_it_searches_with():
    params = TensorParams(30, 40, True, 11)
    values, sets = laplacian(params.shape, 1.0), random_sets(params, 5)
    alone = search_by_paths(values, params, 1.0, 0.8, None, sets).indices
    found = quantize_thoroughly(values, params, 1.0, 0.8, estimator_sets=sets).indices
    fast = quantize_indices(values, params, 1.0, 0.8).indices
    assert np.array_equal(found, alone) or np.array_equal(found, fast)
    assert not np.array_equal(alone, fast)


@pytest.mark.parametrize("n_columns", [7, 1000])
def test_large_tensors_decode_whatever_the_length_of_their_rows(n_columns):
    params = TensorParams(2 * MAX_TRIAL_VALUES // n_columns, n_columns, True, 11)
    values = laplacian(params.shape, 1.0)
    indices = quantize_thoroughly(values, params, 1.0, 0.8).indices
    payload = encode_payload([TensorInput(params, indices)]).data
    decoded = decode_payload(payload, [params], max_elements=params.n_values, has_qp=False, output="indices")
    np.testing.assert_array_equal(decoded[0].numbers, indices)


def test_one_long_row():
    params = TensorParams(1, MAX_TRIAL_VALUES + 100, True, 11)
    values = laplacian(params.shape, 1.0)
    assert coded_cost(values, params, quantize_thoroughly(values, params, 1.0, 0.8), 0.8) < coded_cost(
        values, params, quantize_indices(values, params, 1.0, 0.8), 0.8
    )


BASE = TensorParams(2, 3, True, 11, temporal=np.zeros(6, np.int32))


@pytest.mark.parametrize(
    ("params", "lambda_rd", "message"),
    [
        (TensorParams(2, 3, False, 11), 1.0, "dependent quantisation"),
        (BASE, 1.0, "without a base"),
        (TensorParams(2, 3, True, 11), 0.0, "lambda_rd 0"),
        (TensorParams(2, 3, True, 11), float("nan"), "lambda_rd nan"),
    ],
)
def test_what_it_cannot_search(params, lambda_rd, message):
    with pytest.raises(InputError, match=message):
        quantize_thoroughly(np.ones((2, 3), np.float32), params, 1.0, lambda_rd)


NETWORK = {
    "a.weight": laplacian((50, 60), 0.01),
    "b.weight": laplacian((8, 4, 3, 3), 0.01),
    "b.bias": laplacian(8, 0.1),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"lambda_rd": 0.5}, {"param_opt": False}, {"row_skipping": False}, {"scan_order": 1}, {"codebook": "auto"}],
    ids=str,
)
def test_compressed_networks_are_smaller_at_their_error(options):
    """Files decode as any other, and cost less than those of the fast search."""
    options = {"qp": -27, "lambda_rd": 0.8, "roles": "off", "n_threads": 1} | options
    cost = {}
    for search in ("fast", "thorough"):
        data = compress(NETWORK, search=search, **options)
        found = decompress(data)
        step = max(t.step or 0.0 for t in inspect(data).tensors)
        error = sum(float(np.square((found[n] - NETWORK[n]) / step).sum()) for n in NETWORK)
        assert all(np.abs(found[n] - NETWORK[n]).max() <= 4 * step for n in NETWORK)
        cost[search] = error + options["lambda_rd"] * DEPENDENT_BIT_WEIGHT * 8 * len(data)
    assert cost["thorough"] < cost["fast"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search": "slow"}, "one of fast, thorough"),
        ({"search": "thorough", "use_dq": False}, "use_dq=False"),
        ({"search": "thorough", "lambda_rd": 0}, "lambda_rd=0"),
        ({"search": "thorough", "bitdepth": 4}, "bitdepth"),
        ({"search": "thorough", "codebook": "force"}, "codebook"),
        ({"search": "thorough", "lossless": True}, "lossless"),
    ],
    ids=str,
)
def test_options_that_leave_nothing_to_search_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        compress(NETWORK, **options)


def test_updates_are_not_searched_thoroughly():
    with pytest.raises(InputError, match="search"):
        compress_update(NETWORK, NETWORK, options=CompressOptions(search="thorough"))
