"""What a network takes in the reference software's files at its default steps: what it may take here.

Its units have headers and names of their own, which in small networks weigh as much as what is coded. So the default
file is held against all of that file, not against payloads alone. A graph, and what that software does not code, count
deflated. Of very large networks, which take long to code, samples tell what they may take.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vvc_nnr.bitstream.data_unit import DataUnit, NodeId
from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays, may_lose, number_format_of, shape_of
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet, ParameterSets
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, write_unit, write_units
from vvc_nnr.coding.exact_forms import bits_of
from vvc_nnr.coding.tensor_encoder import encode_tensor
from vvc_nnr.coding.tensor_job import USUAL_UNARY_LENGTH_MINUS1, make_job
from vvc_nnr.options import DEFAULT_QP, CompressOptions
from vvc_nnr.parallel import run_all

# Networks of so many values are held against its file alone, of twice as many no longer: coding them once at its steps
# and a few times at others takes a second or two.
HELD_VALUES = 1 << 22
# In networks of up to so many values headers weigh so much that tensors may have to take more than in that file.
SMALL_VALUES = 1 << 18
# Letters of a name that count, of small networks and of larger ones: whoever makes that file may call the tensors by
# numbers, and graphs that TensorFlow made have names of seventy letters.
SMALL_COUNTED_LETTERS, COUNTED_LETTERS = 16, 2


def held_share(arrays: NamedArrays) -> float:
    """How far a network is held against that file: 1 of a small one, 0 of a large one, in between in proportion.

    Args:
        arrays: Its tensors.
    """
    return min(max(2 - _n_values(arrays) / HELD_VALUES, 0.0), 1.0)


def is_small(arrays: NamedArrays) -> bool:
    """Whether headers weigh so much in a network that its tensors may take more than in that file.

    Args:
        arrays: Its tensors.
    """
    return _n_values(arrays) <= SMALL_VALUES


def _n_values(arrays: NamedArrays) -> int:
    return sum(math.prod(shape_of(array)) for array in arrays.values())


def reference_bytes(arrays: NamedArrays, graph: bytes | None, n_threads: int = 1) -> int:
    """The file of a network's float tensors by the reference software, and the rest of it deflated.

    Args:
        arrays: The tensors.
        graph: The graph without them, if it has one.
        n_threads: Threads, at least 1.

    Returns:
        Bytes; names beyond their first COUNTED_LETTERS letters, of small networks SMALL_COUNTED_LETTERS, are not among
        them.
    """
    n_letters = SMALL_COUNTED_LETTERS if is_small(arrays) else COUNTED_LETTERS
    floats = {name: array for name, array in arrays.items() if _is_coded(name, array)}
    options = CompressOptions(qp=DEFAULT_QP, lambda_rd=0.0, scan_order=0, roles="off", n_threads=1)
    sets = ParameterSets(1, ModelParameterSet())
    names = list(floats)

    def n_bytes_of(place: int) -> int:
        job = make_job(names[place], floats[names[place]], floats, options)
        tensor = encode_tensor(replace(job, unary_length_minus1=USUAL_UNARY_LENGTH_MINUS1, is_judged=False), options)
        called = (names[place][:n_letters],)
        units = [replace(unit, node_id=NodeId(0, place), topology_elem_id_list=called) for unit in tensor.units]
        n_bytes = _units_bytes(units, sets)
        return n_bytes + (0 if tensor.raw is None else len(tensor.raw.raw))

    sizes = [math.prod(shape_of(array)) for array in floats.values()]
    n_bytes = sum(map(len, write_units([StartUnit(), ModelParameterSet(), TopologyUnit()])))
    n_bytes += sum(run_all(n_bytes_of, range(len(names)), sizes, n_threads))
    return n_bytes + _rest_bytes({name: array for name, array in arrays.items() if name not in floats}, graph)


def _is_coded(name: str, array: Array | FloatBits) -> bool:
    return may_lose(number_format_of(name, array)) and math.prod(shape_of(array)) > 0


def _units_bytes(units: Sequence[DataUnit], sets: ParameterSets) -> int:
    return sum(len(piece) for unit in units for piece in write_unit(unit, sets))


def _rest_bytes(others: Mapping[str, Array | FloatBits], graph: bytes | None) -> int:
    """Integers and float8, and the graph, deflated."""
    plain = [bits_of(array).tobytes() for array in others.values()]
    return len(zlib.compress((graph or b"") + b"".join(plain), 9)) if plain or graph else 0
