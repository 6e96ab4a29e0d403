"""Training: real ones of a few seconds, and what happens when they are stopped, repeated or go wrong."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model import provenance
from model.data import synthetic
from model.data.corrections import Corrections
from model.data.loader import TrainingData
from model.data.strokes import Drawing, Look, draw
from model.evaluation import metrics
from model.imaging.normalise import digit_image
from model.inference.classifier import SHIPPED
from model.network.mlp import MLP, build_network
from model.network.predict import predict
from model.network.weights import deserialize, load_network, serialize
from model.presets import PRESETS, Config
from model.training import train as training
from model.training.calibrate import calibrate
from model.training.train import TrainingError, train


@pytest.fixture(autouse=True)
def tiny_presets(monkeypatch):
    """Presets with all that the real ones have, and small enough for many trainings."""
    small = replace(PRESETS["standard"], name="tiny", hidden=(24,), batch_size=50, drawn=False)
    drawing = replace(small, name="tiny drawn", drawn=True)
    plain = replace(PRESETS["basic"], name="tiny basic", hidden=(16, 12), batch_size=50)
    for preset in (small, drawing, plain):
        monkeypatch.setitem(PRESETS, preset.name, preset)


@pytest.fixture
def tiny(tiny_presets):
    return Config("tiny", 3, 1)


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.subset(500)


def accuracy(network, split):
    with torch.inference_mode():
        digits = network(split.images.flatten(1) / 255)[:, :10]
        return float((digits.argmax(1) == split.labels).float().mean())


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def as_measured(monkeypatch):
    """Makes the validation give these accuracies, one an epoch beginning with epoch 0."""

    def set_accuracies(*accuracies):
        figures = iter(accuracies)
        monkeypatch.setattr(training, "_validate", lambda network, split: (1.0, next(figures)))

    return set_accuracies


def test_training_of_seconds_reads_most_digits(small_mnist):
    result = train(Config("standard", 3), small_mnist)
    assert type(result.network) is MLP and not result.network.training
    assert result.validation_accuracy > 0.6
    assert accuracy(result.network, small_mnist.test) > 0.6
    assert not result.stopped


def test_training_history_has_the_start_and_every_epoch(tiny, few):
    result = train(tiny, few)
    assert [epoch.epoch for epoch in result.history] == [0, 1, 2, 3]
    start, *epochs = result.history
    assert start.train_loss is None and start.validation_accuracy < 0.4
    assert all(epoch.train_loss > 0 and epoch.validation_loss > 0 for epoch in epochs)
    assert epochs[-1].train_loss < epochs[0].train_loss
    seconds = [epoch.seconds for epoch in result.history]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert result.history[-1].as_dict()["validation_accuracy"] == result.history[-1].validation_accuracy
    assert "test_accuracy" not in result.history[-1].as_dict()


@pytest.mark.parametrize("preset", ["tiny basic", "tiny drawn"])
def test_training_of_the_same_seed_gives_the_same_bits(few, preset):
    first, again, other = (train(Config(preset, 1, seed), few).network for seed in (3, 3, 4))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def loop_over(split, **changes):
    """A loop of ten steps an epoch in which no chance but that of the order takes part."""
    material = TrainingData(split, 1, deformed=False, drawings=False, refused=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        preset = replace(PRESETS["tiny"], **changes)
        return training.TrainingLoop(preset, build_network(preset), material, 3)


def test_average_within_its_memory_is_the_mean_of_every_fourth_step(few):
    loop, seen = loop_over(few.train), []
    step = loop.step

    def noted(batch):
        loss = step(batch)
        seen.append(copy.deepcopy(loop.network.state_dict()))
        return loss

    loop.step = noted
    for epoch in (1, 2):
        loop.epoch(epoch, lambda: False, lambda epochs, loss: None)
    for name, value in loop.averaged.named_parameters():
        assert torch.allclose(value, torch.stack([each[name] for each in seen[3::4]]).mean(0), atol=1e-6), name


def test_training_in_half_precision_learns_as_well(few):
    """By hand where the processor would not choose them."""
    half, full = (loop_over(few.train, mixed_precision=mixed) for mixed in (True, False))
    half.autocast = torch.autocast("cpu", torch.bfloat16)
    losses = [loop.epoch(1, lambda: False, lambda epochs, loss: None) for loop in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    assert {value.dtype for value in half.network.parameters()} == {torch.float32}


def test_training_and_chance_elsewhere_leave_each_other_alone(few):
    before = [few.train.images.clone(), few.validation.images.clone(), few.train.labels.clone()]
    first = train(Config("tiny", 1), few).network
    torch.manual_seed(11)
    state = torch.get_rng_state()
    assert same_weights(first, train(Config("tiny", 1), few).network)
    assert torch.equal(torch.get_rng_state(), state)
    after = [few.train.images, few.validation.images, few.train.labels]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# Progress


def test_progress_rises_from_0_to_1(tiny, few, monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)
    heard = []
    result = train(tiny, few, heard.append)
    fractions = [progress.fraction for progress in heard]
    assert fractions[0] == 0 and fractions[-1] == 1
    assert fractions == sorted(fractions)
    assert len(heard) == 1 + 3 * (10 + 1)  # the start, every one of ten steps an epoch, every epoch
    assert {progress.epochs for progress in heard} == {3}
    assert [progress.epoch for progress in heard] == [0] + [1] * 11 + [2] * 11 + [3] * 11
    assert heard[0].seconds_left is None and heard[-1].seconds_left == 0
    assert heard[0].train_loss is None and {type(progress.train_loss) for progress in heard[1:]} == {float}
    assert all(progress.seconds_left >= 0 for progress in heard[1:])
    assert heard[-1].history == result.history
    assert [len(progress.history) for progress in heard][::11] == [1, 2, 3, 4]


def test_training_hands_out_each_epochs_network(tiny, few):
    heard = []
    result = train(tiny, few, on_epoch=lambda epoch, network: heard.append((epoch, network)))
    assert tuple(epoch for epoch, _ in heard) == result.history
    for epoch, network in heard:
        assert accuracy(network, few.validation) == pytest.approx(epoch.validation_accuracy, abs=1e-6)
    assert same_weights(heard[result.best_epoch][1], result.network)


# Stopping


@pytest.mark.parametrize("steps", [0, 9, 10, 25])
def test_stop_is_obeyed_before_the_next_step(tiny, few, monkeypatch, steps):
    taken = []
    step = training.TrainingLoop.step
    monkeypatch.setattr(training.TrainingLoop, "step", lambda loop, *batch: taken.append(1) or step(loop, *batch))
    result = train(tiny, few, should_stop=lambda: len(taken) >= steps)
    assert result.stopped
    assert len(taken) == steps
    assert len(result.history) == 1 + steps // 10  # only whole epochs are measured
    assert result.best_epoch < len(result.history)
    assert accuracy(result.network, few.validation) == pytest.approx(result.validation_accuracy, abs=1e-6)


def test_stop_after_the_last_step_comes_too_late(tiny, few):
    asked = []
    result = train(tiny, few, should_stop=lambda: asked.append(1) or len(asked) > 30)
    assert len(asked) == 30 and not result.stopped


def test_training_raises_what_a_listener_raises(tiny, few):
    def listener(progress):
        raise KeyError("the listener's own")

    with pytest.raises(KeyError, match="the listener's own"):
        train(tiny, few, listener)


# Drawings, and going on from what is there


def test_training_with_drawings_learns_to_refuse(few):
    network = train(Config("tiny drawn", 5), few).network
    with torch.inference_mode():
        digits = network(few.validation.images.flatten(1) / 255).softmax(1)[:, 10:].sum(1)
        images, _ = synthetic.others(100, 8)
        others = network(torch.from_numpy(images).flatten(1) / 255).softmax(1)[:, 10:].sum(1)
    assert others.mean() > digits.mean() + 0.2


@pytest.mark.parametrize("hidden, outputs", [((30,), 10), ((30, 20), 14)])
def test_fine_tuning_goes_on_from_a_network(few, card, hidden, outputs, monkeypatch):
    """From weights as they are loaded: it learns more, and what it began with is left alone."""
    faster = replace(PRESETS["fine-tune"], learning_rate=0.001, batch_size=50)  # the weights here know nothing yet
    monkeypatch.setitem(PRESETS, "fine-tune", faster)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        begun = MLP(hidden, outputs)
    card = replace(card, hidden=hidden, outputs=outputs)
    start, _ = deserialize(serialize(begun, card))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    result = train(Config("fine-tune", 2), few, start=start)
    assert (result.network.hidden, result.network.outputs) == (hidden, outputs)
    assert result.history[0].validation_accuracy == pytest.approx(accuracy(start, few.validation), abs=1e-6)
    assert result.validation_accuracy > result.history[0].validation_accuracy
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())
    serialize(result.network, card)


@pytest.mark.parametrize("preset, start", [("fine-tune", None), ("basic", MLP((8,)))])
def test_training_anew_from_a_network_is_refused(few, preset, start):
    with pytest.raises(ValueError, match="goes on from a network"):
        train(Config(preset, 1), few, start=start)


# The best epoch


@pytest.mark.parametrize(
    "accuracies, best",
    [((0.1, 0.5, 0.6, 0.7), 3), ((0.1, 0.6, 0.7, 0.6), 2), ((0.8, 0.7, 0.7, 0.6), 0)],
)
def test_training_keeps_the_best_epoch(tiny, few, as_measured, accuracies, best):
    as_measured(*accuracies)
    networks = []
    result = train(tiny, few, on_epoch=lambda epoch, network: networks.append(network))
    assert (result.best_epoch, result.validation_accuracy) == (best, max(accuracies))
    assert same_weights(result.network, networks[best])
    assert sum(same_weights(result.network, network) for network in networks) == 1


# Going wrong


@pytest.mark.parametrize("preset", ["tiny", "tiny basic"])
def test_loss_that_is_no_number_is_an_error(few, monkeypatch, preset):
    monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], learning_rate=1e30, batch_norm=False))
    heard = []
    with pytest.raises(TrainingError, match="loss .* epoch 1") as caught:
        train(Config(preset, 3), few, heard.append)
    assert caught.value.found == {"code": "diverged", "epoch": 1}
    assert all(progress.fraction < 1 for progress in heard)


def test_weights_that_stop_being_numbers_are_an_error(few, monkeypatch):
    """Whatever the loss says: a ReLU may hide them from it."""
    step = training.TrainingLoop.step

    def poisoned(loop, batch):
        loss = step(loop, batch)
        loop.network.layers[0].weight.data[0, 0] = torch.nan
        return torch.ones_like(loss)

    monkeypatch.setattr(training.TrainingLoop, "step", poisoned)
    with pytest.raises(TrainingError, match="loss .* epoch 1"):
        train(Config("tiny", 3), few)


@pytest.mark.parametrize(
    "values, complaint",
    [
        ({"preset": "none"}, "no preset 'none'; the presets are"),
        ({"preset": ""}, "no preset"),
        ({"epochs": -1}, "epochs must be from 1 to 1000"),
        ({"epochs": 1001}, "epochs must be from 1 to 1000"),
        ({"seed": -1}, "the seed must be from 0"),
        ({"seed": 2**32}, "the seed must be from 0"),
        ({"batch_size": 0}, "the batch size must be from 1 to 4096, not 0"),
        ({"batch_size": 4097}, "the batch size must be from 1 to 4096"),
        ({"batch_size": 2}, "the batch size must be at least 3 for the preset standard, not 2"),
        ({"batch_size": 16, "processes": 8}, "the batch size must be at least 17 for 8 processes, not 16"),
        ({"preset": "original", "processes": 15}, "the batch size must be at least 16 for 15 processes, not 15"),
        ({"learning_rate": 0.0}, "the learning rate must be from 1e-08 to 1, not 0"),
        ({"learning_rate": 1.5}, "the learning rate must be from 1e-08 to 1, not 1.5"),
        ({"learning_rate": float("nan")}, "the learning rate must be from 1e-08 to 1, not nan"),
        ({"schedule": "cosine"}, "the schedule must be one-cycle or constant, not 'cosine'"),
    ],
)
def test_config_refuses(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        Config(**values)


def test_config_settings_are_the_presets_unless_named():
    assert Config("basic").effective_preset() == PRESETS["basic"]
    own = Config("basic", batch_size=1, learning_rate=1.0, schedule="constant").effective_preset()
    assert (own.batch_size, own.learning_rate, own.schedule) == (1, 1.0, "constant")
    fine_tune = PRESETS["fine-tune"]
    rates = [Config("fine-tune").effective_preset(correcting).learning_rate for correcting in (False, True)]
    assert rates == [fine_tune.learning_rate, fine_tune.correcting_rate]
    assert Config("fine-tune", learning_rate=0.5).effective_preset(correcting=True).learning_rate == 0.5


def test_training_by_the_original_takes_the_steps_of_the_script(few):
    """The script's own loop, with its log-softmax, its loss and its Adam: the same up to rounding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = MLP((64, 64, 64))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    data = TrainingData(few.all_training, 2, deformed=False, drawings=False, refused=False)
    assert len(data) == 700
    for epoch in (1, 2):
        for batch in data.epoch(epoch, 15):
            optimizer.zero_grad()
            F.nll_loss(F.log_softmax(network(batch.inputs), 1), batch.labels).backward()
            optimizer.step()
    made = train(Config("original", seed=2), few).network
    for mine, scripts in zip(made.parameters(), network.parameters(), strict=True):
        assert torch.allclose(mine, scripts, atol=1e-4)


