"""Training of autoencoders with a context prior: what they start from, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.training import autoencoder, context_autoencoder
from vvc_nnr.filters.training.autoencoder import PatchSource, random_patches
from vvc_nnr.filters.training.context_autoencoder import (
    ContextAutoencoderRun,
    ContextAutoencoderTask,
    from_factorised,
    rate_and_psnr,
    train_context_autoencoder,
    with_operating_points,
)
from vvc_nnr.filters.training.loop import TrainOptions, train
from vvc_nnr.filters.zoo import load_network
from vvc_nnr.sequences.images import png_bytes


@pytest.fixture
def source():
    return PatchSource([skimage.data.astronaut()], 1.0)


@pytest.fixture
def factorised():
    """A small autoencoder with a factorised prior, of whose latents two are always zero."""
    torch.manual_seed(0)
    network = Autoencoder(8, n_fine=8, n_coarse=8, n_blocks=1)
    with torch.no_grad():
        network.encoder[-1].weight[[1, 4]] = 0
        network.encoder[-1].bias[[1, 4]] = 0
    return network.eval()


def test_the_transforms_of_a_factorised_autoencoder_are_kept(factorised, source):
    patches = random_patches([source], np.random.default_rng(0), 8)
    made = from_factorised(factorised, patches, 6).eval()
    tensor = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
    rate = torch.zeros(8, dtype=torch.int64)
    with torch.no_grad():
        before = factorised.synthesise(torch.round(factorised.analyse(tensor)))
        after = made.synthesise(torch.round(made.analyse(tensor, rate)), rate)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="n_latents 9: the network has 8"):
        from_factorised(factorised, patches, 9)


def test_operating_points_differ_by_their_gain(factorised, source):
    patches = random_patches([source], np.random.default_rng(0), 8)
    one = from_factorised(factorised, patches, 6).eval()
    several = with_operating_points(one, [0.5, 1.0]).eval()
    assert rate_and_psnr(several, patches, 1) == pytest.approx(rate_and_psnr(one, patches, 0))
    assert rate_and_psnr(several, patches, 0)[1] < rate_and_psnr(one, patches, 0)[1]
    with pytest.raises(InputError, match="has 2 already"):
        with_operating_points(several, [1.0])


def test_training_goes_on_as_if_it_had_not_been_cut_off_and_learns(factorised, source, tmp_path):
    patches = random_patches([source], np.random.default_rng(0), 8)

    def task(*, prior_only):
        torch.manual_seed(1)
        network = with_operating_points(from_factorised(factorised, patches, 6), [0.5, 1.0])
        return ContextAutoencoderTask(network, [source], patches, [0.01, 0.1], 0, prior_only=prior_only)

    def options(n_steps):
        return TrainOptions(n_steps=n_steps, batch_size=4, learning_rate=2e-3, warmup_steps=1, checkpoint_every=4)

    whole = task(prior_only=False)
    before = whole.validate(torch.device("cpu"))
    train(whole, options(12), tmp_path / "whole.pt")
    part = task(prior_only=False)

    class CutOff(Exception):
        pass

    loss = part.loss
    part.loss = lambda step, *rest: (_ for _ in ()).throw(CutOff) if step == 6 else loss(step, *rest)
    with pytest.raises(CutOff):
        train(part, options(12), tmp_path / "part.pt")
    part.loss = loss
    after = train(part, options(12), tmp_path / "part.pt")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, part.network.state_dict()[name]), name
    assert after.keys() == before.keys() == {"0_psnr_db", "0_estimated_bpp", "1_psnr_db", "1_estimated_bpp"}
    assert whole.network.distortion_weights.tolist() == pytest.approx([0.01, 0.1])

    prior = task(prior_only=True)
    transforms = {k: v.clone() for k, v in prior.network.state_dict().items() if not k.startswith("context.")}
    start = rate_and_psnr(prior.network, patches, 1)[1]
    train(prior, options(12), tmp_path / "prior.pt")
    assert rate_and_psnr(prior.network, patches, 1)[1] < start
    assert all(torch.equal(value, prior.network.state_dict()[name]) for name, value in transforms.items())
    with pytest.raises(InputError, match="distortion weights: 1 for a network of 2 rates"):
        ContextAutoencoderTask(prior.network, [source], patches, [0.1], 0)


def test_a_run_starts_from_a_bundled_network_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "VALIDATION_PATCHES", 4)
    monkeypatch.setattr(context_autoencoder, "_N_PROBED", 30)
    for name, picture in (("a", skimage.data.astronaut()), ("b", skimage.data.coffee())):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(picture[:96, :128]))

    def options(**changes):
        given = {"data": tmp_path, "out": tmp_path / "run", "n_steps": 2, "batch_size": 2, "prior_steps": 1}
        return ContextAutoencoderRun(**{**given, "distortion_weights": (0.1, 0.3), "n_latents": 8, **changes})

    trained = train_context_autoencoder(options(), {})
    made = load_network(trained.network)
    assert made.network.config["n_rates"] == 2
    assert made.network.distortion_weights.tolist() == pytest.approx([0.1, 0.3])
    assert trained.validation.keys() == {"0_psnr_db", "0_estimated_bpp", "1_psnr_db", "1_estimated_bpp"}
    data = trained.network.read_bytes()
    assert train_context_autoencoder(options(), {}).network.read_bytes() == data
    further = options(out=tmp_path / "further", init=str(trained.network))
    assert train_context_autoencoder(further, {}).network.read_bytes() != data
    for changes in ({"distortion_weights": (0.1, 0.2)}, {"distortion": "ms-ssim"}):
        with pytest.raises(InputError, match="a checkpoint of another run"):
            train_context_autoencoder(options(**changes), {})
    other = options(out=tmp_path / "other", distortion="ms-ssim")
    assert train_context_autoencoder(other, {}).network.read_bytes() != data
    with pytest.raises(InputError, match=r"distortion_weights: 1, init .* has 2 operating points"):
        train_context_autoencoder(options(out=tmp_path / "c", init=str(trained.network), distortion_weights=(1,)), {})
    with pytest.raises(InputError, match="must rise from each to the next"):
        train_context_autoencoder(options(distortion_weights=(0.3, 0.1)), {})
    with pytest.raises(InputError, match="init: must be an autoencoder to start from"):
        train_context_autoencoder(options(init=None), {})
