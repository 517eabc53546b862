"""One experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.damaged_originals import damage_note
from vvc_nnr.experiments.end_to_end import EndToEndExperiment, EndToEndOptions
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.model_zoo import ROWS, ZooOptions, chosen_rows, run_zoo
from vvc_nnr.experiments.provenance import SAO_NOTES, Conventions, Provenance
from vvc_nnr.experiments.results import end_to_end_figures, make_folder, tool_figures, write_results
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow, ZooRow
from vvc_nnr.experiments.settings import picture_digests, settle_settings, source_digests, write_json
from vvc_nnr.experiments.stored import (
    IMAGE_ROWS,
    IMAGE_SETTINGS,
    SIZE_FILES,
    TOOL_ROWS,
    TOOL_SETTINGS,
    ZOO_ROWS,
    ZOO_SETTINGS,
    read_images,
    read_tools,
    read_zoo,
)
from vvc_nnr.experiments.tool_by_tool import ToolExperiment, ToolOptions
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.sequences.source import Source

FREE_TOOL_SETTINGS = ("qps", "max_pictures", "tile", "device", "backend", "n_threads", "interpolation")
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
    originals = damage_note(sources, options.max_pictures)
    conventions = Conventions(psnr_peak=options.psnr_peak, loop_filters=SAO_NOTES[options.sao], originals=originals)
    experiment = ToolExperiment(options, cache or make_folder(folder) / "cache")
    own = {
        "networks_sha256": experiment.networks_sha256,
        "encoder": experiment.encoder,
        "interpolation": interpolation,
    }
    settings = asdict(options) | own | {"encoder_config": str(options.encoder_config or "")}
    settings |= {"originals": originals} if originals else {}
    provenance = replace(provenance, inference=experiment.inference)
    settle_settings(
        make_folder(folder) / TOOL_SETTINGS, settings, source_digests(sources), provenance, free=FREE_TOOL_SETTINGS
    )
    header = provenance.to_header() | conventions.to_header()
    with RowWriter(folder / TOOL_ROWS, ToolRow, header) as writer:
        experiment.run(sources, writer)
    _write_sizes(folder / SIZE_FILES[0], experiment.sizes, header)
    stored = read_tools(folder)
    tables = stored.tables()
    write_results(folder, tables, tool_figures(stored.rows))
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
    settle_settings(make_folder(folder) / IMAGE_SETTINGS, settings, inputs, provenance, free=())
    header = provenance.to_header() | conventions.to_header()
    with RowWriter(folder / IMAGE_ROWS, ImageRow, header) as writer:
        experiment.run(pictures, names, writer)
    _write_sizes(folder / SIZE_FILES[1], experiment.sizes, header)
    stored = read_images(folder)
    tables = stored.tables()
    write_results(folder, tables, end_to_end_figures(stored.rows))
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
    header = provenance.to_header() | Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    chosen = chosen_rows(options)
    with RowWriter(make_folder(folder) / ZOO_ROWS, ZooRow, header) as writer:
        absent = run_zoo(chosen, options, writer)
    settings = {"qps": list(options.qps), "peer": bool(options.peer), "absent": absent}
    shown = [row.name for row in chosen]
    content = {"settings": settings, "provenance": provenance.to_header(), "shown": shown}
    write_json(folder / ZOO_SETTINGS, content)
    tables = read_zoo(folder).tables()
    write_results(folder, tables, {})
    return tables


def _write_sizes(path: Path, sizes: Sequence[SizeRow], header: Mapping[str, str]) -> None:
    path.unlink(missing_ok=True)
    with RowWriter(path, SizeRow, header) as writer:
        writer.append(sizes)
