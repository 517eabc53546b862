"""Every kernel that this processor can run codes to the same bytes and decodes to the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

# Prints a digest of what is encoded and decoded: block rows with rare large values and few lanes left in the end, by
# one thread and two, and damaged; many tensors side by side, some with such values.
SCRIPT = """
import hashlib
import numpy as np
from vvc_nnr.errors import BitstreamError
from vvc_nnr.kernels.entropy_coding import Payload, TensorInput, decode_payload, decode_payloads, encode_payload
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.quantize.dependent import quantize_indices

rng, found = np.random.default_rng(9), hashlib.sha256()
for n_rows, scale, unary_length, dq_flag in ((641, 2.0, 10, True), (300, 30.0, 3, True), (150, 6.0, 32, False)):
    params = TensorParams(n_rows, 57, dq_flag, unary_length, 1)
    weights = rng.laplace(0, scale, params.shape).astype(np.float32)
    weights[::50, ::9] *= 100
    coded = encode_payload([TensorInput(params, quantize_indices(weights, params, 1.0).indices, qp=3)])
    found.update(coded.data)
    for n_threads in (1, 2):
        for output in ("indices", "levels", "values"):
            (tensor,) = decode_payload(
                coded.data, [params], max_elements=1 << 20, output=output, step_of=lambda qp: qp / 8,
                entry_points=coded.entry_points, n_threads=n_threads,
            )
            found.update(tensor.numbers.tobytes())
    for at in range(5, len(coded.data), len(coded.data) // 40):
        data = bytearray(coded.data)
        data[at] ^= 1 << at % 8
        try:
            (tensor,) = decode_payload(bytes(data), [params], max_elements=1 << 20, entry_points=coded.entry_points)
            found.update(tensor.numbers.tobytes())
        except BitstreamError:
            found.update(b"damaged")
payloads = []
for place in range(60):
    shape = (int(rng.integers(3, 40)), int(rng.integers(20, 90)))
    params = TensorParams(*shape, place % 3 > 0, int(rng.choice([1, 5, 10, 32])), 0)
    indices = np.rint(rng.standard_normal(shape) * rng.choice([0.5, 3.0, 60.0])).astype(np.int32)
    data = encode_payload([TensorInput(params, indices, qp=place)]).data
    payloads.append(Payload(data, [params], params.n_values, output="values", step_of=lambda qp: qp / 8))
for (tensor,) in decode_payloads(payloads):
    found.update(tensor.numbers.tobytes())
print(found.hexdigest())
"""


def run(instructions: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VVC_NNR_INSTRUCTIONS": instructions}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)


@cache
def digest(instructions: str) -> str:
    done = run(instructions)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("instructions", ["avx2", "gathers", "portable"])
def test_all_instruction_sets_compute_the_same(instructions: str) -> None:
    assert digest(instructions) == digest("")


def test_unknown_instruction_sets_are_refused() -> None:
    done = run("sse9")
    assert done.returncode == 1
    told = 'VVC_NNR_INSTRUCTIONS is "sse9"; must be gathers, avx2, portable or empty'
    assert told in done.stderr
    command = run("sse9", "import sys, _vvc_nnr_command; sys.exit(_vvc_nnr_command.main())")
    assert (command.returncode, command.stdout, command.stderr) == (2, "", f"vvc-nnr: error: {told}\n")
