"""What the bug museum of notebook 06 stands on: a toy language, a tiny model, a loop with holes.

The language has 34 tokens and is learned in a hundred steps. Rows hold two sentences, each about
the sea, a court or a farm; people, things and places of a sentence belong to one topic. In half of
the rows the second sentence is read backwards.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.attention import MultiHeadAttention
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.masking import Masked, Masker
from bertlib.optim import parameter_groups
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer

TOPICS = (
    ("captain sailor pirate", "ship whale anchor", "island harbour"),
    ("king queen knight", "crown throne sword", "castle tower"),
    ("farmer shepherd miller", "cow plough fence", "barn meadow"),
)
VERBS = ("saw", "lost", "found")
WORDS = ("the", "near", *VERBS, *" ".join(" ".join(topic) for topic in TOPICS).split())
T = 20  # tokens in a row, padding included

Loss = Callable[[BertForMaskedLM, Masked, Tensor], Tensor]
Curve = tuple[list[int], list[float]]


class World(NamedTuple):
    """The toy language: ids [N, T]; labels [N], 1 if the second sentence is forwards; a puzzle."""

    tokenizer: Tokenizer
    masker: Masker
    train_ids: Tensor
    train_order: Tensor
    val_ids: Tensor
    val_order: Tensor
    frozen: Masked  # of val_ids, the same for everyone


def sentence(draw: random.Random, topic: tuple[str, ...]) -> str:
    """Who did what to which thing, and in half of the cases where."""
    who, thing, where = (draw.choice(words.split()) for words in topic)
    place = f" near the {where}" if draw.random() < 0.5 else ""
    return f"the {who} {draw.choice(VERBS)} the {thing}{place}"


def pairs(tokenizer: Tokenizer, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ids [count, T] of two sentences a row, padded; 1 if the second is forwards [count]."""
    draw, rows, order = random.Random(seed), [], []
    for _ in range(count):
        first, second = (sentence(draw, draw.choice(TOPICS)) for _ in range(2))
        order.append(draw.randrange(2))
        if not order[-1]:
            second = " ".join(reversed(second.split()))
        ids = tokenizer.encode(f"{first} [SEP] {second}")
        rows.append(ids + [tokenizer.special.pad] * (T - len(ids)))
    return torch.tensor(rows), torch.tensor(order)


def toy_world() -> World:
    """2,048 rows to learn from, 256 to validate on, always the same."""
    tokenizer = Tokenizer([*SPECIAL_TOKENS, *WORDS])
    masker = Masker(tokenizer)
    val_ids, val_order = pairs(tokenizer, 256, seed=2)
    frozen = masker(val_ids, torch.Generator().manual_seed(0))
    return World(tokenizer, masker, *pairs(tokenizer, 2048, seed=1), val_ids, val_order, frozen)


def fresh(seed: int = 0, **changes) -> BertForMaskedLM:
    """An untrained BERT of two layers for the toy language; `changes` are of its config."""
    torch.manual_seed(seed)
    shape = dict(vocab_size=len(SPECIAL_TOKENS) + len(WORDS), seq_len=T, d_model=32, dropout=0.0,
                 attention_dropout=0.0)
    return BertForMaskedLM(BertConfig.preset("tiny", **shape | changes))


def masked_loss(model: BertForMaskedLM, batch: Masked, order: Tensor | None = None) -> Tensor:
    """The right loss: the mean over the masked words, in nats."""
    return model(batch.input_ids, batch.positions, batch.labels, batch.attention_mask).loss


@torch.no_grad()
def true_loss(model: BertForMaskedLM, puzzle: Masked) -> float:
    """The right loss of a model as it would be used, without dropout."""
    return float(masked_loss(model.eval(), puzzle))


def train(world: World, model: BertForMaskedLM, steps: int = 150, lr: float = 3e-3,
          loss_of: Loss = masked_loss, mask: Masker | None = None, ids: Tensor | None = None,
          score: Callable[[BertForMaskedLM], float] | None = None) -> tuple[Curve, float]:
    """Train, and return (steps, scores) of every tenth step and the last loss that the loop saw.

    The holes: how the loss is taken, who masks, which rows are learned, what is measured. The
    default of each is the right one; `score` is then the validation loss with frozen masks.
    """
    ids, mask = world.train_ids if ids is None else ids, mask or world.masker
    score = score or (lambda model: true_loss(model, world.frozen))
    optimizer = torch.optim.AdamW(parameter_groups(model, [], 0.01), lr=lr)
    draw = torch.Generator().manual_seed(0)
    curve: Curve = ([], [])
    for step in range(steps + 1):
        if step % 10 == 0:
            curve[0].append(step)
            curve[1].append(score(model))
        rows = torch.randint(len(ids), (32,), generator=draw)
        loss = loss_of(model.train(), mask(ids[rows], draw), world.train_order[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return curve, loss.item()


def unigram_loss(world: World) -> float:
    """What a model pays on the frozen puzzle that knows only how often each word occurs."""
    words = world.train_ids[world.masker.maskable[world.train_ids]]
    counts = torch.bincount(words, minlength=len(world.tokenizer))
    return float(-(counts / counts.sum()).log()[world.frozen.labels].mean())


def slots(batch: Masked, most: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """A puzzle in an old layout: flat positions, labels and weights, each [B * most].

    Each row has `most` slots; those that are not needed point at [CLS], with label and weight 0.
    """
    size, length = batch.input_ids.shape
    positions = (torch.arange(size) * length)[:, None].repeat(1, most)  # [B, most]
    labels, weights = torch.zeros_like(positions), torch.zeros(size, most)
    for row in range(size):
        mine = batch.positions // length == row
        used = int(mine.sum())
        positions[row, :used], labels[row, :used] = batch.positions[mine], batch.labels[mine]
        weights[row, :used] = 1
    return positions.flatten(), labels.flatten(), weights.flatten()


def slot_losses(model: BertForMaskedLM, batch: Masked, most: int = 5,
                reduction: str = "none") -> tuple[Tensor, Tensor]:
    """The losses of all slots [B * most], or what `reduction` makes of them; and their weights."""
    positions, labels, weights = slots(batch, most)
    logits = model(batch.input_ids, positions, None, batch.attention_mask).logits
    return F.cross_entropy(logits, labels, reduction=reduction), weights


class LateMask(MultiHeadAttention):
    """A bug on show: attention whose padding mask is applied after the softmax."""

    def forward(self, x: Tensor, bias: Tensor | None = None, past=None) -> Tensor:
        q, k = self.queries_and_keys(x)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)  # padding takes its share ...
        weights = weights if bias is None else weights * bias.exp()  # ... and loses it too late
        return (weights @ self.split(self.value(x))).transpose(1, 2).flatten(2)


def late_mask(model: BertForMaskedLM) -> BertForMaskedLM:
    """The same model and weights with the bug of `LateMask`."""
    for block in model.encoder.blocks:
        block.attention.__class__ = LateMask
    return model
