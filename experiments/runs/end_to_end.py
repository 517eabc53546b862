"""The end-to-end experiment: autoencoders on RGB pictures of any size, against the files of other picture codecs.

```
 pictures ─┬─ each autoencoder with each of its weights ───── its rate ─┐
           ├─ files of each format at the qualities of a curve          │
           └─ files of each format at the two qualities around it ◀─────┘
```

A unit is some pictures through one autoencoder or one format; of the second round, which starts once the rates are
known, all pictures in one format, counted one way, around one rate.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.image_formats import (
    RATES,
    TITLES,
    ImageCoding,
    ImageFormat,
    JpegSubsampling,
    encode_at_bpp,
    encode_set,
    encoder_versions,
    image_codings,
)
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.plots import end_to_end_figure
from vvc_nnr.experiments.records.provenance import IMAGE_AVERAGING, IMAGE_RATE, Conventions, Provenance
from vvc_nnr.experiments.records.rows import ImageMethod, ImageRow, point_name
from vvc_nnr.experiments.records.settings import InputDigests, Plan, known_inputs, picture_digests, tell_copies
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.unit_rows import UnitRows, unit_key
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, Compression, check_once
from vvc_nnr.experiments.runs.network_units import UnitSetup, note_networks, set_up
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    CodingOptions,
    GivenNetwork,
    NetworkState,
    check_calibrations,
    check_photographs,
    given_autoencoders,
)
from vvc_nnr.experiments.runs.run_folder import open_run, run_identity, settled_text, write_results
from vvc_nnr.experiments.tables.stored import (
    CODED_FOLDER,
    IMAGE_FILES,
    IMAGE_NETWORKS,
    check_not_old,
    read_images,
)
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.files import make_folder, naming, write_file
from vvc_nnr.filters.inference.torch import torch_threads
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.context_coding import check_effort
from vvc_nnr.filters.picture_codecs import BundledCodec, PictureCodec, highest_rate
from vvc_nnr.filters.zoo import LoadedNetwork, n_parameters
from vvc_nnr.sequences.metrics import ms_ssim_rgb, psnr_db, ssim_rgb
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, UnitsError, share_of

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "webp", "avif", "jpeg2000")
"""What comes with Pillow."""
SETTLED_OF_IMAGES = ("subsampling", *(f"{each}_encoder" for each in RATES))
"""What has to be the same in every end-to-end run in one folder; all else adds rows, or changes none."""
MAX_GROUP_PIXELS = 1 << 18
"""Pixels that go through a network at once at most, so that memory does not grow with the set."""
UNIT_S = 10.0
"""At least so long a unit takes, where there are as many pictures."""
_ENCODE_S: Mapping[ImageFormat, float] = {"jpeg": 0.02, "webp": 0.12, "avif": 1.4, "jpeg2000": 0.4, "jpegxl": 1.5}
_SCORE_S = 0.9
_PARAMETER_S = 2.4e-6
"""For a million pixels on one core, measured: a file, its decoding with the scores, and a network by its parameters."""
_CONTEXT_S = (20.0, 35.0, 50.0, 95.0)
"""Likewise for a context prior, by the effort of its search."""
_PICTURE_PIXELS = 800
"""What each picture costs besides is as much as of so many more pixels."""
_N_SEARCHED = 9
"""Files of a picture until the two qualities around a rate are known."""

Picture: TypeAlias = NDArray[np.uint8]
Named: TypeAlias = tuple[str, Picture]
Key: TypeAlias = tuple[str, ImageMethod, str, str, str, int | None, int]
"""What a row is about: picture, method, setting, weights, digest of the network's file, operating point, effort."""


class Scores(NamedTuple):
    """How near a decoded picture is to its original, over three channels."""

    psnr_db: float
    ssim: float
    ms_ssim: float | None


class OperatingPoint(NamedTuple):
    """A network at one of its rates.

    Attributes:
        codec: What codes pictures there.
        number: Which of its operating points; None of a network that has none.
        effort: How long its encoder searches.
    """

    codec: PictureCodec
    number: int | None
    effort: int


