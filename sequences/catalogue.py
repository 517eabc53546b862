"""The sequences of the JVET common test conditions (SDR, random access) and their classes.

Source: JVET-N1010 and JVET-T2010; Kimono and ParkScene are class B of earlier conditions.
Sizes are in luma samples.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vvc_nnr.sequences.yuv import format_from_name


@dataclass(frozen=True, slots=True)
class CtcSequence:
    """One sequence of the common test conditions; all are 4:2:0."""

    name: str
    ctc_class: str
    width: int
    height: int
    fps: Fraction
    bit_depth: int
    n_pictures: int


def _rows(ctc_class: str, width: int, height: int, rows: str) -> tuple[CtcSequence, ...]:
    """Sequences of one class and size from `name fps bits pictures` items."""
    items = (item.split() for item in rows.split(","))
    return tuple(
        CtcSequence(name, ctc_class, width, height, Fraction(fps), int(bits), int(pictures))
        for name, fps, bits, pictures in items
    )


CTC_SEQUENCES = (
    *_rows("A1", 3840, 2160, "Tango2 60 10 294, FoodMarket4 60 10 300, Campfire 30 10 300"),
    *_rows("A2", 3840, 2160, "CatRobot 60 10 300, DaylightRoad2 60 10 300, ParkRunning3 50 10 300"),
    *_rows("B", 1920, 1080, "MarketPlace 60 10 600, RitualDance 60 10 600, Cactus 50 8 500"),
    *_rows("B", 1920, 1080, "BasketballDrive 50 8 500, BQTerrace 60 8 600, Kimono 24 8 240, ParkScene 24 8 240"),
    *_rows("C", 832, 480, "BasketballDrill 50 8 500, BQMall 60 8 600, PartyScene 50 8 500, RaceHorsesC 30 8 300"),
    *_rows("D", 416, 240, "BasketballPass 50 8 500, BQSquare 60 8 600, BlowingBubbles 50 8 500"),
    *_rows("D", 416, 240, "RaceHorses 30 8 300"),
    *_rows("E", 1280, 720, "FourPeople 60 8 600, Johnny 60 8 600, KristenAndSara 60 8 600"),
    *_rows("F", 832, 480, "BasketballDrillText 50 8 500"),
    *_rows("F", 1920, 1080, "ArenaOfValor 60 8 600"),
    *_rows("F", 1280, 720, "SlideEditing 30 8 300, SlideShow 20 8 500"),
)

_ALIASES = {"catrobot1": "catrobot", "kimono1": "kimono", "racehorsesd": "racehorses"}
_CLASS_SIZES = {"A1": (3840, 2160), "B": (1920, 1080), "E": (1280, 720), "C": (832, 480), "D": (416, 240)}


def find_ctc_sequence(name: str, width: int | None = None, height: int | None = None) -> CtcSequence | None:
    """The sequence that a file name begins with, or None.

    Args:
        name: Such as `RaceHorses_832x480_30.yuv`; the part before the first `_`, `-`, `.` or blank counts.
        width: Luma width if it is known otherwise; it goes before the one in the name.
        height: Luma height, likewise.

    Returns:
        The sequence; None if the name is unknown, the size not that sequence's, or `RaceHorses` has no size.
    """
    in_name = format_from_name(name)
    width, height = width or in_name.width, height or in_name.height
    word = re.split(r"[_\-. ]", Path(name).name.lower(), maxsplit=1)[0]
    word = _ALIASES.get(word, word)
    names = (word, "racehorsesc") if word == "racehorses" else (word,)
    fitting = [
        sequence
        for sequence in CTC_SEQUENCES
        if sequence.name.lower() in names and width in (None, sequence.width) and height in (None, sequence.height)
    ]
    return fitting[0] if len(fitting) == 1 else None


def ctc_class_of(name: str, width: int, height: int) -> str:
    """Class "A1", "A2", "B", "C", "D", "E" or "F": of the sequence, else of the size nearest in area."""
    sequence = find_ctc_sequence(name, width, height)
    if sequence:
        return sequence.ctc_class
    return min(_CLASS_SIZES, key=lambda c: abs(math.log(width * height / math.prod(_CLASS_SIZES[c]))))
