"""The folder that a run of an experiment opens, writes and closes; run again, it goes on where it was cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from matplotlib.figure import Figure

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.plots import save_figure
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.records.rows import KeyedRow
from vvc_nnr.experiments.records.settings import (
    InputDigests,
    Plan,
    RunFiles,
    RunIdentity,
    known_inputs,
    progress,
    write_settings,
)
from vvc_nnr.experiments.records.tsv import MUST_MATCH, RowT, RowWriter, rows_to_continue
from vvc_nnr.experiments.records.unit_rows import n_units_there, units_folder
from vvc_nnr.experiments.tables.latex import to_latex
from vvc_nnr.experiments.tables.table import Table, to_csv, to_markdown
from vvc_nnr.files import remove_leftovers, write_file
from vvc_nnr.folder_lock import locked_folder

_log = logging.getLogger(__name__)
RESULT_SUFFIXES = (".md", ".csv", ".tex", ".png", ".svg")
"""Of tables and figures."""


def run_identity(
    settings: Mapping[str, Any], settled: Sequence[str], inputs: InputDigests, max_pictures: int | None = None
) -> RunIdentity:
    """What makes a run the same run.

    Args:
        settings: Its settings; paths and several texts become one text, none becomes the empty one.
        settled: Those that must be the same in every run in one folder; all else adds rows, or changes none.
        inputs: What its rows are made from.
        max_pictures: How many pictures of each sequence are used at most.
    """
    plain = dict(settings) | {"photographs": str(settings["photographs"] or "")}
    several = {"encoder_config", "encoder_arguments"} & settings.keys()
    plain |= {key: " ".join(map(str, settings[key])) for key in several}
    return RunIdentity(plain, [key for key in plain if key not in settled], inputs, max_pictures)


def settled_text(identity: RunIdentity, header: Mapping[str, str], own: Mapping[str, object]) -> str:
    """All that the rows of a run follow from beside their pictures and networks, as text.

    Args:
        identity: What makes the run the same run.
        header: Of its files of rows.
        own: Settings that may differ in one folder, and that rows follow from nevertheless.
    """
    rows_of = {key: value for key, value in identity.settings.items() if key not in identity.free}
    conventions = {key: header.get(key) for key in MUST_MATCH}
    return json.dumps({**rows_of, **own, **conventions}, default=list, sort_keys=True)


def write_results(folder: Path, tables: Mapping[str, Table], figures: Mapping[str, Figure]) -> None:
    """Writes each table as .md, .csv and .tex and each figure as .png and .svg.

    Raises:
        InputError: If a file cannot be written.
    """
    for name, table in tables.items():
        for suffix, text in ((".md", to_markdown(table)), (".csv", to_csv(table)), (".tex", to_latex(table))):
            write_file(folder / (name + suffix), text.encode("utf-8", "replace"))
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, folder / (name + suffix))


@dataclass(frozen=True, slots=True)
class OpenRun(Generic[RowT]):
    """A run that may write.

    Attributes:
        writer: Its rows.
        path: The JSON file of its settings.
        identity: What makes it this run.
        inputs: Those of all runs of the folder.
        provenance: Where it comes from.
        plan: What it is to measure.
    """

    writer: RowWriter[RowT]
    path: Path
    identity: RunIdentity
    inputs: InputDigests
    provenance: Provenance
    plan: Plan

    def noting(self, findings: Mapping[str, object]) -> OpenRun[RowT]:
        """The run with what turned out on the way among its settings, which are written at once.

        Raises:
            InputError: If they cannot be written.
        """
        found = replace(self, identity=replace(self.identity, settings={**self.identity.settings, **findings}))
        write_settings(self.path, found.identity, self.inputs, self.provenance, self.plan, has_ended=False)
        return found

    def measured(self, rows: Sequence[KeyedRow], plan: Plan | None = None) -> OpenRun[RowT]:
        """The run once all is measured, which is noted: tables and figures are to come. Warns of what has no row.

        Args:
            rows: Those that it asked for, as they are read from its folder.
            plan: What it was to measure, without what turned out not to be possible; None for what was planned.

        Raises:
            InputError: If that cannot be written.
        """
        n_results = len({row.key for row in rows})
        found = replace(self, plan=replace(plan or self.plan, n_results=n_results))
        ended = progress(found.plan, rows, has_ended=True)
        if not ended.is_finished:
            _log.warning("%s: not all is in the tables. %s", self.path.parent, ended.text())
        write_settings(self.path, self.identity, self.inputs, self.provenance, found.plan, has_ended=False)
        return found

    def end(self) -> None:
        """Notes that the run came to its end, the last thing that it does. Warns of units that it had no use for.

        Raises:
            InputError: If that cannot be written.
        """
        units = units_folder(self.writer.path.parent, self.writer.path.name)
        if n_unused := n_units_there(units):
            _log.warning(
                "%s: %s files of units there are not of this run, such as those of shards with other options, networks "
                "or pictures. None of their rows is in the tables: run again with those options, or remove the folder",
                units,
                n_unused,
            )
        write_settings(self.path, self.identity, self.inputs, self.provenance, self.plan, has_ended=True)


@contextmanager
def open_run(
    folder: Path,
    files: RunFiles,
    row_type: type[RowT],
    identity: RunIdentity,
    plan: Plan,
    provenance: Provenance,
    conventions: Mapping[str, str],
) -> Iterator[OpenRun[RowT]]:
    """Opens a folder for a run, which goes on where an earlier one with the same identity was cut off.

    The folder is locked, and everything is checked, before anything in it changes. Then tables and figures of an
    earlier end go: they would not be those of the rows, and nothing in them would say that this run has not ended.

    Args:
        folder: The folder of results; it is made if need be.
        files: Its files.
        row_type: The dataclass of the rows.
        identity: What makes this run the same as the one in the folder.
        plan: What it is to measure.
        provenance: Where it comes from.
        conventions: What else goes into the header of the rows.

    Raises:
        InputError: If another run is writing the folder, it holds results of another identity, or it cannot be
            written.
    """
    path, rows = folder / files.settings, folder / files.rows
    with locked_folder(folder):
        inputs = known_inputs(path, identity)
        header = {**provenance.to_header(), **conventions}
        if rows_to_continue(rows, row_type, header) and not path.exists():
            raise InputError(f"{rows}: {files.settings} with its settings is missing; choose another folder")
        write_settings(path, identity, inputs, provenance, plan, has_ended=False)
        remove_leftovers(folder)
        _remove_results(folder, files.results)
        with RowWriter(rows, row_type, header) as writer:
            yield OpenRun(writer, path, identity, inputs, provenance, plan)


def _remove_results(folder: Path, names: Iterable[str]) -> None:
    """Removes what `write_results` wrote under such names.

    Raises:
        InputError: If a file cannot be removed.
    """
    for path in sorted(each for name in names for suffix in RESULT_SUFFIXES for each in folder.glob(name + suffix)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be replaced: {error.strerror}") from error
