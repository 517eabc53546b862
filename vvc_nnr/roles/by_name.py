"""Roles from what a bare state dict tells: names, shapes, number formats and values.

A name is the module's path, a dot, and the tensor's own name. TensorFlow's `/`, `:` and the `:0` at the end are taken
for dots and nothing, and `bn0_running_var` for `bn0.running_var`. What stands beside a tensor in the same module says
most: a running variance makes it a batch norm, a table of cumulated frequencies an entropy model.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    NamedArrays,
    exact_float32,
    is_float,
    number_format_of,
    numpy_values,
    shape_of,
)
from vvc_nnr.roles.roles import Role, TensorRole

# Fewer values cost little however they are coded.
_MIN_VALUES = 64
# A tensor of no more than so many different values is none of trained ones; so many of its values are looked at.
_MAX_DISTINCT = 16
_SAMPLE = 4096
# Sides of filters of pictures that no larger ones have.
_MAX_FILTER_SIDE = 31
# Above this share of equal neighbours values repeat; a grid of N coordinates has one in N.
_MAX_EQUAL = 0.2
_MIRROR_TOLERANCE = 1e-5


def looks_trained(array: Array | FloatBits) -> bool:
    """Whether a float tensor is one of many values on two axes or more that follow no rule."""
    exact = exact_float32(array)
    values = np.asarray(array) if exact is None else exact
    if values.size < _MIN_VALUES or sum(side > 1 for side in values.shape) < 2 or _is_filter_bank(values.shape):
        return False
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLE)]
    if not np.isfinite(values).all() or np.unique(sample).size <= _MAX_DISTINCT:
        return False
    return not _repeats(values) and not _mirrors(values)


def _is_filter_bank(shape: tuple[int, ...]) -> bool:
    """Whether it is the shape of several filters of one channel: (n, 1, k), or (n, 1, k, k) of small k."""
    if len(shape) < 3 or shape[0] == 1 or shape[1] != 1:
        return False
    return len(shape) == 3 or (len(set(shape[2:])) == 1 and shape[2] <= _MAX_FILTER_SIDE)


def _repeats(values: NDArray[np.floating]) -> bool:
    """Whether many neighbours are equal, along an axis or the diagonal of the last two; pairs of zeros do not count."""
    axes = range(values.ndim)
    pairs = [(values.swapaxes(0, axis)[1:], values.swapaxes(0, axis)[:-1]) for axis in axes]
    pairs.append((values[..., 1:, 1:], values[..., :-1, :-1]))
    return any(_share_of_equal(first, second) > _MAX_EQUAL for first, second in pairs)


def _share_of_equal(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    counted = (first != 0) | (second != 0)
    n_counted = int(np.count_nonzero(counted))
    return int(np.count_nonzero((first == second) & counted)) / n_counted if n_counted else 0.0


def _mirrors(values: NDArray[np.floating]) -> bool:
    """Whether turning the last two axes round changes no more than signs, as of blurs, derivatives and cosines."""
    if max(values.shape[-2:]) == 1:
        return False
    sizes = np.abs(values)
    return bool(np.abs(sizes - sizes[..., ::-1, ::-1]).max() <= _MIRROR_TOLERANCE * sizes.max())


# Own names in an entropy model of CompressAI, older ones with numbers in place of lists.
_ENTROPY_MARKS = frozenset({"quantiles", "_quantized_cdf", "_cdf_length", "scale_table"})
# What its tables were made of: the weights of the small networks that are its cumulative distributions.
_ENTROPY_PARAMETER = re.compile(r"\.(_?(matrix|bias|factor)\d+|(matrices|biases|factors)\.\d+)$")
_COUNTERS = frozenset({"num_batches_tracked", "global_step", "step", "n_averaged"})
# Statistics of a norm, and those that are only if what stands beside them or their shape says so.
_VARIANCE = re.compile(r"(?i)(running|moving)_?(var|variance)")
_PLAIN_VARIANCE = re.compile(r"(?i)_?(var|variance)")
_MEAN = re.compile(r"(?i)(running|moving)_?mean")
_PLAIN_MEAN = re.compile(r"(?i)_?mean")
# The tensors of a layer in Keras 3, by number.
_NUMBERED, _N_OF_BATCH_NORM = re.compile(r"(?:.*\.)?([^.]+)\.vars"), 4
# What weight and spectral norms take the scale of, and the scale that they give it: own names of torch.
_DIRECTION = re.compile(r"(.+)_v")
_GAIN = re.compile(r"(.+)_g")
_UNNORMED = re.compile(r"(.+)_orig")
_PARAMETRISED = re.compile(r"(^|\.)parametrizations\.[^.]+$")
# What torch calls the state that a module gives and takes in its own way.
_OPAQUE = "_extra_state"
_NORM = re.compile(r"(?i)(^|[._])(bn|gn|ln|in|norm|batch_?norm|layer_?norm|group_?norm)\d*([._]|$)|norm\d*$")
# Own names that begin with their module's: all of a norm's or a GDN's, and plain statistics of what is called a norm.
_JOINED = re.compile(r"(?i)(.+)_((running|moving)_?(mean|var|variance)|gamma|beta)")
_JOINED_PLAIN = re.compile(r"(?i)(.*(?:bn|norm|batch_?normalization)_?\d*)_(mean|var|variance)")
# Of a scale of float8, or what it is made of: weight_scale, weight_scale_inv, scales, input_amax.
_SCALE = re.compile(r"(?i)(^|_)(scales?|amax|absmax)(_|$)")
# What is no scale, whatever its shape.
_SHIFT = re.compile(r"(?i)bias$|^beta$")
# A scale is for so many values or more, but for those of whole rows.
_MIN_SCALED = 16
_OUTPUT_NUMBER = re.compile(r":\d+$")
# Names of constants, and those that weights have too: their values tell.
_CONSTANT = re.compile(
    r"(?i)(^|_)(attn_mask|bound|scale_bound|pedestal|anchors?|anchor_grid|strides?|inv_freq|freqs?|"
    r"scale_table|position_ids|relative_position_index|zero_point)$"
)
_PERHAPS_CONSTANT = re.compile(r"(?i)(^|_)(mask|grid|mean|std|target|window|kernel|filt|fir)$")


def named_roles(arrays: NamedArrays) -> dict[str, TensorRole]:
    """The role of every tensor of a state dict."""
    parts, siblings = _siblings(arrays)
    entropy_models = tuple(prefix for prefix, own in siblings.items() if own.keys() & _ENTROPY_MARKS)
    scales = _float8_scales(arrays, parts)
    return {name: _role(name, *parts[name], array, siblings, entropy_models, scales) for name, array in arrays.items()}


def float8_scales(arrays: NamedArrays) -> frozenset[str]:
    """The names of floats that float8 tensors beside them are multiplied by, or were scaled by, by name or structure.

    By name they are in the same module, in a part of it (`fc.weight_quantizer._amax` of `fc.weight`), or around it. By
    structure a scale is in the same module and no bias, has no negative value, and a shape with a value for all of a
    float8 tensor, for each of its rows or columns, or for each block.
    """
    return _float8_scales(arrays, {name: _parts(name) for name in arrays})


def _float8_scales(arrays: NamedArrays, parts: Mapping[str, tuple[str, str]]) -> frozenset[str]:
    scaled: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for name, array in arrays.items():
        if number_format_of(name, array) in FLOAT8:
            scaled[parts[name][0]].add(shape_of(array))
    if not scaled:
        return frozenset()
    around = {_outer(prefix) for prefix in scaled}
    found = set()
    for name, array in arrays.items():
        (prefix, own), number_format = parts[name], number_format_of(name, array)
        if not is_float(number_format) or number_format in FLOAT8:
            continue
        if _SCALE.search(own):
            is_scale = prefix in scaled or _outer(prefix) in scaled or prefix in around
        else:
            fits = any(_fits_scale(shape_of(array), shape) for shape in scaled.get(prefix, ()))
            is_scale = fits and not _SHIFT.search(own) and not bool((numpy_values(array) < 0).any())
        if is_scale:
            found.add(name)
    return frozenset(found)


def _outer(prefix: str) -> str:
    """The module that a module is a part of."""
    return prefix.rpartition(".")[0]


def _fits_scale(shape: tuple[int, ...], scaled: tuple[int, ...]) -> bool:
    """Whether a shape has a value for all of a tensor, or for each of its rows, columns or blocks; axes of 1 aside."""
    sides = tuple(side for side in shape if side != 1)
    if not sides:
        return True
    if 0 in sides or len(scaled) < 2:
        return False
    if len(sides) == 1:
        return sides[0] in scaled
    if _MIN_SCALED * math.prod(sides) > math.prod(scaled):
        return False
    matrix = scaled[0], math.prod(scaled[1:])
    return any(_are_blocks(*pair) for pair in ((shape, scaled), (sides, matrix), (sides, matrix[::-1])))


def _are_blocks(numbers: tuple[int, ...], sides: tuple[int, ...]) -> bool:
    """Whether each number is how many blocks of some size a side is."""
    pairs = zip(numbers, sides, strict=False)
    return len(numbers) == len(sides) and all(n == math.ceil(side / math.ceil(side / n)) for n, side in pairs)


def normed_roles(arrays: NamedArrays) -> dict[str, TensorRole]:
    """The roles of the tensors of weight and spectral norms, whose scale is another tensor's; of no others."""
    parts, siblings = _siblings(arrays)
    found = {name: _normed_role(*parts[name], siblings) for name in arrays}
    return {name: TensorRole(role, "tensors beside it") for name, role in found.items() if role is not None}


