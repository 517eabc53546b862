"""Tensors of equal contents are coded once, and come back as arrays of their own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vvc_nnr
from vvc_nnr.bitstream.manifest import Manifest, TieEntry, write_manifest
from vvc_nnr.bitstream.number_formats import FloatBits
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.bitstream.ties import MIN_COPY_BYTES, Tie, find_ties, with_copies, with_ties
from vvc_nnr.coding.encoder import code_network, rules_with_copies
from vvc_nnr.coding.own_steps import Sensitivities
from vvc_nnr.errors import BitstreamError
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.roles import EXACT, RULES, Role, Rule, strictest_rule


def weights(shape: tuple[int, ...] = (64, 48), seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).laplace(0, 0.02, shape).astype(np.float32)


def network() -> dict[str, Any]:
    """An embedding that a file holds a second time as the head."""
    shared = weights()
    return {"embedding.weight": shared, "middle.weight": weights(seed=1), "head.weight": shared.copy()}


@pytest.mark.parametrize(
    "options",
    [{}, {"lossless": True}, {"qp": -24}, {"quality": 24}, {"bitdepth": 6}, {"codebook": "auto", "qp": -20}],
    ids=str,
)
def test_equal_contents_are_coded_once(options: dict[str, Any]) -> None:
    state = network()
    data = vvc_nnr.compress(state, **options)
    assert [tensor.name for tensor in vvc_nnr.inspect(data).tensors] == ["embedding.weight", "middle.weight"]
    found = vvc_nnr.decompress(data)
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["head.weight"], found["embedding.weight"])
    found["head.weight"][:] = 0
    assert found["embedding.weight"].any()
    apart = vvc_nnr.compress(state | {"head.weight": np.roll(state["head.weight"], 1, axis=0)}, **options)
    assert len(data) < 0.8 * len(apart)
    if options.get("lossless"):
        np.testing.assert_array_equal(found["embedding.weight"], state["embedding.weight"])


def test_copies_of_a_module_stay_apart_and_its_ties_stay_ties() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(40, 8), nn.Linear(8, 40, bias=False)
            self.average, self.other = nn.Embedding(40, 8), nn.Linear(8, 40, bias=False)
            self.head.weight = self.embedding.weight
            self.other.weight = self.average.weight
            self.average.load_state_dict(self.embedding.state_dict())

    data = vvc_nnr.compress(Language())
    assert [tensor.name for tensor in vvc_nnr.inspect(data).tensors] == ["embedding.weight"]
    found = Language()
    vvc_nnr.load_into(found, data)
    assert torch.equal(found.average.weight, found.embedding.weight)
    with torch.no_grad():
        found.average.weight.zero_()
    assert found.embedding.weight.any()
    assert not found.other.weight.any()
    arrays = vvc_nnr.decompress(data)
    assert arrays["head.weight"] is arrays["embedding.weight"]
    assert arrays["other.weight"] is arrays["average.weight"]
    assert arrays["average.weight"] is not arrays["embedding.weight"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float8_e4m3fn", "int8", "int64", "bool"])
def test_copies_of_all_number_formats(kind: str) -> None:
    torch.manual_seed(0)
    values = 40 * torch.randn(24, 24)
    one = values > 0 if kind == "bool" else values.to(getattr(torch, kind))
    state = {"a": one, "b": one.clone()}
    data = vvc_nnr.compress(state)
    assert len(read_stream(data).tensors) == 1
    assert read_stream(data).formats.get("b") == read_stream(data).formats.get("a")
    found = vvc_nnr.decompress(data)
    np.testing.assert_array_equal(found["a"], found["b"])


def test_files_keep_copies(tmp_path: Any) -> None:
    state = network()
    vvc_nnr.save_file(tmp_path / "a.nnc", state)
    found = vvc_nnr.load_file(tmp_path / "a.nnc")
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["head.weight"], found["embedding.weight"])


def test_what_is_no_copy() -> None:
    one = weights((8, 8))
    negative = np.where(one == one[0, 0], np.float32(-0.0), one)
    positive = np.where(one == one[0, 0], np.float32(0.0), one)
    short = np.arange(MIN_COPY_BYTES // 4 - 1, dtype=np.float32)
    arrays = {
        "zeros": np.zeros((64, 64), np.float32),
        "more zeros": np.zeros((64, 64), np.float32),
        "negative": negative,
        "positive": positive,
        "flat": positive.reshape(-1),
        "integers": positive.view(np.int32),
        "short": short,
        "as short": short.copy(),
        "asked for": one,
        "not asked for": one.copy(),
    }
    assert not with_copies(arrays, (), apart=["asked for"])
    assert [tie.name for tie in with_copies(arrays, ())] == ["not asked for"]
    codes = np.arange(256, dtype=np.uint8)
    of_bits = {"a": FloatBits(codes, "float8_e5m2"), "b": FloatBits(codes.copy(), "float8_e4m3fn"), "c": codes.copy()}
    assert not with_copies(of_bits, find_ties(of_bits))


def test_layout_in_memory_is_no_matter() -> None:
    one = weights()
    turned = np.asfortranarray(one)
    assert with_copies({"a": one, "b": turned}, ()) == (Tie(1, "b", "a", is_copy=True),)


def test_tensors_that_begin_alike_are_told_apart() -> None:
    masks = [np.tri(128, 128, place, dtype=np.float32) for place in range(3)]
    late = [weights((64, 64)) for _ in range(2)]
    late[1][63, 62] += 1
    arrays = {str(place): array for place, array in enumerate((*masks, *late, masks[1].copy()))}
    assert with_copies(arrays, ()) == (Tie(5, "5", "1", is_copy=True),)


def test_a_copy_takes_the_stricter_of_two_rules() -> None:
    assert strictest_rule([RULES[Role.WEIGHT], RULES[Role.CONSTANT]]) is EXACT
    assert strictest_rule([RULES[Role.WEIGHT], RULES[Role.BIAS]]).step == "nonweight_qp"
    assert strictest_rule([RULES[Role.WEIGHT], RULES[Role.DIRECTION]]) == RULES[Role.DIRECTION]
    gdn = strictest_rule([RULES[Role.GDN], RULES[Role.ENTROPY_PARAMETER]])
    assert (gdn.step, gdn.of_smallest, gdn.of_largest) == ("values", 0.0, 2.0**-10)
    rules = rules_with_copies({"a": Rule("qp", qp_offset=3), "b": Rule("qp", qp_offset=-2)}, {"a": ("b",)})
    assert (rules["a"].qp_offset, rules["a"].copies) == (-2, ("b",))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_copy_is_exact_if_one_of_both_must_be(reverse: bool) -> None:
    one = weights()
    names = ["fc.weight", "attn_mask"][:: -1 if reverse else 1]
    found = vvc_nnr.decompress(vvc_nnr.compress({names[0]: one, names[1]: one.copy(), "last.weight": weights(seed=3)}))
    for name in names:
        np.testing.assert_array_equal(found[name], one)


def test_a_copy_keeps_what_the_best_of_its_places_does() -> None:
    """The last weight keeps more than others, and so does the first where it is a copy of it."""
    state = network() | {"last.weight": weights(seed=2)}
    is_last = {name: state[name] for name in ("embedding.weight", "middle.weight", "head.weight")}
    qps = []
    for arrays in (is_last, state):
        report = vvc_nnr.inspect(vvc_nnr.compress(arrays, quality=20)).tensors
        qps.append({tensor.name: tensor.qp for tensor in report}["embedding.weight"])
    assert qps[0] is not None
    assert qps[1] is not None
    assert qps[0] < qps[1]


def test_noise_in_a_tensor_is_noise_in_its_copies() -> None:
    state, options = network(), CompressOptions(max_bytes=4000)
    told = Sensitivities({"embedding.weight": 1.0, "middle.weight": 1.0, "head.weight": 9999.0})
    assert told.with_copies({"embedding.weight": ["head.weight"]}).per_mse["embedding.weight"] == 10000.0
    much = code_network(state, options, sensitivities=told)
    little = code_network(state, options, sensitivities=Sensitivities(dict.fromkeys(state, 1.0)))
    qps = [vvc_nnr.inspect(each.data).tensors[0].qp for each in (much, little)]
    assert qps[0] is not None
    assert qps[1] is not None
    assert qps[0] < qps[1]


def test_a_named_step_is_for_that_tensor_alone() -> None:
    data = vvc_nnr.compress(network(), qp_per_tensor={"head.weight": -40})
    assert [tensor.name for tensor in vvc_nnr.inspect(data).tensors][-1] == "head.weight"


def test_copies_count_as_values() -> None:
    """A file of few bytes must not become any number of arrays."""
    data = vvc_nnr.compress(network())
    n_values = 3 * 64 * 48
    assert read_stream(data).n_elements == n_values
    assert len(vvc_nnr.decompress(data, max_elements=n_values)) == 3
    with pytest.raises(BitstreamError, match=f"{n_values} values; max_elements allows {n_values - 1}"):
        vvc_nnr.decompress(data, max_elements=n_values - 1)


@pytest.mark.parametrize("source", [7, -1, 1.5, True, None, []])
def test_a_copy_of_no_tensor_is_refused(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vvc_nnr.coding import encoder

    entry = TieEntry(2, "head.weight", source)
    monkeypatch.setattr(encoder, "TieEntry", lambda *_: entry)
    data = vvc_nnr.compress(network())
    with pytest.raises(BitstreamError, match=r"copy of tensor 7, of 2|wrong type or range"):
        vvc_nnr.decompress(data)


def test_names_and_texts_are_written_as_they_are() -> None:
    text, start, n_digits = write_manifest(Manifest(metadata={"ü": "模"}, ties=(TieEntry(1, "頭", 0),)))
    assert '"metadata":{"ü":"模"},"tied":[[1,"頭",0]]'.encode() in text
    assert text[start : start + n_digits] == b"0" * n_digits
    state = {"埋": weights(), "頭": weights()}
    assert list(vvc_nnr.decompress(vvc_nnr.compress(state, metadata={"ü": '\0"\\模'}))) == list(state)


def test_with_ties_copies_what_is_to_be_copied() -> None:
    found = with_ties({"a": np.zeros(3)}, (Tie(0, "b", "a", is_copy=True), Tie(1, "c", "b"), Tie(3, "d", "a")))
    assert list(found) == ["b", "c", "a", "d"]
    assert found["b"] is found["c"]
    assert found["b"] is not found["a"]
    assert found["d"] is found["a"]


def test_a_module_copied_whole_takes_half() -> None:
    """As beside its average at the start of training: each tensor but the shortest is there twice."""
    torch.manual_seed(0)
    one = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 16, 3))
    both = nn.ModuleDict({"network": one, "average": copy.deepcopy(one)})
    alone = vvc_nnr.compress(nn.ModuleDict({"network": one}), qp=-28)
    assert len(vvc_nnr.compress(both, qp=-28)) < len(alone) + 40 * len(one.state_dict())
