"""Autoencoders of a user's own through one door: bytes, CompressAI's strings, likelihoods; pictures of any size."""

from __future__ import annotations

import copy
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.networks.autoencoder import decode_pictures, encode_pictures
from vvc_nnr.filters.networks.factory import as_module, module_made_by
from vvc_nnr.filters.picture_codecs import OwnCodec, picture_codec, with_network
from vvc_nnr.filters.zoo import load_autoencoder
from vvc_nnr.sequences.metrics import psnr_db


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    """61x45, no multiple of anything."""
    return np.ascontiguousarray(skimage.data.astronaut()[20:65, 180:241])


def test_bytes_are_written_and_read_for_any_size(nets: Path, rgb: NDArray[np.uint8]) -> None:
    codec = picture_codec(module_made_by(f"{nets}:Deflated"))
    assert (codec.stride, codec.is_estimate) == (4, False)
    for picture in (rgb, rgb[:44, :60], rgb[:1, :3]):
        (coded,) = codec.code(picture[None])
        assert coded.picture.shape == picture.shape
        assert psnr_db(picture, coded.picture, bit_depth=8) > 30
        filled = np.pad(picture, ((0, -len(picture) % 4), (0, -picture.shape[1] % 4), (0, 0)), mode="edge")
        tensor = torch.from_numpy(filled.transpose(2, 0, 1).copy())[None].float() / 255
        network: Any = codec.network
        with torch.no_grad():
            assert coded.n_bytes == len(network.encode(tensor))


def test_likelihoods_give_an_estimate(nets: Path, rgb: NDArray[np.uint8]) -> None:
    codec = picture_codec(module_made_by(f"{nets}:Estimated"))
    assert codec.is_estimate
    (coded,) = codec.code(rgb[None, :44, :60])
    tensor = torch.from_numpy(rgb[:44, :60].transpose(2, 0, 1).copy())[None].float() / 255
    with torch.no_grad():
        bits = -torch.log2(codec.network(tensor)["likelihoods"]["y"].double()).sum()
    assert coded.n_bytes == math.ceil(float(bits) / 8)
    assert np.array_equal(
        coded.picture, picture_codec(module_made_by(f"{nets}:Deflated")).code(rgb[None, :44, :60])[0].picture
    )