def _siblings(arrays: NamedArrays) -> tuple[dict[str, tuple[str, str]], dict[str, dict[str, tuple[int, ...]]]]:
    """The parts of all names, and own names and shapes by module."""
    parts = {name: _parts(name) for name in arrays}
    siblings: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, array in arrays.items():
        module, own = parts[name]
        siblings[module][own] = shape_of(array)
    return parts, siblings


def _parts(name: str) -> tuple[str, str]:
    """A module's path with dots, and the tensor's own name."""
    prefix, _, own = _OUTPUT_NUMBER.sub("", name).replace("/", ".").replace(":", ".").rpartition(".")
    joined = _JOINED.fullmatch(own) or _JOINED_PLAIN.fullmatch(own)
    if joined is None:
        return prefix, own
    return (f"{prefix}.{joined[1]}" if prefix else joined[1]), joined[2]


def entropy_role(name: str, array: Array | FloatBits) -> Role:
    """The role of a tensor of an entropy model: a parameter of its distributions, or one of its tables."""
    is_parameter = is_float(number_format_of(name, array)) and _ENTROPY_PARAMETER.search(name)
    return Role.ENTROPY_PARAMETER if is_parameter else Role.ENTROPY_TABLE


def by_values(role: TensorRole, array: Array | FloatBits) -> TensorRole:
    """The role, but for weights of whole and half numbers, which are none: positions, masks, fixed filters."""
    if role.role is Role.WEIGHT and has_whole_values(array):
        return TensorRole(Role.CONSTANT, "whole values")
    return role


