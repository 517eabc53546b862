"""What a filter makes of the pictures of a stream, measured on all of them; and which of them are learnt on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from tqdm import tqdm

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import InputError
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture
from vvc_nnr.filters.in_stream import strength_qps
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import PlaneScores, comparable, frame_psnr_db
from vvc_nnr.sequences.source import Source

LEARNING_BYTES = 1 << 29
MOST_LEARNING_PICTURES = 256
"""Of each stream, at most; fewer where they would take more than those bytes of all."""
EXACT_DB = 100.0
"""PSNR of a picture without any error in a mean of pictures: infinite, it would hide all others."""


@dataclass(frozen=True, slots=True)
class MeasuredPictures:
    """What a filter makes of the pictures of a stream.

    Attributes:
        psnr_db: Mean PSNR of each component, of what a viewer gets; a picture without any error counts as `EXACT_DB`.
        md5: Of all pictures, as raw video, as the decoder gives them.
    """

    psnr_db: tuple[float, ...]
    md5: bytes

    def gain_db(self, before: MeasuredPictures) -> tuple[float, ...]:
        """By how much each component is better."""
        pairs = zip(self.psnr_db, before.psnr_db, strict=True)
        return tuple(0.0 if own == other else own - other for own, other in pairs)


def measure_pictures(
    stream: VvcStream,
    original: Source,
    runner: Runner | None,
    layout: Layout,
    take: Callable[[int, Frame, Frame, int], None] | None = None,
) -> MeasuredPictures:
    """The pictures of a stream, filtered if there is a runner, against the original.

    The filter sees what the decoder gives; what odd sides were padded with is cut off before pictures are compared.
    """
    qps = strength_qps(stream, rule=layout.qp_rule)
    frames: Iterator[Frame] = decode_vvc(stream)
    if runner is not None:
        frames = runner.filter_frames(zip(frames, qps, strict=False))
    digest = hashlib.md5(usedforsecurity=False)
    scores: list[PlaneScores] = []
    bar = tqdm(total=len(qps), unit="picture", desc="filter" if runner else "decode", disable=None)
    with bar:
        for number, (wanted, frame) in enumerate(_pairs(original, frames)):
            digest.update(frame.tobytes())
            reference, found = comparable(wanted, frame.cropped(wanted.width, wanted.height))
            scores.append(frame_psnr_db(reference, found))
            if take is not None:
                planes = frame.planes[: len(found.planes)]  # luma alone of an original that has no chroma
                take(number, reference, Frame(planes, frame.bit_depth, found.chroma_format), qps[number])
            bar.update()
    components = [[each.y for each in scores]]
    if scores[0].cb is not None:
        components += [[each.cb or 0.0 for each in scores], [each.cr or 0.0 for each in scores]]
    means = (fmean(min(psnr_db, EXACT_DB) for psnr_db in each) for each in components)
    return MeasuredPictures(tuple(means), digest.digest())


def _pairs(original: Source, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """Each original with its picture; raises InputError if there are more of one kind."""
    wanted, given = iter(original.frames()), iter(frames)
    while True:
        first, second = next(wanted, None), next(given, None)
        if first is None and second is None:
            return
        if first is None or second is None:
            what = "fewer" if first is None else "more"
            raise InputError(f"the original {original.path} holds {what} pictures; must hold as many")
        yield first, second


def taking_to_learn(
    stream: VvcStream, layout: Layout, n_streams: int, into: list[LearningPicture]
) -> Callable[[int, Frame, Frame, int], None]:
    """Keeps pictures to learn on, evenly spaced, of all temporal layers."""
    format = stream.first.format
    stride = learning_stride(len(stream.output_order), format.width * format.height, n_streams)

    def take(number: int, original: Frame, decoded: Frame, qp: int) -> None:
        if number % stride == 0:
            into.append(LearningPicture.of(original, decoded, qp, layout))

    return take


def learning_stride(n_pictures: int, n_luma_samples: int, n_streams: int) -> int:
    """Each how manieth picture of streams is learnt on, so that they fit into memory: an odd number.

    Args:
        n_pictures: Pictures of each stream.
        n_luma_samples: Luma samples of a picture.
        n_streams: Streams whose pictures are kept at once.
    """
    samples = n_luma_samples * 3 / 2
    most = max(1, min(MOST_LEARNING_PICTURES, int(LEARNING_BYTES / (4 * samples * n_streams))))
    stride = -(-n_pictures // most)
    return stride + 1 - stride % 2  # an even one would meet few layers of a hierarchy of pictures