def test_training_on_all_digits_keeps_the_last_epoch_and_measures_the_test_set(few, as_measured):
    validation, test = (0.1, 0.9, 0.4), (0.1, 0.8, 0.7)
    as_measured(*(share for pair in zip(validation, test, strict=True) for share in pair))
    result = train(Config("original"), few)
    assert result.best_epoch == 2 and result.validation_accuracy == 0.4
    assert tuple(epoch.test_accuracy for epoch in result.history) == test
    assert result.history[2].as_dict()["test_accuracy"] == 0.7


def test_config_takes_the_presets_epochs_where_none_are_named():
    assert Config("basic").epochs == PRESETS["basic"].epochs
    assert Config("standard", seed=2**32 - 1).epochs == PRESETS["standard"].epochs
    assert Config("basic", 1000).epochs == 1000


def test_config_of_a_presets_former_name_has_its_present_one():
    assert Config("seed", 2) == Config("basic", 2)


def going_on(config, data, **more):
    """A whole training's result, and its checkpoints."""
    kept = []
    return train(config, data, on_checkpoint=kept.append, **more), kept


def figures(result):
    return [replace(epoch, seconds=0) for epoch in result.history]


@pytest.mark.parametrize("preset", ["tiny", "tiny basic"])
def test_training_resumed_from_any_checkpoint_gives_the_same_bits(few, preset):
    whole, kept = going_on(Config(preset, 3, 2), few)
    assert len(kept) == 2
    for checkpoint in kept:
        resumed = train(Config(preset, 3, 2), few, checkpoint=checkpoint)
        assert figures(resumed) == figures(whole)
        assert resumed.best_epoch == whole.best_epoch
        assert same_weights(resumed.network, whole.network)


