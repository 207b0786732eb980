"""What a model says as it learns: its guesses for a few sentences, written down on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.plumbing.page import Guess
from bertlib.plumbing.records import add_record, read_records
from bertlib.predict import fill
from bertlib.tokens import Tokenizer


class Sample(TypedDict):
    """A record: for each sentence the guesses with their shares, best first."""

    step: int
    guesses: list[list[Guess]]


SENTENCES = (
    "he was born in [MASK] and died in 1892 .",
    "the second world [MASK] ended in 1945 .",
    "it is one of the largest [MASK] in the world .",
    "the population of the city was about two [MASK] people .",
    "she looked at him and shook her [MASK] .",
)


def some_sentences(data: Dataset, tokenizer: Tokenizer, count: int = 5,
                   length: int = 12) -> list[str]:
    """Sentences to ask about another text: `length` tokens from places all over it, one hidden."""
    sentences = []
    for number in np.linspace(0, len(data) - 1, count).astype(int):
        ids = data.ids[number, 1:-1][:length].tolist()
        sentences.append(_hide_middle(ids, tokenizer))
        while len(tokenizer.encode(sentences[-1])) > data.header.max_len and len(ids) > 1:
            ids.pop()  # a text that is cut within a word may have more tokens when it is read anew
            sentences[-1] = _hide_middle(ids, tokenizer)
    return sentences


def _hide_middle(ids: list[int], tokenizer: Tokenizer) -> str:
    hidden = len(ids) // 2
    return f"{tokenizer.decode(ids[:hidden])} [MASK] {tokenizer.decode(ids[hidden + 1:])}".strip()


class Sampler:
    """Watches a run: appends the guesses for fixed sentences to its `logs/samples.jsonl`."""

    def __init__(self, tokenizer: Tokenizer, sentences: Sequence[str] = SENTENCES, top: int = 3):
        self.tokenizer, self.sentences, self.top = tokenizer, sentences, top

    def __call__(self, step: int, model: BertForMaskedLM, folder: Path) -> None:
        guesses = [fill(model, self.tokenizer, text, self.top)[0] for text in self.sentences]
        plain = [[[g.token, round(g.probability, 4)] for g in best] for best in guesses]
        record = {"step": step, "guesses": plain}
        add_record(Path(folder) / "logs" / "samples.jsonl", record)


def read_samples(path: Path) -> list[dict]:
    """What a `Sampler` wrote, by step; of two records for a step (after a resume) the last.

    Raises `InputError` that names the line if one is damaged.
    """
    by_step = {record["step"]: record for record in read_records(path, Sample)}
    return [by_step[step] for step in sorted(by_step)]
