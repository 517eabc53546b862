"""The commands encode, decode and filter."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from vvc_nnr.codec.vvc import LoopFilters, Preset, VvcEncoder, VvcOptions, decode_vvc
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import (
    Commands,
    Outcome,
    add_command,
    add_raw_options,
    fraction,
    positive,
    size,
    source_of,
)
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.infer import DEFAULT_TILE, filter_frame
from vvc_nnr.filters.zoo import load_inloop_filter
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import open_writer

VVC_SUFFIXES = (".266", ".vvc")


def add_commands(commands: Commands) -> None:
    """Adds the three commands."""
    _add_encode(commands)
    _add_decode(commands)
    _add_filter(commands)


def _add_encode(commands: Commands) -> None:
    parser = add_command(
        commands,
        "encode",
        "code pictures as VVC intra pictures with libvvenc",
        "vvc-nnr encode in.y4m --qp 32 -o out.266",
        _encode,
    )
    parser.add_argument("input", type=Path, help=".yuv, .y4m, video or image")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the VVC byte stream to write")
    parser.add_argument("--qp", type=int, required=True, help="0 to 63")
    parser.add_argument("--preset", choices=get_args(Preset), default="faster", help="libvvenc's preset")
    parser.add_argument(
        "--loop-filters", choices=get_args(LoopFilters), default="all", help="in-loop filters of the codec"
    )
    parser.add_argument("--pictures", type=positive, metavar="N", help="at most N pictures")
    parser.add_argument("--threads", type=positive, default=2, help="encoder threads")
    add_raw_options(parser)


def _encode(arguments: argparse.Namespace) -> Outcome:
    source = source_of(arguments.input, arguments)
    options = VvcOptions(arguments.qp, arguments.preset, arguments.loop_filters, arguments.threads)
    frames = _shown(source.frames(count=arguments.pictures), "encode", arguments.pictures or source.n_pictures)
    coded = VvcEncoder(options).encode(frames, source.format.fps)
    with AtomicFile(arguments.output) as file:
        file.write(coded.stream)
    n = len(coded.pictures)
    kbps = coded.n_bits / n * float(source.format.fps) / 1000
    needs_crop = (
        source.format.width % 2 or source.format.height % 2 or min(source.format.width, source.format.height) < 16
    )
    hint = (
        f"; decode with --size {source.format.width}x{source.format.height}, since it was padded" if needs_crop else ""
    )
    text = (
        f"{arguments.output}: {n} pictures, {coded.n_bits} bits ({kbps:.1f} kbps at {source.format.fps} fps), "
        f"{len(coded.stream)} bytes, {coded.encode_s:.2f} s{hint}"
    )
    data = {
        "output": str(arguments.output),
        "n_pictures": n,
        "n_bits": coded.n_bits,
        "rate_kbps": kbps,
        "stream_bytes": len(coded.stream),
        "encode_s": coded.encode_s,
        "encoder": coded.encoder,
        "qp": arguments.qp,
        "preset": arguments.preset,
        "loop_filters": arguments.loop_filters,
        "picture_bits": [p.n_bits for p in coded.pictures],
    }
    return Outcome(text, data)


def _add_decode(commands: Commands) -> None:
    parser = add_command(
        commands,
        "decode",
        "decode a VVC byte stream and check every picture against its MD5",
        "vvc-nnr decode out.266 -o out.y4m",
        _decode,
    )
    parser.add_argument("input", type=Path, help="a VVC byte stream")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".y4m or .yuv to write")
    parser.add_argument("--size", type=size, metavar="WxH", help="crop to the size before padding")
    parser.add_argument("--fps", type=fraction, default=Fraction(30), metavar="F", help="rate to write into .y4m")


def _decode(arguments: argparse.Namespace) -> Outcome:
    width, height = arguments.size or (None, None)
    pictures = decode_vvc(arguments.input, width=width, height=height)
    return _write(arguments.output, _shown(pictures, "decode", None), arguments.fps)


def _add_filter(commands: Commands) -> None:
    parser = add_command(
        commands,
        "filter",
        "run a CNN filter over any decoder's output",
        "vvc-nnr filter decoded.y4m --model inloop-postfilter --qp 32 -o filtered.y4m",
        _filter,
    )
    parser.add_argument("input", type=Path, help="decoded .yuv or .y4m, video, image, or a VVC stream (.266)")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".y4m or .yuv to write")
    parser.add_argument("--model", required=True, help="name of a bundled network, or a network file")
    parser.add_argument("--qp", type=int, required=True, help="QP that the pictures were coded with, 0 to 63")
    parser.add_argument("--tile", type=positive, default=DEFAULT_TILE, help="side of the tiles, luma samples")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    add_raw_options(parser)


def _filter(arguments: argparse.Namespace) -> Outcome:
    network = load_inloop_filter(arguments.model)
    if arguments.input.suffix.lower() in VVC_SUFFIXES:
        width, height = arguments.size or (None, None)
        decoded, n_pictures = decode_vvc(arguments.input, width=width, height=height), None
        fps = arguments.fps or Fraction(30)
    else:
        source = source_of(arguments.input, arguments)
        decoded, n_pictures, fps = source.frames(), source.n_pictures, source.format.fps
    filtered = (
        filter_frame(network, f, arguments.qp, tile=arguments.tile, device=arguments.device)
        for f in _shown(decoded, "filter", n_pictures)
    )
    return _write(arguments.output, filtered, fps)


def _shown(frames: Iterator[Frame], what: str, total: int | None) -> Iterator[Frame]:
    yield from tqdm(frames, desc=what, unit="picture", total=total, disable=total == 1)


def _write(path: Path, frames: Iterator[Frame], fps: Fraction) -> Outcome:
    start_s = time.perf_counter()
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: the input holds no picture, nothing written")
    n_pictures = 1
    with open_writer(path, first.format(fps)) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
            n_pictures += 1
    elapsed_s = time.perf_counter() - start_s
    text = (
        f"{path}: {n_pictures} pictures, {first.width}x{first.height}, {first.bit_depth} bit, "
        f"4:{first.chroma_format[1]}:{first.chroma_format[2]}, {elapsed_s:.2f} s"
    )
    data = {
        "output": str(path),
        "n_pictures": n_pictures,
        "width": first.width,
        "height": first.height,
        "bit_depth": first.bit_depth,
        "chroma_format": first.chroma_format,
        "elapsed_s": elapsed_s,
    }
    return Outcome(text, data)
