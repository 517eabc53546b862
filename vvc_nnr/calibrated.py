"""Compression that knows what the network does: a network and pictures to the smallest file within a loss.

```
 price per bit ── attempt (calibrated_attempt.py) ──▶ file, loss on pictures held out ──┐
      ▲──────────────────────────────── next price ◀────────────────────────────────────┘
```
Everything is the encoder's choice: any decoder of the standard reads the file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from torch import nn

from vvc_nnr.calibrated_attempt import prepare
from vvc_nnr.calibrated_network import CalibratedNetwork
from vvc_nnr.errors import InputError
from vvc_nnr.network_encoder import check_metadata
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.calibration import as_calibration, loss_meter
from vvc_nnr.quantize.price_search import Limit, search_price

# QP of matrices that no layer here knows: their errors are not weighed, so they are coded finely.
UNKNOWN_QP = -52
# What the first attempt to keep a size takes for its loss.
FIRST_LOSS_DB = 0.05
# Octaves per octave of the price.
LOSS_SLOPE, SIZE_SLOPE = 1.1, -0.28

Report: TypeAlias = Callable[[str], None]


def compress_calibrated(
    model: nn.Module,
    pictures: Any,
    *,
    max_loss_db: float | None = None,
    max_bytes: int | None = None,
    price_per_bit: float | None = None,
    options: CompressOptions | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: nn.Module | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> CalibratedNetwork:
    """The smallest file within a loss, the one of least loss within a size, or the one at a price per bit.

    Args:
        model: Any module that maps tensors to a tensor. It is not changed.
        pictures: What it gets: a `Calibration`, or a list of pictures (tensors with their batch dimension, or tuples of
            them for a network of several inputs), of which every fourth is held out.
        max_loss_db: Largest loss of PSNR on the pictures held out. One of this and the next two is wanted.
        max_bytes: Largest size of the file.
        price_per_bit: What a bit may cost in squared error per value of the output: one attempt, whatever its loss.
        options: For what pictures do not decide: QP density, dependent quantisation, QPs of unknown tensors.
        metadata: Texts that travel with the network.
        reference: The network that losses are measured against, if `model` was tuned from another.
        seed: Of what is drawn: places and signs.
        report: Called with one line after each attempt.

    Raises:
        InputError: If an option, a picture or the network cannot be used, or the limit cannot be kept.
    """
    limit = _limit(max_loss_db, max_bytes, price_per_bit)
    check_metadata(metadata or {})
    job = prepare(model, as_calibration(pictures), _checked_options(options), metadata or {}, seed)
    if reference is not None:
        reference_network = copy.deepcopy(reference).eval().float()
        job = replace(job, meter=loss_meter(reference_network, job.calibration))
    tell = report or (lambda _: None)

    def attempt(price: float) -> tuple[CalibratedNetwork, float]:
        found = job.compress(price)
        share = 100 * len(found.data) / found.n_original_bytes
        tell(f"price {price:.3g}: {len(found.data)} bytes ({share:.2f} %), loss {found.loss_db:.4f} dB")
        return found, found.loss_db if max_bytes is None else float(len(found.data))

    if limit is None:
        assert price_per_bit is not None
        return attempt(price_per_bit)[0]
    found = search_price(attempt, job.first_price(max_loss_db or FIRST_LOSS_DB), limit)
    if not found.is_kept:
        raise InputError(_beyond(found.best, max_loss_db, max_bytes))
    return replace(found.best, n_attempts=found.n_attempts)


def _limit(max_loss_db: float | None, max_bytes: int | None, price_per_bit: float | None) -> Limit | None:
    """What attempts have to keep; None for a fixed price."""
    if [max_loss_db, max_bytes, price_per_bit].count(None) != 2:
        raise InputError("calibration: one of max_loss_db, max_bytes and price_per_bit is wanted")
    if max_bytes is not None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise InputError(f"max_bytes: {max_bytes!r}, a whole number of at least 1 is wanted")
        return Limit(max_bytes, 0.985, SIZE_SLOPE)
    if max_loss_db is not None:
        return Limit(_above_zero(max_loss_db, "max_loss_db"), 0.88, LOSS_SLOPE)
    _above_zero(price_per_bit, "price_per_bit")
    return None


def _above_zero(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{name}: {value!r}, a number above 0 is wanted")
    return value


def _beyond(best: CalibratedNetwork, max_loss_db: float | None, max_bytes: int | None) -> str:
    possible = f"the nearest that was found is {len(best.data)} bytes with a loss of {best.loss_db:.4f} dB"
    if max_bytes is not None:
        return f"max_bytes: {max_bytes} cannot be kept; {possible}"
    return f"max_loss_db: {max_loss_db} cannot be kept; {possible}"


def _checked_options(options: CompressOptions | None) -> CompressOptions:
    chosen = options or CompressOptions(qp=UNKNOWN_QP)
    if chosen.bitdepth is not None or chosen.codebook != "off":
        raise InputError("calibration: bitdepth and codebook leave nothing to calibrate, take them away")
    return replace(chosen, scan_order=0)
