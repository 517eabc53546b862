"""Every reader of bytes that nobody vouches for: what is read, how it is called, and the errors that it may end in.

A reader that is new to the package gets an entry here.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import av
import h5py
import numpy as np
import onnx
import torch
from hostile_mutations import (
    Mutator,
    cells_damaged,
    damaged,
    gzip_damaged,
    header_damaged,
    json_damaged,
    message_damaged,
    zip_damaged,
)
from onnx import helper, numpy_helper
from PIL import Image

from vvc_nnr import BitstreamError, InputError, UnsupportedError, VvcNnrError
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.image_formats import decode_jpeg, encode_jpeg
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.nnpf import NnpfActivation, NnpfCharacteristics
from vvc_nnr.codec.programs import parse_encoder_log
from vvc_nnr.codec.sei import SeiMessage, insert_sei, remove_sei, sei_messages
from vvc_nnr.codec.sequence import EncoderRun, EncodingCache, VvcOptions
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.stream_filters import FilterDecisions, FilterSettings, filters_by_picture, parse_filter_message
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.experiments.cli.networks.inspect import inspect_arrays, inspect_plain
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, ZooRow
from vvc_nnr.experiments.records.settings import read_last_run
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows
from vvc_nnr.experiments.records.viewer_pictures import INDEX, PICTURES_FOLDER, read_index
from vvc_nnr.experiments.tables.stored import (
    IMAGE_NETWORKS,
    IMAGE_ROWS,
    IMAGE_SETTINGS,
    TOOL_NETWORKS,
    ZOO_ROWS,
    ZOO_SETTINGS,
    read_images,
    read_tools,
    read_zoo,
)
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.joint_coding import JointEncoder
from vvc_nnr.filters.decisions.sequence_file import (
    DecisionReader,
    MadeWith,
    encode_sequence,
    joint_sequence,
    parse_sequence,
)
from vvc_nnr.filters.decisions.wiener import MAX_COEFFICIENT, SHIFTS, WienerFilter, n_classes_of, terms_of
from vvc_nnr.filters.networks.autoencoder import Autoencoder, CodedRun, decode_pictures, encode_pictures
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.networks.told_qp import parse_rule
from vvc_nnr.filters.picture_file import (
    PictureFile,
    PictureRun,
    decode_picture_file,
    encode_picture_file,
    network_id,
)
from vvc_nnr.filters.training.loop import TrainOptions, _load, _State
from vvc_nnr.filters.training.optimiser import Optimiser
from vvc_nnr.filters.training.pairs import PairSet
from vvc_nnr.filters.training.run import noted_pictures
from vvc_nnr.filters.zoo import LoadedNetwork, load_network, network_metadata, network_tensors, own_codec
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.onnx import read_onnx
from vvc_nnr.model.safetensors import float_bytes, read_network, uniform_bytes
from vvc_nnr.network_file import kind_of_file, read_arrays, read_network_file, with_folded_norms, write_arrays
from vvc_nnr.npy import map_npy, parse_npy
from vvc_nnr.options import CompressOptions
from vvc_nnr.sequences.catalogue import ctc_class_of, find_ctc_sequence
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import read_image, read_image_size
from vvc_nnr.sequences.jpeg import payload_bytes
from vvc_nnr.sequences.source import open_source
from vvc_nnr.sequences.yuv import format_from_name, parse_fps

UNTRUSTED = (BitstreamError, UnsupportedError)
FILES = (BitstreamError, UnsupportedError, InputError)
SEED_OF_SEEDS = 20261


@dataclass(frozen=True, slots=True)
class Reader:
    """Something that reads bytes that nobody vouches for.

    Attributes:
        name: How the campaign calls it.
        seeds: Makes the bytes that are damaged, all of them in order.
        read: Reads bytes, with a folder for files that are needed on the way; raises AssertionError if it gives what
            the format does not allow.
        errors: What it may raise.
        tokens: Texts and numbers of the format.
        inside: Damages what is inside: half of the bytes are made by it.
        longest_s: Processor time that no bytes may take.
        may_reserve: Whether a library speaks of the memory that a file claims before it looks how much is there: torch
            reserves it for its old files and does not touch it, FFmpeg says that it cannot be had.
        may_print: Whether it may write to the terminal: libtiff does past Python, data sets say what they leave
            out, videos that their rate varies.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    errors: tuple[type[VvcNnrError], ...] = FILES
    tokens: tuple[bytes, ...] = ()
    inside: Mutator | None = None
    longest_s: float = 2.0
    may_print: bool = False
    may_reserve: bool = False


def _random() -> np.random.Generator:
    return np.random.default_rng(SEED_OF_SEEDS)


