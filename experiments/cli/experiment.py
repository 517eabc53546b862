"""The commands demo and experiment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from tyro.conf import UseAppendAction

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.image_formats import ImageFormat
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags
from vvc_nnr.experiments.cli.kinds import (
    BIT_DEPTH,
    FOLDER,
    NAMES,
    NATURAL,
    NOT_NEGATIVE,
    POSITIVE,
    QP_CANDIDATES,
    QPS,
    THREADS,
    WHOLE_NUMBERS,
    Texts,
    choice,
    choices,
    door,
)
from vvc_nnr.experiments.cli.pictures import EXECUTION_FLAGS, RawFlags, VideoFlags, cache_folder, sources_of
from vvc_nnr.experiments.cli.report import ReportFile, check_asked_report
from vvc_nnr.experiments.pictures import (
    DATA_VARIABLE,
    SmallPictures,
    bundled_patches,
    bundled_sources,
    data_folder,
    default_small_pictures,
    default_sources,
    small_pictures,
)
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.weights import Compression, parse_compressions
from vvc_nnr.experiments.report.write import write_report
from vvc_nnr.experiments.runs.end_to_end import plan_end_to_end, run_end_to_end
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.manifest import ListedPictures, RawFormat, manifest_name, matched_rows, read_manifest
from vvc_nnr.experiments.runs.model_zoo import ZooOptions, plan_model_zoo, run_model_zoo
from vvc_nnr.experiments.runs.tool_by_tool import plan_tool_by_tool, run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.latex import to_latex_page
from vvc_nnr.experiments.tables.spread import SPREAD
from vvc_nnr.experiments.tables.table import Table, to_csv, to_markdown_page
from vvc_nnr.experiments.zoo.codec_process import PEER_VARIABLE
from vvc_nnr.files import temporary_folder
from vvc_nnr.filters.adaptation.options import FreePart
from vvc_nnr.sequences.listing import has_suffix, list_files
from vvc_nnr.sequences.source import SUFFIXES, Source
from vvc_nnr.units import ExecutorOptions

PrintFormat: TypeAlias = Literal["markdown", "csv", "latex"]
"""Format of the printed tables."""
_PRINTED: dict[PrintFormat, Callable[[Sequence[Table]], str]] = {
    "markdown": to_markdown_page,
    "csv": lambda tables: "\n".join(map(to_csv, tables)),
    "latex": to_latex_page,
}

DEMO_TABLES = ("table1_size", "table2_psnr", "table3_ssim", "table4_end_to_end", "gain_per_qp", "bd_rate")


def _compressions_text(compressions: tuple[Compression, ...]) -> str:
    return ",".join(each.text for each in compressions) or "none"


_COMPRESSIONS = door(parse_compressions, "LIST", _compressions_text)
_NETWORK_NAMES = {
    "originals": "original",
    "compressions": "compress",
    "photographs": "calibrate",
    "n_crops": "crops",
}
_NETWORK_KINDS = {"originals": Texts, "compressions": _COMPRESSIONS, "photographs": FOLDER, "n_crops": POSITIVE}
TOOL_FLAGS = Flags(
    ToolOptions,
    names=_NETWORK_NAMES
    | {
        "archs": "arch",
        "layouts": "layout",
        "replacements": "replacement",
        "configs": "config",
        "max_pictures": "pictures",
        "n_threads": "threads",
        "encoder_config": "vtm_config",
        "encoder_arguments": "encoder_argument",
    },
    kinds=_NETWORK_KINDS
    | {
        "networks": NAMES,
        "replacements": Texts,
        "archs": Texts,
        "layouts": Texts,
        "encoder_config": UseAppendAction[tuple[Path, ...]],
        "encoder_arguments": Texts,
        "qps": QPS,
        "qp_candidates": QP_CANDIDATES,
        "configs": door(choices(*CONFIGURATIONS), "NAME,...", ",".join),
        "max_pictures": POSITIVE,
        "n_threads": THREADS,
        "viewer_picture": NATURAL,
        "adapt_free": door(choices(*get_args(FreePart)), "PART,...", ",".join),
        "device": door(choice("cpu", "cuda"), "{cpu,cuda}"),
        "tile": HIDDEN,
    },
)
END_FLAGS = Flags(
    EndToEndOptions,
    names=_NETWORK_NAMES | {"archs": "arch"},
    kinds=_NETWORK_KINDS
    | {
        "networks": NAMES,
        "archs": Texts,
        "formats": door(choices(*get_args(ImageFormat)), "NAME,...", ",".join),
        "stride": POSITIVE,
        "rates": WHOLE_NUMBERS,
        "effort": NATURAL,
    },
)
_PEER = os.environ.get(PEER_VARIABLE, "")
ZOO_FLAGS = Flags(
    ZooOptions,
    names={"rows": "row", "folder": "weights"},
    kinds={"rows": Texts, "folder": FOLDER, "qps": WHOLE_NUMBERS, "max_loss_db": NOT_NEGATIVE},
    converted={"max_loss_db": lambda loss_db: loss_db or None},
    defaults={"peer": _PEER},
)


@dataclass(frozen=True, kw_only=True)
class Experiment(Command):
    """What every experiment takes.

    Attributes:
        out: Folder of results; an unfinished run goes on there.
        format: Format of the printed tables.
        report: Write a report (.html ...) at the end.
        plan: Print the units of work of the whole run as JSON lines, those that are done already among them, with about
            how many seconds each takes, and run nothing.
        execution: Where units of work run; no result depends on it.
    """

    out: Annotated[Path, FOLDER]
    format: PrintFormat = "markdown"
    report: ReportFile = None
    plan: bool = False
    execution: Annotated[ExecutorOptions, EXECUTION_FLAGS.arg] = field(default_factory=ExecutorOptions)

    def run(self) -> Outcome:
        """Prints the plan, runs a share of it, or runs what is missing and prints the tables of all that is there.

        Raises:
            VvcNnrError: If the folder, pictures, networks or options cannot be used, or a program or units fail.
        """
        if self.plan:
            units = self._plan()
            return Outcome("\n".join(map(json.dumps, units)), {"units": units})
        if self.execution.shard is not None:
            return self._run_shard(*self.execution.shard)
        check_asked_report(self.report, self.out)
        tables, pictures = self._run()
        if self.report is not None:
            write_report(self.out, self.report)
        return tables_outcome(tables, pictures, self.format)

    def _run_shard(self, number: int, n_shares: int) -> Outcome:
        if self.report is not None:
            raise InputError("--report: a shard makes no tables; ask for a report in the last run, without --shard")
        self._run()
        said = f"share {number} of {n_shares} is done; a run without --shard makes the tables"
        return Outcome(said, {"shard": [number, n_shares]})

    def _run(self) -> tuple[Mapping[str, Table], str]:
        """The tables by name, and the pictures in words."""
        raise NotImplementedError

    def _plan(self) -> list[dict[str, object]]:
        """The units of work."""
        raise NotImplementedError


_NOT_WITH_DECODED = ("qps", "preset", "sao", "encoder", "encoder_config", "encoder_arguments")
"""What a manifest says, or what is of encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFlags:
    """Pictures decoded elsewhere, instead of coding any here.

    Attributes:
        decoded: A manifest (.tsv), or a pattern of names such as 'dec/{sequence}_qp{qp}.yuv'.
        originals: Beside a pattern: that of the originals, such as 'orig/{sequence}.yuv'.
        streams: Beside a pattern: that of the coded files, whose size counts.
        logs: Beside a pattern: that of the logs of VTM, HM, vvencapp or x265, for the bits.
        original_bit_depth: Beside a pattern: bits per sample of originals that are raw .yuv, 8 to 16.
    """

    decoded: str | None = None
    originals: str | None = None
    streams: str | None = None
    logs: str | None = None
    original_bit_depth: Annotated[int | None, BIT_DEPTH] = None

    def pictures(self, raw: RawFlags, max_pictures: int | None, configs: Sequence[ConfigName]) -> ListedPictures | None:
        """The listed pictures, of the one configuration that is named; None if there are none.

        Raises:
            InputError: If options contradict each other, or what is listed does not fit together.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        patterns = {"--originals": self.originals, "--streams": self.streams, "--logs": self.logs}
        if empty := [flag for flag, text in {"--decoded": self.decoded, **patterns}.items() if text == ""]:
            raise InputError(f"{empty[0]}: is empty; must be a name")
        beside = {**patterns, "--original-bit-depth": self.original_bit_depth}
        given = [flag for flag, value in beside.items() if value is not None]
        is_pattern = self.decoded is not None and "{" in self.decoded and not os.path.exists(self.decoded)
        if given and not is_pattern:
            raise InputError(
                f"{given[0]}: goes beside --decoded with a pattern such as 'dec/{{sequence}}_qp{{qp}}.yuv'"
            )
        if self.decoded is None:
            return None
        if len(configs) > 1:
            raise InputError(f"--config {','.join(configs)}: pictures of --decoded are of one configuration; name it")
        (config,) = configs
        if not is_pattern:
            if raw != RawFlags():
                raise InputError(
                    "--size, --bit-depth, --chroma-format, --fps: are columns of the manifest; give them there"
                )
            path = Path(self.decoded)
            return ListedPictures(read_manifest(path), manifest_name(path), max_pictures, config)
        formats = RawFormat(raw.size, raw.bit_depth, self.original_bit_depth, raw.chroma_format, raw.fps)
        rows = matched_rows(self.decoded, self.originals or "", self.streams or "", self.logs or "", formats)
        return ListedPictures(rows, self.decoded, max_pictures, config)


@dataclass(frozen=True, kw_only=True)
class ToolByTool(Experiment):
    """CNNs in the place of, or after, VVC's in-loop filters: Tables 1 to 3, BD-rate, complexity, times.

    Attributes:
        sequences: Folder or file of pictures, one: a folder has several; default: the data folder, else scikit-image.
        bd_rate: Interpolation of BD-rate.
        cache: Folder of finished encodings.
        options: What is run.
        listed: Pictures decoded elsewhere, instead of coding any here.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    sequences: Path | None = None
    bd_rate: Interpolation = "pchip"
    cache: Annotated[Path, FOLDER] = field(default_factory=cache_folder)
    options: Annotated[ToolOptions, TOOL_FLAGS.arg] = field(default_factory=ToolOptions)
    listed: DecodedFlags = field(default_factory=DecodedFlags)
    raw: RawFlags = field(default_factory=RawFlags)
    video: VideoFlags = field(default_factory=VideoFlags)

    def _plan(self) -> list[dict[str, object]]:
        sources, options, listed, _ = self._chosen()
        units = plan_tool_by_tool(sources, options, cache=self.cache, decoded=listed, execution=self.execution)
        return [unit.plan() for unit in units]

    def _run(self) -> tuple[Mapping[str, Table], str]:
        sources, options, listed, pictures = self._chosen()
        tables = run_tool_by_tool(
            sources,
            self.out,
            options,
            gather_provenance(device=options.device),
            cache=self.cache,
            interpolation=self.bd_rate,
            decoded=listed,
            execution=self.execution,
        )
        return tables, pictures

    def _chosen(self) -> tuple[list[Source], ToolOptions, ListedPictures | None, str]:
        """The sequences, what is run, the decoded pictures if they are listed, and the pictures in words."""
        options = self.options
        listed = self.listed.pictures(self.raw, options.max_pictures, options.configs)
        if listed is None:
            sources, pictures = chosen_sources(self.sequences, self.raw, self.video)
            return sources, options, None, pictures
        self._check_goes_with_decoded()
        pictures = f"{_counted(len(listed.sources))}, decoded elsewhere, of {self.listed.decoded}"
        return listed.sources, replace(options, qps=listed.qps), listed, pictures

    def _check_goes_with_decoded(self) -> None:
        if self.sequences is not None:
            raise InputError("--sequences: does not go with --decoded, which names the originals")
        if self.video != VideoFlags():
            raise InputError("--stream, --allow-damaged: do not go with --decoded")
        plain = ToolOptions()
        alike = {name: getattr(plain, name) for name in _NOT_WITH_DECODED}
        if (flag := TOOL_FLAGS.first_given(replace(plain, **{n: getattr(self.options, n) for n in alike}))) is not None:
            raise InputError(f"{flag}: does not go with --decoded: nothing is encoded, and the manifest has the QPs")


