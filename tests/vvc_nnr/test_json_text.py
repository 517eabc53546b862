"""JSON that nobody vouches for."""

from __future__ import annotations

import json

import pytest

from vvc_nnr.errors import BitstreamError
from vvc_nnr.json_text import MAX_DEPTH, MAX_DIGITS, parse_json


@pytest.mark.parametrize("value", [None, True, -3, 10 ** (MAX_DIGITS - 1), 0.5, 1e308, "\ud800 \x1b", [], {"": [{}]}])
def test_what_json_can_say_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


def test_depth() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json('{"a":' * MAX_DEPTH + "0" + "}" * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 500, 1000, 100_000):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth):
            with pytest.raises(BitstreamError, match="nested deeper than 32"):
                parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "property name"),
        ('{"a":1,"a":1}', "stands twice"),
        ('[{"a":{"b":1,"b":2}}]', "stands twice"),
        ("NaN", "no finite number"),
        ("[-Infinity]", "no finite number"),
        ("1e999", "beyond float64"),
        ("-" + "9" * 400 + ".0", "beyond float64"),
        ("9" * 5000, "5000 digits"),
        ('"\n"', "control character"),
        (b"\xff", "utf-8"),
        (b'"\xff\xfe"', "utf-8"),
    ],
)
def test_what_is_no_json(text: str | bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 200
