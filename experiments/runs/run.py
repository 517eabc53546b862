"""One experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vvc_nnr.codec.configuration import CONFIGURATIONS
from vvc_nnr.codec.image_formats import RATES, encoder_versions
from vvc_nnr.errors import InputError, shown
from vvc_nnr.experiments.plots import end_to_end_figure, save_figure, tool_figures
from vvc_nnr.experiments.records.provenance import Conventions, Provenance
from vvc_nnr.experiments.records.rows import ImageRow, KeyedRow, NetworkRow, ToolRow, ZooRow
from vvc_nnr.experiments.records.settings import (
    MAX_NAMES,
    InputDigests,
    Plan,
    RunFiles,
    RunIdentity,
    known_inputs,
    picture_digests,
    progress,
    sequence_plan,
    tell_copies,
    write_settings,
)
from vvc_nnr.experiments.records.tsv import MUST_MATCH, RowT, RowWriter, rows_to_continue
from vvc_nnr.experiments.records.unit_rows import logs_folder, merge_units, units_folder
from vvc_nnr.experiments.records.viewer_pictures import PICTURES_FOLDER, write_index
from vvc_nnr.experiments.runs.decoded_pictures import CodedHere, DecodedPictures, n_pictures_of
from vvc_nnr.experiments.runs.end_to_end import EndToEndExperiment, EndToEndOptions
from vvc_nnr.experiments.runs.model_zoo import (
    ROWS,
    ZooOptions,
    ZooUnit,
    chosen_rows,
    run_zoo,
    run_zoo_units,
    zoo_inputs,
    zoo_units,
)
from vvc_nnr.experiments.runs.networks import (
    CodingOptions,
    GivenNetwork,
    NetworkState,
    check_calibrations,
    given_autoencoders,
    given_filters,
    network_states,
)
from vvc_nnr.experiments.runs.tool_by_tool import (
    ToolExperiment,
    ToolSetup,
    ToolUnit,
    check_places,
    run_tool_unit,
    tool_units,
    write_unit,
)
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.stored import (
    CODED_FOLDER,
    IMAGE_FILES,
    IMAGE_NETWORKS,
    TOOL_FILES,
    TOOL_NETWORKS,
    ZOO_FILES,
    check_not_old,
    read_images,
    read_tools,
    read_zoo,
)
from vvc_nnr.experiments.tables.table import Table, to_csv, to_latex, to_markdown
from vvc_nnr.files import make_folder, remove_leftovers, write_file
from vvc_nnr.filters.decisions.sequence_file import DECISIONS_VERSION, JOINT_VERSION
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.folder_lock import locked_folder
from vvc_nnr.sequences.source import Source
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, n_at_once, run_units, share_of

_log = logging.getLogger(__name__)
RESULT_SUFFIXES = (".md", ".csv", ".tex", ".png", ".svg")
"""Of tables and figures."""
SETTLED_OF_TOOLS = (
    "preset", "psnr_peak", "precision", "sao", "encoder", "encoder_config", "encoder_identity", "decisions_version",
    "joint_decisions_version", "originals", "inference", "qp_candidates",
)  # fmt: skip
"""What has to be the same in every tool-by-tool run in one folder; all else adds rows, or changes none."""
SETTLED_OF_IMAGES = ("subsampling", *(f"{each}_encoder" for each in RATES))
"""The same for end-to-end."""
IMAGE_AVERAGING = "mean of the images' scores"
IMAGE_RATE = "bytes of the coded images, without the bytes of the network"


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
    networks = given_filters(
        options.networks, options.replacements, options.originals, options.archs, options.layouts, modules
    )
    pictures_of = decoded or CodedHere(options, cache or folder / "cache")
    check_places(networks, pictures_of.codings)
    coding = CodingOptions(
        options.compressions, folder / CODED_FOLDER, options.photographs, options.n_crops, options.accept_small
    )
    check_calibrations(networks, coding)
    shard = None
    if execution.shard is not None:
        shard = share_of(_tool_units(sources, options, pictures_of, networks), execution.shard)
        if not shard:
            return {}
    named = {unit.source.name for unit in shard or ()}
    used = [source for source in sources if shard is None or source.name in named]
    inference = _inference(networks, options)
    settings = _plain(asdict(options)) | {
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
    identity = RunIdentity(settings, _free(settings, SETTLED_OF_TOOLS), inputs, options.max_pictures)
    conventions = Conventions(
        psnr_peak=options.psnr_peak,
        rate=pictures_of.rate,
        loop_filters=pictures_of.loop_filters,
        encoder=pictures_of.encoder,
        originals=originals,
    ).to_header()
    provenance = replace(provenance, inference=inference)
    header = provenance.to_header() | conventions
    work = _ToolWork(options, networks, coding, pictures_of, identity, folder, header, tuple(modules))
    if shard is not None:
        work.run_shard(shard, execution, executor)
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
    networks = given_filters(
        options.networks, options.replacements, options.originals, options.archs, options.layouts, modules
    )
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
        coding: How they are compressed.
        decoded: Where the decoded pictures come from.
        identity: What makes the run the same run.
        folder: The folder of results.
        header: Of files of rows.
        modules: Networks of the caller's own.
    """

    options: ToolOptions
    networks: Sequence[GivenNetwork]
    coding: CodingOptions
    decoded: DecodedPictures
    identity: RunIdentity
    folder: Path
    header: Mapping[str, str]
    modules: tuple[LoadedNetwork, ...]

    def run(
        self,
        units: Sequence[ToolUnit],
        writer: RowWriter[ToolRow],
        execution: ExecutorOptions,
        executor: Executor | None,
    ) -> None:
        """Measures what the writer does not hold yet; raises UnitsError if units fail."""
        states = self._states()
        _write_networks(self.folder / TOOL_NETWORKS, states, self.header)
        _tell_others(states, ((row.network, row.weights, row.network_sha256) for row in writer.existing))
        experiment, setup = self._ready(states)
        missing = self._missing(units, experiment, setup, writer.existing)
        keys = [key for unit in units for key in experiment.all_keys(unit)]
        try:
            self._run(missing, experiment, setup, execution, executor)
        finally:
            merge_units(writer, [setup.path(unit) for unit in missing], keys)

    def run_shard(self, units: Sequence[ToolUnit], execution: ExecutorOptions, executor: Executor | None) -> None:
        """Measures units of which there are no rows yet, whatever other shards do meanwhile; raises as `run`."""
        known_inputs(self.folder / TOOL_FILES.settings, self.identity)
        existing = rows_to_continue(self.folder / TOOL_FILES.rows, ToolRow, self.header)
        experiment, setup = self._ready(self._states())
        self._run(self._missing(units, experiment, setup, existing), experiment, setup, execution, executor)

    def _states(self) -> list[NetworkState]:
        for name in (PICTURES_FOLDER, CODED_FOLDER):
            remove_leftovers(make_folder(self.folder / name))
        return network_states(self.networks, self.coding)

    def _ready(self, states: Sequence[NetworkState]) -> tuple[ToolExperiment, ToolSetup]:
        """The experiment in this process, and what makes it in others."""
        experiment = ToolExperiment(self.options, states, self.folder / PICTURES_FOLDER)
        backends = experiment.check()
        folder, options = self.folder.absolute(), self.options.hashable
        units = make_folder(units_folder(folder, TOOL_FILES.rows))
        remove_leftovers(units)
        return experiment, ToolSetup(
            options=replace(options, n_threads=options.n_threads or 1),
            networks=tuple(state.row for state in states),
            backends=tuple(backends.items()),
            coded=folder / CODED_FOLDER,
            pictures=folder / PICTURES_FOLDER,
            units=units,
            header=tuple(self.header.items()),
            current_folder=Path.cwd(),
            modules=self.modules,
        )

    def _missing(
        self,
        units: Sequence[ToolUnit],
        experiment: ToolExperiment,
        setup: ToolSetup,
        existing: Sequence[ToolRow],
    ) -> list[ToolUnit]:
        """What is to be measured of the units, with the names of their files."""
        done = {row.key for row in existing}
        found = (experiment.missing(unit, done) for unit in units)
        rows_of = {key: value for key, value in self.identity.settings.items() if key not in self.identity.free}
        own = {"tile": self.options.tile, "device": self.options.device, "ways": self.options.ways}
        conventions = {key: self.header.get(key) for key in MUST_MATCH}
        context = json.dumps({**rows_of, **own, **conventions}, default=list, sort_keys=True)
        return [setup.keyed(unit, context, self.identity.inputs, self.decoded) for unit in found if unit is not None]

    def _run(
        self,
        missing: Sequence[ToolUnit],
        experiment: ToolExperiment,
        setup: ToolSetup,
        execution: ExecutorOptions,
        executor: Executor | None,
    ) -> None:
        """Runs what has no file yet."""
        logs = logs_folder(self.folder.absolute(), TOOL_FILES.rows)
        waiting = [unit for unit in missing if not setup.is_made(unit)]
        if n_at_once(waiting, execution, executor) == 1:
            work, units = partial(write_unit, setup, experiment), missing
        else:
            work, units = partial(run_tool_unit, setup), [unit.elsewhere() for unit in missing]
        run_units(work, units, setup.is_made, execution, logs, title="tool-by-tool", executor=executor)


