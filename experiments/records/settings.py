"""What a run was to measure, its settings and its inputs, beside its results: only the same run goes on in a folder.

An unfinished run must not look like a finished one: its plan says what is absent.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import vvc_nnr
from vvc_nnr.codec.sequence import check_encodable
from vvc_nnr.errors import BitstreamError, InputError, shown
from vvc_nnr.experiments.pictures import check_small_pictures
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.records.rows import KeyedRow
from vvc_nnr.files import naming, open_input, write_file
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import SSIM_WINDOW
from vvc_nnr.sequences.source import Source

_log = logging.getLogger(__name__)

Value: TypeAlias = str | int
MAX_NAMES = 5
"""Names of what is absent that are printed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    Attributes:
        axes: All that is to be there, by what it is called in the plural: "sequences", "QPs", "images", "networks".
            The first one is what the run is about; rows about anything else are of other runs.
        n_results: How many results (rows) that makes; None while it is not known.
    """

    axes: Mapping[str, tuple[Value, ...]]
    n_results: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What of a plan is there.

    Attributes:
        plan: The plan.
        there: What is there of each of its axes.
        n_results: How many results are there.
        has_ended: Whether the run came to its end.
    """

    plan: Plan
    there: Mapping[str, frozenset[Value]]
    n_results: int
    has_ended: bool

    @property
    def is_finished(self) -> bool:
        """Whether all is there and the run came to its end."""
        return self.has_ended and self.is_measured

    @property
    def is_measured(self) -> bool:
        """Whether all results are there; tables and figures of them may not be."""
        is_whole = self.plan.n_results is not None and self.n_results >= self.plan.n_results
        return is_whole and not any(self._absent().values())

    def text(self) -> str:
        """A sentence for the head of a report, such as "Unfinished: 1 of 2 sequences, 4 of 4 QPs."."""
        counts = [
            f"{len(values) - len(self._absent()[name])} of {len(values)} {name}"
            for name, values in self.plan.axes.items()
        ]
        of_all = "" if self.plan.n_results is None else f" of {self.plan.n_results}"
        counts.append(f"{self.n_results}{of_all} results")
        if self.is_finished:
            return f"Finished: {', '.join(counts)}."
        if self.is_measured:
            advice = "Tables or plots may be missing: the run has not come to its end; run it again and it goes on."
            return f"All is measured: {', '.join(counts)}. {advice}"
        absent = [f"{name}: {_some(values)}" for name, values in self._absent().items() if values]
        text = f"Unfinished: {', '.join(counts)}."
        text += f" Absent: {'; '.join(absent)}." if absent else ""
        return text + ("" if self.has_ended else " The run has not come to its end; run it again and it goes on.")

    def _absent(self) -> dict[str, list[Value]]:
        there = self.there
        return {name: [v for v in values if v not in there.get(name, ())] for name, values in self.plan.axes.items()}


def sequence_plan(
    n_pictures: Mapping[str, int],
    qps: Iterable[int],
    networks: Iterable[str],
    n_per_picture: int | None = None,
    *,
    configurations: Iterable[str] = (),
) -> Plan:
    """The plan of an experiment over coded sequences.

    Args:
        n_pictures: How many pictures of each sequence are used.
        qps: The QPs.
        networks: Names of the networks.
        n_per_picture: Results per picture and QP; None if that is not known.
        configurations: Titles of the coding configurations, none where they go without saying.
    """
    titles = tuple(configurations)
    axes: dict[str, tuple[Value, ...]] = {
        "sequences": tuple(n_pictures),
        **({"configurations": titles} if titles else {}),
        "QPs": tuple(qps),
        "networks": tuple(dict.fromkeys(networks)),
    }
    n_results = None if n_per_picture is None else sum(n_pictures.values()) * len(axes["QPs"]) * n_per_picture
    return Plan(axes, n_results)


def progress(plan: Plan, rows: Iterable[KeyedRow], *, has_ended: bool) -> Progress:
    """What of a plan is there.

    Args:
        plan: The plan.
        rows: The rows that the run asked for, without those that others added.
        has_ended: Whether the run came to its end.
    """
    unique = {row.key: row.axes for row in rows}
    there = {name: frozenset(axes.get(name) for axes in unique.values()) - {None} for name in plan.axes}
    known = {name: frozenset(v for v in values if v is not None) for name, values in there.items()}
    return Progress(plan, known, len(unique), has_ended)


