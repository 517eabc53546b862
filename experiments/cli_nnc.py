"""Options of the commands compress, decompress and inspect for coded networks (.nnc), and how compress writes one."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from vvc_nnr.bitstream.graph import Graph, GraphCarriage
from vvc_nnr.bitstream.number_formats import NamedArrays, shape_of
from vvc_nnr.coding.network_encoder import compress_arrays
from vvc_nnr.experiments.naming import naming
from vvc_nnr.files import AtomicFile
from vvc_nnr.network_file import NetworkArrays
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, CompressOptions, Search
from vvc_nnr.parallel import Progress

# Networks from this many values on show how far their coding is.
_PROGRESS_ELEMENTS = 5_000_000


def add_compress_options(parser: argparse.ArgumentParser) -> None:
    """Options of `compress --method nnc`."""
    default = CompressOptions()
    group = parser.add_argument_group("--method nnc")
    group.add_argument(
        "--qp", type=int, help="QP of tensors of two or more dimensions (default: step 2^-8, -32 at density 2)"
    )
    group.add_argument("--qp-density", type=int, default=default.qp_density, metavar="D", help="2**D QPs per octave")
    group.add_argument(
        "--nonweight-qp", type=int, metavar="QP", help="QP of vectors (default: step 5 * 2^-21, -75 at density 2)"
    )
    group.add_argument(
        "--qp-of", action="append", default=[], type=_named_qp, metavar="NAME=QP", help="QP of one tensor; repeatable"
    )
    group.add_argument("--no-dq", action="store_true", help="uniform in place of dependent quantisation")
    group.add_argument(
        "--lambda-rd", type=float, metavar="L", help="weight of the rate against the squared error; 0: none"
    )
    group.add_argument(
        "--search",
        choices=get_args(Search),
        default=default.search,
        help="thorough: fewer bytes at equal error where the rate has a weight, in more time",
    )
    group.add_argument("--no-row-skipping", action="store_true", help="code empty rows value by value")
    group.add_argument(
        "--scan-order",
        choices=("auto", "0", "1", "2", "3", "4"),
        default="auto",
        help="0 rows, 1 to 4 blocks",
    )
    group.add_argument("--codebook", choices=("off", "auto", "force"), default=default.codebook, help="of levels")
    group.add_argument("--no-param-opt", action="store_true", help="default estimators in every context")
    group.add_argument(
        "--qp-by-size",
        action="store_true",
        help="finer QPs for small weight tensors, coarser for large, --qp on average",
    )
    group.add_argument("--lossless", action="store_true", help="every bit of every tensor comes back")
    group.add_argument(
        "--roles",
        choices=("auto", "off"),
        default=default.roles,
        help="code each tensor by the rule of what it is, or by its number of dimensions alone",
    )
    add_role_of(group)
    group.add_argument(
        "--graph",
        choices=get_args(GraphCarriage),
        default="onnx",
        help="graph of an ONNX model: onnx: by the standard; manifest: so that the reference software decodes the file",
    )
    group.add_argument(
        "--fold-batch-norms",
        action="store_true",
        help="fold batch norms into the layers before them: of an ONNX model, or of --arch with --calibrate",
    )
    group.add_argument("--bitdepth", type=int, metavar="B", help="levels of B bit in place of a QP")
    add_threads(group)


def add_role_of(parser: argparse._ActionsContainer) -> None:
    """The option --role-of."""
    parser.add_argument(
        "--role-of",
        action="append",
        default=[],
        type=_named_role,
        metavar="PATTERN=ROLE",
        help="role of the tensors whose names fit, such as '*.gamma=gdn'; repeatable",
    )


def add_threads(parser: argparse._ActionsContainer) -> None:
    """The option --threads."""
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: one per processor)")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Options of `decompress` and `inspect` for coded networks."""
    group = parser.add_argument_group("coded networks (.nnc)")
    group.add_argument(
        "--max-elements", type=int, default=DEFAULT_MAX_ELEMENTS, metavar="N", help="refuse networks of more values"
    )
    add_threads(group)


def add_inspect_options(parser: argparse.ArgumentParser) -> None:
    """Options of `inspect` for coded networks."""
    add_reading_options(parser)
    parser.add_argument("--bins", action="store_true", help="bits by kind of bin (.nnc)")
    parser.add_argument(
        "--original",
        metavar="FILE",
        help="network file it was made from, or the name of a bundled network, for the MSE (.nnc)",
    )
    add_role_of(parser)


def _named_qp(text: str) -> tuple[str, int]:
    name, _, qp = text.rpartition("=")
    if not name or not re.fullmatch(r"-?[0-9]{1,9}", qp):
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: NAME=QP is wanted")
    return name, int(qp)


def _named_role(text: str) -> tuple[str, str]:
    pattern, _, role = text.rpartition("=")
    if not pattern or not role:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: PATTERN=ROLE is wanted")
    return pattern, role


def options_of(arguments: argparse.Namespace) -> CompressOptions:
    """The options of `compress --method nnc`.

    Raises:
        InputError: If one is out of range.
    """
    scan_order = arguments.scan_order
    return CompressOptions(
        qp=arguments.qp,
        qp_density=arguments.qp_density,
        nonweight_qp="fine" if arguments.nonweight_qp is None else arguments.nonweight_qp,
        qp_per_tensor=dict(arguments.qp_of),
        use_dq=not arguments.no_dq,
        lambda_rd=arguments.lambda_rd,
        row_skipping=not arguments.no_row_skipping,
        scan_order="auto" if scan_order == "auto" else int(scan_order),
        codebook=arguments.codebook,
        param_opt=not arguments.no_param_opt,
        bitdepth=arguments.bitdepth,
        n_threads=arguments.threads,
        roles=arguments.roles,
        role_of=dict(arguments.role_of),
        qp_by_size=arguments.qp_by_size,
        lossless=arguments.lossless,
        search=arguments.search,
    )


def compress_nnc(path: Path, network: NetworkArrays, arguments: argparse.Namespace) -> int:
    """Writes a coded network to `arguments.output` and returns its size in bytes.

    Args:
        path: The file that it is from, for errors.
        network: The network with its metadata, and its graph if it has one.
        arguments: Of the command, with `add_compress_options`.

    Raises:
        InputError: If an option or a value cannot be coded, or the file not be written.
    """
    options = options_of(arguments)
    graph = None if network.graph is None else Graph(network.graph, arguments.graph)
    with naming(path), _ProgressBar(network.arrays) as progress:
        data = compress_arrays(network.arrays, options, progress.report, network.metadata, network.roles or None, graph)
    with AtomicFile(arguments.output) as file:
        file.write(data)
    return len(data)


class _ProgressBar:
    """A bar on standard error for large networks, nothing for small ones."""

    def __init__(self, arrays: NamedArrays) -> None:
        n_values = sum(math.prod(shape_of(array)) for array in arrays.values())
        is_shown = n_values >= _PROGRESS_ELEMENTS and sys.stderr.isatty()
        self.bar = tqdm(total=n_values, unit="value", unit_scale=True, file=sys.stderr) if is_shown else None

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def report(self) -> Progress | None:
        """What coding calls."""
        return None if self.bar is None else self._update

    def _update(self, n_done: int, n_total: int) -> None:
        assert self.bar is not None
        self.bar.update(n_done - self.bar.n)
