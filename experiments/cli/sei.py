"""The commands sei list, insert, extract and remove: the SEI messages of a finished stream, its filters above all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from torch import nn
from tyro.conf import Positional, arg

from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.codec.nnpf import (
    MODE_NNC,
    NNC_TAG_URI,
    NNPFA,
    NNPFC,
    NnpfActivation,
    NnpfCharacteristics,
    check_filter_id,
    present_fields,
)
from vvc_nnr.codec.sei import (
    Placement,
    SeiMessage,
    VideoStandard,
    check_same_standard,
    insert_sei,
    remove_sei,
    sei_messages,
    standard_of,
)
from vvc_nnr.codec.stream_filters import (
    FilterDecisions,
    FilterSettings,
    ListedMessage,
    StoredPrecision,
    filter_number,
    filtered_share,
    filters_by_picture,
    free_filter_id,
    has_leading_pictures,
    listed_messages,
)
from vvc_nnr.codec.vvc_stream import VvcStream, check_one_format, read_vvc_stream, stream_chroma_format
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import NATURAL, QP, OutputPath
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown
from vvc_nnr.files import AtomicFile, naming, read_bytes, write_file
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.decisions.sequence import read_decisions
from vvc_nnr.filters.in_stream import (
    at_uri,
    bitstream_of,
    characteristics_of,
    check_decisions,
    described,
    filter_messages,
    sha256_of,
    with_bitstream,
)
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE
from vvc_nnr.filters.zoo import filter_of_nnc, load_inloop_filter
from vvc_nnr.network_file import is_nnc
from vvc_nnr.sequences.frame import ChromaFormat

_NAMES: Mapping[int, str] = {
    0: "buffering period",
    1: "picture timing",
    4: "user data, registered",
    5: "user data",
    19: "film grain",
    130: "decoding unit information",
    132: "decoded picture hash",
    137: "mastering display",
    144: "content light level",
    NNPFC: "filter (NNPFC)",
    NNPFA: "filter runs (NNPFA)",
}


@dataclass(frozen=True, kw_only=True)
class SeiList(Command):
    """List the SEI messages of a stream.

    Attributes:
        input: A byte stream of VVC, HEVC or AVC; its suffix tells which.
        filters: Those of neural-network filters alone, with all their fields.
    """

    input: Positional[Path]
    filters: bool = False

    def run(self) -> Outcome:
        """The messages as a table.

        Raises:
            InputError: If the file cannot be read, or its suffix is none of a stream.
            BitstreamError, UnsupportedError: If it is damaged, or has more than one layer.
        """
        stream, standard = _stream(self.input)
        with naming(self.input):
            listed = listed_messages(sei_messages(stream, standard))
        if self.filters:
            listed = [each for each in listed if each.content is not None or each.problem]
        columns = (
            Column("Picture"),
            Column("Place", text=True),
            Column("Type"),
            Column("Message", text=True),
            Column("Size", "byte"),
            Column("Says", text=True),
        )
        rows = tuple(
            (
                each.placed.picture,
                _place(each),
                each.placed.message.payload_type,
                _name(each),
                each.placed.size_bytes,
                _said(each),
            )
            for each in listed
        )
        n_bytes = sum(each.placed.size_bytes for each in listed)
        notes = (f"{len(listed)} messages, {n_bytes} of {len(stream)} bytes.",)
        text = to_markdown(Table(self.input.name, columns, rows, notes)).rstrip()
        if self.filters:
            text += "".join(f"\n\n{_fields_text(each)}" for each in listed if each.content is not None)
        data = {
            "file": str(self.input),
            "stream_bytes": len(stream),
            "sei_bytes": n_bytes,
            "messages": [_as_data(each) for each in listed],
        }
        return Outcome(text, data)


@dataclass(frozen=True, kw_only=True)
class SeiInsert(Command):
    """Put a neural-network filter into a finished stream.

    Attributes:
        input: A byte stream of VVC, HEVC or AVC; its suffix tells which.
        output: The stream to write.
        network: Name of a bundled network, or a coded file (.nnc) of one of their architectures or of an ONNX model
            whose layout is in its metadata.
        uri: Where a decoder finds the network's file; then the stream does not hold it.
        tag_uri: What kind of file that is.
        filter_id: Number of the filter, 0 to 255 or 512 to 2147483647; default: the lowest from 1 on that is free.
        update_of: Number of a filter in the stream that the network file is an update of.
        at: Before the first picture; each that begins a sequence; each random access point; each picture.
        suffix: Behind the slices of the picture.
        qp: What the network is told as QP; default: by the headers of slices.
        decisions: The encoder's decisions (of the command filter) for the network.
        filtered_md5: MD5 of the filtered pictures (output_md5 of filter --json), which a decoder is to have too.
        precision: What the network is to be computed in; default: as decisions were, else as the decoder likes.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    network: str
    uri: str | None = None
    tag_uri: str = NNC_TAG_URI
    filter_id: Annotated[int | None, NATURAL] = None
    update_of: Annotated[int | None, NATURAL] = None
    at: Placement = "sequence"
    suffix: bool = False
    qp: Annotated[int | None, QP] = None
    decisions: Path | None = None
    filtered_md5: str | None = None
    precision: StoredPrecision | None = None

    def run(self) -> Outcome:
        """Writes the stream.

        Raises:
            InputError: If a file or an option cannot be used, the number is taken, or a VVC stream's pictures are not
                of one format.
            BitstreamError, UnsupportedError: If a file is damaged, or not read.
        """
        path = network_path(self.network)
        check_outputs([self.input, path, self.decisions], [self.output])
        stream, standard = _stream(self.input)
        check_same_standard(self.output, standard)
        if self.decisions is not None and standard != "vvc":
            raise InputError(f"{self.input}: --decisions are held against the headers of a VVC stream")
        with naming(self.input):
            known = listed_messages(sei_messages(stream, standard))
            filter_id = self._number(known)
            chroma_format = stream_chroma_format(stream) if standard == "vvc" else "420"
            network = self._network(path, filter_id, chroma_format)
        sha256 = sha256_of(read_bytes(path))
        has_leading = standard == "vvc" and has_leading_pictures(stream)
        settings = self._settings(filter_id, sha256, has_leading and self.at != "picture")
        if self.decisions is not None:
            with naming(self.input):
                headers = read_vvc_stream(stream)
            with naming(self.decisions):
                rule = declared_layout(_filter(path)).qp_rule if self.update_of is None else DEFAULT_RULE
                check_decisions(read_decisions(self.decisions), headers, sha256, qp=self.qp, rule=rule)
        messages = filter_messages(network, settings)
        decided = () if self.decisions is None else (FilterDecisions(filter_id, read_bytes(self.decisions)).message(),)
        with AtomicFile(self.output) as file, naming(self.input):
            before = stream if self.update_of is None else remove_sei(stream, self._is_replaced, standard, at=self.at)
            written = insert_sei(
                before,
                messages,
                at=self.at,
                suffix=self.suffix,
                standard=standard,
                at_first=decided,
                behind_others=self.update_of is not None,
            )
            after = _headers(written) if standard == "vvc" else None
            if after is not None:
                check_one_format(after)  # as the command filter does
                if self.update_of is not None:
                    _check_order(after, filter_id)
            counted = None if after is None else filtered_share(after, filter_id)
            if counted is not None and decided and counted.n_filtered < counted.n_pictures:
                raise UnsupportedError(
                    f"the filter runs on {counted.n_filtered} of {counted.n_pictures} pictures with --at {self.at}, "
                    "decisions are for all: take another place"
                )
            file.write(written)
        added = len(written) - len(stream)
        text = f"{self.output}: filter {filter_id}, {described(network)}; {added} bytes added to {len(stream)}"
        if counted is not None:
            text += f"; runs on {counted.n_filtered} of {counted.n_pictures} pictures"
        data = {
            "output": str(self.output),
            "filter_id": filter_id,
            "stream_bytes": len(written),
            "sei_bits": 8 * added,
            "network_bytes": len(network.payload_byte),
            "decision_bytes": 0 if self.decisions is None else len(read_bytes(self.decisions)),
        }
        if counted is not None:
            data |= {"n_pictures": counted.n_pictures, "n_pictures_filtered": counted.n_filtered}
        return Outcome(text, data)

    def _is_replaced(self, message: SeiMessage) -> bool:
        """Whether a message runs the base where its update runs: those of one filter at a picture must be alike."""
        return message.payload_type == NNPFA and filter_number(message) == self.update_of

    def _number(self, known: list[ListedMessage]) -> int:
        used = {each.filter_id for each in known} - {None}
        if self.update_of is not None:
            if self.filter_id is not None:
                raise InputError("--filter-id and --update-of: an update has the number of its base; give one of them")
            if self.update_of not in used:
                raise InputError(f"--update-of {self.update_of}: the stream has no such filter")
            check_filter_id(self.update_of)
            return self.update_of
        if self.filter_id is not None:
            check_filter_id(self.filter_id)
        if self.filter_id in used:
            raise InputError(f"--filter-id {self.filter_id}: the stream has such a filter; take another, or none")
        return free_filter_id(known) if self.filter_id is None else self.filter_id

    def _network(self, path: Path, filter_id: int, chroma_format: ChromaFormat) -> NnpfCharacteristics:
        if self.uri is None and not is_nnc(path):
            raise InputError(f"{path}: a stream holds coded networks (.nnc); code it first (vvc-nnr compress)")
        if self.update_of is None:
            module = _filter(path)
            if self.precision == "int8" and not isinstance(module, InLoopNetwork):
                raise InputError(
                    f"{path}: --precision int8: for the bundled architectures alone; take another, or none"
                )
            with naming(path):
                network = characteristics_of(module, filter_id, chroma_format=chroma_format)
        else:
            network = NnpfCharacteristics(id=filter_id, base_flag=False)
        if self.uri is not None:
            return at_uri(network, self.uri, self.tag_uri)
        if self.tag_uri != NNC_TAG_URI:
            raise InputError("--tag-uri: says what is at a --uri, and there is none")
        return with_bitstream(network, read_bytes(path))

    def _settings(self, filter_id: int, sha256: bytes, covers_leading: bool) -> FilterSettings | None:
        """What the standard has no field for; None if there is nothing of it."""
        settings = FilterSettings(
            filter_id=filter_id,
            is_kept=self.at == "once",
            covers_leading=covers_leading,
            qp=self.qp,
            precision=self.precision,
        )
        if self.uri is not None:
            settings = replace(settings, network_sha256=sha256)
        if self.decisions is not None:
            made_with = read_decisions(self.decisions).made_with
            if made_with is None:
                raise InputError(f"{self.decisions}: does not say what the decisions were made with: make them anew")
            if made_with.network_sha256 != sha256[: len(made_with.network_sha256)]:
                raise InputError(f"{self.decisions}: decisions made with another network than {self.network}")
            if self.qp not in (None, made_with.qp):
                made = "the QPs of slices" if made_with.qp is None else f"QP {made_with.qp}"
                raise InputError(f"{self.decisions}: decisions made with {made}, --qp {self.qp} was given")
            if self.precision not in (None, made_with.precision):
                made = f"precision {made_with.precision}"
                raise InputError(
                    f"{self.decisions}: decisions made with {made}, --precision {self.precision} was given"
                )
            settings = replace(settings, qp=made_with.qp, precision=made_with.precision)
        if self.filtered_md5 is not None:
            if settings.precision is None:
                raise InputError(
                    "--filtered-md5: only pictures of the same precision have the same MD5: give the one that they "
                    "were filtered with (--precision int8)"
                )
            settings = replace(settings, output_md5=_md5(self.filtered_md5))
        return settings if settings != FilterSettings(filter_id=filter_id) else None


