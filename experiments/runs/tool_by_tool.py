"""The tool-by-tool experiment from sequences to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from vvc_nnr.codec.configuration import CONFIGURATIONS
from vvc_nnr.errors import InputError, shown
from vvc_nnr.experiments.plots import tool_figures
from vvc_nnr.experiments.records.provenance import Conventions, Provenance
from vvc_nnr.experiments.records.rows import ToolRow
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
from vvc_nnr.experiments.runs.decoded_pictures import CodedHere, DecodedPictures, n_pictures_of
from vvc_nnr.experiments.runs.network_units import note_networks, set_up
from vvc_nnr.experiments.runs.networks import GivenNetwork, check_calibrations
from vvc_nnr.experiments.runs.run_folder import open_run, run_identity, settled_text, write_results
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.runs.tool_units import (
    ToolExperiment,
    ToolSetup,
    ToolUnit,
    check_places,
    run_tool_unit,
    tool_units,
    write_unit,
)
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.stored import TOOL_FILES, TOOL_NETWORKS, check_not_old, read_tools
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.files import check_folder, make_folder, remove_leftovers
from vvc_nnr.filters.decisions.sequence_file import DECISIONS_VERSION, JOINT_VERSION
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.sequences.source import Source
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, share_of

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
    if cache is not None and decoded is None:
        check_folder(cache)
    shard = None
    if execution.shard is not None:
        shard = share_of(_tool_units(sources, options, pictures_of, networks), execution.shard)
        if not shard:
            return {}
    named = {unit.source.name for unit in shard or ()}
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
    work = _ToolWork(options, networks, pictures_of, inputs, context, folder, header, tuple(modules))
    if shard is not None:
        known_inputs(folder / TOOL_FILES.settings, identity)
        work.run(shard, None, execution, executor)
        return {}
    tell_copies(own_inputs)
    n_pictures = {name: len(digests) for name, digests in own_inputs.items()}
    _tell_fewer(n_pictures, options.max_pictures)
    plan = _tool_plan(n_pictures, options, networks, len(pictures_of.codings))
    with open_run(folder, TOOL_FILES, ToolRow, identity, plan, provenance, conventions) as run:
        units = tool_units(sources, n_pictures, options, pictures_of, networks)
        work.run(units, run.writer, execution, executor)
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
) -> list[ToolUnit]:
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
    return share_of(_tool_units(sources, options, pictures_of, networks), execution.shard)


def _tool_units(
    sources: Sequence[Source], options: ToolOptions, decoded: DecodedPictures, networks: Sequence[GivenNetwork]
) -> list[ToolUnit]:
    """All units, the pictures of sequences counted and not read."""
    n_pictures = {source.name: n_pictures_of(source, options.max_pictures) for source in sources}
    return tool_units(sources, n_pictures, options, decoded, networks)


@dataclass(frozen=True, slots=True)
class _ToolWork:
    """What the units of a tool-by-tool run are measured with.

    Attributes:
        options: What to run.
        networks: The networks.
        decoded: Where the decoded pictures come from.
        inputs: Digests of all pictures.
        context: All else that rows follow from, as text.
        folder: The folder of results.
        header: Of files of rows.
        modules: Networks of the caller's own.
    """

    options: ToolOptions
    networks: Sequence[GivenNetwork]
    decoded: DecodedPictures
    inputs: InputDigests
    context: str
    folder: Path
    header: Mapping[str, str]
    modules: tuple[LoadedNetwork, ...]

    def run(
        self,
        units: Sequence[ToolUnit],
        writer: RowWriter[ToolRow] | None,
        execution: ExecutorOptions,
        executor: Executor | None,
    ) -> None:
        """Measures units of which there are no rows yet; raises UnitsError if units fail.

        Args:
            units: The units.
            writer: Where the rows go; None of a shard, which leaves them in the units' files.
            execution: Where units run.
            executor: Where they run instead.
        """
        rows = UnitRows.of(self.folder, TOOL_FILES.rows, ToolRow, self.header)
        pictures = make_folder(rows.folder / PICTURES_FOLDER)
        remove_leftovers(pictures)
        states, base = set_up(self.options, rows, self.networks, self.modules)
        if writer is not None:
            existing = ((row.network, row.weights, row.network_sha256) for row in writer.existing)
            note_networks(self.folder / TOOL_NETWORKS, states, self.header, existing)
        experiment = ToolExperiment(self.options, states, self.folder / PICTURES_FOLDER)
        side_by_side = replace(base.options, n_threads=self.options.n_threads or 1)
        setup = ToolSetup(replace(base, options=side_by_side), tuple(experiment.check().items()))
        done = {row.key for row in (rows.existing() if writer is None else writer.existing)}
        found = (experiment.missing(unit, done) for unit in units)
        missing = [setup.keyed(unit, self.context, self.inputs, self.decoded) for unit in found if unit is not None]
        try:
            if rows.is_here(missing, execution, executor):
                rows.run(partial(write_unit, setup, experiment), missing, execution, executor, title="tool-by-tool")
            else:
                elsewhere = [unit.elsewhere() for unit in missing]
                rows.run(partial(run_tool_unit, setup), elsewhere, execution, executor, title="tool-by-tool")
        finally:
            if writer is not None:
                rows.merge(writer, missing, places_of(key for unit in units for key in experiment.all_keys(unit)))


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
    n_states = sum(len(network.weights(options.compressions)) for network in networks)
    n_per_picture = n_codings + len(options.configs) * len(options.ways) * n_states
    titles = [CONFIGURATIONS[config].title for config in options.configs] if options.is_inter else ()
    names = [network.name for network in networks]
    return sequence_plan(n_pictures, options.qps, names, n_per_picture, configurations=titles)


def _inference(networks: Sequence[GivenNetwork], options: ToolOptions) -> str:
    """What computes the networks, and in which precision."""
    first = networks[0].any_state
    return options.runner(first.network, first.layout).description
