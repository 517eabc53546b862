"""Tied tensors: one array under several names is coded once, and comes back as one array under all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vvc_nnr.errors import BitstreamError
from vvc_nnr.number_formats import Array, Bfloat16Bits, NamedArrays


@dataclass(frozen=True, slots=True)
class Tie:
    """A tensor that another one stands for.

    Args:
        place: Where it comes among all tensors, from 0.
        name: Its name.
        source: The name of the tensor that is coded.
    """

    place: int
    name: str
    source: str


def find_ties(arrays: NamedArrays) -> tuple[Tie, ...]:
    """The tensors that share memory, shape and number format with an earlier one, in order."""
    first: dict[object, str] = {}
    ties: list[Tie] = []
    for place, (name, array) in enumerate(arrays.items()):
        plain = array.bits if isinstance(array, Bfloat16Bits) else array
        if not plain.size:
            continue
        key = (plain.__array_interface__["data"][0], plain.shape, plain.strides, plain.dtype, type(array))
        source = first.setdefault(key, name)
        if source != name:
            ties.append(Tie(place, name, source))
    return tuple(ties)


def with_ties(arrays: Mapping[str, Array], ties: tuple[Tie, ...]) -> dict[str, Array]:
    """All tensors in their order, tied ones among them.

    Raises:
        BitstreamError: If a tie has no source, or a name or place that another tensor has.
    """
    if not ties:
        return dict(arrays)
    order = list(arrays.items())
    for tie in ties:
        if tie.source not in arrays or tie.name in arrays or tie.place > len(order):
            raise BitstreamError(f"tensor {tie.name!r} cannot be tied to {tie.source!r}", field="the manifest")
        order.insert(tie.place, (tie.name, arrays[tie.source]))
    if len(dict(order)) != len(order):
        raise BitstreamError("two tensors have one name", field="the manifest")
    return dict(order)
