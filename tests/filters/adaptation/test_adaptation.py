"""Filters tuned to one sequence: what is free, what tuning and coding do, and what a gain is worth."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vvc_nnr.coding.update import apply_update
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.adaptation import tuning as adaptation
from vvc_nnr.filters.adaptation.adapt_streams import adapt_streams
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures
from vvc_nnr.filters.adaptation.net_effect import DB_PER_LOSS, loss_per_bit, net_percent, rate_slopes
from vvc_nnr.filters.adaptation.options import AdaptOptions, RunAs
from vvc_nnr.filters.adaptation.results import MadeUpdate, with_best
from vvc_nnr.filters.adaptation.tuned_filter import CROP, LearningPicture, TunedFilter
from vvc_nnr.filters.adaptation.tuning import (
    AdaptationTask,
    Differences,
    TunedUpdate,
    _drawn_crop,
    coded_levels,
    plane_weights,
    tune,
)
from vvc_nnr.filters.bundled import HASH_NAME, name_by_hash, network_by_hash, network_path
from vvc_nnr.filters.networks.in_loop import InLoopFilter, LadderFilter
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.filters.zoo import network_tensors
from vvc_nnr.sequences.frame import Frame

TAIL = ("tail.weight", "tail.bias")
OPTIONS = AdaptOptions(n_steps=20, batch_size=4, chroma_weight=0.1)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = LadderFilter(4, 1)
    torch.nn.init.normal_(made.tail.weight, std=0.2)
    return made.eval()


@pytest.fixture
def pictures(real_pictures):
    """Pictures whose luma is too dark by a part of a texture, and noisy."""
    rng = np.random.default_rng(0)
    found = []
    for qp, frame in zip((22, 37), real_pictures(2, 64, 48, bit_depth=10), strict=True):
        original = pack(frame)
        decoded = np.clip(original + rng.normal(-4, 3, original.shape), 0, 1023).astype(np.uint16)
        found.append(LearningPicture(original, decoded, qp, 1023.0))
    return found


def a_task(network, pictures, names, units=1.0, *, rounded=False, lambda_rd=0.0):
    shapes = {name: value.shape for name, value in network.named_parameters() if name in names}
    differences = Differences(shapes, dict.fromkeys(names, units), rounded=rounded)
    tuned = TunedFilter.of(network)
    return AdaptationTask(tuned, pictures, differences, seed=0, chroma_weight=0.1, lambda_rd=lambda_rd), differences


def mean_loss(task, n=8):
    with torch.no_grad():
        return float(np.mean([float(task.loss(step, 4, torch.device("cpu"))) for step in range(1000, 1000 + n)]))


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (["biases"], {"head.bias", "blocks.0.conv0.bias", "blocks.0.conv1.bias", "body.bias", "tail.bias"}),
        (["gains"], {"shift.weight", "blocks.0.shift.weight", "gain.weight"}),
        (["tail"], {"tail.weight", "tail.bias"}),
    ],
)
def test_what_is_free(network, free, expected):
    assert set(TunedFilter.of(network).free_tensors(free)) == expected


def test_all_is_free_and_nothing_is_refused(network):
    assert TunedFilter.of(network).free_tensors(["all"]) == [name for name, _ in network.named_parameters()]
    with pytest.raises(InputError, match="must be some of"):
        TunedFilter.of(network).free_tensors(["head"])
    with pytest.raises(InputError, match="nothing is"):
        AdaptOptions(free=())


@pytest.mark.parametrize(
    "wrong",
    [
        {"updates": "all"},
        {"budget_min": 0.0},
        {"budget_min": 1.0, "n_steps": 20},
        {"n_steps": 1},
        {"batch_size": 0},
        {"chroma_weight": 2.0},
        {"n_pictures": 0},
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AdaptOptions(**wrong)


def test_a_filter_that_changes_nothing_has_loss_one(pictures):
    """By the weights of planes, where crops cover all of a picture."""
    for picture in pictures:
        errors = ((picture.decoded / 1023.0 - picture.original / 1023.0) ** 2).mean(axis=(1, 2))
        assert float((plane_weights(picture, 0.1).double() * torch.from_numpy(errors)).sum()) == pytest.approx(1)


def test_what_odd_sides_were_padded_with_does_not_count(network, real_pictures):
    """Of 63x47 that were coded as 64x48 the last column and row of luma."""
    rng = np.random.default_rng(0)
    (whole,) = real_pictures(1, 64, 48, bit_depth=10)
    decoded = Frame(
        tuple(np.clip(p + rng.normal(-4, 3, p.shape), 0, 1023).astype(np.uint16) for p in whole.planes), 10, "420"
    )
    picture = LearningPicture.of(whole.cropped(63, 47), decoded, 37, network_layout := TunedFilter.of(network).layout)
    assert picture.seen == (47, 63)
    counts = picture.counting(0, 0, 24, 32)
    assert counts.sum(axis=(1, 2)).tolist() == [24 * 32, 24 * 31, 23 * 32, 23 * 31, 24 * 32, 24 * 32]
    assert not counts[1, :, -1].any()
    assert np.array_equal(picture.counting(20, 30, 4, 2), counts[:, 20:, 30:])
    errors = [
        float(np.mean(((a.astype(float) - b) / 1023) ** 2))
        for a, b in zip(whole.cropped(63, 47).planes, decoded.cropped(63, 47).planes, strict=True)
    ]
    assert picture.squared_errors() == pytest.approx(errors, rel=1e-2)  # a mean of four phases of nearly as many
    other = replace(picture, original=np.where(counts, picture.original, 0).astype(np.uint16))
    losses = [mean_loss(a_task(network, [each], TAIL)[0]) for each in (picture, other, replace(picture, seen=None))]
    assert losses[0] == losses[1] != losses[2]
    luma = replace(network_layout, planes="y")
    assert LearningPicture.of(whole.cropped(63, 47), decoded, 37, luma).counting(46, 62, 2, 2).tolist() == [
        [[True, False], [False, False]]
    ]


def test_harm_is_the_curvature_of_the_loss(network, pictures):
    """Of the last bias the loss is a parabola: what a difference adds, on both sides, is harm times its square."""
    task, differences = a_task(network, pictures, ["tail.bias"], 0.05)
    harm = task.harm(4, n_probes=200)["tail.bias"]
    base = mean_loss(task)
    measured = []
    for plane in range(6):
        sides = []
        for sign in (-1, 1):
            with torch.no_grad():
                differences.values[0].zero_()
                differences.values[0][plane] = sign
            sides.append(mean_loss(task))
        measured.append(sum(sides) / 2 - base)
    assert harm == pytest.approx(np.mean(measured), rel=0.3)


def test_the_last_layer_is_solved_at_once(network, pictures):
    task, differences = a_task(network, pictures, ["tail.weight", "tail.bias"])
    before = mean_loss(task)
    differences.start_from(task.tail_parabola(4).solved())
    solved = mean_loss(task)
    assert solved < before - 0.1
    for scale in (0.7, 1.3):  # nowhere else on this line is it better
        with torch.no_grad():
            for value in differences.values:
                value.mul_(scale)
        assert mean_loss(task) > solved
        with torch.no_grad():
            for value in differences.values:
                value.div_(scale)


@pytest.mark.parametrize("lambda_rd", [0.0, 1e-5, 1e-3, 1.0])
def test_levels_of_the_last_layer_are_worth_their_bits(network, pictures, lambda_rd):
    task, differences = a_task(network, pictures, TAIL, 2**-6, rounded=True)
    parabola = task.tail_parabola(4)
    start = {name: np.rint(value.numpy() * 2**6).astype(np.int32) for name, value in parabola.solved().items()}
    levels, loss = parabola.levels(dict.fromkeys(TAIL, 2**-6), start, lambda_rd)
    n_before, n_after = (sum(np.count_nonzero(value) for value in each.values()) for each in (start, levels))
    if lambda_rd < 1.0:
        assert loss < parabola.loss - 0.1
        assert n_after <= n_before if lambda_rd == 0.0 else 0 < n_after < n_before
        differences.start_from({name: torch.from_numpy(value) * 2**-6 for name, value in levels.items()})
        assert mean_loss(task, 64) == pytest.approx(loss, rel=0.1)
    else:
        assert n_after == 0
        assert loss == pytest.approx(parabola.loss)
    assert task.tail_parabola(4).loss == pytest.approx(parabola.loss)  # what the last layer has is no part of it


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("others_pay", [True, False])
def test_what_else_is_free_is_left_out_where_the_last_layer_alone_costs_less(
    network, pictures, tmp_path, monkeypatch, others_pay
):
    given = []

    def coded(task, arrays, levels, qps, options, lambda_rd):
        parabola = task.tail_parabola(4)
        given.append((parabola.loss, any(levels[name].any() for name in levels if name not in TAIL)))
        return (b"with", 1.0) if len(given) == 1 else (b"alone", 2.0 if others_pay else 0.5)

    monkeypatch.setattr(adaptation, "_coded_with_tail", coded)
    made = tune(network, network_tensors(network), pictures, OPTIONS, 1e-8, tmp_path)
    assert made.data == (b"with" if others_pay else b"alone")
    assert [each[1] for each in given] == [True, False]
    base, _ = a_task(network, pictures, TAIL)
    assert given[1][0] == pytest.approx(base.tail_parabola(4).loss)
    assert given[0][0] != pytest.approx(given[1][0], rel=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_many_values_learn_more_slowly(pictures, tmp_path, monkeypatch):
    """All of them at the rates of few made a bundled filter one that does nothing."""
    rates = {}
    train = adaptation.train

    def noted(task, options, checkpoint, **rest):
        rates[checkpoint.parent.name, checkpoint.stem] = options.learning_rate
        return train(task, options, checkpoint, **rest)

    monkeypatch.setattr(adaptation, "train", noted)
    wide = LadderFilter(16, 3).eval()
    torch.nn.init.normal_(wide.tail.weight, std=0.05)
    for free in ("tail", "all"):
        options = AdaptOptions(free=(free,), n_steps=10, batch_size=1)
        tune(wide, network_tensors(wide), pictures, options, 1e-6, tmp_path / free)
    for stage in ("tuning", "coding"):
        assert rates["all", stage] < 0.4 * rates["tail", stage]


def test_rounded_differences_add_whole_steps(network, pictures):
    _, differences = a_task(network, pictures, ["tail.bias"], 0.25, rounded=True)
    differences.start_from({"tail.bias": torch.full((6,), 0.6)})
    assert differences.levels()["tail.bias"].tolist() == [2] * 6
    assert differences.added()["tail.bias"].tolist() == [0.5] * 6
    differences.added()["tail.bias"].sum().backward()
    assert differences.values[0].grad.tolist() == [0.25] * 6


def test_a_decoder_has_the_levels_that_were_learnt(network):
    arrays = network_tensors(network)
    levels = {"tail.bias": np.array([0, 3, -1, 0, 9, 2], np.int32), "head.bias": np.zeros(4, np.int32)}
    data = coded_levels(arrays, levels, {"tail.bias": -24, "head.bias": -20})
    after = apply_update(arrays, data).arrays
    assert np.array_equal(after["tail.bias"], arrays["tail.bias"] + np.float32(2**-6) * levels["tail.bias"])
    assert all(np.array_equal(after[name], arrays[name]) for name in arrays if name != "tail.bias")
    assert len(data) < 50


@pytest.mark.usefixtures("one_thread")
def test_an_update_makes_pictures_better_and_costs_what_it_may(network, pictures, tmp_path):
    arrays = network_tensors(network)
    task, _ = a_task(network, pictures, ["tail.bias"])
    before, sizes, losses = mean_loss(task), [], []
    for lambda_rd in (1e-6, 1e-4):
        made = tune(network, arrays, pictures, OPTIONS, lambda_rd, tmp_path / str(lambda_rd))
        adapted = copy.deepcopy(network)
        adapted.load_state_dict(
            {name: torch.from_numpy(value) for name, value in apply_update(arrays, made.data).arrays.items()}
        )
        losses.append(mean_loss(a_task(adapted, pictures, ["tail.bias"])[0]))
        sizes.append(len(made.data))
    assert losses[0] < losses[1] < before - 0.05
    assert sizes[0] > sizes[1]


@pytest.mark.usefixtures("one_thread")
def test_a_tuning_that_was_cut_off_goes_on_to_the_same_update(network, pictures, tmp_path, monkeypatch):
    arrays = network_tensors(network)
    whole = tune(network, arrays, pictures, OPTIONS, 1e-5, tmp_path / "whole")
    train = adaptation.train

    def cut_off(task, options, checkpoint, **rest):
        if checkpoint.name == "coding.pt":
            raise KeyboardInterrupt
        return train(task, options, checkpoint, **rest)

    monkeypatch.setattr(adaptation, "train", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tune(network, arrays, pictures, OPTIONS, 1e-5, tmp_path / "cut")
    monkeypatch.setattr(adaptation, "train", train)
    assert tune(network, arrays, pictures, OPTIONS, 1e-5, tmp_path / "cut").data == whole.data
    with pytest.raises(InputError, match="another run"):
        tune(network, arrays, pictures, replace(OPTIONS, free=("tail",)), 1e-5, tmp_path / "cut")
    with pytest.raises(InputError, match="another run; n_steps 20, now 40"):
        tune(network, arrays, pictures, replace(OPTIONS, n_steps=40), 1e-5, tmp_path / "cut")
    (tmp_path / "cut" / "plan.json").unlink()
    with pytest.raises(InputError, match=r"holds checkpoints, but no plan\.json"):
        tune(network, arrays, pictures, OPTIONS, 1e-5, tmp_path / "cut")


@pytest.mark.usefixtures("one_thread")
def test_a_budget_is_planned_once(network, pictures, tmp_path):
    options = AdaptOptions(budget_min=0.001, batch_size=2)
    first, again = (tune(network, network_tensors(network), pictures, options, 1e-5, tmp_path) for _ in range(2))
    assert (again.data, again.n_steps) == (first.data, first.n_steps)
    with pytest.raises(InputError, match=r"plan\.json"):
        tune(network, network_tensors(network), pictures, replace(options, budget_min=0.002), 1e-5, tmp_path)


def test_a_network_without_gains_says_so(pictures, tmp_path):
    with pytest.raises(InputError, match="no gains; it has biases, tail, all"):
        tune(InLoopFilter(4, 1), {}, pictures, AdaptOptions(free=("gains",)), 1e-5, tmp_path)


def test_slopes_are_those_of_the_neighbours():
    slopes = rate_slopes([1000, 4000, 2000], [30.0, 36.0, 32.0])
    low, high = math.log(2) / 2, math.log(2) / 4
    assert slopes == pytest.approx([low, high, (low + high) / 2])
    assert rate_slopes([1000], [30.0]) == [0.2]
    assert rate_slopes([1000, 2000], [30.0, math.inf]) == [0.2, 0.2]


def test_what_is_added_is_weighed_against_what_is_gained():
    assert net_percent(0.0, 10, 0.2, 1000) == pytest.approx(1)
    assert net_percent(1.0, 0, 0.2, 1000) == pytest.approx(100 * (math.exp(-0.2) - 1))
    assert net_percent(math.inf, 10, 0.2, 1000) == -100
    assert net_percent(-math.inf, 10, 0.2, 1000) == math.inf
    one = loss_per_bit([1000], [0.2], 0.1)
    gained_db = 10 / math.log(10) * one * 1.2
    assert net_percent(gained_db, 0, 0.2, 1000) == pytest.approx(-100 / 8000, rel=1e-3)
    assert loss_per_bit([10000], [0.2], 0.1) == pytest.approx(one / 10)


def test_bundled_networks_are_found_by_their_hash():
    path = network_path("inloop-vlop")
    name = name_by_hash(path.read_bytes())
    assert name.startswith(HASH_NAME)
    assert len(name) == 40
    assert network_by_hash(name) == path
    assert network_by_hash(name[:-1] + "_") is None
    assert network_by_hash("https://example.com/a.nnc") is None


class Shuffled(torch.nn.Module):
    """A network of the user's own: a plane of the QP, patches of one size, a last layer whose channels are phases."""

    layout = "planes=y,qp=plane,qp-scale=63,patch=24,overlap=2"

    def __init__(self, end=None):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 6, 3, stride=2)
        self.end = torch.nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.last = end or torch.nn.Identity()

    def forward(self, planes):
        added = torch.nn.functional.pixel_shuffle(self.end(torch.relu(self.first(planes))), 2)
        return self.last(planes[:, :1, 2:-2, 2:-2] + 0.1 * added[:, :, :20, :20])


