"""Network files of all kinds: told by their content, shards, archives of other packages, keys and prefixes of names."""

from __future__ import annotations

import json
import lzma
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import save_file as save_safetensors

import vvc_nnr
from vvc_nnr.bitstream.number_formats import FloatBits
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.network_file import NetworkArrays, common_prefix, file_kind, read_arrays, read_network_file, without_prefix

RANDOM = np.random.default_rng(6)
STATE = {
    "conv.weight": RANDOM.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32),
    "conv.bias": RANDOM.normal(0, 0.1, 8).astype(np.float32),
    "steps": np.array(7),
}


def as_torch(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in state.items()}


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save(as_torch(STATE), path),
    "old torch": lambda path: torch.save(as_torch(STATE), path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: save_safetensors(STATE, path),
    "npz": lambda path: path.write_bytes(npz(STATE)),
    "nnc": lambda path: path.write_bytes(vvc_nnr.compress(STATE, lossless=True)),
}


def npz(state: dict[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **state)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "name", ["model.bin", "model", "model.safetensors", "model.nnc", "model.onnx", "model.pth.tar"]
)
def test_content_tells_the_kind_whatever_the_name(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    WRITERS[kind](path)
    found = vvc_nnr.load_file(path)
    assert set(found) == set(STATE)
    assert all(np.array_equal(found[key], STATE[key]) and found[key].dtype == STATE[key].dtype for key in STATE)
    assert set(read_network_file(path).tensors) == set(STATE)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.onnx", "m"])
def test_a_coded_network_is_not_written_under_another_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(vvc_nnr.InputError, match=rf"{name}: a coded network is a \.nnc file; change the name"):
        vvc_nnr.save_file(tmp_path / name, STATE)
    assert not list(tmp_path.iterdir())


def test_what_a_file_holds_beside_the_network_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"state_dict": as_torch(STATE), "optimizer": {"lr": 0.1}, "epoch": 7}, tmp_path / "model.ckpt")
    assert set(vvc_nnr.decompress(vvc_nnr.compress(tmp_path / "model.ckpt"))) == set(STATE)
    assert "model.ckpt: not part of the network, and not coded: optimizer, epoch" in caplog.text


