"""Checkpoints of torch (.pt, .pth): tensors only. Nothing in such a file is ever run.

A checkpoint is a pickle, which may hold code; torch's reader for weights alone takes tensors, numbers, texts, lists and
maps, and refuses everything else before it does any harm.

It is also a zip archive that stores a CRC-32 of each record. torch reads the records and leaves the checksums alone, so
a changed byte in a tensor would be a changed weight; they are checked here. Files of before torch 1.6, and those that
are written with `torch.serialization.set_crc32_options(False)`, which have zeros in place of checksums, cannot be.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import shlex
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, as_damage, shown, shown_names
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.model.torch import PACKED, QUANTISED_MODULE, as_torch, import_torch, is_tensor, named_arrays
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS

# LZMA is not among them: its header asks for memory at will.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Where in its own source torch says so.
_ENFORCED = re.compile(r"\[enforce fail at [^\]]*\]")
# What files of quantised modules hold beside tensors.
_QUANTISED_WORDS = (b"torch.classes.quantized", b"torch.classes.rnn")
_ARCHIVE_START, _PICKLE_START = b"PK\x03\x04", b"\x80"
# Of a checkpoint of before torch 1.6: a magic number, a version, the system, and the tensors without their values.
_PICKLES_BEFORE_VALUES = 4


def check_records(file: IO[bytes]) -> None:
    """Holds every record of a checkpoint against its checksum.

    Args:
        file: A checkpoint, open for reading anywhere; it is left at its start.

    Raises:
        BitstreamError: If a record was changed, or the archive is damaged.
        UnsupportedError: If a record is packed otherwise than torch does.
    """
    file.seek(0)
    is_archive = file.read(4) == _ARCHIVE_START
    changed = _changed_record(file) if is_archive else None
    file.seek(0)
    if changed is not None:
        raise BitstreamError(
            f"damaged: the record {shown(changed, 100)} has another checksum than the file says: copy the file again"
        )


def _changed_record(file: IO[bytes]) -> str | None:
    """The first record that differs from its checksum, None if all are as they were written."""
    with as_damage("damaged", "copy the file again"), zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type not in _METHODS:
                raise UnsupportedError(
                    f"the record {shown(record.filename, 100)} is packed by method {record.compress_type}; "
                    "must be stored or deflated: save the file anew with torch.save"
                )
        is_checked = any(record.CRC for record in archive.infolist())
        return archive.testzip() if is_checked else None


# Where checkpoints keep the network beside their optimiser; the first that has tensors counts.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "params_ema", "params", "weights", "module")
# Keys of what checkpoints hold beside networks, which may be larger than they are.
_NO_NETWORK = re.compile(r"(?i)optim|sched|scaler|rng|random|^(opt|amp|lr|adam|grads?|momentum)(_|$)")
# Of usual keys in one another.
_MAX_DEPTH = 8
# Views may show a file's values so many times: tied tensors are views too.
_MOST_REPEATED = 64
# Of maps in maps, for messages.
_SHOWN_KEYS, _MAX_DEPTH = 5, 8


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The network in a checkpoint.

    Attributes:
        arrays: Its tensors by name.
        left_out: What else the file holds, by key: step numbers, optimisers, texts.
        n_bytes: Size of the file.
    """

    arrays: NamedArrays
    left_out: tuple[str, ...]
    n_bytes: int


def read_checkpoint(path: Path | str, key: str | None = None) -> Checkpoint:
    """The network in a file that torch wrote: a state dict, or a map that has one under a usual key.

    A usual key counts before the tensors that lie beside it, such as steps, scores and states of random numbers.

    Args:
        path: The file.
        key: Where in it the state dict is, as `at_key` takes it; None: where it usually is.

    Raises:
        InputError: If the file cannot be opened, has nothing under the key, a tensor or its name cannot be coded, or
            torch is not installed.
        BitstreamError: If it is damaged.
        UnsupportedError: If it holds code or objects in place of tensors, no state dict, one under a key that is
            not usual, or tensors that show a few values as very many.
    """
    with naming(path):
        return parse_checkpoint(read_bytes(path), key)


def parse_checkpoint(data: bytes, key: str | None = None) -> Checkpoint:
    """The network in the bytes of such a file; raises as `read_checkpoint` does for its content."""
    content = _load(data)
    if key is None:
        state, left_out = _state_dict(content)
    else:
        state, left_out = _tensors_at(content, key)
    _check_views(state, len(data))
    return Checkpoint(named_arrays(state), left_out, len(data))


