"""The training loop on networks so small that a step takes a millisecond."""

from __future__ import annotations

import contextlib
import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference.torch import choose_device, training_precision
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.networks.layout import RUNS, parse_layout
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.filters.training.autoencoder import AutoencoderTask, PatchSource
from vvc_nnr.filters.training.in_loop import InLoopTask
from vvc_nnr.filters.training.loop import (
    TrainOptions,
    check_checkpoint,
    learning_rate_at,
    quantised_weights,
    read_history,
    train,
)
from vvc_nnr.filters.training.pairs import PairSet
from vvc_nnr.quantize.uniform import quantize_uniform

OPTIONS = TrainOptions(n_steps=9, batch_size=2, warmup_steps=3, checkpoint_every=4, device="cpu")


@pytest.fixture(scope="module")
def pair_folder(photographs, tmp_path_factory):
    """Pictures with noise in the place of a codec's, so that no encoder has to run."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for i, frame in enumerate(photographs(3, 128, 96)):
        target = folder / f"{i:04d}_picture"
        target.mkdir()
        original = pack(frame.to_bit_depth(10))
        np.save(target / "original.npy", original)
        for qp, sigma in ((22, 3), (37, 20)):
            noisy = np.clip(original + rng.normal(0, sigma, original.shape), 0, 1023)
            np.save(target / f"all_qp{qp}.npy", noisy.astype(np.uint16))
    return folder


@pytest.fixture
def inloop_task(pair_folder):
    def make(network_seed=1, n_channels=4, seed=0):
        torch.manual_seed(network_seed)
        pairs = PairSet(pair_folder, "all", (22, 37), ["0000_picture", "0001_picture"])
        validation = PairSet(pair_folder, "all", (22, 37), ["0002_picture"])
        return InLoopTask(InLoopFilter(n_channels, 1), pairs, validation, seed=seed, crop=12)

    return make


@pytest.fixture
def autoencoder_task():
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (40, 50, 3)).astype(np.uint8) for _ in range(3)]

    def make(network_seed=1, n_latents=4, seed=0):
        torch.manual_seed(network_seed)
        network = Autoencoder(n_latents, n_fine=4, n_coarse=4, n_blocks=1)
        sources = [PatchSource(pictures[:1], 0.5), PatchSource(pictures[1:2], 0.5)]
        validation = pictures[2][:32, :32][None]
        return AutoencoderTask(network, sources, validation, distortion_weight=0.03, seed=seed)

    return make


@pytest.fixture(params=["inloop_task", "autoencoder_task"])
def make_task(request):
    return request.getfixturevalue(request.param)


class CutOff:
    """A task whose run is cut off before one step."""

    def __init__(self, task, step, error=KeyboardInterrupt):
        self.network, self._task, self._step, self._error = task.network, task, step, error

    def loss(self, step, batch_size, device):
        if step == self._step:
            raise self._error
        return self._task.loss(step, batch_size, device)

    def validate(self, device):
        return self._task.validate(device)


class Straight:
    """One weight that every step pulls down with gradient 1; remembers what it saw."""

    def __init__(self, factor=1.0):
        self.network = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.network.weight.zero_()
        self.weights, self.factor, self.validated = [], factor, []

    def loss(self, step, batch_size, device):
        self.weights.append(self.network.weight.item())
        return self.factor * self.network.weight.float().sum()

    def validate(self, device):
        self.validated.append((self.network.weight.item(), self.network.training, torch.is_grad_enabled()))
        return {"weight": self.network.weight.item()}


def weights(task):
    return {name: value.clone() for name, value in task.network.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("quantised_share", [0.0, 0.5])
@pytest.mark.parametrize("cut_at", [2, 4, 5, 8])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(make_task, tmp_path, cut_at, quantised_share):
    options = TrainOptions(9, 2, warmup_steps=3, checkpoint_every=4, device="cpu", quantised_share=quantised_share)
    whole = make_task()
    whole_figures = train(whole, options, tmp_path / "whole.pt")

    cut = make_task()
    with pytest.raises(KeyboardInterrupt):
        train(CutOff(cut, cut_at), options, tmp_path / "cut.pt")
    assert (tmp_path / "cut.pt").exists() == (cut_at >= 4)
    torch.rand(17)
    resumed = make_task(network_seed=1 if cut_at < 4 else 99)
    assert train(resumed, options, tmp_path / "cut.pt") == whole_figures
    assert same(weights(resumed), weights(whole))


def test_a_run_cut_off_twice(make_task, tmp_path):
    whole, task = make_task(), make_task()
    train(whole, OPTIONS, tmp_path / "whole.pt")
    for cut_at in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            train(CutOff(task, cut_at), OPTIONS, tmp_path / "cut.pt")
        task = make_task(network_seed=cut_at)
    train(task, OPTIONS, tmp_path / "cut.pt")
    assert same(weights(task), weights(whole))


def test_a_finished_run_takes_no_more_steps(make_task, tmp_path):
    task = make_task()
    figures = train(task, OPTIONS, tmp_path / "a.pt")
    again = make_task(network_seed=5)
    assert train(CutOff(again, 0), OPTIONS, tmp_path / "a.pt") == figures
    assert same(weights(again), weights(task))


def test_how_often_it_is_saved_and_validated_changes_nothing(make_task, tmp_path):
    results = []
    for every in (1, 4, 100):
        task = make_task()
        options = TrainOptions(9, 2, warmup_steps=3, checkpoint_every=every, device="cpu")
        train(task, options, tmp_path / f"{every}.pt")
        results.append(weights(task))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_seeds_make_runs_repeatable_and_different(make_task, tmp_path):
    results = []
    for i, seed in enumerate((0, 0, 1)):
        task = make_task(seed=seed)
        train(task, OPTIONS, tmp_path / f"{i}.pt")
        results.append(weights(task))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (TrainOptions(8, 2, warmup_steps=3, device="cpu"), "n_steps 9 there, 8 asked for"),
        (TrainOptions(9, 3, warmup_steps=3, device="cpu"), "batch_size 2 there, 3 asked for"),
        (TrainOptions(9, 2, 1e-3, warmup_steps=3, device="cpu"), "learning_rate 0.002 there"),
        (TrainOptions(9, 2, warmup_steps=3, seed=1, device="cpu"), "seed 0 there, 1 asked for"),
        (TrainOptions(9, 2, warmup_steps=3, quantised_share=0.1, device="cpu"), "quantised_share"),
    ],
)
def test_a_checkpoint_of_other_options(inloop_task, tmp_path, other, named):
    train(inloop_task(), OPTIONS, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt: a checkpoint of another run \({named}"):
        train(inloop_task(), other, tmp_path / "a.pt")


def test_a_checkpoint_of_another_network(inloop_task, autoencoder_task, tmp_path):
    train(inloop_task(), OPTIONS, tmp_path / "a.pt")
    for other in (inloop_task(n_channels=5), autoencoder_task()):
        with pytest.raises(InputError, match=r"a\.pt: not a checkpoint of this network"):
            train(other, OPTIONS, tmp_path / "a.pt")


IDENTITY = {"pictures": {"a.png": "1", "b.png": "2"}, "qps": (22, 37), "weight": 0.1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pictures": {"a.png": "1"}}, "pictures: b.png is missing"),
        ({"pictures": {"a.png": "1", "b.png": "3"}}, "pictures: b.png has changed"),
        ({"pictures": {"a.png": "1", "b.png": "2", "c.png": "3"}}, "pictures: c.png is new"),
        ({"qps": (37, 22)}, r"qps \[22, 37\] there, \[37, 22\] asked for"),
        ({"weight": 0.2}, "weight 0.1 there, 0.2 asked for"),
        ({"more": "x"}, "more None there, x asked for"),
    ],
)
def test_a_checkpoint_of_another_identity(inloop_task, tmp_path, change, named):
    train(inloop_task(), OPTIONS, tmp_path / "a.pt", identity=IDENTITY)
    train(inloop_task(), OPTIONS, tmp_path / "a.pt", identity=IDENTITY)
    check_checkpoint(tmp_path / "a.pt", IDENTITY, OPTIONS)
    before = (tmp_path / "a.pt").read_bytes()
    for go_on in (
        lambda: train(inloop_task(), OPTIONS, tmp_path / "a.pt", identity=IDENTITY | change),
        lambda: check_checkpoint(tmp_path / "a.pt", IDENTITY | change),
    ):
        with pytest.raises(InputError, match=rf"a\.pt: a checkpoint of another run \({named}\)"):
            go_on()
    assert (tmp_path / "a.pt").read_bytes() == before


def test_a_checkpoint_that_does_not_note_its_identity(inloop_task, tmp_path):
    path = tmp_path / "a.pt"
    train(inloop_task(), OPTIONS, path, identity=IDENTITY)
    content = torch.load(path, weights_only=True)
    del content["identity"]
    torch.save(content, path)
    with pytest.raises(InputError, match="of an older version, which does not note pictures, qps, weight"):
        train(inloop_task(), OPTIONS, path, identity=IDENTITY)


@pytest.mark.parametrize("content", [torch.ones(2, 3, 4, 5), [1, 2], {"options": [1]}, {"options": torch.ones(3)}, {}])
def test_another_file_of_torch_is_no_checkpoint(inloop_task, tmp_path, content):
    path = tmp_path / "a.pt"
    torch.save(content, path)
    for go_on in (lambda: train(inloop_task(), OPTIONS, path), lambda: check_checkpoint(path, IDENTITY, OPTIONS)):
        with pytest.raises(InputError, match=r"a\.pt: not a checkpoint .*; remove it to train anew"):
            go_on()


@pytest.mark.parametrize("step", [-1, 0, 10, 1 << 40])
def test_a_checkpoint_of_an_impossible_step(inloop_task, tmp_path, step):
    path = tmp_path / "a.pt"
    train(inloop_task(), OPTIONS, path)
    torch.save(torch.load(path, weights_only=True) | {"step": step}, path)
    with pytest.raises(InputError, match=rf"a\.pt: not a checkpoint of this network: step {step} of 9"):
        train(inloop_task(), OPTIONS, path)


class Malice:
    def __reduce__(self):
        return (print, ("run by a pickle",))


def test_damaged_checkpoints(inloop_task, tmp_path, capsys):
    path = tmp_path / "a.pt"
    train(inloop_task(), OPTIONS, path)
    data = path.read_bytes()
    torch.save({"step": 1}, tmp_path / "part.pt")
    torch.save([1], tmp_path / "list.pt")
    others = [(tmp_path / name).read_bytes() for name in ("part.pt", "list.pt")]
    for damaged in (b"", b"junk", data[: len(data) // 2], data[:-1], pickle.dumps(Malice()), *others):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.pt: not a checkpoint"):
            train(inloop_task(), OPTIONS, path)
    assert "run by a pickle" not in capsys.readouterr().out


def other_averages(content):
    del content["average"][next(iter(content["average"]))]


def averages_of_another_shape(content):
    content["average"][next(iter(content["average"]))] = torch.zeros(3)


def no_averages(content):
    del content["average"]


def a_step_beyond_the_end(content):
    content["step"] = 10**6


def no_momentum(content):
    for averages in content["optimiser"][0]["state"].values():
        averages["exp_avh"] = averages.pop("exp_avg")


def momentum_of_another_shape(content):
    content["optimiser"][0]["state"][0]["exp_avg"] = torch.zeros(3)


def momentum_of_no_parameter(content):
    content["optimiser"][0]["state"][10**6] = content["optimiser"][0]["state"][0]


def other_betas(content):
    content["optimiser"][0]["param_groups"][0]["betas"] = (0.5, 0.5)


def no_decay(content):
    del content["optimiser"][0]["param_groups"][0]["weight_decay"]


def a_tensor_for_an_option(content):
    content["options"]["seed"] = torch.ones(3)


@pytest.mark.parametrize(
    "damage",
    [
        *(other_averages, averages_of_another_shape, no_averages, a_step_beyond_the_end, no_momentum),
        *(momentum_of_another_shape, momentum_of_no_parameter, other_betas, no_decay, a_tensor_for_an_option),
    ],
)
def test_checkpoints_with_a_part_changed_or_missing(inloop_task, tmp_path, damage):
    path = tmp_path / "a.pt"
    train(inloop_task(), OPTIONS, path)
    content = torch.load(path)
    damage(content)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"a\.pt: (not a checkpoint of this network|a checkpoint of another run)"):
        train(inloop_task(), OPTIONS, path)


def test_a_damaged_checkpoint_gives_one_short_line(inloop_task, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Malice()))
    with pytest.raises(InputError) as caught:
        train(inloop_task(), OPTIONS, path)
    assert str(caught.value) == f"{path}: not a checkpoint, or damaged; remove it to train anew"


def test_a_changed_byte_in_the_weights_of_a_checkpoint(inloop_task, tmp_path):
    path = tmp_path / "a.pt"
    train(inloop_task(), OPTIONS, path)
    content = bytearray(path.read_bytes())
    some_weights = next(v for v in torch.load(path)["average"].values() if v.dim() == 1 and v.any()).numpy().tobytes()
    content[content.index(some_weights) + 3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged; remove it to train anew"):
        train(inloop_task(), OPTIONS, path)


def test_a_checkpoint_that_cannot_be_written(inloop_task, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        train(inloop_task(), OPTIONS, tmp_path / "file" / "a.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(InputError, match="folder"):
        train(inloop_task(), OPTIONS, tmp_path / "folder.pt")


def test_only_the_checkpoint_is_left(inloop_task, tmp_path):
    train(inloop_task(), OPTIONS, tmp_path / "new" / "a.pt")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["new", "new/a.pt"]


# ---------------------------------------------------------------- rates, averages, losses


def test_the_learning_rate_warms_up_and_falls_to_zero():
    options = TrainOptions(n_steps=1000, learning_rate=0.004, warmup_steps=100)
    rates = [learning_rate_at(step, options) for step in range(1001)]
    assert rates[0] == pytest.approx(0.004 / 100)
    assert rates[49] == pytest.approx(0.002 * (0.5 + 0.5 * math.cos(math.pi * 49 / 1000)))
    assert max(rates) == pytest.approx(0.004, rel=0.03)
    assert rates[500] == pytest.approx(0.002)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in pairwise(rates[:99]))
    assert all(a > b for a, b in pairwise(rates[100:]))


def test_no_warm_up():
    assert learning_rate_at(0, TrainOptions(n_steps=10, learning_rate=0.5, warmup_steps=0)) == 0.5


def test_each_step_uses_its_learning_rate(tmp_path):
    options = TrainOptions(n_steps=20, warmup_steps=5, weight_decay=0.0, device="cpu")
    task = Straight()
    train(task, options, tmp_path / "a.pt")
    taken = -np.diff(task.weights)
    expected = [learning_rate_at(step, options) for step in range(19)]
    np.testing.assert_allclose(taken, expected, rtol=1e-3)


def test_the_result_is_the_average_of_the_weights(tmp_path):
    task = Straight()
    figures = train(task, TrainOptions(n_steps=50, warmup_steps=1, device="cpu"), tmp_path / "a.pt")
    average = 0.0
    for step, weight in enumerate([*task.weights[1:], None], 1):
        decay = min(0.999, (1 + step) / (10 + step))
        if weight is not None:
            average = decay * average + (1 - decay) * weight
    result = task.network.weight.item()
    assert task.weights[-1] < result < 0
    assert result == pytest.approx(average, rel=0.05)
    assert figures == {"weight": result}


def test_validation_sees_the_average_without_gradients(tmp_path):
    task = Straight()
    train(task, TrainOptions(n_steps=4, warmup_steps=1, checkpoint_every=2, device="cpu"), tmp_path / "a.pt")
    train(task, TrainOptions(n_steps=4, warmup_steps=1, checkpoint_every=2, device="cpu"), tmp_path / "a.pt")
    assert [(training, gradients) for _, training, gradients in task.validated] == [(False, False)] * 3
    assert task.validated[1] == task.validated[2]


def test_gradients_are_clipped(tmp_path):
    small, large = Straight(), Straight(factor=1e6)
    options = TrainOptions(n_steps=5, warmup_steps=1, device="cpu")
    train(small, options, tmp_path / "small.pt")
    train(large, options, tmp_path / "large.pt")
    np.testing.assert_allclose(small.weights, large.weights, rtol=1e-4)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, factor):
    task = Straight(factor)
    with torch.no_grad():
        task.network.weight.fill_(1)
    with pytest.raises(VvcNnrError, match=r"the loss is (nan|inf) at step 0"):
        train(task, OPTIONS, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_steps": 0},
        {"batch_size": 0},
        {"checkpoint_every": 0},
        {"quantised_share": 1.5},
        {"quantised_share": -0.1},
        {"quantised_bits": 0},
        {"quantised_bits": 17},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(InputError, match="must"):
        TrainOptions(**{"n_steps": 10, **wrong})


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError, match="'tpu' is not available"):
        choose_device("tpu")


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_quantised_weights_are_those_of_the_quantiser(filter_network, bits):
    network = filter_network()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    with quantised_weights(network, bits):
        for name, value in network.named_parameters():
            expected = quantize_uniform(before[name].numpy(), bits).dequantize()
            span = float(before[name].max() - before[name].min())
            difference = np.abs(value.detach().numpy() - expected)
            # At 16 bits a tie of float32 may fall to the next level.
            assert difference.max() < (1e-5 if bits <= 8 else 1.01 / 65535) * span
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_weights_come_back_after_an_error_and_constant_ones_bear_it(filter_network):
    network = filter_network()
    with torch.no_grad():
        network.head.weight.fill_(0.25)
        network.head.bias.zero_()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    with quantised_weights(network, 8):
        assert (network.head.weight == 0.25).all()
        assert (network.head.bias == 0).all()
    with contextlib.suppress(KeyError), quantised_weights(network, 8):
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


# ---------------------------------------------------------------- the in-loop filter's loss


def test_a_network_that_changes_nothing_has_loss_one(inloop_task):
    task = inloop_task()
    losses = [float(task.loss(step, 16, torch.device("cpu")).detach()) for step in range(30)]
    assert np.mean(losses) == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        gains_db = task.validate(torch.device("cpu")).values()
    assert all(gain_db == pytest.approx(0, abs=1e-6) for gain_db in gains_db)


def test_training_gains_on_pictures_that_were_not_trained_on(inloop_task, tmp_path):
    task = inloop_task(n_channels=8)
    figures = train(task, TrainOptions(250, 8, 5e-3, warmup_steps=10, device="cpu"), tmp_path / "a.pt")
    assert list(figures) == ["gain_qp22_db", "gain_qp37_db"]
    assert figures["gain_qp37_db"] > 0.1


class Unchanged(torch.nn.Module):
    """Returns the planes that went in, or no change, but for a scale that can be learned."""

    def __init__(self, n_planes, is_picture):
        super().__init__()
        self.n_planes, self.is_picture = n_planes, is_picture
        self.conv = torch.nn.Conv2d(n_planes, n_planes, 1)
        torch.nn.init.zeros_(self.conv.weight)
        torch.nn.init.zeros_(self.conv.bias)

    def forward(self, planes, qp=None):
        planes = planes[:, : self.n_planes]
        return self.conv(planes) + (planes if self.is_picture else 0)


@pytest.mark.parametrize("planes", RUNS)
@pytest.mark.parametrize(
    "more",
    ["", ",range=signed,output=residual", ",range=code,qp=plane,output=noise", ",range=code8,qp=scalar", ",overlap=2"],
)
def test_a_network_that_changes_nothing_has_loss_1_in_every_layout(pair_folder, planes, more):
    layout = parse_layout(f"planes={planes}{more}")
    network = Unchanged(layout.n_planes, layout.output == "picture")
    pairs = PairSet(pair_folder, "all", (22, 37))
    task = InLoopTask(network, pairs, pairs, seed=0, crop=24, layout=layout)
    losses = [float(task.loss(step, 8, torch.device("cpu")).detach()) for step in range(4)]
    # Chroma that was made larger, and colours, carry less of the noise than the planes that they are made of.
    low = {"rgb": 0.4, "yuv444": 0.7}.get(planes, 0.85)
    assert low < np.mean(losses) < (1.15 if planes != "rgb" else 4)
    with torch.no_grad():
        figures = task.validate(torch.device("cpu"))
    assert all(abs(value) < 1e-3 for value in figures.values())
    first = task.loss(0, 2, torch.device("cpu"))
    first.backward()
    assert network.conv.weight.grad.abs().max() > 0


def test_a_kept_component_has_no_weight_in_the_loss(pair_folder):
    pairs = PairSet(pair_folder, "all", (22, 37))
    layout = parse_layout("planes=yuv420-packed,keep=cb+cr")
    network = Unchanged(6, is_picture=True)
    InLoopTask(network, pairs, pairs, seed=0, crop=12, layout=layout).loss(0, 2, torch.device("cpu")).backward()
    touched = network.conv.weight.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert touched.tolist() == [True] * 4 + [False] * 2


def test_a_longer_run_goes_on_and_keeps_its_history(inloop_task, tmp_path):
    history = tmp_path / "history.tsv"
    train(inloop_task(), OPTIONS, tmp_path / "a.pt", history=history)
    before = read_history(history)
    assert [row["step"] for row in before] == [4, 8, 9]
    longer = replace(OPTIONS, n_steps=12)
    figures = train(inloop_task(), longer, tmp_path / "a.pt", history=history)
    after = read_history(history)
    assert after[:3] == before
    assert [row["step"] for row in after] == [4, 8, 9, 12]
    assert after[-1] == pytest.approx({"step": 12, "loss": after[-1]["loss"], **figures}, rel=1e-4)
    with pytest.raises(InputError, match="n_steps 12 there, 9 asked for"):
        train(inloop_task(), OPTIONS, tmp_path / "a.pt")


def test_a_history_that_is_none(inloop_task, tmp_path):
    (tmp_path / "history.tsv").write_text("step\tloss\n1\n")
    with pytest.raises(InputError, match=r"history.tsv: no history of a training"):
        read_history(tmp_path / "history.tsv")


def test_pictures_without_colour_can_be_learned_from(pair_folder, tmp_path):
    for source in pair_folder.iterdir():
        target = tmp_path / source.name
        target.mkdir()
        for path in source.iterdir():
            grey = np.load(path)
            grey[4:] = 512
            np.save(target / path.name, grey)
    pairs = PairSet(tmp_path, "all", (22, 37))
    task = InLoopTask(InLoopFilter(4, 1), pairs, pairs, seed=0, crop=12)
    train(task, OPTIONS, tmp_path / "a.pt")
    assert all(torch.isfinite(value).all() for value in weights(task).values())


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bfloat16_is_for_processors_that_compute_in_it(has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_bfloat16)
    with training_precision(torch.device("cpu")):
        out = nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))
    assert out.dtype == (torch.bfloat16 if has_bfloat16 else torch.float32)