def test_a_file_goes_in_and_comes_out_by_its_name(tmp_path: Path) -> None:
    torch.save(as_torch(STATE), tmp_path / "model.ckpt")
    data = vvc_nnr.compress(tmp_path / "model.ckpt", qp=-40)
    n_bytes = vvc_nnr.save_file(tmp_path / "a.nnc", tmp_path / "model.ckpt", options=vvc_nnr.CompressOptions(qp=-40))
    assert (tmp_path / "a.nnc").read_bytes() == data
    assert n_bytes == len(data)
    for source in (data, tmp_path / "a.nnc", str(tmp_path / "a.nnc")):
        assert set(vvc_nnr.decompress(source)) == set(STATE)
        assert len(vvc_nnr.inspect(source).tensors) == 3
    module = torch.nn.Module()
    module.conv = torch.nn.Conv2d(3, 8, 3)
    module.register_buffer("steps", torch.tensor(0))
    vvc_nnr.load_into(module, tmp_path / "a.nnc")
    assert int(module.steps) == 7
    (tmp_path / "b.nnc").write_bytes(data[:-1])
    with pytest.raises(BitstreamError, match=r"b\.nnc: "):
        vvc_nnr.decompress(tmp_path / "b.nnc")
    with pytest.raises(InputError, match=r"none\.nnc"):
        vvc_nnr.decompress(tmp_path / "none.nnc")


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_shards_are_one_network_in_the_order_of_their_index(tmp_path: Path, kind: str) -> None:
    parts = [{"conv.bias": STATE["conv.bias"], "left": STATE["conv.bias"]}, {"conv.weight": STATE["conv.weight"]}]
    files = [f"model-{place}.{kind}" for place in range(2)]
    for file, part in zip(files, parts, strict=True):
        if kind == "torch":
            torch.save(as_torch(part), tmp_path / file)
        else:
            save_safetensors(part, tmp_path / file)
    index = tmp_path / "model.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv.weight": files[1], "conv.bias": files[0]}}))
    network = read_arrays(index)
    assert list(network.arrays) == ["conv.weight", "conv.bias"]
    assert all(np.array_equal(np.asarray(array), STATE[name]) for name, array in network.arrays.items())
    assert network.left_out == (f"{files[0]}: left",)
    assert network.n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"w": "../m.safetensors"}, "is not beside the index"),
        ({"w": "/etc/passwd"}, "is not beside the index"),
        ({"w": "m.safetensors"}, "has no tensor 'w'"),
        ({"conv.bias": "x.npz"}, r"a \.npz file; must be safetensors"),
        ({"conv.bias": "gone.safetensors"}, r"gone\.safetensors"),
        ({"conv.bias": 3}, "weight_map"),
        ({}, "weight_map"),
        ([], "weight_map"),
    ],
)
def test_indices_that_do_not_fit_are_refused(tmp_path: Path, places: Any, words: str) -> None:
    save_safetensors(STATE, tmp_path / "m.safetensors")
    (tmp_path / "x.npz").write_bytes(npz(STATE))
    (tmp_path / "i.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises((InputError, BitstreamError, UnsupportedError), match=words):
        read_arrays(tmp_path / "i.index.json")


def test_archives_of_numpy_hold_plain_arrays_only(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, w=np.array([{}, 1], object))
    with pytest.raises(UnsupportedError, match=r"a\.npz: w\.npy"):
        read_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"hello")
    with pytest.raises(BitstreamError, match=r"a\.npz: a\.npy"):
        read_arrays(path)
    path.write_bytes(npz(STATE)[:-30])
    with pytest.raises(BitstreamError, match=r"a\.npz: no \.npz file"):
        read_arrays(path)


def test_texts_in_archives_of_numpy_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "a.npz", words=np.array(["a", "bc"]), **STATE)
    network = read_arrays(tmp_path / "a.npz")
    assert (set(network.arrays), network.left_out) == (set(STATE), ("words",))
    vvc_nnr.compress(tmp_path / "a.npz")
    assert "a.npz: not part of the network, and not coded: words" in caplog.text


def test_an_array_of_numpy_is_a_tensor_called_as_its_file(tmp_path: Path) -> None:
    weight = np.asfortranarray(STATE["conv.weight"])
    for name in ("conv.weight.npy", "conv.weight.bin"):
        (tmp_path / name).write_bytes(b"")
        with (tmp_path / name).open("wb") as file:
            np.save(file, weight)
        found = read_arrays(tmp_path / name).arrays
        assert list(found) == ["conv.weight"]
        assert np.array_equal(np.asarray(found["conv.weight"]), weight)
    np.save(tmp_path / "x.npy", np.array([{}], object))
    with pytest.raises(UnsupportedError, match=r"x\.npy: an array of '\|O'"):
        read_arrays(tmp_path / "x.npy")


