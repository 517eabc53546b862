"""The performance maps of parameter sets: how accurate a network stays when it is thinned out in several ways.

They describe; no decoder needs them. Field names are those of ISO/IEC 15938-17, and counts are the lengths of the
tuples. On the wire each list has one entry fewer than its count says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from vvc_nnr.bitstream.bits import BitReader, BitWriter

T = TypeVar("T")

# A bit mask over at most 255 classes is one Exp-Golomb code.
MAX_BITMASK_PREFIX_BITS = 300


@dataclass(frozen=True, slots=True)
class ClassAccuracies:
    """Accuracies of single classes: which ones as a bit mask, and a value for each."""

    class_bitmask: int = 0
    nn_class_accuracy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SparsificationPerformance:
    """What setting small weights to zero costs."""

    sparsification_threshold: float
    non_zero_ratio: float
    nn_accuracy: float
    classes: ClassAccuracies = ClassAccuracies()


@dataclass(frozen=True, slots=True)
class PruningPerformance:
    """What removing weights costs."""

    nn_pruning_ratio: float
    nn_accuracy: float
    classes: ClassAccuracies = ClassAccuracies()


@dataclass(frozen=True, slots=True)
class UnificationPerformance:
    """What making the weights of a block equal costs."""

    reshaped_tensor_dimensions: tuple[int, ...]
    super_block_dimensions: tuple[int, ...]
    block_dimensions: tuple[int, ...]
    unification_threshold: float
    nn_accuracy: float
    classes: ClassAccuracies = ClassAccuracies()


@dataclass(frozen=True, slots=True)
class DecompositionPerformance:
    """What writing weights as a product of two thin matrices costs."""

    mse_threshold: float
    nn_accuracy: float
    nn_reduction_ratio: float
    nn_class_accuracy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PerformanceMaps:
    """The maps of one parameter set; None where there is none. The decomposition map is only in the model's set."""

    sparsification: tuple[SparsificationPerformance, ...] | None = None
    pruning: tuple[PruningPerformance, ...] | None = None
    unification: tuple[UnificationPerformance, ...] | None = None
    decomposition: tuple[DecompositionPerformance, ...] | None = None


def read_maps(reader: BitReader, *, flags: tuple[bool, bool, bool, bool]) -> PerformanceMaps:
    """The maps whose flags are set: sparsification, pruning, unification, decomposition."""
    return PerformanceMaps(
        _read_list(reader, _read_sparsification) if flags[0] else None,
        _read_list(reader, _read_pruning) if flags[1] else None,
        _read_list(reader, _read_unification) if flags[2] else None,
        _read_list(reader, _read_decomposition) if flags[3] else None,
    )


def write_maps(writer: BitWriter, maps: PerformanceMaps) -> None:
    """Write the maps that there are, in their order."""
    _write_list(writer, maps.sparsification, _write_sparsification)
    _write_list(writer, maps.pruning, _write_pruning)
    _write_list(writer, maps.unification, _write_unification)
    _write_list(writer, maps.decomposition, _write_decomposition)


def _read_list(reader: BitReader, read: Callable[[BitReader], T]) -> tuple[T, ...]:
    return tuple(read(reader) for _ in range(reader.u(8, "count_thresholds") - 1))


def _write_list(writer: BitWriter, entries: tuple[T, ...] | None, write: Callable[[BitWriter, T], None]) -> None:
    if entries is not None:
        writer.u(len(entries) + 1, 8, "count_thresholds")
        for entry in entries:
            write(writer, entry)


def _read_classes(reader: BitReader) -> ClassAccuracies:
    n_classes = reader.u(8, "count_classes") - 1
    bitmask = reader.ue(7, "class_bitmask", MAX_BITMASK_PREFIX_BITS)
    return ClassAccuracies(bitmask, tuple(reader.flt("nn_class_accuracy") for _ in range(n_classes)))


