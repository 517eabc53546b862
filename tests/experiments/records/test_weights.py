"""Which compressions a text names."""

from __future__ import annotations

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.weights import is_weights, parse_compression, parse_compressions, weights_title


@pytest.mark.parametrize(
    ("text", "full", "title"),
    [
        ("uniform8", "uniform8", "uniform8"),
        ("uniform16", "uniform16", "uniform16"),
        ("nnc", "nnc", "NNC"),
        ("nnc:-32", "nnc:-32", "NNC QP -32"),
        ("nnc:-20", "nnc:-20", "NNC QP -20"),
        ("calibrated", "calibrated:0.02dB", "calibrated 0.02 dB"),
        ("calibrated:0.005dB", "calibrated:0.005dB", "calibrated 0.005 dB"),
        ("calibrated:12000B", "calibrated:12000B", "calibrated 12000 B"),
    ],
)
def test_a_compression_has_one_text_and_a_title(text: str, full: str, title: str) -> None:
    found = parse_compression(text)
    assert (found.text, found.title) == (full, title)
    assert parse_compression(found.text) == found
    assert weights_title(full) == title
    assert is_weights(full)


@pytest.mark.parametrize(
    "text",
    ["", "uniform", "uniform0", "uniform17", "uniform 8", "nnc:", "nnc:1.5", "nnc:9999", "calibrated:0dB",
     "calibrated:0.02", "calibrated:1.5B", "calibrated:0B", "zip", "uniform8,uniform8", "nnc,nnc",
     "nnc:-32,nnc:-32", "uniform8,"],
)  # fmt: skip
def test_texts_that_name_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"compression|qp"):
        parse_compressions(text)


def test_lists_and_rows() -> None:
    assert [each.text for each in parse_compressions("uniform8,nnc,calibrated")] == [
        "uniform8", "nnc", "calibrated:0.02dB",
    ]  # fmt: skip
    assert parse_compressions("none") == ()
    assert [is_weights(text) for text in ("original", "file", "none", "nnc", "uniform08")] == [
        True, True, False, True, False,
    ]  # fmt: skip
