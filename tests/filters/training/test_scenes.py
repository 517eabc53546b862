"""Scenes of inter pictures: what is coded together, which pictures become pairs, and the QP that a network is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import InputError
from vvc_nnr.filters.in_stream import strength_qps
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.filters.networks.told_qp import parse_rule
from vvc_nnr.filters.training import scenes
from vvc_nnr.filters.training.in_loop import InLoopRun, _initial_network, train_inloop
from vvc_nnr.filters.training.pairs import PairOptions, PairSet, make_pairs, pairs_digest
from vvc_nnr.filters.training.scenes import Scene, kept_pictures, split, training_scenes
from vvc_nnr.sequences.source import open_source, open_sources, open_writer

OPTIONS = PairOptions(qps=(32,), loop_filters=("all",), config="ra")


@pytest.fixture(scope="module", autouse=True)
def short_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SCENE_PICTURES", 9)
        patch.setattr(scenes, "_SCENE_SHAPE", replace(scenes._SCENE_SHAPE, n_pictures=9))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    """Two photographs and a sequence of 30 pictures."""
    folder = tmp_path_factory.mktemp("moving")
    rng = np.random.default_rng(3)
    for name in ("a", "b"):
        small = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
        Image.fromarray(small).resize((224, 144), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    (frame,) = photographs(1, 144, 128)
    with open_writer(folder / "c.y4m", replace(frame.format(30))) as writer:
        for _ in range(30):
            writer.write(frame)
    return folder


def test_photographs_are_set_in_motion_and_sequences_taken_in_runs(folder):
    found = list(training_scenes(open_sources(folder), "ra", 2))
    assert [len(scene.frames) for scene in found] == [9] * 5
    first = found[0]
    assert not np.array_equal(first.frames[0].planes[0], first.frames[-1].planes[0])
    assert all(0 in scene.kept and len(scene.kept) == 8 for scene in found)
    names = [name for name, _ in kept_pictures(found)]
    assert len(set(names)) == len(names) == 40
    training, validation = split(names)
    sides = [{names[i][0] for i in side} for side in (training, validation)]
    assert sides == [{"a", "b"}, {"c"}]


def test_scenes_are_the_same_each_time_and_whatever_is_beside_them(folder):
    alone = [open_source(folder / "b.png")]
    (first, _), (again, _) = (list(training_scenes(alone, "ra", 2)) for _ in range(2))
    beside = list(training_scenes(open_sources(folder), "ra", 2))[2]
    for other in (again, beside):
        assert first.kept == other.kept
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first.frames, other.frames, strict=True))


def test_for_intra_pictures_each_stands_alone(folder):
    assert all(len(scene.frames) == 1 for scene in training_scenes(open_sources(folder), "ai"))


@pytest.fixture(scope="module")
def scene(folder):
    whole = next(training_scenes([open_source(folder / "a.png")], "ra", 1))
    return Scene(whole.frames[:6], {0: "s_0000_x1", 3: "s_0003_x1", 5: "s_0005_x1"})


@pytest.fixture(scope="module")
def pairs(scene, tmp_path_factory):
    target = tmp_path_factory.mktemp("pairs")
    make_pairs([scene], target, OPTIONS)
    return target


def test_pairs_are_those_pictures_of_the_stream(scene, pairs):
    encoded = VvcEncoder(VvcOptions(32, n_threads=1, config="ra")).encode(scene.frames)
    decoded = list(decode_vvc(encoded.stream))
    told = strength_qps(read_vvc_stream(encoded.stream))
    assert told[3] > told[0]
    found = PairSet(pairs, "all", (32,))
    for index, place in enumerate((0, 3, 5)):
        original, coded = found.whole(index, 0)
        assert np.array_equal(original, pack(scene.frames[place].to_bit_depth(10)))
        assert np.array_equal(coded, pack(decoded[place]))
        assert found.told_qp(index, 0) == told[place]
    *_, told_of_crops = found.crops(np.random.default_rng(0), 20, 16)
    assert set(told_of_crops) == {told[place] for place in (0, 3, 5)}


def test_a_scene_that_is_there_is_not_coded_again(scene, pairs, monkeypatch):
    monkeypatch.setattr("vvc_nnr.filters.training.pairs._coded", None)
    make_pairs([scene], pairs, OPTIONS)


def test_the_digest_covers_what_the_network_is_told(pairs):
    names = ["0000_s_0000_x1"]
    note = pairs / names[0] / "told_qps.json"
    before, text = pairs_digest(pairs, names, OPTIONS), note.read_text()
    try:
        note.write_text(json.dumps({"all_qp32.npy": 40}))
        assert pairs_digest(pairs, names, OPTIONS) != before
    finally:
        note.write_text(text)


@pytest.mark.parametrize("text", ["{", "[]", '{"all_qp32.npy": "40"}', '{"all_qp32.npy": 64}', "{}"])
def test_a_damaged_note_of_qps_is_refused(scene, tmp_path, text):
    make_pairs([Scene(scene.frames[:2], {0: "s_0000_x1"})], tmp_path, OPTIONS)
    (tmp_path / "0000_s_0000_x1" / "told_qps.json").write_text(text)
    with pytest.raises(InputError, match=r"told_qps\.json.*made anew"):
        PairSet(tmp_path, "all", (32,))


def test_pairs_of_another_configuration_are_refused(scene, pairs):
    with pytest.raises(InputError, match="config ra, asked for ai"):
        make_pairs([scene], pairs, replace(OPTIONS, config="ai"))


def test_a_filter_is_trained_on_inter_pictures(folder, tmp_path):
    run = InLoopRun(
        data=folder, out=tmp_path, n_steps=2, batch_size=2, loop_filters="all", qps=(37,), config="ra", scenes=1,
        presets=("faster",), n_channels=8, n_blocks=1, device="cpu",
    )  # fmt: skip
    trained = train_inloop(run, {})
    assert trained is not None
    assert trained.card["identity"]["config"] == "ra"
    with pytest.raises(InputError, match="config ra there, ldb asked for"):
        train_inloop(replace(run, config="ldb"), {})


def test_only_post_filters_are_trained_on_inter_pictures(folder, tmp_path):
    with pytest.raises(InputError, match="loop filters none, configuration ra"):
        train_inloop(InLoopRun(data=folder, out=tmp_path / "new", config="ra"), {})
    assert not (tmp_path / "new").exists()


def test_pairs_have_the_qps_of_the_networks_own_rule(scene, pairs, tmp_path):
    """Not those of another: pairs of one rule are refused for another."""
    own = replace(OPTIONS, qp_rule=parse_rule("slice"))
    with pytest.raises(InputError, match=r"pairs of the qp_rule first\+3, asked for slice"):
        make_pairs([scene], pairs, own)
    names = make_pairs([scene], tmp_path, own)
    encoded = VvcEncoder(VvcOptions(32, n_threads=1, config="ra")).encode(scene.frames)
    slices = [encoded.pictures[place].qp for place in (0, 3, 5)]
    assert [PairSet(tmp_path, "all", (32,)).told_qp(i, 0) for i in range(3)] == slices
    assert slices != [PairSet(pairs, "all", (32,)).told_qp(i, 0) for i in range(3)]
    base = replace(OPTIONS, qp_rule=parse_rule("base"))
    make_pairs([scene], tmp_path / "base", base)
    assert [PairSet(tmp_path / "base", "all", (32,)).told_qp(i, 0) for i in range(3)] == [32] * 3
    assert pairs_digest(tmp_path, names, own) != pairs_digest(pairs, names, OPTIONS)


def test_a_training_says_the_rule_of_its_network(tmp_path):
    options = InLoopRun(
        data=tmp_path, out=tmp_path / "out", loop_filters="all", config="ra", rung="vlop", qp_rule="slice"
    )
    network, layout = _initial_network(options)
    assert layout.qp_rule == network.layout.qp_rule == parse_rule("slice")
    with pytest.raises(InputError, match="QP rule 'own'"):
        replace(options, qp_rule="own").check()
    with pytest.raises(InputError, match=r"qp_rule, arch: .* layout says it"):
        replace(options, arch="nets.py:make", rung=None).check()
