"""A folder of results while an experiment runs: locked, checked before anything in it changes, noted when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.planned import Plan
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.records.settings import InputDigests, RunFiles, RunIdentity, known_inputs, write_settings
from vvc_nnr.experiments.records.tsv import RowT, RowWriter, rows_to_continue
from vvc_nnr.files import remove_leftovers
from vvc_nnr.folder_lock import locked_folder

RESULT_SUFFIXES = (".md", ".csv", ".tex", ".png", ".svg")
"""Of tables and figures."""


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

    def end(self, n_results: int, plan: Plan | None = None) -> None:
        """Notes that the run came to its end, the last thing that it does.

        Args:
            n_results: Rows that it asked for and that are there.
            plan: What it was to measure, without what turned out not to be possible; None for what was planned.

        Raises:
            InputError: If that cannot be written.
        """
        measured = replace(plan or self.plan, n_results=n_results)
        write_settings(self.path, self.identity, self.inputs, self.provenance, measured, has_ended=True)


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
    """Removes what `vvc_nnr.experiments.results.write_results` wrote under such names.

    Raises:
        InputError: If a file cannot be removed.
    """
    for path in sorted(each for name in names for suffix in RESULT_SUFFIXES for each in folder.glob(name + suffix)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be replaced: {error.strerror}") from error
