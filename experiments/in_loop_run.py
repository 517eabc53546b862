"""The in-loop experiment from sources to a folder of results; run again, it goes on where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.damaged_originals import damage_note
from vvc_nnr.experiments.in_loop import NETWORK_METHODS, InLoopExperiment, InLoopOptions
from vvc_nnr.experiments.in_loop_rows import InLoopRow, NetworkRow
from vvc_nnr.experiments.in_loop_stored import IN_LOOP_FILES, IN_LOOP_NETWORKS, read_in_loop
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.planned import Plan, sequence_plan
from vvc_nnr.experiments.provenance import SAO_NOTES, Conventions, Provenance
from vvc_nnr.experiments.results import make_folder, write_results
from vvc_nnr.experiments.run_folder import open_run
from vvc_nnr.experiments.settings import InputDigests, RunIdentity, source_digests
from vvc_nnr.experiments.tool_by_tool import LOOP_FILTER_SETS
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.experiments.viewer_pictures import FOLDER, write_index
from vvc_nnr.filters.decisions.file import VERSION
from vvc_nnr.sequences.source import Source
from vvc_nnr.temporary import remove_leftovers

RATE = "bits of the coded pictures and of their decisions; the network's bits only where a table says so"
SETTLED = (
    "preset", "psnr_peak", "precision", "sao", "encoder", "encoder_config", "encoder_identity", "decisions_version",
    "originals", "inference",
)  # fmt: skip
"""What has to be the same in every run in one folder; all else adds rows, or changes none."""


def run_in_loop(
    sources: Sequence[Source],
    folder: Path,
    options: InLoopOptions,
    provenance: Provenance,
    *,
    cache: Path | None = None,
    interpolation: Interpolation = "pchip",
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and the viewer's pictures there.

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
        InputError: If a source, a network or the folder cannot be used.
        BitstreamError: If a source or a network is damaged.
        UnsupportedError: If a source has a format that VVC intra coding here does not take.
        ExternalToolError: If the encoder fails.
    """
    pictures = folder / FOLDER
    experiment = InLoopExperiment(options, cache or folder / "cache", pictures)
    coding = f"{SAO_NOTES[options.sao]}. All intra, {experiment.encoder}, preset {options.preset}"
    originals = damage_note(sources, options.max_pictures)
    conventions = Conventions(psnr_peak=options.psnr_peak, rate=RATE, loop_filters=coding, originals=originals)
    settings = asdict(options) | {
        "encoder_config": str(options.encoder_config or ""),
        "encoder_identity": experiment.encoder,
        "decisions_version": VERSION,
        "inference": experiment.inference,
        "interpolation": interpolation,
        "sequences": [source.name for source in sources],
    }
    settings |= {"originals": originals} if originals else {}
    free = [key for key in settings if key not in SETTLED]
    inputs = source_digests(sources, options.max_pictures)
    identity = RunIdentity(settings, free, inputs, options.max_pictures)
    provenance = replace(provenance, inference=experiment.inference)
    plan = _plan(inputs, options.qps, experiment.networks)
    with open_run(folder, IN_LOOP_FILES, InLoopRow, identity, plan, provenance, conventions.to_header()) as run:
        remove_leftovers(make_folder(pictures))
        header = provenance.to_header() | conventions.to_header()
        _write_networks(folder / IN_LOOP_NETWORKS, experiment.networks, header)
        experiment.run(sources, run.writer)
        stored = read_in_loop(folder)
        write_index(pictures, stored.rows, options.viewer_picture)
        tables = stored.tables()
        write_results(folder, tables, {})
        run.end(len({row.key for row in stored.rows}))
    return tables


def _plan(inputs: InputDigests, qps: Sequence[int], networks: Sequence[NetworkRow]) -> Plan:
    replaces = any(row.loop_filters == "none" for row in networks)
    n_per_picture = (len(LOOP_FILTER_SETS) if replaces else 1) + len(NETWORK_METHODS) * len(networks)
    n_pictures = {name: len(digests) for name, digests in inputs.items()}
    return sequence_plan(n_pictures, qps, [row.network for row in networks], n_per_picture)


def _write_networks(path: Path, networks: Sequence[NetworkRow], header: Mapping[str, str]) -> None:
    """Writes the networks of this run in the place of those of an earlier one."""
    path.unlink(missing_ok=True)
    with RowWriter(path, NetworkRow, header) as writer:
        writer.append(networks)
