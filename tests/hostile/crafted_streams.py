"""Streams that no encoder would write: headers whose fields are huge, or contradict each other or the payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from vvc_nnr.bitstream.data_unit import (
    Codebook,
    DataUnit,
    EntryPoint,
    NodeId,
    ParameterTypes,
    ParentNode,
    ParentType,
    PayloadType,
)
from vvc_nnr.bitstream.parameter_sets import LayerParameterSet, ModelParameterSet, ParameterSets
from vvc_nnr.bitstream.units import OpaqueUnit, StartUnit, TopologyUnit, Unit, write_unit, write_units
from vvc_nnr.errors import InputError

_SIZES = (1, 2, 3, 5, 7, 8, 9, 31, 64, 65, 300, 1 << 14, 20_000, 1 << 20, 1 << 31, 1 << 32, 1 << 40)


def crafted_stream(random: Random, payloads: Sequence[bytes]) -> bytes:
    """Units around some of the payloads, with fields that contradict each other, in an order that need not be right."""
    mps = ModelParameterSet(
        mps_qp_density=random.randrange(8),
        mps_quantization_parameter=random.choice((0, 0, -4096, 4095)),
        mps_parent_signalling_enabled_flag=random.random() < 0.4,
    )
    profile = random.choice((0, 1, 1, 1))
    units: list[Unit] = [StartUnit(profile), mps, TopologyUnit()]
    for place in range(random.choice((1, 1, 2))):
        units.append(_crafted_unit(random, random.choice(payloads), f"t{place}"))
        if random.random() < 0.1:
            units.append(LayerParameterSet(lps_qp_density=random.randrange(8)))
        if random.random() < 0.1:
            units.append(OpaqueUnit(random.randrange(64), random.randbytes(5)))
    if random.random() < 0.1:
        random.shuffle(units)
    try:
        return b"".join(write_units(units))
    except InputError:
        return b"".join(map(_header_at_least, units))


def _header_at_least(unit: Unit) -> bytes:
    """A unit as the writer makes it, if it does not refuse it."""
    sets = ParameterSets(1, ModelParameterSet(mps_parent_signalling_enabled_flag=True))
    try:
        return b"".join(bytes(piece) for piece in write_unit(unit, sets))
    except InputError:
        return b""


def _crafted_unit(random: Random, payload: bytes, name: str) -> DataUnit:
    kind = random.choice(tuple(PayloadType))
    shape = tuple(random.choice(_SIZES) for _ in range(random.choice((1, 2, 2, 3, 64))))
    if random.random() < 0.6:
        shape = tuple(min(n, 9) for n in shape[:3])
    types = ParameterTypes(random.randrange(16)) if kind is PayloadType.BLOCK else ParameterTypes.NONE
    has_codebook = kind in (PayloadType.FLOAT, PayloadType.BLOCK) and random.random() < 0.3
    unit = DataUnit(
        kind, (name,), shape, random.choice((payload, payload[:-1], random.randbytes(random.randrange(60)))),
        node_id=random.choice((None, NodeId(), NodeId(1, 1 << 30, 1 << 30))),
        parent=random.choice((None, None, _crafted_parent(random))),
        codebook=_crafted_codebook(random) if has_codebook else None,
        dq_flag=not has_codebook and kind is not PayloadType.RAW_FLOAT and random.random() < 0.5,
        cabac_unary_length_minus1=random.choice((None, 0, 10, 255)),
        compressed_parameter_types=types,
        decomposition_rank=random.choice(_SIZES[:8]) if types & ParameterTypes.DC else 0,
        g_number_of_rows=random.choice(_SIZES[:8]) if types & ParameterTypes.DC else 0,
        scan_order=random.randrange(5) if len(shape) > 1 else 0,
    )  # fmt: skip
    return _with_parts(random, unit)


def _with_parts(random: Random, unit: DataUnit) -> DataUnit:
    """The unit with as many names and entry points as its fields ask for."""
    n_entries = unit.n_entry_points if unit.n_entry_points < 100 else 0
    entries = tuple(
        EntryPoint(random.randrange(256), random.randrange(8), random.choice((0, 1, 60, 500, 1 << 40)))
        for _ in range(n_entries)
    )
    names = tuple(f"{unit.topology_elem_id_list[0]}.{i}" for i in range(len(unit.parts()) if unit.is_block else 1))
    codebook_h = unit.codebook if unit.has_product else None
    return replace(unit, topology_elem_id_list=names, entry_points=entries, codebook_h=codebook_h)


def _crafted_parent(random: Random) -> ParentNode:
    kind = random.choice(tuple(ParentType))
    hash_bytes = {ParentType.ID: 0, ParentType.SHA256: 32, ParentType.SHA512: 64}[kind]
    return ParentNode(kind, random.random() < 0.5, 0, 0, 0, bytes(hash_bytes))


def _crafted_codebook(random: Random) -> Codebook:
    values = sorted({random.randint(-(1 << 31), (1 << 31) - 1) for _ in range(random.choice((1, 2, 3, 40)))})
    return Codebook(random.choice((0, 7, 15)), random.randrange(len(values)), tuple(values))
