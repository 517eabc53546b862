"""Pickles made to do harm, as torch checkpoints and as CIFAR-10 batches: nothing that they name is ever run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.training.loop import _content
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.cifar import load_cifar10

MARKER = "ran"
TOUCH = f"touch {MARKER}"
PROTOCOL = pickle.PROTO + b"\x02"


def text(value: str) -> bytes:
    return pickle.BINUNICODE + len(value.encode()).to_bytes(4, "little") + value.encode()


def named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def number(value: int) -> bytes:
    return pickle.BININT + value.to_bytes(4, "little", signed=True)


CALL = text(TOUCH) + pickle.TUPLE1
ORDERED = named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
HARMFUL: dict[str, bytes] = {
    "reduce": named("os", "system") + CALL + pickle.REDUCE,
    "reduce of posix": named("posix", "system") + CALL + pickle.REDUCE,
    "reduce of eval": named("builtins", "eval")
    + text(f"__import__('os').system('{TOUCH}')")
    + pickle.TUPLE1
    + pickle.REDUCE,
    "reduce of getattr": named("builtins", "getattr")
    + named("os", "system")
    + text("__call__")
    + pickle.TUPLE2
    + pickle.REDUCE,
    "stack global": text("os") + text("system") + pickle.STACK_GLOBAL + CALL + pickle.REDUCE,
    "inst": pickle.MARK + text(TOUCH) + pickle.INST + b"os\nsystem\n",
    "obj": pickle.MARK + named("os", "system") + text(TOUCH) + pickle.OBJ,
    "newobj": named("subprocess", "Popen") + text(TOUCH) + pickle.TUPLE1 + pickle.NEWOBJ,
    "newobj_ex": named("subprocess", "Popen") + CALL + pickle.EMPTY_DICT + pickle.NEWOBJ_EX,
    "build": ORDERED + pickle.EMPTY_DICT + text("__class__") + named("os", "system") + pickle.SETITEM + pickle.BUILD,
    "build of a module": named("collections", "OrderedDict")
    + pickle.EMPTY_DICT
    + text("fromkeys")
    + named("os", "system")
    + pickle.SETITEM
    + pickle.BUILD,
    "dotted name": text("torch") + text("serialization.os.system") + pickle.STACK_GLOBAL + CALL + pickle.REDUCE,
    "torch's own door": named("torch.serialization", "os.system") + CALL + pickle.REDUCE,
    "torch hub": named("torch.hub", "load") + CALL + pickle.REDUCE,
    "numpy": named("numpy", "load") + text("/etc/passwd") + pickle.TUPLE1 + pickle.REDUCE,
    "numpy testing": named("numpy.testing._private.utils", "runstring")
    + text(TOUCH)
    + pickle.EMPTY_DICT
    + pickle.TUPLE2
    + pickle.REDUCE,
    "codecs": named("_codecs", "lookup") + text("x") + pickle.TUPLE1 + pickle.REDUCE,
    "codec of its own": named("_codecs", "encode")
    + text("x" * 100)
    + text("zip_codec")
    + pickle.TUPLE2
    + pickle.REDUCE,
    "extension": pickle.EXT1 + b"\x01",
    "persistent": pickle.PERSID + b"os.system\n",
    "binary persistent": text("storage") + pickle.BINPERSID,
    "memo bomb": pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f",
    "memo bomb in text": pickle.NONE + pickle.PUT + b"99999999999\n",
    "memo that is not there": pickle.LONG_BINGET + b"\xff\xff\xff\x7f",
    "deep list": pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999,
    "deep tuple": pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000,
    "deep dict": (pickle.EMPTY_DICT + text("k")) * 50_000 + pickle.NONE + pickle.SETITEM * 50_000,
    "billion laughs": pickle.NONE
    + b"".join(pickle.BINPUT + bytes([i]) + (pickle.BINGET + bytes([i])) * 2 + pickle.TUPLE3 for i in range(60)),
    "list in itself": pickle.EMPTY_LIST + pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.APPEND,
    "dict in itself": pickle.EMPTY_DICT
    + pickle.BINPUT
    + b"\0"
    + text("state_dict")
    + pickle.BINGET
    + b"\0"
    + pickle.SETITEM,
    "huge int": pickle.LONG + b"9" * 100_000 + b"L\n",
    "huge long": pickle.LONG4 + (1 << 20).to_bytes(4, "little") + b"\x7f" * (1 << 20),
    "negative long": pickle.LONG4 + b"\xff\xff\xff\xff",
    "claimed bytes": pickle.BINBYTES8 + b"\xff" * 7 + b"\x7f",
    "claimed text": pickle.BINUNICODE8 + b"\xff" * 7 + b"\x7f",
    "claimed bytearray": pickle.BYTEARRAY8 + b"\xff" * 7 + b"\x7f",
    "claimed frame": pickle.FRAME + b"\xff" * 7 + b"\x7f",
    "empty stack": pickle.APPEND,
    "unhashable key": pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEM,
    "no stop": b"",
}


@pytest.fixture(params=HARMFUL)
def harmful(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(tmp_path)
    end = b"" if request.param == "no stop" else pickle.STOP
    return PROTOCOL + HARMFUL[request.param] + end


def as_value(body: bytes, key: str) -> bytes:
    """A pickle of a map with one entry, which is what another pickle makes."""
    return (
        PROTOCOL
        + pickle.EMPTY_DICT
        + text(key)
        + body[len(PROTOCOL) :][: -len(pickle.STOP)]
        + pickle.SETITEM
        + pickle.STOP
    )


def as_zip(data: bytes) -> bytes:
    """What `torch.save` writes, with another pickle in it."""
    out, made = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.ones(3)}, made)
    with zipfile.ZipFile(made) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, data if name.endswith("data.pkl") else archive.read(name))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "plain"])
@pytest.mark.parametrize("is_value", [False, True])
def test_checkpoints_run_nothing(harmful: bytes, kind: str, is_value: bool, tmp_path: Path) -> None:
    data = as_value(harmful, "state_dict") if is_value else harmful
    path = tmp_path / "x.pt"
    path.write_bytes(as_zip(data) if kind == "zip" else data)
    with pytest.raises((BitstreamError, UnsupportedError)) as caught:
        read_checkpoint(path)
    check(caught.value)
    try:
        _content(path, torch.device("cpu"))
    except InputError as error:
        check(error)


@pytest.mark.parametrize("key", [None, "data", "labels"])
def test_cifar_batches_run_nothing(harmful: bytes, key: str | None, tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(harmful if key is None else as_value(harmful, key))
    with pytest.raises((BitstreamError, UnsupportedError)) as caught:
        load_cifar10(path)
    check(caught.value)


def check(error: Any) -> None:
    assert not os.path.exists(MARKER)
    assert len(str(error)) < 1000
    assert str(error).isprintable()
