"""The commands encode, decode and filter."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeAlias, get_args

from tqdm import tqdm

from vvc_nnr.codec.decoder import DecoderTool, ExternalDecoder, decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import MIN_SIDE, EncodedSequence, LoopFilters, Preset, VvcOptions
from vvc_nnr.codec.vvc_stream import VvcStream, check_one_format, read_vvc_stream
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import (
    Commands,
    Outcome,
    add_command,
    add_encoder_options,
    add_inference_options,
    add_raw_options,
    fraction,
    output_path,
    positive,
    qp,
    size,
    source_of,
    threads,
)
from vvc_nnr.experiments.cli_decisions import add_decision_options, filter_by_decisions, wants_decisions
from vvc_nnr.experiments.cli_inspect_nnc import network_path
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.outputs import check_outputs
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.zoo import load_inloop_filter
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.source import open_writer

_FormatOf: TypeAlias = Callable[[Frame], VideoFormat]

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
        "code pictures as VVC intra pictures",
        "vvc-nnr encode in.y4m --qp 32 -o out.266",
        _encode,
    )
    parser.add_argument("input", type=Path, help=".yuv, .y4m, video or image")
    parser.add_argument("-o", "--output", type=output_path, required=True, help="the VVC byte stream to write")
    parser.add_argument("--qp", type=qp, required=True, help="0 to 63")
    parser.add_argument("--preset", choices=get_args(Preset), default="faster", help="libvvenc's preset")
    parser.add_argument(
        "--loop-filters", choices=get_args(LoopFilters), default="all", help="in-loop filters of the codec"
    )
    parser.add_argument("--pictures", type=positive, metavar="N", help="at most N pictures")
    parser.add_argument("--threads", type=threads, default=2, help="encoder threads")
    add_encoder_options(parser)
    add_raw_options(parser)


def _encode(arguments: argparse.Namespace) -> Outcome:
    check_outputs([arguments.input, arguments.vtm_config], [arguments.output])
    source = source_of(arguments.input, arguments)
    options = VvcOptions(arguments.qp, arguments.preset, arguments.loop_filters, arguments.threads, arguments.sao)
    encoder = VvcEncoder(options, encoder=arguments.encoder, config=arguments.vtm_config)
    frames = _shown(source.frames(count=arguments.pictures), "encode", arguments.pictures or source.n_pictures)
    with AtomicFile(arguments.output) as file:  # first: a place that cannot be written is known at once
        with naming(arguments.input):
            coded = encoder.encode(frames, source.format.fps)
        file.write(coded.stream)
    outcome = _with_unstated(_encoded(arguments, coded), source.format)
    return _with_damage(outcome, source.damage(arguments.pictures))


def _encoded(arguments: argparse.Namespace, coded: EncodedSequence) -> Outcome:
    width, height, fps = coded.format.width, coded.format.height, coded.format.fps
    n_pictures = len(coded.pictures)
    kbps = coded.n_bits / n_pictures * float(fps) / 1000
    is_padded = width % 2 or height % 2 or min(width, height) < MIN_SIDE
    text = (
        f"{arguments.output}: {n_pictures} pictures, {coded.n_bits} bits ({kbps:.1f} kbps at {fps} fps), "
        f"{len(coded.stream)} bytes, {coded.encode_s:.2f} s"
        + (f"; decode with --size {width}x{height}, since it was padded" if is_padded else "")
    )
    data = {
        "output": str(arguments.output),
        "n_pictures": n_pictures,
        "width": width,
        "height": height,
        "n_bits": coded.n_bits,
        "rate_kbps": kbps,
        "stream_bytes": len(coded.stream),
        "encode_s": coded.encode_s,
        "encoder": coded.encoder,
        "qp": arguments.qp,
        "preset": arguments.preset,
        "loop_filters": arguments.loop_filters,
        "picture_bits": [picture.n_bits for picture in coded.pictures],
    }
    return Outcome(text, data)


def _with_unstated(outcome: Outcome, source: VideoFormat) -> Outcome:
    """The outcome with what the source states and a decoder of the stream, which has no VUI, would take otherwise."""
    unstated = {
        "colour_range": source.colour_range if source.colour_range == "full" else None,
        "chroma_location": source.chroma_location if source.chroma_location != "left" else None,
        "pixel_aspect": str(source.pixel_aspect) if source.pixel_aspect not in (None, 1) else None,
    }
    lost = {key: value for key, value in unstated.items() if value is not None}
    if not lost:
        return outcome
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in lost.items())
    return Outcome(f"{outcome.text}; the stream does not state {words}", outcome.data | {"unstated": lost})


def _with_damage(outcome: Outcome, damage: str | None) -> Outcome:
    """The outcome with what was damaged of the pictures that it was made from."""
    if damage is None:
        return outcome
    text = f"{outcome.text}; its input is damaged and was taken as FFmpeg conceals it: {damage}"
    return Outcome(text, outcome.data | {"damage": damage})


def _add_decode(commands: Commands) -> None:
    parser = add_command(
        commands,
        "decode",
        "decode a VVC byte stream and check every picture against its MD5",
        "vvc-nnr decode out.266 -o out.y4m",
        _decode,
    )
    parser.add_argument("input", type=Path, help="a VVC byte stream")
    parser.add_argument("-o", "--output", type=output_path, required=True, help=".y4m or .yuv to write")
    parser.add_argument("--size", type=size, metavar="WxH", help="crop to the size before padding")
    parser.add_argument("--fps", type=fraction, metavar="F", help="rate for the .y4m; default: the stream's, or 30")
    parser.add_argument(
        "--decoder", choices=("ffmpeg", *get_args(DecoderTool)), default="ffmpeg", help="or a program on the PATH"
    )


def _decode(arguments: argparse.Namespace) -> Outcome:
    check_outputs([arguments.input], [arguments.output])
    width, height = arguments.size or (None, None)
    decode = decode_vvc if arguments.decoder == "ffmpeg" else ExternalDecoder(arguments.decoder).decode
    stream = _vvc_stream(arguments.input)
    pictures = _shown(decode(stream, width=width, height=height), "decode", len(stream.output_order))
    written = _write(arguments, pictures, _stated(stream, arguments.fps).holding)
    text, data = _verified(stream)
    return Outcome(f"{written.text}; {text}", written.data | data)


def _vvc_stream(path: Path) -> VvcStream:
    """What the headers of a stream say, once one file can hold all its pictures."""
    with naming(path):
        stream = read_vvc_stream(path)
        check_one_format(stream)
    return stream


def _stated(stream: VvcStream, fps: Fraction | None) -> VideoFormat:
    """What the stream says of its pictures, at the rate that the user gives."""
    return replace(stream.first.format, fps=fps) if fps is not None else stream.first.format


def _verified(stream: VvcStream) -> tuple[str, dict[str, object]]:
    """How many pictures were held against a hash of the stream, as text and as data."""
    names = {"md5": "MD5", "crc": "CRC", "checksum": "checksum"}
    found = [kind for kind in stream.hash_types if kind is not None]
    kinds = [name for kind, name in names.items() if kind in found]
    data: dict[str, object] = {"n_verified": len(found), "picture_hash": " ".join(kinds) or None}
    if not found:
        return "not verified: the stream has no picture hashes", data
    what = "all" if len(found) == len(stream.hash_types) else f"{len(found)} of {len(stream.hash_types)}"
    return f"{what} verified by {' and '.join(kinds)}", data


def _add_filter(commands: Commands) -> None:
    parser = add_command(
        commands,
        "filter",
        "run a CNN filter over any decoder's output",
        "vvc-nnr filter decoded.y4m --model inloop-postfilter --qp 32 -o filtered.y4m",
        _filter,
    )
    parser.add_argument("input", type=Path, help="decoded .yuv or .y4m, video, image, or a VVC stream (.266)")
    parser.add_argument("-o", "--output", type=output_path, required=True, help=".y4m or .yuv to write")
    parser.add_argument("--model", required=True, help="name of a bundled network, or a network file")
    parser.add_argument("--qp", type=qp, required=True, help="QP that the pictures were coded with, 0 to 63")
    parser.add_argument("--tile", type=positive, default=DEFAULT_TILE, help="side of the tiles, luma samples")
    parser.add_argument("--threads", type=threads, help="threads of the network; default: one per core")
    add_inference_options(parser)
    add_decision_options(parser)
    add_raw_options(parser)


def _filter(arguments: argparse.Namespace) -> Outcome:
    by_decisions = wants_decisions(arguments)
    inputs = [arguments.input, arguments.original, arguments.decisions, network_path(arguments.model)]
    check_outputs(inputs, [arguments.output, arguments.decisions_out])
    runner = Runner(
        load_inloop_filter(arguments.model),
        backend=arguments.backend,
        precision=arguments.precision,
        n_threads=arguments.threads,
        tile=arguments.tile,
        device=arguments.device,
    )
    decoded = _decoded_pictures(arguments)
    frames = _shown(decoded.frames, "filter", decoded.n_pictures)
    if by_decisions:
        correct = partial(correction_by, runner, qp=arguments.qp)
        written = filter_by_decisions(
            arguments, frames, correct, lambda filtered: _write(arguments, filtered, decoded.format_of)
        )
    else:
        written = _write(arguments, runner.filter_frames((frame, arguments.qp) for frame in frames), decoded.format_of)
    inference = {"backend": runner.backend, "precision": runner.precision, "inference": runner.description}
    text = "; ".join(filter(None, (written.text, decoded.verified, runner.description)))
    return _with_damage(Outcome(text, {**written.data, **decoded.verified_data} | inference), decoded.damage)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The pictures to filter.

    Attributes:
        frames: The pictures.
        n_pictures: How many, None where it is not known.
        format_of: What their file states of each.
        damage: What is damaged in their file.
        verified: How many of a stream's pictures are held against a hash, as text.
        verified_data: The same as data.
    """

    frames: Iterator[Frame]
    n_pictures: int | None
    format_of: _FormatOf
    damage: str | None = None
    verified: str = ""
    verified_data: Mapping[str, object] = field(default_factory=dict)


