"""Pictures that were decoded elsewhere, as a manifest or patterns of names list them, in the place of coding them here.

A manifest is a table with tabs between its cells, column names in its first line; `docs/pictures-from-elsewhere.md` has
them. Everything is held against everything before anything is computed: a gap would look like a result.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import TypeVar, cast

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName, SliceType
from vvc_nnr.codec.encoder_logs import EncoderLog, read_encoder_log
from vvc_nnr.codec.sequence import CodedPicture, LoopFilters
from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.experiments.records.rows import MAX_COUNT
from vvc_nnr.experiments.records.settings import InputDigests, digest_of, frame_digest
from vvc_nnr.experiments.runs.decoded_pictures import (
    LOOP_FILTER_SETS,
    Coding,
    DecodedPicture,
    PictureMaker,
    n_pictures_of,
)
from vvc_nnr.files import check_regular_file, name_of_text, naming, read_bytes, text_of_name
from vvc_nnr.filters.networks.told_qp import PictureQps, same_qps
from vvc_nnr.sequences.catalogue import CTC_SEQUENCES
from vvc_nnr.sequences.frame import DEFAULT_FPS, ChromaFormat
from vvc_nnr.sequences.metrics import check_comparable
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.yuv import parse_fps

PLACEHOLDERS = ("sequence", "qp", "loop_filters", "class")
"""What braces in a pattern of names may hold; `*` stands for any letters of a name."""
_CLASSES = tuple(dict.fromkeys(each.ctc_class for each in CTC_SEQUENCES))
_RAW_OF_ORIGINALS = ("size", "original_bit_depth", "chroma_format", "fps")
_BITS_FIELDS = ("bits", "stream", "log")
_BITS_WORDS = {"bits": "the column bits", "stream": "sizes of streams", "log": "logs"}
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class RawFormat:
    """What is not known of raw .yuv files by their names; None where names say it.

    Attributes:
        size: Luma samples per row and rows.
        bit_depth: Bits per sample of decoded pictures, 8 to 16.
        original_bit_depth: Bits per sample of originals, 8 to 16.
        chroma_format: Chroma format.
        fps: Pictures per second; also for a log that has kbit/s alone.
    """

    size: tuple[int, int] | None = None
    bit_depth: int | None = None
    original_bit_depth: int | None = None
    chroma_format: ChromaFormat | None = None
    fps: Fraction | None = None


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One decoded sequence.

    Attributes:
        where: How errors name it, such as "manifest.tsv line 3".
        sequence: Name of the sequence.
        qp: QP that it was coded with, 0 to 63.
        original: The pictures before coding.
        decoded: The pictures after decoding.
        loop_filters: The in-loop filters that the codec ran.
        bits: Bits of all pictures, or of each, None where another field has them.
        stream: The coded file, whose size counts, None likewise.
        log: The encoder's log, None likewise.
        ctc_class: Class of the common test conditions, empty for that of its name and size.
        raw: The format of raw files.
    """

    where: str
    sequence: str
    qp: int
    original: Path
    decoded: Path
    loop_filters: LoopFilters = "all"
    bits: tuple[int, ...] | None = None
    stream: Path | None = None
    log: Path | None = None
    ctc_class: str = ""
    raw: RawFormat = field(default_factory=RawFormat)

    @property
    def key(self) -> tuple[str, int, LoopFilters]:
        """What it is about."""
        return (self.sequence, self.qp, self.loop_filters)

    @property
    def bits_field(self) -> str:
        """The field that has the bits."""
        return next(name for name in _BITS_FIELDS if getattr(self, name) is not None)

    def open_original(self) -> Source:
        """The original under the name and of the class of the row; raises as `open_source`."""
        with self.naming("original"):
            source = _open(self.original, self.raw, self.raw.original_bit_depth)
            return replace(source, name=self.sequence, ctc_class=self.ctc_class or source.ctc_class)

    def open_decoded(self) -> Source:
        """The decoded pictures; raises as `open_source`."""
        with self.naming("decoded"):
            return _open(self.decoded, self.raw, self.raw.bit_depth)

    def naming(self, column: str) -> AbstractContextManager[None]:
        """Puts row and column before what is wrong with its file."""
        return naming(f"{self.where}, column {column}")


@dataclass(frozen=True, slots=True)
class _Bits:
    """Bits of each picture of a row, who counted them, and what a log says of the pictures beside."""

    pictures: tuple[int, ...]
    is_mean: bool
    encoder: str = ""
    log: EncoderLog | None = None


