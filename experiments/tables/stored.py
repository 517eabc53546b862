"""What a folder holds of each experiment: rows, networks, and the tables made from them and the settings alone.

The experiments print these tables when they end, the report shows them later, and a notebook loads them, so all say
what the rows say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, get_args

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import (
    AUTOENCODER_METHODS,
    ImageRow,
    NetworkRow,
    ToolRow,
    UpdateRow,
    Way,
    ZooRow,
    frame_of,
)
from vvc_nnr.experiments.records.settings import (
    LastRun,
    RunFiles,
    read_last_run,
    run_remarks,
)
from vvc_nnr.experiments.records.tsv import RowTable, read_rows
from vvc_nnr.experiments.records.unit_rows import UNITS_FOLDER, rows_on_the_way, units_folder
from vvc_nnr.experiments.tables.adapted_filters import adapted_filters_table
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import (
    Savings,
    bd_rate_table,
    complexity_table,
    configurations_table,
    curve_table,
    jvet_tables,
    network_bits_table,
    sequence_savings,
    sequence_table,
)
from vvc_nnr.experiments.tables.gains import (
    coded_variants,
    gain_table,
    image_rate_table,
    layer_table,
    weights_table,
    worse_table,
)
from vvc_nnr.experiments.tables.means import ToolResults, Variant, image_means, tool_results
from vvc_nnr.experiments.tables.notes import (
    TIME_NOTE,
    YUV_NOTE,
    bd_rate_note,
    configuration_suffix,
    few_qps_note,
    titled,
    tool_notes,
)
from vvc_nnr.experiments.tables.paper_tables import (
    PAPER_QPS,
    all_scores_table,
    end_to_end_table,
    psnr_table,
    size_table,
    ssim_table,
)
from vvc_nnr.experiments.tables.sequence_names import shown_names
from vvc_nnr.experiments.tables.spread import image_spread_table, sequence_spread_table
from vvc_nnr.experiments.tables.table import Cell, Column, Table, Tables, with_remarks

if TYPE_CHECKING:
    import pandas as pd

TOOL_ROWS, TOOL_NETWORKS, TOOL_SETTINGS = "tool_by_tool.tsv", "tool_by_tool_networks.tsv", "tool_by_tool.json"
TOOL_UPDATES = "tool_by_tool_updates.tsv"
"""What tuning a network to each sequence costs; there where the last run adapted networks."""
IMAGE_ROWS, IMAGE_NETWORKS, IMAGE_SETTINGS = "end_to_end.tsv", "end_to_end_networks.tsv", "end_to_end.json"
ZOO_ROWS, ZOO_SETTINGS = "model_zoo.tsv", "model_zoo.json"
_TOOL_RESULTS = (
    *(
        "table2_psnr",
        "table3_ssim",
        "gain_per_qp",
        "gain_per_layer",
        "complexity",
        "worse",
        "all_scores",
        "spread_over_sequences",
    ),
    *("bd_rate", "bd_rate_with_network_bits", "bd_rate_of_mean_curves", "bd_rate_per_sequence"),
    *("coded_weights", "adapted_filters", "rd_class_*", "rd_overall"),
)


_SUFFIXES = tuple(map(configuration_suffix, CONFIGURATIONS.values()))
TOOL_FILES, IMAGE_FILES, ZOO_FILES = (
    RunFiles(
        TOOL_ROWS,
        TOOL_SETTINGS,
        ("bd_rate_configurations", *(name + suffix for name in _TOOL_RESULTS for suffix in _SUFFIXES)),
    ),
    RunFiles(
        IMAGE_ROWS, IMAGE_SETTINGS, ("table4_end_to_end", "rate_at_equal_quality", "spread_over_images", "end_to_end")
    ),
    RunFiles(ZOO_ROWS, ZOO_SETTINGS, ("model_zoo",)),
)
"""`table1_size` is not among them: it follows from the networks, and two experiments share it."""
NETWORK_FILES = (TOOL_NETWORKS, IMAGE_NETWORKS)
"""Table 1 has the networks of both experiments where both are in one folder."""
CODED_FOLDER = "networks"
"""Where a folder of results has the coded files of its networks."""
OLD_FILES = ("in_loop.tsv", "sizes_tool_by_tool.tsv", "sizes_end_to_end.tsv")
"""Files of experiments that are no more: `in-loop`, and `tool-by-tool` when it knew one kind of compression."""
MIN_QPS_FOR_BD_RATE = 4
Header: TypeAlias = Mapping[str, str]
_RowT = TypeVar("_RowT", ToolRow, ImageRow, ZooRow)


@dataclass(frozen=True)
class StoredRun(Generic[_RowT]):
    """What every stored run has.

    Attributes:
        rows: Those that the last run asked for.
        header: Where the rows come from, and their conventions.
        last_run: What the last run asked for.
    """

    row_type: ClassVar[type[Any]]

    rows: tuple[_RowT, ...]
    header: Header
    last_run: LastRun

    @property
    def remarks(self) -> tuple[str, ...]:
        """What has to be known before any number: what was planned and is not there, rows of another version."""
        run = self.last_run
        found: tuple[str, ...] = run_remarks(run.plan, self.rows, self.header, has_ended=run.has_ended)
        return (*found, run.copies) if run.copies else found

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a data frame."""
        return frame_of(self.rows, self.row_type)


