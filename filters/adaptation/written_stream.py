"""A stream with a filter in it, with its update or as it is."""

from __future__ import annotations

from functools import partial

from torch import nn

from vvc_nnr.codec.sei import insert_sei
from vvc_nnr.codec.stream_filters import FilterSettings, has_leading_pictures
from vvc_nnr.codec.vvc_stream import VvcStream, read_vvc_stream
from vvc_nnr.errors import UnsupportedError
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures
from vvc_nnr.filters.adaptation.options import RunAs
from vvc_nnr.filters.bundled import name_by_hash
from vvc_nnr.filters.in_stream import network_of, planned_pictures
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.training.run import weights_sha256
from vvc_nnr.filters.zoo import filter_of_nnc

FILTER_ID = 1


def with_filter(
    stream: VvcStream,
    base: AdaptedBase,
    network: nn.Module,
    update: bytes | None,
    pictures: MeasuredPictures,
    run_as: RunAs,
) -> bytes:
    """A stream with a filter in it, which a decoder was seen to find there.

    Raises:
        UnsupportedError: If the filter would not run on all pictures.
    """
    chroma_format = stream.first.format.chroma_format
    is_same_everywhere = is_same_on_machines(network, run_as.precision)
    settings = FilterSettings(
        filter_id=FILTER_ID,
        is_kept=run_as.at == "once",
        covers_leading=run_as.at != "picture" and has_leading_pictures(stream.data),
        precision=run_as.precision,
        output_md5=pictures.md5 if is_same_everywhere else None,
    )
    written = insert_sei(stream.data, base.messages(settings, update, chroma_format), at=run_as.at)
    bases = {name_by_hash(base.data): base.data}
    network_in = partial(network_of, chroma_format=chroma_format, bases=bases)
    plan = planned_pictures(read_vvc_stream(written), lambda found: declared_layout(network_in(found)).qp_rule)
    running = {each.filter for each in plan}
    (found,) = running if len(running) == 1 else (None,)
    if found is None:
        raise UnsupportedError(f"the filter would not run on all pictures with messages at {run_as.at}: take once")
    assert weights_sha256(network_in(found)) == weights_sha256(filter_of_nnc(base.data, "the network", update))
    return written


def is_same_on_machines(network: nn.Module, precision: Precision) -> bool:
    """Whether a filter gives the same samples on every machine, so that a stream can state their MD5."""
    return precision == "int8" and isinstance(network, InLoopNetwork) and network.feature_levels is not None
