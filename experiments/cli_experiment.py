"""The commands demo and experiment."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import (
    Commands,
    Outcome,
    add_command,
    add_group,
    positive,
    weight_bits,
    whole_number,
)
from vvc_nnr.experiments.cli_in_loop import add_in_loop
from vvc_nnr.experiments.cli_report import add_report_option, check_asked_report, write_asked_report
from vvc_nnr.experiments.cli_sweep import add_sweep_options, sweep_settings
from vvc_nnr.experiments.cli_tables import add_format_option, chosen_sources, default_origin, tables_outcome
from vvc_nnr.experiments.end_to_end import NETWORKS, EndToEndOptions
from vvc_nnr.experiments.model_zoo import MAX_LOSS_DB, OUR_QPS, ZooOptions
from vvc_nnr.experiments.pictures import (
    bundled_patches,
    bundled_sources,
    default_small_pictures,
    small_pictures,
)
from vvc_nnr.experiments.provenance import gather_provenance
from vvc_nnr.experiments.runner import run_end_to_end, run_model_zoo, run_tool_by_tool
from vvc_nnr.experiments.tool_by_tool import NETWORK_OF, ToolOptions
from vvc_nnr.experiments.zoo.codec_process import PEER_VARIABLE
from vvc_nnr.temporary import temporary_folder

DEMO_TABLES = ("table1_size", "table2_psnr", "table3_ssim", "table4_end_to_end", "gain_per_qp", "bd_rate")


def add_commands(commands: Commands) -> None:
    """Adds the two commands."""
    demo = add_command(
        commands,
        "demo",
        "run both use cases on pictures inside scikit-image and print the paper's four tables",
        "vvc-nnr demo --out demo_results",
        _demo,
    )
    demo.add_argument("--out", type=Path, help="keep rows, tables and plots in this folder")
    kinds = add_group(
        commands,
        "experiment",
        "run an experiment and print its tables",
        "vvc-nnr experiment tool-by-tool --out results/",
    )
    _add_tool_by_tool(kinds)
    add_in_loop(kinds)
    _add_end_to_end(kinds)
    _add_model_zoo(kinds)


def _add_tool_by_tool(kinds: Commands) -> None:
    tool = add_command(
        kinds,
        "tool-by-tool",
        "a CNN in the place of, or after, VVC's in-loop filters: Tables 1 to 3 and BD-rate",
        "vvc-nnr experiment tool-by-tool --sequences jvet/ --pictures 4 --out results/",
        _tool_by_tool,
    )
    tool.add_argument("--out", type=Path, required=True, help="folder of results; an unfinished run goes on there")
    tool.add_argument("--replacement", default=NETWORK_OF["none"], help="network instead of the in-loop filters")
    tool.add_argument("--postfilter", default=NETWORK_OF["all"], help="network after all in-loop filters")
    add_sweep_options(tool, preset="faster")
    _add_common(tool)


def _add_end_to_end(kinds: Commands) -> None:
    end = add_command(
        kinds,
        "end-to-end",
        "a CNN autoencoder against JPEG: Table 4",
        "vvc-nnr experiment end-to-end --images cifar-10-python.tar.gz --count 1000 --out results/",
        _end_to_end,
    )
    end.add_argument("--out", type=Path, required=True, help="folder of results; an unfinished run goes on there")
    end.add_argument(
        "--images",
        type=Path,
        help="CIFAR-10 in any of its forms, or a folder of images; default: the data folder, else scikit-image",
    )
    end.add_argument("--count", type=positive, metavar="N", help="the first N images")
    end.add_argument("--networks", nargs="+", default=list(NETWORKS), help="autoencoders")
    end.add_argument("--subsampling", choices=("444", "422", "420"), default="444", help="JPEG's chroma format")
    _add_common(end)


def _add_model_zoo(kinds: Commands) -> None:
    zoo = add_command(
        kinds,
        "model-zoo",
        "networks of many kinds and their tasks before and after coding, the reference software beside",
        "vvc-nnr experiment model-zoo --out results/",
        _model_zoo,
    )
    zoo.add_argument("--out", type=Path, required=True, help="folder of results; an unfinished run goes on there")
    zoo.add_argument("--row", action="append", default=[], metavar="NAME", help="only this network; repeatable")
    zoo.add_argument("--weights", type=Path, help="folder of published weights, with a folder for each data set")
    zoo.add_argument("--qps", type=_zoo_qps, default=OUR_QPS, metavar="QP,...", help="QPs of this codec")
    zoo.add_argument(
        "--max-loss-db", type=float, default=MAX_LOSS_DB, metavar="DB", help="of calibrated compression; 0: none"
    )
    zoo.add_argument(
        "--peer", default=os.environ.get(PEER_VARIABLE, ""), metavar="PYTHON", help="of the reference software"
    )
    add_format_option(zoo, "table")
    add_report_option(zoo)


def _zoo_qps(text: str) -> tuple[int, ...]:
    try:
        return tuple(whole_number(word) for word in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: whole numbers with commas between them are wanted") from None


def _model_zoo(arguments: argparse.Namespace) -> Outcome:
    check_asked_report(arguments)
    if arguments.weights is not None and not arguments.weights.is_dir():
        raise InputError(f"--weights {arguments.weights}: no such folder")
    if not 0 <= arguments.max_loss_db < math.inf:
        raise InputError(f"--max-loss-db {arguments.max_loss_db}: at least 0 is wanted")
    max_loss_db = arguments.max_loss_db or None
    options = ZooOptions(tuple(arguments.row), arguments.weights, arguments.peer, arguments.qps, max_loss_db)
    tables = run_model_zoo(arguments.out, options, gather_provenance())
    write_asked_report(arguments)
    return tables_outcome(tables, default_origin(), arguments.format)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bits", type=weight_bits, default=8, help="bits per weight of the reconstructed networks")
    parser.add_argument("--biases", choices=("quantised", "float"), default="quantised", help="what happens to biases")
    add_format_option(parser)
    add_report_option(parser)


def _demo(arguments: argparse.Namespace) -> Outcome:
    if arguments.out is not None:
        return _demo_in(arguments.out, f"Rows, tables and plots: {arguments.out}")
    with temporary_folder() as folder:
        return _demo_in(folder, "Run it with --out FOLDER to keep rows, tables and plots.")


def _demo_in(folder: Path, farewell: str) -> Outcome:
    provenance = gather_provenance()
    tables = run_tool_by_tool(bundled_sources(), folder, ToolOptions(), provenance)
    patches = bundled_patches()
    tables |= run_end_to_end(patches.images, patches.names, folder, EndToEndOptions(), provenance)
    pictures = f"five photographs inside scikit-image for Tables 1 to 3, {patches.origin} for Table 4"
    outcome = tables_outcome({name: tables[name] for name in DEMO_TABLES}, pictures, "markdown")
    return Outcome(f"{outcome.text}\n{farewell}", outcome.data)


def _tool_by_tool(arguments: argparse.Namespace) -> Outcome:
    check_asked_report(arguments)
    sources, pictures = chosen_sources(arguments)
    options = ToolOptions(
        **sweep_settings(arguments),
        replacement=arguments.replacement,
        postfilter=arguments.postfilter,
        bits=arguments.bits,
        biases=arguments.biases,
    )
    tables = run_tool_by_tool(
        sources,
        arguments.out,
        options,
        gather_provenance(device=arguments.device),
        cache=arguments.cache,
        interpolation=arguments.bd_rate,
    )
    write_asked_report(arguments)
    return tables_outcome(tables, pictures, arguments.format)


def _end_to_end(arguments: argparse.Namespace) -> Outcome:
    check_asked_report(arguments)
    named = arguments.images is not None
    pictures = (small_pictures(arguments.images) if named else default_small_pictures()).first(arguments.count)
    options = EndToEndOptions(
        networks=arguments.networks,
        bits=arguments.bits,
        biases=arguments.biases,
        subsampling=arguments.subsampling,
    )
    provenance = gather_provenance()
    tables = run_end_to_end(pictures.images, pictures.names, arguments.out, options, provenance)
    origin = pictures.origin if named else f"{pictures.origin}, of {default_origin()}"
    write_asked_report(arguments)
    return tables_outcome(tables, origin, arguments.format)
