"""Compression that knows what the network does: a network and pictures to the smallest file within a loss.

```
 lambda ── candidate (coding_at_lambda.py) ──▶ file, loss on pictures held out ──┐
      ▲──────────────────────────────── next lambda ◀────────────────────────────────────┘
```
The lambda is searched for at which the limit is just kept, when each candidate takes a while and is a little noisy.
Everything is the encoder's choice: any decoder of the standard reads the file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from torch import nn

from vvc_nnr.calibrate.allocation import CalibratedNetwork
from vvc_nnr.calibrate.calibration import own_gradients
from vvc_nnr.calibrate.coding_at_lambda import CalibratedCoder, prepare
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.coding.coded_network import listed, scaled_line, weak_names
from vvc_nnr.coding.encoder import check_metadata
from vvc_nnr.errors import InputError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import MIN_QUALITY_DB

T = TypeVar("T")

# In octaves of lambda.
LARGEST_MOVE, LEAST_MOVE, SMALLEST_BRACKET = 3.0, 0.3, 0.06
MAX_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """What a candidate may be worth, and how that depends on lambda.

    Attributes:
        most: Largest value, above zero.
        enough: Share of it that is near enough.
        slope: Octaves of value per octave of lambda, roughly; below zero if a higher lambda lowers the value.
    """

    most: float
    enough: float
    slope: float


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The end of a search.

    Attributes:
        best: The candidate that keeps the limit and comes nearest to it; if none does, the one nearest to keeping it.
        value: What it is worth.
        is_kept: Whether it keeps the limit.
        n_candidates: How many were made.
    """

    best: T
    value: float
    is_kept: bool
    n_candidates: int

    def distance(self, limit: Limit) -> tuple[bool, float]:
        """Sorts candidates: those that break the limit first, the nearest to it last."""
        return self.is_kept, -abs(_octaves(self.value, limit))


def search_lambda(
    candidate: Callable[[float], tuple[T, float]], start: float, limit: Limit, max_candidates: int = MAX_CANDIDATES
) -> Found[T]:
    """The lambda whose candidate keeps the limit and comes nearest to it.

    Args:
        candidate: Makes a candidate at one lambda, and tells what it is worth: the larger, the nearer to the limit.
        start: First lambda, above zero.
        limit: The limit.
        max_candidates: How many candidates may be made.
    """
    tried: list[tuple[float, float]] = []  # log2 of lambda, octaves of value over the limit
    best: Found[T] | None = None
    at = math.log2(start)
    while len(tried) < max_candidates:
        result, value = candidate(2.0**at)
        tried.append((at, _octaves(value, limit)))
        found = Found(result, value, value <= limit.most, len(tried))
        best = found if best is None else max(best, found, key=lambda f: f.distance(limit))
        if found.is_kept and value >= limit.enough * limit.most:
            break
        to = next_lambda(tried, limit)
        if to is None:
            break
        at = to
    assert best is not None
    return replace(best, n_candidates=len(tried))


def _octaves(value: float, limit: Limit) -> float:
    """How far a value lies above the limit; losses may be as small as zero and below."""
    return math.log2(max(value / limit.most, 2.0**-8))


def next_lambda(tried: Sequence[tuple[float, float]], limit: Limit) -> float | None:
    """Where to try next, log2: what should be in the middle of what is near enough; None if nothing is left to try.

    Args:
        tried: log2 of lambda, and octaves of value over the limit.
        limit: The limit.
    """
    aim = math.log2((1 + limit.enough) / 2)
    towards = 1.0 if limit.slope > 0 else -1.0  # direction in which the limit is broken
    kept = [point for point in tried if point[1] <= 0]
    if not kept:
        at, value = min(tried, key=lambda point: towards * point[0])
        return at - towards * min(max((value - aim) / abs(limit.slope), LEAST_MOVE), LARGEST_MOVE)
    at, value = max(kept, key=lambda point: towards * point[0])
    beyond = [point for point in tried if towards * (point[0] - at) > 0]
    if not beyond:
        return at + towards * min(max((aim - value) / abs(limit.slope), LEAST_MOVE), LARGEST_MOVE)
    other, worse = min(beyond, key=lambda point: towards * point[0])
    if abs(other - at) < SMALLEST_BRACKET:
        return None
    share = (aim - value) / (worse - value)
    return at + min(max(share, 0.2), 0.8) * (other - at)


_log = logging.getLogger(__name__)
# Of a search for a file without calibration.
MAX_PLAIN_CANDIDATES, PLAIN_ENOUGH = 4, 0.7
# From this share of the bytes on, matrices that are not calibrated are named.
MUCH_UNCALIBRATED = 0.1
# A coded network that is better by more than this is told: the network as given harms the pictures.
MUCH_GAIN_DB = 0.05
# What the first candidate to keep a size takes for its loss.
FIRST_LOSS_DB = 0.05
# By how much the bits of a codec's pictures may rise where only a loss of PSNR is given.
RATE_RISE_PERCENT_PER_DB = 10.0
# Octaves per octave of lambda.
LOSS_SLOPE, SIZE_SLOPE = 1.1, -0.28

