"""The prior that follows the picture: whole numbers, causality, bytes that decode, the encoder's search."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.networks import context_coding
from vvc_nnr.filters.networks.autoencoder import COST_STEPS, CodedRun
from vvc_nnr.filters.networks.context_coding import ContextCoder, decode_pictures, encode_pictures
from vvc_nnr.filters.networks.latent_context import (
    Mixture,
    even_squares,
    logistic_tables,
    mixture_likelihood,
    symbol_frequencies,
    weight_steps,
)
from vvc_nnr.filters.networks.latent_search import searched_latents
from vvc_nnr.filters.zoo import network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float

DECODER = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from vvc_nnr.filters.networks.autoencoder import CodedRun
from vvc_nnr.filters.networks.context_coding import decode_pictures
from vvc_nnr.filters.zoo import load_network
network, folder = load_network(sys.argv[1]).network, Path(sys.argv[2])
run = CodedRun(3, (folder / "run.bin").read_bytes())
np.save(folder / "decoded.npy", decode_pictures(network, [run], 32, 16, rate=1))
"""


def patches(n, height=32, width=32):
    picture = skimage.data.astronaut()
    return np.stack([picture[17 * i : 17 * i + height, 29 * i : 29 * i + width] for i in range(n)])


def random_indices(n, n_mixtures, seed):
    rng = np.random.default_rng(seed)
    means = rng.integers(-2032, 2033, (n, n_mixtures))
    scales = rng.integers(0, 80, (n, n_mixtures))
    weights = -rng.integers(0, 65, (n, n_mixtures))
    weights[:, 0] = 0
    return tuple(each.astype(np.int32) for each in (means, scales, weights))


def random_latents(network, n, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 10, (n, network.config["n_latents"], height, width)).astype(np.int32)


def test_the_tables_are_these_on_every_machine():
    digest = hashlib.sha256(np.ascontiguousarray(logistic_tables()).astype("<i8").tobytes()).hexdigest()
    assert digest == "ca5ac06cabb94e22f138c377123a4723c942519bcad9c96011561ee31f4a5762"


@pytest.mark.parametrize("n_mixtures", [1, 2, 3])
def test_frequencies_are_a_distribution_near_the_likelihood(n_mixtures):
    means, scales, weights = random_indices(300, n_mixtures, seed=n_mixtures)
    found = symbol_frequencies(means, scales, weights)
    assert found.shape == (300, 255)
    assert found.min() >= 16
    assert np.all(found.sum(axis=1) == 1 << 24)
    values = torch.arange(-126.0, 127.0).view(1, 1, -1, 1).expand(1, 300, -1, 1)
    parts = (torch.from_numpy(each).T.reshape(1, n_mixtures, 300, 1, 1) for each in (means, scales, weights))
    likelihood = mixture_likelihood(values, Mixture(*parts))[0, :, :, 0].double().numpy()
    np.testing.assert_allclose(found[:, 1:-1] / 2**24, likelihood, rtol=1e-2, atol=3e-6)


def test_weights_are_eight_bit_at_the_largest_step_that_fits():
    weight = torch.tensor([127.0, 127.4, 127.6, 1.0, 0.4, 0.0, 1e-9]).view(-1, 1, 1, 1)
    levels = weight * weight_steps(weight)
    assert levels.flatten()[:5].tolist() == [
        127.0,
        pytest.approx(127.4),
        pytest.approx(63.8),
        64.0,
        pytest.approx(102.4),
    ]
    assert torch.round(levels).abs().max() <= 127


def test_the_prior_computes_in_whole_numbers(context_network):
    """Against sums of int64: layer by layer, weights as int8, activations as uint8."""
    network = context_network()
    group = network.context.groups[2].double()
    rng = np.random.default_rng(3)
    latent = rng.integers(-127, 128, (2, group.conv0.weight.shape[1], 5, 6))
    condition = torch.tensor([1, 2])
    x, unit = latent, 8
    for index, conv in enumerate((group.conv0, group.conv1, group.conv2)):
        steps = weight_steps(conv.weight).flatten().detach().numpy()
        weight = np.rint(conv.weight.detach().numpy() * steps[:, None, None, None]).astype(np.int64)
        assert np.abs(weight).max() <= 127
        bias = np.rint(conv.bias.detach().numpy()[condition] * steps * 16).astype(np.int64)
        edge = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
        sums = np.einsum("ncyxij,ocij->noyx", windows, weight) * (16 // unit) + bias[:, :, None, None]
        real = sums / (steps[:, None, None] * 16)
        x, unit = np.rint(np.clip(real, 0, 255 / 16) * 16).astype(np.int64), 16
        assert index == 2 or 0 < x.max() <= 255
    np.testing.assert_array_equal(group(torch.from_numpy(latent).double() / 8, condition).detach().numpy(), real)


def test_distributions_depend_on_what_is_decoded_before_alone(context_network):
    network = context_network()
    context, n_latents = network.context.double(), network.config["n_latents"]
    before = torch.from_numpy(random_latents(network, 1, 6, 6)).double()
    rate = torch.zeros(1, dtype=torch.int64)
    for group in range(len(context.sizes)):
        own = context.channels(group)
        for half in (0, 1):
            other = torch.from_numpy(random_latents(network, 1, 6, 6, seed=1)).double()
            other[:, : own.start] = before[:, : own.start]
            if half:
                known = even_squares(before)
                other[:, own] = torch.where(known, before[:, own], other[:, own])
            same = context.half_group(before, rate, group, half) == context.half_group(other, rate, group, half)
            assert same.all(), (group, half, n_latents)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 1), (1, 5), (7, 3)])
