"""The CNN autoencoder: a convolutional encoder and decoder for small RGB pictures, with its entropy model.

```
 encoder  RGB ─ unshuffle 2 ─ conv ─ residuals ─ unshuffle 2 ─ 1x1 ─ residuals ─ conv ─ x gain ─ round ─ latent
 decoder  latent ─ / gain ─ conv ─ residuals ─ 1x1 ─ shuffle 2 ─ residuals ─ conv ─ shuffle 2 ─ RGB
```
Each latent channel has its own distribution, a mixture of logistics that is learned with the network (a
factorised prior). What codes the bytes are not those floats but integer tables made from them once, after
training, and stored with the network. `encode_pictures` writes pictures as bytes, and `decode_pictures` starts from
nothing else. Pictures of one size go into one stream, a run of them, as if they were one picture: side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, VvcNnrError

N_MIXTURES = 3
MIN_LIKELIHOOD = 1e-9
TABLE_RADIUS = 127
"""Latents are clipped to -127..127 around zero, so that a table holds 255 symbols."""


class _ResidualBlock(nn.Module):
    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(functional.leaky_relu(self.conv0(x), 0.1))
        return x + y


def _blocks(n_blocks: int, n_channels: int) -> list[nn.Module]:
    return [_ResidualBlock(n_channels) for _ in range(n_blocks)]


def analysis_transform(n_latents: int, n_fine: int, n_coarse: int, n_blocks: int) -> nn.Sequential:
    """RGB (N, 3, H, W) to latents (N, n_latents, H/4, W/4), as drawn above."""
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(12, n_fine, 3, padding=1),
        *_blocks(n_blocks, n_fine),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * n_fine, n_coarse, 1),
        *_blocks(n_blocks, n_coarse),
        nn.Conv2d(n_coarse, n_latents, 3, padding=1),
    )


def synthesis_transform(n_latents: int, n_fine: int, n_coarse: int, n_blocks: int) -> nn.Sequential:
    """Latents (N, n_latents, H/4, W/4) to RGB (N, 3, H, W), as drawn above."""
    return nn.Sequential(
        nn.Conv2d(n_latents, n_coarse, 3, padding=1),
        *_blocks(n_blocks, n_coarse),
        nn.Conv2d(n_coarse, 4 * n_fine, 1),
        nn.PixelShuffle(2),
        *_blocks(n_blocks, n_fine),
        nn.Conv2d(n_fine, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


class FactorisedPrior(nn.Module):
    """One mixture of logistics per latent channel.

    Args:
        n_latents: Channels of the latent.
    """

    def __init__(self, n_latents: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_latents, N_MIXTURES))
        self.means = nn.Parameter(torch.zeros(n_latents, N_MIXTURES))
        self.log_scales = nn.Parameter(torch.tensor([-0.5, 0.5, 1.5]).repeat(n_latents, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """Probability of each value's unit-wide bin.

        Args:
            latent: (N, C, H, W).

        Returns:
            The same shape, at least 1e-9.
        """
        value = latent.permute(0, 2, 3, 1).unsqueeze(-1).float()
        inverse_scale = torch.exp(-self.log_scales)
        upper = (value + 0.5 - self.means) * inverse_scale
        lower = (value - 0.5 - self.means) * inverse_scale
        # The difference of two sigmoids loses all its bits in the upper tail: mirror it to the lower one.
        sign = torch.where(upper + lower > 0, -1.0, 1.0)
        mass = torch.abs(torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower))
        likelihood = (mass * torch.softmax(self.logits, -1)).sum(-1)
        return likelihood.clamp_min(MIN_LIKELIHOOD).permute(0, 3, 1, 2)


class Autoencoder(nn.Module):
    """Encoder, decoder and prior for RGB pictures whose sides are multiples of 4.

    Args:
        n_latents: Latent channels, on a grid of a quarter of the picture's width and height.
        n_fine: Width of the hidden layers at half size.
        n_coarse: Width of the hidden layers at quarter size.
        n_blocks: Residual blocks at each size.
    """

    frequencies: Tensor

    def __init__(self, n_latents: int = 64, n_fine: int = 64, n_coarse: int = 96, n_blocks: int = 2) -> None:
        super().__init__()
        self.n_latents = n_latents
        self.n_fine = n_fine
        self.n_coarse = n_coarse
        self.n_blocks = n_blocks
        self.encoder = analysis_transform(n_latents, n_fine, n_coarse, n_blocks)
        self.decoder = synthesis_transform(n_latents, n_fine, n_coarse, n_blocks)
        self.log_gain = nn.Parameter(torch.full((n_latents, 1, 1), 2.0))
        self.prior = FactorisedPrior(n_latents)
        self.register_buffer("frequencies", torch.zeros(n_latents, 2 * TABLE_RADIUS + 1, dtype=torch.uint16))

    @property
    def config(self) -> dict[str, int]:
        """The arguments that make a network of this shape."""
        return {
            "n_latents": self.n_latents,
            "n_fine": self.n_fine,
            "n_coarse": self.n_coarse,
            "n_blocks": self.n_blocks,
        }

    def analyse(self, pictures: Tensor) -> Tensor:
        """The real-valued latent (N, C, H/4, W/4), in quantiser steps, of pictures (N, 3, H, W) in 0..1."""
        latent: Tensor = self.encoder(pictures - 0.5)
        return latent.float() * torch.exp(self.log_gain)

    def synthesise(self, latent: Tensor) -> Tensor:
        """Pictures (N, 3, H, W), about 0..1 and not clipped, of a latent (N, C, H/4, W/4)."""
        pictures: Tensor = self.decoder(latent * torch.exp(-self.log_gain))
        return pictures.float() + 0.5

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """One training pass: noise stands in for rounding in the rate, rounding itself is used for the picture.

        Returns:
            The reconstruction (N, 3, H, W) and the likelihoods of the noisy latent (N, C, H/4, W/4).
        """
        latent = self.analyse(pictures)
        likelihood = self.prior(latent + torch.rand_like(latent) - 0.5)
        rounded = latent + (torch.round(latent) - latent).detach()
        return self.synthesise(rounded), likelihood


PRECISION_BITS = 16
STATE_BITS = 64
_SEAL = (1 << 32) - 1
_SPARE_BITS = 512
"""By so much the bits that symbols take may be above those of their stream: its zeros at the end are not written."""
Symbols = NDArray[np.int32]
RUN_PICTURES, RUN_PIXELS = 256, 1 << 18
"""Of pictures in one stream at most, whose sides are multiples of 4; one picture may have more pixels."""
COST_STEPS = 1 << 16


@dataclass(frozen=True, slots=True)
class CodedRun:
    """Pictures of one size in one stream.

    Attributes:
        n_pictures: How many.
        data: The stream; it holds the latents and nothing else: the decoder must know number and size of the pictures.
        costs: What each picture takes of it, in 2**-16 bit; empty if not known.
    """

    n_pictures: int
    data: bytes
    costs: tuple[int, ...] = ()


def longest_run(height: int, width: int) -> int:
    """How many pictures of a size, its sides multiples of 4, go into one stream at most."""
    return max(1, min(RUN_PICTURES, RUN_PIXELS // (height * width)))


def runs_of(n_pictures: int, height: int, width: int) -> Iterator[slice]:
    """Which of so many pictures of one size go into one stream."""
    step = longest_run(height, width)
    return (slice(begin, begin + step) for begin in range(0, n_pictures, step))


def integer_tables(counts: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Frequencies of each channel's symbols, every one at least 1, that sum to 2**16.

    Args:
        counts: How often each symbol occurred, (n_channels, n_symbols).
        prior: Probabilities that smooth the counts, the same shape; weighs as much as 20 symbols.
    """
    n_symbols = counts.shape[1]
    weights = counts + 20 * prior / prior.sum(axis=1, keepdims=True)
    spare = (1 << PRECISION_BITS) - n_symbols
    ideal = weights / weights.sum(axis=1, keepdims=True) * spare
    tables = np.floor(ideal).astype(np.int64)
    for row, fractions in zip(tables, ideal - tables, strict=True):
        row[np.argsort(-fractions, kind="stable")[: spare - row.sum()]] += 1
    positive: NDArray[np.uint16] = (tables + 1).astype(np.uint16)
    return positive


