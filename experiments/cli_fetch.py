"""The command fetch: public test pictures from their homes."""

from __future__ import annotations

import argparse
from pathlib import Path

from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command
from vvc_nnr.sequences.download import fetch_cifar10, fetch_kodak


def add_commands(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "fetch",
        "download public test pictures, checked by SHA-256; goes on where it was cut off",
        "vvc-nnr fetch kodak data/kodak",
        _fetch,
    )
    parser.add_argument(
        "what", choices=("cifar10", "kodak"), help="CIFAR-10 (170 MB) or the 24 Kodak photographs (15 MB)"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the files go")


def _fetch(arguments: argparse.Namespace) -> Outcome:
    if arguments.what == "cifar10":
        files = [fetch_cifar10(arguments.folder)]
        use = f"vvc-nnr experiment end-to-end --images {files[0]} --count 1000 --out results/"
    else:
        files = fetch_kodak(arguments.folder)
        use = f"vvc-nnr experiment tool-by-tool --sequences {arguments.folder} --out results/"
    n_bytes = sum(file.stat().st_size for file in files)
    text = f"{arguments.folder}: {len(files)} files, {n_bytes} bytes\nuse: {use}"
    return Outcome(text, {"files": [str(file) for file in files], "n_bytes": n_bytes})
