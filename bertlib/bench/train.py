"""Training throughput beside Hugging Face's BERT: one process, one batch, alternating rounds.

Every contestant does the same step: forward, loss, backward, fused AdamW. Hugging Face's model
is the one of its `transformers` library, which computes the last block and the head everywhere;
ours computes them at the masked positions. Both are counted by what their way needs. Two more
lines ask what a user of theirs could do: leave out the head elsewhere, and compile the model.

On a processor all keep the memory that they free, as bertlib's trainer does
(`device.keep_freed_memory`), or all return it (`freed="returned"`), as a process does by itself.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from bertlib.bench.contest import (
    OURS,
    THEIRS,
    Contest,
    Contestant,
    build_model,
    draw_puzzle,
    hugging_face,
    loss_of,
)
from bertlib.plumbing.device import (
    autocast,
    keep_freed_memory,
    measured_peak,
    process_memory,
    synchronize,
)


class Training:
    """One contestant at work."""

    def __init__(self, contestant: Contestant, contest: Contest, device: torch.device):
        self.contestant, self.device = contestant, device
        if contest.freed == "kept":
            keep_freed_memory(device)
        torch.manual_seed(0)
        self.model = build_model(contestant, contest).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.puzzle = draw_puzzle(contest, device)

    def step(self) -> None:
        """Forward, loss, backward, update."""
        with autocast(self.device, self.contestant.dtype):
            loss = loss_of(self.contestant, self.model, self.puzzle)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self, steps: int) -> float:
        """How long so many steps take, to the end of the last."""
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        synchronize(self.device)
        return time.perf_counter() - start


Timings = dict[Contestant, list[float]]  # seconds a step, one entry a round
Peaks = dict[torch.dtype, list[float]]  # FLOP/s, one entry a round; 0 if unknown


def time_rounds(contest: Contest, device: torch.device,
                racing: list[Contestant]) -> tuple[Timings, Peaks]:
    """All contestants in turn, every second round backwards; the machine's peak in each round."""
    running = [Training(contestant, contest, device) for contestant in racing]
    for training in running:
        training.seconds(contest.warmup)
    timings: Timings = {training.contestant: [] for training in running}
    peaks: Peaks = {contestant.dtype: [] for contestant in timings}
    for number in range(contest.rounds):
        for training in running[:: -1 if number % 2 else 1]:
            seconds = training.seconds(contest.steps)
            timings[training.contestant].append(seconds / contest.steps)
        for dtype, measured in peaks.items():
            measured.append(measured_peak(device, dtype))
        print(f"round {number + 1} of {contest.rounds} done", flush=True)
    return timings, peaks


def summarise(contest: Contest, timings: Timings, peaks: Peaks) -> dict[str, dict[str, Any]]:
    """Each contestant's medians; ratios of speed are taken in each round first.

    "to_best" compares with the fastest of Hugging Face's lines as it comes, "to_equal" with its
    model of the same dropout and type (None if there is none). Speeds count what the contestant
    itself needs.
    """
    def median_ratio(above: list[float], below: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(above, below, strict=True))

    theirs = [contestant for contestant in timings if contestant.library == THEIRS]
    best = min(theirs, key=lambda contestant: statistics.median(timings[contestant]))
    lines = {}
    for contestant, seconds in timings.items():
        equal = replace(contestant, library=THEIRS) if contestant.library == OURS else None
        speeds = [contestant.flops(contest) * contest.tokens / s for s in seconds]
        peak = peaks[contestant.dtype]
        lines[contestant.name] = {
            "seconds": seconds,
            "tokens_per_second": contest.tokens / statistics.median(seconds),
            "to_best": median_ratio(timings[best], seconds),
            "to_equal": median_ratio(timings[equal], seconds) if equal else None,
            "flops_per_token": contestant.flops(contest),
            "flops_per_second": statistics.median(speeds),
            "share_of_peak": median_ratio(speeds, peak) if all(peak) else None,
        }
    return lines


def memory_of(contestant: Contestant, contest: Contest, device: torch.device) -> int:
    """Bytes that two training steps take at most, beyond this process with its libraries."""
    if contestant.library != OURS:
        hugging_face()  # imported before the count begins
    before = process_memory()
    Training(contestant, contest, device).seconds(2)  # the second has the optimiser's state
    on_gpu = device.type == "cuda"
    return torch.cuda.max_memory_allocated() if on_gpu else process_memory() - before
