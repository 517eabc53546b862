"""Pictures as texts inside a page: which ones, cut to which part, within how many bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vvc_nnr.errors import BitstreamError
from vvc_nnr.experiments.records.viewer_pictures import PictureEntry
from vvc_nnr.files import read_bytes
from vvc_nnr.sequences.images import decode_image

_WEBP = (b"RIFF", b"WEBPVP8L")
_FAST = 2
"""Of WebP's methods 0 to 6: lossless at any."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What may go into a page.

    Attributes:
        max_pictures: Entries of the index at most.
        max_bytes: Bytes of the pictures as texts at most.
        max_width: Pixels per row; wider pictures are cut around their middle.
        max_height: Rows; higher pictures likewise.
    """

    max_pictures: int = 24
    max_bytes: int = 24_000_000
    max_width: int = 768
    max_height: int = 512


@dataclass(frozen=True, slots=True)
class EmbeddedEntry:
    """An entry and the places of its three pictures among the page's."""

    entry: PictureEntry
    left: int
    top: int
    width: int
    height: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EmbeddedPictures:
    """The pictures of a page; equal ones are there once.

    Attributes:
        texts: Each picture's file in base64.
        entries: What they show.
        left_out: Entries that had to stay out.
    """

    texts: tuple[str, ...] = ()
    entries: tuple[EmbeddedEntry, ...] = ()
    left_out: tuple[PictureEntry, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of the texts."""
        return sum(map(len, self.texts))


def embed_pictures(entries: Sequence[PictureEntry], limits: PictureLimits) -> EmbeddedPictures:
    """As many pictures as the limits allow: all sequences at the highest QP first, then at the lowest, then between.

    Raises:
        InputError: If a file cannot be read.
        BitstreamError: If a file is no lossless WebP, damaged, or of another size than the index says.
    """
    places: dict[str, int] = {}
    chosen: list[EmbeddedEntry] = []
    n_bytes = 0
    ordered = _in_order(entries)
    for entry in ordered[: limits.max_pictures]:
        texts = [_embedded_text(path, entry, limits) for path in entry.files]
        new = [text for text in dict.fromkeys(texts) if text not in places]
        n_bytes += sum(map(len, new))
        if n_bytes > limits.max_bytes:
            break
        places |= {text: len(places) + place for place, text in enumerate(new)}
        chosen.append(EmbeddedEntry(entry, *_box(entry, limits), tuple(places[text] for text in texts)))
    left_out = ordered[len(chosen) :]
    chosen.sort(key=lambda each: _by_name(each.entry, entries))
    return EmbeddedPictures(tuple(places), tuple(chosen), tuple(left_out))


def _in_order(entries: Sequence[PictureEntry]) -> list[PictureEntry]:
    qps = sorted({entry.qp for entry in entries}, reverse=True)
    ranks = {qp: rank for rank, qp in enumerate([*qps[:1], *qps[1:][::-1]])}
    return sorted(entries, key=lambda entry: ranks[entry.qp])


def _by_name(entry: PictureEntry, entries: Iterable[PictureEntry]) -> tuple[int, int, int]:
    """Sequences in the order of the index, then pictures and QPs."""
    sequences = list(dict.fromkeys(each.sequence for each in entries))
    return (sequences.index(entry.sequence), entry.picture, entry.qp)


def _box(entry: PictureEntry, limits: PictureLimits) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part that is shown."""
    width, height = min(entry.width, limits.max_width), min(entry.height, limits.max_height)
    return (entry.width - width) // 2, (entry.height - height) // 2, width, height


def _embedded_text(path: Path, entry: PictureEntry, limits: PictureLimits) -> str:
    """A picture's file in base64, cut if it is too large."""
    data = read_bytes(path)
    if (data[:4], data[8:16]) != _WEBP:
        raise BitstreamError(f"{path}: no lossless WebP file")
    pixels = decode_image(io.BytesIO(data), str(path))
    if pixels.shape[:2] != (entry.height, entry.width):
        got, wanted = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{entry.width}x{entry.height}"
        raise BitstreamError(f"{path}: {got} pixels, the index says {wanted}")
    left, top, width, height = _box(entry, limits)
    if (width, height) != (entry.width, entry.height):
        out = io.BytesIO()
        cut = Image.fromarray(pixels[top : top + height, left : left + width])
        cut.save(out, format="WEBP", lossless=True, method=_FAST)
        data = out.getvalue()
    return base64.b64encode(data).decode("ascii")
