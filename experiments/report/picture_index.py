"""The pictures that an experiment left for a viewer, their index checked field by field; see `viewer_pictures`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vvc_nnr.errors import BitstreamError, InputError, shown
from vvc_nnr.experiments.runs.viewer_pictures import FOLDER, INDEX
from vvc_nnr.files import read_bytes
from vvc_nnr.json_text import parse_json

KINDS = ("original", "decoded", "filtered")
_MAX_SIDE = 1 << 16


@dataclass(frozen=True, slots=True)
class PictureEntry:
    """One picture as it was, as the codec made it, and as the network left it.

    Attributes:
        sequence: Name of the sequence.
        qp: QP of the encoding.
        network: Name of the network.
        picture: Number of the picture in the sequence, from 0.
        width: Pixels per row of each file.
        height: Rows of each file.
        files: A file for each of `KINDS`.
        psnr_y_db: PSNR of luma in dB, of decoded and filtered, inf for identical planes.
    """

    sequence: str
    qp: int
    network: str
    picture: int
    width: int
    height: int
    files: tuple[Path, Path, Path]
    psnr_y_db: tuple[float, float]


def read_index(results: Path) -> list[PictureEntry]:
    """The pictures of a folder of results, empty if it has none.

    Raises:
        InputError: If the index cannot be read, a field of it is not as described, or a file is not there.
    """
    path = results / FOLDER / INDEX
    if not path.exists():
        return []
    try:
        content = parse_json(read_bytes(path))
    except BitstreamError as error:
        raise InputError(f"{path}: {error}; run the experiment again") from error
    if not isinstance(content, list):
        raise InputError(f"{path}: must be a list of pictures, got {type(content).__name__}")
    return [_entry(_Fields(f"{path}, entry {number}", each), path.parent) for number, each in enumerate(content)]


@dataclass(frozen=True, slots=True)
class _Fields:
    """An object of the index, whose fields are read with a check."""

    where: str
    content: object

    def get(self, name: str) -> object:
        if not isinstance(self.content, dict) or name not in self.content:
            raise InputError(f"{self.where}: has no {name}")
        return self.content[name]

    def inside(self, name: str) -> _Fields:
        return _Fields(f"{self.where}, {name}", self.get(name))

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} {value!r}: must be a text")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{self.where}: {name} {value!r}: must be a whole number from {low} to {high}")
        return value

    def decibels(self, name: str) -> float:
        value = self.get(name)
        if value == "inf":
            return math.inf
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise InputError(f'{self.where}: {name} {value!r}: must be a number of dB or "inf"')
        return float(value)


def _entry(fields: _Fields, folder: Path) -> PictureEntry:
    files, scores = fields.inside("files"), fields.inside("psnr_y_db")
    original, decoded, filtered = (_file(files, kind, folder) for kind in KINDS)
    return PictureEntry(
        fields.text("sequence"),
        fields.whole("qp", 0, 63),
        fields.text("network"),
        fields.whole("picture", 0, 1 << 31),
        fields.whole("width", 1, _MAX_SIDE),
        fields.whole("height", 1, _MAX_SIDE),
        (original, decoded, filtered),
        (scores.decibels("decoded"), scores.decibels("filtered")),
    )


def _file(files: _Fields, kind: str, folder: Path) -> Path:
    """A file of the folder; the index may not lead out of it."""
    name = files.text(kind)
    path = folder / name
    try:
        is_inside, is_file = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError) as error:  # too long, or letters that no name has
        raise InputError(f"{files.where}: {kind} {shown(repr(name))}: cannot be the name of a file: {error}") from error
    if not is_inside:
        raise InputError(f"{files.where}: {kind} {shown(repr(name))} is outside of {folder}")
    if not is_file:
        raise InputError(f"{files.where}: {kind}: {path}: no such file")
    return path
