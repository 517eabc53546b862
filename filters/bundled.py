"""The files of the networks that ship with this package, by name; needs no torch."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from vvc_nnr.errors import InputError, shown_name
from vvc_nnr.network_file import NNC_SUFFIX

ZOO = Path(__file__).parent / "zoo"
FEATURE_LEVELS_KEY = "feature_levels"
"""Metadata of an in-loop filter with the levels of its features, by which int8 is the same on every machine."""
ZOO_SUFFIXES = (".safetensors", NNC_SUFFIX)


def zoo_names() -> list[str]:
    """Names of the networks that ship with this package."""
    return sorted(path.stem for path in ZOO.iterdir() if path.suffix in ZOO_SUFFIXES)


def zoo_path(name: str) -> Path | None:
    """The file of a network that ships with this package, None if none has that name."""
    present = {path.name: path for path in ZOO.iterdir()}  # not asked for by name, which may be any user's path
    return next((present[file] for suffix in ZOO_SUFFIXES if (file := f"{name}{suffix}") in present), None)


HASH_NAME = "ni:///sha-256-128;"
"""How a file's name by its hash begins (RFC 6920): the first 128 bits of its SHA-256 follow."""
_HASH_BYTES = 16


def name_by_hash(data: bytes) -> str:
    """The name of a file by its hash, a URI that holds wherever the file is."""
    digest = hashlib.sha256(data).digest()[:_HASH_BYTES]
    return HASH_NAME + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def network_by_hash(uri: str) -> Path | None:
    """The file of the coded network that ships with this package and has this name, None if none has."""
    if not uri.startswith(HASH_NAME):
        return None
    coded = (path for path in sorted(ZOO.iterdir()) if path.suffix == NNC_SUFFIX)
    return next((path for path in coded if name_by_hash(path.read_bytes()) == uri), None)


def network_path(name_or_path: str | Path) -> Path:
    """The file of a network that ships with this package by its name, else the path itself.

    Raises:
        InputError: If it is a plain word, and neither such a name nor that of a file.
    """
    path = zoo_path(str(name_or_path)) or Path(name_or_path)
    is_word = path.name == str(name_or_path) != "-" and not path.suffix
    if is_word and not os.path.lexists(path):
        raise no_network(name_or_path)
    return path


def no_network(name_or_path: str | Path) -> InputError:
    """What is said where a network is neither a file nor one that ships with this package, with those that do."""
    name = shown_name(str(name_or_path))
    return InputError(f"{name}: no such file, and no network of the zoo ({', '.join(zoo_names())})")
