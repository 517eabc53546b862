from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.networks.autoencoder import MIN_LIKELIHOOD, TABLE_RADIUS, Autoencoder, FactorisedPrior
from vvc_nnr.filters.training.autoencoder import (
    AutoencoderTask,
    PatchSource,
    bits_per_pixel,
    distortion_weight,
    equalise_latents,
    estimated_bpp,
    keep_rate,
    random_patches,
)
from vvc_nnr.filters.zoo import load_autoencoder

CPU = torch.device("cpu")


def exact_likelihood(prior, value):
    """Probability of the bin around one value in each channel, in float64, without cancellation in either tail."""
    logits, means, log_scales = (p.detach().double().numpy() for p in (prior.logits, prior.means, prior.log_scales))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    half, distance = 0.5 / np.exp(log_scales), np.abs(value - means) / np.exp(log_scales)
    # S(d + h) - S(d - h) of the logistic function S is sinh(h) / (cosh(d) + cosh(h)); here scaled by exp(-d).
    mass = (1 - np.exp(-2 * half)) / (np.exp(distance - half) * (1 + np.exp(-2 * distance)) + 1 + np.exp(-2 * half))
    return (shares * mass).sum(axis=1)


def varied_prior(n_latents=5):
    torch.manual_seed(3)
    prior = FactorisedPrior(n_latents)
    with torch.no_grad():
        prior.logits.normal_()
        prior.means.normal_(0, 2)
        prior.log_scales.add_(torch.randn_like(prior.log_scales) * 0.3)
    return prior


def likelihoods(prior, values):
    latent = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, len(prior.logits), 1, 1)
    return prior(latent)[:, :, 0, 0]


# ---------------------------------------------------------------- the prior


@pytest.mark.parametrize("make", [varied_prior, lambda: FactorisedPrior(5)])
def test_the_likelihood_is_the_exact_one(make):
    prior = make()
    values = [*range(-40, 41), 0.25, -3.75, 17.5]
    got = likelihoods(prior, values).detach().double().numpy()
    expected = np.stack([exact_likelihood(prior, value) for value in values])
    np.testing.assert_allclose(got, np.maximum(expected, MIN_LIKELIHOOD), rtol=2e-4)


def test_a_value_at_the_very_mean_is_the_likeliest():
    prior = FactorisedPrior(2)
    around = likelihoods(prior, [-0.5, 0.0, 0.5]).detach()
    assert (around[1] > around[0]).all()
    assert (around[1] > around[2]).all()
    torch.testing.assert_close(likelihoods(prior, [0.0]), likelihoods(prior, [1e-6]))


def test_the_likelihoods_of_all_integers_sum_to_one():
    sums = likelihoods(varied_prior(), list(range(-400, 401))).double().sum(0)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


@pytest.mark.parametrize("distance", [20, 100, 127, 1e4, 1e9, 1e30])
def test_both_tails_stay_finite_and_alike(distance):
    prior = FactorisedPrior(3)
    both = likelihoods(prior, [-distance, distance])
    assert (both >= MIN_LIKELIHOOD).all()
    torch.testing.assert_close(both[0], both[1], rtol=1e-4, atol=0)
    torch.log(both).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in prior.parameters())


