"""What a model must beat: how far plain counting comes on the very puzzles that it solves.

Four answers without a gradient, each knowing more than the one before: nothing, how often each
word occurs, the word on the left, the words on both sides. All is counted on the training split,
and they see what the model sees: a neighbour that is hidden, too, shows [MASK] (or a random
word), and of a context that no text has shown the answer falls back on what is left.

Smoothing is hierarchical (MacKay & Peto 1995): the counts of a context, plus k times the answer
of a poorer one, p = (count + k prior) / (total + k). The prior of one neighbour is the frequency
of words; that of both is what Bayes makes of the two single answers if left and right say
nothing about each other: p(w | l, r) ~ p(w | l) p(w | r) / p(w). k is chosen on held-out
training text.
"""

import math

import numpy as np
from numpy import ndarray

from bertlib.counts import Parts, unigram_bias, word_counts
from bertlib.masking import Masked

STRENGTHS = tuple(2.0**power for power in range(-4, 14))  # what k is chosen from
BLOCKS = 100  # of training chunks; each tenth block chooses k, and is counted afterwards
SAMPLE = 20_000  # words of it that are guessed
AT_ONCE = 256  # holes; their answers over all words are [256, V]


def baselines(parts: Parts, puzzle: Masked, vocab_size: int, special_ids: list[int],
              neighbours: bool = True) -> dict[str, float]:
    """What a model must beat on a puzzle, by the training chunks in `parts`.

    uniform: loss of knowing nothing, ln V. unigram: loss of the training frequencies.
    most_frequent: accuracy of always answering the most frequent word. left, both: loss and
    accuracy of knowing the neighbours; they take some seconds, `neighbours=False` skips them.
    """
    parts, labels = list(parts), puzzle.labels
    counts = word_counts(parts, vocab_size)
    counts[special_ids] = 0
    found = {
        "uniform_loss": math.log(vocab_size),
        "unigram_loss": float(-unigram_bias(counts)[labels].mean()),
        "most_frequent_id": int(counts.argmax()),
        "most_frequent_accuracy": float((labels == counts.argmax()).float().mean()),
    }
    if neighbours:
        text = np.concatenate([ids.numpy() for ids in parts])  # [N, T]
        left, right = beside(puzzle.input_ids.numpy(), vocab_size)
        holes, words = puzzle.positions.numpy(), labels.numpy()
        known = Neighbours.fit(text, vocab_size, special_ids)
        found |= known.score(left[holes], right[holes], words)
    return found


def beside(ids: ndarray, vocab_size: int) -> tuple[ndarray, ndarray]:
    """What stands left and right of each token: ids [B, T] -> two [B*T]; V beyond the ends."""
    framed = np.pad(ids, ((0, 0), (1, 1)), constant_values=vocab_size)
    return framed[:, :-2].ravel(), framed[:, 2:].ravel()


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

    def smoothed(self, contexts: ndarray, prior: ndarray, k: float) -> ndarray:
        """The shares of all words in each of `contexts` [n], by its counts and a prior: [n, V]."""
        first, end = (np.searchsorted(self.cells, (contexts + more) * self.vocab_size)
                      for more in (0, 1))
        hole = np.repeat(np.arange(len(contexts)), end - first)
        place = np.arange(len(hole)) + np.repeat(end - (end - first).cumsum(), end - first)
        rows = np.zeros((len(contexts), self.vocab_size), np.float32)
        rows[hole, self.cells[place] % self.vocab_size] = self.counts[place]
        return _smooth(rows, rows.sum(1, keepdims=True), prior, k)


