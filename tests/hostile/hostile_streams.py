"""Streams that try to harm a decoder, made from a seed: damaged ones, and crafted ones that no encoder would write.

A case says what it was made from, so that a decoder that accepts it can be held against the truth: an untouched stream
has to decode as before, and a stream whose manifest still says the old checksum has to be refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from crafted_streams import crafted_stream

from vvc_nnr import BaseState, CompressOptions, compress, compress_update
from vvc_nnr.bitstream.data_unit import DataUnit, ParameterTypes, PayloadType
from vvc_nnr.bitstream.manifest import DIGITS, OLD_DIGITS, checksum
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, read_units, write_units
from vvc_nnr.coding.update import TensorState

VECTORS = Path(__file__).parents[1] / "golden" / "nnc_vectors.json"
_DIGITS_BY_KEY = {b'"#":"': DIGITS, b'"sha256":"': OLD_DIGITS}


@dataclass(frozen=True, slots=True)
class Source:
    """An undamaged stream, and the state that it is an update of, if it is one."""

    name: str
    data: bytes
    state: BaseState | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile stream.

    Args:
        data: Its bytes.
        source: What it was made from.
        mutation: How.
        is_sealed: The checksum in its manifest was made anew, so that only what it says can give it away.
    """

    data: bytes
    source: Source
    mutation: str
    is_sealed: bool


def sources() -> tuple[Source, ...]:
    """Small streams with every tool: our own, the same without manifests, those of the reference software, updates."""
    ours = [Source(name, data) for name, data in _own_streams().items()]
    bare = [Source(f"{source.name} bare", _without_manifest(source.data)) for source in ours]
    cases = json.loads(VECTORS.read_text())["cases"]
    return (*ours, *bare, *map(_foreign, cases), *_updates())


def _foreign(case: dict[str, Any]) -> Source:
    """A stream of the reference software, with the state that it updates if it is an update."""
    data = bytes.fromhex(case["bitstream_hex"])
    units = [p.unit for p in read_units(data) if isinstance(p.unit, DataUnit)]
    if not any(unit.parent for unit in units):
        return Source(case["name"], data)
    bases = case.get("bases", {})
    return Source(case["name"], data, BaseState({unit.topology_elem_id_list[0]: _state(unit, bases) for unit in units}))


def _state(unit: DataUnit, bases: dict[str, Any]) -> TensorState:
    """What an update of a tensor finds: its levels and history, and zeros for values, on which nothing depends."""
    shape = unit.tensor_dimension_list
    base = bases.get(unit.topology_elem_id_list[0])
    depth = (unit.node_id.put_node_depth if unit.node_id else 1) - 1
    if base is None:
        return TensorState(np.zeros(shape, np.float32), "float32", depth=depth)
    levels = np.array(base["levels"], np.int32).reshape(shape)
    history = np.array([int(c) for c in base["history"]], np.uint8).reshape(shape)
    return TensorState(np.zeros(shape, np.float32), "float32", levels, history, depth)


def _own_streams() -> dict[str, bytes]:
    random = np.random.default_rng(20261)
    tall = random.laplace(0, 0.03, (75, 9)).astype(np.float32)
    tall[8:30:3] = 0
    tall[40, 3] = 4
    mixed = {
        "w": random.laplace(0, 0.02, (9, 3, 2)).astype(np.float32),
        "half": random.normal(size=5).astype(np.float16),
        "wide": np.array([1 << 40, -3]),
        "scalar": np.array(4),
        "none": np.zeros((0, 3), np.float32),
        "flags": random.random(9) < 0.5,
    }
    options: dict[str, dict[str, Any]] = {
        "dependent in blocks": {"scan_order": 1},
        "uniform in blocks": {"scan_order": 1, "use_dq": False, "row_skipping": False},
        "by rows": {"scan_order": 0, "param_opt": False},
        "by codebook": {"scan_order": 1, "codebook": "force"},
        "large indices": {"qp": -70, "scan_order": 1},
    }
    streams = {name: compress({"tall": tall}, n_threads=1, **chosen) for name, chosen in options.items()}
    streams |= {"mixed": compress(mixed, n_threads=1, metadata={"architecture": "none"}), "block": _block()}
    streams["copies"] = compress({"tall": tall, "half": mixed["half"], "again": tall.copy()}, n_threads=1)
    sizes = np.exp(random.normal(size=(20, 1)))
    scaled = {"a": random.normal(size=(20, 9)) * sizes, "b": random.normal(size=(3, 20)) / sizes.T}
    for name, dtype in (("local scaling", np.float32), ("local scaling of half floats", np.float16)):
        network = {key: array.astype(dtype) for key, array in scaled.items()}
        streams[name] = compress(network, n_threads=1, scan_order=1, local_scaling=True)
    return streams


