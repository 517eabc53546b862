"""A researcher's own filters through every door: module, weights and factory, ONNX, coded file."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import vvc_nnr
from vvc_nnr.errors import InputError
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.inference.runner import Runner, check_fits, filter_frame
from vvc_nnr.filters.networks.factory import made_by
from vvc_nnr.filters.networks.foreign import with_tensors
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, parse_layout
from vvc_nnr.filters.training.calibration_pictures import without_margin
from vvc_nnr.filters.zoo import (
    load_filter,
    load_inloop_filter,
    network_tensors,
    own_network,
    reloaded,
)
from vvc_nnr.model.onnx_proto import import_onnx
from vvc_nnr.model.safetensors import write_float, write_uniform

NETS = Path(__file__).parent / "own_nets.py"
UNET_LAYOUT = "planes=yuv420-packed,qp=plane,qp-scale=63,align=2"
LAYOUTS = {"make_a": None, "make_b": UNET_LAYOUT, "make_c": None}


def factory(name):
    return f"{NETS}:{name}"


def loaded(name):
    return load_filter(factory(name), layout=LAYOUTS[name])


def same(left, right, most=0):
    assert left.format(30) == right.format(30)
    for a, b in zip(left.planes, right.planes, strict=True):
        assert np.abs(a.astype(int) - b).max() <= most


def changes(left, right):
    return [bool((a != b).any()) for a, b in zip(left.planes, right.planes, strict=True)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_by_every_door_the_same_samples(tmp_path, photographs, name):
    frame = photographs(1, 66, 50)[0].to_bit_depth(10)
    own = loaded(name)
    expected = filter_frame(own.network, frame, 32, layout=own.layout)
    assert changes(expected, frame) == ([True, False, False] if name == "make_a" else [True, True, True])

    torch.save(own.network.state_dict(), tmp_path / "w.pt")
    write_float(tmp_path / "w.safetensors", network_tensors(own.network), own.file_metadata)
    (tmp_path / "w.nnc").write_bytes(vvc_nnr.compress(own.network, lossless=True, metadata=own.file_metadata))
    (tmp_path / "w.onnx").write_bytes(to_onnx(own.network, own.layout))
    layout = own.layout.text
    doors = [
        load_filter(tmp_path / "w.pt", arch=factory(name), layout=layout),
        load_filter(tmp_path / "w.safetensors", arch=factory(name)),
        load_filter(tmp_path / "w.nnc", arch=factory(name)),
        own_network("mine", own.network, own.layout),
    ]
    for door in doors:
        assert door.layout == own.layout
        same(filter_frame(door.network, frame, 32, layout=door.layout), expected)
    graph = load_filter(tmp_path / "w.onnx", layout=layout)
    same(Runner(graph.network, layout=graph.layout).filter_frame(frame, 32), expected, most=1)
    coded = reloaded(graph, tmp_path / "w.onnx")
    same(Runner(coded.network, layout=coded.layout).filter_frame(frame, 32), expected, most=1)


def test_a_bundled_network_under_another_name_gives_the_same_samples(tmp_path, photographs):
    bundled = load_inloop_filter("inloop-lop")
    tensors = {f"inner.{name}": value for name, value in network_tensors(bundled).items()}
    write_float(tmp_path / "x.safetensors", tensors, {})
    layout = "planes=yuv420-packed,range=unit10,qp=scalar"
    foreign = load_filter(tmp_path / "x.safetensors", arch=factory("make_renamed"), layout=layout)
    for bit_depth, tile in [(8, None), (10, 32)]:
        frame = photographs(1, 98, 66)[0].to_bit_depth(bit_depth)
        for backend in ("torch", "auto"):
            runners = [
                Runner(network, layout=layout, backend=backend, tile=tile) for network in (bundled, foreign.network)
            ]
            ours, theirs = (runner.filter_frame(frame, 27) for runner in runners)
            same(ours, theirs)
            for a, b in zip(*(runner.corrections(frame, 27) for runner in runners), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["make_a", "make_b"])
@pytest.mark.parametrize("tile", [16, 34, 50])
@pytest.mark.parametrize(("width", "height"), [(97, 75), (96, 64)])
def test_tiles_and_threads_give_the_samples_of_the_whole_picture(random_frame, name, tile, width, height):
    own, frame = loaded(name), random_frame(width, height)
    whole = Runner(own.network, layout=own.layout, backend="torch", tile=None).corrections(frame, 30)
    tiled = Runner(own.network, layout=own.layout, backend="onnxruntime", n_threads=3, tile=tile)
    for a, b in zip(whole, tiled.corrections(frame, 30), strict=True):
        assert np.abs(a - b).max() < 0.01
    assert max(np.abs(values).max() for values in whole) > 3


def test_tiling_a_network_that_sees_the_whole_picture_is_refused(random_frame):
    own, frame = loaded("make_c"), random_frame(96, 64)
    Runner(own.network, tile=96, n_threads=3).filter_frame(frame, 30)
    with pytest.raises(InputError, match="depends on the whole picture"):
        Runner(own.network, tile=64, backend="torch").filter_frame(frame, 30)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_backend_agrees_or_says_why_not(photographs, name):
    own, frame = loaded(name), photographs(1, 64, 48)[0].to_bit_depth(10)
    expected = filter_frame(own.network, frame, 32, layout=own.layout)
    for backend in ("auto", "openvino", "onnxruntime"):
        runner = Runner(own.network, layout=own.layout, backend=backend)
        assert runner.remark == ""
        same(runner.filter_frame(frame, 32), expected, most=1)
    with pytest.raises(InputError, match="backend native computes filters of the bundled architectures alone"):
        Runner(own.network, layout=own.layout, precision="int8")


class DependsOnExport(torch.nn.Module):
    layout = "planes=y"

    def forward(self, x):
        return x if torch.onnx.is_in_onnx_export() else x + 0.1


def test_a_backend_that_does_not_agree_is_not_taken():
    network, why = DependsOnExport(), "gives other samples than torch"
    runner = Runner(network)
    assert runner.backend == "torch"
    assert runner.remark.startswith("computed by torch, since openvino ")
    assert runner.remark.count(why) == 2
    with pytest.raises(InputError, match=f"backend onnxruntime {why}"):
        Runner(network, backend="onnxruntime")


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("planes=rgb", ["gives the network (1, 3, ", "its first convolution takes 7 planes"]),
        ("planes=yuv420-packed", ["gives the network (1, 6, ", "its first convolution takes 7 planes"]),
        ("planes=yuv420-packed,qp=scalar", ["(1, 6, 24, 32) and a number (1,)", "takes 2 positional arguments but 3"]),
    ],
)
def test_a_layout_that_does_not_fit_is_told_with_both_shapes(random_frame, layout, parts):
    network = loaded("make_b").network
    with pytest.raises(InputError) as caught:
        filter_frame(network, random_frame(64, 48), 32, layout=layout)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_output_of_another_shape_is_told(random_frame):
    network = torch.nn.Conv2d(1, 1, 3)
    with pytest.raises(InputError, match=r"it returned \(1, 1, 46, 62\), must be \(1, 1, 48, 64\)"):
        filter_frame(network, random_frame(64, 48), 32, layout="planes=y")
    filtered = filter_frame(network, random_frame(64, 48), 32, layout="planes=y,overlap=1")
    assert filtered.format(30) == random_frame(64, 48).format(30)


def test_a_network_without_a_layout_says_what_it_takes(random_frame):
    with pytest.raises(InputError, match=r"UNet: no layout says how .* takes 7 planes"):
        Runner(loaded("make_b").network)
    with pytest.raises(InputError, match=r"Runner\(loaded.network, layout=loaded.layout\)"):
        Runner(loaded("make_b").network)
    with pytest.raises(InputError, match=r"network: is a LoadedNetwork, .* Runner\(loaded.network, layout=loaded.lay"):
        Runner(loaded("make_b"))
    with pytest.raises(InputError, match=r"--layout, such as planes=y\|each"):
        load_filter(factory("make_b"))


class Halfling(torch.nn.Module):
    layout = "planes=y"

    def __init__(self):
        super().__init__()
        self.only = torch.nn.Conv2d(1, 1, 3, padding=1).half()

    def forward(self, luma):
        return self.only(luma.half())


def test_a_network_that_takes_float16_is_told_that():
    with pytest.raises(InputError, match="Halfling: takes float16, as its weights are, and must take float32: let it"):
        Runner(Halfling())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.py:make", "no such file"),
        (factory("make_nothing"), "has no make_nothing"),
        (factory("make_number"), "is a int; must be a torch module"),
        (factory("make_broken"), ": no GPU here"),
    ],
)
def test_factories_that_make_no_network(name, message):
    with pytest.raises(InputError, match=r"own_nets|nothing") as caught:
        load_filter(name, layout="planes=y")
    assert re.search(message, str(caught.value))


def test_tensors_of_another_network(tmp_path):
    torch.save(loaded("make_a").network.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w.pt: does not fit its module: missing deep.0.bias"):
        load_filter(tmp_path / "w.pt", arch=factory("make_b"), layout=UNET_LAYOUT)
    with pytest.raises(InputError, match=r"--arch FILE.py:NAME"):
        load_filter(tmp_path / "w.pt")


def test_a_file_says_its_layout_and_an_option_overrules_it(tmp_path):
    own = loaded("make_b")
    write_float(tmp_path / "w.safetensors", network_tensors(own.network), {LAYOUT_KEY: UNET_LAYOUT})
    assert load_filter(tmp_path / "w.safetensors", arch=factory("make_b")).layout == parse_layout(UNET_LAYOUT)
    other = "planes=yuv420-packed,qp=plane,align=4"
    found = load_filter(tmp_path / "w.safetensors", arch=factory("make_b"), layout=other)
    assert found.layout == parse_layout(other)
    assert found.sha256 != load_filter(tmp_path / "w.safetensors", arch=factory("make_b")).sha256


def test_an_uniform_file_is_a_reconstruction(tmp_path):
    own = loaded("make_b")
    write_uniform(tmp_path / "w.safetensors", network_tensors(own.network), own.file_metadata, 8)
    found = load_filter(tmp_path / "w.safetensors", arch=factory("make_b"))
    assert (own.is_coded, found.is_coded, found.coding) == (False, True, "uniform8")


def test_a_strength_in_the_place_of_the_qp(photographs):
    own, frame = loaded("make_b"), photographs(1, 32, 32)[0]
    fixed = f"{UNET_LAYOUT},qp-value=0.5"
    one, other = (filter_frame(own.network, frame, qp, layout=fixed) for qp in (10, 50))
    same(one, other)
    assert any(changes(one, filter_frame(own.network, frame, 10, layout=own.layout)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_cost_is_counted_for_any_layout(name):
    own = loaded(name)
    found = complexity(own.network, own.layout)
    assert found.n_parameters == sum(p.numel() for p in own.network.parameters())
    if name == "make_a":
        assert found.kmac_per_luma_sample == pytest.approx((8 * 25 + 8 * 8 * 9 + 8 * 9) / 1000)
    if name == "make_c":
        assert found.kmac_per_luma_sample == pytest.approx((2 * 3 * 12 * 9 + 156 / 4096) / 1000, rel=0.01)


class InPlace(torch.nn.Conv2d):
    """Changes what it is given, and returns what is to be added."""

    layout = "planes=y,output=residual"

    def forward(self, x):
        x -= 0.5
        return 0.1 * super().forward(x)


class Plain(InPlace):
    def forward(self, x):
        return super().forward(x.clone())


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_a_network_may_change_its_input_in_place(random_frame, backend):
    torch.manual_seed(0)
    network, plain = InPlace(1, 1, 3, padding=1), Plain(1, 1, 3, padding=1)
    plain.load_state_dict(network.state_dict())
    frame = random_frame(64, 48)
    runner = Runner(network, backend=backend)
    assert runner.remark == ""
    same(runner.filter_frame(frame, 32), Runner(plain, backend="torch").filter_frame(frame, 32), most=1)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_runner_leaves_the_mode_alone_and_refuses_once_the_weights_have_changed(random_frame, backend):
    network, frame = loaded("make_b").network, random_frame(64, 48)
    network.train()
    network.deep.eval()
    modes = [module.training for module in network.modules()]
    runner = Runner(network, layout=UNET_LAYOUT, backend=backend)
    first = runner.filter_frame(frame, 32)
    assert [module.training for module in network.modules()] == modes
    same(runner.filter_frame(frame, 32), first)
    network.up.weight.data.mul_(2)
    for use in (runner.filter_frame, runner.corrections):
        with pytest.raises(InputError, match="weights have changed since this Runner was made"):
            use(frame, 32)
    assert any(changes(Runner(network, layout=UNET_LAYOUT, backend=backend).filter_frame(frame, 32), first))


def test_calibration_gives_a_network_that_changes_its_input_the_same_samples_again():
    torch.manual_seed(0)
    network, planes = InPlace(1, 1, 3, padding=1), torch.rand(1, 1, 8, 8)
    layout = parse_layout("planes=y,output=residual")
    first = without_margin(layout, network, planes)
    assert torch.equal(without_margin(layout, network, planes), first)


def test_what_makes_the_module_may_be_an_object(tmp_path, random_frame):
    own = loaded("make_a")
    torch.save(own.network.state_dict(), tmp_path / "w.pt")
    frame = random_frame(32, 32)
    expected = filter_frame(own.network, frame, 32)
    for arch in (type(own.network), lambda: made_by(factory("make_a")), type(own.network)()):
        found = load_filter(tmp_path / "w.pt", arch=arch)
        same(filter_frame(found.network, frame, 32), expected)
    for arch, message in (
        (3, "arch is a int: must be"),
        (lambda: 3, "arch <lambda>: is a int; must be a torch module"),
    ):
        with pytest.raises(InputError, match=message):
            load_filter(tmp_path / "w.pt", arch=arch)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    network = loaded("make_a").network
    with torch.no_grad():
        network.last.weight[0, 1] = value
    with pytest.raises(InputError, match=r"^LumaNet: tensor last.weight has weights that are not finite"):
        Runner(network)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w.pt: tensor last.weight has weights that are not finite"):
        load_filter(tmp_path / "w.pt", arch=factory("make_a"))


class Returns(torch.nn.Module):
    layout = "planes=y"

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made(x)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_an_output_that_is_no_tensor_is_told(random_frame, backend):
    for made, name in ((lambda x: {"out": x}, "dict"), (lambda x: (x, x), "tuple")):
        with pytest.raises(InputError, match=f"it returned a {name}, must return a tensor") as caught:
            Runner(Returns(made), backend=backend).filter_frame(random_frame(32, 32), 32)
        assert "Error" not in str(caught.value)


def test_a_network_that_draws_random_numbers_is_told():
    runner = Runner(Returns(lambda x: x + torch.randn(x.shape)))
    assert runner.backend == "torch"
    assert "whose own two runs differ: the network draws random numbers" in runner.remark


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_the_prefix_of_a_wrapper_is_no_part_of_the_names(tmp_path, random_frame, prefix):
    own, frame = loaded("make_b"), random_frame(32, 32)
    torch.save({prefix + name: value for name, value in own.network.state_dict().items()}, tmp_path / "w.pt")
    found = load_filter(tmp_path / "w.pt", arch=factory("make_b"), layout=UNET_LAYOUT)
    same(*(filter_frame(each, frame, 32, layout=UNET_LAYOUT) for each in (own.network, found.network)))
    state = own.network.state_dict()
    torch.save({name if "tail" in name else prefix + name: value for name, value in state.items()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="does not fit its module"):
        load_filter(tmp_path / "x.pt", arch=factory("make_b"), layout=UNET_LAYOUT)


def test_a_second_output_plane_is_told_before_any_picture():
    network = Returns(lambda x: torch.cat([x, x], 1))
    message = r"layout planes=y of Returns: gives .*it returned \(1, 2, 32, 48\), must be \(1, 1, 32, 48\)"
    with pytest.raises(InputError, match=message):
        Runner(network)
    with pytest.raises(InputError, match=r"of Returns: .*it returned \(1, 2, 64, 64\), must be \(1, 1, 64, 64\)"):
        check_fits(network, parse_layout("planes=y"))
    check_fits(loaded("make_b").network, parse_layout(UNET_LAYOUT))


def test_a_network_that_does_not_take_the_qp_needs_none(random_frame):
    frame, luma, packed = random_frame(64, 48), loaded("make_a").network, loaded("make_b").network
    same(filter_frame(luma, frame), filter_frame(luma, frame, 32))
    fixed = Runner(packed, layout=f"{UNET_LAYOUT},qp-value=0.5", backend="torch")
    same(fixed.filter_frame(frame), fixed.filter_frame(frame, 32))
    for a, b in zip(fixed.corrections(frame), fixed.corrections(frame, 32), strict=True):
        np.testing.assert_array_equal(a, b)
    runner = Runner(packed, layout=UNET_LAYOUT, backend="torch")
    for use in (runner.filter_frame, runner.corrections, lambda each: list(runner.filter_frames([(each, None)]))):
        with pytest.raises(InputError, match="takes the QP of the picture, and none is given"):
            use(frame)


class Remembers(torch.nn.Module):
    """Takes the mean with the picture before, kept as an attribute or a buffer."""

    layout = "planes=y"

    def __init__(self, *, buffer: bool):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))
        if buffer:
            self.register_buffer("last", torch.zeros(1, 1, 1, 1))
        else:
            self.last = torch.zeros(1, 1, 1, 1)

    def forward(self, luma):
        last = self.last if self.last.shape == luma.shape else luma
        self.last = luma
        return self.gain * (luma + last) / 2


class Counts(torch.nn.Module):
    layout = "planes=y"

    def __init__(self):
        super().__init__()
        self.n_calls = 0

    def forward(self, luma):
        self.n_calls += 1
        return luma * (1 - 0.1 / self.n_calls)


class Draws(torch.nn.Module):
    layout = "planes=y"

    def forward(self, luma):
        return luma + torch.rand_like(luma)


@pytest.mark.parametrize("network", [Remembers(buffer=False), Remembers(buffer=True), Counts()])
def test_networks_that_keep_something_between_pictures_are_refused(network):
    message = f"{type(network).__name__}: gives another output for the same picture once it has seen another one"
    for backend in ("auto", "torch"):
        with pytest.raises(InputError, match=message):
            Runner(network, backend=backend)
    with pytest.raises(InputError, match=message):
        check_fits(network, parse_layout(network.layout))


def test_networks_that_draw_random_numbers_keep_nothing():
    check_fits(Draws(), parse_layout(Draws.layout))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export, about torch's own
def test_exported_programs_give_the_samples_of_their_module(random_frame):
    network, frame = loaded("make_a").network, random_frame(96, 64)
    height, width = torch.export.Dim("height", min=8, max=512), torch.export.Dim("width", min=8, max=512)
    program = torch.export.export(network, (torch.rand(1, 1, 32, 48),), dynamic_shapes=({2: height, 3: width},))
    expected = filter_frame(network, frame)
    for exported in (program, program.module()):
        own = own_network("exported", exported, network.layout).network
        found = filter_frame(own, frame, layout=network.layout)
        assert all(np.array_equal(a, b) for a, b in zip(found.planes, expected.planes, strict=True))


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_scripted_modules_give_the_samples_of_their_module_without_a_warning_of_torch(tmp_path, random_frame, backend):
    # Warnings are errors here.
    network, frame = loaded("make_a").network, random_frame(96, 64)
    expected = filter_frame(network, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates these functions, which is the user's to know
        torch.jit.save(torch.jit.script(network), tmp_path / "scripted.pt")
        scripted_modules = torch.jit.load(tmp_path / "scripted.pt"), torch.jit.trace(network, torch.rand(1, 1, 32, 48))
    for scripted in scripted_modules:
        own = own_network("scripted", scripted, network.layout)
        assert complexity(own.network, own.layout) == complexity(network, own.layout)
        found = Runner(own.network, layout=own.layout, backend=backend).filter_frame(frame)
        assert all(
            np.abs(np.subtract(a, b, dtype=int)).max() <= 1 for a, b in zip(found.planes, expected.planes, strict=True)
        )
        copied = with_tensors(own.network, network_tensors(network), "copied")
        assert all(
            torch.equal(a, b) for a, b in zip(copied.state_dict().values(), network.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision is built for another torch"),
        ("import sys; sys.modules['torchvision'] = None; import torchvision", "pip install --no-deps torchvision from"),
    ],
)
def test_a_torchvision_that_does_not_import_is_told_with_what_to_do(tmp_path, monkeypatch, line, remedy):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (tmp_path / "nets.py").write_text(f"{line}\n\ndef make():\n    pass\n")
    with pytest.raises(InputError, match=rf"in line 1: .*{remedy}.*docs/model-zoo.md") as caught:
        load_filter(f"{tmp_path / 'nets.py'}:make", layout="planes=y")
    assert "\n" not in str(caught.value)


def test_what_the_document_says_to_do_about_torchvision_can_be_typed_in():
    document = (Path(__file__).parents[2] / "docs" / "model-zoo.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    used = f"{code}\nassert torch.ops.torchvision.nms and torch.ops.torchvision.qnms"
    assert subprocess.run([sys.executable, "-c", used], capture_output=True, check=True).stderr == b""


def test_other_inputs_than_planes_and_qp_are_told():
    class Partitioned(torch.nn.Conv2d):
        def __init__(self):
            super().__init__(1, 1, 1)

        def forward(self, luma, partition):
            return luma + partition

    message = "its forward needs luma, partition; a layout gives one tensor of planes, and the QP with qp=scalar"
    with pytest.raises(InputError, match=message):
        check_fits(Partitioned(), parse_layout("planes=y"))


def test_planes_that_stay_must_be_returned():
    network = torch.nn.Conv2d(3, 2, 1)
    with pytest.raises(InputError, match=r"must be \(1, 3, 64, 64\) \(planes that stay, by keep, too: return what"):
        check_fits(network, parse_layout("planes=yuv444,keep=y"))


def test_a_factory_takes_no_other_module():
    with pytest.raises(InputError, match="makes its module itself; omit arch"):
        load_filter(factory("make_a"), arch=factory("make_b"))


def test_an_onnx_model_of_two_pictures_at_a_time_is_told(tmp_path):
    network = loaded("make_a").network
    found = import_onnx().load_from_string(to_onnx(network, parse_layout(network.layout)))
    found.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    found.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    (tmp_path / "two.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(InputError, match=r"takes 2 pictures at a time .*, must take 1 or any number: export it again"):
        load_filter(tmp_path / "two.onnx", layout=network.layout)


def test_the_layout_in_the_metadata_of_an_onnx_model_is_read_of_its_coded_file_too(tmp_path):
    own = loaded("make_a")
    model = import_onnx().load_from_string(to_onnx(own.network, own.layout))
    model.metadata_props.add(key=LAYOUT_KEY, value=own.layout.text)
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    vvc_nnr.save_file(tmp_path / "w.nnc", tmp_path / "w.onnx")
    for name in ("w.onnx", "w.nnc"):
        assert load_filter(tmp_path / name).layout == own.layout
    assert load_filter(tmp_path / "w.onnx", layout=f"{own.layout.text},keep=cb").layout.keep == ("cb",)
