"""Where networks stand, and which float network belongs to which coded file."""

from __future__ import annotations

from pathlib import Path

import pytest

import vvc_nnr
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.placed_networks import place_networks
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.zoo import load_inloop_filter, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float, write_uniform


@pytest.fixture
def post(networks: Path) -> Path:
    return networks / "post.safetensors"


@pytest.fixture
def coded(post: Path, tmp_path: Path) -> Path:
    """The network `post` as `post.nnc`."""
    network = load_inloop_filter(post)
    path = tmp_path / "post.nnc"
    path.write_bytes(vvc_nnr.compress(network_tensors(network), metadata=network_metadata(network)))
    return path


def test_the_place_is_that_of_the_option_else_of_the_file_else_of_the_bundled_name(post: Path, tmp_path: Path) -> None:
    network = load_inloop_filter(post)
    said = tmp_path / "said.safetensors"
    write_float(said, network_tensors(network), network_metadata(network) | {"loop_filters": "none"})
    placed = place_networks([str(post), str(said), "inloop-replacement", "inloop-postfilter"])
    assert [(each.row.network, each.row.loop_filters) for each in placed] == [
        ("post", "all"), ("said", "none"), ("inloop-replacement", "none"), ("inloop-postfilter", "all"),
    ]  # fmt: skip
    for given in (str(post), "post"):
        assert [each.row.loop_filters for each in place_networks([str(post)], [given])] == ["none"]


def test_files_are_run_and_counted_as_they_are(post: Path, coded: Path, tmp_path: Path) -> None:
    network = load_inloop_filter(post)
    small = tmp_path / "small.safetensors"
    write_uniform(small, network_tensors(network), network_metadata(network), bits=6)
    rows = [each.row for each in place_networks([str(coded), str(small)], originals=[str(post)])]
    assert [(row.network, row.weights, row.coding) for row in rows] == [
        ("post", "file", "NNC"), ("post", "original", "float32"), ("small", "file", "uniform6"),
    ]  # fmt: skip
    assert [row.n_bytes for row in rows] == [path.stat().st_size for path in (coded, post, small)]
    assert len({row.network_sha256 for row in rows}) == 3
    assert rows[0].n_parameters == rows[1].n_parameters == sum(p.numel() for p in network.parameters())
    assert rows[0].kmac_per_luma_sample == 9 * (7 * 8 + 3 * 8 * 8 + 8 * 6) / 4 / 1000


def test_an_original_of_another_name_is_paired_by_the_option(networks: Path, coded: Path) -> None:
    placed = place_networks([str(coded)], originals=[f"post={networks / 'rep.safetensors'}"])
    assert [each.row.weights for each in placed] == ["file", "original"]


def test_what_does_not_fit_is_refused(networks: Path, post: Path, coded: Path, tmp_path: Path) -> None:
    rep, larger = str(networks / "rep.safetensors"), tmp_path / "post.safetensors"
    write_float(larger, network_tensors(InLoopFilter(8, 2)), network_metadata(InLoopFilter(8, 2)))
    network = load_inloop_filter(post)
    odd = tmp_path / "odd.safetensors"
    write_float(odd, network_tensors(network), network_metadata(network) | {"loop_filters": "some"})
    cases: list[tuple[list[str], list[str], list[str], str]] = [
        ([], [], [], "name at least one"),
        ([str(post), str(coded)], [], [], "another network is called post too"),
        ([str(post)], ["rep"], [], "replacement rep: is none of the networks post"),
        ([str(post)], [], [rep], "no network is called rep"),
        ([str(coded)], [], [str(larger)], "another shape"),
        ([str(odd)], [], [], "loop_filters 'some' in its metadata"),
        ([str(networks / "small.safetensors")], [], [], "holds no in-loop filter"),
        (["nothing"], [], [], "no such file, and no network of the zoo"),
    ]
    for names, replacements, originals, message in cases:
        with pytest.raises(InputError, match=message):
            place_networks(names, replacements, originals)
