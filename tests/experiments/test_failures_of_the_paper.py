"""What the NNCodec evaluation saw fail holds here: learned codecs keep rate and PSNR, no NaN, the U-Net its Dice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data as pictures

from vvc_nnr.compress import compress, decompress, load_into
from vvc_nnr.experiments.zoo.learned_codecs import Architecture, code_pictures, small_codec
from vvc_nnr.experiments.zoo.row import NotHereError
from vvc_nnr.experiments.zoo.unet import dice, pasted_crops, small_unet
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import Role

ARCHITECTURES: list[Architecture] = ["bmshj2018-factorized", "cheng2020-anchor"]
PICTURES = [pictures.astronaut()[:256, 128:384], pictures.coffee()[64:320, 192:448]]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def codec(request: pytest.FixtureRequest) -> Any:
    try:
        return small_codec(request.param)
    except NotHereError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coded(network: Any, **options: Any) -> Any:
    """Another instance of the network with the weights that come back."""
    other = blank(network)
    load_into(other, compress(network, n_threads=1, **options))
    return other.eval()


def blank(network: Any) -> Any:
    kind = type(network)
    return kind(10) if kind.__name__ == "Cheng2020Anchor" else kind(16, 32)


@torch.no_grad()
def test_learned_codecs_keep_rate_and_psnr(codec: Any) -> None:
    before, after = (code_pictures(each, PICTURES) for each in (codec, coded(codec, qp=-44, qp_by_size=True)))
    assert after.bpp == pytest.approx(before.bpp, rel=0.005)
    assert after.psnr_db == pytest.approx(before.psnr_db, abs=0.02)


@torch.no_grad()
@pytest.mark.parametrize("qp", range(-40, -11))
def test_no_qp_gives_nan(codec: Any, qp: int) -> None:
    given = torch.from_numpy(PICTURES[0][:64, :64].copy()).permute(2, 0, 1)[None].float() / 255
    for by_size in (False, True):
        output = coded(codec, qp=qp, nonweight_qp=None, qp_by_size=by_size)(given)
        assert torch.isfinite(output["x_hat"]).all()
        assert all(torch.isfinite(likelihood).all() for likelihood in output["likelihoods"].values())


def test_tables_bounds_and_gdn_parameters(codec: Any) -> None:
    arrays = named_arrays(codec)
    roles = module_roles(codec, arrays)
    assert {role.role for role in roles.values()} >= {Role.ENTROPY_TABLE, Role.CONSTANT, Role.GDN, Role.WEIGHT}
    for qp in (-40, -12):
        found = decompress(compress(codec, qp=qp, nonweight_qp=None, n_threads=1))
        assert list(found) == list(arrays)
        for name, told in roles.items():
            array = arrays[name]
            assert isinstance(array, np.ndarray)
            if told.role in (Role.ENTROPY_TABLE, Role.CONSTANT):
                assert found[name].tobytes() == array.tobytes(), name
            if told.role is Role.GDN:
                assert np.array_equal(np.sign(found[name]), np.sign(array)), name


@torch.no_grad()
def test_the_unet_keeps_its_dice() -> None:
    network = small_unet()
    crops, masks = pasted_crops(PICTURES, np.random.default_rng(11), 48)
    before = dice(network(crops), masks)
    assert before > 0.6
    for qp in (-38, -44):
        other = small_unet()
        load_into(other, compress(network, qp=qp, qp_by_size=True, n_threads=1))
        assert abs(dice(other(crops), masks) / before - 1) < 0.002


@torch.no_grad()
def test_no_qp_breaks_the_unet() -> None:
    network = small_unet()
    crops, _ = pasted_crops(PICTURES, np.random.default_rng(11), 1)
    for qp in range(-40, -11):
        other = small_unet()
        load_into(other, compress(network, qp=qp, nonweight_qp=None, n_threads=1))
        assert torch.isfinite(other(crops)).all()
        assert all((v > 0).all() for name, v in other.state_dict().items() if name.endswith("running_var"))
