"""Count first, then learn: what can be known of words before a single gradient step.

Two closed forms, both from the training split alone. How often a word occurs gives the decoder's
bias; which words keep company gives the embeddings. Sources: Levy & Goldberg 2014 (word vectors
are a factorised matrix of pointwise mutual information); Levy, Goldberg & Dagan 2015, section 3
(weights by distance, context counts to the power 0.75, columns times sqrt(singular value)).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.files import InputError

MOST_CONTEXTS = 8192  # context words: the most frequent ones, so that memory stays V x 8192

Parts = Iterable[Tensor]  # training chunks [n, T] a tensor, such as `Dataset.slices()` gives


@dataclass(frozen=True)
class CountStart:
    """How company is counted and turned into embeddings; the values were chosen by measurement.

    window: farthest neighbour, in tokens. shift: k of shifted PMI, as if each true pair came with
    k random ones (1: none). std: standard deviation of the embeddings. width: columns taken from
    the counts, the others stay random (0: all). share: of the training text that is counted.
    """

    window: int = 4
    shift: float = 1.0
    std: float = 0.07
    width: int = 0
    share: float = 1.0

    def __post_init__(self):
        for name, lowest in (("window", 1), ("shift", 1), ("width", 0)):
            if (value := getattr(self, name)) < lowest:
                raise InputError(f"count_{name} is {value}; it must be at least {lowest}.")
        if self.std <= 0:
            raise InputError(f"count_std is {self.std}; it must be above 0.")
        if not 0 < self.share <= 1:
            raise InputError(f"count_share is {self.share}; it must lie above 0, up to 1.")


def word_counts(parts: Parts, vocab_size: int) -> Tensor:
    """How often each id occurs in all `parts`: counts [V], float."""
    counts = torch.zeros(vocab_size)
    for ids in parts:
        counts += torch.bincount(ids.flatten(), minlength=vocab_size)
    return counts


def part_of(parts: Parts, share: float) -> Parts:
    """The first `share` of each part, so that all places of the text keep their weight."""
    return (ids[: round(len(ids) * share)] for ids in parts)


def unigram_bias(counts: Tensor) -> Tensor:
    """The decoder bias [V] that predicts every word by its frequency: log((count + 1/2) / all)."""
    return ((counts + 0.5) / counts.sum()).log()


def entropy(counts: Tensor) -> float:
    """Loss in nats of always answering with the word frequencies."""
    share = counts[counts > 0].double() / counts.sum()
    return float(-(share * share.log()).sum())


def company(parts: Parts, counts: Tensor, window: int = 4) -> Tensor:
    """How often words stand near each other, each pair weighted 1/distance: [V, C].

    `counts` [V] is zero for words to leave out; the C contexts are the most frequent words.
    """
    contexts = counts.topk(min(MOST_CONTEXTS, len(counts))).indices
    column = torch.full((len(counts),), -1)
    column[contexts] = torch.arange(len(contexts))
    table = torch.zeros(len(counts) * len(contexts))
    for ids in parts:
        for distance in range(1, window + 1):
            left, right = ids[:, :-distance].flatten(), ids[:, distance:].flatten()
            for word, context in ((left, right), (right, left)):
                cell = word * len(contexts) + column[context]
                cell = cell[(column[context] >= 0) & (counts[word] > 0) & (counts[context] > 0)]
                table.index_add_(0, cell, torch.full((len(cell),), 1 / distance))
    return table.view(len(counts), len(contexts))


def positive_pmi(pairs: Tensor, shift: float = 1.0) -> Tensor:
    """max(0, log p(word, context) / (p(word) q(context)) - log shift): [V, C] -> [V, C].

    q is made from counts^0.75, so that rare contexts do not look too special.
    """
    joint = pairs / pairs.sum()
    word = joint.sum(1, keepdim=True)  # [V, 1]
    context = pairs.sum(0).pow(0.75)
    expected = word * (context / context.sum()) * shift  # [V, C]
    return (joint / expected.clamp(min=1e-30)).clamp(min=1.0).log()


def factorise(matrix: Tensor, width: int, std: float = 0.07, seed: int = 0) -> Tensor:
    """The best `width` columns: [V, C] -> [V, D], scaled to standard deviation `std`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the randomised SVD draws its start
        rank = min(width + 32, *matrix.shape)
        left, values, _ = torch.svd_lowrank(matrix, q=rank, niter=2)
    vectors = left[:, :width] * values[:width].sqrt()
    return vectors * (std / vectors.std())


@torch.no_grad()
def start_from_counts(model: BertForMaskedLM, slices: Callable[[], Parts], special_ids: list[int],
                      how: CountStart | None) -> None:
    """Set the decoder's bias and the (tied) token embeddings of a fresh model from counts.

    `slices()` gives the training chunks and is called twice. Words without counted company,
    special tokens among them, keep their random embeddings; `how=None` sets the bias only.
    """
    table = model.encoder.embeddings.token.weight  # [V, D]
    counts = word_counts(slices(), len(table))
    counts[special_ids] = 0
    model.head.decoder.bias.copy_(unigram_bias(counts))
    if how is None:
        return
    width = min(how.width or table.shape[1], table.shape[1])
    pairs = company(part_of(slices(), how.share), counts, how.window)
    vectors = factorise(positive_pmi(pairs, how.shift), width, how.std)  # [V, width] or less
    seen, width = pairs.sum(1) > 0, vectors.shape[1]
    table[seen, :width] = vectors[seen]