def run_end_to_end(
    pictures: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    folder: Path,
    options: EndToEndOptions,
    provenance: Provenance,
    *,
    modules: Sequence[LoadedNetwork] = (),
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and a plot there.

    Args:
        pictures: RGB pictures, uint8 (H, W, 3) each, of any size from 11x11.
        names: One per picture.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.
        modules: Autoencoders of the caller's own (`own_codec`) beside those that the options name.

    Returns:
        The tables by file name.

    Raises:
        InputError: If a network, a picture or the folder cannot be used.
    """
    check_not_old(folder)
    networks = given_autoencoders(options.networks, options.originals, options.archs, modules, options.stride)
    coding = CodingOptions(options.compressions, folder / CODED_FOLDER, options.photographs, options.n_crops)
    check_calibrations(networks, coding)
    own = {"compressions": [each.text for each in options.compressions], **_image_encoders()}
    settings = _plain(asdict(options)) | own
    inputs = picture_digests(pictures, names)
    tell_copies(inputs)
    identity = RunIdentity(settings, _free(settings, SETTLED_OF_IMAGES), inputs)
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    plan = Plan({"images": tuple(names), "networks": tuple(network.name for network in networks)})
    with open_run(folder, IMAGE_FILES, ImageRow, identity, plan, provenance, conventions) as run:
        coded = make_folder(folder / CODED_FOLDER)
        remove_leftovers(coded)
        states = network_states(networks, coding)
        _write_networks(folder / IMAGE_NETWORKS, states, provenance.to_header() | conventions)
        _tell_others(states, ((row.setting, row.weights, row.network_sha256) for row in run.writer.existing))
        EndToEndExperiment(options, states).run(pictures, names, run.writer)
        stored = read_images(folder)
        run = run.measured(stored.rows)
        tables = stored.tables()
        write_results(folder, tables, {"end_to_end": end_to_end_figure(stored.frame, stored.networks)})
        run.end()
    return tables


def run_model_zoo(
    folder: Path, options: ZooOptions, provenance: Provenance, execution: ExecutorOptions = IN_THIS_PROCESS
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows and table there.

    Args:
        folder: Where the results are and go.
        options: What to run.
        provenance: Where this run comes from.
        execution: Where networks are measured, by default in this process.

    Returns:
        The table by its file name; none of a shard.

    Raises:
        InputError: If there is no such row, or the folder cannot be used.
        UnitsError: If networks failed: weights or pictures that cannot be read, a codec's process; all others are done.
    """
    known = _known_rows(options)
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    chosen = chosen_rows(options)
    settings: dict[str, object] = {"qps": list(options.qps), "peer": bool(options.peer), "order": known}
    identity = RunIdentity(settings, ("qps", "peer", "order", "absent"), zoo_inputs(options.folder))
    header = provenance.to_header() | conventions
    context = json.dumps([identity.inputs, options.peer, header["version"]])
    if execution.shard is not None:
        known_inputs(folder / ZOO_FILES.settings, identity)
        done = {row.key for row in rows_to_continue(folder / ZOO_FILES.rows, ZooRow, header)}
        place = make_folder(units_folder(folder, ZOO_FILES.rows))
        share = share_of(zoo_units(chosen, options, place, header, context, done), execution.shard)
        run_zoo_units(share, folder / ZOO_FILES.rows, execution)
        return {}
    plan = Plan({"networks": tuple(row.name for row in chosen)})
    with open_run(folder, ZOO_FILES, ZooRow, identity, plan, provenance, conventions) as run:
        absent = run_zoo(chosen, options, run.writer, execution, context)
        run = run.noting({"absent": absent})
        stored = read_zoo(folder)
        found = {row.network for row in stored.rows}
        here = tuple(row.name for row in chosen if row.name in found or row.name not in absent)
        run = run.measured(stored.rows, Plan({"networks": here}))
        tables = stored.tables()
        write_results(folder, tables, {})
        run.end()
    return tables


def _known_rows(options: ZooOptions) -> list[str]:
    """The names of all rows; raises InputError if one that is asked for is none of them."""
    known = [row.name for row in ROWS]
    unknown = [name for name in options.rows if name not in known]
    if unknown:
        raise InputError(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    return known


def plan_model_zoo(options: ZooOptions, execution: ExecutorOptions = IN_THIS_PROCESS) -> list[ZooUnit]:
    """The units of work that `run_model_zoo` makes in an empty folder, in their order; nothing runs.

    Args:
        options: What to run.
        execution: Of which share.

    Raises:
        InputError: If there is no such row.
    """
    _known_rows(options)
    return share_of(zoo_units(chosen_rows(options), options, Path(), {}), execution.shard)


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


def damage_note(sources: Sequence[Source], max_pictures: int | None = None) -> str:
    """The damaged sequences among those that were opened with `allow_damaged`; empty if there are none.

    Args:
        sources: The sequences.
        max_pictures: How many pictures of each are used at most.
    """
    damages = [(source.name, source.damage(max_pictures)) for source in sources]
    found = [f"{name} ({damage})" for name, damage in damages if damage]
    return f"damaged, and taken as FFmpeg conceals it: {', '.join(found)}" if found else ""


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
        """Notes that the run came to its end, the last thing that it does.

        Raises:
            InputError: If that cannot be written.
        """
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


def _free(settings: Mapping[str, object], settled: Sequence[str]) -> list[str]:
    """The settings that may differ between runs in one folder."""
    return [key for key in settings if key not in settled]


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


def _image_encoders() -> dict[str, str]:
    """The encoders of all formats, asked for or not: a later run in the folder may ask for others."""
    return {f"{each}_encoder": version for each, version in encoder_versions().items()}


def _tool_plan(
    n_pictures: Mapping[str, int], options: ToolOptions, networks: Sequence[GivenNetwork], n_codings: int
) -> Plan:
    n_states = sum(len(network.weights(options.compressions)) for network in networks)
    n_per_picture = n_codings + len(options.configs) * len(options.ways) * n_states
    titles = [CONFIGURATIONS[config].title for config in options.configs] if options.is_inter else ()
    names = [network.name for network in networks]
    return sequence_plan(n_pictures, options.qps, names, n_per_picture, configurations=titles)


def _plain(settings: Mapping[str, Any]) -> dict[str, object]:
    """Settings as JSON has them: paths and several texts as one text, none as the empty one."""
    plain = dict(settings) | {"photographs": str(settings["photographs"] or "")}
    several = {"encoder_config", "encoder_arguments"} & settings.keys()
    return plain | {key: " ".join(map(str, settings[key])) for key in several}


def _inference(networks: Sequence[GivenNetwork], options: ToolOptions) -> str:
    """What computes the networks, and in which precision."""
    first = networks[0].any_state
    return options.runner(first.network, first.layout).description


def _tell_others(states: Sequence[NetworkState], existing: Iterable[tuple[str, str, str]]) -> None:
    """Warns of earlier rows (network, weights, SHA-256) that are of another network of the same name."""
    own = {(state.row.network, state.row.weights): state.row.network_sha256 for state in states}
    if others := sorted({name for name, weights, sha256 in existing if sha256 != own.get((name, weights), sha256)}):
        _log.warning(
            "%s: the folder has rows of another network of this name (see network_sha256), which the tables leave out; "
            "if a function made it, seed its weights (torch.manual_seed) to have the same network each time",
            ", ".join(others),
        )


def _write_networks(path: Path, states: Sequence[NetworkState], header: Mapping[str, str]) -> None:
    """Writes the networks of this run in the place of those of an earlier one."""
    path.unlink(missing_ok=True)
    with RowWriter(path, NetworkRow, header) as writer:
        writer.append(state.row for state in states)
