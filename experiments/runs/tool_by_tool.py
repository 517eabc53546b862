"""The tool-by-tool experiment from sequences to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from vvc_nnr.codec.configuration import CONFIGURATIONS
from vvc_nnr.errors import InputError, shown
from vvc_nnr.experiments.plots import tool_figures
from vvc_nnr.experiments.records.provenance import Conventions, Provenance
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow, UpdateRow
from vvc_nnr.experiments.records.settings import (
    MAX_NAMES,
    InputDigests,
    Plan,
    known_inputs,
    sequence_plan,
    tell_copies,
)
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.unit_rows import UnitRows, places_of
from vvc_nnr.experiments.records.viewer_pictures import PICTURES_FOLDER, write_index
from vvc_nnr.experiments.records.weights import is_adapted
from vvc_nnr.experiments.runs.adaptation_units import (
    AdaptationUnit,
    adaptation_units,
    is_tuned,
    made_update,
    run_adaptation_unit,
    update_rows,
    write_update,
)
from vvc_nnr.experiments.runs.decoded_pictures import CodedHere, DecodedPictures, n_pictures_of
from vvc_nnr.experiments.runs.network_units import note_networks, set_up
from vvc_nnr.experiments.runs.networks import GivenNetwork, adapted_base, check_calibrations
from vvc_nnr.experiments.runs.run_folder import open_run, run_identity, settled_text, write_results
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.runs.tool_units import (
    ToolExperiment,
    ToolSetup,
    ToolUnit,
    Update,
    check_places,
    run_tool_unit,
    tool_units,
    write_unit,
)
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.stored import (
    CODED_FOLDER,
    TOOL_FILES,
    TOOL_NETWORKS,
    TOOL_UPDATES,
    check_not_old,
    read_tools,
)
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.files import check_folder, make_folder, remove_leftovers
from vvc_nnr.filters.decisions.sequence_file import DECISIONS_VERSION, JOINT_VERSION
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.sequences.source import Source
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, UnitsError, n_at_once, run_units, share_of

_log = logging.getLogger(__name__)
SETTLED_OF_TOOLS = (
    "preset", "psnr_peak", "precision", "sao", "encoder", "encoder_config", "encoder_identity", "decisions_version",
    "joint_decisions_version", "originals", "inference", "qp_candidates",
)  # fmt: skip
"""What has to be the same in every tool-by-tool run in one folder; all else adds rows, or changes none."""


def run_tool_by_tool(
    sources: Sequence[Source],
    folder: Path,
    options: ToolOptions,
    provenance: Provenance,
    *,
    cache: Path | None = None,
    interpolation: Interpolation = "pchip",
    modules: Sequence[LoadedNetwork] = (),
    decoded: DecodedPictures | None = None,
    execution: ExecutorOptions = IN_THIS_PROCESS,
    executor: Executor | None = None,
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables, plots, coded networks and the viewer's pictures there.

    Args:
        sources: The sequences.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.
        cache: Folder of finished encodings, default `cache` in the results' folder.
        interpolation: How BD-rate draws its curves.
        modules: Networks of the caller's own (`own_network`) beside those that the options name.
        decoded: Where the decoded pictures come from; default: they are encoded and decoded here.
        execution: Where units of work run, by default in this process; no result depends on it.
        executor: Where they run instead: any executor whose workers see the same files.

    Returns:
        The tables by file name; none of a shard, which writes no tables.

    Raises:
        InputError: If a source, a network or the folder cannot be used.
        BitstreamError: If a source or a network is damaged.
        UnsupportedError: If a source has a format that VVC intra coding here does not take.
        UnitsError: If units of work failed; all others are done and kept.
    """
    check_not_old(folder)
    networks = options.given(modules)
    pictures_of = decoded or CodedHere(options, cache or folder / "cache")
    check_places(networks, pictures_of.codings)
    check_calibrations(networks, options.coding(folder))
    _check_adaptable(networks, options)
    if cache is not None and decoded is None:
        check_folder(cache)
    shard = None
    if execution.shard is not None:
        n_counted = _n_pictures(sources, options)
        shard = _Rounds.of(sources, n_counted, options, pictures_of, networks).share(execution.shard)
        if not shard.measured and not shard.tuned:
            return {}
    named = shard.sequences if shard else ()
    used = [source for source in sources if shard is None or source.name in named]
    inference = _inference(networks, options)
    settings = {
        **asdict(options),
        "compressions": [each.text for each in options.compressions],
        "ways": list(options.ways),
        "decisions_version": DECISIONS_VERSION,
        "joint_decisions_version": JOINT_VERSION,
        "inference": inference,
        "interpolation": interpolation,
        **pictures_of.settings,
    }
    originals = damage_note(sources, options.max_pictures)
    settings |= {"originals": originals} if originals else {}
    inputs = pictures_of.digests(used)
    own_inputs = {source.name: inputs[source.name] for source in used}
    _check_viewer_picture(own_inputs, options.viewer_picture)
    identity = run_identity(settings, SETTLED_OF_TOOLS, inputs, options.max_pictures)
    conventions = Conventions(
        psnr_peak=options.psnr_peak,
        rate=pictures_of.rate,
        loop_filters=pictures_of.loop_filters,
        encoder=pictures_of.encoder,
        originals=originals,
    ).to_header()
    provenance = replace(provenance, inference=inference)
    header = provenance.to_header() | conventions
    rows_of = {"tile": options.tile, "device": options.device, "ways": options.ways}
    context = settled_text(identity, header, rows_of)
    coding = settled_text(identity, header, {})
    work = _ToolWork(options, networks, pictures_of, inputs, context, coding, folder, header, tuple(modules))
    if shard is not None:
        known_inputs(folder / TOOL_FILES.settings, identity)
        work.run(shard, None, execution, executor)
        return {}
    tell_copies(own_inputs)
    n_pictures = {name: len(digests) for name, digests in own_inputs.items()}
    _tell_fewer(n_pictures, options.max_pictures)
    plan = _tool_plan(n_pictures, options, networks, len(pictures_of.codings))
    with open_run(folder, TOOL_FILES, ToolRow, identity, plan, provenance, conventions) as run:
        rounds = _Rounds.of(sources, n_pictures, options, pictures_of, networks)
        work.run(rounds, run.writer, execution, executor)
        stored = read_tools(folder)
        run = run.measured(stored.rows)
        pictures = folder / PICTURES_FOLDER
        write_index(pictures, stored.rows, stored.networks, options.ways[-1], options.viewer_picture)
        tables = stored.tables()
        figures = [tool_figures(each.results()) for each in stored.by_configuration()]
        write_results(folder, tables, {name: figure for each in figures for name, figure in each.items()})
        run.end()
    return tables


