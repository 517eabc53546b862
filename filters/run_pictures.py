"""Which pictures a training run began with, so that it never goes on with others.

The note `pictures.json` lies beside the run's checkpoint: the name of each picture's sub-folder in the pair set, and a
digest of its samples. Runs from before there were notes trained on all pictures of their pair set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import AtomicFile, read_bytes
from vvc_nnr.filters.pairs import load_original, pair_names
from vvc_nnr.json_text import parse_json

Digests = Mapping[str, str]


def picture_digests(pairs: Path, names: Sequence[str]) -> Digests:
    """SHA-256 of each picture's packed samples, by name.

    Raises:
        InputError: If a picture cannot be read.
    """
    return {name: hashlib.sha256(load_original(pairs / name).tobytes()).hexdigest() for name in names}


def pictures_before(checkpoint: Path, note: Path, pairs: Path) -> Digests | None:
    """The pictures of the run that a checkpoint is of; None without a checkpoint.

    Args:
        checkpoint: The run's checkpoint.
        note: Where the run's pictures are noted. A run without a note gets one, before its pair set grows.
        pairs: The run's pair set.

    Raises:
        InputError: If note or pair set cannot be read, or the note cannot be written.
    """
    if not checkpoint.exists():
        return None
    if not note.exists():
        note_pictures(note, picture_digests(pairs, pair_names(pairs)))
    return noted_pictures(note)


def check_same_pictures(before: Digests, now: Digests, checkpoint: Path) -> None:
    """Refuses to go on with other pictures than those that a checkpoint was trained on.

    Raises:
        InputError: Naming the first picture that was added, is missing or has changed.
    """
    different = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if different:
        name = different[0]
        how = "is new" if name not in before else "is missing" if name not in now else "has changed"
        raise InputError(
            f"{checkpoint}: a checkpoint of a run on other pictures ({name} {how}); "
            "use the same pictures or another folder"
        )


def note_pictures(note: Path, pictures: Digests) -> None:
    """Writes a run's note.

    Raises:
        InputError: If it cannot be written.
    """
    with AtomicFile(note) as file:
        file.write(json.dumps(dict(pictures), indent=1).encode() + b"\n")


def noted_pictures(note: Path) -> Digests:
    """Reads a run's note.

    Raises:
        InputError: If it cannot be read or is no such note.
    """
    try:
        found = parse_json(read_bytes(note))
    except BitstreamError as error:
        raise InputError(f"{note}: cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise InputError(f"{note}: not a list of a run's pictures")
    return found
