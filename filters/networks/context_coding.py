"""Pictures as bytes by an autoencoder with a context prior, and back.

The decoder computes each half group's distributions from the latents before it, decodes that half group, and so on.
It does so in float64 on whole numbers, which is exact: the same bytes on every processor and with any number of
threads (see `latent_context.py`). What it makes of the latents, the picture, is computed in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.networks.autoencoder import (
    check_length,
    least_costs,
    stream_bytes,
    stream_coders,
    words_of_bytes,
)
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.latent_context import (
    PROBABILITY_BITS,
    RADIUS,
    LatentContext,
    even_squares,
    symbol_frequencies,
)
from vvc_nnr.filters.networks.latent_search import STEPS, searched_latents

Pictures: TypeAlias = NDArray[np.uint8]
Latents: TypeAlias = NDArray[np.int32]
STRIDE = 4
_BATCH, _BATCH_PIXELS = 100, 1 << 18
_SYMBOLS_AT_ONCE = 4096
_STRIP_SQUARES, _FIRST_SQUARES = 1 << 14, 1 << 12
_REACH = 2
"""Rows above and below that a distribution depends on."""


class ContextCoder:
    """Codes latents by a network's prior.

    Args:
        network: The trained autoencoder; its prior is copied.

    Raises:
        VvcNnrError: If weights of the prior are NaN or infinite.
        InputError: If the package constriction is not installed.
    """

    def __init__(self, network: ContextAutoencoder) -> None:
        if not all(torch.isfinite(parameter).all() for parameter in network.context.parameters()):
            raise VvcNnrError("the prior's weights are not finite: the network is damaged")
        self._context: LatentContext = copy.deepcopy(network.context).cpu().double().eval()
        self._n_latents = network.config["n_latents"]
        self._stream = stream_coders()
        self._symbols = self._stream.model.Categorical(perfect=False)

    def encode(self, latents: Latents, rate: int) -> list[bytes]:
        """The bytes of each latent of (N, n_latents, H, W), values in -127..127."""
        coders = [self._stream.queue.RangeEncoder() for _ in latents]
        least_bits = [0] * len(latents)
        known = torch.from_numpy(latents).double()
        for group, half in self._order():
            channels, squares = self._context.channels(group), _squares(known, half)
            indices = torch.cat([*self._indices(known, rate, group, half)], dim=-1)
            for place, (coder, latent) in enumerate(zip(coders, latents, strict=True)):
                symbols = (latent[channels, squares.numpy()].ravel() + RADIUS).astype(np.int32)
                for part, frequencies in _in_parts(indices[place]):
                    coder.encode(symbols[part], self._symbols, _probabilities(frequencies))
                    least_bits[place] += _least_bits(frequencies, symbols[part])
        return [stream_bytes(coder, bits) for coder, bits in zip(coders, least_bits, strict=True)]

    def decode(self, streams: Sequence[bytes], height: int, width: int, rate: int) -> Latents:
        """The latents (N, n_latents, height, width) of their bytes.

        There is no checksum: damaged bytes are refused or another latent's.

        Raises:
            BitstreamError: If the bytes are not those that `encode` writes for any such latent.
        """
        readers = [_StreamReader(data, self._stream.queue.RangeDecoder(words_of_bytes(data))) for data in streams]
        known = torch.zeros(len(streams), self._n_latents, height, width, dtype=torch.float64)
        for group, half in self._order():
            channels, squares = self._context.channels(group), _squares(known, half)
            strips: list[Tensor] = []
            symbols: list[list[NDArray[np.int32]]] = [[] for _ in streams]
            for strip in self._indices(known, rate, group, half):
                strips.append(strip[:, :, :, 1:])
                for reader, own, found in zip(readers, strip[:, :, :, :1], symbols, strict=True):
                    found += self._decoded(reader, own)  # at once: bytes that end too early are known before all strips
            for reader, own, found, latent in zip(readers, torch.cat(strips, dim=-1), symbols, known, strict=True):
                found += self._decoded(reader, own)
                values = torch.from_numpy(np.concatenate([np.empty(0, np.int32), *found]) - RADIUS)
                latent[channels, squares] = values.to(latent.dtype).view(channels.stop - channels.start, -1)
        latents = known.to(torch.int32).numpy()
        if self.encode(latents, rate) != [bytes(data) for data in streams]:
            raise BitstreamError("the bytes are not those of any latent of this size: damaged or too long")
        return latents

    def _order(self) -> Iterator[tuple[int, int]]:
        return ((group, half) for group in range(len(self._context.sizes)) for half in (0, 1))

    def _indices(self, known: Tensor, rate: int, group: int, half: int) -> Iterator[Tensor]:
        """Strip by strip the indices (N, 3, K, c, n) of means, scales and weights at the half group's n squares."""
        squares = _squares(known, half)
        for rows in _strips(known):
            with torch.inference_mode():
                yield self._strip(known, rate, group, half, rows)[..., squares[rows.start : rows.stop]]

    def _strip(self, known: Tensor, rate: int, group: int, half: int, rows: range) -> Tensor:
        """Indices (N, 3, K, c, rows, W) of some rows, from those and the rows that they depend on."""
        above = min(rows.start, _REACH + rows.start % 2)  # even rows, so that the checkerboard stays
        begin = rows.start - above
        seen = known[:, :, begin : rows.stop + _REACH]
        rates = torch.full((len(known),), rate)
        mixture = self._context.mixture(self._context.half_group(seen, rates, group, half))
        indices = torch.stack([mixture.means, mixture.scales, mixture.weights], dim=1)
        return indices[..., above : above + len(rows), :].to(torch.int32)

    def _decoded(self, reader: _StreamReader, indices: Tensor) -> list[NDArray[np.int32]]:
        """The next symbols of a stream, in parts, whose indices are (3, K, c, n)."""
        found = []
        for _, frequencies in _in_parts(indices):
            try:
                symbols: NDArray[np.int32] = reader.decoder.decode(self._symbols, _probabilities(frequencies))
            except (AssertionError, ValueError) as error:
                raise BitstreamError(f"the latent does not decode: {error}") from error
            reader.least_bits += _least_bits(frequencies, symbols)
            check_length(reader.data, reader.least_bits)
            found.append(symbols)
        return found


