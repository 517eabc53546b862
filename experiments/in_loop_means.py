"""The scores, rates and times of the in-loop experiment per sequence, and the curves that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import Literal, TypeAlias

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.bd_rate import Point
from vvc_nnr.experiments.in_loop_rows import InLoopMethod, InLoopRow, NetworkRow, Weights
from vvc_nnr.experiments.sequence_means import PlaneMeans, class_groups, mean_or_none, plane_means, sequence_grid
from vvc_nnr.sequences.metrics import PlaneScores, yuv_psnr_db

PlaneOrAll: TypeAlias = Literal["y", "cb", "cr", "yuv"]
Side: TypeAlias = Literal["encode", "decode"]
SIDES: tuple[Side, ...] = ("encode", "decode")
PLANES: tuple[PlaneOrAll, ...] = ("y", "cb", "cr", "yuv")


@dataclass(frozen=True, slots=True)
class InLoopVariant:
    """One way to make the pictures: the codec's in-loop filters, and the network in or after them, if any."""

    loop_filters: LoopFilters
    method: InLoopMethod = "codec"
    network: str = ""
    weights: Weights = "none"


ANCHOR = InLoopVariant("all")


@dataclass(frozen=True, slots=True)
class InLoopMean:
    """The means over the pictures of one sequence at one QP.

    Attributes:
        kbit: Mean size of a picture in kbit, its decisions included, the network not.
        decision_bits: Mean size of a picture's decisions.
        psnr_db: Mean PSNR in dB of Y, Cb, Cr.
        yuv_psnr_db: (6 Y + Cb + Cr) / 8 of those; luma's for 4:0:0.
        encode_s: Mean processor time of the encoder, None if one is not known.
        decode_s: Mean processor time of the decoder.
    """

    kbit: float
    decision_bits: float
    psnr_db: PlaneMeans
    yuv_psnr_db: float | None
    encode_s: float | None
    decode_s: float

    def score_db(self, plane: PlaneOrAll) -> float | None:
        """PSNR of a plane, or of all together."""
        return (*self.psnr_db, self.yuv_psnr_db)[PLANES.index(plane)]

    def time_s(self, side: Side) -> float | None:
        """Processor time of the encoder or the decoder."""
        return self.encode_s if side == "encode" else self.decode_s


@dataclass(frozen=True, slots=True)
class InLoopResults:
    """All of a run that can be compared: each sequence with every variant at every QP.

    Attributes:
        qps: The QPs, rising.
        variants: The variants: the anchor, the codec's other filter sets, the networks in their order.
        sequences: Class of each complete sequence.
        left_out: Sequences that lack a variant, a QP or a picture of one (a run that is not finished).
        networks: What each network costs, by its name and weights.
        rows: The rows of the complete sequences.
        means: The means of the complete sequences.
    """

    qps: tuple[int, ...]
    variants: tuple[InLoopVariant, ...]
    sequences: dict[str, str]
    left_out: tuple[str, ...]
    networks: dict[tuple[str, Weights], NetworkRow]
    rows: dict[tuple[str, int, InLoopVariant], tuple[InLoopRow, ...]]
    means: dict[tuple[str, int, InLoopVariant], InLoopMean]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The sequences of each class, then all of them as "Overall"."""
        return {**class_groups(self.sequences), "Overall": tuple(self.sequences)} if self.sequences else {}

    @property
    def tests(self) -> tuple[InLoopVariant, ...]:
        """What is compared with the anchor."""
        return tuple(variant for variant in self.variants if variant != ANCHOR)

    def network_bits(self, variant: InLoopVariant) -> int:
        """Bits of the file of a variant's network."""
        return 8 * self.networks[variant.network, variant.weights].n_bytes

    def mean_db(self, sequences: Iterable[str], qp: int, variant: InLoopVariant, plane: PlaneOrAll) -> float | None:
        """The mean PSNR at a QP over sequences."""
        return mean_or_none(self.means[name, qp, variant].score_db(plane) for name in sequences)

    def mean_kbit(self, sequences: Iterable[str], qp: int, variant: InLoopVariant) -> float:
        """The mean rate at a QP over sequences, in kbit per picture."""
        return fmean(self.means[name, qp, variant].kbit for name in sequences)

    def curve(
        self, sequences: Sequence[str], variant: InLoopVariant, plane: PlaneOrAll, extra_kbit: float = 0.0
    ) -> list[Point]:
        """(kbit per picture, dB) at each QP, means over the sequences that have the plane.

        Args:
            sequences: One for its own curve.
            variant: How the pictures are made.
            plane: What is scored.
            extra_kbit: What each picture carries besides, such as its share of the network.
        """
        points = []
        for qp in self.qps:
            scored = [name for name in sequences if self.means[name, qp, variant].score_db(plane) is not None]
            score_db = self.mean_db(scored, qp, variant, plane)
            if score_db is not None:
                points.append((self.mean_kbit(scored, qp, variant) + extra_kbit, score_db))
        return points

    def time_percent(self, sequences: Iterable[str], variant: InLoopVariant, side: Side) -> float | None:
        """Time against the anchor's: ratio of geometric means over sequences and QPs; None if one is not known."""
        names = tuple(sequences)
        times_s, anchor_s = (
            [self.means[name, qp, each].time_s(side) for name in names for qp in self.qps] for each in (variant, ANCHOR)
        )
        return percent_of(times_s, anchor_s)


