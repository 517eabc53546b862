"""Filters that travel in a VVC stream: put into it as SEI messages, and made ready to run out of it.

```
 network ── NNC bytes ── NNPFC ─┐                  ┌─ NNPFC ── network ─┐
 when ────────────────── NNPFA ─┼─ insert ─ .266 ──┼─ NNPFA ── when ────┼─ filtered pictures
 QP, decisions ───── user data ─┘                  ├─ user data ────────┤
                                                   └─ slices ── QPs ────┘
```
docs/sei.md says how the fields of the standard and the inputs of the networks belong together.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from vvc_nnr.codec.configuration import MAX_QP
from vvc_nnr.codec.nal import INTRA_TYPES
from vvc_nnr.codec.nnpf import (
    AUXILIARY_STRENGTH,
    MODE_NNC,
    MODE_URI,
    NNC_TAG_URI,
    ORDER_LUMA,
    ORDER_PHASES,
    VISUAL_QUALITY,
    NnpfActivation,
    NnpfCharacteristics,
    check_filter_id,
    is_reserved_id,
)
from vvc_nnr.codec.sei import SeiMessage, VideoStandard, sei_messages
from vvc_nnr.codec.sequence import may_be_padding
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.stream_filters import (
    FilterDecisions,
    FilterSettings,
    StreamFilter,
    filters_by_picture,
    listed_messages,
)
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import InputError, UnsupportedError, shown
from vvc_nnr.files import read_bytes
from vvc_nnr.filters.bundled import network_by_hash
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.decisions.sequence_file import DecisionSequence
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, PictureQps, QpRule, same_qps, told_qps
from vvc_nnr.filters.zoo import filter_of_nnc, n_parameters
from vvc_nnr.sequences.frame import ChromaFormat, Frame

NO_BASES: Mapping[str, bytes] = MappingProxyType({})
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_BEHIND_PATH = rf"(?:#(?:{_CHARACTER}|[/?])*)?"
_URI = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*:(?://(?:{_CHARACTER}*@)?\[[0-9A-Fa-fv:.]+\](?::[0-9]*)?(?=[/?#]|$))?"
    rf"(?:{_CHARACTER}|/)*(?:\?(?:{_CHARACTER}|[/?])*)?{_BEHIND_PATH}"
)
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_TAG_URI = re.compile(
    rf"tag:(?:[A-Za-z0-9._-]+@)?{_LABEL}(?:\.{_LABEL})*,[0-9]{{4}}(?:-[0-9]{{2}}){{0,2}}:"
    rf"(?:{_CHARACTER}|[/?])*{_BEHIND_PATH}"
)
_PATCH_DIVISOR = 64
_FLOAT_PARAMETERS, _LOG2_32_BITS_MINUS3 = 1, 2
_PARAMETERS_OF_IDC_0 = 2048
_ORDERS: dict[ChromaFormat, int] = {"420": ORDER_PHASES, "400": ORDER_LUMA}
"""Orders of packed planes by chroma format. Luma alone is what H.274 allows where there is no chroma: the network then
gets four phases of it and flat chroma."""
_REPLICATED = 1


def characteristics_of(
    network: nn.Module,
    filter_id: int,
    *,
    base: bool = True,
    chroma_format: ChromaFormat = "420",
    layout: Layout | None = None,
) -> NnpfCharacteristics:
    """What an NNPFC message says of a network, without where it is.

    Args:
        network: The filter.
        filter_id: Its number in the stream.
        base: Whether it is a filter; else an update of one.
        chroma_format: That of the stream's pictures.
        layout: How pictures go into it; None: as it says itself.

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4, and for layouts that the message has no fields for.
        InputError: If its output depends on the whole picture.
    """
    layout = layout or declared_layout(network)
    order, count = _order_of(layout, chroma_format), n_parameters(network)
    return NnpfCharacteristics(
        purpose=VISUAL_QUALITY,
        id=filter_id,
        base_flag=base,
        property_present_flag=True,
        auxiliary_inp_idc=0 if layout.qp == "none" else AUXILIARY_STRENGTH,
        inp_order_idc=order,
        out_order_idc=order,
        **_patch_fields(network, layout),
        complexity_info_present_flag=True,
        parameter_type_idc=_FLOAT_PARAMETERS,
        log2_parameter_bit_length_minus3=_LOG2_32_BITS_MINUS3,
        num_parameters_idc=(count // _PARAMETERS_OF_IDC_0).bit_length(),
        num_kmac_operations_idc=-int(-complexity(network, layout).kmac_per_luma_sample // 1),
        total_kilobyte_size=-(-4 * count // 1000),
    )


def _patch_fields(network: nn.Module, layout: Layout) -> dict[str, Any]:
    """What a message says of patches: of a fixed size, or of any; what stands outside the picture."""
    if layout.patch is not None:
        height, width = (side - 2 * layout.overlap for side in layout.patch)
        return {
            "overlap": layout.overlap,
            "constant_patch_size_flag": True,
            "patch_width_minus1": width - 1,
            "patch_height_minus1": height - 1,
            "padding_type": _REPLICATED,
        }
    if layout.overlap:
        reach, padding = float(layout.overlap), _REPLICATED
    else:
        reach, padding = Runner(network, layout=layout, backend="torch").reach, 0
    if reach == math.inf:
        raise InputError(f"layout {layout.text}: an output that depends on the whole picture has no patches to state")
    least = max(0, _PATCH_DIVISOR - 2 * int(reach) - 1)
    return {
        "overlap": int(reach),
        "extended_patch_width_cd_delta_minus1": least,
        "extended_patch_height_cd_delta_minus1": least,
        "padding_type": padding,
    }


def check_said_by_messages(layout: Layout) -> None:
    """Raises UnsupportedError for a network whose pictures go in or come out as an NNPFC message has no fields for."""
    known: Mapping[str, tuple[object, Sequence[object]]] = {
        "planes": (layout.planes, ("yuv420-packed", "y")),
        "range": (layout.range, ("unit", "unit10")),
        "output": (layout.output, ("picture",)),
        "keep": ("+".join(layout.keep) or "none", ("none",)),
    }
    for name, (got, may_be) in known.items():
        if got not in may_be:
            raise UnsupportedError(
                f"layout {layout.text}: {name} {got} is nothing that an NNPFC message can say; must be "
                f"{' or '.join(map(str, may_be))}: let the network itself take and return its planes so"
            )


def _order_of(layout: Layout, chroma_format: ChromaFormat) -> int:
    """The order of planes of a network, in and out; raises UnsupportedError as `characteristics_of`."""
    check_said_by_messages(layout)
    if layout.planes == "y":
        return ORDER_LUMA
    if chroma_format not in _ORDERS:
        raise UnsupportedError(
            f"pictures of 4:{chroma_format[1]}:{chroma_format[2]}: networks of packed planes filter 4:2:0 and 4:0:0"
        )
    return _ORDERS[chroma_format]


def filter_messages(
    characteristics: NnpfCharacteristics, settings: FilterSettings | None = None, update: bytes | None = None
) -> tuple[SeiMessage, ...]:
    """The messages that make a filter run from their picture on to the end of its sequence, in their order.

    User data stands before an update: of a NAL unit with a base and its update VTM 23.13 holds what comes before user
    data against each other, and would stop at two NNPFC messages that differ.

    Args:
        characteristics: The filter, or an update of one, with its place.
        settings: What this package says of it; None: nothing.
        update: A coded update of the filter, which then runs with it; None: none.

    Raises:
        InputError: If a value does not fit its field, or H.274 reserves the filter's number.
    """
    check_filter_id(characteristics.id)
    running = NnpfActivation(
        target_id=characteristics.id,
        persistence_flag=True,
        target_base_flag=characteristics.base_flag and update is None,
        no_prev_clvs_flag=True,
        no_foll_clvs_flag=True,
        output_flag=(True,),
    )
    own = () if settings is None else (settings.message(),)
    if not characteristics.base_flag:
        return (*own, characteristics.message(), running.message())
    bare = NnpfCharacteristics(id=characteristics.id, base_flag=False)
    updates = () if update is None else (with_bitstream(bare, update).message(),)
    return (characteristics.message(), *own, *updates, running.message())


def with_bitstream(characteristics: NnpfCharacteristics, data: bytes) -> NnpfCharacteristics:
    """The filter with its ISO/IEC 15938-17 bitstream inside the message."""
    return replace(characteristics, mode_idc=MODE_NNC, payload_byte=data)


def at_uri(characteristics: NnpfCharacteristics, uri: str, tag_uri: str = NNC_TAG_URI) -> NnpfCharacteristics:
    """The filter with the place where its bitstream is.

    Raises:
        InputError: If `uri` is no URI (RFC 3986), or `tag_uri` no tag URI (RFC 4151).
    """
    if not _URI.fullmatch(uri):
        raise InputError(
            f"uri {shown(uri)} (--uri): must be a URI (RFC 3986): a scheme, then ASCII without spaces, all else as %XX "
            "of its UTF-8"
        )
    if not _TAG_URI.fullmatch(tag_uri):
        raise InputError(f"tag_uri {shown(tag_uri)} (--tag-uri): must be a tag URI (RFC 4151), such as {NNC_TAG_URI}")
    return replace(characteristics, mode_idc=MODE_URI, tag_uri=tag_uri, uri=uri)


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """What is done to one picture.

    Attributes:
        filter: The filter that runs, None if none does.
        qp: What the network is told, 0 to 63.
    """

    filter: StreamFilter | None
    qp: int


def qps_of_pictures(stream: VvcStream, base: int | None = None) -> list[PictureQps]:
    """The QPs of each picture that is output, in that order.

    Args:
        stream: The stream.
        base: The QP that its encoder was asked for, which headers do not say; None: not known.

    Raises:
        BitstreamError, UnsupportedError: If headers of slices cannot be read.
    """
    found: list[PictureQps] = []
    access_point_qp = MAX_QP
    for picture, own_qp in zip(stream.pictures, picture_qps(stream), strict=True):
        if picture.unit.nal_unit_type in INTRA_TYPES:
            access_point_qp = own_qp
        found.append(PictureQps(own_qp, access_point_qp, base))
    return [found[index] for index in stream.output_order]


def strength_qps(stream: VvcStream, qp: int | None = None, rule: QpRule = DEFAULT_RULE) -> list[int]:
    """The QP that a network is told of each picture that is output, in that order.

    Args:
        stream: The stream.
        qp: The QP that all were coded with; None: by the headers of slices.
        rule: What of those the network is told, as its layout says.

    Raises:
        InputError: If the rule is by a QP that headers do not say.
        BitstreamError, UnsupportedError: If headers of slices cannot be read.
    """
    known = qps_of_pictures(stream) if qp is None else [same_qps(qp)] * len(stream.output_order)
    return told_qps(known, rule)


def has_inter_pictures(stream: VvcStream) -> bool:
    """Whether there are pictures beside random access points, which may be predicted from others."""
    return any(picture.unit.nal_unit_type not in INTRA_TYPES for picture in stream.pictures)


def one_qp(qps: Sequence[int]) -> int | None:
    """The QP of all pictures, None if they differ."""
    return qps[0] if len(set(qps)) == 1 else None


def planned_pictures(
    stream: VvcStream,
    rule_of: Callable[[StreamFilter], QpRule],
    *,
    qp: int | None = None,
    filter_id: int | None = None,
) -> tuple[PlannedPicture, ...]:
    """What a stream says is to be done to each picture that is output, in that order.

    Args:
        stream: The stream.
        rule_of: What of a picture's QPs the network of a filter is told, unless the stream says that.
        qp: The QP that all pictures were coded with, against what the stream says; None: as it says.
        filter_id: The filter that is to run where several do; None: there must be one.

    Raises:
        InputError: If the stream carries no such filter, or several run on one picture and none is named.
        BitstreamError, UnsupportedError: If a message or a slice cannot be read, or a filter is for another purpose.
    """
    running = filters_by_picture(stream, filter_id)
    chosen = [_chosen(running[index], filter_id, n) for n, index in enumerate(stream.output_order)]
    if not any(chosen):
        what = "no filter" if filter_id is None else f"no filter {filter_id}"
        raise InputError(f"the stream carries {what} that runs{_ignored_words(stream)}: name a network (--model)")
    needs_slices = qp is None and any(each is not None and _stated_qp(each) is None for each in chosen)
    known = qps_of_pictures(stream) if needs_slices else [same_qps(qp or 0)] * len(chosen)

    def told(found: StreamFilter | None, qps: PictureQps) -> int:
        if found is None:
            return max(0, qps.own)
        stated = None if qp is not None else _stated_qp(found)
        return rule_of(found).qp(qps) if stated is None else stated

    return tuple(PlannedPicture(found, told(found, qps)) for found, qps in zip(chosen, known, strict=True))


def check_decisions(
    sequence: DecisionSequence,
    stream: VvcStream,
    network_sha256: bytes,
    *,
    qp: int | None = None,
    rule: QpRule = DEFAULT_RULE,
) -> None:
    """Checks that decisions are those for a stream, as far as its headers tell.

    Args:
        sequence: The decisions.
        stream: The stream.
        network_sha256: SHA-256 of the network's file.
        qp: The QP that the network is told of all pictures; None: by the headers of slices.
        rule: What of those the network is told.

    Raises:
        InputError: If they are for another number of pictures, another size or chroma format, or were made with another
            network or QP, or do not say with which.
        BitstreamError, UnsupportedError: If headers of slices cannot be read.
    """
    n_pictures, format = len(stream.output_order), stream.first.format
    if sequence.n_pictures != n_pictures:
        raise InputError(f"decisions for {sequence.n_pictures} pictures, and the stream has {n_pictures}")
    sides = (format.width - sequence.width, format.width), (format.height - sequence.height, format.height)
    if sequence.chroma_format != format.chroma_format or not all(may_be_padding(*side) for side in sides):
        raise InputError(
            f"decisions for pictures of {sequence.width}x{sequence.height}, {':'.join(sequence.chroma_format)}; "
            f"the stream's are {format.width}x{format.height}, {':'.join(format.chroma_format)}"
        )
    made_with = sequence.made_with
    if made_with is None:
        raise InputError("does not say what the decisions were made with: make them anew")
    said = qp if qp is not None else one_qp(strength_qps(stream, rule=rule))
    told = replace(made_with, network_sha256=network_sha256, qp=said)
    difference = made_with.difference(told)
    if difference is not None:
        advice = "" if made_with.qp in (None, told.qp) else f", or give the QP {made_with.qp} (--qp) if that is meant"
        raise InputError(f"decisions made with {difference}: make them for this stream and network{advice}")


def network_of(
    found: StreamFilter, chroma_format: ChromaFormat = "420", bases: Mapping[str, bytes] = NO_BASES
) -> nn.Module:
    """The network of a filter, ready to run; it declares its layout.

    Args:
        found: The filter.
        chroma_format: That of the pictures that it runs on.
        bases: As for `known_bitstream_of`.

    Raises:
        InputError: If it is not in the stream, or no filter of a bundled shape or an ONNX graph with its layout.
        BitstreamError: If it is damaged, or not the one that the stream's settings name.
        UnsupportedError: If it is for another purpose than quality, or holds what is not read.
    """
    _check_purpose(found.base)
    data = known_bitstream_of(found.base, bases)
    update = known_bitstream_of(found.update, bases) if found.update is not None else None
    network = filter_of_nnc(data, f"filter {found.id} of the stream", update)
    _check_runs(found.base, declared_layout(network), chroma_format)
    return network


def bitstream_of(characteristics: NnpfCharacteristics) -> bytes:
    """The ISO/IEC 15938-17 bitstream in a filter's message.

    Raises:
        InputError: If it is elsewhere.
        UnsupportedError: If its place is of a kind that this package does not know.
    """
    if characteristics.mode_idc == MODE_NNC:
        return characteristics.payload_byte
    if characteristics.mode_idc == MODE_URI:
        place = f"{characteristics.uri!r} ({characteristics.tag_uri})"
        raise InputError(f"filter {characteristics.id} is not in the stream, but at {place}: get it, and name the file")
    raise UnsupportedError(f"filter {characteristics.id}: nnpfc_mode_idc {characteristics.mode_idc} is not read")


def known_bitstream_of(characteristics: NnpfCharacteristics, bases: Mapping[str, bytes] = NO_BASES) -> bytes:
    """The ISO/IEC 15938-17 bitstream of a filter: in its message, or one that is known where it is named by its hash.

    Args:
        characteristics: The filter.
        bases: Coded networks by `name_by_hash`, beside those of this package.

    Raises:
        InputError, UnsupportedError: As `bitstream_of`; InputError as well if it is none of the given ones.
    """
    is_named = characteristics.mode_idc == MODE_URI and characteristics.tag_uri == NNC_TAG_URI
    if is_named and characteristics.uri in bases:
        return bases[characteristics.uri]
    path = network_by_hash(characteristics.uri) if is_named else None
    if path is not None:
        return read_bytes(path)
    if is_named and bases:
        raise InputError(
            f"filter {characteristics.id} is of the network {characteristics.uri}; what was given is "
            f"{', '.join(bases)}, another one: give the file that the stream was made with"
        )
    return bitstream_of(characteristics)


def filter_as_planned(
    pictures: Iterable[tuple[Frame, PlannedPicture]], runner_of: Callable[[StreamFilter], Runner]
) -> Iterator[Frame]:
    """Yields the pictures in order, each with its filter on it; those without one as they are.

    Args:
        pictures: Decoded pictures in the order of output, and what is done to each.
        runner_of: Makes a filter ready; it is called once for each that differs from the one before.
    """
    for found, group in itertools.groupby(pictures, key=lambda each: each[1].filter):
        if found is None:
            yield from (frame for frame, _ in group)
        else:
            yield from runner_of(found).filter_frames((frame, planned.qp) for frame, planned in group)


def digested(frames: Iterable[Frame], digest: hashlib._Hash, wanted: bytes | None, name: str) -> Iterator[Frame]:
    """Yields the pictures, and holds the MD5 of all of them against the one that a stream says.

    Args:
        frames: Filtered pictures.
        digest: Takes them up, as raw video.
        wanted: What it must be at the end; None: it is not known.
        name: How errors name the pictures.

    Raises:
        InputError: If it is another.
    """
    for frame in frames:
        digest.update(frame.tobytes())
        yield frame
    if wanted is not None and digest.digest() != wanted:
        raise InputError(
            f"{name}: the filtered pictures are not those that were meant: their MD5 is {digest.hexdigest()}, "
            f"the stream says {wanted.hex()}; only precision int8 gives the same on every machine"
        )


def networks_inside(stream: bytes, standard: VideoStandard = "vvc") -> dict[str, bytes]:
    """The ISO/IEC 15938-17 bitstreams that a stream holds, each once, by the filter and what it is of it."""
    found: dict[str, bytes] = {}
    for listed in listed_messages(sei_messages(stream, standard)):
        content = listed.content
        if isinstance(content, NnpfCharacteristics) and content.mode_idc == MODE_NNC:
            name = f"{'base' if content.base_flag else 'update'} of filter {content.id}"
            known = [data for key, data in found.items() if key.startswith(name)]
            if content.payload_byte not in known:
                found[name if not known else f"{name}, number {len(known) + 1}"] = content.payload_byte
    return found


def carried_filters(stream: bytes, standard: VideoStandard = "vvc") -> list[str]:
    """One line on each filter that a stream carries; none if it carries none."""
    lines: dict[int, list[str]] = {}
    for listed in listed_messages(sei_messages(stream, standard)):
        content = listed.content
        if isinstance(content, NnpfCharacteristics):
            lines.setdefault(content.id, []).append(described(content))
            lines[content.id] += [listed.problem] * bool(listed.problem)
        elif isinstance(content, FilterDecisions):
            lines.setdefault(content.filter_id, []).append(f"decisions of {len(content.data)} bytes")
        elif isinstance(content, FilterSettings) and content.output_md5 is not None:
            lines.setdefault(content.filter_id, []).append("MD5 of the filtered pictures")
    return [f"filter {number}: {', '.join(dict.fromkeys(texts))}" for number, texts in sorted(lines.items())]


def described(characteristics: NnpfCharacteristics) -> str:
    """A filter's message in a few words."""
    kind = "base" if characteristics.base_flag else "update"
    purposes = purpose_words(characteristics.purpose)
    if characteristics.mode_idc == MODE_NNC:
        return f"{kind} for {purposes}, {len(characteristics.payload_byte)} bytes of NNC"
    if characteristics.mode_idc == MODE_URI:
        return f"{kind} for {purposes}, at {characteristics.uri}"
    return f"{kind} for {purposes}, of mode {characteristics.mode_idc}"


