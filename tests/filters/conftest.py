from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.filters.decisions.wiener import (
    MAX_CLIP_LOG2,
    MAX_COEFFICIENT,
    SHIFTS,
    WienerFilter,
    n_classes_of,
    terms_of,
)
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import rgb_to_frame


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are fastest on one thread, and the machine may be busy."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def random_frame() -> Callable[..., Frame]:
    """Makes a picture of random samples over the whole range of its bit depth."""

    def make(width: int, height: int, bit_depth: int = 10, chroma_format: str = "420", seed: int = 0) -> Frame:
        rng = np.random.default_rng(seed)
        format = VideoFormat(width, height, bit_depth, chroma_format)  # type: ignore[arg-type]
        planes = tuple(rng.integers(0, 1 << bit_depth, s).astype(format.dtype) for s in format.plane_shapes)
        return Frame(planes, bit_depth, format.chroma_format)

    return make


@pytest.fixture(scope="session")
def random_wiener() -> Callable[..., WienerFilter]:
    """Makes a Wiener filter of any sets and coefficients, some of them zeros unless it is to be full."""

    def make(component: int, seed: int = 0, *, full: bool = False) -> WienerFilter:
        rng = np.random.default_rng(seed)
        steps = rng.random(n_classes_of(component)) < (1 if full else rng.choice([0, 0.2, 0.6, 1]))
        sets = tuple(int(i) for i in np.cumsum(steps) - steps[0])
        shape = (sets[-1] + 1, len(terms_of(component)))
        largest = int(rng.choice([1, 8, MAX_COEFFICIENT]))
        coefficients = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < rng.choice([0.1, 0.7, 1]))
        coefficients[rng.random(shape[0]) < 0.2] = 0
        if full:
            coefficients = rng.integers(1, 12, shape) * rng.choice([-1, 1], shape)
        clip_log2 = 0 if component else int(rng.integers(0, MAX_CLIP_LOG2 + 1))
        return WienerFilter(int(rng.choice(SHIFTS)), clip_log2, sets, coefficients.astype(np.int16))

    return make


@pytest.fixture(scope="session")
def photographs() -> Callable[..., list[Frame]]:
    """Makes 8-bit 4:2:0 pictures, all different, cut from photographs."""
    sources = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]

    def make(n: int, width: int, height: int) -> list[Frame]:
        cuts = [sources[i % 3][10 + i : 10 + i + height, 20 + 3 * i : 20 + 3 * i + width] for i in range(n)]
        return [rgb_to_frame(np.ascontiguousarray(cut)) for cut in cuts]

    return make


@pytest.fixture
def filter_network() -> Callable[..., InLoopFilter]:
    """Makes a small in-loop filter whose weights are all random, so that every layer shows in the output."""

    def make(n_channels: int = 8, n_blocks: int = 2, seed: int = 0) -> InLoopFilter:
        torch.manual_seed(seed)
        network = InLoopFilter(n_channels, n_blocks)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.3 if parameter.dim() > 1 else 0.1)
        return network.eval()

    return make


@pytest.fixture
def autoencoder() -> Callable[..., Autoencoder]:
    """Makes a small autoencoder with random weights and entropy tables that fit none of its latents well."""

    def make(n_latents: int = 6, seed: int = 0) -> Autoencoder:
        torch.manual_seed(seed)
        network = Autoencoder(n_latents, n_fine=8, n_coarse=8, n_blocks=1)
        values = np.arange(-127, 128)
        weights = np.exp(-np.abs(values) / np.linspace(1, 9, n_latents)[:, None])
        tables = np.floor(weights / weights.sum(axis=1, keepdims=True) * (65536 - 255)).astype(np.int64) + 1
        tables[:, 127] += 65536 - tables.sum(axis=1)
        network.frequencies.copy_(torch.from_numpy(tables.astype(np.uint16)))
        return network.eval()

    return make


@pytest.fixture
def context_network() -> Callable[..., ContextAutoencoder]:
    """Makes a small autoencoder with a context prior, two operating points and random weights."""

    def make(seed: int = 0) -> ContextAutoencoder:
        torch.manual_seed(seed)
        network = ContextAutoencoder(7, n_fine=8, n_coarse=8, n_blocks=1, n_context=12, n_rates=2)
        with torch.no_grad():
            network.log_gain += torch.tensor([[0.0], [1.0]])
            network.distortion_weights.copy_(torch.tensor([0.05, 0.3]))
            for group in network.context.groups:
                for conv in (group.conv0, group.conv1, group.conv2):  # type: ignore[union-attr]
                    conv.weight.normal_(0, 0.3)  # type: ignore[union-attr, operator]
                    conv.bias.normal_(0, 0.5)  # type: ignore[union-attr, operator]
        return network.eval()

    return make


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "own-autoencoders.md"


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of networks that the document shows."""
    path = tmp_path_factory.mktemp("own") / "nets.py"
    path.write_text(re.findall(r"^```py\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)[0])
    return path
