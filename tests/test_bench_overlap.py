"""Text that stands in two splits is found, against a plain search for words in a row."""

import numpy as np
import pytest

from bertlib.bench.overlap import RUN, shared_chunks
from bertlib.data import load_dataset
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.plumbing.files import PROJECT
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.tokens import Tokenizer

VOCAB = PROJECT / "wiki" / "vocab"
PROVERB = "a rolling stone gathers no moss , but the early bird in the bush catches the worm ."


def by_hand(train, val, tokenizer, length: int) -> list[bool]:
    """For each validation chunk, whether a run of words that touches it is in the training text."""
    def stream(data):
        words, chunks = [], []
        for number, row in enumerate(data.ids[:, 1:-1].tolist()):
            for token, i in zip(tokenizer.tokens(row), row, strict=True):
                piece = token.removeprefix("##")
                if i == tokenizer.special.sep:
                    words.append(f"end {len(words)}")
                elif not piece.isalnum():
                    continue
                elif token.startswith("##") and words:
                    words[-1] += piece
                    continue
                else:
                    words.append(piece)
                chunks.append(number)
        return words, chunks

    known = stream(train)[0]
    runs = {tuple(known[i : i + length]) for i in range(len(known) - length + 1)}
    words, chunks = stream(val)
    shared = [False] * len(val)
    for i in range(len(words) - length + 1):
        if tuple(words[i : i + length]) in runs:
            for chunk in chunks[i : i + length]:
                shared[chunk] = True
    return shared


@pytest.mark.parametrize("length", [5, RUN])
def test_shared_runs_are_those_that_a_plain_search_finds(tmp_path, length):
    tokenizer = Tokenizer.load(VOCAB)
    draw = np.random.default_rng(0)
    words = [token for token in tokenizer.vocab if token.isalpha() and len(token) > 3][:3000]
    documents = []
    for number in range(150):
        text = " ".join(draw.choice(words, 60))
        extra = PROVERB if number % 7 == 0 else "unbelievabilities"
        documents.append(f" = T{number} = \n {text} {extra} {draw.choice(words)} .\n")
    (tmp_path / "x.txt").write_text("".join(documents))
    prepare(PrepareConfig(tmp_path / "x.txt", "x", tmp_path, VOCAB, 32))
    files = find_datasets(tmp_path, "x", 32)
    train, val = (load_dataset(path, tokenizer) for path in (files.train[0], files.val))
    found = shared_chunks(train, val, tokenizer, length)
    assert found.tolist() == by_hand(train, val, tokenizer, length)
    assert 0 < found.sum() < len(val)
