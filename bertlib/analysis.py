"""What a trained model knows and what it misses: thousands of hidden words, counted in parts.

`collect` asks the model once, and every question after that is a sum over holes. A group of holes
is a mask [K] of bools; groups come as dictionaries by name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.masking import Masked, Masker
from bertlib.predict import in_evaluation
from bertlib.tokens import Tokenizer

Groups = dict[str, Tensor]
COUNTS = (0, 300, 1_000, 3_000, 10_000, 30_000, 100_000)  # edges: occurrences in training


@dataclass(frozen=True)
class Holes:
    """Hidden words and what a model says of them: tensors [K], one number for each hole."""

    chunk: Tensor  # number of its chunk in the dataset
    place: Tensor  # where it stands there, 0..T-1
    label: Tensor  # id of the true word
    seen: Tensor  # id that stood in its place: [MASK], a random word or the true one
    guess: Tensor  # id of the first guess
    confidence: Tensor  # probability of the first guess, 0..1
    nats: Tensor  # loss: -ln of the probability of the true word
    rank: Tensor  # of the true word; 1: it is the first guess

    def __len__(self) -> int:
        return len(self.label)

    @property
    def right(self) -> Tensor:
        """Whether the first guess is the true word: [K] bool."""
        return self.guess == self.label

    def where(self, keep: Tensor) -> "Holes":
        """The holes at `keep`: a mask [K] of bools, or indices."""
        return Holes(**{name: column[keep] for name, column in vars(self).items()})


class Part(NamedTuple):
    """A group of holes: how many, the share of right first guesses, the mean loss in nats."""

    name: str
    count: int  # type: ignore[assignment]
    accuracy: float
    nats: float

    @property
    def error(self) -> float:
        """Standard error of the accuracy, as if each hole were drawn by itself."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.count)


class Bin(NamedTuple):
    """Holes of like confidence: low < confidence <= high, how many, both means (0..1)."""

    low: float
    high: float
    count: int  # type: ignore[assignment]
    confidence: float
    accuracy: float


