"""Tensors of float8: exact in every mode, in every file, through updates; never a step, never another format."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr import (
    BaseState,
    BitstreamError,
    Calibration,
    InputError,
    Sample,
    apply_update,
    compress,
    compress_update,
    decompress,
    inspect,
    load_into,
)
from vvc_nnr.bitstream.float8 import FLOAT8, nearest_codes, values_of_codes
from vvc_nnr.bitstream.number_formats import FloatBits, from_float32, in_format, nearest_in_format
from vvc_nnr.bitstream.packing import lzma_bytes
from vvc_nnr.bitstream.ties import find_ties
from vvc_nnr.coding.exact_forms import bits_of_form, exact_form
from vvc_nnr.coding.update import CompressOptions
from vvc_nnr.model.torch import as_torch, named_arrays
from vvc_nnr.network_file import NetworkArrays, decoded_arrays, read_arrays, write_arrays
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import Role

NAMES = [name for name in FLOAT8 if hasattr(torch, name)]
CODES = np.arange(256, dtype=np.uint8)
MODES: list[dict[str, Any]] = [
    *({}, {"lossless": True}, {"qp": -12}, {"quality": 20.0}, {"roles": "off"}, {"bitdepth": 4}),
    *({"role_of": {"*": "weight"}}, {"codebook": "force", "qp": -12}),
]


def network_of(name: str) -> dict[str, Any]:
    """Every bits, NaN and negative zero among them, random weights, and odd shapes."""
    dtype, rng = getattr(torch, name), np.random.default_rng(5)
    codes = {
        "every": CODES,
        "weight": nearest_codes(rng.normal(0, 100, (48, 64)).astype(np.float32), name),
        "scalar": np.array(0x42, np.uint8),
        "few": rng.integers(0, 3, (40, 20)).astype(np.uint8),
        "nan": np.full((5, 3), 0xFF, np.uint8),
    }
    network = {own: torch.from_numpy(np.array(bits)).view(dtype) for own, bits in codes.items()}
    return network | {"empty": torch.zeros(0, 3).to(dtype), "other": torch.randn(16, 8)}


def assert_same(found: Any, network: dict[str, Any]) -> None:
    assert list(found) == list(network)
    for name, tensor in network.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        if name != "other":
            assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_torch(name: str) -> None:
    wanted = torch.from_numpy(CODES).view(getattr(torch, name)).float().numpy()
    np.testing.assert_array_equal(values_of_codes(name), wanted)
    signs = np.signbit(values_of_codes(name)) ^ np.signbit(wanted)
    assert not signs[~np.isnan(wanted)].any()
    np.testing.assert_array_equal(nearest_codes(values_of_codes(name), name), CODES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "float8_e8m0fnu"])
def test_rounding_is_that_of_torch(name: str) -> None:
    table = np.unique(values_of_codes(name)[np.isfinite(values_of_codes(name))])
    middles = (table[1:] + table[:-1]) / 2
    sides = [np.nextafter(middles, np.float32(end)) for end in (-np.inf, np.inf)]
    values = np.concatenate([table, middles, *sides])
    wanted = torch.from_numpy(values).to(getattr(torch, name)).view(torch.uint8).numpy()
    np.testing.assert_array_equal(nearest_codes(values, name), wanted)


def test_rounding_ends_at_the_largest_value() -> None:
    beyond = np.array([1e30, -1e30, np.inf, 500.0], np.float32)
    np.testing.assert_array_equal(from_float32(beyond, "float8_e4m3fn"), [448, -448, 448, 448])
    np.testing.assert_array_equal(from_float32(beyond, "float8_e5m2"), [57344, -57344, 57344, 512])
    powers = from_float32(np.array([-1, 0, 3.5], np.float32), "float8_e8m0fnu")
    np.testing.assert_array_equal(powers, [2.0**-127, 2.0**-127, 4])


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_every_mode_is_exact(name: str, options: dict[str, Any]) -> None:
    network = network_of(name)
    data = compress(network, **options)
    assert_same(as_torch(decoded_arrays(data, None, 1).arrays), network)
    found = {tensor.name: tensor for tensor in inspect(data, original=network).tensors}
    assert all(found[own].number_format.split()[0] == name for own in network if own != "other")
    assert all(found[own].mse == 0 for own in network if own != "other")
    np.testing.assert_array_equal(decompress(data)["every"], values_of_codes(name))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", NAMES)
def test_files_keep_it(tmp_path: Path, name: str, suffix: str) -> None:
    network = network_of(name)
    data = compress(network)
    write_arrays(tmp_path / f"a{suffix}", decoded_arrays(data, None, 1))
    assert_same(as_torch(read_arrays(tmp_path / f"a{suffix}").arrays), network)
    again = decoded_arrays(compress(tmp_path / f"a{suffix}"), None, 1)
    assert_same(as_torch(again.arrays), network)


def test_a_module_gets_it_back() -> None:
    module = torch.nn.Linear(4, 4)
    module.register_buffer("scaled", torch.arange(256, dtype=torch.uint8).view(torch.float8_e5m2))
    data = compress(module)
    other = torch.nn.Linear(4, 4)
    other.register_buffer("scaled", torch.zeros(256).to(torch.float8_e5m2))
    load_into(other, data)
    assert torch.equal(other.scaled.view(torch.uint8), module.scaled.view(torch.uint8))
    other.register_buffer("scaled", torch.zeros(256).to(torch.float8_e4m3fn))
    with pytest.raises(InputError, match=r"'scaled' is torch\.float8_e5m2, the module's torch\.float8_e4m3fn"):
        load_into(other, data)


@pytest.mark.parametrize(("name", "most_bits"), [("float8_e4m3fn", 6.75), ("float8_e5m2", 5.75)])
def test_lossless_takes_less_than_its_bits(name: str, most_bits: float) -> None:
    values = np.random.default_rng(1).normal(0, 1, (192, 256)).astype(np.float32)
    weight = nearest_in_format(values * np.float32(448 / np.abs(values).max()), name)
    assert isinstance(weight, FloatBits)
    data = compress({"w": weight}, lossless=True)
    assert 8 * len(data) / values.size < most_bits
    form = exact_form(weight.bits.reshape(-1), "split", name)
    assert form is not None
    assert form.integers is not None
    bits = bits_of_form("split", form.raw, form.integers, name, values.size)
    np.testing.assert_array_equal(bits.reshape(weight.bits.shape), weight.bits)


def test_lzma_follows_the_exponents_of_neighbours() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, (256, 128)) * np.exp2(rng.normal(0, 2, (256, 1)))
    bits = nearest_codes(values.astype(np.float32), "float8_e4m3fn").reshape(-1)
    form = exact_form(bits, "lzma", "float8_e4m3fn")
    assert form is not None
    assert len(form.raw) < len(lzma_bytes(bits.tobytes())) - 100
    np.testing.assert_array_equal(bits_of_form("lzma", form.raw, CODES, "float8_e4m3fn", bits.size), bits)


def test_a_step_for_it_is_refused_or_told(caplog: pytest.LogCaptureFixture) -> None:
    network = {"w": in_format(np.ones((4, 4), np.float32), "float8_e5m2"), "v": np.ones((4, 4), np.float32)}
    with pytest.raises(InputError, match=r"qp_per_tensor: 'w' is float8_e5m2, which is always exact"):
        compress(network, qp_per_tensor={"w": -20})
    compress(network)
    compress(network, lossless=True)
    assert not [line for line in caplog.messages if "float8" in line]
    for options in ({"qp": -20}, {"quality": 30.0}, {"bits_per_weight": 400.0}):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            compress(network, **options)  # type: ignore[arg-type]
        assert [line for line in caplog.messages if "1 tensor of float8 or fewer bits is exact, whatever" in line]
    large = {"w": nearest_in_format(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), "float8_e5m2")}
    with pytest.raises(InputError, match="cannot be kept; the smallest file is"):
        compress(large, max_bytes=2000)


def test_scales_beside_it_are_exact() -> None:
    rng = np.random.default_rng(2)
    weight = nearest_in_format(rng.normal(0, 90, (64, 32)).astype(np.float32), "float8_e4m3fn")
    scales = np.exp(rng.normal(-6, 2, (64, 1))).astype(np.float32)
    names = ("weight_scale", "weight_scale_inv", "input_scale", "scale_weight")
    network = {"fc.weight": weight, **{f"fc.{name}": scales + np.float32(n) for n, name in enumerate(names)}}
    found = decompress(compress(network))
    for name in names:
        np.testing.assert_array_equal(found[f"fc.{name}"], network[f"fc.{name}"])


@pytest.mark.parametrize(
    "name", ["weight_scales", "amax", "input_amax", "weight_quantizer._amax", "weight._scale", "k_scale", "SCALES"]
)
def test_scales_are_known_by_name(name: str) -> None:
    network = {"attn.fc.weight": _weight((64, 32)), "attn.fc.bias": _scales((64,)) - np.float32(0.5)}
    for place in ("attn.fc.", "attn."):
        if place == "attn." and "weight" in name:
            continue
        network |= {place + name: _scales((5, 7))}
        assert named_roles(network)[place + name].role is Role.CONSTANT
        np.testing.assert_array_equal(decompress(compress(network))[place + name], network[place + name])
    assert named_roles(network)["attn.fc.bias"].role is Role.BIAS


@pytest.mark.parametrize(
    ("scaled", "shape"),
    [
        *(
            ((256, 384), shape)
            for shape in [(1,), (1, 1), (256,), (256, 1), (384,), (1, 384), (2, 3), (256, 3), (3, 256)]
        ),
        *(((200, 300), shape) for shape in [(2, 3), (200, 10)]),
        *(((64, 32, 3, 3), shape) for shape in [(64,), (64, 1, 1, 1), (32,), (64, 18)]),
        *(((4, 64, 128), shape) for shape in [(4,), (4, 64), (4, 64, 1), (4, 64, 4), (4, 1, 1)]),
    ],
)
def test_scales_are_known_by_structure(scaled: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Per tensor, row, column or block, whatever they are called."""
    network = {"fc.weight": _weight(scaled), "fc.w_s": _scales(shape), "other.w_s": _scales(shape)}
    roles = named_roles(network)
    assert roles["fc.w_s"].role is Role.CONSTANT
    assert roles["other.w_s"].role is not Role.CONSTANT
    np.testing.assert_array_equal(decompress(compress(network))["fc.w_s"], network["fc.w_s"])


