"""Size against PSNR of every way to code a restoration network: rows (TSV), a table and a plot.

    python benchmarks/calibration.py NETWORK.safetensors TEST_PICTURES CALIBRATION_PICTURES --task sigma25 --out FOLDER

Methods: min/max quantiser, the reference software at a row of QPs (`--peer`, its Python), calibrated compression at a
row of losses, the same after fine-tuning (`--tuned`, a network file). Every file of ours is decoded by the reference
software too, and has to give identical weights. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from peer import Peer

import vvc_nnr
from vvc_nnr.calibrated import compress_calibrated
from vvc_nnr.filters.calibration_pictures import (
    GREY,
    CropOptions,
    Degrade,
    gaussian_noise,
    jpeg_artefacts,
    restoration_calibration,
)
from vvc_nnr.filters.dncnn import DnCnn, dncnn_of
from vvc_nnr.model.safetensors import parse_network as parse
from vvc_nnr.model.safetensors import read_network, uniform_bytes
from vvc_nnr.sequences.images import image_files, read_image

TASKS: dict[str, Degrade] = {"sigma25": gaussian_noise(25), "jpeg10": jpeg_artefacts(10)}


@dataclass(frozen=True, slots=True)
class Row:
    """One file: what made it, its size, and what it does to the test pictures."""

    method: str
    setting: str
    size_bytes: int
    size_percent: float
    psnr_db: float
    loss_db: float
    seconds: float


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


@dataclass(frozen=True, slots=True)
class Job:
    """What all methods share."""

    arguments: argparse.Namespace
    network: DnCnn
    tensors: dict[str, np.ndarray]
    test_set: TestSet
    psnr_db: float

    @property
    def n_bytes(self) -> int:
        return sum(array.nbytes for array in self.tensors.values())

    def row(self, method: str, setting: str, size: int, tensors: dict[str, np.ndarray], seconds: float) -> Row:
        psnr = self.test_set.psnr_db(dncnn_of(tensors, method))
        return Row(method, setting, size, 100 * size / self.n_bytes, psnr, self.psnr_db - psnr, seconds)

    def wanted(self) -> Iterator[tuple[str, str]]:
        a = self.arguments
        yield from (("calibrated", loss) for loss in a.losses)
        if a.peer:
            yield from (("reference software", str(qp)) for qp in a.qps)
        yield from (("min/max", str(bits)) for bits in a.bits)
        if a.tuned:
            yield from (("fine-tuned", loss) for loss in a.losses)

    def measure(self, method: str, setting: str) -> Row:
        start = time.perf_counter()
        if method == "min/max":
            data = uniform_bytes(self.tensors, {}, int(setting), "quantised")
            return self.row(method, setting, len(data), dict(parse(data).tensors), time.perf_counter() - start)
        if method == "reference software":
            with Peer(self.arguments.peer) as peer:
                data, seconds = peer.compress(self.tensors, {"qp": int(setting), "nonweight_qp": -75, "use_dq": True})
                return self.row(method, setting, len(data), peer.decompress(data)[0], seconds)
        tuned = method == "fine-tuned"
        network = dncnn_of(read_network(self.arguments.tuned).tensors, "tuned") if tuned else self.network
        paths = image_files(self.arguments.calibration)
        pictures = restoration_calibration(paths, 1, TASKS[self.arguments.task], CropOptions())
        reference = self.network if tuned else None
        found = compress_calibrated(network, pictures, max_loss_db=float(setting), reference=reference, report=print)
        seconds = time.perf_counter() - start
        state = vvc_nnr.decompress(found.data)
        if self.arguments.peer:
            with Peer(self.arguments.peer) as peer:
                theirs = peer.decompress(found.data)[0]
            assert state.keys() == theirs.keys()
            assert all(np.array_equal(state[name], theirs[name]) for name in state)
        (self.arguments.out / f"{method}_{setting}.nnc").write_bytes(found.data)
        return self.row(method, setting, len(found.data), state, seconds)


def read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {f.name: {"str": str, "int": int, "float": float}[str(f.type)] for f in fields(Row)}
    with path.open() as file:
        return [Row(**{k: kinds[k](v) for k, v in row.items()}) for row in csv.DictReader(file, delimiter="\t")]


def write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def size_at(rows: list[Row], method: str, loss_db: float) -> float | None:
    """Bytes of a method at a loss, between its rows (log of both); None beyond them."""
    points = sorted((np.log(max(r.loss_db, 1e-4)), np.log(r.size_bytes)) for r in rows if r.method == method)
    if len(points) < 2 or not points[0][0] <= np.log(loss_db) <= points[-1][0]:
        return None
    return float(np.exp(np.interp(np.log(loss_db), *zip(*points, strict=True))))


def report(out: Path, rows: list[Row]) -> str:
    lines = ["| method | setting | size [byte] | size [%] | PSNR [dB] | loss [dB] | s |", "|-|-|-|-|-|-|-|"]
    lines += [
        f"| {r.method} | {r.setting} | {r.size_bytes} | {r.size_percent:.2f} | {r.psnr_db:.3f} | {r.loss_db:.4f} "
        f"| {r.seconds:.0f} |"
        for r in rows
    ]
    for row in rows:
        theirs = size_at(rows, "reference software", row.loss_db) if row.loss_db > 0 else None
        if row.method in ("calibrated", "fine-tuned") and theirs:
            lines.append(
                f"\n{row.method} {row.setting}: {100 * row.size_bytes / theirs:.1f} % of the reference's bytes"
            )
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for method in dict.fromkeys(r.method for r in rows):
        points = sorted((r.size_percent, r.psnr_db) for r in rows if r.method == method)
        axes.plot(*zip(*points, strict=True), marker="o", label=method)
    axes.set(xlabel="size [% of float32]", ylabel="PSNR [dB]")
    axes.legend()
    figure.savefig(out / "size_psnr.png", dpi=120)
    plt.close(figure)
    (out / "table.md").write_text("\n".join(lines) + "\n")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer", help="Python of an environment with NNCodec 2.1.3")
    parser.add_argument("--tuned", type=Path, help="fine-tuned network")
    parser.add_argument("--losses", nargs="*", default=["0.005", "0.01", "0.02", "0.05", "0.1"])
    parser.add_argument("--qps", nargs="*", type=int, default=[-44, -41, -38, -36, -34, -32])
    parser.add_argument("--bits", nargs="*", type=int, default=[8, 6])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tensors = dict(read_network(arguments.network).tensors)
    network = dncnn_of(tensors, str(arguments.network))
    test_set = read_test_set(arguments.test, TASKS[arguments.task])
    path = arguments.out / "rows.tsv"
    rows = read_rows(path)
    original = next((r.psnr_db for r in rows if r.method == "float32"), None) or test_set.psnr_db(network)
    job = Job(arguments, network, tensors, test_set, original)
    if not rows:
        rows.append(Row("float32", "-", job.n_bytes, 100.0, original, 0.0, 0.0))
    for method, setting in job.wanted():
        if not any((r.method, r.setting) == (method, setting) for r in rows):
            rows.append(job.measure(method, setting))
            print(rows[-1], flush=True)
            write_rows(path, rows)
    print(report(arguments.out, rows))


if __name__ == "__main__":
    main()
