"""Autoencoders as an experiment sees them: RGB pictures of any size go in, bytes (or an estimate) and pictures out.

Whoever made it, a network is one of these; tensors are float32 (1, 3, H, W) in 0..1, sides multiples of its stride:

| it has | rate |
| --- | --- |
| `encode(picture) -> bytes` and `decode(data)`, or `decode(data, height, width)`, `-> picture` | bytes written |
| `compress(picture)` and `decompress(strings, shape)`, as CompressAI's models | bytes written |
| `forward(picture)` that returns `{"x_hat": ..., "likelihoods": ...}` or `(picture, likelihoods)` | an estimate |

A decoder gets nothing but the bytes and, like those of the bundled networks, the size of the picture.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vvc_nnr.errors import InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.networks import autoencoder, context_coding
from vvc_nnr.filters.networks.autoencoder import CodedRun
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder, ContextAutoencoder
from vvc_nnr.filters.networks.factory import Around, class_name

Rgb: TypeAlias = NDArray[np.uint8]
STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Those that are tried where a network does not say its own."""
_PROBED_SIDE = 64
_MUCH_CLIPPED = 0.9
"""Share of clipped samples of the test picture, of which hardly any is black or white."""
_MAX_STRIDE = 4096
_BEYOND = 2.0
"""No picture in 0..1 has a mean as far from zero, whatever a network's weights do to it."""
_ROUNDING = 1e-4
"""By so much a likelihood may be above 1."""
_log = logging.getLogger(__name__)
_Codec = TypeVar("_Codec", bound="OwnCodec")


@dataclass(frozen=True, slots=True, eq=False)
class CodedPicture:
    """A picture that went through a codec.

    Attributes:
        n_bytes: Bytes that were written, or as many as they are estimated to be.
        picture: What comes out, uint8 (H, W, 3).
    """

    n_bytes: int
    picture: Rgb


class PictureCodec(Protocol):
    """An autoencoder ready to code pictures."""

    @property
    def network(self) -> nn.Module:
        """The module, in evaluation mode."""
        ...

    @property
    def stride(self) -> int:
        """What the sides of the pictures that it gets are multiples of."""
        ...

    @property
    def is_estimate(self) -> bool:
        """Whether its rates are estimates: the network writes no bytes."""
        ...

    def code(self, pictures: Rgb) -> list[CodedPicture]:
        """Pictures uint8 (N, H, W, 3) of any size, encoded and decoded.

        Raises:
            InputError: If the network fails, or returns something else than it must.
            VvcNnrError: If it gives NaN or infinity.
        """
        ...


def picture_codec(network: nn.Module, *, stride: int | None = None) -> PictureCodec:
    """A network as the codec that it is; it is put into evaluation mode, and makes the tables of its entropy coder.

    Args:
        network: A torch module of one of the three kinds; an object that is none is made one by `as_module`.
        stride: What the sides of its pictures must be multiples of. None: its attribute `stride` or CompressAI's
            `downsampling_factor`, else the smallest power of two at which pictures come back in their size.

    Raises:
        InputError: If it is of none of these kinds, or fails on a test picture.
        VvcNnrError: If it gives NaN or infinity.
    """
    network.eval()
    if isinstance(network, BundledAutoencoder):
        return BundledCodec(network, highest_rate(network))
    said = _declared_stride(network) if stride is None else _checked_stride(stride, "stride")
    if _has(network, "compress", "decompress"):
        _make_tables(network)
        return _measured(StringsCodec(network, 1), said)
    if _has(network, "encode", "decode"):
        try:
            return _measured(BytesCodec(network, 1), said)
        except _NoBytesError as no_bytes:
            if isinstance(network, Around):
                raise
            try:
                return _measured(LikelihoodCodec(network, 1), said)
            except _NoLikelihoodsError as error:
                raise InputError(f"holds no autoencoder: {no_bytes}, or forward likelihoods too") from error
            except InputError as error:
                raise InputError(f"{error}; {no_bytes}") from error
    return _measured(LikelihoodCodec(network, 1), said)


def with_network(codec: PictureCodec, network: nn.Module) -> PictureCodec:
    """The codec of a network of the same kind and stride, such as one with other weights."""
    _make_tables(network.eval())
    changed: PictureCodec = replace(codec, network=network)  # type: ignore[type-var]
    return changed


