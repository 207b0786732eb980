"""Who is measured on what: shapes, Hugging Face's models and ours, the puzzle for all."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.plumbing.device import pick_precision
from bertlib.plumbing.files import InputError
from bertlib.scoring import flops_per_token, head_weights

SEQ_LEN, MASK_RATE, HEAD_WIDTH = 128, 0.15, 64
MASK_ID, FIRST_WORD = 4, 5  # ids as in a vocabulary that begins with the five special tokens
THEIRS, OURS = "Hugging Face", "bertlib"
MASKED, COMPILED = "Hugging Face, masked head", "Hugging Face, compiled"
NO_DROPOUT = ", no dropout"
FREED = ("kept", "returned")
DROPOUTS = {"": (0.1, 0.1), ", no attention dropout": (0.1, 0.0), NO_DROPOUT: (0.0, 0.0)}


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
    freed: str = "kept"  # or "returned": what a processor does with memory that is freed

    def __post_init__(self):
        if self.freed not in FREED:
            raise InputError(f"--freed is '{self.freed}'; it must be {' or '.join(FREED)}.")
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
        """The model: BERT as published, in small."""
        dropout, attention_dropout = DROPOUTS[self.variant]
        return BertConfig.preset(
            "bert_base", vocab_size=contest.vocab, seq_len=SEQ_LEN, d_model=contest.width,
            n_head=contest.width // HEAD_WIDTH, n_layer=contest.layers, dropout=dropout,
            attention_dropout=attention_dropout)

    def flops(self, contest: Contest) -> float:
        """Floating-point operations for each token when the model is computed in this way."""
        config, rate = self.config(contest), round(MASK_RATE * contest.tokens) / contest.tokens
        if self.library == OURS:
            return flops_per_token(config, rate)
        whole = flops_per_token(config, 1.0)
        if self.library != MASKED:
            return whole
        return whole - 6 * (1 - rate) * head_weights(config)


def contestants(device: torch.device, compiled: bool = False) -> list[Contestant]:
    """All of them; bfloat16 only where the hardware multiplies it, since a step takes minutes.

    `compiled` adds Hugging Face's model under `torch.compile`, which needs a C++ compiler.
    """
    has_bfloat16 = pick_precision("auto", device) is torch.bfloat16
    types = [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]
    more = (MASKED, COMPILED) if compiled else (MASKED,)
    return [
        *(Contestant(library, dtype, variant)
          for dtype in types for library in (THEIRS, OURS) for variant in DROPOUTS),
        *(Contestant(library, dtype, NO_DROPOUT) for dtype in types for library in more),
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
    if contestant.library == OURS:
        return BertForMaskedLM(config)
    their_config, their_model = hugging_face()
    model = their_model(their_config(
        vocab_size=config.vocab_size, hidden_size=config.d_model, intermediate_size=config.d_ff,
        num_hidden_layers=config.n_layer, num_attention_heads=config.n_head,
        max_position_embeddings=config.seq_len, hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
    )).train()
    if contestant.library == COMPILED:
        model.compile()
    return model


def loss_of(contestant: Contestant, model: Any, puzzle: Puzzle) -> Tensor:
    """The mean loss at the masked positions, each library in its own way."""
    if contestant.library == OURS:
        return model(puzzle.input_ids, puzzle.positions, puzzle.labels).loss
    if contestant.library == MASKED:
        hidden = model.bert(puzzle.input_ids).last_hidden_state  # [B, T, D]
        logits = model.cls(hidden.flatten(0, 1)[puzzle.positions])  # [K, V]
        return F.cross_entropy(logits.float(), puzzle.labels)
    return model(input_ids=puzzle.input_ids, labels=puzzle.everywhere).loss