def _file(suffix: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Reads the bytes as a file of that suffix."""

    def reading(data: bytes, folder: Path) -> object:
        path = folder / f"x{suffix}"
        path.write_bytes(data)
        return read(path)

    return reading


# Networks


def _tensors() -> dict[str, np.ndarray[Any, Any]]:
    random = _random()
    return {
        "a.weight": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "a.bias": random.normal(size=4).astype(np.float32),
        "half": random.normal(size=9).astype(np.float16),
        "n": np.array(3),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 2), np.float32),
    }


def _safetensors_seeds() -> list[bytes]:
    metadata = {"architecture": "x", "note": "a\u0301"}
    uniform = [uniform_bytes(_tensors(), metadata, bits) for bits in (8, 16, 5)]
    by_row = [uniform_bytes(_tensors(), metadata, bits, ranges="row") for bits in (8, 16, 5)]
    return [float_bytes(_tensors(), metadata), float_bytes({}, {}), *uniform, *by_row]


def _inspected(path: Path) -> object:
    network = read_arrays(path, max_elements=50_000, n_threads=1)
    if kind_of_file(path) == "safetensors":
        inspect_plain(path, {})
    else:
        inspect_arrays(network, path, {}, CompressOptions(n_threads=1))
    return read_network_file(path), network


def _read_safetensors(path: Path) -> object:
    _inspected(path)
    network = read_network(path)
    assert all(isinstance(text, str) for each in network.metadata.items() for text in each)
    return network


def _torch_seeds(*, is_zip: bool) -> list[bytes]:
    weights = {name: torch.from_numpy(array) for name, array in _tensors().items()}
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    contents = [
        weights,
        layer.state_dict(),
        {"state_dict": layer.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3, "args": ["x", (1, 2.5)]},
        {"tied": weights["half"], "also": weights["half"], "b": torch.ones(3, dtype=torch.bfloat16)},
        {
            "wide": torch.ones(1).expand(4, 5),
            "view": torch.arange(12.0).view(3, 4).T,
            "p": torch.nn.Parameter(weights["half"]),
        },
    ]
    return [_saved(content, is_zip=is_zip) for content in contents]


def _saved(content: object, *, is_zip: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=is_zip)
    return out.getvalue()


PICKLE_TOKENS = (
    *(pickle.GLOBAL + b"os\nsystem\n", pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.INST),
    *(
        pickle.OBJ,
        pickle.EXT1,
        pickle.PERSID,
        pickle.BINPERSID,
        pickle.MARK,
        pickle.TUPLE,
        pickle.DICT,
        pickle.SETITEMS,
    ),
    *(pickle.MEMOIZE, pickle.LONG_BINPUT + b"\xff\xff\xff\x7f", pickle.LONG_BINGET + b"\xff\xff\xff\x7f", pickle.STOP),
    *(pickle.LONG4 + b"\xff\xff\xff\x7f", pickle.LONG1 + b"\xff", pickle.BINBYTES8 + b"\xff" * 7 + b"\x7f"),
    *(pickle.FRAME + b"\xff" * 8, pickle.EMPTY_LIST * 3000 + pickle.APPEND * 2999, pickle.BINUNICODE + b"\xff" * 4),
    *(
        pickle.INT + b"9" * 6000 + b"\n",
        pickle.BININT + b"\xff\xff\xff\x7f",
        pickle.NEWOBJ_EX,
        pickle.BYTEARRAY8 + b"\xff" * 8,
    ),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n"),
    *(
        b"ccollections\nOrderedDict\n",
        b"K\x00",
        b"J\x00\x00\x00\x80",
        b"\x85",
        b"\x86",
        b"\x87",
        b"0",
        b"(",
        b"t",
        b"}",
        b"]",
    ),
)
"""Opcodes that call, build, import, number their memory, nest, and claim sizes."""


def _onnx_model(nodes: list[Any], arrays: Mapping[str, Any], **more: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", more.get("opset", 17))])


def _onnx_models() -> list[Any]:
    random = _random()
    norm = {name: np.abs(random.normal(size=4)).astype(np.float32) + 0.1 for name in ("g", "b", "m", "v")}
    conv = {"w": random.normal(size=(4, 3, 3, 3)).astype(np.float32), **norm}
    node = helper.make_node
    plain = _onnx_model(
        [node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]), node("BatchNormalization", ["c", *"gbmv"], ["y"])], conv
    )
    gemm = _onnx_model(
        [
            node("Constant", [], ["k"], value=numpy_helper.from_array(random.normal(size=(8, 4)).astype(np.float64))),
            node("Reshape", ["k", "shape"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[1, 0]),
            node("Gemm", ["x", "t", "b"], ["q"], transB=1, beta=0.5),
            node("BatchNormalization", ["q", *"gbmv"], ["y"], epsilon=1e-3),
        ],
        {"shape": np.array([0, -1]), "b": random.normal(size=4), **norm},
    )
    branch = helper.make_graph(
        [node("Constant", [], ["z"], value=numpy_helper.from_array(np.arange(9.0)))],
        "then",
        [],
        [helper.make_tensor_value_info("z", 11, [9])],
    )
    inner = _onnx_model(
        [node("If", ["x"], ["y"], then_branch=branch, else_branch=branch), node("Div", ["y", "d"], ["e"])],
        {"d": np.arange(1, 17, dtype=np.float16).reshape(1, 16), "i": np.arange(9, dtype=np.int64)},
    )
    inner.metadata_props.add(key="author", value="me")
    groups = _onnx_model(
        [node("ConvTranspose", ["x", "w"], ["c"], group=2), node("BatchNormalization", ["c", *"gbmv"], ["y"])],
        {"w": random.normal(size=(4, 2, 2, 2)).astype(np.float32), **norm},
    )
    return [plain, gemm, inner, groups]


def _onnx_seeds() -> list[bytes]:
    packed = _onnx_model([helper.make_node("DequantizeLinear", ["i4", "s"], ["y"])], {"s": np.ones((), np.float32)})
    for kind, n_bytes in (("INT4", 70), ("UINT4", 70), ("FLOAT4E2M1", 70)):
        if kind in onnx.TensorProto.DataType.keys():  # noqa: SIM118 - it is no map
            number = onnx.TensorProto.DataType.Value(kind)
            packed.graph.initializer.add(name=kind.lower(), data_type=number, dims=[10, 14], raw_data=bytes(n_bytes))
    return [model.SerializeToString() for model in (*_onnx_models(), packed)]


def _read_onnx(path: Path) -> object:
    _inspected(path)
    network = read_arrays(path)
    write_arrays(path.with_name("again.onnx"), network)
    assert list(read_onnx(path.with_name("again.onnx")).arrays) == list(network.arrays)
    return with_folded_norms(network)


def _external_seeds() -> list[bytes]:
    (model, *_) = _onnx_models()
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, "x.data", offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
    return [model.SerializeToString()]


def _read_external(data: bytes, folder: Path) -> object:
    (folder / "x.data").write_bytes(bytes(432))
    path = folder / "x.onnx"
    path.write_bytes(data)
    return read_onnx(path)


def _coded_seeds() -> list[bytes]:
    """Coded networks with all that a manifest can say, and with graphs both ways."""
    options = CompressOptions(n_threads=1)
    tied = _tensors()
    tied["head"] = tied["a.weight"]
    found = [compress_arrays(tied, options, metadata={"architecture": "x"})]
    repeated = np.tile(np.arange(9, dtype=np.float32) / 7, 60)
    exact = tied | {"half": tied["a.weight"].astype(np.float16), "few": repeated, "all": np.arange(700) * 12345}
    found.append(compress_arrays(exact, CompressOptions(n_threads=1, lossless=True)))
    for model in _onnx_models()[:2]:
        model_file = io.BytesIO(model.SerializeToString())
        parts = _taken_apart(model_file.getvalue())
        for carriage in ("onnx", "manifest"):
            graph = Graph(parts.graph, carriage)  # type: ignore[arg-type]
            found.append(compress_arrays(parts.arrays, options, roles=parts.roles, graph=graph))
    return found


def _taken_apart(data: bytes) -> Any:
    from vvc_nnr.model.onnx import take_apart

    model = onnx.ModelProto()
    model.ParseFromString(data)
    return take_apart(model, len(data))


def _read_coded(data: bytes, folder: Path) -> object:
    from hostile_streams import _sealed

    path = folder / "x.nnc"
    path.write_bytes(_sealed(data) if len(data) % 2 else data)
    network = read_arrays(path, max_elements=50_000, n_threads=1)
    if network.graph is not None:
        write_arrays(folder / "x.onnx", network)
        with_folded_norms(network)
    write_arrays(folder / "x.safetensors", network)
    return network


def _npz_seeds() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **_tensors())
        found.append(buffer.getvalue())
    return found


def _hdf5_seeds() -> list[bytes]:
    """Datasets in groups, as they are and in chunks, by both layouts of the format."""
    found = []
    for version in ("earliest", "latest"):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=version) as file:
            for place, (name, array) in enumerate(_tensors().items()):
                is_packed = bool(place % 2) and array.ndim > 0
                file.create_dataset(name.replace(".", "/"), data=array, compression="gzip" if is_packed else None)
            file["note"] = "hello"
            file["again"] = h5py.SoftLink("/note")
        found.append(buffer.getvalue())
    return found


def _keras_seeds() -> list[bytes]:
    found = []
    for weights in _hdf5_seeds():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", weights)
        found.append(buffer.getvalue())
    return found


def _shard_seeds() -> list[bytes]:
    return [json.dumps({"metadata": {}, "weight_map": dict.fromkeys(_tensors(), "x.safetensors")}).encode()]


def _read_shards(data: bytes, folder: Path) -> object:
    (folder / "x.safetensors").write_bytes(float_bytes(_tensors(), {}))
    path = folder / "x.index.json"
    path.write_bytes(data)
    return read_arrays(path)


def _zoo_seeds() -> list[bytes]:
    torch.manual_seed(0)
    networks = [InLoopFilter(8, 1).eval(), Autoencoder(4, n_fine=8, n_coarse=8, n_blocks=1).eval()]
    found = [float_bytes(network_tensors(each), network_metadata(each)) for each in networks]
    return [*found, uniform_bytes(network_tensors(networks[0]), network_metadata(networks[0]), 8)]


# Training


_OPTIONS = TrainOptions(n_steps=9)


@cache
def _small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


def _checkpoint_seeds() -> list[bytes]:
    network = copy.deepcopy(_small_network())
    optimiser = Optimiser("adamw", network, 1e-4)
    network(torch.ones(1, 1, 5, 5)).sum().backward()
    optimiser.step(1e-3)
    content = {
        "step": 4,
        "network": network.state_dict(),
        "average": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "options": asdict(_OPTIONS),
        "identity": {"pictures": {"a": "00"}},
    }
    return [_saved(content)]


def _read_checkpoint(path: Path) -> object:
    network = copy.deepcopy(_small_network())
    state = _State(0, Optimiser("adamw", network, 1e-4), {})
    _load(path, network, state, _OPTIONS, {"pictures": {"a": "00"}}, torch.device("cpu"))
    own = network.state_dict()
    assert state.average.keys() == own.keys()
    assert all(state.average[name].shape == value.shape for name, value in own.items())
    assert 0 <= state.step <= _OPTIONS.n_steps
    network(torch.ones(1, 1, 5, 5)).sum().backward()
    state.optimiser.step(1e-3)
    assert list(state.optimiser.state_dict()[0]["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    return state


def _npy_seeds() -> list[bytes]:
    random = _random()
    packed = random.integers(0, 1024, (6, 8, 9)).astype(np.uint16)
    arrays = [packed, np.asfortranarray(packed), packed.astype(">u2"), packed[:, :0], np.array(["cat", "dog"])]
    found = []
    for array in arrays:
        out = io.BytesIO()
        np.save(out, array)
        found.append(out.getvalue())
    out = io.BytesIO()
    np.savez(out, packed)
    return [*found, out.getvalue()]


NPY_TOKENS = (
    b"'descr': '|O'",
    b"'fortran_order': True",
    b"(99999999999, 9)",
    b"()",
    b"(-1,)",
    b"[('a', '<u2')]",
    b"<M8[s]",
)


def _read_npy(data: bytes, folder: Path) -> object:
    target = folder / "0000_a"
    target.mkdir(exist_ok=True)
    for name in ("original.npy", "all_qp22.npy"):
        (target / name).write_bytes(data)
    mapped = map_npy(target / "original.npy")
    parsed = parse_npy(data)
    assert mapped.shape == parsed.shape
    assert mapped.tobytes() == parsed.tobytes()
    pairs = PairSet(folder, "all", [22], ["0000_a"])
    pairs.mean_squared_errors()
    return pairs.whole(0, 0)


# Decisions and latents


_FORMAT = VideoFormat(300, 200, 10, "420")
_MOST_PICTURES = 20
"""Of decisions that are coded together a head may claim any number; who filters reads as many as there are pictures."""


def _random_decisions(seed: int) -> Decisions:
    random = np.random.default_rng(seed)
    block_size = int(random.choice(BLOCK_SIZES))
    grid = block_grid(_FORMAT.width, _FORMAT.height, block_size)
    strengths = tuple(int(n) for n in random.integers(1, MAX_STRENGTH + 1, 3))
    maps = tuple(random.integers(0, len(SCALES), grid).astype(np.uint8) for _ in range(3))
    return Decisions(block_size, strengths, maps, (_wiener(0, random), None, _wiener(2, random)))


def _wiener(component: int, random: np.random.Generator) -> WienerFilter:
    sets = tuple(i // 2 for i in range(n_classes_of(component)))
    shape = (sets[-1] + 1, len(terms_of(component)))
    coefficients = random.integers(-MAX_COEFFICIENT, MAX_COEFFICIENT + 1, shape)
    return WienerFilter(int(random.choice(SHIFTS)), 0, sets, coefficients.astype(np.int16))


def _decision_seeds() -> list[bytes]:
    plain = Decisions(
        BLOCK_SIZES[0],
        (0, 0, 0),
        tuple(np.full(block_grid(300, 200, BLOCK_SIZES[0]), UNIT_CHOICE, np.uint8) for _ in range(3)),
        (None, None, None),
    )
    return [encode_sequence([_random_decisions(seed) for seed in range(n)], _FORMAT) for n in (1, 3)] + [
        encode_sequence([plain], _FORMAT),
        encode_sequence([plain], _FORMAT, MadeWith(bytes(range(32)), 37, "int8")),
        encode_sequence([], _FORMAT),
        *(_joint_decisions(n, rules) for n, rules in ((1, ()), (3, ("slice", "first-5", "27")), (0, ()))),
    ]


def _joint_decisions(n_pictures: int, rules: Sequence[str]) -> bytes:
    encoder = JointEncoder(_FORMAT, 1 + len(rules))
    for seed in range(n_pictures):
        encoder.code(replace(_random_decisions(seed), qp_candidate=seed % (1 + len(rules))))
    made_with = MadeWith(bytes(range(32)), None, "float32")
    return joint_sequence(encoder.finish(), n_pictures, _FORMAT, made_with, [parse_rule(text) for text in rules])


def _resealed(random: Random, data: bytes) -> bytes:
    """A file of decisions with a byte changed, or cut, and the right checksum."""
    body = bytearray(data[:-4])
    if body:
        match random.randrange(3):
            case 0:
                del body[random.randrange(len(body)) :]
            case 1:
                body += random.randbytes(3)
            case _:
                body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    return bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "big")


def _read_decisions(data: bytes, folder: Path) -> object:
    sequence = parse_sequence(data)
    format = VideoFormat(sequence.width, sequence.height, 10, sequence.chroma_format)
    reader = DecisionReader(sequence)
    pictures = [reader.picture(format) for _ in range(min(sequence.n_pictures, _MOST_PICTURES))]
    # Not the same bytes: padding bits of a head may have any value under a checksum that was made anew.
    if sequence.n_joint is None:
        assert parse_sequence(encode_sequence(pictures, format)).payloads == sequence.payloads
    return pictures


@cache
def _autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    network = Autoencoder(4, n_fine=8, n_coarse=8, n_blocks=1)
    weights = np.exp(-np.abs(np.arange(-127, 128)) / np.linspace(1, 9, 4)[:, None])
    tables = np.floor(weights / weights.sum(axis=1, keepdims=True) * (65536 - 255)).astype(np.int64) + 1
    tables[:, 127] += 65536 - tables.sum(axis=1)
    network.frequencies.copy_(torch.from_numpy(tables.astype(np.uint16)))
    return network.eval()


def _latent_seeds() -> list[bytes]:
    noise = _random().integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    return [run.data for run in encode_pictures(_autoencoder(), noise)]


def _read_latent(data: bytes, folder: Path) -> object:
    return decode_pictures(_autoencoder(), [CodedRun(3, data)], 16, 16)


@cache
def _picture_networks() -> tuple[LoadedNetwork, ...]:
    """Small autoencoders with a prior that follows the picture, of two operating points, and with a factorised one."""
    torch.manual_seed(0)
    context = ContextAutoencoder(7, n_fine=8, n_coarse=8, n_blocks=1, n_context=12, n_rates=2).eval()
    networks = {"context": context, "factorised": _autoencoder()}
    return tuple(replace(own_codec(name, each), network=each) for name, each in networks.items())


def _picture_file_seeds() -> list[bytes]:
    noise = _random().integers(0, 256, (12, 16, 3)).astype(np.uint8)
    some = [noise, noise // 16, np.zeros_like(noise), noise[:5, :3], *5 * [noise[:4, 4:8]]]
    context, factorised = _picture_networks()
    found = [encode_picture_file(context, some, rate=rate) for rate in (0, 1)]
    return [*found, encode_picture_file(factorised, some), encode_picture_file(context, [])]


def _picture_file_damaged(random: Random, data: bytes) -> bytes:
    """A picture file with the right checksum: with other sizes, points or bytes of its pictures, or any damage."""
    if random.random() < 0.5:
        body = damaged(random, data[:-4], [], ())
        return body + zlib.crc32(body).to_bytes(4, "big")
    file = PictureFile.from_bytes(data)
    runs = list(file.runs) or [PictureRun(4, 4, 0, 1, b"x")]
    place = random.randrange(len(runs))
    side = random.choice((1, 3, 17, 300, 4096, 16384, 1 << 24))
    changes = (
        {"width": side},
        {"height": side},
        {"width": side, "height": side},
        {"rate": random.choice((0, 1, 2, 1 << 30))},
        {"n_pictures": random.choice((0, 1, 2, 4, 100, 256, 257, 1 << 24))},
        {"data": damaged(random, runs[place].data, [], ())},
        {"data": bytes(random.randrange(2000))},
        {"data": b"\xff" * random.randrange(2000)},
    )
    for change in random.sample(changes, random.choice((1, 1, 2))):
        runs[place] = replace(runs[place], **change)  # type: ignore[arg-type]
    return replace(file, runs=tuple(runs * random.choice((1, 1, 1, 4)))).to_bytes()


def _read_picture_file(data: bytes, folder: Path) -> object:
    file = PictureFile.from_bytes(data)
    networks = {network_id(each.network): each for each in _picture_networks()}
    network = networks.get(file.network_id, _picture_networks()[0])  # refused by name
    found = decode_picture_file(data, network)
    assert [each.shape for each in found] == [(r.height, r.width, 3) for r in file.runs for _ in range(r.n_pictures)]
    return found


# Streams and pictures


def _frames(count: int, width: int = 48, height: int = 32, bit_depth: int = 8) -> list[Frame]:
    format = VideoFormat(width, height, bit_depth)
    ramp = np.add.outer(np.arange(height), np.arange(width))
    shapes = format.plane_shapes
    return [
        Frame(tuple((ramp[:h, :w] * (2 + i)).astype(format.dtype) % 200 for h, w in shapes), bit_depth, "420")
        for i in range(count)
    ]


def _vvc_seeds() -> list[bytes]:
    options = (VvcOptions(37, "faster", "all", n_threads=1), VvcOptions(30, "faster", "none", n_threads=1))
    return [VvcEncoder(each).encode(_frames(2)).stream for each in options]


NAL_TOKENS = (
    b"\x00\x00\x01",
    b"\x00\x00\x00\x01",
    b"\x00\x00\x03",
    b"\x00\x79",
    b"\x00\x81",
    b"\x00\xc1\x84",
    b"\x00\xb9\x84\x31",
)


def _read_nal(data: bytes, folder: Path) -> object:
    units = picture_units(data)
    assert all(0 <= unit.begin_bytes <= unit.offset_bytes < len(data) for unit in units)
    known = read_vvc_stream(data)
    assert all(-48 <= qp <= 63 for qp in picture_qps(known))
    return units, known


@cache
def _filter_messages() -> tuple[SeiMessage, ...]:
    """Characteristics and activations with as many fields as there can be."""
    common = {"property_present_flag": True, "purpose": 255, "inp_format_idc": 1, "out_format_idc": 1}
    full = NnpfCharacteristics(
        **common,
        num_input_pics_minus1=2,
        input_pic_filtering_flag=(True, False, True),
        interpolated_pics=(1, 2),
        spatial_extrapolation_offsets=(1, -2, 3, -4),
        auxiliary_inp_idc=7,
        inband_prompt_flag=True,
        prompt="sharper",
        inp_order_idc=3,
        out_order_idc=3,
        padding_type=4,
        complexity_info_present_flag=True,
        metadata_extension_num_bits=9,
        payload_byte=bytes(range(40)),
    )
    elsewhere = NnpfCharacteristics(mode_idc=1, tag_uri="tag:iso.org,2023:15938-17", uri="https://example.com/x.nnc")
    running = NnpfActivation(persistence_flag=True, output_flag=(True,) * 9, prompt_update_flag=True, prompt="x")
    settings = FilterSettings(filter_id=0, qp=37, precision="int8", network_sha256=bytes(32), output_md5=bytes(16))
    own = settings.message(), FilterDecisions(0, b"decisions").message()
    return full.message(), elsewhere.message(), *own, running.message(), NnpfActivation(cancel_flag=True).message()


def _sei_seeds() -> list[bytes]:
    stream = _vvc_seeds()[0]
    return [stream, insert_sei(stream, _filter_messages()), insert_sei(stream, _filter_messages(), suffix=True)]


def _payload_damaged(random: Random, data: bytes) -> bytes:
    """Damage inside of a filter's message, in a unit that fits."""
    from hostile_mutations import damaged

    message = random.choice(_filter_messages())
    payload = damaged(random, message.payload, (), (b"\xff", b"\x80", b"\x00"))
    return insert_sei(data, [SeiMessage(message.payload_type, payload)], at="once")


def _read_sei(data: bytes, folder: Path) -> object:
    found = sei_messages(data)
    parsed = []
    for each in found:
        try:
            message = parse_filter_message(each.message)
        except UNTRUSTED:
            continue
        if message is not None:
            assert message.message() == each.message, "a filter's message that does not come back"
            parsed.append(message)
    mark = SeiMessage(5, b"sixteen bytes of" + b"some mark")
    assert remove_sei(insert_sei(data, [mark], at="picture"), lambda each: each == mark) == data
    filters_by_picture(read_vvc_stream(data))
    return parsed


def _read_vvc(data: bytes, folder: Path) -> object:
    return [frame.format(30) for frame in decode_vvc(data)]


def _y4m_seeds() -> list[bytes]:
    found = []
    for head in (
        b"W4 H2 F30:1 Ip A1:1 C420mpeg2",
        b"W3 H3 C444",
        b"W2 H2 F30000:1001 Cmono",
        b"W4 H2 C420p10",
    ):
        size = {b"W4": 12, b"W3": 27, b"W2": 4}[head[:2]] * (2 if head.endswith(b"p10") else 1)
        pictures = b"".join(b"FRAME\n" + bytes([i, 0] * (size // 2) + [0] * (size % 2)) for i in range(3))
        found.append(b"YUV4MPEG2 " + head + b"\n" + pictures)
    return found


def _y4m_tokens() -> tuple[bytes, ...]:
    words = (
        b"C420p9 C422 C420paldv C411 Cmono16 It Im I? A0:0 A4:3 F0:0 F1:0 W0 W-1 W99999999 H65535 XCOLORRANGE=FULL X"
    )
    return (*words.split(), b"FRAME\n", b"FRAME Ixyz\n", b"YUV4MPEG2", b" ", b"\n")


def _read_pictures(path: Path) -> object:
    source = open_source(path)
    frames = list(source.frames(count=5))
    format = source.format
    assert all((frame.width, frame.height) == (format.width, format.height) for frame in frames)
    assert all((each.bit_depth, each.chroma_format) == (format.bit_depth, format.chroma_format) for each in frames)
    return frames


def _name_seeds() -> list[bytes]:
    names = (
        "BasketballPass_416x240_50fps_8bit_420",
        "x_8x8_29.97_10bit_444",
        "RaceHorses_832x480_30",
        "a_4x2_yuv420p10le",
        "Kimono1_1920x1080_24",
        "foreman_4x2",
        "x-4x2-60hz-16b-400",
    )
    return [name.encode() for name in names]


def _read_name(data: bytes, folder: Path) -> object:
    name = data.decode("utf-8", "surrogateescape").replace("/", "_").replace("\0", "_")[:200]
    found = format_from_name(f"{name}.yuv")
    assert found.fps is None or found.fps > 0
    find_ctc_sequence(f"{name}.yuv")
    ctc_class_of(f"{name}.yuv", found.width or 4, found.height or 4)
    path = folder / f"{name}.yuv"
    try:
        path.write_bytes(bytes(12))
    except OSError:
        return None
    try:
        return open_source(path)
    finally:
        path.unlink()


def _read_rate(data: bytes, folder: Path) -> object:
    rate = parse_fps(data.decode("utf-8", "surrogateescape"))
    assert isinstance(rate, Fraction)
    assert rate > 0
    return rate


def _cifar_batch(*, protocol: int, as_text: bool) -> bytes:
    random = _random()
    data, labels = random.integers(0, 256, (3, 3072)).astype(np.uint8), [1, 2, 9]
    keys = ("data", "labels", "batch_label") if as_text else (b"data", b"labels", b"batch_label")
    return pickle.dumps(dict(zip(keys, (data, labels, b"x"), strict=True)), protocol)


def _cifar_seeds() -> list[bytes]:
    return [_cifar_batch(protocol=p, as_text=p > 2) for p in (0, 2, 4, 5)]


def _cifar_zip_seeds() -> list[bytes]:
    out, archive = io.BytesIO(), io.BytesIO()
    png = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(png, "png")
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("train/cat/1.png", "test/dog/2.png"):
            file.writestr(name, png.getvalue())
    np.savez(out, images=np.zeros((2, 32, 32, 3), np.uint8), labels=np.array(["cat", "dog"]))
    batches = io.BytesIO()
    with zipfile.ZipFile(batches, "w") as file:
        file.writestr("data_batch_1.bin", bytes([3]) + bytes(3072))
    return [archive.getvalue(), out.getvalue(), batches.getvalue()]


def _cifar_tar_seeds() -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("cifar/data_batch_1", "cifar/test_batch"):
            info = tarfile.TarInfo(name)
            data = _cifar_batch(protocol=2, as_text=False)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [gzip.compress(out.getvalue(), 1, mtime=0)]


def _read_cifar(path: Path) -> object:
    found = load_cifar10(path)
    assert found.images.dtype == np.uint8
    assert found.images.shape[1:] == (32, 32, 3)
    if found.labels is not None:
        assert len(found.images) == len(found.labels)
        assert found.labels.min(initial=0) >= 0
        assert found.labels.max(initial=0) <= 9
    return found


def _read_any_zip(data: bytes, folder: Path) -> object:
    return _file(".npz" if b"images.npy" in data else ".zip", _read_cifar)(data, folder)


def _image_seeds() -> list[bytes]:
    random = _random()
    rgb = Image.fromarray(random.integers(0, 256, (9, 11, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    saved = []
    for image, kind, more in (
        (rgb, "png", {"exif": exif}),
        (rgb.convert("P"), "png", {}),
        (rgb.convert("LA"), "png", {}),
        (rgb, "jpeg", {"exif": exif}),
        (rgb.convert("CMYK"), "jpeg", {"progressive": True}),
        (rgb, "webp", {}),
        (rgb, "webp", {"lossless": True, "exif": exif}),
        (rgb, "bmp", {}),
        (rgb, "tiff", {}),
        (rgb, "tiff", {"compression": "tiff_lzw"}),
        (rgb.convert("L"), "tiff", {"exif": exif}),
        (rgb, "ppm", {}),
        (rgb.convert("1"), "png", {}),
        (rgb.convert("I;16"), "png", {}),
    ):
        out = io.BytesIO()
        image.save(out, kind, **more)
        saved.append(out.getvalue())
    return saved


IMAGE_TOKENS = (
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"iCCP",
    b"eXIf",
    b"acTL",
    b"fcTL",
    b"Exif\0\0",
    b"\xff\xd8",
    b"\xff\xda",
    b"\xff\xc4",
    b"\xff\xdb",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"WEBP",
    b"VP8L",
    b"VP8X",
    b"BM",
    b"P6",
    b"P5",
    b"P3",
    b"P7",
)


def _read_image(path: Path) -> object:
    width, height = read_image_size(path)
    image = read_image(path)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    return image


def _jpeg_seeds() -> list[bytes]:
    rgb = _random().integers(0, 256, (16, 24, 3)).astype(np.uint8)
    return [encode_jpeg(rgb, quality) for quality in (10, 90)]


def _read_jpeg(data: bytes, folder: Path) -> object:
    assert 0 <= payload_bytes(data) <= len(data)
    return decode_jpeg(data)


def _video_seeds() -> list[bytes]:
    found = []
    for container, codec in (
        ("matroska", "mpeg4"),
        ("mp4", "mpeg4"),
        ("avi", "mjpeg"),
        ("matroska", "ffv1"),
        ("mpegts", "mpeg2video"),
    ):
        out = io.BytesIO()
        with av.open(out, "w", format=container) as file:
            stream = file.add_stream(codec, 25)
            stream.width, stream.height = 32, 32
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(3):
                picture = av.VideoFrame(32, 32, "yuv420p")
                for plane in picture.planes:
                    plane.update(bytes([40 * i]) * plane.buffer_size)
                for packet in stream.encode(picture):
                    file.mux(packet)
            for packet in stream.encode():
                file.mux(packet)
        found.append(out.getvalue())
    return found


VIDEO_TOKENS = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"trak",
    b"stsz",
    b"stco",
    b"avc1",
    b"mp4v",
    b"V_MPEG4/ISO/ASP",
    b"V_FFV1",
    b"RIFF",
    b"AVI ",
    b"strh",
    b"\x1aE\xdf\xa3",
    b"\x00\x00\x01\xb3",
    b"\x47",
)


# What experiments leave


def _rows_of(row_type: type[Any], rows: list[Any]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tsv"
        with RowWriter(
            path, row_type, {"version": "1", "psnr_peak": "vtm", "averaging": "y", "rate": "z", "seeds": "0"}
        ) as out:
            out.append(rows)
        return path.read_bytes()


_SHA = "0" * 16


def _tool_rows() -> list[ToolRow]:
    scores = (40.0, 41.5, None, 0.9, 1.0, None, 0.9, None, None, 1.0, 1.0)
    place = ("a\tb", "D", 0, 416, 240, 10)
    rows = []
    for qp in (22, 27, 32, 37):
        rows.append(ToolRow(*place, qp, "none", "codec", "", "none", "", 1000 - qp, 0, *scores))
        rows.append(ToolRow(*place, qp, "all", "codec", "", "none", "", 900 - qp, 0, *scores))
        for weights in ("original", "uniform8"):
            rows.append(ToolRow(*place, qp, "all", "full", "n", weights, _SHA, 900 - qp, 0, *scores))
            rows.append(ToolRow(*place, qp, "all", "wiener", "n", weights, _SHA, 900 - qp, 8, *scores))
    return rows


def _network_rows() -> list[NetworkRow]:
    shared = ("all", "float32", 4000, 4000, 1000, 4.5)
    return [NetworkRow("n", weights, _SHA, *shared) for weights in ("original", "uniform8")]


def _row_seeds() -> list[bytes]:
    zoo = ZooRow("alexnet", "vvc_nnr", -20, None, "w", "", 10, 40, 9, 1.5, 0.1, None, *[None] * 7, "")
    return [
        _rows_of(ToolRow, _tool_rows()),
        _rows_of(ImageRow, [ImageRow("i", "cnn-ae", "n", "original", _SHA, 10, 0.5, float("inf"), 1.0, None)]),
        _rows_of(NetworkRow, _network_rows()),
        _rows_of(ZooRow, [zoo]),
    ]


def _read_rows(data: bytes, folder: Path) -> object:
    path = folder / "x.tsv"
    path.write_bytes(data)
    kind = next(
        (kind for kind in (ToolRow, ImageRow, NetworkRow, ZooRow) if f"{_columns(kind)}\n".encode() in data), ToolRow
    )
    table = read_rows(path, kind)  # type: ignore[type-var]
    (folder / "again.tsv").unlink(missing_ok=True)
    with RowWriter(folder / "again.tsv", kind, table.header) as out:  # type: ignore[type-var]
        out.append(table.rows)
    assert read_rows(folder / "again.tsv", kind).rows == table.rows  # type: ignore[type-var]
    return table


def _columns(kind: type[Any]) -> str:
    return "\t".join(kind.__dataclass_fields__)


_SETTINGS = {
    "settings": {"qps": [22, 27, 32, 37], "max_pictures": None, "interpolation": "pchip", "ways": ["full", "wiener"]},
    "provenance": {"version": "1", "date": "2026-01-01"},
    "inputs": {"a\tb": "00"},
    "shown": ["a\tb"],
}


def _settings_seeds() -> list[bytes]:
    return [json.dumps(_SETTINGS).encode(), json.dumps({"settings": {}, "provenance": {}}).encode()]


def _read_settings(path: Path) -> object:
    found = read_last_run(path)
    assert found.shown is None or all(isinstance(name, str) for name in found.shown)
    return found


class _Results:
    """A folder of results whose settings or rows are damaged; tables, which take long, are made once for each content.

    One in eight has networks with two kinds of weights; the others have one, which takes a fourth of the time.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def seeds(self) -> list[bytes]:
        """Rows, and settings of the small folder."""
        return [*_few_rows()[:1] * 3, _row_seeds_once()[0], *[json.dumps(_SETTINGS).encode()] * 4]

    def read(self, data: bytes, folder: Path) -> object:
        """Reads the folder and makes all tables of it."""
        is_rows = not data.lstrip().startswith(b"{")
        rows, networks = _few_rows()
        (folder / "tool_by_tool.tsv").write_bytes(data if is_rows else rows)
        (folder / "tool_by_tool.json").write_bytes(json.dumps(_SETTINGS).encode() if is_rows else data)
        (folder / TOOL_NETWORKS).write_bytes(_row_seeds_once()[2] if b"uniform8" in data else networks)
        found = read_tools(folder)
        if repr(found) in self._known:
            return found
        tables = found.tables()
        self._known.add(repr(found))
        return tables


@cache
def _row_seeds_once() -> list[bytes]:
    return _row_seeds()


@cache
def _few_rows() -> tuple[bytes, bytes]:
    """Rows and networks as those of `_row_seeds`, without a second kind of weights."""
    rows = [row for row in _tool_rows() if row.weights != "uniform8"]
    return _rows_of(ToolRow, rows), _rows_of(NetworkRow, _network_rows()[:1])


_RESULTS = _Results()


_OTHER_SETTINGS = {
    "formats": {"formats": ["jpeg", "webp"], "max_pictures": None},
    "order": {"order": ["alexnet", "other"], "absent": {"x": "no file"}, "peer": False},
}


def _other_settings_seeds() -> list[bytes]:
    return [json.dumps(_SETTINGS | {"settings": settings}).encode() for settings in _OTHER_SETTINGS.values()]


def _read_other_results(data: bytes, folder: Path) -> object:
    """A folder of results whose settings are damaged, of images and networks."""
    _, images, networks, zoo = _row_seeds_once()
    for name, content in ((IMAGE_ROWS, images), (IMAGE_NETWORKS, networks), (ZOO_ROWS, zoo)):
        (folder / name).write_bytes(content)
    for name in (IMAGE_SETTINGS, ZOO_SETTINGS):
        (folder / name).write_bytes(data)
    return read_images(folder), read_zoo(folder).tables()


def _rows_or_json(random: Random, data: bytes) -> bytes:
    return (json_damaged if data.lstrip().startswith(b"{") else cells_damaged)(random, data)


def _index_seeds() -> list[bytes]:
    entry = {
        "sequence": "s",
        "qp": 37,
        "network": "n",
        "picture": 0,
        "width": 8,
        "height": 8,
        "files": {"original": "o.png", "decoded": "d.png", "filtered": "f.png"},
        "psnr_y_db": {"decoded": 31.5, "filtered": "inf"},
    }
    return [json.dumps([entry, entry]).encode()]


def _read_index(data: bytes, folder: Path) -> object:
    inside = folder / PICTURES_FOLDER
    inside.mkdir(exist_ok=True)
    for name in ("o.png", "d.png", "f.png"):
        (inside / name).touch()
    (inside / INDEX).write_bytes(data)
    found = read_index(folder)
    assert all(path.parent == inside for entry in found for path in entry.files)
    return found


_CACHED = EncoderRun(b"stream" * 9, "POC 0 log\n", 1.5, 0.5)
_KEY = "ab" * 20


def _cache_seeds() -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        EncodingCache(Path(folder)).put(_KEY, _CACHED)
        return [(Path(folder) / _KEY[:2] / f"{_KEY}.json").read_bytes()]


def _read_cache(data: bytes, folder: Path) -> object:
    entries = EncodingCache(folder)
    entries.put(_KEY, _CACHED)
    (folder / _KEY[:2] / f"{_KEY}.json").write_bytes(data)
    found = entries.get(_KEY)
    assert found is None or (found.stream, found.log) == (_CACHED.stream, _CACHED.log)
    assert found is None or 0 <= found.encode_s < float("inf")
    return found


def _log_seeds() -> list[bytes]:
    lines = (
        "POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 )     398392 bits [Y 36.6308 dB    U 40.1 dB ]",
        "POC    0 TId: 0 ( I-SLICE, nQP 37 QP 37 )     398392 bits [Y 36.6308 dB ]",
        "POC     0 TId: 0 (  IDR_N_LP, I-SLICE, QP 32)            23320 bits [Y 30.7334 dB ]",
    )
    return ["\n".join(lines).encode()]


def _read_log(data: bytes, folder: Path) -> object:
    return parse_encoder_log(data.decode("utf-8", "replace"))


def _json_seeds() -> list[bytes]:
    return [*_settings_seeds(), *_index_seeds(), b'["faster", "fast"]', b'{"a": 1e5, "b": [null, true, -0.5]}']


def _read_json(data: bytes, folder: Path) -> object:
    found = parse_json(data)
    json.dumps(found, allow_nan=False)
    return repr(found)


def _digest_seeds() -> list[bytes]:
    return [json.dumps({"a": "0" * 16, "b": "1" * 16}).encode()]


_JSON_TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"\\ud800",
    b"[" * 1000,
)
_ZIP_TOKENS = (
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"PK\x06\x06",
    b"\x63\x00",
    b"\x09\x00",
    b"\x0c\x00",
    b"\x0e\x00",
)


def _token_damaged(tokens: tuple[bytes, ...]) -> Mutator:
    """Any damage, with tokens of a format, for what is inside of another."""
    from hostile_mutations import damaged

    return lambda random, data: damaged(random, data, (), tokens)


_pickle_damaged = _token_damaged(PICKLE_TOKENS)
_png_in_zip = _token_damaged((*NPY_TOKENS, *IMAGE_TOKENS))

READERS: tuple[Reader, ...] = (
    Reader(
        "safetensors", _safetensors_seeds, _file(".safetensors", _read_safetensors), FILES, _JSON_TOKENS, header_damaged
    ),
    Reader(
        "torch-zip",
        partial(_torch_seeds, is_zip=True),
        _file(".pt", _inspected),
        FILES,
        _ZIP_TOKENS,
        zip_damaged(_pickle_damaged),
    ),
    Reader(
        "torch-pickle",
        partial(_torch_seeds, is_zip=False),
        _file(".pth", _inspected),
        FILES,
        PICKLE_TOKENS,
        may_reserve=True,
    ),
    Reader(
        "onnx",
        _onnx_seeds,
        _file(".onnx", _read_onnx),
        FILES,
        (b"Conv", b"Gemm", b"", b"BatchNormalization", b"ai.onnx"),
        message_damaged(onnx.ModelProto),
    ),
    Reader(
        "onnx-external",
        _external_seeds,
        _read_external,
        FILES,
        (b"location", b"offset", b"length", b"../x", b"/etc/passwd", b"."),
        message_damaged(onnx.ModelProto),
    ),
    Reader("nnc", _coded_seeds, _read_coded, FILES),
    Reader("zoo", _zoo_seeds, _file(".safetensors", load_network), FILES, _JSON_TOKENS, header_damaged),
    Reader(
        "checkpoint",
        _checkpoint_seeds,
        _file(".ckpt", _read_checkpoint),
        (InputError,),
        _ZIP_TOKENS,
        zip_damaged(_pickle_damaged),
    ),
    Reader("npz", _npz_seeds, _file(".npz", read_arrays), FILES, NPY_TOKENS),
    Reader("hdf5", _hdf5_seeds, _file(".h5", read_arrays), FILES, (b"TREE", b"SNOD", b"HEAP", b"OHDR", b"FRHP")),
    Reader("keras", _keras_seeds, _file(".keras", read_arrays), FILES, _ZIP_TOKENS),
    Reader("shards", _shard_seeds, _read_shards, FILES, (b"weight_map", b"../x", b"/etc/passwd", b".", b"[]")),
    Reader("npy", _npy_seeds, _read_npy, FILES, NPY_TOKENS),
    Reader("decisions", _decision_seeds, _read_decisions, UNTRUSTED, (), _resealed),
    Reader("latents", _latent_seeds, _read_latent, UNTRUSTED),
    Reader(
        "picture-file", _picture_file_seeds, _read_picture_file, FILES, (b"VNAE",), _picture_file_damaged, longest_s=1.0
    ),
    Reader("nal", _vvc_seeds, _read_nal, UNTRUSTED, NAL_TOKENS),
    Reader("sei", _sei_seeds, _read_sei, UNTRUSTED, NAL_TOKENS, _payload_damaged),
    Reader("vvc", _vvc_seeds, _read_vvc, UNTRUSTED, NAL_TOKENS, longest_s=10.0),
    Reader("y4m", _y4m_seeds, _file(".y4m", _read_pictures), FILES, _y4m_tokens()),
    Reader(
        "yuv-names",
        _name_seeds,
        _read_name,
        FILES,
        tuple(b"_ 8x8 99999x99999 0x0 10bit 99bit 444 411 0fps 1e9fps nv12 p010le".split()),
    ),
    Reader(
        "rates",
        lambda: [b"50", b"29.97", b"30000/1001"],
        _read_rate,
        (InputError,),
        (b"/", b".", b"e", b"_", b"-", b" "),
    ),
    Reader("cifar-pickle", _cifar_seeds, _file("", _read_cifar), FILES, PICKLE_TOKENS),
    Reader("cifar-zip", _cifar_zip_seeds, _read_any_zip, FILES, _ZIP_TOKENS, zip_damaged(_png_in_zip), may_print=True),
    Reader(
        "cifar-tar",
        _cifar_tar_seeds,
        _file(".tar.gz", _read_cifar),
        FILES,
        (b"ustar", b"././@LongLink", b"path="),
        gzip_damaged(_pickle_damaged),
        may_print=True,
    ),
    Reader("images", _image_seeds, _file(".png", _read_image), FILES, IMAGE_TOKENS, may_print=True),
    Reader("jpeg", _jpeg_seeds, _read_jpeg, UNTRUSTED, IMAGE_TOKENS),
    Reader(
        "video",
        _video_seeds,
        _file(".mkv", _read_pictures),
        FILES,
        VIDEO_TOKENS,
        longest_s=10.0,
        may_reserve=True,
        may_print=True,
    ),
    Reader("rows", _row_seeds, _read_rows, (InputError,), (b"# ", b"\t", b"\n", b"\\t", b"inf"), cells_damaged),
    Reader("settings", _settings_seeds, _file(".json", _read_settings), (InputError,), _JSON_TOKENS, json_damaged),
    Reader("results", _RESULTS.seeds, _RESULTS.read, (InputError,), (), _rows_or_json),
    Reader("other-results", _other_settings_seeds, _read_other_results, (InputError,), _JSON_TOKENS, json_damaged),
    Reader("picture-index", _index_seeds, _read_index, (InputError,), _JSON_TOKENS, json_damaged),
    Reader("cache", _cache_seeds, _read_cache, (InputError,), _JSON_TOKENS, json_damaged),
    Reader("run-note", _digest_seeds, _file(".json", noted_pictures), (InputError,), _JSON_TOKENS, json_damaged),
    Reader("encoder-log", _log_seeds, _read_log, (InputError,), (b"POC", b"bits", b"QP", b"(", b")")),
    Reader("json", _json_seeds, _read_json, UNTRUSTED, _JSON_TOKENS, json_damaged),
)
