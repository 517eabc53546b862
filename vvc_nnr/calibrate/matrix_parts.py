"""Recurrent and attention modules as calls of their matrices, which calibration watches like fully connected layers.

`weight_ih_l0` of an LSTM multiplies its inputs, `weight_hh_l0` its hidden states one after another, `weight_hr_l0` what
is projected to them; `in_proj_weight` of an attention queries, keys and values at once, of one sequence or of several
one after another. torch runs all of them in one call. While a hook is on a matrix, the module computes the same by
calls of linear layers that share its parameters; else it runs as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

State: TypeAlias = tuple[Tensor, ...]
"""Hidden state, and of an LSTM its cells, (n_samples, n_hidden) each."""
Cell: TypeAlias = Callable[[Tensor, Tensor, State], State]
"""What a step makes of the products of its input and of its hidden state, and of the state before it."""

_Product: TypeAlias = Callable[[Tensor], Tensor]


def _lstm_cell(by_input: Tensor, by_hidden: Tensor, state: State) -> State:
    into, forget, new, out = (by_input + by_hidden).chunk(4, -1)
    cells = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
    return out.sigmoid() * cells.tanh(), cells


def _gru_cell(by_input: Tensor, by_hidden: Tensor, state: State) -> State:
    inputs, hidden = by_input.chunk(3, -1), by_hidden.chunk(3, -1)
    reset, update = (inputs[0] + hidden[0]).sigmoid(), (inputs[1] + hidden[1]).sigmoid()
    new = (inputs[2] + reset * hidden[2]).tanh()
    return ((1 - update) * new + update * state[0],)


def _tanh_cell(by_input: Tensor, by_hidden: Tensor, _: State) -> State:
    return ((by_input + by_hidden).tanh(),)


def _relu_cell(by_input: Tensor, by_hidden: Tensor, _: State) -> State:
    return ((by_input + by_hidden).relu(),)


# By `mode` of the module.
_CELLS: dict[str, Cell] = {"LSTM": _lstm_cell, "GRU": _gru_cell, "RNN_TANH": _tanh_cell, "RNN_RELU": _relu_cell}


def _is_watched(matrices: dict[str, nn.Linear]) -> bool:
    return any(each._forward_hooks or each._forward_pre_hooks for each in matrices.values())


def _recurrent(module: Any, x: Tensor, given: Any) -> Any:
    """What a recurrent module returns."""
    is_batched = x.ndim == 3
    x = x.unsqueeze(1) if not is_batched else x.transpose(0, 1) if module.batch_first else x
    n_directions = 2 if module.bidirectional else 1
    n_states = module.num_layers * n_directions
    widths = [module.proj_size or module.hidden_size] + [module.hidden_size] * (module.mode == "LSTM")
    if given is None:
        starts: State = tuple(x.new_zeros(n_states, x.shape[1], width) for width in widths)
    else:
        states = given if isinstance(given, tuple) else (given,)
        starts = tuple(each.reshape(n_states, x.shape[1], each.shape[-1]) for each in states)
    ends = []
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(n_directions):
            start = tuple(each[layer * n_directions + direction] for each in starts)
            part = f"l{layer}_reverse" if direction else f"l{layer}"
            output, end = _one_layer(module, part, x.flip(0) if direction else x, start)
            outputs.append(output.flip(0) if direction else output)
            ends.append(end)
        x = torch.cat(outputs, -1)
    found = tuple(torch.stack(each) for each in zip(*ends, strict=True))
    if not is_batched:
        x, found = x.squeeze(1), tuple(each.squeeze(1) for each in found)
    elif module.batch_first:
        x = x.transpose(0, 1)
    return x, found if module.mode == "LSTM" else found[0]


def _one_layer(module: Any, part: str, x: Tensor, start: State) -> tuple[Tensor, State]:
    """Hidden states of all steps, (n_steps, n_samples, n_hidden), and the last state."""
    cell, of_inputs, of_hidden = _CELLS[module.mode], module.matrices[f"ih_{part}"], module.matrices[f"hh_{part}"]
    of_outputs = module.matrices.get(f"hr_{part}")

    def steps(product: _Product, projection: _Product | None) -> tuple[Tensor, Tensor, State]:
        """Hidden states, what was projected to them, and the last state."""
        state, hidden, outputs = start, [], []
        for each in by_input:
            state = cell(each, product(state[0]), state)
            outputs.append(state[0])
            state = (projection(state[0]), *state[1:]) if projection else state
            hidden.append(state[0])
        return torch.stack(hidden), torch.stack(outputs), state

    by_input = of_inputs(x)
    if torch.is_grad_enabled():
        found, _, end = steps(of_hidden, of_outputs)
        return found, end
    # All inputs of a matrix at once, for whoever wants to see them before the matrix may change.
    unseen = _unseen(of_hidden), _unseen(of_outputs) if of_outputs else None
    of_hidden(torch.cat([start[0][None], steps(*unseen)[0][:-1]]))
    if of_outputs:
        of_outputs(steps(*unseen)[1])
    found, _, end = steps(*unseen)
    return found, end


def _unseen(matrix: nn.Linear) -> _Product:
    """The product by a matrix as it is at that time, without its hooks."""
    return lambda x: functional.linear(x, matrix.weight, matrix.bias)


class _WatchedRecurrent:
    """A recurrent module that calls its matrices while they are watched."""

    matrices: dict[str, nn.Linear]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """What the module itself returns."""
        is_plain = not isinstance(input, Tensor) or not _is_watched(self.matrices)
        return super().forward(input, hx) if is_plain else _recurrent(self, input, hx)  # type: ignore[misc]


class WatchedLSTM(_WatchedRecurrent, nn.LSTM):
    """An LSTM."""


class WatchedGRU(_WatchedRecurrent, nn.GRU):
    """A GRU."""


class WatchedRNN(_WatchedRecurrent, nn.RNN):
    """An Elman network."""


class WatchedAttention(nn.MultiheadAttention):
    """An attention that calls its projections while they are watched; of another sequence as of one with its own."""

    matrices: dict[str, nn.Linear]

    def forward(  # the arguments of `nn.MultiheadAttention`
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What `nn.MultiheadAttention` returns."""
        if not _is_watched(self.matrices):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        is_turned = self.batch_first and query.ndim == 3
        given = [query] if query is key is value else [query, key] if key is value else [query, key, value]
        inputs = [x.transpose(0, 1) if is_turned else x for x in given]
        products = self.matrices["in_proj"](torch.cat(inputs)).split([len(x) for x in inputs])
        queries, keys, values = (products[min(place, len(products) - 1)].chunk(3, -1)[place] for place in range(3))
        same = torch.eye(self.embed_dim, dtype=query.dtype)
        output, weights = functional.multi_head_attention_forward(
            queries, keys, values, self.embed_dim, self.num_heads, None, None, self.bias_k, self.bias_v,
            self.add_zero_attn, 0.0, same, None, False, key_padding_mask, need_weights, attn_mask,
            use_separate_proj_weight=True, q_proj_weight=same, k_proj_weight=same, v_proj_weight=same,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        output = self.out_proj(output)
        return output.transpose(0, 1) if is_turned else output, weights


_WATCHED: dict[type, type] = {
    nn.LSTM: WatchedLSTM,
    nn.GRU: WatchedGRU,
    nn.RNN: WatchedRNN,
    nn.MultiheadAttention: WatchedAttention,
}


def watch_parts(model: nn.Module) -> nn.Module:
    """The network itself, whose recurrent and attention modules from now on call their matrices while watched."""
    for module in model.modules():
        matrices = dict(_matrices(module))
        if matrices:
            module.__class__ = _WATCHED[type(module)]
            module.matrices = matrices  # type: ignore[assignment]  # no part of the state: a map is no module
    return model


def parts_of(module: nn.Module) -> dict[str, nn.Linear]:
    """The matrices of a module by the names of their weights without `weight` (`ih_l0`, `in_proj`)."""
    found: dict[str, nn.Linear] = vars(module)["matrices"] if isinstance(module, tuple(_WATCHED.values())) else {}
    return found


def weight_and_bias_name(part: str) -> tuple[str, str]:
    """How a module calls a part's weight and bias."""
    return (f"{part}_weight", f"{part}_bias") if part == "in_proj" else (f"weight_{part}", f"bias_{part}")


def _matrices(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers that share their parameters with a module of a known type; none if it lacks one or computes it."""
    if type(module) not in _WATCHED:
        return
    own = dict(module.named_parameters(recurse=False))
    parts = _recurrent_parts(module) if isinstance(module, nn.RNNBase) else ["in_proj"]
    if not all(weight_and_bias_name(part)[0] in own for part in parts):
        return
    for part in parts:
        weight_name, bias_name = weight_and_bias_name(part)
        weight, bias = own[weight_name], own.get(bias_name)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        linear.weight, linear.bias = weight, bias  # type: ignore[assignment]
        yield part, linear


def _recurrent_parts(module: nn.RNNBase) -> list[str]:
    ends = ("", "_reverse") if module.bidirectional else ("",)
    kinds = ("ih", "hh", "hr") if module.proj_size else ("ih", "hh")
    return [f"{kind}_l{layer}{end}" for layer in range(module.num_layers) for end in ends for kind in kinds]
