"""The commands compress, decompress and inspect: network files."""

from __future__ import annotations

import argparse
from pathlib import Path

from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command
from vvc_nnr.experiments.markup import Column, Table, to_markdown
from vvc_nnr.filters.zoo import ZOO, zoo_names
from vvc_nnr.model.container import Tensor
from vvc_nnr.model.safetensors import (
    StoredNetwork,
    StoredTensor,
    describe_network,
    float_bytes,
    read_network,
    write_float,
    write_uniform,
)


def add_commands(commands: Commands) -> None:
    """Adds the three commands."""
    compress = add_command(
        commands,
        "compress",
        "quantise a network file",
        "vvc-nnr compress model.safetensors --method uniform8 -o small.safetensors",
        _compress,
    )
    compress.add_argument("input", help="a .safetensors file, or the name of a bundled network")
    compress.add_argument("-o", "--output", type=Path, required=True, help=".safetensors to write")
    methods = [f"uniform{bits}" for bits in range(1, 17)]
    compress.add_argument(
        "--method",
        choices=methods,
        default="uniform8",
        metavar="uniformB",
        help="min/max quantiser of 1 to 16 bit: uniform1 to uniform16",
    )
    compress.add_argument(
        "--biases", choices=("quantised", "float"), default="quantised", help="what happens to biases"
    )
    decompress = add_command(
        commands,
        "decompress",
        "turn a quantised network file into a float32 one",
        "vvc-nnr decompress small.safetensors -o model.safetensors",
        _decompress,
    )
    decompress.add_argument("input", help="a quantised .safetensors file, or the name of a bundled network")
    decompress.add_argument("-o", "--output", type=Path, required=True, help=".safetensors to write")
    inspect = add_command(
        commands,
        "inspect",
        "list the tensors of a network file",
        "vvc-nnr inspect inloop-postfilter",
        _inspect,
    )
    inspect.add_argument("input", help="a .safetensors file, or the name of a bundled network")


def _compress(arguments: argparse.Namespace) -> Outcome:
    stored = read_network(_path(arguments.input))
    bits = int(arguments.method.removeprefix("uniform"))
    n_bytes = write_uniform(arguments.output, stored.tensors, stored.metadata, bits, arguments.biases)
    return _sizes(arguments, arguments.method, _float_size(stored), n_bytes)


def _decompress(arguments: argparse.Namespace) -> Outcome:
    stored = read_network(_path(arguments.input))
    n_bytes = write_float(arguments.output, stored.tensors, stored.metadata)
    return _sizes(arguments, "float32", n_bytes, n_bytes)


def _inspect(arguments: argparse.Namespace) -> Outcome:
    path = _path(arguments.input)
    stored, tensors = read_network(path), describe_network(path)
    columns = (
        Column("Tensor", text=True),
        Column("Shape", text=True),
        Column("Type", text=True),
        Column("Size", "bit/element"),
        Column("Size", "byte"),
        Column("Min", digits=6),
        Column("Max", digits=6),
    )
    payload_bytes = sum(t.n_bytes for t in tensors)
    notes = [
        f"File: {stored.n_bytes} bytes, {payload_bytes} of them tensors, the rest names, shapes and ranges.",
        f"As float32: {_float_size(stored)} bytes, ratio {_float_size(stored) / stored.n_bytes:.2f}.",
        *(f"{key}: {value}" for key, value in sorted(stored.metadata.items())),
    ]
    table = Table(path.name, columns, tuple(map(_tensor_cells, tensors)), tuple(notes))
    data = {
        "file": str(path),
        "n_bytes": stored.n_bytes,
        "float32_bytes": _float_size(stored),
        "bits": stored.bits,
        "biases": stored.biases,
        "metadata": stored.metadata,
        "tensors": [
            {
                "name": t.name,
                "shape": list(t.shape),
                "dtype": t.dtype,
                "bits": t.bits,
                "n_bytes": t.n_bytes,
                "minimum": t.minimum,
                "maximum": t.maximum,
            }
            for t in tensors
        ],
    }
    return Outcome(to_markdown(table).rstrip(), data)


def _tensor_cells(tensor: StoredTensor) -> tuple[str | int | float | None, ...]:
    shape = " x ".join(str(side) for side in tensor.shape) or "scalar"
    return (tensor.name, shape, tensor.dtype, tensor.bits, tensor.n_bytes, tensor.minimum, tensor.maximum)


def _sizes(arguments: argparse.Namespace, method: str, float_size: int, n_bytes: int) -> Outcome:
    ratio = float_size / n_bytes
    text = f"{arguments.output}: {n_bytes} bytes ({method}), {float_size} as float32, ratio {ratio:.2f}"
    data = {
        "output": str(arguments.output),
        "method": method,
        "n_bytes": n_bytes,
        "float32_bytes": float_size,
        "ratio": ratio,
    }
    return Outcome(text, data)


def _float_size(stored: StoredNetwork) -> int:
    tensors: dict[str, Tensor] = stored.tensors
    return len(float_bytes(tensors, stored.metadata))


def _path(name_or_path: str) -> Path:
    return ZOO / f"{name_or_path}.safetensors" if name_or_path in zoo_names() else Path(name_or_path)
