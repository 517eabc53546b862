"""Tensors of a few values, whose errors are single roundings: what they keep, and what they take."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.tensor_encoder import FEW_ROUNDINGS
from vvc_nnr.compress import decompress, inspect
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import MIN_QUALITY_DB
from vvc_nnr.quantize.snr import WEAK_DB, snr_db

NAMES = ("layer%d.weight", "layer%d.bias", "x%d", "norm%d.running_mean")


def network_of(seed: int, octaves: tuple[float, float]) -> dict[str, NDArray[np.float32]]:
    """Tensors of one to 400 values: normal, with outliers, sparse, of rank 1."""
    random = np.random.default_rng(seed)
    found = {}
    for place in range(12):
        shape = tuple(random.integers(1, 9, random.integers(0, 3)) * (1 if place % 4 else random.integers(1, 4)))
        values = np.asarray(random.standard_normal(shape))
        if place % 5 == 0 and values.size > 20:
            values.reshape(-1)[0] *= 10 ** random.uniform(1, 5)
        if place % 5 == 1:
            values = values * (random.random(shape) < 0.2)
        if place % 5 == 2 and len(shape) == 2:
            values = np.outer(random.standard_normal(shape[0]), random.standard_normal(shape[1]))
        name = NAMES[random.integers(0, len(NAMES))] % place
        found[name] = np.asarray(values * 10 ** random.uniform(*octaves), np.float32)
    return found


@pytest.mark.parametrize("octaves", [(-8, 8), (-8, -4), (4, 8)])
def test_no_few_values_lose_most_of_themselves(octaves: tuple[float, float]) -> None:
    for seed in range(8):
        network = network_of(seed, octaves)
        coded = code_network(network, CompressOptions(n_threads=1))
        decoded = decompress(coded.data, n_threads=1)
        kept = {name: snr_db(values, decoded[name]) for name, values in network.items()}
        few = {name for name, values in network.items() if values.size <= FEW_ROUNDINGS}
        assert not {name: db for name, db in kept.items() if name in few and db < MIN_QUALITY_DB}, seed
        assert {name for name, db in kept.items() if db < WEAK_DB} <= coded.weak_db.keys()


@pytest.mark.parametrize("max_bytes", [3000, 6000, 15000])
def test_one_large_tensor_uses_a_size_up(max_bytes: int) -> None:
    values = np.random.default_rng(0).laplace(0, 0.05, (256, 256)).astype(np.float32)
    coded = code_network({"w": values}, CompressOptions(max_bytes=max_bytes, n_threads=1))
    assert 0.95 * max_bytes <= len(coded.data) <= max_bytes
    given = code_network({"w": values}, CompressOptions(max_bytes=max_bytes, qp_density=3, n_threads=1))
    assert inspect(given.data).qp_density == 3
