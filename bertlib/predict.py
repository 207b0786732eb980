"""What a model guesses for hidden words, and how probable it finds the true ones."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.files import InputError, write_json
from bertlib.masking import Masked, Masker
from bertlib.tokens import Tokenizer

SENTENCES = (
    "he was born in [MASK] and died in 1892 .",
    "the second world [MASK] ended in 1945 .",
    "it is one of the largest [MASK] in the world .",
    "the population of the city was about two [MASK] people .",
    "she looked at him and shook her [MASK] .",
)


class Guess(NamedTuple):
    """A word and the probability 0..1 that the model gives it."""

    token: str
    probability: float


@dataclass(frozen=True)
class Hole:
    """A hidden token: where it stands, what the model guesses, and how it likes the truth.

    guesses: best first. truth, rank (1: it is the first guess) and probability (0..1) are None
    where nobody knows what stood there.
    """

    position: int
    guesses: tuple[Guess, ...]
    truth: str | None = None
    rank: int | None = None
    probability: float | None = None

    @property
    def right(self) -> bool | None:
        """Whether the first guess is the truth; None if that is unknown."""
        return None if self.truth is None else self.guesses[0].token == self.truth

    def verdict(self) -> str:
        """✓ right, ✗ wrong, or nothing."""
        return {True: "✓ right", False: "✗ wrong", None: ""}[self.right]


@dataclass(frozen=True)
class Page:
    """The tokens of a text (true ones where known) and its holes, in the order of the text."""

    tokens: tuple[str, ...]
    holes: tuple[Hole, ...]

    def right(self) -> int:
        """How many first guesses are right."""
        return sum(hole.right is True for hole in self.holes)

    def known(self) -> int:
        """How many holes have a known truth."""
        return sum(hole.truth is not None for hole in self.holes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Page":
        """What `as_dict` gave."""
        holes = [Hole(**hole | {"guesses": tuple(Guess(*guess) for guess in hole["guesses"])})
                 for hole in values["holes"]]
        return cls(tuple(values["tokens"]), tuple(holes))


def in_evaluation(model: BertForMaskedLM, ids: Tensor, positions: Tensor,
                  attention_mask: Tensor | None = None) -> Tensor:
    """Logits [K, V] with dropout off; the model is left in the mode it was in."""
    was_training, device = model.training, next(model.parameters()).device
    if attention_mask is not None:
        attention_mask = attention_mask.to(device)
    out = model.eval()(ids.to(device), positions.to(device), attention_mask=attention_mask)
    model.train(was_training)
    return out.logits.cpu()


@torch.no_grad()
def guess_page(model: BertForMaskedLM, tokenizer: Tokenizer, puzzle: Masked,
               top: int = 5) -> Page:
    """What a model says at the holes of one sequence, `puzzle` as a batch of 1, truths known.

    A label of -1 means that nobody knows the truth.
    """
    logits = in_evaluation(model, puzzle.input_ids, puzzle.positions, puzzle.attention_mask)
    shares = logits.softmax(-1)  # [K, V]
    best = shares.topk(top)
    tokens = tokenizer.tokens(puzzle.input_ids[0].tolist())
    holes = []
    for row, (place, label) in enumerate(zip(puzzle.positions.tolist(), puzzle.labels.tolist(),
                                             strict=True)):
        words = tokenizer.tokens(best.indices[row].tolist())
        guesses = tuple(map(Guess, words, best.values[row].tolist()))
        if label < 0:
            holes.append(Hole(place, guesses))
            continue
        tokens[place], share = tokenizer.vocab[label], float(shares[row, label])
        rank = 1 + int((shares[row] > share).sum())
        holes.append(Hole(place, guesses, tokens[place], rank, share))
    return Page(tuple(tokens), tuple(holes))


def fill(model: BertForMaskedLM, tokenizer: Tokenizer, text: str, top: int = 5):
    """The `top` guesses for each [MASK] in `text`, best first: one list of `Guess` a mask.

    Raises `InputError` if the text has no [MASK] or more tokens than the model takes.
    """
    ids = torch.tensor([tokenizer.encode(text)])  # [1, T]
    positions = (ids[0] == tokenizer.special.mask).nonzero().flatten()  # [K]
    if len(positions) == 0:
        raise InputError(f"The text {text[:60]!r} has no [MASK]; put one where to guess.")
    page = guess_page(model, tokenizer, Masked(ids, positions, torch.full_like(positions, -1)), top)
    return [list(hole.guesses) for hole in page.holes]


@torch.no_grad()
def word_shares(model: BertForMaskedLM, tokenizer: Tokenizer, ids: Tensor) -> Tensor:
    """The probability of each true token when it alone is hidden: ids [T] -> [T], specials 1.

    All T puzzles go through the model as one batch. The sum of the logarithms is the
    pseudo-log-likelihood of Salazar et al. 2020, section 2.
    """
    special = tokenizer.special
    ordinary = ~torch.isin(ids, torch.tensor([special.cls, special.sep, special.pad, special.mask]))
    places = ordinary.nonzero().flatten()  # [n]
    shares = torch.ones(len(ids))
    if len(places):
        batch = ids.repeat(len(places), 1)  # [n, T]
        rows = torch.arange(len(places))
        batch[rows, places] = special.mask
        logits = in_evaluation(model, batch, rows * len(ids) + places)  # [n, V]
        shares[places] = logits.softmax(-1)[rows, ids[places]]
    return shares


@torch.no_grad()
def attention_maps(model: BertForMaskedLM, ids: Tensor) -> Tensor:
    """What every head of a model reads: ids [B, T] -> weights [n_layer, B, H, T, T]."""
    encoder, states = model.encoder, []
    encoder(ids, layers=states)  # the state before each block, and the last
    bias = encoder.scores_bias(ids, None)
    maps = []
    for block, x in zip(encoder.blocks, states[:-1], strict=True):
        maps.append(block.attention.weights(block.attention_norm(x) if block.pre_norm else x, bias))
    return torch.stack(maps)


class Sampler:
    """Watches a run: appends the guesses for fixed sentences to its `logs/samples.jsonl`."""

    def __init__(self, tokenizer: Tokenizer, sentences: Sequence[str] = SENTENCES, top: int = 3):
        self.tokenizer, self.sentences, self.top = tokenizer, sentences, top

    def __call__(self, step: int, model: BertForMaskedLM, folder: Path) -> None:
        guesses = [fill(model, self.tokenizer, text, self.top)[0] for text in self.sentences]
        plain = [[[g.token, round(g.probability, 4)] for g in best] for best in guesses]
        record = {"step": step, "guesses": plain}
        with (Path(folder) / "logs" / "samples.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_samples(path: Path) -> list[dict]:
    """What a `Sampler` wrote, by step; of two records for a step (after a resume) the last."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    by_step = {record["step"]: record for record in map(json.loads, lines)}
    return [by_step[step] for step in sorted(by_step)]


def guess_chunk(model: BertForMaskedLM, data: Dataset, number: int, masker: Masker,
                tokenizer: Tokenizer, top: int = 5) -> Page:
    """The model's guesses at the frozen masks of one chunk of a dataset."""
    return guess_page(model, tokenizer, data.frozen(slice(number, number + 1), masker), top)


def save_page(page: Page, path: Path) -> None:
    """As JSON, shares with four digits."""
    plain = page.as_dict()
    for hole in plain["holes"]:
        hole["guesses"] = [[token, round(share, 4)] for token, share in hole["guesses"]]
        hole["probability"] = hole["probability"] and round(hole["probability"], 6)
    write_json(path, plain)


def load_page(path: Path) -> Page:
    """From JSON that `save_page` wrote."""
    return Page.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
