"""Damaged and crafted streams end in a right result, BitstreamError or UnsupportedError, soon and in little memory."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.bitstream.units import OpaqueUnit, StartUnit, TopologyUnit, write_units
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import BitstreamError, UnsupportedError

RANDOM = np.random.default_rng(5)
NETWORK = {
    "a.weight": RANDOM.laplace(0, 0.05, (24, 9)).astype(np.float32),
    "a.bias": RANDOM.normal(size=5).astype(np.float16),
    "n": np.array([1 << 40, -3]),
    "z": np.array(4),
}
OURS = compress(NETWORK, scan_order=1, n_threads=1)
RESULT = decompress(OURS)
VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "nnc_vectors.json").read_text())["cases"]
FOREIGN = [bytes.fromhex(case["bitstream_hex"]) for case in VECTORS]
MAX_ELEMENTS = 100_000
LONGEST_S = 1.0


def attempt(data: bytes) -> dict[str, Any] | None:
    """The tensors, or None after one of the two errors that are allowed."""
    start = time.process_time()
    try:
        return decompress(data, max_elements=MAX_ELEMENTS, n_threads=1)
    except (BitstreamError, UnsupportedError):
        return None
    finally:
        assert time.process_time() - start < LONGEST_S


def is_right(found: dict[str, Any]) -> bool:
    return list(found) == list(RESULT) and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in RESULT.items()
    )


def unit_borders(data: bytes) -> Iterator[tuple[int, int]]:
    for placed in read_stream(data, skip_unsupported=True).units:
        yield placed.offset_bytes, placed.offset_bytes + placed.size_bytes


def test_every_truncation_is_noticed() -> None:
    for size in range(len(OURS)):
        assert attempt(OURS[:size]) is None, size


def test_every_flipped_bit_is_noticed() -> None:
    for bit in range(8 * len(OURS)):
        changed = bytearray(OURS)
        changed[bit >> 3] ^= 128 >> (bit & 7)
        assert attempt(bytes(changed)) is None, bit


def test_missing_doubled_and_reordered_units_are_noticed() -> None:
    units = [OURS[start:end] for start, end in unit_borders(OURS)]
    for first in range(len(units)):
        assert attempt(b"".join(units[:first] + units[first + 1 :])) is None
        assert attempt(b"".join([*units[: first + 1], *units[first:]])) is None
        for second in range(first):
            order = list(units)
            order[first], order[second] = order[second], order[first]
            assert attempt(b"".join(order)) is None


def test_a_renamed_tensor_is_noticed() -> None:
    assert attempt(OURS.replace(b"a.bias\0", b"a.bios\0")) is None


def test_a_unit_of_another_stream_is_noticed() -> None:
    other = compress({**NETWORK, "a.weight": NETWORK["a.weight"] + 0.1}, scan_order=1)
    ours, theirs = ([d[s:e] for s, e in unit_borders(d)] for d in (OURS, other))
    assert attempt(b"".join([*ours[:3], theirs[3], *ours[4:]])) is None


@pytest.mark.parametrize("data", FOREIGN, ids=[case["name"] for case in VECTORS])
def test_damaged_foreign_streams_end_well(data: bytes) -> None:
    for size in range(len(data)):
        attempt(data[:size])
    for bit in range(0, 8 * len(data), 3):
        changed = bytearray(data)
        changed[bit >> 3] ^= 128 >> (bit & 7)
        attempt(bytes(changed))


@given(
    first=st.sampled_from([OURS, *FOREIGN]),
    second=st.sampled_from([OURS, *FOREIGN]),
    cuts=st.tuples(*[st.floats(0, 1)] * 3),
    noise=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=600, deadline=None)
def test_spliced_streams_end_well(
    first: bytes, second: bytes, cuts: tuple[float, ...], noise: list[tuple[float, int]]
) -> None:
    a, b, c = int(cuts[0] * len(first)), int(cuts[1] * len(second)), int(cuts[2] * len(second))
    data = bytearray(first[:a] + second[b : max(b, c)] + first[a:])
    for place, value in noise:
        data[min(int(place * len(data)), len(data) - 1)] = value
    found = attempt(bytes(data))
    if found is not None and b'"vvc_nnr"' in data:
        assert is_right(found) or not inspect(data).is_verifiable


def crafted(unit: DataUnit, mps: ModelParameterSet | None = None) -> bytes:
    return b"".join(write_units([StartUnit(), mps or ModelParameterSet(), TopologyUnit(), unit]))


@pytest.mark.parametrize("shape", [(20000, 20000), (1 << 40, 1 << 40), (300_000, 300_000), (5, 1 << 41)])
@pytest.mark.parametrize("kind", [PayloadType.INT, PayloadType.FLOAT])
def test_huge_dimensions_end_at_once(shape: tuple[int, ...], kind: PayloadType) -> None:
    data = crafted(DataUnit(kind, ("w",), shape, bytes(20)))
    assert attempt(data) is None
    with pytest.raises(BitstreamError):
        decompress(data, max_elements=1 << 62)


def test_a_zero_dimension_is_an_error() -> None:
    data = bytearray(crafted(DataUnit(PayloadType.INT, ("w",), (1, 1), b"\x80" * 4)))
    for place in range(18, len(data)):
        for value in range(256):
            changed = bytearray(data)
            changed[place] = value
            attempt(bytes(changed))


@pytest.mark.parametrize("qp", [-4096, 4095])
@pytest.mark.parametrize("density", [0, 7])
def test_steps_beyond_float32_are_an_error(qp: int, density: int) -> None:
    mps = ModelParameterSet(mps_qp_density=density, mps_quantization_parameter=qp)
    (unit,) = read_stream(compress({"w": np.ones(4, np.float32)})).tensors[0].data_units
    attempt(crafted(unit, mps))
    attempt_inspection(crafted(unit, mps))


def attempt_inspection(data: bytes) -> None:
    with contextlib.suppress(BitstreamError, UnsupportedError):
        inspect(data, bins=True, max_elements=MAX_ELEMENTS, n_threads=1)


def test_damaged_streams_can_be_inspected() -> None:
    for data in [OURS, *FOREIGN]:
        for bit in range(0, 8 * len(data), 29):
            changed = bytearray(data)
            changed[bit >> 3] ^= 128 >> (bit & 7)
            attempt_inspection(bytes(changed))


@pytest.mark.parametrize("end", [b'"sha256":"' + b"0" * 32, b'"#":"' + b"0" * 5], ids=["old", "new"])
@pytest.mark.parametrize("body", ["[" * 50_000, '{"units":1e999}', "{}", "[]", '{"units":' + "9" * 5000 + "}"])
def test_manifests_that_are_none_are_errors(body: str, end: bytes) -> None:
    text = b'{"vvc_nnr":' + body.encode() + end + b'"}\0'
    units = read_stream(compress({"w": np.ones(3, np.float32)})).tensors[0].data_units
    topology = TopologyUnit(topology_data=text)
    assert attempt(b"".join(write_units([StartUnit(), ModelParameterSet(), topology, *units]))) is None
    hidden = OpaqueUnit(9, text)
    assert attempt(b"".join(write_units([StartUnit(), ModelParameterSet(), TopologyUnit(), hidden, *units]))) is None
