"""The filter that is tuned, as a decoder has it: its coded file, and where that is found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from torch import nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.codec.sei import SeiMessage
from vvc_nnr.codec.stream_filters import FilterSettings
from vvc_nnr.coding.update import apply_update
from vvc_nnr.compress import compress
from vvc_nnr.errors import InputError
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.filters.adaptation.tuned_filter import TunedFilter
from vvc_nnr.filters.bundled import name_by_hash, network_by_hash
from vvc_nnr.filters.in_stream import (
    at_uri,
    characteristics_of,
    check_said_by_messages,
    filter_messages,
    with_bitstream,
)
from vvc_nnr.filters.networks.factory import is_factory
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.zoo import filter_of_arrays, load_filter, with_arrays
from vvc_nnr.model.onnx_proto import import_onnx
from vvc_nnr.network_file import NetworkArrays, all_tensors, decoded_arrays, is_nnc, kind_of_file
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, thread_count
from vvc_nnr.sequences.frame import ChromaFormat

BaseAt: TypeAlias = Literal["hash", "stream"]
"""Where a decoder gets the base: by its hash among the networks that it has, or out of the stream."""


@dataclass(frozen=True, eq=False)
class AdaptedBase:
    """The filter that is tuned, as a decoder has it.

    Attributes:
        data: Its ISO/IEC 15938-17 file.
        at: Where a decoder gets it.
        like: The module whose tensors the file holds, or a network of ONNX that has the file's graph; None: the file
            makes it, a bundled shape or a graph.
        said_layout: How pictures go into it; None: as module or file say.
    """

    data: bytes
    at: BaseAt
    like: nn.Module | None = None
    said_layout: Layout | None = None

    @classmethod
    def of(cls, path: Path, at: BaseAt | None = None, layout: str | None = None) -> AdaptedBase:
        """The base of a file: a coded network, or a model of ONNX, which is coded by the defaults of `compress`.

        Args:
            path: The file.
            at: Where a decoder gets it; None: by its hash, if it is a bundled one.
            layout: How pictures go into a network of the user's own; None: as its file says.

        Raises:
            InputError: If no network can be made of it, no one says its layout, or a decoder would not have it.
            BitstreamError, UnsupportedError: If it is damaged, or holds what this package does not read, a message
                does not say or no gradients go through.
        """
        is_bundled = is_nnc(path) and network_by_hash(name_by_hash(read_bytes(path))) is not None
        if layout is not None and is_bundled:
            raise InputError(f"{path}: layout {layout}: is a bundled network, which says its own; omit it")
        data = _coded(path, layout)
        if at is None and not is_bundled:
            raise InputError(
                f"{path}: no network of the zoo, which a decoder would have; put it into the stream (at, "
                "--base stream), or let it be named by its hash (at, --base hash), for decoders that get the file "
                "(filter --base FILE)"
            )
        found = cls(data, at or "hash")
        with naming(path):
            check_said_by_messages(found.layout)  # what is no filter is not told to go into the stream
            if not found.is_bundled_shape:
                TunedFilter.of(found.network(), found.layout)  # no picture is decoded for what cannot be tuned
        return found

    @property
    def layout(self) -> Layout:
        """How pictures go into it."""
        return self.said_layout or declared_layout(self._as_coded)

    @property
    def is_known_to_decoders(self) -> bool:
        """Whether a decoder of this package has it without a file: it is in the stream, or a bundled one."""
        return self.at == "stream" or network_by_hash(name_by_hash(self.data)) is not None

    @property
    def is_bundled_shape(self) -> bool:
        """Whether it can be computed in integers."""
        return isinstance(self._as_coded, InLoopNetwork)

    def network(self, update: bytes | None = None) -> nn.Module:
        """The filter, ready to run; raises as `filter_of_nnc` and `with_arrays`.

        Args:
            update: What changes it; None: as it is coded, the same module each time.
        """
        return self._as_coded if update is None else self._made({**apply_update(self.arrays(), update).arrays})

    def arrays(self) -> NamedArrays:
        """Its tensors, small constants of a graph among them."""
        return self._tensors.arrays

    @cached_property
    def _as_coded(self) -> nn.Module:
        return self._made(self.arrays())

    @cached_property
    def _tensors(self) -> NetworkArrays:
        coded = decoded_arrays(self.data, DEFAULT_MAX_ELEMENTS, thread_count(None))
        return all_tensors(replace(coded, graph=self.like.graph) if isinstance(self.like, OnnxNetwork) else coded)

    def _made(self, arrays: NamedArrays) -> nn.Module:
        if self.like is not None and not isinstance(self.like, OnnxNetwork):
            return with_arrays(self.like, arrays, "the network")
        return filter_of_arrays(replace(self._tensors, arrays=arrays), "the network", self.said_layout)

    def messages(
        self, settings: FilterSettings, update: bytes | None = None, chroma_format: ChromaFormat = "420"
    ) -> tuple[SeiMessage, ...]:
        """The SEI messages by which it runs in a stream of a chroma format, with an update or as it is."""
        characteristics = characteristics_of(
            self._as_coded, settings.filter_id, chroma_format=chroma_format, layout=self.layout
        )
        placed = (
            with_bitstream(characteristics, self.data)
            if self.at == "stream"
            else at_uri(characteristics, name_by_hash(self.data))
        )
        return filter_messages(placed, settings, update)


def _coded(path: Path, layout: str | None) -> bytes:
    """The ISO/IEC 15938-17 file of a network file, with its layout if that is said beside it."""
    if is_factory(str(path)):
        raise InputError(f"{path}: a stream carries no Python: name the ONNX model that torch.onnx.export makes of it")
    if is_nnc(path):
        if layout is not None:
            raise InputError(f"{path}: layout {layout}: a coded file says its own; name the ONNX model itself")
        return read_bytes(path)
    kind = kind_of_file(path)
    if kind != "onnx":
        raise InputError(
            f"{path}: an update is for a coded filter (.nnc) or an ONNX model; take one of the zoo, or code yours "
            "first (vvc-nnr compress); of a module of your own name what torch.onnx.export makes of it"
        )
    loaded = load_filter(path, layout=layout)
    assert isinstance(loaded.network, OnnxNetwork)
    assert loaded.layout is not None
    return compress(import_onnx().load_from_string(loaded.network.model()), metadata={LAYOUT_KEY: loaded.layout.text})