class ListedPictures:
    """Pictures decoded elsewhere, a `DecodedPictures`. Everything but the samples is checked when it is made.

    Args:
        rows: The decoded sequences: each sequence at each QP with each set of in-loop filters, once.
        name: What lists them, for notes.
        max_pictures: Pictures per sequence that are used at most, from the first on, as in the options of the run; None
            for all.
        config: The coding configuration that they are of; that inter pictures are not called all intra is checked
            where logs say what they are.

    Attributes:
        sources: The originals, in the order of the rows.
        qps: The QPs, rising.
        codings: The configuration, as the user names it, with each set of in-loop filters.

    Raises:
        InputError: If a row or file is missing, doubled, or does not fit the others: size, bit depth, number of
            pictures; or a log has inter pictures and the configuration none.
        BitstreamError: If a file is damaged.
        UnsupportedError: If pictures have a format that networks here do not take.
    """

    def __init__(
        self, rows: Sequence[ListedRow], name: str, max_pictures: int | None = None, config: ConfigName = "ai"
    ) -> None:
        self._name = name
        self._max_pictures = max_pictures
        self._rows = {row.key: row for row in rows}
        _check_all_there(rows, name)
        self.qps = tuple(sorted({row.qp for row in rows}))
        found = {row.loop_filters for row in rows}
        self.codings: tuple[Coding, ...] = tuple((config, each) for each in LOOP_FILTER_SETS if each in found)
        firsts = {row.sequence: row for row in reversed(rows)}
        originals = {row.sequence: firsts[row.sequence].open_original() for row in rows}
        self.sources = list(originals.values())
        self._decoded = {row.key: row.open_decoded() for row in rows}
        self._bits: dict[tuple[str, int, LoopFilters], _Bits] = {}
        for row in rows:
            n_decoded = self._check_fits(row, originals[row.sequence])
            self._bits[row.key] = _bits_of(row, n_decoded, max_pictures)
            _check_configuration(row, self._bits[row.key].log, config)
        _check_one_depth(rows, self._decoded)

    encoder = ""

    @property
    def loop_filters(self) -> str:
        """What tables say of the codec and of its filters."""
        encoders = sorted({bits.encoder for bits in self._bits.values() if bits.encoder})
        codec = f"codec by its logs: {', '.join(encoders)}" if encoders else "the codec is not known"
        there = [loop_filters for _, loop_filters in self.codings]
        absent = [each for each in LOOP_FILTER_SETS if each not in there]
        sets = f"; no pictures with {', '.join(absent)}" if absent else ""
        return f"as {self._name} names them, not checked{sets}. Pictures were decoded elsewhere, not here; {codec}"

    @property
    def rate(self) -> str:
        """What tables say of the bits that are counted."""
        kinds = sorted({_BITS_WORDS[row.bits_field] for row in self._rows.values()})
        mean = ", where only their sum is known in equal shares" if any(b.is_mean for b in self._bits.values()) else ""
        return (
            f"bits of the coded pictures as given ({', '.join(kinds)}; not counted here){mean}, and of their "
            "decisions; the network's bits only where a table says so"
        )

    @property
    def settings(self) -> Mapping[str, object]:
        """No encoder of ours."""
        no_encoder = dict.fromkeys(("preset", "sao", "encoder", "encoder_config", "encoder_arguments"), "")
        return {**no_encoder, "encoder_identity": "none, pictures decoded elsewhere", "manifest": self._name}

    def digests(self, sources: Sequence[Source]) -> InputDigests:
        """A digest of each picture of each original; then of each decoded picture with its bits.

        Raises:
            InputError: If a file cannot be read, or holds another number of pictures than it says.
            BitstreamError: If a file is damaged.
        """
        found: dict[str, tuple[str, ...]] = {}
        for source in sources:
            with naming(source.path):
                frames = source.frames(count=self._max_pictures)
                found[source.name] = tuple(frame_digest(frame, source.format.fps) for frame in frames)
        for (name, qp, loop_filters), bits in self._bits.items():
            if name not in found:
                continue
            decoded = self._decoded[name, qp, loop_filters]
            with naming(decoded.path):
                pairs = zip(bits.pictures, decoded.frames(count=len(bits.pictures)), strict=True)
                found[_decoded_name(name, qp, loop_filters)] = tuple(
                    digest_of(f"{frame.format(DEFAULT_FPS)} {n_bits} bits", frame.tobytes()) for n_bits, frame in pairs
                )
        return found

    def decoded_name(self, source: Source, qp: int, coding: Coding) -> str:
        """What `digests` calls the decoded pictures of a sequence."""
        return _decoded_name(source.name, qp, coding[1])

    def maker(self, source: Source, qp: int, coding: Coding) -> PictureMaker:
        """What reads the decoded pictures of a sequence; raises InputError for what is not listed."""
        _, loop_filters = coding
        key = (source.name, qp, loop_filters)
        if key not in self._bits:
            raise InputError(f"{self._name}: has no row of {source.name} at QP {qp} with loop_filters {loop_filters}")
        bits = self._bits[key]
        log = bits.log if CONFIGURATIONS[coding[0]].is_inter else None
        return PictureReader(self._decoded[key], bits.pictures, qp, log)

    def _check_fits(self, row: ListedRow, original: Source) -> int:
        """Holds decoded pictures against the original; returns how many there are, used or not."""
        decoded = self._decoded[row.key]
        with row.naming("decoded"):
            check_comparable(original.format, decoded.format, has_ssim=True)
            if decoded.format.chroma_format not in ("400", "420"):
                named = ":".join(decoded.format.chroma_format)
                raise UnsupportedError(f"networks take 4:0:0 and 4:2:0, got {named}")
            n_original = n_pictures_of(original, self._max_pictures)
            n_decoded = n_pictures_of(decoded, None)
            n_used = n_decoded if self._max_pictures is None else min(n_decoded, self._max_pictures)
            if not n_used or n_used != n_original:
                n_both = min(n_used, n_original)
                cut = f"; --pictures {n_both} takes the first {n_both} of both" if n_both else ""
                raise InputError(
                    f"{decoded.path}: holds {n_decoded} pictures, and {original.path} has {n_original}: must be as "
                    f"many{cut}"
                )
        return n_decoded


