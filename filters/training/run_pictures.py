"""Which pictures a training run began with, so that it never goes on with others.

The note `pictures.json` lies beside the run's checkpoint: the name of each picture's sub-folder in the pair set, and a
digest of its samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import AtomicFile, read_bytes
from vvc_nnr.filters.training.pairs import folder_name, load_original, packed_original
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import Frame

Digests = Mapping[str, str]


def picture_digests(pairs: Path, names: Sequence[str]) -> Digests:
    """SHA-256 of each picture's packed samples, by name.

    Raises:
        InputError: If a picture cannot be read.
    """
    return {name: hashlib.sha256(load_original(pairs / name).tobytes()).hexdigest() for name in names}


def frame_digests(pictures: Iterable[tuple[str, Frame]]) -> Digests:
    """The same of pictures that need not be in a pair set yet.

    Args:
        pictures: Names and pictures, as of `make_pairs`.
    """
    return {
        folder_name(index, name): hashlib.sha256(packed_original(frame).tobytes()).hexdigest()
        for index, (name, frame) in enumerate(pictures)
    }


def pictures_before(checkpoint: Path, note: Path) -> Digests | None:
    """The pictures of the run that a checkpoint is of; None without a checkpoint.

    Args:
        checkpoint: The run's checkpoint.
        note: Where the run's pictures are noted.

    Raises:
        InputError: If the note is missing or cannot be read.
    """
    if not checkpoint.exists():
        return None
    if not note.exists():
        raise InputError(
            f"{note}: is missing, which pictures {checkpoint.name} was trained on is not known: "
            "bring it back, or train in another folder"
        )
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
        raise InputError(f"{note}: cannot be read: {error}; bring it back, or train in another folder") from error
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise InputError(f"{note}: not a list of a run's pictures; bring it back, or train in another folder")
    return found
