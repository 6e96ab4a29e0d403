"""Several real processes that train together, and what becomes of the others when one of them is lost."""

import os
import signal
import sys
import time
from datetime import timedelta

import pytest
import torch

from model import distributed
from model.distributed import together
from model.presets import PRESETS, Config
from model.processes import GroupLost, cores
from model.train import train
from tests.model import along


@pytest.fixture(autouse=True, scope="module")
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "plain", along.PLAIN)
        patch.setitem(PRESETS, "whole", along.WHOLE)
        yield


def ours():
    """The part of the environment by which processes find each other."""
    names = "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GLOO_SOCKET_IFNAME", distributed.RENDEZVOUS
    return {name: os.environ.get(name) for name in names}


@pytest.fixture(scope="module")
def found(presets):
    """What two processes do together, as the first of them sees it."""
    before = ours(), torch.get_num_threads()
    with together(2, along.command("everything")) as group:
        found = along.everything(group)
    assert (ours(), torch.get_num_threads()) == before
    assert not torch.distributed.is_initialized()
    return found


@pytest.fixture(scope="module")
def trained(found):
    return found[2]


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.subset(along.DIGITS)


def state(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def losses(result):
    return [epoch.train_loss for epoch in result.history[1:]]


def test_averages_are_weighted_whichever_way_they_take(found):
    averages, *_ = found
    assert averages == [[[0.25] * 6, [2.0]]] * 4


def test_processes_know_whether_they_are_alike(found):
    _, alike, *_ = found
    assert alike == [True, False, bytes(9)]


def test_two_processes_take_the_steps_of_one(trained, few):
    """Without chance in what is learnt from, and without batch normalisation, up to the last bits."""
    together, _ = trained["plain"]
    alone = train(Config("plain", 3, 5), few)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    assert (state(together.network) - state(alone.network)).abs().max() < 1e-3
    assert together.validation_accuracy == pytest.approx(alone.validation_accuracy, abs=0.02)


def test_a_training_with_all_there_is_learns_like_that_of_one(trained, few):
    together, _ = trained["whole"]
    alone = train(Config("whole", 3, 5), few)
    assert losses(together) == pytest.approx(losses(alone), rel=0.1)
    assert not torch.equal(state(together.network), state(alone.network))


@pytest.mark.parametrize("preset", ["plain", "whole"])
def test_they_go_on_from_the_checkpoint_of_the_first_to_the_same_bits(trained, preset):
    whole, resumed = trained[preset]
    assert torch.equal(state(whole.network), state(resumed.network))
    assert losses(whole) == losses(resumed)


def test_all_stop_at_the_same_step_whoever_wishes_it(found):
    *_, stopped, _ = found
    assert stopped == [(True, 2, 16)] * 2  # after eleven steps an epoch; the others hear of it one step later


def test_they_share_the_cores_out(found):
    *_, threads = found
    assert threads == max(1, cores() // 2)


def test_processes_with_different_trainings_do_not_begin(presets):
    with pytest.raises(GroupLost, match="not given the same"), together(2, along.command("different")) as group:
        along.different(group)


def test_a_training_for_several_is_not_done_by_one(few):
    with pytest.raises(ValueError, match="2 processes are to train, and 1 are there"):
        train(Config("plain", 1, processes=2), few)


@pytest.fixture
def started(monkeypatch):
    """The processes that are started beside the test's."""
    processes, start = [], distributed.subprocess.Popen

    def remember(*arguments, **options):
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(distributed.subprocess, "Popen", remember)
    return processes


@pytest.mark.parametrize(
    "sign, words",
    [
        (signal.SIGKILL, "process 2 of 2 was killed by signal 9"),
        pytest.param(signal.SIGSTOP, "not answered for 60 seconds", marks=pytest.mark.stress),
    ],
)
def test_whoever_loses_another_process_says_so(presets, started, sign, words):
    with pytest.raises(GroupLost, match=words), together(2, along.command("for_ever")) as group:

        def strike(progress):
            if progress.epoch == 2:
                os.kill(started[0].pid, sign)

        along.for_ever(group, strike)
    assert started[0].poll() is not None


def test_a_process_that_does_not_come_is_not_waited_for_for_ever(started, monkeypatch):
    monkeypatch.setattr(distributed, "SILENCE", timedelta(seconds=2))
    begun = time.monotonic()
    with (
        pytest.raises(GroupLost, match="process 2 of 2 ended with code 3"),
        together(2, [sys.executable, "-c", "raise SystemExit(3)"]),
    ):
        pass
    assert time.monotonic() - begun < 60
