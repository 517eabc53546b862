from __future__ import annotations

import json

import numpy as np
import pytest

from vvc_nnr.codec import encoders
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.networks.planes import pack, unpack
from vvc_nnr.filters.training import pairs
from vvc_nnr.filters.training.pairs import (
    PairOptions,
    PairSet,
    check_pairs,
    load_original,
    make_pairs,
    pair_names,
    pairs_digest,
    turned,
)
from vvc_nnr.filters.training.scenes import stills
from vvc_nnr.sequences.frame import Frame

OPTIONS = PairOptions(qps=(32, 42), loop_filters=("all", "none"))


@pytest.fixture(scope="module")
def pictures(photographs):
    return [(name, frame) for name, frame in zip("abc", photographs(3, 128, 96), strict=True)]


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs(stills(pictures), folder, OPTIONS)
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def turned_picture(frame, turn):
    def plane(p):
        p = p[:, ::-1] if turn & 1 else p
        p = p[::-1] if turn & 2 else p
        return np.ascontiguousarray(p.T if turn & 4 else p)

    return Frame(tuple(plane(p) for p in frame.planes), frame.bit_depth, frame.chroma_format)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_pack_is_the_pack_of_the_turned_picture(random_frame, turn):
    frame = random_frame(12, 8)
    picture = turned_picture(frame, turn)
    np.testing.assert_array_equal(turned(pack(frame), turn), pack(picture))
    assert unpack(turned(pack(frame), turn), picture).tobytes() == picture.tobytes()


def test_the_eight_turns_differ(random_frame):
    packed = pack(random_frame(8, 8))
    assert len({turned(packed, turn).tobytes() for turn in range(8)}) == 8


def test_files_of_a_pair_set(folder):
    names = {f"{kind}_qp{qp}.npy" for kind in ("all", "none") for qp in (32, 42)}
    names |= {"original.npy", "sha256.json"}
    files = {f"000{i}_{n}/{f}" for i, n in enumerate("abc") for f in names}
    assert set(contents(folder)) == files | {"pairs.json"}
    assert pair_names(folder) == ["0000_a", "0001_b", "0002_c"]


def test_hidden_folders_hold_no_pairs_and_linked_ones_do(folder, tmp_path):
    assert pair_names(tmp_path / "missing") == []
    (tmp_path / ".0000_a").mkdir()
    (tmp_path / ".0000_a" / "original.npy").touch()
    (tmp_path / "0001_b").symlink_to(folder / "0001_b")
    (tmp_path / "unfinished").mkdir()
    assert pair_names(tmp_path) == ["0001_b"]


def test_pairs_are_what_the_codec_makes(folder, pictures):
    for loop_filters in OPTIONS.loop_filters:
        pair_set = PairSet(folder, loop_filters, OPTIONS.qps)
        for i, (_, frame) in enumerate(pictures):
            for j, qp in enumerate(OPTIONS.qps):
                original, decoded = pair_set.whole(i, j)
                stream = VvcEncoder(VvcOptions(qp, loop_filters=loop_filters)).encode([frame]).stream
                (expected,) = decode_vvc(stream, width=128, height=96)
                np.testing.assert_array_equal(original, pack(frame.to_bit_depth(10)))
                np.testing.assert_array_equal(decoded, pack(expected))


