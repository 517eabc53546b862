"""Finished encodings on disk, found again by the hash of all that determines their bytes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vvc_nnr.files import AtomicFile, make_folder
from vvc_nnr.json_text import parse_json

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """What an encoder's run gave.

    Attributes:
        stream: The VVC byte stream.
        log: What the encoder printed.
        encode_s: Seconds that it ran.
        encode_cpu_s: Processor seconds of all its threads, None where they were not measured.
    """

    stream: bytes
    log: str
    encode_s: float
    encode_cpu_s: float | None


class EncodingCache:
    """A folder of `<first two hex digits>/<hash>.266` files with a `.json` beside each.

    The JSON is written last and holds a hash of all that the entry says and of its key, so an entry that a crash cut
    short, that was damaged since or that has another's name is no entry; nor is one with a time below 0 or not finite.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> EncoderRun | None:
        """The encoding under a key; None if absent or damaged."""
        stream_path, log_path = self._paths(key)
        try:
            entry = parse_json(log_path.read_bytes())
            stream = stream_path.read_bytes()
            found = EncoderRun(stream, str(entry["log"]), entry["encode_s"], entry["encode_cpu_s"])
            is_possible = _is_time(found.encode_s) and (found.encode_cpu_s is None or _is_time(found.encode_cpu_s))
            return found if is_possible and entry["sha256"] == _digest(key, found) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: str, encoding: EncoderRun) -> None:
        """Stores an encoding; several processes may store the same key at once.

        Where something else than a file has an entry's name, the entry is not stored, and a warning says so.

        Raises:
            InputError: If the folder cannot be written.
        """
        make_folder(self._folder)
        stream_path, log_path = self._paths(key)
        if in_the_way := _in_the_way(stream_path.parent, (stream_path, log_path)):
            _log.warning("%s: has the name of a cached encoding, which is not kept; remove it", in_the_way)
            return
        make_folder(stream_path.parent)
        entry = {
            "sha256": _digest(key, encoding),
            "encode_s": float(encoding.encode_s),
            "encode_cpu_s": None if encoding.encode_cpu_s is None else float(encoding.encode_cpu_s),
            "log": encoding.log,
        }
        for path, data in ((stream_path, encoding.stream), (log_path, json.dumps(entry).encode())):
            with AtomicFile(path) as file:
                file.write(data)

    def _paths(self, key: str) -> tuple[Path, Path]:
        folder = self._folder / key[:2]
        return folder / f"{key}.266", folder / f"{key}.json"


def _in_the_way(folder: Path, files: Iterable[Path]) -> Path | None:
    """What has the place of an entry's folder and is none, or that of a file and is a folder."""
    if os.path.lexists(folder) and not folder.is_dir():
        return folder
    return next((path for path in files if path.is_dir()), None)


def _is_time(value_s: object) -> bool:
    """Whether a value out of a file is a time: JSON has texts, true and NaN as well."""
    return isinstance(value_s, float) and math.isfinite(value_s) and value_s >= 0


def _digest(key: str, run: EncoderRun) -> str:
    """Of all that an entry says: JSON gives every float back as it was."""
    cpu_s = None if run.encode_cpu_s is None else float(run.encode_cpu_s)
    said = json.dumps([key, run.log, float(run.encode_s), cpu_s]).encode()
    return hashlib.sha256(hashlib.sha256(run.stream).digest() + said).hexdigest()
