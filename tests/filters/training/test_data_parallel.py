"""Two processes that train together end with what one process gets from both batches at once."""

from __future__ import annotations

import subprocess
import sys

import torch

from vvc_nnr.filters.training.loop import TrainOptions, Workers, train, worker_group

OPTIONS = TrainOptions(n_steps=6, warmup_steps=2, checkpoint_every=6, device="cpu", channels_last=False)


class Line:
    """Fits a line to points that follow from the batch number."""

    def __init__(self, batches_per_step=1):
        torch.manual_seed(3)
        self.network = torch.nn.Linear(2, 1)
        self._n = batches_per_step

    def loss(self, step, batch_size, device):
        losses = [self._batch_loss(self._n * step + i, batch_size) for i in range(self._n)]
        return torch.stack(losses).mean()

    def _batch_loss(self, number, batch_size):
        points = torch.randn(batch_size, 2, generator=torch.Generator().manual_seed(number))
        return torch.mean((self.network(points).float() - points.sum(dim=1, keepdim=True)) ** 2)

    def validate(self, device):
        return {}


def main(folder):
    """What each of the processes runs."""
    with worker_group() as workers:
        task = Line()
        train(task, OPTIONS, folder / "checkpoint.pt", workers)
        torch.save(task.network.state_dict(), folder / f"{workers.rank}.pt")


def test_alone_outside_torchrun():
    with worker_group() as workers:
        assert workers == Workers(0, 1)


def test_two_processes(tmp_path):
    run = "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"
    command = [sys.executable, *run, __file__, tmp_path]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    alone = Line(batches_per_step=2)
    train(alone, OPTIONS, tmp_path / "alone.pt")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in alone.network.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=0, atol=2e-3)
    untrained = Line().network.weight
    assert (first["weight"] - untrained).abs().max() > 5e-3


if __name__ == "__main__":
    from pathlib import Path

    main(Path(sys.argv[1]))
