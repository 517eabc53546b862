"""A filter tuned to one sequence: what of it is free, how that learns, and how the difference becomes few bytes.

```
 decoded pictures ─┐
 original ─────────┴─ tuning: real differences ── coding: whole steps, bits in the loss ── NNC update of the base
```
The differences are counted in units of equal harm: a step of one tensor costs the pictures as much as one of another.
How harmful a difference is, is measured on the sequence: the curvature of the loss, by random signs through the network
(Hutchinson). How large a step may be follows from what a bit must earn, lambda: uniform quantisation of step s adds
harm x s**2 / 12 and saves a bit for each doubling, so s**2 = 6 x lambda / (ln 2 x harm).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import unfold

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.coding.update import apply_update, code_update
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import make_folder, read_bytes, write_file
from vvc_nnr.filters.inference.torch import training_precision
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.planes import N_LUMA_PLANES, N_PLANES
from vvc_nnr.filters.training.fine_tuning import N_SIZES, RateProxy, code_lengths
from vvc_nnr.filters.training.in_loop import DEFAULT_CHROMA_WEIGHT, MIN_MSE
from vvc_nnr.filters.training.loop import Identity, TrainOptions, train
from vvc_nnr.filters.training.run import weights_sha256
from vvc_nnr.json_text import parse_json
from vvc_nnr.options import CompressOptions

FreePart: TypeAlias = Literal["biases", "gains", "tail", "all"]
"""Biases of all layers; what makes features and output follow the QP; the last layer; everything."""
DEFAULT_FREE: tuple[FreePart, ...] = ("biases", "tail")
QP_DENSITY = 2
CROP = 64
"""Side of the crops that it learns on, in half-size samples."""
N_PROBES = 16
"""Batches by which harm is measured."""
SOLVING_CROPS, RIDGE = 512, 1e-3
"""Crops by which the last layer is solved at most, and what of the mean diagonal is added to its normal equations."""
CODING_SHARE = 0.4
"""Of the steps those in which differences are whole steps."""
FEW_VALUES = 2000
"""Up to so many values learn at full rates; more at less, since all of them move at once."""
MIN_STEPS, MAX_STEPS = 10, 100_000
_LEARNING_RATE, _CODING_RATE = 1e-3, 0.15
"""Peak rates: of tuning, in units of sqrt(loss / harm); of coding, in steps."""
_TINY = 1e-30
TAIL = ("tail.weight", "tail.bias")
_MOST_ROUNDS = 20
_OTHER_QPS = 4
_PLAN, _TUNING, _CODING = "plan.json", "tuning.pt", "coding.pt"


@dataclass(frozen=True, slots=True, eq=False)
class LearningPicture:
    """A decoded picture with its original.

    Attributes:
        original: uint16 (6, H, W), as `pack` gives it.
        decoded: The same of what the decoder gives.
        qp: What the network is told of it.
        scale: The sample value that counts as 1.
    """

    original: NDArray[np.uint16]
    decoded: NDArray[np.uint16]
    qp: int
    scale: float

    def squared_errors(self) -> NDArray[np.float64]:
        """Mean squared error of luma, Cb and Cr, samples scaled to 0..1."""
        difference = (self.decoded.astype(np.float32) - self.original.astype(np.float32)) / self.scale
        planes = np.asarray(np.mean(difference**2, axis=(1, 2), dtype=np.float64))
        return np.array([planes[:N_LUMA_PLANES].mean(), *planes[N_LUMA_PLANES:]])


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions:
    """How a filter is tuned to a sequence.

    Attributes:
        free: Biases; gains, slopes over the QP; tail, the last layer; all.
        budget_min: Minutes of tuning on this machine, from which the number of steps follows.
        n_steps: Optimiser steps, in place of a budget.
        batch_size: Crops per step.
        seed: Of all random choices.
        chroma_weight: Weight of each chroma plane in what is learnt, against 1 for luma.
        n_pictures: Over how many pictures the update pays for itself. Default: those of the streams.

    Raises:
        InputError: If one is out of range.
    """

    free: Sequence[FreePart] = DEFAULT_FREE
    budget_min: float = 2.0
    n_steps: int | None = None
    batch_size: int = 8
    seed: int = 0
    chroma_weight: float = DEFAULT_CHROMA_WEIGHT
    n_pictures: int | None = None

    def __post_init__(self) -> None:
        if not self.free:
            raise InputError("free: nothing is; must be some of biases, gains, tail, all")
        if not 0 < self.budget_min < math.inf:
            raise InputError(f"budget_min: {self.budget_min}; must be minutes above 0")
        if self.n_steps is not None and not MIN_STEPS <= self.n_steps <= MAX_STEPS:
            raise InputError(f"n_steps: {self.n_steps}; must be {MIN_STEPS} to {MAX_STEPS}")
        if self.batch_size < 1:
            raise InputError(f"batch_size: {self.batch_size}; must be at least 1")
        if not 0 <= self.chroma_weight <= 1:
            raise InputError(f"chroma_weight: {self.chroma_weight}; must be 0 to 1")
        if self.n_pictures is not None and self.n_pictures < 1:
            raise InputError(f"n_pictures: {self.n_pictures}; must be at least 1")


def free_tensors(network: InLoopNetwork, free: Sequence[FreePart]) -> list[str]:
    """The names of the tensors that may change, in the network's order."""
    is_free: dict[FreePart, Callable[[str], bool]] = {
        "biases": lambda name: name.endswith(".bias"),
        "gains": lambda name: name.startswith("gain.") or name.split(".")[-2] == "shift",
        "tail": lambda name: name.startswith("tail."),
        "all": lambda _: True,
    }
    unknown = [part for part in free if part not in is_free]
    if unknown:
        raise InputError(f"free: {unknown[0]!r}; must be some of {', '.join(is_free)}")
    return [name for name, _ in network.named_parameters() if any(is_free[part](name) for part in free)]


