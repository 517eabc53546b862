"""What `compress` says of constants: floats that are kept exact, which count where they are most of a network."""

from __future__ import annotations

import math

from vvc_nnr.bitstream.number_formats import format_of, itemsize_of, shape_of
from vvc_nnr.experiments.cli_common import Outcome
from vvc_nnr.network_file import NetworkArrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import Role, override_roles

# From this share of a network's bytes on a line tells of them.
_MUCH = 0.1


def with_constants(outcome: Outcome, network: NetworkArrays, options: CompressOptions) -> Outcome:
    """The outcome with the bytes of the float tensors that are kept exact as constants, and a line if they are many."""
    sizes = _sizes_of_constants(network, options)
    n_bytes = sum(sizes.values())
    data = outcome.data | {"constant_bytes": n_bytes}
    if n_bytes <= _MUCH * sum(itemsize_of(each) * math.prod(shape_of(each)) for each in network.arrays.values()):
        return Outcome(outcome.text, data)
    largest = max(sizes, key=sizes.__getitem__)
    line = (
        f"kept exact: {len(sizes)} constants of {n_bytes} bytes; "
        f"the largest is {largest}, which --role-of '{largest}=weight' would quantise"
    )
    return Outcome(f"{outcome.text}\n{line}", data)


def _sizes_of_constants(network: NetworkArrays, options: CompressOptions) -> dict[str, int]:
    """Bytes of the float tensors that are constants, by name; none where no role counts."""
    if options.lossless or options.roles == "off":
        return {}
    roles = override_roles(network.roles or named_roles(network.arrays), options.role_of)
    return {
        name: itemsize_of(array) * math.prod(shape_of(array))
        for name, array in network.arrays.items()
        if roles[name].role is Role.CONSTANT and format_of(name, array).startswith(("float", "bfloat"))
    }
