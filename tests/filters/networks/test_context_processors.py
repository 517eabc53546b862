"""The bytes of a context prior with one thread and two, by other instruction sets, in other processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data

from vvc_nnr.filters.networks.context_coding import ContextCoder
from vvc_nnr.filters.zoo import load_network, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float

CODER = """
import hashlib, sys
import numpy as np, torch
torch.set_num_threads(int(sys.argv[1]))
from vvc_nnr.filters.networks.context_coding import ContextCoder
from vvc_nnr.filters.zoo import load_network
coder, latents = ContextCoder(load_network(sys.argv[2]).network), np.load(sys.argv[3])
run = coder.encode(latents, 1)
assert np.array_equal(coder.decode(run, *latents.shape[2:], 1), latents)
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(run.data).hexdigest(), *run.costs)
"""
LIMITS = {
    "all": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "none": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


@pytest.mark.parametrize(("limit", "n_threads"), [("all", 2), ("avx2", 1), ("none", 2)])
def test_bytes_are_the_same_by_any_instructions_and_threads(context_network, tmp_path, limit, n_threads):
    """Of latents that are given: those that the encoder makes of pictures in float32 may differ by a rounding."""
    network = context_network()
    write_float(tmp_path / "x.safetensors", network_tensors(network), network_metadata(network))
    photograph = skimage.data.astronaut()[:96, :96].astype(np.int32).transpose(2, 0, 1)
    latents = np.tile((photograph - 128) // 8, (2, 3, 1, 1))[:, : network.config["n_latents"], ::4, ::4].copy()
    np.save(tmp_path / "x.npy", latents)
    run = ContextCoder(network).encode(latents, 1)
    command = [sys.executable, "-c", CODER, str(n_threads), tmp_path / "x.safetensors", tmp_path / "x.npy"]
    done = subprocess.run(command, env=os.environ | LIMITS[limit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    capability, digest, *costs = done.stdout.split()
    assert limit == "all" or {"avx2": "AVX2", "none": "DEFAULT"}[limit] == capability
    assert digest == hashlib.sha256(run.data).hexdigest()
    assert tuple(map(int, costs)) == run.costs


def test_bytes_of_the_bundled_network_are_those_of_every_processor():
    """Measured with AVX2 and with none of these instructions; a processor with others has to write the same."""
    network = load_network("context-autoencoder").network
    photograph = skimage.data.astronaut()[:96, :96].astype(np.int32).transpose(2, 0, 1)
    latents = np.tile((photograph - 128) // 16, (1, 11, 1, 1))[:, : network.config["n_latents"], ::4, ::4].copy()
    digests = [hashlib.sha256(ContextCoder(network).encode(latents, point).data).hexdigest()[:16] for point in range(4)]
    assert digests == ["f338855daa2f14b7", "f1a642d84a8017fd", "bf21d47f81239731", "07a896dfd4047638"]
