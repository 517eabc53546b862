"""Pictures for a viewer: original, decoded and filtered, as lossless WebP with an index.

`pictures/index.json` in a folder of results is a list of objects, one per sequence, QP and network:

```
{"sequence": "kodim01", "qp": 37, "network": "lop", "picture": 0, "width": 768, "height": 512,
 "files": {"original": "kodim01_0_original.webp", "decoded": "kodim01_0_qp37_decoded_all.webp",
           "filtered": "kodim01_0_qp37_wiener_lop_1f3a5c7e.webp"},
 "psnr_y_db": {"decoded": 32.47, "filtered": 32.71}}
```
* `sequence` names the configuration as well where it is not all intra; so do the names of files.
* `picture` is the number in the sequence; `width` and `height` are luma samples, and the size of each file.
* `files` are names in the folder of the index: 8-bit RGB (grey for 4:0:0), BT.709. Entries share originals and decoded
  pictures.
* `decoded` is what the network was given: with all in-loop filters, or with none where it takes their place.
* `filtered` is the network with the last of its weights in the run (as its file has it, or after a compression), in the
  strongest way of the run: at full strength, as decided, or with Wiener filters.
* `psnr_y_db` is of luma against the original at 10 bit, before the conversion to RGB; infinity is the text "inf".
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import BitstreamError, InputError, shown
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow, Way
from vvc_nnr.experiments.records.weights import is_adapted
from vvc_nnr.files import read_bytes, write_file
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import ColourRange, Frame
from vvc_nnr.sequences.images import frame_to_rgb

_log = logging.getLogger(__name__)

PICTURES_FOLDER = "pictures"
INDEX = "index.json"
KINDS = ("original", "decoded", "filtered")
_MAX_LETTERS = 80
"""Of a sequence and of a network in the name of a file, which may have 255 in all."""
_MAX_SIDE = 1 << 16


def original_name(sequence: str, picture: int) -> str:
    """The file of an original."""
    return f"{_plain(sequence)}_{picture}_original.webp"


def decoded_name(sequence: str, picture: int, qp: int, loop_filters: LoopFilters, config: ConfigName = "ai") -> str:
    """The file of a decoded picture."""
    return f"{_plain(sequence)}_{picture}{_config_part(config)}_qp{qp}_decoded_{loop_filters}.webp"


def filtered_name(
    sequence: str, picture: int, qp: int, way: Way, network: str, network_sha256: str, config: ConfigName = "ai"
) -> str:
    """The file of a filtered picture; another network of the same name makes another file."""
    where = f"{_plain(sequence)}_{picture}{_config_part(config)}_qp{qp}"
    return f"{where}_{way}_{_plain(network)}_{network_sha256[:8]}.webp"


def _config_part(config: ConfigName) -> str:
    return f"_{config}" if CONFIGURATIONS[config].is_inter else ""


def store_picture(path: Path, frame: Frame, colour_range: ColourRange | None = None) -> None:
    """Writes a picture as lossless WebP, 8-bit RGB, by the quickest method.

    One that is there already may be of another coding, of a shard with other settings: it is written anew.

    Args:
        path: The file.
        frame: The picture.
        colour_range: Of its samples, as its sequence states it; None: limited.

    Raises:
        InputError: If the file cannot be written.
    """
    data = io.BytesIO()
    Image.fromarray(frame_to_rgb(frame, colour_range)).save(data, format="WEBP", lossless=True, method=0, quality=0)
    write_file(path, data.getvalue())


def write_index(folder: Path, rows: Sequence[ToolRow], networks: Sequence[NetworkRow], way: Way, picture: int) -> None:
    """Writes the index of the pictures that are there; a logged warning counts those that are not.

    They are not where units of a shard were brought from another folder without its pictures.

    Args:
        folder: The folder of the pictures.
        rows: The rows of the run; those of adapted networks with the updates of the run.
        networks: The networks of the run; of each name the last is shown.
        way: How they filtered.
        picture: Number of the picture of each sequence that was stored.

    Raises:
        InputError: If the file cannot be written.
    """
    here = [row for row in rows if row.picture == picture]
    decoded_db = {_coding(row): row.psnr_y_db for row in here if row.way == "codec"}
    last = {row.network: row for row in networks}

    def is_shown(row: ToolRow) -> bool:
        found = last.get(row.network)
        if found is None or found.weights != row.weights:
            return False
        return is_adapted(row.weights) or found.network_sha256 == row.network_sha256

    shown_rows = [row for row in here if row.way == way and is_shown(row)]
    entries = [entry for row in shown_rows if _is_there(folder, entry := _entry(row, decoded_db[_coding(row)]))]
    if n_missing := len(shown_rows) - len(entries):
        _log.warning(
            "%s: %d of %d pictures for the report's viewer are not there: copy the folder %s of every shard too",
            *(folder, n_missing, len(shown_rows), PICTURES_FOLDER),
        )
    write_file(folder / INDEX, json.dumps(entries, indent=1, allow_nan=False).encode() + b"\n")


def _is_there(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether all files of an entry are in the folder."""
    return all((folder / name).exists() for name in entry["files"].values())


def _coding(row: ToolRow) -> tuple[str, int, LoopFilters, ConfigName]:
    return row.sequence, row.qp, row.loop_filters, row.config


def _entry(row: ToolRow, decoded_db: float) -> dict[str, Any]:
    where, network = (row.sequence, row.picture), (row.network, row.network_sha256)
    configuration = CONFIGURATIONS[row.config]
    return {
        "sequence": row.sequence + (f", {configuration.title}" if configuration.is_inter else ""),
        "qp": row.qp,
        "network": row.network,
        "picture": row.picture,
        "width": row.width,
        "height": row.height,
        "files": {
            "original": original_name(row.sequence, row.picture),
            "decoded": decoded_name(*where, row.qp, row.loop_filters, row.config),
            "filtered": filtered_name(*where, row.qp, row.way, *network, row.config),
        },
        "psnr_y_db": {"decoded": _finite(decoded_db), "filtered": _finite(row.psnr_y_db)},
    }


def _finite(value_db: float) -> float | str:
    return value_db if math.isfinite(value_db) else str(value_db)


def _plain(name: str) -> str:
    """The name as part of a file name on any system, not too long; two names never give the same one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:_MAX_LETTERS]
    return (
        plain if plain == name else f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    )


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
    path = results / PICTURES_FOLDER / INDEX
    if not path.exists():
        return []
    try:
        content = parse_json(read_bytes(path))
    except BitstreamError as error:
        raise InputError(f"{path}: {error}; run the experiment again") from error
    if not isinstance(content, list):
        raise InputError(f"{path}: must be a list of pictures, got {type(content).__name__}")
    return [
        _checked_entry(_Fields(f"{path}, entry {number}", each), path.parent) for number, each in enumerate(content)
    ]


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


def _checked_entry(fields: _Fields, folder: Path) -> PictureEntry:
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