def plan_tool_by_tool(
    sources: Sequence[Source],
    options: ToolOptions,
    *,
    cache: Path | None = None,
    modules: Sequence[LoadedNetwork] = (),
    decoded: DecodedPictures | None = None,
    execution: ExecutorOptions = IN_THIS_PROCESS,
) -> list[ToolUnit | AdaptationUnit]:
    """The units of work that `run_tool_by_tool` makes in an empty folder, in their order; nothing runs.

    Args:
        sources: The sequences.
        options: What to run.
        cache: Folder of finished encodings.
        modules: Networks of the caller's own.
        decoded: Where the decoded pictures come from.
        execution: Of which share.

    Raises:
        InputError, BitstreamError, UnsupportedError: If a source or a network cannot be used.
    """
    networks = options.given(modules)
    pictures_of = decoded or CodedHere(options, cache or Path("cache"))
    check_places(networks, pictures_of.codings)
    rounds = _Rounds.of(sources, _n_pictures(sources, options), options, pictures_of, networks).share(execution.shard)
    adapted = [unit for tuned in rounds.tuned for unit in rounds.adapted(tuned, options)]
    return [*rounds.measured, *rounds.tuned, *adapted]


def _check_adaptable(networks: Sequence[GivenNetwork], options: ToolOptions) -> None:
    """Refuses networks that are to be adapted and cannot be; raises as `adapted_base`."""
    for network in networks if options.adapt else ():
        adapted_base(network, options.compressions, options.adaptation.free)


