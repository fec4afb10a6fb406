"""Several processes that train one network: who this process is among them, and how they meet and part.

Beside the data path: training only, never in the daemon. `torchrun` starts the processes; `joined` lets them meet,
around everything that trains; `pipelines/loop.py` shares the batches out. torch is imported when processes meet.
"""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["World", "joined", "leader_first", "leading_one", "summed", "world"]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together. `local` is its number on its machine, and that of its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all: it tells, keeps checkpoints and writes the model."""
        return self.rank == 0


def world() -> World:
    """What `torchrun` says of this process; alone where nothing was said.

    The one place where environment variables decide: `torchrun` starts the same command line in every process and
    tells them apart in no other way, so no option or file could say it. Raises ValueError for half an answer.
    """
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local": "LOCAL_RANK"}
    said = {field: os.environ[name] for field, name in names.items() if name in os.environ}
    if not said:
        return World()
    if len(said) < len(names):
        missing = ", ".join(name for field, name in names.items() if field not in said)
        raise ValueError(f"{missing} not set although others of {', '.join(names.values())} are: start with torchrun")
    return World(**{field: int(value) for field, value in said.items()})


PATIENCE = datetime.timedelta(days=2)
"""How long processes wait for one that works. It need not tell that one died: torchrun then ends the others."""


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[World]:
    """Meet the other processes (NCCL to train on "cuda", gloo on "cpu"), part at the end. Alone, nothing happens.

    To be entered once in a process's life, as processes cannot meet a second time at the same address.
    """
    here = world()
    if here.size == 1:
        yield here
        return
    import torch
    from torch import distributed

    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.set_device(here.local)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=PATIENCE, rank=here.rank, world_size=here.size
    )
    try:
        yield here
        # Together: one that leaves early takes its connections with it, and the other may abort in its last moments.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def leader_first() -> Iterator[None]:
    """The others begin when the leading process is done: with what it left in a cache, say."""
    here = world()
    if here.size == 1:
        yield
        return
    from torch import distributed

    if not here.leads:
        distributed.barrier()
    yield
    if here.leads:
        distributed.barrier()


def summed(value: float, device: "torch.device") -> float:
    """Sum over the processes; all must call. `device` is where the network is."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return value
    box = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(box)
    return box.item()


def leading_one(value: float, device: "torch.device") -> float:
    """The leading process's value; all must call."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return value
    box = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.broadcast(box, 0)
    return box.item()
