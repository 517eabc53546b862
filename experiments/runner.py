"""One experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.end_to_end import EndToEndExperiment, EndToEndOptions
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.model_zoo import ROWS, ZooOptions, chosen_rows, run_zoo, zoo_table
from vvc_nnr.experiments.provenance import SAO_NOTES, Conventions, Provenance
from vvc_nnr.experiments.results import (
    end_to_end_figures,
    end_to_end_tables,
    make_folder,
    tool_figures,
    tool_tables,
    write_results,
)
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow, ZooRow
from vvc_nnr.experiments.settings import picture_digests, settle_settings, source_digests
from vvc_nnr.experiments.tool_by_tool import ToolExperiment, ToolOptions
from vvc_nnr.experiments.tsv import RowWriter, read_rows
from vvc_nnr.sequences.source import Source

SIZE_FILES = ("sizes_tool_by_tool.tsv", "sizes_end_to_end.tsv")
"""Table 1 has the networks of both experiments where both are in one folder."""
FREE_TOOL_SETTINGS = ("qps", "max_pictures", "tile", "device", "backend", "n_threads")
"""What may change from run to run in one folder: more rows come of it, or the same ones."""
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
    conventions = Conventions(psnr_peak=options.psnr_peak, loop_filters=SAO_NOTES[options.sao])
    experiment = ToolExperiment(options, cache or make_folder(folder) / "cache")
    own = {"networks_sha256": experiment.networks_sha256, "encoder": experiment.encoder}
    settings = asdict(options) | own | {"encoder_config": str(options.encoder_config or "")}
    settings_path = make_folder(folder) / "tool_by_tool.json"
    provenance = replace(provenance, inference=experiment.inference)
    settle_settings(settings_path, settings, source_digests(sources), provenance, free=FREE_TOOL_SETTINGS)
    header = provenance.to_header() | conventions.to_header()
    path = folder / "tool_by_tool.tsv"
    with RowWriter(path, ToolRow, header) as writer:
        experiment.run(sources, writer)
    rows = _asked_for(read_rows(path, ToolRow).rows, sources, options)
    sizes = _write_sizes(folder / SIZE_FILES[0], experiment.sizes, header)
    tables = tool_tables(rows, sizes, conventions, interpolation)
    write_results(folder, tables, tool_figures(rows))
    return tables


def run_end_to_end(
    pictures: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    folder: Path,
    options: EndToEndOptions,
    provenance: Provenance,
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and a plot there.

    Args:
        pictures: RGB pictures, uint8 (H, W, 3) each, sides multiples of 4.
        names: One per picture.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.

    Returns:
        The tables by file name.

    Raises:
        InputError: If a network, a picture or the folder cannot be used.
    """
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE)
    experiment = EndToEndExperiment(options)
    settings = asdict(options) | {"networks_sha256": experiment.networks_sha256}
    inputs = picture_digests(pictures, names)
    settle_settings(make_folder(folder) / "end_to_end.json", settings, inputs, provenance, free=())
    header = provenance.to_header() | conventions.to_header()
    path = folder / "end_to_end.tsv"
    with RowWriter(path, ImageRow, header) as writer:
        experiment.run(pictures, names, writer)
    wanted = set(names)
    rows = [row for row in read_rows(path, ImageRow).rows if row.image in wanted]
    sizes = _write_sizes(folder / SIZE_FILES[1], experiment.sizes, header)
    tables = end_to_end_tables(rows, sizes, conventions)
    write_results(folder, tables, end_to_end_figures(rows))
    return tables


def run_model_zoo(folder: Path, options: ZooOptions, provenance: Provenance) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows and table there.

    Args:
        folder: Where the results are and go.
        options: What to run.
        provenance: Where this run comes from.

    Returns:
        The table by its file name.

    Raises:
        InputError: If there is no such row, or weights, pictures or the folder cannot be used.
        BitstreamError: If weights or pictures are damaged.
        ExternalToolError: If a codec's process fails.
    """
    known = [row.name for row in ROWS]
    unknown = [name for name in options.rows if name not in known]
    if unknown:
        raise InputError(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    path = make_folder(folder) / "model_zoo.tsv"
    header = provenance.to_header() | Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    with RowWriter(path, ZooRow, header) as writer:
        absent = run_zoo(chosen_rows(options), options, writer)
    wanted = {row.name for row in chosen_rows(options)}
    rows = [row for row in read_rows(path, ZooRow).rows if row.network in wanted]
    order = {name: place for place, name in enumerate(known)}
    rows.sort(key=lambda row: order[row.network])
    tables = {"model_zoo": zoo_table(rows, absent, has_peer=bool(options.peer))}
    write_results(folder, tables, {})
    return tables


def _asked_for(rows: Sequence[ToolRow], sources: Sequence[Source], options: ToolOptions) -> list[ToolRow]:
    """The rows of this run, without those that earlier runs added for more sequences, QPs or pictures."""
    names, qps = {source.name for source in sources}, set(options.qps)
    return [
        row
        for row in rows
        if row.sequence in names
        and row.qp in qps
        and (options.max_pictures is None or row.picture < options.max_pictures)
    ]


def _write_sizes(path: Path, sizes: Sequence[SizeRow], header: Mapping[str, str]) -> list[SizeRow]:
    """Writes the sizes, and returns them with those of the other experiment in the folder."""
    path.unlink(missing_ok=True)
    with RowWriter(path, SizeRow, header) as writer:
        writer.append(sizes)
    present = [path.with_name(name) for name in SIZE_FILES if path.with_name(name).exists()]
    return [row for each in present for row in read_rows(each, SizeRow).rows]
