"""Where networks stand, which network as trained belongs to which coded file, and what compressions make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import vvc_nnr
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.weights import parse_compressions
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    CodingOptions,
    GivenNetwork,
    NetworkState,
    check_photographs,
    given_autoencoders,
    given_filters,
    network_states,
)
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.zoo import load_inloop_filter, load_network, network_metadata, network_tensors
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


def states(tmp_path: Path, networks: list[GivenNetwork], compressions: str = "none") -> list[NetworkState]:
    return network_states(networks, CodingOptions(parse_compressions(compressions), tmp_path))


def test_the_place_is_that_of_the_option_else_of_the_file_else_of_the_bundled_name(post: Path, tmp_path: Path) -> None:
    network = load_inloop_filter(post)
    said = tmp_path / "said.safetensors"
    write_float(said, network_tensors(network), network_metadata(network) | {"loop_filters": "none"})
    placed = given_filters([str(post), str(said), "inloop-replacement", "inloop-postfilter"])
    assert [(each.name, each.place) for each in placed] == [
        ("post", "all"), ("said", "none"), ("inloop-replacement", "none"), ("inloop-postfilter", "all"),
    ]  # fmt: skip
    for given in (str(post), "post"):
        assert [each.place for each in given_filters([str(post)], [given])] == ["none"]


def test_files_are_run_and_counted_as_they_are(post: Path, coded: Path, tmp_path: Path) -> None:
    network = load_inloop_filter(post)
    small = tmp_path / "small.safetensors"
    write_uniform(small, network_tensors(network), network_metadata(network), bits=6)
    given = given_filters([str(coded), str(small)], originals=[str(post), f"small={post}"])
    rows = [each.row for each in states(tmp_path, given)]
    assert [(row.network, row.weights, row.coding) for row in rows] == [
        ("post", "original", "float32"), ("post", "file:post", "NNC"), ("post", "file:small", "uniform6"),
    ]  # fmt: skip
    assert [row.title for row in rows] == ["original", "post (NNC)", "small (uniform6)"]
    assert [row.n_bytes for row in rows] == [path.stat().st_size for path in (post, coded, small)]
    assert {row.original_bytes for row in rows} == {post.stat().st_size}
    assert len({row.network_sha256 for row in rows}) == 3
    assert rows[0].n_parameters == rows[1].n_parameters == sum(p.numel() for p in network.parameters())
    assert rows[0].kmac_per_luma_sample == 9 * (7 * 8 + 3 * 8 * 8 + 8 * 6) / 4 / 1000


def test_a_coded_file_alone_is_not_compressed_again(coded: Path, tmp_path: Path) -> None:
    given = given_filters([str(coded)])
    assert given[0].trained is None
    (state,) = states(tmp_path, given, "uniform8,nnc")
    assert (state.row.weights, state.row.original_bytes) == ("file", None)
    assert given[0].weights(BOTH_MODES) == ["file"]


def test_each_compression_is_a_file_that_is_decoded_and_kept(post: Path, tmp_path: Path) -> None:
    given = given_filters([str(post)], ["post"])
    found = states(tmp_path, given, "uniform8,nnc,uniform3")
    assert [each.row.weights for each in found] == given[0].weights(parse_compressions("uniform8,nnc,uniform3"))
    assert [each.row.coding for each in found] == ["float32", "uniform8", "NNC", "uniform3"]
    files = {path.stat().st_size: path for path in tmp_path.iterdir()}
    for each in found[1:]:
        again = load_network(files[each.row.n_bytes])
        for name, tensor in network_tensors(each.network).items():
            np.testing.assert_array_equal(network_tensors(again.network)[name], tensor)
        assert again.metadata.get("loop_filters", "none") == "none"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert [each.row for each in states(tmp_path, given, "uniform8,nnc,uniform3")] == [each.row for each in found]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_calibrated_compression_keeps_to_its_size(post: Path, tmp_path: Path, rgb: NDArray[np.uint8]) -> None:
    for number in range(4):
        Image.fromarray(np.roll(np.tile(rgb, (3, 2, 1)), 9 * number, axis=0)).save(tmp_path / f"{number}.png")
    given = given_filters([str(post)])
    (tmp_path / "out").mkdir()
    options = CodingOptions(parse_compressions("calibrated:2500B"), tmp_path / "out", tmp_path, n_crops=8)
    original, coded = network_states(given, options)
    assert (coded.row.weights, coded.row.coding) == ("calibrated:2500B", "NNC")
    assert coded.row.n_bytes <= 2500 < original.row.n_bytes
    with pytest.raises(InputError, match="needs photographs to compress by"):
        check_photographs(options.compressions, None)


def test_a_coded_file_belongs_to_the_network_that_its_weights_come_from(
    networks: Path, post: Path, coded: Path, tmp_path: Path
) -> None:
    other = tmp_path / "rep.nnc"  # called like another network
    network = load_inloop_filter(post)
    other.write_bytes(vvc_nnr.compress(network, qp=-24, metadata=network_metadata(network)))
    found = given_filters([str(networks / "rep.safetensors"), str(coded), str(other), str(post)])
    assert [(each.name, each.weights([])) for each in found] == [
        ("rep", ["original"]), ("post", ["original", "file:post", "file:rep"])
    ]  # fmt: skip


def test_a_uniform_file_alone_is_a_reconstruction(post: Path, tmp_path: Path) -> None:
    network = load_inloop_filter(post)
    small = tmp_path / "small.safetensors"
    write_uniform(small, network_tensors(network), network_metadata(network), bits=6)
    (given,) = given_filters([str(small)])
    assert given.weights(BOTH_MODES) == ["file"]
    (state,) = states(tmp_path, [given], "uniform8")
    assert (state.row.title, state.row.original_bytes) == ("file (uniform6)", None)


def test_one_file_name_in_two_folders_is_two_networks(networks: Path, tmp_path: Path) -> None:
    for folder, name in (("a", "post"), ("b", "rep")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "v2.safetensors").write_bytes((networks / f"{name}.safetensors").read_bytes())
    names = [str(tmp_path / folder / "v2.safetensors") for folder in "ab"]
    assert [each.name for each in given_filters(names)] == ["a/v2", "b/v2"]
    assert [each.place for each in given_filters(names, [names[1]])] == ["all", "none"]


def test_an_original_of_another_name_is_paired_by_the_option(networks: Path, coded: Path) -> None:
    (given,) = given_filters([str(coded)], originals=[f"post={networks / 'rep.safetensors'}"])
    assert given.weights([]) == ["original", "file"]


def test_what_does_not_fit_is_refused(networks: Path, post: Path, coded: Path, tmp_path: Path) -> None:
    rep, larger = str(networks / "rep.safetensors"), tmp_path / "post.safetensors"
    write_float(larger, network_tensors(InLoopFilter(8, 2)), network_metadata(InLoopFilter(8, 2)))
    network = load_inloop_filter(post)
    copy, odd = tmp_path / "copy.safetensors", tmp_path / "odd.safetensors"
    copy.write_bytes(post.read_bytes())
    write_float(odd, network_tensors(network), network_metadata(network) | {"loop_filters": "some"})
    cases: list[tuple[list[str], list[str], list[str], str]] = [
        ([], [], [], "name at least one"),
        ([str(post), str(post)], [], [], "this network is given twice"),
        (
            [str(post), str(copy)],
            [],
            [],
            r"copy\.safetensors: this network is given twice, first as .*post\.safetensors",
        ),
        ([str(coded)], [], [str(post), f"post={post}"], "post has another original too; give it one"),
        ([str(post)], ["rep"], [], "replacement rep: is none of the networks post"),
        ([str(post)], [], [rep], "no network is called rep"),
        ([str(coded)], [], [str(larger)], "another shape"),
        ([str(odd)], [], [], "loop_filters 'some' in its metadata"),
        ([str(networks / "small.safetensors")], [], [], "holds no in-loop filter"),
        (["nothing"], [], [], "no such file, and no network of the zoo"),
    ]
    for names, replacements, originals, message in cases:
        with pytest.raises(InputError, match=message):
            given_filters(names, replacements, originals)
    with pytest.raises(InputError, match="holds no autoencoder"):
        given_autoencoders([str(post)])


NET = """import torch
class Net(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(1, 1, {0}, padding={1})
"""


@pytest.fixture
def two_nets(tmp_path: Path) -> list[Path]:
    """Two files net.pt in folders A and D, of modules that differ, which A/nets.py and D/nets.py make."""
    found = []
    for folder, kernel in (("A", 3), ("D", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(NET.format(kernel, kernel // 2))
        torch.manual_seed(kernel)
        network = torch.nn.Conv2d(1, 1, kernel, padding=kernel // 2)
        torch.save(network.state_dict(), tmp_path / folder / "net.pt")
        found.append(tmp_path / folder / "net.pt")
    return found


def test_networks_of_one_name_are_told_apart_by_their_folders(two_nets: list[Path]) -> None:
    names = [str(path) for path in two_nets]
    archs = [f"{path.parent.name}/net={path.parent / 'nets.py'}:Net" for path in two_nets]
    layouts = ["net=planes=y", "D/net=planes=each"]
    found = given_filters(names, archs=archs, layouts=layouts)
    assert [(each.name, each.any_state.layout and each.any_state.layout.planes) for each in found] == [
        ("A/net", "y"), ("D/net", "each"),
    ]  # fmt: skip
    by_path = given_filters(names[:1], archs=archs[:1], layouts=[f"{names[0]}=planes=each"])
    assert by_path[0].any_state.layout == found[1].any_state.layout


def test_an_option_for_a_network_that_is_not_there_is_refused(two_nets: list[Path], post: Path) -> None:
    factory = f"{two_nets[0].parent / 'nets.py'}:Net"
    with pytest.raises(InputError, match=r"arch nett=.*: no network is called nett; there are: net, post"):
        given_filters([str(two_nets[0]), str(post)], archs=[factory, f"nett={factory}"], layouts=["planes=y"])
    with pytest.raises(InputError, match="layout B/net=planes=y: no network is called B/net; there are: net"):
        given_filters([str(two_nets[0])], archs=[factory], layouts=["planes=y", "B/net=planes=y"])
    with pytest.raises(InputError, match="no network is called nett"):
        given_autoencoders([str(two_nets[0])], archs=[factory, f"nett={factory}"])


def test_an_option_for_all_networks_that_none_takes_is_refused(two_nets: list[Path]) -> None:
    factory = f"{two_nets[0].parent / 'nets.py'}:Net"
    with pytest.raises(InputError, match="layout planes=y: each of the networks says its own; omit it, or say NAME=pl"):
        given_filters(["inloop-vlop"], layouts=["planes=y"])
    with pytest.raises(InputError, match="arch dncnn: each of the networks says its own"):
        given_filters(["inloop-vlop", factory], archs=["dncnn"], layouts=["planes=y"])
    with pytest.raises(InputError, match=r"arch .*Net: each of the networks says its own"):
        given_autoencoders(["autoencoder-1.8bpp"], archs=[factory])


def test_calibration_of_an_onnx_model_says_what_makes_it_possible(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    (tmp_path / "net.onnx").write_bytes(to_onnx(network, parse_layout("planes=y")))
    for name in "ab":
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / f"{name}.png")
    found = given_filters([str(tmp_path / "net.onnx")], layouts=["planes=y"])
    options = CodingOptions(parse_compressions("calibrated:900B"), tmp_path / "coded", tmp_path)
    with pytest.raises(InputError, match=r"no gradients go through .* \(--arch net=FILE.py:NAME\), or take"):
        network_states(found, options)


def test_a_network_given_twice_is_named_by_both_files(post: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(post.read_bytes())
    with pytest.raises(InputError, match=f"{other}: this network is given twice, first as {post}"):
        given_filters([str(post), str(other)])


def test_a_network_of_ones_own_is_called_as_the_user_says(two_nets: list[Path], post: Path, tmp_path: Path) -> None:
    lines = ("net = nn.Conv2d(1, 1, 1, bias=False)", "nn.init.zeros_(net.weight)", "return net")
    (tmp_path / "nets.py").write_text("\n    ".join(["from torch import nn\ndef make():", *lines, ""]))
    factory = f"{tmp_path / 'nets.py'}:make"
    found = given_filters([f"tiny={factory}", f"other={post}"], ["tiny"], layouts=["tiny=planes=y,output=residual"])
    assert [(each.name, each.place) for each in found] == [("tiny", "none"), ("other", "all")]
    plain = given_filters([factory], layouts=["make=planes=y,output=residual"])
    assert plain[0].name == "make"
    assert plain[0].any_state.sha256 == found[0].any_state.sha256  # the same network
    odd = tmp_path / "a=b.safetensors"
    odd.write_bytes(post.read_bytes())
    assert given_filters([str(odd)])[0].name == "a=b"
    for text, said in (
        ("x y=" + factory, "must be a network, or NAME=NETWORK"),
        ("tiny=", "must be a network, or NAME=NETWORK"),
        ("tiny=inloop-lop", "inloop-lop is a bundled network's name"),
        ("inloop-lop=" + factory, "inloop-lop is a bundled network's name"),
    ):
        with pytest.raises(InputError, match=said):
            given_filters([text], layouts=["planes=y,output=residual"])