def test_a_cut_off_run_goes_on_and_repeats_nothing(folder, pictures, tmp_path, monkeypatch):
    expected = contents(folder)
    coded, made = pairs._coded, []

    def cut_off(scene, encoder, rule):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(encoder)
        return coded(scene, encoder, rule)

    monkeypatch.setattr(pairs, "_coded", cut_off)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(stills(pictures), tmp_path, OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    assert len(before) == 5 + 2
    monkeypatch.setattr(pairs, "_coded", lambda *given: made.append(given) or coded(*given))
    make_pairs(stills(pictures), tmp_path, OPTIONS)
    assert len(made) == 12
    assert contents(tmp_path) == expected
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_another_run_on_the_same_pictures_encodes_nothing(pictures, tmp_path, monkeypatch):
    """A run with another learning rate is another folder; what took long is in the cache."""
    options = PairOptions((42,), ("all",))
    for folder in (tmp_path / "one", tmp_path / "two"):
        make_pairs(stills(pictures[:2]), folder, options, tmp_path / "cache")
        monkeypatch.setattr(encoders.Libvvenc, "run", lambda self, options, job: pytest.fail("was coded again"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_pairs_note_the_further_arguments_of_their_encoder(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "encoder_identity", lambda *of, configuration: " ".join(map(str, of)))
    with_arguments = PairOptions((42,), ("all",), encoder="vvencapp", encoder_arguments=("--passes", "1"))
    monkeypatch.setattr(pairs, "VvcEncoder", lambda *of, arguments, **named: VvcEncoder(*of, arguments=()))
    make_pairs(stills(pictures[:1]), tmp_path, with_arguments)
    with pytest.raises(InputError, match=r"holds pairs of the encoder vvencapp .*--passes.*, asked for vvencapp"):
        check_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",), encoder="vvencapp"))
    monkeypatch.undo()
    alone = PairOptions((42,), ("all",), encoder_arguments=("--passes", "1"))
    with pytest.raises(InputError, match="the encoder libvvenc takes no further arguments, got --passes"):
        make_pairs(stills(pictures[:1]), tmp_path / "other", alone)


def test_a_changed_pair_is_noticed_and_made_anew(pictures, tmp_path):
    """Before any checkpoint holds the set's digest; a changed bit is a legal, other sample."""
    options = PairOptions((42,), ("all",))
    names = make_pairs(stills(pictures[:2]), tmp_path, options)
    digest = pairs_digest(tmp_path, names, options)
    path = tmp_path / names[1] / "all_qp42.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    with pytest.raises(InputError, match=r"all_qp42\.npy: is not as it was made: damaged; remove it, to be made anew"):
        pairs_digest(tmp_path, names, options)
    path.unlink()
    make_pairs(stills(pictures[:2]), tmp_path, options)
    assert (path.read_bytes(), pairs_digest(tmp_path, names, options)) == (good, digest)
    note = tmp_path / names[0] / "sha256.json"
    note.write_text("[")
    with pytest.raises(InputError, match=r"sha256\.json: cannot be read: .*; remove .*0000_a, to be made anew"):
        make_pairs(stills(pictures[:2]), tmp_path, options)
    note.unlink()  # as an older version left it
    make_pairs(stills(pictures[:2]), tmp_path, options)
    assert pairs_digest(tmp_path, names, options) == digest


def test_pictures_take_the_presets_in_turn(pictures, tmp_path, monkeypatch):
    coded, made = pairs._coded, []
    monkeypatch.setattr(
        pairs, "_coded", lambda scene, encoder, rule: made.append(encoder.options.preset) or coded(scene, encoder, rule)
    )
    make_pairs(stills(pictures), tmp_path, PairOptions((42,), ("all",), ("faster", "fast")))
    assert made == ["faster", "fast", "faster"]


def test_pairs_of_other_presets_are_not_taken_for_these(pictures, tmp_path):
    make_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",)))
    with pytest.raises(InputError, match=r"holds pairs of the presets \['faster'\], asked for \['fast'\]"):
        make_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",), ("fast",)))
    note = json.loads((tmp_path / "pairs.json").read_text())
    (tmp_path / "pairs.json").write_text(json.dumps(note | {"encoder": "another"}))
    with pytest.raises(InputError, match="holds pairs of the encoder another, asked for libvvenc in"):
        make_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",)))
    (tmp_path / "pairs.json").unlink()
    with pytest.raises(InputError, match=r"holds pairs without pairs\.json.*another folder"):
        make_pairs(stills(pictures), tmp_path, PairOptions((32,), ("none",)))
    (tmp_path / "pairs.json").write_text(json.dumps(note))
    (tmp_path / "pairs.json").rename(tmp_path / "presets.json")
    with pytest.raises(InputError, match="pairs of an older version, which does not note the encoder"):
        make_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",)))
    (tmp_path / "pairs.json").write_text("[")
    with pytest.raises(InputError, match=r"pairs\.json: cannot be read"):
        make_pairs(stills(pictures[:1]), tmp_path, PairOptions((42,), ("all",)))


def test_a_folder_takes_one_picture_per_name_and_keeps_those_of_others(pictures, tmp_path):
    options = PairOptions((42,), ("all",))
    (_, first), (_, second), _ = pictures
    assert make_pairs(stills([("a", first)]), tmp_path, options) == ["0000_a"]
    with pytest.raises(InputError, match="holds pairs of another picture called 0000_a; use another folder"):
        make_pairs(stills([("a", second)]), tmp_path, options)
    with pytest.raises(InputError, match="another picture"):
        make_pairs(stills([("a", first.cropped(96, 96))]), tmp_path, options)
    assert make_pairs(stills([("b", second)]), tmp_path, options) == ["0000_b"]
    assert make_pairs(stills([("a", first)]), tmp_path, options) == ["0000_a"]
    (tmp_path / "0000_a" / "original.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"original\.npy: no \.npy file"):
        make_pairs(stills([("a", first)]), tmp_path, options)


def test_a_pair_set_is_checked_before_anything_is_written(folder, pictures):
    before = contents(folder)
    others = [pictures[0], ("b", pictures[2][1])]
    more = PairOptions((32, 37), ("all",))
    with pytest.raises(InputError, match="another picture called 0001_b"):
        check_pairs(stills(others), folder, more)
    check_pairs(stills(pictures), folder, more)
    assert contents(folder) == before


def test_the_digest_of_pairs_follows_every_sample(pictures, tmp_path):
    options = PairOptions((42,), ("all",))
    names = make_pairs(stills(pictures[:1]), tmp_path, options)
    digests = {pairs_digest(tmp_path, names, options)}
    (tmp_path / names[0] / "sha256.json").unlink()  # as an older version left it
    path = tmp_path / names[0] / "all_qp42.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    digests.add(pairs_digest(tmp_path, names, options))
    assert len(digests) == 2
    path.write_bytes(path.read_bytes()[:-1] + b"\x40")
    with pytest.raises(InputError, match="0000_a: a pair with a sample above 1023"):
        PairSet(tmp_path, "all", (42,)).mean_squared_errors()


def test_odd_sizes_and_10_bit(random_frame, tmp_path):
    frame = random_frame(33, 19)
    make_pairs(stills([("odd", frame)]), tmp_path, PairOptions((40,), ("all",)))
    original, decoded = PairSet(tmp_path, "all", (40,)).whole(0, 0)
    np.testing.assert_array_equal(original, pack(frame))
    assert decoded.shape == (6, 10, 17)


@pytest.mark.parametrize(("chroma_format", "bit_depth"), [("444", 8), ("422", 8), ("420", 12)])
def test_pictures_that_the_encoder_does_not_take(random_frame, tmp_path, chroma_format, bit_depth):
    frame = random_frame(32, 32, bit_depth, chroma_format)
    with pytest.raises(UnsupportedError):
        make_pairs(stills([("x", frame)]), tmp_path, OPTIONS)


def test_a_folder_that_cannot_be_made(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.*cannot be made"):
        make_pairs(stills(pictures), tmp_path / "file", OPTIONS)


def test_crops_are_cut_at_one_place_and_turned_alike(folder):
    pair_set = PairSet(folder, "all", OPTIONS.qps)
    originals, decoded, qp_indices, told_qps = pair_set.crops(np.random.default_rng(0), 64, 24)
    assert originals.shape == decoded.shape == (64, 6, 24, 24)
    assert set(qp_indices) == {0, 1}
    assert told_qps == [OPTIONS.qps[i] for i in qp_indices]
    errors = np.abs(originals.astype(float) - decoded).mean(axis=(1, 2, 3))
    shuffled = np.abs(originals.astype(float) - decoded[::-1]).mean(axis=(1, 2, 3))
    assert errors.mean() < 0.2 * shuffled.mean()
    assert len({crop.tobytes() for crop in originals}) == 64


def test_crops_come_from_whole_pictures_and_from_all_of_them(folder):
    pair_set = PairSet(folder, "all", (32,))
    originals, _, _, _ = pair_set.crops(np.random.default_rng(1), 60, 48)
    pictures = [pair_set.whole(i, 0)[0] for i in range(3)]

    def origin(crop):
        for i, picture in enumerate(pictures):
            windows = np.lib.stride_tricks.sliding_window_view(picture, (6, 48, 48))[0, 0]
            if any((windows == turned(crop, turn)).all(axis=(1, 2, 3)).any() for turn in range(8)):
                return i
        raise AssertionError("a crop of no picture")

    assert {origin(crop) for crop in originals} == {0, 1, 2}


def test_the_same_random_numbers_give_the_same_crops(folder):
    pair_set = PairSet(folder, "none", OPTIONS.qps)
    first, again, other = (pair_set.crops(np.random.default_rng(seed), 4, 16) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_the_codecs_error_per_qp_and_plane(folder):
    pair_set = PairSet(folder, "none", OPTIONS.qps)
    errors = pair_set.mean_squared_errors()
    assert errors.shape == (2, 3)
    assert (errors[1] > errors[0]).all()
    scaled = [[(p / 1023.0) for p in pair_set.whole(i, 1)] for i in range(3)]
    luma = np.mean([np.mean((a[:4] - b[:4]) ** 2) for a, b in scaled])
    cr = np.mean([np.mean((a[5] - b[5]) ** 2) for a, b in scaled])
    np.testing.assert_allclose(errors[1, [0, 2]], [luma, cr], rtol=1e-5)


def test_some_of_the_pictures(folder):
    assert len(PairSet(folder, "all", (42,), ["0002_c"])) == 1
    with pytest.raises(InputError, match=r"original\.npy: no such file"):
        PairSet(folder, "all", (42,), ["0003_d"])


def test_pairs_that_are_not_there(folder, tmp_path):
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="holds no training pairs"):
            PairSet(missing, "all", (32,))
    with pytest.raises(InputError, match=r"all_qp22\.npy"):
        PairSet(folder, "all", (22,))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no numpy file",
        np.zeros((6, 48, 64), np.float32),
        np.zeros((6, 48, 63), np.uint16),
        np.zeros((5, 48, 64), np.uint16),
        np.zeros(6, np.uint16),
        np.array([{}], dtype=object),
    ],
)
@pytest.mark.parametrize("name", ["original.npy", "all_qp32.npy"])
def test_damaged_pairs(pictures, tmp_path, damaged, name):
    make_pairs(stills(pictures[:1]), tmp_path, PairOptions((32,), ("all",)))
    path = tmp_path / "0000_a" / name
    if isinstance(damaged, bytes):
        path.write_bytes(damaged)
    else:
        np.save(path, damaged)
    with pytest.raises(InputError, match=str(tmp_path)):
        PairSet(tmp_path, "all", (32,))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 8), np.uint16),
        np.zeros((5, 8, 8), np.uint16),
        np.zeros((6, 0, 8), np.uint16),
        np.zeros((), np.uint16),
        np.zeros((6, 8, 8), np.int16),
        np.zeros((6, 8, 8), ">u2"),
        np.array([{}], object),
        np.zeros(3, "<u2,<u2"),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_that_are_no_packed_pictures(array, tmp_path):
    (tmp_path / "0000_a").mkdir()
    np.save(tmp_path / "0000_a" / "original.npy", array)
    np.save(tmp_path / "0000_a" / "all_qp22.npy", array)
    with pytest.raises(InputError, match=r"original\.npy: "):
        PairSet(tmp_path, "all", [22])
    with pytest.raises(InputError, match=r"original\.npy: "):
        load_original(tmp_path / "0000_a")


def test_archives_and_cut_files_are_no_packed_pictures(tmp_path):
    (tmp_path / "0000_a").mkdir()
    path = tmp_path / "0000_a" / "original.npy"
    with path.open("wb") as file:
        np.savez(file, np.zeros((6, 8, 8), np.uint16))
    with pytest.raises(InputError, match=r"original\.npy: no \.npy file"):
        load_original(path.parent)
    np.save(path, np.zeros((6, 8, 8), np.uint16))
    data = path.read_bytes()
    for size in (0, 7, 60, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"original\.npy: "):
            load_original(path.parent)
