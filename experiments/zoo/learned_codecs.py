"""Learned image codecs of CompressAI: bytes that their own entropy coder writes, and the PSNR of what it reads.

Source: Balle et al., ICLR 2018 (bmshj2018-factorized); Cheng et al., CVPR 2020 (cheng2020-anchor); Begaint et al.,
CompressAI, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vvc_nnr.experiments.zoo.row import (
    COMPRESSAI,
    WEIGHTS,
    Metrics,
    Picture,
    Subject,
    WeightsOrigin,
    colour_pictures,
    cut_sides,
    find_weights,
    import_optional,
    module_subject,
    pictures_in,
)
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.model.torch import as_torch
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.metrics import psnr_db

# Scales of the entropy models, as CompressAI has them; up to 64, which the latents of small models do not reach.
MIN_SCALE, MAX_SCALE, N_SCALES = 0.11, 64.0, 64

Architecture = Literal["bmshj2018-factorized", "cheng2020-anchor"]
CLASSES = {"bmshj2018-factorized": "FactorizedPrior", "cheng2020-anchor": "Cheng2020Anchor"}
MULTIPLE = 64


@dataclass(frozen=True, slots=True)
class SmallCodecRow:
    """A codec of few channels whose weights ship with this package.

    Args:
        architecture: CompressAI's name.
        n_pictures: At most so many pictures, since an autoregressive model takes its time.
    """

    architecture: Architecture
    n_pictures: int = 12

    @property
    def name(self) -> str:
        """The architecture's name in the table."""
        return f"{self.architecture} (small)"

    def load(self, folder: Path | None) -> Subject:
        """The bundled codec with its bits per pixel and PSNR."""
        pictures, words = colour_pictures(MULTIPLE)
        return codec_subject(small_codec(self.architecture), "bundled", pictures[: self.n_pictures], words)


@dataclass(frozen=True, slots=True)
class PublishedCodecRow:
    """A codec with its published weights on the CLIC pictures, or of its real layout with random weights.

    Args:
        architecture: CompressAI's name.
        n_channels: The two widths of quality 1 to 5, one for an architecture that has one.
    """

    architecture: Architecture
    n_channels: tuple[int, ...]

    @property
    def name(self) -> str:
        """The architecture's name, as CompressAI writes it."""
        return self.architecture

    def load(self, folder: Path | None) -> Subject:
        """The codec with its bits per pixel and PSNR on the CLIC pictures; random weights have no task."""
        kind = model_class(self.architecture)
        path = find_weights(folder, f"{self.architecture}*.pth*")
        if path is None:
            torch.manual_seed(0)
            network = kind(*self.n_channels)
            make_tables(network)
            return module_subject(network, "random")
        network = kind.from_state_dict(as_torch(read_checkpoint(path).arrays))
        network.update()
        pictures = [cut_sides(picture, MULTIPLE) for picture in pictures_in(folder, "clic")]
        return codec_subject(network, "published", pictures, "CLIC")


def model_class(architecture: Architecture) -> Any:
    """The class of an architecture in CompressAI.

    Raises:
        NotHereError: If CompressAI is not installed.
    """
    return getattr(import_optional("compressai.models", COMPRESSAI), CLASSES[architecture])


def small_codec(architecture: Architecture) -> Any:
    """The bundled codec of few channels, with the tables of its entropy coder.

    Raises:
        NotHereError: If CompressAI is not installed.
    """
    stored = read_network(WEIGHTS / f"{architecture}.safetensors")
    tensors = {name: torch.from_numpy(array) for name, array in stored.tensors.items()}
    kind = model_class(architecture)
    network = kind(10) if architecture == "cheng2020-anchor" else kind(16, 32)
    nn.Module.load_state_dict(network, tensors, strict=False)
    make_tables(network)
    return network.eval()


def codec_subject(network: Any, weights: WeightsOrigin, pictures: Sequence[Picture], words: str) -> Subject:
    """The subject of a codec with its tables."""
    return module_subject(network, weights, f"{len(pictures)} pictures ({words})", lambda m: code_pictures(m, pictures))


def code_pictures(network: Any, pictures: Sequence[Picture]) -> Metrics:
    """Bits per pixel of real streams, and PSNR over the three channels of what is decoded from them; means."""
    n_bytes = n_pixels = 0
    scores: list[float] = []
    for picture in pictures:
        given = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        coded = network.compress(given)
        n_bytes += sum(len(stream) for streams in coded["strings"] for stream in streams)
        n_pixels += picture.shape[0] * picture.shape[1]
        output = network.decompress(coded["strings"], coded["shape"])["x_hat"][0].permute(1, 2, 0)
        if not torch.isfinite(output).all():
            return Metrics(bpp=8 * n_bytes / n_pixels, psnr_db=float("nan"))
        decoded = np.rint(output.clamp(0, 1).numpy() * 255).astype(np.uint8)
        scores.append(psnr_db(picture, decoded, bit_depth=8))
    return Metrics(bpp=8 * n_bytes / n_pixels, psnr_db=float(np.mean(scores)))


def make_tables(network: Any) -> None:
    """Gives a trained model the integer tables that its entropy coder works by."""
    if hasattr(network, "gaussian_conditional"):
        network.update(np.exp(np.linspace(math.log(MIN_SCALE), math.log(MAX_SCALE), N_SCALES)).tolist(), force=True)
    else:
        network.update(force=True)