FOREIGN = {
    "x.tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "a TensorFlow Lite model, .*tf2onnx"),
    "lite": (b"\x1c\0\0\0TFL3" + bytes(64), "a TensorFlow Lite model, .*tf2onnx"),
    "x.ort": (b"\x1c\0\0\0ORTM" + bytes(64), "a model in ONNX Runtime's own format, .*give the .onnx"),
    "x.xml": (b'<?xml version="1.0"?>\n<net name="x" version="11">', "an OpenVINO model .*give the ONNX model"),
    "xml": (b'<?xml version="1.0"?>\n<net name="x" version="11">', "an OpenVINO model .*give the ONNX model"),
    "saved_model.pb": (b"\x08\x01\x12\x05abcde" + bytes(64), "a model of TensorFlow, .*tf2onnx"),
    "frozen.pb": (b"\n\x05\n\x01x" + bytes(64), "a model of TensorFlow, .*--graphdef"),
    "x.mlmodel": (b"\x08\x04\x12\x05abcde" + bytes(64), "a Core ML model, .*give the ONNX model"),
    "x.pdmodel": (b"\n\x05abc" + bytes(64), "a model of PaddlePaddle, .*paddle2onnx"),
    "x.pdparams": (b"\x80\x04\x95" + bytes(64), "a model of PaddlePaddle, .*paddle2onnx"),
    "x.engine": (b"ftrt" + bytes(64), "a TensorRT engine"),
    "x.param": (b"7767517\n3 3\n", "an ncnn model"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_kinds_that_are_not_read_are_named_with_the_way(tmp_path: Path, name: str) -> None:
    content, told = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_arrays, read_network_file):
        with pytest.raises(UnsupportedError, match=rf"{name}: is {told}"):
            read(tmp_path / name)


def test_kinds_that_are_folders_or_lie_beside_others(tmp_path: Path) -> None:
    (tmp_path / "x.mlpackage").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "x.bin").write_bytes(bytes(range(100)))
    (tmp_path / "x.xml").write_bytes(b"<net>")
    named = {"x.mlpackage": "a Core ML model", "saved": "a model of TensorFlow", "x.bin": "an OpenVINO model"}
    for name, told in named.items():
        for read in (read_arrays, read_network_file):
            with pytest.raises(UnsupportedError, match=f"{name}: is {told}"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.pb", "x.xml", "x.pdiparams", "x.engine", "x.mlmodel"])
def test_names_of_other_kinds_are_no_reason_to_refuse_content_that_is_read(tmp_path: Path, name: str) -> None:
    WRITERS["torch"](tmp_path / name)
    assert set(read_arrays(tmp_path / name).arrays) == set(STATE)


def test_onnx_models_may_be_called_pb(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(STATE["conv.weight"], "w")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    (tmp_path / "x.pb").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert list(read_arrays(tmp_path / "x.pb").arrays) == ["w"]


def test_checkpoints_in_an_archive_of_several_disks_are_damaged(tmp_path: Path) -> None:
    torch.save(as_torch(STATE), tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes().replace(b"data.pkl", b"data.pkx")  # so that torch refuses it first
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 2)
    (tmp_path / "x.pt").write_bytes(data[:-42] + locator + data[-22:])
    with pytest.raises(BitstreamError, match=r"x\.pt: no checkpoint of torch"):
        read_arrays(tmp_path / "x.pt")


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = torch.nn.LSTM(4, 4), torch.nn.Embedding(9, 4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [torch.nn.Linear, torch.nn.LSTM])
@pytest.mark.parametrize("is_inside", [False, True])
def test_quantised_modules_of_torch_are_called_so(tmp_path: Path, kind: Any, is_inside: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4)) if kind is torch.nn.Linear else Recurrent()
    quantised = torch.ao.quantization.quantize_dynamic(module, {kind}, torch.qint8)
    for each in (quantised, quantised.state_dict()):
        with pytest.raises(InputError, match="is of a quantised module"):
            vvc_nnr.compress(each)
    state = quantised.state_dict()
    torch.save({"state_dict": state} if is_inside else state, tmp_path / "x.pt")
    with pytest.raises(UnsupportedError, match=r"x\.pt: holds a quantised module"):
        read_arrays(tmp_path / "x.pt")


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, start in (("h5py", b"\x89HDF\r\n\x1a\n"), ("gguf", b"GGUF\x03\0\0\0")):
        monkeypatch.setitem(sys.modules, package, None)
        (tmp_path / "x.weights").write_bytes(start + bytes(64))
        with pytest.raises(InputError, match=f"need the package {package}: pip install {package}"):
            read_arrays(tmp_path / "x.weights")


def test_tensors_of_gguf_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tensor(name: str, kind: str, data: Any, shape: list[int]) -> Any:
        return types.SimpleNamespace(name=name, tensor_type=types.SimpleNamespace(name=kind), data=data, shape=shape)

    half = np.arange(6, dtype=np.uint16)
    tensors = [
        tensor("a", "F32", np.arange(6, dtype=np.float32).reshape(2, 3), [3, 2]),
        tensor("b", "BF16", half.view(np.uint8).reshape(2, 6), [3, 2]),
    ]
    reader = lambda _: types.SimpleNamespace(tensors=tensors)  # noqa: E731
    monkeypatch.setitem(sys.modules, "gguf", types.SimpleNamespace(GGUFReader=reader))
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    found = read_arrays(tmp_path / "x.gguf").arrays
    assert np.array_equal(np.asarray(found["a"]), np.arange(6).reshape(2, 3))
    assert isinstance(found["b"], FloatBits)
    assert np.array_equal(found["b"].bits, half.reshape(2, 3))
    tensors.append(tensor("c", "Q4_K", np.zeros(9, np.uint8), [256]))
    with pytest.raises(UnsupportedError, match="tensor 'c' is Q4_K"):
        read_arrays(tmp_path / "x.gguf")


def test_datasets_of_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["dense/kernel:0"] = STATE["conv.weight"]
        file["dense/note"] = "hello"
    network = read_arrays(tmp_path / "x.h5")
    assert (list(network.arrays), network.left_out) == (["dense/kernel:0"], ("dense/note",))
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["dense/none"] = h5py.Empty("f4")
    with pytest.raises(UnsupportedError, match=r"none\.h5: 'dense/none' is a dataset without values or shape"):
        read_arrays(tmp_path / "none.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["else"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(UnsupportedError, match="'else' is in another file"):
        read_arrays(tmp_path / "x.h5")


def test_hdf5_files_whose_addresses_are_beyond_them_are_damaged(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["dense/kernel"] = STATE["conv.weight"]
        file["dense/bias"] = STATE["conv.bias"]
    data = (tmp_path / "x.h5").read_bytes()
    refused = 0
    for place in range(0, 2048, 8):
        (tmp_path / "y.h5").write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        try:
            read_arrays(tmp_path / "y.h5")
        except (BitstreamError, UnsupportedError):
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("error", [OverflowError("far"), IndexError(), lzma.LZMAError("bad"), AssertionError("no")])
@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("x.npz", "zipfile.ZipFile.read"),
        ("x.keras", "zipfile.ZipFile.read"),
        ("x.h5", "h5py.Group.__getitem__"),
        ("x.gguf", "gguf.GGUFReader"),
        ("x.pt", "torch.load"),
        ("y.pt", "zipfile.ZipFile.testzip"),
        ("x.onnx", "onnx.numpy_helper.to_array"),
        ("x.safetensors", "safetensors.deserialize"),
    ],
)
def test_whatever_a_library_raises_over_damage_is_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str, error: Exception
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "gguf", types.SimpleNamespace(GGUFReader=None))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["dense/kernel"] = STATE["conv.weight"]
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(tmp_path / "x.h5", "model.weights.h5")
    (tmp_path / "x.npz").write_bytes(npz(STATE))
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    for file_name in ("x.pt", "y.pt"):
        torch.save(as_torch(STATE), tmp_path / file_name)
    save_safetensors(STATE, tmp_path / "x.safetensors")
    weight = onnx.numpy_helper.from_array(STATE["conv.weight"], "w")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [weight])), tmp_path / "x.onnx")
    monkeypatch.setattr(library, failing)
    with pytest.raises(BitstreamError, match=rf"{name.replace('.', '[.]')}: .*\w") as told:
        read_arrays(tmp_path / name)
    assert str(error) in str(told.value) or name == "x.pt"


