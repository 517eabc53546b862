from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from vvc_nnr.codec.sequence import EncoderRun, EncodingCache
from vvc_nnr.errors import InputError
from vvc_nnr.files import remove_leftovers

KEY = "ab" + "0" * 62
STREAM = bytes(range(256))
LOG = "POC 0 ... 24 bits\n"
RUN = EncoderRun(STREAM, LOG, 1.5, 2.75)


@pytest.fixture
def filled(tmp_path):
    cache = EncodingCache(tmp_path / "new" / "folder")
    cache.put(KEY, RUN)
    return cache


def files(tmp_path):
    return {path.suffix: path for path in tmp_path.rglob("*") if path.is_file()}


def test_what_was_put_comes_back(filled, tmp_path):
    assert filled.get(KEY) == RUN
    assert EncodingCache(tmp_path / "new" / "folder").get(KEY) == RUN
    assert sorted(files(tmp_path)) == [".266", ".json"]


def test_an_unknown_key(filled):
    assert filled.get("cd" + KEY[2:]) is None


def test_putting_again_replaces(filled):
    other = EncoderRun(b"other", "", 0.25, None)
    filled.put(KEY, other)
    assert filled.get(KEY) == other


@pytest.mark.parametrize("field", ["encode_s", "encode_cpu_s", "log", "sha256"])
def test_an_entry_that_says_less_is_no_entry(filled, tmp_path, field):
    path = files(tmp_path)[".json"]
    entry = json.loads(path.read_text())
    del entry[field]
    path.write_text(json.dumps(entry))
    assert filled.get(KEY) is None


@pytest.mark.parametrize("field", ["encode_s", "encode_cpu_s"])
@pytest.mark.parametrize("value", [0.5, -1.5, 1e300, None, "1.5", True, float("nan"), float("inf")])
def test_another_time_is_no_entry(filled, tmp_path, field, value):
    path = files(tmp_path)[".json"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert filled.get(KEY) is None


@pytest.mark.parametrize("time_s", [-1.0, float("nan"), float("inf")])
def test_an_impossible_time_is_no_entry_whatever_its_hash(filled, time_s):
    filled.put(KEY, EncoderRun(STREAM, LOG, time_s, None))
    assert filled.get(KEY) is None
    filled.put(KEY, EncoderRun(STREAM, LOG, 1.5, time_s))
    assert filled.get(KEY) is None


def test_an_entry_under_another_key_is_no_entry(filled, tmp_path):
    other = "ab" + "1" * 62
    for path in files(tmp_path).values():
        path.rename(path.with_name(other + path.suffix))
    assert filled.get(other) is None


@pytest.mark.parametrize("suffix", [".266", ".json"])
def test_a_missing_half_is_no_entry(filled, tmp_path, suffix):
    files(tmp_path)[suffix].unlink()
    assert filled.get(KEY) is None


@pytest.mark.parametrize("data", [b"", STREAM[:-1], STREAM + b"\x00", bytes([1]) + STREAM[1:]])
def test_a_damaged_stream_is_no_entry(filled, tmp_path, data):
    files(tmp_path)[".266"].write_bytes(data)
    assert filled.get(KEY) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b"null",
        json.dumps({"sha256": "0" * 64, "encode_s": 1, "log": LOG}).encode(),
        json.dumps({"sha256": "0" * 64, "encode_s": None, "log": LOG}).encode(),
        json.dumps({"sha256": "0" * 64, "encode_s": 1, "log": "\udc80"}).encode(),
    ],
)
def test_a_damaged_description_is_no_entry(filled, tmp_path, text):
    files(tmp_path)[".json"].write_bytes(text)
    assert filled.get(KEY) is None


def test_a_damaged_log_is_no_entry(filled, tmp_path):
    path = files(tmp_path)[".json"]
    path.write_text(path.read_text().replace("24 bits", "25 bits"))
    assert filled.get(KEY) is None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    cache = EncodingCache(tmp_path / "file")
    assert cache.get(KEY) is None
    with pytest.raises(InputError, match=r"file.*cannot be made"):
        cache.put(KEY, RUN)


@pytest.mark.parametrize("suffix", [".266", ".json", "folder"])
def test_an_entry_whose_name_is_taken_is_not_kept(tmp_path, suffix, caplog):
    """The cache saves time; what it cannot keep ends no run."""
    taken = tmp_path / KEY[:2]
    if suffix == "folder":
        taken.write_bytes(b"")
    else:
        taken = taken / (KEY + suffix)
        taken.mkdir(parents=True)
    cache = EncodingCache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, RUN)
    assert caplog.messages == [f"{taken}: has the name of a cached encoding, which is not kept; remove it"]
    assert cache.get(KEY) is None


def test_many_that_write_and_read_one_entry_at_once(tmp_path):
    """Their encodings are equal, their logs and times are not; what is read is always one of theirs, whole."""
    runs = [EncoderRun(b"stream" * 1000, f"log {i}" * (i + 1), float(i), None) for i in range(4)]
    found: list[EncoderRun] = []

    def use(run: EncoderRun) -> None:
        cache = EncodingCache(tmp_path)
        for _ in range(50):
            remove_leftovers.cache_clear()
            cache.put("ab" * 32, run)
            found.extend(filter(None, [cache.get("ab" * 32)]))

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(use, runs))
    assert found
    assert all(any(each.log == run.log and each.stream == run.stream for run in runs) for each in found)
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".266", ".json"]