@dataclass(frozen=True)
class StoredTools(StoredRun[ToolRow]):
    """A tool-by-tool run.

    Attributes:
        networks: Its networks with each of their weights, in the order of the tables.
        all_networks: The networks of all experiments of the folder.
        interpolation: How its BD-rate is computed.
        updates: Of networks that were tuned to sequences.
    """

    row_type = ToolRow

    networks: tuple[NetworkRow, ...]
    all_networks: tuple[NetworkRow, ...]
    interpolation: Interpolation
    updates: tuple[UpdateRow, ...] = ()

    def by_configuration(self) -> list[StoredTools]:
        """The run in each of its coding configurations; itself if it has no rows."""
        found = {row.config for row in self.rows}
        configs = [config for config in CONFIGURATIONS if config in found]
        return [replace(self, rows=tuple(row for row in self.rows if row.config == config)) for config in configs] or [
            self
        ]

    @property
    def conventions(self) -> Conventions:
        """What the rows were made under."""
        return Conventions.from_header(self.header)

    def results(self) -> ToolResults:
        """The means of the rows, which must be of one configuration.

        Raises:
            InputError: If two rows about the same thing differ, or rows are of several configurations.
        """
        return tool_results(frame_of(_as_shown(self.rows), ToolRow), self.networks)

    def savings(self, results: ToolResults) -> Savings:
        """The BD-rates of all sequences, empty where there are too few QPs for any."""
        return sequence_savings(results, self.interpolation) if len(results.qps) >= MIN_QPS_FOR_BD_RATE else {}

    def tables(self) -> dict[str, Table]:
        """The tables by file name; see `tool_tables`. Configurations have tables of their own, and one side by side."""
        found = {} if (table := self.configurations_table()) is None else {"bd_rate_configurations": table}
        for each in self.by_configuration():
            about = (self.all_networks, self.conventions, self.interpolation, self.updates)
            found |= tool_tables(each.rows, self.networks, *about)
        return found

    def configurations_table(self) -> Table | None:
        """BD-rates of all configurations side by side; None of fewer than two, or too few QPs."""
        configurations = self.by_configuration()
        if len(configurations) < 2:
            return None
        results = [each.results() for each in configurations]
        savings = [self.savings(each) for each in results]
        if not all(savings):
            return None
        notes = (bd_rate_note(results[0], self.interpolation), TIME_NOTE, YUV_NOTE)
        return configurations_table(results, savings, self.interpolation, notes)

    def jvet_tables(self, results: ToolResults, savings: Savings) -> dict[tuple[Variant, Variant], Table]:
        """BD-rates in the layout of JVET for each variant and anchor, empty where there are too few QPs for any."""
        if not savings:
            return {}
        notes = (bd_rate_note(results, self.interpolation), TIME_NOTE, YUV_NOTE, *tool_notes(self.conventions, results))
        found = jvet_tables(results, savings, self.interpolation, notes)
        return {pair: titled(table, results.configuration) for pair, table in found.items()}


@dataclass(frozen=True)
class StoredImages(StoredRun[ImageRow]):
    """An end-to-end run; attributes as those of `StoredTools`."""

    row_type = ImageRow

    networks: tuple[NetworkRow, ...]
    all_networks: tuple[NetworkRow, ...]

    def tables(self) -> dict[str, Table]:
        """The tables by file name."""
        conventions, means = Conventions.from_header(self.header), image_means(self.frame)
        return {
            "table1_size": size_table(self.all_networks),
            "table4_end_to_end": end_to_end_table(self.frame, self.networks, conventions),
            "rate_at_equal_quality": image_rate_table(means, self.networks),
            "spread_over_images": image_spread_table(self.frame, means, self.networks),
        }