@pytest.fixture
def luma(pictures):
    return [replace(each, original=each.original[:1], decoded=each.decoded[:1]) for each in pictures]


def test_the_last_layer_of_a_network_of_ones_own_is_solved(luma):
    torch.manual_seed(0)
    own = Shuffled().eval()
    tuned = TunedFilter.of(own)
    assert tuned.free_tensors(["biases", "tail"]) == ["first.bias", "end.weight"]
    task, differences = a_task(own, luma, ["end.weight"])
    parabola = task.tail_parabola(4)
    before = mean_loss(task, 64)
    assert parabola.loss == pytest.approx(before, rel=0.1)
    solved = parabola.solved()
    assert list(solved) == ["end.weight"]
    flat = solved["end.weight"].double().flatten(1)
    foretold = float(((parabola.matrix @ flat[:, :, None])[:, :, 0] * flat - 2 * parabola.wanted * flat).sum())
    differences.start_from(solved)
    assert mean_loss(task, 64) - before == pytest.approx(foretold, rel=0.15)
    assert foretold < -0.1 * before


@pytest.mark.parametrize("end", [torch.nn.Sigmoid(), torch.nn.AvgPool2d(3, 1, 1), torch.nn.Hardtanh(0.4, 0.6)])
def test_what_is_no_parabola_of_the_last_layer_is_not_solved(luma, end):
    task, _ = a_task(Shuffled(end).eval(), luma, ["end.weight"])
    assert task.tail_parabola(4) is None