def _decoded_pictures(arguments: argparse.Namespace) -> _Decoded:
    if arguments.input.suffix.lower() in VVC_SUFFIXES:
        if arguments.stream is not None or arguments.allow_damaged:
            raise InputError(f"{arguments.input}: --stream and --allow-damaged are for video files, this is a stream")
        width, height = arguments.size or (None, None)
        stream = _vvc_stream(arguments.input)
        frames = decode_vvc(stream, width=width, height=height)
        format_of = _stated(stream, arguments.fps).holding
        verified, data = _verified(stream)
        return _Decoded(frames, len(stream.output_order), format_of, verified=verified, verified_data=data)
    source = source_of(arguments.input, arguments)
    return _Decoded(source.frames(), source.n_pictures, source.format.holding, damage=source.damage())


def _shown(frames: Iterator[Frame], what: str, total: int | None) -> Iterator[Frame]:
    yield from tqdm(frames, desc=what, unit="picture", total=total, disable=True if total == 1 else None)


def _named(path: Path, frames: Iterator[Frame]) -> Iterator[Frame]:
    with naming(path):
        yield from frames


def _write(arguments: argparse.Namespace, frames: Iterator[Frame], format_of: _FormatOf) -> Outcome:
    """Writes the pictures of the command's input to its output, with what `format_of` the first one states."""
    start_s = time.perf_counter()
    path, frames = arguments.output, _named(arguments.input, frames)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{arguments.input}: holds no picture, nothing written")
    n_pictures = 1
    with open_writer(path, format_of(first)) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
            n_pictures += 1
    elapsed_s = time.perf_counter() - start_s
    text = (
        f"{path}: {n_pictures} pictures, {first.width}x{first.height}, {first.bit_depth} bit, "
        f"{':'.join(first.chroma_format)}, {elapsed_s:.2f} s"
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
