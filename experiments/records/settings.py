"""The settings and inputs of a run beside its results, so that only the same run goes on in a folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.sequence import check_encodable
from vvc_nnr.errors import BitstreamError, InputError, shown
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.records.planned import MAX_NAMES, Plan
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.files import AtomicFile, open_input
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import SSIM_WINDOW
from vvc_nnr.sequences.source import Source

_log = logging.getLogger(__name__)

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
        copies: Which of its inputs are the same pictures, in words; empty if none is.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    shown: frozenset[str] | None = None
    plan: Plan | None = None
    has_ended: bool = False
    copies: str = ""


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
    wanted, old = _as_json(identity.settings), _old(path)
    if old is None:
        return identity.inputs
    different = [key for key in wanted if key not in identity.free and old.settings.get(key) != wanted[key]]
    if different:
        detail = ", ".join(f"{key} {_there(old.settings, key)}, {wanted[key]!r} now" for key in different)
        raise InputError(f"{path.parent}: holds results of other settings ({detail}); choose another folder")
    for name, digests in identity.inputs.items():
        _check_same_pictures(path.parent, name, old.inputs.get(name, ()), digests, identity.max_pictures)
    known = {**identity.inputs, **old.inputs}
    return {name: max(known[name], identity.inputs.get(name, ()), key=len) for name in (*old.inputs, *known)}


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
        shown = content.get("shown")
        return LastRun(
            dict(content["settings"]),
            {str(key): str(value) for key, value in content["provenance"].items()},
            None if shown is None else frozenset(map(str, shown)),
            _plan(content["planned"]) if "planned" in content else None,
            content.get("has_ended") is True,
            _copies(content.get("inputs"), shown),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no settings of a run: {fault_of_json(error)}; run it into another folder") from error


def _copies(inputs: object, names: object) -> str:
    """The copies among the inputs of these names in a JSON file, None for all; nothing of files that lack digests."""
    if not isinstance(inputs, dict) or not all(isinstance(digests, list) for digests in inputs.values()):
        return ""
    chosen = inputs if not isinstance(names, list) else {name: inputs[name] for name in names if name in inputs}
    return copies_text({name: tuple(map(str, digests)) for name, digests in chosen.items()})


def fault_of_json(error: Exception) -> str:
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
    with AtomicFile(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


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
    for source in sources:  # what is wrong with the last one is known before all of the first one is read
        _source_digests(source, 1)
    return {source.name: _source_digests(source, max_pictures) for source in sources}


def picture_digests(pictures: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """A digest of each picture by its name.

    Raises:
        InputError: If two pictures have one name, or a picture cannot be coded or scored.
    """
    _check_unique(names)
    for name, picture in zip(names, pictures, strict=True):
        check_small_picture(picture, name)
    return {
        name: (digest_of(str(picture.shape), picture.tobytes()),) for name, picture in zip(names, pictures, strict=True)
    }


def copies(inputs: InputDigests) -> list[tuple[str, ...]]:
    """The names of inputs that are the same pictures, of each such group all."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, digests in inputs.items():
        groups.setdefault(tuple(digests), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def copies_text(inputs: InputDigests) -> str:
    """What a reader has to know of inputs that are copies of others; empty if none is."""
    found = [" = ".join(shown(name) for name in names[:MAX_NAMES]) for names in copies(inputs)]
    more = ", ..." if len(found) > MAX_NAMES else ""
    return f"The same pictures count more than once: {', '.join(found[:MAX_NAMES])}{more}." if found else ""


def tell_copies(inputs: InputDigests) -> None:
    """Warns of inputs that are copies of others."""
    if text := copies_text(inputs):
        _log.warning("%s", text)


def check_small_picture(picture: NDArray[np.uint8], where: str) -> None:
    """Checks that a picture (H, W, 3) can be coded and scored; `where` names it.

    Raises:
        InputError: If it cannot.
    """
    height, width = picture.shape[:2]
    if width % 4 or height % 4 or min(width, height) < SSIM_WINDOW:
        needed = f"sides must be multiples of 4 and at least {SSIM_WINDOW}"
        raise InputError(f"{where}: is {width}x{height}, {needed}; crop or enlarge it, or take it out of the folder")


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
            digests.append(_frame_digest(frame, source.format.fps))
        if not digests:
            raise InputError("holds no picture")
    return tuple(digests)


def _frame_digest(frame: Frame, fps: Fraction) -> str:
    what = f"{frame.width}x{frame.height} {frame.bit_depth} bit {frame.chroma_format} {fps} fps"
    return digest_of(what, frame.tobytes())


def _check_scorable(frame: Frame) -> None:
    smallest = min(min(plane.shape) for plane in frame.planes)
    if smallest < SSIM_WINDOW:
        needed = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise InputError(f"{frame.width}x{frame.height} is too small for SSIM: each plane (chroma too) needs {needed}")


def _check_unique(names: Sequence[str]) -> None:
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


@dataclass(frozen=True, slots=True)
class _Noted:
    """What earlier runs left in the JSON file."""

    settings: Mapping[str, object]
    inputs: Mapping[str, tuple[str, ...]]


def _old(path: Path) -> _Noted | None:
    """What earlier runs left there, None if there were none."""
    if not path.exists():
        return None
    try:
        content = parse_json(path.read_bytes())
        settings, inputs = dict(content["settings"]), content.get("inputs")
        inputs = None if inputs is None else dict(inputs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = fault_of_json(error)
        raise InputError(f"{path}: no settings of an earlier run: {fault}; choose another folder") from error
    if inputs is None:
        raise InputError(f"{path}: no digests of inputs (the run of an older version): choose another folder")
    for name, digests in inputs.items():
        if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
            raise InputError(
                f"{path}: no digest of every picture of {name} (the run of an older version): choose another folder"
            )
    return _Noted(settings, {name: tuple(digests) for name, digests in inputs.items()})


def _plan(content: Any) -> Plan:
    """The plan in a JSON file; raises ValueError and the like for anything else."""
    axes = {str(name): tuple(values) for name, values in content["axes"].items()}
    n_results = content["n_results"]
    if not all(isinstance(value, str | int) for values in axes.values() for value in values):
        raise ValueError("axes of a plan must be texts and whole numbers")
    if n_results is not None and (type(n_results) is not int or n_results < 0):
        raise ValueError(f"n_results {n_results!r} of a plan")
    return Plan(axes, n_results)
