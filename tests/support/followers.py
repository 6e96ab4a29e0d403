"""The processes that follow a test in a group: python -m tests.support.followers WHAT ...

Each way to do something leaves what the test looks at; the processes beside it leave that away.
"""

import sys
from dataclasses import replace
from unittest.mock import patch

import torch

from model.data import splits
from model.presets import PRESETS, Config
from model.rank import LOST, GroupLost
from model.training.distributed import DistributedGroup, Group, process_group
from model.training.train import train

# All that the real presets have, and small enough for many trainings; batches of 45 and 46 do not go into two halves.
PLAIN = replace(PRESETS["basic"], name="plain", hidden=(16, 12), batch_size=50)
WHOLE = replace(PRESETS["standard"], name="whole", hidden=(24, 16), batch_size=50)
DIGITS = 501


def command(*what: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.followers", *what]


def averages(group: Group) -> list:
    """Average two tensors, with weights that differ."""
    tensors = torch.full((2, 3), float(group.rank)), torch.tensor([float(8 * group.rank)])
    group.average(tensors, (0.75, 0.25)[group.rank])
    return [tensor.flatten().tolist() for tensor in tensors]


def alike(group: Group) -> list:
    return [group.all_equal(b"this"), group.all_equal(bytes(group.rank)), group.broadcast(bytes(9 - 9 * group.rank))]


def trainings(group: Group) -> dict:
    """By preset: a result, and for the whole one that of going on from its first checkpoint too.

    As if on machines that differ.
    """
    data, kept = splits.load().subset(DIGITS), []
    with patch("model.provenance.libraries", lambda: f"those of machine {group.rank}"):
        plain = train(Config("plain", 2, 5, group.size), data, group=group)
        whole = train(Config("whole", 2, 5, group.size), data, on_checkpoint=kept.append, group=group)
        given = kept[0] if group.rank == 0 else None
        resumed = train(Config("whole", 2, 5, group.size), data, checkpoint=given, group=group)
    return {"plain": plain, "whole": (whole, resumed)}


def stopped(group: Group) -> tuple:
    """A training that the first process, or another one, would stop after some steps; and how many it took."""
    data, found = splits.load().subset(DIGITS), []
    for wishing in range(group.size):
        asked = []

        def should_stop(wishing: int = wishing, asked: list = asked) -> bool:
            asked.append(1)
            return group.rank == wishing and len(asked) == 15

        result = train(Config("plain", 3, 5, group.size), data, should_stop=should_stop, group=DistributedGroup())
        found.append((result.stopped, len(result.history), len(asked)))
    return found


def everything(group: Group) -> tuple:
    return averages(group), alike(group), trainings(group), stopped(group), torch.get_num_threads()


def different(group: Group) -> None:
    train(Config("plain", 1, group.rank, group.size), splits.load().subset(DIGITS), group=group)


def for_ever(group: Group, on_progress=lambda progress: None) -> None:
    train(Config("plain", 1000, 0, group.size), splits.load().subset(DIGITS), on_progress, group=group)


def main(*what: str) -> None:
    torch.set_num_threads(1)
    PRESETS.update(plain=PLAIN, whole=WHOLE)
    try:
        with process_group(2, ()) as group:
            for one in what:
                globals()[one](group)
    except GroupLost:
        sys.exit(LOST)


if __name__ == "__main__":
    main(*sys.argv[1:])
