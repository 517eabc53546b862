"""BD-rates of the tool-by-tool experiment: per sequence and of mean curves, with or without the network's own bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from vvc_nnr.experiments.records.weights import ORIGINAL
from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation, bd_psnr_db, bd_rate_percent
from vvc_nnr.experiments.tables.means import ANCHOR, PLANES, PlaneOrAll, ToolResults, Variant, mean_or_none

StreamLength: TypeAlias = int | None
"""Pictures of the stream that carries the network once; None: the network's bits are not counted."""
STREAM_LENGTHS: tuple[StreamLength, ...] = (None, 600, 60, 1)


class Comparison(NamedTuple):
    """What is compared with what.

    Attributes:
        variant: How the pictures are made.
        plane: What is scored.
        length: Pictures of the stream, over which the network's bits are spread.
        anchor: What it is compared with.
    """

    variant: Variant
    plane: PlaneOrAll = "y"
    length: StreamLength = None
    anchor: Variant = ANCHOR


Savings: TypeAlias = Mapping[tuple[str, Comparison], BdRate]
"""The BD-rate of each sequence and comparison; nothing where a sequence has no such plane."""


def sequence_savings(results: ToolResults, method: Interpolation) -> Savings:
    """The BD-rates of all sequences against each of their anchors; with the network's bits against all filters."""
    found: dict[tuple[str, Comparison], BdRate] = {}
    for comparison in _comparisons(results):
        for name in results.sequences:
            saving = curve_saving(results, (name,), comparison, method)
            if saving is not None:
                found[name, comparison] = saving
    return found


def mean_saving(savings: Savings, sequences: Iterable[str], comparison: Comparison) -> float | None:
    """The mean of the sequences' BD-rates in percent, None if none has a value."""
    found = (savings.get((name, comparison)) for name in sequences)
    return mean_or_none(saving.value_percent for saving in found if saving)


def curve_saving(
    results: ToolResults, sequences: Sequence[str], comparison: Comparison, method: Interpolation
) -> BdRate | None:
    """The BD-rate of the mean curve over sequences (of one: its own); None if they have no such plane.

    Args:
        results: The means.
        sequences: Whose rates and PSNR are averaged at each QP.
        comparison: What is compared.
        method: Interpolation.
    """
    variant, plane, length, anchor = comparison
    extra_kbit = results.network_bits(variant) / length / 1000 if length else 0.0
    anchor_points = results.curve(sequences, anchor, plane)
    points = results.curve(sequences, variant, plane, extra_kbit)
    return bd_rate_percent(anchor_points, points, method) if points and anchor_points else None


def mean_bd_psnr_db(
    results: ToolResults, sequences: Iterable[str], comparison: Comparison, method: Interpolation
) -> float | None:
    """The mean of the sequences' BD-PSNRs in dB, None if none has a value."""
    curves = (
        (results.curve((name,), comparison.anchor, comparison.plane), results.curve((name,), *comparison[:2]))
        for name in sequences
    )
    return mean_or_none(bd_psnr_db(anchor, test, method).value_db for anchor, test in curves if anchor and test)


def stream_lengths(variant: Variant) -> tuple[StreamLength, ...]:
    """The lengths that make a difference: a codec alone carries no network, and none is sent as it was trained."""
    return STREAM_LENGTHS if variant.network and variant.weights != ORIGINAL else (None,)


def _comparisons(results: ToolResults) -> list[Comparison]:
    free = [(variant, None, anchor) for variant in results.tests for anchor in results.anchors(variant)]
    paid = [(v, length, ANCHOR) for v in results.tests for length in stream_lengths(v) if length is not None]
    pairs = [*free, *(paid if ANCHOR in results.variants else [])]
    return [Comparison(variant, plane, length, anchor) for variant, length, anchor in pairs for plane in PLANES]
