"""How pictures go into a filter and come out of it: what its author declares, in a few words.

```
 planes=yuv420-packed,qp=plane,qp-scale=63      a text: on the command line, in a file's metadata
 Layout(planes="yuv420-packed", qp="plane", qp_scale=63)     the same as an attribute `layout` of a module
```
A network takes `(N, C, H, W)` float32, and the QP beside it as `(N,)` if that is declared a scalar; it returns
`(N, C', H, W)`. `C` is what `n_planes` says, one more with a QP plane, which is the last. planes.py does the work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, QpRule, parse_rule

PlaneKind: TypeAlias = Literal["y", "each", "yuv444", "yuv420-packed", "rgb"]
"""Luma alone; Y, Cb and Cr one after the other, each as a picture of one plane; Y, Cb and Cr of luma's size; the four
phases of luma, Cb and Cr, all of half size; R, G and B of luma's size (BT.709, of the pictures' range)."""
SampleRange: TypeAlias = Literal["unit", "unit10", "signed", "code", "code8"]
"""0..1 of 2^depth - 1; 0..1 of 1023 * 2^(depth - 10), the same light at every depth; -1..1; code values of the picture;
code / 2^(depth - 8), 0..255 and at more than 8 bit up to 255 + 1 - 2^(8 - depth)."""
QpInput: TypeAlias = Literal["none", "plane", "scalar"]
OutputKind: TypeAlias = Literal["picture", "residual", "noise"]
"""The filtered planes; what is to be added to those that went in; what is to be taken from them."""
Component: TypeAlias = Literal["y", "cb", "cr"]

RUNS: Mapping[PlaneKind, tuple[tuple[Component, ...], ...]] = {
    "y": (("y",),),
    "each": (("y",), ("cb",), ("cr",)),
    "yuv444": (("y", "cb", "cr"),),
    "yuv420-packed": (("y", "y", "y", "y", "cb", "cr"),),
    "rgb": (("y", "y", "y"),),
}
"""Which component each plane counts as, for each time that the network is run on a picture."""
LAYOUT_KEY = "layout"
"""Metadata of a network file that has the layout as a text."""
MAX_SIDE, MAX_TEXT = 1 << 14, 1000
_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a filter takes and returns.

    Attributes:
        planes: Which planes of the picture it sees at a time.
        range: What its samples are.
        qp: How it gets the QP: not at all, as a plane behind the others, or as a second input (N,).
        qp_offset: What is taken from the QP before.
        qp_scale: What the rest is divided by.
        qp_value: A number that it gets in the QP's place, whatever the QP is; None: it gets the QP.
        qp_rule: Which QP that is where a picture's own is not all that is known, as of inter pictures.
        output: What it returns, in the same range (differences in the units of that range).
        align: What the sides of its input must be multiples of, in samples of its planes; pictures are filled up.
        reach: How many samples away (of its planes) an input can change an output; infinite if every input can change
            every output; None: it is measured.
        patch: Height and width of its input if they are fixed, None if it takes every size.
        overlap: Samples on each side of its input that it needs but does not answer for: its output lacks them, or
            has them and they are cut off. Beyond the picture's border they repeat its last samples.
        keep: Components that stay as they were decoded.

    Raises:
        InputError: If a value is out of its range, or two do not go together.
    """

    planes: PlaneKind
    range: SampleRange = "unit"
    qp: QpInput = "none"
    qp_offset: float = 0.0
    qp_scale: float = 1.0
    qp_value: float | None = None
    qp_rule: QpRule = DEFAULT_RULE
    output: OutputKind = "picture"
    align: int = 1
    reach: float | None = None
    patch: tuple[int, int] | None = None
    overlap: int = 0
    keep: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in _WORDS.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"layout: {name} {getattr(self, name)!r}: must be {', '.join(get_args(kind))}")
        numbers = {"align": (1, MAX_SIDE), "overlap": (0, MAX_SIDE), "reach": (0, math.inf)}
        for name, (least, most) in numbers.items():
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and (value == math.inf or value == int(value))):
                raise InputError(f"layout: {name} {value}: must be a whole number of at least {least}")
        if not (math.isfinite(self.qp_scale) and self.qp_scale and math.isfinite(self.qp_offset)):
            raise InputError(f"layout: qp-scale {self.qp_scale}, qp-offset {self.qp_offset}: must be finite, not 0")
        said = (self.qp_offset, self.qp_scale, self.qp_value, self.qp_rule)
        if self.qp == "none" and said != (0.0, 1.0, None, DEFAULT_RULE):
            raise InputError(
                "layout: qp-offset, qp-scale, qp-value, qp-rule: there is no QP input; say qp=plane or qp=scalar"
            )
        if self.patch is not None and any(not 2 * self.overlap < side <= MAX_SIDE for side in self.patch):
            raise InputError(f"layout: patch {_sides(self.patch)} with overlap {self.overlap}: nothing is left of it")
        if self.patch is not None and any(side % self.align for side in self.patch):
            raise InputError(f"layout: patch {_sides(self.patch)}: must be a multiple of align {self.align}")
        if self.patch is None and 2 * self.overlap % self.align:
            raise InputError(f"layout: overlap {self.overlap}: twice that must be a multiple of align {self.align}")
        if set(self.keep) - set(get_args(Component)) or len(set(self.keep)) == len(get_args(Component)):
            raise InputError(f"layout: keep {'+'.join(self.keep)}: must be one or two of y, cb and cr")

    @property
    def n_planes(self) -> int:
        """Planes of the picture that it sees at a time."""
        return len(RUNS[self.planes][0])

    @property
    def n_luma_per_sample(self) -> int:
        """Luma samples that lie at one place of the planes."""
        return 4 if self.planes == "yuv420-packed" else 1

    @property
    def n_inputs(self) -> int:
        """Channels of its input, the QP plane included."""
        return self.n_planes + (self.qp == "plane")

    @property
    def takes_qp(self) -> bool:
        """Whether its output follows from the QP."""
        return self.qp != "none" and self.qp_value is None

    def qp_input(self, qp: float) -> float:
        """The number that the network gets for a QP."""
        return self.qp_value if self.qp_value is not None else (qp - self.qp_offset) / self.qp_scale

    def scale(self, bit_depth: int) -> float:
        """The sample value that counts as 1 in this range; of code values the one that they are multiples of."""
        match self.range:
            case "unit10":
                return float(1023 * 2 ** (bit_depth - 10))
            case "code":
                return 1.0
            case "code8":
                return float(2 ** (bit_depth - 8))
        return float((1 << bit_depth) - 1)

    def peak(self, bit_depth: int) -> float:
        """What PSNR is taken against in the units of this range."""
        return (2.0 if self.range == "signed" else 1.0) * ((1 << bit_depth) - 1) / self.scale(bit_depth)

    @property
    def text(self) -> str:
        """The layout as `parse_layout` reads it; what is as by default is left out."""
        default = Layout(self.planes)
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(default, each.name)]
        return ",".join(f"{name.replace('_', '-')}={_shown(getattr(self, name))}" for name in ("planes", *changed))


