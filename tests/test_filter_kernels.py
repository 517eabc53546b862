"""The kernels of filters compute the same bits on every processor and by every compiler; this needs numpy alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.filters import _kernels

CHECKSUM = "d38d135f9a8fe0e9f9d426bd01c638e28e55df27800e350dd114f37d77a7a4f2"
"""Of all that `outputs` has."""


@pytest.mark.parametrize("portable", [False, True])
def test_the_bits_are_those_of_every_machine(portable: bool) -> None:
    digest = hashlib.sha256()
    for output in outputs(portable):
        digest.update(f"{output.dtype.str} {output.shape}".encode())
        digest.update(output.tobytes())
    assert digest.hexdigest() == CHECKSUM


def outputs(portable: bool) -> Iterator[NDArray[np.generic]]:
    """What every kernel makes of random pictures and networks, which numpy draws the same for ever (RandomState)."""
    for seed, dtype, bit_depth in ((1, np.uint8, 8), (2, np.uint16, 10), (3, np.uint16, 16)):
        rng = np.random.RandomState(seed)
        peak = (1 << bit_depth) - 1
        luma, decoded = (rng.randint(0, peak + 1, (37, 51)).astype(dtype) for _ in range(2))
        pair = tuple(rng.randint(0, peak + 1, (19, 26)).astype(dtype) for _ in range(2))
        for chroma in (None, (pair[0], pair[1])):
            yield _kernels.read_window(luma, chroma, (2, 1, 17, 25), float(peak), 0.5, portable)
            values = rng.uniform(-0.1, 1.1, (6, 17, 25)).astype(np.float32)
            assert _kernels.write_window(values, (1, 2), (3, 0, 16, 23), float(peak), peak, luma, chroma, portable)
            yield from (luma, *(chroma or ()))
        yield _kernels.block_activity(luma)
        sets = rng.randint(0, 3, (10, 13)).astype(np.uint8)
        terms = tuple((kind, dy, dx) for kind in (0, 1, 2) for dy, dx in ((0, 1), (1, -1), (2, 0)))
        coefficients = rng.randint(-127, 128, (3, len(terms))).astype(np.int16)
        yield _kernels.wiener(luma, decoded, sets, coefficients, terms, 1 << (bit_depth - 3), 7, peak, portable)
    rng = np.random.RandomState(4)
    for n_channels, n_blocks, has_qp_plane, size in ((16, 2, True, (35, 59)), (8, 1, False, (3, 17))):
        network = _kernels.IntegerFilter(
            n_channels, n_blocks, has_qp_plane, _layers(rng, n_channels, n_blocks, has_qp_plane)
        )
        planes = rng.uniform(-0.1, 1.1, (6, *size)).astype(np.float32)
        n_outs = [n_channels] * (2 * n_blocks + 2) + [6]
        numbers = [
            rng.uniform((1e-4, -1, 50, 0), (2e-4, 1, 150, 128), (n, 4)).T.astype(np.float32, "C") for n in n_outs
        ]
        yield network.run(planes, numbers, -640.0, portable)


def _layers(
    rng: np.random.RandomState, n_channels: int, n_blocks: int, has_qp_plane: bool
) -> list[tuple[int, int, NDArray[np.int32], NDArray[np.uint8] | None]]:
    """Groups of inputs (of the head two of 16 bits, else four of 8), outputs, weights and what stands for zero."""

    def weights(n_out: int, n_groups: int, dtype: type[np.signedinteger]) -> NDArray[np.int32]:
        n = -(-n_out // 8) * 8 * n_groups * 9 * 4 // dtype().itemsize
        return rng.randint(-127, 128, n).astype(dtype).view(np.int32)

    n_groups = n_channels // 4
    head = 3 + has_qp_plane
    zeros = [rng.randint(0, 128, n_channels).astype(np.uint8) for _ in range(2 * n_blocks + 2)]
    outs = [n_channels] * (2 * n_blocks + 1) + [6]
    rest = [(n_groups, n, weights(n, n_groups, np.int8), zero) for n, zero in zip(outs, zeros, strict=True)]
    return [(head, n_channels, weights(n_channels, head, np.int16), None), *rest]
