"""Where results come from: the program, the machine and the conventions that they were made under."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import vvc_nnr
from vvc_nnr.children import run_child
from vvc_nnr.codec.sequence import Sao
from vvc_nnr.errors import InputError
from vvc_nnr.sequences.metrics import Peak

AVERAGING = "mean over pictures of a sequence, then over sequences of a class; Overall = mean over all sequences"
RATE = "bits of the coded pictures, without the bits of the network"

SAO_NOTES: dict[Sao, str] = {
    "on": "SAO is on in 'all filters' and 'deblock+SAO', whatever the preset says",
    "preset": "SAO in 'all filters' and 'deblock+SAO' is as the preset has it, which may be off (libvvenc's faster)",
}
VTM_FILTERS_NOTE = (
    "SAO is on in 'all filters' and 'deblock+SAO', LMCS in 'all filters' alone, there as the configuration has it"
)
"""VTM has no presets."""
IMAGE_AVERAGING = "mean of the images' scores"
IMAGE_RATE = "bytes of the coded images (of autoencoders of this package: in a file of many), not of the network"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The program and machine of a run.

    Attributes:
        version: Version of this package.
        git_commit: Commit of the checkout that the package runs from ("-dirty" if changed), empty otherwise.
        command: The command line.
        device: Where the networks run: "cpu", "cuda:0", ...
        cpu: Name of the processor.
        n_cores: Processor cores that this process may use.
        platform: Operating system and Python version.
        date: Start of the run, UTC, ISO 8601.
        inference: What computed the filters, its version and precision; empty if there were none.
    """

    version: str
    git_commit: str
    command: str
    device: str
    cpu: str
    n_cores: int
    platform: str
    date: str
    inference: str = ""

    def to_header(self) -> dict[str, str]:
        """This as texts for the header of a file of rows."""
        return {key: str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Conventions:
    """What has to be known to read the numbers, and to compare them with others.

    Attributes:
        psnr_peak: "vtm": 255 << (bit depth - 8), 1020 at 10 bit; "full": 2**bit_depth - 1, 1023 at 10 bit.
        averaging: How pictures and sequences are averaged.
        rate: Which bits are counted.
        loop_filters: What the codec's filter sets have, empty if there is no such codec.
        encoder: The encoder with its build and preset; empty if nothing was encoded.
        originals: Which originals were damaged and how they were taken, empty if none was.
    """

    psnr_peak: Peak = "vtm"
    averaging: str = AVERAGING
    rate: str = RATE
    loop_filters: str = ""
    encoder: str = ""
    originals: str = ""

    def to_header(self) -> dict[str, str]:
        """This as texts for the header of a file of rows."""
        return {key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Conventions:
        """The conventions in the header of a file of rows.

        Raises:
            InputError: If the header lacks one, or has an unknown peak.
        """
        missing = [key for key in ("psnr_peak", "averaging", "rate") if key not in header]
        if missing:
            raise InputError(f"the header of the results has no {', '.join(missing)}: run the experiment again")
        peak = header["psnr_peak"]
        if peak not in ("vtm", "full"):
            raise InputError(f"psnr_peak {peak!r} in the header of the results: must be vtm or full")
        return cls(
            "vtm" if peak == "vtm" else "full",
            header["averaging"],
            header["rate"],
            header.get("loop_filters", ""),
            header.get("encoder", ""),
            header.get("originals", ""),
        )


def gather_provenance(argv: Sequence[str] | None = None, *, device: str = "cpu") -> Provenance:
    """The provenance of a run that starts now.

    Args:
        argv: The command line with the program's name; default `sys.argv`.
        device: Where the networks run.
    """
    return Provenance(
        version=vvc_nnr.__version__,
        git_commit=_git_commit(Path(vvc_nnr.__file__).resolve().parent.parent),
        command=_command(sys.argv if argv is None else argv),
        device=device,
        cpu=_cpu_name(),
        n_cores=_n_cores(),
        platform=f"{platform.platform()}, Python {platform.python_version()}",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _command(argv: Sequence[str]) -> str:
    """The command line, its program without the folder."""
    return shlex.join([Path(word).name if i == 0 else word for i, word in enumerate(argv)])


def _git_commit(root: Path) -> str:
    """The commit that `root` is a checkout of, empty if it is none (site-packages of another's checkout)."""
    if not (root / ".git").exists() or not (root / "pyproject.toml").exists():
        return ""
    commit = _output(["git", "-C", str(root), "rev-parse", "--verify", "-q", "HEAD"])
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return commit + ("-dirty" if commit and changed else "")


def _cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if names:
        return names[0]
    mac = _output(["sysctl", "-n", "machdep.cpu.brand_string"]) if sys.platform == "darwin" else ""
    return mac or platform.processor() or platform.machine()


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _output(command: Sequence[str]) -> str:
    """Standard output of a short command, empty if it fails or is not there."""
    try:
        done = run_child(command, timeout_s=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