def test_gradients_pull_the_distribution_to_the_data():
    prior = FactorisedPrior(1)
    optimiser = torch.optim.Adam(prior.parameters(), 0.1)
    torch.manual_seed(0)
    data = torch.round(torch.randn(500, 1, 1, 1) * 1.5 + 6)
    for _ in range(150):
        optimiser.zero_grad()
        loss = -torch.log2(prior(data)).mean()
        loss.backward()
        optimiser.step()
    _, counts = np.unique(data.numpy(), return_counts=True)
    entropy_bits = -np.sum(counts / 500 * np.log2(counts / 500))
    assert entropy_bits <= loss.item() < entropy_bits + 0.1


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize(("height", "width"), [(32, 32), (4, 8), (36, 20)])
def test_shapes(autoencoder, height, width):
    network = autoencoder()
    with torch.no_grad():
        latent = network.analyse(torch.rand(2, 3, height, width))
        output, likelihood = network(torch.rand(2, 3, height, width))
    assert latent.shape == likelihood.shape == (2, 6, height // 4, width // 4)
    assert network.synthesise(latent).shape == output.shape == (2, 3, height, width)


def test_the_config_makes_the_same_network(autoencoder):
    network = autoencoder()
    again = Autoencoder(**network.config)
    again.load_state_dict(network.state_dict())
    pictures = torch.rand(1, 3, 8, 8)
    assert torch.equal(again.analyse(pictures), network.analyse(pictures))


def test_training_sees_the_rounded_latent_and_passes_gradients_through(autoencoder):
    network = autoencoder()
    pictures = torch.rand(2, 3, 8, 8)
    output, likelihood = network(pictures)
    with torch.no_grad():
        expected = network.synthesise(torch.round(network.analyse(pictures)))
    torch.testing.assert_close(output, expected)
    (output.sum() - torch.log(likelihood).sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.parameters())
    assert network.log_gain.grad.abs().sum() > 0


def test_equalised_latents_are_the_same_latents(autoencoder):
    network = autoencoder(n_latents=6)
    with torch.no_grad():
        network.encoder[-1].weight *= torch.logspace(-2, 1, 6).view(-1, 1, 1, 1)
        network.decoder[0].weight *= torch.logspace(1, 0, 6).view(1, -1, 1, 1)
        pictures = torch.rand(2, 3, 8, 8)
        latent = network.analyse(pictures)
        output = network.synthesise(torch.round(latent))
        equalise_latents(network)
        torch.testing.assert_close(network.analyse(pictures), latent, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network.synthesise(torch.round(latent)), output, rtol=1e-4, atol=1e-4)
    written = network.encoder[-1].weight.abs().amax(dim=(1, 2, 3))
    read = network.decoder[0].weight.abs().amax(dim=(0, 2, 3))
    torch.testing.assert_close(written / written.mean(), read / read.mean(), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- training


def photographs_rgb(n=2):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32 + 5 * i, 40, 3)).astype(np.uint8) for i in range(n)]


@pytest.fixture
def task(autoencoder):
    sources = [PatchSource(photographs_rgb(1), 0.25), PatchSource(photographs_rgb(2)[1:], 0.75)]
    return AutoencoderTask(autoencoder(), sources, photographs_rgb(1)[0][:, :32][None], 0.02, seed=4)


def test_the_loss_is_weighted_distortion_plus_rate(task):
    loss = task.loss(7, 3, CPU)
    patches = task.patches(np.random.default_rng([4, 7]), 3)
    pictures = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
    torch.manual_seed(hash((4, 7)) & 0x7FFFFFFF)
    output, likelihood = task.network(pictures)
    rate_bpp = -torch.log2(likelihood.double()).sum() / (3 * 32 * 32)
    expected = 0.02 * ((output - pictures) * 255).pow(2).mean() + rate_bpp
    torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-4, atol=0)


def test_bits_per_pixel():
    likelihood = torch.full((2, 4, 1, 1), 0.125)
    assert bits_per_pixel(likelihood, torch.zeros(2, 3, 4, 4)).item() == pytest.approx(4 * 3 / 16)


def test_losses_follow_from_seed_and_step(task):
    torch.rand(3)
    first = task.loss(2, 2, CPU).item()
    torch.rand(5)
    assert task.loss(2, 2, CPU).item() == first
    assert task.loss(3, 2, CPU).item() != first


def test_patches_come_from_the_sources_by_their_shares():
    dark, light = np.zeros((32, 33, 3), np.uint8), np.full((50, 40, 3), 255, np.uint8)
    sources = [PatchSource([dark], 1.0), PatchSource([light], 3.0)]
    patches = random_patches(sources, np.random.default_rng(0), 400)
    assert patches.shape == (400, 32, 32, 3)
    assert np.mean(patches[:, 0, 0, 0] == 255) == pytest.approx(0.75, abs=0.07)


