"""Which QP a network is told of a picture: the rules, where they are said, and who follows them."""

from __future__ import annotations

import pytest
import torch

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.in_loop import LadderFilter, deepened
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.networks.told_qp import (
    DEFAULT_RULE,
    PictureQps,
    QpRule,
    parse_candidate,
    parse_rule,
    same_qps,
    told_qps,
)
from vvc_nnr.filters.zoo import load_filter, network_metadata, network_tensors
from vvc_nnr.model.safetensors import float_bytes

INTER, POINT = PictureQps(own=40, access_point=33, base=37), PictureQps(own=33, access_point=33, base=37)


@pytest.mark.parametrize(
    ("text", "of_inter", "of_point"),
    [
        ("slice", 40, 33),
        ("slice-2", 38, 31),
        ("first+3", 36, 33),
        ("first", 33, 33),
        ("first-5", 28, 28),
        ("first+9", 40, 33),
        ("base", 37, 37),
        ("base+2", 39, 39),
        ("27", 27, 27),
        ("slice+63", 63, 63),
        ("base-63", 0, 0),
    ],
)
def test_rules(text: str, of_inter: int, of_point: int) -> None:
    rule = parse_rule(text)
    assert rule.text == text
    assert told_qps([INTER, POINT], rule) == [of_inter, of_point]


@pytest.mark.parametrize("text", ["", "slices", "first+", "first+100", "base +1", "64", "-1", "qp", "٣", "slice+3+3"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InputError, match=r"QP rule .*: must be slice, first\+3, base"):
        parse_rule(text)


def test_the_qp_that_the_encoder_was_asked_for_may_not_be_known() -> None:
    with pytest.raises(InputError, match=r"headers of a stream do not say; give it \(--qp\)"):
        parse_rule("base").qp(PictureQps(30, 30))
    assert parse_rule("base").qp(same_qps(30)) == 30
    assert parse_rule("slice").qp(PictureQps(-7, -7)) == 0


def test_candidates_may_be_by_what_the_own_rule_says() -> None:
    assert [parse_candidate(text).qp(INTER, 36) for text in ("+5", "-10", "+63", "slice", "27")] == [41, 26, 63, 40, 27]
    assert [parse_candidate(text).text for text in ("+5", "-10", "first+3", "27")] == ["+5", "-10", "first+3", "27"]
    with pytest.raises(InputError, match=r"QP candidate \+0: is the network's own rule"):
        parse_candidate("+0")
    with pytest.raises(InputError, match=r"QP rule '\+5': must be slice"):
        parse_rule("+5")
    with pytest.raises(InputError, match=r"QP rule \+5: a network has no other rule to be told by"):
        QpRule("told", 5).qp(INTER)


def test_a_layout_says_it() -> None:
    layout = parse_layout("planes=y,qp=plane,qp-scale=63,qp-rule=slice")
    assert layout.qp_rule == QpRule("slice")
    assert parse_layout(layout.text) == layout
    plain = parse_layout("planes=y,qp=plane")
    assert (plain.qp_rule, "qp-rule" in plain.text) == (DEFAULT_RULE, False)
    with pytest.raises(InputError, match="qp-rule: there is no QP input"):
        parse_layout("planes=y,qp-rule=slice")


def test_a_file_of_a_bundled_architecture_says_it(tmp_path) -> None:
    torch.manual_seed(0)
    network = LadderFilter(8, 1)
    assert "qp_rule" not in network_metadata(network)
    network.qp_rule = parse_rule("base-1")
    assert deepened(network, 2).layout.qp_rule == network.qp_rule
    path = tmp_path / "net.safetensors"
    path.write_bytes(float_bytes(network_tensors(network), network_metadata(network)))
    loaded = load_filter(path)
    assert loaded.layout is not None
    assert loaded.layout.qp_rule == QpRule("base", -1)
    assert loaded.file_metadata["qp_rule"] == "base-1"
    path.write_bytes(float_bytes(network_tensors(network), network_metadata(network) | {"qp_rule": "own"}))
    with pytest.raises(InputError, match=r"net\.safetensors.*QP rule 'own'"):
        load_filter(path)


def test_the_bundled_networks_are_told_what_they_were() -> None:
    assert load_filter("inloop-vlop").layout.qp_rule == DEFAULT_RULE == parse_rule("first+3")
