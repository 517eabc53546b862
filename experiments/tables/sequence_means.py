"""From rows per picture to sequences that can be compared: what every experiment over sequences does alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import KeyedRow, unique_rows

PlaneName: TypeAlias = Literal["y", "cb", "cr"]
PlaneMeans: TypeAlias = tuple[float | None, float | None, float | None]
"""A mean for Y, Cb and Cr; None without chroma."""

CTC_CLASSES = ("A1", "A2", "B", "C", "D", "E", "F")


class PictureRow(KeyedRow, Protocol):
    """A row about one picture of a sequence at one QP."""

    @property
    def sequence(self) -> str:
        """Name of the sequence."""
        ...

    @property
    def ctc_class(self) -> str:
        """Its class of the common test conditions."""
        ...

    @property
    def picture(self) -> int:
        """Number of the picture in the sequence."""
        ...

    @property
    def qp(self) -> int:
        """QP of the encoding."""
        ...


RowT = TypeVar("RowT", bound=PictureRow)
VariantT = TypeVar("VariantT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SequenceGrid(Generic[VariantT, RowT]):
    """The rows of all sequences that can be compared: those with every variant at every QP.

    Attributes:
        qps: The QPs, rising.
        variants: The ways to make the pictures, in the order of the rows.
        sequences: Class of each complete sequence, in the order of classes, then of the rows.
        left_out: Sequences that lack a variant, a QP or a picture of one (a run that is not finished).
        cells: The rows of the complete sequences: one per picture for each sequence, QP and variant.
    """

    qps: tuple[int, ...]
    variants: tuple[VariantT, ...]
    sequences: dict[str, str]
    left_out: tuple[str, ...]
    cells: dict[tuple[str, int, VariantT], tuple[RowT, ...]]


def sequence_grid(
    rows: Iterable[RowT], variant_of: Callable[[RowT], VariantT], qps: Sequence[int] | None = None
) -> SequenceGrid[VariantT, RowT]:
    """The comparable rows among these.

    Args:
        rows: Rows of one experiment.
        variant_of: Which way its picture was made.
        qps: The QPs that are wanted; default all in the rows.

    Raises:
        InputError: If two rows about the same thing differ, or a sequence has two classes.
    """
    every = unique_rows(rows)
    classes = _classes(every)
    kept = [row for row in every if qps is None or row.qp in qps]
    cells: dict[tuple[str, int, VariantT], list[RowT]] = defaultdict(list)
    for row in kept:
        cells[row.sequence, row.qp, variant_of(row)].append(row)
    found_qps = tuple(sorted({row.qp for row in kept} if qps is None else set(qps)))
    variants = tuple(dict.fromkeys(variant for _, _, variant in cells))
    complete = [name for name in classes if _is_complete(name, found_qps, variants, cells)]
    complete.sort(key=lambda name: _class_order(classes[name]))
    return SequenceGrid(
        found_qps,
        variants,
        {name: classes[name] for name in complete},
        tuple(name for name in classes if name not in complete),
        {place: tuple(found) for place, found in cells.items() if place[0] in complete},
    )


def class_groups(sequences: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The sequences of each class; "Overall" is not among them."""
    found: dict[str, list[str]] = defaultdict(list)
    for sequence, ctc_class in sequences.items():
        found[ctc_class].append(sequence)
    return {ctc_class: tuple(names) for ctc_class, names in found.items()}


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None if none is. One infinite value makes it infinite."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def plane_means(scores: Iterable[PlaneMeans]) -> PlaneMeans:
    """The mean over pictures of each plane."""
    y, cb, cr = (mean_or_none(column) for column in zip(*scores, strict=True))
    return y, cb, cr


def difference(value: float | None, anchor: float | None) -> float | None:
    """`value` - `anchor`; None if either is missing or both are infinite."""
    if value is None or anchor is None or value == anchor == float("inf"):
        return None
    return value - anchor


def _classes(rows: Iterable[PictureRow]) -> dict[str, str]:
    classes: dict[str, str] = {}
    for row in rows:
        if classes.setdefault(row.sequence, row.ctc_class) != row.ctc_class:
            raise InputError(f"{row.sequence} is of class {classes[row.sequence]} and {row.ctc_class}")
    return classes


def _is_complete(
    sequence: str,
    qps: Sequence[int],
    variants: Sequence[VariantT],
    cells: Mapping[tuple[str, int, VariantT], Sequence[RowT]],
) -> bool:
    """Whether every QP and variant has the same pictures of the sequence."""
    found = [cells.get((sequence, qp, variant), ()) for qp in qps for variant in variants]
    return all(found) and len({frozenset(row.picture for row in rows) for rows in found}) == 1


def _class_order(ctc_class: str) -> tuple[int, str]:
    return (CTC_CLASSES.index(ctc_class) if ctc_class in CTC_CLASSES else len(CTC_CLASSES), ctc_class)
