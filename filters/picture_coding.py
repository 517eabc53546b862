"""Pictures through the autoencoder as bytes: the encoder writes them, the decoder starts from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vvc_nnr.errors import ShapeError, VvcNnrError
from vvc_nnr.filters.latent_coding import LatentCoder
from vvc_nnr.filters.networks.autoencoder import Autoencoder

Pictures = NDArray[np.uint8]
BATCH = 100


def encode_pictures(network: Autoencoder, pictures: Pictures) -> list[bytes]:
    """One stream per picture; it holds the latent and nothing else, so the decoder must know the picture's size.

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
    if pictures.shape[1] % 4 or pictures.shape[2] % 4:
        raise ShapeError(f"pictures of {pictures.shape[2]}x{pictures.shape[1]}: sides must be multiples of 4")
    coder = _coder(network)
    return [coder.encode(latent) for batch in _batches(pictures) for latent in _latents(network, batch)]


def decode_pictures(network: Autoencoder, streams: Sequence[bytes], width: int, height: int) -> Pictures:
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
    out = np.empty((len(streams), height, width, 3), np.uint8)
    for begin in range(0, len(streams), BATCH):
        latents = [coder.decode(s, height // 4, width // 4) for s in streams[begin : begin + BATCH]]
        out[begin : begin + BATCH] = _pictures(network, np.stack(latents))
    return out


def _coder(network: Autoencoder) -> LatentCoder:
    return LatentCoder(network.frequencies.cpu().numpy())


def _batches(pictures: Pictures) -> Iterator[Pictures]:
    for begin in range(0, len(pictures), BATCH):
        yield pictures[begin : begin + BATCH]


def _latents(network: Autoencoder, pictures: Pictures) -> NDArray[np.int32]:
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        latent = network.eval().analyse(tensor.contiguous(memory_format=torch.channels_last))
    _check_finite(latent)
    return torch.round(latent).clamp(-(2**30), 2**30).to(torch.int32).numpy()


def _pictures(network: Autoencoder, latents: NDArray[np.int32]) -> Pictures:
    with torch.inference_mode():
        output = network.eval().synthesise(torch.from_numpy(latents).float())
    _check_finite(output)
    samples = torch.round(output.clamp(0, 1) * 255).to(torch.uint8)
    return samples.permute(0, 2, 3, 1).contiguous().numpy()


def _check_finite(tensor: torch.Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
