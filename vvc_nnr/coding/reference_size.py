"""What a network takes in the reference software's files at its default steps: what a small one may take here.

Its units have headers and names of their own, which in small networks weigh as much as what is coded. So the default
file of a small network is held against all of that file, not against payloads alone. A graph, and what that software
does not code, count deflated.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vvc_nnr.bitstream.data_unit import DataUnit, NodeId
from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits, NamedArrays, number_format_of, shape_of
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet, ParameterSets
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, write_unit, write_units
from vvc_nnr.coding.exact_forms import bits_of
from vvc_nnr.coding.tensor_encoder import USUAL_UNARY_LENGTH_MINUS1, encode_tensor, make_job
from vvc_nnr.options import DEFAULT_QP, CompressOptions

# Networks of so many values are held against its file alone, of twice as many no longer.
HELD_VALUES = 1 << 17


def held_share(arrays: NamedArrays) -> float:
    """How far a network is held against that file: 1 of a small one, 0 of a large one, in between in proportion.

    Coding a small one a few times more takes no time.

    Args:
        arrays: Its tensors.
    """
    n_values = sum(math.prod(shape_of(array)) for array in arrays.values())
    return min(max(2 - n_values / HELD_VALUES, 0.0), 1.0)


def reference_bytes(arrays: NamedArrays, graph: bytes | None) -> int:
    """The file of a network's float tensors by the reference software, and the rest of it deflated.

    Args:
        arrays: The tensors.
        graph: The graph without them, if it has one.
    """
    floats = {name: array for name, array in arrays.items() if _is_float(name, array)}
    options = CompressOptions(qp=DEFAULT_QP, lambda_rd=0.0, scan_order=0, roles="off", n_threads=1)
    sets = ParameterSets(1, ModelParameterSet())
    n_bytes = sum(map(len, write_units([StartUnit(), ModelParameterSet(), TopologyUnit()])))
    for place, (name, array) in enumerate(floats.items()):
        job = replace(make_job(name, array, floats, options), unary_length_minus1=USUAL_UNARY_LENGTH_MINUS1)
        tensor = encode_tensor(job, options)
        n_bytes += _units_bytes([replace(unit, node_id=NodeId(0, place)) for unit in tensor.units], sets)
        n_bytes += 0 if tensor.raw is None else len(tensor.raw.raw)
    return n_bytes + _rest_bytes({name: array for name, array in arrays.items() if name not in floats}, graph)


def _is_float(name: str, array: Array | Bfloat16Bits) -> bool:
    return number_format_of(name, array).startswith(("float", "bfloat")) and math.prod(shape_of(array)) > 0


def _units_bytes(units: Sequence[DataUnit], sets: ParameterSets) -> int:
    return sum(len(piece) for unit in units for piece in write_unit(unit, sets))


def _rest_bytes(others: Mapping[str, Array | Bfloat16Bits], graph: bytes | None) -> int:
    """Integers, and the graph, deflated."""
    plain = [bits_of(array).tobytes() for array in others.values()]
    return len(zlib.compress((graph or b"") + b"".join(plain), 9)) if plain or graph else 0
