"""How a filter is tuned to a sequence, and how it is run, as a user chooses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from torch import nn

from vvc_nnr.codec.sei import Placement
from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.choice import BackendChoice, Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.layout import Layout

FreePart: TypeAlias = Literal["biases", "gains", "tail", "all"]
"""Biases of all layers; what makes features and output follow the QP; the last layer; everything."""
DEFAULT_FREE: tuple[FreePart, ...] = ("biases", "tail")
Measure: TypeAlias = Literal["luma", "yuv"]
"""By which PSNR a gain is worth bits: luma's, or (6 Y + Cb + Cr) / 8, the mean that JVET's reports weigh 6:1:1."""
UpdatesOf: TypeAlias = Literal["each", "shared", "auto"]
"""Of what there is an update: of each QP one of its own; one that all QPs of a sequence share; of both, at each QP the
one that is worth more, all bytes counted."""
LUMA_SHARE_OF_YUV = 6 / 8
LUMA_CHROMA_WEIGHT, YUV_CHROMA_WEIGHT = 0.02, 1 / 6
"""Of each chroma plane against 1 for luma: where luma decides, so little that bits which only chroma gains by are not
spent, and enough that it does not pay for luma; where the mean does, as the mean weighs them."""
MIN_STEPS, MAX_STEPS = 10, 100_000
DEFAULT_BUDGET_MIN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions:
    """How a filter is tuned to a sequence.

    Attributes:
        free: Biases; gains, slopes over the QP; tail, the last layer; all.
        updates: Of several streams: each, an update for each; shared, one for all; auto, of both what is worth more.
        budget_min: Minutes of tuning of each update on this machine, from which the number of steps follows. Default:
            2.
        n_steps: Optimiser steps of each update, 10 to 100,000, in place of a budget.
        batch_size: Crops per step.
        seed: Of all random choices.
        measure: The PSNR whose gain must be worth the bits: luma's; yuv, (6 Y + Cb + Cr) / 8.
        chroma_weight: Weight of each chroma plane in what is learnt, against 1 for luma. Default: 0.02; 1/6 for yuv.
        n_pictures: Over how many pictures the update pays for itself. Default: those of the streams.

    Raises:
        InputError: If one is out of range.
    """

    free: Sequence[FreePart] = DEFAULT_FREE
    updates: UpdatesOf = "each"
    budget_min: float | None = None
    n_steps: int | None = None
    batch_size: int = 8
    seed: int = 0
    measure: Measure = "luma"
    chroma_weight: float | None = None
    n_pictures: int | None = None

    def __post_init__(self) -> None:
        if not self.free:
            raise InputError("free: nothing is; must be some of biases, gains, tail, all")
        if self.updates not in get_args(UpdatesOf):
            raise InputError(f"updates: {self.updates!r}; must be {', '.join(get_args(UpdatesOf))}")
        if self.budget_min is not None and not 0 < self.budget_min < math.inf:
            raise InputError(f"budget_min: {self.budget_min}; must be minutes above 0")
        if self.budget_min is not None and self.n_steps is not None:
            raise InputError(
                f"budget_min: {self.budget_min:g} minutes, with n_steps: {self.n_steps}; one of them says how long to "
                "tune, omit the other"
            )
        if self.n_steps is not None and not MIN_STEPS <= self.n_steps <= MAX_STEPS:
            raise InputError(f"n_steps: {self.n_steps}; must be {MIN_STEPS} to {MAX_STEPS}")
        if self.batch_size < 1:
            raise InputError(f"batch_size: {self.batch_size}; must be at least 1")
        if self.measure not in get_args(Measure):
            raise InputError(f"measure: {self.measure!r}; must be {' or '.join(get_args(Measure))}")
        if self.chroma_weight is not None and not 0 <= self.chroma_weight <= 1:
            raise InputError(f"chroma_weight: {self.chroma_weight}; must be 0 to 1")
        if self.n_pictures is not None and self.n_pictures < 1:
            raise InputError(f"n_pictures: {self.n_pictures}; must be at least 1")

    @property
    def learnt_chroma_weight(self) -> float:
        """The weight of each chroma plane in what is learnt."""
        if self.chroma_weight is not None:
            return self.chroma_weight
        return LUMA_CHROMA_WEIGHT if self.measure == "luma" else YUV_CHROMA_WEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """How filters are run, in the encoder and then in the decoder.

    Attributes:
        precision: What they are computed in; int8 gives the same samples on every machine.
        backend: What computes.
        n_threads: Threads; None: one per core.
        at: Where the messages go.
    """

    precision: Precision = "int8"
    backend: BackendChoice = "auto"
    n_threads: int | None = None
    at: Placement = "once"

    def runner(self, network: nn.Module, layout: Layout | None = None) -> Runner:
        """A runner of a filter; of a layout, or the one that it declares."""
        return Runner(
            network,
            layout=layout,
            backend=self.backend,
            precision=self.precision,
            n_threads=self.n_threads,
            tile=DEFAULT_TILE,
        )
