"""What many tensors are not to take: work that no step, and no form without loss, asks for a second time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.coding import float_encoder, tensor_job, unary_length
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.tensor_encoder import encode_tensor
from vvc_nnr.coding.tensor_job import TensorJob
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import Spreads, nearest_qp, nearest_qps, spread_of
from vvc_nnr.quantize.snr import sure_energy


def normal(shape: tuple[int, ...], scale: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def test_values_are_looked_at_once_however_often_a_tensor_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, coded = [], []

    def counted(values: NDArray[np.float32], *, by_rows: bool = True) -> float:
        looked.append(values.size)
        return sure_energy(values, by_rows=by_rows)

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


@pytest.mark.parametrize("largest", [3, 40, 5000, 1 << 30])
def test_escapes_take_the_bits_of_their_prefixes_and_suffixes(largest: int) -> None:
    sizes = np.random.default_rng(0).integers(0, largest, 300, endpoint=True)
    lengths = np.array([1, 2, 10])
    different, n_of_each = np.unique(sizes, return_counts=True)
    found = unary_length._escape_bits(different, n_of_each, lengths, 1)
    for length, bits in zip(lengths, found, strict=True):
        beyond = sizes[sizes > length] - length
        suffixes = np.frexp(beyond.astype(np.float64))[1] - 1
        reached = np.array([float((suffixes >= k).sum()) for k in range(33)])
        own = unary_length._bits(reached, np.append(reached[1:], 0.0)).sum() + suffixes.sum()
        assert bits == pytest.approx(own)