class Differences(nn.Module):
    """What is added to tensors of a network, each in a unit of its own.

    Args:
        shapes: The tensors' shapes by name.
        units: What a value of 1 adds.
        rounded: Whether whole numbers are added, the nearest ones; gradients pass through.
    """

    def __init__(self, shapes: Mapping[str, torch.Size], units: Mapping[str, float], *, rounded: bool) -> None:
        super().__init__()
        self.names = tuple(shapes)
        self.values = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in shapes.values()])
        self._units, self._rounded = dict(units), rounded

    def added(self) -> dict[str, Tensor]:
        """What is added to each tensor."""
        return {
            name: self._units[name] * self._used(value) for name, value in zip(self.names, self.values, strict=True)
        }

    def levels(self) -> dict[str, NDArray[np.int32]]:
        """The nearest whole numbers, int32, by name."""
        pairs = zip(self.names, self.values, strict=True)
        return {name: torch.round(value.detach()).cpu().numpy().astype(np.int32) for name, value in pairs}

    def start_from(self, values: Mapping[str, Tensor]) -> None:
        """Begins with what these values add; others stay zero."""
        with torch.no_grad():
            for name, value in zip(self.names, self.values, strict=True):
                if name in values:
                    value.copy_(values[name] / self._units[name])

    def _used(self, value: Tensor) -> Tensor:
        return value + (torch.round(value) - value).detach() if self._rounded else value