class _Coder(NamedTuple):
    """A network with one kind of weights at one operating point."""

    state: NetworkState
    point: OperatingPoint

    @property
    def name(self) -> str:
        """The network's, with the point."""
        return point_name(self.state.row.network, self.point.number, self.point.effort)

    def key(self, image: str) -> Key:
        """What the row of an image is about."""
        method: ImageMethod = "cnn-ae-estimate" if self.point.codec.is_estimate else "cnn-ae"
        row = self.state.row
        return (image, method, row.network, row.weights, row.network_sha256, self.point.number, self.point.effort)


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders: names of the zoo, files, or FILE.py:NAME, what makes a network of your own.
        archs: What makes the modules of files that do not say it: FILE.py:NAME for all, NAME=FILE.py:NAME for one.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        compressions: What each network as trained is stored with and decoded from.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and at least as many that measure its loss: fewer are sooner done.
            Default: 48, of autoencoders of your own 24.
        formats: Whose files stand beside them: jpeg, webp, avif, jpeg2000, jpegxl.
        subsampling: Chroma format of JPEG and AVIF.
        stride: What the sides of a network's pictures must be multiples of; default: as it says, else found by trying.
        rates: Operating points of networks that have several, from 0 at the lowest rate on. Default: all.
        effort: How long the encoders of networks with a context prior search for fewer bits, 0 to 3.

    Raises:
        InputError: If a compression, format or rate is named twice, a format's encoder is not
            installed, photographs are missing, or the effort is out of range.
    """

    networks: Sequence[str] = NETWORKS
    archs: Sequence[str] = ()
    originals: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    photographs: Path | None = None
    n_crops: int | None = None
    formats: tuple[ImageFormat, ...] = FORMATS
    subsampling: JpegSubsampling = "444"
    stride: int | None = None
    rates: Sequence[int] | None = None
    effort: int = 0

    def __post_init__(self) -> None:
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops)
        image_codings(self.formats, self.subsampling)
        check_effort(self.effort)
        if self.rates is not None and (not self.rates or len(set(self.rates)) < len(self.rates)):
            raise InputError(f"rates {', '.join(map(str, self.rates)) or 'none'}: each must be there once")

    def given(self, modules: Sequence[LoadedNetwork] = ()) -> list[GivenNetwork]:
        """The autoencoders, and those of the caller's own beside them.

        Raises:
            InputError, BitstreamError, UnsupportedError: As `given_autoencoders`; and if none of them has the operating
                points or the search that is asked for.
        """
        networks = given_autoencoders(self.networks, self.originals, self.archs, modules, self.stride)
        has_points = False
        for network in networks:
            with naming(network.any_state.path):
                has_points |= self.points_of(network.codec)[0].number is not None
        if not has_points and (self.rates is not None or self.effort):
            asked = f"effort {self.effort}" if self.rates is None else f"rates {', '.join(map(str, self.rates))}"
            raise InputError(f"{asked}: none of the networks has operating points, such as context-autoencoder has")
        return networks

    def points_of(self, codec: PictureCodec | None) -> list[OperatingPoint]:
        """The operating points at which a network is run, in their order; of one that has none, itself.

        Raises:
            InputError: If it has no such point.
        """
        assert codec is not None
        if not isinstance(codec, BundledCodec) or not isinstance(codec.network, ContextAutoencoder):
            return [OperatingPoint(codec, None, 0)]
        numbers = range(highest_rate(codec.network) + 1) if self.rates is None else sorted(self.rates)
        return [OperatingPoint(replace(codec, rate=each, effort=self.effort), each, self.effort) for each in numbers]

    def coding(self, folder: Path) -> CodingOptions:
        """How the networks are compressed, with their files in a folder of results."""
        return CodingOptions(self.compressions, folder / CODED_FOLDER, self.photographs, self.n_crops)


@dataclass(frozen=True, slots=True)
class ImageUnit:
    """Some pictures through one codec.

    Attributes:
        codec: Name of an autoencoder with its operating point, or title of a format.
        weights: Which weights of the autoencoder, "none" for files.
        codings: What files there are, none of an autoencoder.
        start: The first picture.
        count: How many.
        cost_s: About how many seconds that takes on one core.
        near: The autoencoder and operating point around whose rate files are looked for; empty for those of a curve.
        target_bpp: That rate, None while it is not known.
        key: A digest of all that its rows follow from; empty while that is not known.
    """

    codec: str
    weights: str
    codings: tuple[ImageCoding, ...]
    start: int
    count: int
    cost_s: float
    near: str = ""
    target_bpp: float | None = None
    key: str = ""

    @property
    def name(self) -> str:
        """Such as "autoencoder-1.8bpp uniform8, image 0 to 99"."""
        if self.near:
            return f"{self.codings[0].title} near the rate of {self.near}"
        what = f"{self.codec}, curve" if self.codings else f"{self.codec} {self.weights}"
        last = self.start + self.count - 1
        return f"{what}, image {self.start}" + (f" to {last}" if self.count > 1 else "")

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {
            "unit": self.name,
            "codec": self.codec,
            "weights": self.weights,
            "near": self.near,
            "first_image": self.start,
            "n_images": self.count,
            "cost_s": round(self.cost_s, 3),
        }


Rounds: TypeAlias = tuple[list[ImageUnit], list[ImageUnit]]


def image_units(sizes: Sequence[tuple[int, int]], options: EndToEndOptions, networks: Sequence[GivenNetwork]) -> Rounds:
    """All units of an experiment: those that depend on nothing, and those that begin once the rates are known.

    Args:
        sizes: Height and width of each picture.
        options: What to run.
        networks: The autoencoders.
    """
    millions = [(height * width + _PICTURE_PIXELS) / 1e6 for height, width in sizes]
    first, near, names = [], [], []
    for network in networks:
        points = options.points_of(network.codec)
        names += [point_name(network.name, point.number, point.effort) for point in points]
        picture_s = _SCORE_S + n_parameters(network.any_state.network) * _PARAMETER_S
        picture_s += 0 if points[0].number is None else _CONTEXT_S[options.effort]
        groups = [(count, picture_s * sum(millions[start : start + count])) for start, count in _groups(sizes)]
        for name, weights in itertools.product(names[-len(points) :], network.weights(options.compressions)):
            first += [ImageUnit(name, weights, (), *part) for part in _parts(groups)]
    for format in options.formats:
        codings = tuple(image_codings((format,), options.subsampling))
        encode_s = _ENCODE_S[format]
        curve_s = len(codings[0].curve) * (_SCORE_S + len(codings) * encode_s)
        title = TITLES[format]
        parts = _parts((1, each * curve_s) for each in millions)
        first += [ImageUnit(title, NO_WEIGHTS, codings, *part) for part in parts]
        search_s = sum(millions) * (_N_SEARCHED * encode_s + 2 * (encode_s + _SCORE_S))
        for name, coding in itertools.product(names, codings):
            near.append(ImageUnit(title, NO_WEIGHTS, (coding,), 0, len(sizes), search_s, name))
    return first, near


def _parts(pieces: Iterable[tuple[int, float]]) -> Iterator[tuple[int, int, float]]:
    """First picture, number of pictures and seconds of each unit, of pieces that stay whole."""
    start = count = 0
    cost_s = 0.0
    for n_pictures, piece_s in pieces:
        count, cost_s = count + n_pictures, cost_s + piece_s
        if cost_s >= UNIT_S:
            yield start, count, cost_s
            start, count, cost_s = start + count, 0, 0.0
    if count:
        yield start, count, cost_s


def _groups(sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """First picture and number of pictures of neighbours of one size, few enough to go through a network at once."""
    start = 0
    for (height, width), same in itertools.groupby(sizes):
        n_same, step = len(list(same)), max(1, MAX_GROUP_PIXELS // (height * width))
        yield from ((start + first, min(step, n_same - first)) for first in range(0, n_same, step))
        start += n_same


class EndToEndExperiment:
    """Autoencoders with each of their weights, ready to run over pictures.

    Args:
        states: The autoencoders with each of their weights.
        options: At which operating points they run.
    """

    def __init__(self, states: Sequence[NetworkState], options: EndToEndOptions) -> None:
        coders = [_Coder(state, point) for state in states for point in options.points_of(state.codec)]
        self._coders = {(coder.name, coder.state.row.weights): coder for coder in coders}

    def sha256_of(self, unit: ImageUnit) -> str | None:
        """The digest of the network's file that a unit is about; None of files of a format."""
        coder = self._coders.get((unit.codec, unit.weights))
        return coder and coder.state.row.network_sha256

    def measure(self, unit: ImageUnit, named: Sequence[Named]) -> list[ImageRow]:
        """The rows of a unit, with one thread: no bit of an autoencoder depends on where its unit runs.

        Args:
            unit: The unit.
            named: Its pictures, RGB uint8 (H, W, 3), with their names.

        Raises:
            InputError: If a network or an encoder fails.
            VvcNnrError: If a network gives NaN or infinity.
        """
        with torch_threads(1):
            if not unit.codings:
                return list(_autoencoder_rows(self._coders[unit.codec, unit.weights], named))
            qualities: Iterable[int] = unit.codings[0].curve
            if unit.target_bpp is not None:
                pictures = [picture for _, picture in named]
                qualities = _qualities_around(unit.codings[0], pictures, unit.target_bpp)
            return [row for quality in qualities for row in _file_rows(quality, unit.codings, named)]

    def is_done(self, unit: ImageUnit, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> bool:
        """Whether all rows of a unit are there.

        Args:
            unit: The unit.
            names: Of all pictures.
            rows: The rows that are there, by their keys.
        """
        own = names[unit.start : unit.start + unit.count]
        if not unit.codings:
            return all(self._coders[unit.codec, unit.weights].key(name) in rows for name in own)
        if unit.target_bpp is None:
            each = itertools.product(own, unit.codings, unit.codings[0].curve)
            return all(_file_key(name, coding, quality) in rows for name, coding, quality in each)
        return _is_around(unit.codings[0], unit.target_bpp, own, rows)

    def targets_bpp(self, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> dict[str, float]:
        """The mean rate of each autoencoder and point with the first of its weights, of those that have all rows."""
        firsts = {coder_name: coder for (coder_name, _), coder in reversed(self._coders.items())}
        keys = {coder_name: [coder.key(name) for name in names] for coder_name, coder in firsts.items()}
        whole = {coder_name: each for coder_name, each in keys.items() if all(key in rows for key in each)}
        return {coder_name: fmean(rows[key].bpp for key in each) for coder_name, each in whole.items()}

    def place_of(self, names: Sequence[str], codings: Sequence[ImageCoding]) -> Callable[[Key], tuple[int, ...]]:
        """What rows are sorted by: networks and pictures; formats, qualities, pictures and what is counted."""
        places = {name: place for place, name in enumerate(names)}
        networks = {coder.key(""): (0, place) for place, coder in enumerate(self._coders.values())}
        formats = list(dict.fromkeys(coding.format for coding in codings))
        files = {
            _file_key("", coding, quality): (1, formats.index(coding.format), quality, place)
            for place, coding in enumerate(codings)
            for quality in coding.qualities
        }

        def place_of(key: Key) -> tuple[int, ...]:
            place, what = places.get(key[0]), ("", *key[1:])
            if place is not None and what in networks:
                return *networks[what], place
            if place is not None and what in files:
                *quality, coding = files[what]
                return *quality, place, coding
            return (-1,)

        return place_of


@dataclass(frozen=True, slots=True)
class ImageSetup:
    """What all units of a run share, for whichever process.

    Attributes:
        base: Options, networks and where rows go.
        pictures: The file of the pictures, `write_pictures`.
    """

    base: UnitSetup[EndToEndOptions, ImageRow]
    pictures: Path


def write_pictures(path: Path, named: Sequence[Named]) -> None:
    """Keeps pictures with their names in one file, of which each can be read alone.

    Raises:
        OutputError: If it cannot be written.
    """
    file = io.BytesIO()
    arrays = {str(place): picture for place, (_, picture) in enumerate(named)}
    np.savez(file, allow_pickle=False, names=np.array([name for name, _ in named]), **arrays)
    write_file(path, file.getvalue())


def read_pictures(path: Path, start: int, count: int) -> list[Named]:
    """Some of the pictures in a file of `write_pictures`."""
    with np.load(path, allow_pickle=False) as file:
        names = file["names"]
        return [(str(names[place]), file[str(place)]) for place in range(start, start + count)]


def run_image_unit(setup: ImageSetup, unit: ImageUnit) -> None:
    """Measures a unit in whichever process, and writes its rows.

    Raises:
        InputError: If networks are not those that the run was planned with, or as `EndToEndExperiment.measure`.
        VvcNnrError: As `EndToEndExperiment.measure`.
    """
    named = read_pictures(setup.pictures, unit.start, unit.count)
    setup.base.rows.write(unit, _experiment(setup.base).measure(unit, named))


def write_unit(
    rows: UnitRows[ImageRow], experiment: EndToEndExperiment, named: Sequence[Named], unit: ImageUnit
) -> None:
    """Measures a unit by an experiment that is ready; arguments and errors as those of `EndToEndExperiment.measure`."""
    rows.write(unit, experiment.measure(unit, named[unit.start : unit.start + unit.count]))


@functools.lru_cache(maxsize=1)
def _experiment(base: UnitSetup[EndToEndOptions, ImageRow]) -> EndToEndExperiment:
    """The experiment of a run in this process."""
    return EndToEndExperiment(base.states(), base.options)


def plan_end_to_end(
    pictures: Sequence[Picture],
    options: EndToEndOptions,
    *,
    modules: Sequence[LoadedNetwork] = (),
    execution: ExecutorOptions = IN_THIS_PROCESS,
) -> list[ImageUnit]:
    """The units of work that `run_end_to_end` makes in an empty folder, in their order; nothing runs.

    Args:
        pictures: RGB pictures, uint8 (H, W, 3) each.
        options: What to run.
        modules: Autoencoders of the caller's own.
        execution: Of which share: of the units of each round.

    Raises:
        InputError, BitstreamError, UnsupportedError: If a network cannot be used.
    """
    rounds = image_units(_sizes(pictures), options, options.given(modules))
    return [unit for units in rounds for unit in share_of(units, execution.shard)]


def run_end_to_end(
    pictures: Sequence[Picture],
    names: Sequence[str],
    folder: Path,
    options: EndToEndOptions,
    provenance: Provenance,
    *,
    modules: Sequence[LoadedNetwork] = (),
    execution: ExecutorOptions = IN_THIS_PROCESS,
    executor: Executor | None = None,
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows, tables and a plot there.

    Args:
        pictures: RGB pictures, uint8 (H, W, 3) each, of any size from 11x11.
        names: One per picture.
        folder: Where the results are and go.
        options: What to run; has to agree with what the folder holds.
        provenance: Where this run comes from.
        modules: Autoencoders of the caller's own (`own_codec`) beside those that the options name.
        execution: Where units of work run, by default in this process; no result depends on it.
        executor: Where they run instead: any executor whose workers see the same files.

    Returns:
        The tables by file name; none of a shard, which writes no tables.

    Raises:
        InputError: If a network, a picture or the folder cannot be used.
        UnitsError: If units of work failed; all others that do not depend on them are done and kept.
    """
    check_not_old(folder)
    networks = options.given(modules)
    check_calibrations(networks, options.coding(folder))
    encoders = {f"{each}_encoder": version for each, version in encoder_versions().items()}
    settings = {**asdict(options), "compressions": [each.text for each in options.compressions], **encoders}
    inputs = picture_digests(pictures, names)
    tell_copies(inputs)
    identity = run_identity(settings, SETTLED_OF_IMAGES, inputs)
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    header = provenance.to_header() | conventions
    context = settled_text(identity, header, {"stride": options.stride})
    named = list(zip(names, pictures, strict=True))
    work = _ImageWork(options, networks, named, inputs, context, folder, header, tuple(modules))
    if execution.shard is not None:
        known_inputs(folder / IMAGE_FILES.settings, identity)
        work.run(None, execution, executor)
        return {}
    plan = Plan({"images": tuple(names), "networks": tuple(network.name for network in networks)})
    with open_run(folder, IMAGE_FILES, ImageRow, identity, plan, provenance, conventions) as run:
        work.run(run.writer, execution, executor)
        stored = read_images(folder)
        run = run.measured(stored.rows)
        tables = stored.tables()
        write_results(folder, tables, {"end_to_end": end_to_end_figure(stored.frame, stored.networks)})
        run.end()
    return tables


@dataclass(frozen=True, slots=True)
class _ImageWork:
    """What the units of an end-to-end run are measured with.

    Attributes:
        options: What to run.
        networks: The autoencoders.
        named: The pictures with their names.
        inputs: Their digests.
        context: All else that rows follow from, as text.
        folder: The folder of results.
        header: Of files of rows.
        modules: Autoencoders of the caller's own.
    """

    options: EndToEndOptions
    networks: Sequence[GivenNetwork]
    named: Sequence[Named]
    inputs: InputDigests
    context: str
    folder: Path
    header: Mapping[str, str]
    modules: tuple[LoadedNetwork, ...]

    def run(self, writer: RowWriter[ImageRow] | None, execution: ExecutorOptions, executor: Executor | None) -> None:
        """Measures in two rounds what there are no rows of yet; of a failed autoencoder's rate there is no second one.

        Args:
            writer: Where the rows go; None of a shard, which leaves them in the units' files.
            execution: Where units run.
            executor: Where they run instead.

        Raises:
            UnitsError: If units fail.
        """
        place = UnitRows.of(self.folder, IMAGE_FILES.rows, ImageRow, self.header)
        states, base = set_up(self.options, place, self.networks, self.modules)
        if writer is not None:
            earlier = ((row.setting, row.weights, row.network_sha256) for row in writer.existing)
            note_networks(self.folder / IMAGE_NETWORKS, states, self.header, earlier)
        experiment = EndToEndExperiment(states, self.options)
        names = [name for name, _ in self.named]
        place_of = experiment.place_of(names, image_codings(self.options.formats, self.options.subsampling))
        pictures = place.units / f"images_{unit_key(self.inputs)}.npz"
        errors: list[UnitsError] = []
        for units in image_units(_sizes([picture for _, picture in self.named]), self.options, self.networks):
            existing = place.existing() if writer is None else writer.existing
            rows = {row.key: row for row in (*existing, *(place.on_the_way() if writer is None else ()))}
            targets_bpp = experiment.targets_bpp(names, rows)
            share = [
                replace(unit, target_bpp=targets_bpp.get(unit.near))
                for unit in share_of(units, execution.shard)
                if not unit.near or unit.near in targets_bpp
            ]
            missing = [self._keyed(unit, experiment) for unit in share if not experiment.is_done(unit, names, rows)]
            try:
                self._run(missing, ImageSetup(base, pictures), experiment, execution, executor)
            except UnitsError as error:
                errors.append(error)
            finally:
                if writer is not None:
                    pictures.unlink(missing_ok=True)
                    place.merge(writer, missing, place_of)
        if errors:
            raise UnitsError.joined(errors)

    def _keyed(self, unit: ImageUnit, experiment: EndToEndExperiment) -> ImageUnit:
        """The unit with its key."""
        own = [(name, self.inputs[name]) for name, _ in self.named[unit.start : unit.start + unit.count]]
        key = unit_key(self.context, unit.name, unit.target_bpp, experiment.sha256_of(unit), own)
        return replace(unit, key=key)

    def _run(
        self,
        missing: Sequence[ImageUnit],
        setup: ImageSetup,
        experiment: EndToEndExperiment,
        execution: ExecutorOptions,
        executor: Executor | None,
    ) -> None:
        """Runs what has no file yet; the pictures go to other processes in a file."""
        place = setup.base.rows
        if not missing:
            return
        if place.is_here(missing, execution, executor):
            here = partial(write_unit, place, experiment, self.named)
            place.run(here, missing, execution, executor, title="end-to-end")
            return
        if not setup.pictures.exists():
            make_folder(place.units)
            write_pictures(setup.pictures, self.named)
        place.run(partial(run_image_unit, setup), missing, execution, executor, title="end-to-end")


def _sizes(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    return [(picture.shape[0], picture.shape[1]) for picture in pictures]


def _qualities_around(coding: ImageCoding, pictures: Sequence[Picture], target_bpp: float) -> Iterator[int]:
    lowest, highest = coding.qualities[0], coding.qualities[-1]
    if encode_set(coding, pictures, lowest).mean_bpp > target_bpp:
        yield lowest  # out of the format's reach: the nearest there is
        return
    below = encode_at_bpp(coding, pictures, target_bpp).quality
    yield below
    if below < highest:
        yield below + 1


def _is_around(coding: ImageCoding, target_bpp: float, names: Sequence[str], rows: Mapping[Key, ImageRow]) -> bool:
    """Whether all files of the two qualities around a rate are there."""
    keys = {each: [_file_key(name, coding, each) for name in names] for each in coding.qualities}
    is_below = {
        quality: float(np.mean([rows[key].bpp for key in of_all])) <= target_bpp
        for quality, of_all in keys.items()
        if all(key in rows for key in of_all)
    }
    lowest, highest = coding.qualities[0], coding.qualities[-1]
    return is_below.get(lowest) is False or any(
        below and (quality == highest or is_below.get(quality + 1) is False) for quality, below in is_below.items()
    )


def _file_rows(quality: int, codings: Sequence[ImageCoding], named: Sequence[Named]) -> Iterator[ImageRow]:
    """Yields the rows of one quality of a format."""
    for name, picture in named:
        files: dict[bytes, Scores] = {}  # files of some rates show the same picture
        for coding in codings:
            data = coding.encode(picture, quality)
            decoded = coding.decode(data)
            samples = decoded.tobytes()
            files[samples] = files.get(samples) or _scores(picture, decoded)
            yield _image_row(_file_key(name, coding, quality), coding.counted_bytes(data), picture, files[samples])


def _autoencoder_rows(coder: _Coder, named: Sequence[Named]) -> Iterator[ImageRow]:
    """Yields the rows of each group of pictures; a unit has whole groups: rounding may depend on a network's batch."""
    for start, count in _groups(_sizes([picture for _, picture in named])):
        group = named[start : start + count]
        coded = coder.point.codec.code(np.stack([picture for _, picture in group]))
        for (name, picture), each in zip(group, coded, strict=True):
            yield _image_row(coder.key(name), each.n_bytes, picture, _scores(picture, each.picture))


def _scores(picture: Picture, decoded: Picture) -> Scores:
    psnr = psnr_db(_flat(picture), _flat(decoded), bit_depth=8)
    return Scores(psnr, ssim_rgb(picture, decoded), ms_ssim_rgb(picture, decoded))


def _file_key(image: str, coding: ImageCoding, quality: int) -> Key:
    return (image, cast(ImageMethod, coding.name), coding.setting(quality), NO_WEIGHTS, "", None, 0)


def _image_row(key: Key, n_bytes: int, picture: Picture, scores: Scores) -> ImageRow:
    height, width, _ = picture.shape
    image, method, setting, weights, sha256, point, effort = key
    bpp = 8 * n_bytes / (width * height)
    row = ImageRow(image, method, setting, weights, sha256, n_bytes, bpp, *scores)
    return replace(row, operating_point=point, effort=effort)


def _flat(picture: Picture) -> Picture:
    """The three channels beside each other, since PSNR is taken over all samples."""
    return picture.reshape(picture.shape[0], -1)
