"""Pictures for calibrated compression: crops of the user's photographs, degraded as the network is used to.

Every fourth photograph is held out: the loss that is reported was measured on crops of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.calibrate.calibration import check_pictures
from vvc_nnr.calibrate.samples import HOLD_OUT_EVERY, Calibration, Sample
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.image_formats import decode_jpeg, encode_jpeg
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, LoopFilters, VvcOptions
from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder
from vvc_nnr.filters.networks.in_loop import BUNDLED_LAYOUT
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import grids_of, network_input, network_target, read_extended
from vvc_nnr.filters.picture_codecs import OwnCodec, PictureCodec
from vvc_nnr.filters.training.autoencoder import PatchSource, random_patches
from vvc_nnr.filters.training.codec_calibration import autoencoder_calibration, own_codec_calibration
from vvc_nnr.filters.training.scenes import reduced_pictures
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import read_image, rgb_to_frame

IN_LOOP_QPS = (22, 27, 32, 37)
CROP_SIDE, FILTER_CROP_SIDE = 72, 128
N_PATCHES = 2048
N_CODEC_CROPS, CODEC_CROP_SIDE = 24, 96
MIN_HELD_OUT = 4
"""Crops by which a loss is measured, however few are followed."""
# BT.601, as grey pictures are made in the literature of denoising.
GREY = np.array([0.299, 0.587, 0.114])

Crop: TypeAlias = NDArray[np.uint8]
T = TypeVar("T")
Degrade: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class CropOptions:
    """Which crops are made.

    Attributes:
        n_fitted: How many the compression follows.
        n_held_out: How many tell its loss.
        side: Of the crops that are followed; the others are twice as wide. Smaller photographs are taken whole.
        seed: Of photographs and places.
    """

    n_fitted: int = 48
    n_held_out: int = 48
    side: int = CROP_SIDE
    seed: int = 0


def crop_options(n_crops: int | None, side: int = CROP_SIDE) -> CropOptions:
    """So many crops to follow as the user says, and as many to measure by; None: 48 and 48.

    Args:
        n_crops: At least 1.
        side: Of the crops that are followed.
    """
    usual = CropOptions(side=side)
    return usual if n_crops is None else replace(usual, n_fitted=n_crops, n_held_out=max(MIN_HELD_OUT, n_crops))


def crops(paths: Sequence[Path], options: CropOptions) -> tuple[list[Crop], list[Crop]]:
    """Crops to follow, and crops of other photographs to measure by: uint8 (H, W, 3).

    Raises:
        InputError: If there are fewer than two photographs, or one cannot be read.
    """
    rng = np.random.default_rng(options.seed)
    photographs: Divided[Path] = _divided(paths, rng, "photographs")
    return (
        _crops(photographs.followed, options.n_fitted, options.side, rng),
        _crops(photographs.held_out, options.n_held_out, 2 * options.side, rng),
    )


@dataclass(frozen=True, slots=True)
class Divided(Generic[T]):
    """Pictures, or paths of them, in two parts.

    Attributes:
        followed: What compression and fine-tuning may see.
        held_out: Every fourth, by which losses are measured.
    """

    followed: list[T]
    held_out: list[T]


def divided(
    paths: Sequence[Path], images: NDArray[np.uint8] | None = None, seed: int = 0
) -> tuple[Divided[Path], Divided[Crop]]:
    """Photographs, and small pictures if there are any, each drawn into two parts.

    Raises:
        InputError: If there are fewer than two.
    """
    rng = np.random.default_rng(seed)
    photographs = _divided(paths, rng, "photographs")
    return photographs, Divided([], []) if images is None else _divided(images, rng, "small pictures")


def _divided(pictures: Sequence[T] | NDArray[Any], rng: np.random.Generator, kind: str) -> Divided[T]:
    if len(pictures) < 2:
        raise InputError(f"calibration: {len(pictures)} {kind}; must be at least 2: one to follow, one to measure by")
    order = [pictures[i] for i in rng.permutation(len(pictures))]
    followed = [picture for place, picture in enumerate(order) if place % HOLD_OUT_EVERY]
    return Divided(followed, order[::HOLD_OUT_EVERY])


def _crops(paths: Sequence[Path], n: int, side: int, rng: np.random.Generator) -> list[Crop]:
    found = []
    for path in (paths[i % len(paths)] for i in range(n)):
        picture = read_image(path)
        height, width = (min(side, size) for size in picture.shape[:2])
        top, left = (rng.integers(0, size - s + 1) for size, s in zip(picture.shape, (height, width), strict=False))
        found.append(picture[top : top + height, left : left + width])
    return found


def restoration_calibration(
    paths: Sequence[Path], n_planes: int, degrade: Degrade | None, options: CropOptions
) -> Calibration:
    """Pictures for a network that takes grey or RGB pictures (1, n_planes, H, W) in 0..1.

    Args:
        paths: Photographs.
        n_planes: 1 or 3.
        degrade: Makes a picture what the network gets; the picture itself is then what it should return. None:
            it gets pictures as they are, and what it should return is not known.
        options: Which crops.

    Raises:
        InputError: If the network takes other pictures, or a photograph cannot be used.
    """
    if n_planes not in (1, 3):
        raise InputError(f"calibration: the network takes {n_planes} planes, photographs have 1 or 3")
    generator = torch.Generator().manual_seed(options.seed)

    def sample(crop: Crop) -> Sample:
        picture = as_picture(crop, n_planes)
        return Sample((picture,)) if degrade is None else Sample((degrade(picture, generator),), picture)

    fitted, held_out = crops(paths, options)
    return Calibration(tuple(map(sample, fitted)), tuple(map(sample, held_out)))


def as_picture(crop: Crop, n_planes: int) -> Tensor:
    """A crop as the network gets it, (1, n_planes, H, W) in 0..1."""
    planes = crop.transpose(2, 0, 1) if n_planes == 3 else np.rint(crop @ GREY)[None]
    tensor = torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None] / 255
    return tensor.contiguous(memory_format=torch.channels_last)


def gaussian_noise(sigma: float) -> Degrade:
    """White noise of a standard deviation on the scale of 0..255, not clipped."""

    def degrade(picture: Tensor, generator: torch.Generator) -> Tensor:
        return picture + sigma / 255 * torch.randn(picture.shape, generator=generator)

    return degrade


def jpeg_artefacts(quality: int) -> Degrade:
    """What libjpeg makes of a picture, 1 to 100."""

    def degrade(picture: Tensor, _: torch.Generator) -> Tensor:
        samples = (picture[0].permute(1, 2, 0).expand(-1, -1, 3).numpy() * 255).round().astype(np.uint8)
        decoded = decode_jpeg(encode_jpeg(samples, quality)).transpose(2, 0, 1)[: picture.shape[1]]
        return torch.from_numpy(decoded.astype(np.float32) / 255)[None].contiguous(memory_format=torch.channels_last)

    return degrade


def inloop_calibration(
    paths: Sequence[Path],
    qps: Sequence[int],
    loop_filters: LoopFilters,
    options: CropOptions,
    layout: Layout = BUNDLED_LAYOUT,
) -> Calibration:
    """Pictures for an in-loop filter: crops coded by VVC at each QP in turn, and the crops as targets.

    Args:
        paths: Photographs.
        qps: QPs.
        loop_filters: What the codec runs before the filter.
        options: Which crops.
        layout: How pictures go into the filter.

    Raises:
        InputError: If a photograph cannot be used.
        ExternalToolError: If the encoder fails.
    """

    def coded(frame: Frame, qp: int) -> Frame:
        stream = VvcEncoder(VvcOptions(qp, loop_filters=loop_filters)).encode([frame]).stream
        return next(decode_vvc(stream)).cropped(frame.width, frame.height)

    return _filter_calibration(crops(paths, options), qps, layout, coded)


def check_inloop_crops(network: nn.Module, paths: Sequence[Path], options: CropOptions, layout: Layout) -> None:
    """Refuses what calibration by `inloop_calibration` would refuse, before a picture is coded.

    Args:
        network: The filter.
        paths: Photographs; so are the others as there.
        options: Which crops.
        layout: How pictures go into the filter.

    Raises:
        InputError: If the crops are smaller than what an output of the network depends on, or cannot be used.
    """
    fitted, held_out = crops(paths, replace(options, n_held_out=1))
    one_of_each = list({crop.shape: crop for crop in fitted}.values())
    check_pictures(network, _filter_calibration((one_of_each, held_out), IN_LOOP_QPS, layout, lambda frame, _: frame))


def _filter_calibration(
    parts: tuple[list[Crop], list[Crop]], qps: Sequence[int], layout: Layout, coded: Callable[[Frame, int], Frame]
) -> Calibration:
    """Samples of crops to follow and to measure by, each as a codec returns it at one of the QPs."""
    fitted, held_out = parts

    def samples(place: int, crop: Crop) -> list[Sample]:
        qp = qps[place % len(qps)]
        frame = rgb_to_frame(crop).to_bit_depth(CODED_BIT_DEPTH)
        return filter_samples(layout, frame, coded(frame, qp), qp)

    return Calibration(
        tuple(sample for place, crop in enumerate(fitted) for sample in samples(place, crop)),
        tuple(sample for place, crop in enumerate(held_out) for sample in samples(place, crop)),
        run=partial(without_margin, layout),
        peak=layout.peak(CODED_BIT_DEPTH),
        accepts_small=layout.patch is not None or layout.reach == math.inf,
    )


def filter_samples(layout: Layout, original: Frame, decoded: Frame, qp: float) -> list[Sample]:
    """What a filter takes of a decoded picture and what it should return: one sample for each time that it is run.

    Args:
        layout: The filter's. Of a network of fixed size it is the middle of the picture.
        original: The picture before coding.
        decoded: The picture after it.
        qp: The QP that it was coded with.
    """
    margin = layout.overlap
    second = (torch.tensor([layout.qp_input(qp)]),) if layout.qp == "scalar" else ()
    found = []
    for before, after in zip(grids_of(original, layout), grids_of(decoded, layout), strict=True):
        height, width = layout.patch or (
            layout.align * -(-side // layout.align) + 2 * margin for side in (after.height, after.width)
        )
        top, left = max(0, after.height - height) // 2, max(0, after.width - width) // 2
        window = (top - margin, left - margin, height, width)
        wanted, given = read_extended(before, window), read_extended(after, window)
        inner = (slice(None), slice(margin, height - margin), slice(margin, width - margin))
        target = network_target(layout, wanted, given)[inner]
        found.append(Sample((_batch(network_input(layout, given, qp)), *second), _batch(target)))
    return found


def without_margin(layout: Layout, model: nn.Module, *inputs: Tensor) -> Tensor:
    """A filter's output without the margin of its input that it does not answer for; it may change a copy in place."""
    output: Tensor = model(inputs[0].clone(), *inputs[1:])
    margin = layout.overlap
    if not margin or output.shape[2:] != inputs[0].shape[2:]:
        return output
    return output[:, :, margin:-margin, margin:-margin]


