"""Training pairs from the real codec: pictures, and the same pictures encoded and decoded at several QPs.

A pair set is a folder with one sub-folder per picture:

```
 pairs/0000_<name>/original.npy      uint16 (6, H/2, W/2), 10 bit, as `pack` gives it
                   all_qp32.npy      the decoded picture, loop filters "all", QP 32
                   none_qp32.npy     ...
                   sha256.json       the digest of each decoded picture's file
                   told_qps.json     of inter coding: the QP that a network is told of each decoded picture
 pairs/pairs.json                    the encoder, and its presets, which the scenes took in turn
```

The pictures are those of `scenes`, where what is coded together is one scene.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vvc_nnr.codec.configuration import MAX_QP, ConfigName
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder, encoder_identity
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, DEFAULT_PRESET, LoopFilters, Preset, VvcOptions, check_encodable
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import check_folder, make_folder, open_input, read_bytes, write_file
from vvc_nnr.filters.in_stream import qps_of_pictures
from vvc_nnr.filters.networks.planes import N_PLANES, pack
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, QpRule, told_qps
from vvc_nnr.filters.training.scenes import Scene, kept_pictures
from vvc_nnr.json_text import parse_json
from vvc_nnr.npy import map_npy
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.listing import list_folders
from vvc_nnr.sequences.yuv import read_yuv
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, run_units

Packed = NDArray[np.uint16]
_Noted = TypeVar("_Noted", str, int)
ORIGINAL, NOTE, DIGESTS, TOLD_QPS = "original.npy", "pairs.json", "sha256.json", "told_qps.json"
SCENES, LOGS = "scenes", "logs"
"""Folders beside the pictures': of what is being coded, and of what failed."""


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which encodings a pair set holds.

    Attributes:
        qps: QPs of the encodings.
        loop_filters: In-loop filter sets of the encodings.
        presets: The encoder's presets, which the scenes take in turn: all of them in the set at the cost of one.
            VTM has none.
        encoder: What codes them.
        encoder_config: VTM's configuration files.
        encoder_arguments: Further arguments of VTM or vvencapp.
        config: "ai" (all intra), "ra" (random access) or "ldb" (low delay B).
        qp_rule: Which QP a network is told of each picture of inter coding.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    loop_filters: Sequence[LoopFilters] = ("all", "none")
    presets: Sequence[Preset] = (DEFAULT_PRESET,)
    encoder: EncoderName = "libvvenc"
    encoder_config: Sequence[Path] = ()
    encoder_arguments: Sequence[str] = ()
    config: ConfigName = "ai"
    qp_rule: QpRule = DEFAULT_RULE

    @property
    def identity(self) -> dict[str, object]:
        """What tells pairs of one kind from others: encoder, QPs, filter sets, presets and the coding configuration."""
        return {
            "qps": list(self.qps),
            "loop_filters": list(self.loop_filters),
            "presets": list(self.presets),
            "encoder": encoder_identity(
                self.encoder, self.encoder_config, self.encoder_arguments, configuration=self.config
            ),
            **({} if self.config == "ai" else {"config": self.config}),
            **({} if self.qp_rule == DEFAULT_RULE else {"qp_rule": self.qp_rule.text}),
        }


@dataclass(frozen=True, slots=True)
class PairUnit:
    """All pairs of a scene.

    Attributes:
        raw: A file of the scene's pictures, which goes when the pairs are made.
        format: Their format.
        n_pictures: How many there are.
        targets: The sub-folder of each picture that is kept, by its place in the scene.
        preset: The encoder's preset.
        options: The encodings to make.
        cache: Folder of finished encodings.
    """

    raw: Path
    format: VideoFormat
    n_pictures: int
    targets: tuple[tuple[int, Path], ...]
    preset: Preset
    options: PairOptions
    cache: Path | None

    @property
    def name(self) -> str:
        """The name of the first picture that is kept."""
        return self.targets[0][1].name

    @property
    def cost_s(self) -> float:
        """About how many seconds the encodings take on one core."""
        codings = product(self.options.loop_filters, self.options.qps)
        return self.n_pictures * sum(self.encoder(*each).picture_s(self.format) for each in codings)

    def encoder(self, loop_filters: LoopFilters, qp: int) -> VvcEncoder:
        """What codes the scene."""
        o = self.options
        return VvcEncoder(
            VvcOptions(qp, self.preset, loop_filters, n_threads=1, config=o.config),
            self.cache,
            encoder=o.encoder,
            config=[path.absolute() for path in o.encoder_config],
            arguments=o.encoder_arguments,
        )

    @property
    def is_made(self) -> bool:
        """Whether all its pairs are there."""
        codings = product(self.options.loop_filters, self.options.qps)
        return all(_is_there(target, pair_name(*each)) for each in codings for _, target in self.targets)


