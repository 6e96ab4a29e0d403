"""Several processes that train one network together, on one machine or on many.

Each of them is the whole program, run once more. Who is who stands in the environment variables that torchrun sets
(RANK, WORLD_SIZE, MASTER_ADDR and so on). Where there are none, the first process starts the others on its own machine,
with the same variables; these find each other by a file and talk through the loopback alone, while torchrun opens ports
to whoever reaches the machine, and trusts what comes in.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from model.rank import LOST, GroupLost, cores, size

SILENCE = timedelta(seconds=60)
"""How long a process may keep the others waiting: longer than a validation, or a busy database, ever takes."""
END_SECONDS = 10.0
"""How long a process may take to end after the first one has."""
RENDEZVOUS = "INKLING_RENDEZVOUS"  # where those meet that one of them has started; torchrun has its own way


class Group:
    """The processes that train together, as the one of `rank` (0 leads) among `size` sees them; here: it is alone."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    def should_stop(self, requested: bool) -> bool:
        """Whether all of them stop now; `wish` says whether this one would."""
        return requested

    def average(self, tensors: Sequence[torch.Tensor], weight: float) -> None:
        """Replace each of the tensors (float32) by the mean over the processes' own, the same bits in all of them.

        `weight` is this process's; all weights together are 1.
        """

    def all_equal(self, text: bytes) -> bool:
        """Whether all processes have the same text."""
        return True

    def broadcast(self, data: bytes) -> bytes:
        """Return the bytes that the first of them was given, whatever this one was."""
        return data


class DistributedGroup(Group):
    """A group of several. Each method is for all of them to call, in the same order; raises GroupLost."""

    def __init__(self):
        super().__init__(dist.get_rank(), dist.get_world_size())
        self._stop_requested = self._all_stop = False

    def should_stop(self, requested: bool) -> bool:
        # Stop requests travel with the next all-reduce, so that all ranks stop at the same step.
        self._stop_requested = self._stop_requested or requested
        return self._all_stop

    def average(self, tensors: Sequence[torch.Tensor], weight: float) -> None:
        tensors = *tensors, torch.tensor([float(self._stop_requested)])
        flat = torch.cat([tensor.flatten() for tensor in tensors]) * weight
        _run_collective(dist.all_reduce, flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
        self._all_stop = bool(tensors[-1] > 0)

    def all_equal(self, text: bytes) -> bool:
        mine = torch.frombuffer(bytearray(hashlib.sha256(text).digest()), dtype=torch.uint8)
        all_of_them = [torch.empty_like(mine) for _ in range(self.size)]
        _run_collective(dist.all_gather, all_of_them, mine)
        return all(torch.equal(mine, each) for each in all_of_them)

    def broadcast(self, data: bytes) -> bytes:
        count = torch.tensor([len(data)])
        _run_collective(dist.broadcast, count, 0)
        mine = bytearray(data) if self.rank == 0 else bytearray(int(count))
        if mine:
            _run_collective(dist.broadcast, torch.frombuffer(mine, dtype=torch.uint8), 0)
        return bytes(mine)


def _run_collective(collective: Callable[..., object], *arguments, **options) -> None:
    """Does what all processes have to do together; raises GroupLost where one does not."""
    try:
        collective(*arguments, **options)
    except RuntimeError as error:  # what torch raises, whether the connection broke or nothing came
        words = f"another process has died, or has not answered for {SILENCE.seconds} seconds"
        raise GroupLost(words, "process_silent", seconds=SILENCE.seconds) from error


@contextmanager
def process_group(processes: int, command: Sequence[str]) -> Iterator[Group]:
    """The group of so many processes, joined until the block ends; the cores of a machine are shared out among them.

    One that was started as part of a group joins that; otherwise this one leads, and the others are started here, each
    by `command`. Raises GroupLost, also at the start, where one of them is missing, and says how it ended if it knows.
    """
    if processes == 1:
        yield Group()
    elif size() == processes:
        with _joined_group() as group:
            yield group
    else:
        with _other_processes(processes, command), _joined_group() as group:
            yield group


@contextmanager
def _joined_group() -> Iterator[Group]:
    threads = torch.get_num_threads()
    _run_collective(_rendezvous)
    try:
        torch.set_num_threads(max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
        yield DistributedGroup()
    finally:
        torch.set_num_threads(threads)
        dist.destroy_process_group()


def _rendezvous() -> None:
    where = os.environ.get(RENDEZVOUS, "env://")
    store, rank, count = next(rendezvous(where, int(os.environ["RANK"]), size(), timeout=SILENCE))
    store.set_timeout(SILENCE)
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:  # all on one machine
        # Where torchrun starts all of them again, it has still the addresses of those before.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=SILENCE)


@contextmanager
def _other_processes(processes: int, command: Sequence[str]) -> Iterator[None]:
    """Starts the other processes, so that this one can join them as the first; none outlives the block."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    count = str(processes)
    with (
        tempfile.TemporaryDirectory() as folder,
        _environment(
            RANK="0",
            WORLD_SIZE=count,
            LOCAL_WORLD_SIZE=count,
            GLOO_SOCKET_IFNAME=loopback,
            **{RENDEZVOUS: f"file://{folder}/rendezvous"},
        ),
    ):
        # Sessions of their own: a Ctrl-C reaches the first one, which then ends the others.
        others = [
            subprocess.Popen(
                command, env=os.environ | {"RANK": str(rank)}, stdin=subprocess.DEVNULL, start_new_session=True
            )
            for rank in range(1, processes)
        ]
        try:
            yield
            _wait(others, END_SECONDS)
        except GroupLost as error:
            _wait(others, 1.0)
            raise _exit_reason(others) or error from None
        finally:
            for other in others:
                other.kill()
                other.wait()


def _wait(others: list[subprocess.Popen], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with suppress(subprocess.TimeoutExpired):
        for other in others:
            other.wait(max(0.0, deadline - time.monotonic()))


def _exit_reason(others: list[subprocess.Popen]) -> GroupLost | None:
    """What became of the one that the others have lost; None where that is not known."""
    ended = [(code, rank) for rank, other in enumerate(others, 2) if (code := other.poll()) and code != LOST]
    if not ended:
        return None
    code, number = min(ended)  # a signal is a negative code, and killed nobody else
    which, place = f"process {number} of {len(others) + 1}", {"process": number, "of": len(others) + 1}
    if code < 0:
        return GroupLost(f"{which} was killed by signal {-code}", "process_killed", **place, signal=-code)
    return GroupLost(f"{which} ended with code {code}", "process_exited", **place, status=code)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