def _block() -> bytes:
    """A block whose payload is that of its weight alone, and therefore damage from the start."""
    coded = read_units(compress({"w": np.ones((6, 4), np.float32)}))
    units = [placed.unit for placed in coded if isinstance(placed.unit, DataUnit)]
    kinds = ParameterTypes.LS | ParameterTypes.BN | ParameterTypes.BI
    names = ("w", "w_scaling", "beta", "gamma", "mean", "var", "bias")
    unit = DataUnit(PayloadType.BLOCK, names, (6, 4), bytes(units[0].payload) * 3, compressed_parameter_types=kinds)
    return b"".join(write_units([StartUnit(), ModelParameterSet(), TopologyUnit(), unit]))


def _updates() -> tuple[Source, ...]:
    random = np.random.default_rng(7)
    state = BaseState.of({"a": random.normal(size=(17, 9)).astype(np.float32), "n": np.arange(4)})
    found = []
    for step in range(2):
        wanted = {name: a + (random.random(a.shape) < 0.3).astype(a.dtype) for name, a in state.arrays.items()}
        data, after = compress_update(state, wanted, options=CompressOptions(scan_order=step, n_threads=1))
        found += [Source(f"update {step}", data, state), Source(f"update {step} bare", _without_manifest(data), state)]
        state = after
    return tuple(found)


def _without_manifest(data: bytes) -> bytes:
    units = [p.unit for p in read_units(data)]
    return b"".join(write_units(TopologyUnit() if isinstance(u, TopologyUnit) else u for u in units))


def hostile_case(random: Random, known: tuple[Source, ...]) -> Case:
    """A stream by one or two mutations of a source, or a crafted one; its manifest is sealed anew half of the time."""
    source = random.choice(known)
    if random.random() < 0.2:
        units = [placed.unit for placed in read_units(source.data)]
        payloads = [bytes(unit.payload) for unit in units if isinstance(unit, DataUnit)]
        return Case(crafted_stream(random, payloads), source, "crafted", False)
    data, names = source.data, []
    for _ in range(random.choice((1, 1, 1, 2))):
        name = "inside" if random.random() < 0.4 else random.choice(tuple(MUTATIONS))
        data = MUTATIONS[name](random, data, random.choice(known).data)
        names.append(name)
    is_sealed = random.random() < 0.5
    return Case(_sealed(data) if is_sealed else data, source, " and ".join(names), is_sealed)


def _sealed(data: bytes) -> bytes:
    """The stream with the right checksum in its manifest, if it has a place for one."""
    for key, all_digits in _DIGITS_BY_KEY.items():
        at = data.find(key) + len(key)
        for n_digits in all_digits:
            end = at + n_digits
            if at >= len(key) and data[end : end + 1] == b'"':
                return data[:at] + checksum([data[:at], data[end:]], n_digits) + data[end:]
    return data


