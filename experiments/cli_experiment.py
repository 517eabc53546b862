"""The commands demo and experiment."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from vvc_nnr.codec.vvc import Preset
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.cli_common import (
    Commands,
    Outcome,
    add_command,
    add_raw_options,
    cache_folder,
    positive,
    qp_list,
    sources_of,
)
from vvc_nnr.experiments.end_to_end import NETWORKS, EndToEndOptions
from vvc_nnr.experiments.markup import Table, to_csv, to_latex, to_markdown
from vvc_nnr.experiments.pictures import (
    bundled_patches,
    bundled_sources,
    cifar_pictures,
    default_small_pictures,
    default_sources,
)
from vvc_nnr.experiments.provenance import PsnrPeak, gather_provenance
from vvc_nnr.experiments.runner import run_end_to_end, run_tool_by_tool
from vvc_nnr.experiments.tool_by_tool import NETWORK_OF, ToolOptions

DEMO_TABLES = ("table1_size", "table2_psnr", "table3_ssim", "gain_per_qp", "bd_rate")
FORMATS = {"markdown": to_markdown, "csv": to_csv, "latex": to_latex}


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
    experiment = commands.add_parser("experiment", help="run an experiment and print its tables")
    kinds = experiment.add_subparsers(dest="experiment", required=True, metavar="experiment")
    _add_tool_by_tool(kinds)
    _add_end_to_end(kinds)


def _add_tool_by_tool(kinds: Commands) -> None:
    tool = add_command(
        kinds,
        "tool-by-tool",
        "a CNN in the place of, or after, VVC's in-loop filters: Tables 1 to 3 and BD-rate",
        "vvc-nnr experiment tool-by-tool --sequences jvet/ --pictures 4 --out results/",
        _tool_by_tool,
    )
    tool.add_argument("--out", type=Path, required=True, help="folder of results; an unfinished run goes on there")
    tool.add_argument("--sequences", type=Path, help="folder or file; default: the data folder, else scikit-image")
    tool.add_argument("--qps", type=qp_list, default=[22, 27, 32, 37], help="QPs, such as 22,27,32,37")
    tool.add_argument("--preset", choices=get_args(Preset), default="faster", help="libvvenc's preset")
    tool.add_argument("--pictures", type=positive, metavar="N", help="at most N pictures of each sequence")
    tool.add_argument("--replacement", default=NETWORK_OF["none"], help="network instead of the in-loop filters")
    tool.add_argument("--postfilter", default=NETWORK_OF["all"], help="network after all in-loop filters")
    tool.add_argument("--psnr-peak", choices=get_args(PsnrPeak), default="vtm", help="1020 or 1023 at 10 bit")
    tool.add_argument("--bd-rate", choices=get_args(Interpolation), default="pchip", help="interpolation of BD-rate")
    tool.add_argument("--cache", type=Path, default=cache_folder(), help="folder of finished encodings")
    tool.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks run")
    tool.add_argument("--threads", type=positive, default=2, help="encoder threads")
    _add_common(tool)
    add_raw_options(tool)


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
        help="CIFAR-10 in any of its forms; default: the data folder, else scikit-image",
    )
    end.add_argument("--count", type=positive, metavar="N", help="the first N images")
    end.add_argument("--networks", nargs="+", default=list(NETWORKS), help="autoencoders")
    end.add_argument("--subsampling", choices=("444", "422", "420"), default="444", help="JPEG's chroma format")
    _add_common(end)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bits", type=int, default=8, help="bits per weight of the reconstructed networks, 1 to 16")
    parser.add_argument("--biases", choices=("quantised", "float"), default="quantised", help="what happens to biases")
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="format of the printed tables")


def _demo(arguments: argparse.Namespace) -> Outcome:
    if arguments.out is not None:
        return _demo_in(arguments.out)
    with tempfile.TemporaryDirectory(prefix="vvc_nnr_demo_") as folder:
        return _demo_in(Path(folder))


def _demo_in(folder: Path) -> Outcome:
    provenance = gather_provenance()
    tool = run_tool_by_tool(bundled_sources(), folder, ToolOptions(), provenance)
    patches = bundled_patches()
    end = run_end_to_end(patches.images, patches.names, folder / "end_to_end", EndToEndOptions(), provenance)
    tables = {name: tool[name] for name in DEMO_TABLES} | {"table4_end_to_end": end["table4_end_to_end"]}
    outcome = _outcome(tables, "markdown")
    shown = (
        "Pictures: five photographs inside scikit-image for the in-loop filter, "
        f"{patches.origin} for the autoencoder.\nRows, tables and plots: {folder}"
    )
    return Outcome(f"{outcome.text}\n\n{shown}", outcome.data)


def _tool_by_tool(arguments: argparse.Namespace) -> Outcome:
    if arguments.sequences is not None:
        sources = sources_of(arguments.sequences, arguments)
    else:
        sources = default_sources()
        print(f"no --sequences given: {', '.join(source.name for source in sources)}", file=sys.stderr)
    options = ToolOptions(
        qps=arguments.qps,
        preset=arguments.preset,
        max_pictures=arguments.pictures,
        replacement=arguments.replacement,
        postfilter=arguments.postfilter,
        bits=arguments.bits,
        biases=arguments.biases,
        psnr_peak=arguments.psnr_peak,
        device=arguments.device,
        n_threads=arguments.threads,
    )
    tables = run_tool_by_tool(
        sources,
        arguments.out,
        options,
        gather_provenance(device=arguments.device),
        cache=arguments.cache,
        interpolation=arguments.bd_rate,
    )
    return _outcome(tables, arguments.format)


def _end_to_end(arguments: argparse.Namespace) -> Outcome:
    if arguments.images is not None:
        pictures = cifar_pictures(arguments.images, arguments.count)
    else:
        pictures = default_small_pictures().first(arguments.count)
        print(f"no --images given: {pictures.origin}", file=sys.stderr)
    options = EndToEndOptions(
        networks=arguments.networks,
        bits=arguments.bits,
        biases=arguments.biases,
        subsampling=arguments.subsampling,
    )
    provenance = gather_provenance()
    tables = run_end_to_end(pictures.images, pictures.names, arguments.out, options, provenance)
    return _outcome(tables, arguments.format)


def _outcome(tables: Mapping[str, Table], format: str) -> Outcome:
    text = "\n".join(FORMATS[format](table) for table in tables.values()).rstrip()
    data = {name: _table_data(table) for name, table in tables.items()}
    return Outcome(text, data)


def _table_data(table: Table) -> dict[str, object]:
    heads = [column.title for column in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows]
    return {"title": table.title, "rows": rows, "notes": list(table.notes)}