@dataclass(frozen=True, slots=True)
class PictureReader:
    """Reads the decoded pictures of one sequence, a `PictureMaker`.

    Attributes:
        decoded: The decoded pictures.
        bits: Bits of each.
        qp: The QP that the encoder was asked for.
        log: Its log of inter pictures, whose QPs differ; None: of others, or none.
    """

    decoded: Source
    bits: tuple[int, ...]
    qp: int
    log: EncoderLog | None = None

    step = 1
    picture_s = 0.0

    def elsewhere(self) -> PictureReader:
        """The same by the whole path."""
        return replace(self, decoded=replace(self.decoded, path=self.decoded.path.absolute()))

    def pictures(self, start: int, count: int, n_threads: int) -> Iterator[DecodedPicture]:
        """Reads pictures; raises InputError and BitstreamError if they cannot be read."""
        with naming(self.decoded.path):
            frames = self.decoded.frames(start, count)
            logged = itertools.islice(_logged(self.log, self.qp), start, None)
            for n_bits, frame in zip(self.bits[start : start + count], frames, strict=True):
                yield DecodedPicture(frame, n_bits, None, None, *next(logged))


def _decoded_name(sequence: str, qp: int, loop_filters: LoopFilters) -> str:
    return f"{sequence}, QP {qp}, loop_filters {loop_filters}, decoded"


def _logged(log: EncoderLog | None, base: int) -> Iterator[tuple[PictureQps, CodedPicture | None]]:
    """QPs of each picture and what its log says of it; without a log that has pictures the QP of the encoding.

    Args:
        log: That of inter pictures, whose QPs differ; None: of others, or none.
        base: The QP that the encoder was asked for.
    """
    if log is None or log.pictures is None or log.access_point_qps is None:
        yield from itertools.repeat((same_qps(base), None))
        return
    for place, (each, access_point_qp) in enumerate(zip(log.pictures, log.access_point_qps, strict=True)):
        coded = None
        if each.temporal_layer is not None:
            slice_type = cast(SliceType, each.slice_type)
            coded = CodedPicture(place, each.qp, each.n_bits, slice_type, each.temporal_layer)
        yield PictureQps(each.qp, access_point_qp, base), coded