class LatentCoder:
    """Codes latents with one table per channel.

    Args:
        frequencies: uint16 (n_channels, n_symbols), each row summing to 2**16; symbol 0 is the middle column.

    Raises:
        InputError: If the tables are not of that kind, or the package constriction is not installed.
    """

    def __init__(self, frequencies: NDArray[np.uint16]) -> None:
        if frequencies.ndim != 2 or frequencies.shape[1] % 2 == 0:
            raise InputError(f"entropy tables of shape {frequencies.shape}: want (channels, an odd number)")
        if frequencies.min(initial=1) == 0 or np.any(frequencies.sum(axis=1, dtype=np.int64) != 1 << PRECISION_BITS):
            raise InputError("entropy tables must be positive and sum to 2**16: was the network trained to its end?")
        self._radius = frequencies.shape[1] // 2
        probabilities = frequencies.astype(np.float64) / (1 << PRECISION_BITS)
        self._least_costs = least_costs(frequencies, PRECISION_BITS)
        self._costs = symbol_costs(frequencies, PRECISION_BITS)
        self._stream = stream_coders()
        self._models = [self._stream.model.Categorical(p, perfect=False) for p in probabilities]

    def encode(self, latent: Symbols) -> bytes:
        """The bytes of a latent (n_channels, H, W), values clipped to the tables' range."""
        coder = self._stream.queue.RangeEncoder()
        symbols = self._symbols(latent)
        least_bits = 0
        for channel, model, costs in zip(symbols, self._models, self._least_costs, strict=True):
            coder.encode(channel.ravel(), model)
            least_bits += int(costs[channel].sum())
        return stream_bytes(coder, least_bits)

    def decode(self, data: bytes, height: int, width: int) -> Symbols:
        """The latent (n_channels, height, width) of its bytes.

        There is no checksum: damaged bytes are either refused or another latent's.

        Raises:
            BitstreamError: If the bytes are not those that `encode` writes for any such latent.
        """
        coder = self._stream.queue.RangeDecoder(words_of_bytes(data))
        out = np.empty((len(self._models), height, width), np.int32)
        least_bits = 0
        try:
            for channel, model, costs in zip(out, self._models, self._least_costs, strict=True):
                channel[:] = coder.decode(model, height * width).reshape(height, width)
                least_bits += int(costs[channel].sum())
                check_length(data, least_bits)
        except (AssertionError, ValueError) as error:
            raise BitstreamError(f"the latent does not decode: {error}") from error
        if self.encode(out - self._radius) != data:
            raise BitstreamError("the bytes are not those of any latent of this size: damaged or too long")
        return out - np.int32(self._radius)

    def encode_run(self, latents: Symbols) -> CodedRun:
        """The stream of latents (N, n_channels, H, W)."""
        costs = np.zeros(len(latents), np.int64)
        for channel, table in zip(self._symbols(latents).swapaxes(0, 1), self._costs, strict=True):
            costs += table[channel].sum(axis=(1, 2))
        beside = np.moveaxis(latents, 0, -2)
        data = self.encode(beside.reshape(*beside.shape[:2], -1))
        return CodedRun(len(latents), data, tuple(costs.tolist()))

    def decode_run(self, run: CodedRun, height: int, width: int) -> Symbols:
        """The latents (N, n_channels, height, width) of a stream; raises as `decode`."""
        beside = self.decode(run.data, height, run.n_pictures * width)
        return np.moveaxis(beside.reshape(len(beside), height, run.n_pictures, width), -2, 0)

    def _symbols(self, latent: Symbols) -> Symbols:
        symbols: Symbols = (np.clip(latent, -self._radius, self._radius) + self._radius).astype(np.int32)
        return symbols


