"""How much of the validation text also stands in the training text, word for word.

The command is `python -m bertlib.bench overlap`. Documents may be apart and still share text: a
quotation, a form letter, a list. Runs of 13 words are what Brown et al. 2020 (appendix C) looked
for, to tell what a model may have learned by heart.
"""


import numpy as np
from numpy import ndarray

from bertlib.data import EMBEDDED, Dataset, ensure_datasets, load_dataset
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.files import InputError
from bertlib.tokens import Tokenizer

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing
RUN = 13  # words


def words_of(ids: ndarray, tokenizer: Tokenizer) -> tuple[ndarray, ndarray]:
    """The words of a stream of token ids [N] as hashes [W], and where each begins [W].

    Pieces belong to the word before them. Marks are no words; [SEP], which ends a document, is a
    word that is never the same twice. Two words have one hash once in some billion billion pairs.
    """
    text = np.array([token.removeprefix("##").isalnum() for token in tokenizer.vocab])
    begins = np.array([not token.startswith("##") for token in tokenizer.vocab])
    special = tokenizer.special
    keep = np.flatnonzero((text[ids] | (ids == special.sep)) & (ids != special.pad))
    starts = np.flatnonzero(begins[ids[keep]])
    with np.errstate(over="ignore"):
        hashes = np.zeros(len(starts), np.uint64)
        lengths = np.diff(np.append(starts, len(keep)))
        for place in range(int(lengths.max(initial=0))):
            longer = lengths > place
            piece = ids[keep[starts[longer] + place]].astype(np.uint64)
            hashes[longer] = _mix(hashes[longer] * FACTOR + piece + np.uint64(1))
    ends = ids[keep[starts]] == special.sep
    hashes[ends] = _mix(np.arange(ends.sum(), dtype=np.uint64) + (FACTOR >> np.uint64(1)))
    return hashes, keep[starts]


def _mix(hashes: ndarray) -> ndarray:
    """Spread what differs in a few bits over all of them (splitmix64, Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def runs_of(words: ndarray, length: int) -> ndarray:
    """A hash for each run of `length` words [W] -> [W - length + 1]."""
    count = max(0, len(words) - length + 1)
    runs = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(length):
            runs = _mix(runs * FACTOR + words[place : place + count])
    return runs


def shared_chunks(train: Dataset, val: Dataset, tokenizer: Tokenizer, length: int = RUN) -> ndarray:
    """Whether each validation chunk holds a run of `length` words of the training text: [N] bool.

    A run may begin in one chunk and end in the next, in a packed dataset; it counts for both.
    """
    inner = slice(1, -1) if train.header.origin.segment == "token" else slice(None)
    known, _ = words_of(train.ids[:, inner].ravel(), tokenizer)
    words, places = words_of(val.ids[:, inner].ravel(), tokenizer)
    places = places // val.ids[0, inner].size
    found = np.flatnonzero(np.isin(runs_of(words, length), runs_of(known, length)))
    shared = np.zeros(len(val), bool)
    for place in range(length):
        shared[places[found + place]] = True
    return shared


def bench_overlap(arguments: list[str]) -> None:
    """Count validation chunks that share a run of words with the training text."""
    parse = Parser(prog="bench overlap", description=bench_overlap.__doc__)
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--label", default=EMBEDDED)
    parse.add_argument("--seq-len", type=int, default=128)
    parse.add_argument("--words", type=int, default=RUN, help=f"in a run (default {RUN})")
    options = parse.parse_args(arguments)
    if options.words < 1:
        raise InputError(f"--words is {options.words}; it must be at least 1.")
    base = base_folder(options.base)
    tokenizer = Tokenizer.load(base / "vocab")
    files = ensure_datasets(base, options.label, options.seq_len)
    train, val = (load_dataset(path, tokenizer) for path in (files.train[0], files.val))
    shared = shared_chunks(train, val, tokenizer, options.words)
    print(f"{options.label}, dealt out in {val.header.origin.unit}: {shared.sum():,} of "
          f"{len(val):,} validation chunks ({shared.mean():.1%}) share a run of {options.words} "
          "or more words with the training text")
