"""Checkpoints of torch: tensors in, tensors out, and nothing in them is run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vvc_nnr
from vvc_nnr.bitstream.number_formats import FloatBits
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.network_file import NetworkArrays, read_arrays, read_network_file, write_arrays


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_state_dicts_alone_and_inside_checkpoints(tmp_path: Path) -> None:
    state = {"b": torch.randn(2, 3), "a": torch.tensor(3, dtype=torch.int16), "h": torch.ones(2, dtype=torch.bfloat16)}
    for content in (state, {"state_dict": state, "epoch": 3}, {"model": {"params": state}, "optimizer": {"lr": 0.1}}):
        network = read_arrays(saved(tmp_path / "x.pt", content))
        assert list(network.arrays) == ["b", "a", "h"]
        half = network.arrays["h"]
        assert isinstance(half, FloatBits)
        assert half.bits.tolist() == [0x3F80] * 2
    assert network.left_out == ("optimizer",)
    assert read_arrays(saved(tmp_path / "y.pth", state | {"epoch": 3})).left_out == ("epoch",)


def test_a_usual_key_counts_whatever_lies_beside_it(tmp_path: Path) -> None:
    state = {"conv.weight": torch.randn(2, 3), "_extra_state": {"version": 1}}
    beside = {"epoch": 90, "best_acc1": torch.tensor(69.7), "rng": torch.zeros(5056, dtype=torch.uint8)}
    network = read_arrays(saved(tmp_path / "x.pth", beside | {"state_dict": state}))
    assert list(network.arrays) == ["conv.weight"]
    assert network.left_out == ("epoch", "best_acc1", "rng", "_extra_state")
    network = read_arrays(saved(tmp_path / "x.pth", {"params": state, "params_ema": {"a": torch.ones(2)}}))
    assert (list(network.arrays), network.left_out) == (["a"], ("params",))


def test_networks_under_keys_that_are_not_usual_are_not_dropped(tmp_path: Path) -> None:
    content = {"generator": {"w": torch.randn(2, 3)}, "step": torch.tensor(3)}
    with pytest.raises(UnsupportedError, match=r"x\.pt: holds tensors under 'generator'.*\(key, --key generator\)"):
        read_arrays(saved(tmp_path / "x.pt", content))
    average = {"w": torch.zeros(2), "ema": {"w": torch.zeros(2)}}
    assert read_arrays(saved(tmp_path / "x.pt", average)).left_out == ("ema",)


def test_a_network_beside_a_usual_key_is_not_lost(tmp_path: Path) -> None:
    content = {"conv.weight": torch.randn(4, 3, 3, 3), "params": {"lr": torch.tensor(0.1)}}
    with pytest.raises(UnsupportedError, match=r"x\.pt: holds more values beside 'params' than under it"):
        read_arrays(saved(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"w": torch.empty(4, 4, device="meta")}, "tensor 'w': has no values, it is on the device meta"),
        ({3: torch.zeros(2)}, "name of a tensor must be text, got 3"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "tensor 'w': .* complex torch tensors cannot be coded: make"),
    ],
    ids=str,
)
def test_tensors_that_cannot_be_coded_are_named_with_their_file(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"odd\.pt: .*{words}"):
        read_arrays(saved(tmp_path / "odd.pt", content))


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for data, words in (
        (b"", "x.pt: is empty"),
        (b"hello" * 100, r"\(what `torch.save` writes\): it begins with b.hellohel"),
    ):
        path.write_bytes(data)
        with pytest.raises(BitstreamError, match=words):
            read_arrays(path)


def test_cut_checkpoints_and_other_files_hold_no_code(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.randn(9, 9), "b": torch.ones(9)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    others = [b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x1f\x8b" + bytes(50), *(whole[:n] for n in range(1, len(whole), 7))]
    for data in others:
        path.write_bytes(data)
        with pytest.raises(BitstreamError, match=r"x\.pt: (no checkpoint of torch|damaged)") as error:
            read_arrays(path)
        assert "Error" not in str(error.value).removesuffix("copy the file again").rpartition("damaged or cut off")[0]
    torch.save({"w": torch.nn.Linear(2, 2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedError, match="holds code or objects"):
        read_arrays(path)


def test_what_is_wrong_with_an_archive_is_said_without_places_in_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.randn(9, 9)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BitstreamError, match="its archive has no end"):
        read_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(BitstreamError, match=r"hello\.txt") as error:
        read_arrays(path)
    assert "enforce" not in str(error.value)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.onnx", "x.nnc", "x.npz", "x"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    for read in (read_arrays, read_network_file, vvc_nnr.decompress):
        with pytest.raises(BitstreamError, match=f"{name}: is a Git LFS pointer"):
            read(path)


def test_the_content_decides_which_reader_is_used(tmp_path: Path) -> None:
    for name in ("x.ckpt", "pytorch_model.bin", "x.pth.tar", "x.safetensors", "x"):
        path = saved(tmp_path / name, {"w": torch.zeros(2)})
        assert list(read_arrays(path).arrays) == list(read_network_file(path).tensors) == ["w"]
    (tmp_path / "x.weights").write_bytes(b"hello, world")
    for read in (read_arrays, read_network_file):
        with pytest.raises(
            BitstreamError, match=r"x\.weights: no network file that is read: must be \.nnc, .* neither"
        ):
            read(tmp_path / "x.weights")
    with pytest.raises(InputError, match=r"x\.bin: .*; change the name"):
        write_arrays(tmp_path / "x.bin", NetworkArrays({}, {}, 0))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (open, ("/nonexistent/bomb", "w"))


@pytest.mark.parametrize("content", [Bomb(), {"w": torch.zeros(2), "x": Bomb()}, torch.nn.Linear(2, 2)])
def test_code_is_refused_and_not_run(tmp_path: Path, content: Any) -> None:
    path = saved(tmp_path / "bomb.pt", content)
    with pytest.raises(UnsupportedError, match=r"bomb\.pt: holds code or objects"):
        read_arrays(path)


def test_a_plain_pickle_with_code(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises((UnsupportedError, BitstreamError), match=r"plain\.pth"):
        read_arrays(path)


def test_files_that_are_no_state_dicts(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="holds a list"):
        read_arrays(saved(tmp_path / "x.pt", [torch.zeros(2)]))
    with pytest.raises(UnsupportedError, match="no tensor by name"):
        read_arrays(saved(tmp_path / "x.pt", {"epoch": 3}))
    nested = {"epoch": 3, "models": {name: {"w": torch.zeros(2)} for name in ("generator", "critic")}}
    with pytest.raises(
        UnsupportedError, match=r"under \['models'\]\['generator'\], \['models'\]\['critic'\]: save the"
    ):
        read_arrays(saved(tmp_path / "x.pt", nested))
    many = {"all": {f"n{i}": {"w": torch.zeros(2)} for i in range(9)}}
    with pytest.raises(UnsupportedError, match=r"\['all'\]\['n4'\] and more: save the state dict of one network"):
        read_arrays(saved(tmp_path / "x.pt", many))
    with pytest.raises(InputError, match="no such file"):
        read_arrays(tmp_path / "missing.pt")


def test_damage(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.randn(100)})
    data = path.read_bytes()
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        with pytest.raises((BitstreamError, UnsupportedError), match=r"x\.pt"):
            read_arrays(path)


def test_written_checkpoints_keep_formats_and_ties(tmp_path: Path) -> None:
    shared = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays: Any = {
        "a": shared,
        "b": shared,
        "h": FloatBits(np.array([0x3F80], np.uint16), "bfloat16"),
        "d": np.array(0.1),
        "t": np.array([True]),
    }
    write_arrays(tmp_path / "x.pt", NetworkArrays(arrays, {}, 0))
    found = torch.load(tmp_path / "x.pt", weights_only=True)
    assert list(found) == list(arrays)
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert [t.dtype for t in found.values()][2:] == [torch.bfloat16, torch.float64, torch.bool]
    with pytest.raises(InputError, match="no graph"):
        write_arrays(tmp_path / "x.onnx", NetworkArrays(arrays, {}, 0))
    write_arrays(tmp_path / "x.safetensors", NetworkArrays(arrays, {"k": "v"}, 0))
    again = read_arrays(tmp_path / "x.safetensors")
    half = again.arrays["h"]
    assert isinstance(half, FloatBits)
    assert again.metadata == {"k": "v"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", ["n", "state_dict", "other"])
def test_nested_tensors_are_refused(key: str, tmp_path: Path) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(5)])
    content = {key: nested} if key == "n" else {key: {"w": torch.ones(3), "n": nested}}
    with pytest.raises((InputError, UnsupportedError), match=r"x\.pt: "):
        read_arrays(saved(tmp_path / "x.pt", content))


def test_few_values_shown_as_very_many_are_refused(tmp_path: Path) -> None:
    one, many = torch.ones(1), torch.ones(1 << 12)
    with pytest.raises(UnsupportedError, match="repeated or overlapping values"):
        read_arrays(saved(tmp_path / "x.pt", {"w": one.expand(1 << 40)}))
    views = {f"w{i}": many[: (1 << 12) - i].expand(1 << 12, -1) for i in range(20)}
    with pytest.raises(UnsupportedError, match="repeated or overlapping values"):
        read_arrays(saved(tmp_path / "x.pt", views))
    assert read_arrays(saved(tmp_path / "x.pt", {"w": one.expand(30, 40)})).arrays["w"].shape == (30, 40)


def changed_byte(path: Path, marker: bytes, offset: int = 0) -> None:
    """Changes one byte of a file, counted from some bytes that occur in it once."""
    content = bytearray(path.read_bytes())
    assert content.count(marker) == 1
    content[content.index(marker) + offset] ^= 0x40
    path.write_bytes(content)


def test_a_changed_byte_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    state = {"w": torch.arange(1, 65, dtype=torch.float32), "b": torch.full((3,), 7.0)}
    for name, tensor in state.items():
        path = saved(tmp_path / f"{name}.pt", {"state_dict": state, "epoch": 3})
        changed_byte(path, tensor.numpy().tobytes(), offset=5)
        assert not torch.equal(torch.load(path)["state_dict"][name], tensor)  # torch itself reads another value
        with pytest.raises(BitstreamError, match=rf"{name}\.pt: damaged: the record .*another checksum.*copy"):
            read_arrays(path)


def test_a_record_that_is_packed_otherwise_is_refused_by_its_method(tmp_path: Path) -> None:
    """LZMA's header asks for as much memory as it likes; torch does not look at records that it does not need."""
    path = saved(tmp_path / "x.pt", {"w": torch.arange(8, dtype=torch.float32)})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as records:
        records.writestr("x/note", bytes(99))
    assert torch.load(path)["w"].shape == (8,)
    with pytest.raises(UnsupportedError, match=r"x\.pt: the record x/note is packed by method 14; must be stored"):
        read_arrays(path)


def test_checkpoints_without_checksums_are_read(tmp_path: Path) -> None:
    state = {"w": torch.arange(8, dtype=torch.float32)}
    torch.serialization.set_crc32_options(False)
    try:
        unchecked = saved(tmp_path / "unchecked.pt", state)
    finally:
        torch.serialization.set_crc32_options(True)
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for path in (unchecked, tmp_path / "old.pt"):
        np.testing.assert_array_equal(read_arrays(path).arrays["w"], state["w"].numpy())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export, about torch's own
def test_exported_programs_are_named(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.rand(1, 2),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=r"holds a program of torch.export: save `model.state_dict\(\)` instead"):
        read_network_file(tmp_path / "net.pt2")


def test_what_lies_beside_a_key_is_left_out(tmp_path: Path) -> None:
    nets = {"small": {"w": torch.ones(2)}, "large": {"w": torch.ones(3), "step": 4}}
    path = saved(tmp_path / "x.pt", {"nets": nets, "optimizer": {"lr": 0.1}, "epoch": 3})
    assert read_arrays(path, key="nets.large").left_out == ("optimizer", "epoch", "nets.small", "step")
    assert read_arrays(path, key="nets.small").left_out == ("optimizer", "epoch", "nets.large")
