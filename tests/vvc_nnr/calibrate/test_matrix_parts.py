"""Recurrent and attention modules whose matrices are watched: the same outputs, and calibration that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.calibrate.layers import find_layers, run_forward
from vvc_nnr.calibrate.matrix_parts import parts_of, watch_parts
from vvc_nnr.model.torch import copied_module

# torch says so of its own LSTM.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
MODULES: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True),
    "lstm, batch first, no bias": lambda: nn.LSTM(5, 7, batch_first=True, bias=False),
    "lstm, projected": lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True, proj_size=3),
    "gru": lambda: nn.GRU(5, 7, num_layers=2, batch_first=True, bidirectional=True),
    "tanh": lambda: nn.RNN(5, 7),
    "relu": lambda: nn.RNN(5, 7, nonlinearity="relu", bidirectional=True),
}


def flat(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [each for part in found if part is not None for each in flat(part)]


def watched(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy with hooks on all matrices, which note the calls."""
    made, called = watch_parts(copied_module(module)), []
    for owner in made.modules():
        for part, matrix in parts_of(owner).items():
            matrix.register_forward_hook(lambda *_, part=part: called.append(part))
    return made, called


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("shape", [(6, 3, 5), (6, 5)])
def test_recurrent_modules_compute_the_same(name: str, with_gradients: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    module = MODULES[name]().eval()
    made, called = watched(module)
    x = torch.randn(shape)
    n_directions = 2 if module.bidirectional else 1
    batch = () if len(shape) == 2 else (shape[0] if module.batch_first else shape[1],)
    widths = (module.proj_size or 7, 7)
    states = tuple(torch.randn(module.num_layers * n_directions, *batch, width) for width in widths)
    start = states if isinstance(module, nn.LSTM) else states[0]
    for given in ((x,), (x, start)):
        with torch.set_grad_enabled(with_gradients):
            for ours, expected in zip(flat(made(*given)), flat(module(*given)), strict=True):
                torch.testing.assert_close(ours, expected)
    assert {part[:2] for part in called} == {"ih", "hh", *(["hr"] if module.proj_size else [])}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}])
def test_attention_computes_the_same(batch_first: bool, options: dict[str, bool]) -> None:
    torch.manual_seed(1)
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options).eval()
    made, called = watched(module)
    x, other = torch.randn(4, 4, 8), torch.randn(4, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    padding = torch.tensor([[False, False, False, True]] * 4)
    for given in ({}, {"attn_mask": mask}, {"key_padding_mask": padding, "need_weights": False}):
        for ours, expected in zip(flat(made(x, x, x, **given)), flat(module(x, x, x, **given)), strict=True):
            torch.testing.assert_close(ours, expected)
    assert called == ["in_proj"] * 3
    longer = torch.randn(4, 6, 8) if batch_first else torch.randn(6, 4, 8)
    for query, key, value in ((x, other, other), (x, longer, longer), (x, x, other), (x, longer, 2 * longer)):
        for ours, expected in zip(flat(made(query, key, value)), flat(module(query, key, value)), strict=True):
            torch.testing.assert_close(ours, expected)
    assert called == ["in_proj"] * 7


class Tagger(nn.Module):
    """An LSTM and attention over it, on inputs that hang together."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(24, 32, batch_first=True)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.out = nn.Linear(32, 24)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(x)
        seen, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        found: Tensor = self.out(hidden + seen)
        return found


def test_recurrent_and_attention_layers_are_found_and_calibrated() -> None:
    torch.manual_seed(2)
    network = Tagger().eval()
    mixing = torch.randn(4, 24)
    pictures = [torch.randn(2, 12, 4) @ mixing + 0.05 * torch.randn(2, 12, 24) for _ in range(12)]
    layers = find_layers(watch_parts(copied_module(network)), run_forward, [pictures[0]])
    assert [(layer.weight_name, layer.n_places) for layer in layers] == [
        ("lstm.weight_ih_l0", 24),
        ("lstm.weight_hh_l0", 24),
        ("attention.in_proj_weight", 24),
        ("attention.out_proj.weight", 24),
        ("out.weight", 24),
    ]
    found = compress_calibrated(network, pictures, max_loss_db=0.3)
    best = found.calibrated or found
    assert {tensor.name for tensor in best.tensors if tensor.sensitivity is not None} == {
        layer.weight_name for layer in layers
    }
    assert found.method == "calibrated"


class Translator(nn.Module):
    """A projected LSTM, and attention of its states over the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, batch_first=True, proj_size=16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(x[:, ::2])
        seen: Tensor = self.attention(hidden, x, x, need_weights=False)[0]
        return hidden + seen


def test_projections_and_attention_over_another_sequence_are_calibrated() -> None:
    torch.manual_seed(3)
    network = Translator().eval()
    mixing = torch.randn(4, 16)
    pictures = [torch.randn(2, 12, 4) @ mixing + 0.05 * torch.randn(2, 12, 16) for _ in range(12)]
    layers = find_layers(watch_parts(copied_module(network)), run_forward, [pictures[0]])
    assert [(layer.weight_name, layer.n_places) for layer in layers] == [
        ("lstm.weight_ih_l0", 12),
        ("lstm.weight_hh_l0", 12),
        ("lstm.weight_hr_l0", 12),
        ("attention.in_proj_weight", 36),
        ("attention.out_proj.weight", 12),
    ]
    found = compress_calibrated(network, pictures, max_loss_db=0.3)
    best = found.calibrated or found
    assert {tensor.name for tensor in best.tensors if tensor.sensitivity is not None} == {
        layer.weight_name for layer in layers
    }
    assert found.method == "calibrated"
