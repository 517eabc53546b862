"""Pictures as bytes by an autoencoder with a context prior, and back.

The decoder computes each half group's distributions from the latents before it, decodes that half group, and so on,
of all pictures of a run at once. In their stream they lie side by side, as if they were one picture.
It does so in float64 on whole numbers, which is exact: the same bytes on every processor and with any number of
threads (see `latent_context.py`). What it makes of the latents, the picture, is computed in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.networks.autoencoder import (
    CodedRun,
    check_length,
    least_costs,
    runs_of,
    stream_bytes,
    stream_coders,
    symbol_costs,
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
_SYMBOLS_AT_ONCE = 512
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

    def encode(self, latents: Latents, rate: int) -> CodedRun:
        """The stream of latents (N, n_latents, H, W), values in -127..127."""
        writer = _RunWriter(self._stream.queue.RangeEncoder())
        costs = np.zeros(len(latents), np.int64)
        known = torch.from_numpy(latents).double()
        numbers = torch.arange(len(latents))[:, None, None, None].expand(-1, 1, *latents.shape[2:])
        for group, half in self._order():
            channels, squares = self._context.channels(group), _squares(known, half)
            indices = torch.cat([*self._indices(known, rate, group, half)], dim=-1)
            symbols = (_beside(known[:, channels], squares).flatten() + RADIUS).to(torch.int32).numpy()
            owners = _beside(numbers, squares).expand(channels.stop - channels.start, -1).flatten().numpy()
            for part, frequencies in _in_parts(indices):
                chosen = writer.write(symbols[part], self._symbols, frequencies)
                np.add.at(costs, owners[part], symbol_costs(chosen, PROBABILITY_BITS))
        return CodedRun(len(latents), writer.to_bytes(), tuple(costs.tolist()))

    def decode(self, run: CodedRun, height: int, width: int, rate: int) -> Latents:
        """The latents (N, n_latents, height, width) of a stream.

        There is no checksum: damaged bytes are refused or other latents'.

        Raises:
            BitstreamError: If the bytes are not those that `encode` writes for any such latents.
        """
        data = bytes(run.data)
        writer = _RunWriter(self._stream.queue.RangeEncoder())  # of the same bytes
        decoder = self._stream.queue.RangeDecoder(words_of_bytes(data))
        known = torch.zeros(run.n_pictures, self._n_latents, height, width, dtype=torch.float64)

        def decoded(indices: Tensor) -> Iterator[NDArray[np.int32]]:
            for _, frequencies in _in_parts(indices):
                try:
                    symbols: NDArray[np.int32] = decoder.decode(self._symbols, _probabilities(frequencies))
                except (AssertionError, ValueError) as error:
                    raise BitstreamError(f"the latent does not decode: {error}") from error
                writer.write(symbols, self._symbols, frequencies)
                check_length(data, writer.least_bits)
                yield symbols

        for group, half in self._order():
            channels, squares = self._context.channels(group), _squares(known, half)
            strips: list[Tensor] = []
            found = [np.empty(0, np.int32)]
            for strip in self._indices(known, rate, group, half):
                strips.append(strip[:, :, 1:])
                found += decoded(strip[:, :, :1])  # at once: bytes that end too early are known before all strips
            found += decoded(torch.cat(strips, dim=-1))
            values = torch.from_numpy(np.concatenate(found) - RADIUS).to(known.dtype)
            beside = known.movedim(0, -2)
            beside[channels, _of_all(squares, known)] = values.view(channels.stop - channels.start, -1)
        if writer.to_bytes() != data:
            raise BitstreamError("the bytes are not those of any latent of this size: damaged or too long")
        return known.to(torch.int32).numpy()

    def _order(self) -> Iterator[tuple[int, int]]:
        return ((group, half) for group in range(len(self._context.sizes)) for half in (0, 1))

    def _indices(self, known: Tensor, rate: int, group: int, half: int) -> Iterator[Tensor]:
        """Strip by strip the indices (3, K, c, n) of means, scales and weights at the half group's squares."""
        squares = _squares(known, half)
        for rows in _strips(known):
            with torch.inference_mode():
                yield _beside(self._strip(known, rate, group, half, rows), squares[rows.start : rows.stop])

    def _strip(self, known: Tensor, rate: int, group: int, half: int, rows: range) -> Tensor:
        """Indices (N, 3, K, c, rows, W) of some rows, from those and the rows that they depend on."""
        above = min(rows.start, _REACH + rows.start % 2)  # even rows, so that the checkerboard stays
        begin = rows.start - above
        seen = known[:, :, begin : rows.stop + _REACH]
        rates = torch.full((len(known),), rate)
        mixture = self._context.mixture(self._context.half_group(seen, rates, group, half))
        indices = torch.stack([mixture.means, mixture.scales, mixture.weights], dim=1)
        return indices[..., above : above + len(rows), :].to(torch.int32)


