"""The command fetch: public test pictures from their homes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.kinds import FOLDER
from vvc_nnr.sequences.download import fetch_cifar10, fetch_kodak


@dataclass(frozen=True, kw_only=True)
class Fetch(Command):
    """Download public test pictures, checked by SHA-256; goes on where it was cut off.

    Attributes:
        what: CIFAR-10 (170 MB) or the 24 Kodak photographs (15 MB).
        folder: Where the files go.
    """

    what: Positional[Literal["cifar10", "kodak"]]
    folder: Positional[Annotated[Path, FOLDER]]

    def run(self) -> Outcome:
        """Fetches what is not there yet.

        Raises:
            InputError: If the folder cannot be written, or the files not be had.
        """
        if self.what == "cifar10":
            files = [fetch_cifar10(self.folder)]
            use = f"vvc-nnr experiment end-to-end --images {files[0]} --count 1000 --out results/"
        else:
            files = fetch_kodak(self.folder)
            use = f"vvc-nnr experiment tool-by-tool --sequences {self.folder} --out results/"
        n_bytes = sum(file.stat().st_size for file in files)
        text = f"{self.folder}: {len(files)} files, {n_bytes} bytes\nuse: {use}"
        return Outcome(text, {"files": [str(file) for file in files], "n_bytes": n_bytes})