def make_pairs(
    scenes: Iterable[Scene],
    folder: Path,
    options: PairOptions,
    cache: Path | None = None,
    execution: ExecutorOptions = IN_THIS_PROCESS,
) -> list[str]:
    """Encodes and decodes every scene; what is there already is kept, so a cut-off run goes on.

    A folder may hold other pictures as well, which are left alone.

    Args:
        scenes: Of 8- to 10-bit 4:2:0 pictures.
        folder: The pair set to write.
        options: The encodings to make.
        cache: Folder of finished encodings, which are decoded only; None to encode every time.
        execution: Where scenes are coded; no pair depends on it.

    Returns:
        Names of these pictures' sub-folders, sorted.

    Raises:
        InputError: If a folder cannot be written, its pairs were made by another encoder or with other presets, or
            it holds pairs of another picture under one of these names.
        UnsupportedError: For other chroma formats and more than 10 bit.
        UnitsError: If scenes failed, such as by the encoder; the pairs of all others are made.
    """
    check_note(folder, options)
    if cache is not None:
        check_folder(cache)
    _note(folder, options)
    names: list[str] = []
    units: list[PairUnit] = []
    raw = folder / SCENES
    shutil.rmtree(raw, ignore_errors=True)
    for index, scene in enumerate(tqdm(scenes, desc="scenes", unit="scene", disable=None)):
        targets = [folder / folder_name(len(names) + n, name) for n, name in enumerate(scene.kept.values())]
        for target, (_, frame) in zip(targets, scene.pictures(), strict=True):
            make_folder(target)
            _keep_original(target, packed_original(frame))
        preset = options.presets[index % len(options.presets)]
        unit = PairUnit(
            make_folder(raw).absolute() / f"{index}.yuv",
            scene.frames[0].format(scene.fps),
            len(scene.frames),
            tuple((place, target.absolute()) for place, target in zip(scene.kept, targets, strict=True)),
            preset,
            options,
            cache and cache.absolute(),
        )
        if not unit.is_made:
            check_encodable(scene.frames[0], unit.format)
            write_file(unit.raw, b"".join(frame.tobytes() for frame in scene.frames))
            units.append(unit)
        names += [target.name for target in targets]
    run_units(run_pair_unit, units, attrgetter("is_made"), execution, folder.absolute() / LOGS, title="training pairs")
    shutil.rmtree(raw, ignore_errors=True)
    return sorted(names)


def run_pair_unit(unit: PairUnit) -> None:
    """Makes those pairs of a scene that are not there, in whichever process.

    Raises:
        InputError: If a file cannot be read or written.
        ExternalToolError: If the encoder fails or is not there.
    """
    options, targets = unit.options, [target for _, target in unit.targets]
    for loop_filters, qp in product(options.loop_filters, options.qps):
        file = pair_name(loop_filters, qp)
        if not all(_is_there(target, file) for target in targets):
            _save_pairs(targets, file, _coded(unit, unit.encoder(loop_filters, qp)))
    unit.raw.unlink(missing_ok=True)


def _is_there(target: Path, file: str) -> bool:
    """Whether a picture has the pair of this name, with its digest where digests are noted."""
    digests = _noted(target / DIGESTS, str)
    return (target / file).exists() and (not digests or file in digests)


def _save_pairs(targets: Sequence[Path], file: str, coded: Sequence[tuple[Frame, int | None]]) -> None:
    """Writes what became of the pictures of a scene, and last of all its digest."""
    for target, (frame, told_qp) in zip(targets, coded, strict=True):
        digest = _save(target / file, pack(frame))
        if told_qp is not None:
            _add(target / TOLD_QPS, int, file, told_qp)
        _add(target / DIGESTS, str, file, digest)


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
        files = [pair_name(loop_filters, qp) for qp in self.qps]
        self._decoded = [[_packed(f / file) for file in files] for f in folders]
        self._told_qps = [_told_qps(f, files, self.qps) for f in folders]
        for name, original, decoded in zip(self.names, self._originals, self._decoded, strict=True):
            if any(each.shape != original.shape for each in decoded):
                raise InputError(f"{folder / name}: its pictures are not of one size; remove it and make it anew")

    def __len__(self) -> int:
        return len(self._originals)

    def told_qp(self, picture: int, qp_index: int) -> int:
        """The QP that a network is told of a decoded picture: with intra pictures that of its stream."""
        return self._told_qps[picture][qp_index]

    def whole(self, picture: int, qp_index: int) -> tuple[Packed, Packed]:
        """Original and decoded picture."""
        return np.asarray(self._originals[picture]), np.asarray(self._decoded[picture][qp_index])

    def crops(self, rng: np.random.Generator, n: int, size: int) -> tuple[Packed, Packed, NDArray[np.int64], list[int]]:
        """Random square crops, turned and mirrored as whole pictures would be.

        Turning a picture also permutes its four luma phases, so crops are turned before they are packed apart.

        Args:
            rng: Source of all random choices.
            n: Number of crops.
            size: Side of a crop in half-size samples.

        Returns:
            Originals and decoded crops (n, 6, size, size), the index of each crop's QP, and the QP that a network is
            told of it.
        """
        originals, decoded = np.empty((2, n, 6, size, size), np.uint16)
        told_qps = []
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
            told_qps.append(self.told_qp(picture, qp_indices[i]))
        return originals, decoded, qp_indices, told_qps

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


