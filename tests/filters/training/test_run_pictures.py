from __future__ import annotations

import numpy as np
import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.filters.training.pairs import PairOptions, make_pairs
from vvc_nnr.filters.training.run import (
    check_same_pictures,
    frame_digests,
    note_pictures,
    noted_pictures,
    pair_digests,
    pictures_before,
)
from vvc_nnr.filters.training.scenes import stills


@pytest.fixture
def save(tmp_path):
    def save(name, value):
        (tmp_path / "pairs" / name).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "pairs" / name / "original.npy", np.full((6, 2, 2), value, np.uint16))

    return save


def test_digests_follow_the_samples(save, tmp_path):
    save("0000_a", 1), save("0001_b", 1), save("0002_c", 2)
    digests = pair_digests(tmp_path / "pairs", ["0000_a", "0001_b", "0002_c"])
    assert digests["0000_a"] == digests["0001_b"] != digests["0002_c"]


def test_without_a_checkpoint_there_were_no_pictures(save, tmp_path):
    save("0000_a", 1)
    note_pictures(tmp_path / "note.json", {"0000_a": "x"})
    assert pictures_before(tmp_path / "a.pt", tmp_path / "note.json") is None


def test_a_run_without_a_note_cannot_go_on(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"note\.json: is missing, .*a\.pt.*another folder"):
        pictures_before(tmp_path / "a.pt", tmp_path / "note.json")
    assert not (tmp_path / "note.json").exists()


def test_pictures_have_the_digests_that_they_get_in_a_pair_set(photographs, tmp_path):
    pictures = [(name, frame) for name, frame in zip("ab", photographs(2, 128, 96), strict=True)]
    names = make_pairs(stills(pictures), tmp_path, PairOptions(qps=(), loop_filters=()))
    assert frame_digests(pictures) == pair_digests(tmp_path, names)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"a": "1"}, "b is missing"),
        ({"a": "1", "b": "3"}, "b has changed"),
        ({"a": "1", "b": "2", "c": "3"}, "c is new"),
    ],
)
def test_other_pictures_are_refused(now, named, tmp_path):
    check_same_pictures({"b": "2", "a": "1"}, {"a": "1", "b": "2"}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt: a checkpoint of a run on other pictures \({named}\)"):
        check_same_pictures({"a": "1", "b": "2"}, now, tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_damaged_notes(tmp_path, content):
    (tmp_path / "note.json").write_bytes(content)
    with pytest.raises(InputError, match=r"note\.json"):
        noted_pictures(tmp_path / "note.json")
