"""The manifest by section 12 of docs/FORMAT.md, whose tables are read from the document (see format_decoder.py)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from format_payload import FORMAT
from format_units import RAW_FLOAT, Unit, read_units

SECTION = FORMAT.split("## 12 Manifest")[1].split("## 13")[0]
BASE_85 = re.findall(r"^```\n(0123.*)\n```$", SECTION, re.MULTILINE)[0]
LETTERS = {
    letter: number_format
    for letters, formats in re.findall(
        r"^\| ((?:`.` ?)+)\| (.*) \|$", SECTION.split("| letter | number")[1], re.MULTILINE
    )
    for letter, number_format in zip(re.findall("`(.)`", letters), formats.split(", "), strict=True)
}


@dataclass
class Item:
    """What an item tells of one tensor."""

    number_format: str
    form: str = ""
    shape: tuple[int, ...] | None = None
    is_wide: bool = False
    raw: tuple[str, int] | None = None


def topology(data: bytes) -> tuple[int, bytes]:
    """Where the text of the topology unit ends, and the text."""
    at = 0
    for kind, bits in read_units(data):
        at += len(bits.data)
        if kind == 3:
            bits.u(16)
            return at, bits.rest()
    raise AssertionError("no topology unit")


def check_digits(data: bytes, end: int) -> None:
    """The checksum of a manifest that ends there."""
    first = data.rindex(b'"#":"', 0, end) + 5
    digits, rest = data[first : end - 3].decode(), data[:first] + data[end - 3 :]
    wanted = hashlib.sha256(rest).digest()
    for place in range(0, len(digits), 5):
        value = sum(BASE_85.index(digit) * 85 ** (4 - n) for n, digit in enumerate(digits[place : place + 5]))
        assert value.to_bytes(4, "big") == wanted[place // 5 * 4 :][:4]
    assert (len(digits) == 5) == (len(data) - (end - data.rindex(b'{"vvc_nnr":', 0, end)) < 4096)


def read_items(data: bytes) -> tuple[list[Item], dict[str, Any]]:
    """The tensors that the items of a stream tell of, and all of its manifest."""
    end, text = topology(data)
    check_digits(data, end)
    content = json.loads(text[text.rindex(b'{"vvc_nnr":') : -1])
    left, found = content["vvc_nnr"], []
    left = re.sub(r"\[([^]]*)\]([0-9]+)", lambda group: group[1] * int(group[2]), left)
    while left:
        letter, left = left[0], left[1:]
        item = Item(LETTERS.get(letter, ""))
        if left[:1] in ("*", "="):
            item.form, left = left[0], left[1:]
        digits = re.match("[0-9]*", left)[0]  # type: ignore[index]
        left = left[len(digits) :]
        if left[:1] == "(":
            inside, _, left = left[1:].partition(")")
            item.shape = tuple(int(n) for n in inside.split(",") if n)
        if left[:1] == "+":
            item.is_wide, left = True, left[1:]
        if left[:1] == ":":
            n_bytes = re.match("[0-9]*", left[2:])[0]  # type: ignore[index]
            item.raw, left = (left[1], int(n_bytes)), left[2 + len(n_bytes) :]
        found += [item] * int(digits or 1)
    return found, content


def values_as_they_are(item: Item, unit: Unit) -> Any:
    """A tensor of the form `=`; bfloat16 and float8 as float32."""
    assert unit.kind == RAW_FLOAT
    assert item.shape is not None
    is_bfloat16, is_float8 = item.number_format == "bfloat16", item.number_format in FLOAT8
    dtype = np.dtype("u1" if is_float8 else "<u2" if is_bfloat16 else item.number_format)
    n = math.prod(item.shape)
    assert len(unit.payload) == -(-n * dtype.itemsize // 4) * 4
    values = np.frombuffer(unit.payload, dtype, n).reshape(item.shape)
    if is_float8:
        table = np.array([float8_value(item.number_format, code) for code in range(256)], "<f4")
        return table[values]
    return (values.astype("<u4") << 16).view("<f4") if is_bfloat16 else values


FLOAT8 = {
    name: (*(int(n) for n in parts.split(", ")), int(bias), odd)
    for name, parts, bias, odd in re.findall(
        r"^\| (float8_\w+) \| ([0-9], [0-9], [0-9]) \| ([0-9]+) \| (.*) \|$", SECTION, re.MULTILINE
    )
}


def float8_value(number_format: str, code: int) -> float:
    """What the bits of a float8 stand for, by the document's table."""
    n_sign, n_exponent, n_mantissa, bias, odd = FLOAT8[number_format]
    for codes, what in re.findall(r"((?:`..`(?: to |, )?)+): (\w+)", odd):
        ends = [[int(end, 16) for end in re.findall("`(..)`", part)] for part in codes.split(", ")]
        if any(part[0] <= code <= part[-1] for part in ends):
            return math.nan if what == "NaN" else math.inf * (1 - 2 * (code >> 7))
    sign = -1 if n_sign and code >> 7 else 1
    exponent, mantissa = code >> n_mantissa & (1 << n_exponent) - 1, code & (1 << n_mantissa) - 1
    if n_mantissa == 0:
        return 2.0 ** (exponent - bias)
    whole = mantissa + (1 << n_mantissa) * (exponent > 0)
    return sign * whole * 2.0 ** (max(exponent, 1) - bias - n_mantissa)