@dataclass(frozen=True)
class StoredZoo(StoredRun[ZooRow]):
    """A model-zoo run; `absent` has name and reason of networks that could not run."""

    row_type = ZooRow

    absent: Mapping[str, str]

    def tables(self) -> dict[str, Table]:
        """The table by its file name."""
        has_peer = any(row.method == "nncodec" for row in self.rows)
        return {"model_zoo": zoo_table(self.rows, self.absent, has_peer=has_peer)}


@dataclass(frozen=True, slots=True)
class StoredResults:
    """What a folder of results holds; None for an experiment that was not run there.

    Attributes:
        tools: The tool-by-tool run.
        images: The end-to-end run.
        zoo: The model-zoo run.
    """

    tools: StoredTools | None
    images: StoredImages | None
    zoo: StoredZoo | None

    @property
    def tool_by_tool(self) -> pd.DataFrame:
        """The rows of the tool-by-tool run, none if there is no such run."""
        return frame_of(self.tools.rows if self.tools else (), ToolRow)

    @property
    def end_to_end(self) -> pd.DataFrame:
        """The rows of the end-to-end run, none if there is no such run."""
        return frame_of(self.images.rows if self.images else (), ImageRow)

    @property
    def model_zoo(self) -> pd.DataFrame:
        """The rows of the model zoo, none if there is no such run."""
        return frame_of(self.zoo.rows if self.zoo else (), ZooRow)

    @property
    def networks(self) -> pd.DataFrame:
        """The networks of the tool-by-tool and end-to-end runs: sizes, parameters, operations."""
        runs = (run for run in (self.tools, self.images) if run is not None)
        return frame_of([row for run in runs for row in run.networks], NetworkRow)

    def tables(self) -> dict[str, Table]:
        """All tables by file name; each has its numbers as a data frame too (`Table.frame`).

        Those of BD-rates are among them where the run has four QPs or more; else asking for one is a `NoTableError`,
        an `InputError` and `KeyError`, that says why, and so do notes.

        Raises:
            InputError: If two rows about the same thing differ.
        """
        runs = (run for run in (self.tools, self.images, self.zoo) if run is not None)
        notes = few_qps_note(self.tools.by_configuration()[0].results(), MIN_QPS_FOR_BD_RATE) if self.tools else ()
        found = {name: table for run in runs for name, table in with_remarks(run.tables(), run.remarks).items()}
        return Tables(found, notes)


def load(folder: Path | str) -> StoredResults:
    """What the experiments left in a folder of results, as data frames.

    Args:
        folder: The folder that `vvc-nnr experiment ... --out` wrote.

    Raises:
        InputError: If it is no such folder, or rows or settings cannot be read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; must be a folder that an experiment wrote (--out)")
    check_not_old(path)
    found = StoredResults(
        read_tools(path) if (path / TOOL_ROWS).exists() else None,
        read_images(path) if (path / IMAGE_ROWS).exists() else None,
        read_zoo(path) if (path / ZOO_ROWS).exists() else None,
    )
    if found.tools is None and found.images is None and found.zoo is None:
        if (path / UNITS_FOLDER).is_dir():
            raise InputError(f"{path}: holds shards alone; run the command without --shard, which puts them together")
        names = ", ".join((TOOL_ROWS, IMAGE_ROWS, ZOO_ROWS))
        raise InputError(f"{path}: holds no results of an experiment (none of {names})")
    return found


def check_not_old(folder: Path) -> None:
    """Refuses a folder with results of experiments that are no more.

    Raises:
        InputError: If there is a file of theirs.
    """
    old = [name for name in OLD_FILES if (folder / name).exists()]
    if old:
        raise InputError(
            f"{folder / old[0]}: results of an earlier version (experiment in-loop, or tool-by-tool before both became "
            "one) are not read: run experiment tool-by-tool or end-to-end again in another folder"
        )


def read_tools(folder: Path) -> StoredTools:
    """The tool-by-tool run of a folder, without what earlier runs added for more sequences, QPs, pictures or networks.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    check_not_old(folder)
    found = read_rows(folder / TOOL_ROWS, ToolRow)
    networks = _networks(folder / TOOL_NETWORKS)
    last_run = read_last_run(folder / TOOL_SETTINGS)
    asked = _asked_of_tools(folder / TOOL_SETTINGS, last_run)
    used = {(row.network, row.weights, row.network_sha256, row.place) for row in networks}
    updates = read_rows(path, UpdateRow).rows if (path := folder / TOOL_UPDATES).exists() else ()
    adapted = {row.rows_key for row in updates}
    rows = tuple(
        row
        for row in _with_those_on_the_way(folder, TOOL_ROWS, ToolRow, found)
        if _is_shown(row.sequence, last_run)
        and row.config in asked.configs
        and row.qp in asked.qps
        and (asked.max_pictures is None or row.picture < asked.max_pictures)
        and row.way in ("codec", *asked.ways)
        and (
            row.way == "codec"
            or (row.network, row.weights, row.network_sha256, row.loop_filters) in used
            or (row.config, row.sequence, row.network, row.weights, row.qp, row.network_sha256) in adapted
        )
    )
    return StoredTools(rows, found.header, last_run, networks, read_networks(folder), asked.interpolation, updates)


