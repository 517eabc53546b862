"""What the command filter does with decisions: make them against the original, or carry them out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import Outcome, bit_depth, natural, output_path
from vvc_nnr.experiments.naming import naming
from vvc_nnr.files import AtomicFile, read_bytes
from vvc_nnr.filters.decisions.block_decisions import Correction, Decisions, apply_decisions
from vvc_nnr.filters.decisions.coding import encode_decisions
from vvc_nnr.filters.decisions.file import DecisionSequence, encode_sequence, parse_sequence
from vvc_nnr.filters.decisions.search import decide, with_wiener_filters
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.source import Source, open_source

Correct: TypeAlias = Callable[[Frame], Correction]
Write: TypeAlias = Callable[[Iterator[Frame]], Outcome]
_Made: TypeAlias = tuple[VideoFormat, Decisions]


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    """Options for the encoder's side and for the decoder's."""
    group = parser.add_argument_group("decisions by block: how strongly to filter, if at all")
    group.add_argument("--original", type=Path, metavar="FILE", help="encoder: the pictures before coding")
    group.add_argument("--original-bit-depth", type=bit_depth, metavar="B", help="of an --original that is raw .yuv")
    group.add_argument("--original-stream", type=natural, metavar="N", help="of an --original with several videos")
    group.add_argument(
        "--decisions-out", type=output_path, metavar="FILE", help="encoder: the coded decisions to write"
    )
    group.add_argument(
        "--wiener",
        action=argparse.BooleanOptionalAction,
        help="encoder: fit a Wiener filter to each picture, behind the network (default: yes)",
    )
    group.add_argument("--decisions", type=Path, metavar="FILE", help="decoder: the coded decisions to carry out")


def wants_decisions(arguments: argparse.Namespace) -> bool:
    """Whether decisions are to be made or carried out.

    Raises:
        InputError: If the options contradict each other.
    """
    makes = arguments.original is not None
    if makes != (arguments.decisions_out is not None):
        raise InputError("--original and --decisions-out: the encoder needs both, or neither")
    if makes and arguments.decisions is not None:
        raise InputError("--decisions: is the decoder's, and --original the encoder's; give one of them")
    if arguments.original_bit_depth is not None and not makes:
        raise InputError("--original-bit-depth: there is no --original")
    if arguments.original_stream is not None and not makes:
        raise InputError("--original-stream: there is no --original")
    if arguments.wiener is not None and not makes:
        raise InputError("--wiener, --no-wiener: are the encoder's, and there is no --original")
    return makes or arguments.decisions is not None


def filter_by_decisions(
    arguments: argparse.Namespace, decoded: Iterator[Frame], correct: Correct, write: Write
) -> Outcome:
    """Filters as the decisions say that are made here or read, and writes the pictures.

    Args:
        arguments: The command's.
        decoded: The pictures to filter.
        correct: Gives the network's correction of a picture.
        write: Writes the filtered pictures.

    Raises:
        InputError: If files do not fit together.
        BitstreamError: If coded decisions are damaged.
        UnsupportedError: If they are of another version.
    """
    if arguments.decisions is not None:
        with naming(arguments.decisions):
            sequence = parse_sequence(read_bytes(arguments.decisions))
        return write(_carried_out(sequence, arguments, decoded, correct))
    original = _original(arguments)
    made: list[_Made] = []
    with AtomicFile(arguments.decisions_out) as file:  # first: a place that cannot be written is known at once
        outcome = write(_decided(original, arguments, decoded, correct, made))
        decisions = [decisions for _, decisions in made]
        data = encode_sequence(decisions, made[0][0])
        file.write(data)
    return _with_bits(outcome, arguments.decisions_out, decisions, len(data))


def _carried_out(
    sequence: DecisionSequence, arguments: argparse.Namespace, decoded: Iterator[Frame], correct: Correct
) -> Iterator[Frame]:
    """The decoder's side."""
    path, input = arguments.decisions, arguments.input
    n_decided = len(sequence.payloads)
    n_pictures = 0
    for n_pictures, frame in enumerate(decoded, 1):
        if n_pictures > n_decided:
            raise InputError(f"{path}: decisions for {n_decided} pictures, and {input} holds more")
        with naming(path):
            decisions = sequence.picture(n_pictures - 1, frame.format())
        yield apply_decisions(frame, correct(frame), decisions)
    if n_pictures < n_decided:
        raise InputError(f"{path}: decisions for {n_decided} pictures, and {input} holds {n_pictures}")


def _decided(
    original: Source, arguments: argparse.Namespace, decoded: Iterator[Frame], correct: Correct, made: list[_Made]
) -> Iterator[Frame]:
    """The encoder's side; appends to `made`."""
    for reference, frame in _pairs(original, arguments.input, decoded):
        correction = correct(frame)
        decisions = decide(reference, frame, correction, arguments.qp)
        if arguments.wiener is not False:
            decisions = with_wiener_filters(decisions, reference, frame, correction, arguments.qp)
        made.append((frame.format(), decisions))
        yield apply_decisions(frame, correction, decisions)


def _pairs(original: Source, input: Path, decoded: Iterable[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """Original and decoded pictures, both at the depth of the decoded ones."""
    for reference, frame in zip_longest(original.frames(), decoded):
        if reference is None or frame is None:
            what = "fewer" if reference is None else "more"
            raise InputError(f"{original.path}: holds {what} pictures than {input}")
        reference = _alike(reference, frame)
        if reference.format() != frame.format():
            raise InputError(f"{original.path}: {_described(reference)}, and {input} is {_described(frame)}")
        yield reference, frame


def _alike(original: Frame, decoded: Frame) -> Frame:
    """The original at the decoded picture's depth; with flat chroma where 4:0:0 was coded as 4:2:0."""
    original = original.to_bit_depth(decoded.bit_depth)
    if (original.chroma_format, decoded.chroma_format) != ("400", "420"):
        return original
    chroma = VideoFormat(original.width, original.height, original.bit_depth).plane_shapes[1:]
    flat = (np.full(shape, 1 << (original.bit_depth - 1), original.planes[0].dtype) for shape in chroma)
    return Frame((original.planes[0], *flat), original.bit_depth, "420")


def _described(frame: Frame) -> str:
    return f"{frame.width}x{frame.height}, {':'.join(frame.chroma_format)}"


def _original(arguments: argparse.Namespace) -> Source:
    width, height = arguments.size or (None, None)
    return open_source(
        arguments.original,
        width=width,
        height=height,
        bit_depth=arguments.original_bit_depth,
        chroma_format=arguments.chroma_format,
        stream=arguments.original_stream,
    )


def _with_bits(outcome: Outcome, path: Path, made: list[Decisions], n_bytes: int) -> Outcome:
    """The outcome with the size of the decisions."""
    picture_bits = [8 * len(encode_decisions(decisions)) for decisions in made]
    n_off = sum(decisions.is_off for decisions in made)
    text = f"{path}: decisions of {n_bytes} bytes, {sum(picture_bits) / len(made):.1f} bits per picture, {n_off} off"
    data = {
        "decisions": str(path),
        "decision_bytes": n_bytes,
        "decision_picture_bits": picture_bits,
        "n_pictures_off": n_off,
    }
    return Outcome(f"{outcome.text}\n{text}", {**outcome.data, **data})
