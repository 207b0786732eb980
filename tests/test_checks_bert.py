"""Checkers of notebook 05: each names the mistake that was made, and takes a right answer."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.attention import sinusoids
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import bert as checks


def paper(length, width, rates=None, first=0):
    rates = 10_000.0 ** (-torch.arange(0, width, 2) / width) if rates is None else rates
    angles = torch.arange(first, first + length)[:, None] * rates
    table = torch.zeros(length, width)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


def apart(length, width):
    table = sinusoids(length, width)
    return torch.cat((table[:, 0::2], table[:, 1::2]), 1)


def per_feature(length, width):
    table = torch.zeros(length, width)
    for place in range(length):
        for feature in range(width):
            angle = place / 10_000 ** (feature / width)
            table[place, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    return table


SINUSOIDS = [
    (lambda t, d: torch.zeros(t, d), "zeros"),
    (apart, "alternate"),
    (lambda t, d: paper(t, d).view(t, -1, 2).flip(-1).flatten(1), "changed places"),
    (lambda t, d: paper(t, d, 10_000.0 ** (-torch.arange(d // 2) / d)), "should be 2i/D"),
    (lambda t, d: paper(t, d, 10_000.0 ** (torch.arange(0, d, 2) / d)), "rates grow"),
    (per_feature, "share one"),
    (lambda t, d: paper(t, d, first=1), "begin at 1"),
    (lambda t, d: sinusoids(t, d).T, "on its side"),
    (lambda t, d: sinusoids(7, 6), "the shape is (7, 6)"),
    (lambda t, d: paper(t, d, 1_000.0 ** (-torch.arange(0, d, 2) / d)), "0.841"),
]


def places(ids):
    return torch.arange(ids.shape[1])


def side_by_side(ids, kinds, token, position, token_type):
    here = position[places(ids)].expand(len(ids), -1, -1)
    return torch.cat((token[ids], here, token_type[kinds]), -1)


EMBEDDINGS = [
    (lambda i, k, t, p, y: t[i], "only the words"),
    (lambda i, k, t, p, y: t[i] + p[torch.arange(i.numel()).view(i.shape)] + y[k],
     "over the batch"),
    (lambda i, k, t, p, y: t[i] + p[places(i)], "token type is forgotten"),
    (lambda i, k, t, p, y: t[i] + p[places(i)] + y[torch.zeros_like(k)], "always 0"),
    (lambda i, k, t, p, y: t[i] * p[places(i)] + y[k], "multiplied; add it"),
    (lambda i, k, t, p, y: (t[i] + y[k]) * p[places(i)], "multiplied with"),
    (lambda i, k, t, p, y: t[i] + p[i] + y[k], "token's id"),
    (lambda i, k, t, p, y: t[i] + p[torch.arange(len(i))][:, None] + y[k], "row in the batch"),
    (lambda i, k, t, p, y: t[i] + y[k], "position is forgotten"),
    (side_by_side, "side by side"),
    (lambda i, k, t, p, y: t[i] + p[:3] + y[k], "it stops with RuntimeError"),
]

LOGITS = [
    (lambda h, t, b: h @ t.T, "bias is forgotten"),
    (lambda h, t, b: h @ t + b, "not turned: a word"),
    (lambda h, t, b: h @ t, "not turned, and the bias"),
    (lambda h, t, b: h @ t.T - b, "subtracted"),
    (lambda h, t, b: (h @ t.T + b).softmax(-1), "probabilities"),
    (lambda h, t, b: h @ t.T / t.shape[1] ** 0.5 + b, "square root of D"),
    (lambda h, t, b: F.linear(h, t.detach(), b), "no gradient"),
]


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

WRONG = {checks.check_sinusoids: SINUSOIDS, checks.check_embeddings: EMBEDDINGS,
         checks.check_tied_logits: LOGITS, checks.check_masked_loss: LOSSES,
         checks.check_n_parameters: SIZES}


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [(check, answer, words) for check, wrong in WRONG.items() for answer, words in wrong],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_wrong_answer_is_told_what_is_wrong(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def plain_sum(ids, kinds, token, position, token_type):
    rows = [[token[i] + position[place] + token_type[k]
             for place, (i, k) in enumerate(zip(row, kind, strict=True))]
            for row, kind in zip(ids.tolist(), kinds.tolist(), strict=True)]
    return torch.stack([torch.stack(row) for row in rows])


def loss_by_loops(logits, labels):
    losses = [math.log(sum(math.exp(x - max(line)) for x in line)) + max(line) - line[label]
              for row, wanted in zip(logits.tolist(), labels.tolist(), strict=True)
              for line, label in zip(row, wanted, strict=True) if label != -100]
    return sum(losses) / len(losses)


RIGHT = [
    (checks.check_sinusoids, sinusoids), (checks.check_sinusoids, paper),
    (checks.check_sinusoids, lambda t, d: paper(t, d).double()),
    (checks.check_embeddings, plain_sum),
    (checks.check_embeddings, lambda i, k, t, p, y: F.embedding(i, t) + F.embedding(k, y)
     + p[None, :i.shape[1]]),
    (checks.check_tied_logits, F.linear),
    (checks.check_tied_logits, lambda h, t, b: torch.einsum("...d,vd->...v", h, t) + b),
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