def _cut(random: Random, data: bytes, _: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(random: Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _n in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, data: bytes, _: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((1, 2, 4, 16, len(data))))
    filler = {0: bytes(end - start), 1: b"\xff" * (end - start)}.get(random.randrange(4))
    return data[:start] + (random.randbytes(end - start) if filler is None else filler) + data[end:]


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    first, last = sorted(random.randrange(len(other) + 1) for _ in range(2))
    at, until = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:at] + other[first:last] + data[random.choice((at, until)) :]


def _pieces(data: bytes) -> list[bytes]:
    """The units of a stream by their sizes, as far as these make sense; the rest is the last."""
    found, at = [], 0
    while at < len(data):
        n_bytes = 4 if data[at] & 0x80 else 2
        size = int.from_bytes(data[at : at + n_bytes], "big") & (1 << 8 * n_bytes - 1) - 1
        size = size if n_bytes < size <= len(data) - at else len(data) - at
        found.append(data[at : at + size])
        at += size
    return found


def _reorder(random: Random, data: bytes, other: bytes) -> bytes:
    """Units lost, doubled, exchanged, taken from another stream."""
    pieces = _pieces(data) or [data]
    at = random.randrange(len(pieces))
    match random.randrange(4):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(random.randrange(len(pieces) + 1), pieces[at])
        case 2:
            random.shuffle(pieces)
        case _:
            pieces[at] = random.choice(_pieces(other) or [other])
    return b"".join(pieces)


def _resize(random: Random, data: bytes, _: bytes) -> bytes:
    """A unit's size field that lies, or a unit cut or stretched whose size field is right."""
    pieces = _pieces(data) or [data]
    at = random.randrange(len(pieces))
    body = pieces[at][2:] if not pieces[at][:1] >= b"\x80" else pieces[at][4:]
    body = random.choice((body, body[: random.randrange(len(body) + 1)], body + random.randbytes(random.randrange(9))))
    size = random.choice((len(body) + 2, len(body) + 2, random.randrange(1 << 15), 0, 1, 2, 3))
    field = size.to_bytes(2, "big") if random.random() < 0.8 else (random.getrandbits(31) | 1 << 31).to_bytes(4, "big")
    pieces[at] = (field if size < 1 << 15 else b"\x7f\xff") + body
    return b"".join(pieces)


def _inside(random: Random, data: bytes, other: bytes) -> bytes:
    """A data unit damaged behind its header's first bytes, of the right size again: what gets furthest."""
    pieces, others = _pieces(data) or [data], _pieces(other) or [other]
    at = random.randrange(min(3, len(pieces) - 1), len(pieces))
    start = min(random.choice((3, 8, 20, 30)), len(pieces[at]))
    damage = random.choice((_cut, _flip, _flip, _overwrite, _splice))
    body = pieces[at][2:start] + damage(random, pieces[at][start:], random.choice(others)[start:])
    pieces[at] = min(len(body) + 2, 0x7FFF).to_bytes(2, "big") + body
    return b"".join(pieces)


def _rewrite_head(random: Random, data: bytes, _: bytes) -> bytes:
    """Bits of the header of a unit, where dimensions, names, codebooks and entry points are."""
    pieces = _pieces(data) or [data]
    at = random.randrange(len(pieces))
    changed = bytearray(pieces[at])
    for _n in range(random.choice((1, 1, 2, 4))):
        if len(changed) > 2:
            place = random.randrange(2, min(len(changed), 60))
            changed[place] = random.choice((changed[place] ^ 1 << random.randrange(8), 0, 1, 0x80, 0xFF))
    pieces[at] = bytes(changed)
    return b"".join(pieces)


def _endless_name(random: Random, data: bytes, _: bytes) -> bytes:
    return data.replace(b"\0", b"n", random.choice((-1, random.randrange(20))))


MUTATIONS: dict[str, Callable[[Random, bytes, bytes], bytes]] = {
    "cut": _cut,
    "flip": _flip,
    "overwrite": _overwrite,
    "splice": _splice,
    "reorder": _reorder,
    "resize": _resize,
    "inside": _inside,
    "rewrite a head": _rewrite_head,
    "endless name": _endless_name,
}
