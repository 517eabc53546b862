"""A filter tuned to one sequence: how what is free learns, and how the difference becomes few bytes.

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
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.coding.update import apply_update, code_update
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import make_folder, read_bytes, write_file
from vvc_nnr.filters.adaptation.options import DEFAULT_BUDGET_MIN, MAX_STEPS, MIN_STEPS, AdaptOptions
from vvc_nnr.filters.adaptation.tail_parabola import TailParabola, add_sample
from vvc_nnr.filters.adaptation.tuned_filter import CROP, LearningPicture, TunedFilter, network_inputs
from vvc_nnr.filters.inference.torch import training_precision
from vvc_nnr.filters.networks.last_layer import FeaturesBefore, LastLayer
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import ArrayGrid, read_extended
from vvc_nnr.filters.training.fine_tuning import N_SIZES, RateProxy
from vvc_nnr.filters.training.in_loop import MIN_MSE
from vvc_nnr.filters.training.loop import Identity, TrainOptions, train
from vvc_nnr.filters.training.run import weights_sha256
from vvc_nnr.json_text import parse_json
from vvc_nnr.options import CompressOptions

QP_DENSITY = 2
N_PROBES = 16
"""Batches by which harm is measured."""
SOLVING_CROPS, RIDGE = 1536, 1e-3
"""Crops by which the last layer is solved at most, and what of the mean diagonal is added to its normal equations."""
CODING_SHARE = 0.4
"""Of the steps those in which differences are whole steps."""
FEW_VALUES = 2000
"""Up to so many values learn at full rates; more at less, since all of them move at once."""
_LEARNING_RATE, _CODING_RATE = 1e-3, 0.15
"""Peak rates: of tuning, in units of sqrt(loss / harm); of coding, in steps."""
_TINY = 1e-30
_NO_HARM = 1e-12
"""As a share of the largest: what a tensor does that as good as nothing comes behind."""
_NOT_PARABOLIC = 1e-2
"""How far from a parabola the loss of the last layer may be, as a share of its change, where that is solved."""
_OTHER_QPS = 4
_PLAN, _TUNING, _CODING = "plan.json", "tuning.pt", "coding.pt"


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
        base: TunedFilter,
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
        self._tensors = {name: value.detach() for name, value in base.network.named_parameters()}
        self._pictures = pictures
        self._weights = [plane_weights(picture, chroma_weight) for picture in pictures]
        self._seed, self._lambda_rd = seed, lambda_rd
        self._sides = _sides_of_crops(base, pictures)
        self._rate = RateProxy({f"values.{place}": 0.5 for place in range(len(differences.names))})

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Error of one batch, 1 for a filter that changes nothing, and bits times lambda."""
        inputs, targets, weights = self._batch(np.random.default_rng([self._seed, step]), batch_size)
        output = self._output([each.to(device) for each in inputs], self._all_tensors())
        total = self._error(output, targets.to(device), weights.to(device))
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
            inputs, _, weights = self._batch(rng, batch_size)
            output = self._output(inputs, self._all_tensors())
            signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), size=tuple(output.shape)))
            by_root = output * signs * (weights / batch_size).sqrt()
            gradients = torch.autograd.grad(by_root.sum(), parameters, allow_unused=True)
            squares = [0.0 if each is None else float(each.square().mean()) for each in gradients]
            found = [sum_ + each for sum_, each in zip(found, squares, strict=True)]
        return {name: each / n_probes for name, each in zip(self._differences.names, found, strict=True)}

    def tail_parabola(self, batch_size: int) -> TailParabola | None:
        """What the loss is of the last layer, with all else as the differences have it.

        Where what follows is a sum, a product with constants, a shift of places, the loss is a parabola of what the
        layer gives, each sample for itself. None where that is not so, or the layer is no plain convolution.
        """
        tail = self._base.tail
        if tail is None or not tail.is_plain:
            return None
        shape = self._tensors[tail.weight].shape
        n_unknown = math.prod(shape[1:]) + len(tail.names) - 1
        matrix = torch.zeros((shape[0], n_unknown, n_unknown), dtype=torch.float64)
        wanted, loss = matrix[:, :, 0].clone(), 0.0
        n_batches = -(-min(SOLVING_CROPS, self._n_crops_of_all()) // batch_size)
        for number in range(n_batches):
            rng = np.random.default_rng([self._seed, 2 << 40, number])
            found = self._at_tail(tail, rng, batch_size, is_checked=not number)
            if found is None:
                return None
            rows, slopes, curvatures, error = found
            loss += error / n_batches
            for sample in range(batch_size):
                add_sample(matrix, rows[sample], curvatures[sample] / n_batches)
                wanted -= (slopes[sample] @ rows[sample].T).double() / (2 * n_batches)
        damping = (RIDGE * matrix.diagonal(dim1=1, dim2=2).mean(dim=1)).clamp_min(_TINY)  # of a plane without weight
        matrix += damping[:, None, None] * torch.eye(n_unknown, dtype=torch.float64)
        return TailParabola(matrix, wanted, loss, shape, tail.names)

    def _at_tail(
        self, tail: LastLayer, rng: np.random.Generator, batch_size: int, *, is_checked: bool
    ) -> tuple[Tensor, Tensor, Tensor, float] | None:
        """A batch as a parabola of what the last layer gives; None if its loss is none.

        Returns:
            What each unknown is multiplied by (N, unknowns, samples); the loss's slopes and half of its curvatures, by
            what the layer gives (N, channels, samples); and the loss.
        """
        inputs, targets, weights = self._batch(rng, batch_size)
        tensors = self._all_tensors(without=tail.names)
        watched = FeaturesBefore(tensors[tail.weight])
        with training_precision(torch.device("cpu")), watched:
            output = self._output(inputs, tensors)
        error = self._error(output, targets, weights)
        slopes = torch.autograd.grad(error, watched.added, create_graph=True)
        signs = [torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), size=tuple(each.shape))) for each in slopes]
        curvatures = [
            (each * sign).detach()
            for each, sign in zip(torch.autograd.grad(_product(slopes, signs), watched.added), signs, strict=True)
        ]
        fixed, loss = [each.detach() for each in slopes], float(error.detach())
        if is_checked and not self._is_parabola(tail, tensors, (inputs, targets, weights), fixed, curvatures, loss):
            return None
        flat = [torch.cat(each).flatten(2) for each in (fixed, curvatures)]
        return watched.rows(len(tail.names) > 1), flat[0], flat[1] / 2, loss

    def _is_parabola(
        self,
        tail: LastLayer,
        tensors: Mapping[str, Tensor],
        batch: tuple[Sequence[Tensor], Tensor, Tensor],
        slopes: Sequence[Tensor],
        curvatures: Sequence[Tensor],
        before: float,
    ) -> bool:
        """Whether slopes and curvatures foretell the loss of another output of the layer, by random steps."""
        inputs, targets, weights = batch
        rng = torch.Generator().manual_seed(self._seed)
        size = (2 * before / max(float(sum(each.sum() for each in curvatures)), _TINY)) ** 0.5
        steps = [size * torch.randn(each.shape, generator=rng) for each in slopes]
        weight = tensors[tail.weight]
        with training_precision(torch.device("cpu")), FeaturesBefore(weight, steps), torch.no_grad():
            after = self._error(self._output(inputs, tensors), targets, weights)
        change = float(_product(slopes, steps) + _product(curvatures, [each.square() for each in steps]) / 2)
        measured = float(after) - before
        return abs(change - measured) <= _NOT_PARABOLIC * abs(measured)

    def _n_crops_of_all(self) -> int:
        """As many crops as have twice the samples of all pictures."""
        n_samples: int = sum(picture.decoded[0].size for picture in self._pictures)
        n_of_a_crop: int = math.prod(self._sides)
        return -(-2 * n_samples // n_of_a_crop)

    def _all_tensors(self, without: Sequence[str] = ()) -> dict[str, Tensor]:
        """The network's tensors with what is added to them, but to some."""
        added = {name: value for name, value in self._differences.added().items() if name not in without}
        if without:
            added = {name: value.detach() for name, value in added.items()}
        return {name: value + added[name] if name in added else value for name, value in self._tensors.items()}

    def _output(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """The filtered planes of crops."""
        output = cast(Tensor, functional_call(self._base.network, dict(tensors), tuple(inputs)))
        margin, sides = self._base.layout.overlap, inputs[0].shape[2:]
        if margin and output.shape[2:] == sides:
            output = output[:, :, margin : sides[0] - margin, margin : sides[1] - margin]
        return output

    @staticmethod
    def _error(output: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        total: Tensor = ((output.float() - targets).square() * weights).sum(dim=(1, 2, 3)).mean()
        return total

    def _batch(self, rng: np.random.Generator, n: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """What the network takes of n crops of decoded pictures, the originals, and the weights of their samples.

        A crop's border has none, since what lies beyond it changes it; that of a picture has, and is drawn as often as
        all else. What a viewer does not get has none.
        """
        height, width = self._sides
        margin, n_planes = self._base.layout.overlap, len(self._pictures[0].decoded)
        decoded = np.empty((n, n_planes, height + 2 * margin, width + 2 * margin), np.float32)
        original = np.empty((n, n_planes, height, width), np.float32)
        weights = torch.empty((n, n_planes, height, width))
        chosen = rng.integers(len(self._pictures), size=n)
        for place, index in enumerate(chosen):
            picture = self._pictures[index]
            (top, rows), (left, columns) = (
                _drawn_crop(rng, crop, side, self._base)
                for crop, side in zip(self._sides, picture.decoded.shape[1:], strict=True)
            )
            for into, planes, more in ((decoded, picture.decoded, margin), (original, picture.original, 0)):
                window = (top - more, left - more, height + 2 * more, width + 2 * more)
                into[place] = read_extended(ArrayGrid(cast(Any, planes)), window) / picture.scale
            counted = torch.from_numpy(rows[:, None] & columns).float()
            seen = torch.from_numpy(picture.counting(top, left, height, width))
            weights[place] = self._weights[index][:, None, None] * counted / counted.sum() * seen
        inputs = network_inputs(self._base.layout, decoded, [self._pictures[index].qp for index in chosen])
        return inputs, torch.from_numpy(original), weights


def _sides_of_crops(base: TunedFilter, pictures: Sequence[LearningPicture]) -> tuple[int, int]:
    """Height and width of the crops that are learnt on, without the layout's overlap."""
    layout = base.layout
    if layout.patch is not None:
        height, width = (side - 2 * layout.overlap for side in layout.patch)
        return height, width
    sides = zip(*(picture.decoded.shape[1:] for picture in pictures), strict=True)
    height, width = (max(1, min(CROP, *each) // layout.align) * layout.align for each in sides)
    return height, width


def _drawn_crop(rng: np.random.Generator, crop: int, side: int, base: TunedFilter) -> tuple[int, NDArray[np.bool_]]:
    """Where a crop begins on a side of a picture, and which of its samples count.

    Places beyond the picture's edges are moved to them, so that samples there are drawn as often as others.
    """
    room = max(0, side - crop)
    begin = int(np.clip(rng.integers(-(crop // 2), room + crop // 2 + 1), 0, room))
    counts = np.ones(crop, np.bool_)
    if base.layout.patch is None:
        margin = min(base.radius, crop // 4)
        counts[: margin if begin else 0] = False
        counts[crop - margin if begin < room else crop :] = False
    return begin, counts


def _product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The sum of the products of all values."""
    total: Tensor = torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
    return total


def plane_weights(picture: LearningPicture, chroma_weight: float) -> Tensor:
    """Weights of the planes' squared errors, so that the decoded picture has loss 1."""
    errors = np.maximum(picture.squared_errors(), MIN_MSE)
    if len(errors) == 1:
        return torch.tensor(1 / errors, dtype=torch.float32)
    factors = np.array([1.0, chroma_weight, chroma_weight]) / (1 + 2 * chroma_weight)
    luma, *chroma = factors / errors
    n_luma = len(picture.decoded) - len(chroma)
    return torch.tensor([luma / n_luma] * n_luma + chroma, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class TunedUpdate:
    """An update of a filter, coded, and what a decoder makes of it.

    Attributes:
        data: The ISO/IEC 15938-17 bitstream, brief: tensors by their places, no manifest.
        n_values: How many values were free.
        n_steps: How many steps they were tuned.
        tuned: The real differences before they were coded, by name.
        fixed: Names of float tensors that were to be free and stay as they are, since no gradients go to them.
    """

    data: bytes
    n_values: int
    n_steps: int
    tuned: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()


def tune(
    base: nn.Module,
    arrays: NamedArrays,
    pictures: Sequence[LearningPicture],
    options: AdaptOptions,
    lambda_rd: float,
    folder: Path,
    layout: Layout | None = None,
) -> TunedUpdate:
    """An update that brings a filter nearer to the originals; goes on where a run in the folder was cut off.

    Args:
        base: The filter as the decoder has it.
        arrays: Its tensors, as the decoder has them.
        pictures: To learn on.
        options: What is free, how long.
        lambda_rd: Loss that a bit must save, see `AdaptationTask`.
        folder: For checkpoints.
        layout: How pictures go into the filter; None: as it says itself.

    Raises:
        InputError: If the folder holds another run, nothing is free, or what is free changes nothing.
        UnsupportedError: If no gradients go through the filter, or its layout is one that messages do not say.
        VvcNnrError: If the loss becomes NaN.
    """
    tuned = TunedFilter.of(base, layout)
    names = [name for name in tuned.free_tensors(options.free) if name in arrays]
    if not names:
        raise InputError(f"free: the filter's file has no tensor of {', '.join(options.free)}; free all")
    shapes = {name: value.shape for name, value in tuned.network.named_parameters() if name in names}
    torch.manual_seed(options.seed)

    def task(differences: Differences, weight: float = 0.0) -> AdaptationTask:
        return AdaptationTask(
            tuned,
            pictures,
            differences,
            seed=options.seed,
            chroma_weight=options.learnt_chroma_weight,
            lambda_rd=weight,
        )

    ones = Differences(shapes, dict.fromkeys(names, 1.0), rounded=False)
    tail = tuned.tail.names if tuned.tail is not None else ()
    parabola = task(ones).tail_parabola(options.batch_size) if tail and set(tail) <= set(names) else None
    solved = {} if parabola is None else parabola.solved()
    harm = _harm(task, ones, solved, options)
    identity = _identity(base, pictures, options, lambda_rd)
    make_folder(folder)
    real = Differences(shapes, {name: value**-0.5 for name, value in harm.items()}, rounded=False)
    real.start_from(solved)
    n_steps = _planned_steps(task(real), options, folder, identity)
    n_coding = max(1, round(CODING_SHARE * n_steps))
    slower = min(1.0, (FEW_VALUES / sum(map(math.prod, shapes.values()))) ** 0.5)
    train(
        task(real), _training(n_steps - n_coding, slower * _LEARNING_RATE, options), folder / _TUNING, identity=identity
    )
    learnt = {name: value.detach() for name, value in real.added().items()}
    qps = {
        name: _qp_of_step(max(math.sqrt(6 * lambda_rd / math.log(2) / harm[name]), _least_step(learnt[name])))
        for name in names
    }
    whole = Differences(shapes, {name: step_size(qp, QP_DENSITY) for name, qp in qps.items()}, rounded=True)
    whole.start_from(learnt)
    train(
        task(whole, lambda_rd), _training(n_coding, slower * _CODING_RATE, options), folder / _CODING, identity=identity
    )
    levels = whole.levels()
    if parabola is None:
        data = coded_levels(arrays, levels, qps)
    else:
        kept = _coded_with_tail(task(whole), arrays, levels, qps, options, lambda_rd)
        others = {name: np.zeros_like(value) for name, value in levels.items() if name not in tail}
        whole.start_from({name: torch.zeros(value.shape) for name, value in others.items()})
        alone = _coded_with_tail(task(whole), arrays, {**levels, **others}, qps, options, lambda_rd)
        data = min(kept, alone, key=lambda found: found[1])[0]
    return TunedUpdate(
        data,
        sum(math.prod(shape) for shape in shapes.values()),
        n_steps,
        {name: value.cpu().numpy() for name, value in learnt.items()},
        tuned.fixed if "all" in options.free else (),
    )


def _harm(
    task: Callable[[Differences], AdaptationTask],
    ones: Differences,
    solved: Mapping[str, Tensor],
    options: AdaptOptions,
) -> dict[str, float]:
    """What differences of each tensor do, by `AdaptationTask.harm`.

    Behind a last layer of zeros, as one that is not trained has, what comes before it does nothing: it is measured
    behind the last layer that is solved.

    Raises:
        InputError: If one does nothing there either.
    """
    found = task(ones).harm(options.batch_size)
    if solved and min(found.values()) < _NO_HARM * max(found.values()):
        ones.start_from(solved)
        behind = task(ones).harm(options.batch_size)
        ones.start_from({name: torch.zeros_like(value) for name, value in solved.items()})
        found = {name: value if name in solved else behind[name] for name, value in found.items()}
    if idle := [name for name, value in found.items() if not _TINY < value < math.inf]:
        raise InputError(
            f"free: changes of {idle[0]} change no sample, since what comes behind it is zero, or samples that are not "
            "finite; free the last layer (tail), or take a network that is trained"
        )
    return found


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
    assert parabola is not None
    weight, *biases = parabola.names
    found = []
    for qp in range(qps[weight] - _OTHER_QPS, qps[weight] + _OTHER_QPS + 1):
        steps = {weight: step_size(qp, QP_DENSITY), **{name: step_size(qps[name], QP_DENSITY) for name in biases}}
        scale = step_size(qps[weight], QP_DENSITY) / steps[weight]
        start = {weight: np.rint(levels[weight] * scale).astype(np.int32), **{name: levels[name] for name in biases}}
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


def _least_step(values: Tensor) -> float:
    """The step by which differences, and twice as large ones, are still levels that coding knows."""
    return max(2 * float(values.abs().max()) / N_SIZES, _TINY)


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
    base: nn.Module, pictures: Iterable[LearningPicture], options: AdaptOptions, lambda_rd: float
) -> Identity:
    """What a run is told from others by."""
    errors = [[float(f"{value:.6g}") for value in (picture.qp, *picture.squared_errors())] for picture in pictures]
    return {
        "network": weights_sha256(base),
        "pictures": errors,
        "free": list(options.free),
        "chroma_weight": options.learnt_chroma_weight,
        "lambda": float(f"{lambda_rd:.6g}"),
    }


def _planned_steps(task: AdaptationTask, options: AdaptOptions, folder: Path, identity: Identity) -> int:
    """How many steps are asked for, or the budget gives; of a run that was cut off, as many as it had planned.

    Raises:
        InputError: If the folder holds a run of other options.
    """
    plan = folder / _PLAN
    budget_min = None if options.n_steps else options.budget_min or DEFAULT_BUDGET_MIN
    length = {"n_steps": options.n_steps, "budget_min": budget_min, "batch_size": options.batch_size}
    asked = json.loads(json.dumps({**length, "seed": options.seed, **identity}))
    if plan.exists():
        return _noted_steps(plan, asked)
    if any((folder / name).exists() for name in (_TUNING, _CODING)):
        raise InputError(f"{folder}: holds checkpoints, but no {_PLAN} that says of what; take another folder")
    n_steps = options.n_steps
    if n_steps is None:
        seconds = [_step_s(task, options.batch_size, number) for number in range(4)]
        n_steps = round(60 * (budget_min or DEFAULT_BUDGET_MIN) / min(seconds[1:]))
        n_steps = min(max(n_steps, MIN_STEPS), MAX_STEPS)
    write_file(plan, json.dumps({"n_steps": n_steps, "asked": asked}).encode())
    return n_steps


def _noted_steps(plan: Path, asked: Mapping[str, Any]) -> int:
    """The steps of a plan; raises InputError, which names what differs, if it is of another run."""
    try:
        noted = parse_json(read_bytes(plan))
        n_steps, before = noted["n_steps"], dict(noted["asked"])
    except (BitstreamError, KeyError, TypeError, ValueError):
        n_steps, before = None, {}
    if before == asked and type(n_steps) is int:
        return n_steps
    differ = [name for name in asked if name in before and before[name] != asked[name] and name != "pictures"]
    said = "".join(f"; {name} {before[name]!r}, now {asked[name]!r}" for name in differ[:2])
    raise InputError(f"{plan}: is of another run{said}; use the same options or another folder, or delete this one")


def _step_s(task: AdaptationTask, batch_size: int, number: int) -> float:
    """Seconds that one step takes; nothing is learnt."""
    start_s = time.perf_counter()
    with training_precision(torch.device("cpu")):
        loss = task.loss((1 << 40) + number, batch_size, torch.device("cpu"))
    loss.backward()  # type: ignore[no-untyped-call]
    task.network.zero_grad(set_to_none=True)
    return time.perf_counter() - start_s
