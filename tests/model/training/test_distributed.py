"""Several real processes that train together, and what becomes of the others when one of them is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model.cli import main
from model.inference import weights
from model.network.weights import load_network
from model.presets import PRESETS, Config
from model.rank import GroupLost, cores
from model.training import distributed
from model.training.distributed import process_group
from model.training.train import train
from tests.support import followers
from tests.support.servers import free_port


@pytest.fixture(autouse=True, scope="module")
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "plain", followers.PLAIN)
        patch.setitem(PRESETS, "whole", followers.WHOLE)
        yield


def ours():
    """The part of the environment by which processes find each other."""
    names = "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GLOO_SOCKET_IFNAME", distributed.RENDEZVOUS
    return {name: os.environ.get(name) for name in names}


@pytest.fixture(scope="module")
def found(presets):
    """What two processes do together, as the first of them sees it."""
    before = ours(), torch.get_num_threads()
    with pytest.raises(GroupLost) as caught, process_group(2, followers.command("everything", "different")) as group:
        found = followers.everything(group)
        followers.different(group)
    assert (ours(), torch.get_num_threads()) == before
    assert not torch.distributed.is_initialized()
    return *found, str(caught.value)


@pytest.fixture(scope="module")
def trained(found):
    return found[2]


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.subset(followers.DIGITS)


def state(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def losses(result):
    return [epoch.train_loss for epoch in result.history[1:]]


def test_processes_average_by_weight(found):
    averages, *_ = found
    assert averages == [[0.25] * 6, [2.0]]


def test_processes_know_whether_they_are_alike(found):
    _, alike, *_ = found
    assert alike == [True, False, bytes(9)]


def test_processes_training_take_the_steps_of_one(trained, few):
    """Without chance in what is learnt from, and without batch normalisation, up to the last bits."""
    together = trained["plain"]
    alone = train(Config("plain", 2, 5), few)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    assert (state(together.network) - state(alone.network)).abs().max() < 1e-3
    assert together.validation_accuracy == pytest.approx(alone.validation_accuracy, abs=0.02)


def test_processes_training_with_drawings_learn_like_one(trained, few):
    together, _ = trained["whole"]
    alone = train(Config("whole", 2, 5), few)
    assert losses(together) == pytest.approx(losses(alone), rel=0.1)
    assert not torch.equal(state(together.network), state(alone.network))


def test_processes_resumed_from_a_checkpoint_give_the_same_bits(trained):
    whole, resumed = trained["whole"]
    assert torch.equal(state(whole.network), state(resumed.network))
    assert losses(whole) == losses(resumed)


def test_processes_stopped_by_any_stop_at_the_same_step(found):
    *_, stopped, _, _ = found
    assert stopped == [(True, 2, 16)] * 2  # after eleven steps an epoch; the others hear of it one step later


def test_processes_share_the_cores(found):
    *_, threads, _ = found
    assert threads == max(1, cores() // 2)


def test_processes_with_different_trainings_do_not_begin(found):
    assert "not given the same" in found[-1]


def test_training_for_several_is_refused_by_one(few):
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


@pytest.mark.stress
@pytest.mark.parametrize(
    "sign, words",
    [(signal.SIGKILL, "process 2 of 2 was killed by signal 9"), (signal.SIGSTOP, "not answered for 60 seconds")],
)
def test_process_lost_is_named(presets, started, sign, words):
    with pytest.raises(GroupLost, match=words), process_group(2, followers.command("for_ever")) as group:

        def strike(progress):
            if progress.epoch == 2:
                os.kill(started[0].pid, sign)

        followers.for_ever(group, strike)
    assert started[0].poll() is not None


ALONE = """
import sys
from datetime import timedelta
from model.training import distributed
distributed.SILENCE = timedelta(seconds=2)
with distributed.process_group(2, [sys.executable, "-c", "raise SystemExit(3)"]):
    pass