def read_manifest(path: Path) -> list[ListedRow]:
    """The rows of a manifest; names of files are relative to its folder.

    Args:
        path: A text with tabs: column names, then a line for each decoded sequence; lines that begin with # and empty
            ones are passed over.

    Raises:
        InputError: Naming line and column, if a cell is missing, doubled or not what it must be.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8: {error.reason}") from error
    lines = [
        (n, line) for n, line in enumerate(re.split(r"\r?\n", text), 1) if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise InputError(f"{path}: holds nothing; must have column names and a line for each decoded sequence")
    (first, head), *body = lines
    names = [name.strip() for name in head.split("\t")]
    _check_columns(f"{path} line {first}", names)
    rows = []
    for number, line in body:
        cells = line.split("\t")
        where = f"{path} line {number}"
        if len(cells) != len(names):
            raise InputError(
                f"{where}: {len(cells)} cells, must be {len(names)} as there are columns, tabs between them"
            )
        rows.append(_row(where, path.parent, dict(zip(names, map(str.strip, cells), strict=True))))
    if not rows:
        raise InputError(f"{path}: has column names and no line below them; must have one for each decoded sequence")
    return rows


def matched_rows(
    decoded: str, originals: str, streams: str, logs: str, raw: RawFormat | None = None
) -> list[ListedRow]:
    """The rows that patterns of names make, such as `dec/{sequence}_qp{qp}.yuv`.

    Args:
        decoded: Pattern of the decoded files, with {sequence} and {qp}.
        originals: Pattern of the originals, with {sequence}.
        streams: Pattern of the coded files, whose size counts; empty for none.
        logs: Pattern of the encoder's logs; empty for none.
        raw: The format of raw files.

    Raises:
        InputError: If a pattern is none, nothing has such a name, or another file is missing or stands for two.
    """
    if missing := [name for name in ("sequence", "qp") if f"{{{name}}}" not in decoded]:
        raise InputError(f"decoded {decoded}: must have {{{missing[0]}}} in it, as in dec/{{sequence}}_qp{{qp}}.yuv")
    if not originals:
        raise InputError(
            f"decoded {decoded}: is a pattern, and originals has none; give one, as in orig/{{sequence}}.yuv"
        )
    if bool(streams) == bool(logs):
        raise InputError(f"decoded {decoded}: bits must come from streams or from logs; give a pattern of one of them")
    rows = []
    for path, said in _named_files("decoded", decoded):
        rows.append(
            ListedRow(
                path,
                text_of_name(said["sequence"]),
                _cell(path, "qp", said["qp"], _qp),
                _the_file(path, "originals", originals, said),
                Path(path),
                _cell(path, "loop_filters", said.get("loop_filters") or "all", _loop_filters),
                stream=_the_file(path, "streams", streams, said) if streams else None,
                log=_the_file(path, "logs", logs, said) if logs else None,
                ctc_class=_cell(path, "class", said.get("class", ""), _class),
                raw=raw or RawFormat(),
            )
        )
    if not rows:
        raise InputError(f"decoded {decoded}: no file has such a name")
    return rows


def manifest_name(path: Path) -> str:
    """What notes call a manifest: its name and what tells its content from others."""
    return f"{text_of_name(path.name)} (SHA-256 {hashlib.sha256(read_bytes(path)).hexdigest()[:16]})"


def _open(path: Path, raw: RawFormat, bit_depth: int | None) -> Source:
    if path.suffix.lower() != ".yuv":
        return open_source(path)
    width, height = raw.size or (None, None)
    return open_source(
        path, width=width, height=height, bit_depth=bit_depth, chroma_format=raw.chroma_format, fps=raw.fps
    )


def _check_all_there(rows: Sequence[ListedRow], name: str) -> None:
    """Each sequence at each QP with each set of filters, once, and with one original and class."""
    firsts: dict[tuple[str, int, LoopFilters], ListedRow] = {}
    of_files: dict[str, ListedRow] = {}
    by_name: dict[str, ListedRow] = {}
    for row in rows:
        if (first := firsts.setdefault(row.key, row)) is not row:
            what = f"{row.sequence} at QP {row.qp} with loop_filters {row.loop_filters}"
            raise InputError(f"{row.where}, column decoded: {what} is at {first.where} already; keep one of them")
        if (first := of_files.setdefault(os.path.realpath(row.decoded), row)) is not row:
            raise InputError(f"{row.where}, column decoded: {row.decoded} is at {first.where} already; must be another")
        first = by_name.setdefault(row.sequence, row)
        for column in ("original", "class", *_RAW_OF_ORIGINALS):
            mine, other = _of_sequence(row, column), _of_sequence(first, column)
            if mine != other:
                raise InputError(
                    f"{row.where}, column {column}: {mine or 'none'} for {row.sequence}, and at {first.where} it is "
                    f"{other or 'none'}; must be the same"
                )
    qps = dict.fromkeys(row.qp for row in rows)
    sets = dict.fromkeys(row.loop_filters for row in rows)
    for key in product(by_name, qps, sets):
        if key not in firsts:
            sequence, qp, loop_filters = key
            raise InputError(
                f"{name}: {sequence} has no row of QP {qp} with loop_filters {loop_filters}, and others have; must "
                "have one, or none may"
            )


def _of_sequence(row: ListedRow, column: str) -> object:
    """What a row says of its sequence, in which all rows of it must agree."""
    if column in _RAW_OF_ORIGINALS:
        return getattr(row.raw, column)
    return row.original if column == "original" else row.ctc_class


def _check_one_depth(rows: Iterable[ListedRow], decoded: Mapping[tuple[str, int, LoopFilters], Source]) -> None:
    """Scores of one sequence at several depths are not to be compared."""
    firsts: dict[str, ListedRow] = {}
    for row in rows:
        first = firsts.setdefault(row.sequence, row)
        mine, other = decoded[row.key].format.bit_depth, decoded[first.key].format.bit_depth
        if mine != other:
            raise InputError(
                f"{row.where}, column decoded: {mine} bit, and at {first.where} {row.sequence} has {other} bit; must "
                "be as many"
            )


def _check_configuration(row: ListedRow, log: EncoderLog | None, config: ConfigName) -> None:
    """Refuses inter pictures as all intra, where networks would be told the row's QP for each of them."""
    if log is None or log.pictures is None or CONFIGURATIONS[config].is_inter:
        return
    inter = [place for place, each in enumerate(log.pictures) if each.slice_type in ("P", "B")]
    if inter:
        with row.naming("log"):
            raise InputError(
                f"{row.log}: {len(inter)} of {log.n_pictures} pictures have P or B slices, as picture {inter[0]}, and "
                f"config {config} is all intra, with QP {row.qp} for all; name the configuration, --config ra (random "
                "access) or ldb (low delay B): networks are then told the QP of each picture"
            )


