"""Bytes made shorter, and bytes as text: what a stream carries beside its tensors."""

from __future__ import annotations

import lzma
import zlib
from typing import Literal

import numpy as np

from vvc_nnr.errors import BitstreamError

Packing = Literal["deflate", "lzma"]
_MIN_DICTIONARY_BYTES, _MAX_DICTIONARY_BYTES = 1 << 12, 1 << 26
# A zero byte would end the text: in its place stands the first character behind ASCII, in UTF-8.
_ZERO = "\x80".encode()
_GROUP_BITS = 7
# Beyond so many bytes LZMA, at about a megabyte a second, works on them once.
_MANY_BYTES, _N_PARTS, _PART_BYTES = 1 << 20, 4, 1 << 16


def lzma_bytes(plain: bytes, *, of_bytes: bool = False) -> bytes:
    """Bytes by LZMA2, without the container of an .xz file.

    Args:
        plain: The bytes.
        of_bytes: They are values of one byte, neither text nor words of several.
    """
    ways = _WAYS_OF_BYTES if of_bytes else _WAYS
    return min((_by_lzma(plain, way) for way in ways), key=len)


def _by_lzma(plain: bytes, way: dict[str, int]) -> bytes:
    return lzma.compress(plain, lzma.FORMAT_RAW, filters=[_filter(len(plain)) | way])


# Ways to compress: texts, words of four bytes; values that follow their neighbours' upper bits, and others. The bytes
# themselves say which it was.
_WAYS: tuple[dict[str, int], ...] = ({}, {"lc": 0, "lp": 2, "pb": 2})
_WAYS_OF_BYTES = ({"lc": 4, "lp": 0, "pb": 0}, {"lc": 0, "lp": 0, "pb": 0})


def _filter(n_bytes: int) -> dict[str, int]:
    size = min(max(n_bytes, _MIN_DICTIONARY_BYTES), _MAX_DICTIONARY_BYTES)
    return {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}


def packed(plain: bytes) -> tuple[bytes, Packing]:
    """The shorter of what deflate and LZMA make of bytes, and which; of many bytes parts tell the way of LZMA."""
    way = min(_WAYS, key=lambda way: len(_by_lzma(_parts(plain), way))) if len(plain) > _MANY_BYTES else None
    by_lzma = lzma_bytes(plain) if way is None else _by_lzma(plain, way)
    ways: list[tuple[bytes, Packing]] = [(zlib.compress(plain, 9), "deflate"), (by_lzma, "lzma")]
    return min(ways, key=lambda way: len(way[0]))


def _parts(plain: bytes) -> bytes:
    """Parts of many bytes from all over them."""
    apart = len(plain) // _N_PARTS
    return b"".join(plain[at * apart : at * apart + _PART_BYTES] for at in range(_N_PARTS))


def unpacked(data: bytes | memoryview, packing: Packing, n_bytes: int, field: str) -> bytes:
    """The inverse of `packed`, which is given the number of bytes that must come out.

    Raises:
        BitstreamError: If it is damaged, or there are more or fewer; with that field.
    """
    decoder = zlib.decompressobj() if packing == "deflate" else _lzma_decoder(n_bytes)
    try:
        plain: bytes = decoder.decompress(bytes(data), n_bytes + 1)
    except (zlib.error, lzma.LZMAError):
        raise BitstreamError(f"it is no {packing}", field=field) from None
    if len(plain) != n_bytes or not decoder.eof:
        raise BitstreamError(f"{packing} gives more or fewer than {n_bytes} bytes", field=field)
    return plain


def _lzma_decoder(n_bytes: int) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_filter(n_bytes)])


def as_text(data: bytes) -> bytes:
    """Bytes as text in UTF-8 without a zero byte: seven bits a character, the last filled up with zeros."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    groups = np.zeros((-(-len(bits) // _GROUP_BITS), 8), np.uint8)
    filled = np.concatenate([bits, np.zeros(-len(bits) % _GROUP_BITS, np.uint8)])
    groups[:, 1:] = filled.reshape(-1, _GROUP_BITS)
    return np.packbits(groups, axis=1).tobytes().replace(b"\0", _ZERO)


def from_text(text: bytes, field: str) -> bytes:
    """The inverse of `as_text`.

    Raises:
        BitstreamError: If it is none; with that field.
    """
    characters = np.frombuffer(text.replace(_ZERO, b"\0"), np.uint8)
    if (characters > 0x7F).any():
        raise BitstreamError("it is no text of seven bits a character", field=field)
    bits = np.unpackbits(characters.reshape(-1, 1), axis=1)[:, 1:].reshape(-1)
    return np.packbits(bits[: len(bits) // 8 * 8]).tobytes()
