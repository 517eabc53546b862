"""From rows per picture to scores per sequence: the one place where pictures are averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from vvc_nnr.codec.vvc import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.rows import ToolMethod, ToolRow, unique_rows

PlaneName: TypeAlias = Literal["y", "cb", "cr"]
Score: TypeAlias = Literal["psnr_db", "ssim"]

LOOP_FILTERS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")
CTC_CLASSES = ("A1", "A2", "B", "C", "D", "E", "F")


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
    psnr_db: tuple[float | None, float | None, float | None]
    ssim: tuple[float | None, float | None, float | None]

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
        found: dict[str, list[str]] = defaultdict(list)
        for sequence, ctc_class in self.sequences.items():
            found[ctc_class].append(sequence)
        return {ctc_class: tuple(sequences) for ctc_class, sequences in found.items()}

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
    every = unique_rows(rows)
    kept = [row for row in every if qps is None or row.qp in qps]
    means = _sequence_means(kept)
    classes: dict[str, str] = {}
    for row in every:
        if classes.setdefault(row.sequence, row.ctc_class) != row.ctc_class:
            raise InputError(f"{row.sequence} is of class {classes[row.sequence]} and {row.ctc_class}")
    found_qps = tuple(sorted({row.qp for row in kept} if qps is None else set(qps)))
    variants = list(dict.fromkeys(mean.variant for mean in means.values()))
    complete = [name for name in classes if _is_complete(name, found_qps, variants, means)]
    complete.sort(key=lambda name: _class_order(classes[name]))
    sequences = {name: classes[name] for name in complete}
    return ToolResults(
        found_qps,
        _uses(variants),
        sequences,
        tuple(name for name in classes if name not in sequences),
        {key: mean for key, mean in means.items() if key[0] in sequences},
    )


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None if none is. One infinite value makes it infinite."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def difference(value: float | None, anchor: float | None) -> float | None:
    """`value` - `anchor`; None if either is missing or both are infinite."""
    if value is None or anchor is None or value == anchor == float("inf"):
        return None
    return value - anchor


def _sequence_means(rows: Iterable[ToolRow]) -> dict[tuple[str, int, Variant], SequenceMean]:
    groups: dict[tuple[str, int, Variant], list[ToolRow]] = defaultdict(list)
    for row in rows:
        groups[row.sequence, row.qp, Variant(row.loop_filters, row.method, row.network)].append(row)
    return {key: _sequence_mean(key[2], group) for key, group in groups.items()}


def _sequence_mean(variant: Variant, rows: Sequence[ToolRow]) -> SequenceMean:
    psnr_db = [(row.psnr_y_db, row.psnr_cb_db, row.psnr_cr_db) for row in rows]
    ssim = [(row.ssim_y, row.ssim_cb, row.ssim_cr) for row in rows]
    return SequenceMean(
        rows[0].sequence,
        rows[0].ctc_class,
        rows[0].qp,
        variant,
        frozenset(row.picture for row in rows),
        fmean(row.n_bits for row in rows),
        _plane_means(psnr_db),
        _plane_means(ssim),
    )


def _plane_means(
    scores: Sequence[tuple[float | None, float | None, float | None]],
) -> tuple[float | None, float | None, float | None]:
    y, cb, cr = (mean_or_none(column) for column in zip(*scores, strict=True))
    return y, cb, cr


def _is_complete(
    sequence: str,
    qps: Sequence[int],
    variants: Sequence[Variant],
    means: dict[tuple[str, int, Variant], SequenceMean],
) -> bool:
    """Whether every QP and variant has the same pictures of the sequence."""
    found = [means.get((sequence, qp, variant)) for qp in qps for variant in variants]
    return None not in found and len({mean.pictures for mean in found if mean}) == 1


def _uses(variants: Iterable[Variant]) -> tuple[CnnUse, ...]:
    found = dict.fromkeys(CnnUse(v.network, v.loop_filters) for v in variants if v.method != "anchor")
    return tuple(sorted(found, key=lambda use: LOOP_FILTERS[::-1].index(use.after)))


def _class_order(ctc_class: str) -> tuple[int, str]:
    return (CTC_CLASSES.index(ctc_class) if ctc_class in CTC_CLASSES else len(CTC_CLASSES), ctc_class)
