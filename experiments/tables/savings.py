"""BD-rates of the in-loop experiment: per sequence and of mean curves, with or without the network's own bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation, bd_rate_percent
from vvc_nnr.experiments.tables.means import ANCHOR, PLANES, InLoopResults, InLoopVariant, PlaneOrAll
from vvc_nnr.experiments.tables.sequence_means import mean_or_none

StreamLength: TypeAlias = int | None
"""Pictures of the stream that carries the network once; None: the network's bits are not counted."""
STREAM_LENGTHS: tuple[StreamLength, ...] = (None, 600, 60, 1)
Savings: TypeAlias = Mapping[tuple[str, InLoopVariant, PlaneOrAll, StreamLength], BdRate]
"""The BD-rate of each sequence, variant, plane and length of stream; nothing where a sequence has no such plane."""


def sequence_savings(results: InLoopResults, method: Interpolation) -> Savings:
    """The BD-rates of all sequences against the anchor."""
    found: dict[tuple[str, InLoopVariant, PlaneOrAll, StreamLength], BdRate] = {}
    for variant in results.tests:
        for length in stream_lengths(variant):
            for plane in PLANES:
                for name in results.sequences:
                    saving = curve_saving(results, (name,), variant, plane, length, method)
                    if saving is not None:
                        found[name, variant, plane, length] = saving
    return found


def mean_saving(
    savings: Savings,
    sequences: Iterable[str],
    variant: InLoopVariant,
    plane: PlaneOrAll,
    length: StreamLength = None,
) -> float | None:
    """The mean of the sequences' BD-rates in percent, None if none has a value."""
    found = (savings.get((name, variant, plane, length)) for name in sequences)
    return mean_or_none(saving.value_percent for saving in found if saving)


def curve_saving(
    results: InLoopResults,
    sequences: Sequence[str],
    variant: InLoopVariant,
    plane: PlaneOrAll,
    length: StreamLength,
    method: Interpolation,
    reference: InLoopVariant = ANCHOR,
) -> BdRate | None:
    """The BD-rate of the mean curve over sequences (of one: its own); None if they have no such plane.

    Args:
        results: The means.
        sequences: Whose rates and PSNR are averaged at each QP.
        variant: What is compared.
        plane: What is scored.
        length: Pictures of the stream, over which the network's bits are spread.
        method: Interpolation.
        reference: What it is compared with.
    """
    extra_kbit = results.network_bits(variant) / length / 1000 if length else 0.0
    anchor_points = results.curve(sequences, reference, plane)
    points = results.curve(sequences, variant, plane, extra_kbit)
    return bd_rate_percent(anchor_points, points, method) if points and anchor_points else None


def stream_lengths(variant: InLoopVariant) -> tuple[StreamLength, ...]:
    """The lengths that make a difference: a codec alone carries no network."""
    return STREAM_LENGTHS if variant.network else (None,)
