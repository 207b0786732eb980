"""What a model must beat: how far plain counting comes on the very puzzles that it solves.

Five answers without a network, each knowing more than the one before: nothing, how often each
word occurs, the word on the left, the words on both sides, three words on each side. All is
counted on the training split, and they see what the model sees: a neighbour that is hidden, too,
shows [MASK] (or a random word), and of a context that no text has shown the answer falls back on
what is left.

Smoothing is hierarchical (MacKay & Peto 1995): the counts of a context, plus k times the answer
of a poorer one, p = (count + k prior) / (total + k). The prior of one neighbour is the frequency
of words; that of both is what Bayes makes of the two single answers if left and right say
nothing about each other: p(w | l, r) ~ p(w | l) p(w | r) / p(w). k is chosen on held-out
training text.

Six words see too much of the same for Bayes: there each place has a vote, and how much it counts
is one number a place, fitted on held-out training text (a log-linear model of seven numbers).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

from bertlib.counts import Parts, unigram_bias, word_counts
from bertlib.masking import Masked
from bertlib.plumbing.contexts import (
    PLACES,
    Table,
    around,
    at,
    beside,
    frequencies,
    held_out,
    in_pieces,
    ordinary,
    sample,
    smooth,
)

STRENGTHS = tuple(2.0**power for power in range(-4, 14))  # what k is chosen from
SAMPLE = 20_000  # held-out words that are guessed
DOUBT = 32.0  # a vote is log(1 + count / (DOUBT p)): so many words are needed to believe it
MOST_COUNTED = 20_000_000  # tokens beside which neighbours are counted; a token takes 200 bytes
HOLES, VOTES = 1_024, 2**23  # whose votes are counted at once, at most: holes, words at all of them


def baselines(parts: Parts, puzzles: Sequence[Masked], vocab_size: int, special_ids: list[int],
              neighbours: bool = True, ahead: bool = False) -> list[dict[str, float]]:
    """What a model must beat on each of some puzzles, by the training chunks in `parts`.

    uniform: loss of knowing nothing, ln V. unigram: loss of the training frequencies.
    most_frequent: accuracy of always answering the most frequent word. left, both, six: loss and
    accuracy of knowing the neighbours; they take a minute, `neighbours=False` skips them. Of a
    text of more than `MOST_COUNTED` tokens they are counted in each second, third, ... chunk.
    `ahead` is for puzzles of `NextToken`, which ask for the token after a place: of the neighbours
    only the left one is known then, the token at that place.
    """
    parts = list(parts)
    counts = word_counts(parts, vocab_size)
    counts[special_ids] = 0
    answers = [{
        "uniform_loss": math.log(vocab_size),
        "unigram_loss": float(-unigram_bias(counts).log_softmax(0)[puzzle.labels].mean()),
        "most_frequent_id": int(counts.argmax()),
        "most_frequent_accuracy": float((puzzle.labels == counts.argmax()).float().mean()),
    } for puzzle in puzzles]
    if neighbours:
        every = -(-sum(ids.numel() for ids in parts) // MOST_COUNTED)
        text = np.concatenate([ids[::every].numpy() for ids in parts])  # [N, T]
        known = Neighbours.fit(text, vocab_size, special_ids)
        more = None if ahead else Surroundings.fit(text, vocab_size, special_ids)
        for puzzle, found in zip(puzzles, answers, strict=True):
            ids, holes, words = (part.numpy() for part in
                                 (puzzle.input_ids, puzzle.positions, puzzle.labels))
            if more is None:
                found |= known.score_left(ids.ravel()[holes], words)
                continue
            left, right = beside(ids, vocab_size)
            found |= known.score(left[holes], right[holes], words)
            found |= more.score(around(ids, vocab_size)[holes], words)
    return answers


class Neighbours:
    """Words counted by what stands beside them: probabilities and best guesses.

    Contexts of `pairs` are l for "l on the left" and size + r for "r on the right"; those of
    `triples` are l * size + r. Special tokens were never counted as words, so no guess is one.
    """

    def __init__(self, text: ndarray, vocab_size: int, special_ids: list[int],
                 k_pair: float = 1.0, k_triple: float = 1.0):
        self.size = vocab_size + 1  # V itself stands for what is beyond the ends
        self.k_pair, self.k_triple = k_pair, k_triple
        words, near = ordinary(text, vocab_size, special_ids, (-1, 1))
        left, right = near.T
        self.p = frequencies(words, vocab_size)  # [V]
        self.pairs = Table(np.concatenate([left, right + self.size]), np.tile(words, 2), vocab_size)
        self.triples = Table(left * self.size + right, words, vocab_size)

    @classmethod
    def fit(cls, text: ndarray, vocab_size: int, special_ids: list[int]) -> "Neighbours":
        """Count chunks `text` [N, T], with the k that suit held-out words best.

        Whole blocks are held out, so that most of their documents are new, as in validation.
        """
        held = held_out(len(text))
        trial = cls(text[~held], vocab_size, special_ids)
        words, near = sample(SAMPLE, *ordinary(text[held], vocab_size, special_ids, (-1, 1)))
        left, right = near.T
        contexts, targets = np.concatenate([left, right + trial.size]), np.tile(words, 2)
        trial.k_pair = _strength(*trial.pairs.seen(contexts, targets), trial.p[targets])
        k_triple = _strength(*trial.triples.seen(left * trial.size + right, words),
                             trial.prior(left, right, words))
        return cls(text, vocab_size, special_ids, trial.k_pair, k_triple)

    def one(self, contexts: ndarray, words: ndarray) -> ndarray:
        """p(word | one neighbour) [n]; `contexts` as in `pairs`."""
        return smooth(*self.pairs.seen(contexts, words), self.p[words], self.k_pair)

    def prior(self, left: ndarray, right: ndarray, words: ndarray) -> ndarray:
        """p(word | both neighbours) [n] by Bayes, as if the two were independent given the word."""
        return in_pieces(lambda *some: (at(self._prior(*some[:2]), some[2]),),
                         left, right, words)[0]

    def both(self, left: ndarray, right: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
        """p(word | both neighbours) [n], and the likeliest words [n] there."""
        def answer(left: ndarray, right: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
            p = self.triples.smoothed(left * self.size + right, self._prior(left, right),
                                      self.k_triple)  # [n, V]
            return at(p, words), p.argmax(1)
        found, best = in_pieces(answer, left, right, words)
        return found, best

    def best_one(self, contexts: ndarray) -> ndarray:
        """The likeliest word [n] given one neighbour, by `one`; `contexts` as in `pairs`."""
        distinct, place = np.unique(contexts, return_inverse=True)
        return in_pieces(lambda some: (self._rows(some).argmax(1),), distinct)[0][place]

    def _rows(self, contexts: ndarray) -> ndarray:
        return self.pairs.smoothed(contexts, self.p.astype(np.float32), self.k_pair)

    def _prior(self, left: ndarray, right: ndarray) -> ndarray:
        product = self._rows(left) * self._rows(right + self.size) / self.p.astype(np.float32)
        return product / product.sum(1, keepdims=True)  # [n, V]

    def score_left(self, left: ndarray, labels: ndarray) -> dict[str, float]:
        """Loss and accuracy of the answer by the left neighbour, where these are the true words."""
        return {
            "left_loss": float(-np.log(self.one(left, labels)).mean()),
            "left_accuracy": float((self.best_one(left) == labels).mean()),
        }

    def score(self, left: ndarray, right: ndarray, labels: ndarray) -> dict[str, float]:
        """Loss and accuracy of both answers, at holes with these neighbours and true words."""
        both, best = self.both(left, right, labels)
        return self.score_left(left, labels) | {
            "both_loss": float(-np.log(both).mean()),
            "both_accuracy": float((best == labels).mean()),
        }


class Surroundings:
    """Words counted at six places around; each place votes, and its vote has a weight.

    log p(w | around) = w0 log p(w) + sum over places of weight log(1 + count / (DOUBT p(w))), up
    to a constant. A word that was never seen there has a vote of 0, and says nothing.
    """

    def __init__(self, text: ndarray, vocab_size: int, special_ids: list[int]):
        words, near = ordinary(text, vocab_size, special_ids)
        self.p = torch.from_numpy(frequencies(words, vocab_size)).float()  # [V]
        self.at_once = max(1, min(HOLES, VOTES // vocab_size))
        self.tables = [Table(contexts, words, vocab_size) for contexts in near.T]
        self.weights = torch.eye(1 + len(PLACES))[0]  # the frequencies alone

    @classmethod
    def fit(cls, text: ndarray, vocab_size: int, special_ids: list[int]) -> "Surroundings":
        """Count chunks `text` [N, T], with the weights that suit held-out words best."""
        held = held_out(len(text))
        trial = cls(text[~held], vocab_size, special_ids)
        words, near = sample(trial.at_once, *ordinary(text[held], vocab_size, special_ids))
        votes, place = trial.votes(near)
        prior = trial.p.log().expand(len(words), -1)
        votes = torch.stack([prior, *votes[place].unbind(1)])  # [7, n, V]
        whole = cls(text, vocab_size, special_ids)
        whole.weights = fit_weights(votes, torch.from_numpy(words).long())
        return whole

    def votes(self, near: ndarray) -> tuple[Tensor, Tensor]:
        """What the words `near` [n, 6] vote for: rows [m, V], and which six of them: [n, 6].

        Common words stand near many holes, and their votes are counted once.
        """
        found = [np.unique(contexts, return_inverse=True) for contexts in near.T]
        ends = np.cumsum([len(distinct) for distinct, _ in found])
        rows = np.zeros((ends[-1], len(self.p)), np.float32)
        for table, (distinct, _), end in zip(self.tables, found, ends, strict=True):
            table.count(distinct, rows[end - len(distinct) : end])
        places = np.stack([place + end - len(distinct) for (distinct, place), end in
                           zip(found, ends, strict=True)], axis=1)
        return torch.from_numpy(rows).div_(DOUBT * self.p).log1p_(), torch.from_numpy(places)

    def answers(self, near: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
        """log p(word | around) [n], and the likeliest words [n] there."""
        def answer(near: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
            votes, place = self.votes(near)
            weights = self.weights[1:].expand(len(place), -1)
            rows = F.embedding_bag(place, votes, mode="sum", per_sample_weights=weights)  # [n, V]
            rows += self.weights[0] * self.p.log()
            return at(rows.log_softmax(1).numpy(), words), rows.argmax(1).numpy()
        found, best = in_pieces(answer, near, words, at_once=self.at_once)
        return found, best

    def score(self, near: ndarray, labels: ndarray) -> dict[str, float]:
        """Loss and accuracy at holes with these words around and these true words."""
        found, best = self.answers(near, labels)
        return {"six_loss": float(-found.mean()), "six_accuracy": float((best == labels).mean())}


def _strength(seen, total, prior) -> float:
    """The k that makes the loss of held-out words smallest."""
    return min(STRENGTHS, key=lambda k: -np.log(smooth(seen, total, prior, k)).mean())


def fit_weights(votes: Tensor, labels: Tensor) -> Tensor:
    """The weights of all voters that make the loss of `labels` [n] smallest: [m, n, V] -> [m].

    Where the search begins, the first voter has the weight 1 and the others none.
    """
    weights = torch.eye(len(votes))[0].requires_grad_()
    solver = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(torch.tensordot(weights, votes, 1), labels)
        value = value + 1e-4 * weights.square().sum()  # where all is certain, none is endless
        value.backward()
        return value
    solver.step(loss)
    return weights.detach()