ReportLine: TypeAlias = Callable[[str], None]


@own_gradients()
def compress_calibrated(
    model: nn.Module,
    pictures: Any,
    *,
    max_loss_db: float | None = None,
    max_rate_rise_percent: float | None = None,
    max_bytes: int | None = None,
    options: CompressOptions | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: nn.Module | None = None,
    seed: int = 0,
    report: ReportLine | None = None,
) -> CalibratedNetwork:
    """The smallest file within a loss, or the one of least loss within a size.

    Files of the same network without calibration are held against it, and the better one is returned. A loss below
    zero (the coded network is better on the pictures held out) keeps any limit; a large one is told by a warning.

    Args:
        model: Any module that makes a picture of tensors. It is not changed.
        pictures: What it gets: a `Calibration`, or a list of pictures (tensors with their batch dimension, tuples of
            them for a network of several inputs, or `Sample`s), of which every fourth is held out.
        max_loss_db: Largest loss of PSNR on the pictures held out, of a codec at any of its operating points. Give this
            or `max_bytes`.
        max_rate_rise_percent: With `max_loss_db`, of a codec: by how much its pictures' bits may rise at any of its
            operating points. None: 10 for each dB of `max_loss_db`, as 0.3 % for 0.03 dB.
        max_bytes: Largest size of the file.
        options: For what pictures do not decide: QP density, dependent quantisation, QPs of unknown tensors.
        metadata: Texts that travel with the network.
        reference: The network that losses are measured against, if `model` was tuned from another.
        seed: Of what is drawn: places and signs.
        report: Called with one line after each candidate.

    Raises:
        InputError: If an option, a picture or the network cannot be used, or the limit cannot be kept.
    """
    limits = _checked_limits(max_loss_db, max_rate_rise_percent, max_bytes)
    if max_rate_rise_percent is not None and not (isinstance(pictures, Calibration) and pictures.measure):
        raise InputError("max_rate_rise_percent: only for codecs of pictures, whose bits are measured; take it away")
    candidates = prepare_calibrated(model, pictures, options=options, metadata=metadata, reference=reference, seed=seed)
    tell = report or (lambda _: None)
    smallest: CalibratedNetwork | None = None

    def candidate(lambda_rd: float) -> tuple[CalibratedNetwork, float]:
        nonlocal smallest
        found = candidates.compress(lambda_rd)
        if limits.max_bytes is None:
            smallest = limits.better(smallest, found)
        tell(f"lambda {lambda_rd:.3g}: {_in_words(found)}")
        return found, limits.loss_db(found) if limits.max_bytes is None else float(len(found.data))

    first_lambda = candidates.first_lambda(max_loss_db or FIRST_LOSS_DB)
    found = search_lambda(candidate, first_lambda, limits.of_search())
    calibrated = smallest or found.best
    best = calibrated if found.is_kept else None
    for plain in _plain_files(candidates, calibrated, limits):
        tell(f"without calibration: {_in_words(plain)}")
        best = limits.better(best, plain)
    if best is None:
        raise InputError(limits.beyond(calibrated))
    if best.method == "plain":
        best = replace(best, calibrated=calibrated)
        told = "calibration: the file without calibration is taken, %s; the calibrated one: %s"
        _log.warning(told, _in_words(best), _in_words(calibrated))
    if best.weak_db:
        _log.warning("%s, and the pictures tell nothing of what that does", weak_names(best.weak_db))
    best = replace(best, n_candidates=found.n_candidates)
    if options is not None and options.local_scaling:
        _log.warning("%s", scaled_line(best.scaled))
    tell(f"taken: {best.method}, {_in_words(best)}")
    if best.loss_db < -MUCH_GAIN_DB:
        gain = "the network as given makes the pictures held out %.4f dB worse than the coded one; does it fit them?"
        _log.warning(gain, -best.loss_db)
    if best.method == "calibrated" and best.uncalibrated_share > MUCH_UNCALIBRATED:
        names = listed([tensor.name for tensor in best.uncalibrated])
        share = 100 * best.uncalibrated_share
        _log.warning("%.0f %% of the bytes are matrices that are not calibrated, such as %s", share, names)
    return best


def _in_words(network: CalibratedNetwork) -> str:
    share = 100 * len(network.data) / network.n_original_bytes
    return f"{len(network.data)} bytes ({share:.2f} %), {_loss_in_words(network)}"


def _loss_in_words(network: CalibratedNetwork) -> str:
    rate = "" if network.codec is None else f", rate {network.codec.rate_rise_percent:+.3f} %"
    return f"loss {network.loss_db:.4f} dB{rate}"


