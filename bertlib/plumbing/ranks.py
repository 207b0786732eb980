"""Many processes as one run: who takes which rows, what all agree on, what if one dies.

torchrun starts the same program once for each processor or GPU and tells each copy its number,
the rank, through environment variables. All ranks keep the same weights; each computes the
gradient of its own rows, and DistributedDataParallel averages the gradients (Li et al. 2020,
https://arxiv.org/abs/2006.15704). What this module does itself is the small talk beside that.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

from bertlib.plumbing.commands import run_command
from bertlib.plumbing.device import pick_device
from bertlib.plumbing.files import InputError

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # the writer may have a large dataset to prepare first


@dataclass(frozen=True)
class Ranks:
    """This process's number `rank` among the `world` processes of a run, from 0.

    `local` is its number on this machine, which is also that of its GPU. The methods that talk
    to the other ranks must be called by all of them in the same order; a rank alone answers
    itself. They raise `RuntimeError` if another rank is gone.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def here(cls) -> "Ranks":
        """What torchrun's variables say; alone if there are none. `InputError` if some lack."""
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        try:
            return cls(*(int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        except (KeyError, ValueError) as error:
            raise InputError(f"WORLD_SIZE is set, but not so {error}; start with torchrun, or "
                             "unset WORLD_SIZE.") from None

    @property
    def is_writer(self) -> bool:
        """Whether this is the one rank that writes files."""
        return self.rank == 0

    def require(self, batch_size: int) -> None:
        """`InputError` if a batch cannot be shared out evenly."""
        if batch_size % self.world:
            raise InputError(f"The smallest batch has {batch_size} sequences; batch_size, and "
                             "first_batch_size if there is one, must be multiples of the number "
                             f"of ranks, {self.world}.")

    def span(self, rows: int) -> tuple[int, int]:
        """(first, end) of this rank's rows of a batch that all ranks drew alike."""
        share = rows // self.world
        return self.rank * share, (self.rank + 1) * share

    def seed(self, seed: int, step: int) -> int:
        """A seed of this rank's own, for what must differ between ranks: dropout."""
        return int(np.random.SeedSequence((seed, self.rank, step)).generate_state(1)[0])

    def sum(self, values: Tensor) -> Tensor:
        """`values` added up over all ranks, in float64 on the CPU."""
        values = values.detach().double().cpu()
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, *values: float) -> list[float]:
        """The largest of each value over all ranks, so that all decide alike."""
        numbers = torch.tensor(values, dtype=torch.float64)
        return self._reduced(numbers, dist.ReduceOp.MAX).tolist()

    def _reduced(self, values: Tensor, how) -> Tensor:
        if self.world > 1:
            dist.all_reduce(values, how)
        return values

    def gather(self, value: T) -> list[T]:
        """The `value` of every rank, by rank. No rank goes on before all have called."""
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def from_writer(self, make: Callable[[], T]) -> T:
        """The result of the writer's `make()`, for all."""
        made: Any = make() if self.is_writer else None
        return self.gather(made)[0]

    def writer_first(self, make: Callable[[], T]) -> T:
        """Every rank's own `make()`; the others begin when the writer has prepared the files."""
        made: Any = make() if self.is_writer else None
        self.gather(None)
        return made if self.is_writer else make()


ALONE = Ranks()


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Connect the ranks for as long as the block runs; nothing to do for one that is alone.

    Gloo connects CPUs, NCCL GPUs. `InputError` if this machine has fewer GPUs than ranks, or
    Apple's.
    """
    ranks = Ranks.here()
    if ranks.world == 1 or dist.is_initialized():
        yield ranks
        return
    backend, kind = "gloo", pick_device(device).type
    if kind == "mps":
        raise InputError("Several ranks cannot share an Apple GPU; use --device cpu, or one rank.")
    if kind == "cuda":
        if ranks.local >= (count := torch.cuda.device_count()):
            raise InputError(f"There is no GPU for local rank {ranks.local}, as this machine has "
                             f"{count}; start torchrun with --nproc-per-node {count}.")
        torch.cuda.set_device(ranks.local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    yield ranks
    ranks.gather(None)  # all leave together: the writer may still be at its report
    gc.collect()  # a model that still holds the connection would drop it in the end, and abort
    dist.destroy_process_group()  # not after an error: it could wait for a rank that is gone


class Ended(RuntimeError):
    """torchrun told this rank to end, as it tells all when one has failed."""


def run_on_ranks(main: Callable[[], object]) -> int:
    """`run_command` for a program that torchrun may have started; returns the exit status.

    An error names its rank. That another rank is gone is told in one sentence, with status 1.
    """
    def on_this_rank():
        ranks = Ranks.here()
        if ranks.world > 1:
            _run_named(ranks.rank, main)
        else:
            main()
    return run_command(on_this_rank)


@record  # the first error that is recorded is the one that torchrun reports as the root cause
def _run_named(rank: int, main: Callable[[], object]) -> None:
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except InputError as error:
        raise InputError(f"rank {rank}: {error}") from None
    except RuntimeError as error:
        if (reason := _lost(error)) is None:
            raise
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print(f"error: rank {rank}: another rank stopped ({reason}); start the same command "
              "again to go on from the last checkpoint.", file=sys.stderr, flush=True)
        time.sleep(1)  # torchrun looks ten times a second: it shall see the other one first
        sys.exit(1)  # no error to record


def _end(_number, _frame) -> None:
    raise Ended("so says torchrun")


def _lost(error: RuntimeError) -> str | None:
    """Why another rank is gone, in a few words; None if `error` is of another kind."""
    words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    known = isinstance(error, dist.DistError | Ended) or "gloo" in words.lower()
    return words.split("] ", 1)[-1].split(". ")[0].strip(" .") if known else None