def _bits_of(row: ListedRow, n_decoded: int, max_pictures: int | None) -> _Bits:
    """Bits of each used picture of a row, from its one field that has them."""
    encoder, log, column = "", None, row.bits_field
    with row.naming(column):
        if row.log is not None:
            log = read_encoder_log(row.log, row.raw.fps)
            bits, encoder = log.picture_bits or (log.n_bits,), log.encoder
            if log.n_pictures != n_decoded:
                raise InputError(
                    f"{row.log}: {log.n_pictures} pictures, and {row.decoded} holds {n_decoded}: must be as many"
                )
        elif row.stream is not None:
            check_regular_file(row.stream)
            bits = (8 * os.stat(row.stream).st_size,)
        else:
            assert row.bits is not None
            bits = row.bits
        if sum(bits) < 1:
            raise InputError("no bits: must be above 0")
        if len(bits) not in (1, n_decoded):
            raise InputError(
                f"bits of {len(bits)} pictures, and {row.decoded} holds {n_decoded}: must be as many, or a sum"
            )
        n_used = n_decoded if max_pictures is None else min(n_decoded, max_pictures)
        is_mean = len(bits) != n_decoded
        if is_mean and n_used < n_decoded:
            raise InputError(
                f"bits of all {n_decoded} pictures, of which --pictures takes {n_used}: must be bits of each picture"
            )
    shares = _equal_shares(bits[0], n_decoded) if is_mean else bits
    return _Bits(shares[:n_used], is_mean, encoder, log)


def _equal_shares(n_bits: int, n_pictures: int) -> tuple[int, ...]:
    """Whole numbers that differ by at most one and have the sum."""
    share, rest = divmod(n_bits, n_pictures)
    return tuple(share + (index < rest) for index in range(n_pictures))


_COLUMNS = ("sequence", "qp", "original", "decoded", *_BITS_FIELDS, "loop_filters", "class")
_RAW_COLUMNS = tuple(each.name for each in fields(RawFormat))


def _check_columns(where: str, names: Sequence[str]) -> None:
    known = (*_COLUMNS, *_RAW_COLUMNS)
    if len(names) == 1:
        raise InputError(f"{where}: one column, {names[0][:60]!r}; must be {', '.join(known)} with tabs between them")
    for name in names:
        if name not in known:
            raise InputError(f"{where}: column {name!r} is not known; must be one of {', '.join(known)}")
        if names.count(name) > 1:
            raise InputError(f"{where}: column {name} is there twice; keep one of them")
    for name in ("sequence", "qp", "original", "decoded"):
        if name not in names:
            raise InputError(f"{where}: column {name} is missing")
    if not set(names) & set(_BITS_FIELDS):
        raise InputError(f"{where}: column bits is missing, or stream or log in its place")


