"""One experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.jpeg import jpeg_version
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.end_to_end import EndToEndExperiment, EndToEndOptions
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.model_zoo import ROWS, ZooOptions, chosen_rows, run_zoo, zoo_inputs
from vvc_nnr.experiments.planned import Plan, sequence_plan
from vvc_nnr.experiments.provenance import SAO_NOTES, Conventions, Provenance
from vvc_nnr.experiments.results import end_to_end_figures, tool_figures, write_results
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow, ZooRow
from vvc_nnr.experiments.run_folder import open_run
from vvc_nnr.experiments.settings import RunIdentity, picture_digests, source_digests
from vvc_nnr.experiments.stored import (
    IMAGE_FILES,
    SIZE_FILES,
    TOOL_FILES,
    ZOO_FILES,
    read_images,
    read_tools,
    read_zoo,
)
from vvc_nnr.experiments.tool_by_tool import LOOP_FILTER_SETS, NETWORK_OF, ToolExperiment, ToolOptions
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
    conventions = Conventions(psnr_peak=options.psnr_peak, loop_filters=SAO_NOTES[options.sao])
    experiment = ToolExperiment(options, cache or folder / "cache")
    own = {
        "networks_sha256": experiment.networks_sha256,
        "encoder": experiment.encoder,
        "inference": experiment.inference,
        "interpolation": interpolation,
    }
    settings = asdict(options) | own | {"encoder_config": str(options.encoder_config or "")}
    inputs = source_digests(sources, options.max_pictures)
    identity = RunIdentity(settings, FREE_TOOL_SETTINGS, inputs, options.max_pictures)
    provenance = replace(provenance, inference=experiment.inference)
    n_pictures = {name: len(digests) for name, digests in inputs.items()}
    n_per_picture = len(LOOP_FILTER_SETS) + 2 * len(NETWORK_OF)
    plan = sequence_plan(n_pictures, options.qps, experiment.networks_sha256, n_per_picture)
    with open_run(folder, TOOL_FILES, ToolRow, identity, plan, provenance, conventions.to_header()) as run:
        experiment.run(sources, run.writer)
        _write_sizes(folder / SIZE_FILES[0], experiment.sizes, provenance.to_header() | conventions.to_header())
        stored = read_tools(folder)
        tables = stored.tables()
        write_results(folder, tables, tool_figures(stored.rows))
        run.end(len({row.key for row in stored.rows}))
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
    own = {"networks_sha256": experiment.networks_sha256, "jpeg_encoder": jpeg_version()}
    identity = RunIdentity(asdict(options) | own, (), picture_digests(pictures, names))
    plan = Plan({"images": tuple(names), "networks": tuple(experiment.networks_sha256)})
    with open_run(folder, IMAGE_FILES, ImageRow, identity, plan, provenance, conventions.to_header()) as run:
        experiment.run(pictures, names, run.writer)
        _write_sizes(folder / SIZE_FILES[1], experiment.sizes, provenance.to_header() | conventions.to_header())
        stored = read_images(folder)
        tables = stored.tables()
        write_results(folder, tables, end_to_end_figures(stored.rows))
        run.end(len({row.key for row in stored.rows}))
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
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE)
    chosen = chosen_rows(options)
    settings: dict[str, object] = {"qps": list(options.qps), "peer": bool(options.peer)}
    identity = RunIdentity(settings, ("qps", "peer", "absent"), zoo_inputs(options.folder))
    plan = Plan({"networks": tuple(row.name for row in chosen)})
    with open_run(folder, ZOO_FILES, ZooRow, identity, plan, provenance, conventions.to_header()) as run:
        absent = run_zoo(chosen, options, run.writer)
        run = run.noting({"absent": absent})
        stored = read_zoo(folder)
        tables = stored.tables()
        write_results(folder, tables, {})
        found = {row.network for row in stored.rows}
        here = tuple(row.name for row in chosen if row.name in found or row.name not in absent)
        run.end(len({row.key for row in stored.rows}), Plan({"networks": here}))
    return tables


def _write_sizes(path: Path, sizes: Sequence[SizeRow], header: Mapping[str, str]) -> None:
    path.unlink(missing_ok=True)
    with RowWriter(path, SizeRow, header) as writer:
        writer.append(sizes)
