"""Checkers of notebook 05: each names the mistake that was made, and takes a right answer."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import bert as checks


def chosen(logits, labels, keep, reduce=torch.mean):
    return reduce(-logits.log_softmax(-1)[keep].gather(1, labels[keep][:, None]))


def row_means(logits, labels):
    return sum(chosen(x, y, y != -100) for x, y in zip(logits, labels, strict=True)) / len(logits)


def mean_times_weights(logits, labels):  # d2l-ai/d2l-en #2582
    weights = (labels != -100).float().flatten()
    mean = torch.nn.CrossEntropyLoss()(logits.flatten(0, 1), labels.flatten().clamp(min=0))
    return (mean * weights).sum() / weights.sum()


def by_exp(logits, labels):
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    keep = labels != -100
    return -shares[keep].gather(1, labels[keep][:, None]).log().mean()


LOSSES = [
    (lambda x, y: chosen(x, y, y != -100, torch.sum) / y.numel(), "divided by all positions"),
    (mean_times_weights, "padding is trained on"),
    (lambda x, y: chosen(x, y, y > 0), "label 0 is ignored"),
    (lambda x, y: chosen(x, y, y != -100) / math.log(2), "bits"),
    (lambda x, y: chosen(x, y, y != -100, torch.sum), "added up"),
    (row_means, "means of the rows"),
    (lambda x, y: -chosen(x, y, y != -100), "sign"),
    (lambda x, y: F.cross_entropy(x.softmax(-1).flatten(0, 1), y.flatten()), "twice"),
    (by_exp, "200 makes infinity"),
    (lambda x, y: chosen(x[:, :4], y[:, :4], y[:, :4] != -100) if len(x) == 2 else chosen(
        x[:1], y[:1], y[:1] != -100), "but not for [3, 1, 7]"),
    (lambda x, y: chosen(x, y, y != -100, lambda each: each), "one number is asked"),
    (lambda x, y: F.cross_entropy(x.flatten(0, 1), y.flatten()), "F.cross_entropy makes it"),
    (lambda x, y: torch.nn.CrossEntropyLoss()(x.mT, y), "F.cross_entropy makes it"),
]


def size(v, t, d, n, f, left_out=0):
    block = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    return (v + t + 2) * d + 2 * d + n * block + d * d + d + 2 * d + v - left_out


def counted(vocab_size, seq_len, d_model, n_layer, d_ff):
    with torch.device("meta"):
        return BertForMaskedLM(BertConfig(vocab_size, seq_len, d_model, 2, n_layer,
                                          d_ff)).n_parameters()


SIZES = [
    (lambda v, t, d, n, f: v * d, "only the token"),
    (lambda v, t, d, n, f: size(v, t, d, n, f) + v * d, "twice"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, t * d), "position embeddings"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, n * (5 * d + f) + d + v), "the biases are"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, n * (5 * d + f)), "biases inside the blocks"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, v), "bias of the decoder"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, 2 * d), "token types, or one norm"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, 4 * d * n), "of attention, or the two norms"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, n * (d * d + d)), "output projection"),
    (lambda v, t, d, n, f: size(v, t, d, 1, f), "one block"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, 4 * d * n + 4 * d), "the norms are"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, d * d + 3 * d + v), "the head is"),
    (lambda v, t, d, n, f: size(v, t, d, n, f, 7), "off by -7"),
    (lambda v, t, d, n, f: 18_000 if v == 101 else None, "off by"),
    (lambda *sizes: size(*sizes, left_out=sizes[1] == 512), "109,514,298 parameters, it returns"),
    (lambda *sizes: str(size(*sizes)), "it returns str, not a number"),
    (counted, "without"),
]

WRONG = {checks.check_masked_loss: LOSSES, checks.check_n_parameters: SIZES}


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [(check, answer, words) for check, wrong in WRONG.items() for answer, words in wrong],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_wrong_answer_is_told_what_is_wrong(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def loss_by_loops(logits, labels):
    losses = [math.log(sum(math.exp(x - max(line)) for x in line)) + max(line) - line[label]
              for row, wanted in zip(logits.tolist(), labels.tolist(), strict=True)
              for line, label in zip(row, wanted, strict=True) if label != -100]
    return sum(losses) / len(losses)


RIGHT = [
    (checks.check_masked_loss, lambda x, y: chosen(x, y, y != -100)),
    (checks.check_masked_loss, lambda x, y: F.nll_loss(x.log_softmax(-1).flatten(0, 1),
                                                       y.flatten()).view(1)),
    (checks.check_masked_loss, loss_by_loops),
    (checks.check_n_parameters, lambda *sizes: float(size(*sizes))),
    (checks.check_n_parameters, size),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer_is_taken_however_it_is_written(check, answer):
    assert check(answer) == "right"


def test_no_two_counting_mistakes_look_alike():
    sizes = (101, 17, 12, 3, 46)
    given = [sum(checks.bert_parts(*sizes).values()), *checks.size_mistakes(*sizes).values()]
    assert len(set(given)) == len(given)
