"""QPs of weight tensors by their sizes: small tensors finer, large ones coarser, the same on average.

Let a layer's share of the error at a network's output be its squared step times a factor that all layers have in
common, and its bits n times the logarithm of its step. At one price per bit the squared step is then proportional to
n, its number of weights: the few weights of a first or last layer touch every sample and cost hardly anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def size_offsets(sizes: Mapping[str, int], qp_density: int) -> dict[str, int]:
    """What to add to the QP of each weight tensor; its mean over all weights is zero but for rounding.

    Args:
        sizes: Name to number of weights.
        qp_density: QP steps per octave as a power of two.
    """
    present = {name: size for name, size in sizes.items() if size}
    total = sum(present.values())
    mean = sum(size * math.log2(size) for size in present.values()) / total if total else 0.0
    return {name: round((math.log2(size) - mean) / 2 * (1 << qp_density)) for name, size in present.items()}