@pytest.mark.parametrize("own", ["bias", "beta", "in_proj_bias", "w_s"])
def test_biases_and_other_weights_beside_float8_are_no_scales(own: str) -> None:
    shifted = _scales((64,)) - np.float32(0.5 * (own == "w_s"))
    large = {"fc.kernel": _scales((64, 32)), "fc.table": _scales((100,))}
    roles = named_roles({"fc.weight": _weight((64, 32)), f"fc.{own}": shifted, **large})
    assert not any(roles[name].role is Role.CONSTANT for name in (f"fc.{own}", *large))


def test_scales_of_a_module_are_exact_whatever_its_class() -> None:
    class Quantised(nn.Linear):
        def __init__(self) -> None:
            super().__init__(32, 64, dtype=torch.float8_e4m3fn)
            self.bias = nn.Parameter(torch.randn(64))
            self.w_s = nn.Parameter(torch.rand(64, 1) + 0.1)
            self.weight_amax = nn.Parameter(torch.rand(3, 5))

        def reset_parameters(self) -> None:
            self.weight = nn.Parameter(torch.randn(64, 32).to(torch.float8_e4m3fn), requires_grad=False)

    module = Quantised()
    arrays = named_arrays(module)
    roles = module_roles(module, arrays)
    assert [roles[name].role for name in ("bias", "w_s", "weight_amax")] == [Role.BIAS, Role.CONSTANT, Role.CONSTANT]


