"""What local scaling does: bytes and output SNR of networks with and without a scale for each row.

    python benchmarks/local_scaling.py                                # rescaled networks with initial weights of torch
    python benchmarks/local_scaling.py WHEELS --only NAME ... --draws 6   # published ones, as benchmarks/any_network.py

A rescaled network computes the same: output channel r of a layer times s, the next layer's weights for it by s, the
logarithm of s normal with a deviation of 0.75. Rows are means over `--draws` such networks. Of published networks a
draw is a factor within 5 % that weights are coded with. All by default options: with scales the file is about as large.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from any_network import factors_of_draws, snr_db
from package_networks import NETWORKS, load
from torch import Tensor, nn

import vvc_nnr
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.compress import decompress
from vvc_nnr.experiments.tables.table import Cell, Column, Table, to_markdown
from vvc_nnr.network_file import read_arrays
from vvc_nnr.options import CompressOptions

DEVIATION = 0.75
Layer = Callable[[int, int], nn.Module]


def three(layer: Layer, widths: tuple[int, int, int, int]) -> nn.Sequential:
    """Three layers with a ReLU between."""
    first, second, third = (layer(a, b) for a, b in itertools.pairwise(widths))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def made_networks() -> Iterator[tuple[str, nn.Sequential, Tensor]]:
    """Networks with initial weights, and what they are run on."""
    torch.manual_seed(0)
    yield "linear", three(nn.Linear, (64, 128, 128, 32)), torch.randn(256, 64)
    sound = torch.randn(16, 16, 64)
    yield "Conv1d", three(lambda a, b: nn.Conv1d(a, b, 3), (16, 64, 64, 16)), sound
    yield "ConvTranspose1d", three(lambda a, b: nn.ConvTranspose1d(a, b, 3), (16, 64, 64, 16)), sound
    picture = torch.randn(8, 3, 32, 32)
    yield "Conv2d", three(lambda a, b: nn.Conv2d(a, b, 3), (3, 64, 64, 3)), picture
    groups = three(lambda a, b: nn.Conv2d(a, b, 3, groups=64 if a == b else 1), (3, 64, 64, 3))
    yield "depthwise Conv2d in the middle", groups, picture


def rescaled(network: nn.Sequential, seed: int) -> nn.Sequential:
    """A network that computes the same."""
    found, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    layers = [module for module in found if not isinstance(module, nn.ReLU)]
    with torch.no_grad():
        for layer, following in itertools.pairwise(layers):
            scale = torch.exp(DEVIATION * torch.randn(len(layer.bias), generator=generator))
            layer.weight.mul_(_along(scale, layer.weight, int(_has_inputs_first(layer))))
            layer.bias.mul_(scale)
            is_first = _has_inputs_first(following) or getattr(following, "groups", 1) > 1
            following.weight.div_(_along(scale, following.weight, int(not is_first)))
    return found


def _has_inputs_first(layer: nn.Module) -> bool:
    return isinstance(layer, nn.ConvTranspose1d)


def _along(scale: Tensor, weight: Tensor, axis: int) -> Tensor:
    return scale.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])


def output_snr_db(network: nn.Module, data: bytes, x: Tensor) -> float:
    """That of a coded network."""
    coded = copy.deepcopy(network)
    vvc_nnr.load_into(coded, data)
    with torch.no_grad():
        wanted, found = network(x), coded(x)
    return 10 * math.log10(float(wanted.square().mean() / (wanted - found).square().mean()))


def made_rows(n_draws: int) -> Iterator[tuple[Cell, ...]]:
    """As they are, rescaled, and rescaled with local scaling: bytes and dB each."""
    for name, network, x in made_networks():
        cells: list[Cell] = [name]
        others = [rescaled(network, seed) for seed in range(n_draws)]
        for networks, local_scaling in (([network], False), (others, False), (others, True)):
            coded = [(each, vvc_nnr.compress(each, local_scaling=local_scaling)) for each in networks]
            cells += [round(np.mean([len(data) for _, data in coded]))]
            cells += [float(np.mean([output_snr_db(each, data, x) for each, data in coded]))]
        yield tuple(cells)


def published_row(name: str, wheels: Path, n_draws: int) -> tuple[Cell, ...]:
    """Share of values that have scales, then bytes, dB and its deviation without and with local scaling."""
    with tempfile.TemporaryDirectory() as folder:
        network = load(NETWORKS[name], wheels, Path(folder))
        graph = read_arrays(network.path).graph if network.is_onnx else None
        cells: list[Cell] = []
        for local_scaling in (False, True):
            options, sizes, ratios = CompressOptions(local_scaling=local_scaling), [], []
            for factor in factors_of_draws(n_draws):
                arrays = dict(network.arrays) | network.times(factor, network.floats)
                made = code_network(arrays, options, roles=network.roles, graph=graph and Graph(graph))
                floats = {key: value for key, value in decompress(made.data).items() if key in network.floats}
                ratios.append(snr_db(network.reference, network.outputs(network.times(1 / factor, floats))))
                sizes.append(len(made.data))
            cells += [round(np.mean(sizes)), float(np.mean(ratios)), float(np.std(ratios, ddof=1))]
        n_scaled = sum(network.floats[key].size for key in made.scaled)
        return (name, 100 * n_scaled / sum(array.size for array in network.floats.values()), *cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="?", type=Path)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--draws", type=int, default=4)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    head = Column("Network", text=True)
    if asked.wheels is None:
        heads = [head] + [
            Column(each, unit, digits=1) for each in ("as is", "rescaled", "with scales") for unit in ("byte", "dB")
        ]
        print(to_markdown(Table("Rescaled networks", tuple(heads), tuple(made_rows(asked.draws)), ())))
        return 0
    heads = [head, Column("values scaled", "%", digits=0)]
    for each in ("without", "with"):
        heads += [Column(each, "byte"), Column(each, "dB", digits=1), Column("±", "dB", digits=1)]
    rows = tuple(published_row(name, asked.wheels, asked.draws) for name in asked.only)
    print(to_markdown(Table("Published networks", tuple(heads), rows, ())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
