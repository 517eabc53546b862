"""Pictures by which a network is compressed: some that it is fitted to, others that tell the loss. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

Run: TypeAlias = Callable[..., Any]
"""Called with a module and the inputs of one sample; returns what the network does."""
HOLD_OUT_EVERY = 4
"""Every so many-th picture of a list measures the loss."""
REFERENCE_SNR_DB = 40.0
"""Where nothing tells what a network's output should be, it is taken to err by so much less than its own power."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture as a network gets it, and what it should make of it.

    Attributes:
        inputs: What the network takes, with its batch dimension: a tensor, or a tuple of tensors for several inputs.
        target: What it should return, of the shape of its output; None if that is not known, which makes the network's
            own output the target. For an autoencoder it is the picture itself, for a filter or denoiser the picture
            without noise.
    """

    inputs: Tensor | tuple[Tensor, ...]
    target: Tensor | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a codec of pictures does at one of its rates, mean over pictures.

    Attributes:
        bpp: Bits per pixel.
        psnr_db: Mean PSNR.
        mse: Mean squared error, of 0 to 255.
        distortion_weight: What squared errors weigh against 1 bit per pixel.
    """

    bpp: float
    psnr_db: float
    mse: float
    distortion_weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Pictures and how a network is run on them: what `vvc_nnr.compress(model, calibration=...)` takes.

    Attributes:
        fitted: Whose statistics the compression follows: samples, or tensors as inputs without a target.
        held_out: Others, by which its loss is measured.
        run: Calls the network: `run(module, *inputs)` returns its picture. None: the module's forward pass, whose
            picture is the tensor that it returns, `x_hat` (or the only tensor) of a map, or the first of a tuple.
        peak: Of the PSNR, on the scale of the output.
        reference_psnr_db: PSNR that the network is taken to reach in pictures without a target: what its output changes
            by counts against that error. None: an error 40 dB below the mean power of its outputs, whatever their
            scale: then a loss of 0.1 dB is an output SNR of 56 dB, 1 dB one of 46 dB, and 3 dB one of 40 dB.
        accepts_small: Pictures that are smaller than what one output sample depends on are let through: for networks
            that always see such pictures, or that look at whole pictures (global pooling, attention).
        measure: Of a codec: what it does to pictures that were held out, at each of its rates. Its loss is then rate
            and distortion together, and the mean squared change of what `run` returns is what they rise by: that of
            the rate plus weighted errors, in bits per pixel.
    """

    fitted: Sequence[Any]
    held_out: Sequence[Any]
    run: Run | None = None
    peak: float = 1.0
    reference_psnr_db: float | None = None
    accepts_small: bool = False
    measure: Callable[[nn.Module], Sequence[OperatingPoint]] | None = None
