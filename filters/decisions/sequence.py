"""A network over a sequence with decisions: made against the original and written, or read and carried out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile, naming, read_bytes
from vvc_nnr.filters.decisions.block_decisions import Correction, Decisions, apply_decisions
from vvc_nnr.filters.decisions.coding import (
    DecisionSequence,
    MadeWith,
    encode_decisions,
    encode_sequence,
    parse_sequence,
)
from vvc_nnr.filters.decisions.search import decide, with_wiener_filters
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.source import Source

Correct: TypeAlias = Callable[[Frame, int], Correction]
"""Gives a network's correction of a picture of a QP, as `correction_by` does."""
_Written = TypeVar("_Written")


@dataclass(frozen=True, slots=True)
class MadeDecisions(Generic[_Written]):
    """Decisions that were made, coded and written.

    Attributes:
        written: What the caller's writer of pictures returned.
        n_bytes: Size of the decisions' file.
        picture_bits: Bits of each picture's decisions.
        n_off: Pictures in which the network is switched off.
    """

    written: _Written
    n_bytes: int
    picture_bits: tuple[int, ...]
    n_off: int


def filter_and_decide(
    original: Source,
    decoded: Iterator[tuple[Frame, int]],
    correct: Correct,
    target: Path,
    write: Callable[[Iterator[Frame]], _Written],
    *,
    made_with: MadeWith | None = None,
    wiener: bool = True,
    name: str = "the decoded sequence",
    coded_qps: Iterable[int] | None = None,
) -> MadeDecisions[_Written]:
    """The encoder's side: decides picture by picture against the original, and writes the coded decisions.

    Args:
        original: The pictures before coding.
        decoded: The pictures to filter, as many and as large, each with the QP that the network is told, 0 to 63.
        correct: Gives the network's correction of a picture.
        target: File for the coded decisions; written whole, or not at all.
        write: Takes the filtered pictures as they come.
        made_with: What the file says of network, QP and precision, so that a decoder notices others.
        wiener: Fit a Wiener filter to each picture, behind the network.
        name: How errors name the decoded sequence.
        coded_qps: The QPs that the pictures were coded with, which say what a bit is worth; None: those of `decoded`.

    Raises:
        InputError: If original and decoded pictures do not fit together, or the file cannot be written.
    """
    made: list[tuple[VideoFormat, Decisions]] = []

    def filtered() -> Iterator[Frame]:
        known = itertools.repeat(None) if coded_qps is None else coded_qps
        for (reference, frame, qp), coded_qp in zip(_pairs(original, decoded, name), known, strict=False):
            correction, own_qp = correct(frame, qp), qp if coded_qp is None else coded_qp
            decisions = decide(reference, frame, correction, own_qp)
            if wiener:
                decisions = with_wiener_filters(decisions, reference, frame, correction, own_qp)
            made.append((frame.format(), decisions))
            yield apply_decisions(frame, correction, decisions)

    with AtomicFile(target) as file:  # first: a place that cannot be written is known at once
        written = write(filtered())
        pictures = [decisions for _, decisions in made]
        data = encode_sequence(pictures, made[0][0], made_with)
        file.write(data)
    picture_bits = tuple(8 * len(encode_decisions(decisions)) for decisions in pictures)
    return MadeDecisions(written, len(data), picture_bits, sum(decisions.is_off for decisions in pictures))


def read_decisions(path: Path) -> DecisionSequence:
    """The decisions in a file.

    Raises:
        InputError: If the file cannot be opened.
        BitstreamError: If it is damaged.
        UnsupportedError: If it is of another version.
    """
    with naming(path):
        return parse_sequence(read_bytes(path))


def filter_as_decided(
    sequence: DecisionSequence,
    decoded: Iterator[tuple[Frame, int]],
    correct: Correct,
    *,
    origin: Path | str = "the decisions",
    name: str = "the decoded sequence",
) -> Iterator[Frame]:
    """The decoder's side: the filtered pictures, as decisions say.

    Args:
        sequence: The decisions.
        decoded: The pictures to filter, each with the QP that it was coded with, 0 to 63.
        correct: Gives the network's correction of a picture.
        origin: How errors name the decisions.
        name: How errors name the decoded sequence.

    Raises:
        InputError: If they are of another number of pictures or of another size.
        BitstreamError: If they are damaged.
    """
    n_decided, n_pictures = len(sequence.payloads), 0
    for n_pictures, (frame, qp) in enumerate(decoded, 1):
        if n_pictures > n_decided:
            raise InputError(f"{origin}: decisions for {n_decided} pictures, and {name} holds more")
        with naming(origin):
            decisions = sequence.picture(n_pictures - 1, frame.format())
        yield apply_decisions(frame, correct(frame, qp), decisions)
    if n_pictures < n_decided:
        raise InputError(f"{origin}: decisions for {n_decided} pictures, and {name} holds {n_pictures}")


def _pairs(original: Source, decoded: Iterable[tuple[Frame, int]], name: str) -> Iterator[tuple[Frame, Frame, int]]:
    """Original and decoded pictures, both at the depth of the decoded ones, and their QPs."""
    for reference, picture in zip_longest(original.frames(), decoded):
        if reference is None or picture is None:
            what = "fewer" if reference is None else "more"
            raise InputError(f"{original.path}: holds {what} pictures than {name}")
        frame, qp = picture
        reference = _alike(reference, frame)
        if reference.format() != frame.format():
            raise InputError(f"{original.path}: {_described(reference)}, and {name} is {_described(frame)}")
        yield reference, frame, qp


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
