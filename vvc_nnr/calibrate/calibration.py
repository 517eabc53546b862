"""Pictures by which a network is compressed: some that it is fitted to, others that tell the loss.

This adaptor needs torch. A picture is whatever the network takes: one tensor or several, with its batch dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.layers import Run, checked_output, run_forward
from vvc_nnr.errors import InputError

CalibrationInput: TypeAlias = Any
"""A tensor or array, a tuple of them for a network of several inputs, or a `Sample`."""
HOLD_OUT_EVERY = 4
REFERENCE_PSNR_DB = 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture.

    Attributes:
        inputs: What the network takes.
        target: What it should return; None if that is not known.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Pictures and how a network is run on them.

    Attributes:
        fitted: Whose statistics the compression follows.
        held_out: Others, by which its loss is measured.
        run: Calls the network.
        peak: Of the PSNR.
        reference_psnr_db: PSNR that the network is taken to reach where no target says: what its output changes by
            counts against that error.
        accepts_small: Pictures that are smaller than what one output sample depends on are let through: for networks
            that always see such pictures, or that look at whole pictures (global pooling, attention).
    """

    fitted: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    run: Run = run_forward
    peak: float = 1.0
    reference_psnr_db: float = REFERENCE_PSNR_DB
    accepts_small: bool = False


def as_calibration(pictures: Any) -> Calibration:
    """Pictures as they are given to `compress`: a `Calibration`, or a list of pictures, every fourth held out.

    Raises:
        InputError: If there are fewer than two, or one is no picture.
    """
    found = pictures if isinstance(pictures, Calibration) else _split(pictures)
    if not found.fitted or not found.held_out:
        raise InputError("calibration: must have at least two pictures, one to fit and one to measure the loss by")
    return found


def _split(pictures: Any) -> Calibration:
    if not isinstance(pictures, list | tuple):
        kind = type(pictures).__name__
        raise InputError(f"calibration: must be a list of pictures (tensors with a batch dimension), got {kind}")
    samples = tuple(_as_sample(picture) for picture in pictures)
    every = min(HOLD_OUT_EVERY, max(1, len(samples)))
    held_out = samples[every - 1 :: every]
    return Calibration(tuple(s for place, s in enumerate(samples) if (place + 1) % every), held_out)


def _as_sample(picture: CalibrationInput) -> Sample:
    if isinstance(picture, Sample):
        return picture
    parts = picture if isinstance(picture, tuple) else (picture,)
    tensors = [torch.from_numpy(np.ascontiguousarray(p)) if isinstance(p, np.ndarray) else p for p in parts]
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise InputError(f"calibration: a picture is a tensor or a tuple of tensors, got {type(tensor).__name__}")
        if not tensor.numel() or (tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())):
            raise InputError("calibration: a picture is empty, NaN or infinite")
    return Sample(tuple(t.float() if t.is_floating_point() else t for t in tensors))


def check_sizes(model: nn.Module, calibration: Calibration) -> None:
    """Raises InputError if an output in the middle of a picture depends on samples up to the picture's borders.

    What it depends on is measured: the gradient of one place of the output. The statistics of group and instance norms,
    which are those of all pictures of a kind rather than of what lies where, do not count. Pictures of another form
    than (N, C, H, W) are not looked at.
    """
    if calibration.accepts_small:
        return
    norms = [part for part in model.modules() if isinstance(part, nn.GroupNorm | nn.modules.instancenorm._InstanceNorm)]
    handles = [norm.register_forward_hook(_place_by_place) for norm in norms]
    try:
        _check_borders(model, calibration)
    finally:
        for handle in handles:
            handle.remove()


def _place_by_place(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A norm's output, whose gradient knows nothing of its statistics."""
    return output.detach() + (inputs[0] - inputs[0].detach())


def _check_borders(model: nn.Module, calibration: Calibration) -> None:
    for sample in calibration.fitted:
        picture = sample.inputs[0]
        if picture.ndim != 4 or not picture.is_floating_point():
            continue
        leaf = picture.clone().requires_grad_()
        output = checked_output(model, calibration.run, (leaf, *sample.inputs[1:]))
        if output.ndim != 4 or not output.requires_grad:
            continue
        output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        touched = leaf.grad.abs().amax((0, 1)) > 0
        is_cut = bool((touched[0].any() and touched[-1].any()) or (touched[:, 0].any() and touched[:, -1].any()))
        if is_cut:
            height, width = picture.shape[2:]
            raise InputError(
                f"calibration: a picture of {width}x{height} is smaller than the network's receptive field; use larger "
                "ones, or accepts_small=True (--accept-small) if its outputs depend on whole pictures, however large"
            )


def picture_weights(model: nn.Module, calibration: Calibration) -> list[float]:
    """What a squared error counts in each picture that is fitted to, so that dB count the same in all; mean log 0."""
    with torch.no_grad():
        errors = [
            math.log(squared_error(calibration, sample, checked_output(model, calibration.run, sample.inputs)))
            for sample in calibration.fitted
        ]
    mean = sum(errors) / len(errors)
    return [math.exp(mean - error) for error in errors]


def squared_error(calibration: Calibration, sample: Sample, output: Tensor) -> float:
    """Error per value that an output of the original network leaves, or is taken to leave; never zero.

    Raises:
        InputError: If the target has another shape than the output.
    """
    if sample.target is None:
        return calibration.peak**2 * 10 ** (-calibration.reference_psnr_db / 10)
    if sample.target.shape != output.shape:
        shapes = f"{tuple(sample.target.shape)} for an output of {tuple(output.shape)}"
        raise InputError(f"calibration: a target of shape {shapes}")
    return max(_mse(output, sample.target), calibration.peak**2 * 1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class LossMeter:
    """Outputs of the original network on the pictures held out.

    Attributes:
        calibration: The pictures.
        outputs: One for each picture held out.
    """

    calibration: Calibration
    outputs: tuple[Tensor, ...]

    @property
    def reference_mse(self) -> float:
        """Squared error per value that the original network is taken to leave, geometric mean over the pictures."""
        pairs = zip(self.calibration.held_out, self.outputs, strict=True)
        errors = [math.log(squared_error(self.calibration, sample, output)) for sample, output in pairs]
        return math.exp(sum(errors) / len(errors))

    def loss_db(self, model: nn.Module) -> float:
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
        return total / len(self.outputs)


def loss_meter(model: nn.Module, calibration: Calibration) -> LossMeter:
    """The meter of a network.

    Raises:
        InputError: If it cannot be run, returns NaN, or a target has another shape than its output.
    """
    outputs = []
    with torch.no_grad():
        for sample in calibration.held_out:
            output = checked_output(model, calibration.run, sample.inputs)
            squared_error(calibration, sample, output)
            outputs.append(output)
    return LossMeter(calibration, tuple(outputs))


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean())