"""


@pytest.mark.stress
def test_process_that_does_not_come_is_given_up():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "GroupLost: process 2 of 2 ended with code 3" in done.stderr


# The command line


EPOCHS = 2  # of those that several machines train


def seed(epochs):
    """What is trained by `train`, on its command line."""
    return ["--preset", "basic", "--epochs", str(epochs), "--seed", "3"]


def network(path):
    found, card = load_network(path)
    return state(found), card


@pytest.mark.stress
def test_replay_by_two_processes_gives_the_same_bytes(tmp_path, capsys):
    out = tmp_path / "two.safetensors"
    assert main(["train", *seed(1), "--processes", "2", "--out", str(out)]) == 0
    card = network(out)[1]
    assert card.processes == 2 and card.command.endswith("--seed 3 --processes 2")
    assert main(["replay", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("epoch 1 of 1") == 1
    assert f"the same bytes, SHA-256 {weights.digest(out.read_bytes())}" in printed


def test_train_with_other_processes_than_started_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["train", *seed(1), "--processes", "2", "--out", str(tmp_path / "w")]) == 2
    assert "--processes 2 does not go with the 3 that were started" in capsys.readouterr().err


class Torchrun:
    """torchrun as on several machines, which are this one; each has a process group of its own."""

    def __init__(self, folder):
        self.folder, self.started = folder, []

    def start(self, *options, epochs=EPOCHS):
        """Starts an agent; what it trains is written to `w.safetensors`."""
        command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "model", "train"]
        command += [*seed(epochs), "--out", str(self.folder / "w.safetensors")]
        command += ["--checkpoint", str(self.folder / "checkpoint")]
        environ = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        self.started.append(subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True))
        return self.started[-1]

    def machines(self, processes):
        """Two machines with so many processes each."""
        port = free_port()
        options = ["--nnodes", "2", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
        return [self.start(*options, "--master-port", str(port), "--node-rank", rank) for rank in "01"]

    def wait_for_checkpoint(self):
        deadline = time.monotonic() + 90
        while not (self.folder / "checkpoint").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self):
        for agent in self.started:
            agent.terminate()
        for agent in self.started:
            agent.communicate(timeout=60)


def workers(agent):
    """The process ids of those that an agent has started."""
    threads = Path(f"/proc/{agent.pid}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


@pytest.fixture
def torchrun(tmp_path):
    torchrun = Torchrun(tmp_path)
    yield torchrun
    torchrun.close()


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [1, 2])
def test_machines_training_learn_like_one(torchrun, tmp_path, processes):
    for agent in torchrun.machines(processes):
        agent.communicate(timeout=200)
        assert agent.returncode == 0
    _, card = network(tmp_path / "w.safetensors")
    assert card.processes == 2 * processes and not (tmp_path / "checkpoint").exists()
    assert main(["train", *seed(EPOCHS), "--out", str(tmp_path / "alone.safetensors")]) == 0
    _, other = network(tmp_path / "alone.safetensors")
    assert card.validation_accuracy == pytest.approx(other.validation_accuracy, abs=0.005)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_machine_losing_a_process_fails_with_the_other(torchrun):
    agents = torchrun.machines(1)
    torchrun.wait_for_checkpoint()
    begun = time.monotonic()
    os.kill(workers(agents[1])[0], signal.SIGKILL)
    said = [agent.communicate(timeout=90)[1] for agent in agents]
    assert time.monotonic() - begun < 90
    assert all(agent.returncode for agent in agents)
    assert "inkling: another process has died, or has not answered for 60 seconds" in said[0]


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_torchrun_restart_goes_on_from_the_checkpoint(torchrun, tmp_path):
    unbroken = tmp_path / "unbroken.safetensors"
    assert main(["train", *seed(6), "--processes", "2", "--out", str(unbroken)]) == 0
    agent = torchrun.start("--standalone", "--nproc-per-node", "2", "--max-restarts", "1", epochs=6)
    torchrun.wait_for_checkpoint()
    os.kill(workers(agent)[1], signal.SIGKILL)
    agent.communicate(timeout=200)
    assert agent.returncode == 0
    assert torch.equal(network(tmp_path / "w.safetensors")[0], network(unbroken)[0])