def _n_pictures(sources: Sequence[Source], options: ToolOptions) -> dict[str, int]:
    """How many pictures of each sequence are used, counted and not read."""
    return {source.name: n_pictures_of(source, options.max_pictures) for source in sources}


@dataclass(frozen=True, slots=True)
class _Rounds:
    """The units of a run: those of each round need those of the rounds before.

    Attributes:
        measured: The codec alone, and networks as they are.
        tuned: Networks are tuned to sequences.
        all_measured: Those of all shares, whose pictures adapted networks filter in the third round.
        networks: The networks.
    """

    measured: Sequence[ToolUnit]
    tuned: Sequence[AdaptationUnit]
    all_measured: Sequence[ToolUnit]
    networks: Sequence[GivenNetwork]

    @classmethod
    def of(
        cls,
        sources: Sequence[Source],
        n_pictures: Mapping[str, int],
        options: ToolOptions,
        decoded: DecodedPictures,
        networks: Sequence[GivenNetwork],
    ) -> _Rounds:
        """All units; arguments and errors as those of `tool_units` and `adaptation_units`."""
        measured = tool_units(sources, n_pictures, options, decoded, networks)
        tuned = adaptation_units(sources, n_pictures, options, decoded, networks)
        return cls(measured, tuned, measured, networks)

    @property
    def sequences(self) -> set[str]:
        """Their names."""
        return {unit.source.name for unit in self.measured} | {unit.source.name for unit in self.tuned}

    def share(self, shard: tuple[int, int] | None) -> _Rounds:
        """Those of a share; adapted networks filter in the share that tunes them."""
        return replace(self, measured=share_of(self.measured, shard), tuned=share_of(self.tuned, shard))

    def adapted(self, tuned: AdaptationUnit, options: ToolOptions, update: Update | None = None) -> list[ToolUnit]:
        """The units of an adapted network: its sequence at the QPs of the update."""
        (network,) = (each for each in self.networks if each.name == tuned.network[0])
        about = (tuned.source.name, tuned.config, tuned.loop_filters)
        return [
            unit.adapted(network, tuned.weights, options, update)
            for unit in self.all_measured
            if (unit.source.name, unit.config, unit.loop_filters) == about and unit.qp in tuned.tuned_qps
        ]