@dataclass(slots=True, eq=False)
class _RunWriter:
    """A stream that is being written, and the bits that its symbols so far take at least."""

    encoder: Any
    least_bits: int = field(default=0, init=False)

    def write(self, symbols: NDArray[np.int32], model: Any, frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
        """Appends symbols, each with frequencies of its own; the frequencies of those that were written."""
        self.encoder.encode(symbols, model, _probabilities(frequencies))
        chosen: NDArray[np.int64] = np.take_along_axis(frequencies, symbols[:, None], 1)[:, 0]
        self.least_bits += int(least_costs(chosen, PROBABILITY_BITS).sum())
        return chosen

    def to_bytes(self) -> bytes:
        return stream_bytes(self.encoder, self.least_bits)


def _squares(latent: Tensor, half: int) -> Tensor:
    """Which squares (H, W) a half group is at."""
    even = even_squares(latent)
    return ~even if half else even


def _of_all(squares: Tensor, known: Tensor) -> Tensor:
    """Squares (rows, W) of all pictures of a run, side by side (rows, N, W)."""
    return squares[:, None].expand(-1, len(known), -1)


def _beside(values: Tensor, squares: Tensor) -> Tensor:
    """Values (N, ..., rows, W) of a run at squares (rows, W), in the order of a stream (..., n)."""
    return values.movedim(0, -2)[..., _of_all(squares, values)]


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
    """Frequencies of the symbols whose indices are (3, K, c, n), as many at a time as stay in the cache."""
    means, scales, weights = indices.flatten(2).transpose(1, 2).numpy()
    for begin in range(0, len(means), _SYMBOLS_AT_ONCE):
        part = slice(begin, begin + _SYMBOLS_AT_ONCE)
        yield part, symbol_frequencies(means[part], scales[part], weights[part])


def _probabilities(frequencies: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = frequencies / float(1 << PROBABILITY_BITS)
    return found


def encode_pictures(network: ContextAutoencoder, pictures: Pictures, rate: int = 0, effort: int = 0) -> list[CodedRun]:
    """Streams of as many pictures each as may be.

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
    parts = (pictures[part] for part in runs_of(*pictures.shape[:3]))
    return [coder.encode(latents_of(network, part, rate, effort), rate) for part in parts]


def decode_pictures(
    network: ContextAutoencoder, runs: Sequence[CodedRun], width: int, height: int, rate: int = 0
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
    for run in runs:
        latents = coder.decode(run, height // STRIDE, width // STRIDE, rate)
        out.append(pictures_of(network, latents, rate))
    return np.concatenate(out)


def check_pictures(pictures: Pictures) -> None:
    """Raises ShapeError unless pictures are uint8 (N, H, W, 3) with sides that are multiples of 4."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ShapeError(f"pictures must be uint8 (N, H, W, 3), got {pictures.dtype} {pictures.shape}")
    if any(not side or side % STRIDE for side in pictures.shape[1:3]):
        size = f"{pictures.shape[2]}x{pictures.shape[1]}"
        raise ShapeError(f"pictures of {size}: sides must be positive multiples of {STRIDE}")


def check_rate(network: ContextAutoencoder, rate: int) -> None:
    """Raises InputError unless the network has an operating point of that number."""
    n_rates = network.config["n_rates"]
    if type(rate) is not int or not 0 <= rate < n_rates:
        raise InputError(f"rate {rate!r}: must be one of the network's operating points, 0 to {n_rates - 1}")


def check_effort(effort: int) -> None:
    """Raises InputError for an effort out of range."""
    if type(effort) is not int or not 0 <= effort < len(STEPS):
        raise InputError(f"effort {effort!r}: must be 0 to {len(STEPS) - 1}")


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
