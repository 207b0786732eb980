"""Count first, then learn: what can be known of words before a single gradient step.

Two closed forms, both from the training split alone. How often a word occurs gives the decoder's
bias; which words keep company gives the embeddings. Sources: Levy & Goldberg 2014 (word vectors
are a factorised matrix of pointwise mutual information); Levy, Goldberg & Dagan 2015, section 3
(weights by distance, context counts to the power 0.75, columns times sqrt(singular value)).
"""

import math

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM

MOST_CONTEXTS = 8192  # context words: the most frequent ones, so that memory stays V x 8192
SLICE = 8192  # chunks counted at once


def word_counts(ids: Tensor, vocab_size: int) -> Tensor:
    """How often each id occurs: ids [N, T] -> counts [V], float."""
    return torch.bincount(ids.flatten(), minlength=vocab_size).float()


def unigram_bias(counts: Tensor) -> Tensor:
    """The decoder bias [V] that predicts every word by its frequency: log((count + 1/2) / all)."""
    return ((counts + 0.5) / counts.sum()).log()


def entropy(counts: Tensor) -> float:
    """Loss in nats of always answering with the word frequencies."""
    share = counts[counts > 0].double() / counts.sum()
    return float(-(share * share.log()).sum())


def company(ids: Tensor, counts: Tensor, window: int = 4) -> Tensor:
    """How often words stand near each other: ids [N, T] -> [V, C], each pair weighted 1/distance.

    `counts` [V] is zero for words to leave out; the C contexts are the most frequent words.
    """
    contexts = counts.topk(min(MOST_CONTEXTS, len(counts))).indices
    column = torch.full((len(counts),), -1)
    column[contexts] = torch.arange(len(contexts))
    table = torch.zeros(len(counts) * len(contexts))
    for part in ids.split(SLICE):
        for distance in range(1, window + 1):
            left, right = part[:, :-distance].flatten(), part[:, distance:].flatten()
            for word, context in ((left, right), (right, left)):
                cell = word * len(contexts) + column[context]
                cell = cell[(column[context] >= 0) & (counts[word] > 0) & (counts[context] > 0)]
                table.index_add_(0, cell, torch.full((len(cell),), 1 / distance))
    return table.view(len(counts), len(contexts))


def positive_pmi(pairs: Tensor) -> Tensor:
    """max(0, log p(word, context) / (p(word) q(context))), q from counts^0.75: [V, C] -> [V, C]."""
    joint = pairs / pairs.sum()
    word = joint.sum(1, keepdim=True)  # [V, 1]
    context = pairs.sum(0).pow(0.75)
    expected = word * (context / context.sum())  # [V, C]
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
def start_from_counts(model: BertForMaskedLM, ids: Tensor, special_ids: list[int]) -> None:
    """Set the decoder's bias and the (tied) token embeddings of a fresh model from counts.

    ids [N, T] are the training chunks. Special tokens keep their random embeddings.
    """
    table = model.encoder.embeddings.token.weight  # [V, D]
    counts = word_counts(ids, len(table))
    counts[special_ids] = 0
    model.head.decoder.bias.copy_(unigram_bias(counts))
    vectors = factorise(positive_pmi(company(ids, counts)), table.shape[1])
    seen = counts > 0
    width = min(vectors.shape[1], table.shape[1])
    table[seen, :width] = vectors[seen, :width]


def baselines(train: Tensor, labels: Tensor, vocab_size: int, special_ids: list[int]) -> dict:
    """What a model must beat, on the masked words `labels` [K] of the validation split.

    uniform: loss of knowing nothing, ln V. unigram: loss of the training frequencies.
    most_frequent: accuracy of always answering the most frequent word.
    """
    counts = word_counts(train, vocab_size)
    counts[special_ids] = 0
    return {
        "uniform_loss": math.log(vocab_size),
        "unigram_loss": float(-unigram_bias(counts)[labels].mean()),
        "most_frequent_id": int(counts.argmax()),
        "most_frequent_accuracy": float((labels == counts.argmax()).float().mean()),
    }