def _tensors_at(content: Any, key: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The tensors by name under a key, and what else is there.

    Raises:
        InputError: If there is nothing, or no tensor by name.
    """
    found = at_key(content, key)
    tensors = {own: value for own, value in found.items() if is_tensor(value)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise InputError(f"holds no tensor by name under the key {key!r}{_keys_to_name(content)}")
    return tensors, (*_beside_key(content, key), *(str(own) for own in found if own not in tensors))


def _beside_key(content: Any, key: str) -> tuple[str, ...]:
    """What a checkpoint has beside what lies under a key, level by level."""
    if not key or not isinstance(content, Mapping):
        return ()
    heads = [own for own in content if key == str(own) or key.startswith(f"{own}.")]
    inner = next((own for own in heads if str(own) == key), max(heads, key=lambda own: len(str(own)), default=None))
    beside = tuple(str(own) for own in content if own is not inner)
    if inner is None or str(inner) == key:
        return beside
    return (*beside, *(f"{inner}.{own}" for own in _beside_key(content[inner], key[len(str(inner)) + 1 :])))


def write_checkpoint(path: Path | str, arrays: Mapping[str, Array | FloatBits]) -> int:
    """Writes a state dict, all of it or nothing, and returns its size in bytes.

    Raises:
        InputError: If torch is not installed or lacks a number format, or the file cannot be written.
    """
    buffer = io.BytesIO()
    import_torch().save(as_torch(arrays), buffer)
    write_file(path, buffer.getbuffer())
    return buffer.getbuffer().nbytes


def _load(data: bytes) -> Any:
    torch = import_torch()
    if not data:
        raise BitstreamError("is empty; must be a checkpoint of torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_whole(data):
            raise BitstreamError(_no_checkpoint(error, data)) from error
        if any(word in data for word in _QUANTISED_WORDS):
            raise UnsupportedError(f"holds {QUANTISED_MODULE}") from error
        if "WeightsUnpickler error" in str(error) or "Weights only load failed" in str(error):
            raise UnsupportedError(
                "holds code or objects in place of tensors alone, and is not run: save `model.state_dict()` instead"
            ) from error
        raise BitstreamError(_no_checkpoint(error, data)) from error
    except MemoryError:
        raise
    except Exception as error:  # damage surfaces as almost any type
        if "TorchScript" in str(error):
            raise UnsupportedError("holds a TorchScript program: save `model.state_dict()` instead") from error
        if _is_exported(data):
            raise UnsupportedError("holds a program of torch.export: save `model.state_dict()` instead") from error
        raise BitstreamError(_no_checkpoint(error, data)) from error
    check_records(io.BytesIO(data))
    return content


def _is_exported(data: bytes) -> bool:
    """Whether it is what `torch.export.save` writes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/archive_format") or "/models/model.json" in name for name in archive.namelist())
    except Exception:  # whatever the reader of archives says of damage
        return False


def _is_whole(data: bytes) -> bool:
    """Whether what torch refuses is an archive, or pickles that come to an end; they are walked, not run."""
    if data.startswith(_ARCHIVE_START):
        return True
    file = io.BytesIO(data)
    try:
        for _ in range(_PICKLES_BEFORE_VALUES):
            if file.tell() < len(data):
                for _ in pickletools.genops(file):
                    pass
    except Exception:  # whatever its readers of single operands say
        return False
    return True


def _has_end(archive: bytes) -> bool:
    """Whether an archive has the list of its records at its end."""
    try:
        return zipfile.is_zipfile(io.BytesIO(archive))
    except zipfile.BadZipFile:  # one of several disks
        return False


def _no_checkpoint(error: Exception, data: bytes) -> str:
    """What is wrong, in torch's words if they tell."""
    words = str(error)
    if not data.startswith((_ARCHIVE_START, _PICKLE_START)):
        told = f"it begins with {shown(repr(data[:8]))}"
    elif data.startswith(_ARCHIVE_START) and not _has_end(data):
        told = "its archive has no end, so it is cut off or damaged; copy the file again"
    elif isinstance(error, pickle.UnpicklingError) or " " not in words:
        told = f"damaged or cut off ({type(error).__name__}); copy the file again"
    else:
        told = shown(_ENFORCED.sub("", words).strip(" .:"), 200)
    return f"no checkpoint of torch (what `torch.save` writes): {told}"


def _state_dict(content: Any, depth: int = 0) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The tensors of a checkpoint by name, and the keys that it has beside.

    Raises:
        UnsupportedError: If there are none, or it is not known which of several networks is meant.
    """
    if not isinstance(content, Mapping):
        raise UnsupportedError(
            f"holds a {type(content).__name__}; must be a map of names to tensors{_keys_to_name(content)}"
        )
    if any(PACKED in str(key) for key in content):
        raise UnsupportedError(f"holds {QUANTISED_MODULE}")
    inner = next((key for key in _STATE_KEYS if n_values_in(content.get(key)) and not is_tensor(content[key])), None)
    if inner is not None and depth < _MAX_DEPTH:
        others = tuple(str(key) for key in content if key != inner)
        state, left_out = _state_dict(content[inner], depth + 1)
        if _n_floats(content) > _n_floats(state):
            raise UnsupportedError(
                f"holds more values beside {inner!r} than under it, which of the two is the network is not known: "
                f"save its state dict alone, or name it by its key (key, --key {inner}, or --key '' for what "
                "is beside it)"
            )
        return state, (*others, *left_out)
    tensors = {key: value for key, value in content.items() if is_tensor(value)}
    if not tensors and content:
        places = list(islice(_places_of_tensors(content), _SHOWN_KEYS + 1))
        there = f"; tensors are under {_listed(places)}" if places else f", only {_listed([[key] for key in content])}"
        raise UnsupportedError(
            f"holds no tensor by name{there}: save the state dict of one network alone{_by_key(content)}"
        )
    limit = _n_floats(content)
    beside = [key for key, value in content.items() if key not in tensors and not _NO_NETWORK.search(str(key))]
    larger = [key for key in beside if n_values_in(content[key]) > limit]
    if larger:
        raise UnsupportedError(
            f"holds tensors under {shown_names(map(repr, larger), 5, 250)}, which one is the network is not known: "
            f"save its state dict alone, or name it by its key{_keys_to_name(content)}"
        )
    return tensors, tuple(str(key) for key in content if key not in tensors)


def _by_key(content: Any) -> str:
    keys = _keys_to_name(content)
    return f", or name it by its key{keys}" if keys else ""


def _keys_to_name(content: Any) -> str:
    """The keys under which tensors lie, as an error tells them."""
    found = sorted(paths_to_tensors(content), key=lambda each: -each[1])[:5]
    return f" (key, {', '.join(f'--key {shlex.quote(path)}' for path, _ in found)})" if found else ""


def paths_to_tensors(content: Any) -> list[tuple[str, int]]:
    """The keys, joined by dots, of all maps that hold tensors by name, and how many values these have."""
    found: list[tuple[str, int]] = []
    waiting: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or not isinstance(value, Mapping | list | tuple):
            continue
        seen.add(id(value))
        items = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value))
        own = sum(each.numel() for _, each in items if is_tensor(each))
        if own and isinstance(value, Mapping) and path:
            found.append((path, own))
        waiting += [(f"{path}.{key}" if path else str(key), each) for key, each in items]
    return found


def at_key(content: Any, key: str) -> Any:
    """What lies in a checkpoint under a key: keys of maps and places in lists, joined by dots; "" is all of it.

    Raises:
        InputError: If there is nothing.
    """
    found = _at_key(content, key)
    if found is None:
        raise InputError(f"holds nothing under the key {key!r}{_keys_to_name(content)}")
    return found


def _at_key(content: Any, key: str) -> Any:
    if not key:
        return content
    if isinstance(content, Mapping):
        texts = {str(own): value for own, value in content.items()}
    elif isinstance(content, list | tuple):
        texts = {str(place): value for place, value in enumerate(content)}
    else:
        return None
    if key in texts:
        return texts[key]
    heads = sorted((own for own in texts if key.startswith(f"{own}.")), key=len, reverse=True)
    found = (_at_key(texts[own], key[len(own) + 1 :]) for own in heads)
    return next((each for each in found if each is not None), None)


def _places_of_tensors(content: Mapping[Any, Any], depth: int = 0) -> Iterator[list[Any]]:
    """The keys, from the outermost on, that lead to each map with tensors by name in a map of maps."""
    for key, value in content.items():
        if isinstance(value, Mapping) and any(map(is_tensor, value.values())):
            yield [key]
        elif isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from ([key, *below] for below in _places_of_tensors(value, depth + 1))


def _listed(places: Sequence[Sequence[Any]]) -> str:
    """Some places in a map of maps, as Python would index it."""
    some = ["".join(f"[{shown(repr(key), 200)}]" for key in keys) for keys in places[:_SHOWN_KEYS]]
    return ", ".join(some) + (" and more" if len(places) > _SHOWN_KEYS else "")


def _check_views(state: Mapping[str, Any], n_bytes: int) -> None:
    """Raises UnsupportedError if the tensors show the values of a file of so many bytes again and again."""
    n_values = sum(value.numel() for value in state.values())
    shown_bytes = sum(value.numel() * value.element_size() for value in state.values())
    if n_values > DEFAULT_MAX_ELEMENTS and shown_bytes > _MOST_REPEATED * n_bytes:
        raise UnsupportedError(
            f"its tensors show {n_bytes} bytes as {shown_bytes} (repeated or overlapping values): "
            "save the few values that they repeat"
        )


def n_values_in(content: Any) -> int:
    """Values of all tensors in maps, lists and tuples, however deep."""
    n_values, waiting, seen = 0, [content], set()
    while waiting:
        value = waiting.pop()
        if is_tensor(value):
            n_values += value.numel()
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value
    return n_values


def _n_floats(content: Any) -> int:
    """Values of the float tensors that a map has by text, 0 of all else: steps and random states are integers."""
    if not isinstance(content, Mapping):
        return 0
    floats = [
        value
        for key, value in content.items()
        if isinstance(key, str) and is_tensor(value) and value.is_floating_point()
    ]
    return sum(value.numel() for value in floats)
