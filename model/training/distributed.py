"""Process groups: several processes that train one network, on one machine or on many.

Each process runs the whole program. Its rank stands in the environment variables that torchrun sets (RANK, WORLD_SIZE,
MASTER_ADDR and so on). Without them, the first process starts the others on its machine, with equal variables. These
processes find each other by a file and communicate over the loopback alone; torchrun opens ports to the network and
trusts all messages.
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
"""Timeout of a collective operation: longer than a validation, or a busy database, ever takes."""
END_SECONDS = 10.0
"""Time that the other processes have to end after the first one."""
RENDEZVOUS = "INKLING_RENDEZVOUS"  # address of the file of a group without torchrun


class Group:
    """A group of processes, seen from `rank` among `size`; this class is the group of a single process."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    def should_stop(self, requested: bool) -> bool:
        """Return whether all processes stop now; `requested` says whether this one wants to."""
        return requested

    def average(self, tensors: Sequence[torch.Tensor], weight: float) -> None:
        """Replace tensors (float32) in place by their weighted mean over the processes, bitwise equal in all.

        `weight` is this process's; the weights of all processes sum to 1.
        """

    def all_equal(self, text: bytes) -> bool:
        """Return whether all processes have equal text."""
        return True

    def broadcast(self, data: bytes) -> bytes:
        """Return the bytes given by rank 0."""
        return data


class DistributedGroup(Group):
    """A group of several processes. All must call its methods in the same order; they raise GroupLost."""

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
    """Call a collective operation; raises GroupLost where a process has died or does not take part."""
    try:
        collective(*arguments, **options)
    except RuntimeError as error:  # torch raises it for broken connections and timeouts alike
        words = f"another process has died, or has not answered for {SILENCE.seconds} seconds"
        raise GroupLost(words, "process_silent", seconds=SILENCE.seconds) from error


@contextmanager
def process_group(processes: int, command: Sequence[str]) -> Iterator[Group]:
    """Join a group of so many processes until the block ends; divide the cores of a machine among them.

    A process that was started as part of a group joins that group; otherwise it becomes rank 0 and starts the others,
    each by `command`. Raises GroupLost where a process is missing, with its exit status if known.
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
        # When torchrun restarts all processes, its store still holds the addresses of the former ones.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=SILENCE)


@contextmanager
def _other_processes(processes: int, command: Sequence[str]) -> Iterator[None]:
    """Start the other processes and become rank 0; end them with the block."""
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
        # In sessions of their own, so that Ctrl-C reaches rank 0 alone, which then ends the others.
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
            if error.found["code"] != "process_silent":  # the reason is known, and the others end because of it
                raise
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
    """Return an error that says how the lost process ended; None where that is not known."""
    ended = [(code, rank) for rank, other in enumerate(others, 2) if (code := other.poll()) and code != LOST]
    if not ended:
        return None
    code, number = min(ended)  # prefer a signal, which is a negative code, as the cause
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
