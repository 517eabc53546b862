"""Kinds of network files that are not read, told by their content or name, and the way from each to a kind that is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from vvc_nnr.errors import UnsupportedError

# Of flat buffers, whose mark stands behind their first offset.
_MARK_AT = 4
_MADE_FROM = "give the ONNX model or checkpoint that it was made from"
_TFLITE = (
    "a TensorFlow Lite model",
    "make it ONNX (pip install tf2onnx; python -m tf2onnx.convert --tflite x.tflite --output x.onnx), or give the "
    "network that it was made from",
)
_TENSORFLOW = (
    "a model of TensorFlow",
    "make it ONNX (pip install tf2onnx; python -m tf2onnx.convert --saved-model FOLDER --output x.onnx, or --graphdef "
    "x.pb with --inputs and --outputs)",
)
_CHECKPOINT = (
    "a checkpoint of TensorFlow",
    "make its SavedModel ONNX (pip install tf2onnx; python -m tf2onnx.convert --saved-model FOLDER --output x.onnx), "
    "or write its arrays by numpy.savez (tf.train.load_checkpoint)",
)
_PADDLE = (
    "a model of PaddlePaddle",
    "make it ONNX (pip install paddle2onnx; paddle2onnx --model_dir FOLDER --model_filename x.pdmodel "
    "--params_filename x.pdiparams --save_file x.onnx)",
)
_OPENVINO = ("an OpenVINO model (.xml and .bin)", _MADE_FROM)
_ORT = ("a model in ONNX Runtime's own format", "give the .onnx that it was made from")
_CORE_ML = ("a Core ML model", _MADE_FROM)
_NCNN = ("an ncnn model (.param and .bin)", _MADE_FROM)
_CAFFE = ("a Caffe model", "convert it to ONNX, or give the network that it was made from")
_TENSORRT = ("a TensorRT engine", _MADE_FROM)
_FLAX = ("a checkpoint of Flax", "read it by flax.serialization and write it by safetensors.flax.save_file")
_BY_SUFFIX: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys((".tflite", ".lite"), _TFLITE),
    **dict.fromkeys((".pb", ".pbtxt"), _TENSORFLOW),
    **dict.fromkeys((".index", ".meta", ".data-00000-of-00001"), _CHECKPOINT),
    **dict.fromkeys((".pdmodel", ".pdiparams", ".pdparams", ".pdopt"), _PADDLE),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".mlmodelc"), _CORE_ML),
    **dict.fromkeys((".caffemodel", ".prototxt"), _CAFFE),
    **dict.fromkeys((".engine", ".plan", ".trt"), _TENSORRT),
    **{".xml": _OPENVINO, ".ort": _ORT, ".param": _NCNN, ".mnn": ("an MNN model", _MADE_FROM), ".msgpack": _FLAX},
}
_BESIDE_BIN: Mapping[str, tuple[str, str]] = {".xml": _OPENVINO, ".param": _NCNN}
"""What lies beside a .bin file that is no checkpoint of torch."""


def check_content(data: bytes) -> None:
    """Raises UnsupportedError if the first bytes of a file tell a kind that is not read.

    Args:
        data: The file, or its first bytes.
    """
    for mark, kind in ((b"TFL3", _TFLITE), (b"ORTM", _ORT)):
        if data[_MARK_AT:].startswith(mark):
            _refuse(kind)
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<?xml", b"<net ")) and b"<net" in start:
        _refuse(_OPENVINO)


def check_name(path: Path | str) -> None:
    """Raises UnsupportedError if the name of a file whose first bytes tell nothing is of a kind that is not read."""
    suffix = Path(path).suffix.lower()
    if suffix in _BY_SUFFIX:
        _refuse(_BY_SUFFIX[suffix])
    for beside, kind in _BESIDE_BIN.items() if suffix == ".bin" else ():
        if os.path.isfile(Path(path).with_suffix(beside)):
            _refuse(kind)


def check_folder(path: Path | str) -> None:
    """Raises UnsupportedError if a path is a folder that is a network of a kind that is not read."""
    if os.path.isdir(path):
        check_name(path)
        if os.path.isfile(Path(path, "saved_model.pb")):
            _refuse(_TENSORFLOW)


def may_be_onnx(data: bytes, path: Path | str) -> bool:
    """Whether bytes that begin as those of an ONNX model do are not of another kind that does, by the file's name.

    ONNX models may be called .pb; their first number is the version of ONNX's format, 3 and more for years. That of a
    SavedModel of TensorFlow is 1.
    """
    suffix = Path(path).suffix.lower()
    return suffix not in _BY_SUFFIX or (suffix == ".pb" and data[1:2] > b"\x01")


def is_of_paddle(path: Path | str) -> bool:
    """Whether a file is PaddlePaddle's by its name, whose pickles begin as torch's do."""
    return _BY_SUFFIX.get(Path(path).suffix.lower()) is _PADDLE


def _refuse(kind: tuple[str, str]) -> NoReturn:
    name, way = kind
    raise UnsupportedError(f"is {name}, which is not read: {way}")