@pytest.mark.parametrize(("network", "optimiser"), [("layers", "optimizer"), ("model_weights", "optimizer_weights")])
def test_weights_of_keras_without_their_optimiser(tmp_path: Path, network: str, optimiser: str) -> None:
    kernel = f"{network}/dense/vars/0"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file[kernel] = STATE["conv.weight"]
        file[f"{optimiser}/vars/1"] = np.ones(3)
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(tmp_path / "x.h5", "model.weights.h5")
    for name in ("x.h5", "x.keras"):
        found = read_arrays(tmp_path / name)
        assert found.left_out == (optimiser,)
        assert list(found.arrays) == [kernel]
        assert np.array_equal(np.asarray(found.arrays[kernel]), STATE["conv.weight"])


def test_archives_of_keras_without_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace())
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(BitstreamError, match=r"x\.bin: no archive of Keras with model\.weights\.h5"):
        read_arrays(tmp_path / "x.bin")


NESTED = {
    "nets": {"g": as_torch(STATE), "d": [{"w": torch.zeros(9)}, {"w": torch.ones(9)}]},
    "a.b": {"w": torch.ones(3)},
    "epoch": 3,
}


@pytest.mark.parametrize(
    ("key", "names"),
    [("nets.g", list(STATE)), ("nets.d.1", ["w"]), ("a.b", ["w"])],
)
def test_a_key_leads_to_the_state_dict(tmp_path: Path, key: str, names: list[str]) -> None:
    torch.save(NESTED, tmp_path / "x.ckpt")
    with pytest.raises(UnsupportedError, match=r"--key nets\.g.*--key nets\.d"):
        read_arrays(tmp_path / "x.ckpt")
    assert list(vvc_nnr.load_file(tmp_path / "x.ckpt", key=key)) == names
    for wrong in ("nets.x", "epoch", "nets", "nets.d.2"):
        with pytest.raises(InputError, match=f"under the key '{wrong}'"):
            vvc_nnr.load_file(tmp_path / "x.ckpt", key=wrong)
    save_safetensors(STATE, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="a key is for checkpoints of torch; this is a safetensors file"):
        vvc_nnr.load_file(tmp_path / "x.safetensors", key="a")