def test_fine_tuning_resumed_from_a_checkpoint_gives_the_same_bits(few):
    """From a network that refuses, with drawings and corrections, which the others are without."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        start = MLP((24,), 14)
    config, more = Config("fine-tune", 2, 2), {"start": start, "corrections": mirrored(20)}
    whole, kept = going_on(config, few, **more)
    resumed = train(config, few, checkpoint=kept[0], **more)
    assert figures(resumed) == figures(whole) and same_weights(resumed.network, whole.network)
    assert not same_weights(whole.network, start)


def test_training_resumed_does_only_what_is_left(few):
    _, kept = going_on(Config("tiny", 3, 2), few)
    ended = []
    train(Config("tiny", 3, 2), few, on_epoch=lambda epoch, network: ended.append(epoch.epoch), checkpoint=kept[1])
    assert ended == [3]


def test_training_resumed_remembers_the_best_epoch(few, as_measured):
    as_measured(0.1, 0.9, 0.5, 0.5, 0.5, 0.5)
    _, kept = going_on(Config("tiny", 3, 2), few)
    as_measured(0.5)
    resumed = train(Config("tiny", 3, 2), few, checkpoint=kept[1])
    assert (resumed.best_epoch, resumed.validation_accuracy) == (1, 0.9)


@pytest.mark.parametrize("change", [{"seed": 3}, {"epochs": 3}, {"preset": "tiny basic"}])
def test_checkpoint_of_another_training_is_left_aside(few, change):
    _, kept = going_on(Config("tiny", 2, 2), few)
    ended = []
    other = replace(Config("tiny", 2, 2), **change)
    train(other, few, on_epoch=lambda epoch, _: ended.append(epoch.epoch), checkpoint=kept[0])
    assert ended == list(range(other.epochs + 1))


@pytest.mark.parametrize("name, other", [("version", lambda name: "another"), ("digest", lambda: "another")])
def test_checkpoint_of_other_library_or_code_begins_anew(few, monkeypatch, name, other):
    """The card would name those of now, under which a replay gives other bits."""
    _, kept = going_on(Config("tiny basic", 2, 2), few)
    monkeypatch.setattr(provenance, name, other)
    ended = []
    train(Config("tiny basic", 2, 2), few, on_epoch=lambda one, _: ended.append(one.epoch), checkpoint=kept[0])
    assert ended == [0, 1, 2]


def test_checkpoint_from_before_a_deleted_correction_is_left_aside(few):
    _, kept = going_on(Config("tiny", 2, 2), few, corrections=mirrored(20))
    ended = []
    train(
        Config("tiny", 2, 2), few, corrections=mirrored(19), checkpoint=kept[0],
        on_epoch=lambda epoch, _: ended.append(epoch.epoch),
    )  # fmt: skip
    assert ended == [0, 1, 2]


def mirrored(count, held_out=()):
    """Fours as small children write them, the wrong way round."""
    strokes = [[(25, 95), (25, 5), (90, 65), (5, 65)]]
    images = []
    for number in range(count):
        random = np.random.default_rng(number)
        lines = tuple(np.array(stroke) + random.normal(0, 3, (len(stroke), 2)) for stroke in strokes)
        look = Look(size=random.uniform(0.4, 0.8), pen=random.uniform(12, 28), angle=random.uniform(-8, 8))
        images.append(digit_image(draw(Drawing(4, lines), look)))
    kept = np.isin(np.arange(count), held_out)
    return Corrections(np.stack(images), np.full(count, 4), kept, np.arange(count))


def test_training_with_corrections_keeps_the_last_epoch(few, as_measured):
    as_measured(0.9, 0.8, 0.7, 0.6)
    result = train(Config("tiny", 3, 2), few, corrections=mirrored(3))
    assert (result.best_epoch, result.validation_accuracy) == (3, 0.6)


def test_corrections_held_out_are_not_learnt_from(few):
    learnt = train(Config("tiny", 1, 2), few, corrections=mirrored(20, held_out=range(10, 20)))
    fewer = train(Config("tiny", 1, 2), few, corrections=mirrored(10))
    assert same_weights(learnt.network, fewer.network)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_corrections_of_a_style_teach_it_and_forget_no_digit(mnist):
    """The shipped network refuses mirrored fours, or takes them for others; MNIST has none."""
    start, card = load_network(SHIPPED)
    style, some = mirrored(150, held_out=range(50, 150)), mnist.subset(8_000)
    result = train(Config("fine-tune"), some, start=start, corrections=style)
    network, calibration = calibrate(result.network, some.validation)
    unseen = style.to_compare
    assert read_right(network, calibration, unseen) - read_right(start, card.calibration, unseen) > 0.2
    assert accuracy(network, mnist.test) >= accuracy(start, mnist.test) - 0.001


def read_right(network, calibration, corrections):
    """The share that is taken for a digit, and for the right one."""
    probabilities, outliers = predict(network, corrections.images)
    taken = metrics.not_a_digit(outliers) <= calibration.refuse_above
    return float((taken & (probabilities.argmax(1) == corrections.labels)).mean())
