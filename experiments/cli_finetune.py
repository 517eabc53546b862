"""The part of `compress --calibrate` that goes on training: fine-tuning for size, by the hour, resumable."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from statistics import mean

import torch
from torch import nn

from vvc_nnr.calibrate.calibrated_network import CalibratedNetwork
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import AtomicFile, is_stream, read_bytes, short_name
from vvc_nnr.filters.training.fine_tuning import RateTask, TuneOptions, Tuning, tune_for_size
from vvc_nnr.filters.training.loop import check_checkpoint
from vvc_nnr.filters.training.run_identity import weights_sha256
from vvc_nnr.json_text import parse_json

MAX_HOURS = 1000.0
N_TIMED_STEPS = 5


def add_finetuning_options(group: argparse._ArgumentGroup) -> None:
    """Options of `compress --calibrate --finetune`."""
    group.add_argument(
        "--finetune", action="store_true", help="train on, with the bits in the loss, then compress again"
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="photographs to train on (default: those of --calibrate); those that measure the loss are left out",
    )
    group.add_argument("--hours", type=float, metavar="H", help="how long, about (default: 1)")


def check_finetuning(arguments: argparse.Namespace) -> None:
    """Raises InputError if the options of fine-tuning do not fit together."""
    if not arguments.finetune:
        if arguments.data is not None or arguments.hours is not None:
            raise InputError("--data, --hours: only with --finetune")
        return
    if arguments.hours is not None and not 0 < arguments.hours <= MAX_HOURS:
        raise InputError(f"--hours {arguments.hours}: above 0, at most {MAX_HOURS:g} is wanted")
    if is_stream(arguments.output):
        raise InputError(f"{arguments.output}: --finetune keeps its checkpoint beside the output, which must be a file")


def tuned(model: nn.Module, before: CalibratedNetwork, tuning: Tuning, arguments: argparse.Namespace) -> nn.Module:
    """A copy of the network that was trained on.

    Raises:
        InputError: If the pictures or the checkpoint cannot be used.
    """
    network = copy.deepcopy(model)
    checkpoint = beside(arguments.output, "checkpoint")
    # Of the price six digits: the last ones may depend on the number of threads.
    identity = {"weights": weights_sha256(model), "price_per_bit": f"{before.price_per_bit:.6g}", **tuning.identity()}
    check_checkpoint(checkpoint, identity)
    task = tuning.task(network, before)
    options = TuneOptions(
        n_steps=_n_steps(task, tuning.batch_size, arguments, checkpoint),
        batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
    )
    print(f"fine-tuning: {options.n_steps} steps, checkpoint {checkpoint}", file=sys.stderr)
    tune_for_size(task, options, checkpoint, identity)
    tuning.finish(network, model)
    return network.eval()


def beside(output: Path, suffix: str) -> Path:
    """Where fine-tuning keeps what it has."""
    return output.with_name(f"{short_name(output.name)}.{suffix}")


def _n_steps(task: RateTask, batch_size: int, arguments: argparse.Namespace, checkpoint: Path) -> int:
    """Steps that take the time that was asked for, as they were counted when the run began."""
    plan = checkpoint.with_name(f"{checkpoint.name}.json")
    hours = 1.0 if arguments.hours is None else arguments.hours
    if plan.exists():
        try:
            found = parse_json(read_bytes(plan))
            if found["hours"] == hours:
                return int(found["n_steps"])
        except (BitstreamError, ValueError, KeyError, TypeError):
            raise InputError(f"{plan}: not the plan of a fine-tuning; remove it to begin anew") from None
        raise InputError(f"{plan}: {found['hours']} hours were planned there, {hours} are asked for; remove it")
    n_steps = max(1, round(3600 * hours / _seconds_per_step(task, batch_size)))
    with AtomicFile(plan) as file:
        file.write(json.dumps({"hours": hours, "n_steps": n_steps}).encode())
    return n_steps


def _seconds_per_step(task: RateTask, batch_size: int) -> float:
    """Of the forward and the backward pass; the first of them, which is slower, does not count."""

    def seconds(step: int) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(step, batch_size, torch.device("cpu"))
        loss.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - start

    _, *timed = (seconds(step) for step in range(1 + N_TIMED_STEPS))
    task.network.zero_grad()
    return mean(timed)
