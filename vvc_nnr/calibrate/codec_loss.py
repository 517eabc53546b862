"""What a codec of pictures loses by compression of its network: rate and distortion, at each operating point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vvc_nnr.calibrate.samples import OperatingPoint

if TYPE_CHECKING:
    from torch import nn

Measure: TypeAlias = "Callable[[nn.Module], Sequence[OperatingPoint]]"


@dataclass(frozen=True, slots=True)
class RateDistortionLoss:
    """A coded codec against the original, on pictures held out.

    Attributes:
        before: The original's operating points.
        after: The coded network's.
    """

    before: Sequence[OperatingPoint]
    after: Sequence[OperatingPoint]

    @property
    def loss_db(self) -> float:
        """The most PSNR that is lost at any operating point; below zero: all gain."""
        return max(old.psnr_db - new.psnr_db for old, new in zip(self.before, self.after, strict=True))

    @property
    def rate_rise_percent(self) -> float:
        """The most by which the bits of any operating point rise; below zero: all fall."""
        return max(100 * (new.bpp / old.bpp - 1) for old, new in zip(self.before, self.after, strict=True))

    @property
    def cost_bpp(self) -> float:
        """By how much rate and weighted distortion together rise, in bits per pixel, mean over operating points."""
        return codec_cost(self.after) - codec_cost(self.before)


def codec_cost(points: Sequence[OperatingPoint], rate_weight: float = 1.0) -> float:
    """Rate and weighted distortion, mean over operating points, in bits per pixel of one in their middle.

    A bit at a high rate is worth less than at a low one: a point counts by the inverse root of its distortion weight.

    Args:
        points: At least one.
        rate_weight: 0 for the distortion alone.
    """
    middle = math.exp(sum(math.log(point.distortion_weight) for point in points) / len(points))
    costs = (
        math.sqrt(middle / point.distortion_weight) * (rate_weight * point.bpp + point.distortion_weight * point.mse)
        for point in points
    )
    return sum(costs) / len(points)
