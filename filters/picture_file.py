"""Pictures that an autoencoder coded, as one file: which network, their sizes, their bytes, a checksum.

| field | bytes | what it is |
| --- | --- | --- |
| magic | 4 | `VNAE` |
| version | 1 | 2 |
| network | 8 | the first bytes of the SHA-256 of its tensors |
| name | 1 + n | its name, UTF-8: which network to ask for |
| number of runs | varint | runs of pictures of one size and operating point |
| each run | 5 varints | width, height, operating point, number of pictures, bytes of its stream |
| streams | | one after another |
| checksum | 4 | CRC-32 of all before it, big endian |

A run has one picture, or at most 256 of at most 2^18 pixels together, their sides made up to multiples of 4. Its
pictures share one stream, and one of them is not decoded without the others. Each run is decoded by itself.
A varint has 7 bits in each byte, the lowest first; all bytes but the last have the highest bit set.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError, shown
from vvc_nnr.files import naming
from vvc_nnr.filters.networks.autoencoder import COST_STEPS, CodedRun, longest_run
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder
from vvc_nnr.filters.networks.context_coding import STRIDE
from vvc_nnr.filters.picture_codecs import BundledCodec, CodedPicture
from vvc_nnr.filters.zoo import ARCHITECTURES, LoadedNetwork, constructed, network_tensors
from vvc_nnr.network_file import stored_metadata

Rgb: TypeAlias = NDArray[np.uint8]
MAGIC = b"VNAE"
VERSION = 2
MAX_SIDE, MAX_PIXELS = 1 << 14, 1 << 24
"""Of one picture."""
_ALLOWED = f"must have 1 to {MAX_PIXELS} pixels, and sides of at most {MAX_SIDE}"
_ID_BYTES, _CHECKSUM_BYTES = 8, 4
_MAX_NAME_BYTES = 255
_MAX_VARINT_BYTES = 5


@dataclass(frozen=True, slots=True)
class PictureRun:
    """Pictures of one size and operating point that share a stream.

    Attributes:
        width: In pixels.
        height: In pixels.
        rate: The network's operating point.
        n_pictures: How many.
        data: Their stream.
    """

    width: int
    height: int
    rate: int
    n_pictures: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PictureFile:
    """The content of a file.

    Attributes:
        network_name: The network's name when it was written.
        network_id: The first 8 bytes of the SHA-256 of its tensors.
        runs: In their order.
    """

    network_name: str
    network_id: bytes
    runs: tuple[PictureRun, ...]

    @property
    def n_pictures(self) -> int:
        """How many pictures there are."""
        return sum(run.n_pictures for run in self.runs)

    def to_bytes(self) -> bytes:
        """The file.

        Raises:
            InputError: If the network's name is longer than 255 bytes.
        """
        name = self.network_name.encode("utf-8", "surrogateescape")
        if len(name) > _MAX_NAME_BYTES:
            raise InputError(f"network name {shown(self.network_name)}: must be at most {_MAX_NAME_BYTES} bytes")
        heads = [(run.width, run.height, run.rate, run.n_pictures, len(run.data)) for run in self.runs]
        numbers = [len(heads), *itertools.chain(*heads)]
        parts = [MAGIC, bytes([VERSION]), self.network_id, bytes([len(name)]), name, *map(_varint, numbers)]
        body = b"".join([*parts, *(run.data for run in self.runs)])
        return body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> PictureFile:
        """What a file holds.

        Raises:
            BitstreamError: If it is no such file, or damaged.
            UnsupportedError: If it is of another version.
        """
        if data[: len(MAGIC)] != MAGIC:
            raise BitstreamError(f"no pictures of an autoencoder: begins with {data[:4]!r}, must be {MAGIC!r}")
        if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
            raise UnsupportedError(
                f"version {data[len(MAGIC)]} of the picture file: must be {VERSION}; encode the pictures again"
            )
        body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if (
            len(data) < len(MAGIC) + 1 + _CHECKSUM_BYTES
            or zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != checksum
        ):
            raise BitstreamError("the checksum at the end is not that of the bytes before it: damaged or cut short")
        reader = _Reader(body, len(MAGIC) + 1)
        network_id = reader.take(_ID_BYTES, "network")
        name = reader.take(reader.take(1, "name")[0], "name")
        heads = [_run_head(reader) for _ in range(reader.varint("number of runs"))]
        runs = tuple(replace(run, data=reader.take(n_bytes, "streams")) for run, n_bytes in heads)
        found = cls(name.decode("utf-8", "surrogateescape"), network_id, runs)
        reader.check_end()
        return found


class _Reader:
    """A cursor over the bytes before the checksum."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    @property
    def n_left(self) -> int:
        return len(self._data) - self._position

    def take(self, n_bytes: int, field: str) -> bytes:
        if n_bytes > self.n_left:
            raise BitstreamError(f"{n_bytes} bytes, of which {self.n_left} are there", field=field)
        self._position += n_bytes
        return self._data[self._position - n_bytes : self._position]

    def varint(self, field: str) -> int:
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            byte = self.take(1, field)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise BitstreamError(f"a number of more than {_MAX_VARINT_BYTES} bytes", field=field)

    def check_end(self) -> None:
        if self.n_left:
            raise BitstreamError(f"{self.n_left} bytes behind the last stream", field="streams")


