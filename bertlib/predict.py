"""What a model guesses for hidden words, shown so that people can judge it.

A guess is written `/word/`; a mark (check or cross) says right or wrong, and colour repeats it.
"""

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.files import InputError
from bertlib.masking import Masker
from bertlib.tokens import Tokenizer

SENTENCES = (
    "he was born in [MASK] and died in 1892 .",
    "the second world [MASK] ended in 1945 .",
    "it is one of the largest [MASK] in the world .",
    "the population of the city was about two [MASK] people .",
    "she looked at him and shook her [MASK] .",
)
STYLES = {  # contrast of black on both grounds is above 15:1 (WCAG asks for 4.5:1)
    True: "background:#d7f0dd;color:#000;border-bottom:2px solid #14692c",
    False: "background:#fbe3d6;color:#000;border-bottom:2px dashed #a33a00",
}


class Guess(NamedTuple):
    """A word and the probability 0..1 that the model gives it."""

    token: str
    probability: float


@torch.no_grad()
def fill(model: BertForMaskedLM, tokenizer: Tokenizer, text: str, top: int = 5):
    """The `top` guesses for each [MASK] in `text`, best first: one list of `Guess` a mask.

    Raises `InputError` if the text has no [MASK] or more tokens than the model takes.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([tokenizer.encode(text)], device=device)  # [1, T]
    positions = (ids[0] == tokenizer.special.mask).nonzero().flatten()  # [K]
    if len(positions) == 0:
        raise InputError(f"The text {text[:60]!r} has no [MASK]; put one where to guess.")
    was_training = model.training
    logits = model.eval()(ids, positions).logits  # [K, V]
    model.train(was_training)
    best = logits.softmax(-1).topk(top)
    return [
        [Guess(*pair) for pair in zip(tokenizer.tokens(tokens), shares, strict=True)]
        for tokens, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


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


@dataclass(frozen=True)
class Example:
    """A text with hidden words: its true tokens, where words were hidden, what was guessed."""

    tokens: list[str]
    positions: list[int]
    guesses: list[str]

    def right(self) -> list[bool]:
        """Whether each guess is the true token."""
        return [self.tokens[p] == g for p, g in zip(self.positions, self.guesses, strict=True)]

    def accuracy(self) -> float:
        """Share of right guesses, 0..1."""
        return sum(self.right()) / len(self.positions)

    def save(self, path: Path) -> None:
        """As JSON."""
        Path(path).write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Example":
        """From JSON that `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


@torch.no_grad()
def guess_chunk(model: BertForMaskedLM, data: Dataset, number: int, masker: Masker,
                tokenizer: Tokenizer) -> Example:
    """The model's guesses at the frozen masks of one chunk of a dataset."""
    puzzle = data.frozen(slice(number, number + 1), masker)
    logits = model(puzzle.input_ids, puzzle.positions, None, puzzle.attention_mask).logits
    tokens = tokenizer.tokens(data.chunks(slice(number, number + 1))[0].tolist())
    return Example(tokens, puzzle.positions.tolist(), tokenizer.tokens(logits.argmax(-1).tolist()))


def pieces(example: Example) -> Iterable[tuple[str, str, str | None, bool]]:
    """(space before, true token, guess or None, right), [CLS], [SEP], [PAD] left out."""
    guessed = dict(zip(example.positions, zip(example.guesses, example.right(), strict=True),
                       strict=True))
    for place, token in enumerate(example.tokens):
        if token in ("[CLS]", "[SEP]", "[PAD]"):
            continue
        guess, right = guessed.get(place, (None, False))
        joined = token.startswith("##") and guess is None
        yield "" if joined else " ", token.removeprefix("##") if joined else token, guess, right


def highlight_text(example: Example) -> str:
    """Plain text: `/guess/` with a check mark, or a cross and the true word."""
    parts = []
    for space, token, guess, right in pieces(example):
        shown = token if guess is None else f"/{guess}/" + ("✓" if right else f"✗({token})")
        parts.append(space + shown)
    return "".join(parts).strip()


def highlight_html(example: Example) -> str:
    """The same as HTML for a notebook; every token is escaped."""
    parts = []
    for space, token, guess, right in pieces(example):
        shown = html.escape(token)
        if guess is not None:
            truth = "" if right else f"<s style='opacity:.85'>{shown}</s>"
            mark, style = "✓" if right else "✗", STYLES[right]
            shown = f"<mark style='{style}'>/{html.escape(guess)}/{mark}</mark>{truth}"
        parts.append(space + shown)
    right, all_of_them = sum(example.right()), len(example.positions)
    return (
        f"<p style='line-height:1.9;max-width:46em'>{''.join(parts).strip()}</p>"
        f"<p><b>{right} of {all_of_them} right</b> ({example.accuracy():.0%}). "
        "✓ right; ✗ wrong, the true word struck through behind it.</p>"
    )
