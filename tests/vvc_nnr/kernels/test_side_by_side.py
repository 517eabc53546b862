"""Codewords that are decoded side by side come to what each comes to alone, by any kernel, and fail in order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError
from vvc_nnr.kernels.entropy_coding import Payload, TensorInput, decode_payload, decode_payloads, encode_payload
from vvc_nnr.kernels.tensor_params import TensorParams


def tensors(n: int, seed: int) -> list[tuple[TensorParams, NDArray[np.int32]]]:
    """Of many sizes and kinds: some have too few values, too many flags, skipped rows or block rows to share lanes."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(n):
        shape = (int(rng.integers(1, 30)), int(rng.integers(1, 90)))
        params = TensorParams(*shape, place % 3 == 0, int(rng.choice([1, 2, 5, 10, 19, 32, 40])), int(place % 7 == 0))
        indices = np.rint(rng.standard_normal(shape) * rng.choice([0.5, 3.0, 60.0])).astype(np.int32)
        indices[::2] *= place % 5 > 0
        found.append((params, indices))
    return found


@pytest.mark.parametrize("n", [1, 3, 8, 40, 150])
@pytest.mark.parametrize("portable", [False, True])
def test_tensors_come_back_as_they_do_alone(n: int, portable: bool) -> None:
    coded = [
        (params, indices, encode_payload([TensorInput(params, indices, qp=place % 60)]).data)
        for place, (params, indices) in enumerate(tensors(n, n))
    ]
    payloads = [
        Payload(data, [params], params.n_values, output="values" if place % 2 else "levels", step_of=lambda qp: qp / 8)
        for place, (params, _, data) in enumerate(coded)
    ]
    for place, (found,) in enumerate(decode_payloads(payloads, portable=portable)):
        own = payloads[place]
        (alone,) = decode_payload(own.data, own.tensors, max_elements=1 << 20, output=own.output, step_of=own.step_of)
        assert found.numbers.dtype == alone.numbers.dtype
        assert np.array_equal(found.numbers, alone.numbers)
        assert (found.qp, found.entry_points) == (place % 60, ())


def test_the_first_that_is_damaged_is_told() -> None:
    coded = [(params, encode_payload([TensorInput(params, indices, qp=0)]).data) for params, indices in tensors(60, 0)]
    payloads = [Payload(data, [params], params.n_values) for params, data in coded]
    cut = [payloads[place].data[: len(payloads[place].data) // 3] for place in (31, 50)]
    payloads[31] = Payload(cut[0], payloads[31].tensors, 1 << 20)
    payloads[50] = Payload(b"", payloads[50].tensors, 1 << 20)
    with pytest.raises(BitstreamError) as told:
        decode_payloads(payloads)
    with pytest.raises(BitstreamError) as alone:
        decode_payload(cut[0], payloads[31].tensors, max_elements=1 << 20)
    assert str(told.value) == str(alone.value)
