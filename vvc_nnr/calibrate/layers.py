"""The layers of a torch module whose weight is a matrix: fully connected and convolutional, with what the matrix sees.

A convolution multiplies its weight, as an n_rows x n_columns matrix, with the patch of its input at each place of its
output. A transposed convolution of stride s is s convolutions per axis, one for each phase of its output, with a share
of its taps each. This adaptor finds those layers in the order in which a network runs them, and makes the patches.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from vvc_nnr.calibrate.matrix_parts import parts_of, weight_and_bias_name
from vvc_nnr.calibrate.samples import Run
from vvc_nnr.errors import InputError, VvcNnrError

TransposedModule: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d
DirectModule: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d
MatrixModule: TypeAlias = DirectModule | TransposedModule


def used_weight(module: MatrixModule, weight: Tensor) -> Tensor:
    """A weight as the layer uses it: one that rounds it first has a method `used_weight` that does so."""
    found: Tensor = module.used_weight(weight) if hasattr(module, "used_weight") else weight  # type: ignore[operator]
    return found


def n_groups(module: MatrixModule) -> int:
    """Groups of channels that do not see each other."""
    return 1 if isinstance(module, nn.Linear) else module.groups


def weight_order(module: DirectModule) -> Tensor:
    """Column of a patch for each column of the weight as an n_rows x n_columns matrix, int64."""
    if isinstance(module, nn.Linear):
        return torch.arange(module.in_features)
    _, n_channels, *kernel = module.weight.shape
    n_taps = kernel[0] * (kernel[1] if len(kernel) > 1 else 1)
    return torch.arange(n_taps * n_channels).reshape(n_taps, n_channels).T.reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Where the patches of an input lie.

    Attributes:
        runs: Channels of the input and its borders by position, (n_positions, n_channels).
        first: Position of the first tap of each patch, int64, (n_places,).
        taps: What the others lie after it, int64, (n_taps,).
        n_groups: Groups of channels.
    """

    runs: Tensor
    first: Tensor
    taps: Tensor
    n_groups: int

    @property
    def n_places(self) -> int:
        """Places of the output."""
        return len(self.first)

    def patches(self, chosen: Tensor | None = None) -> Tensor:
        """Copies of all patches, or of those at chosen places, (n_groups, n_places, n_columns)."""
        first = self.first if chosen is None else self.first[chosen]
        taken = self.runs.index_select(0, (first[:, None] + self.taps).reshape(-1))
        by_group = taken.reshape(len(first), len(self.taps), self.n_groups, -1)
        return by_group.permute(2, 0, 1, 3).reshape(self.n_groups, len(first), -1)


def windows(module: DirectModule, x: Tensor) -> Windows:
    """The windows of a layer on its input; places by sample, row and column."""
    if isinstance(module, nn.Linear):
        positions = x.reshape(-1, x.shape[-1])
        return Windows(positions, torch.arange(len(positions)), torch.zeros(1, dtype=torch.int64), 1)
    padded = _padded(module, _batched(module, x))
    n_samples, height, width, n_channels = padded.shape
    kernel, dilation, stride = (_two(axes) for axes in (module.kernel_size, module.dilation, module.stride))
    rows, columns = (
        torch.arange(0, size - d * (k - 1), s)
        for size, k, d, s in zip((height, width), kernel, dilation, stride, strict=True)
    )
    samples = torch.arange(n_samples)[:, None, None] * height
    first = (samples + rows[:, None]) * width + columns
    taps = torch.arange(kernel[0])[:, None] * dilation[0] * width + torch.arange(kernel[1]) * dilation[1]
    return Windows(padded.reshape(-1, n_channels), first.reshape(-1), taps.reshape(-1), module.groups)


def _batched(module: nn.Conv1d | nn.Conv2d | TransposedModule, x: Tensor) -> Tensor:
    """Input or output of a convolution with the batch dimension that torch lets it lack."""
    return x.unsqueeze(0) if x.ndim == len(module.kernel_size) + 1 else x


