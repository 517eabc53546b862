"""Texts of an ONNX model: names, operators, notes, and metadata, which are UTF-8 by its format.

The reader of protocol buffers does not look, and hands out bytes in place of a text that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vvc_nnr.errors import BitstreamError, shown

# Of `FieldDescriptor`: the types of a text and of a message.
_TYPE_TEXT, _TYPE_MESSAGE = 9, 11


def check_texts(model: Any) -> None:
    """Raises BitstreamError, which names the field, if a text of a `ModelProto` or anything in it is no UTF-8."""
    for place, text in _texts(model, ""):
        if not isinstance(text, str):
            raise BitstreamError(f"the text {shown(repr(text))} is no UTF-8", field=place)


def _texts(message: Any, place: str) -> Iterator[tuple[str, object]]:
    """Where each text of a message is, such as "graph.node[3].name", and the text: bytes if it is no UTF-8."""
    for field, value in message.ListFields():
        if field.type not in (_TYPE_TEXT, _TYPE_MESSAGE):
            continue
        is_one = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for number, each in enumerate([value] if is_one else value):
            here = f"{place}{field.name}" + ("" if is_one else f"[{number}]")
            if field.type == _TYPE_TEXT:
                yield here, each
            else:
                yield from _texts(each, f"{here}.")