@dataclass(frozen=True, slots=True)
class _ToolWork:
    """What the units of a tool-by-tool run are measured with.

    Attributes:
        options: What to run.
        networks: The networks.
        decoded: Where the decoded pictures come from.
        inputs: Digests of all pictures.
        context: All else that rows follow from, as text.
        coding: Of that what decoded pictures follow from.
        folder: The folder of results.
        header: Of files of rows.
        modules: Networks of the caller's own.
    """

    options: ToolOptions
    networks: Sequence[GivenNetwork]
    decoded: DecodedPictures
    inputs: InputDigests
    context: str
    coding: str
    folder: Path
    header: Mapping[str, str]
    modules: tuple[LoadedNetwork, ...]

    def run(
        self,
        rounds: _Rounds,
        writer: RowWriter[ToolRow] | None,
        execution: ExecutorOptions,
        executor: Executor | None,
    ) -> None:
        """Measures units of which there are no rows yet; what needs a failed unit is left out.

        Args:
            rounds: The units.
            writer: Where the rows go; None of a shard, which leaves them in the units' files.
            execution: Where units run.
            executor: Where they run instead.

        Raises:
            UnitsError: If units failed; all others that need nothing of them are done and kept.
        """
        rows = UnitRows.of(self.folder, TOOL_FILES.rows, ToolRow, self.header)
        pictures = make_folder(rows.folder / PICTURES_FOLDER)
        remove_leftovers(pictures)
        states, base = set_up(self.options, rows, self.networks, self.modules)
        if writer is not None:
            existing = (row for row in writer.existing if not is_adapted(row.weights))
            known = [(row.network, row.weights, row.network_sha256) for row in existing]
            note_networks(self.folder / TOOL_NETWORKS, self._noted(base.networks), self.header, known)
            (self.folder / TOOL_UPDATES).unlink(missing_ok=True)
        experiment = ToolExperiment(self.options, states, self.folder / PICTURES_FOLDER)
        side_by_side = replace(base.options, n_threads=self.options.n_threads or 1)
        setup = ToolSetup(replace(base, options=side_by_side), tuple(experiment.check().items()))
        coded = (setup, self.folder / CODED_FOLDER, self.coding, self.inputs, self.decoded)
        rounds = replace(rounds, tuned=[unit.keyed(*coded) for unit in rounds.tuned])
        _Running(self, rounds, rows, setup, experiment, writer, execution, executor).run()

    def _noted(self, networks: Sequence[NetworkRow]) -> list[NetworkRow]:
        """The networks with each of their weights, adapted ones as the coded ones that are tuned."""
        found = list(networks)
        for network in self.networks if self.options.adapt else ():
            base = adapted_base(network, self.options.compressions)
            last = max(place for place, row in enumerate(found) if row.network == network.name)
            (tuned,) = (row for row in networks if (row.network, row.weights) == (network.name, base))
            adapted = [replace(tuned, weights=weights) for weights in self.options.adapted_weights]
            found[last + 1 : last + 1] = adapted
        return found


@dataclass(frozen=True, slots=True)
class _Running:
    """A run whose networks are ready.

    Attributes:
        work: What it measures with.
        rounds: Its units; updates have their files.
        rows: Where units leave their rows.
        setup: What units in other processes have.
        experiment: What units in this process have.
        writer: As for `_ToolWork.run`; so are the others.
        execution: Where units run.
        executor: Where they run instead.
    """

    work: _ToolWork
    rounds: _Rounds
    rows: UnitRows[ToolRow]
    setup: ToolSetup
    experiment: ToolExperiment
    writer: RowWriter[ToolRow] | None
    execution: ExecutorOptions
    executor: Executor | None

    def run(self) -> None:
        """Runs all rounds; raises as `_ToolWork.run`."""
        errors: list[UnitsError] = []
        with _kept(errors):
            self._measure(self.rounds.measured)
        if self.rounds.tuned:
            with _kept(errors):
                self._tune()
            self._note_updates()
            with _kept(errors):
                self._measure(self._adapted())
        if errors:
            raise UnitsError.joined(errors)

    def _measure(self, units: Sequence[ToolUnit]) -> None:
        """Measures what there are no rows of."""
        rows, work = self.rows, self.work
        done = {row.key for row in (rows.existing() if self.writer is None else self.writer.existing)}
        found = (self.experiment.missing(unit, done) for unit in units)
        about = (work.context, work.inputs, work.decoded)
        missing = [self.setup.keyed(unit, *about) for unit in found if unit is not None]
        where = (self.execution, self.executor)
        try:
            if rows.is_here(missing, *where):
                rows.run(partial(write_unit, self.setup, self.experiment), missing, *where, title="tool-by-tool")
            else:
                elsewhere = [unit.elsewhere() for unit in missing]
                rows.run(partial(run_tool_unit, self.setup), elsewhere, *where, title="tool-by-tool")
        finally:
            if self.writer is not None:
                every = (*self.rounds.measured, *self._adapted())
                rows.merge(self.writer, missing, places_of(k for unit in every for k in self.experiment.all_keys(unit)))

    def _adapted(self) -> list[ToolUnit]:
        """The units of adapted networks, as far as there are updates."""
        there = ((unit, made_update(self.experiment, unit)) for unit in self.rounds.tuned if is_tuned(unit))
        return [each for unit, update in there for each in self.rounds.adapted(unit, self.work.options, update)]

    def _tune(self) -> None:
        """Makes the updates that are not there."""
        units = self.rounds.tuned
        missing = [unit for unit in units if not is_tuned(unit)]
        is_here = n_at_once(missing, self.execution, self.executor) == 1
        here, elsewhere = partial(write_update, self.experiment), partial(run_adaptation_unit, self.setup)
        run_units(
            here if is_here else elsewhere,
            units if is_here else [unit.elsewhere() for unit in units],
            is_tuned,
            self.execution,
            self.rows.logs,
            title="tuning",
            executor=self.executor,
        )

    def _note_updates(self) -> None:
        """Writes what the updates cost; a shard does not."""
        if self.writer is not None:
            with RowWriter(self.work.folder / TOOL_UPDATES, UpdateRow, self.work.header) as writer:
                done = (unit for unit in self.rounds.tuned if is_tuned(unit))
                writer.append(row for unit in done for row in update_rows(self.experiment, unit))