def read_images(folder: Path) -> StoredImages:
    """The end-to-end run of a folder, without what earlier runs added for more images, networks or rates.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    check_not_old(folder)
    found = read_rows(folder / IMAGE_ROWS, ImageRow)
    networks = _networks(folder / IMAGE_NETWORKS)
    last_run = read_last_run(folder / IMAGE_SETTINGS)
    used = {(row.network, row.weights, row.network_sha256) for row in networks}
    formats = last_run.settings.get("formats")
    rates, effort = last_run.settings.get("rates"), last_run.settings.get("effort", 0)
    for key, is_right in (
        ("formats", formats is None or _is_list_of(formats, str)),
        ("rates", rates is None or _is_list_of(rates, int)),
        ("effort", type(effort) is int),
    ):
        _check_setting(folder / IMAGE_SETTINGS, last_run, key, is_right)
    rows = tuple(
        row
        for row in _with_those_on_the_way(folder, IMAGE_ROWS, ImageRow, found)
        if _is_shown(row.image, last_run)
        and (
            (row.setting, row.weights, row.network_sha256) in used and _is_asked(row, rates, effort)
            if row.method in AUTOENCODER_METHODS
            else formats is None or row.method.partition("-")[0] in formats
        )
    )
    return StoredImages(rows, found.header, last_run, networks, read_networks(folder))


def _is_asked(row: ImageRow, rates: Sequence[int] | None, effort: int) -> bool:
    """Whether a row of an autoencoder is at an operating point that was asked for."""
    return row.operating_point is None or (row.effort == effort and (rates is None or row.operating_point in rates))


def read_zoo(folder: Path) -> StoredZoo:
    """The model-zoo run of a folder, its networks in the order of the zoo.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    found = read_rows(folder / ZOO_ROWS, ZooRow)
    last_run = read_last_run(folder / ZOO_SETTINGS)
    names, absent = last_run.settings.get("order", []), last_run.settings.get("absent", {})
    _check_setting(folder / ZOO_SETTINGS, last_run, "order", _is_list_of(names, str))
    is_map = isinstance(absent, dict) and all(isinstance(reason, str) for reason in absent.values())
    _check_setting(folder / ZOO_SETTINGS, last_run, "absent", is_map)
    order = {name: place for place, name in enumerate(names)}
    all_rows = _with_those_on_the_way(folder, ZOO_ROWS, ZooRow, found)
    rows = [row for row in all_rows if _is_shown(row.network, last_run)]
    rows.sort(key=lambda row: order.get(row.network, len(order)))
    return StoredZoo(tuple(rows), found.header, last_run, absent)


def _with_those_on_the_way(folder: Path, name: str, row_type: type[_RowT], found: RowTable[_RowT]) -> Iterator[_RowT]:
    """The rows of a file, then those of units that have not come into it yet."""
    yield from found.rows
    there = {row.key for row in found.rows}
    on_the_way = rows_on_the_way(units_folder(folder, name), row_type, found.header)
    yield from {row.key: row for row in on_the_way if row.key not in there}.values()


