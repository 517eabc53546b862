"""What a user can choose of the tool-by-tool experiment, checked as a whole before anything is coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from torch import nn

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.encoders import EncoderName
from vvc_nnr.codec.sequence import Preset, Sao
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import Way
from vvc_nnr.experiments.records.weights import ADAPTED, ADAPTED_EACH, Compression, check_once
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    PAPER_NETWORKS,
    CodingOptions,
    GivenNetwork,
    check_photographs,
    given_filters,
)
from vvc_nnr.experiments.tables.stored import CODED_FOLDER
from vvc_nnr.filters.adaptation.options import (
    DEFAULT_FREE,
    MAX_STEPS,
    MIN_STEPS,
    AdaptOptions,
    FreePart,
    Measure,
    UpdatesOf,
)
from vvc_nnr.filters.decisions.sequence_file import check_candidates
from vvc_nnr.filters.inference.choice import BackendChoice, Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.told_qp import QpRule, parse_candidate
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.sequences.metrics import Peak

DecisionMode: TypeAlias = Literal["off", "on", "wiener"]
"""Networks at full strength only; also as the encoder decides; also with Wiener filters behind those decisions."""
WAYS_OF: dict[DecisionMode, tuple[Way, ...]] = {
    "off": ("full",),
    "on": ("full", "decisions"),
    "wiener": ("full", "decisions", "wiener"),
}
"""The ways that a network runs in, the strongest last."""
DEFAULT_THREADS = 2
DEFAULT_ADAPT_STEPS = 100
"""About 25 s of a core for the smallest bundled filter, 75 s for the next; docs/adaptation.md has what they gain."""


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What the experiment runs.

    Attributes:
        qps: QPs to encode at.
        configs: Coding configurations: ai (all intra), ra (random access), ldb (low delay B).
        preset: libvvenc's preset.
        max_pictures: Pictures per sequence at most, from the first on; default: all. As all of them determine how inter
            pictures are coded, their number stays the same in a folder with such pictures.
        psnr_peak: Peak of PSNR.
        tile: Side of the filter's tiles in luma samples.
        device: Where the networks run.
        backend: What computes the networks.
        precision: What they are computed in.
        n_threads: Threads of each encoder, and of each network. Default: 1 where units run side by side, else 2.
        sao: Whether the filter sets "all" and "deblock-sao" have SAO, or as the preset has it.
        encoder: Which VVC encoder.
        encoder_config: VTM's cfg/encoder_intra_vtm.cfg, or that of the configuration; given again, further files behind
            it. For one of several configurations NAME=FILE, as in ra=cfg/encoder_randomaccess_vtm.cfg.
        encoder_arguments: A further argument for VTM or vvencapp, as in --LMCSEnable=0.
        networks: Names of the zoo, files, or FILE.py:NAME functions. A coded network (.nnc) is run as its file has it.
            NAME=NETWORK says what the tables call one of your own, as in mine=nets.py:make.
        replacements: Those that take the place of the codec's in-loop filters, by name or as in `networks`; the others
            stand where their file says, else after all in-loop filters.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        archs: What makes the module of a file that does not say it: FILE.py:NAME. For one of several networks
            NAME=FILE.py:NAME.
        layouts: How pictures go into networks of your own, such as planes=y,output=residual. For one of several
            NAME=LAYOUT.
        compressions: What each network as trained is stored with and decoded from.
        decisions: Whether the encoder decides where and how strongly the networks run.
        qp_candidates: What it may tell a network beside its own QP, picture by picture: slice, base, 27, or +5: 5 above
            its own ... (docs/sei.md); decisions have to be on.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and as many that measure its loss: fewer are sooner done. Default: 48.
        accept_small: Crops may be smaller than what an output depends on, as with global pooling and attention.
        viewer_picture: Number of the picture of each sequence that is kept for a viewer.
        adapt: Tune each network to each sequence too, by updates whose bits the tables count.
        adapt_updates: Each QP has its own update; all QPs of a sequence share one; auto: both are made, and at each QP
            the one is sent that is worth more. Default: each.
        adapt_free: What may change: biases; gains, slopes over the QP; tail, the last layer; all. Default: biases,tail.
        adapt_steps: Steps of tuning of each update. Default: 100.
        adapt_measure: The PSNR whose gain must be worth the bits: luma's; yuv, (6 Y + Cb + Cr) / 8. Default: luma.
        adapt_pictures: The update is for so many pictures, as of a longer stream that goes on so. Default: those of the
            sequence.

    Raises:
        InputError: If a value is out of its range, a compression is named twice, or photographs are missing.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    configs: Sequence[ConfigName] = ("ai",)
    preset: Preset = "faster"
    max_pictures: int | None = None
    psnr_peak: Peak = "vtm"
    tile: int | None = DEFAULT_TILE
    device: str = "cpu"
    backend: BackendChoice = "auto"
    precision: Precision = "float32"
    n_threads: int | None = None
    sao: Sao = "on"
    encoder: EncoderName = "libvvenc"
    encoder_config: Sequence[Path] = ()
    encoder_arguments: Sequence[str] = ()
    networks: Sequence[str] = PAPER_NETWORKS
    replacements: Sequence[str] = ()
    originals: Sequence[str] = ()
    archs: Sequence[str] = ()
    layouts: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    decisions: DecisionMode = "off"
    qp_candidates: Sequence[str] = ()
    photographs: Path | None = None
    n_crops: int | None = None
    accept_small: bool = False
    viewer_picture: int = 0
    adapt: bool = False
    adapt_updates: UpdatesOf | None = None
    adapt_measure: Measure | None = None
    adapt_free: Sequence[FreePart] | None = None
    adapt_steps: int | None = None
    adapt_pictures: int | None = None

    def __post_init__(self) -> None:
        if not self.qps or len(set(self.qps)) != len(self.qps):
            raise InputError(f"QPs {list(self.qps)}: must be at least one, each once")
        if not all(0 <= qp <= 63 for qp in self.qps):
            raise InputError(f"QPs {list(self.qps)}: must each be 0 to 63")
        if (
            not self.configs
            or len(set(self.configs)) != len(self.configs)
            or not set(self.configs) <= {*CONFIGURATIONS}
        ):
            known = ", ".join(CONFIGURATIONS)
            raise InputError(f"configurations {list(self.configs)}: must be at least one of {known}, each once")
        if self.max_pictures is not None and self.max_pictures < 1:
            raise InputError(f"at most {self.max_pictures} pictures: must be at least 1")
        if self.qp_candidates and self.decisions == "off":
            raise InputError(f"QP candidates {', '.join(self.qp_candidates)}: decisions are off; turn them on")
        check_candidates(self.candidates)
        if self.viewer_picture < 0:
            raise InputError(f"picture {self.viewer_picture} for the viewer: must be at least 0")
        for name in ("adapt_updates", "adapt_measure", "adapt_free", "adapt_steps", "adapt_pictures"):
            if getattr(self, name) is not None and not self.adapt:
                raise InputError(f"{name}: {getattr(self, name)}; is of adapted networks, ask for them (--adapt)")
        if self.adapt_steps is not None and not MIN_STEPS <= self.adapt_steps <= MAX_STEPS:
            raise InputError(f"adapt_steps: {self.adapt_steps}; must be {MIN_STEPS} to {MAX_STEPS}")
        if self.adapt_pictures is not None and self.adapt_pictures < 1:
            raise InputError(f"adapt_pictures: {self.adapt_pictures}; must be at least 1")
        if self.adapt:
            self.adaptation  # noqa: B018 - what it refuses
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops, accept_small=self.accept_small)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that each network runs in."""
        return WAYS_OF[self.decisions]

    @property
    def is_inter(self) -> bool:
        """Whether pictures are predicted from others in some configuration."""
        return any(CONFIGURATIONS[config].is_inter for config in self.configs)

    @property
    def candidates(self) -> list[QpRule]:
        """The rules of what a network may be told beside its own."""
        return [parse_candidate(text) for text in self.qp_candidates]

    def are_joint(self, config: ConfigName) -> bool:
        """Whether the decisions of a sequence's pictures are coded together: inter pictures have too few bits alone."""
        return self.decisions != "off" and (CONFIGURATIONS[config].is_inter or bool(self.qp_candidates))

    @property
    def threads(self) -> int:
        """Threads of an encoder and of a network, where nobody has said how many."""
        return self.n_threads or DEFAULT_THREADS

    def given(self, modules: Sequence[LoadedNetwork] = ()) -> list[GivenNetwork]:
        """The networks, and those of the caller's own beside them; raises as `given_filters`."""
        return given_filters(self.networks, self.replacements, self.originals, self.archs, self.layouts, modules)

    @property
    def adaptation(self) -> AdaptOptions:
        """How networks are tuned to sequences."""
        return AdaptOptions(
            free=DEFAULT_FREE if self.adapt_free is None else tuple(self.adapt_free),
            updates=self.adapt_updates or "each",
            measure=self.adapt_measure or "luma",
            n_steps=self.adapt_steps or DEFAULT_ADAPT_STEPS,
            n_pictures=self.adapt_pictures,
        )

    @property
    def adapted_weights(self) -> tuple[str, ...]:
        """What rows call the weights of adapted networks, those that are sent where there are several last."""
        made = {"each": (ADAPTED_EACH,), "shared": (ADAPTED,), "auto": (ADAPTED, ADAPTED_EACH)}
        return made[self.adaptation.updates]

    def coding(self, folder: Path) -> CodingOptions:
        """How the networks are compressed, with their files in a folder of results."""
        place = folder / CODED_FOLDER
        return CodingOptions(self.compressions, place, self.photographs, self.n_crops, self.accept_small)

    def config_files(self, config: ConfigName) -> list[Path]:
        """VTM's configuration files for a configuration: those that name it, and those that name none."""
        found = (_named_file(path) for path in self.encoder_config)
        return [path for name, path in found if name in (None, config)]

    def runner(self, network: nn.Module, layout: Layout | None) -> Runner:
        """A network of some layout made ready to run as these options have it.

        Raises:
            InputError: If the backend, precision or device is not there, or the tile is too small.
            VvcNnrError: If a weight is NaN or infinite.
        """
        return Runner(
            network,
            layout=layout,
            backend=self.backend,
            precision=self.precision,
            n_threads=self.threads,
            tile=self.tile,
            device=self.device,
        )


def _named_file(path: Path) -> tuple[str | None, Path]:
    """The configuration that a file is for, None for all, and the file."""
    name, is_named, rest = str(path).partition("=")
    return (name, Path(rest)) if is_named and name in CONFIGURATIONS else (None, path)
