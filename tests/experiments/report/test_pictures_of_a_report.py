"""The index of pictures field by field, and pictures inside a page: exact, cut, once each, within their bounds."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.experiments.records.viewer_pictures import read_index
from vvc_nnr.experiments.report.embedding import PictureLimits, embed_pictures

Put = Callable[..., list[dict[str, object]]]
Trio = dict[str, np.ndarray]
LIMITS = PictureLimits()


def pixels(text: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def test_no_pictures_are_no_error(tmp_path: Path) -> None:
    assert read_index(tmp_path) == []
    assert embed_pictures([], LIMITS).entries == ()


def test_pictures_come_through_exactly(tmp_path: Path, trio: Trio, put_pictures: Put) -> None:
    put_pictures(tmp_path)
    entries = read_index(tmp_path)
    assert [(entry.qp, entry.psnr_y_db) for entry in entries] == [(22, (33.25, 33.5)), (37, (33.25, math.inf))]
    embedded = embed_pictures(entries, LIMITS)
    assert len(embedded.texts) == 5  # one original, and two pictures at each of two QPs
    for each in embedded.entries:
        original, decoded, _ = (pixels(embedded.texts[place]) for place in each.places)
        assert np.array_equal(original, trio["original"])
        assert np.array_equal(decoded, trio["decoded"] ^ np.uint8(each.entry.qp))


def test_large_pictures_are_cut_around_their_middle(tmp_path: Path, trio: Trio, put_pictures: Put) -> None:
    put_pictures(tmp_path)
    embedded = embed_pictures(read_index(tmp_path), replace(LIMITS, max_width=32, max_height=40))
    first = embedded.entries[0]
    assert (first.left, first.top, first.width, first.height) == (32, 12, 32, 40)
    assert np.array_equal(pixels(embedded.texts[first.places[0]]), trio["original"][12:52, 32:64])


def test_limits_hold_and_the_rest_is_named(tmp_path: Path, put_pictures: Put) -> None:
    put_pictures(tmp_path, ("a", "b", "c"), (22, 27, 32, 37))
    entries = read_index(tmp_path)
    embedded = embed_pictures(entries, replace(LIMITS, max_pictures=7))
    # the highest QP of all sequences, the lowest, then what is between; shown in the order of the index
    chosen = [(each.entry.sequence, each.entry.qp) for each in embedded.entries]
    assert chosen == [("a", 22), ("a", 27), ("a", 37), ("b", 22), ("b", 37), ("c", 22), ("c", 37)]
    assert len(embedded.left_out) == 5
    some = embed_pictures(entries, replace(LIMITS, max_bytes=embedded.n_bytes // 2))
    assert 0 < some.n_bytes <= embedded.n_bytes // 2
    assert len(some.entries) + len(some.left_out) == 12
    assert embed_pictures(entries, replace(LIMITS, max_pictures=0)).texts == ()


def test_grey_pictures_become_what_they_are(tmp_path: Path, put_pictures: Put, webp: Callable[..., bytes]) -> None:
    entry = put_pictures(tmp_path, qps=(22,))[0]
    for name in dict(entry["files"]).values():  # type: ignore[call-overload]
        (tmp_path / "pictures" / name).write_bytes(webp(np.full((64, 96), 77, np.uint8)))
    embedded = embed_pictures(read_index(tmp_path), LIMITS)
    assert len(embedded.texts) == 1
    assert (pixels(embedded.texts[0]) == 77).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"qp": "22"}, "entry 0: qp '22': must be a whole number from 0 to 63"),
        ({"qp": True}, "qp True"),
        ({"qp": 64}, "qp 64"),
        ({"sequence": 3}, "sequence 3: must be a text"),
        ({"width": 0}, "width 0"),
        ({"network": None}, "network None"),
        ({"files": []}, "files: has no original"),
        ({"files": {"original": "0_original.webp", "decoded": "none.webp"}}, "no such file"),
        ({"files": {"original": "../../secret.webp"}}, "is outside of"),
        ({"files": {"original": "/etc/passwd"}}, "is outside of"),
        ({"files": {"original": "a\0b"}}, "cannot be the name of a file"),
        ({"files": {"original": "a" * 300}}, "cannot be the name of a file"),
        ({"files": {"original": "\ud800"}}, "cannot be the name of a file"),
        ({"psnr_y_db": {"decoded": "loud", "filtered": 3}}, "psnr_y_db: decoded 'loud'"),
        ({"psnr_y_db": 3}, "psnr_y_db: has no decoded"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, put_pictures: Put, change: dict[str, object], said: str) -> None:
    entries = put_pictures(tmp_path)
    (tmp_path / "pictures" / "index.json").write_text(json.dumps([{**entries[0], **change}]))
    with pytest.raises(InputError, match=r"index\.json, entry 0") as error:
        read_index(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "{}", "3", "[3]", "[[]]", "[" * 100_000, '[{"sequence": "a"}]', "[NaN]"])
def test_what_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        read_index(tmp_path)


def test_damaged_pictures_are_refused(
    tmp_path: Path, trio: Trio, put_pictures: Put, webp: Callable[..., bytes]
) -> None:
    put_pictures(tmp_path)
    path = tmp_path / "pictures" / "0_decoded_37.webp"
    good = path.read_bytes()
    for bad, said in (
        (good[:200], "cannot be decoded"),
        (b"", "no lossless WebP"),
        (webp(trio["decoded"], lossless=False), "no lossless WebP"),
        (webp(trio["decoded"][:32]), "96x32 pixels, the index says 96x64"),
    ):
        path.write_bytes(bad)
        with pytest.raises(BitstreamError, match=said) as error:
            embed_pictures(read_index(tmp_path), LIMITS)
        assert str(path) in str(error.value)
