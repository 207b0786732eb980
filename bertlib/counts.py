"""Count first, then learn: what can be known of words before a single gradient step.

Two closed forms, both from the training split alone. How often a word occurs makes the decoder's
bias; which words keep company makes the embeddings. Sources: Levy & Goldberg 2014 (word vectors
are a factorised matrix of pointwise mutual information); Levy, Goldberg & Dagan 2015, section 3
(weights by distance, context counts to the power 0.75, columns times sqrt(singular value)).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.plumbing.files import InputError

MOST_CONTEXTS = 8192  # context words: the most frequent ones; rarer ones add little but columns

Parts = Iterable[Tensor]  # training chunks [n, T] a tensor, such as `Dataset.slices()` yields


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
    """The first `share` of each part, one row at least: all places of the text count alike."""
    return (ids[: max(1, round(len(ids) * share))] for ids in parts)


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
    return sparse_company(parts, counts, window).to_dense()


def sparse_company(parts: Parts, counts: Tensor, window: int = 4) -> Tensor:
    """`company` as a sparse tensor [V, C], so that memory grows with the pairs that occur.

    A pair (word, context) is one number, its cell, so that to count pairs is to sort numbers.
    """
    contexts = counts.topk(min(MOST_CONTEXTS, len(counts))).indices  # [C]
    column = torch.full((len(counts),), -1)  # [V]
    column[contexts] = torch.arange(len(contexts))
    column[counts == 0] = -1
    table, waiting = (torch.zeros(0, dtype=torch.long), torch.zeros(0)), []
    for ids in parts:
        for distance in range(1, window + 1):
            left, right = ids[:, :-distance].flatten(), ids[:, distance:].flatten()
            word, context = torch.cat((left, right)), column[torch.cat((right, left))]  # [2n]
            cells = (word * len(contexts) + context)[(context >= 0) & (counts[word] > 0)]
            cells, times = cells.sort().values.unique_consecutive(return_counts=True)
            waiting.append((cells, times / distance))
        if sum(len(cells) for cells, _ in waiting) > len(table[0]):
            table, waiting = add_up([table, *waiting]), []
    cells, weights = add_up([table, *waiting])
    place = torch.stack((cells // len(contexts), cells % len(contexts)))  # [2, n]
    return sparse(place, weights, (len(counts), len(contexts)))


def add_up(tables: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Several tables of cells [n] and their weights [n] as one, in which each cell stands once."""
    cells, order = torch.cat([cells for cells, _ in tables]).sort()
    weights = torch.cat([weights for _, weights in tables])[order]
    cells, owner = cells.unique_consecutive(return_inverse=True)
    return cells, torch.zeros(len(cells)).index_add_(0, owner, weights)


def sparse(place: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A sparse matrix of `values` [n] at rows and columns `place` [2, n], sorted, each once."""
    return torch.sparse_coo_tensor(place, values, shape, is_coalesced=True, check_invariants=False)


def totals(pairs: Tensor, axis: int) -> Tensor:
    """The sums along an axis of a matrix, dense or sparse: of rows [V] with 1, of columns [C]."""
    if not pairs.is_sparse:
        return pairs.sum(axis)
    kept = 1 - axis
    return torch.zeros(pairs.shape[kept]).index_add_(0, pairs.indices()[kept], pairs.values())


def positive_pmi(pairs: Tensor, shift: float = 1.0) -> Tensor:
    """max(0, log p(word, context) / (p(word) q(context)) - log shift): [V, C] -> [V, C].

    q is made from counts^0.75, so that rare contexts do not look too special. Of a sparse matrix
    it makes a sparse one: a pair that never occurs has 0.
    """
    word = totals(pairs, 1) / pairs.sum()  # [V]
    context = totals(pairs, 0).pow(0.75)  # [C]
    context = context / context.sum() * shift
    if not pairs.is_sparse:
        return _surprise(pairs / pairs.sum(), word[:, None] * context)
    rows, columns = place = pairs.indices()  # [2, n]
    values = _surprise(pairs.values() / pairs.sum(), word[rows] * context[columns])  # [n]
    return sparse(place[:, values > 0], values[values > 0], pairs.shape)


def _surprise(joint: Tensor, expected: Tensor) -> Tensor:
    return (joint / expected.clamp(min=1e-30)).clamp(min=1.0).log()


def factorise(matrix: Tensor, width: int, std: float = 0.07, seed: int = 0) -> Tensor:
    """The best `width` columns: [V, C] -> [V, D], scaled to standard deviation `std`.

    Randomised SVD with two rounds of power iteration, as `torch.svd_lowrank` does it (Halko et
    al. 2011, algorithm 5.1), but a sparse matrix is turned once only and so stays fast.
    """
    turned = matrix.mT.coalesce() if matrix.is_sparse else matrix.mT  # [C, V]
    rank = min(width + 32, *matrix.shape)

    def span(columns: Tensor) -> Tensor:
        return torch.linalg.qr(columns).Q.contiguous()  # sparse products read rows, 20 times faster

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        basis = span(matrix @ torch.randn(matrix.shape[1], rank))  # [V, rank]
    for _ in range(2):
        basis = span(matrix @ span(turned @ basis))  # [V, rank], by way of [C, rank]
    left, values, _ = torch.linalg.svd((turned @ basis).mT, full_matrices=False)
    vectors = basis @ left[:, :width] * values[:width].sqrt()
    return vectors * (std / vectors.std())


@torch.no_grad()
def start_from_counts(model: BertForMaskedLM, slices: Callable[[], Parts], special_ids: list[int],
                      how: CountStart | None) -> None:
    """Set the decoder's bias and the (tied) token embeddings of a fresh model from counts.

    `slices()` returns the training chunks and is called twice. Words without counted company,
    special tokens among them, keep their random embeddings; `how=None` sets the bias only.
    """
    table = model.encoder.embeddings.token.weight  # [V, D]
    counts = word_counts(slices(), len(table))
    counts[special_ids] = 0
    model.head.decoder.bias.copy_(unigram_bias(counts))
    if how is None:
        return
    width = min(how.width or table.shape[1], table.shape[1])
    pairs = sparse_company(part_of(slices(), how.share), counts, how.window)
    vectors = factorise(positive_pmi(pairs, how.shift), width, how.std)  # [V, width] or less
    seen, width = totals(pairs, 1) > 0, vectors.shape[1]
    table[seen, :width] = vectors[seen]
