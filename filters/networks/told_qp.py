"""The QP that a network is told of a picture: a rule that its card names, since the picture's own is not always best.

```
 slice     the QP of the picture's first slice            slice-2     2 below it
 first+3   that, but at most 3 above that of the random access point before it: the default
 base      the QP that the encoder was asked for          base+2      2 above it
 32        32, whatever the picture's
```
An encoder may tell it another, picture by picture: by such a rule, or `+5` and `-5`, that far from what its own says.

Inter pictures are predicted from others of lower QPs, so that they are better than their own QP says; networks differ
in how much of that they have learnt. docs/sei.md has measurements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from vvc_nnr.codec.configuration import MAX_QP
from vvc_nnr.errors import InputError

QP_RULE_KEY = "qp_rule"
"""Metadata of a bundled network's file that names its rule."""
QpAnchor: TypeAlias = Literal["slice", "first", "base", "qp", "told"]
"""What a rule starts from; "qp" is a fixed QP, "told" what another rule says."""
_NAMES: tuple[QpAnchor, ...] = ("slice", "first", "base")
_RULE = re.compile(r"(?:(slice|first|base)([+-][0-9]{1,2})?|([0-9]{1,2}))", re.ASCII)
_DISTANCE = re.compile(r"[+-][0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PictureQps:
    """The QPs of a picture, -48 to 63.

    Attributes:
        own: Of its first slice.
        access_point: Of the first slice of the random access point before it in decoding order; of that itself its own.
        base: What the encoder was asked for, from which those of a group differ; None where no one says it.
    """

    own: int
    access_point: int
    base: int | None = None


def same_qps(qp: int) -> PictureQps:
    """Those of a picture of which one QP is all that is known."""
    return PictureQps(qp, qp, qp)


@dataclass(frozen=True, slots=True)
class QpRule:
    """How the QP that a network is told follows from those of a picture.

    Attributes:
        anchor: What it starts from.
        offset: What is added to that, -63 to 63; of "qp" the QP, 0 to 63.

    Raises:
        InputError: If a value is out of its range.
    """

    anchor: QpAnchor
    offset: int = 0

    def __post_init__(self) -> None:
        least = 0 if self.anchor == "qp" else -MAX_QP
        if self.anchor not in get_args(QpAnchor) or not least <= self.offset <= MAX_QP:
            raise InputError(f"QP rule {self.anchor!r}, {self.offset}: must be {_KNOWN}")

    @property
    def text(self) -> str:
        """The rule as `parse_rule` reads it."""
        if self.anchor == "qp":
            return str(self.offset)
        if self.anchor == "told":
            return f"{self.offset:+d}"
        return f"{self.anchor}{self.offset:+d}" if self.offset else self.anchor

    def qp(self, qps: PictureQps, told_qp: int | None = None) -> int:
        """What the network is told, 0 to 63.

        Args:
            qps: Those of the picture.
            told_qp: What the network's own rule says, for candidates that are by that.

        Raises:
            InputError: If the rule is by a QP that no one says: that which the encoder was asked for, or `told_qp`.
        """
        match self.anchor:
            case "slice":
                told = qps.own + self.offset
            case "first":
                told = min(qps.own, qps.access_point + self.offset)
            case "base":
                if qps.base is None:
                    raise InputError(
                        f"QP rule {self.text}: the network is told by the QP that the encoder was asked for, which "
                        "the headers of a stream do not say; give it (--qp)"
                    )
                told = qps.base + self.offset
            case "qp":
                told = self.offset
            case "told":
                if told_qp is None:
                    raise InputError(
                        f"QP rule {self.text}: a network has no other rule to be told by; must be {_KNOWN}"
                    )
                told = told_qp + self.offset
        return max(0, min(told, MAX_QP))


DEFAULT_RULE = QpRule("first", 3)
"""That of networks which name none: inter pictures of networks that were trained on intra pictures."""
_KNOWN = "slice, first+3, base, each with any offset or none, or a QP of 0 to 63"


def parse_rule(text: str) -> QpRule:
    """The rule of a text such as "first+3".

    Raises:
        InputError: If it is none.
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise InputError(f"QP rule {text[:40]!r}: must be {_KNOWN}")
    name, offset, qp = found.groups()
    if qp is not None:
        return QpRule("qp", int(qp))
    return QpRule(next(each for each in _NAMES if each == name), int(offset or 0))


def parse_candidate(text: str) -> QpRule:
    """What an encoder may tell a network beside its own rule: a rule, or a distance from that such as "+5".

    Raises:
        InputError: If it is neither, or the distance is 0.
    """
    if not _DISTANCE.fullmatch(text):
        return parse_rule(text)
    if not int(text):
        raise InputError(f"QP candidate {text}: is the network's own rule, which is always there")
    return QpRule("told", int(text))


def told_qps(pictures: Sequence[PictureQps], rule: QpRule) -> list[int]:
    """What a network is told of each picture; raises as `QpRule.qp`."""
    return [rule.qp(each) for each in pictures]
