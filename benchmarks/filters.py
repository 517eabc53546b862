"""Filters on every backend that is installed: time per picture, from Frame to Frame, and what a backend changes.

    python benchmarks/filters.py speed [--networks vlop lop hop] [--size 1920x1080] [--threads 2] [--backends ...]
    python benchmarks/filters.py fidelity PHOTOGRAPHS --networks inloop-postfilter [--qps 22 37] [--count 6]

Speed: random pictures of 10 bit through `Runner.filter_frames`. Each row is the median of several runs of a few
pictures. Processor time is of all threads together, and so says what a busy machine hides: threads over it are the
pictures per second of as many free cores. Networks are bundled ones, files, or rungs of the ladder with fresh weights.

Fidelity: photographs coded by libvvenc, with all its in-loop filters, decoded and filtered; PSNR, and the samples that
differ from torch in float32.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.kinds import size
from vvc_nnr.experiments.cli.pictures import cache_folder
from vvc_nnr.filters.inference.choice import BackendName, Precision, chosen_backend
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopNetwork, LadderFilter
from vvc_nnr.filters.zoo import load_network
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import image_files, read_image, rgb_to_frame
from vvc_nnr.sequences.metrics import frame_psnr_db

ALL_WAYS = [f"{b}:{p}" for b, p in itertools.product(get_args(BackendName), get_args(Precision))]


def network_of(name: str) -> InLoopNetwork:
    """A rung with fresh weights and a tail that is not zero, else a network of the zoo or a file."""
    if name not in RUNGS:
        return cast(InLoopNetwork, load_network(name).network)
    torch.manual_seed(0)
    network = LadderFilter(**RUNGS[name])
    torch.nn.init.normal_(network.tail.weight, 0, 0.1)
    return network.to(memory_format=torch.channels_last).eval()


def installed(ways: list[str]) -> Iterator[tuple[BackendName, Precision]]:
    """The backends with a precision that can run here; the others are named."""
    for way in ways:
        backend, _, precision = way.partition(":")
        try:
            yield chosen_backend(backend, precision or "float32"), precision or "float32"
        except InputError as error:
            if "computes in" not in str(error):
                print(f"left out: {error}")


def random_pictures(width: int, height: int, n: int) -> list[Frame]:
    """Pictures of 10 bit."""
    rng = np.random.default_rng(0)
    shapes = VideoFormat(width, height, 10).plane_shapes
    return [Frame(tuple(rng.integers(0, 1024, s, np.uint16) for s in shapes), 10, "420") for _ in range(n)]


def seconds_per_picture(runner: Runner, pictures: list[Frame]) -> tuple[float, float]:
    """Wall time and processor time."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    n = sum(1 for _ in runner.filter_frames((picture, 32) for picture in pictures))
    return (time.perf_counter() - wall_s) / n, (time.process_time() - cpu_s) / n


def speed(arguments: argparse.Namespace) -> None:
    """Prints a table of times."""
    width, height = arguments.size
    pictures = random_pictures(width, height, arguments.pictures)
    print(f"{width}x{height}, {arguments.threads} threads, median of {arguments.runs} x {arguments.pictures} pictures")
    print("| network | backend | first picture [s] | processor time [ms] | pictures/s on free cores | wall time [ms] |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in arguments.networks:
        for backend, precision in installed(arguments.backends):
            start_s = time.perf_counter()
            runner = Runner(network_of(name), backend=backend, precision=precision, n_threads=arguments.threads)
            seconds_per_picture(runner, pictures[:1])
            first_s = time.perf_counter() - start_s
            times = [seconds_per_picture(runner, pictures) for _ in range(arguments.runs)]
            wall_s, cpu_s = (statistics.median(column) for column in zip(*times, strict=True))
            row = f"| {name} | {runner.description} | {first_s:.1f} | {1000 * cpu_s:.1f} "
            print(row + f"| {arguments.threads / cpu_s:.1f} | {1000 * wall_s:.0f} |", flush=True)
    print("load average:", *(f"{load:.1f}" for load in os.getloadavg()))


def coded_pictures(folder: Path, count: int, qp: int, cache: Path) -> Iterator[tuple[Frame, Frame]]:
    """Photographs and what VVC makes of them."""
    for path in image_files(folder)[:count]:
        original = rgb_to_frame(read_image(path), bit_depth=10)
        encoder = VvcEncoder(VvcOptions(qp), cache=cache)
        coded = encoder.encode([original])
        yield original, next(iter(decode_vvc(coded.stream, width=original.width, height=original.height)))


def fidelity(arguments: argparse.Namespace) -> None:
    """Prints a table of differences."""
    print("| network | QP | backend | PSNR Y [dB] | change [dB] | samples that differ | most |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for qp in arguments.qps:
        pairs = list(coded_pictures(arguments.folder, arguments.count, qp, arguments.cache))
        for name in arguments.networks:
            network = network_of(name)
            reference: list[Frame] = []
            for backend, precision in [("torch", "float32"), *installed(arguments.backends)]:
                runner = Runner(network, backend=backend, precision=precision, n_threads=1)
                filtered = [runner.filter_frame(decoded, qp) for _, decoded in pairs]
                reference = reference or filtered
                row = differences([original for original, _ in pairs], reference, filtered)
                print(f"| {name} | {qp} | {runner.description} | {row} |", flush=True)


def differences(originals: list[Frame], reference: list[Frame], filtered: list[Frame]) -> str:
    """PSNR, its change, and how many samples differ by how much."""
    before, after = (
        statistics.fmean(frame_psnr_db(o, f).y for o, f in zip(originals, frames, strict=True))
        for frames in (reference, filtered)
    )
    pairs = [(a, b) for r, f in zip(reference, filtered, strict=True) for a, b in zip(r.planes, f.planes, strict=True)]
    apart = [np.abs(a.astype(np.int32) - b) for a, b in pairs]
    share = sum(np.count_nonzero(d) for d in apart) / sum(d.size for d in apart)
    return f"{after:.4f} | {after - before:+.5f} | {100 * share:.4f} % | {max(int(d.max()) for d in apart)}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    fast = kinds.add_parser("speed")
    fast.set_defaults(run=speed)
    fast.add_argument("--networks", nargs="+", default=list(RUNGS))
    fast.add_argument("--size", type=size, default=(1920, 1080))
    fast.add_argument("--threads", type=int, default=2)
    fast.add_argument("--pictures", type=int, default=4)
    fast.add_argument("--runs", type=int, default=3)
    true = kinds.add_parser("fidelity")
    true.set_defaults(run=fidelity)
    true.add_argument("folder", type=Path)
    true.add_argument("--networks", nargs="+", default=["inloop-postfilter"])
    true.add_argument("--qps", type=int, nargs="+", default=[22, 37])
    true.add_argument("--count", type=int, default=6)
    true.add_argument("--cache", type=Path, default=cache_folder())
    for each in (fast, true):
        each.add_argument("--backends", nargs="+", default=ALL_WAYS, metavar="BACKEND[:PRECISION]")
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
