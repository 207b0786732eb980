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
AT_ONCE = 8192  # holes: bounds the memory, for a hole may have thousands of candidates


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
    """How often each word stood in each context, as sorted keys: context * size + word."""

    def __init__(self, contexts: ndarray, words: ndarray, size: int):
        self.size = size
        self.keys, self.counts = np.unique(contexts * size + words, return_counts=True)
        self.words = self.keys % size
        self.contexts, self.starts, self.lengths = np.unique(
            self.keys // size, return_index=True, return_counts=True)
        self.totals = _sums(np.repeat(np.arange(len(self.contexts)), self.lengths), self.counts,
                            len(self.contexts))

    def count(self, contexts: ndarray, words: ndarray) -> ndarray:
        """How often each of `words` stood in the context beside it in `contexts`."""
        return _look_up(self.keys, self.counts, contexts * self.size + words)

    def total(self, contexts: ndarray) -> ndarray:
        """How often each of `contexts` occurred; 0 for one that was never seen."""
        return _look_up(self.contexts, self.totals, contexts)

    def listed(self, contexts: ndarray) -> tuple[ndarray, ndarray]:
        """All words of each of `contexts`: number of the context in the list, place in the table.
        """
        length = self.width(contexts)
        shift = _look_up(self.contexts, self.starts, contexts) - np.cumsum(length) + length
        return (np.repeat(np.arange(len(contexts)), length),
                np.arange(length.sum()) + np.repeat(shift, length))

    def width(self, contexts: ndarray) -> ndarray:
        """How many different words stood in each of `contexts`."""
        return _look_up(self.contexts, self.lengths, contexts)


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
        self.pairs = Table(np.concatenate([left, right + self.size]), np.tile(words, 2), self.size)
        self.triples = Table(left * self.size + right, words, self.size)

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
        trial.k_pair = _strength(trial.pairs.count(contexts, targets),
                                 trial.pairs.total(contexts), trial.p[targets])
        context = left * trial.size + right
        k_triple = _strength(trial.triples.count(context, words), trial.triples.total(context),
                             trial.prior(left, right, words))
        return cls(text, vocab_size, special_ids, trial.k_pair, k_triple)

    def one(self, contexts: ndarray, words: ndarray) -> ndarray:
        """p(word | one neighbour) [n]; `contexts` as in `pairs`."""
        seen, total = self.pairs.count(contexts, words), self.pairs.total(contexts)
        return (seen + self.k_pair * self.p[words]) / (total + self.k_pair)

    def prior(self, left: ndarray, right: ndarray, words: ndarray) -> ndarray:
        """p(word | both neighbours) [n] by Bayes, as if the two were independent given the word."""
        return _in_pieces(lambda *piece: (
            self._product(*piece) / self._meet(*piece[:2])[-1],), left, right, words)[0]

    def both(self, left: ndarray, right: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
        """p(word | both neighbours) [n], and the likeliest words [n] there."""
        singles = self.best_one(left), self.best_one(right + self.size)
        found, best = _in_pieces(self._both, left, right, words, *singles)
        return found, best

    def best_one(self, contexts: ndarray) -> ndarray:
        """The likeliest word [n] given one neighbour, by `one`; `contexts` as in `pairs`."""
        table = self.pairs
        group = np.repeat(np.arange(len(table.contexts)), table.lengths)
        score = table.counts + self.k_pair * self.p[table.words]
        most = int(self.p.argmax())  # of all words that were not seen there it is the likeliest
        best, top = _best(group, score, table.words, len(table.contexts))
        best[top < self.k_pair * self.p[most]] = most
        return _look_up(table.contexts, best, contexts, missing=most)

    def _both(self, left, right, words, *singles) -> tuple[ndarray, ndarray]:
        """As `both`; `singles` are the best words [n] by each neighbour alone.

        Only these can win: the best of one side, the best by the prior, and words of the triples.
        """
        hole, tried, product, total = self._meet(left, right)
        found = self._smooth(left, right, words, self._product(left, right, words) / total)
        whole = np.arange(len(left))
        third, place = self.triples.listed(left * self.size + right)
        hole, tried = (np.concatenate(parts) for parts in (
            (whole, whole, whole, third),
            (*singles, _best(hole, product, tried, len(left))[0], self.triples.words[place])))
        product = self._product(left[hole], right[hole], tried) / total[hole]
        score = self._smooth(left[hole], right[hole], tried, product)
        return found, _best(hole, score, tried, len(left))[0]

    def _product(self, left, right, words) -> ndarray:
        return self.one(left, words) * self.one(right + self.size, words) / self.p[words]

    def _smooth(self, left, right, words, prior) -> ndarray:
        context = left * self.size + right
        seen, total = self.triples.count(context, words), self.triples.total(context)
        return (seen + self.k_triple * prior) / (total + self.k_triple)

    def _meet(self, left, right) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """Words seen beside both neighbours: number of the hole, word, its `_product`; and the
        sum [n] of the latter over the whole vocabulary, for which these few words suffice.
        """
        near, far = left, right + self.size  # the context with fewer words, and the other
        swap = self.pairs.width(near) > self.pairs.width(far)
        near, far = np.where(swap, far, near), np.where(swap, near, far)
        order = np.argsort(far, kind="stable")  # neighbours in memory are looked up together
        hole, place = self.pairs.listed(near[order])
        hole, words, mine = order[hole], self.pairs.words[place], self.pairs.counts[place]
        theirs = self.pairs.count(far[hole], words)
        hole, words, mine, theirs = (x[theirs > 0] for x in (hole, words, mine, theirs))

        mass_near, mass_far = (self.pairs.total(x) + self.k_pair for x in (near, far))
        p, k = self.p[words], self.k_pair
        scale = mass_near[hole] * mass_far[hole] * p
        product = (mine + k * p) * (theirs + k * p) / scale
        seen = (1 - k / mass_near) * (1 - k / mass_far)  # what the counts alone add up to
        return hole, words, product, 1 - seen + _sums(hole, mine * theirs / scale, len(left))

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


def _strength(seen, total, prior) -> float:
    """The k that gives held-out words the smallest loss."""
    return min(STRENGTHS, key=lambda k: -np.log((seen + k * prior) / (total + k)).mean())


def _look_up(keys, values, wanted, missing: int = 0) -> ndarray:
    """`values` at the places of `wanted` in the sorted `keys`, `missing` where they are not."""
    if len(keys) == 0:
        return np.full(len(wanted), missing)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)


def _sums(group, values, count: int) -> ndarray:
    return np.bincount(group, values, minlength=count)


def _best(group, score, words, count: int) -> tuple[ndarray, ndarray]:
    """In each group the word with the highest score (of equals the first one), and that score."""
    top = np.full(count, -np.inf)
    np.maximum.at(top, group, score)
    first = np.flatnonzero(score == top[group])[::-1]
    best = np.zeros(count, np.int64)
    best[group[first]] = words[first]
    return best, top


def _in_pieces(function, *arrays) -> tuple[ndarray, ...]:
    """`function` on some holes at a time; it gives a tuple of arrays."""
    steps = range(0, len(arrays[0]), AT_ONCE)
    pieces = [function(*(array[i : i + AT_ONCE] for array in arrays)) for i in steps]
    return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