class Neighbours:
    """Words counted by what stands beside them: probabilities and best guesses.

    Contexts of `pairs` are l for "l on the left" and size + r for "r on the right"; those of
    `triples` are l * size + r. Special tokens were never counted as words, so no guess is one.
    """

    def __init__(self, text: ndarray, vocab_size: int, special_ids: list[int],
                 k_pair: float = 1.0, k_triple: float = 1.0):
        self.size = vocab_size + 1  # V itself stands for what is beyond the ends
        self.k_pair, self.k_triple = k_pair, k_triple
        left, words, right = _ordinary(text, vocab_size, special_ids)
        share = np.bincount(words, minlength=vocab_size) + 0.5
        self.p = share / share.sum()  # [V]
        self.pairs = Table(np.concatenate([left, right + self.size]), np.tile(words, 2), vocab_size)
        self.triples = Table(left * self.size + right, words, vocab_size)

    @classmethod
    def fit(cls, text: ndarray, vocab_size: int, special_ids: list[int]) -> "Neighbours":
        """Count chunks `text` [N, T], with the k that suit held-out words best.

        Whole blocks are held out, so that most of their documents are new, as in validation.
        """
        held = np.arange(len(text)) * BLOCKS // len(text) % 10 == 0
        trial = cls(text[~held], vocab_size, special_ids)
        left, words, right = (ids[:: max(1, len(ids) // SAMPLE)]
                              for ids in _ordinary(text[held], vocab_size, special_ids))
        contexts, targets = np.concatenate([left, right + trial.size]), np.tile(words, 2)
        trial.k_pair = _strength(*trial.pairs.seen(contexts, targets), trial.p[targets])
        k_triple = _strength(*trial.triples.seen(left * trial.size + right, words),
                             trial.prior(left, right, words))
        return cls(text, vocab_size, special_ids, trial.k_pair, k_triple)

    def one(self, contexts: ndarray, words: ndarray) -> ndarray:
        """p(word | one neighbour) [n]; `contexts` as in `pairs`."""
        return _smooth(*self.pairs.seen(contexts, words), self.p[words], self.k_pair)

    def prior(self, left: ndarray, right: ndarray, words: ndarray) -> ndarray:
        """p(word | both neighbours) [n] by Bayes, as if the two were independent given the word."""
        return _in_pieces(lambda *some: (_at(self._prior(*some[:2]), some[2]),),
                          left, right, words)[0]

    def both(self, left: ndarray, right: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
        """p(word | both neighbours) [n], and the likeliest words [n] there."""
        def answer(left: ndarray, right: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
            p = self.triples.smoothed(left * self.size + right, self._prior(left, right),
                                      self.k_triple)  # [n, V]
            return _at(p, words), p.argmax(1)
        found, best = _in_pieces(answer, left, right, words)
        return found, best

    def best_one(self, contexts: ndarray) -> ndarray:
        """The likeliest word [n] given one neighbour, by `one`; `contexts` as in `pairs`."""
        distinct, place = np.unique(contexts, return_inverse=True)
        return _in_pieces(lambda some: (self._rows(some).argmax(1),), distinct)[0][place]

    def _rows(self, contexts: ndarray) -> ndarray:
        return self.pairs.smoothed(contexts, self.p.astype(np.float32), self.k_pair)

    def _prior(self, left: ndarray, right: ndarray) -> ndarray:
        product = self._rows(left) * self._rows(right + self.size) / self.p.astype(np.float32)
        return product / product.sum(1, keepdims=True)  # [n, V]

    def score(self, left: ndarray, right: ndarray, labels: ndarray) -> dict[str, float]:
        """Loss and accuracy of both answers, at holes with these neighbours and true words."""
        both, best = self.both(left, right, labels)
        return {
            "left_loss": float(-np.log(self.one(left, labels)).mean()),
            "left_accuracy": float((self.best_one(left) == labels).mean()),
            "both_loss": float(-np.log(both).mean()),
            "both_accuracy": float((best == labels).mean()),
        }


def _ordinary(text, vocab_size, special_ids) -> tuple[ndarray, ndarray, ndarray]:
    """Left neighbour, word, right neighbour of all words that are not special."""
    words = text.ravel()
    keep = ~np.isin(words, special_ids)
    left, right = beside(text, vocab_size)
    return left[keep], words[keep], right[keep]


def _smooth(seen, total, prior, k: float) -> ndarray:
    return (seen + k * prior) / (total + k)


def _strength(seen, total, prior) -> float:
    """The k that makes the loss of held-out words smallest."""
    return min(STRENGTHS, key=lambda k: -np.log(_smooth(seen, total, prior, k)).mean())


def _at(rows: ndarray, words: ndarray) -> ndarray:
    return rows[np.arange(len(words)), words]


def _in_pieces(function, *arrays) -> tuple[ndarray, ...]:
    """`function` on some holes at a time; it returns a tuple of arrays."""
    steps = range(0, len(arrays[0]), AT_ONCE)
    pieces = [function(*(array[i : i + AT_ONCE] for array in arrays)) for i in steps]
    return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
