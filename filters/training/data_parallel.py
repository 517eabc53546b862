"""Training by several processes, one for each GPU: `torchrun --nproc-per-node 4 --no-python vvc-nnr train ...`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: the first one may be making training pairs."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train one network together.

    Attributes:
        rank: Its number, from 0; number 0 writes files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def batch_number(self, step: int) -> int:
        """A number that no other process and no other step has, from which a batch is drawn."""
        return step * self.size + self.rank

    def average_gradients(self, network: nn.Module) -> None:
        """Replaces each gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def worker_group() -> Iterator[Workers]:
    """Joins the processes that torchrun started; outside torchrun this process is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Workers()
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if has_gpus else "gloo", timeout=PATIENCE)
    try:
        yield Workers(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
