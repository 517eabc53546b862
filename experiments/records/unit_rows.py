"""Rows of units of work on their way into the file of all rows: a file for each unit, in a folder of their experiment.

A unit's file is there whole or not at all, under a name that follows from all that its rows follow from. Files stay
until their rows stand in the file of all rows, in the order of the plan, whatever ran where and when.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.tsv import MUST_MATCH, KeyedT, RowWriter, read_rows

UNITS_FOLDER, LOGS_FOLDER = "units", "logs"
_CONVENTIONS = (*MUST_MATCH, "loop_filters", "encoder", "originals")


def units_folder(results: Path, rows: str) -> Path:
    """Where the units of an experiment leave their rows, by the name of the file of all rows."""
    return results / UNITS_FOLDER / Path(rows).stem


def logs_folder(results: Path, rows: str) -> Path:
    """Where the logs of units that failed are, and those of SLURM's jobs."""
    return results / LOGS_FOLDER / Path(rows).stem


def merge_units(writer: RowWriter[KeyedT], units: Sequence[Path], keys: Iterable[Hashable]) -> None:
    """Brings the rows of units into the file of all rows, which is written anew if any is new, and removes their files.

    Rows of other plans stay first, in their order; those of this plan follow in its order. A row that is there stays.

    Args:
        writer: The file of all rows.
        units: Files of units; those that are not there are passed over.
        keys: Keys of all rows of the plan, in its order.

    Raises:
        InputError: If a file cannot be read or written.
    """
    there = [path for path in units if path.exists()]
    rows = {row.key: row for row in writer.existing}
    for path in there:
        for row in read_rows(path, writer.row_type).rows:
            rows.setdefault(row.key, row)
    if len(rows) > len({row.key for row in writer.existing}):
        places = {key: place for place, key in enumerate(keys)}
        writer.replace(sorted(rows.values(), key=lambda row: places.get(row.key, -1)))
    remove_units(there)


def remove_units(units: Iterable[Path]) -> None:
    """Removes files of units, and their folders if nothing else is in them."""
    for path in units:
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


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
