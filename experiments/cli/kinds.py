"""Every typed value passes one checked door, by its kind: names of files, numbers, sizes, rates."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from tyro.conf import UseAppendAction
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from vvc_nnr.errors import InputError, shown
from vvc_nnr.filters.networks.told_qp import parse_candidate
from vvc_nnr.options import MAX_THREADS
from vvc_nnr.sequences.frame import check_rate

MAX_SIDE = 1 << 16
MAX_COUNT = (1 << 31) - 1
_RATE = re.compile(
    r"\+?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,4})?|[0-9]{1,20}/[0-9]{1,20}"
)
_Value = TypeVar("_Value")


def size(text: str) -> tuple[int, int]:
    """Width and height of a text like 416x240."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text, re.ASCII)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"{_short(text)} is no size like 416x240")
    return width, height


def fraction(text: str) -> Fraction:
    """A picture rate such as 50, 29.97 or 30000/1001."""
    if not _RATE.fullmatch(text) or re.search(r"/0+$", text):
        raise ValueError(f"{_short(text)} is no number such as 50 or 30000/1001")
    value = Fraction(text)
    try:
        check_rate(value)
    except ValueError as error:
        raise ValueError(f"{_short(text)}: {error}") from error
    return value


def whole_number(text: str) -> int:
    """A whole number, negative ones too; what takes it has limits of its own."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"{_short(text)} must be a whole number of at most 18 digits")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(whole_number(word) for word in text.split(","))


def qp_list(text: str) -> tuple[int, ...]:
    """QPs of a text like 22,27,32,37, 0 to 63 each."""
    return tuple(_whole_number(word, 0, 63) for word in text.split(","))


def qp_candidates(text: str) -> tuple[str, ...]:
    """Rules of a text like slice,first+3,27,+5."""
    return tuple(parse_candidate(word).text for word in text.split(","))


def positive(text: str) -> int:
    """A count of at least 1."""
    return _whole_number(text, 1, MAX_COUNT)


def natural(text: str) -> int:
    """A count of at least 0."""
    return _whole_number(text, 0, MAX_COUNT)


def real(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{_short(text)} is no number") from error
    if not math.isfinite(value):
        raise ValueError(f"{_short(text)} must be finite")
    return value


def positive_real(text: str) -> float:
    """A finite number above 0."""
    value = real(text)
    if value <= 0:
        raise ValueError(f"{_short(text)} must be above 0 and finite")
    return value


def positive_reals(text: str) -> tuple[float, ...]:
    """Finite numbers above 0 with commas between them."""
    return tuple(positive_real(word) for word in text.split(","))


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    value = real(text)
    if value < 0:
        raise ValueError(f"{_short(text)} must be at least 0 and finite")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = real(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{_short(text)} must be a number from 0 to 1")
    return value


def share_of_work(text: str) -> tuple[int, int]:
    """Number and count of a share such as 3/64."""
    number, slash, count = text.partition("/")
    if not slash:
        raise ValueError(f"{_short(text)} must be I/N, the share I of N, such as 3/64")
    return _whole_number(number, 1, MAX_COUNT), _whole_number(count, 1, MAX_COUNT)


def path(text: str) -> Path:
    """The name of a file or folder."""
    if not text or "\0" in text:
        raise ValueError(f"{_short(text)} is no name of a file or folder")
    if text == "-":
        raise ValueError(
            "'-' is for standard output alone, standard input is not read: write it to a file first; "
            "./- is a file or folder of that name"
        )
    return Path(text)


def output_path(text: str) -> Path:
    """The name of a file to write; - is standard output."""
    return Path("/dev/stdout") if text == "-" else path(text)


def between(minimum: int, maximum: int) -> Callable[[str], int]:
    """The door for whole numbers in a range."""
    return lambda text: _whole_number(text, minimum, maximum)


def choice(*choices: str) -> Callable[[str], str]:
    """The door for one of a few words."""

    def chosen(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{_short(text)} must be one of {', '.join(choices)}")
        return text

    return chosen


def choices(*known: str) -> Callable[[str], tuple[str, ...]]:
    """The door for some of a few words, with commas between them."""
    return lambda text: tuple(choice(*known)(word) for word in text.split(","))


def named(value: Callable[[str], _Value], form: str) -> Callable[[str], tuple[str, _Value]]:
    """The door for texts like NAME=VALUE.

    Args:
        value: The door for the value.
        form: How messages call it, such as "NAME=QP".
    """

    def pair(text: str) -> tuple[str, _Value]:
        name, _, word = text.rpartition("=")
        try:
            if name and word:
                return name, value(word)
        except ValueError:
            pass
        raise ValueError(f"{text[:80]!r} must be {form}")

    return pair


def one_for_each(option: str) -> Callable[[tuple[tuple[str, _Value], ...]], dict[str, _Value]]:
    """Makes a map of an option's pairs NAME=VALUE; raises InputError if a name is there twice."""

    def mapped(pairs: tuple[tuple[str, _Value], ...]) -> dict[str, _Value]:
        twice = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
        if twice:
            raise InputError(f"{option}: {shown(repr(twice[0]))} has several values; give it one")
        return dict(pairs)

    return mapped