def _padded(module: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """The input as (N, H, W, C) with its borders; a signal is one row."""
    x = functional.pad(x, _padding(module), "constant" if module.padding_mode == "zeros" else module.padding_mode)
    x = x.unsqueeze(-2) if isinstance(module, nn.Conv1d) else x
    return x.permute(0, 2, 3, 1).contiguous()


def _two(axes: Sequence[int], of_signals: int = 1) -> tuple[int, int]:
    """Rows and columns; a signal has one row."""
    return (of_signals, axes[0]) if len(axes) == 1 else (axes[0], axes[1])


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Left and right of each axis, the last axis first."""
    found: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            whole = module.dilation[axis] * (module.kernel_size[axis] - 1) if module.padding == "same" else 0
            found += [whole // 2, whole - whole // 2]
        else:
            found += [module.padding[axis]] * 2
    return found


@dataclass(frozen=True, slots=True)
class Phase:
    """Every s-th output of a transposed convolution along each axis, from some first one on.

    Attributes:
        first: The first output, rows and columns.
        taps: Which taps of the kernel reach these outputs, by row and column of the kernel.
        offsets: How far from the input of the same number each of those taps reaches, likewise.
    """

    first: tuple[int, int]
    taps: tuple[tuple[int, ...], tuple[int, ...]]
    offsets: tuple[tuple[int, ...], tuple[int, ...]]

    def flat_taps(self, n_columns: int) -> list[int]:
        """The taps by their numbers in a kernel of so many columns, in the order of the windows."""
        return [row * n_columns + column for row, column in itertools.product(*self.taps)]


def phases(module: TransposedModule) -> list[Phase]:
    """The phases that taps reach, row by row; output j of an axis is the sum of taps k on input (j + p - k d) / s."""
    rows, columns = (_phases_of_axis(*axis) for axis in zip(*_axes(module), strict=True))
    return [
        Phase((row[0], column[0]), (row[1], column[1]), (row[2], column[2]))
        for row, column in itertools.product(rows, columns)
        if row[1] and column[1]
    ]


def _axes(module: TransposedModule) -> tuple[tuple[int, int], ...]:
    """Kernel, stride, padding and dilation of rows and columns."""
    assert not isinstance(module.padding, str)
    kernel, stride, dilation = (_two(each) for each in (module.kernel_size, module.stride, module.dilation))
    return kernel, stride, _two(module.padding, 0), dilation


def _phases_of_axis(
    kernel: int, stride: int, padding: int, dilation: int
) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """First output, taps and offsets of each phase of one axis."""
    found = []
    for first in range(stride):
        taps = tuple(k for k in range(kernel) if (first + padding - k * dilation) % stride == 0)
        found.append((first, taps, tuple((first + padding - k * dilation) // stride for k in taps)))
    return found


def phase_windows(module: TransposedModule, x: Tensor, phase: Phase) -> Windows:
    """The windows of one phase; columns of patches by tap, then channel."""
    x = x.unsqueeze(-2) if isinstance(module, nn.ConvTranspose1d) else x
    kernel, stride, padding, dilation = _axes(module)
    more = _two(module.output_padding, 0)
    places: list[tuple[int, int]] = []
    borders: list[int] = []
    for axis in (0, 1):
        n_inputs = x.shape[2 + axis]
        n_outputs = (n_inputs - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (kernel[axis] - 1)
        n_outputs += more[axis] + 1
        n_places = -(-(n_outputs - phase.first[axis]) // stride[axis])
        before = max(0, -min(phase.offsets[axis]))
        behind = max(0, n_places - 1 + max(phase.offsets[axis]) - (n_inputs - 1))
        places.append((n_places, before))
        borders = [before, behind, *borders]
    padded = functional.pad(x, borders).permute(0, 2, 3, 1).contiguous()
    n_samples, height, width, n_channels = padded.shape
    rows, columns = (torch.arange(n) + before for n, before in places)
    first = (torch.arange(n_samples)[:, None, None] * height + rows[:, None]) * width + columns
    taps = torch.tensor(phase.offsets[0])[:, None] * width + torch.tensor(phase.offsets[1])
    return Windows(padded.reshape(-1, n_channels), first.reshape(-1), taps.reshape(-1), module.groups)


def rows_of(module: MatrixModule, output: Tensor) -> Tensor:
    """An output, or its gradient, by place and row of the weight, (n_places, n_rows)."""
    if isinstance(module, nn.Linear):
        return output.reshape(-1, output.shape[-1])
    batched = _batched(module, output)
    return batched.movedim(1, -1).reshape(-1, batched.shape[1])


def run_forward(model: nn.Module, *inputs: Tensor) -> Any:
    """The module's own forward pass."""
    return model(*inputs)


_STEPS = (torch.round, torch.floor, torch.ceil, torch.trunc)
_STEP_METHODS = (Tensor.round, Tensor.floor, Tensor.ceil, Tensor.trunc)
_STEP_METHODS_IN_PLACE = (Tensor.round_, Tensor.floor_, Tensor.ceil_, Tensor.trunc_)


class _StraightThrough(TorchFunctionMode):
    """Rounding whose gradient is that of no rounding at all."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        args = args or tuple(given[key] for key in ("input",) if key in given)
        given = {key: value for key, value in given.items() if key != "input"} if func in _STEPS else given
        is_felt = bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad
        if is_felt and func in _STEP_METHODS_IN_PLACE:
            rounded = _STEP_METHODS[_STEP_METHODS_IN_PLACE.index(func)](args[0].detach(), *args[1:], **given)
            return args[0].add_(rounded - args[0].detach())
        result = func(*args, **given)
        if is_felt and func in (*_STEPS, *_STEP_METHODS):
            return args[0] + (result - args[0]).detach()
        return result


@contextmanager
def straight_through() -> Iterator[None]:
    """Within it gradients go back through rounding (round, floor, ceil, trunc) as if it were not there."""
    with _StraightThrough():
        yield


@dataclass(frozen=True, slots=True)
class MatrixLayer:
    """A layer whose weight is a matrix.

    Attributes:
        owner: Name of the module; "" if the network is a single layer.
        n_places: Places of all its outputs in one pass over one sample.
        part: Which of the module's matrices, as `matrix_parts.parts_of` names them; "" if it has one.
    """

    owner: str
    n_places: int
    part: str = ""

    @property
    def name(self) -> str:
        """Its own among all layers."""
        return _joined(self.owner, self.part)

    @property
    def weight_name(self) -> str:
        """Of its weight in the network's state."""
        return _joined(self.owner, weight_and_bias_name(self.part)[0] if self.part else "weight")

    @property
    def bias_name(self) -> str:
        """Of its bias, whether it has one or not."""
        return _joined(self.owner, weight_and_bias_name(self.part)[1] if self.part else "bias")

    def module(self, model: nn.Module) -> MatrixModule:
        """The layer in a copy of the network."""
        owner = model.get_submodule(self.owner)
        module = parts_of(owner)[self.part] if self.part else owner
        assert isinstance(module, MatrixModule)
        return module


def _joined(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner and name else owner or name


def find_layers(model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> list[MatrixLayer]:
    """The layers that one pass runs, in the order of their first call; layers that share a weight are left out.

    Raises:
        InputError: If the network cannot be run on the inputs.
    """
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    state = set(model.state_dict())
    n_places: Counter[tuple[str, str]] = Counter()

    def count(owner: str, part: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            assert isinstance(module, MatrixModule)
            n_places[owner, part] += rows_of(module, output).shape[0]

        return hook

    handles: list[RemovableHandle] = []
    for owner, whole in model.named_modules():
        for part, module in {"": whole, **parts_of(whole)}.items():
            is_named = MatrixLayer(owner, 0, part).weight_name in state
            if is_named and isinstance(module, MatrixModule) and shared[id(module.weight)] == 1:
                handles.append(module.register_forward_hook(count(owner, part)))
    try:
        with torch.no_grad():
            checked_output(model, run, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [MatrixLayer(owner, n, part) for (owner, part), n in n_places.items()]


def checked_output(model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> Tensor:
    """The output of one pass: the tensor that a network returns, or the picture among several.

    Raises:
        InputError: If the network fails on the inputs, its output has no picture, or that is NaN or infinite.
    """
    try:
        returned = run(model, *inputs)
    except Exception as error:  # whatever the network's own code raises
        raise failed_run(error, inputs) from None
    shapes = _shapes(inputs)
    output = _picture_of(returned)
    if not bool(torch.isfinite(output).all()):
        raise InputError(f"calibration: the network returns NaN or infinite values on a picture of {shapes}")
    return output


def failed_run(error: Exception, inputs: Sequence[Tensor]) -> VvcNnrError:
    """What a network's own error means to who gave the inputs; errors of this package as they are."""
    if isinstance(error, VvcNnrError):
        return error
    text = " ".join(str(error).split())
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return InputError(f"calibration: the network cannot be run on a picture of {_shapes(inputs)}: {told}")


def _shapes(inputs: Sequence[Tensor]) -> str:
    return ", ".join("x".join(map(str, x.shape)) for x in inputs)


def layer_input(arguments: Sequence[Any], by_keyword: Mapping[str, Any]) -> Tensor:
    """What a layer is called with, by place or as `input=`."""
    found: Tensor = arguments[0] if arguments else by_keyword["input"]
    return found


PICTURE_KEY, LIKELIHOODS_KEY = "x_hat", "likelihoods"
"""What learned codecs call the picture and its likelihoods in the map that they return."""


def _picture_of(returned: Any) -> Tensor:
    """The tensor, `x_hat` or the only tensor of a map, the first of a tuple.

    Raises:
        InputError: If there is none.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping):
        tensors = {key: value for key, value in returned.items() if isinstance(value, Tensor)}
        if PICTURE_KEY in tensors or len(tensors) == 1:
            return tensors.get(PICTURE_KEY, next(iter(tensors.values())))
        names = ", ".join(map(str, returned))[:200]
        raise InputError(
            f"calibration: the network returns a map of {names}; must have {PICTURE_KEY} or one tensor, or give "
            "Calibration a run that returns the picture"
        )
    if isinstance(returned, tuple | list) and returned and isinstance(returned[0], Tensor):
        return returned[0]
    raise InputError(
        f"calibration: the network returns a {type(returned).__name__}; must be a tensor, a map with {PICTURE_KEY}, or "
        "a tuple whose first is the picture; else give Calibration a run that returns it"
    )
