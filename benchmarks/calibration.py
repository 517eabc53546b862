"""Size against PSNR of every way to code a restoration network: rows (TSV), a table and a plot.

    python benchmarks/calibration.py NETWORK.safetensors TEST_PICTURES CALIBRATION_PICTURES --task sigma25 --out FOLDER

Methods: calibrated compression at a row of lambdas (one candidate each) or of losses (a search each), the same
after fine-tuning (`--tuned`, a network file), the reference software in several ways at a row of QPs (`--peer`, its
Python), the min/max quantiser. Every file of ours is decoded by the reference software too, and has to give identical
weights. A run that was cut off goes on; without methods it draws table and plot again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibration_rows import Row, plot, table
from numpy.typing import NDArray
from peer import Peer

import vvc_nnr
from vvc_nnr.calibrate.coding_at_lambda import CalibratedCoder
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated, prepare_calibrated
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows
from vvc_nnr.filters.networks.dncnn import DnCnn, dncnn_of
from vvc_nnr.filters.training.calibration_pictures import (
    GREY,
    CropOptions,
    Degrade,
    gaussian_noise,
    jpeg_artefacts,
    restoration_calibration,
)
from vvc_nnr.model.safetensors import parse_network as parse
from vvc_nnr.model.safetensors import read_network, uniform_bytes
from vvc_nnr.sequences.images import image_files, read_image

TASKS: dict[str, Degrade] = {"sigma25": gaussian_noise(25), "jpeg10": jpeg_artefacts(10)}
# Ways of the reference software; all share these options.
PEER_OPTIONS: dict[str, Any] = {"nonweight_qp": -75, "row_skipping": True}
PEER_WAYS: dict[str, dict[str, Any]] = {
    "NNCodec, dependent": {"use_dq": True},
    "NNCodec, dependent, opt_qp": {"use_dq": True, "opt_qp": True},
    "NNCodec, uniform": {"use_dq": False},
}
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Degraded pictures with their originals."""

    pairs: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def psnr_db(self, network: DnCnn) -> float:
        """Mean over the pictures; outputs clipped and rounded to 8 bit, peak 255."""
        values = []
        with torch.no_grad():
            for degraded, original in self.pairs:
                cleaned = (network(degraded).clamp(0, 1) * 255).round()
                values.append(10 * np.log10(255**2 / float((cleaned - original * 255).double().square().mean())))
        return float(np.mean(values))


def read_test_set(folder: Path, degrade: Degrade) -> TestSet:
    """The grey pictures of a folder; noise is drawn once per picture."""
    pairs = []
    for place, path in enumerate(image_files(folder)):
        grey = np.rint(read_image(path) @ GREY).astype(np.float32)[None, None] / 255
        picture = torch.from_numpy(grey).contiguous(memory_format=torch.channels_last)
        pairs.append((degrade(picture, torch.Generator().manual_seed(100 + place)), picture))
    return TestSet(tuple(pairs))


def networks(path: Path, tuned: Path | None) -> tuple[DnCnn, DnCnn | None]:
    """What is compressed, and what its losses are measured against if that is another network."""
    network = dncnn_of(read_network(path).tensors, str(path))
    return (network, None) if tuned is None else (dncnn_of(read_network(tuned).tensors, str(tuned)), network)


def calibration(folder: Path, task: str) -> Calibration:
    return restoration_calibration(image_files(folder), 1, TASKS[task], CropOptions())


@functools.cache
def prepared(path: Path, tuned: Path | None, folder: Path, task: str) -> CalibratedCoder:
    """What all lambdas of a network share."""
    network, reference = networks(path, tuned)
    return prepare_calibrated(network, calibration(folder, task), reference=reference)


