"""Words counted by their context: which word stood beside what, and how often.

A context is any whole number from 0 on; a pair (context, word) is one cell, and a table the sorted
cells of a text with their counts. `baselines` guesses by such tables.
"""

import numpy as np
from numpy import ndarray

BLOCKS = 100  # of training chunks; each tenth block chooses k, and is counted afterwards
AT_ONCE = 256  # holes; their answers over all words are [256, V]
PLACES = (-3, -2, -1, 1, 2, 3)  # of the words around, from the hole


def around(ids: ndarray, vocab_size: int, places: tuple[int, ...] = PLACES) -> ndarray:
    """What stands at `places` from each token: ids [B, T] -> [B*T, places]; V beyond the ends."""
    most, length = max(map(abs, places)), ids.shape[1]
    framed = np.pad(ids, ((0, 0), (most, most)), constant_values=vocab_size)
    return np.stack([framed[:, most + place : most + place + length].ravel()
                     for place in places], axis=1)


def beside(ids: ndarray, vocab_size: int) -> tuple[ndarray, ndarray]:
    """What stands left and right of each token: ids [B, T] -> two [B*T]; V beyond the ends."""
    left, right = around(ids, vocab_size, (-1, 1)).T
    return left, right


class Table:
    """How often each word stood in each context, as sorted cells: context * V + word."""

    def __init__(self, contexts: ndarray, words: ndarray, vocab_size: int):
        self.vocab_size = vocab_size
        self.cells, self.counts = np.unique(contexts * vocab_size + words, return_counts=True)
        self.sums = np.concatenate([[0], self.counts.cumsum()])

    def seen(self, contexts: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
        """How often each of `words` stood in the context beside it, and how often any did: [n]."""
        def before(cells: ndarray) -> ndarray:
            return self.sums[np.searchsorted(self.cells, cells)]
        first = contexts * self.vocab_size
        return (before(first + words + 1) - before(first + words),
                before(first + self.vocab_size) - before(first))

    def count(self, contexts: ndarray, rows: ndarray) -> None:
        """Write how often each word stood in each of `contexts` [n] into `rows` [n, V] of zeros."""
        first, end = (np.searchsorted(self.cells, (contexts + more) * self.vocab_size)
                      for more in (0, 1))
        hole = np.repeat(np.arange(len(contexts)), end - first)
        place = np.arange(len(hole)) + np.repeat(end - (end - first).cumsum(), end - first)
        rows[hole, self.cells[place] % self.vocab_size] = self.counts[place]

    def smoothed(self, contexts: ndarray, prior: ndarray, k: float) -> ndarray:
        """The shares of all words in each of `contexts` [n], by its counts and a prior: [n, V]."""
        rows = np.zeros((len(contexts), self.vocab_size), np.float32)
        self.count(contexts, rows)
        return smooth(rows, rows.sum(1, keepdims=True), prior, k)


def held_out(chunks: int) -> ndarray:
    """Which of the training chunks choose k and weights: [N] bool."""
    return np.arange(chunks) * BLOCKS // chunks % 10 == 0


def sample(most: int, *arrays: ndarray) -> tuple[ndarray, ...]:
    """The same `most` rows or a few more of each, from all places."""
    return tuple(array[:: max(1, len(array) // most)] for array in arrays)


def ordinary(text: ndarray, vocab_size: int, special_ids: list[int],
             places: tuple[int, ...] = PLACES) -> tuple[ndarray, ndarray]:
    """All words that are not special [n], and what stands at `places` from each [n, places]."""
    keep = ~np.isin(text.ravel(), special_ids)
    return text.ravel()[keep], around(text, vocab_size, places)[keep]


def frequencies(words: ndarray, vocab_size: int) -> ndarray:
    """The share of each word [V], as if each had stood there half a time more."""
    counts = np.bincount(words, minlength=vocab_size) + 0.5
    return counts / counts.sum()


def smooth(seen, total, prior, k: float) -> ndarray:
    """(seen + k prior) / (total + k): counts, and k words more by a prior."""
    return (seen + k * prior) / (total + k)


def at(rows: ndarray, words: ndarray) -> ndarray:
    """Of each row the value of its word: [n, V], [n] -> [n]."""
    return rows[np.arange(len(words)), words]


def in_pieces(function, *arrays, at_once: int | None = None) -> tuple[ndarray, ...]:
    """`function` on some holes at a time, AT_ONCE if not told; it returns a tuple of arrays."""
    size = at_once or AT_ONCE
    steps = range(0, len(arrays[0]), size)
    pieces = [function(*(array[i : i + size] for array in arrays)) for i in steps]
    return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
