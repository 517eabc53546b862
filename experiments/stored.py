"""What a folder holds of each experiment: tables made from its rows and settings alone.

The experiments print these tables when they end, and the report shows them later, so both say what the rows say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.model_zoo import ROWS, zoo_table
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.results import MIN_QPS_FOR_BD_RATE, end_to_end_tables, tool_tables
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow, ZooRow
from vvc_nnr.experiments.run_folder import RunFiles
from vvc_nnr.experiments.settings import LastRun, read_last_run
from vvc_nnr.experiments.tool_jvet import tool_jvet_tables
from vvc_nnr.experiments.tsv import read_rows

TOOL_ROWS, TOOL_SETTINGS = "tool_by_tool.tsv", "tool_by_tool.json"
IMAGE_ROWS, IMAGE_SETTINGS = "end_to_end.tsv", "end_to_end.json"
ZOO_ROWS, ZOO_SETTINGS = "model_zoo.tsv", "model_zoo.json"
TOOL_FILES, IMAGE_FILES, ZOO_FILES = (
    RunFiles(
        TOOL_ROWS,
        TOOL_SETTINGS,
        ("table2_psnr", "table3_ssim", "gain_per_qp", "bd_rate", "bd_rate_per_sequence", "rd_class_*", "rd_overall"),
    ),
    RunFiles(IMAGE_ROWS, IMAGE_SETTINGS, ("table4_end_to_end", "end_to_end")),
    RunFiles(ZOO_ROWS, ZOO_SETTINGS, ("model_zoo",)),
)
SIZE_FILES = ("sizes_tool_by_tool.tsv", "sizes_end_to_end.tsv")
"""Table 1 has the networks of both experiments where both are in one folder."""

Header: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredTools:
    """A tool-by-tool run.

    Attributes:
        rows: Those that the last run asked for.
        sizes: The networks of the folder.
        header: Where the rows come from, and their conventions.
        last_run: What the last run asked for.
        interpolation: How its BD-rate is computed.
    """

    rows: tuple[ToolRow, ...]
    sizes: tuple[SizeRow, ...]
    header: Header
    last_run: LastRun
    interpolation: Interpolation

    def tables(self) -> dict[str, Table]:
        """The tables by file name."""
        return tool_tables(self.rows, self.sizes, Conventions.from_header(self.header), self.interpolation)

    def jvet_tables(self) -> dict[str, Table]:
        """BD-rates in the layout of JVET by file name, empty where there are too few QPs for any."""
        if len({row.qp for row in self.rows}) < MIN_QPS_FOR_BD_RATE:
            return {}
        return tool_jvet_tables(self.rows, Conventions.from_header(self.header), self.interpolation)


@dataclass(frozen=True, slots=True)
class StoredImages:
    """An end-to-end run; attributes as those of `StoredTools`."""

    rows: tuple[ImageRow, ...]
    sizes: tuple[SizeRow, ...]
    header: Header
    last_run: LastRun

    def tables(self) -> dict[str, Table]:
        """The tables by file name."""
        return end_to_end_tables(self.rows, self.sizes, Conventions.from_header(self.header))


@dataclass(frozen=True, slots=True)
class StoredZoo:
    """A model-zoo run; `absent` has name and reason of networks that could not run."""

    rows: tuple[ZooRow, ...]
    absent: Mapping[str, str]
    header: Header
    last_run: LastRun

    def tables(self) -> dict[str, Table]:
        """The table by its file name."""
        has_peer = any(row.method == "nncodec" for row in self.rows)
        return {"model_zoo": zoo_table(self.rows, self.absent, has_peer=has_peer)}


def read_tools(folder: Path) -> StoredTools:
    """The tool-by-tool run of a folder.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    found = read_rows(folder / TOOL_ROWS, ToolRow)
    last_run = read_last_run(folder / TOOL_SETTINGS)
    interpolation = _interpolation(folder / TOOL_SETTINGS, last_run)
    rows = _asked_for(found.rows, last_run)
    return StoredTools(rows, read_sizes(folder), found.header, last_run, interpolation)


def read_images(folder: Path) -> StoredImages:
    """The end-to-end run of a folder.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    found = read_rows(folder / IMAGE_ROWS, ImageRow)
    last_run = read_last_run(folder / IMAGE_SETTINGS)
    rows = tuple(row for row in found.rows if _is_shown(row.image, last_run))
    return StoredImages(rows, read_sizes(folder), found.header, last_run)


def read_zoo(folder: Path) -> StoredZoo:
    """The model-zoo run of a folder, its networks in the order of the zoo.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    found = read_rows(folder / ZOO_ROWS, ZooRow)
    last_run = read_last_run(folder / ZOO_SETTINGS)
    order = {row.name: place for place, row in enumerate(ROWS)}
    rows = [row for row in found.rows if _is_shown(row.network, last_run)]
    rows.sort(key=lambda row: order.get(row.network, len(order)))
    absent = last_run.settings.get("absent", {})
    if not isinstance(absent, dict) or not all(isinstance(reason, str) for reason in absent.values()):
        raise InputError(f"{folder / ZOO_SETTINGS}: absent {absent!r}: a reason for each name is wanted")
    return StoredZoo(tuple(rows), absent, found.header, last_run)


def read_sizes(folder: Path) -> tuple[SizeRow, ...]:
    """The sizes of all networks of a folder.

    Raises:
        InputError: If a file of sizes cannot be read.
    """
    present = [folder / name for name in SIZE_FILES if (folder / name).exists()]
    return tuple(row for path in present for row in read_rows(path, SizeRow).rows)


def _asked_for(rows: Sequence[ToolRow], last_run: LastRun) -> tuple[ToolRow, ...]:
    """The rows of the last run, without those that earlier ones added for more sequences, QPs or pictures."""
    qps, n_pictures = last_run.settings.get("qps"), last_run.settings.get("max_pictures")
    return tuple(
        row
        for row in rows
        if _is_shown(row.sequence, last_run)
        and (not isinstance(qps, list) or row.qp in qps)
        and (not isinstance(n_pictures, int) or row.picture < n_pictures)
    )


def _is_shown(name: str, last_run: LastRun) -> bool:
    return last_run.shown is None or name in last_run.shown


def _interpolation(path: Path, last_run: LastRun) -> Interpolation:
    found = last_run.settings.get("interpolation", "pchip")
    for known in get_args(Interpolation):
        if found == known:
            return found  # type: ignore[no-any-return]
    raise InputError(f"{path}: interpolation {found!r}: must be one of {', '.join(get_args(Interpolation))}")
