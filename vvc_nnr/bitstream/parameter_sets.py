"""Parameter sets: what data units are read with. Field names are those of ISO/IEC 15938-17.

Performance maps say how accurate a network stays when it is thinned out in several ways. They describe; no decoder
needs them. Counts are the lengths of the tuples; on the wire each list has one entry fewer than its count says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.errors import BitstreamError

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


QUANTIZATION_UNIFORM = 1
QUANTIZATION_CODEBOOK = 2
_HAS_QP = QUANTIZATION_UNIFORM | QUANTIZATION_CODEBOOK


@dataclass(frozen=True, slots=True)
class ModelParameterSet:
    """The payload of a model parameter set.

    Args:
        topology_carriage_flag: The stream carries a topology unit.
        mps_quantization_method_flags: 1 uniform, 2 codebook, or both; 0: no QP follows.
        mps_topology_indexed_reference_flag: Data units name tensors by number.
        metric_type_performance_map_valid_flag: `performance_metric_type` is about the maps.
        mps_parent_signalling_enabled_flag: Data units may name a parent (profile 1).
        nnr_pre_flag: Parameters were signalled before; only with parent signalling (profile 1).
        base_model_id: The model that this one updates (profile 1).
        performance_metric_type: What accuracies mean (profile 1).
        mps_qp_density: QP steps per octave as a power of two, 0 to 7.
        mps_quantization_parameter: Added to the QP of every tensor.
        maps: Performance maps.
        validation_set_performance: Accuracy on the validation set (profile 1).
    """

    topology_carriage_flag: bool = True
    mps_quantization_method_flags: int = QUANTIZATION_UNIFORM
    mps_topology_indexed_reference_flag: bool = False
    metric_type_performance_map_valid_flag: bool = False
    mps_parent_signalling_enabled_flag: bool = False
    nnr_pre_flag: bool = False
    base_model_id: str | None = None
    performance_metric_type: str | None = None
    mps_qp_density: int = 2
    mps_quantization_parameter: int = 0
    maps: PerformanceMaps = field(default_factory=PerformanceMaps)
    validation_set_performance: float | None = None

    @property
    def _has_metric_type(self) -> bool:
        return self.validation_set_performance is not None or self.metric_type_performance_map_valid_flag


@dataclass(frozen=True, slots=True)
class LayerParameterSet:
    """The payload of a layer parameter set; it replaces density and QP for the data units that follow.

    Args:
        lps_self_contained_flag: The layer can be decoded on its own.
        lps_quantization_method_flags: As in the model parameter set; 0: the model's density and QP stay.
        lps_qp_density: QP steps per octave as a power of two.
        lps_quantization_parameter: Added to the QP of every tensor.
        maps: Performance maps, without that of decompositions.
    """

    lps_self_contained_flag: bool = True
    lps_quantization_method_flags: int = QUANTIZATION_UNIFORM
    lps_qp_density: int = 2
    lps_quantization_parameter: int = 0
    maps: PerformanceMaps = field(default_factory=PerformanceMaps)


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """All that a data unit depends on: the profile and the sets that came before it."""

    general_profile_idc: int = 1
    mps: ModelParameterSet | None = None
    lps: LayerParameterSet | None = None

    def model(self) -> ModelParameterSet:
        """The model parameter set.

        Raises:
            BitstreamError: If there was none yet.
        """
        if self.mps is None:
            raise BitstreamError("a data unit comes before the model parameter set")
        return self.mps

    @property
    def qp_density(self) -> int:
        """QP steps per octave as a power of two."""
        layer = self._layer_with_qp()
        return layer.lps_qp_density if layer else self.model().mps_qp_density

    @property
    def quantization_parameter(self) -> int:
        """What is added to the QP of every tensor."""
        layer = self._layer_with_qp()
        return layer.lps_quantization_parameter if layer else self.model().mps_quantization_parameter

    def _layer_with_qp(self) -> LayerParameterSet | None:
        return self.lps if self.lps and self.lps.lps_quantization_method_flags & _HAS_QP else None


def read_mps(reader: BitReader, general_profile_idc: int) -> ModelParameterSet:
    """Read the payload of a model parameter set up to and with its padding."""
    topology = reader.flag("topology_carriage_flag")
    sparsification, pruning, unification, decomposition = _read_map_flags(reader, 4)
    methods = reader.u(3, "mps_quantization_method_flags")
    indexed = reader.flag("mps_topology_indexed_reference_flag")
    has_base = has_validation = metric_is_valid = parent = pre = False
    if general_profile_idc == 1:
        has_base = reader.flag("base_model_id_present_flag")
        has_validation = reader.flag("validation_set_performance_present_flag")
        metric_is_valid = reader.flag("metric_type_performance_map_valid_flag")
        parent = reader.flag("mps_parent_signalling_enabled_flag")
        pre = reader.flag("nnr_pre_flag") and parent
        reader.u(2, "nnr_reserved_zero_2bits")
    else:
        reader.u(7, "nnr_reserved_zero_7bits")
    base_model_id = reader.st("base_model_id") if has_base else None
    metric = reader.st("performance_metric_type") if has_validation or metric_is_valid else None
    density, qp = _read_qp(reader, methods, "mps")
    maps = read_maps(reader, flags=(sparsification, pruning, unification, decomposition))
    validation = reader.flt("validation_set_performance") if has_validation else None
    reader.align("byte_alignment")
    return ModelParameterSet(
        topology, methods, indexed, metric_is_valid, parent, pre, base_model_id, metric, density, qp, maps, validation
    )  # fmt: skip


def write_mps(writer: BitWriter, mps: ModelParameterSet, general_profile_idc: int) -> None:
    """Write the payload of a model parameter set."""
    writer.flag(mps.topology_carriage_flag, "topology_carriage_flag")
    _write_map_flags(writer, mps.maps)
    writer.flag(mps.maps.decomposition is not None, "mps_decomposition_performance_map_flag")
    writer.u(mps.mps_quantization_method_flags, 3, "mps_quantization_method_flags")
    writer.flag(mps.mps_topology_indexed_reference_flag, "mps_topology_indexed_reference_flag")
    if general_profile_idc == 1:
        _write_edition_2_flags(writer, mps)
    else:
        writer.u(0, 7, "nnr_reserved_zero_7bits")
    if general_profile_idc == 1 and mps.base_model_id is not None:
        writer.st(mps.base_model_id, "base_model_id")
    if general_profile_idc == 1 and mps._has_metric_type:
        writer.st(mps.performance_metric_type or "", "performance_metric_type")
    _write_qp(writer, mps.mps_quantization_method_flags, mps.mps_qp_density, mps.mps_quantization_parameter, "mps")
    write_maps(writer, mps.maps)
    if general_profile_idc == 1 and mps.validation_set_performance is not None:
        writer.flt(mps.validation_set_performance, "validation_set_performance")
    writer.align()


def _write_edition_2_flags(writer: BitWriter, mps: ModelParameterSet) -> None:
    writer.flag(mps.base_model_id is not None, "base_model_id_present_flag")
    writer.flag(mps.validation_set_performance is not None, "validation_set_performance_present_flag")
    writer.flag(mps.metric_type_performance_map_valid_flag, "metric_type_performance_map_valid_flag")
    writer.flag(mps.mps_parent_signalling_enabled_flag, "mps_parent_signalling_enabled_flag")
    writer.flag(mps.nnr_pre_flag and mps.mps_parent_signalling_enabled_flag, "nnr_pre_flag")
    writer.u(0, 2, "nnr_reserved_zero_2bits")


def read_lps(reader: BitReader, lps_self_contained_flag: bool) -> LayerParameterSet:
    """Read the payload of a layer parameter set; the flag is in its header."""
    reader.u(1, "nnr_reserved_zero_bit")
    sparsification, pruning, unification = _read_map_flags(reader, 3)
    methods = reader.u(3, "lps_quantization_method_flags")
    reader.u(1, "nnr_reserved_zero_bit")
    density, qp = _read_qp(reader, methods, "lps")
    maps = read_maps(reader, flags=(sparsification, pruning, unification, False))
    reader.align("byte_alignment")
    return LayerParameterSet(lps_self_contained_flag, methods, density, qp, maps)


def write_lps(writer: BitWriter, lps: LayerParameterSet) -> None:
    """Write the payload of a layer parameter set."""
    writer.u(0, 1, "nnr_reserved_zero_bit")
    _write_map_flags(writer, lps.maps)
    writer.u(lps.lps_quantization_method_flags, 3, "lps_quantization_method_flags")
    writer.u(0, 1, "nnr_reserved_zero_bit")
    _write_qp(writer, lps.lps_quantization_method_flags, lps.lps_qp_density, lps.lps_quantization_parameter, "lps")
    write_maps(writer, lps.maps)
    writer.align()


def _read_map_flags(reader: BitReader, n_flags: int) -> list[bool]:
    return [reader.flag("performance map flags") for _ in range(n_flags)]


def _write_map_flags(writer: BitWriter, maps: PerformanceMaps) -> None:
    for entries in (maps.sparsification, maps.pruning, maps.unification):
        writer.flag(entries is not None, "performance map flags")


def _read_qp(reader: BitReader, methods: int, prefix: str) -> tuple[int, int]:
    """Density and QP; 2 and 0 if the methods have none."""
    if not methods & _HAS_QP:
        return 2, 0
    return reader.u(3, f"{prefix}_qp_density"), reader.i(13, f"{prefix}_quantization_parameter")


def _write_qp(writer: BitWriter, methods: int, density: int, qp: int, prefix: str) -> None:
    if methods & _HAS_QP:
        writer.u(density, 3, f"{prefix}_qp_density")
        writer.i(qp, 13, f"{prefix}_quantization_parameter")
