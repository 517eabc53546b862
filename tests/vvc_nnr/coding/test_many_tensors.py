"""What many tensors are not to take: work that no step, and no form without loss, asks for a second time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.coding import float_encoder, tensor_job
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.tensor_encoder import encode_tensor
from vvc_nnr.coding.tensor_job import TensorJob, unary_length_minus1_of
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import Spreads, nearest_qp, nearest_qps, spread_of
from vvc_nnr.quantize.snr import Signal, sure_energy


def normal(shape: tuple[int, ...], scale: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def test_values_are_looked_at_once_however_often_a_tensor_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, coded = [], []

    def counted(values: NDArray[np.float32], *, by_rows: bool = True, signal: Signal | None = None) -> float:
        looked.append(values.size)
        return sure_energy(values, by_rows=by_rows, signal=signal)

    def encoded(job: TensorJob, options: CompressOptions) -> Any:
        coded.append(job.name)
        return encode_tensor(job, options)

    monkeypatch.setattr(float_encoder, "sure_energy", counted)
    monkeypatch.setattr("vvc_nnr.coding.encoder.encode_tensor", encoded)
    network = {f"layer{place}.weight": normal((12, 8 + place), 0.05, place) for place in range(30)}
    code_network(network, CompressOptions(n_threads=1))
    assert len(coded) > len(network)
    assert 0 < len(looked) <= len(network)


def test_steps_of_all_tensors_at_a_time_are_those_of_each() -> None:
    scales = np.geomspace(1e-9, 1e9, 61)
    found = {f"w{place}": spread_of(normal((4, 40), scale, place)) for place, scale in enumerate(scales)}
    spreads = Spreads({name: spread for name, spread in found.items() if spread is not None}, {}, {"w3": 9.0})
    for density in (0, 2, 5):
        steps = spreads.steps_at(20.0, 0.25, 14.0)
        assert spreads.qps_at(20.0, density, 14.0) == {name: nearest_qp(step, density) for name, step in steps.items()}
    steps_db = {name: spreads[name].snr_at(step) for name, step in steps.items()}
    assert all(math.isclose(steps_db[name], 29.0 if name == "w3" else 20.0, abs_tol=1e-6) for name in steps)


def test_nearest_qps_at_the_limits() -> None:
    steps = np.array([2.0**-40, 2.0**-32, 1.0, 1.1, 1.118, 1.1181, 3e9, 4.2e9, 1e12])
    assert nearest_qps(steps, 2).tolist() == [nearest_qp(step, 2) for step in steps.tolist()]


@pytest.mark.parametrize("n_values", [5_000, 40_000])
def test_half_floats_without_loss_are_coded_once_beside_a_part(monkeypatch: pytest.MonkeyPatch, n_values: int) -> None:
    sizes: list[int] = []
    plain = tensor_job.encode_indices

    def counted(unit: Any, indices: NDArray[np.int32], *arguments: Any, **options: Any) -> Any:
        sizes.append(indices.size)
        return plain(unit, indices, *arguments, **options)

    for module in (tensor_job, float_encoder):
        monkeypatch.setattr(module, "encode_indices", counted)
    values = normal((n_values,), 0.05, 0).astype(np.float16)
    code_network({"w": values}, CompressOptions(lossless=True, n_threads=1))
    assert n_values <= sum(sizes) < 1.1 * n_values


def bins_bits(n_bins: float, n_ones: float) -> float:
    share = min(max(n_ones / max(n_bins, 1.0), 1e-9), 1 - 1e-9)
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    return n_bins * entropy + 2 * math.log2(1 + n_bins)


def bits_of_length(sizes: NDArray[np.int64], length: int, stride: int) -> float:
    """Greater flags in two contexts each, prefixes and suffixes of what is above them, and what a header takes."""
    flags = (2 * bins_bits(stride * (sizes > j).sum() / 2, stride * (sizes > j + 1).sum() / 2) for j in range(length))
    suffixes = np.frexp((sizes[sizes > length] - length).astype(np.float64))[1] - 1
    reached = [stride * float((suffixes >= k).sum()) for k in range(34)]
    prefixes = sum(bins_bits(*pair) for pair in pairwise(reached))
    return sum(flags) + prefixes + stride * float(suffixes.sum()) + 0.3 * length + (0 if length == 10 else 8)


@pytest.mark.parametrize("largest", [2, 3, 13, 40, 5000, 1 << 20, (1 << 31) - 1])
@pytest.mark.parametrize("n_values", [65, 300, 40_000])
def test_as_many_greater_flags_as_take_the_fewest_bits(largest: int, n_values: int) -> None:
    rng = np.random.default_rng(largest)
    indices = np.rint(largest * rng.beta(1, 3, n_values) * rng.choice([-1, 1], n_values)).astype(np.int32)
    stride = -(-n_values // (1 << 14))
    sizes = np.abs(indices[::stride].astype(np.int64))
    lengths = [each for each in (1, 2, 3, 4, 5, 7, 10, 11, 14, 19) if each <= max(sizes.max(), 10)]
    best = min(lengths, key=lambda length: bits_of_length(sizes, length, stride))
    assert unary_length_minus1_of(indices) == (None if best == 10 else best - 1)


@pytest.mark.parametrize("scale", [0.5, 6.0, 3000.0])
def test_integers_take_their_entropy_behind_the_signs_of_their_neighbours(scale: float) -> None:
    integers = np.rint(normal((5000,), scale, 1)).astype(np.int32)
    n_bits = np.array([max(abs(int(each)) - 10, 0).bit_length() for each in integers])
    kinds = np.sign(integers) * (np.minimum(np.abs(integers), 10) + n_bits)
    before = np.concatenate([[0], np.sign(integers)[:-1]])
    entropy = 0.0
    for sign in (-1, 0, 1):
        _, counts = np.unique(kinds[before == sign], return_counts=True)
        entropy -= float((counts * np.log2(counts / counts.sum())).sum()) if counts.size else 0.0
    wanted = entropy + float(np.maximum(n_bits - 1, 0).sum())
    assert _kernels.integer_bits(integers) == pytest.approx(wanted, rel=1e-12)
