"""What is tuned: a filter that gradients go through, what of it is free, and the pictures that it learns on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.filters.adaptation.options import FreePart
from vvc_nnr.filters.in_stream import check_said_by_messages
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.factory import class_name
from vvc_nnr.filters.networks.foreign import declared_layout, misfit, said_by
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.last_layer import LastLayer, last_layer
from vvc_nnr.filters.networks.layout import RUNS, Layout
from vvc_nnr.filters.networks.onnx_gradients import differentiable
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.model.onnx_graph import graph_roles
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import Role
from vvc_nnr.sequences.frame import Frame

CROP = 64
"""Side of the crops that it learns on, in half-size samples."""
_MIDDLE_QP = 32


@dataclass(frozen=True, slots=True, eq=False)
class LearningPicture:
    """A decoded picture with its original.

    Attributes:
        original: uint16 (C, H, W): six planes as `pack` gives them, or luma.
        decoded: The same of what the decoder gives.
        qp: What the network is told of it.
        scale: The sample value that counts as 1.
        seen: Rows and columns of luma that a viewer gets; what lies beyond is padding of odd sides, and does not count.
            None: all that is in the planes.
    """

    original: NDArray[np.uint16]
    decoded: NDArray[np.uint16]
    qp: int
    scale: float
    seen: tuple[int, int] | None = None

    @classmethod
    def of(cls, original: Frame, decoded: Frame, qp: int, layout: Layout) -> LearningPicture:
        """The picture as a network of a layout sees it.

        Args:
            original: The picture before coding, of the bit depth and chroma format of the decoded one.
            decoded: What a decoder gives; it may be larger by what odd sides were padded with.
            qp: What the network is told of it.
            layout: How pictures go into it.

        Raises:
            UnsupportedError: As `planes_of`.
        """
        scale = layout.scale(decoded.bit_depth)
        as_large = original.padded(decoded.width, decoded.height)
        seen = original.height, original.width
        return cls(planes_of(as_large, layout), planes_of(decoded, layout), qp, scale, seen)

    def squared_errors(self) -> NDArray[np.float64]:
        """Mean squared error of luma and, where it is there, of Cb and Cr, samples scaled to 0..1, as far as seen."""
        difference = (self.decoded.astype(np.float32) - self.original.astype(np.float32)) / self.scale
        counts = self.counting(0, 0, *difference.shape[1:])
        planes = np.sum(difference**2 * counts, axis=(1, 2), dtype=np.float64) / counts.sum(axis=(1, 2))
        return np.array([planes[:-2].mean(), *planes[-2:]]) if len(planes) > 1 else planes

    def counting(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
        """Which samples (C, height, width) of a window of the planes are seen."""
        found = np.ones((len(self.decoded), height, width), np.bool_)
        if self.seen is None:
            return found
        is_packed = len(self.decoded) > 1
        step, n_luma = (2, len(self.decoded) - 2) if is_packed else (1, 1)
        for phase in range(n_luma):
            y, x = divmod(phase, 2)
            found[phase] &= (step * np.arange(top, top + height) + y < self.seen[0])[:, None]
            found[phase] &= step * np.arange(left, left + width) + x < self.seen[1]
        return found


def planes_of(frame: Frame, layout: Layout) -> NDArray[np.uint16]:
    """The samples (C, H, W) that a network sees of a picture.

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4 where the layout's planes are packed.
    """
    return frame.planes[0][None].astype(np.uint16) if layout.planes == "y" else pack(frame)


@dataclass(frozen=True, slots=True, eq=False)
class TunedFilter:
    """A filter that gradients go through, and what is known of it.

    Attributes:
        network: The module, its tensors under the names of the filter's file.
        layout: How pictures go into it.
        tail: Its last layer, None if none is seen.
        biases: Names of the biases of all layers.
        gains: Names of what makes features and output follow the QP; of bundled networks.
        radius: How many samples of its planes away an input can reach an output, beyond the layout's overlap.
        fixed: Names of float tensors that no gradients go to, and that stay as they are: bounds of a clip, what a
            picture is filled up with, statistics of norms, what is not used at all.
    """

    network: nn.Module
    layout: Layout
    tail: LastLayer | None
    biases: tuple[str, ...]
    gains: tuple[str, ...]
    radius: int
    fixed: tuple[str, ...] = ()

    @classmethod
    def of(cls, network: nn.Module, layout: Layout | None = None) -> TunedFilter:
        """What is known of a filter.

        Args:
            network: The filter.
            layout: How pictures go into it; None: as it says itself.

        Raises:
            UnsupportedError: If no gradients go through it, or its layout is one that messages do not say.
            InputError: If its output depends on the whole picture.
        """
        layout = layout or declared_layout(network)
        check_said_by_messages(layout)
        if isinstance(network, torch.jit.ScriptModule):
            raise UnsupportedError(f"{class_name(network)}: is scripted, and keeps its tensors: name its module")
        side = layout.align * -(-CROP // layout.align) + 2 * layout.overlap
        height, width = layout.patch or (side, side)
        flat = np.full((len(RUNS[layout.planes][0]), height, width), 0.5, np.float32)
        rough = flat + np.random.default_rng(0).normal(0, 0.1, flat.shape).astype(np.float32)
        inputs = network_inputs(layout, rough[None], [_MIDDLE_QP])
        try:
            tuned = differentiable(network, *inputs)
            tail = last_layer(tuned, *inputs)
            fixed = _without_gradients(tuned, inputs)
        except VvcNnrError:
            raise
        except Exception as error:  # of the user's module
            raise misfit(network, layout, (height, width), said_by(error)) from error
        names = [name for name, value in tuned.named_parameters() if value.is_floating_point() and name not in fixed]
        if isinstance(network, InLoopNetwork):
            biases = tuple(name for name in names if name.endswith(".bias"))
            gains = tuple(name for name in names if name.startswith("gain.") or name.split(".")[-2] == "shift")
            return cls(tuned, layout, tail, biases, gains, network.receptive_radius, fixed)
        arrays: NamedArrays = {name: value.detach().numpy() for name, value in tuned.named_parameters()}
        roles = graph_roles(network.graph, arrays) if isinstance(network, OnnxNetwork) else module_roles(tuned, arrays)
        biases = tuple(name for name in names if roles[name].role in (Role.BIAS, Role.NORM_SHIFT))
        reach = 0.0 if layout.patch else Runner(network, layout=layout, backend="torch").reach
        if reach == math.inf:
            raise InputError(
                f"layout {layout.text}: the network's output depends on the whole picture, and it learns on crops; one "
                "that fills pictures up to multiples of N itself needs align=N in its layout"
            )
        return cls(tuned, layout, tail, biases, (), max(0, int(reach) - layout.overlap), fixed)

    def free_tensors(self, free: Sequence[FreePart]) -> list[str]:
        """The names of the tensors that may change, in the network's order.

        Raises:
            InputError: If a part is unknown, or the network has none of it.
        """
        named = self.network.named_parameters()
        every = [name for name, value in named if value.is_floating_point() and name not in self.fixed]
        parts: dict[FreePart, Sequence[str]] = {
            "biases": self.biases,
            "gains": self.gains,
            "tail": () if self.tail is None else self.tail.names,
            "all": every,
        }
        unknown = [part for part in free if part not in parts]
        if unknown:
            raise InputError(f"free: {unknown[0]!r}; must be some of {', '.join(parts)}")
        missing = [part for part in free if not parts[part]]
        if missing:
            has = [part for part, names in parts.items() if names]
            raise InputError(f"free: the network has no {missing[0]}; it has {', '.join(has) or 'nothing that learns'}")
        chosen = {name for part in free for name in parts[part]}
        return [name for name in every if name in chosen]


def _without_gradients(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the float parameters that the output depends on by no operation that gradients go through."""
    tensors = {
        name: value.detach().clone().requires_grad_()
        for name, value in network.named_parameters()
        if value.is_floating_point()
    }
    output = functional_call(network, tensors, tuple(inputs))
    if not output.requires_grad:
        return tuple(tensors)
    found = torch.autograd.grad(output.sum(), list(tensors.values()), allow_unused=True)
    return tuple(name for name, gradient in zip(tensors, found, strict=True) if gradient is None)


def network_inputs(layout: Layout, planes: NDArray[np.float32], qps: Sequence[int]) -> tuple[Tensor, ...]:
    """What a network takes of planes (N, C, H, W) in its range, coded with QPs."""
    values = [layout.qp_input(qp) for qp in qps]
    if layout.qp == "plane":
        strength = np.array(values, np.float32)[:, None, None, None]
        planes = np.concatenate([planes, np.broadcast_to(strength, (len(planes), 1, *planes.shape[2:]))], axis=1)
    first = torch.from_numpy(planes).contiguous(memory_format=torch.channels_last)
    return (first, torch.tensor(values, dtype=torch.float32)) if layout.qp == "scalar" else (first,)
