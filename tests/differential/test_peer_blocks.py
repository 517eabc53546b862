"""Blocks as this package reads and writes them: the reference software decodes each part of them to the same values.

Run with `VVC_NNR_PEER=/path/to/python pytest -m peer`. Low rank and layer parameter sets are not here: the reference
software raises a KeyError on names that end in `_G`, and on any layer parameter set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from peer import Peer

from vvc_nnr.bitstream.data_unit import DataUnit, EntryPoint, ParameterTypes, PayloadType
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, write_units
from vvc_nnr.coding.unit_coding import make_params
from vvc_nnr.compress import compress, decompress
from vvc_nnr.kernels.entropy_coding import TensorInput, encode_payload

PYTHON = os.environ.get("VVC_NNR_PEER", "")
SHAPE = (18, 10)
NAMES = {
    ParameterTypes.LS: ("w_scaling",),
    ParameterTypes.BN: ("bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"),
    ParameterTypes.BI: ("b.bias",),
}
LS, BN, BI = NAMES

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not PYTHON, reason="VVC_NNR_PEER names no environment")]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer(PYTHON) as running:
        yield running


def block_stream(types: ParameterTypes, dq_flag: bool, scan_order: int) -> bytes:
    """A stream of one block with random levels."""
    names = ("w", *(name for kind, own in NAMES.items() if kind in types for name in own))
    unit = DataUnit(
        PayloadType.BLOCK, names, SHAPE, b"", dq_flag=dq_flag, compressed_parameter_types=types, scan_order=scan_order
    )
    random = np.random.default_rng(6)
    inputs = [
        TensorInput(make_params(unit, part), np.round(random.laplace(0, 2, part.n_elements)).astype(np.int64), qp=-20)
        for part in unit.parts()
    ]
    coded = encode_payload(inputs)
    entries = tuple(EntryPoint(e.value, e.dq_state, e.offset_bits) for of in coded.entry_points for e in of)
    unit = replace(unit, payload=coded.data, entry_points=entries)
    return b"".join(write_units([StartUnit(), ModelParameterSet(), TopologyUnit(), unit]))


@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("dq_flag", [False, True])
@pytest.mark.parametrize("types", [LS | BI, BN, BN | BI, LS | BN | BI])
def test_blocks_decode_alike(peer: Peer, types: ParameterTypes, dq_flag: bool, scan_order: int) -> None:
    data = block_stream(types, dq_flag, scan_order)
    found, _ = peer.decompress(data)
    scaling = found.pop("w_scaling").reshape(-1, 1) if LS in types else np.float32(1)
    ours = decompress(data)
    assert set(found) == set(ours)
    np.testing.assert_array_equal(found.pop("w") * scaling, ours.pop("w"))
    for name, array in ours.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "options", [{}, {"qp": -32, "use_dq": False}, {"quality": 20, "scan_order": 1}, {"bitdepth": 8}]
)
def test_scales_of_rows_are_given_apart(peer: Peer, options: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    sizes = np.exp(random.normal(size=40)).astype(np.float32)
    network = {
        "a.weight": (random.normal(size=(40, 5, 3)) * sizes[:, None, None]).astype(np.float32),
        "a.bias": random.normal(size=40).astype(np.float32),
        "b.weight": (random.normal(size=(12, 40)) / sizes).astype(np.float32),
        "a.weight_scaling": np.arange(3, dtype=np.float32),
    }
    data = compress(network, local_scaling=True, **options)
    ours, (found, _) = decompress(data), peer.decompress(data)
    assert set(found) == {*network, "a.weight_scaling_"}
    scaled = found.pop("a.weight") * found.pop("a.weight_scaling_").reshape(-1, 1, 1)
    np.testing.assert_array_equal(scaled, ours.pop("a.weight"))
    for name, array in ours.items():
        np.testing.assert_array_equal(found[name], array)
