"""Which weight of the rate pays for a tensor, where the user leaves it to the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class LowRate:
    """The rate term of a search.

    Args:
        max_steps: Mean absolute value in steps from which on no bits are weighed: hardly any are to be won.
        lambda_rd: Weight of the bits below.
    """

    max_steps: float
    lambda_rd: float

    def lambda_of(self, values: NDArray[np.float32], step: float) -> float:
        """The weight of the rate for a tensor.

        Args:
            values: Its values, any shape, at least one.
            step: Quantisation step.
        """
        flat = values.reshape(-1)
        sample = flat[:: max(1, flat.size // SAMPLE_SIZE)]
        mean_steps = float(np.abs(sample).mean(dtype=np.float64)) / step
        return 0.0 if mean_steps >= self.max_steps else self.lambda_rd


# Up to about 2 bits per value, where 3 % of the bytes are saved at 1.9 bits, 4.5 % at 1.5 and 7.7 % at 1, at equal
# squared error. With a larger weight these searches drift to too many zeros.
FAST, UNIFORM = LowRate(1.1, 0.75), LowRate(0.68, 1.0)
# Up to about 3 bits, where 1.3 % is saved (Laplacian weights).
THOROUGH = LowRate(2.7, 0.9)
