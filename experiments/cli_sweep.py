"""The options of every experiment over VVC encodings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, get_args

from vvc_nnr.codec.encoders import EncoderName
from vvc_nnr.codec.sequence import Preset, Sao
from vvc_nnr.experiments.cli_common import (
    add_encoder_options,
    add_inference_options,
    add_raw_options,
    cache_folder,
    positive,
    qp_list,
    threads,
)
from vvc_nnr.experiments.records.provenance import PsnrPeak
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.filters.inference.backend import Precision
from vvc_nnr.filters.inference.choice import BackendChoice


def add_sweep_options(parser: argparse.ArgumentParser, *, preset: Preset) -> None:
    """Adds what every experiment over VVC encodings takes; `sweep_settings` and `chosen_sources` read it."""
    parser.add_argument("--sequences", type=Path, help="folder or file; default: the data folder, else scikit-image")
    parser.add_argument("--qps", type=qp_list, default="22,27,32,37", help="QPs, such as 22,27,32,37")
    parser.add_argument("--preset", choices=get_args(Preset), default=preset, help="libvvenc's preset")
    parser.add_argument("--pictures", type=positive, metavar="N", help="at most N pictures of each sequence")
    parser.add_argument("--psnr-peak", choices=get_args(PsnrPeak), default="vtm", help="1020 or 1023 at 10 bit")
    parser.add_argument("--bd-rate", choices=get_args(Interpolation), default="pchip", help="interpolation of BD-rate")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder of finished encodings")
    parser.add_argument("--threads", type=threads, default=2, help="threads of the encoder and of the networks")
    add_encoder_options(parser)
    add_inference_options(parser)
    add_raw_options(parser)


class SweepSettings(TypedDict):
    """The fields of `SweepOptions` that a command line sets."""

    qps: Sequence[int]
    preset: Preset
    max_pictures: int | None
    psnr_peak: PsnrPeak
    device: str
    backend: BackendChoice
    precision: Precision
    n_threads: int
    sao: Sao
    encoder: EncoderName
    encoder_config: Path | None


def sweep_settings(arguments: argparse.Namespace) -> SweepSettings:
    """The fields of `SweepOptions` from those options."""
    return {
        "qps": arguments.qps,
        "preset": arguments.preset,
        "max_pictures": arguments.pictures,
        "psnr_peak": arguments.psnr_peak,
        "device": arguments.device,
        "backend": arguments.backend,
        "precision": arguments.precision,
        "n_threads": arguments.threads,
        "sao": arguments.sao,
        "encoder": arguments.encoder,
        "encoder_config": arguments.vtm_config,
    }
