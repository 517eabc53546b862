"""Whatever this package writes, the reference software reads: random streams with all options, array by array.

Run with `VVC_NNR_PEER=/path/to/python pytest -m peer`, the Python of an environment with nncodec 2.1.3.
`VVC_NNR_PEER_CASES` says how many streams (2,000), `VVC_NNR_PEER_SEED` which ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peer import Peer

from vvc_nnr.bitstream.number_formats import coded_shape
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.update import BaseState, UpdateContexts, apply_update, compress_update
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.options import CompressOptions

N_CASES = int(os.environ.get("VVC_NNR_PEER_CASES", "2000"))
SEED = int(os.environ.get("VVC_NNR_PEER_SEED", "1"))
PYTHON = os.environ.get("VVC_NNR_PEER", "")
INT_TYPES = ["int8", "uint8", "int16", "int32", "int64", "uint32", "uint64", "bool"]

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not PYTHON, reason="VVC_NNR_PEER names no environment")]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer(PYTHON) as running:
        yield running


def random_shape(random: np.random.Generator) -> tuple[int, ...]:
    n_dimensions = int(random.choice([0, 1, 2, 2, 2, 3, 4]))
    limit = [1, 200, 70, 16, 8][n_dimensions]
    shape = [int(random.integers(1, limit + 1)) for _ in range(n_dimensions)]
    if n_dimensions == 2 and random.random() < 0.2:
        shape[int(random.integers(2))] = 1
    return tuple(shape)


def random_floats(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    scale = float(2.0 ** random.integers(-14, 4))
    values = random.laplace(0, scale, shape) if random.random() < 0.7 else random.normal(0, scale, shape)
    values = np.where(random.random(shape) < random.choice([0, 0, 0.5, 0.98]), 0, values)
    if values.ndim > 1 and random.random() < 0.3:
        values[random.random(shape[0]) < 0.5] = 0
    if values.size and random.random() < 0.1:
        values.flat[random.integers(values.size)] = float(random.choice([1e3, -1e7, 1e12, 1e-30]))
    number_format = random.choice(["float32", "float32", "float32", "float64", "float16"])
    return (values.clip(-6e4, 6e4) if number_format == "float16" else values).astype(number_format)


def random_tensor(random: np.random.Generator) -> NDArray[Any]:
    shape = random_shape(random)
    if random.random() < 0.8:
        return np.asarray(random_floats(random, shape))
    number_format = str(random.choice(INT_TYPES))
    if number_format == "bool":
        return np.asarray(random.random(shape) < 0.5)
    info = np.iinfo(number_format)
    reach = 2 ** int(random.integers(1, info.bits))
    low, high = max(info.min, -reach), min(info.max, reach)
    return np.asarray(random.integers(low, high, shape, dtype=number_format, endpoint=True))


def random_options(random: np.random.Generator, names: list[str]) -> dict[str, Any]:
    density = int(random.choice([0, 1, 2, 2, 2, 2, 3, 4]))
    octaves = float(random.uniform(-14, 1))
    options = {
        "qp": int(octaves * 2**density),
        "qp_density": density,
        "nonweight_qp": None if random.random() < 0.5 else int(random.integers(-20 << density, 0)),
        "qp_per_tensor": {names[0]: int(random.integers(-16 << density, 0))} if random.random() < 0.2 else None,
        "use_dq": bool(random.random() < 0.6),
        "lambda_rd": [None, 0.0, float(random.uniform(0, 20))][random.integers(3)],
        "row_skipping": bool(random.random() < 0.7),
        "scan_order": ["auto", 0, 1, 2, 3, 4][random.integers(6)],
        "codebook": str(random.choice(["off", "off", "auto", "force"])),
        "param_opt": bool(random.random() < 0.7),
        "bitdepth": int(random.integers(2, 17)) if random.random() < 0.15 else None,
        "float64": str(random.choice(["float32", "exact"])),
        "n_threads": 1,
    }
    can_search = options["use_dq"] and options["lambda_rd"] != 0 and options["codebook"] != "force"
    is_thorough = can_search and options["bitdepth"] is None and random.random() < 0.5
    idle = {"qp": None, "nonweight_qp": "fine"} if options["bitdepth"] is not None else {}
    return options | idle | {"search": "thorough" if is_thorough else "fast"}


def as_peer_sees(name: str, ours: NDArray[Any], theirs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The peer's arrays in the number format and shape that the stream's manifest restores for us."""
    found = theirs[name]
    assert found.shape == coded_shape(ours.shape)
    if f"{name}.high" in theirs:
        wide = (theirs[f"{name}.high"].astype(np.int64) << 32) | (found.astype(np.int64) & 0xFFFFFFFF)
        found = wide.view(ours.dtype)
    elif found.dtype == np.int32 and ours.dtype.kind == "f":
        found = found.astype(f"i{ours.dtype.itemsize}").view(ours.dtype)
    elif found.dtype == np.int32 and ours.dtype.itemsize == 8:
        found = found.astype(np.int64).view(ours.dtype)
    return found.astype(ours.dtype).reshape(ours.shape)