def highest_rate(network: BundledAutoencoder) -> int:
    """The last operating point of a network, 0 if it has one."""
    return network.config["n_rates"] - 1 if isinstance(network, ContextAutoencoder) else 0


@dataclass(frozen=True, slots=True, eq=False)
class BundledCodec:
    """An autoencoder of this package, which codes pictures of one size many at a time.

    Attributes:
        network: The module.
        rate: Which of its operating points, of a network that has several.
        effort: How long to search for latents that cost less, 0 to 3; of a network with a context prior.

    Raises:
        InputError: If it has no such operating point, or the effort is out of range.
    """

    network: BundledAutoencoder
    rate: int = 0
    effort: int = 0
    stride: int = 4
    is_estimate: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.network, ContextAutoencoder):
            context_coding.check_rate(self.network, self.rate)
            context_coding.check_effort(self.effort)
        elif self.rate:
            raise InputError(f"rate {self.rate}: must be 0: a network with a factorised prior has one operating point")
        elif self.effort:
            raise InputError(f"effort {self.effort}: must be 0: the encoder of a factorised prior has no search")

    def encode(self, pictures: Rgb) -> list[CodedRun]:
        """The streams of pictures, uint8 RGB (N, H, W, 3) of any size; the size is not in them.

        Raises:
            VvcNnrError: If the network gives NaN or infinity.
        """
        padded = _padded_rgb(pictures, self.stride)
        if isinstance(self.network, ContextAutoencoder):
            return context_coding.encode_pictures(self.network, padded, self.rate, self.effort)
        return autoencoder.encode_pictures(self.network, padded)

    def decode(self, runs: Sequence[CodedRun], width: int, height: int) -> Rgb:
        """The pictures of their streams, uint8 RGB (N, height, width, 3).

        Raises:
            BitstreamError: If a stream is damaged.
            VvcNnrError: If the network gives NaN or infinity.
        """
        sides = (width + -width % self.stride, height + -height % self.stride)
        if isinstance(self.network, ContextAutoencoder):
            decoded = context_coding.decode_pictures(self.network, runs, *sides, self.rate)
        else:
            decoded = autoencoder.decode_pictures(self.network, runs, *sides)
        return decoded[:, :height, :width]

    def code(self, pictures: Rgb) -> list[CodedPicture]:
        """Decoded samples of each picture, uint8 RGB (N, H, W, 3), and the bytes of a stream of its own."""
        runs = [run for picture in pictures for run in self.encode(picture[None])]
        decoded = self.decode(runs, pictures.shape[2], pictures.shape[1])
        return [CodedPicture(len(run.data), picture) for run, picture in zip(runs, decoded, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class OwnCodec:
    """What codecs of a user's own networks share: pictures one by one, padded to a stride."""

    network: nn.Module
    stride: int
    is_estimate: bool = False

    def code(self, pictures: Rgb) -> list[CodedPicture]:
        """Size and decoded samples of each picture, uint8 RGB (N, H, W, 3); raises InputError if the network fails."""
        return _each_coded(pictures, self.stride, self._through)

    def reconstruct(self, network: nn.Module, pictures: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """What the forward pass of a copy of the network makes, with gradients: pictures, and likelihoods if any.

        Args:
            network: A copy of the network, perhaps with other weights.
            pictures: float32 (N, 3, H, W) in 0..1, sides multiples of the stride.

        Raises:
            InputError: If the network has no such pass.
        """
        output = network(pictures)
        picture = _reconstruction(output, network, "forward")
        try:
            return picture, _likelihoods(output, network)
        except _NoLikelihoodsError:
            return picture, ()

    def _through(self, picture: Tensor) -> tuple[int, Tensor]:
        """Bytes of one picture (1, 3, H, W), and what is decoded of them."""
        n_bytes, decode = self.encode(picture)
        return n_bytes, decode()

    def encode(self, picture: Tensor) -> tuple[int, Callable[[], Tensor]]:
        """Bytes of one picture (1, 3, H, W), and what decodes them."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class BytesCodec(OwnCodec):
    """A network with `encode` and `decode` of its own."""

    def encode(self, picture: Tensor) -> tuple[int, Callable[[], Tensor]]:
        """Bytes of one picture (1, 3, H, W), and what decodes them."""
        data = _own_bytes(_called(self.network, "encode", picture), self.network)
        height, width = picture.shape[2:]
        arguments = (data, height, width) if _n_required(self.network, "decode") == 3 else (data,)
        return len(data), lambda: _own_picture(_called(self.network, "decode", *arguments), self.network, "decode")


@dataclass(frozen=True, slots=True, eq=False)
class StringsCodec(OwnCodec):
    """A model with CompressAI's `compress` and `decompress`."""

    def encode(self, picture: Tensor) -> tuple[int, Callable[[], Tensor]]:
        """Bytes of one picture (1, 3, H, W), and what decodes them."""
        coded = _called(self.network, "compress", picture)
        if not isinstance(coded, Mapping) or not {"strings", "shape"} <= set(coded):
            raise InputError(
                f"{class_name(self.network)}.compress: must return strings and shape, as CompressAI's models do"
            )
        n_bytes = sum(map(len, _strings(coded["strings"], self.network)))
        return n_bytes, lambda: _own_picture(
            _called(self.network, "decompress", coded["strings"], coded["shape"]), self.network, "decompress"
        )


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodCodec(OwnCodec):
    """A module that returns likelihoods: its rate is what an ideal entropy coder would take, rounded up to bytes."""

    is_estimate: bool = True

    def encode(self, picture: Tensor) -> tuple[int, Callable[[], Tensor]]:
        """Bytes that one picture (1, 3, H, W) would take, and what gives the picture that came out beside them."""
        output = _called(self.network, "forward", picture)
        bits = sum(_code_length_bits(each, self.network) for each in _likelihoods(output, self.network))
        return math.ceil(bits / 8), lambda: _own_picture(output, self.network, "forward")


class _NoBytesError(InputError):
    """`encode` returns something else than bytes; the network may be of another kind."""


class _NoLikelihoodsError(InputError):
    """`forward` returns no likelihoods; the network is of another kind, or of none."""


class _NoPictureError(InputError):
    """What comes out is no picture in 0..1, at any stride."""


class _OtherShapeError(InputError):
    """The picture that comes out is of another shape, perhaps because the stride is another."""


def _has(network: nn.Module, *names: str) -> bool:
    return all(callable(getattr(network, name, None)) for name in names)


def _checked_stride(stride: Any, where: str) -> int:
    if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= _MAX_STRIDE:
        raise InputError(f"{where} {stride!r}: must be a whole number from 1 to {_MAX_STRIDE}")
    return stride


def _declared_stride(network: nn.Module) -> int | None:
    for name in ("stride", "downsampling_factor"):
        try:
            said = getattr(network, name, None)
        except NotImplementedError:  # as CompressAI's base class has it
            continue
        if said is not None:
            return _checked_stride(said, f"{class_name(network)}.{name}")
    return None


def _measured(codec: _Codec, stride: int | None) -> _Codec:
    """The codec with its stride, tried on a picture that is no multiple of twice the stride.

    Raises:
        InputError: What the network does wrong; where strides are looked for, at the last of them.
    """
    for candidate in STRIDES if stride is None else (stride,):
        found = replace(codec, stride=candidate)
        n = max(1, math.ceil(_PROBED_SIDE / candidate)) // 2 * 2 + 1
        try:
            (coded,) = found.code(_test_picture(n * candidate, (n + 2) * candidate)[None])
        except (_NoBytesError, _NoLikelihoodsError, _NoPictureError):
            raise
        except InputError as error:
            last = error
        else:
            _check_scale(found)
            _check_coded(coded, found)
            _check_repeats(found)
            return found
    if isinstance(last, _OtherShapeError):
        strides = f"is its stride {stride}?" if stride else f"with each stride of 1 to {STRIDES[-1]}"
        raise InputError(f"{last} ({strides})") from last
    raise last


def _check_scale(codec: OwnCodec) -> None:
    """Refuses a network whose picture of a test picture is clearly on another scale, such as 0..255."""
    side = -(-_PROBED_SIDE // codec.stride) * codec.stride
    _, decode = codec.encode(_as_planes(_test_picture(side, side), codec.stride))
    mean = float(decode().mean())
    if not abs(mean) < _BEYOND:
        raise InputError(
            f"{class_name(codec.network)}: returns a picture of mean {mean:.4g} (of a test picture in 0..1); must be "
            "floats in 0..1: divide by 255 if they are in 0..255"
        )


def _check_coded(coded: CodedPicture, codec: PictureCodec) -> None:
    """Refuses a network that writes nothing, and warns of one whose picture is on another scale."""
    name = class_name(codec.network)
    if not coded.n_bytes and not codec.is_estimate:
        raise InputError(f"{name} writes 0 bytes; must write all that decoding needs")
    if np.isin(coded.picture, (0, 255)).mean() > _MUCH_CLIPPED:
        _log.warning("most samples that %s returns are clipped; must be in 0..1 (of a test picture in 0..1)", name)


def _check_repeats(codec: OwnCodec) -> None:
    """Refuses a network whose pictures follow from more than their bytes: from noise, or what it saw before."""
    side = -(-_PROBED_SIDE // (2 * codec.stride)) * codec.stride
    picture = _test_picture(side, 2 * side)
    given, other = (_as_planes(each, codec.stride) for each in (picture, picture[::-1, ::-1]))
    (n_bytes, decode), name = codec.encode(given), class_name(codec.network)
    first = decode()
    codec.encode(other)
    again = decode()
    if not codec.is_estimate and not torch.equal(first, again):
        raise InputError(
            f"{name}: decodes another picture of the same bytes once it has encoded another one: it keeps something of "
            "the picture in itself, or draws random numbers; the decoder must get all that it needs from the bytes"
        )
    n_bytes_again, decode_again = codec.encode(given)
    if codec.is_estimate and (n_bytes != n_bytes_again or not torch.equal(first, decode_again())):
        raise InputError(
            f"{name}.forward: returns other values each time in evaluation mode; must round there, and add noise only "
            "if self.training, and keep nothing between calls"
        )


def _test_picture(height: int, width: int) -> Rgb:
    """Waves and a little noise, the same each time."""
    y, x = np.mgrid[:height, :width] / 9.0
    waves = np.stack([np.sin(x + y), np.cos(x - 0.5 * y), np.sin(0.3 * x * y / 9)], -1)
    noise = np.random.default_rng(0).normal(0, 4, waves.shape)
    picture: Rgb = np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8)
    return picture


def _make_tables(network: nn.Module) -> None:
    """Lets a model make the integer tables that it codes by, if it has not yet.

    Raises:
        InputError: If it cannot.
    """
    if _has(network, "update") and any(not each.numel() for each in network.buffers()):
        _called(network, "update")


@contextmanager
def _naming(network: nn.Module, method: str, given: str = "") -> Iterator[None]:
    """Tells errors of the user's code by what was called."""
    try:
        yield
    except VvcNnrError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"{class_name(network)}.{method} fails{given}: {type(error).__name__}: {text}") from error


def _called(network: Any, method: str, *arguments: Any) -> Any:
    """What a method returns, without gradients."""
    tensors = [each for each in arguments if isinstance(each, Tensor)]
    given = f" on a picture of {tensors[0].shape[3]}x{tensors[0].shape[2]}" if tensors else ""
    call: Callable[..., Any] = network if method == "forward" else getattr(network, method)
    with _naming(network, method, given), torch.no_grad():
        return call(*arguments)


def _n_required(network: Any, method: str) -> int:
    """How many arguments a method must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(getattr(network, method)).parameters.values()
    return sum(each.kind in kinds and each.default is inspect.Parameter.empty for each in parameters)


def _each_coded(pictures: Rgb, stride: int, through: Callable[[Tensor], tuple[int, Tensor]]) -> list[CodedPicture]:
    _check_rgb(pictures)
    return [_coded(picture, stride, through) for picture in pictures]


def _coded(picture: Rgb, stride: int, through: Callable[[Tensor], tuple[int, Tensor]]) -> CodedPicture:
    """A picture through a codec that gets tensors of whole strides."""
    height, width = picture.shape[:2]
    planes = _as_planes(picture, stride)
    n_bytes, output = through(planes)
    if output.shape != planes.shape:
        shapes = f"{tuple(output.shape)} of one of {tuple(planes.shape)}"
        raise _OtherShapeError(f"the network makes a picture {shapes}; must be of the same shape")
    if not torch.isfinite(output).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
    samples = torch.round(output.clamp(0, 1) * 255).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()
    return CodedPicture(n_bytes, samples[:height, :width])


def _as_planes(picture: Rgb, stride: int) -> Tensor:
    """A picture uint8 (H, W, 3) as networks get it: (1, 3, H, W) in 0..1, filled up to whole strides."""
    return torch.from_numpy(_padded_rgb(picture[None], stride).transpose(0, 3, 1, 2).copy()).float() / 255


def _padded_rgb(pictures: Rgb, stride: int) -> Rgb:
    """Pictures (N, H, W, 3) with their last row and column repeated up to whole strides."""
    _check_rgb(pictures)
    below, right = (-side % stride for side in pictures.shape[1:3])
    return np.pad(pictures, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge") if below or right else pictures


def _check_rgb(pictures: Rgb) -> None:
    """Raises ShapeError for pictures of another form."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or not pictures.size:
        raise ShapeError(f"pictures must be uint8 (N, H, W, 3), got {pictures.dtype} {pictures.shape}")


def _own_bytes(data: Any, network: nn.Module) -> bytes:
    """What `encode` wrote for one picture."""
    found = data[0] if isinstance(data, list | tuple) and len(data) == 1 else data
    if not isinstance(found, bytes | bytearray | memoryview):
        said = f"{class_name(network)}.encode returns a {type(found).__name__}; must return the bytes of the picture"
        raise _NoBytesError(said)
    return bytes(found)


def _strings(strings: Any, network: nn.Module) -> Iterator[bytes]:
    """All strings of a nest of lists."""
    if isinstance(strings, bytes | bytearray | memoryview):
        yield bytes(strings)
    elif isinstance(strings, list | tuple):
        for each in strings:
            yield from _strings(each, network)
    else:
        raise InputError(
            f"{class_name(network)}.compress: strings hold a {type(strings).__name__}; must be lists of bytes"
        )


def _reconstruction(output: Any, network: nn.Module, method: str) -> Tensor:
    """The picture in what a method of a network returns: `x_hat` of a map, the first of several, or itself."""
    if isinstance(output, Mapping):
        output = output.get("x_hat")
    elif isinstance(output, list | tuple) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise _NoPictureError(
            f"{class_name(network)}.{method} returns no picture; must return a tensor, x_hat of a map, or a picture "
            "first"
        )
    if not output.is_floating_point():
        dtype = str(output.dtype).removeprefix("torch.")
        raise _NoPictureError(
            f"{class_name(network)}.{method} returns a picture of {dtype}; must be floats in 0..1: divide by 255 if "
            "they are in 0..255"
        )
    return output


def _own_picture(output: Any, network: nn.Module, method: str) -> Tensor:
    with _naming(network, method):
        found = _reconstruction(output, network, method).detach().float().cpu()
    return found[None] if found.ndim == 3 else found


def _likelihoods(output: Any, network: nn.Module) -> Sequence[Tensor]:
    """The likelihoods that a forward pass returns beside its picture."""
    if isinstance(output, Mapping):
        found = _tensors(output.get("likelihoods"))
    elif isinstance(output, list | tuple) and len(output) > 1:
        found = _tensors(output[1])
    else:
        found = []
    if not found:
        raise _NoLikelihoodsError(
            f"holds no autoencoder: {class_name(network)}.forward returns no likelihoods, so that its rate is not "
            'known; must return {"x_hat": ..., "likelihoods": ...}, or the network have encode and decode, or compress'
        )
    return found


def _tensors(nest: Any) -> list[Tensor]:
    if isinstance(nest, Tensor):
        return [nest]
    values = nest.values() if isinstance(nest, Mapping) else nest if isinstance(nest, list | tuple) else ()
    return [tensor for each in values for tensor in _tensors(each)]


def _code_length_bits(likelihoods: Tensor, network: nn.Module) -> float:
    low, high = float(likelihoods.min()), float(likelihoods.max())
    if not 0 < low <= high <= 1 + _ROUNDING:
        raise InputError(
            f"{class_name(network)}.forward: likelihoods from {low:.4g} to {high:.4g}; must be above 0 and at most 1"
        )
    return float(-torch.log2(likelihoods.double().clamp(max=1)).sum())


def padded(pictures: Tensor, stride: int) -> Tensor:
    """Pictures (N, C, H, W) with their last row and column repeated up to whole strides."""
    below, right = (-side % stride for side in pictures.shape[2:])
    return functional.pad(pictures, (0, right, 0, below), mode="replicate") if below or right else pictures