def _weight(shape: tuple[int, ...]) -> FloatBits:
    found = nearest_in_format(np.random.default_rng(2).normal(0, 90, shape).astype(np.float32), "float8_e4m3fn")
    assert isinstance(found, FloatBits)
    return found


def _scales(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(4).uniform(0.01, 1, shape).astype(np.float32)


def test_formats_of_one_memory_are_not_tied() -> None:
    a, b = FloatBits(CODES, "float8_e5m2"), FloatBits(CODES, "float8_e4m3fn")
    assert not find_ties({"a": a, "b": b, "c": CODES})
    assert [tie.name for tie in find_ties({"a": a, "b": FloatBits(CODES, "float8_e5m2")})] == ["b"]


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_exact(name: str) -> None:
    rng = np.random.default_rng(3)
    old = {"w": FloatBits(rng.integers(0, 256, (16, 16)).astype(np.uint8), name), "v": np.ones((4, 4), np.float32)}
    state = BaseState.of(old)
    for _ in range(2):
        codes = rng.integers(0, 256, (16, 16)).astype(np.uint8)
        new = {"w": FloatBits(codes, name), "v": np.full((4, 4), 2, np.float32)}
        data, after = compress_update(state, new)
        state = apply_update(state, data)
        assert state.digest() == after.digest()
        found = state.exact_arrays["w"]
        assert isinstance(found, FloatBits)
        np.testing.assert_array_equal(found.bits, codes)
    unchanged, _ = compress_update(state, state.exact_arrays)
    assert apply_update(state, unchanged).digest() == state.digest()


def test_updates_refuse_what_they_cannot_hold() -> None:
    state = BaseState.of({"w": FloatBits(CODES[:16].reshape(4, 4), "float8_e4m3fn")})
    as_float = {"w": np.full((4, 4), 0.5, np.float32)}
    data, _ = compress_update(state, as_float)
    np.testing.assert_array_equal(apply_update(state, data).arrays["w"], as_float["w"])
    with pytest.raises(InputError, match=r"'w': the base has float8_e4m3fn, which cannot hold all values"):
        compress_update(state, {"w": np.full((4, 4), 0.3, np.float32)})
    with pytest.raises(InputError, match="'w': float8_e5m2, the base has float8_e4m3fn"):
        compress_update(state, {"w": FloatBits(CODES[:16].reshape(4, 4), "float8_e5m2")})
    with pytest.raises(InputError, match="a brief update holds differences of float32"):
        compress_update(state, as_float, brief=True, options=CompressOptions())


def test_a_manifest_of_another_format_is_damage() -> None:
    values = nearest_in_format(np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32), "float8_e4m3fn")
    data = compress({"w": values}, lossless=True)
    start = data.index(b'{"vvc_nnr":"m')
    for letter in b"xyMe-":
        damaged = bytearray(data)
        damaged[start + 12] = letter
        with pytest.raises(BitstreamError):
            decompress(bytes(damaged))
    kind = "split"
    form = exact_form(values.bits.reshape(-1), kind, "float8_e4m3fn")  # type: ignore[union-attr]
    assert form is not None
    assert form.integers is not None
    with pytest.raises(BitstreamError, match="float8_e8m0fnu has nothing to split"):
        bits_of_form(kind, form.raw, form.integers, "float8_e8m0fnu", 1600)