def check_pairs(scenes: Iterable[Scene], folder: Path, options: PairOptions) -> list[str]:
    """Refuses what `make_pairs` would refuse half-way; nothing is written.

    Args:
        scenes: As of `make_pairs`.
        folder: The pair set, which need not be there yet.
        options: The encodings to make.

    Returns:
        What `make_pairs` will return.

    Raises:
        InputError, UnsupportedError: As `make_pairs`.
    """
    check_note(folder, options)
    names = []
    for index, (name, frame) in enumerate(kept_pictures(scenes)):
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
        noted = _noted(folder / name / DIGESTS, str)
        for file in files:
            with open_input(folder / name / file) as data:
                digest = hashlib.file_digest(data, "sha256")
            if noted.get(file, digest.hexdigest()) != digest.hexdigest():
                raise InputError(f"{folder / name / file}: is not as it was made: damaged; remove it, to be made anew")
            found.update(digest.digest())
            if options.config != "ai":
                found.update(_told_qp(folder / name, file).to_bytes(1) if file != ORIGINAL else b"")
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
    found = {"config": "ai", "qp_rule": DEFAULT_RULE.text} | found
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
    said = {"config": options.config, "qp_rule": options.qp_rule.text}
    return said | {key: options.identity[key] for key in ("encoder", "presets")}


def _keep_original(target: Path, original: Packed) -> None:
    """Saves a new picture; one that is there already must be the same."""
    if (target / ORIGINAL).exists():
        _check_same(target, original)
    else:
        _save(target / ORIGINAL, original)


def _check_same(target: Path, original: Packed) -> None:
    if not np.array_equal(load_original(target), original):
        raise InputError(f"{target.parent}: holds pairs of another picture called {target.name}; use another folder")


def _coded(unit: PairUnit, encoder: VvcEncoder) -> list[tuple[Frame, int | None]]:
    """The decoded pictures that are kept of a scene, and with inter pictures the QP that a network is told of each."""
    encoded = encoder.encode(read_yuv(unit.raw, unit.format), unit.format.fps)
    is_inter = encoder.options.configuration.is_inter
    told: Sequence[int | None] = [None]
    if is_inter:
        told = told_qps(qps_of_pictures(read_vvc_stream(encoded.stream), encoder.options.qp), unit.options.qp_rule)
    decoded = decode_vvc(encoded.stream, width=unit.format.width, height=unit.format.height, check=False)
    pairs = zip(decoded, told, strict=True)
    kept = {place for place, _ in unit.targets}
    return [pair for place, pair in enumerate(pairs) if place in kept]


def _save(path: Path, packed: Packed) -> str:
    """Writes a packed picture; its file's SHA-256."""
    buffer = io.BytesIO()
    np.save(buffer, packed)
    write_file(path, buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _told_qps(folder: Path, files: Sequence[str], qps: Sequence[int]) -> list[int]:
    """The QP that a network is told of each of a picture's decoded files: the stream's where all are intra pictures."""
    if not (folder / TOLD_QPS).exists():
        return list(qps)
    return [_told_qp(folder, file) for file in files]


def _told_qp(folder: Path, file: str) -> int:
    told = _noted(folder / TOLD_QPS, int).get(file)
    if told is None or not 0 <= told <= MAX_QP:
        raise InputError(f"{folder / TOLD_QPS}: no QP of {file}, 0 to {MAX_QP}; remove {folder}, to be made anew")
    return told


def _noted(note: Path, kind: type[_Noted]) -> dict[str, _Noted]:
    """What is noted of a picture's files by name, nothing where there is no note (digests of older versions).

    Raises:
        InputError: If the note cannot be read.
    """
    if not note.exists():
        return {}
    try:
        found = parse_json(read_bytes(note))
    except BitstreamError as error:
        raise InputError(f"{note}: cannot be read: {error}; remove {note.parent}, to be made anew") from error
    if not isinstance(found, dict) or not all(type(value) is kind for value in found.values()):
        raise InputError(f"{note}: not what it must hold; remove {note.parent}, to be made anew")
    return found


def _add(note: Path, kind: type[_Noted], file: str, value: _Noted) -> None:
    """Notes one more of a picture's files."""
    noted = _noted(note, kind) | {file: value}
    write_file(note, json.dumps(noted, indent=1, sort_keys=True).encode() + b"\n")