def test_patches_are_cut_everywhere_and_mirrored():
    picture = np.arange(33 * 34 * 3, dtype=np.int64).reshape(33, 34, 3).astype(np.uint8)
    patches = random_patches([PatchSource([picture], 1)], np.random.default_rng(0), 200)
    windows = [picture[y : y + 32, x : x + 32] for y in range(2) for x in range(3)]
    allowed = {w.tobytes() for w in windows} | {w[:, ::-1].tobytes() for w in windows}
    assert {p.tobytes() for p in patches} == allowed


@pytest.mark.parametrize("pictures", [[], [np.zeros((31, 40, 3), np.uint8)], [np.zeros((40, 31, 3), np.uint8)]])
def test_pictures_too_small_to_cut(pictures):
    with pytest.raises(InputError, match="at least 32x32"):
        PatchSource(pictures, 1.0)


def test_fitted_tables_count_the_latents_of_training_patches(task):
    task.network.frequencies.zero_()
    task.fit_tables(n_patches=400)
    tables = task.network.frequencies.numpy().astype(np.int64)
    assert task.network.frequencies.dtype == torch.uint16
    assert tables.min() >= 1
    assert (tables.sum(axis=1) == 65536).all()
    with torch.no_grad():
        patches = np.concatenate([task.patches(np.random.default_rng([4, 1 << 40, b]), 200) for b in (0, 200)])
        latent = torch.round(task.network.analyse(torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255))
    common = int(torch.mode(latent[:, 0].flatten()).values)
    share = float((latent[:, 0] == common).float().mean())
    assert tables[0, common + TABLE_RADIUS] / 65536 == pytest.approx(share, abs=0.02)


def test_tables_of_a_network_that_gives_nan(task):
    with torch.no_grad():
        task.network.encoder[1].weight.fill_(math.nan)
    with pytest.raises(VvcNnrError, match="not a number"):
        task.fit_tables(n_patches=200)


def test_validation_figures(task):
    with torch.no_grad():
        figures = task.validate(CPU)
        pictures = torch.from_numpy(photographs_rgb(1)[0][:, :32][None]).permute(0, 3, 1, 2).float() / 255
        latent = torch.round(task.network.analyse(pictures))
        output = torch.round(task.network.synthesise(latent).clamp(0, 1) * 255)
    mse = float(((output - pictures * 255) ** 2).mean())
    assert figures["psnr_db"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
    assert figures["estimated_bpp"] == pytest.approx(
        float(bits_per_pixel(task.network.prior(latent), pictures).detach()), rel=1e-4
    )


def natural_patches():
    picture = cv2.resize(skimage.data.astronaut(), (128, 128), interpolation=cv2.INTER_AREA)
    return random_patches([PatchSource([picture], 1.0)], np.random.default_rng(0), 100)


def test_the_rate_comes_back_to_what_it_was():
    network = load_autoencoder("autoencoder-1.8bpp")
    patches = natural_patches()
    before = estimated_bpp(network, patches)
    with torch.no_grad():
        network.log_gain.add_(0.1)
    assert estimated_bpp(network, patches) > 1.03 * before
    keep_rate(network, patches, before)
    assert estimated_bpp(network, patches) == pytest.approx(before, rel=1e-3)
    with pytest.raises(VvcNnrError, match="no scale"):
        keep_rate(network, patches, 100.0)


def test_the_weight_of_the_distortion_is_near_the_one_of_the_training():
    patches = natural_patches()
    weights = [distortion_weight(load_autoencoder(f"autoencoder-{name}"), patches) for name in ("1.8bpp", "4.2bpp")]
    assert weights == pytest.approx([0.0265, 0.27], rel=0.4)  # see the cards
    blind = Autoencoder(4, 4, 4, 1)
    torch.nn.init.zeros_(blind.encoder[-1].weight)
    torch.nn.init.zeros_(blind.encoder[-1].bias)
    with pytest.raises(VvcNnrError, match="is it trained"):
        distortion_weight(blind, patches)
