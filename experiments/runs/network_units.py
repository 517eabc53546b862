"""Units of work that run networks over pictures: set up in one place, for whichever process runs them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import NetworkRow
from vvc_nnr.experiments.records.tsv import KeyedT, RowWriter
from vvc_nnr.experiments.records.unit_rows import UnitRows
from vvc_nnr.experiments.runs.networks import CodingOptions, GivenNetwork, NetworkState, network_states
from vvc_nnr.experiments.tables.stored import CODED_FOLDER
from vvc_nnr.files import make_folder, remove_leftovers
from vvc_nnr.filters.zoo import LoadedNetwork

_log = logging.getLogger(__name__)


class NetworkOptions(Protocol):
    """Options of an experiment that say which networks there are, and how they are compressed."""

    def given(self, modules: Sequence[LoadedNetwork] = ()) -> list[GivenNetwork]:
        """The networks, and those of the caller's own beside them; raises as `given_filters`."""
        ...

    def coding(self, folder: Path) -> CodingOptions:
        """How they are compressed, with their files in a folder of results."""
        ...


OptionsT = TypeVar("OptionsT", bound=NetworkOptions)


@dataclass(frozen=True, slots=True)
class UnitSetup(Generic[OptionsT, KeyedT]):
    """What all units of a run share, for whichever process.

    Attributes:
        options: What is run, with tuples in the place of lists.
        rows: Where the units leave their rows.
        networks: The networks with each of their weights, as tables have them.
        current_folder: Where the command was typed, to which names of networks are relative.
        modules: Networks of the caller's own.
    """

    options: OptionsT
    rows: UnitRows[KeyedT]
    networks: tuple[NetworkRow, ...]
    current_folder: Path
    modules: tuple[LoadedNetwork, ...] = field(default=(), compare=False)

    def states(self) -> list[NetworkState]:
        """The networks as this process has them.

        Raises:
            InputError: If one is another than that of the process that planned the run.
        """
        with contextlib.chdir(self.current_folder):
            given = self.options.given(self.modules)
            states = network_states(given, self.options.coding(self.rows.folder), self.networks)
        here = {(state.row.network, state.row.weights): state.row.network_sha256 for state in states}
        for row in self.networks:
            if here.get((row.network, row.weights)) != row.network_sha256:
                raise InputError(
                    f"{row.network} ({row.weights}): is another network in this process than in the one that planned "
                    "the run; if a function makes it, seed its weights (torch.manual_seed), or run with workers=1"
                )
        return states


def set_up(
    options: OptionsT,
    rows: UnitRows[KeyedT],
    networks: Sequence[GivenNetwork],
    modules: Sequence[LoadedNetwork],
) -> tuple[list[NetworkState], UnitSetup[OptionsT, KeyedT]]:
    """Compresses networks in this process; the networks, and what other processes have them by.

    Raises:
        InputError: If a network cannot be compressed, or a file not be written.
    """
    remove_leftovers(make_folder(rows.folder / CODED_FOLDER))
    states = network_states(networks, options.coding(rows.folder))
    found = tuple(state.row for state in states)
    return states, UnitSetup(_with_tuples(options), rows, found, Path.cwd(), tuple(modules))


def _with_tuples(options: OptionsT) -> OptionsT:
    """Options that can be the key of a map."""
    values = {each.name: getattr(options, each.name) for each in fields(options)}  # type: ignore[arg-type]
    lists: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return replace(options, **lists)  # type: ignore[type-var]


def note_networks(
    path: Path, networks: Sequence[NetworkRow], header: Mapping[str, str], existing: Iterable[tuple[str, str, str]]
) -> None:
    """Writes the networks of a run in the place of those of an earlier one, and warns of rows of others.

    Args:
        path: The file of networks.
        networks: The networks with each of their weights.
        header: Of the file.
        existing: Network, weights and SHA-256 of earlier rows.
    """
    path.unlink(missing_ok=True)
    with RowWriter(path, NetworkRow, header) as writer:
        writer.append(networks)
    own = {(row.network, row.weights): row.network_sha256 for row in networks}
    if others := sorted({name for name, weights, sha256 in existing if sha256 != own.get((name, weights), sha256)}):
        _log.warning(
            "%s: the folder has rows of another network of this name (see network_sha256), which the tables leave out; "
            "if a function made it, seed its weights (torch.manual_seed) to have the same network each time",
            ", ".join(others),
        )