def _plain_files(coder: CalibratedCoder, calibrated: CalibratedNetwork, limits: _Limits) -> Iterator[CalibratedNetwork]:
    """Files without calibration: one of the calibrated file's size, and smaller ones as long as the loss is kept."""
    try:
        first = coder.compress_plainly(max_bytes=limits.max_bytes or len(calibrated.data))
    except InputError:
        return  # no plain file is that small
    yield first.network
    max_loss_db, first_loss_db = limits.max_loss_db, limits.loss_db(first.network)
    if max_loss_db is None or (limits.loss_db(calibrated) <= max_loss_db < first_loss_db):
        return

    def candidate(noise: float) -> tuple[CalibratedNetwork, float]:
        found = coder.compress_plainly(quality=max(-10 * math.log10(noise), MIN_QUALITY_DB)).network
        return found, limits.loss_db(found)

    limit = Limit(max_loss_db, PLAIN_ENOUGH, 1.0)
    start = 10 ** (-first.quality_db / 10) * min(max(max_loss_db / max(first_loss_db, 1e-9), 2.0**-8), 8.0)
    yield search_lambda(candidate, start, limit, MAX_PLAIN_CANDIDATES).best


@own_gradients()
def prepare_calibrated(
    model: nn.Module,
    pictures: Any,
    *,
    options: CompressOptions | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: nn.Module | None = None,
    seed: int = 0,
) -> CalibratedCoder:
    """What `compress_calibrated` tries lambdas on: its `compress(lambda_rd)` makes a file of whatever size and loss.

    Args:
        model: As for `compress_calibrated`; so are the others.
        pictures: What it gets.
        options: For what pictures do not decide.
        metadata: Texts that travel with the network.
        reference: The network that losses are measured against.
        seed: Of what is drawn.

    Raises:
        InputError: If an option, a picture or the network cannot be used.
    """
    check_metadata(metadata or {})
    return prepare(model, pictures, calibrated_options(options), metadata or {}, seed, reference)


def calibrated_options(options: CompressOptions | None) -> CompressOptions:
    """Options as calibration uses them: rows are scanned.

    Raises:
        InputError: If one has no effect with calibration, or leaves nothing to calibrate.
    """
    chosen = options or CompressOptions()
    idle = {
        "bitdepth": chosen.bitdepth is not None,
        "codebook": chosen.codebook != "off",
        "lossless": chosen.lossless,
        "qp_by_size": chosen.qp_by_size,
        "quality": chosen.quality is not None,
        "bits_per_weight": chosen.bits_per_weight is not None,
        f"search {chosen.search!r}": chosen.search != "fast",
    }
    found = [name for name, is_given in idle.items() if is_given]
    if found:
        raise InputError(f"calibration: levels are chosen by pictures, not with {', '.join(found)}; take it away")
    return replace(chosen, scan_order=0)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the caller asked for: a loss or a size; see `compress_calibrated`."""

    max_loss_db: float | None
    max_rate_rise_percent: float
    max_bytes: int | None

    def of_search(self) -> Limit:
        """What the candidates of the search keep."""
        if self.max_bytes is not None:
            return Limit(self.max_bytes, 0.985, SIZE_SLOPE)
        assert self.max_loss_db is not None
        return Limit(self.max_loss_db, 0.88, LOSS_SLOPE)

    def loss_db(self, network: CalibratedNetwork) -> float:
        """The loss; of a codec the rise of its rate too, on the scale on which both limits are the same."""
        if network.codec is None:
            return network.loss_db
        rise = network.codec.rate_rise_percent / self.max_rate_rise_percent
        return max(network.loss_db, rise * (self.max_loss_db or 1.0))

    def better(self, best: CalibratedNetwork | None, other: CalibratedNetwork) -> CalibratedNetwork | None:
        """The smaller one within a loss, or the one of less loss within a size; None if neither keeps the limit."""
        if self.max_loss_db is not None:
            if self.loss_db(other) > self.max_loss_db:
                return best
            return other if best is None or len(other.data) < len(best.data) else best
        assert self.max_bytes is not None
        if len(other.data) > self.max_bytes:
            return best
        return other if best is None or other.cost < best.cost else best

    def beyond(self, best: CalibratedNetwork) -> str:
        """What an error says where no candidate keeps the limit."""
        possible = f"the nearest that was found is {len(best.data)} bytes with a {_loss_in_words(best)}"
        if self.max_bytes is not None:
            return f"max_bytes: {self.max_bytes} cannot be kept; {possible}"
        rate = "" if best.codec is None else f" with max_rate_rise_percent {self.max_rate_rise_percent:g}"
        return f"max_loss_db: {self.max_loss_db}{rate} cannot be kept; {possible}"


def _checked_limits(max_loss_db: float | None, max_rate_rise_percent: float | None, max_bytes: int | None) -> _Limits:
    if (max_loss_db is None) == (max_bytes is None):
        raise InputError("calibration: give one of max_loss_db and max_bytes")
    if max_rate_rise_percent is not None and max_loss_db is None:
        raise InputError("max_rate_rise_percent: only with max_loss_db")
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1):
        raise InputError(f"max_bytes: {max_bytes!r}; must be a whole number of at least 1")
    for name, value in {"max_loss_db": max_loss_db, "max_rate_rise_percent": max_rate_rise_percent}.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value) and value > 0):
            raise InputError(f"{name}: {value!r}; must be a number above 0")
    rise = max_rate_rise_percent or RATE_RISE_PERCENT_PER_DB * (max_loss_db or 1.0)
    return _Limits(max_loss_db, rise, max_bytes)