_PURPOSES = (
    "visual quality",
    "chroma up-sampling",
    "another size",
    "another rate",
    "another bit depth",
    "colours",
    "temporal extrapolation",
    "spatial extrapolation",
)


def purpose_words(purpose: int) -> str:
    """The words for nnpfc_purpose."""
    known = [word for bit, word in enumerate(_PURPOSES) if purpose >> bit & 1]
    known += [f"purpose {purpose}"] if purpose >> len(_PURPOSES) or not purpose else []
    return " and ".join(known)


def sha256_of(data: bytes) -> bytes:
    """What tells a network's file from others."""
    return hashlib.sha256(data).digest()


def _ignored_words(stream: VvcStream) -> str:
    """The filters that a stream carries and that do not run for their numbers."""
    carried = {listed.filter_id for listed in listed_messages(sei_messages(stream.data))} - {None}
    ignored = sorted(number for number in carried if number is not None and is_reserved_id(number))
    if not ignored:
        return ""
    return f" ({', '.join(map(str, ignored))}: a number that H.274 reserves, with which filters are ignored)"


def _stated_qp(found: StreamFilter | None) -> int | None:
    return found.settings.qp if found is not None and found.settings is not None else None


def _chosen(running: Sequence[StreamFilter], filter_id: int | None, number: int) -> StreamFilter | None:
    if filter_id is not None:
        running = [each for each in running if each.id == filter_id]
    if len(running) > 1:
        names = " and ".join(str(each.id) for each in running)
        raise InputError(
            f"filters {names} run on picture {number}: name the one that is to run (filter_id, --filter-id)"
        )
    return running[0] if running else None


def _check_purpose(base: NnpfCharacteristics) -> None:
    if base.purpose != VISUAL_QUALITY:
        raise UnsupportedError(f"filter {base.id} is for {purpose_words(base.purpose)}; only visual quality is done")


def _check_runs(base: NnpfCharacteristics, layout: Layout, chroma_format: ChromaFormat) -> None:
    """Checks that a filter does what its network does here: a picture for a picture, all planes at once."""
    if not base.property_present_flag:
        return
    is_of_luma = layout.planes == "y" or (chroma_format == "400" and base.inp_order_idc == ORDER_LUMA)
    order = ORDER_LUMA if is_of_luma else ORDER_PHASES
    wanted = {
        "nnpfc_num_input_pics_minus1": (base.num_input_pics_minus1, 0),
        "nnpfc_inp_order_idc": (base.inp_order_idc, order),
        "nnpfc_out_order_idc": (base.out_order_idc, order),
        "nnpfc_inp_format_idc": (base.inp_format_idc, 0),
        "nnpfc_out_format_idc": (base.out_format_idc, 0),
    }
    for name, (got, must_be) in wanted.items():
        if got != must_be:
            raise UnsupportedError(f"filter {base.id}: {name} is {got}; its network has {must_be}")
