"""What a run was to measure, and what of it is there: an unfinished run must not look like a finished one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

import vvc_nnr
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.rows import ImageRow, KeyedRow, ZooRow

Value: TypeAlias = str | int
MAX_NAMES = 5
"""Names of what is absent that are printed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    Attributes:
        axes: All that is to be there, by what it is called in the plural: "sequences", "QPs", "images", "networks".
            The first one is what the run is about; rows about anything else are of other runs.
        n_results: How many results (rows) that makes; None while it is not known.
    """

    axes: Mapping[str, tuple[Value, ...]]
    n_results: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What of a plan is there.

    Attributes:
        plan: The plan.
        there: What is there of each of its axes.
        n_results: How many results are there.
        has_ended: Whether the run came to its end.
    """

    plan: Plan
    there: Mapping[str, frozenset[Value]]
    n_results: int
    has_ended: bool

    @property
    def is_finished(self) -> bool:
        """Whether all is there and the run came to its end."""
        is_whole = self.plan.n_results is not None and self.n_results >= self.plan.n_results
        return self.has_ended and is_whole and not any(self._absent().values())

    def text(self) -> str:
        """A sentence for the head of a report, such as "Unfinished: 1 of 2 sequences, 4 of 4 QPs."."""
        counts = [
            f"{len(values) - len(self._absent()[name])} of {len(values)} {name}"
            for name, values in self.plan.axes.items()
        ]
        of_all = "" if self.plan.n_results is None else f" of {self.plan.n_results}"
        counts.append(f"{self.n_results}{of_all} results")
        if self.is_finished:
            return f"Finished: {', '.join(counts)}."
        absent = [f"{name}: {_some(values)}" for name, values in self._absent().items() if values]
        text = f"Unfinished: {', '.join(counts)}."
        text += f" Absent: {'; '.join(absent)}." if absent else ""
        return text + ("" if self.has_ended else " The run has not come to its end; run it again and it goes on.")

    def _absent(self) -> dict[str, list[Value]]:
        there = self.there
        return {name: [v for v in values if v not in there.get(name, ())] for name, values in self.plan.axes.items()}


def sequence_plan(
    n_pictures: Mapping[str, int], qps: Iterable[int], networks: Iterable[str], n_per_picture: int | None = None
) -> Plan:
    """The plan of an experiment over coded sequences.

    Args:
        n_pictures: How many pictures of each sequence are used.
        qps: The QPs.
        networks: Names of the networks.
        n_per_picture: Results per picture and QP; None if that is not known.
    """
    axes: dict[str, tuple[Value, ...]] = {
        "sequences": tuple(n_pictures),
        "QPs": tuple(qps),
        "networks": tuple(dict.fromkeys(networks)),
    }
    n_results = None if n_per_picture is None else sum(n_pictures.values()) * len(axes["QPs"]) * n_per_picture
    return Plan(axes, n_results)


class SequenceRow(KeyedRow, Protocol):
    """A row about a picture of a sequence."""

    @property
    def sequence(self) -> str:
        """Name of the sequence."""
        ...

    @property
    def qp(self) -> int:
        """QP of the encoding."""
        ...

    @property
    def network(self) -> str:
        """Name of the network, empty for none."""
        ...


RowT = TypeVar("RowT", bound=KeyedRow)
AxesOf: TypeAlias = Callable[[RowT], Mapping[str, Value | None]]
"""Where a row is on the axes of its plan; None for nowhere."""


def progress(plan: Plan, rows: Iterable[RowT], axes_of: AxesOf[RowT], *, has_ended: bool) -> Progress:
    """What of a plan is there.

    Args:
        plan: The plan.
        rows: The rows that the run asked for, without those that others added.
        axes_of: Where a row is on the axes.
        has_ended: Whether the run came to its end.
    """
    unique = {row.key: axes_of(row) for row in rows}
    there = {name: frozenset(axes.get(name) for axes in unique.values()) - {None} for name in plan.axes}
    known = {name: frozenset(v for v in values if v is not None) for name, values in there.items()}
    return Progress(plan, known, len(unique), has_ended)


def sequence_axes(row: SequenceRow) -> dict[str, Value | None]:
    """Where a row about a picture of a sequence is."""
    return {"sequences": row.sequence, "QPs": row.qp, "networks": row.network or None}


def image_axes(row: ImageRow) -> dict[str, Value | None]:
    """Where a row about an image is."""
    is_network = row.method in ("cnn-ae", "reconstructed-cnn-ae")
    return {"images": row.image, "networks": row.setting if is_network else None}


def zoo_axes(row: ZooRow) -> dict[str, Value | None]:
    """Where a row of the model zoo is."""
    return {"networks": row.network}


def run_remarks(
    plan: Plan | None,
    rows: Iterable[RowT],
    axes_of: AxesOf[RowT],
    header: Mapping[str, str],
    *,
    has_ended: bool,
) -> tuple[str, ...]:
    """What a reader has to know before the numbers of a run; nothing if it is finished and of this version.

    Args:
        plan: What the run was to measure; None if its folder does not say.
        rows: The rows that it asked for.
        axes_of: Where a row is on the axes of the plan.
        header: The header of the rows.
        has_ended: Whether the run came to its end.
    """
    remarks = []
    if plan is None:
        remarks.append("Whether this run is finished is not known: its folder does not say what was planned.")
    else:
        found = progress(plan, rows, axes_of, has_ended=has_ended)
        if not found.is_finished:
            remarks.append(found.text())
    version = header.get("version", "")
    if version != vvc_nnr.__version__:
        made_by = f"version {version}" if version else "an unknown version"
        remarks.append(f"These results are of {made_by} of vvc_nnr, this is version {vvc_nnr.__version__}.")
    return tuple(remarks)


def with_remarks(tables: Mapping[str, Table], remarks: tuple[str, ...]) -> dict[str, Table]:
    """The tables with remarks at their heads."""
    return {name: replace(table, remarks=(*remarks, *table.remarks)) for name, table in tables.items()}


def _some(values: list[Value]) -> str:
    return ", ".join(map(str, values[:MAX_NAMES])) + (", ..." if len(values) > MAX_NAMES else "")