@dataclass(frozen=True, kw_only=True)
class SeiExtract(Command):
    """Take the network of a filter, or its decisions, out of a stream into a file; the stream stays.

    Attributes:
        input: A byte stream of VVC, HEVC or AVC; its suffix tells which.
        output: The file to write: a coded network (.nnc), or decisions.
        filter_id: Number of the filter; default: the only one.
        update: Its last update.
        decisions: The encoder's decisions for it.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    filter_id: Annotated[int | None, NATURAL] = None
    update: bool = False
    decisions: bool = False

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If the stream carries no such filter, or has it elsewhere.
            BitstreamError, UnsupportedError: If the stream is damaged, or not read.
        """
        check_outputs([self.input], [self.output])
        if self.update and self.decisions:
            raise InputError("--update and --decisions: one file holds one of them; give one")
        stream, standard = _stream(self.input)
        with naming(self.input):
            listed = listed_messages(sei_messages(stream, standard))
            found = self._found(_only(listed, self.filter_id))
            if not self.decisions:
                read_stream(found, skip_unsupported=True)  # damaged networks are not handed out
        write_file(self.output, found)
        return Outcome(f"{self.output}: {len(found)} bytes", {"output": str(self.output), "n_bytes": len(found)})

    def _found(self, contents: list[Any]) -> bytes:
        if self.decisions:
            decided = [each.data for each in contents if isinstance(each, FilterDecisions)]
            if decided:
                return decided[-1]
            raise InputError("the stream carries no decisions for the filter")
        networks = [
            each for each in contents if isinstance(each, NnpfCharacteristics) and each.base_flag != self.update
        ]
        if not networks:
            raise InputError(f"the stream carries no {'update' if self.update else 'base'} of the filter")
        return bitstream_of(networks[-1])