def _write_classes(writer: BitWriter, classes: ClassAccuracies) -> None:
    writer.u(len(classes.nn_class_accuracy) + 1, 8, "count_classes")
    writer.ue(classes.class_bitmask, 7, "class_bitmask", MAX_BITMASK_PREFIX_BITS)
    _write_floats(writer, classes.nn_class_accuracy, "nn_class_accuracy")


def _write_floats(writer: BitWriter, values: Iterable[float], field: str) -> None:
    for value in values:
        writer.flt(value, field)


def _read_sparsification(reader: BitReader) -> SparsificationPerformance:
    return SparsificationPerformance(
        reader.flt("sparsification_threshold"),
        reader.flt("non_zero_ratio"),
        reader.flt("nn_accuracy"),
        _read_classes(reader),
    )


def _write_sparsification(writer: BitWriter, entry: SparsificationPerformance) -> None:
    floats = (entry.sparsification_threshold, entry.non_zero_ratio, entry.nn_accuracy)
    _write_floats(writer, floats, "sparsification_performance_map")
    _write_classes(writer, entry.classes)


def _read_pruning(reader: BitReader) -> PruningPerformance:
    return PruningPerformance(reader.flt("nn_pruning_ratio"), reader.flt("nn_accuracy"), _read_classes(reader))


def _write_pruning(writer: BitWriter, entry: PruningPerformance) -> None:
    _write_floats(writer, (entry.nn_pruning_ratio, entry.nn_accuracy), "pruning_performance_map")
    _write_classes(writer, entry.classes)


def _read_unification(reader: BitReader) -> UnificationPerformance:
    n_reshaped = reader.ue(1, "count_reshaped_tensor_dimension") - 1
    reshaped = tuple(reader.ue(7, "reshaped_tensor_dimensions") for _ in range(n_reshaped))
    reader.align("unification_performance_map")
    super_block = tuple(
        reader.u(8, "super_block_dimensions") for _ in range(reader.u(8, "count_super_block_dimension") - 1)
    )
    block = tuple(reader.u(8, "block_dimensions") for _ in range(reader.u(8, "count_block_dimension") - 1))
    threshold, accuracy = reader.flt("unification_threshold"), reader.flt("nn_accuracy")
    return UnificationPerformance(reshaped, super_block, block, threshold, accuracy, _read_classes(reader))


def _write_unification(writer: BitWriter, entry: UnificationPerformance) -> None:
    writer.ue(len(entry.reshaped_tensor_dimensions) + 1, 1, "count_reshaped_tensor_dimension")
    for dimension in entry.reshaped_tensor_dimensions:
        writer.ue(dimension, 7, "reshaped_tensor_dimensions")
    writer.align()
    for dimensions in (entry.super_block_dimensions, entry.block_dimensions):
        writer.u(len(dimensions) + 1, 8, "count_block_dimension")
        for dimension in dimensions:
            writer.u(dimension, 8, "block_dimensions")
    _write_floats(writer, (entry.unification_threshold, entry.nn_accuracy), "unification_performance_map")
    _write_classes(writer, entry.classes)


def _read_decomposition(reader: BitReader) -> DecompositionPerformance:
    floats = (reader.flt("mse_threshold"), reader.flt("nn_accuracy"), reader.flt("nn_reduction_ratio"))
    n_classes = reader.u(16, "count_classes") - 1
    return DecompositionPerformance(*floats, tuple(reader.flt("nn_class_accuracy") for _ in range(n_classes)))


def _write_decomposition(writer: BitWriter, entry: DecompositionPerformance) -> None:
    floats = (entry.mse_threshold, entry.nn_accuracy, entry.nn_reduction_ratio)
    _write_floats(writer, floats, "decomposition_performance_map")
    writer.u(len(entry.nn_class_accuracy) + 1, 16, "count_classes")
    _write_floats(writer, entry.nn_class_accuracy, "nn_class_accuracy")