# -- asking the model -------------------------------------------------------------------------


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` numbers below `count`, evenly spaced: files are in order of source."""
    return [number * count // min(count, wanted) for number in range(min(count, wanted))]


def judge(logits: Tensor, puzzle: Masked, chunks: Tensor) -> Holes:
    """What logits [K, V] say at the holes of a puzzle whose sequences are the chunks [B]."""
    length = puzzle.input_ids.shape[1]
    log_shares = logits.log_softmax(-1)  # [K, V]
    best, guess = log_shares.max(-1)
    truth = log_shares.gather(-1, puzzle.labels[:, None])  # [K, 1]
    return Holes(
        chunk=chunks[puzzle.positions // length], place=puzzle.positions % length,
        label=puzzle.labels, seen=puzzle.input_ids.flatten()[puzzle.positions], guess=guess,
        confidence=best.exp(), nats=-truth[:, 0], rank=1 + (log_shares > truth).sum(-1),
    )


@torch.no_grad()
def collect(model: BertForMaskedLM, data: Dataset, masker: Masker, chunks: Sequence[int],
            temperature: float = 1.0, size: int = 32) -> Holes:
    """Every frozen hole of the given chunks, `size` chunks at once.

    Logits are divided by `temperature` (Guo et al. 2017, section 4.2): above 1 doubts more.
    """
    found = []
    for start in range(0, len(chunks), size):
        numbers = torch.tensor(chunks[start : start + size])
        puzzle = data.frozen(numbers.numpy(), masker)
        logits = in_evaluation(model, puzzle.input_ids, puzzle.positions, puzzle.attention_mask)
        found.append(judge(logits / temperature, puzzle, numbers))
    columns = {name: torch.cat([vars(part)[name] for part in found]) for name in vars(found[0])}
    return Holes(**columns)


# -- accuracy by part -------------------------------------------------------------------------


def by_part(holes: Holes, groups: Groups) -> list[Part]:
    """Accuracy and loss of each group that is not empty."""
    return [Part(name, int(keep.sum()), float(holes.right[keep].double().mean()),
                 float(holes.nats[keep].double().mean()))
            for name, keep in groups.items() if keep.any()]


def by_sign(holes: Holes, mask_id: int) -> Groups:
    """By what stood in the hole: [MASK], the word itself, or a random one."""
    hidden, kept = holes.seen == mask_id, holes.seen == holes.label
    return {"[MASK]": hidden, "the word itself": kept & ~hidden, "a random word": ~hidden & ~kept}


def by_frequency(holes: Holes, counts: Tensor, edges: Sequence[int] = COUNTS) -> Groups:
    """By how often the true word occurs in training: counts [V]."""
    often = counts[holes.label]
    groups = {}
    for low, high in zip(edges, (*edges[1:], math.inf), strict=True):
        name = f"{low:,} or more" if high == math.inf else f"{low:,} to {high - 1:,}"
        groups[name] = (often >= low) & (often < high)
    return groups


def kind(token: str) -> str:
    """What a token is: a piece that goes on, a mark, a number, or a word (or the start of one)."""
    if token.startswith("##"):
        return "word piece"
    if not any(letter.isalnum() for letter in token):
        return "punctuation"
    return "number" if token.isnumeric() else "word or its start"


def by_kind(holes: Holes, tokenizer: Tokenizer) -> Groups:
    """By what the true token is, see `kind`."""
    found = [kind(token) for token in tokenizer.tokens(holes.label.tolist())]
    return {name: torch.tensor([one == name for one in found])
            for name in ("punctuation", "word or its start", "word piece", "number")}


def by_place(holes: Holes, edges: Sequence[int]) -> Groups:
    """By where the hole stands: from each edge up to the next one, which is left out."""
    return {f"{low} to {high - 1}": (holes.place >= low) & (holes.place < high)
            for low, high in zip(edges, edges[1:], strict=False)}


def table(parts: Sequence[Part], title: str = "") -> str:
    """Groups as lines of text: how many, accuracy with its standard error, loss in nats."""
    width = max(len(title), *(len(part.name) for part in parts))
    lines = [f"{title:{width}}  holes   right   error  nats"]
    lines += [f"{part.name:{width}} {part.count:6,} {part.accuracy:7.1%} {part.error:7.1%} "
              f"{part.nats:5.2f}" for part in parts]
    return "\n".join(lines)


# -- does it know when it knows? --------------------------------------------------------------


def calibration(confidence: Tensor, right: Tensor, bins: int = 10) -> list[Bin]:
    """Guesses sorted by confidence [K] into equal bins, each with the share that is right.

    Empty bins are left out. Source: Guo et al. 2017, section 2.
    """
    number = (confidence.double() * bins).ceil().long().clamp(min=1) - 1  # (low, high]
    found = []
    for n in number.unique().tolist():
        inside = number == n
        found.append(Bin(n / bins, (n + 1) / bins, int(inside.sum()),
                         float(confidence[inside].double().mean()),
                         float(right[inside].double().mean())))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """How far confidence and accuracy lie apart, bins weighted by their counts: 0..1."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


# -- embeddings and heads ---------------------------------------------------------------------


def neighbours(embeddings: Tensor, words: Tensor, top: int = 5) -> tuple[Tensor, Tensor]:
    """The nearest other rows of [V, D] by cosine, of ids [n]: cosines, ids, each [n, top]."""
    unit = F.normalize(embeddings, dim=1)
    cosines = unit[words] @ unit.T  # [n, V]
    cosines[torch.arange(len(words)), words] = -math.inf
    best = cosines.topk(top)
    return best.values, best.indices


def shared_neighbours(one: Tensor, other: Tensor, words: Tensor, top: int = 10) -> float:
    """The share 0..1 of the `top` neighbours of `words` [n] that two tables have in common."""
    first, second = (neighbours(rows, words, top)[1] for rows in (one, other))  # [n, top]
    return float((first[:, :, None] == second[:, None, :]).any(-1).double().mean())


def key_groups(ids: Tensor, tokenizer: Tokenizer) -> Groups:
    """Where in ids [B, T] [CLS], [SEP] and punctuation stand: masks [B, T]."""
    special = tokenizer.special
    points = torch.tensor([kind(token) == "punctuation" for token in tokenizer.vocab])
    return {"[CLS]": ids == special.cls, "[SEP]": ids == special.sep, "punctuation": points[ids]}


def head_shares(maps: Tensor, groups: Groups, reach: int = 3) -> Groups:
    """Where heads look: maps [n_layer, B, H, T, T] -> name -> share of weight [n_layer, H].

    Distances -reach..+reach (key minus query; 0 is the token itself), what is farther, and groups
    of keys [B, T], averaged over all queries. The distances add up to 1; the groups cut across.
    """
    length, found = maps.shape[-1], Groups()
    for distance in range(-reach, reach + 1):
        line = maps.diagonal(distance, dim1=-2, dim2=-1)  # [n_layer, B, H, T - |distance|]
        found[f"{distance:+d}" if distance else "itself"] = line.sum(-1).mean(1) / length
    found["farther"] = 1 - reduce(torch.add, found.values())
    return found | {name: (maps * keys[None, :, None, None, :]).sum(-1).mean((1, 3))
                    for name, keys in groups.items()}


# -- mistakes ---------------------------------------------------------------------------------


def surest_mistakes(holes: Holes, top: int) -> Tensor:
    """Indices of the `top` wrong first guesses that the model was surest of."""
    wrong = (~holes.right).nonzero().flatten()
    order = holes.confidence[wrong].argsort(descending=True, stable=True)
    return wrong[order[:top]]


def in_context(tokens: Sequence[str], place: int, said: str, around: int = 9) -> str:
    """The tokens around a place, with `said` standing there; word pieces are joined."""
    sides = tokens[max(0, place - around) : place], tokens[place + 1 : place + 1 + around]
    before, after = (" ".join(side).replace(" ##", "") for side in sides)
    return f"{before} {said} {after}".strip()