def _batch(planes: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(planes)[None].contiguous(memory_format=torch.channels_last)


def patches(
    paths: Sequence[Path], images: NDArray[np.uint8] | None, n: int = N_PATCHES
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Patches (n, 32, 32, 3) to follow, and n // 4 to measure by, of other pictures.

    Args:
        paths: Photographs, which are reduced by several factors.
        images: Small pictures (N, 32, 32, 3), of which half of the patches are then; None: there are none.
        n: How many.

    Raises:
        InputError: If there are fewer than two photographs or pictures, or one cannot be used.
    """
    photographs, small = divided(paths, images)
    rng = np.random.default_rng(0)

    def cut(part: Sequence[Path], own: Sequence[Crop], n: int) -> NDArray[np.uint8]:
        sources = [PatchSource(reduced_pictures(part), 1.0)]
        return random_patches([*sources, PatchSource(own, 1.0)] if own else sources, rng, n)

    fitted = cut(photographs.followed, small.followed, n)
    return fitted, cut(photographs.held_out, small.held_out, max(1, n // 4))


def codec_calibration(
    codec: PictureCodec, paths: Sequence[Path], n_crops: int | None = None, images: NDArray[np.uint8] | None = None
) -> Calibration:
    """Pictures for an autoencoder, which is to return them in few bits: patches for bundled ones, crops for any other.

    Args:
        codec: The autoencoder.
        paths: Photographs.
        n_crops: Crops (for bundled ones patches) to follow; None: 24 (2048).
        images: For bundled ones: small pictures (N, 32, 32, 3), of which half of the patches are then.

    Raises:
        InputError: If there are fewer than two photographs, or one cannot be read.
    """
    if isinstance(codec.network, BundledAutoencoder):
        n_patches = N_PATCHES if n_crops is None else n_crops
        return autoencoder_calibration(codec.network, *patches(paths, images, n_patches))
    n_fitted = N_CODEC_CROPS if n_crops is None else n_crops
    side = -(-max(CODEC_CROP_SIDE, 2 * codec.stride) // codec.stride) * codec.stride
    fitted, held_out = crops(paths, CropOptions(n_fitted, max(MIN_HELD_OUT, n_fitted // 2), side))

    assert isinstance(codec, OwnCodec)
    return own_codec_calibration(codec, fitted, held_out)
