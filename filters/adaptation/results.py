"""What adaptation gave: the updates, and for each stream what they do there and what pays best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures
from vvc_nnr.filters.adaptation.net_effect import measured_db, net_percent
from vvc_nnr.filters.adaptation.options import Measure
from vvc_nnr.filters.adaptation.tuning import TunedUpdate

Sent: TypeAlias = Literal["nothing", "base", "update"]
"""What goes into a stream: nothing, a filter as it is, or with its update."""


@dataclass(frozen=True, slots=True, eq=False)
class MadeUpdate:
    """An update and what it is for.

    Attributes:
        tuned: The update.
        lambda_rd: Loss that a bit of it had to save.
        streams: The places of the streams that it was tuned to.
        dropped_db: If what was learnt is dropped, so that the update changes nothing: the gain over the filter as it
            is that it had in the mean of those streams, of what decides; below 0. None: it is kept.
    """

    tuned: TunedUpdate
    lambda_rd: float
    streams: tuple[int, ...]
    dropped_db: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedStream:
    """A stream and what adaptation did for it.

    Attributes:
        name: Its file.
        n_pictures: Pictures that are output.
        n_bytes: Size before.
        counted_pictures: Pictures that its filter and update are for: what they add counts in a stream of so many.
        slope: By how much the logarithm of its rate rises for a dB of what decides.
        decoded: Its pictures without a filter.
        base: With the filter as it is.
        adapted: With the filter and its update.
        added_bytes: What a filter as it is, or with its update, adds to the stream.
        net_percent: What of the rate each of the three is worth, less what it adds; negative saves.
        sent: What pays best.
        data: The stream with that in it.
        made: The update of it: where there were several, the one that is worth most here.
    """

    name: str
    n_pictures: int
    n_bytes: int
    counted_pictures: int
    slope: float
    decoded: MeasuredPictures
    base: MeasuredPictures
    adapted: MeasuredPictures
    added_bytes: Mapping[Sent, int]
    net_percent: Mapping[Sent, float]
    sent: Sent
    data: bytes
    made: MadeUpdate

    @property
    def counted_bytes(self) -> float:
        """Size of a stream of the pictures that filter and update are for, of the same rate."""
        return self.n_bytes * (self.counted_pictures / self.n_pictures)

    @property
    def output(self) -> MeasuredPictures:
        """What a decoder of `data` gives."""
        return {"nothing": self.decoded, "base": self.base, "update": self.adapted}[self.sent]


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """Updates of a filter for some streams of one sequence.

    Attributes:
        updates: All that were made: of each stream, or for all, or both.
        streams: What the best of them does for each.
        description: What computed the pictures.
        base_bytes: Size of the coded network that the updates are for.
        measure: The PSNR that decided.
        shown_size: Width and height that were learnt on and measured, where pictures were coded larger, as odd sides
            are; None: they were not.
    """

    updates: tuple[MadeUpdate, ...]
    streams: tuple[AdaptedStream, ...]
    description: str
    base_bytes: int
    measure: Measure
    shown_size: tuple[int, int] | None = None


def with_best(
    stream: VvcStream,
    pictures: tuple[MeasuredPictures, MeasuredPictures, MeasuredPictures],
    data: Mapping[Sent, bytes],
    slope: float,
    counted_pictures: int,
    measure: Measure,
    update: MadeUpdate,
) -> AdaptedStream:
    """The stream with what pays best in it."""
    decoded, base, adapted = pictures
    kinds: dict[Sent, MeasuredPictures] = {"nothing": decoded, "base": base, "update": adapted}
    n_pictures, n_bytes = len(stream.output_order), len(stream.data)
    worth_bytes = n_bytes * (counted_pictures / n_pictures)
    added: dict[Sent, int] = {kind: len(each) - n_bytes for kind, each in data.items()}
    net: dict[Sent, float] = {
        kind: net_percent(measured_db(each.gain_db(decoded), measure), added[kind], slope, worth_bytes)
        for kind, each in kinds.items()
    }
    sent = min(net, key=net.__getitem__)
    return AdaptedStream(
        "", n_pictures, n_bytes, counted_pictures, slope, *pictures, added, net, sent, data[sent], update
    )
