"""What a model says as it learns: its guesses for a few sentences, written down on the way."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.predict import fill
from bertlib.tokens import Tokenizer

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
        hidden = len(ids) // 2
        before, after = tokenizer.decode(ids[:hidden]), tokenizer.decode(ids[hidden + 1 :])
        sentences.append(f"{before} [MASK] {after}".strip())
    return sentences


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
