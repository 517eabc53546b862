"""What came out of calibrated compression: the file, its loss, and what each tensor got and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import NamedArrays, shape_of
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.calibrate.allocation import AllocatedTensor
from vvc_nnr.coding.tensor_encoder import EncodedTensor
from vvc_nnr.options import CompressOptions


@dataclass(frozen=True, slots=True)
class TensorAllocation:
    """What a tensor got, and why.

    Attributes:
        name: Of the tensor.
        shape: Its shape.
        qp: Its QP, None if it was coded without one.
        step: The step of its QP.
        size_bytes: Of its data units.
        sensitivity: Squared error per output value that one weight's squared error of 1 causes, after feedback; None
            if it was not measured.
        error_share: Its share of the error that all measured tensors cause.
        zero_share: Share of values that are zero.
    """

    name: str
    shape: tuple[int, ...]
    qp: int | None
    step: float | None
    size_bytes: int
    sensitivity: float | None
    error_share: float | None
    zero_share: float | None

    @property
    def n_values(self) -> int:
        """How many values it has; at least 1."""
        return max(1, math.prod(self.shape))

    @property
    def sensitivity_db(self) -> float | None:
        """Its sensitivity on a logarithmic scale."""
        return None if self.sensitivity is None else 10 * math.log10(self.sensitivity)


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedNetwork:
    """A network in a file that was made by pictures.

    Attributes:
        data: The file.
        loss_db: Measured loss of PSNR on the pictures held out; below zero: a gain.
        n_held_out: How many these were.
        n_original_bytes: Of all tensors as they were given.
        tensors: What each got.
        n_candidates: Lambdas tried.
        lambda_rd: In squared error per value of the output.
        reference_mse: Squared error that the original network leaves, or is taken to leave.
    """

    data: bytes
    loss_db: float
    n_held_out: int
    n_original_bytes: int
    tensors: tuple[TensorAllocation, ...]
    n_candidates: int
    lambda_rd: float
    reference_mse: float


def allocations(
    arrays: NamedArrays,
    units: Sequence[EncodedTensor],
    coded: Mapping[str, AllocatedTensor],
    biases: Mapping[str, tuple[NDArray[np.float32], int]],
    options: CompressOptions,
) -> tuple[TensorAllocation, ...]:
    """What each tensor got.

    Args:
        arrays: The network.
        units: Its tensors coded, in that order.
        coded: Those whose levels were weighed, by name.
        biases: Values and QPs of the biases that go with them, by name.
        options: What they were coded with.
    """
    whole = sum(tensor.error for tensor in coded.values()) or 1.0
    found = []
    for (name, array), encoded in zip(arrays.items(), units, strict=True):
        size = sum(len(unit.payload) for unit in encoded.units)
        tensor = coded.get(name)
        if tensor is None:
            qp = biases[name][1] if name in biases else None
            step = None if qp is None else step_size(qp, options.qp_density)
            found.append(TensorAllocation(name, shape_of(array), qp, step, size, None, None, None))
            continue
        zeros = float(np.mean(tensor.rounded.indices == 0))
        step = step_size(tensor.qp, options.qp_density)
        share = tensor.error / whole
        found.append(TensorAllocation(name, shape_of(array), tensor.qp, step, size, tensor.sensitivity, share, zeros))
    return tuple(found)
