"""The end-to-end experiment: autoencoders on RGB pictures of any size, against the files of other picture codecs.

```
 pictures ─┬─ each autoencoder with each of its weights ───── its rate ─┐
           ├─ files of each format at the qualities of a curve          │
           └─ files of each format at the two qualities around it ◀─────┘
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from vvc_nnr.codec.image_formats import RATES, encoder_versions
from vvc_nnr.experiments.plots import end_to_end_figure
from vvc_nnr.experiments.records.provenance import IMAGE_AVERAGING, IMAGE_RATE, Conventions, Provenance
from vvc_nnr.experiments.records.rows import ImageRow
from vvc_nnr.experiments.records.settings import InputDigests, Plan, known_inputs, picture_digests, tell_copies
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.unit_rows import UnitRows, unit_key
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.image_units import (
    EndToEndExperiment,
    ImageSetup,
    ImageUnit,
    Named,
    Picture,
    image_units,
    run_image_unit,
    sizes_of,
    write_pictures,
    write_unit,
)
from vvc_nnr.experiments.runs.network_units import note_networks, set_up
from vvc_nnr.experiments.runs.networks import GivenNetwork, check_calibrations
from vvc_nnr.experiments.runs.run_folder import open_run, run_identity, settled_text, write_results
from vvc_nnr.experiments.tables.stored import IMAGE_FILES, IMAGE_NETWORKS, check_not_old, read_images
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.files import make_folder
from vvc_nnr.filters.zoo import LoadedNetwork
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, UnitsError, share_of

SETTLED_OF_IMAGES = ("subsampling", "formats_effort", *(f"{each}_encoder" for each in RATES))
"""What has to be the same in every end-to-end run in one folder; all else adds rows, or changes none."""


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
    rounds = image_units(sizes_of(pictures), options, options.given(modules))
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
            note_networks(self.folder / IMAGE_NETWORKS, base.networks, self.header, earlier)
        experiment = EndToEndExperiment(states, self.options)
        names = [name for name, _ in self.named]
        place_of = experiment.place_of(names, self.options.codings())
        pictures = place.units / f"images_{unit_key(self.inputs)}.npz"
        errors: list[UnitsError] = []
        for units in image_units(sizes_of([picture for _, picture in self.named]), self.options, self.networks):
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
