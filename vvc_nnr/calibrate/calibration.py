"""What calibration does with its pictures: they are checked, run, and measured against their targets."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.codec_loss import Measure, RateDistortionLoss, codec_cost
from vvc_nnr.calibrate.layers import LIKELIHOODS_KEY, checked_output, layer_input, run_forward, straight_through
from vvc_nnr.calibrate.samples import HOLD_OUT_EVERY, REFERENCE_SNR_DB, Calibration, OperatingPoint, Run, Sample
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import copied_module

N_CHECKED = 4
"""Pictures of one shape whose borders are looked at: what an output depends on hardly follows from the content."""
OWN_OUTPUT_SHARE = 1e-10
"""A target that is off by a smaller share of the output's power is the network's own output."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSample:
    """A sample whose inputs are tensors.

    Attributes:
        inputs: What the network takes.
        target: What it should return; None if that is not known.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class CheckedCalibration:
    """A `Calibration` with nothing left open.

    Attributes:
        fitted: Whose statistics the compression follows, at least one.
        held_out: Others, by which its loss is measured, at least one.
        run: Calls the network.
        peak: Of the PSNR.
        open_mse: Squared error per value that the network is taken to leave where no target says.
        accepts_small: See `Calibration`.
        measure: See `Calibration`.
    """

    fitted: tuple[CheckedSample, ...]
    held_out: tuple[CheckedSample, ...]
    run: Run
    peak: float
    open_mse: float
    accepts_small: bool
    measure: Measure | None = None


def as_calibration(pictures: Any, model: nn.Module) -> CheckedCalibration:
    """Pictures as they are given to `compress`, and what the network should make of them.

    The target of a network that returns likelihoods beside its picture, an autoencoder, is the picture itself where
    none is given. Of others it is then their own output, as it is where that is given as the target.

    Args:
        pictures: A `Calibration`, or a list of pictures or samples, every fourth held out.
        model: The network, in evaluation mode.

    Raises:
        InputError: If there are fewer than two, or one is no picture.
    """
    given = pictures if isinstance(pictures, Calibration) else _split(pictures)
    if not len(given.fitted) or not len(given.held_out):
        raise InputError("calibration: must have at least two pictures, one to fit and one to measure the loss by")
    run = given.run or run_forward
    fitted, held_out = (tuple(_tracked(_checked(each)) for each in part) for part in (given.fitted, given.held_out))
    if given.measure is not None:
        return CheckedCalibration(fitted, held_out, run, given.peak, 0.0, given.accepts_small, given.measure)
    if _is_autoencoder(model, run, fitted[0]):
        fitted, held_out = (tuple(map(_with_itself, part)) for part in (fitted, held_out))
    powers = [_power(model, run, sample) for sample in (*fitted, *held_out)]
    samples = [
        sample if sample.target is None or error > OWN_OUTPUT_SHARE * power else replace(sample, target=None)
        for sample, (power, error) in zip((*fitted, *held_out), powers, strict=True)
    ]
    if given.reference_psnr_db is not None:
        open_mse = given.peak**2 * 10 ** (-given.reference_psnr_db / 10)
    else:
        power = sum(power for power, _ in powers) / len(powers)
        open_mse = (power or given.peak**2) * 10 ** (-REFERENCE_SNR_DB / 10)
        n_open = sum(sample.target is None for sample in samples)
        if n_open:
            told = "calibration: %d of %d pictures have no target but the network's output; a loss of 1 dB is one of %s"
            _log.info(told, n_open, len(samples), f"{snr_of_loss_db(1.0):.1f} dB output SNR")
    fitted, held_out = tuple(samples[: len(fitted)]), tuple(samples[len(fitted) :])
    return CheckedCalibration(fitted, held_out, run, given.peak, open_mse, given.accepts_small)


def snr_of_loss_db(loss_db: float) -> float:
    """The SNR of an output about the network's own, in dB, at which its loss is so large where no target is given."""
    return REFERENCE_SNR_DB - 10 * math.log10(10 ** (loss_db / 10) - 1)


def _power(model: nn.Module, run: Run, sample: CheckedSample) -> tuple[float, float]:
    """Mean square of the network's output, and its squared error per value, infinite without a target.

    Raises:
        InputError: If the network cannot be run, or the target has another shape than its output.
    """
    with torch.no_grad():
        output = checked_output(model, run, sample.inputs)
    error = math.inf if sample.target is None else _error(sample.target, output)
    return float(output.double().square().mean()), error


def _error(target: Tensor, output: Tensor) -> float:
    if target.shape != output.shape:
        shapes = f"{tuple(target.shape)} for an output of {tuple(output.shape)}"
        raise InputError(f"calibration: a target of shape {shapes}")
    return _mse(output, target)