@pytest.mark.usefixtures("one_thread")
def test_a_network_of_ones_own_is_tuned_without_being_solved(luma, tmp_path):
    torch.manual_seed(0)
    own = Shuffled(torch.nn.Hardtanh(0.4, 0.6)).eval()
    before = mean_loss(a_task(own, luma, ["end.weight"])[0])
    arrays = network_tensors(own)
    made = tune(own, arrays, luma, replace(OPTIONS, n_steps=30), 1e-8, tmp_path)
    after = copy.deepcopy(own)
    after.load_state_dict({n: torch.from_numpy(v) for n, v in apply_update(arrays, made.data).arrays.items()})
    assert mean_loss(a_task(after, luma, ["end.weight"])[0]) < before


@pytest.mark.usefixtures("one_thread")
def test_a_last_layer_of_zeros_is_tuned(pictures, tmp_path):
    """What comes before it does nothing at first: once its harm was taken for next to none, and the loss became NaN."""
    torch.manual_seed(0)
    flat = LadderFilter(4, 1).eval()
    arrays = network_tensors(flat)
    made = tune(flat, arrays, pictures, OPTIONS, 1e-6, tmp_path / "both")
    assert all(np.isfinite(value).all() and np.abs(value).max() < 10 for value in made.tuned.values())
    tuned = copy.deepcopy(flat)
    tuned.load_state_dict({n: torch.from_numpy(v) for n, v in apply_update(arrays, made.data).arrays.items()})
    losses = [mean_loss(a_task(each, pictures, ["tail.bias"])[0]) for each in (tuned, flat)]
    assert losses[0] < losses[1] - 0.05
    with pytest.raises(InputError, match=r"changes of head.bias change no sample.*free the last layer"):
        tune(flat, arrays, pictures, replace(OPTIONS, free=("biases", "gains")), 1e-6, tmp_path / "biases")


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("planes=yuv444", "planes yuv444 is nothing that an NNPFC message can say; must be yuv420-packed or y"),
        ("planes=y,output=residual", "output residual is nothing"),
        ("planes=y,range=code", "range code is nothing"),
        ("planes=yuv420-packed,keep=y", "keep y is nothing"),
    ],
)
def test_layouts_that_no_message_says_are_refused(layout, said):
    own = Shuffled()
    own.layout = layout
    with pytest.raises(UnsupportedError, match=said):
        TunedFilter.of(own)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_modules_that_fail_or_look_at_whole_pictures_are_refused():
    own = Shuffled()
    own.layout = "planes=y"
    with pytest.raises(InputError, match=r"layout planes=y of Shuffled: gives the network \(1, 1, 64, 64\)"):
        TunedFilter.of(own)
    whole = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.InstanceNorm2d(1))
    whole.layout = "planes=y"
    with pytest.raises(InputError, match="output depends on the whole picture"):
        TunedFilter.of(whole)
    scripted = torch.jit.script(torch.nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(UnsupportedError, match="is scripted"):
        TunedFilter.of(scripted, parse_layout("planes=y"))


def test_what_decides_is_luma_or_yuv():
    """By YUV a gain of chroma alone is worth bytes, and the loss is YUV's: a per cent of it is a per cent of each."""
    assert AdaptOptions().learnt_chroma_weight == 0.02
    assert AdaptOptions(measure="yuv").learnt_chroma_weight == pytest.approx(1 / 6)
    assert AdaptOptions(measure="yuv", chroma_weight=0.5).learnt_chroma_weight == 0.5
    with pytest.raises(InputError, match="measure: 'chroma'; must be luma or yuv"):
        AdaptOptions(measure="chroma")
    assert loss_per_bit([1000], [0.2], 1 / 6, "yuv") == pytest.approx(1 / (8 * 1000 * 0.2 * DB_PER_LOSS))
    assert loss_per_bit([1000], [0.2], 0.0, "luma") == pytest.approx(1 / (8 * 1000 * 0.2 * DB_PER_LOSS))
    before, after = (MeasuredPictures((40.0, 40.0 + by, 40.0 + by), b"") for by in (0.0, 0.8))
    data = {"nothing": bytes(1000), "base": bytes(1010), "update": bytes(1020)}
    stream = SimpleNamespace(data=bytes(1000), output_order=[0])
    made = (stream, (before, before, after), data, 0.2, 1)
    sent = [with_best(*made, each, MadeUpdate(TunedUpdate(b"", 0, 0), 0.0, (0,))).sent for each in ("luma", "yuv")]
    assert sent == ["nothing", "update"]


def test_borders_of_a_picture_are_learnt_as_often_as_its_middle(network):
    base = TunedFilter.of(network)
    rng, seen = np.random.default_rng(0), np.zeros(200)
    for _ in range(20_000):
        begin, counted = _drawn_crop(rng, CROP, 200, base)
        seen[begin : begin + CROP] += counted
        assert counted[0] == (begin == 0)
        assert counted[-1] == (begin == 200 - CROP)
    assert seen.min() > 0.6 * np.median(seen)
    begin, counted = _drawn_crop(rng, CROP, CROP, base)
    assert begin == 0
    assert counted.all()


def test_what_is_sent_again_and_again_is_not_for_so_many_pictures(tmp_path):
    with pytest.raises(InputError, match="with messages at each picture: more pictures bring more of them"):
        adapt_streams([], None, None, AdaptOptions(n_pictures=600), tmp_path, RunAs(at="picture"))