def _role(
    name: str,
    prefix: str,
    own: str,
    array: Array | FloatBits,
    siblings: Mapping[str, Mapping[str, tuple[int, ...]]],
    entropy_models: tuple[str, ...],
    scales: frozenset[str],
) -> TensorRole:
    """The role of a tensor; `scales` are what `float8_scales` finds."""
    if any(prefix == model or prefix.startswith(f"{model}.") for model in entropy_models if model):
        return TensorRole(entropy_role(f"{prefix}.{own}", array), "tensors beside it")
    if own == _OPAQUE:
        return TensorRole(Role.CONSTANT, "name")
    if own in _COUNTERS and not shape_of(array):
        return TensorRole(Role.COUNTER, "name")
    if not is_float(number_format_of(name, array)):
        return TensorRole(Role.CONSTANT, "integers")
    if name in scales:
        return TensorRole(Role.CONSTANT, "tensors beside it")
    beside = siblings[prefix]
    is_of_layer = _OUTPUT_NUMBER.search(name) or "bias" in beside
    if own.endswith("kernel") and is_of_layer and not _is_vector(shape_of(array)):
        return by_values(TensorRole(Role.WEIGHT, "name"), array)  # a layer's of Keras or Flax, whose filters are last
    if own in ("beta", "gamma") and _is_gdn(prefix, siblings):
        return TensorRole(Role.GDN, "tensors beside it")
    normed = _normed_role(prefix, own, siblings)
    if normed is not None:
        return TensorRole(normed, "tensors beside it")
    return by_values(_float_role(prefix, own, array, beside), array)


