"""Ways to damage any bytes, and ways to damage what is inside of some: members of archives, JSON, cells, messages."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

Mutator: TypeAlias = Callable[[Random, bytes], bytes]
"""Makes other bytes of some bytes; all its choices come from the random numbers."""

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1)
_DIGITS = (b"0", b"-1", b"1", b"65536", b"4294967296", b"1e400", b"9" * 30, b"9" * 5000, b"nan", b"inf", b"")
TEXTS = (b"\x00", b"\xff", b"\x1b[2J", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\n", b"\t", b"../", b"/dev/zero", b"%s" * 9)
"""Texts that are none, or do something to a terminal."""
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 1 << 70, 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan")),
    *(float("inf"), "", "x", "\x1b[2J", "\ud800", "e\u0301", "a" * 5000, [], {}, [[]], [None], {"": None}, "inf", "1"),
)
"""Values of JSON that hardly any field can have."""


def damaged(random: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """The data after one to four changes of any kind.

    Args:
        random: Where all choices come from.
        data: What is damaged.
        others: Data that pieces are taken from.
        tokens: Texts and numbers that the format knows.
    """
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        match random.randrange(9):
            case 0:
                data = _flipped(random, data)
            case 1:
                data = data[: random.randrange(len(data) + 1)]
            case 2:
                at = random.randrange(len(data) + 1)
                data = data[:at] + random.randbytes(random.choice((1, 2, 4, 100))) + data[at:]
            case 3:
                at, end = _piece(random, data)
                data = data[:at] + data[end:]
            case 4:
                other = random.choice(others) if others else data
                (at, end), (begin, until) = _piece(random, data), _piece(random, other)
                data = data[:at] + other[begin:until] + data[random.choice((at, end)) :]
            case 5:
                data = _number_edited(random, data)
            case 6:
                data = _with_token(random, data, (*tokens, *TEXTS))
            case 7:
                at, end = _piece(random, data)
                data = data[:at] + data[at:end] * random.choice((2, 3, 50)) + data[end:]
            case _:
                data = _digits_edited(random, data)
    return data


def _piece(random: Random, data: bytes) -> tuple[int, int]:
    at = random.randrange(len(data) + 1)
    return at, min(len(data), at + random.choice((1, 2, 4, 8, 32, 256, len(data))))


def _flipped(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            # Half of the changes hit the first bytes, where headers are.
            end = len(changed) if random.random() < 0.5 else min(len(changed), 128)
            changed[random.randrange(end)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _number_edited(random: Random, data: bytes) -> bytes:
    """A number of 1 to 8 bytes set to an odd value, or to a little more or less than it was."""
    width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    if len(data) < width:
        return data
    at = random.randrange(len(data) - width + 1)
    old = int.from_bytes(data[at : at + width], order)
    new = random.choice((*_NUMBERS, len(data), old + 1, old - 1, old * 2, old ^ 1 << (8 * width - 1)))
    return data[:at] + (new % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]


def _with_token(random: Random, data: bytes, tokens: Sequence[bytes]) -> bytes:
    """A token put in, put over other bytes, or put in place of another token."""
    token = random.choice(tokens)
    present = [each for each in tokens if each and each in data]
    if present and random.random() < 0.5:
        return data.replace(random.choice(present), token, random.choice((1, -1)))
    at = random.randrange(len(data) + 1)
    return data[:at] + token + data[at + random.choice((0, len(token))) :]


def _digits_edited(random: Random, data: bytes) -> bytes:
    """A number in digits changed to another."""
    places = [at for at, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
    if not places:
        return _flipped(random, data)
    at = random.choice(places)
    end = at
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:at] + random.choice(_DIGITS) + data[end:]


def json_damaged(random: Random, data: bytes) -> bytes:
    """JSON with one to three of its values changed, lost, or put deep into lists; text that is no JSON stays."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(random.choice((1, 1, 2, 3))):
        content = _value_changed(random, content)
    text = json.dumps(content)
    if random.random() < 0.05:
        depth = random.choice((30, 200, 1000, 100_000))
        text = text.replace("null", "[" * depth + "]" * depth) if "null" in text else "[" * depth + text + "]" * depth
    return text.encode()


