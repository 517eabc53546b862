"""A network over a sequence with decisions: made against the original and written, or read and carried out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile, naming, read_bytes
from vvc_nnr.filters.decisions.block_decisions import Correction, Decisions, apply_decisions
from vvc_nnr.filters.decisions.coding import encode_decisions
from vvc_nnr.filters.decisions.joint_coding import JointEncoder
from vvc_nnr.filters.decisions.search import decide, decide_among, with_wiener_filters
from vvc_nnr.filters.decisions.sequence_file import (
    DecisionReader,
    DecisionSequence,
    MadeWith,
    encode_sequence,
    joint_sequence,
    parse_sequence,
)
from vvc_nnr.filters.networks.told_qp import QpRule
from vvc_nnr.sequences.frame import DEFAULT_FPS, Frame, VideoFormat
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


class JointDecider:
    """Decides on the pictures of a sequence one after the other, and codes them together.

    Args:
        format: Of the pictures.
        wiener: Fit a Wiener filter to each picture, behind the network.
        n_candidates: How many QPs there are that the network may be told.
    """

    def __init__(self, format: VideoFormat, *, wiener: bool, n_candidates: int = 1) -> None:
        self._encoder = JointEncoder(format, n_candidates)
        self._wiener = wiener

    def decide(
        self, original: Frame, decoded: Frame, corrections: Sequence[Correction], qp: int
    ) -> tuple[Decisions, int]:
        """The decisions of the next picture, and by how many bits the bytes have grown, a multiple of 8.

        Args:
            original: What the encoder was given.
            decoded: What it made of it, of the same format.
            corrections: What the network adds, for each QP that it may be told.
            qp: The QP that the picture was coded with.
        """
        history, before = self._encoder.history, self._encoder.n_bits
        if len(corrections) == 1:
            found = decide(original, decoded, corrections[0], qp, history)
        else:
            found = decide_among(original, decoded, corrections, qp, history)
        if self._wiener:
            found = with_wiener_filters(found, original, decoded, corrections[found.qp_candidate], qp, history)
        return self._encoder.code(found), self._encoder.n_bits - before

    def finish(self) -> bytes:
        """The bytes of all pictures so far."""
        return self._encoder.finish()


def filter_and_decide(
    original: Source,
    decoded: Iterator[tuple[Frame, Sequence[int]]],
    correct: Correct,
    target: Path,
    write: Callable[[Iterator[Frame]], _Written],
    *,
    made_with: MadeWith | None = None,
    wiener: bool = True,
    name: str = "the decoded sequence",
    coded_qps: Iterable[int] | None = None,
    candidates: Sequence[QpRule] | None = None,
) -> MadeDecisions[_Written]:
    """The encoder's side: decides picture by picture against the original, and writes the coded decisions.

    Args:
        original: The pictures before coding.
        decoded: The pictures to filter, as many and as large, each with the QPs that the network may be told, 0 to 63:
            first that of its own rule, then those of the candidates.
        correct: Gives the network's correction of a picture.
        target: File for the coded decisions; written whole, or not at all.
        write: Takes the filtered pictures as they come.
        made_with: What the file says of network, QP and precision, so that a decoder notices others.
        wiener: Fit a Wiener filter to each picture, behind the network.
        name: How errors name the decoded sequence.
        coded_qps: The QPs that the pictures were coded with, which say what a bit is worth; None: those of `decoded`.
        candidates: What the network may be told beside its own rule, by rules that a decoder can follow; the pictures
            are coded together then, for which `made_with` is needed. None: each is coded by itself.

    Raises:
        InputError: If original and decoded pictures do not fit together, or the file cannot be written.
    """
    pictures: list[tuple[VideoFormat, Decisions, int]] = []
    joint: JointDecider | None = None

    def filtered() -> Iterator[Frame]:
        nonlocal joint
        known = itertools.repeat(None) if coded_qps is None else coded_qps
        for (reference, frame, told), coded_qp in zip(_pairs(original, decoded, name), known, strict=False):
            corrections, own_qp = [correct(frame, qp) for qp in told], told[0] if coded_qp is None else coded_qp
            if candidates is None:
                decisions = decide(reference, frame, corrections[0], own_qp)
                if wiener:
                    decisions = with_wiener_filters(decisions, reference, frame, corrections[0], own_qp)
                n_bits = 8 * len(encode_decisions(decisions))
            else:
                joint = joint or JointDecider(frame.format(DEFAULT_FPS), wiener=wiener, n_candidates=len(told))
                decisions, n_bits = joint.decide(reference, frame, corrections, own_qp)
            pictures.append((frame.format(DEFAULT_FPS), decisions, n_bits))
            yield apply_decisions(frame, corrections[decisions.qp_candidate], decisions)

    with AtomicFile(target) as file:  # first: a place that cannot be written is known at once
        written = write(filtered())
        format, decided = pictures[0][0], [decisions for _, decisions, _ in pictures]
        if joint is not None and candidates is not None and made_with is not None:
            data = joint_sequence(joint.finish(), len(pictures), format, made_with, candidates)
        else:
            data = encode_sequence(decided, format, made_with)
        file.write(data)
    picture_bits = tuple(n_bits for *_, n_bits in pictures)
    return MadeDecisions(written, len(data), picture_bits, sum(decisions.is_off for decisions in decided))


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
    decoded: Iterator[tuple[Frame, Sequence[int]]],
    correct: Correct,
    *,
    origin: Path | str = "the decisions",
    name: str = "the decoded sequence",
) -> Iterator[Frame]:
    """The decoder's side: the filtered pictures, as decisions say.

    Args:
        sequence: The decisions.
        decoded: The pictures to filter, each with the QPs that the network may be told, 0 to 63: first that of its own
            rule, then those of the decisions' candidates.
        correct: Gives the network's correction of a picture.
        origin: How errors name the decisions.
        name: How errors name the decoded sequence.

    Raises:
        InputError: If they are of another number of pictures or of another size.
        BitstreamError: If they are damaged.
    """
    reader, n_decided, n_pictures = DecisionReader(sequence), sequence.n_pictures, 0
    for n_pictures, (frame, told) in enumerate(decoded, 1):
        if n_pictures > n_decided:
            raise InputError(f"{origin}: decisions for {n_decided} pictures, and {name} holds more")
        with naming(origin):
            decisions = reader.picture(frame.format(DEFAULT_FPS))
        yield apply_decisions(frame, correct(frame, told[decisions.qp_candidate]), decisions)
    if n_pictures < n_decided:
        raise InputError(f"{origin}: decisions for {n_decided} pictures, and {name} holds {n_pictures}")


def _pairs(
    original: Source, decoded: Iterable[tuple[Frame, Sequence[int]]], name: str
) -> Iterator[tuple[Frame, Frame, Sequence[int]]]:
    """Original and decoded pictures, both at the depth of the decoded ones, and what the network may be told."""
    for reference, picture in zip_longest(original.frames(), decoded):
        if reference is None or picture is None:
            what = "fewer" if reference is None else "more"
            raise InputError(f"{original.path}: holds {what} pictures than {name}")
        frame, told = picture
        reference = _alike(reference, frame)
        if reference.format(DEFAULT_FPS) != frame.format(DEFAULT_FPS):
            raise InputError(f"{original.path}: {_described(reference)}, and {name} is {_described(frame)}")
        yield reference, frame, told


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