def _row(where: str, folder: Path, cells: Mapping[str, str]) -> ListedRow:
    def needed(name: str) -> str:
        if not cells.get(name):
            raise InputError(f"{where}, column {name}: is empty")
        return cells[name]

    def optional(name: str, check: Callable[[str], _Value]) -> _Value | None:
        return _cell(where, name, cells[name], check) if cells.get(name) else None

    def file(text: str) -> Path:
        return folder / name_of_text(text)

    given = [name for name in _BITS_FIELDS if cells.get(name)]
    if len(given) != 1:
        got = "are all empty" if not given else f"{' and '.join(given)} are both given"
        raise InputError(f"{where}, columns bits, stream, log: {got}; must be one of them")
    return ListedRow(
        where,
        needed("sequence"),
        _cell(where, "qp", needed("qp"), _qp),
        file(needed("original")),
        file(needed("decoded")),
        optional("loop_filters", _loop_filters) or "all",
        optional("bits", _bits),
        optional("stream", file),
        optional("log", file),
        optional("class", _class) or "",
        RawFormat(
            optional("size", _size),
            optional("bit_depth", _depth),
            optional("original_bit_depth", _depth),
            optional("chroma_format", _chroma_format),
            optional("fps", parse_fps),
        ),
    )


def _cell(where: str, column: str, text: str, check: Callable[[str], _Value]) -> _Value:
    try:
        return check(text)
    except ValueError as error:
        message = str(error) if isinstance(error, VvcNnrError) else f"{text[:40]!r}: {error}"
        raise InputError(f"{where}, column {column}: {message}") from error


def _whole_number(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise ValueError(f"must be a whole number, {low} to {high}")
    return int(text)


def _qp(text: str) -> int:
    return _whole_number(text, 0, 63)


def _depth(text: str) -> int:
    return _whole_number(text, 8, 16)


def _bits(text: str) -> tuple[int, ...]:
    return tuple(_whole_number(word.strip(), 0, MAX_COUNT) for word in text.split(","))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise ValueError("must be a size like 416x240")
    return int(match[1]), int(match[2])


def _loop_filters(text: str) -> LoopFilters:
    for known in LOOP_FILTER_SETS:
        if text == known:
            return known
    raise ValueError(f"must be one of {', '.join(LOOP_FILTER_SETS)}")


def _class(text: str) -> str:
    if text and text not in _CLASSES:
        raise ValueError(f"must be one of {', '.join(_CLASSES)}")
    return text


def _chroma_format(text: str) -> ChromaFormat:
    if text == "400":
        return "400"
    if text == "420":
        return "420"
    raise ValueError("must be 400 or 420")


def _named_files(option: str, pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The files whose names a pattern fits, sorted, and what stands in the place of each of its words in braces."""
    parts = re.split(r"(\{[^{}]*\}|\*)", pattern)
    expression, seen = "", set()
    for part in parts:
        word = part[1:-1] if part.startswith("{") else None
        if word is None:
            expression += "[^/]*" if part == "*" else re.escape(part)
        elif word not in PLACEHOLDERS:
            raise InputError(f"{option} {pattern}: {part} is not known; must be one of {{{'}, {'.join(PLACEHOLDERS)}}}")
        elif word in seen:
            expression += f"(?P={word})"
        else:
            seen.add(word)
            expression += f"(?P<{word}>{r'[0-9]+' if word == 'qp' else '[^/]+?'})"
    wild = "".join("*" if part == "*" or part.startswith("{") else glob.escape(part) for part in parts)
    for path in sorted(glob.glob(wild)):
        if (match := re.fullmatch(expression, path)) is not None:
            yield path, match.groupdict()


def _the_file(where: str, option: str, pattern: str, said: Mapping[str, str]) -> Path:
    """The one file of a pattern that says the same as another file's name."""
    filled = pattern
    for word, text in said.items():
        filled = filled.replace(f"{{{word}}}", text if "*" not in pattern else glob.escape(text))
    if left := re.search(r"\{[^{}]*\}", filled):
        raise InputError(f"{option} {pattern}: {left[0]} does not stand in the pattern of decoded pictures")
    found = sorted(glob.glob(filled)) if "*" in pattern else [filled] if os.path.exists(filled) else []
    if len(found) != 1:
        got = f"{len(found)} files ({', '.join(found[:3])})" if found else "no file"
        raise InputError(f"{where}: {option} {filled} is {got}; must be one")
    return Path(found[0])
