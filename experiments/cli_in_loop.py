"""The command experiment in-loop."""

from __future__ import annotations

import argparse
from pathlib import Path

from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command, natural
from vvc_nnr.experiments.cli_report import add_report_option, check_asked_report, write_asked_report
from vvc_nnr.experiments.cli_sweep import add_sweep_options, sweep_settings
from vvc_nnr.experiments.cli_tables import add_format_option, chosen_sources, tables_outcome
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.runs.in_loop import LADDER, InLoopOptions
from vvc_nnr.experiments.runs.in_loop_run import run_in_loop


def add_in_loop(kinds: Commands) -> None:
    """Adds the experiment."""
    parser = add_command(
        kinds,
        "in-loop",
        "CNN filters with the encoder's decisions against all in-loop filters: BD-rate, complexity, times",
        "vvc-nnr experiment in-loop --networks lop.nnc --original lop.safetensors --out results/",
        _in_loop,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of results; an unfinished run goes on there")
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME_OR_FILE",
        default=list(LADDER),
        help="in-loop filters, bundled or files; a coded file (.nnc) is run as it is",
    )
    parser.add_argument(
        "--replacement",
        action="append",
        default=[],
        metavar="NAME",
        help="one of them that takes the place of the codec's in-loop filters; repeatable",
    )
    parser.add_argument(
        "--original",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="float network that the coded one of the same NAME was made from; repeatable",
    )
    parser.add_argument("--viewer-picture", type=natural, default=0, metavar="N", help="picture kept for a viewer")
    add_sweep_options(parser, preset="medium")
    add_format_option(parser)
    add_report_option(parser)


def _in_loop(arguments: argparse.Namespace) -> Outcome:
    check_asked_report(arguments)
    sources, pictures = chosen_sources(arguments)
    options = InLoopOptions(
        **sweep_settings(arguments),
        networks=arguments.networks,
        replacements=arguments.replacement,
        originals=arguments.original,
        viewer_picture=arguments.viewer_picture,
    )
    tables = run_in_loop(
        sources,
        arguments.out,
        options,
        gather_provenance(device=arguments.device),
        cache=arguments.cache,
        interpolation=arguments.bd_rate,
    )
    write_asked_report(arguments)
    return tables_outcome(tables, pictures, arguments.format)