def in_loop_results(rows: Iterable[InLoopRow], networks: Iterable[NetworkRow]) -> InLoopResults:
    """The comparable means of these rows.

    Raises:
        InputError: If two rows about the same thing differ, or a sequence has two classes.
    """
    grid = sequence_grid(rows, _variant)
    networks = list(networks)
    order = ["", *dict.fromkeys(row.network for row in networks)]
    variants = sorted(grid.variants, key=lambda variant: (variant != ANCHOR, order.index(variant.network)))
    return InLoopResults(
        grid.qps,
        tuple(variants),
        grid.sequences,
        grid.left_out,
        {(row.network, row.weights): row for row in networks},
        grid.cells,
        {place: _mean(found) for place, found in grid.cells.items()},
    )


def row_psnr_db(row: InLoopRow, plane: PlaneOrAll) -> float | None:
    """A picture's PSNR of a plane, or of all together."""
    scores = PlaneScores(row.psnr_y_db, row.psnr_cb_db, row.psnr_cr_db)
    return (scores.y, scores.cb, scores.cr, yuv_psnr_db(scores))[PLANES.index(plane)]


def _variant(row: InLoopRow) -> InLoopVariant:
    return InLoopVariant(row.loop_filters, row.method, row.network, row.weights)


def _mean(rows: Sequence[InLoopRow]) -> InLoopMean:
    times_s = [row.encode_s for row in rows if row.encode_s is not None]
    psnr_db = plane_means((row.psnr_y_db, row.psnr_cb_db, row.psnr_cr_db) for row in rows)
    return InLoopMean(
        fmean(row.n_bits + row.n_decision_bits for row in rows) / 1000,
        fmean(row.n_decision_bits for row in rows),
        psnr_db,
        None if psnr_db[0] is None else yuv_psnr_db(PlaneScores(psnr_db[0], psnr_db[1], psnr_db[2])),
        fmean(times_s) if len(times_s) == len(rows) else None,
        fmean(row.decode_s for row in rows),
    )


def percent_of(times_s: Sequence[float | None], anchor_s: Sequence[float | None]) -> float | None:
    """Geometric mean of times in percent of the anchor's; None if one is not known, or too short for the clock."""
    known, known_anchor = [t for t in times_s if t], [t for t in anchor_s if t]
    if not known or len(known) < len(times_s) or len(known_anchor) < len(anchor_s):
        return None
    return 100 * geometric_mean(known) / geometric_mean(known_anchor)