@contextmanager
def _kept(errors: list[UnitsError]) -> Iterator[None]:
    """Failed units of a round do not stop the next one."""
    try:
        yield
    except UnitsError as error:
        errors.append(error)


def damage_note(sources: Sequence[Source], max_pictures: int | None = None) -> str:
    """The damaged sequences among those that were opened with `allow_damaged`; empty if there are none.

    Args:
        sources: The sequences.
        max_pictures: How many pictures of each are used at most.
    """
    damages = [(source.name, source.damage(max_pictures)) for source in sources]
    found = [f"{name} ({damage})" for name, damage in damages if damage]
    return f"damaged, and taken as FFmpeg conceals it: {', '.join(found)}" if found else ""


def _check_viewer_picture(inputs: InputDigests, picture: int) -> None:
    """Refuses a picture for the viewer that a sequence does not have, or not among those that are used."""
    for name, digests in inputs.items():
        if picture >= len(digests):
            there = f"of {shown(name)} pictures 0 to {len(digests) - 1} are used"
            raise InputError(f"viewer picture {picture}: {there}; choose one that all sequences have")


def _tell_fewer(n_pictures: Mapping[str, int], max_pictures: int | None) -> None:
    """Warns of sequences that have fewer pictures than were asked for."""
    fewer = [f"{shown(name)} has {number}" for name, number in n_pictures.items() if number < (max_pictures or 0)]
    if fewer:
        more = f" and {len(fewer) - MAX_NAMES} more sequences have fewer" if len(fewer) > MAX_NAMES else ""
        _log.warning("%s pictures of each sequence asked for: %s%s", max_pictures, ", ".join(fewer[:MAX_NAMES]), more)


def _tool_plan(
    n_pictures: Mapping[str, int], options: ToolOptions, networks: Sequence[GivenNetwork], n_codings: int
) -> Plan:
    n_adapted = len(options.adapted_weights) if options.adapt else 0
    n_states = sum(len(network.weights(options.compressions)) + n_adapted for network in networks)
    n_per_picture = n_codings + len(options.configs) * len(options.ways) * n_states
    titles = [CONFIGURATIONS[config].title for config in options.configs] if options.is_inter else ()
    names = [network.name for network in networks]
    return sequence_plan(n_pictures, options.qps, names, n_per_picture, configurations=titles)


def _inference(networks: Sequence[GivenNetwork], options: ToolOptions) -> str:
    """What computes the networks, and in which precision."""
    first = networks[0].any_state
    return options.runner(first.network, first.layout).description