BESIDE = {
    "two maps deep": {"model": {"encoder": as_torch(STATE)}, "loss": torch.tensor(0.3)},
    "in a list": {"models": [as_torch(STATE)], "temperature": torch.tensor([0.07])},
    "a list of tensors": {"state_dict": {"scale": torch.ones(1), "weights": [torch.randn(8, 8)]}},
    "a tuple": {"scale": torch.ones(1), "packed": (torch.zeros(64, dtype=torch.int8), None)},
    "integers": {"quantised": {"q": torch.zeros(100, dtype=torch.uint8)}, "temperature": torch.tensor([1.0])},
}


@pytest.mark.parametrize("content", BESIDE)
def test_networks_that_lie_deeper_are_not_dropped(tmp_path: Path, content: str) -> None:
    torch.save(BESIDE[content], tmp_path / "x.pt")
    with pytest.raises(UnsupportedError, match=r"x\.pt: holds (tensors under|no tensor by name|a list)"):
        read_arrays(tmp_path / "x.pt")


def test_optimisers_and_random_states_may_be_larger_than_the_network(tmp_path: Path) -> None:
    state = {"w": torch.ones(4)}
    optimiser = {"state": {0: {"exp_avg": torch.ones(400)}}}
    for beside in ({"optimizer": optimiser}, {"optimizer_state_dict": optimiser}, {"rng_state": [torch.ones(5000)]}):
        for content in (state | beside, {"model_state": state, "step": 3} | beside, {"model": state} | beside):
            torch.save(content, tmp_path / "x.pt")
            if "model_state" in content:
                assert list(read_arrays(tmp_path / "x.pt", key="model_state").arrays) == ["w"]
            else:
                network = read_arrays(tmp_path / "x.pt")
                assert list(network.arrays) == ["w"]
                assert network.left_out == tuple(beside)


