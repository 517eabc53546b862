"""Training pairs from the real codec: pictures, and the same pictures encoded and decoded at several QPs.

A pair set is a folder with one sub-folder per picture:

```
 pairs/0000_<name>/original.npy      uint16 (6, H/2, W/2), 10 bit, as `pack` gives it
                   all_qp32.npy      the decoded picture, loop filters "all", QP 32
                   none_qp32.npy     ...
                   sha256.json       the digest of each decoded picture's file
 pairs/pairs.json                    the encoder, and its presets, which the pictures took in turn
```

The pictures are those of the files that a user names, whole and at half size.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder, encoder_identity
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, DEFAULT_PRESET, LoopFilters, Preset, VvcOptions
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import make_folder, name_of_text, open_input, read_bytes, short_name, write_file
from vvc_nnr.filters.networks.planes import N_PLANES, pack
from vvc_nnr.json_text import parse_json
from vvc_nnr.npy import map_npy
from vvc_nnr.sequences.frame import Frame, Plane
from vvc_nnr.sequences.images import read_image
from vvc_nnr.sequences.listing import list_folders
from vvc_nnr.sequences.source import Source

Packed = NDArray[np.uint16]
ORIGINAL, NOTE, DIGESTS = "original.npy", "pairs.json", "sha256.json"


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which encodings a pair set holds.

    Attributes:
        qps: QPs of the encodings.
        loop_filters: In-loop filter sets of the encodings.
        presets: The encoder's presets, which the pictures take in turn: all of them in the set at the cost of one.
            VTM has none.
        encoder: What codes them.
        encoder_config: VTM's configuration files.
        encoder_arguments: Further arguments of VTM or vvencapp.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    loop_filters: Sequence[LoopFilters] = ("all", "none")
    presets: Sequence[Preset] = (DEFAULT_PRESET,)
    encoder: EncoderName = "libvvenc"
    encoder_config: Sequence[Path] = ()
    encoder_arguments: Sequence[str] = ()

    @property
    def identity(self) -> dict[str, object]:
        """What tells pairs of one kind from others: encoder, QPs, filter sets and presets."""
        return {
            "qps": list(self.qps),
            "loop_filters": list(self.loop_filters),
            "presets": list(self.presets),
            "encoder": encoder_identity(self.encoder, self.encoder_config, self.encoder_arguments),
        }


def make_pairs(
    pictures: Iterable[tuple[str, Frame]], folder: Path, options: PairOptions, cache: Path | None = None
) -> list[str]:
    """Encodes and decodes every picture; what is there already is kept, so a cut-off run goes on.

    A folder may hold other pictures as well, which are left alone.

    Args:
        pictures: Names and 8- to 10-bit 4:2:0 pictures.
        folder: The pair set to write.
        options: The encodings to make.
        cache: Folder of finished encodings, which are decoded only; None to encode every time.

    Returns:
        Names of these pictures' sub-folders, sorted.

    Raises:
        InputError: If the folder cannot be written, its pairs were made by another encoder or with other presets, or
            it holds pairs of another picture under one of these names.
        UnsupportedError: For other chroma formats and more than 10 bit.
        ExternalToolError: If the encoder fails or is not there.
    """
    check_note(folder, options)
    _note(folder, options)
    names = []
    for index, (name, frame) in enumerate(tqdm(pictures, desc="training pairs", unit="picture", disable=None)):
        target = folder / folder_name(index, name)
        preset = options.presets[index % len(options.presets)]
        make_folder(target)
        _keep_original(target, packed_original(frame))
        digests = _noted_digests(target)
        for loop_filters in options.loop_filters:
            for qp in options.qps:
                file = pair_name(loop_filters, qp)
                if not (target / file).exists() or (digests and file not in digests):
                    coding = VvcOptions(qp, preset, loop_filters, n_threads=1)
                    encoder = VvcEncoder(
                        coding,
                        cache,
                        encoder=options.encoder,
                        config=options.encoder_config,
                        arguments=options.encoder_arguments,
                    )
                    pair = pack(_coded(frame, encoder))
                    digests[file] = _save(target / file, pair)
                    _note_digests(target, digests)
        names.append(target.name)
    return sorted(names)


def pair_name(loop_filters: LoopFilters, qp: int) -> str:
    """File name of one decoded picture in its sub-folder."""
    return f"{loop_filters}_qp{qp}.npy"


def pair_names(folder: Path) -> list[str]:
    """Names of the pictures of a pair set, in the order they were made."""
    if not folder.is_dir():
        return []
    return [each.name for each in list_folders(folder) if (each / ORIGINAL).is_file()]


def load_original(folder: Path) -> Packed:
    """The packed picture of one sub-folder, memory-mapped.

    Raises:
        InputError: If it is missing or damaged.
    """
    return _packed(folder / ORIGINAL)


class PairSet:
    """The pairs of one in-loop filter set, memory-mapped.

    Args:
        folder: A folder that `make_pairs` wrote.
        loop_filters: Which decoded pictures to use.
        qps: Which QPs.
        pictures: Names of the pictures' sub-folders, None for all.

    Raises:
        InputError: If pairs are missing.
    """

    def __init__(
        self,
        folder: Path,
        loop_filters: LoopFilters,
        qps: Sequence[int],
        pictures: Sequence[str] | None = None,
    ) -> None:
        self.qps = tuple(qps)
        self.names = tuple(pair_names(folder) if pictures is None else pictures)
        folders = [folder / name for name in self.names]
        if not folders:
            raise InputError(f"{folder}: holds no training pairs; make them first")
        self._originals = [_packed(f / ORIGINAL) for f in folders]
        self._decoded = [[_packed(f / pair_name(loop_filters, qp)) for qp in self.qps] for f in folders]
        for name, original, decoded in zip(self.names, self._originals, self._decoded, strict=True):
            if any(each.shape != original.shape for each in decoded):
                raise InputError(f"{folder / name}: its pictures are not of one size; remove it and make it anew")

    def __len__(self) -> int:
        return len(self._originals)

    def whole(self, picture: int, qp_index: int) -> tuple[Packed, Packed]:
        """Original and decoded picture."""
        return np.asarray(self._originals[picture]), np.asarray(self._decoded[picture][qp_index])

    def crops(self, rng: np.random.Generator, n: int, size: int) -> tuple[Packed, Packed, NDArray[np.int64]]:
        """Random square crops, turned and mirrored as whole pictures would be.

        Turning a picture also permutes its four luma phases, so crops are turned before they are packed apart.

        Args:
            rng: Source of all random choices.
            n: Number of crops.
            size: Side of a crop in half-size samples.

        Returns:
            Originals and decoded crops (n, 6, size, size), and the index of each crop's QP.
        """
        originals, decoded = np.empty((2, n, 6, size, size), np.uint16)
        qp_indices = rng.integers(len(self.qps), size=n)
        for i in range(n):
            picture = int(rng.integers(len(self)))
            source = self._originals[picture]
            top = int(rng.integers(source.shape[1] - size + 1))
            left = int(rng.integers(source.shape[2] - size + 1))
            turn = int(rng.integers(8))
            window = (slice(None), slice(top, top + size), slice(left, left + size))
            originals[i] = turned(source[window], turn)
            decoded[i] = turned(self._decoded[picture][qp_indices[i]][window], turn)
        return originals, decoded, qp_indices

    def mean_squared_errors(self) -> NDArray[np.float64]:
        """Mean squared error of the codec per QP and (luma, Cb, Cr), samples scaled to 0..1; shape (n_qps, 3).

        Raises:
            InputError: If a sample has more than 10 bits.
        """
        peak = (1 << CODED_BIT_DEPTH) - 1
        errors = np.zeros((len(self.qps), 6))
        for name, original, decoded in zip(self.names, self._originals, self._decoded, strict=True):
            if max(int(picture.max()) for picture in (original, *decoded)) > peak:
                raise InputError(f"{name}: a pair with a sample above {peak}: damaged; remove it, to be made anew")
            for i, picture in enumerate(decoded):
                difference = (picture.astype(np.float32) - original.astype(np.float32)) / peak
                errors[i] += np.mean(difference**2, axis=(1, 2), dtype=np.float64)
        errors /= len(self)
        return np.column_stack([errors[:, :4].mean(axis=1), errors[:, 4], errors[:, 5]])


def _packed(path: Path) -> Packed:
    """A packed picture in a file, memory-mapped.

    Raises:
        InputError: If it is missing, damaged or no packed picture.
    """
    try:
        found = map_npy(path)
    except (BitstreamError, UnsupportedError) as error:
        raise InputError(f"{error}; remove it and make the pairs anew") from error
    if found.dtype != np.uint16 or found.ndim != 3 or found.shape[0] != N_PLANES or 0 in found.shape:
        raise InputError(
            f"{path}: holds {found.dtype} {found.shape}, a packed picture is uint16 ({N_PLANES}, height, width); "
            "remove it and make the pairs anew"
        )
    return found


def turned(packed: Packed, turn: int) -> Packed:
    """One of the eight turns and mirrors of a packed picture: bit 0 left-right, bit 1 up-down, bit 2 transpose."""
    a, b, c, d, cb, cr = packed
    if turn & 1:
        a, b, c, d, cb, cr = (p[:, ::-1] for p in (b, a, d, c, cb, cr))
    if turn & 2:
        a, b, c, d, cb, cr = (p[::-1] for p in (c, d, a, b, cb, cr))
    if turn & 4:
        a, b, c, d, cb, cr = (p.T for p in (a, c, b, d, cb, cr))
    return np.stack([a, b, c, d, cb, cr])


def check_pairs(pictures: Iterable[tuple[str, Frame]], folder: Path, options: PairOptions) -> list[str]:
    """Refuses what `make_pairs` would refuse half-way; nothing is written.

    Args:
        pictures: As of `make_pairs`.
        folder: The pair set, which need not be there yet.
        options: The encodings to make.

    Returns:
        What `make_pairs` will return.

    Raises:
        InputError, UnsupportedError: As `make_pairs`.
    """
    check_note(folder, options)
    names = []
    for index, (name, frame) in enumerate(pictures):
        target, original = folder / folder_name(index, name), packed_original(frame)
        if (target / ORIGINAL).exists():
            _check_same(target, original)
        names.append(target.name)
    return sorted(names)


def packed_original(frame: Frame) -> Packed:
    """A picture as a pair set holds it."""
    return pack(frame.to_bit_depth(CODED_BIT_DEPTH))


def folder_name(index: int, name: str) -> str:
    """Name of a picture's sub-folder.

    Args:
        index: Its place among the pictures, from 0.
        name: Its name.
    """
    return f"{index:04d}_{name}"


def pairs_digest(folder: Path, names: Sequence[str], options: PairOptions) -> str:
    """SHA-256 of all pairs of a set with these options: originals and what the codec made of them.

    Args:
        folder: The pair set.
        names: Names of the pictures' sub-folders.
        options: Which encodings.

    Raises:
        InputError: If a file cannot be read, or is not as it was made.
    """
    found = hashlib.sha256()
    files = [ORIGINAL, *(pair_name(loop_filters, qp) for loop_filters in options.loop_filters for qp in options.qps)]
    for name in names:
        noted = _noted_digests(folder / name)
        for file in files:
            with open_input(folder / name / file) as data:
                digest = hashlib.file_digest(data, "sha256")
            if noted.get(file, digest.hexdigest()) != digest.hexdigest():
                raise InputError(f"{folder / name / file}: is not as it was made: damaged; remove it, to be made anew")
            found.update(digest.digest())
    return found.hexdigest()


def check_note(folder: Path, options: PairOptions) -> None:
    """Refuses a pair set that was made by another encoder or with other presets; nothing is written.

    Raises:
        InputError: If it was, or its note is missing or cannot be read.
    """
    note, old = folder / NOTE, folder / "presets.json"
    if not note.exists():
        if old.exists():
            raise InputError(
                f"{folder}: holds pairs of an older version, which does not note the encoder; use another folder"
            )
        if any(folder.glob(f"*/{ORIGINAL}")):
            raise InputError(
                f"{folder}: holds pairs without {NOTE}, which tells their encoder: bring it back, or use another folder"
            )
        return
    try:
        found = dict(parse_json(read_bytes(note)))
    except (BitstreamError, ValueError, TypeError) as error:
        raise InputError(f"{note}: cannot be read: {error}; make the pairs anew in another folder") from error
    for key, value in _note_of(options).items():
        if found.get(key) != value:
            raise InputError(
                f"{folder}: holds pairs of the {key} {found.get(key)}, asked for {value}; use another folder"
            )


def _note(folder: Path, options: PairOptions) -> None:
    """Notes how a new pair set is made."""
    make_folder(folder)
    if not (folder / NOTE).exists():
        write_file(folder / NOTE, json.dumps(_note_of(options)).encode())


def _note_of(options: PairOptions) -> dict[str, object]:
    return {key: options.identity[key] for key in ("encoder", "presets")}


def _keep_original(target: Path, original: Packed) -> None:
    """Saves a new picture; one that is there already must be the same."""
    if (target / ORIGINAL).exists():
        _check_same(target, original)
    else:
        _save(target / ORIGINAL, original)


def _check_same(target: Path, original: Packed) -> None:
    if not np.array_equal(load_original(target), original):
        raise InputError(f"{target.parent}: holds pairs of another picture called {target.name}; use another folder")


def _coded(frame: Frame, encoder: VvcEncoder) -> Frame:
    encoded = encoder.encode([frame])
    frames: Iterator[Frame] = decode_vvc(encoded.stream, width=frame.width, height=frame.height, check=False)
    return next(frames)


def _save(path: Path, packed: Packed) -> str:
    """Writes a packed picture; its file's SHA-256."""
    buffer = io.BytesIO()
    np.save(buffer, packed)
    write_file(path, buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _noted_digests(folder: Path) -> dict[str, str]:
    """The digests of a picture's files by name, none where an older version made them.

    Raises:
        InputError: If their note cannot be read.
    """
    note = folder / DIGESTS
    if not note.exists():
        return {}
    try:
        found = parse_json(read_bytes(note))
    except BitstreamError as error:
        raise InputError(f"{note}: cannot be read: {error}; remove {folder}, to be made anew") from error
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise InputError(f"{note}: no list of digests; remove {folder}, to be made anew")
    return found


def _note_digests(folder: Path, digests: Mapping[str, str]) -> None:
    write_file(folder / DIGESTS, json.dumps(dict(digests), indent=1, sort_keys=True).encode() + b"\n")


MIN_SIDE = 128
"""Smaller pictures are left out: a training crop would not fit."""
REDUCTIONS = (2, 3, 4, 6, 8, 12)
PATCH = 32


def filter_pictures(sources: Sequence[Source], every: int = 8) -> Iterator[tuple[str, Frame]]:
    """Yields each source's pictures whole and at half size, with a name.

    Args:
        sources: Images or sequences.
        every: Of a sequence, every how many-th picture is taken.
    """
    for source in sources:
        for index, frame in enumerate(source.frames()):
            if index % every:
                continue
            name = f"{short_name(name_of_text(source.name))}_{index:04d}".replace("/", "_")
            whole = _multiple_of_16(frame)
            if whole is not None:
                yield f"{name}_x1", whole
            half = _multiple_of_16(_half_size(frame))
            if half is not None:
                yield f"{name}_x2", half


def reduced_pictures(paths: Sequence[Path], reductions: Sequence[int] = REDUCTIONS) -> list[NDArray[np.uint8]]:
    """Images as RGB, each reduced by several factors, so that 32x32 patches hold whole things.

    Raises:
        InputError: If no image is large enough, or one cannot be read.
    """
    pictures = []
    for path in tqdm(paths, desc="pictures", unit="picture", disable=None):
        picture = read_image(path)
        for reduction in reductions:
            size = (picture.shape[1] // reduction, picture.shape[0] // reduction)
            if min(size) >= PATCH:
                pictures.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    if not pictures:
        wanted = f"at least {PATCH * min(reductions)} samples on its shorter side"
        raise InputError(f"training needs images of {wanted}, none of {len(paths)} has them")
    return pictures


def split(names: Sequence[str], every: int = 30) -> tuple[list[int], list[int]]:
    """Indices of training and validation pictures; all pictures made from one source fall on one side.

    Args:
        names: Names from `filter_pictures`, perhaps with a number in front.
        every: Every how many-th source is kept for validation.

    Raises:
        InputError: If there are not two sources.
    """
    sources = sorted({_source_name(name) for name in names})
    if len(sources) < 2:
        raise InputError(
            f"training needs pictures of at least 2 sources, got {len(sources)}; "
            f"pictures below {MIN_SIDE} samples on a side are left out"
        )
    kept = set(sources[every - 1 :: every]) or {sources[-1]}
    validation = [i for i, name in enumerate(names) if _source_name(name) in kept]
    return sorted(set(range(len(names))) - set(validation)), validation


def _source_name(name: str) -> str:
    return re.sub(r"^\d{4,}_(?=.*_\d+_x)", "", name).rpartition("_x")[0].rpartition("_")[0]


def _half_size(frame: Frame) -> Frame | None:
    if min(frame.width, frame.height) < 2 * MIN_SIDE:
        return None
    frame = frame.cropped(frame.width // 4 * 4, frame.height // 4 * 4)
    return Frame(tuple(_halved(plane) for plane in frame.planes), frame.bit_depth, frame.chroma_format)


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape
    halved = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cast(Plane, halved)


def _multiple_of_16(frame: Frame | None) -> Frame | None:
    if frame is None:
        return None
    width, height = frame.width // 16 * 16, frame.height // 16 * 16
    return frame.cropped(width, height) if min(width, height) >= MIN_SIDE else None