def run_remarks(
    plan: Plan | None, rows: Iterable[KeyedRow], header: Mapping[str, str], *, has_ended: bool
) -> tuple[str, ...]:
    """What a reader has to know before the numbers of a run; nothing if it is finished and of this version.

    Args:
        plan: What the run was to measure; None if its folder does not say.
        rows: The rows that it asked for.
        header: The header of the rows.
        has_ended: Whether the run came to its end.
    """
    remarks = []
    if plan is None:
        remarks.append("Whether this run is finished is not known: its folder does not say what was planned.")
    else:
        found = progress(plan, rows, has_ended=has_ended)
        if not found.is_finished:
            remarks.append(found.text())
    version = header.get("version", "")
    if version != vvc_nnr.__version__:
        made_by = f"version {version}" if version else "an unknown version"
        remarks.append(f"These results are of {made_by} of vvc_nnr, this is version {vvc_nnr.__version__}.")
    return tuple(remarks)


def _some(values: Sequence[object], between: str = ", ") -> str:
    return between.join([*map(str, values[:MAX_NAMES]), *(["..."] if len(values) > MAX_NAMES else [])])


InputDigests: TypeAlias = Mapping[str, Sequence[str]]
"""A digest of each picture of a sequence by the sequence's name; an image has one."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Names of an experiment's files in a folder of results.

    Attributes:
        rows: The measured rows.
        settings: What they were measured under.
        results: Tables and figures that are made from the rows, without suffix; `*` stands for any text.
    """

    rows: str
    settings: str
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes a run the same run: with another identity its rows would not go with those that are there.

    Attributes:
        settings: What the run does, as it goes into the JSON file.
        free: Settings that may differ from an earlier run's: more rows come of it, or the same ones.
        inputs: The pictures that the run is about; an earlier run may have been about others besides.
        max_pictures: Pictures per sequence at most; None for all.
    """

    settings: Mapping[str, object]
    free: Collection[str]
    inputs: InputDigests
    max_pictures: int | None = None


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run in a folder asked for; its tables are about that.

    Attributes:
        settings: What it did, as in the JSON file.
        provenance: Where it came from.
        shown: Names of its inputs; None if the file does not say, which stands for all.
        plan: What it was to measure; None if the file does not say.
        has_ended: Whether it came to its end.
        inputs: Digests of the inputs of all runs in the folder, not checked; None if the file does not say.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    shown: frozenset[str] | None = None
    plan: Plan | None = None
    has_ended: bool = False
    inputs: Mapping[str, Any] | None = None

    @property
    def copies(self) -> str:
        """Which of its inputs are the same pictures, in words; empty if none is."""
        inputs = {name: digests for name, digests in (self.inputs or {}).items() if isinstance(digests, list)}
        names = inputs if self.shown is None else [name for name in inputs if name in self.shown]
        return copies_text({name: tuple(map(str, inputs[name])) for name in names})


def known_inputs(path: Path, identity: RunIdentity) -> InputDigests:
    """Holds a run against the one that a folder holds; nothing is written.

    Args:
        path: The JSON file of the folder.
        identity: The run.

    Returns:
        The inputs of all runs in the folder, with this one.

    Raises:
        InputError: If the folder holds results of other settings, or of other pictures of the same name.
    """
    if not path.exists():
        return identity.inputs
    wanted, old = _as_json(identity.settings), read_last_run(path)
    measured = _digests(path, old.inputs)
    different = [key for key in wanted if key not in identity.free and old.settings.get(key) != wanted[key]]
    if different:
        detail = ", ".join(f"{key} {_there(old.settings, key)}, {wanted[key]!r} now" for key in different)
        raise InputError(f"{path.parent}: holds results of other settings ({detail}); choose another folder")
    for name, digests in identity.inputs.items():
        _check_same_pictures(path.parent, name, measured.get(name, ()), digests, identity.max_pictures)
    known = {**identity.inputs, **measured}
    return {name: max(known[name], identity.inputs.get(name, ()), key=len) for name in (*measured, *known)}


def write_settings(
    path: Path, identity: RunIdentity, inputs: InputDigests, provenance: Provenance, plan: Plan, *, has_ended: bool
) -> None:
    """Notes a run beside its results.

    Args:
        path: The JSON file.
        identity: The run.
        inputs: From `known_inputs`.
        provenance: Where the run comes from.
        plan: What it is to measure.
        has_ended: Whether it came to its end.

    Raises:
        InputError: If the file cannot be written.
    """
    content = {
        "settings": _as_json(identity.settings),
        "provenance": provenance.to_header(),
        "inputs": {name: list(digests) for name, digests in inputs.items()},
        "shown": list(next(iter(plan.axes.values()))),
        "planned": {"axes": {name: list(values) for name, values in plan.axes.items()}, "n_results": plan.n_results},
        "has_ended": has_ended,
    }
    write_json(path, content)


def read_last_run(path: Path) -> LastRun:
    """The settings of the last run from its JSON file, empty if there is none.

    Raises:
        InputError: If the file cannot be read or holds something else.
    """
    if not path.exists():
        return LastRun()
    try:
        content = parse_json(path.read_bytes())
        shown_names, inputs = content.get("shown"), content.get("inputs")
        return LastRun(
            dict(content["settings"]),
            {str(key): str(value) for key, value in content["provenance"].items()},
            None if shown_names is None else frozenset(map(str, shown_names)),
            _plan(content["planned"]) if "planned" in content else None,
            content.get("has_ended") is True,
            None if inputs is None else dict(inputs),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = _fault_of_json(error)
        raise InputError(f"{path}: no settings of a run: {fault}; run it into another folder") from error


def _fault_of_json(error: Exception) -> str:
    """What is wrong with a JSON file, in words and not as Python has it.

    Args:
        error: What reading it, or taking the settings out of its content, raised.
    """
    if isinstance(error, BitstreamError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, KeyError):
        return f"{shown(str(error))} is missing"
    return "an entry has another form than this program writes"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes JSON for people.

    Raises:
        InputError: If the file cannot be written.
    """
    write_file(path, json.dumps(content, indent=2).encode() + b"\n")


