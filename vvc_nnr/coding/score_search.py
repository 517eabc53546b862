"""The smallest file whose network still scores well by the user's own measure."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.bitstream.ties import with_ties
from vvc_nnr.coding.coded_network import CodedNetwork
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.own_steps import follows_spread
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import as_torch, copied_module, is_module, is_tensor, load_arrays, named_arrays
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import Progress
from vvc_nnr.quantize.quality import LEAST_QUALITY_DB, MAX_QUALITY_DB, MIN_QUALITY_DB
from vvc_nnr.roles.by_module import module_roles

Evaluate: TypeAlias = Callable[[Any], float]
"""Called with a network of the kind that was given, a module or a map of arrays or torch tensors; higher is better."""
_Candidate: TypeAlias = Callable[[float], tuple[CodedNetwork, float]]
# The search ends where two qualities are so close, a twelfth of a bit per weight.
CLOSE_DB = 0.5
# Qualities that are tried where the finest one scores too low: first this many steps, then the best one's neighbours.
N_STEPS, N_HALVINGS = 16, 3


def compress_by_score(
    model: Any,
    evaluate: Evaluate,
    max_drop: float,
    options: CompressOptions,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> CodedNetwork:
    """The smallest file that was found whose network scores at most so much less than the original.

    Qualities are halved in; the score is taken to rise with them, which noise may break by the noise's own size. Where
    the finest quality scores too low, coarser ones are tried before the search gives up: noise may be a gain there.

    Args:
        model: A torch module, or a map of names to numpy arrays or torch tensors. It is not changed.
        evaluate: Tells the score of a copy, about ten times; 24 times at most where the finest quality scores too low.
        max_drop: Largest drop of it, at least 0.
        options: How the network is coded, but for `quality`.
        metadata: Texts that travel with it.
        progress: Called with the values coded so far and their total, anew for each file.

    Raises:
        InputError: If an option or the score cannot be used, or the drop cannot be kept.
    """
    _check(model, evaluate, max_drop, options)
    arrays = named_arrays(model)
    roles = module_roles(model, arrays) if is_module(model) else None
    least = _score(evaluate, _copied(model)) - max_drop

    def candidate(quality_db: float) -> tuple[CodedNetwork, float]:
        made = code_network(arrays, replace(options, quality=quality_db), progress, metadata, roles)
        return made, _score(evaluate, _decoded(model, made.data, options))

    low, high = LEAST_QUALITY_DB, MAX_QUALITY_DB
    best, score = candidate(high)
    if score < least:
        high, best = _coarser(candidate, score, least, max_drop)
    while high - low > CLOSE_DB:
        middle = (low + high) / 2
        made, score = candidate(middle)
        if score >= least:
            best, high = made, middle
        else:
            low = middle
    return best


def _coarser(candidate: _Candidate, finest_score: float, least: float, max_drop: float) -> tuple[float, CodedNetwork]:
    """A quality below the finest whose network scores enough, and its file.

    Args:
        candidate: Makes the file of a quality, and tells its network's score.
        finest_score: Of the finest quality, too low.
        least: The score that must be kept.
        max_drop: What the user calls it.

    Raises:
        InputError: If none is found.
    """
    scores = {MAX_QUALITY_DB: finest_score}
    for quality_db in _qualities(scores):
        made, scores[quality_db] = candidate(quality_db)
        if scores[quality_db] >= least:
            return quality_db, made
    best_db = max(scores, key=scores.__getitem__)
    raise InputError(
        f"max_drop: {max_drop} cannot be kept; of {len(scores)} files, of qualities from {MIN_QUALITY_DB:g} to "
        f"{MAX_QUALITY_DB:g} dB, the least drop is {least + max_drop - scores[best_db]:g}, at {best_db:g} dB"
    )


def _qualities(scores: Mapping[float, float]) -> Iterator[float]:
    """Qualities to try below the finest: even steps down to the coarsest, then ever nearer to what scores best.

    Args:
        scores: Of the qualities that have been tried; looked at anew as it grows.
    """
    step = (MAX_QUALITY_DB - MIN_QUALITY_DB) / N_STEPS
    yield from (MAX_QUALITY_DB - number * step for number in range(1, N_STEPS + 1))
    for _ in range(N_HALVINGS):
        step /= 2
        best_db = max(scores, key=scores.__getitem__)
        yield from (near for near in (best_db - step, best_db + step) if MIN_QUALITY_DB <= near <= MAX_QUALITY_DB)


def _check(model: Any, evaluate: Any, max_drop: Any, options: CompressOptions) -> None:
    if not is_module(model) and not isinstance(model, Mapping):
        kind = type(model).__name__
        raise InputError(
            f"evaluate: needs a torch module or a map of names to arrays, which it is called with, got {kind}: load "
            "the network first (vvc_nnr.load_file)"
        )
    if not callable(evaluate):
        raise InputError(f"evaluate: {type(evaluate).__name__}; must be a function of the network")
    is_number = isinstance(max_drop, int | float) and not isinstance(max_drop, bool)
    if not is_number or not math.isfinite(max_drop) or max_drop < 0:
        raise InputError(f"max_drop: {max_drop!r}; must be a number of at least 0")
    asked = [name for name in ("quality", "bits_per_weight", "max_bytes") if getattr(options, name) is not None]
    if asked or not follows_spread(options):
        given = asked or ["qp, bitdepth, qp_by_size, lossless or roles"]
        raise InputError(f"evaluate: searches the quality by itself; take {given[0]} away")


def _score(evaluate: Evaluate, network: Any) -> float:
    found = evaluate(network)
    try:
        score = float(found)
    except (TypeError, ValueError):
        score = math.nan
    if math.isnan(score):
        raise InputError(f"evaluate: returned {found!r:.80}; must be a number, the higher the better")
    return score


def _copied(model: Any) -> Any:
    """A copy that a function may change, as one does that estimates the statistics of batch norms anew."""
    if is_module(model):
        return copied_module(model)
    made: dict[int, Any] = {}  # tied tensors stay tied
    for value in model.values():
        if id(value) not in made:
            made[id(value)] = value.detach().clone() if is_tensor(value) else copy.deepcopy(value)
    return {name: made[id(value)] for name, value in model.items()}


def _decoded(model: Any, data: bytes, options: CompressOptions) -> Any:
    """The network that a decoder gets, of the kind of the model."""
    stream = read_stream(data)
    arrays = with_ties(decode_network(stream, stream.n_elements, thread_count(options.n_threads)), stream.ties)
    if not is_module(model):
        return _of_same_kind(model, arrays, stream.formats)
    network = copied_module(model)
    load_arrays(network, arrays, stream.formats)
    return network


def _of_same_kind(model: Mapping[str, Any], arrays: Mapping[str, Array], formats: Mapping[str, str]) -> dict[str, Any]:
    """Decoded arrays, as torch tensors on the same devices where the model's are such."""
    in_torch = {name: array for name, array in arrays.items() if is_tensor(model[name])}
    if not in_torch:
        return dict(arrays)
    made = as_torch(in_torch, formats)
    return {name: made[name].to(model[name].device) if name in made else array for name, array in arrays.items()}
