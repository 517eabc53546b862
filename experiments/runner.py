"""One experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.vvc import encoder_version
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.end_to_end import EndToEndExperiment, EndToEndOptions
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.provenance import Conventions, Provenance
from vvc_nnr.experiments.results import (
    end_to_end_figures,
    end_to_end_tables,
    make_folder,
    tool_figures,
    tool_tables,
    write_results,
)
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow
from vvc_nnr.experiments.tool_by_tool import ToolExperiment, ToolOptions
from vvc_nnr.experiments.tsv import RowWriter, read_rows
from vvc_nnr.files import AtomicFile
from vvc_nnr.sequences.source import Source

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
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and plots there.

    Args:
        sources: The sequences.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.
        cache: Folder of finished encodings, default `cache` in the results' folder.
        interpolation: How BD-rate draws its curves.

    Returns:
        The tables by file name.

    Raises:
        InputError: If a source or the folder cannot be used.
        BitstreamError: If a source is damaged.
        UnsupportedError: If a source has a format that VVC intra coding here does not take.
        ExternalToolError: If the encoder fails.
    """
    conventions = Conventions(psnr_peak=options.psnr_peak)
    experiment = ToolExperiment(options, cache or make_folder(folder) / "cache")
    settings = asdict(options) | {"networks_sha256": experiment.networks_sha256, "encoder": encoder_version()}
    free = ("qps", "max_pictures", "tile", "device", "n_threads")
    _settle_options(make_folder(folder) / "tool_by_tool.json", settings, provenance, free=free)
    header = provenance.to_header() | conventions.to_header()
    path = folder / "tool_by_tool.tsv"
    with RowWriter(path, ToolRow, header) as writer:
        experiment.run(sources, writer)
    wanted = {source.name for source in sources}
    rows = [row for row in read_rows(path, ToolRow).rows if row.sequence in wanted and row.qp in set(options.qps)]
    sizes = _write_sizes(folder / "sizes_tool_by_tool.tsv", experiment.sizes, header)
    tables = tool_tables(rows, sizes, conventions, interpolation)
    write_results(folder, tables, tool_figures(rows))
    return tables


def run_end_to_end(
    pictures: NDArray[np.uint8],
    names: Sequence[str],
    folder: Path,
    options: EndToEndOptions,
    provenance: Provenance,
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and a plot there.

    Args:
        pictures: uint8 RGB (N, H, W, 3), sides multiples of 4.
        names: One per picture.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.

    Returns:
        The tables by file name.

    Raises:
        InputError: If a network or the folder cannot be used.
    """
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE)
    experiment = EndToEndExperiment(options)
    settings = asdict(options) | {"networks_sha256": experiment.networks_sha256}
    _settle_options(make_folder(folder) / "end_to_end.json", settings, provenance, free=())
    header = provenance.to_header() | conventions.to_header()
    path = folder / "end_to_end.tsv"
    with RowWriter(path, ImageRow, header) as writer:
        experiment.run(pictures, names, writer)
    wanted = set(names)
    rows = [row for row in read_rows(path, ImageRow).rows if row.image in wanted]
    sizes = _write_sizes(folder / "sizes_end_to_end.tsv", experiment.sizes, header)
    tables = end_to_end_tables(rows, sizes, conventions)
    write_results(folder, tables, end_to_end_figures(rows))
    return tables


def _write_sizes(path: Path, sizes: Sequence[SizeRow], header: Mapping[str, str]) -> Sequence[SizeRow]:
    path.unlink(missing_ok=True)
    with RowWriter(path, SizeRow, header) as writer:
        writer.append(sizes)
    return sizes


def _settle_options(
    path: Path, settings: Mapping[str, object], provenance: Provenance, *, free: Collection[str]
) -> None:
    """Writes the resolved settings beside the results, after holding them against those of an earlier run."""
    wanted = json.loads(json.dumps(settings, default=list))
    old = _old_settings(path)
    different = [key for key in wanted if old and key not in free and old.get(key) != wanted[key]]
    if old is not None and different:
        detail = ", ".join(f"{key} {old.get(key)!r} there, {wanted[key]!r} now" for key in different)
        raise InputError(f"{path.parent}: holds results of other settings ({detail}); choose another folder")
    text = json.dumps({"settings": wanted, "provenance": provenance.to_header()}, indent=2)
    with AtomicFile(path) as file:
        file.write(text.encode() + b"\n")


def _old_settings(path: Path) -> dict[str, object] | None:
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no settings of an earlier run: {error}; choose another folder") from error