@dataclass(frozen=True, slots=True, eq=False)
class TailParabola:
    """The loss by what is added to the last layer, x of each plane: loss + x' matrix x - 2 wanted' x.

    Attributes:
        matrix: (planes, unknowns, unknowns), float64; the bias is the last unknown.
        wanted: (planes, unknowns).
        loss: Of adding nothing.
        shape: Of the layer's weights.
    """

    matrix: Tensor
    wanted: Tensor
    loss: float
    shape: torch.Size

    def solved(self) -> dict[str, Tensor]:
        """What is best added."""
        return self._as_tensors(torch.linalg.solve(self.matrix, self.wanted).float())

    def levels(
        self, steps: Mapping[str, float], start: Mapping[str, NDArray[np.int32]], lambda_rd: float
    ) -> tuple[dict[str, NDArray[np.int32]], float]:
        """Whole steps, one after the other the best for loss and bits until none is better, and the loss.

        Args:
            steps: Of weights and biases.
            start: The levels to begin with.
            lambda_rd: Loss that a bit must save.
        """
        matrix, wanted = self.matrix.numpy(), self.wanted.numpy()
        n_weights = wanted.shape[1] - 1
        kinds = np.array([0] * n_weights + [1])
        step = np.array([steps[name] for name in TAIL])[kinds]
        levels = np.concatenate([start[name].reshape(N_PLANES, -1) for name in TAIL], axis=1).astype(np.int64)
        pull = wanted - np.einsum("pij,pj->pi", matrix, levels * step)
        planes = np.arange(N_PLANES)
        for _ in range(_MOST_ROUNDS):
            bits = [self._bits(levels[:, kinds == kind]) for kind in (0, 1)]
            before = levels.copy()
            for place in range(n_weights + 1):
                curvature, table, own = matrix[:, place, place], bits[kinds[place]], levels[:, place]
                best = own + pull[:, place] / (curvature * step[place])
                tried = np.stack([np.zeros_like(own), *(np.rint(best).astype(np.int64) + by for by in (-1, 0, 1))])
                tried = np.clip(tried, -N_SIZES, N_SIZES)
                costs = curvature * (step[place] * (tried - best)) ** 2 + lambda_rd * table[np.abs(tried)]
                chosen = tried[costs.argmin(axis=0), planes]
                pull -= matrix[:, :, place] * (step[place] * (chosen - own))[:, None]
                levels[:, place] = chosen
            if np.array_equal(levels, before):
                break
        added = levels * step
        loss = self.loss + float((added * (np.einsum("pij,pj->pi", matrix, added) - 2 * wanted)).sum())
        found = self._as_tensors(torch.from_numpy(levels))
        return {name: value.numpy().astype(np.int32) for name, value in found.items()}, loss

    def _as_tensors(self, values: Tensor) -> dict[str, Tensor]:
        return {TAIL[0]: values[:, :-1].reshape(self.shape), TAIL[1]: values[:, -1]}

    @staticmethod
    def _bits(levels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Code length of each absolute level with its sign, as often as it is there now."""
        return code_lengths(torch.from_numpy(np.abs(levels).astype(np.float32)).reshape(-1)).double().numpy()


class AdaptationTask:
    """Differences that bring a filter's pictures nearer to their originals.

    The loss is the squared error over that of the decoded picture, for each picture and plane; about a per cent of it
    is 0.043 dB of the picture's PSNR.

    Args:
        base: The filter as the decoder has it.
        pictures: To learn on.
        differences: What is learnt.
        seed: Fixes the random choices together with the step number.
        chroma_weight: Weight of each chroma plane against 1 for luma.
        lambda_rd: Loss that a bit of the differences must save; 0: bits do not count.
    """

    def __init__(
        self,
        base: InLoopNetwork,
        pictures: Sequence[LearningPicture],
        differences: Differences,
        *,
        seed: int,
        chroma_weight: float,
        lambda_rd: float = 0.0,
    ) -> None:
        self.network: nn.Module = differences
        self._differences = differences
        self._base = base
        self._tensors = {name: value.detach() for name, value in base.named_parameters()}
        self._pictures = pictures
        self._weights = [plane_weights(picture, chroma_weight) for picture in pictures]
        self._seed, self._lambda_rd = seed, lambda_rd
        heights, widths = zip(*(picture.decoded.shape[1:] for picture in pictures), strict=True)
        self._sides = min(CROP, *heights), min(CROP, *widths)
        self._inner = tuple(
            slice(0, side) if side == max(all_sides) else _without_border(side, base.receptive_radius)
            for side, all_sides in zip(self._sides, (heights, widths), strict=True)
        )
        self._rate = RateProxy({f"values.{place}": 0.5 for place in range(len(differences.names))})

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Error of one batch, 1 for a filter that changes nothing, and bits times lambda."""
        inputs, qps, targets, weights = self._batch(np.random.default_rng([self._seed, step]), batch_size)
        output = self._output(inputs.to(device), qps.to(device)).float()
        errors = (output - self._inside(targets.to(device))).square().mean(dim=(2, 3))
        total: Tensor = (errors * weights.to(device)).sum(dim=1).mean()
        return total + self._lambda_rd * self._rate.bits(self.network) if self._lambda_rd else total

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """The bits, in bytes, where they count; pictures are measured on the coded update."""
        return {"bytes": float(self._rate.bits(self.network)) / 8} if self._lambda_rd else {}

    def harm(self, batch_size: int, n_probes: int = N_PROBES) -> dict[str, float]:
        """What a squared difference of 1 of one value adds to the loss, mean over each tensor's values, by name."""
        parameters = list(self._differences.values)
        found = [0.0] * len(parameters)
        for probe in range(n_probes):
            rng = np.random.default_rng([self._seed, 1 << 40, probe])
            inputs, qps, _, weights = self._batch(rng, batch_size)
            output = self._output(inputs, qps)
            signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), size=tuple(output.shape)))
            per_sample = weights[:, :, None, None] / (output.shape[2] * output.shape[3] * batch_size)
            gradients = torch.autograd.grad((output * signs * per_sample.sqrt()).sum(), parameters)
            found = [sum_ + float(each.square().mean()) for sum_, each in zip(found, gradients, strict=True)]
        return {name: each / n_probes for name, each in zip(self._differences.names, found, strict=True)}

    def tail_parabola(self, batch_size: int) -> TailParabola:
        """What the loss is of the last layer, with all else as the differences have it.

        The output is linear in the last layer: each plane is its input and a convolution of the features, times a gain.
        """
        features: list[Tensor] = []
        hook = self._base.tail.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        n_unknown = self._tensors["tail.weight"][0].numel() + 1
        matrix, wanted = torch.zeros((2, N_PLANES, n_unknown, n_unknown), dtype=torch.float64)
        wanted, loss = wanted[:, :, 0], 0.0
        n_batches = -(-min(SOLVING_CROPS, self._n_crops_of_all()) // batch_size)
        added = {name: value.detach() for name, value in self._differences.added().items() if name not in TAIL}
        tensors = {name: value + added[name] if name in added else value for name, value in self._tensors.items()}
        try:
            for number in range(n_batches):
                rng = np.random.default_rng([self._seed, 2 << 40, number])
                inputs, qps, targets, weights = self._batch(rng, batch_size)
                with torch.no_grad(), training_precision(torch.device("cpu")):
                    output = cast(Tensor, functional_call(self._base, tensors, (inputs, qps)))
                residuals = self._inside(targets - output.float())
                rows = self._rows(features.pop())
                gains = _gains(self._base, qps)
                loss += float((residuals.square().mean(dim=(2, 3)) * weights).sum()) / (n_batches * batch_size)
                for sample in range(batch_size):
                    gram = (rows[sample] @ rows[sample].T).double()
                    projected = (rows[sample] @ residuals[sample].flatten(1).T).double()
                    scales = (weights[sample] * gains[sample]).double() / (rows.shape[2] * n_batches * batch_size)
                    matrix += (scales * gains[sample].double())[:, None, None] * gram
                    wanted += scales[:, None] * projected.T
        finally:
            hook.remove()
        damping = (RIDGE * matrix.diagonal(dim1=1, dim2=2).mean(dim=1)).clamp_min(_TINY)  # of a plane without weight
        matrix += damping[:, None, None] * torch.eye(n_unknown, dtype=torch.float64)
        return TailParabola(matrix, wanted, loss, self._tensors["tail.weight"].shape)

    def _n_crops_of_all(self) -> int:
        """As many crops as have twice the samples of all pictures."""
        n_samples: int = sum(picture.decoded[0].size for picture in self._pictures)
        n_of_a_crop: int = math.prod(self._sides)
        return -(-2 * n_samples // n_of_a_crop)

    def _rows(self, features: Tensor) -> Tensor:
        """What each weight of the last layer, and its bias, is multiplied by: (N, n_unknown, samples)."""
        rows = unfold(features.float().contiguous(), 3, padding=1)
        rows = rows.reshape(*rows.shape[:2], *self._sides)
        inside = self._inside(rows).flatten(2)
        return torch.cat([inside, torch.ones_like(inside[:, :1])], dim=1)

    def _output(self, inputs: Tensor, qps: Tensor) -> Tensor:
        added = self._differences.added()
        tensors = {name: value + added[name] if name in added else value for name, value in self._tensors.items()}
        return self._inside(cast(Tensor, functional_call(self._base, tensors, (inputs, qps))))

    def _inside(self, planes: Tensor) -> Tensor:
        """The planes without what the border of a crop changes most; a picture's own border stays."""
        return planes[:, :, *self._inner]

    def _batch(self, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops (n, 6, height, width) of decoded pictures, their QPs, their originals and their planes' weights."""
        height, width = self._sides
        decoded, original = np.empty((2, n, N_PLANES, height, width), np.float32)
        chosen = rng.integers(len(self._pictures), size=n)
        for place, index in enumerate(chosen):
            picture = self._pictures[index]
            rows, columns = picture.decoded.shape[1:]
            top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            decoded[place] = picture.decoded[window] / picture.scale
            original[place] = picture.original[window] / picture.scale
        inputs, targets = (
            torch.from_numpy(each).contiguous(memory_format=torch.channels_last) for each in (decoded, original)
        )
        qps = torch.tensor([float(self._pictures[index].qp) for index in chosen])
        return inputs, qps, targets, torch.stack([self._weights[index] for index in chosen])


def _without_border(side: int, radius: int) -> slice:
    """The inside of a crop's side; what is cut off is at most a half of it."""
    margin = min(radius, side // 4)
    return slice(margin, side - margin)


def _gains(network: InLoopNetwork, qps: Tensor) -> Tensor:
    """By how much each plane of the output rises with the last layer's bias, (N, 6)."""
    flat = torch.zeros(len(qps), N_PLANES, 1, 1)
    higher = {"tail.bias": cast(Tensor, network.tail.bias) + 1}
    with torch.no_grad():
        found: Tensor = functional_call(network, higher, (flat, qps)) - network(flat, qps)
    return found[:, :, 0, 0]


def plane_weights(picture: LearningPicture, chroma_weight: float) -> Tensor:
    """Weights of the six planes' squared errors, so that the decoded picture has loss 1."""
    errors = np.maximum(picture.squared_errors(), MIN_MSE)
    factors = np.array([1.0, chroma_weight, chroma_weight]) / (1 + 2 * chroma_weight)
    luma, *chroma = factors / errors
    return torch.tensor([luma / N_LUMA_PLANES] * N_LUMA_PLANES + chroma, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class TunedUpdate:
    """An update of a filter, coded, and what a decoder makes of it.

    Attributes:
        data: The ISO/IEC 15938-17 bitstream, brief: tensors by their places, no manifest.
        n_values: How many values were free.
        n_steps: How many steps they were tuned.
        tuned: The real differences before they were coded, by name.
    """

    data: bytes
    n_values: int
    n_steps: int
    tuned: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def tune(
    base: InLoopNetwork,
    arrays: NamedArrays,
    pictures: Sequence[LearningPicture],
    options: AdaptOptions,
    lambda_rd: float,
    folder: Path,
) -> TunedUpdate:
    """An update that brings a filter nearer to the originals; goes on where a run in the folder was cut off.

    Args:
        base: The filter as the decoder has it.
        arrays: Its tensors, as the decoder has them.
        pictures: To learn on.
        options: What is free, how long.
        lambda_rd: Loss that a bit must save, see `AdaptationTask`.
        folder: For checkpoints.

    Raises:
        InputError: If the folder holds another run, or nothing is free.
        VvcNnrError: If the loss becomes NaN.
    """
    names = free_tensors(base, options.free)
    if not names:
        raise InputError(f"free: the network has none of {', '.join(options.free)}")
    shapes = {name: value.shape for name, value in base.named_parameters() if name in names}
    torch.manual_seed(options.seed)

    def task(differences: Differences, weight: float = 0.0) -> AdaptationTask:
        return AdaptationTask(
            base,
            pictures,
            differences,
            seed=options.seed,
            chroma_weight=options.chroma_weight,
            lambda_rd=weight,
        )

    ones = Differences(shapes, dict.fromkeys(names, 1.0), rounded=False)
    harm = {name: max(value, 1e-12) for name, value in task(ones).harm(options.batch_size).items()}
    identity = _identity(base, pictures, options, lambda_rd)
    make_folder(folder)
    real = Differences(shapes, {name: value**-0.5 for name, value in harm.items()}, rounded=False)
    real.start_from(task(ones).tail_parabola(options.batch_size).solved() if "tail.weight" in names else {})
    n_steps = options.n_steps or _planned_steps(task(real), options, folder, identity)
    n_coding = max(1, round(CODING_SHARE * n_steps))
    slower = min(1.0, (FEW_VALUES / sum(map(math.prod, shapes.values()))) ** 0.5)
    train(
        task(real), _training(n_steps - n_coding, slower * _LEARNING_RATE, options), folder / _TUNING, identity=identity
    )
    tuned = {name: value.detach() for name, value in real.added().items()}
    qps = {name: _qp_of_step(math.sqrt(6 * lambda_rd / math.log(2) / harm[name])) for name in names}
    whole = Differences(shapes, {name: step_size(qp, QP_DENSITY) for name, qp in qps.items()}, rounded=True)
    whole.start_from(tuned)
    train(
        task(whole, lambda_rd), _training(n_coding, slower * _CODING_RATE, options), folder / _CODING, identity=identity
    )
    levels = whole.levels()
    if not set(TAIL) <= set(names):
        data = coded_levels(arrays, levels, qps)
    else:
        kept = _coded_with_tail(task(whole), arrays, levels, qps, options, lambda_rd)
        others = {name: np.zeros_like(value) for name, value in levels.items() if name not in TAIL}
        whole.start_from({name: torch.zeros(value.shape) for name, value in others.items()})
        alone = _coded_with_tail(task(whole), arrays, {**levels, **others}, qps, options, lambda_rd)
        data = min(kept, alone, key=lambda found: found[1])[0]
    return TunedUpdate(
        data,
        sum(math.prod(shape) for shape in shapes.values()),
        n_steps,
        {name: value.cpu().numpy() for name, value in tuned.items()},
    )


def _coded_with_tail(
    task: AdaptationTask,
    arrays: NamedArrays,
    levels: Mapping[str, NDArray[np.int32]],
    qps: Mapping[str, int],
    options: AdaptOptions,
    lambda_rd: float,
) -> tuple[bytes, float]:
    """An update whose last layer is found anew for the levels of the others, and its loss with bits times lambda."""
    parabola = task.tail_parabola(options.batch_size)
    weight, bias = TAIL
    found = []
    for qp in range(qps[weight] - _OTHER_QPS, qps[weight] + _OTHER_QPS + 1):
        steps = {weight: step_size(qp, QP_DENSITY), bias: step_size(qps[bias], QP_DENSITY)}
        scale = step_size(qps[weight], QP_DENSITY) / steps[weight]
        start = {weight: np.rint(levels[weight] * scale).astype(np.int32), bias: levels[bias]}
        tail, loss = parabola.levels(steps, start, lambda_rd)
        data = coded_levels(arrays, {**levels, **tail}, {**qps, weight: qp})
        found.append((data, loss + lambda_rd * 8 * len(data)))
    return min(found, key=lambda made: made[1])


def coded_levels(arrays: NamedArrays, levels: Mapping[str, NDArray[np.int32]], qps: Mapping[str, int]) -> bytes:
    """The update that adds whole steps to tensors.

    Args:
        arrays: The base's tensors, as the decoder has them.
        levels: How many steps, by name.
        qps: The tensors' QPs, at density `QP_DENSITY`.
    """
    new = dict(arrays)
    for name, counts in levels.items():
        step = np.float32(step_size(qps[name], QP_DENSITY))
        new[name] = np.asarray(arrays[name]) + step * counts.astype(np.float32)
    options = CompressOptions(qp=0, qp_density=QP_DENSITY, qp_per_tensor=dict(qps), use_dq=False, lambda_rd=0.0)
    made, after = code_update(arrays, new, options, brief=True)
    assert apply_update(arrays, made.data).digest() == after.digest()
    return made.data


def _qp_of_step(step: float) -> int:
    """The QP whose step is nearest."""
    low, high = qp_limits(QP_DENSITY)
    return min(range(low, high + 1), key=lambda qp: abs(math.log(step_size(qp, QP_DENSITY) / step)))


def _training(n_steps: int, learning_rate: float, options: AdaptOptions) -> TrainOptions:
    return TrainOptions(
        n_steps=n_steps,
        batch_size=options.batch_size,
        learning_rate=learning_rate,
        warmup_steps=min(20, n_steps // 10 + 1),
        weight_decay=0.0,
        ema_decay=1 - 1 / max(2, min(200, n_steps // 10)),
        max_grad_norm=math.inf,
        seed=options.seed,
        checkpoint_every=max(1, min(50, n_steps // 4)),
        device="cpu",
    )


def _identity(
    base: InLoopNetwork, pictures: Iterable[LearningPicture], options: AdaptOptions, lambda_rd: float
) -> Identity:
    """What a run is told from others by."""
    errors = [[float(f"{value:.6g}") for value in (picture.qp, *picture.squared_errors())] for picture in pictures]
    return {
        "network": weights_sha256(base),
        "pictures": errors,
        "free": list(options.free),
        "chroma_weight": options.chroma_weight,
        "lambda": float(f"{lambda_rd:.6g}"),
    }


def _planned_steps(task: AdaptationTask, options: AdaptOptions, folder: Path, identity: Identity) -> int:
    """How many steps the budget gives; of a run that was cut off, as many as it had planned."""
    plan = folder / _PLAN
    asked = json.loads(json.dumps({"budget_min": options.budget_min, "batch_size": options.batch_size, **identity}))
    if plan.exists():
        try:
            noted = parse_json(read_bytes(plan))
            if noted["asked"] == asked and type(noted["n_steps"]) is int:
                return int(noted["n_steps"])
        except (BitstreamError, KeyError, TypeError):
            pass
        raise InputError(f"{plan}: is of another run; use the same options, or another folder")
    seconds = [_step_s(task, options.batch_size, number) for number in range(4)]
    n_steps = round(60 * options.budget_min / min(seconds[1:]))
    n_steps = min(max(n_steps, MIN_STEPS), MAX_STEPS)
    write_file(plan, json.dumps({"n_steps": n_steps, "asked": asked}).encode())
    return n_steps


def _step_s(task: AdaptationTask, batch_size: int, number: int) -> float:
    """Seconds that one step takes; nothing is learnt."""
    start_s = time.perf_counter()
    with training_precision(torch.device("cpu")):
        loss = task.loss((1 << 40) + number, batch_size, torch.device("cpu"))
    loss.backward()  # type: ignore[no-untyped-call]
    task.network.zero_grad(set_to_none=True)
    return time.perf_counter() - start_s