def _tracked(sample: CheckedSample) -> CheckedSample:
    """A sample that gradients can pass: tensors made in inference mode are copied."""
    inputs = tuple(_normal(each) for each in sample.inputs)
    return replace(sample, inputs=inputs, target=None if sample.target is None else _normal(sample.target))


def _normal(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def own_gradients() -> Iterator[None]:
    """Within it torch keeps gradients, whatever mode the caller has set."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _split(pictures: Any) -> Calibration:
    if not isinstance(pictures, list | tuple):
        kind = type(pictures).__name__
        raise InputError(f"calibration: must be a list of pictures (tensors with a batch dimension), got {kind}")
    every = min(HOLD_OUT_EVERY, max(1, len(pictures)))
    fitted = [picture for place, picture in enumerate(pictures) if (place + 1) % every]
    return Calibration(fitted, list(pictures[every - 1 :: every]))


def _checked(picture: Any) -> CheckedSample:
    sample = picture if isinstance(picture, Sample) else Sample(picture)
    parts = sample.inputs if isinstance(sample.inputs, tuple) else (sample.inputs,)
    return CheckedSample(tuple(map(_tensor, parts)), None if sample.target is None else _tensor(sample.target))


def _tensor(value: Any) -> Tensor:
    """A picture as a tensor, float32 if it has floats."""
    found = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    if not isinstance(found, Tensor):
        raise InputError(f"calibration: a picture is a tensor or a tuple of tensors, got {type(found).__name__}")
    if not found.numel() or (found.is_floating_point() and not bool(torch.isfinite(found).all())):
        raise InputError("calibration: a picture is empty, NaN or infinite")
    return found.float() if found.is_floating_point() else found


def _is_autoencoder(model: nn.Module, run: Run, sample: CheckedSample) -> bool:
    """Whether the network returns likelihoods beside a picture of its input's shape."""
    try:
        with torch.no_grad():
            returned = run(model, *sample.inputs)
    except Exception:  # told where it is run to be measured
        return False
    if not isinstance(returned, Mapping) or LIKELIHOODS_KEY not in returned:
        return False
    shapes = [value.shape for value in returned.values() if isinstance(value, Tensor)]
    return sample.inputs[0].shape in shapes


def _with_itself(sample: CheckedSample) -> CheckedSample:
    return CheckedSample(sample.inputs, sample.inputs[0]) if sample.target is None else sample


@own_gradients()
def check_pictures(model: nn.Module, pictures: Any) -> None:
    """Refuses at once what compression would refuse after pictures were made: too small ones, outputs of other forms.

    Args:
        model: The network; a copy is looked at.
        pictures: As they are given to `compress_calibrated`, or others of the same sizes.

    Raises:
        InputError: As `as_calibration` and `check_sizes`, or if the network cannot be run.
    """
    network = copied_module(model).eval().float().requires_grad_(True)
    check_sizes(network, as_calibration(pictures, network))


def check_sizes(model: nn.Module, calibration: CheckedCalibration) -> None:
    """Raises InputError if an output in the middle of a picture depends on samples up to the picture's borders.

    What it depends on is measured: the gradient of one place of the output. The statistics of group and instance norms,
    which are those of all pictures of a kind rather than of what lies where, do not count. Pictures of another form
    than (N, C, H, W) are not looked at.
    """
    if calibration.accepts_small:
        return
    norms = [part for part in model.modules() if isinstance(part, nn.GroupNorm | nn.modules.instancenorm._InstanceNorm)]
    handles = [norm.register_forward_hook(_place_by_place, with_kwargs=True) for norm in norms]
    try:
        _check_borders(model, calibration)
    finally:
        for handle in handles:
            handle.remove()


def _place_by_place(_: nn.Module, arguments: tuple[Tensor, ...], by_keyword: Any, output: Tensor) -> Tensor:
    """A norm's output, whose gradient knows nothing of its statistics."""
    seen = layer_input(arguments, by_keyword)
    return output.detach() + (seen - seen.detach())


def _check_borders(model: nn.Module, calibration: CheckedCalibration) -> None:
    checked: Counter[tuple[int, ...]] = Counter()
    for sample in calibration.fitted:
        picture = sample.inputs[0]
        if picture.ndim != 4 or not picture.is_floating_point() or checked[picture.shape] >= N_CHECKED:
            continue
        checked[picture.shape] += 1
        leaf = picture.clone().requires_grad_()
        with straight_through():
            output = checked_output(model, calibration.run, (leaf, *sample.inputs[1:]))
        if output.ndim != 4 or not output.requires_grad:
            continue
        output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()  # type: ignore[no-untyped-call]
        if leaf.grad is None:  # cut on the way: what it depends on is not known
            continue
        touched = leaf.grad.abs().amax((0, 1)) > 0
        is_cut = bool((touched[0].any() and touched[-1].any()) or (touched[:, 0].any() and touched[:, -1].any()))
        if is_cut:
            height, width = picture.shape[2:]
            raise InputError(
                f"calibration: a picture of {width}x{height} is smaller than the network's receptive field; use larger "
                "ones, or accepts_small=True (--accept-small) if its outputs depend on whole pictures, however large"
            )


def picture_weights(model: nn.Module, calibration: CheckedCalibration) -> list[float]:
    """What a squared error counts in each picture that is fitted to, so that dB count the same in all; mean log 0.

    Of a codec all count 1: what its pass returns is weighted.
    """
    if calibration.measure is not None:
        return [1.0] * len(calibration.fitted)
    with torch.no_grad():
        errors = [
            math.log(squared_error(calibration, sample, checked_output(model, calibration.run, sample.inputs)))
            for sample in calibration.fitted
        ]
    mean = sum(errors) / len(errors)
    return [math.exp(mean - error) for error in errors]


def squared_error(calibration: CheckedCalibration, sample: CheckedSample, output: Tensor) -> float:
    """Error per value that an output of the original network leaves, or is taken to leave; never zero.

    Raises:
        InputError: If the target has another shape than the output.
    """
    if sample.target is None:
        return calibration.open_mse
    return max(_error(sample.target, output), calibration.peak**2 * 1e-12)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a network loses against the original.

    Attributes:
        db: PSNR, mean over the pictures; of a codec the most of all operating points; below zero: it gains.
        codec: Rate and distortion of a codec.
    """

    db: float
    codec: RateDistortionLoss | None = None


class LossMeter(Protocol):
    """Measures coded networks against the original one."""

    @property
    def n_held_out(self) -> int:
        """Pictures that are held out."""

    @property
    def reference_mse(self) -> float:
        """Squared error that the original network leaves, in the units of lambda."""

    def loss(self, model: nn.Module) -> Loss:
        """What a network loses; raises InputError if it cannot be run, or returns NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class CodecMeter:
    """Rate and distortion of the original codec.

    Attributes:
        measure: See `Calibration`.
        original: What it does.
        n_held_out: Pictures that are held out.
    """

    measure: Measure
    original: Sequence[OperatingPoint]
    n_held_out: int

    @property
    def reference_mse(self) -> float:
        """Its weighted error, in bits per pixel."""
        return codec_cost(self.original, rate_weight=0.0)

    def loss(self, model: nn.Module) -> Loss:
        """What a codec loses, by the pictures and bytes that it makes."""
        found = RateDistortionLoss(tuple(self.original), tuple(self.measure(model)))
        return Loss(found.loss_db, found)


@dataclass(frozen=True, slots=True, eq=False)
class PictureMeter:
    """Outputs of the original network on the pictures held out.

    Attributes:
        calibration: The pictures.
        outputs: One for each picture held out.
    """

    calibration: CheckedCalibration
    outputs: tuple[Tensor, ...]

    @property
    def n_held_out(self) -> int:
        """Samples that are held out."""
        return len(self.outputs)

    @property
    def reference_mse(self) -> float:
        """Squared error per value that the original network is taken to leave, geometric mean over the pictures."""
        pairs = zip(self.calibration.held_out, self.outputs, strict=True)
        errors = [math.log(squared_error(self.calibration, sample, output)) for sample, output in pairs]
        return math.exp(sum(errors) / len(errors))

    def loss(self, model: nn.Module) -> Loss:
        """What a network loses against the original, mean over the pictures held out; below zero: it gains.

        Raises:
            InputError: If it cannot be run, or returns NaN.
        """
        total = 0.0
        with torch.no_grad():
            for sample, original in zip(self.calibration.held_out, self.outputs, strict=True):
                output = checked_output(model, self.calibration.run, sample.inputs)
                before = after = squared_error(self.calibration, sample, original)
                if sample.target is None:
                    after += _mse(output, original)
                else:
                    after = squared_error(self.calibration, sample, output)
                total += 10 * math.log10(after / before)
        return Loss(total / len(self.outputs))


def loss_meter(model: nn.Module, calibration: CheckedCalibration) -> LossMeter:
    """The meter of a network.

    Raises:
        InputError: If it cannot be run, returns NaN, or a target has another shape than its output.
    """
    if calibration.measure is not None:
        n_held_out = sum(len(sample.inputs[0]) for sample in calibration.held_out)
        return CodecMeter(calibration.measure, tuple(calibration.measure(model)), n_held_out)
    outputs = []
    with torch.no_grad():
        for sample in calibration.held_out:
            output = checked_output(model, calibration.run, sample.inputs)
            squared_error(calibration, sample, output)
            outputs.append(output)
    return PictureMeter(calibration, tuple(outputs))


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean())
