"""Tensors of a network that are not coded, since another one has the same values: by its memory, or by its contents.

A state dict that shares memory between two names has ties; they come back as one array. A file holds such a tensor
twice, and so do networks that keep a copy of what they were, or one mask in every layer: those are copies, which come
back as arrays of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays, number_format_of, plain_array
from vvc_nnr.errors import BitstreamError

# Tensors of fewer bytes are not looked at: a unit of their own takes hardly more than to tell of the other one.
MIN_COPY_BYTES = 128
# So many values tell that most tensors of one shape differ.
_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class Tie:
    """A tensor that another one stands for.

    Args:
        place: Where it comes among all tensors, from 0.
        name: Its name.
        source: The name of the tensor that is coded, or that comes before it and is one with it.
        is_copy: It has memory of its own.
    """

    place: int
    name: str
    source: str
    is_copy: bool = False


def find_ties(arrays: NamedArrays) -> tuple[Tie, ...]:
    """The tensors that share memory, shape and number format with an earlier one, in order."""
    first: dict[object, str] = {}
    ties: list[Tie] = []
    for place, (name, array) in enumerate(arrays.items()):
        plain = plain_array(array)
        if not plain.size:
            continue
        kind = array.number_format if isinstance(array, FloatBits) else None
        key = (plain.__array_interface__["data"][0], plain.shape, plain.strides, plain.dtype, kind)
        source = first.setdefault(key, name)
        if source != name:
            ties.append(Tie(place, name, source))
    return tuple(ties)


def with_copies(arrays: NamedArrays, ties: Sequence[Tie], apart: Collection[str] = ()) -> tuple[Tie, ...]:
    """The ties of a network, and its tensors that have the bits, shape and number format of an earlier one, in order.

    Tensors of one repeated value, which take next to nothing, and of less than MIN_COPY_BYTES are no copies.

    Args:
        arrays: The tensors.
        ties: Those that share memory.
        apart: Names of tensors that must not be one with others.

    Raises:
        InputError: If a number format cannot be coded.
    """
    places = {name: place for place, name in enumerate(arrays)}
    own = arrays.keys() - {tie.name for tie in ties}
    alike: dict[object, list[str]] = defaultdict(list)
    for name, array in arrays.items():
        plain = plain_array(array)
        if name in own and name not in apart and plain.nbytes >= MIN_COPY_BYTES:
            alike[plain.shape, plain.dtype, number_format_of(name, array)].append(name)
    found = list(ties)
    for names in _split(alike.values(), lambda name: _sample(arrays[name])):
        for same in _split([names], lambda name: _digest(plain_array(arrays[name]))):
            if not _is_one_value(plain_array(arrays[same[0]])):
                found += [Tie(places[name], name, same[0], is_copy=True) for name in same[1:]]
    return tuple(sorted(found, key=lambda tie: tie.place))


def _split(groups: Iterable[list[str]], key_of: Callable[[str], bytes]) -> list[list[str]]:
    """Groups of names split by a key, those of several names."""
    found: list[list[str]] = []
    for names in groups:
        if len(names) > 1:
            by_key: dict[bytes, list[str]] = defaultdict(list)
            for name in names:
                by_key[key_of(name)].append(name)
            found += by_key.values()
    return [names for names in found if len(names) > 1]


def _sample(array: Array | FloatBits) -> bytes:
    """Values from all over a tensor."""
    plain = plain_array(array)
    return plain[_sampled_places(plain.shape)].tobytes()


@lru_cache(maxsize=1)  # all tensors of a shape come one after the other
def _sampled_places(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    """Places from all over a shape, one index for each axis."""
    n_values = math.prod(shape)
    return np.unravel_index(np.linspace(0, n_values - 1, min(_SAMPLE, n_values), dtype=np.int64), shape)


def _digest(plain: NDArray[Any]) -> bytes:
    """What tells a tensor's bits from all others'."""
    return hashlib.blake2b(np.ascontiguousarray(plain).data, digest_size=20).digest()


def _is_one_value(plain: NDArray[Any]) -> bool:
    bits = np.ascontiguousarray(plain).reshape(-1).view(f"u{plain.itemsize}")
    return bool((bits[:_SAMPLE] == bits[0]).all()) and bool((bits == bits[0]).all())


def copies_of(ties: Iterable[Tie]) -> dict[str, tuple[str, ...]]:
    """The names of its copies for each tensor that has some."""
    found: dict[str, tuple[str, ...]] = {}
    for tie in ties:
        if tie.is_copy:
            found[tie.source] = (*found.get(tie.source, ()), tie.name)
    return found


def with_ties(arrays: Mapping[str, Array], ties: Iterable[Tie]) -> dict[str, Array]:
    """All tensors in their order, tied ones among them; copies have memory of their own.

    Raises:
        BitstreamError: If a tie has no source, or a name or place that another tensor has.
    """
    made, order = dict(arrays), list(arrays)
    for tie in ties:
        if tie.source not in made or tie.name in arrays or tie.place > len(order):
            raise BitstreamError(f"tensor {tie.name!r} cannot be tied to {tie.source!r}", field="the manifest")
        if tie.name in made:
            raise BitstreamError("two tensors have one name", field="the manifest")
        made[tie.name] = made[tie.source].copy() if tie.is_copy else made[tie.source]
        order.insert(tie.place, tie.name)
    return {name: made[name] for name in order}
