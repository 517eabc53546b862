"""Decisions that are coded together over the pictures of a sequence, in each way that a network runs in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vvc_nnr.experiments.records.rows import DECIDED_WAYS, Way
from vvc_nnr.filters.decisions.block_decisions import Correction, Decisions
from vvc_nnr.filters.decisions.sequence import JointDecider
from vvc_nnr.sequences.frame import Frame, VideoFormat


@dataclass(frozen=True, slots=True, eq=False)
class DecidedPicture:
    """What was decided on a picture in one way.

    Attributes:
        way: The way.
        decisions: As a decoder has them.
        n_bits: By how much they made the bytes of the sequence longer.
        search_s: Processor time of the search and of their coding.
    """

    way: Way
    decisions: Decisions
    n_bits: int
    search_s: float


class JointWays:
    """One network's decisions on the pictures of a sequence, which have to come from the first one on.

    Args:
        format: Of the pictures.
        ways: The ways that the network runs in; those of full strength and of the codec alone decide nothing.
        n_candidates: How many QPs there are that the network may be told.
    """

    def __init__(self, format: VideoFormat, ways: Sequence[Way], n_candidates: int) -> None:
        self._deciders = {
            way: JointDecider(format, wiener=way == "wiener", n_candidates=n_candidates)
            for way in ways
            if way in DECIDED_WAYS
        }

    def decided(
        self, original: Frame, decoded: Frame, corrections: Sequence[Correction], qp: int
    ) -> Iterator[DecidedPicture]:
        """Yields what is decided on the next picture, way by way; the arguments are as of `JointDecider.decide`."""
        for way, decider in self._deciders.items():
            start_s = time.process_time()
            decisions, n_bits = decider.decide(original, decoded, corrections, qp)
            yield DecidedPicture(way, decisions, n_bits, time.process_time() - start_s)
