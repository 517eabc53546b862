"""Rows of units of work on their way into the file of all rows: a file for each unit, in a folder of their experiment.

A unit's file is there whole or not at all, under a name that follows from all that its rows follow from. Files stay
until their rows stand in the file of all rows, in the order of the plan, whatever ran where and when.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.tsv import MUST_MATCH, KeyedT, RowWriter, read_rows, rows_to_continue, write_rows
from vvc_nnr.files import make_folder, remove_leftovers
from vvc_nnr.units import ExecutorOptions, Unit, n_at_once, run_units

UNITS_FOLDER, LOGS_FOLDER = "units", "logs"
_CONVENTIONS = (*MUST_MATCH, "loop_filters", "encoder", "originals")


class RowUnit(Unit, Protocol):
    """A unit of work that makes rows."""

    @property
    def key(self) -> str:
        """A digest of all that its rows follow from (`unit_key`)."""
        ...


UnitT = TypeVar("UnitT", bound=RowUnit)


def unit_key(*said: object) -> str:
    """A digest of all that a unit's rows follow from, said in what JSON has."""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class UnitRows(Generic[KeyedT]):
    """Where the units of an experiment leave their rows, for whichever process.

    Attributes:
        folder: The folder of results, as a whole path.
        name: The file of all rows.
        row_type: The dataclass of the rows.
        header: Of files of rows: provenance and conventions.
    """

    folder: Path
    name: str
    row_type: type[KeyedT]
    header: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, folder: Path, name: str, row_type: type[KeyedT], header: Mapping[str, str]) -> UnitRows[KeyedT]:
        """The same of a folder that is named in any way, and a map."""
        return cls(folder.absolute(), name, row_type, tuple(header.items()))

    @property
    def units(self) -> Path:
        """The folder of the units' files; it is there while there are units."""
        return units_folder(self.folder, self.name)

    @property
    def logs(self) -> Path:
        """The folder of what is known of units that failed."""
        return self.folder / LOGS_FOLDER / Path(self.name).stem

    def path(self, unit: RowUnit) -> Path:
        """Where the rows of a unit go."""
        return self.units / f"{unit.key}.tsv"

    def is_made(self, unit: RowUnit) -> bool:
        """Whether the rows of a unit are there."""
        return self.path(unit).exists()

    def write(self, unit: RowUnit, rows: Iterable[KeyedT], said: Mapping[str, str] | None = None) -> None:
        """Keeps the rows of a unit.

        Args:
            unit: The unit.
            rows: Its rows.
            said: What else it says, for the header of its file.

        Raises:
            OutputError: If they cannot be written.
        """
        write_rows(self.path(unit), self.row_type, {**dict(self.header), **(said or {})}, rows)

    def existing(self) -> tuple[KeyedT, ...]:
        """The rows in the file of all rows, which this run may continue; raises as `rows_to_continue`."""
        return rows_to_continue(self.folder / self.name, self.row_type, dict(self.header))

    def on_the_way(self) -> list[KeyedT]:
        """The rows of all units that have not come into the file of all rows yet."""
        return rows_on_the_way(self.units, self.row_type, dict(self.header))

    def is_here(self, units: Sequence[UnitT], execution: ExecutorOptions, executor: Executor | None = None) -> bool:
        """Whether what is missing of units would run in this process alone."""
        return n_at_once([unit for unit in units if not self.is_made(unit)], execution, executor) == 1

    def run(
        self,
        work: Callable[[UnitT], None],
        units: Sequence[UnitT],
        execution: ExecutorOptions,
        executor: Executor | None = None,
        *,
        title: str,
    ) -> None:
        """Runs the units that have no file yet; arguments and errors as those of `run_units`."""
        remove_leftovers(make_folder(self.units))
        run_units(work, units, self.is_made, execution, self.logs, title=title, executor=executor)

    def merge(
        self, writer: RowWriter[KeyedT], units: Iterable[RowUnit], place_of: Callable[[tuple[Any, ...]], Any]
    ) -> None:
        """Brings the rows of units into the file of all rows, in the order of the plan, and removes their files.

        The file is written anew if any row is new. A row that is there stays.

        Args:
            writer: The file of all rows.
            units: Those whose files are meant; what is not there is passed over.
            place_of: By the key of a row, what the rows are sorted by; those of other plans go first, as they are.

        Raises:
            InputError: If a file cannot be read or written.
        """
        there = [path for path in map(self.path, units) if path.exists()]
        rows = {row.key: row for row in writer.existing}
        n_before = len(rows)
        for path in there:
            for row in read_rows(path, writer.row_type).rows:
                rows.setdefault(row.key, row)
        if len(rows) > n_before:
            writer.replace(sorted(rows.values(), key=lambda row: place_of(row.key)))
        for path in there:
            path.unlink(missing_ok=True)
        for folder in (self.units, self.units.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


def places_of(keys: Iterable[tuple[Any, ...]]) -> Callable[[tuple[Any, ...]], int]:
    """What rows are sorted by where all keys of the plan are known, in its order; -1 for those of other plans."""
    places = {key: place for place, key in enumerate(keys)}
    return lambda key: places.get(key, -1)


def units_folder(results: Path, rows: str) -> Path:
    """Where the units of an experiment leave their rows, by the name of the file of all rows."""
    return results / UNITS_FOLDER / Path(rows).stem


def n_units_there(folder: Path) -> int:
    """How many units have left their rows in a folder of units."""
    return len(list(folder.glob("*.tsv"))) if folder.is_dir() else 0


def rows_on_the_way(folder: Path, row_type: type[KeyedT], header: Mapping[str, str]) -> list[KeyedT]:
    """The rows of all units that have not come into the file of all rows yet; those of other conventions are left out.

    Args:
        folder: Of the units.
        row_type: The dataclass of the rows.
        header: Of the file of all rows.
    """
    found: list[KeyedT] = []
    for path in sorted(folder.glob("*.tsv")) if folder.is_dir() else ():
        with contextlib.suppress(InputError):
            table = read_rows(path, row_type)
            if all(table.header.get(key) == header.get(key) for key in _CONVENTIONS):
                found += table.rows
    return found