def stream_coders() -> Any:
    """The module `constriction.stream`, imported when bytes are coded: on Linux, there is a wheel for x86-64 alone.

    Raises:
        InputError: If the package is not installed.
    """
    try:
        from constriction import stream
    except ImportError:
        raise InputError(
            "the bytes of an autoencoder need the package constriction: pip install constriction (its wheels are for "
            "Windows, macOS, and Linux on x86-64)"
        ) from None
    return stream


def least_costs(frequencies: NDArray[np.integer], precision_bits: int) -> NDArray[np.int64]:
    """Whole bits that symbols of these frequencies, in units of 2**-precision_bits, take at least."""
    _, n_digits = np.frexp(frequencies.astype(np.float64))
    return precision_bits - n_digits.astype(np.int64)


def symbol_costs(frequencies: NDArray[np.integer], precision_bits: int) -> NDArray[np.int64]:
    """About what symbols of these frequencies, in units of 2**-precision_bits, take, in 2**-16 bit."""
    bits = precision_bits - np.log2(frequencies.astype(np.float64))
    costs: NDArray[np.int64] = np.rint(COST_STEPS * bits).astype(np.int64)
    return costs


def stream_bytes(coder: Any, least_bits: int) -> bytes:
    """The bytes of a stream whose symbols take so many bits at least: its shortest, with zeros that bring it near them.

    Without these zeros a decoder could not tell a picture that is all of the first symbol from bytes that have ended.
    """
    return shortest_bytes(coder).ljust(-(-(least_bits - _SPARE_BITS) // 8), b"\x00")


def check_length(data: bytes, least_bits: int) -> None:
    """Raises BitstreamError if symbols take more bits than a stream has, long before all of them are decoded."""
    if least_bits > 8 * len(data) + _SPARE_BITS:
        raise BitstreamError(f"the latent does not decode: {len(data)} bytes are too few for a picture of this size")


def shortest_bytes(coder: Any) -> bytes:
    """The shortest bytes that decode to what was encoded, zero bytes at the end left to the decoder.

    The symbols so far are one interval of binary fractions, and every number in it decodes to them. The coder
    itself seals with the number `lower + 2**32 - 1`, cut to whole words, which spends about 3 bytes too many.
    """
    words: NDArray[np.uint32] = coder.get_compressed()
    n_words: int
    n_words, (lower, size) = coder.pos()
    # get_compressed has carried that number's overflow into the words; its 64 low bits are known from `lower`.
    sealed = int.from_bytes(words[:n_words].astype(">u4").tobytes(), "big") << STATE_BITS
    sealed |= (lower + _SEAL) % (1 << STATE_BITS)
    first: int = sealed - _SEAL
    last: int = first + size - 1
    n_bits = 32 * n_words + STATE_BITS
    n_zeros = ((first - 1) ^ last).bit_length() - 1 if first else n_bits
    roundest = last >> n_zeros << n_zeros  # the number of first..last with the most zero bits at its end
    return roundest.to_bytes(n_bits // 8, "big").rstrip(b"\x00")


def words_of_bytes(data: bytes) -> NDArray[np.uint32]:
    """The decoder's words; it reads zeros behind them."""
    return np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)


Pictures = NDArray[np.uint8]


def encode_pictures(network: Autoencoder, pictures: Pictures) -> list[CodedRun]:
    """Streams of as many pictures each as may be.

    Args:
        network: The trained autoencoder.
        pictures: uint8 RGB (N, H, W, 3), sides multiples of 4.

    Raises:
        ShapeError: If the pictures are not of that form.
        InputError: If the network has no entropy tables.
        VvcNnrError: If the network gives NaN or infinity.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ShapeError(f"pictures must be uint8 (N, H, W, 3), got {pictures.dtype} {pictures.shape}")
    if any(not side or side % 4 for side in pictures.shape[1:3]):
        raise ShapeError(f"pictures of {pictures.shape[2]}x{pictures.shape[1]}: sides must be positive multiples of 4")
    coder = _coder(network)
    return [coder.encode_run(_latents(network, pictures[part])) for part in runs_of(*pictures.shape[:3])]


def decode_pictures(network: Autoencoder, runs: Sequence[CodedRun], width: int, height: int) -> Pictures:
    """The pictures of their streams, uint8 RGB (N, height, width, 3).

    Raises:
        ShapeError: If a side is not a positive multiple of 4.
        InputError: If the network has no entropy tables.
        BitstreamError: If a stream is damaged.
        VvcNnrError: If the network gives NaN or infinity.
    """
    if width < 4 or height < 4 or width % 4 or height % 4:
        raise ShapeError(f"pictures of {width}x{height}: sides must be positive multiples of 4")
    coder = _coder(network)
    out = [np.empty((0, height, width, 3), np.uint8)]  # no more than what has been decoded, whatever is claimed
    out += (_pictures(network, coder.decode_run(run, height // 4, width // 4)) for run in runs)
    return np.concatenate(out)


def _coder(network: Autoencoder) -> LatentCoder:
    return LatentCoder(network.frequencies.cpu().numpy())


def _latents(network: Autoencoder, pictures: Pictures) -> NDArray[np.int32]:
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        latent = network.eval().analyse(tensor.contiguous(memory_format=torch.channels_last))
    _check_finite(latent)
    return torch.round(latent).clamp(-(2**30), 2**30).to(torch.int32).numpy()


def _pictures(network: Autoencoder, latents: NDArray[np.int32]) -> Pictures:
    with torch.inference_mode():
        output = network.eval().synthesise(torch.from_numpy(np.ascontiguousarray(latents)).float())
    _check_finite(output)
    samples = torch.round(output.clamp(0, 1) * 255).to(torch.uint8)
    return samples.permute(0, 2, 3, 1).contiguous().numpy()


def _check_finite(tensor: torch.Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
