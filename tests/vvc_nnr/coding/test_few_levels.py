"""Tensors of few different values: no two of them come out alike by default, and a warning names those where two do."""

from __future__ import annotations

import numpy as np
import pytest

import vvc_nnr
from vvc_nnr.coding import float_encoder
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.options import CompressOptions


def few(n_levels: int, scale: float, seed: int, shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, n_levels).astype(np.float32)[rng.integers(0, n_levels, shape)]


def has_joined(values: np.ndarray, decoded: np.ndarray) -> bool:
    return any(np.unique(values[decoded == level]).size > 1 for level in np.unique(decoded))


@pytest.mark.parametrize("scale", [1e-4, 9e-3, 1.0, 300.0])
@pytest.mark.parametrize("n_levels", [4, 16])
def test_few_levels_stay_apart(n_levels: int, scale: float) -> None:
    for seed in range(24):
        values = few(n_levels, scale, seed)
        decoded = vvc_nnr.decompress(vvc_nnr.compress({"w": values}))["w"]
        assert not has_joined(values, decoded)
        np.testing.assert_allclose(decoded, values, rtol=2.0**-10, atol=2.0**-31)


def test_other_tensors_are_no_coarser_beside_few_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).laplace(0, 0.02, (64, 576)).astype(np.float32)
    mask = few(16, 9e-3, 1, (512, 512))
    beside = {"a.weight": weights, "mask.weight": mask, "b.weight": weights[::-1].copy()}
    coded = code_network(beside, CompressOptions())
    assert coded.more_bytes > 0
    assert not has_joined(mask, vvc_nnr.decompress(coded.data)["mask.weight"])
    monkeypatch.setattr(float_encoder, "MAX_LEVELS", 0)
    before = code_network(beside, CompressOptions())
    assert before.more_bytes == 0
    for name in ("a.weight", "b.weight"):
        assert coded.sizes_bytes[name] >= 0.98 * before.sizes_bytes[name]


def test_levels_that_a_size_or_qp_joins_are_named(caplog: pytest.LogCaptureFixture) -> None:
    values = few(16, 9e-3, 3)
    for options in ({"max_bytes": 1000}, {"qp": -24}):
        caplog.clear()
        vvc_nnr.compress({"w": values}, **options)  # type: ignore[arg-type]
        assert "1 tensor of few different values has some that come out alike: w" in caplog.text


def test_vectors_that_hardly_repeat_are_no_levels() -> None:
    bias = np.random.default_rng(0).normal(0, 9e-3, 16).astype(np.float32)
    assert not code_network({"bias": bias, "w": few(4, 1.0, 0)}, CompressOptions()).joined


@pytest.mark.parametrize("options", [{"lossless": True}, {}])
def test_every_nan_of_bfloat16_keeps_its_bits(options: dict[str, bool]) -> None:
    torch = pytest.importorskip("torch")
    bits = np.array([0x7F81, 0x7FC1, 0xFFC0, 0xFF85, 0x7F80, 0x8000, *range(0x3F80, 0x3FC0)], np.uint16)
    module = torch.nn.ParameterDict({"w": torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)})
    coded = vvc_nnr.compress(module, **options)
    assert (vvc_nnr.decompress(coded)["w"].view(np.uint32) == bits.astype(np.uint32) << 16).all()
    again = torch.nn.ParameterDict({"w": torch.zeros(len(bits), dtype=torch.bfloat16)})
    vvc_nnr.load_into(again, coded)
    np.testing.assert_array_equal(again["w"].data.view(torch.int16).numpy().view(np.uint16), bits)
