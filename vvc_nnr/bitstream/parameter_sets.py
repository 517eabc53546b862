"""Parameter sets: what data units are read with. Field names are those of ISO/IEC 15938-17."""

from __future__ import annotations

from dataclasses import dataclass, field

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.bitstream.performance_maps import PerformanceMaps, read_maps, write_maps
from vvc_nnr.errors import BitstreamError

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