@dataclass(frozen=True, kw_only=True)
class EndToEnd(Experiment):
    """Autoencoders, your own among them, against JPEG, WebP, AVIF, JPEG 2000, JPEG XL: Table 4.

    Attributes:
        images: CIFAR-10 in any of its forms, or a folder of images of any size; default: the data folder, else
            scikit-image.
        count: The first N images.
        options: What is run.
    """

    images: Path | None = None
    count: Annotated[int | None, POSITIVE] = None
    options: Annotated[EndToEndOptions, END_FLAGS.arg] = field(default_factory=EndToEndOptions)

    def _plan(self) -> list[dict[str, object]]:
        with END_FLAGS.as_typed():
            units = plan_end_to_end(self._pictures().images, self.options, execution=self.execution)
        return [unit.plan() for unit in units]

    def _run(self) -> tuple[Mapping[str, Table], str]:
        pictures = self._pictures()
        with END_FLAGS.as_typed():
            tables = run_end_to_end(
                pictures.images, pictures.names, self.out, self.options, gather_provenance(), execution=self.execution
            )
        return tables, pictures.origin if self.images is not None else f"{pictures.origin}, of {default_origin()}"

    def _pictures(self) -> SmallPictures:
        found = default_small_pictures() if self.images is None else small_pictures(self.images)
        return found.first(self.count)


