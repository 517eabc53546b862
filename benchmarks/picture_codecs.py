"""Pictures per second of an autoencoder with a context prior at each effort, beside AVIF at speeds 0 and 6.

    python benchmarks/picture_codecs.py CIFAR10 [--count 100] [--rates 1 3] [--efforts 0 1 2 3] [--network NAME]

One thread; seconds are those of the processor. Pictures of one size go through the network many at a time, as in a file
of them. AVIF is coded picture by picture by Pillow, in 4:4:4, at the quality whose rate (`mdat` alone) comes nearest
to that of effort 0 from below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vvc_nnr.codec.image_formats import ImageCoding, encode_at_bpp
from vvc_nnr.experiments.pictures import small_pictures
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.picture_codecs import BundledCodec
from vvc_nnr.filters.zoo import load_network
from vvc_nnr.sequences.metrics import psnr_db

_T = TypeVar("_T")


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """What a call returns, and its seconds of the processor."""
    start_s = time.process_time()
    found = work()
    return found, time.process_time() - start_s


def row(name: str, pictures: NDArray[np.uint8], decoded: NDArray[np.uint8], bpp: float, times_s: list[float]) -> str:
    """A line of the table."""
    rows = ((len(p), -1) for p in pictures)
    psnr = fmean(
        psnr_db(a.reshape(shape), b.reshape(shape), bit_depth=8)
        for a, b, shape in zip(pictures, decoded, rows, strict=True)
    )
    encode, decode = (f"{len(pictures) / each_s:.1f}" for each_s in times_s)
    return f"| {name} | {bpp:.3f} | {psnr:.2f} | {encode} | {decode} |"


def autoencoder_row(codec: BundledCodec, name: str, pictures: NDArray[np.uint8]) -> tuple[str, float]:
    """The line of an autoencoder, and its bits per pixel in the streams."""
    height, width = pictures.shape[1:3]
    runs, encode_s = timed(lambda: codec.encode(pictures))
    decoded, decode_s = timed(lambda: codec.decode(runs, width, height))
    bpp = 8 * sum(len(run.data) for run in runs) / (len(pictures) * height * width)
    return row(name, pictures, decoded, bpp, [encode_s, decode_s]), bpp


def avif_row(coding: ImageCoding, name: str, pictures: NDArray[np.uint8], bpp: float) -> str:
    """The line of AVIF near a rate."""
    found = encode_at_bpp(coding, list(pictures), bpp)
    streams, encode_s = timed(lambda: [coding.encode(picture, found.quality) for picture in pictures])
    decoded, decode_s = timed(lambda: np.stack([coding.decode(stream) for stream in streams]))
    return row(name, pictures, decoded, found.mean_bpp, [encode_s, decode_s])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="CIFAR-10 in any of its forms, or a folder of images of one size")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--network", default="context-autoencoder")
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--efforts", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    network = load_network(arguments.network).network
    assert isinstance(network, ContextAutoencoder)
    pictures = np.stack(small_pictures(arguments.images).first(arguments.count).images)
    BundledCodec(network).encode(pictures[:1])  # the tables, which are made once
    print("| codec | bpp | PSNR [dB] | encoded a second | decoded a second |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for rate in arguments.rates:
        rates_bpp = []
        for effort in arguments.efforts:
            name = f"{arguments.network}@{rate}, effort {effort}"
            line, bpp = autoencoder_row(BundledCodec(network, rate, effort), name, pictures)
            rates_bpp.append(bpp)
            print(line, flush=True)
        for speed, effort in ((0, "best"), (6, "usual")):
            coding = ImageCoding("avif", "payload", effort=effort)  # type: ignore[arg-type]
            print(avif_row(coding, f"AVIF, speed {speed}", pictures, rates_bpp[0]), flush=True)


if __name__ == "__main__":
    main()