@dataclass(slots=True, eq=False)
class _StreamReader:
    """A stream, its decoder, and the bits that its symbols so far take at least."""

    data: bytes
    decoder: Any
    least_bits: int = 0


def _squares(latent: Tensor, half: int) -> Tensor:
    """Which squares (H, W) a half group is at."""
    even = even_squares(latent)
    return ~even if half else even


def _strips(known: Tensor) -> Iterator[range]:
    """Rows (in even numbers) whose distributions are computed at once, so that memory stays small.

    The first ones are few, so that bytes which are no picture are noticed soon.
    """
    n_pictures, _, height, width = known.shape
    begin, n_squares = 0, _FIRST_SQUARES
    while begin < height:
        step = max(2, n_squares // (n_pictures * width) // 2 * 2)
        yield range(begin, min(begin + step, height))
        begin, n_squares = begin + step, _STRIP_SQUARES


def _in_parts(indices: Tensor) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Frequencies of the symbols whose indices are (3, K, c, n), some thousands at a time."""
    means, scales, weights = indices.flatten(2).transpose(1, 2).numpy()
    for begin in range(0, len(means), _SYMBOLS_AT_ONCE):
        part = slice(begin, begin + _SYMBOLS_AT_ONCE)
        yield part, symbol_frequencies(means[part], scales[part], weights[part])


def _probabilities(frequencies: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = frequencies / float(1 << PROBABILITY_BITS)
    return found


def _least_bits(frequencies: NDArray[np.int64], symbols: NDArray[np.int32]) -> int:
    """Bits that symbols take at least."""
    return int(least_costs(np.take_along_axis(frequencies, symbols[:, None], 1), PROBABILITY_BITS).sum())


def encode_pictures(network: ContextAutoencoder, pictures: Pictures, rate: int = 0, effort: int = 0) -> list[bytes]:
    """One stream per picture; it holds the latent and nothing else: the decoder must know the picture's size and rate.

    Args:
        network: The trained autoencoder.
        pictures: uint8 RGB (N, H, W, 3), sides multiples of 4.
        rate: Which of the network's operating points.
        effort: How long to search for latents that cost less, 0 to 3; the decoder is the same.

    Raises:
        ShapeError: If the pictures are not of that form.
        InputError: If the network has no such operating point, or the effort is out of range.
        VvcNnrError: If the network gives NaN or infinity.
    """
    check_pictures(pictures)
    check_rate(network, rate)
    check_effort(effort)
    coder = ContextCoder(network)
    batches = (pictures[part] for part in _batches(len(pictures), *pictures.shape[1:3]))
    return [stream for batch in batches for stream in coder.encode(latents_of(network, batch, rate, effort), rate)]


def decode_pictures(
    network: ContextAutoencoder, streams: Sequence[bytes], width: int, height: int, rate: int = 0
) -> Pictures:
    """The pictures of their streams, uint8 RGB (N, height, width, 3).

    Raises:
        ShapeError: If a side is not a positive multiple of 4.
        InputError: If the network has no such operating point.
        BitstreamError: If a stream is damaged.
        VvcNnrError: If the network gives NaN or infinity.
    """
    if width < STRIDE or height < STRIDE or width % STRIDE or height % STRIDE:
        raise ShapeError(f"pictures of {width}x{height}: sides must be positive multiples of {STRIDE}")
    check_rate(network, rate)
    coder = ContextCoder(network)
    out = [np.empty((0, height, width, 3), np.uint8)]  # no more than what has been decoded, whatever is claimed
    for part in _batches(len(streams), height, width):
        latents = coder.decode(streams[part], height // STRIDE, width // STRIDE, rate)
        out.append(pictures_of(network, latents, rate))
    return np.concatenate(out)


def _batches(n_pictures: int, height: int, width: int) -> Iterator[slice]:
    """Pictures that go through a network at once: few enough that memory does not grow with the set."""
    size = max(1, min(_BATCH, _BATCH_PIXELS // (height * width)))
    return (slice(begin, begin + size) for begin in range(0, n_pictures, size))


def check_pictures(pictures: Pictures) -> None:
    """Raises ShapeError unless pictures are uint8 (N, H, W, 3) with sides that are multiples of 4."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ShapeError(f"pictures must be uint8 (N, H, W, 3), got {pictures.dtype} {pictures.shape}")
    if pictures.shape[1] % STRIDE or pictures.shape[2] % STRIDE:
        raise ShapeError(f"pictures of {pictures.shape[2]}x{pictures.shape[1]}: sides must be multiples of {STRIDE}")


def check_rate(network: ContextAutoencoder, rate: int) -> None:
    """Raises InputError unless the network has an operating point of that number."""
    n_rates = network.config["n_rates"]
    if not 0 <= rate < n_rates:
        raise InputError(f"rate {rate}: must be one of the network's operating points, 0 to {n_rates - 1}")


def check_effort(effort: int) -> None:
    """Raises InputError for an effort out of range."""
    if not 0 <= effort < len(STEPS):
        raise InputError(f"effort {effort}: must be 0 to {len(STEPS) - 1}")


def latents_of(network: ContextAutoencoder, pictures: Pictures, rate: int, effort: int = 0) -> Latents:
    """The latents (N, C, H/4, W/4) of pictures (N, H, W, 3), in -127..127; raises VvcNnrError if they are NaN."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    rates = torch.full((len(tensor),), rate)
    latent = searched_latents(network.eval(), tensor, rates, STEPS[effort])
    return latent.to(torch.int32).contiguous().numpy()


def pictures_of(network: ContextAutoencoder, latents: Latents, rate: int) -> Pictures:
    """The pictures (N, H, W, 3) of latents (N, C, H/4, W/4); raises VvcNnrError if they are NaN."""
    with torch.inference_mode():
        rates = torch.full((len(latents),), rate)
        output = network.eval().synthesise(torch.from_numpy(latents).float(), rates)
    if not torch.isfinite(output).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
    samples = torch.round(output.clamp(0, 1) * 255).to(torch.uint8)
    return samples.permute(0, 2, 3, 1).contiguous().numpy()