def source_digests(sources: Sequence[Source], max_pictures: int | None = None) -> dict[str, tuple[str, ...]]:
    """A digest of each picture of each sequence; refuses what would fail hours later.

    Args:
        sources: The sequences.
        max_pictures: Pictures per sequence that are used at most; None for all.

    Raises:
        InputError: If two sequences have one name, or one cannot be read or is too small to score.
        BitstreamError: If a sequence is damaged.
        UnsupportedError: If a sequence has a format that VVC intra coding here does not take.
    """
    _check_unique([source.name for source in sources])
    refusals: list[InputError] = []
    for source in sources:  # what is wrong with the last one is known before all of the first one is read
        try:
            _source_digests(source, 1)
        except InputError as error:
            refusals.append(error)
    if len(refusals) > 1:
        more = f" and {len(refusals) - MAX_NAMES} more" if len(refusals) > MAX_NAMES else ""
        raise InputError("; ".join(map(str, refusals[:MAX_NAMES])) + more)
    if refusals:
        raise refusals[0]
    return {source.name: _source_digests(source, max_pictures) for source in sources}


def picture_digests(pictures: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """A digest of each picture by its name.

    Raises:
        InputError: If two pictures have one name, or a picture cannot be coded or scored.
    """
    _check_unique(names)
    check_small_pictures(pictures, names)
    return {
        name: (digest_of(str(picture.shape), picture.tobytes()),) for name, picture in zip(names, pictures, strict=True)
    }


def copies_text(inputs: InputDigests) -> str:
    """What a reader has to know of inputs that are copies of others; empty if none is."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name, digests in inputs.items():
        names_of.setdefault(tuple(digests), []).append(name)
    found = [_some([*map(shown, names)], " = ") for names in names_of.values() if len(names) > 1]
    return f"The same pictures count more than once: {_some(found)}." if found else ""


def tell_copies(inputs: InputDigests) -> None:
    """Warns of inputs that are copies of others."""
    if text := copies_text(inputs):
        _log.warning("%s", text)


def files_digest(paths: Sequence[Path]) -> tuple[str, ...]:
    """One digest of the names and contents of files, as that of one input.

    Raises:
        InputError: If a file cannot be read.
    """
    found = hashlib.sha256()
    for path in paths:
        with open_input(path) as file:
            found.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
            found.update(hashlib.file_digest(file, "sha256").digest())
    return (found.hexdigest()[:16],)


def digest_of(what: str, data: bytes) -> str:
    """A digest of data and of what it is, such as its size and format: equal bytes may be other pictures."""
    return hashlib.sha256(what.encode() + b"\0" + data).hexdigest()[:16]


def _source_digests(source: Source, max_pictures: int | None) -> tuple[str, ...]:
    digests: list[str] = []
    with naming(source.path):
        for frame in source.frames(count=max_pictures):
            if not digests:
                check_encodable(frame, source.format)
                _check_scorable(frame)
            digests.append(frame_digest(frame, source.format.fps))
        if not digests:
            raise InputError("holds no picture")
    return tuple(digests)


def frame_digest(frame: Frame, fps: Fraction) -> str:
    """A digest of a picture, its format and its rate."""
    what = f"{frame.width}x{frame.height} {frame.bit_depth} bit {frame.chroma_format} {fps} fps"
    return digest_of(what, frame.tobytes())


def _check_scorable(frame: Frame) -> None:
    smallest = min(min(plane.shape) for plane in frame.planes)
    if smallest < SSIM_WINDOW:
        needed = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise InputError(f"{frame.width}x{frame.height} is too small for SSIM: each plane (chroma too) needs {needed}")


def _check_unique(names: Sequence[str]) -> None:
    if not names:
        raise InputError("there is no picture to measure; name one sequence or image at least")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise InputError(f"{len(twice)} names stand for two inputs each ({', '.join(twice[:3])}): rename one of them")


def _check_same_pictures(
    folder: Path, name: str, before: Sequence[str], now: Sequence[str], max_pictures: int | None
) -> None:
    """Pictures that were measured must still be there and be the same; more of them may have come."""
    changed = [number for number, (old, new) in enumerate(zip(before, now, strict=False)) if old != new]
    if changed:
        which = f", picture {changed[0]} differs" if len(before) > 1 else ""
        raise InputError(f"{folder}: holds results of other pictures called {name}{which}; choose another folder")
    is_cut = max_pictures is not None and len(now) == max_pictures
    if len(now) < len(before) and not is_cut:
        n_both = f"it had {len(before)} pictures and has {len(now)} now"
        raise InputError(f"{folder}: holds results of other pictures called {name}, {n_both}; choose another folder")


def _as_json(settings: Mapping[str, object]) -> dict[str, Any]:
    """The settings as they come back from the JSON file."""
    found: dict[str, Any] = json.loads(json.dumps(settings, default=list))
    return found


def _there(settings: Mapping[str, object], key: str) -> str:
    return f"{settings[key]!r} there" if key in settings else "not noted there"


def _digests(path: Path, inputs: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """The digests of inputs that earlier runs left in the JSON file."""
    if inputs is None:
        raise InputError(f"{path}: no digests of inputs (the run of an older version): choose another folder")
    for name, digests in inputs.items():
        if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
            raise InputError(
                f"{path}: no digest of every picture of {name} (the run of an older version): choose another folder"
            )
    return {name: tuple(digests) for name, digests in inputs.items()}


def _plan(content: Any) -> Plan:
    """The plan in a JSON file; raises ValueError and the like for anything else."""
    axes = {str(name): tuple(values) for name, values in content["axes"].items()}
    n_results = content["n_results"]
    if not all(isinstance(value, str | int) for values in axes.values() for value in values):
        raise ValueError("axes of a plan must be texts and whole numbers")
    if n_results is not None and (type(n_results) is not int or n_results < 0):
        raise ValueError(f"n_results {n_results!r} of a plan")
    return Plan(axes, n_results)