def _normed_role(prefix: str, own: str, siblings: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Role | None:
    """The role of a tensor of a weight norm or spectral norm; None of others."""
    beside = siblings.get(prefix, {})
    direction, gain, unnormed = (kind.fullmatch(own) for kind in (_DIRECTION, _GAIN, _UNNORMED))
    if direction and f"{direction[1]}_g" in beside:
        return Role.DIRECTION
    if gain and f"{gain[1]}_v" in beside:
        return Role.NORM_SCALE
    if unnormed and f"{unnormed[1]}_u" in beside:
        return Role.DIRECTION
    if not _PARAMETRISED.search(prefix):
        return None
    is_spectral = any({"_u", "_v"} & siblings[path].keys() for path in siblings if path.startswith(f"{prefix}."))
    if (own == "original" and is_spectral) or (own == "original1" and "original0" in beside):
        return Role.DIRECTION
    return Role.NORM_SCALE if own == "original0" and "original1" in beside else None


def _is_gdn(prefix: str, siblings: Mapping[str, Mapping[str, tuple[int, ...]]]) -> bool:
    """Whether beta (N) and gamma (N, N) or (N, N, 1, 1), or what keeps them positive, stand side by side."""
    own = siblings[prefix]
    beta, gamma = own.get("beta", ()), own.get("gamma", ())
    is_square = len(beta) == 1 and len(gamma) > 1 and gamma[:2] == beta * 2
    return is_square or f"{prefix}.beta_reparam" in siblings


def _float_role(prefix: str, own: str, array: Array | FloatBits, beside: Mapping[str, tuple[int, ...]]) -> TensorRole:
    """The role of a float tensor by its own name, its module's name and its number of dimensions."""
    shape = shape_of(array)
    if (numbered := _numbered_statistic(prefix, own, beside)) is not None:
        return TensorRole(numbered, "tensors beside it")
    if _is_variance(own, shape):
        return TensorRole(Role.VARIANCE, "name")
    if _MEAN.fullmatch(own):
        return TensorRole(Role.MEAN, "name")
    if _PLAIN_MEAN.fullmatch(own) and any(_is_variance(*each) and each[1] == shape for each in beside.items()):
        return TensorRole(Role.MEAN, "tensors beside it")
    if _CONSTANT.search(own) or (_PERHAPS_CONSTANT.search(own) and not looks_trained(array)):
        return TensorRole(Role.CONSTANT, "name")
    if not shape:
        return TensorRole(Role.CONSTANT, "scalar")
    if _is_keras_gru_bias(own, shape, beside):
        return TensorRole(Role.BIAS, "tensors beside it")
    if not _is_vector(shape) or (len(shape) > 1 and own.startswith("weight")):
        return TensorRole(Role.WEIGHT, "shape")
    return _vector_role(prefix, own, beside)


def _numbered_statistic(prefix: str, own: str, beside: Mapping[str, tuple[int, ...]]) -> Role | None:
    """The mean or variance of a norm in Keras 3, whose tensors have numbers: `layers/batch_normalization/vars/3`.

    A batch norm has them last, a normalisation of inputs before its count. In a class of the user's own layers have
    other names; four vectors of one shape are taken for a batch norm there too.
    """
    layer = _NUMBERED.fullmatch(prefix)
    if layer is None or not own.isdigit():
        return None
    n_tensors, shapes = len(beside), set(beside.values())
    is_alike = n_tensors == _N_OF_BATCH_NORM and len(shapes) == 1 and _is_vector(*shapes)
    if layer[1].startswith("batch_normalization") or is_alike:
        place = int(own) - (n_tensors - 2)
    elif layer[1].startswith("normalization"):
        place = int(own)
    else:
        return None
    return {0: Role.MEAN, 1: Role.VARIANCE}.get(place)


def _is_keras_gru_bias(own: str, shape: tuple[int, ...], beside: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it is the bias of a GRU of Keras, (2, 3 n): of the input in one row, of the state in the other."""
    recurrent = beside.get({"bias": "recurrent_kernel", "2": "1"}.get(own, ""), ())
    return len(recurrent) == 2 and recurrent[1] == 3 * recurrent[0] and shape == (2, recurrent[1])


def _vector_role(prefix: str, own: str, beside: Mapping[str, tuple[int, ...]]) -> TensorRole:
    has_statistics = any(_is_variance(*each) or _MEAN.fullmatch(each[0]) for each in beside.items())
    is_norm = has_statistics or _NORM.search(prefix) is not None
    if own in ("weight", "gamma", "scale"):
        return TensorRole(Role.NORM_SCALE, "tensors beside it" if is_norm else "shape")
    if is_norm or own == "beta":
        return TensorRole(Role.NORM_SHIFT, "tensors beside it" if is_norm else "name")
    return TensorRole(Role.BIAS, "name" if own.endswith("bias") else "shape")


def _is_variance(own: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a variance by its own name; plain ones are vectors."""
    is_plain = _PLAIN_VARIANCE.fullmatch(own) is not None and bool(shape) and _is_vector(shape)
    return is_plain or _VARIANCE.fullmatch(own) is not None


def _is_vector(shape: tuple[int, ...]) -> bool:
    return sum(side > 1 for side in shape) <= 1


COARSE_LEVEL = 255
# So many values tell most tensors that are on no coarse grid.
SAMPLE = 64


def has_whole_values(array: Array | FloatBits) -> bool:
    """Whether a float tensor of several values has only whole and half numbers up to 127: no trained weights."""
    if isinstance(array, FloatBits):
        values = numpy_values(array).reshape(-1)
    elif array.dtype.kind != "f" or array.dtype.itemsize > 4:
        return False
    else:
        values = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
    if values.size < 2 or not _is_whole(values[:SAMPLE]):
        return False
    return _is_whole(values)


def _is_whole(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        doubled = 2 * values
    return bool((np.abs(doubled) < COARSE_LEVEL).all() and (doubled == np.rint(doubled)).all())