def read_networks(folder: Path) -> tuple[NetworkRow, ...]:
    """The networks of all experiments of a folder, with each of their weights.

    Raises:
        InputError: If a file of them cannot be read.
    """
    return tuple(row for name in NETWORK_FILES for row in _networks(folder / name))


def _networks(path: Path) -> tuple[NetworkRow, ...]:
    """The networks of a file; none where a run was cut off before it had coded them."""
    return read_rows(path, NetworkRow).rows if path.exists() else ()


def tool_tables(
    rows: Sequence[ToolRow],
    networks: Sequence[NetworkRow],
    all_networks: Sequence[NetworkRow],
    conventions: Conventions,
    interpolation: Interpolation = "pchip",
    updates: Sequence[UpdateRow] = (),
) -> dict[str, Table]:
    """The tables of a tool-by-tool run in one configuration by file name; BD-rates where there are four QPs.

    Scores of Tables 2 and 3 are averaged over QP 32 and 37 where one of them was run.

    Args:
        rows: The rows.
        networks: The networks of the run, in the order of the tables.
        all_networks: Those that Table 1 has.
        conventions: What the rows were made under.
        interpolation: How BD-rates are computed.
        updates: Of networks that were tuned to sequences.

    Raises:
        InputError: If two rows about the same thing differ, or rows are of several configurations.
    """
    frame = frame_of(_as_shown(rows), ToolRow)
    names = shown_names(row.sequence for row in rows)
    updates = [replace(row, sequence=names.get(row.sequence, row.sequence)) for row in updates]
    results = tool_results(frame, networks)
    shown = tool_results(frame, networks, [qp for qp in results.qps if qp in PAPER_QPS] or results.qps)
    has_curves = len(results.qps) >= MIN_QPS_FOR_BD_RATE and bool(results.sequences)
    savings = sequence_savings(results, interpolation) if has_curves else {}
    common = (YUV_NOTE, *few_qps_note(results, MIN_QPS_FOR_BD_RATE), *tool_notes(conventions, results))
    tables = {
        "table2_psnr": psnr_table(shown, conventions),
        "table3_ssim": ssim_table(shown, conventions),
    }
    if savings:
        notes = (bd_rate_note(results, interpolation), *common)
        tables["bd_rate"] = bd_rate_table(results, savings, interpolation, (TIME_NOTE, *notes))
        if (adapted := adapted_filters_table(results, updates, interpolation, notes)) is not None:
            tables["adapted_filters"] = adapted
    tables["gain_per_qp"] = gain_table(results, common)
    if results.configuration.is_inter:
        tables["gain_per_layer"] = layer_table(results, common)
    tables["complexity"] = complexity_table(results, (TIME_NOTE, *common))
    if savings:
        if coded_variants(results):
            tables["coded_weights"] = weights_table(results, savings, interpolation, notes)
        tables["bd_rate_with_network_bits"] = network_bits_table(results, savings, notes)
        tables["bd_rate_of_mean_curves"] = curve_table(results, interpolation, notes)
        tables["bd_rate_per_sequence"] = sequence_table(results, savings, notes)
    tables["worse"] = worse_table(results, savings, common)
    tables["all_scores"] = all_scores_table(shown, conventions)
    tables["spread_over_sequences"] = sequence_spread_table(results, savings, interpolation, common)
    suffix = configuration_suffix(results.configuration)
    own = {name + suffix: titled(table, results.configuration) for name, table in tables.items()}
    return {"table1_size": size_table(all_networks), **own}


def _as_shown(rows: Sequence[ToolRow]) -> list[ToolRow]:
    """The rows with the names that tables call their sequences by."""
    names = shown_names(row.sequence for row in rows)
    return [row if names[row.sequence] == row.sequence else replace(row, sequence=names[row.sequence]) for row in rows]