_WORDS: Mapping[str, Any] = {"planes": PlaneKind, "range": SampleRange, "qp": QpInput, "output": OutputKind}


def parse_layout(text: str) -> Layout:
    """The layout of a text such as "planes=y,output=residual".

    Raises:
        InputError: If the text names none, or a value is out of its range.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"layout: a text of {len(text)} characters; at most {MAX_TEXT}")
    values: dict[str, Any] = {}
    names = {each.name.replace("_", "-"): each.name for each in fields(Layout)}
    for part in text.split(","):
        name, equals, word = part.strip().partition("=")
        if not equals or name not in names:
            raise InputError(f"layout: {part.strip()[:60]!r}: must be NAME=VALUE, with {', '.join(names)} as names")
        if names[name] in values:
            raise InputError(f"layout: {name} is there twice")
        values[names[name]] = _value(names[name], word.strip())
    if "planes" not in values:
        raise InputError(f"layout: {text[:60]!r} has no planes; say planes={'|'.join(get_args(PlaneKind))}")
    return Layout(**values)


def _value(name: str, word: str) -> object:
    if name in _WORDS:
        return word
    if name == "qp_rule":
        return parse_rule(word)
    if name == "keep":
        return tuple(word.split("+"))
    if name == "patch":
        if found := re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", word, re.ASCII):
            width = int(found[1])
            return int(found[2] or width), width
        raise InputError(f"layout: patch {word[:40]!r}: must be a side such as 72, or WIDTHxHEIGHT")
    if name == "reach" and word == "inf":
        return math.inf
    if not re.fullmatch(_NUMBER, word, re.ASCII):
        raise InputError(f"layout: {name.replace('_', '-')} {word[:40]!r}: must be a number")
    return float(word) if name.startswith("qp") or "." in word else int(word)


def _shown(value: object) -> str:
    if isinstance(value, QpRule):
        return value.text
    if isinstance(value, tuple):
        return "+".join(value) if isinstance(value[0], str) else _sides((value[0], value[1]))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _sides(patch: tuple[int, int]) -> str:
    return str(patch[0]) if patch[0] == patch[1] else f"{patch[1]}x{patch[0]}"