@pytest.mark.parametrize("rate", [0, 1])
def test_latents_come_back_from_their_bytes(context_network, height, width, rate):
    network = context_network()
    latents = random_latents(network, 4, height, width)
    latents[0], latents[1] = 127, -127
    coder = ContextCoder(network)
    run = coder.encode(latents, rate)
    np.testing.assert_array_equal(coder.decode(CodedRun(4, run.data), height, width, rate), latents)
    alone = [coder.encode(latents[i : i + 1], rate) for i in range(4)]
    assert [one.costs[0] for one in alone] == list(run.costs)
    assert len(run.data) == pytest.approx(sum(run.costs) / (8 * COST_STEPS), rel=2e-3, abs=1)
    for one, latent in zip(alone, latents, strict=True):
        np.testing.assert_array_equal(coder.decode(one, height, width, rate), latent[None])


def test_strips_change_no_byte(context_network, monkeypatch):
    network = context_network()
    latents = random_latents(network, 2, 11, 6)
    whole = ContextCoder(network).encode(latents, 0)
    monkeypatch.setattr(context_coding, "_STRIP_SQUARES", 1)
    assert ContextCoder(network).encode(latents, 0) == whole


def test_the_rate_is_near_the_estimate(context_network):
    network = context_network()
    latents = random_latents(network, 3, 16, 16)
    tensor = torch.from_numpy(latents).float()
    with torch.no_grad():
        likelihood = mixture_likelihood(tensor, network.context(tensor, torch.zeros(3, dtype=torch.int64)))
    estimate_bits = float(-torch.log2(likelihood).sum())
    assert 8 * len(ContextCoder(network).encode(latents, 0).data) == pytest.approx(estimate_bits, rel=0.01)


def test_threads_change_no_byte(context_network):
    network, latents = context_network(), random_latents(context_network(), 2, 9, 9)
    before = torch.get_num_threads()
    try:
        found = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(ContextCoder(network).encode(latents, 0))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_pictures_come_back_in_a_process_of_its_own(context_network, tmp_path):
    network, pictures = context_network(), patches(3, 16, 32)
    write_float(tmp_path / "network.safetensors", network_tensors(network), network_metadata(network))
    (run,) = encode_pictures(network, pictures, rate=1)
    (tmp_path / "run.bin").write_bytes(run.data)
    command = [sys.executable, "-c", DECODER, str(tmp_path / "network.safetensors"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)
    there, here = np.load(tmp_path / "decoded.npy"), decode_pictures(network, [run], 32, 16, rate=1)
    assert np.abs(there.astype(int) - here).max() <= 1  # floats of the transform


def test_the_search_costs_no_more_and_its_bytes_decode(context_network):
    network, pictures = context_network(), patches(3)
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    rate = torch.tensor([0, 1, 0])

    def cost_bits(latent):
        with torch.no_grad():
            bits = -torch.log2(mixture_likelihood(latent, network.context(latent, rate))).sum(dim=(1, 2, 3))
            error = ((network.synthesise(latent, rate) - tensor) ** 2).mean(dim=1).sum(dim=(1, 2)) * 255**2
        return bits + network.distortion_weights[rate] * error

    plain, found = (searched_latents(network, tensor, rate, n_steps) for n_steps in (0, 30))
    assert (cost_bits(found) <= cost_bits(plain)).all()
    assert (cost_bits(found) < cost_bits(plain)).any()
    assert torch.equal(found, torch.round(found))
    runs = encode_pictures(network, pictures, effort=1)
    assert decode_pictures(network, runs, 32, 32).shape == pictures.shape


def test_damaged_streams_are_refused_or_decode(context_network):
    network = context_network()
    coder = ContextCoder(network)
    stream = coder.encode(random_latents(network, 2, 4, 4), 0).data
    rng = np.random.default_rng(11)
    n_refused = 0
    for _ in range(300):
        data = bytearray(stream[: rng.integers(len(stream) + 1)] if rng.integers(2) else stream)
        for _ in range(rng.integers(4)):
            if data:
                data[rng.integers(len(data))] = rng.integers(256)
        try:
            coder.decode(CodedRun(2, bytes(data)), 4, 4, 0)
        except BitstreamError:
            n_refused += 1
    assert n_refused > 0


def test_bad_input_is_refused(context_network):
    network = context_network()
    with pytest.raises(ShapeError, match="multiples of 4"):
        encode_pictures(network, patches(1, 6, 8))
    with pytest.raises(ShapeError, match="uint8"):
        encode_pictures(network, patches(1).astype(np.float32))
    with pytest.raises(InputError, match=r"rate 2: must be one of the network's operating points, 0 to 1"):
        encode_pictures(network, patches(1), rate=2)
    with pytest.raises(InputError, match=r"rate 0\.5: must be one of the network's operating points"):
        encode_pictures(network, patches(1), rate=0.5)
    with pytest.raises(InputError, match="effort 4: must be 0 to 3"):
        encode_pictures(network, patches(1), effort=4)
    with pytest.raises(ShapeError, match="positive multiples of 4"):
        decode_pictures(network, [], 0, 4)
    with torch.no_grad():
        network.encoder[1].bias.fill_(torch.nan)
    with pytest.raises(VvcNnrError, match="not finite"):
        encode_pictures(network, patches(1))
    with torch.no_grad():
        network.context.groups[0].conv0.bias.fill_(torch.inf)
    with pytest.raises(VvcNnrError, match="prior's weights are not finite"):
        ContextCoder(network)


def test_what_a_picture_takes_does_not_depend_on_those_beside_it(context_network):
    network, pictures = context_network(), patches(18, 16, 16)
    (together,) = encode_pictures(network, pictures, effort=1)
    (two,) = encode_pictures(network, pictures[[17, 3]], effort=1)
    assert two.costs == (together.costs[17], together.costs[3])
