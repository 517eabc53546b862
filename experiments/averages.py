"""The scores of the tool-by-tool experiment per sequence, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.rows import ToolMethod, ToolRow
from vvc_nnr.experiments.sequence_means import (
    PlaneMeans,
    PlaneName,
    class_groups,
    mean_or_none,
    plane_means,
    sequence_grid,
)

Score: TypeAlias = Literal["psnr_db", "ssim"]

LOOP_FILTERS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make the pictures: what the codec's loop filters did, and which network came after."""

    loop_filters: LoopFilters
    method: ToolMethod = "anchor"
    network: str = ""


@dataclass(frozen=True, slots=True)
class CnnUse:
    """A network and where it stands: instead of all loop filters ("none"), or after some of them."""

    network: str
    after: LoopFilters

    @property
    def label(self) -> str:
        """The network and its place, for tables and plots."""
        place = {
            "none": "instead of all filters",
            "deblock-sao": "after deblock+SAO",
            "all": "after all filters",
        }
        return f"{self.network} {place[self.after]}"

    @property
    def original(self) -> Variant:
        """With the network as trained."""
        return Variant(self.after, "original", self.network)

    @property
    def reconstructed(self) -> Variant:
        """With the network as decoded from its compressed file."""
        return Variant(self.after, "reconstructed", self.network)

    @property
    def anchors(self) -> tuple[LoopFilters, ...]:
        """Loop filters to compare with: all, and the paper's set where the network replaces them."""
        return ("all",) if self.after == "all" else ("all", "deblock-sao")


@dataclass(frozen=True, slots=True)
class SequenceMean:
    """The means over the pictures of one sequence at one QP.

    Attributes:
        sequence: Name of the sequence.
        ctc_class: Its class.
        qp: QP of the encoding.
        variant: How the pictures were made.
        pictures: Numbers of the pictures that were averaged.
        bits_per_picture: Mean bits of a picture.
        psnr_db: Mean PSNR in dB of Y, Cb, Cr; None without chroma.
        ssim: Mean SSIM of Y, Cb, Cr; None without chroma.
    """

    sequence: str
    ctc_class: str
    qp: int
    variant: Variant
    pictures: frozenset[int]
    bits_per_picture: float
    psnr_db: PlaneMeans
    ssim: PlaneMeans

    def score(self, score: Score, plane: PlaneName) -> float | None:
        """One of the six means."""
        values = self.psnr_db if score == "psnr_db" else self.ssim
        return values[("y", "cb", "cr").index(plane)]


@dataclass(frozen=True, slots=True)
class ToolResults:
    """All means of a run that can be compared: each sequence with every variant at every QP.

    Attributes:
        qps: The QPs, rising.
        uses: The networks and their places, replacements first.
        sequences: Class of each complete sequence, in the order of classes, then of the rows.
        left_out: Sequences that lack a variant, a QP or a picture of one (a run that is not finished).
        means: The means of the complete sequences.
    """

    qps: tuple[int, ...]
    uses: tuple[CnnUse, ...]
    sequences: dict[str, str]
    left_out: tuple[str, ...]
    means: dict[tuple[str, int, Variant], SequenceMean]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Sequences of each class; "Overall" is not among them."""
        return class_groups(self.sequences)

    def label(self, use: CnnUse) -> str:
        """The network's name, with its place if it stands in several."""
        n_places = sum(other.network == use.network for other in self.uses)
        return use.network if n_places == 1 else use.label

    def mean_score(
        self, sequences: Iterable[str], qps: Sequence[int], variant: Variant, score: Score, plane: PlaneName
    ) -> float | None:
        """The mean over QPs, then over sequences; None if no sequence has this score."""
        per_sequence = [
            mean_or_none(
                self.means[sequence, qp, variant].score(score, plane)
                for qp in qps
                if (sequence, qp, variant) in self.means
            )
            for sequence in sequences
        ]
        return mean_or_none(per_sequence)

    def mean_kbit(self, sequences: Iterable[str], qp: int, variant: Variant) -> float | None:
        """The mean rate in kbit per picture at a QP."""
        found = (self.means.get((sequence, qp, variant)) for sequence in sequences)
        return mean_or_none(mean.bits_per_picture / 1000 for mean in found if mean)

    def rate_points(
        self, sequence: str, variant: Variant, score: Score = "psnr_db", plane: PlaneName = "y"
    ) -> list[tuple[float, float]]:
        """(kbit per picture, score) of a sequence, one per QP."""
        means = [self.means.get((sequence, qp, variant)) for qp in self.qps]
        pairs = [(mean.bits_per_picture / 1000, mean.score(score, plane)) for mean in means if mean]
        return [(rate, value) for rate, value in pairs if value is not None]


def tool_results(rows: Iterable[ToolRow], qps: Sequence[int] | None = None) -> ToolResults:
    """The comparable means of these rows.

    Args:
        rows: Rows of the tool-by-tool experiment.
        qps: The QPs that are wanted; default all in the rows.

    Raises:
        InputError: If two rows about the same thing differ, or a sequence has two classes.
    """
    grid = sequence_grid(rows, lambda row: Variant(row.loop_filters, row.method, row.network), qps)
    means = {place: _sequence_mean(place[2], found) for place, found in grid.cells.items()}
    return ToolResults(grid.qps, _uses(grid.variants), grid.sequences, grid.left_out, means)


def _sequence_mean(variant: Variant, rows: Sequence[ToolRow]) -> SequenceMean:
    return SequenceMean(
        rows[0].sequence,
        rows[0].ctc_class,
        rows[0].qp,
        variant,
        frozenset(row.picture for row in rows),
        fmean(row.n_bits for row in rows),
        plane_means((row.psnr_y_db, row.psnr_cb_db, row.psnr_cr_db) for row in rows),
        plane_means((row.ssim_y, row.ssim_cb, row.ssim_cr) for row in rows),
    )


def _uses(variants: Iterable[Variant]) -> tuple[CnnUse, ...]:
    found = dict.fromkeys(CnnUse(v.network, v.loop_filters) for v in variants if v.method != "anchor")
    return tuple(sorted(found, key=lambda use: LOOP_FILTERS[::-1].index(use.after)))