@pytest.mark.parametrize("n_header_bytes", [0x280, 0x480, 0x20400])
def test_safetensors_whose_length_of_header_looks_like_another_kind(n_header_bytes: int, tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(n_header_bytes)
    path = tmp_path / "w.safetensors"
    path.write_bytes(n_header_bytes.to_bytes(8, "little") + header + np.ones(2, np.float32).tobytes())
    assert read_network_file(path).tensors["w"].tolist() == [1, 1]


def test_prefixes_of_wrappers() -> None:
    names = ["module._orig_mod.a", "module._orig_mod.b"]
    assert common_prefix(names) == "module._orig_mod."
    assert common_prefix([*names, "c"]) == ""
    assert common_prefix([]) == ""
    network = NetworkArrays({name: np.zeros(2) for name in (*names, "c")}, {}, 0)
    assert list(without_prefix(network, "module._orig_mod.").arrays) == ["a", "b", "c"]
    with pytest.raises(InputError, match="no name begins with the prefix 'x'"):
        without_prefix(network, "x")
    with pytest.raises(InputError, match="two tensors would have one name"):
        without_prefix(NetworkArrays({"m.a": np.zeros(2), "a": np.zeros(2)}, {}, 0), "m.")


def test_limits_of_reading_follow_the_bytes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("vvc_nnr.options.DEFAULT_MAX_ELEMENTS", 1000)
    weights = {"w": RANDOM.normal(0, 0.1, (40, 50)).astype(np.float32)}
    assert vvc_nnr.decompress(vvc_nnr.compress(weights))["w"].shape == (40, 50)
    assert not caplog.records
    data = vvc_nnr.compress({"w": np.zeros((400, 500), np.float32)})
    assert "200000 values in" in caplog.text
    with pytest.raises(BitstreamError, match=r"200000 values; max_elements allows .* if you trust the file"):
        vvc_nnr.decompress(data)
    assert vvc_nnr.decompress(data, max_elements=200_000)["w"].shape == (400, 500)


@pytest.mark.parametrize("header_bytes", [0x0280, 0x0480, 0x020400])
def test_the_size_of_a_safetensors_header_may_begin_as_other_kinds_do(header_bytes: int) -> None:
    head = header_bytes.to_bytes(8, "little") + b'{"w": {"dtype": "F32"'
    assert file_kind(head, "x.safetensors") == file_kind(head, "x.pt") == "safetensors"


def test_an_archive_of_numpy_with_a_changed_byte_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, w=np.arange(9))
    data = bytearray(path.read_bytes())
    data[29] = 255
    path.write_bytes(data)
    with pytest.raises(BitstreamError, match=r"x\.npz: no \.npz file: \w"):
        read_arrays(path)


def test_names_of_files_stand_for_their_content(tmp_path: Path) -> None:
    base, new = {"w": np.ones((9, 9), np.float32)}, {"w": np.full((9, 9), 2, np.float32)}
    update, _ = vvc_nnr.compress_update(base, new)
    coded, original, path = tmp_path / "a.nnc", tmp_path / "a.safetensors", tmp_path / "u.nnc"
    path.write_bytes(update)
    coded.write_bytes(vvc_nnr.compress(base))
    save_safetensors(base, original)
    assert vvc_nnr.apply_update(base, str(path)).digest() == vvc_nnr.apply_update(base, update).digest()
    assert [each.mse for each in vvc_nnr.inspect(coded, str(original)).tensors] == [0.0]
    for read in (lambda data: vvc_nnr.apply_update(base, data), vvc_nnr.inspect, vvc_nnr.decompress):
        with pytest.raises(InputError, match="got NoneType; must be a coded stream"):
            read(None)
        for data in (original, original.read_bytes()):
            with pytest.raises(BitstreamError, match="is a safetensors file, no coded stream"):
                read(data)
    for option in ({"original": base}, {"bins": True}):
        with pytest.raises(UnsupportedError, match="not of an update"):
            vvc_nnr.inspect(update, **option)
    with pytest.raises(BitstreamError, match=r"u\.nnc: the update is for another .* needs the base and all updates"):
        vvc_nnr.apply_update(new, path)


@pytest.mark.parametrize("name", ["x.nnc", "x.safetensors", "x.pt", "x.onnx", "x.npz", "x"])
def test_an_empty_file_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BitstreamError, match=rf"{name}: .*is empty"):
        read_arrays(tmp_path / name)
