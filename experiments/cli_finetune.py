"""The part of `compress --calibrate` that goes on training: fine-tuning for size, by the hour, resumable."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from vvc_nnr.calibrated_network import CalibratedNetwork
from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.calibration_pictures import Degrade
from vvc_nnr.filters.rate_training import RestorationTask, TuneOptions, read_pictures, tune_for_size
from vvc_nnr.filters.zoo import Network
from vvc_nnr.sequences.images import image_files

MAX_HOURS = 1000.0
BATCH_SIZE = 8
N_TIMED_STEPS = 3


def add_finetuning_options(group: argparse._ArgumentGroup) -> None:
    """Options of `compress --calibrate --finetune`."""
    group.add_argument(
        "--finetune", action="store_true", help="train on, with the bits in the loss, then compress again"
    )
    group.add_argument(
        "--data", type=Path, metavar="DIR", help="photographs to train on (default: those of --calibrate)"
    )
    group.add_argument("--hours", type=float, metavar="H", help="how long, about (default: 1)")


def check_finetuning(model: nn.Module, arguments: argparse.Namespace) -> None:
    """Raises InputError if the options of fine-tuning do not fit together or the network."""
    if not arguments.finetune:
        if arguments.data is not None or arguments.hours is not None:
            raise InputError("--data, --hours: only with --finetune")
        return
    if arguments.hours is not None and not 0 < arguments.hours <= MAX_HOURS:
        raise InputError(f"--hours {arguments.hours}: above 0, at most {MAX_HOURS:g} is wanted")
    if isinstance(model, Network):
        raise InputError(
            "--finetune: for networks that restore pictures; use train for in-loop filters and autoencoders"
        )


def tuned(
    model: nn.Module, before: CalibratedNetwork, n_planes: int, degrade: Degrade | None, arguments: argparse.Namespace
) -> nn.Module:
    """A copy of the network that was trained on.

    Raises:
        InputError: If the pictures or the checkpoint cannot be used.
    """
    network = copy.deepcopy(model)
    pictures = read_pictures(image_files(arguments.data or arguments.calibrate))
    task = RestorationTask(network, pictures, degrade, n_planes=n_planes, reference_mse=before.reference_mse)
    checkpoint = checkpoint_path(arguments.output)
    options = TuneOptions(n_steps=_n_steps(task, arguments, checkpoint), batch_size=BATCH_SIZE)
    print(f"fine-tuning: {options.n_steps} steps, checkpoint {checkpoint}", file=sys.stderr)
    tune_for_size(task, before, options, checkpoint)
    return network.eval()


def checkpoint_path(output: Path) -> Path:
    """Where fine-tuning saves what it has."""
    return output.with_name(f"{output.name}.checkpoint")


def _n_steps(task: RestorationTask, arguments: argparse.Namespace, checkpoint: Path) -> int:
    """Steps that take the time that was asked for, as they were counted when the run began."""
    plan = checkpoint.with_name(f"{checkpoint.name}.json")
    hours = 1.0 if arguments.hours is None else arguments.hours
    if plan.exists():
        try:
            found = json.loads(plan.read_text())
            if found["hours"] == hours:
                return int(found["n_steps"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{plan}: not the plan of a fine-tuning; remove it to begin anew") from None
        raise InputError(f"{plan}: {found['hours']} hours were planned there, {hours} are asked for; remove it")
    start = time.perf_counter()
    for step in range(N_TIMED_STEPS):
        task.loss(step, BATCH_SIZE, torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
    task.network.zero_grad()
    n_steps = max(1, round(3600 * hours * N_TIMED_STEPS / (time.perf_counter() - start)))
    with AtomicFile(plan) as file:
        file.write(json.dumps({"hours": hours, "n_steps": n_steps}).encode())
    return n_steps
