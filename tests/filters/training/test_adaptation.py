"""Filters tuned to one sequence: what is free, what tuning and coding do, and what a gain is worth."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vvc_nnr.coding.update import apply_update
from vvc_nnr.errors import InputError
from vvc_nnr.filters.bundled import HASH_NAME, name_by_hash, network_by_hash, network_path
from vvc_nnr.filters.networks.in_loop import InLoopFilter, LadderFilter
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.filters.training import adaptation
from vvc_nnr.filters.training.adaptation import (
    TAIL,
    AdaptationTask,
    AdaptOptions,
    Differences,
    LearningPicture,
    coded_levels,
    free_tensors,
    plane_weights,
    tune,
)
from vvc_nnr.filters.training.adapted_stream import loss_per_bit, net_percent, rate_slopes
from vvc_nnr.filters.zoo import network_tensors

OPTIONS = AdaptOptions(n_steps=20, batch_size=4)


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
    return AdaptationTask(network, pictures, differences, seed=0, chroma_weight=0.1, lambda_rd=lambda_rd), differences


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
    assert set(free_tensors(network, free)) == expected


def test_all_is_free_and_nothing_is_refused(network):
    assert free_tensors(network, ["all"]) == [name for name, _ in network.named_parameters()]
    with pytest.raises(InputError, match="must be some of"):
        free_tensors(network, ["head"])
    with pytest.raises(InputError, match="nothing is"):
        AdaptOptions(free=())


@pytest.mark.parametrize(
    "wrong",
    [{"budget_min": 0.0}, {"n_steps": 1}, {"batch_size": 0}, {"chroma_weight": 2.0}, {"n_pictures": 0}],
)
def test_options_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AdaptOptions(**wrong)


def test_a_filter_that_changes_nothing_has_loss_one(pictures):
    """By the weights of planes, where crops cover all of a picture."""
    for picture in pictures:
        errors = ((picture.decoded / 1023.0 - picture.original / 1023.0) ** 2).mean(axis=(1, 2))
        assert float((plane_weights(picture, 0.1).double() * torch.from_numpy(errors)).sum()) == pytest.approx(1)


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


@pytest.mark.usefixtures("one_thread")
def test_a_budget_is_planned_once(network, pictures, tmp_path):
    options = AdaptOptions(budget_min=0.001, batch_size=2)
    first, again = (tune(network, network_tensors(network), pictures, options, 1e-5, tmp_path) for _ in range(2))
    assert (again.data, again.n_steps) == (first.data, first.n_steps)
    with pytest.raises(InputError, match=r"plan\.json"):
        tune(network, network_tensors(network), pictures, replace(options, budget_min=0.002), 1e-5, tmp_path)


def test_a_network_without_gains_says_so(pictures, tmp_path):
    with pytest.raises(InputError, match="none of gains"):
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
