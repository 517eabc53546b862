"""The coding configurations of JVET's common test conditions: which pictures are intra, and which are predicted.

| name | title | pictures |
| --- | --- | --- |
| `ai` | all intra | each is an intra picture of one QP |
| `ra` | random access | groups of 32 out of order, B pictures in temporal layers; an intra picture each second |
| `ldb` | low delay B | groups of 8 in the order of output, B pictures from past ones; an intra picture at the start |

In the last two each picture has a QP of its own, above or below the one that is asked for. The period of intra
pictures is the multiple of the group's length that is nearest to a second, as JVET has it: 32 pictures up to 47 per
second, 64 at 50 and 60. A sequence is coded in chunks that decode alone, each of whole periods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from typing import Literal, TypeAlias

from vvc_nnr.errors import InputError, shown

ConfigName: TypeAlias = Literal["ai", "ra", "ldb"]
SliceType: TypeAlias = Literal["I", "P", "B"]
MAX_QP = 63

PERIODS_OF_A_CHUNK = 16
"""More than any sequence of JVET has, so that these are coded as one: the last group of a chunk, up to 31 pictures,
lacks the intra picture behind it. With a change of scene there: 2 % of the bits of 250 pictures, and 0.3 dB."""


def check_qp(qp: object) -> None:
    """Raises InputError unless a QP is a whole number, 0 to 63."""
    if isinstance(qp, bool) or not isinstance(qp, Integral):
        raise InputError(f"QP {shown(repr(qp))}: must be a whole number, 0 to {MAX_QP}")
    if not 0 <= int(qp) <= MAX_QP:
        raise InputError(f"QP {qp}: must be 0 to {MAX_QP}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """How pictures depend on each other.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables.
        gop_size: Pictures of a group, 1 if each stands alone.
        has_periods: Whether intra pictures come back.
        is_reordered: Whether pictures are coded out of the order of output.
        vtm_config: VTM's configuration file for it, in its source tree.
    """

    name: ConfigName
    title: str
    gop_size: int
    has_periods: bool
    is_reordered: bool
    vtm_config: str

    @property
    def is_inter(self) -> bool:
        """Whether pictures are predicted from others."""
        return self.gop_size > 1

    def intra_period(self, fps: Fraction) -> int | None:
        """Pictures from one intra picture to the next; None if only the first is one.

        >>> RANDOM_ACCESS.intra_period(Fraction(30000, 1001)), RANDOM_ACCESS.intra_period(Fraction(50))
        (32, 64)
        """
        if not self.has_periods:
            return None
        return max(1, int(fps / self.gop_size + Fraction(1, 2))) * self.gop_size if self.is_inter else 1

    def chunk_pictures(self, fps: Fraction, most_intra: int | None) -> int | None:
        """Pictures that one run of an encoder codes at most; None: any number.

        Args:
            fps: Pictures per second.
            most_intra: As many as an encoder takes if all are intra pictures.
        """
        period = self.intra_period(fps)
        return most_intra if not self.is_inter else None if period is None else PERIODS_OF_A_CHUNK * period

    def fault(self, types: Sequence[str], coding_order: Sequence[int], fps: Fraction) -> str | None:
        """What tells that a chunk was coded in another configuration; None if nothing does.

        Inter pictures are B pictures, and random access codes three pictures or more out of the order of output.
        An I and a B picture are the same in random access and low delay, so there nothing tells. A whole group out of
        order tells its length: its first picture is coded that many places ahead of all before it.

        Args:
            types: "I", "P" or "B" of each picture in the order of output.
            coding_order: Number of each coded picture in the order of output.
            fps: Pictures per second.
        """
        if not self.is_inter:
            return None if set(types) <= {"I"} else "it coded inter pictures"
        period = self.intra_period(fps)
        intra_places = range(0, len(types), period) if period else range(min(1, len(types)))
        if any(types[place] != "I" for place in intra_places):
            return f"no intra picture every {period} pictures" if period else "its first is no intra picture"
        if "P" in types:
            return "it coded P pictures"
        if len(types) > 1 and set(types) <= {"I"}:
            return "it coded intra pictures only"
        is_reordered = any(number != place for place, number in enumerate(coding_order))
        if is_reordered and not self.is_reordered:
            return "it coded pictures out of their order"
        if self.is_reordered and len(types) > 2 and not is_reordered:
            return "it coded pictures in their order"
        longest = _longest_step(coding_order)
        if self.is_reordered and len(types) > self.gop_size and longest != self.gop_size:
            return f"it coded groups of {longest} pictures, must be {self.gop_size}"
        return None


def _longest_step(coding_order: Sequence[int]) -> int:
    """How many places a coded picture is ahead of all coded before it in the order of output, at most."""
    last, longest = -1, 0
    for place in sorted(range(len(coding_order)), key=coding_order.__getitem__):
        longest, last = max(longest, place - last), max(last, place)
    return longest


ALL_INTRA = Configuration("ai", "all intra", 1, True, False, "cfg/encoder_intra_vtm.cfg")
RANDOM_ACCESS = Configuration("ra", "random access", 32, True, True, "cfg/encoder_randomaccess_vtm.cfg")
LOW_DELAY_B = Configuration("ldb", "low delay B", 8, False, False, "cfg/encoder_lowdelay_vtm.cfg")
CONFIGURATIONS: dict[ConfigName, Configuration] = {each.name: each for each in (ALL_INTRA, RANDOM_ACCESS, LOW_DELAY_B)}
