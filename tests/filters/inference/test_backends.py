from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference import choice
from vvc_nnr.filters.inference.choice import BackendName, chosen_backend, make_backend, missing_for
from vvc_nnr.filters.inference.runner import Runner, filter_frame
from vvc_nnr.filters.networks.in_loop import InLoopFilter, LadderFilter
from vvc_nnr.filters.networks.planes import PackedGrid, sample_scale
from vvc_nnr.filters.zoo import load_inloop_filter

BACKENDS: list[BackendName] = ["torch", "onnxruntime", "openvino"]
CODE_VALUE = 1 / 1023  # at 10 bit


@pytest.fixture
def backend(request) -> BackendName:
    if missing := missing_for(request.param):
        pytest.skip(missing)
    return request.param


def with_corrections(network):
    """A fresh network with all weights random: corrections of a few code values, as trained ones give."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("tail.weight", "shift.weight")):
                parameter.normal_(0, 0.1)
    return network.eval()


def ladder_network():
    torch.manual_seed(1)
    return with_corrections(LadderFilter(16, 2))


@pytest.fixture(params=["in-loop", "ladder"])
def network(request):
    torch.manual_seed(2)
    return with_corrections(InLoopFilter(16, 2)) if request.param == "in-loop" else ladder_network()


def random_planes(height, width, seed=0):
    return np.random.default_rng(seed).random((6, height, width), np.float32)


def by_torch(network, planes, qp):
    with torch.no_grad():
        return network(torch.from_numpy(planes)[None], torch.tensor([float(qp)]))[0].numpy()


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_agrees_with_the_network_within_a_thousandth_of_a_code_value(backend, network):
    compute = make_backend(network, backend, "float32", 2, "cpu")
    corrections = []
    for height, width, qp in [(24, 40, 22), (24, 40, 37), (31, 17, 0), (1, 1, 63), (24, 40, 22)]:
        planes = random_planes(height, width)
        expected = by_torch(network, planes, qp)
        assert np.abs(compute.run(planes, qp) - expected).max() < 1e-3 * CODE_VALUE
        corrections.append(np.abs(expected - planes).max())
    assert max(corrections) > 2 * CODE_VALUE


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("name", ["inloop-postfilter", "inloop-replacement"])
def test_agrees_on_trained_networks_and_photographs(backend, name, photographs):
    network = load_inloop_filter(name)
    planes = PackedGrid(photographs(1, 64, 48)[0].to_bit_depth(10), sample_scale(10)).read((0, 0, 24, 32))
    output = make_backend(network, backend, "float32", 1, "cpu").run(planes, 37)
    assert np.abs(output - by_torch(network, planes, 37)).max() < 1e-3 * CODE_VALUE


@pytest.mark.parametrize("backend", ["torch", "openvino"], indirect=True)
def test_bfloat16_is_near_and_is_not_float32(backend):
    network = ladder_network()
    planes = random_planes(24, 40)
    expected = by_torch(network, planes, 32)
    error = np.abs(make_backend(network, backend, "bfloat16", 1, "cpu").run(planes, 32) - expected)
    # The sum with the picture is not in bfloat16, which has steps of two code values and more.
    assert error.max() < 0.5 * CODE_VALUE
    if torch.cpu._is_avx512_bf16_supported():
        assert error.max() > 1e-3 * CODE_VALUE


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_network_that_changes_later_does_not_matter(backend):
    network, planes = ladder_network(), random_planes(16, 16)
    expected = by_torch(network, planes, 32)
    compute = make_backend(network, backend, "float32", 1, "cpu")
    if backend != "torch":
        with torch.no_grad():
            network.tail.weight.zero_()
    assert np.abs(compute.run(planes, 32) - expected).max() < 1e-3 * CODE_VALUE


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_pictures_are_those_of_torch_but_for_values_midway(backend, network, random_frame):
    frame = random_frame(101, 75)
    filtered = Runner(network, backend=backend, n_threads=2).filter_frame(frame, 27)
    expected = filter_frame(network, frame, 27)
    assert filtered.format(30) == expected.format(30)
    differences = [np.abs(a.astype(int) - b) for a, b in zip(filtered.planes, expected.planes, strict=True)]
    assert max(d.max() for d in differences) <= 1
    assert sum(np.count_nonzero(d) for d in differences) <= 0.002 * frame.planes[0].size
    assert any((a != b).any() for a, b in zip(filtered.planes, frame.planes, strict=True))


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error(backend, value):
    network = ladder_network()
    with torch.no_grad():
        network.head.weight[3, 2, 1, 1] = value
    with pytest.raises(VvcNnrError, match="not finite"):
        Runner(network, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_an_output_that_overflows_is_an_error(backend, random_frame):
    network = ladder_network()
    with torch.no_grad():
        network.tail.weight.fill_(3e38)
        network.tail.bias.fill_(3e38)
    with pytest.raises(VvcNnrError, match="not finite"):
        Runner(network, backend=backend).filter_frame(random_frame(32, 32), 32)


def test_auto_takes_the_first_that_is_installed(monkeypatch):
    lacking = {"openvino": "no", "onnxruntime": "", "torch": ""}
    monkeypatch.setattr(choice, "missing_for", lambda name: lacking[name])
    assert chosen_backend("auto", "float32") == "onnxruntime"
    assert chosen_backend("auto", "bfloat16") == "torch"
    lacking["openvino"] = ""
    assert chosen_backend("auto", "float32") == chosen_backend("auto", "bfloat16") == "openvino"
    assert chosen_backend("auto", "float32", "cuda") == "torch"
    lacking["openvino"] = lacking["onnxruntime"] = "no"
    assert chosen_backend("auto", "float32") == "torch"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tpu", "float32"), "backend 'tpu': must be auto, torch, "),
        (("torch", "int3"), "precision 'int3': must be float32, bfloat16, int8"),
        (("onnxruntime", "bfloat16"), "backend onnxruntime: computes in float32, not in bfloat16"),
        (("native", "float32"), "backend native: computes in int8, not in float32"),
        (("auto", "int8", "cuda"), "backend native: computes on the processor only, device 'cuda'"),
        (("openvino", "float32", "cuda"), "backend openvino: computes on the processor only, device 'cuda'"),
    ],
)
def test_a_choice_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        chosen_backend(*arguments)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_backend_that_is_not_installed(monkeypatch, name):
    monkeypatch.setattr(choice, "find_spec", lambda package: None)
    expected = f"backend {name}: the package onnx and {name} is not installed; pip install 'vvc-nnr\\[{name}\\]'"
    with pytest.raises(InputError, match=expected):
        chosen_backend(name, "float32")
    assert chosen_backend("auto", "float32") == "torch"


def test_openvino_does_without_the_package_onnxruntime():
    pytest.importorskip("openvino")
    code = "import sys; sys.modules['onnxruntime'] = None; import vvc_nnr.filters.inference.openvino"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_openvino_reports_nothing_over_the_network():
    pytest.importorskip("openvino")
    code = (
        "import vvc_nnr.filters.inference.openvino, openvino.tools.ovc.telemetry_utils as used; print(used.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


class Branching(nn.Module):
    """Decides in Python: by the QP, or by the width of its picture."""

    def __init__(self, by: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.low, self.high = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(2))
        self.by = by

    def forward(self, planes: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
        is_low = float(qp[0]) < 30 if self.by == "qp" else planes.shape[-1] < 48
        return self.low(planes) if is_low else self.high(planes)


@pytest.mark.parametrize("by", ["qp", "width"])
def test_what_decides_in_python_is_computed_by_torch(by, random_frame):
    network, layout = Branching(by), "planes=y,qp=scalar,output=residual"
    runner = Runner(network, layout=layout)
    assert runner.backend == "torch"
    assert "forward decides in Python by what it is given" in runner.remark
    for width, qp in ((32, 22), (64, 22), (32, 37), (64, 37)):
        frame = random_frame(width, 32)
        expected = Runner(network, layout=layout, backend="torch").filter_frame(frame, qp)
        assert (runner.filter_frame(frame, qp).planes[0] == expected.planes[0]).all()
    with pytest.raises(InputError, match="openvino cannot run it"):
        Runner(network, layout=layout, backend="openvino")


def test_networks_are_made_ready_side_by_side():
    with ThreadPoolExecutor(4) as pool:
        runners = list(pool.map(lambda _: Runner(Plain(), layout="planes=y,output=residual"), range(8)))
    assert {runner.backend for runner in runners} == {runners[0].backend}
    assert runners[0].backend != "torch"


class Plain(nn.Sequential):
    """A network of somebody's own."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