class Model(nn.Module):
    """CompressAI's way, with tables that must be made first."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.PixelUnshuffle(2)
        self.gain = nn.Conv2d(12, 12, 1, bias=False)
        nn.init.eye_(self.gain.weight.data[..., 0, 0])
        self.register_buffer("table", torch.zeros(0))

    def update(self) -> bool:
        self.table = torch.ones(3)
        return True

    def compress(self, x: Tensor) -> dict[str, Any]:
        if not self.table.numel():
            raise ValueError("Uninitialized CDFs. Run update() first")
        levels = (self.gain(self.down(x)) * 15).round().to(torch.uint8)
        halves = levels.chunk(2, 1)
        return {"strings": [[zlib.compress(h.numpy().tobytes())] for h in halves], "shape": levels.shape[2:]}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        halves = [np.frombuffer(zlib.decompress(s[0]), np.uint8).reshape(1, 6, *shape) for s in strings]
        return {"x_hat": nn.functional.pixel_shuffle(torch.from_numpy(np.concatenate(halves, 1)).float() / 15, 2)}


def test_strings_of_compressai_count_and_the_stride_is_found(rgb: NDArray[np.uint8]) -> None:
    network = Model()
    codec = picture_codec(network)
    assert (codec.stride, codec.is_estimate) == (2, False)
    assert network.table.numel() == 3
    (coded,) = codec.code(rgb[None])
    assert coded.picture.shape == rgb.shape
    assert psnr_db(rgb, coded.picture, bit_depth=8) > 30
    assert 100 < coded.n_bytes < rgb.size


def test_a_real_model_of_compressai() -> None:
    from vvc_nnr.experiments.zoo.learned_codecs import small_codec
    from vvc_nnr.experiments.zoo.row import NotHereError

    try:
        network = small_codec("bmshj2018-factorized")
    except NotHereError as error:
        pytest.skip(str(error))
    codec = picture_codec(network)
    assert codec.stride == 16
    picture = np.ascontiguousarray(skimage.data.astronaut()[20:110, 180:281])
    (coded,) = codec.code(picture[None])
    tensor = torch.from_numpy(np.pad(picture, ((0, 6), (0, 11), (0, 0)), mode="edge").transpose(2, 0, 1).copy())
    with torch.no_grad():
        strings = network.compress(tensor[None].float() / 255)["strings"]
        output = network(tensor[None].float() / 255)
    assert coded.n_bytes == len(strings[0][0])
    estimate_bits = float(-torch.log2(output["likelihoods"]["y"]).sum())
    assert coded.n_bytes == pytest.approx(estimate_bits / 8, rel=0.05)
    assert psnr_db(picture, coded.picture, bit_depth=8) > 22
    again = with_network(codec, copy.deepcopy(network)).code(picture[None])[0]
    assert np.array_equal(again.picture, coded.picture)
    assert again.n_bytes == coded.n_bytes


def test_the_bundled_network_has_no_other_path(rgb: NDArray[np.uint8]) -> None:
    network = load_autoencoder("autoencoder-1.8bpp")
    codec = picture_codec(network)
    pictures = np.stack([rgb[:44, :60], rgb[1:45, 1:61]])
    for picture, coded in zip(pictures, codec.code(pictures), strict=True):
        (run,) = encode_pictures(network, picture[None])
        assert coded.n_bytes == len(run.data)
        assert np.array_equal(coded.picture[None], decode_pictures(network, [run], 60, 44))
    assert codec.code(rgb[None])[0].picture.shape == rgb.shape


class Around:
    """No module itself, but around two."""

    def __init__(self, network: Any) -> None:
        self.analysis, self.synthesis = network.analysis, network.synthesis
        self.step = float(network.step.detach())

    def encode(self, picture: Tensor) -> list[bytes]:
        levels = torch.round(self.analysis(picture) / self.step).to(torch.int16).numpy()
        return [np.array(levels.shape[2:], np.uint16).tobytes() + zlib.compress(levels.tobytes(), 9)]

    def decode(self, data: bytes) -> Tensor:
        height, width = np.frombuffer(data[:4], np.uint16)
        levels = np.frombuffer(zlib.decompress(data[4:]), np.int16).reshape(1, 48, height, width)
        picture: Tensor = self.synthesis(torch.from_numpy(levels.copy()).float() * self.step)
        return picture[0]


def test_an_object_around_modules_has_their_weights(nets: Path, rgb: NDArray[np.uint8]) -> None:
    made = module_made_by(f"{nets}:Deflated")
    own = as_module(Around(made))
    codec, other = picture_codec(own), picture_codec(made)
    assert (codec.stride, list(own.state_dict())) == (4, ["analysis.weight", "synthesis.weight"])
    coded = codec.code(rgb[None])[0]
    assert np.array_equal(coded.picture, other.code(rgb[None])[0].picture)
    assert coded.n_bytes == other.code(rgb[None])[0].n_bytes + 4
    halved = copy.deepcopy(own)
    with torch.no_grad():
        for parameter in halved.parameters():
            parameter /= 2
    assert with_network(codec, halved).code(rgb[None])[0].n_bytes < coded.n_bytes
    assert codec.code(rgb[None])[0].n_bytes == coded.n_bytes
    assert isinstance(codec, OwnCodec)
    with pytest.raises(InputError, match=r"a Around has no forward\(pictures\)"):
        codec.reconstruct(own, torch.zeros(1, 3, 8, 8))


def test_a_pass_with_gradients_is_that_of_the_network_given(nets: Path) -> None:
    for name in ("Deflated", "Estimated"):
        codec = picture_codec(module_made_by(f"{nets}:{name}"))
        changed = copy.deepcopy(codec.network)
        with torch.no_grad():
            changed.get_submodule("synthesis").weight.zero_()
        assert isinstance(codec, OwnCodec)
        assert codec.reconstruct(changed, torch.rand(1, 3, 8, 8))[0].abs().max() == 0
        picture, likelihoods = codec.reconstruct(codec.network, torch.rand(1, 3, 8, 8))
        assert picture.requires_grad
        assert len(likelihoods) == (name == "Estimated")


class Plain(nn.Module):
    """As many people write it: encode and decode of tensors."""

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.returns = returns

    def encode(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def decode(self, y: Tensor) -> Tensor:
        return y

    def forward(self, x: Tensor) -> Any:
        y = self.encode(x)
        match self.returns:
            case "picture":
                return y
            case "pair":
                return y, torch.full_like(y, 0.5)
            case "random":
                return {"x_hat": y + 0.1 * torch.randn_like(y), "likelihoods": [torch.full_like(y, 0.5)]}
            case "logarithms":
                return y, {"y": torch.full_like(y, -3.0)}
            case "nan":
                return y * math.nan, torch.full_like(y, 0.5)
            case "half":
                return y[..., ::2], torch.full_like(y, 0.5)
            case "integers":
                return (x * 255).to(torch.uint8), torch.full_like(y, 0.5)
            case "scale":
                return {"x_hat": 255 * x + 0 * y, "likelihoods": {"y": torch.full_like(y, 0.5)}}
            case "fails":
                raise KeyError("y")
        return None


class Written(nn.Module):
    """Writes the samples, with something wrong in it."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.wrong = wrong

    def encode(self, x: Tensor) -> Any:
        self.kept = x
        data = (x * 255).round().to(torch.uint8).numpy().tobytes()
        return {"text": data.hex(), "nothing": b""}.get(self.wrong, data)

    def decode(self, data: bytes, height: int, width: int) -> Tensor:
        if self.wrong in ("nothing", "keeps"):
            return self.kept
        x = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(1, 3, height, width).copy())
        match self.wrong:
            case "integers":
                return x
            case "column":
                return x[..., :-1] / 255
            case "range":
                return x.float()
            case "contrast":
                return (x > 128).float()
        return x / 255

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("text", "^holds no autoencoder: Written.encode returns a str; must return the bytes of the picture"),
        ("integers", r"Written\.decode returns a picture of uint8; must be floats in 0\.\.1: divide by 255"),
        ("range", r"Written: returns a picture of mean 1\d\d.*; must be floats in 0\.\.1: divide by 255"),
        ("column", r"\(1, 3, 128, 383\) of one of \(1, 3, 128, 384\); .* \(with each stride of 1 to 128\)"),
        ("nothing", "Written writes 0 bytes; must write all that decoding needs"),
        ("keeps", "Written: decodes another picture of the same bytes once it has encoded another one"),
    ],
)
def test_a_byte_coder_with_a_fault_is_refused_by_its_cause(wrong: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        picture_codec(Written(wrong))


def test_a_picture_that_is_clipped_is_told(caplog: pytest.LogCaptureFixture) -> None:
    picture_codec(Written(""))
    assert not caplog.records
    picture_codec(Written("contrast"))
    assert "most samples that Written returns are clipped; must be in 0..1" in caplog.text


def test_encode_that_returns_tensors_is_no_byte_coder(rgb: NDArray[np.uint8]) -> None:
    codec = picture_codec(Plain("pair"))
    assert (codec.is_estimate, codec.stride) == (True, 1)
    assert codec.code(rgb[None])[0].n_bytes == math.ceil(rgb.size / 8)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Plain("picture"), "holds no autoencoder: Plain.encode returns a Tensor; must return the bytes"),
        (Plain("integers"), r"Plain\.forward returns a picture of uint8; must be floats in 0\.\.1"),
        (Plain("scale"), r"Plain: returns a picture of mean \d+.* must be floats in 0\.\.1"),
        (Plain("random"), "returns other values each time in evaluation mode"),
        (Plain("logarithms"), "likelihoods from -3 to -3; must be above 0 and at most 1"),
        (Plain("half"), r"makes a picture \(1, 3, 128, 192\) of one of \(1, 3, 128, 384\); must be of the same shape"),
        (Plain("fails"), "Plain.forward fails on a picture of 384x128: KeyError: 'y'"),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), "Sequential.forward returns no likelihoods"),
    ],
)
def test_what_is_no_autoencoder_is_told(network: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        picture_codec(network)
    with pytest.raises(InputError, match="is a object; must be a torch module, or have some as attributes"):
        as_module(object())


def test_strides_and_values_that_cannot_be(nets: Path, rgb: NDArray[np.uint8]) -> None:
    made: Any = module_made_by(f"{nets}:Deflated")
    with pytest.raises(InputError, match="stride 0: must be a whole number from 1 to 4096"):
        picture_codec(made, stride=0)
    made.stride = "4"
    with pytest.raises(InputError, match=r"Deflated\.stride '4': must be a whole number"):
        picture_codec(made)
    with pytest.raises(InputError, match=r"is its stride 3\?"):
        picture_codec(made, stride=3)
    with pytest.raises(VvcNnrError, match="not finite"):
        picture_codec(Plain("nan"))
    with pytest.raises(ShapeError, match=r"got uint8 \(45, 61, 3\)"):
        picture_codec(made, stride=4).code(rgb)
