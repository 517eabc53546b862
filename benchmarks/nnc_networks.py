"""The networks of the benchmark: random weights in the shapes and scales of trained ones, the same at each run."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Network = dict[str, NDArray[np.float32]]

SEED = 20260101
# Shape, standard deviation of the weights and of the biases, of the size found in the trained network.
ALEXNET = {
    "features.0": ((64, 3, 11, 11), 0.115, 0.35),
    "features.3": ((192, 64, 5, 5), 0.050, 0.15),
    "features.6": ((384, 192, 3, 3), 0.036, 0.08),
    "features.8": ((256, 384, 3, 3), 0.029, 0.10),
    "features.10": ((256, 256, 3, 3), 0.027, 0.15),
    "classifier.1": ((4096, 9216), 0.0075, 0.008),
    "classifier.4": ((4096, 4096), 0.0095, 0.025),
    "classifier.6": ((1000, 4096), 0.0180, 0.25),
}
BATCH_NORM_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512)
TINY_SHAPE = (4, 8)
# The peer takes minutes: its time grows with the square of the number of tensors.
OURS_ONLY = ("10^4 tensors of 32",)


def laplacian(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> NDArray[np.float32]:
    """float32 of a Laplacian distribution with a standard deviation, without a float64 copy of the whole."""
    values = random.standard_exponential(math.prod(shape), dtype=np.float32)
    values *= np.float32(deviation / math.sqrt(2))
    values[random.random(values.size, dtype=np.float32) < 0.5] *= -1
    return values.reshape(shape)


def alexnet() -> Network:
    """61.1 million weights and biases."""
    random = np.random.default_rng(SEED)
    network = {}
    for name, (shape, deviation, bias_deviation) in ALEXNET.items():
        network[f"{name}.weight"] = laplacian(random, shape, deviation)
        network[f"{name}.bias"] = laplacian(random, shape[:1], bias_deviation)
    return network


def batch_norm_10m() -> Network:
    """A plain network of 3 x 3 convolutions, 10 million weights, each followed by its batch norm."""
    random = np.random.default_rng(SEED)
    network = {}
    for place, (n_in, n_out) in enumerate(pairwise(BATCH_NORM_CHANNELS)):
        network[f"conv{place}.weight"] = laplacian(random, (n_out, n_in, 3, 3), math.sqrt(2 / (9 * n_in)))
        network[f"bn{place}.weight"] = random.normal(1, 0.2, n_out).astype(np.float32)
        network[f"bn{place}.bias"] = random.normal(0, 0.2, n_out).astype(np.float32)
        network[f"bn{place}.running_mean"] = random.normal(0, 0.5, n_out).astype(np.float32)
        network[f"bn{place}.running_var"] = random.gamma(2, 0.5, n_out).astype(np.float32)
    return network


def one_matrix(n_weights: int, deviation: float = 0.02) -> Network:
    """One matrix, about as high as wide, of a power of ten of weights."""
    n_rows = 10 ** (round(math.log10(n_weights)) // 2)
    return {"weight": laplacian(np.random.default_rng(SEED), (n_rows, n_weights // n_rows), deviation)}


def tiny_tensors(n_tensors: int) -> Network:
    """Many matrices of 32 weights."""
    random = np.random.default_rng(SEED)
    return {f"layer{place}.weight": laplacian(random, TINY_SHAPE, 0.05) for place in range(n_tensors)}


def networks(*, huge: bool = False) -> dict[str, dict[str, Callable[[], Network]]]:
    """The networks of each case by their names; with `huge`, also one of 10^8 weights."""
    exponents = range(4, 9 if huge else 8)
    return {
        "alexnet": {"alexnet": alexnet},
        "batchnorm10m": {"batchnorm10m": batch_norm_10m},
        "scaling": {f"10^{e} weights": lambda e=e: one_matrix(10**e) for e in exponents}
        | {f"10^{e} tensors of 32": lambda e=e: tiny_tensors(10**e) for e in (3, 4)},
    }


def n_values(network: Network) -> int:
    """Weights, biases and the rest."""
    return sum(array.size for array in network.values())