@dataclass(frozen=True, kw_only=True)
class SeiRemove(Command):
    """Take filters, or SEI messages of a type, out of a stream; all other bytes stay.

    Attributes:
        input: A byte stream of VVC, HEVC or AVC; its suffix tells which.
        output: The stream to write.
        filter_id: The filter; default: all filters.
        type: Instead of filters all messages of this payload type.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    filter_id: Annotated[int | None, NATURAL] = None
    type: Annotated[int | None, NATURAL] = None

    def run(self) -> Outcome:
        """Writes the stream.

        Raises:
            InputError: If the file cannot be read, or holds nothing of the kind.
            BitstreamError, UnsupportedError: If the stream is damaged, or not read.
        """
        check_outputs([self.input], [self.output])
        if self.filter_id is not None and self.type is not None:
            raise InputError("--filter-id and --type: contradict each other; give one of them")
        stream, standard = _stream(self.input)
        check_same_standard(self.output, standard)
        with AtomicFile(self.output) as file, naming(self.input):
            written = remove_sei(stream, self._is_removed, standard)
            if len(written) == len(stream):
                raise InputError("holds no such message: nothing is to be removed")
            file.write(written)
        removed = len(stream) - len(written)
        text = f"{self.output}: {removed} bytes removed of {len(stream)}"
        return Outcome(text, {"output": str(self.output), "stream_bytes": len(written), "removed_bytes": removed})

    def _is_removed(self, message: SeiMessage) -> bool:
        if self.type is not None:
            return message.payload_type == self.type
        if self.filter_id is None and message.payload_type in (NNPFC, NNPFA):
            return True  # damaged ones too
        number = filter_number(message)
        return number is not None and self.filter_id in (None, number)


def _filter(path: Path) -> nn.Module:
    """The filter that a decoder makes of a file.

    Raises:
        InputError: If it makes none of it.
        BitstreamError, UnsupportedError: If the file cannot be read.
    """
    if not is_nnc(path):
        return load_inloop_filter(path)
    try:
        return filter_of_nnc(read_bytes(path), str(path))
    except InputError as error:
        reason = str(error).partition("; give one (--layout")[0]  # which this command has not
        raise InputError(
            f"{reason}; a stream carries coded filters of the bundled architectures, and coded ONNX models with their "
            'layout: put it into the metadata of the model (key "layout"), and code that (vvc-nnr compress)'
        ) from error


def _stream(path: Path) -> tuple[bytes, VideoStandard]:
    standard = standard_of(path)
    return read_bytes(path), standard


def _headers(stream: bytes) -> VvcStream | None:
    """What the headers of a VVC stream say; None where they are not read, which other decoders may do."""
    try:
        return read_vvc_stream(stream)
    except (BitstreamError, UnsupportedError):
        return None


def _check_order(stream: VvcStream, filter_id: int) -> None:
    """Raises InputError if an update of a filter stands before its base."""
    try:
        filters_by_picture(stream, filter_id)
    except BitstreamError as error:
        if error.field == "nnpfc_base_flag":
            raise InputError(
                f"its update would stand before the base of filter {filter_id}, which is behind the slices of its "
                "picture: put the update there too (--suffix)"
            ) from error


def _only(listed: list[ListedMessage], filter_id: int | None) -> list[Any]:
    """What the messages of one filter say."""
    used = sorted({each.filter_id for each in listed if each.filter_id is not None})
    if not used or filter_id not in (None, *used):
        raise InputError("the stream carries no filter" if not used else f"its filters are {used}, not {filter_id}")
    if filter_id is None and len(used) > 1:
        raise InputError(f"its filters are {', '.join(map(str, used))}: name one (--filter-id)")
    return [each.content for each in listed if each.filter_id in (used if filter_id is None else (filter_id,))]


def _place(listed: ListedMessage) -> str:
    return "behind" if listed.placed.is_suffix else "before"


def _name(listed: ListedMessage) -> str:
    match listed.content:
        case FilterSettings():
            return "filter settings"
        case FilterDecisions():
            return "filter decisions"
    return _NAMES.get(listed.placed.message.payload_type, "")


def _said(listed: ListedMessage) -> str:
    if listed.content is None:
        return f"not read: {listed.problem}" if listed.problem else ""
    return "; ".join(filter(None, (_content_said(listed), listed.problem)))


def _content_said(listed: ListedMessage) -> str:
    match listed.content:
        case NnpfCharacteristics():
            return f"filter {listed.filter_id}: {described(listed.content)}"
        case NnpfActivation(cancel_flag=True):
            return f"filter {listed.filter_id}: no more"
        case NnpfActivation():
            kind = "base" if listed.content.target_base_flag else "update"
            return f"filter {listed.filter_id}: {kind}, {'from here on' if listed.content.persistence_flag else 'here'}"
        case FilterSettings():
            return f"filter {listed.filter_id}: {_settings_text(listed.content)}"
        case FilterDecisions():
            return f"filter {listed.filter_id}: decisions of {len(listed.content.data)} bytes"
    return ""


def _settings_text(settings: FilterSettings) -> str:
    words = [
        f"QP {settings.qp}" if settings.qp is not None else "QPs of slices",
        f"in {settings.precision}" if settings.precision is not None else "",
        "for all sequences" if settings.is_kept else "",
        f"MD5 {settings.output_md5.hex()}" if settings.output_md5 is not None else "",
    ]
    return ", ".join(filter(None, words))


def _fields(listed: ListedMessage) -> dict[str, Any]:
    """All values of a message, the bytes of networks as their number."""
    match listed.content:
        case NnpfCharacteristics() | NnpfActivation():
            found = present_fields(listed.content)
            if isinstance(listed.content, NnpfCharacteristics) and listed.content.mode_idc == MODE_NNC:
                found["nnpfc_payload_byte"] = len(listed.content.payload_byte)
            return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        case FilterSettings():
            s = listed.content
            hashes = {"network_sha256": s.network_sha256, "output_md5": s.output_md5}
            return {
                "filter_id": s.filter_id,
                "is_kept": s.is_kept,
                "qp": s.qp,
                "precision": s.precision,
            } | {name: value and value.hex() for name, value in hashes.items()}
        case FilterDecisions():
            return {"filter_id": listed.content.filter_id, "n_bytes": len(listed.content.data)}
    return {}


def _fields_text(listed: ListedMessage) -> str:
    head = f"Picture {listed.placed.picture}, {_name(listed)}:"
    lines = [f"  {name}: {json.dumps(value)}" for name, value in _fields(listed).items()]
    return "\n".join([head, *lines])


def _as_data(listed: ListedMessage) -> dict[str, Any]:
    return {
        "picture": listed.placed.picture,
        "is_suffix": listed.placed.is_suffix,
        "payload_type": listed.placed.message.payload_type,
        "name": _name(listed) or None,
        "size_bytes": listed.placed.size_bytes,
        "offset_bytes": listed.placed.offset_bytes,
        "problem": listed.problem or None,
        "fields": _fields(listed),
    }


def _md5(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise InputError(f"--filtered-md5 {text[:40]!r}: must be 32 hexadecimal digits")
    return found
