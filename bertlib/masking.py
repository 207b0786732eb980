"""Choose tokens, hide them, remember the answers: the puzzle that BERT learns from, and GPT's.

Source: Devlin et al. 2018, section 3.1, task 1: 15% of the tokens are predicted; of those 80%
become [MASK], 10% a random word and 10% stay as they are. Radford et al. 2018, section 3.1: the
next token is predicted from those before it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.plumbing.files import InputError
from bertlib.tokens import Tokenizer


@dataclass(frozen=True)
class MaskingConfig:
    """Shares of tokens: `rate` is predicted; of those `masked` and `random` are replaced."""

    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def __post_init__(self):
        if not 0 < self.rate < 1:
            raise InputError(f"The mask rate is {self.rate}; it must lie between 0 and 1.")
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
            raise InputError(
                f"The shares masked={self.masked} and random={self.random} must not be negative "
                "and must add up to at most 1."
            )


def mask_rate_at(progress: float, first: float, last: float) -> float:
    """Share of tokens to hide now: from the first rate to the last one, in a straight line.

    `progress` is the share 0..1 of the run that is done. Source: Ankner et al. 2023.
    """
    return first + (last - first) * progress


@dataclass(frozen=True)
class Masked:
    """A batch with its puzzle.

    input_ids [B, T] with replaced tokens; positions [K] into the flattened [B*T], ascending;
    labels [K], the true ids at those positions; attention_mask [B, T] bool, or None if no
    sequence is padded.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    attention_mask: Tensor | None = None

    def rows(self, start: int, stop: int) -> "Masked":
        """The puzzle of the sequences from `start` up to `stop`, positions counted from there."""
        length = self.input_ids.shape[1]
        ends = torch.tensor([start * length, stop * length])
        first, last = torch.searchsorted(self.positions, ends).tolist()  # they ascend
        mask = self.attention_mask
        return Masked(
            self.input_ids[start:stop],
            self.positions[first:last] - start * length,
            self.labels[first:last],
            None if mask is None else mask[start:stop],
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Masked":
        """The same batch on `device`."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Masked":
        """The same batch in page-locked memory, from which CUDA copies asynchronously."""
        return self._each(Tensor.pin_memory)

    def _each(self, move: Callable[[Tensor], Tensor]) -> "Masked":
        mask = self.attention_mask
        return Masked(move(self.input_ids), move(self.positions), move(self.labels),
                      None if mask is None else move(mask))


def n_hidden(counts: Tensor, rate: float) -> Tensor:
    """How many of so many ordinary tokens a puzzle hides: `rate` of them, at least one."""
    return (counts.double() * rate).round().long().clamp(min=1).minimum(counts)


class Masker:
    """Draws masks for batches of token ids of one vocabulary; [UNK] is no word to predict."""

    def __init__(self, tokenizer: Tokenizer, config: MaskingConfig | None = None):
        self.config = config or MaskingConfig()
        special = tokenizer.special
        self.mask_id = special.mask
        self.pad_id = special.pad
        self.ordinary = torch.tensor(tokenizer.ordinary_ids)
        self.maskable = torch.ones(len(tokenizer), dtype=torch.bool)
        self.maskable[[special.pad, special.cls, special.sep, special.unk]] = False

    def choose(self, ids: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """Positions to predict: in each row `rate` of its ordinary tokens, at least one.

        ids [B, T] -> flat positions [K]. Full rows all get the same number, so that K is fixed.
        """
        candidates = self.maskable[ids]  # [B, T]
        scores = torch.rand(ids.shape, generator=generator)  # [B, T]
        scores.masked_fill_(~candidates, -1.0)
        counts = candidates.sum(1)  # [B]
        wanted = n_hidden(counts, rate)  # [B]
        best = scores.topk(int(wanted.max()), dim=1)  # [B, most], highest score first
        taken = torch.arange(best.indices.shape[1]) < wanted[:, None]  # [B, most]
        rows = torch.arange(len(ids))[:, None] * ids.shape[1]  # [B, 1]
        return (rows + best.indices)[taken].sort().values

    def replace(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """What stands in the text instead of `labels` [K]: [MASK], a random word, or itself."""
        draw = torch.rand(labels.shape, generator=generator)
        picks = torch.randint(len(self.ordinary), labels.shape, generator=generator)
        config = self.config
        hidden = torch.where(draw < config.masked + config.random, self.ordinary[picks], labels)
        return hidden.masked_fill(draw < config.masked, self.mask_id)

    def __call__(self, ids: Tensor, generator: torch.Generator, rate: float | None = None):
        """Mask a batch of ids [B, T] (int64); returns `Masked`, leaves `ids` as they are."""
        positions = self.choose(ids, self.config.rate if rate is None else rate, generator)
        labels = ids.reshape(-1)[positions]  # [K]
        return self.puzzle(ids, positions, labels, self.replace(labels, generator))

    def puzzle(self, ids: Tensor, positions: Tensor, labels: Tensor, replaced: Tensor) -> Masked:
        """Put `replaced` [K] into a copy of `ids` [B, T] at the flat `positions` [K]."""
        input_ids = ids.reshape(-1).clone()
        input_ids[positions] = replaced
        attention_mask = ids != self.pad_id  # [B, T]
        return Masked(
            input_ids.view_as(ids),
            positions,
            labels,
            None if attention_mask.all() else attention_mask,
        )


def objective(causal: bool) -> str:
    """What a model's puzzles ask for; the losses of two objectives say nothing of each other."""
    return "next token" if causal else "hidden words"


class NextToken(Masker):
    """GPT's puzzle, always the same: nothing is hidden, and each token asks for the one after it.

    Words are asked for, and the [SEP] after a document. What stands in the last place of a chunk is
    not: [SEP] or [PAD], whatever the text, so that to know it is no merit.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(tokenizer)
        self.maskable[tokenizer.special.sep] = True

    def ask(self, ids: Tensor) -> Masked:
        """The puzzle of ids [B, T]; padding stands last in a row, where nobody reads it."""
        asked = F.pad(self.maskable[ids[:, 1:-1]], (0, 2))  # [B, T], of the next token
        positions = asked.flatten().nonzero().flatten()  # [K]
        return Masked(ids, positions, ids.flatten()[positions + 1])

    def __call__(self, ids: Tensor, generator: torch.Generator, rate: float | None = None):
        """As `ask`; nothing is drawn."""
        return self.ask(ids)

    def puzzle(self, ids: Tensor, positions: Tensor, labels: Tensor, replaced: Tensor) -> Masked:
        """As `ask`, whatever a file hides."""
        return self.ask(ids)