def zoo_table(rows: Iterable[ZooRow], absent: Mapping[str, str], *, has_peer: bool) -> Table:
    """The table of a run: one line per network and codec; columns that say nothing are left out."""
    rows = list(rows)
    columns = (
        Column("Network", text=True),
        Column("Weights", text=True),
        Column("Codec", text=True),
        Column("Parameters"),
        Column("Size", "byte"),
        Column("Saving", "%", digits=2),
        Column("Encode", "s", digits=2),
        Column("Decode", "s", digits=2),
        Column("Memory", "MiB", digits=0),
        Column("Accuracy", "%", digits=2),
        Column("AP", "%", digits=2),
        Column("Pixel accuracy", "%", digits=2),
        Column("IoU", digits=4),
        Column("Dice", digits=4),
        Column("Rate", "bpp", digits=4),
        Column("PSNR", "dB", digits=3),
        Column("Fault", text=True),
    )
    body = [_zoo_cells(row) for row in rows]
    body += [(name, f"not here: {reason}", *[None] * (len(columns) - 2)) for name, reason in absent.items()]
    said = [place for place in range(len(columns)) if place < 7 or any(cells[place] for cells in body)]
    shown = tuple(tuple(cells[place] for place in said) for cells in body)
    title = "Model zoo: size, times and quality of coded networks"
    return Table(title, tuple(columns[place] for place in said), shown, tuple(_zoo_notes(rows, has_peer)))


def _zoo_cells(row: ZooRow) -> tuple[Cell, ...]:
    size = row.original_bytes if row.n_bytes is None else row.n_bytes
    saving = None if row.n_bytes is None else 100 * (1 - row.n_bytes / row.original_bytes)
    fault = f"NaN or infinite: {row.fault}" if row.fault else None
    head = (row.network, row.weights, row.coding.label, row.n_parameters, size, saving)
    cost = (row.encode_s, row.decode_s, row.memory_mib)
    scores = (row.accuracy_percent, row.average_precision_percent, row.pixel_accuracy_percent, row.iou, row.dice)
    return (*head, *cost, *scores, row.bpp, row.psnr_db, fault)


def _zoo_notes(rows: Sequence[ZooRow], has_peer: bool) -> list[str]:
    tasks = dict.fromkeys(f"{row.network}: {row.data}." for row in rows if row.data)
    methods = {row.method for row in rows}
    ours = "vvc_nnr: roles, and QPs by the sizes of the weight tensors" if "vvc_nnr" in methods else ""
    theirs = "nncodec 2.1.3: its defaults" if "nncodec" in methods else ""
    codecs = "; ".join(filter(None, (ours, theirs)))
    is_timed = any(row.encode_s is not None for row in rows)
    notes = [
        "Size: bytes of all tensors in their number formats, or of the whole coded file.",
        *(["Times: processor time of one run, one thread."] if is_timed else []),
        *([f"{codecs}."] if codecs else []),
        *(["Calibrated: the smallest file within a loss on other photographs; all candidates timed, memory not taken."]
          if "calibrated" in methods else []),
        *(["Memory: most of the codec's process beyond what it had with the network loaded."]
          if any(row.memory_mib is not None for row in rows) else []),
        *(["Weights random: real layout, but nothing to score."]
          if any(row.weights == "random" for row in rows) else []),
        *tasks,
    ]  # fmt: skip
    if not has_peer:
        notes.append("The reference software was not run: VVC_NNR_PEER names no environment with it.")
    return notes


def _is_shown(name: str, last_run: LastRun) -> bool:
    return last_run.shown is None or name in last_run.shown


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the last tool-by-tool run asked for, checked."""

    configs: tuple[ConfigName, ...]
    qps: tuple[int, ...]
    max_pictures: int | None
    ways: tuple[Way, ...]
    interpolation: Interpolation


def _asked_of_tools(path: Path, last_run: LastRun) -> _Asked:
    ways, interpolations = get_args(Way), get_args(Interpolation)
    settings = last_run.settings
    for key, is_right in (
        ("configs", _is_list_of(settings.get("configs"), str) and set(settings["configs"]) <= set(CONFIGURATIONS)),
        ("qps", _is_list_of(settings.get("qps"), int)),
        ("max_pictures", isinstance(settings.get("max_pictures", "missing"), int | None)),
        ("ways", _is_list_of(settings.get("ways"), str) and set(settings["ways"]) <= set(ways)),
        ("interpolation", settings.get("interpolation") in interpolations),
    ):
        _check_setting(path, last_run, key, is_right)
    return _Asked(
        tuple(settings["configs"]),
        tuple(settings["qps"]),
        settings["max_pictures"],
        tuple(settings["ways"]),
        settings["interpolation"],
    )


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _check_setting(path: Path, last_run: LastRun, key: str, is_right: bool) -> None:
    """Refuses a setting that no run wrote."""
    if not is_right:
        found = repr(last_run.settings[key])[:80] if key in last_run.settings else "is missing"
        raise InputError(f"{path}: {key} {found}: not the settings of such a run; run the experiment again")