def _run_head(reader: _Reader) -> tuple[PictureRun, int]:
    """A run without its stream, and how many bytes that has."""
    width, height, rate, n_pictures, n_bytes = (reader.varint("run") for _ in range(5))
    if not _is_allowed(width, height):
        raise BitstreamError(f"a picture of {width}x{height}: {_ALLOWED}", field="run")
    most = _longest_run(width, height)
    if not 1 <= n_pictures <= most:
        raise BitstreamError(f"{n_pictures} pictures of {width}x{height}: must be 1 to {most}", field="run")
    return PictureRun(width, height, rate, n_pictures, b""), n_bytes


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def network_id(network: nn.Module) -> bytes:
    """The first 8 bytes of the SHA-256 of a network's tensors with their names and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(network_tensors(network).items()):
        found.update(f"{name} {tensor.shape} {tensor.dtype.str}\0".encode() + tensor.tobytes())
    return found.digest()[:_ID_BYTES]


def check_rate_of_file(path: Path, rate: int, effort: int) -> None:
    """Refuses an operating point or effort by what a network's file says of its shape, before its tensors are decoded.

    Raises:
        InputError: If the network has no such operating point, or the effort is out of range.
        BitstreamError, UnsupportedError: If the file is damaged.
    """
    metadata = stored_metadata(path)
    if metadata.get("architecture") in ARCHITECTURES:
        with naming(path), torch.device("meta"):
            network = constructed(metadata["architecture"], metadata.get("config", ""), str(path))
            if isinstance(network, BundledAutoencoder):
                BundledCodec(network, rate, effort)


def encode_picture_file(network: LoadedNetwork, pictures: Sequence[Rgb], *, rate: int = 0, effort: int = 0) -> bytes:
    """Codes pictures of any sizes into one file.

    Args:
        network: A bundled autoencoder, or one of their kind.
        pictures: uint8 RGB (H, W, 3) each.
        rate: The operating point, of a network that has several.
        effort: How long to search for cheaper latents, 0 to 3, of a network with a context prior.

    Raises:
        InputError: If the network is no such autoencoder, has no such operating point, or cannot search.
        ShapeError: If a picture is not of that form, or too large.
        VvcNnrError: If the network gives NaN or infinity.
    """
    codec = BundledCodec(_checked_network(network), rate, effort)
    coded: list[PictureRun] = []
    for shape, same in itertools.groupby(pictures, lambda each: each.shape):
        _check_shape(shape)
        coded += _picture_runs(codec, shape, codec.encode(np.stack(list(same))))
    return PictureFile(network.name, network_id(codec.network), tuple(coded)).to_bytes()


def decode_picture_file(data: bytes, network: LoadedNetwork) -> list[Rgb]:
    """The pictures of a file, uint8 RGB (H, W, 3) each.

    Args:
        data: The file.
        network: The network that coded it.

    Raises:
        BitstreamError: If the file is damaged.
        UnsupportedError: If it is of another version.
        InputError: If another network coded it.
        VvcNnrError: If the network gives NaN or infinity.
    """
    file = PictureFile.from_bytes(data)
    module = _checked_network(network)
    if network_id(module) != file.network_id:
        raise InputError(
            f"coded by the network {shown(file.network_name)} ({file.network_id.hex()}), not by {shown(network.name)} "
            f"({network_id(module).hex()}): name the file of the former"
        )
    return list(_decoded(file, module))


def code_by_file(network_name: str, codec: BundledCodec, pictures: Rgb) -> list[CodedPicture]:
    """Pictures uint8 RGB (N, H, W, 3) that went through a file, with the bytes that each takes in a file of many.

    Those are its own bits and an equal part of all else in a file whose one run is full of pictures that take as much
    (of a large picture, which has a run of its own: the bytes of its file). They do not depend on the other pictures.

    Args:
        network_name: The name that the file has.
        codec: What codes them.
        pictures: Of one size.

    Raises:
        InputError: If the network's name is too long.
        ShapeError: If they are not of that form, or too large.
        VvcNnrError: If the network gives NaN or infinity.
    """
    shape = pictures.shape[1:]
    _check_shape(shape)
    coded = codec.encode(pictures)
    file = PictureFile(network_name, network_id(codec.network), tuple(_picture_runs(codec, shape, coded)))
    decoded = _decoded(PictureFile.from_bytes(file.to_bytes()), codec.network)
    n_full = _longest_run(shape[1], shape[0])
    streams = [run.data for run in file.runs]
    if n_full > 1:
        streams = [bytes(-(-n_full * cost // (8 * COST_STEPS))) for run in coded for cost in run.costs]
    full = [PictureRun(shape[1], shape[0], codec.rate, n_full, stream) for stream in streams]
    sizes = [round(len(replace(file, runs=(run,)).to_bytes()) / n_full) for run in full]
    return [CodedPicture(n_bytes, picture) for n_bytes, picture in zip(sizes, decoded, strict=True)]


def _picture_runs(codec: BundledCodec, shape: tuple[int, ...], coded: Sequence[CodedRun]) -> Iterator[PictureRun]:
    return (PictureRun(shape[1], shape[0], codec.rate, run.n_pictures, run.data) for run in coded)


def _decoded(file: PictureFile, network: BundledAutoencoder) -> Iterator[Rgb]:
    for run in file.runs:
        with _as_damage():
            codec = BundledCodec(network, run.rate)
        yield from codec.decode([CodedRun(run.n_pictures, run.data)], run.width, run.height)


@contextmanager
def _as_damage() -> Iterator[None]:
    """Inside the block what a file asks of a network that it has not is damage."""
    try:
        yield
    except InputError as error:
        raise BitstreamError(str(error), field="run") from error


def _checked_network(network: LoadedNetwork) -> BundledAutoencoder:
    if not isinstance(network.network, BundledAutoencoder):
        raise InputError(f"{network.name}: holds no autoencoder of this package; must be one, such as a bundled one")
    return network.network


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[2] != 3:
        raise ShapeError(f"a picture of shape {shape}: must be (H, W, 3)")
    if not _is_allowed(shape[1], shape[0]):
        raise ShapeError(f"a picture of {shape[1]}x{shape[0]}: {_ALLOWED}")


def _longest_run(width: int, height: int) -> int:
    """How many pictures of a size share a stream at most."""
    return longest_run(height + -height % STRIDE, width + -width % STRIDE)


def _is_allowed(width: int, height: int) -> bool:
    return 0 < max(width, height) <= MAX_SIDE and 0 < width * height <= MAX_PIXELS