def _some(words: list[str]) -> tuple[str, ...]:
    if not words:
        raise ValueError("must have at least one name behind it")
    return tuple(words)


def door(
    check: Callable[[str], _Value], metavar: str, default_text: Callable[[_Value], str] = str
) -> PrimitiveConstructorSpec[_Value]:
    """What `Annotated` takes to make a field's value from one word.

    Args:
        check: The value of a word; raises ValueError, whose message follows the option's name.
        metavar: How help calls the word.
        default_text: How help shows a default.
    """
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: check(words[0]),
        is_instance=lambda _: True,
        str_from_instance=lambda value: ["None" if value is None else default_text(value)],
    )


def _whole_number(text: str, minimum: int, maximum: int) -> int:
    wanted = f"at least {minimum}" if maximum == MAX_COUNT else f"{minimum} to {maximum}"
    # At most 20 digits: Python refuses to read very long numbers with an error of its own.
    if not re.fullmatch(r"[0-9]{1,20}", text) or not minimum <= int(text) <= maximum:
        large = f" and at most {MAX_COUNT}" if maximum == MAX_COUNT and len(text) > 9 else ""
        raise ValueError(f"{_short(text)} must be a whole number, {wanted}{large}")
    return int(text)


def _short(text: str) -> str:
    """What was typed, in quotes, as much of it as a line bears."""
    return repr(text[:40])


def _size_text(value: tuple[int, int]) -> str:
    return f"{value[0]}x{value[1]}"


def _with_commas(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


QP = door(between(0, 63), "QP")
QPS = door(qp_list, "QP,...", _with_commas)
QP_CANDIDATES = door(qp_candidates, "RULE,...", _with_commas)
WHOLE_NUMBERS = door(whole_numbers, "N,...", _with_commas)
POSITIVE = door(positive, "N")
NATURAL = door(natural, "N")
POSITIVE_REAL = door(positive_real, "X")
POSITIVE_REALS = door(positive_reals, "X,...", _with_commas)
NOT_NEGATIVE = door(not_negative, "X")
SHARE = door(share, "X")
SIZE = door(size, "WxH", _size_text)
EFFORT = door(between(0, 3), "N")
BIT_DEPTH = door(between(8, 16), "B")
THREADS = door(between(1, MAX_THREADS), "N")
SEED = door(between(0, (1 << 63) - 1), "N")
FOLDER = door(path, "DIR")
TEXT = door(str, "NAME")

NAMES: PrimitiveConstructorSpec[tuple[str, ...]] = PrimitiveConstructorSpec(
    nargs="*",
    metavar="NAME [NAME ...]",
    instance_from_str=_some,
    is_instance=lambda _: True,
    str_from_instance=list,
)

OutputPath: TypeAlias = Annotated[Path, door(output_path, "FILE")]
Texts: TypeAlias = UseAppendAction[tuple[Annotated[str, TEXT], ...]]
"""An option that may be given several times."""

_BY_TYPE: dict[Any, PrimitiveConstructorSpec[Any]] = {
    int: door(whole_number, "N"),
    float: door(real, "X"),
    str: TEXT,
    Path: door(path, "FILE"),
    Fraction: door(fraction, "F"),
}


def checked_types() -> ConstructorRegistry:
    """The doors that count where a field has none of its own: by its type, None aside."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kind: Any = info.type
        if get_origin(kind) in (Union, UnionType):
            kinds = [each for each in get_args(kind) if each is not NoneType]
            kind = kinds[0] if len(kinds) == 1 else None
        if get_origin(kind) is Literal:
            words = get_args(kind)
            return door(choice(*words), "{" + ",".join(words) + "}")
        return _BY_TYPE.get(kind)

    return registry