@dataclass(frozen=True, kw_only=True)
class ModelZoo(Experiment):
    """Networks of many kinds and their tasks before and after coding, the reference software beside.

    Attributes:
        options: What is run.
    """

    options: Annotated[ZooOptions, ZOO_FLAGS.arg] = field(default_factory=lambda: ZooOptions(peer=_PEER))

    def _run(self) -> tuple[Mapping[str, Table], str]:
        folder = self.options.folder
        if folder is not None and not folder.is_dir():
            raise InputError(f"--weights {folder}: no such folder")
        return run_model_zoo(self.out, self.options, gather_provenance(), self.execution), default_origin()

    def _plan(self) -> list[dict[str, object]]:
        return [unit.plan() for unit in plan_model_zoo(self.options, self.execution)]


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Run both use cases on pictures inside scikit-image and print the paper's four tables.

    Attributes:
        out: Keep rows, tables and plots in this folder.
    """

    out: Annotated[Path | None, FOLDER] = None

    def run(self) -> Outcome:
        """Runs them, in a folder that goes unless one is named.

        Raises:
            VvcNnrError: If the folder cannot be used.
        """
        if self.out is not None:
            return _demo_in(self.out, f"Rows, tables and plots: {self.out}")
        with temporary_folder() as folder:
            return _demo_in(folder, "Run it with --out FOLDER to keep rows, tables and plots.")


def _demo_in(folder: Path, farewell: str) -> Outcome:
    provenance = gather_provenance()
    tables = run_tool_by_tool(bundled_sources(), folder, ToolOptions(), provenance)
    patches = bundled_patches()
    tables |= run_end_to_end(patches.images, patches.names, folder, EndToEndOptions(formats=("jpeg",)), provenance)
    pictures = f"five photographs inside scikit-image for Tables 1 to 3, {patches.origin} for Table 4"
    outcome = tables_outcome({name: tables[name] for name in DEMO_TABLES}, pictures, "markdown")
    return Outcome(f"{outcome.text}\n{farewell}", outcome.data)


def chosen_sources(sequences: Path | None, raw: RawFlags, video: VideoFlags) -> tuple[list[Source], str]:
    """The sequences of a folder or file, or the default ones, and where they come from in words."""
    sources = default_sources() if sequences is None else sources_of(sequences, raw, video)
    origin = default_origin() if sequences is None else str(sequences)
    if sequences is not None and sequences.is_dir():
        left_out = list_files(sequences, has_suffix(SUFFIXES)).left_out
        origin += f" (left out: {left_out})" if left_out else ""
    return sources, f"{_counted(len(sources))} of {origin}"


def _counted(n_sequences: int) -> str:
    return f"{n_sequences} sequence{'' if n_sequences == 1 else 's'}"


def default_origin() -> str:
    """Where the pictures come from when the user names none."""
    folder = data_folder()
    return f"the data folder {folder}" if folder else f"scikit-image, since there is no data folder ({DATA_VARIABLE})"


def tables_outcome(tables: Mapping[str, Table], pictures: str, format: PrintFormat) -> Outcome:
    """The tables in a format for a person, and as data for a script."""
    printed = [table for name, table in tables.items() if not name.startswith(SPREAD)]
    text = _PRINTED[format](printed).rstrip()
    if format == "markdown":
        has_more = len(printed) < len(tables)
        more = (
            f"Standard deviations and 95 % intervals: {SPREAD}_... in the folder, reports and --json. "
            if has_more
            else ""
        )
        text += f"\n\n{more}Pictures: {pictures}."
    return Outcome(text, {"pictures": pictures, "tables": {name: _table_data(table) for name, table in tables.items()}})


def _table_data(table: Table) -> dict[str, object]:
    heads = [column.title for column in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows]
    remarks = {"remarks": list(table.remarks)} if table.remarks else {}
    return {"title": table.title, **remarks, "rows": rows, "notes": list(table.notes)}