def test_uniform_files_keep_it(tmp_path: Path) -> None:
    from vvc_nnr.model.safetensors import parse_exact, uniform_bytes

    tensors = {"w": FloatBits(CODES, "float8_e4m3fn"), "v": np.random.default_rng(0).normal(size=(9, 9)).astype("f4")}
    found, _, _ = parse_exact(uniform_bytes(tensors, {}))
    assert isinstance(found["w"], FloatBits)
    assert found["w"].number_format == "float8_e4m3fn"
    np.testing.assert_array_equal(found["w"].bits, CODES)


def test_safetensors_names(tmp_path: Path) -> None:
    network = {name: FloatBits(CODES[:4], name) for name in FLOAT8}
    write_arrays(tmp_path / "a.safetensors", NetworkArrays(network, {}, 0))
    data = (tmp_path / "a.safetensors").read_bytes()
    (n_bytes,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + n_bytes]
    for dtype in (b"F8_E4M3", b"F8_E4M3FNUZ", b"F8_E5M2", b"F8_E5M2FNUZ", b"F8_E8M0"):
        assert b'"dtype":"%s"' % dtype in header


def test_calibration_leaves_it_exact() -> None:
    layers = [torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 2, 3, padding=1)]
    pictures = [torch.rand(1, 2, 12, 12, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    module = torch.nn.Sequential(*layers)
    narrow = layers[1].weight.detach().to(torch.float8_e4m3fn)
    layers[1].weight.data = narrow.float()
    samples = [Sample(picture, module(picture).detach()) for picture in pictures]
    layers[1].weight = torch.nn.Parameter(narrow, requires_grad=False)
    data = compress(module, calibration=Calibration(samples[:2], samples[2:]), max_loss_db=0.5)
    np.testing.assert_array_equal(decompress(data)["1.weight"], narrow.float().numpy())
    assert {tensor.name: tensor for tensor in inspect(data).tensors}["1.weight"].payload_type != "FLOAT"
