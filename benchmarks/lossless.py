"""Lossless coding of networks beside zipnn, zstd and xz: share of the bytes, and bytes per second of one processor.

    python benchmarks/lossless.py NETWORK... [--json out.json]

Each network is coded with its floats as float32, float16, bfloat16 and float8, where tensors are scaled so that their
largest value is the format's. zstd (`pip install zstandard`) and zipnn (`pip install zipnn`) are measured where they
are installed. Speeds count the time of the processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.number_formats import (
    BITS_DTYPES,
    NamedArrays,
    exact_float32,
    is_float,
    nearest_in_format,
    number_format_of,
    plain_array,
)
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.compress import decompress
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown
from vvc_nnr.files import AtomicFile
from vvc_nnr.network_file import plain_bytes, read_arrays
from vvc_nnr.options import CompressOptions

FORMATS = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


@dataclass(frozen=True, slots=True)
class LosslessRow:
    """One coder on one network.

    Attributes:
        network: Name of the file.
        number_format: Of its floats.
        coder: Which one.
        n_bytes: Of the values.
        coded_bytes: What came out.
        encode_s: Seconds of the processor.
        decode_s: The same.
    """

    network: str
    number_format: str
    coder: str
    n_bytes: int
    coded_bytes: int
    encode_s: float
    decode_s: float


def as_format(arrays: NamedArrays, number_format: str) -> NamedArrays:
    """The arrays with all floats in one number format."""
    return {name: _converted(array, number_format) for name, array in arrays.items()}


def _converted(array: Any, number_format: str) -> Any:
    if not is_float(number_format_of("", array)):
        return array
    values = exact_float32(array)
    plain = np.asarray(array, np.float32) if values is None else values
    if number_format in FLOAT8 and plain.size:
        plain = plain * np.float32(LARGEST[number_format] / (np.abs(plain).max() or 1))  # as checkpoints scale tensors
    if number_format in BITS_DTYPES:
        return nearest_in_format(plain, number_format)
    return plain.astype(number_format)


def coders(number_format: str) -> Iterator[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """Name, encoder and decoder of each general coder that is installed, for the bytes of the values."""
    yield "xz -9", lambda data: lzma.compress(data, preset=9), lzma.decompress
    try:
        zstd = importlib.import_module("zstandard")
        yield "zstd -19", zstd.ZstdCompressor(level=19).compress, zstd.ZstdDecompressor().decompress
    except ImportError:
        pass
    try:
        zipnn = importlib.import_module("zipnn")
        coder = zipnn.ZipNN(bytearray_dtype=number_format, threads=1)
        yield "zipnn", lambda data: bytes(coder.compress(bytearray(data))), lambda data: bytes(coder.decompress(data))
    except ImportError:
        pass


def rows(path: Path, number_format: str) -> Iterator[LosslessRow]:
    """Every coder on one network."""
    arrays = as_format(read_arrays(path).arrays, number_format)
    n_bytes = plain_bytes(arrays)
    options = CompressOptions(lossless=True, n_threads=1)
    coded, encode_s = _timed(lambda: compress_arrays(arrays, options))
    _, decode_s = _timed(lambda: decompress(coded, n_threads=1))
    yield LosslessRow(path.name, number_format, "vvc_nnr", n_bytes, len(coded), encode_s, decode_s)
    data = b"".join(plain_array(a).tobytes() for a in arrays.values())
    for name, encode, decode in coders(number_format):
        other, encode_s = _timed(lambda encode=encode: encode(data))  # type: ignore[misc]
        again, decode_s = _timed(lambda decode=decode, other=other: decode(other))  # type: ignore[misc]
        assert again == data
        yield LosslessRow(path.name, number_format, name, len(data), len(other), encode_s, decode_s)


def _timed(work: Callable[[], bytes]) -> tuple[bytes, float]:
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def table(found: list[LosslessRow]) -> Table:
    """The rows for a person."""
    columns = (
        Column("Network", text=True),
        Column("Floats", text=True),
        Column("Coder", text=True),
        Column("Share", "%", digits=2),
        Column("Encoding", "GB/s", digits=3),
        Column("Decoding", "GB/s", digits=3),
    )
    cells = tuple(
        (
            *(row.network, row.number_format, row.coder, 100 * row.coded_bytes / row.n_bytes),
            *(row.n_bytes / 1e9 / max(seconds, 1e-9) for seconds in (row.encode_s, row.decode_s)),
        )
        for row in found
    )
    return Table("Lossless coding", columns, cells, ())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [row for path in arguments.networks for number_format in FORMATS for row in rows(path, number_format)]
    print(to_markdown(table(found)))
    if arguments.json:
        with AtomicFile(arguments.json) as file:
            file.write(json.dumps([asdict(row) for row in found], indent=2).encode())


if __name__ == "__main__":
    main()
