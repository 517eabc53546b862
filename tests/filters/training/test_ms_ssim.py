"""MS-SSIM with gradients, against the metric that the tables have."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.errors import ShapeError
from vvc_nnr.filters.training.ms_ssim import ms_ssim
from vvc_nnr.sequences.metrics import ms_ssim_rgb, ssim_rgb


def planes(picture):
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].float() / 255


def noisy(picture, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [2, 20, 60])
def test_it_is_that_of_the_tables(sigma):
    picture = skimage.data.astronaut()[100:277, 100:283]
    decoded = noisy(picture, sigma)
    assert float(ms_ssim(planes(picture), planes(decoded))) == pytest.approx(ms_ssim_rgb(picture, decoded), abs=1e-4)
    small, changed = picture[:20, :20], decoded[:20, :20]  # one scale alone: SSIM
    assert float(ms_ssim(planes(small), planes(changed))) == pytest.approx(ssim_rgb(small, changed), abs=1e-4)


def test_it_rises_down_its_gradient():
    picture = planes(skimage.data.astronaut()[:32, :32])
    decoded = planes(noisy(skimage.data.astronaut()[:32, :32], 30)).requires_grad_()
    before = ms_ssim(picture, decoded)
    (gradient,) = torch.autograd.grad(before.sum(), decoded)
    better = decoded.detach() + 0.1 * gradient / gradient.abs().max()
    assert float(ms_ssim(picture, better)) > float(before.detach())
    assert float(ms_ssim(picture, picture)) == pytest.approx(1)
    black = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(ms_ssim(1 - picture, black + picture).sum(), black)
    assert torch.isfinite(gradient).all()


def test_pictures_that_have_no_scale_are_refused():
    with pytest.raises(ShapeError, match="sides of at least 11"):
        ms_ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))
    with pytest.raises(ShapeError, match="of one shape"):
        ms_ssim(torch.zeros(1, 3, 12, 32), torch.zeros(1, 3, 32, 12))