def _value_changed(random: Random, content: Any) -> Any:
    if isinstance(content, dict) and content and random.random() < 0.9:
        key = random.choice(list(content))
        match random.randrange(8):
            case 0:
                return {name: value for name, value in content.items() if name != key}
            case 1:
                return content | {random.choice(("", "x", "\x1b", key + "2")): content[key]}
            case _:
                return content | {key: _value_changed(random, content[key])}
    if isinstance(content, list) and content and random.random() < 0.9:
        at = random.randrange(len(content))
        match random.randrange(8):
            case 0:
                return content[:at] + content[at + 1 :]
            case 1:
                return [*content[:at], content[at], *content[at:]]
            case _:
                return [*content[:at], _value_changed(random, content[at]), *content[at + 1 :]]
    if isinstance(content, str) and random.random() < 0.3:
        return content + random.choice(("x", "\x00", "\x1b[2J", "\ud800", "a" * 3000))
    return random.choice(ODD_VALUES)


def cells_damaged(random: Random, data: bytes) -> bytes:
    """A table with one to three cells or lines changed."""
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(lines))
        cells = lines[at].split(b"\t")
        match random.randrange(6):
            case 0:
                lines.insert(at, random.choice(lines))
            case 1:
                cells.insert(random.randrange(len(cells) + 1), random.choice(_DIGITS))
                lines[at] = b"\t".join(cells)
            case _:
                odd = (*_DIGITS, *TEXTS, b"-5", b"1.5", b"1e9", b"\\", b"\\x", "\u0661".encode(), b"x" * 5000, b"1_0")
                cells[random.randrange(len(cells))] = random.choice(odd)
                lines[at] = b"\t".join(cells)
    return b"\n".join(lines)


def zip_damaged(inner: Mutator) -> Mutator:
    """Damages one member of a ZIP archive, or its name, and packs all anew."""

    def mutated(random: Random, data: bytes) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        except Exception:  # no archive any more
            return data
        at = random.randrange(len(members))
        name, content = members[at]
        match random.randrange(12):
            case 0:
                del members[at]
            case 1:
                members[at] = (random.choice(("../x", "", "/x", name + "/", "data.pkl", "\x1b")), content)
            case _:
                members[at] = (name, inner(random, content))
        packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", packing) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name or "x"), content, packing)
        return out.getvalue()

    return mutated


def gzip_damaged(inner: Mutator) -> Mutator:
    """Damages what was packed by gzip."""

    def mutated(random: Random, data: bytes) -> bytes:
        try:
            content = gzip.decompress(data)
        except Exception:  # damaged before
            return data
        return gzip.compress(inner(random, content), 1, mtime=0)

    return mutated


def header_damaged(random: Random, data: bytes) -> bytes:
    """A safetensors file with another header, JSON within JSON too, and the size that goes with it."""
    if len(data) < 8:
        return data
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size]
    text = json_damaged(random, header)
    if random.random() < 0.6:
        text = _inner_json_damaged(random, header)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _inner_json_damaged(random: Random, header: bytes) -> bytes:
    try:
        content = json.loads(header)
        metadata = content["__metadata__"]
        key = random.choice(list(metadata))
    except Exception:  # damaged before, or without metadata
        return header
    metadata[key] = json_damaged(random, metadata[key].encode("utf-8", "replace")).decode("utf-8", "replace")
    return json.dumps(content).encode()


def message_damaged(make: Callable[[], Any]) -> Mutator:
    """Changes fields of a protocol buffer anywhere in it: lost, doubled, set to odd values, texts exchanged."""

    def mutated(random: Random, data: bytes) -> bytes:
        message = make()
        try:
            message.ParseFromString(data)
            for _ in range(random.choice((1, 1, 2, 4))):
                _field_changed(random, message)
            return bytes(message.SerializeToString())
        except Exception:  # damaged before, or a value that the field does not take
            return data

    return mutated


def _field_changed(random: Random, message: Any) -> None:
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    is_text, is_one = isinstance(value, str | bytes), not hasattr(value, "__len__") or isinstance(value, str | bytes)
    if hasattr(value, "ListFields"):
        if random.random() < 0.95:
            _field_changed(random, value)
        else:
            message.ClearField(field.name)
    elif is_one:
        if random.random() < 0.2:
            message.ClearField(field.name)
        elif is_text:
            _set(message, field.name, random.choice((value[:0], value + value, value[:1], value[:-1])))
        else:
            _set(message, field.name, random.choice((0, 1, -1, 2, 7, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 63) - 1)))
    elif len(value):
        at = random.randrange(len(value))
        if hasattr(value[at], "ListFields") and random.random() < 0.85:
            _field_changed(random, value[at])
        elif random.random() < 0.3:
            del value[at]
        elif hasattr(value[at], "ListFields"):
            value.add().CopyFrom(value[random.randrange(len(value))])
        elif isinstance(value[at], str | bytes):
            value[at] = random.choice((value[at][:0], value[at] + value[at], value[random.randrange(len(value))]))
        else:
            value[at] = random.choice((0, 1, -1, 2, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 62)))


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (TypeError, ValueError):
        message.ClearField(name)
