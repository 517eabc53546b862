"""The commands compress, decompress and inspect: network files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from vvc_nnr.bitstream.number_formats import Bfloat16Bits
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_calibrate import add_calibration_options, compress_by_pictures, wants_calibration
from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command, output_path
from vvc_nnr.experiments.cli_constants import with_constants
from vvc_nnr.experiments.cli_inspect import inspect_plain, left_out_notes
from vvc_nnr.experiments.cli_inspect_nnc import inspect_nnc, network_path, note_on
from vvc_nnr.experiments.cli_nnc import (
    add_compress_options,
    add_inspect_options,
    add_reading_options,
    compress_nnc,
    options_of,
)
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.outputs import check_outputs
from vvc_nnr.files import AtomicFile
from vvc_nnr.model.container import Tensor, float32_size
from vvc_nnr.model.safetensors import uniform_bytes
from vvc_nnr.model.uniform_metadata import Biases
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    SAFETENSORS_SUFFIX,
    check_plain_suffix,
    is_nnc,
    is_special,
    read_arrays,
    read_network_file,
    with_folded_norms,
    write_arrays,
)
from vvc_nnr.options import CompressOptions

_INPUT = "a .safetensors, .nnc, .pt, .pth or .onnx file, or the name of a bundled network"


def add_commands(commands: Commands) -> None:
    """Adds the three commands."""
    _add_compress(commands)
    decompress = add_command(
        commands,
        "decompress",
        "turn a quantised or coded network file into a plain one",
        "vvc-nnr decompress small.nnc -o model.safetensors",
        _decompress,
    )
    decompress.add_argument("input", help=_INPUT)
    decompress.add_argument(
        "-o", "--output", type=output_path, required=True, help=".safetensors, .pt, .pth or .onnx to write"
    )
    add_reading_options(decompress)
    inspect = add_command(
        commands,
        "inspect",
        "list the tensors of a network file",
        "vvc-nnr inspect inloop-postfilter",
        _inspect,
    )
    inspect.add_argument("input", help=_INPUT)
    add_inspect_options(inspect)


def _add_compress(commands: Commands) -> None:
    compress = add_command(
        commands,
        "compress",
        "quantise or code a network file",
        "vvc-nnr compress model.safetensors -o small.nnc --qp -32",
        _compress,
    )
    compress.add_argument("input", help=_INPUT)
    compress.add_argument("-o", "--output", type=output_path, required=True, help=".safetensors or .nnc to write")
    compress.add_argument(
        "--method",
        choices=["nnc", *(f"uniform{bits}" for bits in range(1, 17))],
        metavar="M",
        help="nnc: the codec of ISO/IEC 15938-17 (default for .nnc); "
        "uniform1 to uniform16: min/max quantiser of 1 to 16 bit (default for .safetensors: uniform8)",
    )
    compress.add_argument("--biases", choices=get_args(Biases), help="biases in --method uniform (default: quantised)")
    add_compress_options(compress)
    add_calibration_options(compress)


def _compress(arguments: argparse.Namespace) -> Outcome:
    method = _method(arguments)
    path = network_path(arguments.input)
    check_outputs([path, arguments.cifar], [arguments.output])
    if wants_calibration(arguments):
        if method != "nnc":
            raise InputError(f"--calibrate: only for --method nnc, not {method}")
        stored = read_network_file(path)
        return _with_left_out(compress_by_pictures(path, stored, arguments), stored.left_out)
    return _compress_nnc(path, arguments) if method == "nnc" else _compress_uniform(path, arguments, method)


def _compress_nnc(path: Path, arguments: argparse.Namespace) -> Outcome:
    network = read_arrays(path)
    with naming(path):
        coded = with_folded_norms(network) if arguments.fold_batch_norms else network
    n_bytes = compress_nnc(path, coded, arguments)
    outcome = _sizes(arguments, "nnc", network.arrays, network.metadata, n_bytes)
    outcome = with_constants(outcome, coded, options_of(arguments))
    return _with_left_out(outcome, network.left_out)


def _compress_uniform(path: Path, arguments: argparse.Namespace, method: str) -> Outcome:
    stored = read_network_file(path)
    bits = int(method.removeprefix("uniform"))
    biases: Biases = arguments.biases or "quantised"
    with naming(path):
        data = uniform_bytes(stored.tensors, stored.metadata, bits, biases)
    with AtomicFile(arguments.output) as file:
        file.write(data)
    outcome = _sizes(arguments, method, stored.tensors, stored.metadata, len(data))
    return _with_left_out(outcome, stored.left_out)


def _method(arguments: argparse.Namespace) -> str:
    """The method that was named, or that of the output's name.

    Raises:
        InputError: If the output's name is none that it writes, or an option is one of another method.
    """
    output = arguments.output
    method: str = arguments.method or ("nnc" if is_nnc(output) else "uniform8")
    wanted = NNC_SUFFIX if method == "nnc" else SAFETENSORS_SUFFIX
    suffix = output.suffix.lower()
    if suffix not in (NNC_SUFFIX, SAFETENSORS_SUFFIX) and not is_special(output):
        raise InputError(f"{output}: compress writes {NNC_SUFFIX} or {SAFETENSORS_SUFFIX} files; change the name")
    if suffix in {NNC_SUFFIX, SAFETENSORS_SUFFIX} - {wanted}:
        raise InputError(f"{output}: --method {method} writes {wanted} files; change the name or the method")
    if method == "nnc" and arguments.biases is not None:
        raise InputError("--biases: only for --method uniform1 to uniform16")
    if method != "nnc" and arguments.fold_batch_norms:
        raise InputError(f"--fold-batch-norms: only for --method nnc, not {method}")
    if method != "nnc" and options_of(arguments) != CompressOptions():
        raise InputError(f"--method {method} takes none of the options of --method nnc")
    return method


def _decompress(arguments: argparse.Namespace) -> Outcome:
    path = network_path(arguments.input)
    check_plain_suffix(arguments.output)
    check_outputs([path], [arguments.output])
    network = read_arrays(path, max_elements=arguments.max_elements, n_threads=arguments.threads)
    n_bytes = write_arrays(arguments.output, network)
    outcome = _sizes(arguments, "not coded", network.arrays, network.metadata, n_bytes)
    outcome = _with_left_out(outcome, network.left_out)
    return Outcome(f"{outcome.text}\n{note_on(path)}", outcome.data) if is_nnc(path) else outcome


def _inspect(arguments: argparse.Namespace) -> Outcome:
    path = network_path(arguments.input)
    if is_nnc(path):
        return inspect_nnc(path, arguments)
    if arguments.bins or arguments.original:
        raise InputError(f"{path}: --bins and --original are for {NNC_SUFFIX} files")
    return inspect_plain(path, dict(arguments.role_of))


def _sizes(
    arguments: argparse.Namespace,
    method: str,
    arrays: Mapping[str, Tensor | Bfloat16Bits],
    metadata: Mapping[str, str],
    n_bytes: int,
) -> Outcome:
    """The size of what was written, against that of the network as a safetensors file of float32."""
    float_size = float32_size(arrays, metadata)
    ratio = float_size / n_bytes
    text = f"{arguments.output}: {n_bytes} bytes ({method}), as a float32 file {float_size}, ratio {ratio:.2f}"
    data = {
        "output": str(arguments.output),
        "method": method,
        "n_bytes": n_bytes,
        "float32_bytes": float_size,
        "ratio": ratio,
    }
    return Outcome(text, data)


def _with_left_out(outcome: Outcome, left_out: Sequence[str]) -> Outcome:
    """The outcome with what the input holds beside the network."""
    text = "\n".join([outcome.text, *left_out_notes(left_out)])
    return Outcome(text, outcome.data | {"left_out": list(left_out)})
