"""Compression of autoencoders by what errors of weights do to rate and distortion together."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import vvc_nnr
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated, prepare_calibrated
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.factory import module_made_by
from vvc_nnr.filters.networks.latent_context import IntegerConv
from vvc_nnr.filters.picture_codecs import OwnCodec, picture_codec
from vvc_nnr.filters.training.codec_calibration import (
    autoencoder_calibration,
    operating_points,
    own_codec_calibration,
)
from vvc_nnr.filters.training.context_autoencoder import keep_rates, rate_and_psnr
from vvc_nnr.filters.zoo import network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float

MakeNetwork = Callable[..., ContextAutoencoder]


def small_pictures(n: int, side: int = 16) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    whole = skimage.data.astronaut()
    places = rng.integers(0, len(whole) - side, (n, 2))
    return np.stack([whole[y : y + side, x : x + side] for y, x in places])


def calibration(network: ContextAutoencoder | Autoencoder) -> Calibration:
    pictures = small_pictures(24)
    return autoencoder_calibration(network, pictures[:16], pictures[16:], batch_size=4)


def test_all_matrices_follow_from_rate_and_distortion(context_network: MakeNetwork) -> None:
    network = context_network()
    found = compress_calibrated(network, calibration(network), max_bytes=9000)
    assert len(found.data) <= 9000
    matrices = {name for name in network.state_dict() if name.endswith("weight")}
    assert found.codec is not None
    assert len(found.codec.before) == len(found.codec.after) == 2
    calibrated = found.calibrated or found
    assert {tensor.name for tensor in calibrated.tensors if tensor.error_share is not None} == matrices
    decoded = context_network(1)
    vvc_nnr.load_into(decoded, found.data)
    points = operating_points(decoded, small_pictures(24)[16:], network.distortion_weights.tolist())
    assert [point.bpp for point in points] == [point.bpp for point in found.codec.after]
    assert found.loss_db == pytest.approx(
        max(old.psnr_db - new.psnr_db for old, new in zip(found.codec.before, found.codec.after, strict=True))
    )


def test_both_limits_are_kept(context_network: MakeNetwork) -> None:
    network = context_network()
    found = compress_calibrated(network, calibration(network), max_loss_db=0.3, max_rate_rise_percent=2.0)
    assert found.codec is not None
    assert found.loss_db <= 0.3
    assert found.codec.rate_rise_percent <= 2.0


def test_what_the_pass_returns_changes_as_rate_and_distortion_rise(context_network: MakeNetwork) -> None:
    network, changed = context_network(), context_network()
    given = calibration(network)
    assert given.run is not None
    with torch.no_grad():
        last = changed.decoder[-2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.bias += 0.01
        error = 0.0
        for sample in given.fitted:
            change = given.run(changed, *sample.inputs) - given.run(network, *sample.inputs)
            error += float(change.square().mean()) / len(given.fitted)
    weights = network.distortion_weights.double()
    scale = (weights.log().mean().exp() / weights).sqrt()
    assert error == pytest.approx(float((scale * weights).mean()) * (0.01 * 255) ** 2, rel=1e-3)


def test_a_damaged_prior_costs_bits_alone(context_network: MakeNetwork) -> None:
    network, changed = context_network(), context_network()
    with torch.no_grad():
        for part in changed.context.modules():
            if isinstance(part, IntegerConv):
                part.bias += 0.5
    given = calibration(network)
    coder = prepare_calibrated(network, given)
    loss = coder.meter.loss(changed)
    assert loss.codec is not None
    assert loss.db == 0
    assert loss.codec.rate_rise_percent != 0
    assert loss.codec.cost_bpp != 0


@pytest.mark.parametrize("qp", [-40, -33, -26, -20, -14, -8])
def test_a_coded_network_gives_no_nan(context_network: MakeNetwork, qp: int) -> None:
    network = context_network()
    decoded = context_network(1)
    vvc_nnr.load_into(decoded, vvc_nnr.compress(network, qp=qp))
    for point in operating_points(decoded, small_pictures(4), [1.0, 1.0]):
        assert math.isfinite(point.bpp)
        assert math.isfinite(point.psnr_db)


def test_the_factorised_prior_is_limited_by_its_bits_too() -> None:
    torch.manual_seed(0)
    network = Autoencoder(8, 8, 8, 1).eval()
    network.frequencies.fill_(257)
    network.frequencies[:, 127] = (1 << 16) - 254 * 257
    found = compress_calibrated(network, calibration(network), max_loss_db=0.5, max_rate_rise_percent=1.0)
    assert found.codec is not None
    assert found.codec.rate_rise_percent <= 1.0
    weighed = {tensor.name for tensor in (found.calibrated or found).tensors if tensor.error_share is not None}
    assert weighed == {name for name in network.state_dict() if name.endswith("weight")}


def test_a_network_of_ones_own_is_measured_by_its_bits(nets: Path) -> None:
    for name in ("Deflated", "Estimated"):
        codec = picture_codec(module_made_by(f"{nets}:{name}"))
        assert isinstance(codec, OwnCodec)
        crops = list(small_pictures(6))
        found = compress_calibrated(
            codec.network, own_codec_calibration(codec, crops[:4], crops[4:]), max_loss_db=0.5, max_rate_rise_percent=5
        )
        assert found.codec is not None
        assert found.loss_db <= 0.5
        assert found.codec.rate_rise_percent <= 5


def test_a_rise_of_the_rate_is_limited_for_codecs_alone(context_network: MakeNetwork) -> None:
    pictures = [torch.rand(1, 3, 16, 16) for _ in range(4)]
    with pytest.raises(InputError, match="max_rate_rise_percent: only for codecs"):
        compress_calibrated(nn.Conv2d(3, 3, 1), pictures, max_loss_db=0.1, max_rate_rise_percent=1.0)
    network = context_network()
    with pytest.raises(InputError, match="max_rate_rise_percent: only with max_loss_db"):
        compress_calibrated(network, calibration(network), max_bytes=9000, max_rate_rise_percent=1.0)
    with pytest.raises(InputError, match="max_rate_rise_percent: -1; must be a number above 0"):
        compress_calibrated(network, calibration(network), max_loss_db=0.1, max_rate_rise_percent=-1)


def test_gains_are_scaled_to_the_rate_of_another_network(context_network: MakeNetwork) -> None:
    network, original = context_network(), context_network()
    pictures = small_pictures(50)
    with torch.no_grad():
        network.log_gain += torch.tensor([[0.2], [-0.1]])
    keep_rates(network, original, pictures)
    for point in (0, 1):
        wanted, found = (rate_and_psnr(one, pictures, point)[1] for one in (original, network))
        assert found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    "tuning", [[], pytest.param(["--finetune", "--hours", "0.0003"], marks=pytest.mark.slow)], ids=["plain", "tuned"]
)
def test_the_command_compresses_a_context_autoencoder(
    context_network: MakeNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str], tuning: list[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    for place, part in enumerate(np.split(skimage.data.astronaut()[:480], 3)):
        Image.fromarray(part[:, :192]).save(tmp_path / "pictures" / f"{place}.png")
    network = context_network()
    write_float(tmp_path / "a.safetensors", network_tensors(network), network_metadata(network))
    arguments = ["compress", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "a.nnc"), "--crops", "16"]
    limit = ["--calibrate", str(tmp_path / "pictures"), "--max-bytes", "9000", "--json"]
    assert main([*arguments, *limit, *tuning]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["output_bytes"] <= 9000
    assert len(printed["operating_points"]) == 2


def test_few_values_that_no_layer_has_are_kept_finely() -> None:
    """Such as the gains of a codec, whose errors are none of a matrix."""
    torch.manual_seed(0)
    network = ContextAutoencoder(7, n_fine=16, n_coarse=32, n_blocks=1, n_context=32, n_rates=2).eval()
    nn.init.normal_(network.log_gain, 2, 0.5)
    made = prepare_calibrated(network, calibration(network)).compress(1e-4)
    decoded = ContextAutoencoder(7, n_fine=16, n_coarse=32, n_blocks=1, n_context=32, n_rates=2)
    vvc_nnr.load_into(decoded, made.data)
    assert float((decoded.log_gain - network.log_gain).detach().abs().max()) < 0.03  # of about 2