def test_streams_decode_alike(peer: Peer) -> None:
    n_tensors = 0
    for case in range(N_CASES):
        random = np.random.default_rng([SEED, case])
        network = {f"layer{place}.weight": random_tensor(random) for place in range(random.integers(1, 5))}
        options = random_options(random, list(network))
        data = compress(network, **options)
        ours, (theirs, _) = decompress(data, n_threads=2), peer.decompress(data)
        kinds = {each.name: each.number_format for each in inspect(data).tensors}
        raw = {each.name for each in read_stream(data).tensors if each.raw is not None}
        for name, array in ours.items():
            if name in raw or kinds[name].endswith(" values"):
                continue  # the manifest holds them, there is a place for them
            found = as_peer_sees(name, array, theirs)
            assert np.array_equal(array, found), (case, name, options, array.shape, array.dtype)
            n_tensors += 1
    assert n_tensors >= N_CASES


def test_updates_decode_alike(peer: Peer) -> None:
    for case in range(N_CASES // 20):
        random = np.random.default_rng([SEED, case, 1])
        shapes = [random_shape(random) or (3,) for _ in range(2)]
        values = {f"t{place}": random.normal(size=shape).astype(np.float32) for place, shape in enumerate(shapes)}
        options = CompressOptions(
            qp=int(random.integers(-40, -20)),
            use_dq=bool(random.random() < 0.5),
            scan_order=int(random.integers(0, 5)),
            row_skipping=bool(random.random() < 0.8),
        )
        contexts = [bool(flag) for flag in random.random(2) < 0.7]
        sender = receiver = BaseState.of(values)
        peer.start_updates()
        for step in range(5):
            wanted = {
                name: (array + np.where(random.random(array.shape) < 0.3, random.normal(0, 0.1, array.shape), 0))
                for name, array in sender.arrays.items()
            }
            wanted = {name: array.astype(np.float32) for name, array in wanted.items()}
            data, sender = compress_update(sender, wanted, options=options, contexts=UpdateContexts(*contexts))
            theirs = peer.decompress_update(data)
            expected = {name: receiver.arrays[name] + theirs.get(name, np.float32(0)) for name in values}
            receiver = apply_update(receiver, data)
            for name in values:
                assert np.array_equal(receiver.arrays[name], expected[name]), (case, step, name, options, contexts)


def test_the_reference_software_reads_brief_updates(peer: Peer) -> None:
    """Tensors have their places as names there."""
    random = np.random.default_rng(SEED)
    shapes = {"head.bias": (16,), "head.weight": (6, 4, 3, 3), "gain": (6, 1), "same": (3,)}
    for case in range(20):
        base = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        new = {name: array + random.laplace(0, 0.1, array.shape).astype(np.float32) for name, array in base.items()}
        options = CompressOptions(qp=int(random.integers(-24, 0)), nonweight_qp=-12, use_dq=bool(case % 2))
        data, after = compress_update(base, new | {"same": base["same"]}, options=options, brief=True)
        peer.start_updates()
        theirs = peer.decompress_update(data)
        assert set(theirs) <= {"0", "1", "2"}
        for place, name in enumerate(shapes):
            expected = base[name] + theirs.get(str(place), np.float32(0))
            assert np.array_equal(after.arrays[name], expected), (case, name)
