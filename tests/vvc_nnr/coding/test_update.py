"""Incremental updates: sender and receiver in step, other states and damage noticed."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import in_format
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.update import (
    BaseState,
    UpdateContexts,
    apply_update,
    code_update,
    compress_update,
    difference_snrs_db,
)
from vvc_nnr.compress import compress, decompress, inspect, load_into
from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.snr import WEAK_DB

Network = dict[str, Any]


def network(seed: int = 0) -> Network:
    random = np.random.default_rng(seed)
    return {
        "w": random.normal(size=(40, 30)).astype(np.float32),
        "b": random.normal(size=9),
        "half": random.normal(size=(3, 4)).astype(np.float16),
        "bytes": np.arange(5, dtype=np.uint8),
        "wide": np.array([1 << 60, -1]),
        "flags": np.array([True, False]),
        "scalar": np.float32(2.5),
        "count": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
        "same": random.normal(size=(9, 9)).astype(np.float32),
    }


def trained(before: Network, seed: int) -> Network:
    random = np.random.default_rng(seed)
    change = np.where(random.random((40, 30)) < 0.2, random.normal(0, 0.05, (40, 30)), 0)
    return before | {
        "w": (before["w"] + change).astype(np.float32),
        "b": before["b"] + 0.01,
        "half": (before["half"] * 1.5).astype(np.float16),
        "bytes": before["bytes"] - 3,
        "wide": before["wide"] + (1 << 50),
        "flags": ~before["flags"],
        "scalar": np.asarray(before["scalar"] - np.float32(0.25)),
        "count": before["count"] + 1,
    }


@pytest.mark.parametrize("use_dq", [False, True])
@pytest.mark.parametrize("contexts", [(True, True), (True, False), (False, True), (False, False)])
def test_sender_and_receiver_stay_in_step(use_dq: bool, contexts: tuple[bool, bool]) -> None:
    wanted = network()
    sender = receiver = BaseState.of(wanted)
    for seed in range(4):
        wanted = trained(wanted, seed)
        data, sender = compress_update(
            sender,
            wanted,
            options=CompressOptions(qp=-32, use_dq=use_dq, scan_order=seed),
            contexts=UpdateContexts(*contexts),
        )
        receiver = apply_update(receiver, data)
        assert receiver.digest() == sender.digest()
        for name, array in wanted.items():
            found = receiver.arrays[name]
            assert (found.dtype, found.shape) == (np.asarray(array).dtype, np.shape(array))
            exact = found.dtype.kind in "iub"
            assert np.allclose(found, array, rtol=1e-3, atol=0 if exact else 0.008)
            if exact:
                assert np.array_equal(found, array)
    assert {name: tensor.depth for name, tensor in receiver.tensors.items()} == {
        name: 0 if name in ("empty", "same") else 4 for name in wanted
    }


def test_temporal_contexts_pay_when_updates_are_alike() -> None:
    random = np.random.default_rng(3)
    mask = random.random((200, 50)) < 0.1
    start = {"w": np.zeros((200, 50), np.float32)}
    sizes = {}
    for contexts in (False, True):
        state = BaseState.of(start)
        for _ in range(4):
            noise = random.normal(0, 0.05, mask.shape)
            wanted = {"w": (state.arrays["w"] + np.where(mask, noise, 0)).astype(np.float32)}
            data, state = compress_update(state, wanted, contexts=UpdateContexts(contexts, contexts))
            sizes[contexts] = len(data)
    assert sizes[True] < 0.8 * sizes[False]


def test_what_does_not_change_is_not_sent() -> None:
    data, state = compress_update(network(), network())
    assert read_stream(data).tensors == ()
    assert state.digest() == BaseState.of(network()).digest()


def test_bfloat16_stays_bfloat16() -> None:
    values = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    state = BaseState.of({"w": in_format(values, "bfloat16")})
    _, state = compress_update(state, {"w": state.arrays["w"] * 2})
    assert not (state.arrays["w"].view(np.uint32) & 0xFFFF).any()
    assert np.allclose(state.arrays["w"], 2 * values, rtol=0.02, atol=0.01)


def test_a_0_d_tensor_keeps_its_shape_in_every_number_format() -> None:
    scalars = {
        "f": np.array(0.5, np.float32),
        "i": np.array(3),
        "b": in_format(np.array(1.5, np.float32), "bfloat16"),
    }
    base, changed = BaseState.of(scalars), {**scalars, "f": np.array(0.75, np.float32)}
    assert {array.shape for array in base.arrays.values()} == {()}
    data, sender = compress_update(base, changed)
    assert {array.shape for array in sender.arrays.values()} == {()}
    assert apply_update(base, data).digest() == sender.digest()


def test_states_are_equal_whatever_the_byte_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert BaseState.of({"w": values.astype(">f4")}).digest() == BaseState.of({"w": values}).digest()


def test_an_update_for_another_state_is_refused() -> None:
    base = network()
    data, _ = compress_update(base, trained(base, 1))
    with pytest.raises(BitstreamError, match="another state"):
        apply_update(network(5), data)
    with pytest.raises(BitstreamError, match="another state"):
        apply_update(apply_update(base, data), data)


def test_updates_and_networks_are_not_mistaken_for_each_other() -> None:
    base = network()
    data, _ = compress_update(base, trained(base, 1))
    with pytest.raises(UnsupportedError, match="apply_update"):
        decompress(data)
    with pytest.raises(BitstreamError, match="no update"):
        apply_update(base, compress(base))


def test_states_that_do_not_fit_are_refused() -> None:
    base = network()
    with pytest.raises(InputError, match="'w'"):
        compress_update(base, {name: array for name, array in base.items() if name != "w"})
    with pytest.raises(InputError, match="float64"):
        compress_update(base, base | {"w": base["w"].astype(np.float64)})
    with pytest.raises(ShapeError, match="'w'"):
        compress_update(base, base | {"w": base["w"].T})
    with pytest.raises(InputError, match="NaN"):
        compress_update(base, base | {"b": base["b"] * np.nan})
    with pytest.raises(InputError, match="codebook"):
        compress_update(base, base, options=CompressOptions(codebook="force"))


def test_damaged_updates_end_well() -> None:
    base = network()
    data, state = compress_update(base, trained(base, 1))
    data, _ = compress_update(state, trained(trained(base, 1), 2))
    for bit in range(0, 8 * len(data), 11):
        changed = bytearray(data)
        changed[bit >> 3] ^= 128 >> (bit & 7)
        with pytest.raises((BitstreamError, UnsupportedError)):
            apply_update(state, bytes(changed), n_threads=1)


def test_damaged_updates_without_manifest_end_well() -> None:
    base = network()
    first, state = compress_update(base, trained(base, 1))
    data, _ = compress_update(state, trained(trained(base, 1), 2))
    topology = read_stream(data).units[2]
    start, end = topology.offset_bytes, topology.offset_bytes + topology.size_bytes
    bare = data[:start] + bytes.fromhex("00060e000000") + data[end:]
    for bit in range(0, 8 * len(bare), 5):
        changed = bytearray(bare)
        changed[bit >> 3] ^= 128 >> (bit & 7)
        try:
            apply_update(state, bytes(changed), n_threads=1)
        except (BitstreamError, UnsupportedError):
            continue
    assert first != data


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_infinite_values_that_stay_do_not_occur_in_an_update(dtype: type, value: float) -> None:
    mask = np.array([[0.5, value], [1.5, 0.25]], dtype)
    base = {"mask": mask, "w": np.zeros(4, np.float32)}
    data, state = compress_update(base, base | {"w": np.ones(4, np.float32)})
    assert [tensor.name for tensor in read_stream(data).tensors] == ["w"]
    assert state.arrays["mask"].tobytes() == mask.tobytes()
    moved = mask + np.array([[0.25, 0], [0, 0]], dtype)
    _, state = compress_update(state, {"mask": moved, "w": np.ones(4, np.float32)}, options=CompressOptions(qp=-32))
    np.testing.assert_array_equal(state.arrays["mask"], moved)


def test_values_that_become_infinite_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'w': 1 of 4 values"):
        compress_update({"w": np.zeros(4, np.float32)}, {"w": np.array([0, np.inf, 0, 0], np.float32)})


def test_tied_tensors_are_updated_once() -> None:
    random = np.random.default_rng(1)
    old = random.normal(size=(64, 64)).astype(np.float32)
    new = (old + 0.01 * random.normal(size=(64, 64))).astype(np.float32)
    base, wanted = {"a": old, "b": old, "c": old.copy()}, {"a": new, "b": new, "c": new}
    data, sender = compress_update(base, wanted)
    assert [tensor.name for tensor in read_stream(data).tensors] == ["a"]
    assert sender.tensors["a"] is sender.tensors["b"]
    receiver = apply_update({name: array.copy() for name, array in base.items()}, data)
    assert receiver.digest() == sender.digest()
    np.testing.assert_array_equal(receiver.arrays["b"], receiver.arrays["a"])
    again, _ = compress_update(
        sender, {name: array + np.float32(place) for place, (name, array) in enumerate(wanted.items())}
    )
    assert len(read_stream(again).tensors) == 3  # tied no more


def test_copies_are_updated_once() -> None:
    random = np.random.default_rng(1)
    old = random.normal(size=(64, 64)).astype(np.float32)
    new = (old + 0.01 * random.normal(size=(64, 64))).astype(np.float32)
    idle = random.normal(size=(64, 64)).astype(np.float32)
    base = {"a": old, "b": old.copy(), "c": idle, "d": idle.copy()}
    wanted = {"a": new, "b": new.copy(), "c": idle, "d": idle.copy()}
    data, sender = compress_update(base, wanted)
    assert [tensor.name for tensor in read_stream(data).tensors] == ["a"]
    assert [tie.name for tie in read_stream(data).ties] == ["b"]  # nothing is told of what is as it was
    receiver = apply_update(base, data)
    assert receiver.digest() == sender.digest()
    found = receiver.exact_arrays
    np.testing.assert_array_equal(found["b"], found["a"])
    assert not np.shares_memory(found["b"], found["a"])
    again, sender = compress_update(sender, wanted)
    assert len(read_stream(again).tensors) == 1
    assert apply_update(receiver, again).digest() == sender.digest()
    apart, _ = compress_update(base, wanted | {"b": new + np.float32(0.1)})
    assert [tensor.name for tensor in read_stream(apart).tensors] == ["a", "b"]
    brief, _ = compress_update(base, wanted, brief=True)
    assert apply_update(base, brief).digest() == compress_update(base, wanted, brief=True)[1].digest()


def test_what_is_one_with_a_copy_is_updated_with_it() -> None:
    random = np.random.default_rng(2)
    old, new = (random.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    copied, changed = old.copy(), new.copy()
    base = BaseState.of({"a": old, "c": copied, "d": copied})
    data, sender = compress_update(base, {"a": new, "c": changed, "d": changed})
    assert [tensor.name for tensor in read_stream(data).tensors] == ["a"]
    after = apply_update(base, data)
    assert after.digest() == sender.digest()
    assert after.tensors["c"] is after.tensors["d"]
    assert not np.shares_memory(after.arrays["a"], after.arrays["c"])


def test_ties_of_another_base_are_refused() -> None:
    old, new = np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32)
    data, _ = compress_update({"a": old, "b": old}, {"a": new, "b": new})
    with pytest.raises(BitstreamError, match="another state"):
        apply_update({"a": old, "b": new}, data)


def test_differences_beneath_float32_are_refused() -> None:
    base = {"tiny": np.full((4, 4), 1e-50)}
    with pytest.raises(InputError, match=r"tensor 'tiny': differences of up to 1e-50 are too small for float32"):
        compress_update(base, {"tiny": np.full((4, 4), 2e-50)})
    _, state = compress_update(base, dict(base))
    assert np.array_equal(state.arrays["tiny"], base["tiny"])


def test_how_well_differences_come_back_is_told() -> None:
    random = np.random.default_rng(3)
    base = {"w": random.normal(size=(40, 30)).astype(np.float32), "same": np.ones(3, np.float32), "n": np.arange(3)}
    change = random.normal(0, 0.01, (40, 30)).astype(np.float32)
    wanted = base | {"w": base["w"] + change, "n": np.arange(3) + 1}
    found, after = code_update(base, wanted, CompressOptions(quality=20))
    told = difference_snrs_db(base, after, wanted)
    assert told.keys() == {"w"}
    assert 15 < told["w"] < 30
    assert found.quality_db == 20


def test_no_quality_is_told_where_none_was_asked_for() -> None:
    """By default what differences keep at least may tell their steps, at a quality of 0 dB."""
    random = np.random.default_rng(3)
    base = {f"{n}.weight": random.normal(size=(30, 9)).astype(np.float32) for n in range(2)}
    wanted = {name: array + random.normal(0, 1e-3, array.shape).astype(np.float32) for name, array in base.items()}
    found, after = code_update(base, wanted, CompressOptions())
    assert found.quality_db is None
    assert min(difference_snrs_db(base, after, wanted).values()) > 10
    sized, _ = code_update(base, wanted, CompressOptions(max_bytes=2 * len(found.data)))
    assert sized.quality_db is not None
    again, _ = code_update(base, wanted, CompressOptions(quality=sized.quality_db))
    assert len(again.data) == len(sized.data)


@pytest.mark.parametrize(
    "options",
    [
        {"lossless": True},
        {"codebook": "auto"},
        {"search": "thorough"},
        {"float64": "exact"},
        {"qp_by_size": True},
        {"role_of": {"*": "weight"}},
    ],
    ids=str,
)
def test_options_that_do_nothing_to_updates_are_refused(options: dict[str, Any]) -> None:
    base = {"w": np.ones((4, 4), np.float32)}
    with pytest.raises(InputError, match=f"{next(iter(options))}: not possible in updates"):
        compress_update(base, base, options=CompressOptions(**options))


def test_differences_that_the_receivers_number_format_rounds_away_are_named() -> None:
    random = np.random.default_rng(4)
    base = {"h": random.normal(size=(32, 32)).astype(np.float16)}
    wanted = {"h": (base["h"] + random.normal(0, 2e-3, (32, 32))).astype(np.float16)}
    n_weak = 0
    for qp in range(-36, -16, 2):
        found, after = code_update(base, wanted, CompressOptions(qp=qp))
        told = difference_snrs_db(base, after, wanted)
        assert found.weak_db == {name: ratio_db for name, ratio_db in told.items() if ratio_db < WEAK_DB}
        n_weak += len(found.weak_db)
    assert n_weak > 2


def test_differences_whose_squares_float32_does_not_hold_are_named() -> None:
    base = {"w": np.zeros((32, 32), np.float32)}
    wanted = {"w": np.random.default_rng(5).normal(0, 1e-30, (32, 32)).astype(np.float32)}
    found, _ = code_update(base, wanted, CompressOptions(qp=-32))
    assert found.weak_db == {"w": 0.0}


def plain_network(seed: int = 0) -> Network:
    random = np.random.default_rng(seed)
    shapes = {"w": (12, 6), "b": (9,), "count": (3,)}
    arrays: Network = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"count": np.arange(3, dtype=np.int32)}


@pytest.mark.parametrize("names", [("w", "b", "count"), ("1", "0", "7")])
def test_a_brief_update_gives_the_same_in_fewer_bytes(names: tuple[str, ...]) -> None:
    """Tensors may themselves be called by numbers, even by the places of others."""
    base = dict(zip(names, plain_network().values(), strict=True))
    new = {name: value + 1 for name, value in base.items()}
    plain, expected = compress_update(base, new)
    data, after = compress_update(base, new, brief=True)
    assert len(data) < len(plain) - 60
    for state in (after, apply_update(base, data)):
        assert {name: value.tobytes() for name, value in state.arrays.items()} == {
            name: value.tobytes() for name, value in expected.arrays.items()
        }
    second, _ = compress_update(after, {name: value + 1 for name, value in new.items()}, brief=True)
    twice = apply_update(after, second)
    assert np.array_equal(twice.arrays[names[2]], np.arange(3) + 2)


@pytest.mark.parametrize("brief", [False, True])
def test_an_update_in_which_nothing_changes_is_no_network(brief: bool) -> None:
    base = plain_network()
    data, _ = compress_update(base, base, brief=brief)
    with pytest.raises(UnsupportedError, match="the stream is an update"):
        decompress(data)
    assert inspect(data).is_update
    assert apply_update(base, data).digest() == BaseState.of(base).digest()
    assert not inspect(compress({})).is_update
    with pytest.raises(BitstreamError, match="no update"):
        apply_update(base, compress({}))


def test_a_brief_update_of_a_place_that_the_base_lacks_is_refused() -> None:
    base = plain_network()
    data, _ = compress_update(base, base | {"count": base["count"] + 1}, brief=True)
    with pytest.raises(BitstreamError, match="no tensor '2'"):
        apply_update({"w": base["w"], "b": base["b"]}, data)


def test_brief_updates_refuse_what_only_a_manifest_tells() -> None:
    base = network()
    for name in ("w", "half", "b", "bytes", "wide", "flags", "scalar", "count"):
        new = base | {name: trained(base, 1)[name]}
        _, expected = compress_update(base, new)
        if name in ("wide", "flags", "bytes", "count"):
            with pytest.raises(InputError, match="brief"):
                compress_update(base, new, brief=True)
        else:
            data, _ = compress_update(base, new, brief=True)
            assert apply_update(base, data).digest() == expected.digest()
    shared = np.ones(4, np.float32)
    tied: Network = {"a": shared, "b": shared}
    other = shared * 2
    with pytest.raises(InputError, match="brief"):
        compress_update(tied, {"a": other, "b": other}, brief=True)


def test_damaged_brief_updates_end_well() -> None:
    base = plain_network()
    data, _ = compress_update(base, {name: value + 1 for name, value in base.items()}, brief=True)
    random = np.random.default_rng(3)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << random.integers(8)
        with contextlib.suppress(BitstreamError, UnsupportedError):
            apply_update(base, bytes(damaged), max_elements=10000)


def test_a_state_is_loaded_into_a_module() -> None:
    torch.manual_seed(0)
    sender = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8).bfloat16())
    receiver, tuned = copy.deepcopy(sender), copy.deepcopy(sender)
    for parameter in tuned.parameters():
        parameter.data += 0.01
    update, sent = compress_update(sender, tuned, options=CompressOptions(qp=-60))
    state = apply_update(receiver, update)
    assert state.digest() == sent.digest()
    load_into(receiver, state)
    for name, tensor in receiver.state_dict().items():
        assert tensor.dtype == sender.state_dict()[name].dtype
        assert torch.equal(tensor.float(), torch.tensor(state.arrays[name]).float())
        assert (tensor.float() - tuned.state_dict()[name].float()).abs().max() < 0.003
    with pytest.raises(InputError, match=r"names do not fit; the module lacks 5"):
        load_into(nn.Sequential(nn.Linear(8, 8), nn.Identity(), nn.Linear(8, 8).bfloat16()), state)
