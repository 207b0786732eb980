"""Training throughput beside Hugging Face's BERT: one process, one batch, alternating rounds.

Every contestant does the same step: forward, loss, backward, fused AdamW. Hugging Face's model
is the one of its `transformers` library, which computes the last block and the head everywhere;
ours computes them at the masked positions. Both are counted by what their way needs.
"""

import statistics
import time
from dataclasses import dataclass, fields, replace
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bertlib.bert import PRESETS, BertConfig, BertForMaskedLM
from bertlib.plumbing.device import (
    autocast,
    measured_peak,
    pick_precision,
    process_memory,
    synchronize,
)
from bertlib.plumbing.files import InputError
from bertlib.scoring import flops_per_token

SEQ_LEN, MASK_RATE, HEAD_WIDTH = 128, 0.15, 64
MASK_ID, FIRST_WORD = 4, 5  # ids as in a vocabulary that begins with the five special tokens
THEIRS, OURS, FAST = "Hugging Face", "bertlib", "bertlib fast"
DROPOUTS = {"": (0.1, 0.1), ", no attention dropout": (0.1, 0.0), ", no dropout": (0.0, 0.0)}


@dataclass(frozen=True)
class Contest:
    """One comparison: the shape of all models, the batch, and how often to measure."""

    layers: int = 6
    width: int = 256  # heads are 64 wide, feed-forward layers four times the width
    batch: int = 32  # sequences of 128 tokens
    vocab: int = 24_992  # as in the published run
    rounds: int = 5
    warmup: int = 1  # steps of each contestant before the first round
    steps: int = 1  # of each contestant in a round
    device: str = "auto"

    def __post_init__(self):
        least = {"warmup": 0, "vocab": FIRST_WORD + 1}
        for name in (f.name for f in fields(self) if f.type is int):
            if getattr(self, name) < least.get(name, 1):
                raise InputError(f"--{name} is {getattr(self, name)}; it must be at least "
                                 f"{least.get(name, 1)}.")
        if self.width % HEAD_WIDTH:
            raise InputError(f"--width is {self.width}; it must be a multiple of {HEAD_WIDTH}, "
                             "the width of a head.")

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch * SEQ_LEN


@dataclass(frozen=True)
class Contestant:
    """A library's model, with its dropout and number type."""

    library: str
    dtype: torch.dtype
    variant: str = ""  # of DROPOUTS

    @property
    def name(self) -> str:
        """Such as "Hugging Face float32, no dropout"."""
        return f"{self.library} {str(self.dtype).removeprefix('torch.')}{self.variant}"

    def config(self, contest: Contest) -> BertConfig:
        """The model: BERT as published, in small; or the preset `fast` at the same size."""
        heads = contest.width // HEAD_WIDTH
        changes: dict[str, Any] = dict(
            vocab_size=contest.vocab, seq_len=SEQ_LEN, d_model=contest.width, n_head=heads,
            n_layer=contest.layers,
        )
        if self.library == FAST:
            distances = islice(cycle(PRESETS["fast"]["distance_heads"]), heads)
            return BertConfig.preset("fast", distance_heads=tuple(distances), **changes)
        dropout, attention_dropout = DROPOUTS[self.variant]
        return BertConfig.preset("bert_base", dropout=dropout,
                                 attention_dropout=attention_dropout, **changes)

    def flops(self, contest: Contest) -> float:
        """Floating-point operations for each token when the model is computed in this way."""
        rate = 1.0 if self.library == THEIRS else round(MASK_RATE * contest.tokens) / contest.tokens
        return flops_per_token(self.config(contest), rate)


def contestants(device: torch.device) -> list[Contestant]:
    """All of them; bfloat16 only where the hardware multiplies it, since a step takes minutes."""
    has_bfloat16 = pick_precision("auto", device) is torch.bfloat16
    types = [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]
    return [
        *(Contestant(library, dtype, variant)
          for dtype in types for library in (THEIRS, OURS) for variant in DROPOUTS),
        *(Contestant(FAST, dtype) for dtype in types),
    ]


class Puzzle(NamedTuple):
    """One batch for all: ids [B, T], positions [K], labels [K], labels everywhere [B, T]."""

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    everywhere: Tensor  # -100 where nothing is asked, as Hugging Face wants it


def draw_puzzle(contest: Contest, device: torch.device) -> Puzzle:
    """Random words, a fixed number of them masked."""
    generator = torch.Generator().manual_seed(0)
    shape = (contest.batch, SEQ_LEN)
    ids = torch.randint(FIRST_WORD, contest.vocab, shape, generator=generator)
    count = round(MASK_RATE * ids.numel())
    positions = torch.randperm(ids.numel(), generator=generator)[:count].sort().values
    labels = ids.flatten()[positions]
    everywhere = torch.full_like(ids, -100).flatten()
    everywhere[positions] = labels
    ids.view(-1)[positions] = MASK_ID
    parts = ids, positions, labels, everywhere.view(shape)
    return Puzzle(*(part.to(device) for part in parts))


def hugging_face() -> tuple[type, type]:
    """transformers' BertConfig and BertForMaskedLM; `InputError` if it is not installed."""
    try:
        from transformers import BertConfig as TheirConfig
        from transformers import BertForMaskedLM as TheirModel
    except ImportError:
        raise InputError("The benchmark needs Hugging Face's transformers; install them with "
                         "pip install -e '.[bench]'.") from None
    return TheirConfig, TheirModel


def build_model(contestant: Contestant, contest: Contest) -> nn.Module:
    """A fresh model in training mode."""
    config = contestant.config(contest)
    if contestant.library != THEIRS:
        return BertForMaskedLM(config)
    their_config, their_model = hugging_face()
    return their_model(their_config(
        vocab_size=config.vocab_size, hidden_size=config.d_model, intermediate_size=config.d_ff,
        num_hidden_layers=config.n_layer, num_attention_heads=config.n_head,
        max_position_embeddings=config.seq_len, hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
    )).train()


def loss_of(contestant: Contestant, model: nn.Module, puzzle: Puzzle) -> Tensor:
    """The mean loss at the masked positions, each library in its own way."""
    if contestant.library == THEIRS:
        return model(input_ids=puzzle.input_ids, labels=puzzle.everywhere).loss
    return model(puzzle.input_ids, puzzle.positions, puzzle.labels).loss


class Training:
    """One contestant at work."""

    def __init__(self, contestant: Contestant, contest: Contest, device: torch.device):
        self.contestant, self.device = contestant, device
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


def time_rounds(contest: Contest, device: torch.device) -> tuple[Timings, Peaks]:
    """All contestants in turn, every second round backwards; the machine's peak in each round."""
    running = [Training(contestant, contest, device) for contestant in contestants(device)]
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

    "to_best" compares with the fastest of Hugging Face's lines, "to_equal" with its model of the
    same dropout and type (None if there is none). Speeds count what the contestant itself needs.
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
    if contestant.library == THEIRS:
        hugging_face()  # imported before the count begins
    before = process_memory()
    Training(contestant, contest, device).seconds(2)  # the second has the optimiser's state
    on_gpu = device.type == "cuda"
    return torch.cuda.max_memory_allocated() if on_gpu else process_memory() - before