@dataclass(frozen=True, slots=True)
class Job:
    """What all methods share."""

    arguments: argparse.Namespace
    tensors: Arrays
    test_set: TestSet
    psnr_db: float
    peer: Peer | None

    @property
    def n_bytes(self) -> int:
        return sum(array.nbytes for array in self.tensors.values())

    def wanted(self) -> Iterator[tuple[str, str]]:
        """Method and setting of each row."""
        a = self.arguments
        yield "float32", "-"
        ours = [f"lambda {lambda_rd}" for lambda_rd in a.lambdas] + [f"loss {loss}" for loss in a.losses]
        yield from (("calibrated", setting) for setting in ours)
        if a.tuned:
            yield from (("fine-tuned", setting) for setting in ours)
        if self.peer:
            yield from ((way, f"QP {qp}") for way in a.ways for qp in a.qps)
        yield from (("min/max", f"{bits} bit") for bits in a.bits)

    def measure(self, method: str, setting: str) -> Row:
        if self.peer and method in PEER_WAYS:
            return self._peer_row(self.peer, method, setting)
        if method in ("calibrated", "fine-tuned"):
            return self._calibrated_row(method, setting)
        start = time.perf_counter()
        if method == "float32":
            return self._row(method, setting, self.n_bytes, self.tensors, start)
        data = uniform_bytes(self.tensors, {}, int(setting.split()[0]), "quantised")
        return self._row(method, setting, len(data), dict(parse(data).tensors), start)

    def _peer_row(self, peer: Peer, method: str, setting: str) -> Row:
        start = time.perf_counter()
        qp = {"qp": int(setting.split()[1])}
        data, _ = peer.compress(self.tensors, PEER_OPTIONS | PEER_WAYS[method] | qp)
        return self._row(method, setting, len(data), peer.decompress(data)[0], start)

    def _calibrated_row(self, method: str, setting: str) -> Row:
        tuned = self.arguments.tuned if method == "fine-tuned" else None
        kind, value = setting.split()
        start = time.perf_counter()
        if kind == "lambda_rd":
            candidates = prepared(self.arguments.network, tuned, self.arguments.calibration, self.arguments.task)
            start = time.perf_counter()
            found = candidates.compress(float(value))
        else:
            network, reference = networks(self.arguments.network, tuned)
            pictures = calibration(self.arguments.calibration, self.arguments.task)
            found = compress_calibrated(network, pictures, max_loss_db=float(value), reference=reference, report=print)
        state = vvc_nnr.decompress(found.data)
        (self.arguments.out / f"{method} {setting}.nnc").write_bytes(found.data)
        if self.peer:
            theirs = self.peer.decompress(found.data)[0]
            assert state.keys() == theirs.keys()
            assert all(np.array_equal(state[name], theirs[name]) for name in state)
        return self._row(method, setting, len(found.data), state, start, found.loss_db)

    def _row(
        self, method: str, setting: str, size: int, tensors: Arrays, start: float, held_out: float | None = None
    ) -> Row:
        seconds = time.perf_counter() - start
        psnr = self.test_set.psnr_db(dncnn_of(tensors, method))
        percent = 100 * size / self.n_bytes
        return Row(method, setting, size, percent, psnr, self.psnr_db - psnr, held_out, seconds)


def measure_rows(arguments: argparse.Namespace, path: Path) -> None:
    """Adds the rows that are wanted and not there yet."""
    tensors = dict(read_network(arguments.network).tensors)
    network = dncnn_of(tensors, str(arguments.network))
    test_set = read_test_set(arguments.test, TASKS[arguments.task])
    header = {"network": arguments.network.name, "test": arguments.test.name, "task": arguments.task}
    with (
        RowWriter(path, Row, header) as writer,
        Peer(arguments.peer) if arguments.peer else contextlib.nullcontext() as peer,
    ):
        there = {(row.method, row.setting): row for row in writer.existing}
        first = there.get(("float32", "-"))
        job = Job(arguments, tensors, test_set, first.psnr_db if first else test_set.psnr_db(network), peer)
        for method, setting in job.wanted():
            if (method, setting) not in there:
                row = job.measure(method, setting)
                writer.append([row])
                print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer", help="Python of an environment with NNCodec 2.1.3")
    parser.add_argument("--tuned", type=Path, help="fine-tuned network")
    parser.add_argument("--lambdas", nargs="*", default=["1e-11", "2e-11", "4e-11", "8e-11", "1.6e-10"])
    parser.add_argument("--losses", nargs="*", default=[], help="searches, several candidates each")
    parser.add_argument("--qps", nargs="*", type=int, default=[-44, -41, -38, -36, -34, -32])
    parser.add_argument("--ways", nargs="*", choices=PEER_WAYS, default=list(PEER_WAYS))
    parser.add_argument("--bits", nargs="*", type=int, default=[8, 6])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "rows.tsv"
    measure_rows(arguments, path)
    found = read_rows(path, Row)
    plot(found.rows, f"{found.header['network']}, {found.header['test']}").savefig(arguments.out / "plot.png", dpi=120)
    (arguments.out / "table.md").write_text(table(found.rows) + "\n")
    print(table(found.rows))


if __name__ == "__main__":
    main()
