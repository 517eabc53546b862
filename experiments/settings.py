"""The settings and inputs of a run beside its results, so that only the same run goes on in a folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.pictures import check_encodable
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.provenance import Provenance
from vvc_nnr.files import AtomicFile
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import SSIM_WINDOW
from vvc_nnr.sequences.source import Source


def settle_settings(
    path: Path,
    settings: Mapping[str, object],
    inputs: Mapping[str, str],
    provenance: Provenance,
    *,
    free: Collection[str],
) -> None:
    """Writes the resolved settings beside the results, after holding them against those of an earlier run.

    Args:
        path: The JSON file.
        settings: What the run does.
        inputs: A digest of each sequence or picture by its name; an earlier run may have had others besides.
        provenance: Where the run comes from.
        free: Settings that may differ from the earlier run's.

    Raises:
        InputError: If the folder holds results of other settings or of other pictures of the same name.
    """
    wanted = json.loads(json.dumps(settings, default=list))
    old = _old(path)
    old_settings, old_inputs = old.get("settings", wanted), old.get("inputs", {})
    different = [key for key in wanted if key not in free and old_settings.get(key) != wanted[key]]
    if different:
        detail = ", ".join(f"{key} {old_settings.get(key)!r} there, {wanted[key]!r} now" for key in different)
        raise InputError(f"{path.parent}: holds results of other settings ({detail}); choose another folder")
    changed = [name for name, digest in inputs.items() if old_inputs.get(name, digest) != digest]
    if changed:
        detail = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise InputError(f"{path.parent}: holds results of other pictures called {detail}; choose another folder")
    content = {
        "settings": wanted,
        "provenance": provenance.to_header(),
        "inputs": {**old_inputs, **inputs},
        "shown": list(inputs),
    }
    write_json(path, content)


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run in a folder asked for; its tables are about that.

    Attributes:
        settings: What it did, as in the JSON file.
        provenance: Where it came from.
        shown: Names of its inputs; None if the file does not say, which stands for all.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    shown: frozenset[str] | None = None


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
        provenance = {str(key): str(value) for key, value in content["provenance"].items()}
        return LastRun(dict(content["settings"]), provenance, None if shown is None else frozenset(map(str, shown)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no settings of a run: {error!r}; run the experiment again") from error


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes JSON for people.

    Raises:
        InputError: If the file cannot be written.
    """
    with AtomicFile(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def source_digests(sources: Sequence[Source]) -> dict[str, str]:
    """A digest of each sequence's first picture by the sequence's name; refuses what would fail hours later.

    Raises:
        InputError: If two sequences have one name, or one cannot be read or is too small to score.
        BitstreamError: If a sequence is damaged at its start.
        UnsupportedError: If a sequence has a format that VVC intra coding here does not take.
    """
    _check_unique([source.name for source in sources])
    return {source.name: _source_digest(source) for source in sources}


def picture_digests(pictures: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> dict[str, str]:
    """A digest of each picture by its name.

    Raises:
        InputError: If two pictures have one name, or a picture cannot be coded or scored.
    """
    _check_unique(names)
    for name, picture in zip(names, pictures, strict=True):
        height, width = picture.shape[:2]
        if width % 4 or height % 4 or min(width, height) < SSIM_WINDOW:
            raise InputError(f"{name}: {width}x{height}, sides must be multiples of 4 and at least {SSIM_WINDOW}")
    return {name: _digest(picture.tobytes()) for name, picture in zip(names, pictures, strict=True)}


def _source_digest(source: Source) -> str:
    with naming(source.path):
        first = next(source.frames(count=1), None)
        if first is None:
            raise InputError("holds no picture")
        check_encodable(first, source.format)
        _check_scorable(first)
        return _digest(first.tobytes())


def _check_scorable(frame: Frame) -> None:
    smallest = min(min(plane.shape) for plane in frame.planes)
    if smallest < SSIM_WINDOW:
        needed = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise InputError(f"{frame.width}x{frame.height} is too small for SSIM: each plane (chroma too) needs {needed}")


def _check_unique(names: Sequence[str]) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise InputError(f"{len(twice)} names stand for two inputs each ({', '.join(twice[:3])}): rename one of them")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _old(path: Path) -> dict[str, Any]:
    """What an earlier run left there, empty if there was none."""
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_bytes())
        return {"settings": dict(content["settings"]), "inputs": dict(content.get("inputs", {}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no settings of an earlier run: {error}; choose another folder") from error
